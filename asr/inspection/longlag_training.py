"""Many small networks, trained side by side on the tasks of `asr.inspection.longlag_tasks`, each until it solves its own.

Every cell is trained at every learning rate with every seed. Networks of the same seed see the same sequences, as far as they
are at the same lag: from start values within +-0.1 a gate is half open and a state is halved at every step, so nothing reaches
over a long lag at once, and a network begins with a short one that grows as it learns. One batch of four has a lag learnt before
(the mixing is that of Zaremba and Sutskever 2014, "Learning to Execute"), and a network that is stuck goes back.
"""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from time import thread_time

import numpy as np
from tqdm import tqdm

from asr.errors import UsageError
from asr.inspection.longlag_tasks import SHORTEST, TASKS, TOLERANCE, Sequences, Task, draw_batches
from asr.models.cells import CellOptions

#: name -> how it is written, and the cell
CELLS: dict[str, tuple[str, CellOptions]] = {
    "rnn": ("RNN, tanh", CellOptions(cell="rnn")),
    "rnn_relu": ("RNN, ReLU", CellOptions(cell="rnn", activation="relu")),
    "lstm1997": ("LSTM of 1997", CellOptions(forget_gate=False)),
    "lstm": ("LSTM, forget gate", CellOptions()),
    "peepholes": ("LSTM, peepholes", CellOptions(peepholes=True)),
    "coupled": ("LSTM, coupled gates", CellOptions(coupled=True)),
    "gru": ("GRU", CellOptions(cell="gru")),
}
#: share of fresh sequences that must be right; and of those looked at in between, for the lag to grow
SOLVED, LEARNT = 0.99, 0.9
#: updates between two looks at a network, sequences looked at, and fresh sequences that decide
CHUNK, SCREENED, FRESH = 100, 256, 2000
#: sequences that share a length in the last two
TOGETHER = 32
#: looks at one lag without a better share right after which a network goes back to where that lag began and learns half as fast
PATIENCE = 6
#: times that it goes back there; after that it goes back to where the lag before began, and learns as fast as at the start
RETURNS = 1


@dataclass
class LonglagOptions:
    #: folder that receives the page, the picture and the tables; files of the same names are replaced
    out: str = field(default="", metadata={"path": True})
    #: adding | order
    tasks: list[str] = field(default_factory=lambda: ["adding", "order"])
    #: steps at least between the last input that counts and the end; sequences are twice (order: 2.5 times) as long, and more
    lags: list[int] = field(default_factory=lambda: [10, 30, 100])
    #: rnn | rnn_relu | lstm1997 | lstm | peepholes | coupled | gru
    cells: list[str] = field(default_factory=lambda: ["rnn", "rnn_relu", "lstm1997", "lstm", "peepholes", "coupled", "gru"])
    #: learning rates that every cell is trained with; the best one is kept
    learning_rates: list[float] = field(default_factory=lambda: [0.003, 0.01, 0.03])
    #: networks of each cell and learning rate; the seed decides start values and sequences
    seeds: int = 3
    #: every network has as many cells as fit into so many weights
    weights: int = 400
    #: each network begins with a lag of 3 and goes on to half as much again when 90 % of its answers are right, up to the lag
    #: asked for; where it is stuck, back to where its lag began at half the learning rate, and from there to the lag before;
    #: every fourth batch has a lag learnt before. false trains it with the lag asked for from the start
    growing: bool = True
    #: start values are uniform in +-0.1; this is added to the bias of what keeps the memory (forget gate, GRU's update gate) and
    #: taken from that of the LSTMs' input gates
    gate_bias: float = 0.0
    #: sequences per update, all of one length
    batch: int = 16
    #: updates (Adam) after which a network is given up
    updates: int = 8000
    #: largest norm of a batch's gradient
    clip: float = 1.0
    #: CPU threads (0 = all); changes no number
    threads: int = 0

    def __post_init__(self) -> None:
        for name, known in (("tasks", TASKS), ("cells", CELLS)):
            chosen = getattr(self, name)
            if not chosen or len(set(chosen)) < len(chosen) or set(chosen) - known.keys():
                raise UsageError(f"{name} must be one or more of {', '.join(known)}, each once, got [{','.join(chosen)}]")
        for name, low, high in (("lags", SHORTEST, 2000), ("learning_rates", 0, 10)):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values) or not all(max(low, 1e-9) <= value <= high for value in values):
                raise UsageError(f"{name} must be different numbers from {low} to {high}, got {values}")
        limits = {"seeds": (1, 100), "weights": (100, 10**5), "batch": (1, 1024), "updates": (CHUNK, 10**6), "threads": (0, 4096)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name}={getattr(self, name)} is out of range: use a whole number from {low} to {high}")
        if not -100 <= self.gate_bias <= 100:
            raise UsageError(f"gate_bias={self.gate_bias} is out of range: use a number from -100 to 100")
        if not 0 < self.clip < math.inf:
            raise UsageError(f"clip={self.clip} is out of range: use a number above 0")


