"""Recurrent layers on a CPU, forward and back through time written out: few large matrix products and compiled loops between.

The valid frames of a batch become the rows of one matrix, step by step, longest utterance first, so padding costs nothing: the
products with the inputs are one product per direction, each step multiplies only the rows that are still running, and the
gradient of each weight is one product over all steps. The two directions run side by side, each on half of the threads.
Computes in float32, float64 (for tests) or bfloat16, whichever x has; equal to `asr.models.cells.Cell.unroll`. The recurrent
products of single steps are too small for a library: they have compiled loops of their own (`product_kernels`).
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr.models.cells import Cell, CellOptions


class Step(NamedTuple):
    """One time step: rows `row` .. `row + rows`, of which the first `carried` go on from the rows at `previous`."""

    row: int
    rows: int
    previous: int
    carried: int


class Plan(NamedTuple):
    """How a batch of given lengths becomes R rows. Row R holds a state of zero, or rows from R on the B states to start from."""

    #: (R,) row -> frame in the flattened (B * T) batch.
    frames: Tensor
    #: (B,) utterances, longest first; empty ones last.
    order: Tensor
    #: (B,) utterance -> row of its last frame in the forward direction; of its start where it has none.
    last: Tensor
    #: For each direction (S, 4) its steps, a `Step` each, in the order of reading.
    steps: tuple[np.ndarray, np.ndarray]
    #: For each direction (R,) row -> row of the step before, R where there is none.
    before: tuple[Tensor, Tensor]


@lru_cache(maxsize=16)
def make_plan(lengths: tuple[int, ...], frames: int, started: bool = False) -> Plan:
    """Rows for utterances of these lengths in a batch padded to `frames`; `started`: the forward direction starts from states."""
    sizes = np.array(lengths)
    order = np.argsort(-sizes, kind="stable")
    running = (sizes[order] > np.arange(max(lengths))[:, None]).sum(axis=1)
    starts = np.concatenate([[0], np.cumsum(running)])
    rows = np.concatenate([order[:count] * frames + t for t, count in enumerate(running)] or [np.zeros(0, int)])
    steps, before = [], []
    for times in (range(len(running)), reversed(range(len(running)))):
        own: list[Step] = []
        came = np.full(len(rows), len(rows))
        for t in times:
            row, count = int(starts[t]), int(running[t])
            previous, carried = (own[-1].row, min(count, own[-1].rows)) if own else (len(rows), count if started else 0)
            own.append(Step(row, count, previous, carried))
            came[row : row + carried] = np.arange(previous, previous + carried)
        steps.append(np.array(own, dtype=np.int64).reshape(-1, 4))
        before.append(torch.from_numpy(came))
    place = np.argsort(order)  # utterance -> its place among the rows of a step
    last = np.where(sizes > 0, starts[np.maximum(sizes - 1, 0)] + place, len(rows) + (place if started else 0))
    return Plan(
        torch.from_numpy(rows), torch.from_numpy(order), torch.from_numpy(last), (steps[0], steps[1]), (before[0], before[1])
    )


#: In bfloat16 the library makes code for each shape of a product: rows up to a multiple of this, and there are few shapes.
ROWS = 256


class Weights(NamedTuple):
    """One direction's weights: matrices in the precision of x, vectors as they are stored."""

    w_in: Tensor
    w_rec: Tensor
    bias: Tensor
    extra: Tensor | None
    w_proj: Tensor | None


class Saved(NamedTuple):
    """What the backward pass of one direction needs; states and outputs have further rows for where utterances start."""

    gates: Tensor
    states: Tensor
    hidden: Tensor
    out: Tensor


def array_of(tensor: Tensor) -> np.ndarray:
    """The memory of a tensor; bfloat16 as uint16."""
    return tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


