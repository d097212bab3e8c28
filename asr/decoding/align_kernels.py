"""The loops of the alignment, compiled; imported by the first alignment, not before. `asr.decoding.align` explains them.

Column u of the lattice is the blank before token u and token u itself; the last column, U, has no token. `blanks[u]` and
`spoken[u + 1]` hold its scores, so that the left neighbour `spoken[u]` of a blank is always there; `spoken[0]` stays at -inf.
"""

import numba
import numpy as np

OPTIONS = {"nogil": True, "error_model": "numpy"}
#: How a state was entered: from itself, from its left neighbour, or for a token from the token before, across the blank.
STAY, STEP, SKIP = 0, 1, 2
#: In the byte of a column the way into its token stands above the lowest bit, which is the way into its blank.
TOKEN_SHIFT = 1


def compiled(function):
    """numba.njit; the compiled code is kept beside this file or in the user's cache folder, or nowhere if none is writable."""
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except (RuntimeError, OSError):
        return numba.njit(**OPTIONS)(function)


@compiled
def _renew(emission, highest, cost, tokens, skips, rests, voiced, before, silent, same, new_silent, new_same):
    """One frame for some columns: slices of equal length, whose indices need no check."""
    blank = np.float64(emission[0]) - highest
    for j in range(len(tokens)):
        into_blank = before[j] if before[j] > silent[j] else silent[j]
        new_silent[j] = into_blank + (blank - cost * rests[j])
        entered = silent[j] if silent[j] > same[j] else same[j]
        across = before[j] + skips[j]
        entered = across if across > entered else entered
        new_same[j] = entered + (np.float64(emission[tokens[j]]) - highest - cost * voiced[j])


@compiled
def forward(scores, highest, costs, tokens, skips, rests, voiced, loss, every, kept_spoken, kept_blanks, windows):
    """Best score of every state, each frame counted from its highest symbol; states at -`loss` or below may be left out.

    scores (T, V); highest (T,); costs (T,), 0 or above, are taken from the tokens and blanks whose voiced or rests (U + 1,) is
    1, not 0; tokens (U + 1,) unsigned, the last one a filler; skips (U + 1,) is 0 where the token may follow the one before
    without a blank, else -inf. Row k of kept_spoken and kept_blanks (K, U + 1) gets the scores of tokens
    and blanks after frame k * every in the columns windows[k, 0] .. windows[k, 1] - 1. Returns the scores of the last token
    and of the last blank after the last frame, -inf where they were left out.
    """
    frames, count = len(scores), len(tokens) - 1
    spoken, blanks = np.full(count + 2, -np.inf), np.full(count + 1, -np.inf)
    new_spoken, new_blanks = spoken.copy(), blanks.copy()
    windows[:] = 0
    blanks[0] = scores[0, 0] - highest[0] - costs[0] * rests[0]
    if count:
        spoken[1] = scores[0, tokens[0]] - highest[0] - costs[0] * voiced[0]
    low, high = 0, 1
    for t in range(frames):
        if t:
            # From columns below this one the end is out of reach.
            least = max(low, count - frames + t)
            if least == low:
                spoken[low] = -np.inf
            if high <= count:  # this column is entered now; its places hold what was there long ago
                blanks[high] = spoken[high + 1] = -np.inf
                high += 1
            low = least
            _renew(
                scores[t],
                highest[t],
                costs[t],
                tokens[low:high],
                skips[low:high],
                rests[low:high],
                voiced[low:high],
                spoken[low:high],
                blanks[low:high],
                spoken[low + 1 : high + 1],
                new_blanks[low:high],
                new_spoken[low + 1 : high + 1],
            )
            new_spoken[count + 1] = -np.inf
            spoken, new_spoken = new_spoken, spoken
            blanks, new_blanks = new_blanks, blanks
            while low < high and blanks[low] <= -loss and spoken[low + 1] <= -loss:
                low += 1
            while low < high and blanks[high - 1] <= -loss and spoken[high] <= -loss:
                high -= 1
            if low >= high:
                return -np.inf, -np.inf
        if t % every == 0:
            row = t // every
            windows[row] = low, high
            kept_spoken[row, low:high] = spoken[low + 1 : high + 1]
            kept_blanks[row, low:high] = blanks[low:high]
    return (spoken[count] if low < count <= high else -np.inf), (blanks[count] if high > count else -np.inf)


@compiled
def trace(scores, highest, costs, tokens, skips, rests, voiced, spoken, blanks, window, first, last, state, ways, states):
    """Follow the best path from `state` (2u a blank, 2u + 1 a token) after frame `last` back to frame `first`.

    spoken, blanks (U + 1,) and window (2,) are the row that `forward` kept after frame `first`. Fills states[first + 1 .. last]
    and returns the state at frame `first`. ways (last - first, last - first + 1) uint8 is working space: a path moves by one
    column a frame at most, so no other column matters.
    """
    frames = last - first
    low = max(0, state // 2 - frames)
    high = state // 2 + 1
    old_spoken, old_blanks = np.full(high - low + 1, -np.inf), np.full(high - low, -np.inf)
    new_spoken, new_blanks = old_spoken.copy(), old_blanks.copy()
    for u in range(max(low, window[0]), min(high, window[1])):
        old_spoken[u - low + 1], old_blanks[u - low] = spoken[u], blanks[u]
    for t in range(frames):
        emission, top, cost = scores[first + 1 + t], highest[first + 1 + t], costs[first + 1 + t]
        for j in range(high - low):
            before, silent, same = old_spoken[j], old_blanks[j], old_spoken[j + 1]
            way = STEP if before > silent else STAY
            new_blanks[j] = (before if before > silent else silent) + (np.float64(emission[0]) - top - cost * rests[low + j])
            best, into = (silent, STEP) if silent > same else (same, STAY)
            across = before + skips[low + j]
            if across > best:
                best, into = across, SKIP
            new_spoken[j + 1] = best + (np.float64(emission[tokens[low + j]]) - top - cost * voiced[low + j])
            ways[t, j] = way | into << TOKEN_SHIFT
        old_spoken, new_spoken = new_spoken, old_spoken
        old_blanks, new_blanks = new_blanks, old_blanks
    for t in range(frames - 1, -1, -1):
        states[first + 1 + t] = state
        entered = np.int64(ways[t, state // 2 - low])
        state -= entered >> TOKEN_SHIFT if state % 2 else entered & 1
    return state
