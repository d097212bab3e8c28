"""Augmentation of training recordings: speed, noise, gain, and warps and masks of the features.

Each draw is a function of (seed, epoch, utterance id) and of nothing else, so that a resumed run, another batch size or another
number of loader workers sees the same numbers. Each kind of augmentation draws from its own stream: switching one on does
not change what the others do.
"""

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
import soxr
import torch
from torch import Tensor, nn

from asr.errors import UsageError

#: Exponent of the fall of the power with frequency: 3 dB per octave for pink, 6 for brown noise.
NOISE_COLORS = {"white": 0.0, "pink": 1.0, "brown": 2.0}

#: Below this frequency all noise is white: its power shall lie where speech is heard.
NOISE_CORNER_HZ = 50.0

#: Share of the band up to which frequencies are scaled alike; above, the warp goes back to the upper end of the band.
WARP_KNEE = 0.6

_SPEED, _NOISE, _GAIN, _MASKS, _WARP = range(5)  # streams of draws; the order is part of what a seed means


@dataclass
class AugmentOptions:
    """How training recordings are varied; the defaults change nothing."""

    #: factors one of which is drawn for each recording, 1.1 is faster and higher; 0.5 to 2
    speed: list[float] = field(default_factory=lambda: [1.0])
    #: share of the recordings that get noise, 0 to 1
    noise_probability: float = 0.0
    #: range from which the signal-to-noise ratio is drawn, dB
    noise_snr_db: list[float] = field(default_factory=lambda: [0.0, 15.0])
    #: colours one of which is drawn: white, pink, brown
    noise_colors: list[str] = field(default_factory=lambda: list(NOISE_COLORS))
    #: the level is changed by up to so much either way, dB
    gain_db: float = 0.0
    #: frequencies of the filterbank are scaled by up to this share either way, as by a longer or shorter vocal tract; 0 to 0.3
    frequency_warp: float = 0.0
    #: number of masks over neighbouring features
    frequency_masks: int = 0
    #: greatest width of such a mask, features
    frequency_width: int = 15
    #: number of masks over neighbouring frames
    time_masks: int = 0
    #: greatest width of such a mask, share of the utterance's frames, 0 to 1
    time_width: float = 0.05
    #: first epoch with noise, warps and masks, counted from 0
    start_epoch: int = 0

    def __post_init__(self):
        def require(condition: bool, name: str, expected: str):
            if not condition:
                raise UsageError(f"augment.{name}={getattr(self, name)}: expected {expected}")

        in_range = all(0.5 <= factor <= 2.0 for factor in self.speed)
        require(len(self.speed) > 0 and in_range, "speed", "a list of factors from 0.5 to 2")
        require(0.0 <= self.noise_probability <= 1.0, "noise_probability", "0 to 1")
        require(
            len(self.noise_snr_db) == 2 and self.noise_snr_db[0] <= self.noise_snr_db[1],
            "noise_snr_db",
            "two numbers in dB, the lower one first, such as [0,15]",
        )
        require(
            len(self.noise_colors) > 0 and set(self.noise_colors) <= set(NOISE_COLORS),
            "noise_colors",
            f"a list of {', '.join(NOISE_COLORS)}",
        )
        require(self.gain_db >= 0.0, "gain_db", "0 dB or more")
        for name in ("frequency_masks", "frequency_width", "time_masks", "start_epoch"):
            require(getattr(self, name) >= 0, name, "0 or more")
        require(0.0 <= self.frequency_warp <= 0.3, "frequency_warp", "a share from 0 to 0.3")
        require(0.0 <= self.time_width <= 1.0, "time_width", "a share of the utterance, 0 to 1")

    def at_epoch(self, epoch: int) -> "AugmentOptions":
        """These options, without noise, warps and masks before `start_epoch`."""
        if epoch >= self.start_epoch:
            return self
        return replace(self, noise_probability=0.0, frequency_warp=0.0, frequency_masks=0, time_masks=0)


