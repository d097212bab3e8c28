"""Log-mel filterbank and MFCC features over a padded batch, numerically compatible with Kaldi.

Conventions are those of Kaldi's compute-fbank-feats and compute-mfcc-feats with snip_edges=false, dither 0 and the
povey window, for samples in [-1, 1]. The mel scale is 1127 ln(1 + f / 700) with triangular filters; the cepstra
follow Davis and Mermelstein 1980, section II, with an orthonormal cosine transform.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from asr.errors import UsageError
from asr.features.frames import MirroredSignals, plan_tiles

KINDS = ("fbank", "mfcc")
CEPSTRAL_LIFTER = 22.0
DELTA_WINDOW = 2
LOG_FLOOR = float(np.finfo(np.float32).eps)
DITHER_SECONDS = 4


@dataclass
class FeatureOptions:
    """What is computed from the samples; stored with the model."""

    #: fbank (log-mel energies) or mfcc (their cepstrum)
    kind: str = "fbank"
    #: rate of the samples, Hz
    sample_rate: int = 16000
    #: number of mel filters, at least 4
    num_bins: int = 80
    #: number of cepstra with the zeroth, for kind=mfcc; at most num_bins
    num_ceps: int = 13
    #: length of the analysis window, ms
    frame_length_ms: float = 25.0
    #: distance between frames, ms; at most the length of the window
    frame_shift_ms: float = 10.0
    #: lower edge of the first filter, Hz
    low_hz: float = 20.0
    #: upper edge of the last filter, Hz; zero or negative counts down from half the sample rate
    high_hz: float = -400.0
    #: coefficient of the first difference taken in each frame, 0 to 1
    preemphasis: float = 0.97
    #: log energy of the raw frame as first feature: one more for fbank, in place of the zeroth cepstrum for mfcc
    energy: bool = False
    #: 1 appends first time derivatives, 2 first and second ones
    deltas: int = 0
    #: standard deviation of the noise added to the samples, the same noise for each utterance; 0 adds none
    dither: float = 0.0

    def __post_init__(self):
        def require(condition: bool, name: str, expected: str):
            if not condition:
                raise UsageError(f"features.{name}={getattr(self, name)}: expected {expected}")

        require(self.kind in KINDS, "kind", f"one of {', '.join(KINDS)}")
        require(self.sample_rate > 0, "sample_rate", "a positive rate in Hz")
        require(self.num_bins >= 4, "num_bins", "at least 4 mel filters")
        if self.kind == "mfcc":
            require(1 <= self.num_ceps <= self.num_bins, "num_ceps", f"1 to features.num_bins, which is {self.num_bins}")
        require(self.shift >= 1, "frame_shift_ms", f"at least one sample at {self.sample_rate} Hz")
        require(self.window >= 2, "frame_length_ms", f"at least two samples at {self.sample_rate} Hz")
        require(
            self.shift <= self.window,
            "frame_shift_ms",
            f"at most features.frame_length_ms, which is {self.frame_length_ms}",
        )
        nyquist = self.sample_rate / 2
        require(0.0 <= self.low_hz < nyquist, "low_hz", f"0 to less than half the sample rate, {nyquist:g} Hz")
        require(
            self.low_hz < self.upper_hz <= nyquist,
            "high_hz",
            f"a frequency above features.low_hz ({self.low_hz:g}) and at most {nyquist:g} Hz, or what to take off {nyquist:g} Hz",
        )
        require(0.0 <= self.preemphasis <= 1.0, "preemphasis", "0 to 1")
        require(self.deltas in (0, 1, 2), "deltas", "0, 1 or 2")
        require(self.dither >= 0.0, "dither", "0 or a positive standard deviation")

    @property
    def window(self) -> int:
        """Samples in one frame."""
        return int(self.sample_rate * self.frame_length_ms / 1000)

    @property
    def shift(self) -> int:
        """Samples between the starts of two frames."""
        return int(self.sample_rate * self.frame_shift_ms / 1000)

    @property
    def upper_hz(self) -> float:
        """Upper edge of the last filter, Hz."""
        return self.high_hz if self.high_hz > 0 else self.sample_rate / 2 + self.high_hz


def povey_window(size: int) -> np.ndarray:
    """Raised cosine to the power 0.85, which is zero at both ends. (size,) float64."""
    return (0.5 - 0.5 * np.cos(2 * math.pi * np.arange(size) / (size - 1))) ** 0.85


def _mel(hz):
    return 1127.0 * np.log1p(np.asarray(hz) / 700.0)


def _mel_edges(options: FeatureOptions) -> np.ndarray:
    """(num_bins + 2,): filter k rises from edge k to k + 1 and falls to k + 2, in mel."""
    return np.linspace(_mel(options.low_hz), _mel(options.upper_hz), options.num_bins + 2)


def mel_centres_hz(options: FeatureOptions) -> np.ndarray:
    """(num_bins,) float64: the frequency at which each filter is highest, Hz."""
    return 700.0 * np.expm1(_mel_edges(options)[1:-1] / 1127.0)


def mel_filters(options: FeatureOptions, fft_size: int) -> np.ndarray:
    """Triangles of height 1, equally wide on the mel scale. (fft_size // 2, num_bins) float64.

    The spectral line at half the sample rate is left out, as Kaldi does.
    """
    edges = _mel_edges(options)
    lines = _mel(np.arange(fft_size // 2) * options.sample_rate / fft_size)[:, None]
    rising = (lines - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - lines) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))


def cosine_transform(num_bins: int, num_ceps: int) -> np.ndarray:
    """Orthonormal DCT-II with Kaldi's lifter 1 + Q/2 sin(pi k / Q), Q = 22. (num_bins, num_ceps) float64."""
    k = np.arange(num_ceps)
    transform = np.cos(math.pi / num_bins * (np.arange(num_bins)[:, None] + 0.5) * k)
    transform *= np.where(k == 0, math.sqrt(1 / num_bins), math.sqrt(2 / num_bins))
    return transform * (1 + CEPSTRAL_LIFTER / 2 * np.sin(math.pi * k / CEPSTRAL_LIFTER))


def append_deltas(features: Tensor, lengths: Tensor, order: int) -> Tensor:
    """Appends regression derivatives over two frames to each side, as Kaldi's add-deltas does.

    features (B, T, D); lengths (B,) frames -> (B, T, D * (1 + order)). Second derivatives apply the filter twice to the
    features themselves, whose first and last frame are repeated outwards; what stands in padding frames has no meaning.
    """
    num_frames = features.shape[1]
    reach = DELTA_WINDOW * order
    frames = torch.arange(-reach, num_frames + reach, device=features.device)
    frames = torch.minimum(frames.clamp(min=0), (lengths - 1).clamp(min=0)[:, None])
    extended = features.gather(1, frames[:, :, None].expand(-1, -1, features.shape[2]))
    slope = np.arange(-DELTA_WINDOW, DELTA_WINDOW + 1) / (2 * sum(k * k for k in range(1, DELTA_WINDOW + 1)))
    taps, parts = np.ones(1), [features]
    for _ in range(order):
        taps = np.convolve(taps, slope)
        first = reach - len(taps) // 2
        parts.append(sum(float(tap) * extended[:, first + k : first + k + num_frames] for k, tap in enumerate(taps)))
    return torch.cat(parts, dim=2)


@dataclass(frozen=True)
class _Constants:
    """What does not depend on the samples, for one device and precision."""

    window: Tensor  # (window,)
    filters: list[tuple[slice, Tensor]]  # columns of the squared spectrum and their weights for each group of filters
    cosines: Tensor | None  # (num_bins, num_ceps)
    dither: Tensor | None  # (DITHER_SECONDS * sample_rate,)


class FeatureExtractor(nn.Module):
    """Features of a padded batch; an utterance gives the same ones alone and in any batch, whatever the padding holds.

    Without weights and without gradients. Works in float32, also under autocast; in float64 after `.double()` or for
    float64 samples. As with any such code in float32, filters some 90 dB below the loudest of their frame are off by a few
    thousandths; the others agree with float64 within 1e-3.
    """

    # Few enough that what is computed stays in a core's caches, enough to make little of the cost of each call.
    frames_per_tile = 800
    frames_per_tile_gpu = 1 << 16
    filters_per_group = 16

    def __init__(self, options: FeatureOptions):
        super().__init__()
        self.options = options
        self.fft_size = 1 << (options.window - 1).bit_length()
        self.base_size = options.num_ceps if options.kind == "mfcc" else options.num_bins + options.energy
        self.output_size = self.base_size * (1 + options.deltas)
        self.frame_shift_s = options.shift / options.sample_rate
        # Empty: it follows .double() and so tells the precision asked for, while the constants stay exact.
        self.register_buffer("precision", torch.empty(0), persistent=False)
        self._constants: dict[tuple[torch.device, torch.dtype], _Constants] = {}

    def num_frames(self, num_samples: int) -> int:
        """Frames of a recording of so many samples: one for each shift, the last half shift rounded up."""
        return (num_samples + self.options.shift // 2) // self.options.shift

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """waveforms (B, N) in [-1, 1], lengths (B,) int64 samples -> features (B, T, D), lengths (B,) int64 frames.

        T is the largest number of frames; padding frames are zero.
        """
        double = torch.float64 in (waveforms.dtype, self.precision.dtype)
        waveforms = waveforms.to(torch.float64 if double else torch.float32)
        samples = lengths.tolist()
        longest = max(samples, default=0)
        assert longest <= waveforms.shape[1], f"a length of {longest} samples in a batch of {waveforms.shape[1]}"
        frames = [self.num_frames(count) for count in samples]
        frame_lengths = torch.tensor(frames, dtype=torch.int64, device=waveforms.device)
        num_frames = max(frames, default=0)
        if num_frames == 0:
            return waveforms.new_zeros(len(frames), 0, self.output_size), frame_lengths
        with torch.autocast(waveforms.device.type, enabled=False):
            features = self._static_features(waveforms, samples, frames)
            if self.options.deltas:
                features = append_deltas(features, frame_lengths, self.options.deltas)
        if min(frames) < num_frames:
            padding = torch.arange(num_frames, device=features.device) >= frame_lengths[:, None]
            features.masked_fill_(padding[:, :, None], 0.0)
        return features, frame_lengths

    def _static_features(self, waveforms: Tensor, lengths: list[int], frames: list[int]) -> Tensor:
        """Features without deltas (B, T, base_size); padding frames have no meaning.

        Each tile is one long signal: its utterances, mirrored at their ends, follow each other at a whole number of shifts.
        The few frames that reach from one into the next are left out.
        """
        constants = self._constants_for(waveforms)
        shift, window = self.options.shift, self.options.window
        if constants.dither is not None:
            repeats = -(-waveforms.shape[1] // len(constants.dither))
            waveforms = waveforms + constants.dither.repeat(repeats)[: waveforms.shape[1]]
        before = window // 2 - shift // 2 + 1  # one sample more than the first frame has, for the first difference
        signals = MirroredSignals(waveforms, lengths, before=before, after=window - window // 2)
        features = waveforms.new_empty(len(frames), max(frames), self.base_size)
        padded = None
        for tile in plan_tiles(frames, self.frames_per_tile if waveforms.device.type == "cpu" else self.frames_per_tile_gpu):
            count = tile.frames.stop - tile.frames.start
            stride = count + (window + 1) // shift
            samples = signals.cut(tile.utterances, tile.frames.start * shift - before, stride * shift)
            if padded is None or len(padded) < len(samples) * stride:
                # Behind the window each frame is zero up to the size of the transform: written once, kept for all tiles.
                padded = waveforms.new_empty(len(samples) * stride, self.fft_size)
                padded[:, window:].zero_()
            values = self._features(samples.view(-1), padded, constants)
            features[tile.utterances, tile.frames] = values.as_strided(
                (len(samples), count, self.base_size), (stride * self.base_size, self.base_size, 1)
            )
        return features

    def _features(self, signal: Tensor, padded: Tensor, constants: _Constants) -> Tensor:
        """Features (F, base_size) of all frames in a signal that begins one sample before the first of them."""
        options, window, shift = self.options, self.options.window, self.options.shift
        # The first difference is taken once for all frames that share a sample. It differs from Kaldi's, which is taken in
        # each frame, in the first sample of a frame only, where the window is zero. Of the mean it leaves 1 - preemphasis.
        samples = signal[1:].unfold(0, window, shift)
        difference = torch.sub(signal[1:], signal[:-1], alpha=options.preemphasis).unfold(0, window, shift)
        means = samples.mean(dim=1, keepdim=True)
        padded = padded[: len(samples)]
        windowed = padded[:, :window]
        torch.sub(difference, means, alpha=1.0 - options.preemphasis, out=windowed).mul_(constants.window)
        power = torch.view_as_real(torch.fft.rfft(padded)).view(len(padded), -1)
        power.mul_(power)
        mel = torch.cat([power[:, columns] @ weights for columns, weights in constants.filters], dim=1)
        features = mel.clamp_(min=LOG_FLOOR).log_()
        if constants.cosines is not None:
            features = features @ constants.cosines
        if options.energy:
            energy = (samples - means).square_().sum(dim=1, keepdim=True).clamp_(min=LOG_FLOOR).log_()
            features = torch.cat([energy, features[:, int(options.kind == "mfcc") :]], dim=1)
        return features

    def _constants_for(self, waveforms: Tensor) -> _Constants:
        key = (waveforms.device, waveforms.dtype)
        if key not in self._constants:
            options = self.options

            def tensor(array: np.ndarray) -> Tensor:
                return torch.from_numpy(np.ascontiguousarray(array)).to(waveforms)

            noise = np.random.default_rng(0).standard_normal(DITHER_SECONDS * options.sample_rate) * options.dither
            self._constants[key] = _Constants(
                window=tensor(povey_window(options.window)),
                filters=[(columns, tensor(weights)) for columns, weights in self._filter_groups()],
                cosines=tensor(cosine_transform(options.num_bins, options.num_ceps)) if options.kind == "mfcc" else None,
                dither=tensor(noise) if options.dither else None,
            )
        return self._constants[key]

    def _filter_groups(self) -> list[tuple[slice, np.ndarray]]:
        """Neighbouring filters overlap few spectral lines: a product for each group skips most of the zeros.

        The lines are taken as they lie in memory, squared real and imaginary part in turn, so each weight stands twice.
        """
        filters = mel_filters(self.options, self.fft_size)
        groups = []
        for first in range(0, self.options.num_bins, self.filters_per_group):
            group = filters[:, first : first + self.filters_per_group]
            used = np.flatnonzero(group.any(axis=1))
            lines = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
            groups.append((slice(2 * lines.start, 2 * lines.stop), group[lines].repeat(2, axis=0)))
        return groups
