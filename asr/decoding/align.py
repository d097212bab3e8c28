"""Forced alignment: where in the emissions each token of a known text was said (Viterbi search over the CTC lattice).

The lattice is that of Graves et al. (ICML 2006), section 4.1: the tokens with blanks before, between and after them; a frame
stays in its state, steps to the next, or skips a blank between two different tokens. The best path is found in one pass that
keeps only every n-th row of scores; what lies between two kept rows is computed again on the way back, there only for the
states that the path can have come from (the grid of kept rows is that of Hirschberg 1975 and Grice et al. 1997). That costs
about as much as one pass and is exact: the path is the one that a table of all states would give.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from asr.errors import DataError

BLANK = 0
#: Tables of up to so many states (frames x tokens) are kept whole, one byte for each.
WHOLE = 2**24
#: The least log-prior that is subtracted: a token that the model hardly ever emits must not become the likeliest of all.
LEAST_PRIOR = 1e-4
#: Losses against the likeliest path of all (each frame's best symbol) beyond which states are left out, tried one after another.
LOSSES = (*(2.0**power for power in range(8, 32)), np.inf)


@dataclass(frozen=True)
class Alignment:
    """Frames [starts[u], ends[u]) of each token u: the run of frames that the best path spends in it, blanks excluded."""

    starts: np.ndarray
    ends: np.ndarray
    #: natural logarithm of the probability of the path, 0 or below; priors are not counted in
    score: float


@dataclass(frozen=True)
class Silence:
    """What the level of the recording says: a word is not spoken where it is silent, nor does a pause lie within one.

    costs (T',), 0 or above, are taken from the score of a frame in which a token is said, or a blank within a word; in the
    states that `voiced` (U,) and `joined` (U + 1,) leave out, tokens without a sound and the blanks between words, silence is
    free. joined[u] is about the blank before token u.
    """

    costs: np.ndarray
    voiced: np.ndarray
    joined: np.ndarray


def required_frames(tokens: Sequence[int]) -> int:
    """Fewest frames that can emit `tokens`: one for each, and a blank between equal neighbours."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))


def align(
    log_probs: np.ndarray,
    tokens: Sequence[int],
    *,
    log_prior: np.ndarray | None = None,
    silence: Silence | None = None,
    every: int | None = None,
) -> Alignment:
    """The best path of `tokens` (U,), ids 1 .. V-1, through `log_probs` (T', V), natural logarithms with the blank at 0.

    `log_prior` (V,) is subtracted from each frame before the search: with the logarithm of each symbol's share of the frames,
    times a scale, the blank loses its head start and tokens spread over the frames that hold them. `every` is the number of
    frames between two kept rows of scores; None chooses it by the size. No choice changes the path. Of equally good ways
    into a state, staying is taken before a step, a step before a skip.

    Memory beyond the emissions grows as (T' U)^(2/3): 0.5 GB for 500,000 frames and 150,000 tokens. Raises DataError where
    the text needs more frames than there are, where the model gives it no probability, and for log-probabilities that are
    not numbers; ValueError for ids outside 1 .. V-1.
    """
    if log_probs.ndim != 2:
        raise ValueError(f"expected log-probabilities of shape (frames, vocabulary), got {log_probs.shape}")
    target = np.asarray(tokens, dtype=np.int64).reshape(-1)
    frames, vocabulary = log_probs.shape
    if target.size and not (target.min() > BLANK and target.max() < vocabulary):
        raise ValueError(f"tokens must be ids from 1 to {vocabulary - 1}, got {target.min()} to {target.max()}")
    needed = required_frames(target.tolist())
    if frames < needed:
        raise DataError(f"its text needs {needed} frames and the recording has {frames}; is it the text of this recording?")
    if np.isnan(log_probs).any():
        frame = int(np.isnan(log_probs).any(axis=1).argmax())
        raise DataError(f"the model's log-probabilities are not numbers at frame {frame} of {frames}; nothing is aligned to them")
    if frames == 0:
        return Alignment(target[:0], target[:0], 0.0)
    scores = log_probs if log_prior is None else log_probs - log_prior.astype(log_probs.dtype)
    every = min(frames, every or _rows_apart(frames, len(target)))
    states = _best_states(np.ascontiguousarray(scores), target, silence, every)
    spoken = np.flatnonzero(states % 2)
    owner = states[spoken] // 2
    inside = np.arange(len(target))
    starts = spoken[np.searchsorted(owner, inside, side="left")]
    ends = spoken[np.searchsorted(owner, inside, side="right") - 1] + 1
    symbols = np.zeros(frames, dtype=np.int64)
    symbols[spoken] = target[owner]
    path = np.take_along_axis(log_probs, symbols[:, None], axis=1)
    return Alignment(starts, ends, float(path.sum(dtype=np.float64)))


def align_batch(
    emissions: Sequence[np.ndarray], targets: Sequence[Sequence[int]], *, log_prior: np.ndarray | None = None, threads: int = 1
) -> list[Alignment | DataError]:
    """`align` for each utterance, several at a time; where one cannot be aligned, the error stands in its place."""

    def one(log_probs: np.ndarray, tokens: Sequence[int]) -> Alignment | DataError:
        try:
            return align(log_probs, tokens, log_prior=log_prior)
        except DataError as error:
            return error

    if threads <= 1 or len(targets) < 2:
        return [one(log_probs, tokens) for log_probs, tokens in zip(emissions, targets, strict=True)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, emissions, targets))


