"""Where a long recording can be cut: pauses found by their level, and a plan of cuts that prefers them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: s of sound behind one level
FRAME = 0.01
#: s of sound that a level is averaged over before it is compared
SMOOTHING = 0.05
#: s that a pause lasts at least; the closures of stops are shorter
SHORTEST_PAUSE = 0.3
#: s beyond which a longer pause is no better place to cut than a later one
LONG_ENOUGH = 0.6
#: s on each side from which the level of speech and of the background are estimated
NEIGHBOURHOOD = 15.0
#: dB between background and speech below which nothing is taken for a pause
LEAST_RANGE = 10.0
#: dB below the level of speech where everything is background, however silent the recording can be
MOST_RANGE = 45.0
#: dB that a stretch may lie below the loudest one and still be speech
FAINTEST = 25.0
#: share of the way from background to speech up to which a level counts as background
THRESHOLD = 0.3
#: level of digital silence, dB
FLOOR = -120.0


@dataclass(frozen=True)
class Pause:
    """Frames [start, stop) of `FRAME` seconds in which nobody speaks."""

    start: int
    stop: int


@dataclass(frozen=True)
class Cut:
    """A place to cut at, s from the start of the recording; `pause` is false where there was none and a word may be hit."""

    at: float
    pause: bool


def frame_samples(sample_rate: int) -> int:
    """Samples behind one level."""
    return max(1, round(sample_rate * FRAME))


def measure_levels(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Level of each whole frame of samples (N,), dB re full scale, without its mean (a constant offset is no sound): (F,)."""
    size = frame_samples(sample_rate)
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    return (10 * np.log10(frames.var(axis=1) + 10 ** (FLOOR / 10))).astype(np.float32)


def find_pauses(levels: np.ndarray, *, shortest: float = SHORTEST_PAUSE) -> list[Pause]:
    """Stretches of at least `shortest` seconds whose level (F,), dB, stays near that of the background.

    Background and speech are the 1st and the 95th percentile of the 15 s on each side, so a level that drifts is followed.
    Where they are less than 10 dB apart nothing can be told, and there is no pause.
    """
    if len(levels) == 0:
        return []
    smooth = _smoothed(levels)
    quiet = np.r_[False, smooth < _thresholds(smooth), False]
    edges = np.flatnonzero(quiet[1:] != quiet[:-1])
    least = round(shortest / FRAME)
    return [Pause(int(start), int(stop)) for start, stop in edges.reshape(-1, 2) if stop - start >= least]


def plan_cuts(seconds: float, pauses: Sequence[Pause], *, longest: float) -> list[Cut]:
    """Cuts that leave no piece of a recording of so many seconds longer than `longest` (s).

    Each piece ends, after half of `longest` at the earliest, in the middle of its longest pause, and of pauses of 0.6 s and
    more in the last; without any pause there, at `longest`.
    """
    cuts: list[Cut] = []
    begin = 0.0
    while seconds - begin > longest:
        found = [pause for pause in pauses if begin + longest / 2 <= _middle(pause) <= begin + longest]
        best = max(found, key=lambda pause: (min((pause.stop - pause.start) * FRAME, LONG_ENOUGH), pause.start), default=None)
        cuts.append(Cut(begin + longest, False) if best is None else Cut(_middle(best), True))
        begin = cuts[-1].at
    return cuts


def _middle(pause: Pause) -> float:
    return (pause.start + pause.stop) / 2 * FRAME


def _smoothed(levels: np.ndarray) -> np.ndarray:
    """The power averaged over `SMOOTHING` seconds, in dB; each end is continued by its last value."""
    width = round(SMOOTHING / FRAME) | 1
    power = np.pad(10 ** (levels.astype(np.float64) / 10), width // 2, mode="edge")
    return 10 * np.log10(np.convolve(power, np.full(width, 1 / width), mode="valid"))


def _thresholds(levels: np.ndarray) -> np.ndarray:
    """For each frame the level below which it counts as background, dB; minus infinity where that cannot be told."""
    block = round(NEIGHBOURHOOD / FRAME / 3)
    starts = np.arange(0, len(levels), block)
    around = [levels[max(0, start - 3 * block) : start + 4 * block] for start in starts]
    low, high = np.array([np.percentile(part, [1, 95]) for part in around]).T
    high = np.maximum(high, np.percentile(levels, 95) - FAINTEST)
    low = np.maximum(low, high - MOST_RANGE)
    limits = np.where(high - low < LEAST_RANGE, -np.inf, low + THRESHOLD * (high - low))
    return np.repeat(limits, block)[: len(levels)]
