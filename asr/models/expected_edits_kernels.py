"""The loops of the expected edits, compiled; imported by the first step that needs them. See `asr.models.expected_edits`.

For one path, row j of `before[t]` is the edit distance between what the frames below t say and the first j tokens of the
target; of `after[t]`, between what the frames from t on say, given frame t - 1, and the tokens from j on. A symbol put into
frame t changes what this frame and the next one say, and nothing else.
"""

import numpy as np

from asr.models.cell_kernels import compiled
from asr.models.ctc import BLANK


@compiled()
def _behind(row, symbol, target, out):
    """The row of `before` after one more symbol."""
    out[0] = row[0] + 1
    for j in range(1, len(row)):
        best = row[j - 1] + (target[j - 1] != symbol)
        best = min(best, row[j] + 1)
        out[j] = min(best, out[j - 1] + 1)


@compiled()
def _ahead(row, symbol, target, out):
    """The row of `after` with one more symbol in front."""
    last = len(row) - 1
    out[last] = row[last] + 1
    for j in range(last - 1, -1, -1):
        best = row[j + 1] + (target[j] != symbol)
        best = min(best, row[j] + 1)
        out[j] = min(best, out[j + 1] + 1)


@compiled()
def _joined(left, right):
    best = left[0] + right[0]
    for j in range(1, len(left)):
        best = min(best, left[j] + right[j])
    return best


@compiled()
def _with_each_symbol(left, right, target, edits):
    """edits[k]: with symbol k between what `left` and `right` stand for.

    The symbol is too much, stands in the place of a token, or is the token. Neighbours in a row differ by 1 at most, so that a
    token left out beside it need not be looked at.
    """
    other = _joined(left, right) + 1
    for j in range(len(target)):
        other = min(other, left[j] + right[j + 1] + 1)
    edits[:] = other
    for j, token in enumerate(target):
        edits[token] = min(edits[token], left[j] + right[j + 1])


@compiled()
def edits_of_paths(probabilities, drawn, target, gradient):
    """Mean edits of the paths drawn (N, T) against target (U,); probabilities (T, V).

    gradient (T, V) gets p(k at t) (E[edits | k at t] - E[edits]): its rows sum to zero, which changes nothing behind a softmax.
    """
    paths, frames = drawn.shape
    vocabulary, size = probabilities.shape[1], len(target)
    before, after = np.zeros((frames + 1, size + 1), np.int64), np.zeros((frames + 2, size + 1), np.int64)
    for j in range(size + 1):
        before[0, j] = j
        after[frames, j] = after[frames + 1, j] = size - j
    heard = np.zeros(size + 1, np.int64)
    edits, repeated = np.zeros(vocabulary, np.int64), np.zeros(vocabulary, np.int64)
    costs = np.zeros((frames, vocabulary))
    total = 0.0
    for path in drawn:
        for t in range(frames):
            last = path[t - 1] if t else BLANK
            if path[t] != BLANK and path[t] != last:
                _behind(before[t], path[t], target, before[t + 1])
            else:
                before[t + 1] = before[t]
        for t in range(frames - 1, -1, -1):
            last = path[t - 1] if t else BLANK
            if path[t] != BLANK and path[t] != last:
                _ahead(after[t + 1], path[t], target, after[t])
            else:
                after[t] = after[t + 1]
        total += before[frames, size]
        for t in range(frames):
            last = path[t - 1] if t else BLANK
            follower = path[t + 1] if t + 1 < frames else BLANK
            rest = after[t + 2]
            if follower != BLANK:  # what follows if the next frame says its symbol
                _ahead(rest, follower, target, heard)
            else:
                heard[:] = rest
            _with_each_symbol(before[t], heard, target, edits)
            edits[BLANK] = _joined(before[t], heard)
            if follower != BLANK:
                _with_each_symbol(before[t], rest, target, repeated)
                edits[follower] = repeated[follower]
            if last != BLANK:
                edits[last] = _joined(before[t], rest if last == follower else heard)
            costs[t] += edits
    for t in range(frames):
        mean = 0.0
        for k in range(vocabulary):
            costs[t, k] /= paths
            mean += probabilities[t, k] * costs[t, k]
        for k in range(vocabulary):
            gradient[t, k] = probabilities[t, k] * (costs[t, k] - mean)
    return total / paths