def utterance_seed(seed: int, epoch: int, utterance_id: str) -> int:
    """63-bit seed of one utterance in one epoch, the same on each machine."""
    digest = hashlib.blake2b(f"{seed}\n{epoch}\n{utterance_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def speed_factor(options: AugmentOptions, seed: int) -> float:
    """The factor drawn for an utterance: the augmented recording is that many times shorter."""
    return float(options.speed[_generator(seed, _SPEED).integers(len(options.speed))])


def augment_waveform(waveform: np.ndarray, *, sample_rate: int, options: AugmentOptions, seed: int) -> np.ndarray:
    """Speed, noise and gain for samples (N,) -> float32 (N / speed factor,); what is louder than 1 is not clipped.

    The noise level is relative to the mean power of the whole recording; silence stays silence.
    """
    waveform = change_speed(np.asarray(waveform, dtype=np.float32), speed_factor(options, seed))
    return change_level(waveform, sample_rate=sample_rate, options=options, seed=seed)


def change_speed(waveform: np.ndarray, factor: float) -> np.ndarray:
    """Samples (N,) -> float32 (N / factor,): faster and higher for factors above 1, by resampling."""
    if factor == 1.0 or len(waveform) == 0:
        return waveform
    return soxr.resample(waveform, factor, 1.0)


def change_level(waveform: np.ndarray, *, sample_rate: int, options: AugmentOptions, seed: int) -> np.ndarray:
    """Noise and gain, without the change of speed: samples (N,) float32 -> (N,) float32."""
    draws = _generator(seed, _NOISE)
    if len(waveform) and draws.random() < options.noise_probability:
        color = options.noise_colors[draws.integers(len(options.noise_colors))]
        snr_db = draws.uniform(*options.noise_snr_db)
        noise = colored_noise(len(waveform), color=color, sample_rate=sample_rate, generator=draws)
        level = np.sqrt(np.mean(np.square(waveform, dtype=np.float64)) / 10 ** (snr_db / 10))
        waveform = waveform + (level * noise).astype(np.float32)
    if options.gain_db:
        gain_db = _generator(seed, _GAIN).uniform(-options.gain_db, options.gain_db)
        waveform = waveform * np.float32(10 ** (gain_db / 20))
    return waveform


def colored_noise(num_samples: int, *, color: str, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """Gaussian noise (num_samples,) float64 of mean power 1, whose spectrum falls as the colour says above NOISE_CORNER_HZ."""
    noise = generator.standard_normal(num_samples)
    if NOISE_COLORS[color]:
        size = 1 << (num_samples - 1).bit_length()
        frequencies = np.fft.rfftfreq(size, 1 / sample_rate)
        shape = np.maximum(frequencies, NOISE_CORNER_HZ) ** (-NOISE_COLORS[color] / 2)
        noise = np.fft.irfft(np.fft.rfft(noise, size) * shape, size)[:num_samples]
    return noise / np.sqrt(np.mean(np.square(noise)))


class SpecAugment(nn.Module):
    """A warp of the frequencies (Jaitly and Hinton 2013), then masks over time and frequency (Park et al. 2019,
    section 2, without time warping), which are filled with 0, the mean after normalisation.

    With `blocks` > 1 the features are that many equal parts, such as features and their derivatives, treated alike.
    `centres_hz`, of the last features of each block, are needed for a warp.
    """

    def __init__(self, options: AugmentOptions, *, blocks: int = 1, centres_hz: np.ndarray | None = None):
        super().__init__()
        self.options = options
        self.blocks = blocks
        self.centres_hz = centres_hz

    def forward(self, features: Tensor, lengths: Tensor, seeds: Tensor) -> Tensor:
        """features (B, T, D), lengths (B,) frames, seeds (B,) int64 -> (B, T, D), in training and evaluation mode alike."""
        if self.options.frequency_warp and features.numel():
            features = self._warped(features, seeds)
        return self._with_masks(features, lengths, seeds)

    def _warped(self, features: Tensor, seeds: Tensor) -> Tensor:
        widest, centres = self.options.frequency_warp, self.centres_hz
        assert centres is not None
        size = features.shape[2] // self.blocks
        places = np.tile(np.arange(size, dtype=np.float32), (len(features), 1))
        for row, seed in zip(places, seeds.tolist()):
            factor = _generator(seed, _WARP).uniform(1 - widest, 1 + widest)
            row[-len(centres) :] += warped_places(centres, factor) - np.arange(len(centres))
        parts = features.reshape(*features.shape[:2], self.blocks, size)
        where = torch.from_numpy(places).to(features.device)[:, None, None, :].expand(parts.shape)
        below = where.long()
        above = (below + 1).clamp(max=size - 1)
        return torch.lerp(parts.gather(3, below), parts.gather(3, above), (where - below).to(features)).reshape(features.shape)

    def _with_masks(self, features: Tensor, lengths: Tensor, seeds: Tensor) -> Tensor:
        options = self.options
        count = options.frequency_masks + options.time_masks
        if count == 0 or features.numel() == 0:
            return features
        draws = np.stack([_generator(seed, _MASKS).random((count, 2)) for seed in seeds.tolist()])
        frames = lengths.cpu().numpy()[:, None]
        bins = np.full_like(frames, features.shape[2] // self.blocks)
        over_time, over_frequency = draws[:, : options.time_masks], draws[:, options.time_masks :]
        in_time = _masked(over_time, frames, np.floor(options.time_width * frames), features.shape[1])
        in_frequency = _masked(over_frequency, bins, np.minimum(options.frequency_width, bins), int(bins[0, 0]))
        in_frequency = np.tile(in_frequency, self.blocks)
        in_time, in_frequency = (torch.from_numpy(mask).to(features.device) for mask in (in_time, in_frequency))
        return features.masked_fill(in_time[:, :, None] | in_frequency[:, None, :], 0.0)


def warped_places(centres_hz: np.ndarray, factor: float) -> np.ndarray:
    """(D,): for features at these frequencies, the place (0 to D - 1, with fractions) of `factor` times each of them.

    Above the knee the factor falls, so that the upper end stays where it is.
    """
    top = centres_hz[-1]
    knee = WARP_KNEE * top * min(factor, 1.0) / factor
    sources = np.interp(centres_hz, [0.0, knee, top], [0.0, knee * factor, top])
    return np.interp(sources, centres_hz, np.arange(len(centres_hz)))


def _masked(draws: np.ndarray, extents: np.ndarray, widest: np.ndarray, size: int) -> np.ndarray:
    """Where masks lie along one axis: draws (B, M, 2) in [0, 1), extents and widest (B, 1) -> (B, size) bool.

    Widths are uniform from 0 to `widest` with both ends, first positions over all that keep the mask within the extent.
    """
    widths = np.floor(draws[:, :, 0] * (widest + 1))
    first = np.floor(draws[:, :, 1] * (extents - widths + 1))
    positions = np.arange(size)
    return ((positions >= first[:, :, None]) & (positions < (first + widths)[:, :, None])).any(axis=1)


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng((seed, stream))
