"""A model made ready to hear: waveforms in padded batches, long recordings in windows, and the search over what comes out."""

import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from asr.data.audio import AudioWarning, inspect_audio, read_audio, resampled_length
from asr.data.manifest import Utterance
from asr.decoding.greedy import DECODERS, Hypothesis
from asr.decoding.windows import join_emissions, plan_windows
from asr.errors import DataError, UsageError
from asr.features.normalize import StatisticsAccumulator
from asr.models.model import SpeechModel
from asr.models.package import LoadedModel

DEVICES = ("auto", "cpu", "cuda")
CHANNELS = ("mix", "first", "error")
#: s that neighbouring windows of a long recording share
OVERLAP = 10.0


@dataclass
class DecodeOptions:
    #: run directory or its model/ folder
    model: str = field(default="", metadata={"path": True})
    #: manifest to decode; without it, the other words of the command line are audio files
    manifest: str = field(default="", metadata={"path": True})
    #: file of hypotheses, one JSON line per utterance of the manifest, in its order
    out: str = field(default="", metadata={"path": True})
    #: replace `out` where it exists
    overwrite: bool = False
    #: search: greedy (the best symbol of each frame)
    decoder: str = "greedy"
    #: auto | cpu | cuda
    device: str = "auto"
    #: most audio seconds in one batch, padding counted
    batch_seconds: float = 120.0
    #: s that the network hears at once, at least 30; longer recordings are heard in overlapping windows
    max_seconds: float = 600.0
    #: recordings with several channels: mix (their mean) | first | error
    channels: str = "mix"

    def __post_init__(self) -> None:
        for name, choices in (("decoder", tuple(DECODERS)), ("device", DEVICES), ("channels", CHANNELS)):
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} must be one of {', '.join(choices)}, got '{getattr(self, name)}'")
        if not self.batch_seconds > 0:
            raise UsageError(f"batch_seconds must be above 0, got {self.batch_seconds}")
        if not 3 * OVERLAP <= self.max_seconds < float("inf"):
            raise UsageError(f"max_seconds must be at least {3 * OVERLAP:g} and finite, got {self.max_seconds}")


@torch.inference_mode()
def emit(
    model: SpeechModel, waveforms: Sequence[np.ndarray], *, cmvn: Sequence[np.ndarray | None] | None = None
) -> list[np.ndarray]:
    """Log-probabilities (T', V) float32 of each waveform (N,), all in one padded batch; (0, V) for one too short for a frame.

    `cmvn` holds mean and standard deviation (2, D) of each speaker, None where unknown. The padding changes no value beyond
    float32 rounding. The model must be in evaluation mode.
    """
    found = [np.zeros((0, model.vocabulary), dtype=np.float32) for _ in waveforms]
    rows = [row for row, waveform in enumerate(waveforms) if model.emission_length(len(waveform)) > 0]
    if not rows:
        return found
    padded = np.zeros((len(rows), max(len(waveforms[row]) for row in rows)), dtype=np.float32)
    for target, row in zip(padded, rows):
        target[: len(waveforms[row])] = waveforms[row]
    device = next(model.parameters()).device
    lengths = torch.tensor([len(waveforms[row]) for row in rows], device=device)
    known = None if cmvn is None else _stack_cmvn([cmvn[row] for row in rows], device)
    emissions = model(torch.from_numpy(padded).to(device), lengths, cmvn=known)
    log_probs = emissions.log_probs.float().cpu().numpy()
    for row, values, length in zip(rows, log_probs, emissions.lengths.tolist()):
        found[row] = values[:length]
    return found


def _stack_cmvn(rows: Sequence[np.ndarray | None], device: torch.device) -> torch.Tensor | None:
    """(B, 2, D) with NaN for an unknown speaker; None where all are unknown."""
    shape = next((row.shape for row in rows if row is not None), None)
    if shape is None:
        return None
    return torch.from_numpy(np.stack([np.full(shape, np.nan) if row is None else row for row in rows])).float().to(device)