def network(cell: CellOptions, width: int, task: Task):
    """The compiled code's view of a network of `width` cells with a readout for the task."""
    from asr.inspection.longlag_kernels import GRU, LSTM, RNN, Network

    free = cell.cell == "lstm" and cell.forget_gate and not cell.coupled
    return Network(
        family={"rnn": RNN, "lstm": LSTM, "gru": GRU}[cell.cell],
        relu=cell.activation == "relu",
        forget=free,
        coupled=cell.coupled,
        peepholes=cell.peepholes,
        inputs=task.inputs,
        cells=width,
        outputs=task.outputs,
        classify=task.classify,
    )


def count_weights(net) -> int:
    from asr.inspection.longlag_kernels import shapes_of

    return sum(rows * columns for rows, columns in shapes_of(net))


def fitting_network(cell: CellOptions, task: Task, weights: int):
    """The network with the most cells that has no more than so many weights; one cell at least."""
    width = 1
    while count_weights(network(cell, width + 1, task)) <= weights:
        width += 1
    return network(cell, width, task)


def start_values(net, *, gate_bias: float, seed: int) -> np.ndarray:
    """All weights, uniform in +-0.1, with `gate_bias` towards keeping what is remembered."""
    from asr.inspection.longlag_kernels import GRU, LSTM, parts_of

    flat = np.random.default_rng([seed, 0]).uniform(-0.1, 0.1, count_weights(net)).astype(np.float32)
    bias = parts_of(net, flat)[2].reshape(-1, net.cells)
    if net.family == LSTM:
        bias[0] -= gate_bias
    if net.forget or net.family == GRU:
        bias[1] += gate_bias
    return flat


