"""Recordings too long for one pass of the network: overlapping windows, joined on their emissions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from asr.decoding.segment import Cut

BLANK = 0
#: s beyond a cut in a pause that the windows on both sides hear
CONTEXT = 1.0
#: s that neighbouring windows share around a cut that may hit a word
OVERLAP = 10.0


@dataclass(frozen=True)
class Window:
    """A stretch of samples [start, stop) of a recording; its first emission is frame `frame` of the whole recording."""

    start: int
    stop: int
    frame: int
    #: whether it ends in a pause
    pause: bool = False


@dataclass(frozen=True)
class Stretch:
    """Emissions that are searched as one: log-probabilities (T', V) from frame `frame` of the recording on."""

    frame: int
    log_probs: np.ndarray


def plan_windows(num_samples: int, cuts: Sequence[Cut], *, sample_rate: int, hop: int) -> list[Window]:
    """Windows that cover `num_samples`, neighbours sharing `CONTEXT` on each side of a pause, else `OVERLAP` in all.

    `hop` is the number of samples between two emission frames. Each window starts at a multiple of it, so its frames stand
    where the frames of the whole recording would.
    """
    windows: list[Window] = []
    begin = 0
    for cut in cuts:
        frame = round(cut.at * sample_rate / hop)
        shared = -(-round((CONTEXT if cut.pause else OVERLAP / 2) * sample_rate) // hop)
        stop = min((frame + shared) * hop, num_samples)
        windows.append(Window(begin * hop, stop, begin, cut.pause))
        begin = max(begin, frame - shared)
    return [*windows, Window(begin * hop, num_samples, begin)]


def join_windows(windows: Sequence[Window], pieces: Iterable[np.ndarray], *, longest: int) -> Iterator[Stretch]:
    """Stretches of a recording from the log-probabilities of its windows, each (T'_i, V), as soon as they are complete.

    The earlier window speaks up to one frame and the later one from it: of the frames that both hear, the one nearest to
    their middle at which both say blank, or else at which both begin another symbol, so that no token is cut or said twice;
    the middle where there is neither. A stretch ends at each pause, and where it grows beyond `longest` frames.
    """
    kept: list[np.ndarray] = []
    begin = first = 0
    earlier: np.ndarray | None = None
    for index, piece in enumerate(pieces):
        if earlier is not None:
            window = windows[index - 1]
            end = _seam(earlier, piece, window.frame, windows[index].frame)
            kept.append(earlier[begin - window.frame : end - window.frame])
            begin = end
            if window.pause or begin - first > longest:
                yield Stretch(first, np.concatenate(kept))
                kept, first = [], begin
        earlier = piece
    if earlier is not None:
        kept.append(earlier[begin - windows[-1].frame :])
    yield Stretch(first, np.concatenate(kept))


def _seam(earlier: np.ndarray, later: np.ndarray, earlier_frame: int, later_frame: int) -> int:
    """The frame of the whole recording at which the later window takes over."""
    shared = min(earlier_frame + len(earlier) - later_frame, len(later))
    offset = later_frame - earlier_frame
    before, after = earlier[offset : offset + shared].argmax(axis=1), later[:shared].argmax(axis=1)
    same = before == after
    middle = shared // 2
    for fit in (same & (before == BLANK), same & _begins(before) & _begins(after)):
        candidates = np.flatnonzero(fit)
        if candidates.size:
            return later_frame + int(candidates[np.abs(candidates - middle).argmin()])
    return later_frame + middle


def _begins(symbols: np.ndarray) -> np.ndarray:
    """Where a run of one symbol begins, the first frame not counted."""
    return np.r_[False, symbols[1:] != symbols[:-1]]
