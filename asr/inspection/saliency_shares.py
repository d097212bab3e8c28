"""The shares of `asr-inspect saliency`: a log-posterior, divided among the log-mel energies of the recording.

Integrated gradients (Sundararajan, Taly and Yan 2017): on the straight way from a background to what was heard, the gradient
of the log-posterior by the normalised features is averaged and multiplied by what was added. The shares add up to what the
recording has changed in the log-posterior. Cepstra and derivatives are linear in the log-mel energies, so the shares are
carried back to these, whatever features the network takes, and the sum stays.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asr.features.filterbank import FeatureOptions, append_deltas, cosine_transform
from asr.inspection.source import Heard, enter, through_layers
from asr.models.package import LoadedModel

METHODS = ("integrated", "gradient")
#: What each filter is heard at where nothing is heard: a percentile of its energies over the recording, or their mean.
BACKGROUNDS = {"quiet": 5.0, "mean": None}
#: Frames of copies that go through the network at once.
FRAMES_AT_ONCE = 6000
#: Places on the way at which the log-posteriors are looked at before the gradients are.
PROBES = 64


@dataclass(frozen=True)
class Asked:
    """A symbol at an emission frame; number: its place among the decoded labels, 0 where it is none of them."""

    number: int
    token: int
    frame: int


@dataclass(frozen=True)
class Saliency:
    """What one symbol at one frame depends on. T feature frames, M mel filters; all in nats."""

    asked: Asked
    #: Log-posterior of what is heard, and of the background alone.
    heard: float
    alone: float
    #: (T, M) what the energy of each filter at each frame adds to the log-posterior.
    shares: np.ndarray
    #: (T,) the same for the energy of the whole frame, where that is a feature of its own; else zero.
    frame_energy: np.ndarray

    @property
    def total(self) -> float:
        return float(self.shares.sum() + self.frame_energy.sum())

    @property
    def missed(self) -> float:
        """How far the shares are from adding up."""
        return self.heard - self.alone - self.total


# --- from log-mel energies to features


@dataclass(frozen=True)
class Loudness:
    """Differences of log-mel energies (T, M) and of the log energies of whole frames (T,) to a background, natural log."""

    logmel: Tensor
    energy: Tensor


def added_features(added: Loudness, options: FeatureOptions, scale: Tensor) -> Tensor:
    """What an added loudness adds to the normalised features, (T, D): they are linear in it."""
    static = added.logmel
    if options.kind == "mfcc":
        static = static @ torch.from_numpy(cosine_transform(options.num_bins, options.num_ceps)).to(static)
    if options.energy:
        static = torch.cat([added.energy[:, None], static[:, int(options.kind == "mfcc") :]], dim=1)
    if options.deltas:
        static = append_deltas(static[None], torch.tensor([len(static)]), options.deltas)[0]
    return static / scale


def above_background(heard: Heard, options: FeatureOptions, background: str) -> Loudness:
    """What the recording adds to its background, which is the same at all times."""
    logmel = torch.from_numpy(heard.logmel)
    energy = heard.features[0, :, 0].double() * heard.scale[0].double() if options.energy else torch.zeros(len(logmel)).double()
    percent = BACKGROUNDS[background]

    def quiet(values: Tensor) -> Tensor:
        return values.mean(dim=0) if percent is None else torch.quantile(values, percent / 100, dim=0)

    return Loudness((logmel - quiet(logmel)).requires_grad_(), (energy - quiet(energy)).requires_grad_())


# --- gradients


def way_points(log_posteriors: np.ndarray, stretches: int) -> tuple[np.ndarray, np.ndarray]:
    """(2 S,) places on the way from 0 to 1, and their weights, which add up to 1: Gauss's two in each of S stretches.

    log_posteriors (PROBES + 1, K): those of K symbols at `probes()`. Where they change quickly the stretches are short: half of
    the stretches lie evenly on the way, half evenly on the change.
    """
    change = np.abs(np.diff(log_posteriors, axis=0))
    change /= np.maximum(change.sum(axis=0), 1e-9)
    reached = (np.append(0.0, change.mean(axis=1).cumsum()) + probes()) / (change.mean(axis=1).sum() + 1)
    ends = np.interp(np.linspace(0, 1, stretches + 1), reached, probes())
    middles, halves = (ends[1:] + ends[:-1]) / 2, (ends[1:] - ends[:-1]) / 2
    places = np.concatenate([middles - halves / 3**0.5, middles + halves / 3**0.5])
    return places, np.concatenate([halves, halves])


def probes() -> np.ndarray:
    """(PROBES + 1,) places at which the log-posteriors are looked at first; close together near the background, where layer
    normalisation turns quickest."""
    return (np.arange(PROBES + 1) / PROBES) ** 2


def along(
    run: Callable[[Tensor], Tensor], start: Tensor, added: Tensor, asked: Sequence[Asked], places: np.ndarray
) -> np.ndarray:
    """(N, K): the log-posterior of each symbol asked for at N places on the way."""
    found = []
    with torch.no_grad():
        for part in np.array_split(places, -(-len(places) * len(start) // FRAMES_AT_ONCE)):
            log_probs = run(start + torch.from_numpy(part)[:, None, None] * added)
            found.append(np.stack([log_probs[:, one.frame, one.token].numpy() for one in asked], axis=1))
    return np.concatenate(found)


def mean_gradients(
    run: Callable[[Tensor], Tensor],
    start: Tensor,
    added: Tensor,
    asked: Sequence[Asked],
    *,
    places: np.ndarray,
    weights: np.ndarray,
) -> Tensor:
    """(K, T, D): the gradient of the log-posterior of each symbol asked for, a weighted sum over places on the way.

    Place a is start + a * added, (T, D). `run` maps copies of one recording (B, T, D) to log-posteriors (B, T', V).
    """
    found = torch.zeros(len(asked), *start.shape, dtype=start.dtype)
    for part in np.array_split(np.arange(len(places)), -(-len(places) * len(start) // FRAMES_AT_ONCE)):
        copies = (start + torch.from_numpy(places[part])[:, None, None] * added).requires_grad_()
        log_probs = run(copies)
        weighted = log_probs * torch.from_numpy(weights[part])[:, None, None]
        for row, one in enumerate(asked):
            (gradient,) = torch.autograd.grad(weighted[:, one.frame, one.token].sum(), copies, retain_graph=True)
            found[row] += gradient.sum(dim=0)
    return found


def explain(
    loaded: LoadedModel, heard: Heard, asked: Sequence[Asked], *, method: str, background: str, stretches: int
) -> list[Saliency]:
    """Each symbol's log-posterior, shared out; in float64, the network in evaluation mode.

    method: of `METHODS`; "gradient" takes the gradient at what is heard and nowhere else, so its shares need not add up.
    """
    shape = loaded.model.options.features
    run = _float64(loaded)
    added = above_background(heard, shape, background)
    lifted = added_features(added, shape, heard.scale.double())
    start = heard.features[0].double() - lifted.detach()
    log_posteriors = along(run, start, lifted.detach(), asked, probes())
    places, weights = (np.ones(1), np.ones(1)) if method == "gradient" else way_points(log_posteriors, stretches)
    gradients = mean_gradients(run, start, lifted.detach(), asked, places=places, weights=weights)
    results = []
    for one, gradient, (low, *_, high) in zip(asked, gradients, log_posteriors.T.tolist()):
        slopes = torch.autograd.grad(
            (lifted * gradient).sum(), [added.logmel, added.energy], retain_graph=True, allow_unused=True, materialize_grads=True
        )
        shares = [(part.detach() * slope).numpy() for part, slope in zip((added.logmel, added.energy), slopes)]
        results.append(Saliency(one, high, low, *shares))
    return results


def _float64(loaded: LoadedModel) -> Callable[[Tensor], Tensor]:
    """Normalised features (B, T, D) of recordings of one length -> log-posteriors (B, T', V), in float64."""
    encoder, head = (copy.deepcopy(part).double().eval() for part in (loaded.model.encoder, loaded.model.head))

    def run(features: Tensor) -> Tensor:
        entering, lengths = enter(encoder, features, torch.full((len(features),), features.shape[1]))
        return head(through_layers(encoder, entering, lengths))

    return run
