"""The whole recogniser as one module: waveform in, log-probabilities of symbols per frame out."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from asr.features.filterbank import FeatureExtractor, FeatureOptions
from asr.features.normalize import NormalizeOptions, Normalizer
from asr.models.ctc import CtcHead
from asr.models.encoder import Encoder, EncoderOptions


@dataclass(frozen=True)
class Emissions:
    """What the model says about each frame. Frames at and beyond an utterance's length are without meaning."""

    #: (B, T', V) float32, natural logarithms; symbol 0 is blank.
    log_probs: Tensor
    #: (B,) int64, frames T' of each utterance.
    lengths: Tensor
    #: Time from one emission frame to the next, s.
    frame_shift_s: float
    #: Centre of emission frame 0, s from the start of the recording.
    first_frame_s: float
    #: The same from the outputs of a middle layer, where that was asked for.
    middle: Tensor | None = None


@dataclass
class ModelOptions:
    """All that decides the shape and the arithmetic of a model, besides its vocabulary."""

    #: Waveform to features.
    features: FeatureOptions = field(default_factory=FeatureOptions)
    #: Mean and variance of the features.
    normalize: NormalizeOptions = field(default_factory=NormalizeOptions)
    #: Features to hidden frames.
    encoder: EncoderOptions = field(default_factory=EncoderOptions)


class SpeechModel(nn.Module):
    """Features, normalisation, encoder and CTC head.

    `vocabulary` is V with the blank. With `seed` the weights depend on the options, V and the seed alone, and torch's
    generator is left as it was; without, they are drawn from that generator. `initialize=False` saves time where other
    weights are loaded at once.
    """

    def __init__(self, options: ModelOptions, *, vocabulary: int, seed: int | None = None, initialize: bool = True):
        super().__init__()
        self.options = options
        self.vocabulary = vocabulary
        self.features = FeatureExtractor(options.features)
        self.normalizer = Normalizer(options.normalize, self.features.output_size)
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.encoder = Encoder(options.encoder, self.features.output_size, vocabulary=vocabulary, initialize=initialize)
            uniform = options.encoder.initialization == "uniform"
            self.head = CtcHead(self.encoder.output_size, vocabulary, uniform=uniform)

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        *,
        cmvn: Tensor | None = None,
        spec_augment: Callable[[Tensor, Tensor], Tensor] | None = None,
        middle_layer: int = 0,
    ) -> Emissions:
        """Waveforms (B, N) float32 in [-1, 1] with lengths (B,) in samples -> Emissions.

        `cmvn` (B, 2, D) are mean and standard deviation per speaker; `spec_augment(features, lengths)` masks normalised
        features and is given in training only; `middle_layer`, counted from 1, asks for `Emissions.middle` too, and is the
        `self_conditioned` one in an encoder that has one. Under autocast the encoder runs in the lower precision, features and
        log-probabilities stay float32.
        """
        features, frames = self.features(waveforms, lengths)
        features = self.normalizer(features, frames, cmvn)
        if spec_augment is not None:
            features = spec_augment(features, frames)
        outputs: list[Tensor] = []
        drafts: list[Tensor] = []
        hidden, frames = self.encoder(features, frames, outputs=outputs, drafts=drafts)
        if middle_layer and not drafts:
            drafts.append(self.head(self.encoder.dropout(outputs[middle_layer - 1])))
        shift = self.features.frame_shift_s
        return Emissions(
            self.head(hidden),
            frames,
            shift * self.encoder.subsampling,
            shift * self.encoder.centre_frames,
            drafts[0] if middle_layer else None,
        )

    def emission_length(self, num_samples: int) -> int:
        """Samples N -> emission frames T', exactly the length `forward` gives."""
        return self.encoder.output_length(self.features.num_frames(num_samples))

    def parameter_count(self) -> int:
        """Number of trained weights."""
        return sum(weight.numel() for weight in self.parameters() if weight.requires_grad)
