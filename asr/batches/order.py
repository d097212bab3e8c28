"""The order of training: which utterances share a batch and which batch comes when, a pure function of (seed, epoch)."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from asr.errors import UsageError


@dataclass
class BatchOptions:
    #: most utterances in one batch
    utterances: int = 12
    #: most audio seconds in one batch, padding counted; one utterance longer than this is a batch by itself
    seconds: float = 90.0
    #: epochs at the start that go from short utterances to long ones
    short_first_epochs: int = 1
    #: share of the recordings that are joined to the end of another one of the same speaker, 0 to below 1, in the epochs after
    #: those: for a network that is to hear more than one sentence at a time
    join: float = 0.0
    #: longest recording that is made so, s
    join_seconds: float = 20.0
    #: how far lengths mix in a bucket: durations are multiplied by 1 +- jitter before sorting (0 = exact sorting)
    jitter: float = 0.15
    #: threads that read and augment audio ahead of the training
    workers: int = 1
    #: most mebibytes of decoded 16-bit audio kept in memory
    cache_mb: int = 2048

    def __post_init__(self) -> None:
        if self.utterances < 1:
            raise UsageError(f"batches.utterances must be at least 1, got {self.utterances}")
        if not self.seconds > 0:
            raise UsageError(f"batches.seconds must be above 0, got {self.seconds}")
        if self.short_first_epochs < 0:
            raise UsageError(f"batches.short_first_epochs must not be negative, got {self.short_first_epochs}")
        if not 0 <= self.join < 1:
            raise UsageError(f"batches.join must lie in [0, 1), got {self.join}")
        if not 0 < self.join_seconds < math.inf:
            raise UsageError(f"batches.join_seconds must be above 0, got {self.join_seconds}")
        if not 0 <= self.jitter < 1:
            raise UsageError(f"batches.jitter must lie in [0, 1), got {self.jitter}")
        if self.workers < 1:
            raise UsageError(f"batches.workers must be at least 1, got {self.workers}")
        if self.cache_mb < 0:
            raise UsageError(f"batches.cache_mb must not be negative, got {self.cache_mb}")


def cut_batches(order: Sequence[int], durations: Sequence[float], options: BatchOptions) -> list[list[int]]:
    """Cut a sequence of indices into batches that hold the limits of `options`, keeping its order."""
    batches: list[list[int]] = []
    batch: list[int] = []
    longest = 0.0
    for index in order:
        grown = max(longest, durations[index])
        if batch and (len(batch) == options.utterances or grown * (len(batch) + 1) > options.seconds):
            batches.append(batch)
            batch, grown = [], durations[index]
        batch.append(index)
        longest = grown
    if batch:
        batches.append(batch)
    return batches


def batch_order(
    durations: Sequence[float], *, options: BatchOptions, seed: int, epoch: int, together: int = 1
) -> list[list[int]]:
    """Batches of one epoch, as lists of indices into `durations` (s); every index occurs exactly once.

    The first `short_first_epochs` epochs go from short to long (the curriculum of Deep Speech 2, Amodei et al. 2016);
    later ones put similar lengths together and shuffle the batches. From the start on, each `together` batches that follow each
    other are of similar lengths: processes that take one each then wait little for each other.
    """
    indices = range(len(durations))
    if epoch < options.short_first_epochs:
        return cut_batches(sorted(indices, key=lambda i: (durations[i], i)), durations, options)
    draw = random.Random(f"{seed}/{epoch}")
    spread = [durations[i] * (1 + options.jitter * (2 * draw.random() - 1)) for i in indices]
    batches = cut_batches(sorted(indices, key=lambda i: (spread[i], i)), durations, options)
    whole = len(batches) - len(batches) % together
    steps = [batches[start : start + together] for start in range(0, whole, together)]
    draw.shuffle(steps)
    return [batch for step in [*steps, batches[whole:]] for batch in step]


def join_recordings(
    durations: Sequence[float], speakers: Sequence[str | None], *, options: BatchOptions, seed: int, epoch: int
) -> list[list[int]]:
    """The recordings of one epoch as those that are heard in one, as lists of indices; every index occurs exactly once.

    After the first `short_first_epochs`, about the share `join` of them stand behind another one of the same speaker, as far as
    the sum of durations (s) is at most `join_seconds`. One without a speaker stays alone.
    """
    if not options.join or epoch < options.short_first_epochs:
        return [[index] for index in range(len(durations))]
    groups: list[list[int]] = []
    voices: dict[str, list[int]] = {}
    for index, speaker in enumerate(speakers):
        if speaker is None:
            groups.append([index])
        else:
            voices.setdefault(speaker, []).append(index)
    draw = random.Random(f"{seed}/{epoch}/join")
    for indices in voices.values():
        draw.shuffle(indices)
        length = math.inf  # the first of a speaker stands behind nobody
        for index in indices:
            wanted, length = draw.random() < options.join, length + durations[index]
            if wanted and length <= options.join_seconds:
                groups[-1].append(index)
            else:
                groups.append([index])
                length = durations[index]
    return groups
