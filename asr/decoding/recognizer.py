"""A model made ready to hear: waveforms in padded batches, long recordings piece by piece, each as log-probabilities."""

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch

from asr.data.audio import AudioWarning, inspect_audio, read_audio, resampled_length
from asr.data.manifest import Utterance
from asr.decoding.options import DecodeOptions
from asr.decoding.segment import FRAME, Pause, find_pauses, frame_samples, measure_levels, plan_cuts
from asr.decoding.voice import VoiceDetector
from asr.decoding.windows import OVERLAP, Stretch, Window, join_windows, plan_windows
from asr.errors import DataError
from asr.features.normalize import Normalizer, StatisticsAccumulator
from asr.models.model import SpeechModel
from asr.models.package import LoadedModel

__all__ = ["DecodeOptions", "Recognizer", "ahead", "emit"]

#: s of a long recording that are heard as one, without what neighbours share
PIECE = 30.0
#: s of a long recording that are read at once to measure it
BLOCK = 60

T = TypeVar("T")
#: is handed the level (F,) of each 10 ms of a recording, dB (`asr.decoding.segment.measure_levels`)
Measured = Callable[[np.ndarray], object]


def _unheeded(levels: np.ndarray) -> None:
    """Nobody wants the levels."""


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
        found[row] = values[:length].copy()  # or one short row would keep the whole batch in memory
    return found


def _stack_cmvn(rows: Sequence[np.ndarray | None], device: torch.device) -> torch.Tensor | None:
    """(B, 2, D) with NaN for an unknown speaker; None where all are unknown."""
    shape = next((row.shape for row in rows if row is not None), None)
    if shape is None:
        return None
    return torch.from_numpy(np.stack([np.full(shape, np.nan) if row is None else row for row in rows])).float().to(device)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; a thread makes the next one while the caller works on the last."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]


