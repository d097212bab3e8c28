"""Recordings too long for one pass of the network: overlapping windows, joined on their emissions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLANK = 0


@dataclass(frozen=True)
class Window:
    """A stretch of samples [start, stop) of a recording; its first emission is frame `frame` of the whole recording."""

    start: int
    stop: int
    frame: int


def plan_windows(num_samples: int, *, hop: int, longest: int, overlap: int) -> list[Window]:
    """Windows of at most `longest` samples that cover `num_samples`, neighbours sharing about `overlap` samples.

    `hop` is the number of samples between two emission frames. Each window starts at a multiple of it, so its frames stand
    where the frames of the whole recording would. Raises ValueError when a window has no room for the overlap.
    """
    frames, shared = longest // hop, -(-overlap // hop)
    if frames <= shared:
        raise ValueError(f"windows of {longest} samples cannot overlap by {overlap} with {hop} samples per frame")
    windows = [Window(0, min(frames * hop, num_samples), 0)]
    while windows[-1].stop < num_samples:
        first = windows[-1].frame + frames - shared
        windows.append(Window(first * hop, min((first + frames) * hop, num_samples), first))
    return windows


def join_emissions(windows: Sequence[Window], pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Log-probabilities (T', V) of a whole recording from those of its windows, each (T'_i, V).

    In each overlap the earlier window speaks up to one frame and the later one from it: the frame nearest to the middle at
    which both say blank, so that no token is cut or said twice; the middle where they never do.
    """
    kept: list[np.ndarray] = []
    begin = 0
    for index, (window, piece) in enumerate(zip(windows, pieces)):
        end = window.frame + len(piece)
        if index + 1 < len(windows):
            end = _seam(piece, pieces[index + 1], window.frame, windows[index + 1].frame)
        kept.append(piece[begin - window.frame : end - window.frame])
        begin = end
    return np.concatenate(kept)


def _seam(earlier: np.ndarray, later: np.ndarray, earlier_frame: int, later_frame: int) -> int:
    """The frame of the whole recording at which the later window takes over."""
    shared = min(earlier_frame + len(earlier) - later_frame, len(later))
    offset = later_frame - earlier_frame
    silent = (earlier[offset : offset + shared].argmax(axis=1) == BLANK) & (later[:shared].argmax(axis=1) == BLANK)
    candidates = np.flatnonzero(silent)
    middle = shared // 2
    if candidates.size == 0:
        return later_frame + middle
    return later_frame + int(candidates[np.abs(candidates - middle).argmin()])
