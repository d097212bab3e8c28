"""From utterances to padded batches: decoded audio is kept as 16-bit samples, augmentation is drawn anew each epoch."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from asr.batches.order import BatchOptions, cut_batches
from asr.data.audio import read_audio
from asr.data.manifest import Utterance
from asr.errors import DataError
from asr.features.augment import AugmentOptions, change_level, change_speed, speed_factor, utterance_seed


@dataclass(frozen=True)
class Batch:
    """Utterances padded to one length.

    ids: B names; waveforms: (B, N) float32 in [-1, 1]; waveform_lengths: (B,) samples; tokens: (B, U) int64, 0-padded;
    token_lengths: (B,); seeds: (B,) int64, one per utterance and epoch; cmvn: (B, 2, D) mean and standard deviation, or None.
    """

    ids: list[str]
    waveforms: Tensor
    waveform_lengths: Tensor
    tokens: Tensor
    token_lengths: Tensor
    seeds: Tensor
    cmvn: Tensor | None

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self
        cmvn = None if self.cmvn is None else self.cmvn.to(device)
        moved = [
            part.to(device, non_blocking=True)
            for part in (self.waveforms, self.waveform_lengths, self.tokens, self.token_lengths)
        ]
        return Batch(self.ids, *moved, seeds=self.seeds, cmvn=cmvn)


class AudioStore:
    """Reads recordings at one sample rate and keeps them as 16-bit samples within a budget of memory."""

    def __init__(self, *, sample_rate: int, channels: str = "mix", resample: str = "allow", cache_mb: int = 2048):
        self.sample_rate = sample_rate
        self.channels = channels
        self.resample = resample
        self._room = cache_mb * 2**20
        self._kept: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()

    def waveform(self, utterance: Utterance) -> np.ndarray:
        """Samples (N,) float32, rounded to 16 bits whether kept or not. Raises DataError for a recording that cannot be read."""
        rounded = self._kept.get(utterance.id)
        if rounded is None:
            samples = read_audio(
                utterance.audio_filepath,
                sample_rate=self.sample_rate,
                offset=utterance.offset,
                duration=utterance.duration,
                channels=self.channels,
                resample=self.resample,
            )
            rounded = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
            with self._lock:
                if utterance.id not in self._kept and rounded.nbytes <= self._room:
                    self._room -= rounded.nbytes
                    self._kept[utterance.id] = rounded
        return rounded.astype(np.float32) / 32768.0


class BatchLoader:
    """Makes `Batch`es of given index lists; numbers depend on (seed, epoch, utterance id) only, not on threads or order.

    faults: where given, a recording that cannot be read is left out of its batch and its fault is kept there, by utterance id;
    otherwise it ends the loading. separator: tokens between the texts of recordings that are joined. title: name of a progress
    bar over the batches; empty draws none.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        targets: Sequence[list[int]],
        *,
        store: AudioStore,
        augment: AugmentOptions | None = None,
        seed: int = 0,
        statistics: Callable[[str | None], np.ndarray | None] | None = None,
        workers: int = 1,
        faults: dict[str, DataError] | None = None,
        separator: Sequence[int] = (),
        title: str = "",
    ):
        self.utterances = utterances
        self.targets = targets
        self.store = store
        self.augment = augment
        self.seed = seed
        self.statistics = statistics
        self.workers = workers
        self.faults = faults
        self.separator = list(separator)
        self.title = title

    def _waveform(self, index: int, epoch: int) -> np.ndarray | None:
        """Samples (N,) as they are heard in this epoch; None for a recording that `faults` has taken note of."""
        utterance = self.utterances[index]
        try:
            samples = self.store.waveform(utterance)
        except DataError as fault:
            if self.faults is None:
                raise DataError(f'utterance "{utterance.id}": {fault}') from fault
            self.faults[utterance.id] = fault
            return None
        if self.augment is None:
            return samples
        seed = utterance_seed(self.seed, epoch, utterance.id)
        samples = change_speed(samples, speed_factor(self.augment, seed))
        return change_level(samples, sample_rate=self.store.sample_rate, options=self.augment.at_epoch(epoch), seed=seed)

    def _joined(self, group: Sequence[int], epoch: int) -> np.ndarray | None:
        """The samples of recordings that are heard in one; None where one could not be read."""
        heard = [self._waveform(index, epoch) for index in group]
        read = [waveform for waveform in heard if waveform is not None]
        if len(read) < len(heard):
            return None
        return read[0] if len(read) == 1 else np.concatenate(read)

    def _target(self, group: Sequence[int]) -> list[int]:
        tokens = list(self.targets[group[0]])
        for index in group[1:]:
            tokens += [*self.separator, *self.targets[index]]
        return tokens

    def _collate(self, batch: list[int], waveforms: list[np.ndarray], epoch: int, behind: Mapping[int, Sequence[int]]) -> Batch:
        lengths = [len(waveform) for waveform in waveforms]
        padded = np.zeros((len(batch), max(lengths)), dtype=np.float32)
        for row, waveform in zip(padded, waveforms):
            row[: len(waveform)] = waveform
        targets = [self._target([index, *behind.get(index, ())]) for index in batch]
        tokens = torch.zeros(len(batch), max(map(len, targets), default=0), dtype=torch.int64)
        for row, target in zip(tokens, targets):
            row[: len(target)] = torch.tensor(target, dtype=torch.int64)
        utterances = [self.utterances[index] for index in batch]
        cmvn = None
        if self.statistics is not None:
            found = [self.statistics(utterance.speaker) for utterance in utterances]
            size = next((row.shape for row in found if row is not None), None)
            if size is not None:
                cmvn = torch.from_numpy(np.stack([np.full(size, np.nan) if row is None else row for row in found])).float()
        return Batch(
            ids=[utterance.id for utterance in utterances],
            waveforms=torch.from_numpy(padded),
            waveform_lengths=torch.tensor(lengths),
            tokens=tokens,
            token_lengths=torch.tensor([len(target) for target in targets]),
            seeds=torch.tensor([utterance_seed(self.seed, epoch, utterance.id) for utterance in utterances]),
            cmvn=cmvn,
        )

    def batches(
        self,
        order: Sequence[list[int]],
        *,
        epoch: int = 0,
        ahead: int = 4,
        behind: Mapping[int, Sequence[int]] | None = None,
    ) -> Iterator[Batch]:
        """Yield the batches of `order`; up to `ahead` of them are prepared in the background. A reader's fault is raised here.

        behind: the recordings that are joined to the end of one in `order`, whose name, speaker and seed stand for all of them.
        A batch of which no recording could be read is left out, where `faults` takes note of them.
        """
        joined = behind or {}
        ready: queue.Queue = queue.Queue(maxsize=ahead)
        stop = threading.Event()

        def put(item: Batch | BaseException | None) -> None:
            while not stop.is_set():
                try:
                    return ready.put(item, timeout=0.1)
                except queue.Full:
                    continue

        def produce() -> None:
            try:
                with ThreadPoolExecutor(self.workers) as pool:
                    for batch in order:
                        if stop.is_set():
                            return
                        heard = zip(batch, pool.map(lambda index: self._joined([index, *joined.get(index, ())], epoch), batch))
                        kept = {index: waveform for index, waveform in heard if waveform is not None}
                        if kept:
                            put(self._collate(list(kept), list(kept.values()), epoch, joined))
                put(None)
            except BaseException as fault:  # handed to the consumer, which raises it
                put(fault)

        thread = threading.Thread(target=produce, name="batches", daemon=True)
        thread.start()
        bar = tqdm(desc=self.title, total=len(order), unit="batch", leave=False, disable=None if self.title else True)
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                bar.update()
                yield item
        finally:
            stop.set()
            thread.join()
            bar.close()


def evaluation_order(durations: Sequence[float], options: BatchOptions) -> list[list[int]]:
    """Batches for evaluation, longest first, so that a lack of memory shows at once."""
    return cut_batches(sorted(range(len(durations)), key=lambda i: (-durations[i], i)), durations, options)