class _Layer(torch.autograd.Function):
    """x (B, T, D) -> outputs (B, T, P) or (B, T, 2P), and of the forward direction the last outputs (B, P) and states (B, H)."""

    @staticmethod
    def forward(ctx, x: Tensor, plan: Plan, options: CellOptions, out: Tensor | None, state: Tensor | None, *weights):
        batch, frames, size = x.shape
        rows = _rows(x.reshape(-1, size), plan.frames)
        ways = [Weights(*weights[first : first + 5]) for first in range(0, len(weights), 5)]
        starts = (None, None) if out is None or state is None else (out[plan.order], state[plan.order])
        done = _side_by_side([lambda d=d: _forward(options, rows, plan, d, ways[d], *starts) for d in range(len(ways))])
        ctx.plan, ctx.options, ctx.shape, ctx.started = plan, options, x.shape, out is not None
        ctx.save_for_backward(rows, *weights, *(tensor for saved in done for tensor in saved))
        ctx.set_materialize_grads(False)
        every = torch.cat([saved.out[: len(plan.frames)] for saved in done], dim=1)
        padded = x.new_zeros(batch * frames, every.shape[1]).index_copy_(0, plan.frames, every).view(batch, frames, -1)
        states = done[0].states.index_select(0, plan.last) if options.cell == "lstm" else x.new_zeros(batch, 0)
        return padded, done[0].out.index_select(0, plan.last), states

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor | None, grad_out: Tensor | None, grad_state: Tensor | None):
        rows, *tensors = ctx.saved_tensors
        plan, ways = ctx.plan, range(len(tensors) // 9)
        weights = [Weights(*tensors[5 * d : 5 * d + 5]) for d in ways]
        saved = [Saved(*tensors[5 * len(ways) + 4 * d : 5 * len(ways) + 4 * d + 4]) for d in ways]
        if grad is None:
            grad = rows.new_zeros(*ctx.shape[:2], sum(one.out.shape[1] for one in saved))
        above = grad.reshape(-1, grad.shape[2]).to(rows.dtype).index_select(0, plan.frames).chunk(len(ways), dim=1)
        ends: list[tuple[Tensor | None, Tensor | None]] = [(None, None)] * 2
        ends[0] = (
            None if grad_out is None else grad_out[plan.order],
            None if grad_state is None else grad_state[plan.order],
        )
        wanted = ctx.needs_input_grad[0]
        done = _side_by_side(
            [
                lambda d=d: _backward(
                    Reading(ctx.options, rows, plan, d, weights[d], saved[d], above[d].contiguous(), ends[d]), wanted
                )
                for d in ways
            ]
        )
        grad_x = None
        if wanted:
            total = done[0][0] if len(done) == 1 else done[0][0].add_(done[1][0])
            grad_x = total.new_zeros(ctx.shape).view(-1, ctx.shape[2])
            grad_x = grad_x.index_copy_(0, plan.frames, total[: len(plan.frames)]).view(ctx.shape)
        begun: tuple[Tensor | None, Tensor | None] = (None, None)
        if ctx.started:
            place = torch.argsort(plan.order)
            begun = (done[0][1][place], done[0][2][place])
        return grad_x, None, None, *begun, *(tensor for result in done for tensor in result[3:])


def _rows(x: Tensor, places: Tensor) -> Tensor:
    """The rows of x at `places`; in bfloat16 rows of zeros follow, up to a multiple of `ROWS`."""
    if x.dtype != torch.bfloat16:
        return x.index_select(0, places)
    count = len(places)
    rows = x.new_empty(-(-count // ROWS) * ROWS, x.shape[1])
    torch.index_select(x, 0, places, out=rows[:count])
    rows[count:] = 0.0
    return rows


def _forward(
    options: CellOptions, x: Tensor, plan: Plan, way: int, w: Weights, out: Tensor | None, state: Tensor | None
) -> Saved:
    """One direction over `_rows` x (R, D), from outputs (B, P) and states (B, H) in the order of the rows, or from zero."""
    from asr.models import layer_kernels as kernels
    from asr.models.product_kernels import PANEL, panels

    width, count, steps = options.width, len(plan.frames), plan.steps[way]
    gates = torch.addmm(w.bias.to(x.dtype), x, w.w_in.t())
    begin = 1 if out is None else len(out)
    hidden = x.new_empty(count + begin, width)
    outputs = hidden if w.w_proj is None else x.new_empty(count + begin, len(w.w_proj))
    states = torch.empty(count + begin, width if options.cell == "lstm" else 0, dtype=_wide(x.dtype))
    outputs[count:] = 0.0 if out is None else out
    states[count:] = 0.0 if state is None else state[:, : states.shape[1]]
    inner = x.new_empty(count if options.cell == "gru" else 0, width)
    most = len(plan.order)
    matrix, room = panels(array_of(w.w_rec).T), array_of(states.new_empty(most * PANEL))
    recurrent = array_of(states.new_empty(most, len(w.w_rec)))
    gate, state_, hide, inside, given = (array_of(tensor) for tensor in (gates, states, hidden, inner, outputs))
    if options.cell == "gru":
        assert w.extra is not None
        kernels.read_gru(steps, gate, matrix, array_of(w.extra), inside, hide, recurrent, room, count)
    elif options.cell == "rnn":
        kernels.read_rnn(steps, gate, matrix, hide, recurrent, room, options.activation == "relu")
    else:
        projection, projected = _projection(w, states, most)
        peephole = array_of(_peephole(options, w, states))
        kernels.read_lstm(
            steps, gate, matrix, peephole, state_, hide, given, projection, projected, recurrent, room, count, options.coupled
        )
    return Saved(inner if options.cell == "rnn" else gates, inner if options.cell == "gru" else states, hidden, outputs)


def _peephole(options: CellOptions, w: Weights, states: Tensor) -> Tensor:
    if options.peepholes:
        assert w.extra is not None
        return w.extra.detach().to(states.dtype).contiguous()
    return states.new_zeros(len(options.gates) - 1, options.width)


def _projection(w: Weights, states: Tensor, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The panels of the projection, empty without one, and room for what it gives in one step."""
    from asr.models.product_kernels import panels

    if w.w_proj is None:
        return array_of(w.w_rec).ravel()[:0], array_of(states.new_empty(0, 0))
    return panels(array_of(w.w_proj).T), array_of(states.new_empty(most, len(w.w_proj)))


class Returned(NamedTuple):
    """What reading one direction back through time gives: gradients, with further rows of zeros where `_rows` has them."""

    #: (R, G H) of what enters the gates; of a GRU the recurrent part of the candidate stands before them
    sums: Tensor
    #: (B, P), (B, H) of the outputs and states before the first frame
    out: Tensor
    cell: Tensor
    peephole: Tensor


class Reading(NamedTuple):
    """One direction when its gradients are asked for."""

    options: CellOptions
    #: (R, D) `_rows`
    x: Tensor
    plan: Plan
    way: int
    w: Weights
    saved: Saved
    #: (R, P) gradient of the outputs; with a projection it becomes all of it, what comes back through time included
    above: Tensor
    #: (B, P), (B, H) of the last outputs and states
    ends: tuple[Tensor | None, Tensor | None]


def _backward(reading: Reading, wanted: bool) -> tuple[Tensor | None, ...]:
    """Gradients of the rows (if wanted), of the starting outputs and states, and of the five weights."""
    options, x, plan, way, w, saved, above, _ = reading
    width, gru = options.width, options.cell == "gru"
    back = _back_through_time(reading)
    recurrent, entering = (back.sums[:, : 3 * width], back.sums[:, width:]) if gru else (back.sums, back.sums)
    grad_rec = recurrent.t() @ _rows(saved.out, plan.before[way])
    if gru:
        grad_rec = torch.cat([grad_rec[width:], grad_rec[:width]])
    wide = back.cell.dtype
    extra = None
    if w.extra is not None:
        extra = back.sums[:, :width].sum(dim=0, dtype=wide) if gru else back.peephole
    return (
        entering @ w.w_in if wanted else None,
        back.out.to(x.dtype),
        back.cell,
        entering.t() @ x,
        grad_rec,
        entering.sum(dim=0, dtype=wide),
        extra,
        None if w.w_proj is None else above.t() @ saved.hidden[: len(plan.frames)],
    )


def _back_through_time(reading: Reading) -> Returned:
    """Step by step from the last one read."""
    from asr.models import layer_kernels as kernels
    from asr.models.product_kernels import PANEL, panels

    options, x, plan, way, w, saved, above, ends = reading
    width, count, steps = options.width, len(plan.frames), plan.steps[way]
    gru, size = options.cell == "gru", len(plan.order)
    # Not in place of the activations: a graph may be walked twice.
    sums = x.new_empty(len(x), (4 if gru else len(options.gates)) * width)
    sums[count:] = 0.0
    w_rec = torch.cat([w.w_rec[2 * width :], w.w_rec[: 2 * width]]) if gru else w.w_rec  # q, r, z as in sums
    wide = _wide(x.dtype)
    grad_out = torch.zeros(size, saved.out.shape[1], dtype=wide)
    grad_cell = torch.zeros(size, width if options.cell == "lstm" else 0, dtype=wide)
    if ends[0] is not None:
        grad_out += ends[0]
    if ends[1] is not None and options.cell == "lstm":
        grad_cell += ends[1]
    peephole = _peephole(options, w, grad_out)
    grad_peephole = torch.zeros_like(peephole) if options.peepholes else peephole[:0]
    # Cut between frames t - 1 and t where t is a multiple of the truncation, whichever way one reads.
    numbers = np.arange(len(steps))
    edges = len(steps) - numbers if way else numbers
    cut = (numbers > 0) & (edges % options.truncation == 0) if options.truncation else np.zeros(len(steps), dtype=bool)
    matrix, room = panels(array_of(w_rec)), array_of(grad_out.new_empty(size * PANEL))
    tensors = (saved.gates, saved.states, saved.hidden, sums, above, grad_out)
    gates, states, hidden, entered, up, back = (array_of(tensor) for tensor in tensors)
    if gru:
        kernels.back_gru(steps, cut, gates, states, hidden, entered, up, back, matrix, room, count)
    elif options.cell == "rnn":
        kernels.back_rnn(steps, cut, hidden, entered, up, back, matrix, room, options.activation == "relu")
    else:
        from_above, later, projection = up, back, matrix[:0]
        if w.w_proj is not None:
            from_above, later = array_of(x.new_zeros(1, width)), array_of(grad_out.new_empty(size, width))
            projection = panels(array_of(w.w_proj))
        cell, peep, grad_peep = (array_of(tensor) for tensor in (grad_cell, peephole, grad_peephole))
        kernels.back_lstm(
            *(steps, cut, gates, peep, states, entered, up, from_above, back, later, cell, grad_peep),
            *(matrix, projection, room, count, options.coupled),
        )
    return Returned(sums, grad_out, grad_cell, grad_peephole)


_POOLS: dict[int, ThreadPoolExecutor] = {}


def _side_by_side(jobs: list[Callable[[], Any]]) -> list[Any]:
    """Run one or two jobs, two of them at once on half of the threads each, without recording a graph."""
    threads = torch.get_num_threads()
    if len(jobs) == 1 or threads == 1:
        with torch.no_grad():
            return [job() for job in jobs]
    pool = _POOLS.get(os.getpid())
    if pool is None:  # a forked process has none of its parent's threads
        pool = _POOLS[os.getpid()] = ThreadPoolExecutor(1, thread_name_prefix="lstm-direction")

    def beside() -> Any:
        torch.set_num_threads(threads // 2)
        with torch.no_grad():
            return jobs[1]()

    torch.set_num_threads(threads - threads // 2)
    try:
        second = pool.submit(beside)
        with torch.no_grad():
            first = jobs[0]()
        return [first, second.result()]
    finally:
        torch.set_num_threads(threads)


def run_layer(
    x: Tensor, lengths: Tensor, directions: list[Cell], state: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """x (B, T, D), lengths (B,) -> outputs (B, T, P), or (B, T, 2P) with a second cell that reads backwards; padding is zero.

    `state`, for one direction only, holds outputs (B, P) and cell states (B, H) to start from; the second result holds those
    after each utterance's last frame.
    """
    sizes = tuple(lengths.tolist())
    weights: list[Tensor | None] = []
    for cell in directions:
        extra = cell.bias_rec if cell.bias_rec is not None else cell.peephole
        matrices = [
            None if matrix is None else matrix.to(x.dtype) for matrix in (cell.weight_in, cell.weight_rec, cell.weight_proj)
        ]
        weights += [*matrices[:2], cell.bias, extra, matrices[2]]
    plan = make_plan(sizes, x.shape[1], state is not None)
    options = directions[0].options
    held = None if state is None else state[1] if options.cell == "lstm" else state[1][:, :0]
    out, last, cells = _Layer.apply(x, plan, options, None if state is None else state[0], held, *weights)
    return out, (last, cells if options.cell == "lstm" or state is None else state[1])
