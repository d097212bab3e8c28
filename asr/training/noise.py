"""Gaussian noise on the weights while they are trained (Graves, NIPS 2011; Graves, Mohamed & Hinton 2013: sigma 0.075)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from asr.features.augment import utterance_seed


class WeightNoise:
    """Adds N(0, sigma^2) to every trained weight of `model`, biases and norms included, for as long as a gradient is taken.

    The draw is a pure function of the seed and the step, so a resumed training draws what a straight one would have drawn; it
    takes nothing from torch's own generator, so dropout draws the same with and without it. With sigma 0 nothing happens.
    """

    def __init__(self, model: nn.Module, *, sigma: float, seed: int):
        self.sigma = sigma
        self.seed = seed
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]

    @contextmanager
    def added(self, step: int) -> Iterator[None]:
        """The weights with the noise of step `step`; at the end they are, to the bit, what they were before.

        Forward and backward pass belong inside: the gradient is the one at the noisy weights, and is applied to the clean ones.
        """
        if not self.sigma or not self._weights:
            yield
            return
        device = self._weights[0].device
        generator = torch.Generator(device).manual_seed(utterance_seed(self.seed, step, "weight noise"))
        noise = torch.randn(sum(weight.numel() for weight in self._weights), generator=generator, device=device)
        parts = noise.split([weight.numel() for weight in self._weights])
        clean = [weight.detach().clone() for weight in self._weights]
        with torch.no_grad():
            for weight, part in zip(self._weights, parts):
                weight.add_(part.view_as(weight), alpha=self.sigma)
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, before in zip(self._weights, clean):
                    weight.copy_(before)