class PriorEstimate:
    """The mean posterior of each symbol over many frames, whose logarithm is the prior that `align` subtracts."""

    def __init__(self, vocabulary: int):
        self._sums = np.zeros(vocabulary)
        self.frames = 0

    def add(self, log_probs: np.ndarray) -> None:
        self._sums += np.exp(log_probs, dtype=np.float64).sum(axis=0)
        self.frames += len(log_probs)

    def log_prior(self, scale: float = 1.0) -> np.ndarray | None:
        """`scale` times the natural logarithm of the prior, (V,); None without a frame. Shares below 1e-4 count as 1e-4."""
        if self.frames == 0:
            return None
        return scale * np.log(np.maximum(self._sums / self.frames, LEAST_PRIOR))


def _rows_apart(frames: int, tokens: int) -> int:
    """Frames between two kept rows: all where the table is small, else where kept rows and working space take the same room.

    T / n rows of 2 (U + 1) float64 against n x (n + 2) bytes.
    """
    if frames * (tokens + 1) <= WHOLE:
        return frames
    return max(2, round((16.0 * frames * (tokens + 1)) ** (1 / 3)))


def _best_states(scores: np.ndarray, target: np.ndarray, silence: Silence | None, every: int) -> np.ndarray:
    """The state of the best path at each frame, (T,): 2u for the blank before token u, 2u + 1 for the token itself."""
    from asr.decoding.align_kernels import forward, trace

    frames, count = len(scores), len(target)
    highest = scores.max(axis=1).astype(np.float64)
    symbols = np.append(target, BLANK).astype(np.uint32)
    skips = np.full(count + 1, -np.inf)
    skips[1:count][target[1:] != target[:-1]] = 0.0
    costs, rests, voiced = _costs(frames, count, silence)
    lattice = (scores, highest, costs, symbols, skips, rests, voiced)
    rows = (frames - 1) // every + 1
    kept_spoken, kept_blanks = np.empty((rows, count + 1)), np.empty((rows, count + 1))
    windows = np.empty((rows, 2), dtype=np.int64)
    for loss in LOSSES:
        spoken, blank = forward(*lattice, loss, every, kept_spoken, kept_blanks, windows)
        if max(spoken, blank) > -loss:
            break
    else:
        raise DataError("the model gives its text no probability at all; is it the text of this recording?")
    state = 2 * count - (1 if spoken > blank else 0)
    states = np.empty(frames, dtype=np.int64)
    last = frames - 1
    states[last] = state
    ways = np.empty((every, min(every, count) + 1), dtype=np.uint8)
    for row in range(rows - 1, -1, -1):
        first = row * every
        if first < last:
            state = trace(*lattice, kept_spoken[row], kept_blanks[row], windows[row], first, last, state, ways, states)
        states[first] = state
        last = first
    return states


def _costs(frames: int, count: int, silence: Silence | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Costs (T,), and as float64 (U + 1,) whether they are due in the blank and in the token of each column."""
    if silence is None:
        return np.zeros(frames), np.zeros(count + 1), np.zeros(count + 1)
    voiced = np.append(silence.voiced, False)
    return np.ascontiguousarray(silence.costs, dtype=np.float64), silence.joined.astype(np.float64), voiced.astype(np.float64)
