"""Adding and temporal order, the long-time-lag tasks of Hochreiter and Schmidhuber (1997, experiments 4 and 6a), for any lag.

Adding: numbers from -1 to 1, two of them marked; at the end, 0.5 plus a quarter of the sum of these two is asked for.
Temporal order: two symbols, X or Y each, far apart among distractors; at the end, which of the four orders it was.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

#: shortest lag at which both tasks can be drawn
SHORTEST = 3
#: how far from its target the answer to adding may be
TOLERANCE = 0.04
#: every so many batches one has a lag that was learnt before
EARLIER = 4


@dataclass(frozen=True)
class Task:
    """How a task is written, its inputs D and outputs O, and what draws it: (generator, lag, B) -> x (T, D, B), targets (B,)."""

    title: str
    inputs: int
    outputs: int
    draw: Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]
    #: share of right answers of one that knows the task but not the sequence
    chance: float

    @property
    def classify(self) -> bool:
        return self.outputs > 1


def draw_adding(draw: np.random.Generator, lag: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and marks; T is drawn from 2 lag to 2.2 lag, the marked steps lie among the first ten and the first T / 2 - 1.

    Below a lag of ten the first lag steps stand for the first ten. lag: 3 or more.
    """
    longest = 2 * lag
    steps = int(draw.integers(longest, longest + longest // 10 + 1))
    x = np.zeros((steps, 2, batch), np.float32)
    x[:, 0] = draw.uniform(-1, 1, (steps, batch))
    first = draw.integers(0, min(10, lag), batch)
    second = draw.integers(0, lag - 2, batch)
    second += second >= first
    each = np.arange(batch)
    x[0, 1] = x[-1, 1] = -1
    x[0, 0, first == 0] = x[0, 0, second == 0] = 0
    x[first, 1, each] = x[second, 1, each] = 1
    return x, (0.5 + (x[first, 0, each] + x[second, 0, each]) / 4).astype(np.float32)


def draw_order(draw: np.random.Generator, lag: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols E a b c d B X Y, one input each; in parts of which 40 are the lag, X or Y come at 10 to 20 and 50 to 60, the end
    at 100 to 110, where E is at 0. Classes: XX, XY, YX, YY.
    """

    def part(low: int, high: int, size: int | None = None):
        return draw.integers(math.ceil(low * lag / 40), math.floor(high * lag / 40) + 1, size)

    steps = int(part(100, 110)) + 1
    symbols = draw.integers(1, 5, (steps, batch))
    symbols[0], symbols[-1] = 0, 5
    times = (part(10, 20, batch), part(50, 60, batch))
    first, second = draw.integers(0, 2, (2, batch))
    each = np.arange(batch)
    symbols[times[0], each], symbols[times[1], each] = 6 + first, 6 + second
    x = np.eye(8, dtype=np.float32)[symbols].transpose(0, 2, 1)
    return np.ascontiguousarray(x), (2 * first + second).astype(np.float32)


#: Half the sum of two uniform numbers is within +-0.08 with probability 0.1536: the chance of always answering 0.5.
TASKS = {
    "adding": Task("adding", 2, 1, draw_adding, 1 - (1 - 2 * TOLERANCE) ** 2),
    "order": Task("temporal order", 8, 4, draw_order, 0.25),
}


@dataclass(frozen=True)
class Sequences:
    """Batches of one task: x (N, T, D, B) with the first lengths (N,) steps counting, targets (N, B)."""

    x: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray


def draw_batches(
    task: Task, lag: int, *, batches: int, batch: int, seed: Sequence[int], earlier: Sequence[int] = ()
) -> Sequences:
    """`batches` batches of `batch` sequences, a pure function of the seed and of `earlier`; within a batch all are equally long.

    earlier: lags that every `EARLIER`-th batch takes in turn instead, so that what was learnt at them is not lost.
    """
    draw = np.random.default_rng(list(seed))
    lags = [lag] * batches
    if earlier:
        lags[EARLIER - 1 :: EARLIER] = [earlier[place % len(earlier)] for place in range(batches // EARLIER)]
    drawn = [task.draw(draw, each, batch) for each in lags]
    lengths = np.array([len(x) for x, _ in drawn])
    x = np.zeros((batches, lengths.max(), task.inputs, batch), np.float32)
    for place, (one, _) in enumerate(drawn):
        x[place, : len(one)] = one
    return Sequences(x, lengths, np.stack([targets for _, targets in drawn]))