class Recognizer:
    """A model together with the options that decide what it hears."""

    def __init__(self, loaded: LoadedModel, options: DecodeOptions):
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self.options = options
        self.sample_rate = self.model.options.features.sample_rate
        #: time from one emission frame to the next, and of the centre of the first, s
        self.frame_shift_s = self.model.features.frame_shift_s * self.model.encoder.subsampling
        self.first_frame_s = self.model.features.frame_shift_s * self.model.encoder.centre_frames
        self._hop = self.model.options.features.shift * self.model.encoder.subsampling
        self._device = next(self.model.parameters()).device
        if options.pauses == "neural":
            VoiceDetector(self.sample_rate)  # a missing package is told before anything is decoded

    def is_long(self, seconds: float) -> bool:
        return seconds > self.options.max_seconds

    def read(self, utterance: Utterance) -> np.ndarray:
        """All samples (N,) of an utterance at the model's rate. Raises DataError, as `read_audio` does."""
        return self._read(utterance.audio_filepath, offset=utterance.offset, duration=utterance.duration)

    def hear(self, utterance: Utterance, cmvn: np.ndarray | None = None) -> np.ndarray:
        """Log-probabilities (T', V) of one utterance of any length, all in memory."""
        return np.concatenate([stretch.log_probs for stretch in self.stretches(utterance, cmvn)])

    def hear_file(self, path: str) -> np.ndarray:
        """Log-probabilities (T', V) of a whole audio file, all in memory. Raises DataError where it cannot be decoded."""
        return np.concatenate([stretch.log_probs for stretch in self.stretches_of_file(path)])

    def stretches(
        self, utterance: Utterance, cmvn: np.ndarray | None = None, *, measured: Measured = _unheeded
    ) -> Iterator[Stretch]:
        """The emissions of one utterance of any length: one stretch, or of a long one the stretches between its pauses."""
        if self.is_long(utterance.duration):
            samples = round(utterance.duration * self.sample_rate)
            yield from self._hear_long(samples, self._reader(utterance), cmvn, measured)
        else:
            yield self._hear_short(self.read(utterance), cmvn, measured)

    def stretches_of_file(self, path: str, *, measured: Measured = _unheeded) -> Iterator[Stretch]:
        """As `stretches`, for a whole audio file."""
        info = inspect_audio(path)
        if info.exact and self.is_long(info.duration):
            samples = resampled_length(info.frames, info.sample_rate, self.sample_rate)
            yield from self._hear_long(samples, self._reader(Utterance(path, path, info.duration)), None, measured)
            return
        waveform = self._read(path)
        if self.is_long(len(waveform) / self.sample_rate):
            yield from self._hear_long(len(waveform), lambda start, stop: waveform[start:stop], None, measured)
        else:
            yield self._hear_short(waveform, None, measured)

    @torch.inference_mode()
    def speaker_statistics(self, utterances: Sequence[Utterance]) -> dict[str, np.ndarray]:
        """Mean and standard deviation (2, D) of the features of each speaker; recordings that cannot be read are left out."""
        sums = StatisticsAccumulator()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)  # told when the recording is decoded, as the faults are
            for one in utterances:
                if one.speaker is None:
                    continue
                with contextlib.suppress(DataError):
                    for piece in self._pieces(one) if self.is_long(one.duration) else [self.read(one)]:
                        self._add_features(sums, piece, one.speaker)
        return {str(speaker): sums.statistics(speaker).numpy() for speaker in sums.keys()}  # noqa: SIM118 (not a dict)

    def _pieces(self, utterance: Utterance) -> Iterator[np.ndarray]:
        """The samples of a long utterance, block by block."""
        read = self._reader(utterance)
        return (read(start, stop) for start, stop in self._blocks(round(utterance.duration * self.sample_rate)))

    def _hear_short(self, waveform: np.ndarray, cmvn: np.ndarray | None, measured: Measured) -> Stretch:
        measured(measure_levels(waveform, self.sample_rate))
        return Stretch(0, emit(self.model, [waveform], cmvn=[cmvn])[0])

    def _hear_long(
        self, samples: int, read: Callable[[int, int], np.ndarray], cmvn: np.ndarray | None, measured: Measured
    ) -> Iterator[Stretch]:
        """Piece by piece, so memory does not grow with the length; statistics per utterance are those of the whole recording."""
        levels, pauses, own = self._survey(samples, read)
        measured(levels)
        pieces = min(PIECE, self.options.max_seconds - OVERLAP)
        cuts = plan_cuts(samples / self.sample_rate, pauses, longest=pieces)
        windows = plan_windows(samples, cuts, sample_rate=self.sample_rate, hop=self._hop)
        model, given = (self.model, cmvn) if own is None else (_with_given_statistics(self.model), self._merged(own, cmvn))

        def waveforms() -> Iterator[list[np.ndarray]]:
            for batch in self._batched(windows):
                yield [read(window.start, window.stop) for window in batch]

        emitted = (piece for batch in ahead(waveforms()) for piece in emit(model, batch, cmvn=[given] * len(batch)))
        longest = int(self.options.max_seconds * self.sample_rate) // self._hop
        yield from join_windows(windows, emitted, longest=longest)

    @torch.inference_mode()
    def _survey(
        self, samples: int, read: Callable[[int, int], np.ndarray]
    ) -> tuple[np.ndarray, Sequence[Pause], np.ndarray | None]:
        """Levels (F,) of a recording, its pauses, and its mean and deviation (2, D) where the model wants an utterance's own."""
        voice = VoiceDetector(self.sample_rate) if self.options.pauses == "neural" else None
        scopes = self.model.options.normalize
        sums = StatisticsAccumulator() if "utterance" in (scopes.mean, scopes.variance) or scopes.needs_speakers else None
        levels = []
        for block in ahead(read(start, stop) for start, stop in self._blocks(samples)):
            levels.append(measure_levels(block, self.sample_rate))
            if voice is not None:
                voice.hear(block)
            if sums is not None:
                self._add_features(sums, block, None)
        found = np.concatenate(levels)
        pauses = find_pauses(found) if voice is None else voice.pauses()
        return found, pauses, None if sums is None else sums.statistics().numpy()

    def _add_features(self, sums: StatisticsAccumulator, samples: np.ndarray, key: str | None) -> None:
        waveforms, lengths = torch.from_numpy(samples)[None], torch.tensor([len(samples)])
        features, frames = self.model.features(waveforms.to(self._device), lengths.to(self._device))
        sums.add(features, frames, keys=[key])

    def _merged(self, own: np.ndarray, speaker: np.ndarray | None) -> np.ndarray:
        """Mean and deviation (2, D) for a long recording: of its speaker where the model asks for them and knows them."""
        if speaker is None:
            return own
        scopes = self.model.options.normalize
        return np.stack(
            [speaker[row] if scope == "speaker" else own[row] for row, scope in enumerate((scopes.mean, scopes.variance))]
        )

    def _blocks(self, samples: int) -> Iterator[tuple[int, int]]:
        """Stretches of about a minute; no short one at the end, where a recording may lack what its manifest says."""
        step = round(BLOCK / FRAME) * frame_samples(self.sample_rate)
        starts = range(0, max(1, samples - self.sample_rate), step)
        for start in starts:
            yield start, samples if start == starts[-1] else start + step

    def _batched(self, windows: Sequence[Window]) -> Iterator[list[Window]]:
        batch: list[Window] = []
        longest = 0
        for window in windows:
            length = window.stop - window.start
            if batch and max(longest, length) * (len(batch) + 1) > self.options.batch_seconds * self.sample_rate:
                yield batch
                batch, longest = [], 0
            batch.append(window)
            longest = max(longest, length)
        yield batch

    def _reader(self, utterance: Utterance) -> Callable[[int, int], np.ndarray]:
        def read(start: int, stop: int) -> np.ndarray:
            begin, length = utterance.offset + start / self.sample_rate, (stop - start) / self.sample_rate
            return self._read(utterance.audio_filepath, offset=begin, duration=length)

        return read

    def _read(self, path: str, *, offset: float = 0.0, duration: float | None = None) -> np.ndarray:
        return read_audio(path, sample_rate=self.sample_rate, offset=offset, duration=duration, channels=self.options.channels)


def _with_given_statistics(model: SpeechModel) -> SpeechModel:
    """The same model with the same weights, which takes the statistics of an utterance from outside, like those of a speaker."""
    old = model.normalizer
    given = {name: "speaker" for name in ("mean", "variance") if getattr(old.options, name) == "utterance"}
    normalizer = Normalizer(replace(old.options, **given), model.features.output_size)
    normalizer.global_mean, normalizer.global_std = old.global_mean, old.global_std
    view = copy.copy(model)
    view._modules = {**model._modules, "normalizer": normalizer}
    return view
