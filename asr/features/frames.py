"""Cutting a padded batch of signals into frames: mirrored edges, and tiles that fit the cache."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def reflect(positions: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Positions before the start or beyond the end of a signal, mirrored there with the edge sample repeated, as often as needed.

    positions: any integers; lengths: broadcast against them, an empty signal counts as one sample long.
    """
    lengths = np.maximum(lengths, 1)
    folded = positions % (2 * lengths)
    return np.minimum(folded, 2 * lengths - 1 - folded)


class MirroredSignals:
    """A padded batch (B, N), each signal continued by its mirror image: `before` samples to the left, `after` to the right."""

    def __init__(self, signals: Tensor, lengths: list[int], *, before: int, after: int):
        self.signals = signals
        self.lengths = lengths
        self.before = before
        ends = np.array(lengths, dtype=np.int64)[:, None]
        left = np.broadcast_to(np.arange(-before, 0), (len(ends), before))
        right = ends + np.arange(after)
        mirrored = torch.from_numpy(reflect(np.concatenate([left, right], axis=1), ends)).to(signals.device)
        self.left_samples, self.right_samples = signals.gather(1, mirrored).split([before, after], dim=1)
        self.right = torch.from_numpy(right).to(signals.device)

    def cut(self, rows: slice, begin: int, width: int) -> Tensor:
        """Samples begin .. begin + width - 2 of some signals, (R, width); the last column has no meaning.

        begin lies from -before to the end of the shortest of them. Samples more than `after` beyond the end of their signal
        have no meaning either. The result may share memory with the signals.
        """
        first, last = max(begin, 0), min(begin + width, self.signals.shape[1])
        inner = self.signals[rows, first:last]
        if len(inner) == 1 and begin == first and begin + width <= self.lengths[rows.start]:
            return inner
        samples = self.signals.new_empty(len(inner), width)
        samples[:, first - begin : last - begin] = inner
        if begin < 0:
            samples[:, :-begin] = self.left_samples[rows, self.before + begin :]
        columns = (self.right[rows] - begin).clamp_(max=width - 1)
        return samples.scatter_(1, columns, self.right_samples[rows])


@dataclass(frozen=True)
class Tile:
    """A part of a padded batch of frames: some utterances, and some frames of each."""

    utterances: slice
    frames: slice


def plan_tiles(frames: list[int], limit: int) -> list[Tile]:
    """Tiles that hold all frames of utterances with so many frames each, and not more than `limit` with padding.

    Short neighbours share a tile; an utterance longer than the limit is cut into several.
    """
    tiles, first = [], 0
    while first < len(frames):
        count, last = frames[first], first + 1
        while last < len(frames) and (last + 1 - first) * max(count, frames[last]) <= limit:
            count, last = max(count, frames[last]), last + 1
        tiles += [Tile(slice(first, last), slice(start, min(start + limit, count))) for start in range(0, count, limit)]
        first = last
    return tiles