def stages(lag: int, growing: bool) -> list[int]:
    """The lags that a network goes through, the one asked for last: each about two thirds of the next."""
    found = [lag]
    while growing and found[-1] * 2 // 3 >= SHORTEST:
        found.append(found[-1] * 2 // 3)
    return found[::-1]


def share_right(net, flat: np.ndarray, sequences: Sequences) -> float:
    """Share of sequences answered rightly: within `TOLERANCE` of the target, or the right class."""
    from asr.inspection.longlag_kernels import outputs

    right = 0
    for x, steps, targets in zip(sequences.x, sequences.lengths, sequences.targets):
        out = outputs(net, flat, x[:steps])
        right += int(np.sum(out.argmax(0) == targets if net.classify else np.abs(out[0] - targets) < TOLERANCE))
    return right / sequences.targets.size


@dataclass(frozen=True)
class Trial:
    """One network's training."""

    task: str
    lag: int
    cell: str
    learning_rate: float
    seed: int
    weights: int
    cells: int
    #: solved | not solved | stopped (another learning rate had already solved the task with every seed)
    outcome: str
    #: training sequences seen
    sequences: int
    #: share right of `FRESH` sequences drawn for this one look
    right: float
    #: longest lag at which `LEARNT` of the sequences looked at in between were right, 0 for none
    reached: int
    #: (training sequences, lag at this time, share right of the sequences looked at in between)
    curve: tuple[tuple[int, int, float], ...]
    #: processor time, s
    seconds: float

    @property
    def solved(self) -> bool:
        return self.outcome == "solved"


class Attempt:
    """A network in training; `advance` and `examine` touch nothing but their own, so attempts can go on in threads."""

    def __init__(self, options: LonglagOptions, task: str, lag: int, cell: str, learning_rate: float, seed: int):
        self.options, self.task, self.lag, self.cell = options, task, lag, cell
        self.learning_rate, self.seed = learning_rate, seed
        self.net = fitting_network(CELLS[cell][1], TASKS[task], options.weights)
        self.flat = start_values(self.net, gate_bias=options.gate_bias, seed=seed)
        self.mean, self.square = np.zeros_like(self.flat), np.zeros_like(self.flat)
        self.updates = self.looks = self.reached = self.waited = 0
        self.rate = learning_rate
        self.stages, self.stage = stages(lag, options.growing), 0
        self.curve: list[tuple[int, int, float]] = []
        self.right = 0.0
        self.seconds = 0.0
        self.solved = False
        self.begun, self.best_right, self.returns = [self._state()], 0.0, 0  # states in which each stage so far was begun

    @property
    def group(self) -> tuple[str, int, str]:
        return self.task, self.lag, self.cell

    @property
    def current(self) -> int:
        """The lag it is at."""
        return self.stages[self.stage]

    def advance(self, sequences: Sequences, screen: Sequences) -> None:
        """`CHUNK` updates, a look, and where that is promising, a longer lag or the look that decides."""
        from asr.inspection.longlag_kernels import train

        started = thread_time()
        rate, clip = np.float32(self.rate), np.float32(self.options.clip)
        given = (sequences.x, sequences.lengths, sequences.targets)
        train(self.net, self.flat, self.mean, self.square, self.updates, *given, rate, clip)
        self.updates += len(sequences.lengths)
        right = share_right(self.net, self.flat, screen)
        self.curve.append((self.updates * self.options.batch, self.current, right))
        if right >= LEARNT:
            self.reached = max(self.reached, self.current)
        if right >= SOLVED and self.current == self.lag:
            self.examine()
            self.solved = self.right >= SOLVED
        elif right >= LEARNT and self.current < self.lag:
            self.stage += 1
            self.begun.append(self._state())
            self.best_right, self.waited, self.returns = 0.0, 0, 0
        elif right > self.best_right:
            self.best_right, self.waited = right, 0
        else:
            self.waited += 1
        if self.options.growing and self.waited == PATIENCE:
            self._go_back()
        self.seconds += thread_time() - started

    def _go_back(self) -> None:
        """To where this lag began, more slowly; in the end to where the lag before began, at full speed."""
        self.best_right, self.waited = 0.0, 0
        self.returns, self.rate = self.returns + 1, 0.5 * self.rate
        if self.returns > RETURNS:
            self.returns, self.rate = 0, self.learning_rate
            if self.stage:
                self.stage -= 1
                self.begun.pop()
        self.flat[:], self.mean[:], self.square[:] = self.begun[-1]

    def _state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Copies of the weights and of Adam's moments."""
        return self.flat.copy(), self.mean.copy(), self.square.copy()

    def examine(self) -> None:
        """The share right of sequences that no network has seen, fresh ones for every look."""
        self.looks += 1
        batches = -(-FRESH // TOGETHER)
        seed = (self.seed, 2, self.lag, self.updates)
        fresh = draw_batches(TASKS[self.task], self.lag, batches=batches, batch=TOGETHER, seed=seed)
        self.right = share_right(self.net, self.flat, fresh)

    def result(self) -> Trial:
        ended = "not solved" if self.updates >= self.options.updates else "stopped"
        return Trial(
            task=self.task,
            lag=self.lag,
            cell=self.cell,
            learning_rate=self.learning_rate,
            seed=self.seed,
            weights=len(self.flat),
            cells=self.net.cells,
            outcome="solved" if self.solved else ended,
            sequences=self.updates * self.options.batch,
            right=self.right,
            reached=self.reached,
            curve=tuple(self.curve),
            seconds=self.seconds,
        )


def run_trials(options: LonglagOptions, *, progress: bool = False) -> list[Trial]:
    """Train them all; the same numbers on any number of threads. `progress` draws a bar on stderr."""
    attempts = [
        Attempt(options, task, lag, cell, rate, seed)
        for task in options.tasks
        for lag in options.lags
        for cell in options.cells
        for rate in options.learning_rates
        for seed in range(1, options.seeds + 1)
    ]
    rounds = -(-options.updates // CHUNK)
    bar = tqdm(total=len(attempts) * rounds, unit="round", disable=not progress, desc="long lags", smoothing=0.1)
    with ThreadPoolExecutor(options.threads or available_threads()) as pool, bar:
        for task, lag in [(task, lag) for task in options.tasks for lag in options.lags]:
            together = [attempt for attempt in attempts if (attempt.task, attempt.lag) == (task, lag)]
            ahead = bar.n + len(together) * rounds
            for step in range(rounds):
                active = unfinished(together)
                if not active:
                    break
                for job in [pool.submit(attempt.advance, *drawn) for attempt, drawn in _dealt(options, active, step)]:
                    job.result()
                    bar.update()
                solved = sum(attempt.solved for attempt in attempts)
                bar.set_postfix_str(f"{TASKS[task].title}, lag {lag}; {solved} of {len(attempts)} networks have solved theirs")
            for job in [pool.submit(attempt.examine) for attempt in together if not attempt.solved]:
                job.result()
            bar.update(ahead - bar.n)
    return [attempt.result() for attempt in attempts]


def available_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _dealt(
    options: LonglagOptions, active: Sequence["Attempt"], step: int
) -> list[tuple["Attempt", tuple[Sequences, Sequences]]]:
    """The sequences of one round for each attempt, to learn from and to be looked at with: those of its lag, and of its seed."""
    task, size = TASKS[active[0].task], min(CHUNK, options.updates - step * CHUNK)
    ways = stages(active[0].lag, options.growing)
    fresh = {}
    for seed, lag in sorted({(attempt.seed, attempt.current) for attempt in active}):
        earlier, drawn = ways[: ways.index(lag)], (seed, 1, lag, step)
        fresh[seed, lag] = draw_batches(task, lag, batches=size, batch=options.batch, seed=drawn, earlier=earlier)
    screens = {lag: _screen(task, lag) for _, lag in fresh}
    return [(one, (fresh[one.seed, one.current], screens[one.current])) for one in active]


@lru_cache(maxsize=64)
def _screen(task: Task, lag: int) -> Sequences:
    return draw_batches(task, lag, batches=SCREENED // TOGETHER, batch=TOGETHER, seed=(0, 3, lag))


def unfinished(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Those that go on: not solved, and no learning rate of the same cell has solved the task with every seed."""
    done = set()
    for group in {attempt.group for attempt in attempts}:
        mine = [attempt for attempt in attempts if attempt.group == group]
        for rate in {attempt.learning_rate for attempt in mine}:
            if all(attempt.solved for attempt in mine if attempt.learning_rate == rate):
                done.add(group)
    return [attempt for attempt in attempts if not attempt.solved and attempt.group not in done]