class Recognizer:
    """A model together with the options that decide what it hears and how the answer is searched."""

    def __init__(self, loaded: LoadedModel, options: DecodeOptions):
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self.options = options
        self.sample_rate = self.model.options.features.sample_rate
        self._hop = self.model.options.features.shift * self.model.encoder.subsampling

    def is_long(self, seconds: float) -> bool:
        return seconds > self.options.max_seconds

    def read(self, utterance: Utterance) -> np.ndarray:
        """All samples (N,) of an utterance at the model's rate. Raises DataError, as `read_audio` does."""
        return self._read(utterance.audio_filepath, offset=utterance.offset, duration=utterance.duration)

    def hear(self, utterance: Utterance, cmvn: np.ndarray | None = None) -> np.ndarray:
        """Log-probabilities (T', V) of one utterance of any length."""
        if not self.is_long(utterance.duration):
            return emit(self.model, [self.read(utterance)], cmvn=[cmvn])[0]
        return self._hear_in_windows(self._samples(utterance.duration), self._reader(utterance), cmvn)

    def hear_file(self, path: str) -> np.ndarray:
        """Log-probabilities (T', V) of a whole audio file of any length. Raises DataError where it cannot be decoded."""
        info = inspect_audio(path)
        if info.exact and self.is_long(info.duration):
            samples = resampled_length(info.frames, info.sample_rate, self.sample_rate)
            return self._hear_in_windows(samples, self._reader(Utterance(path, path, info.duration)), None)
        waveform = self._read(path)
        if not self.is_long(len(waveform) / self.sample_rate):
            return emit(self.model, [waveform])[0]
        return self._hear_in_windows(len(waveform), lambda start, stop: waveform[start:stop], None)

    def search(self, log_probs: np.ndarray) -> Hypothesis:
        """Text with single spaces, none at its ends. Raises DataError for log-probabilities that are not finite."""
        shift = self.model.features.frame_shift_s
        return DECODERS[self.options.decoder](
            log_probs,
            lambda ids: " ".join(self.tokenizer.decode(ids).split()),
            frame_shift_s=shift * self.model.encoder.subsampling,
            first_frame_s=shift * self.model.encoder.centre_frames,
        )

    @torch.inference_mode()
    def speaker_statistics(self, utterances: Sequence[Utterance]) -> dict[str, np.ndarray]:
        """Mean and standard deviation (2, D) of the features of each speaker; recordings that cannot be read are left out."""
        features = self.model.features
        device = next(self.model.parameters()).device
        sums = StatisticsAccumulator()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)  # told when the recording is decoded, as the faults are
            for one in utterances:
                if one.speaker is None:
                    continue
                with contextlib.suppress(DataError):
                    read = self._reader(one)
                    windows = self._windows(self._samples(one.duration)) if self.is_long(one.duration) else None
                    for piece in [self.read(one)] if windows is None else (read(each.start, each.stop) for each in windows):
                        waveforms, lengths = torch.from_numpy(piece)[None].to(device), torch.tensor([len(piece)], device=device)
                        found, frames = features(waveforms, lengths)
                        sums.add(found, frames, keys=[one.speaker])
        return {str(speaker): sums.statistics(speaker).numpy() for speaker in sums.keys()}  # noqa: SIM118 (not a dict)

    def _hear_in_windows(self, samples: int, read: Callable[[int, int], np.ndarray], cmvn: np.ndarray | None) -> np.ndarray:
        """Window by window, so memory is bounded by `max_seconds`; statistics per utterance become those of each window."""
        windows = self._windows(samples)
        emitted = [emit(self.model, [read(window.start, window.stop)], cmvn=[cmvn])[0] for window in windows]
        return join_emissions(windows, emitted)

    def _windows(self, samples: int):
        longest, overlap = (int(seconds * self.sample_rate) for seconds in (self.options.max_seconds, OVERLAP))
        return plan_windows(samples, hop=self._hop, longest=longest, overlap=overlap)

    def _samples(self, seconds: float) -> int:
        return round(seconds * self.sample_rate)

    def _reader(self, utterance: Utterance) -> Callable[[int, int], np.ndarray]:
        def read(start: int, stop: int) -> np.ndarray:
            begin, length = utterance.offset + start / self.sample_rate, (stop - start) / self.sample_rate
            return self._read(utterance.audio_filepath, offset=begin, duration=length)

        return read

    def _read(self, path: str, *, offset: float = 0.0, duration: float | None = None) -> np.ndarray:
        return read_audio(path, sample_rate=self.sample_rate, offset=offset, duration=duration, channels=self.options.channels)
