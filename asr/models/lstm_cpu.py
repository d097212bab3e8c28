"""Training an LSTM layer on a CPU: the same arithmetic as `nn.LSTM`, laid out for few large matrix products.

Hochreiter and Schmidhuber (1997) with the forget gate of Gers, Schmidhuber and Cummins (2000), gates in the order i, f, g, o.
The valid frames of a batch become the rows of one matrix, step by step, longest utterance first, so padding costs nothing:
the products with the inputs are one product per direction, and each step multiplies only the rows that are still running.
The two directions run side by side, each on half of the threads.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Step(NamedTuple):
    """One time step: rows `row` .. `row + rows`, of which the first `carried` go on from the rows at `previous`."""

    row: int
    rows: int
    previous: int
    carried: int


class Plan(NamedTuple):
    """How a batch of given lengths becomes rows."""

    #: (R,) row -> frame in the flattened (B * T) batch.
    frames: Tensor
    #: For each direction its steps in the order of reading.
    steps: tuple[list[Step], list[Step]]
    #: For each direction (R,) row -> row of the step before, R where there is none.
    before: tuple[Tensor, Tensor]


@lru_cache(maxsize=8)
def make_plan(lengths: tuple[int, ...], frames: int) -> Plan:
    """Rows for utterances of these lengths in a batch padded to `frames`."""
    order = np.argsort(-np.array(lengths), kind="stable")
    running = (np.array(lengths)[order] > np.arange(max(lengths))[:, None]).sum(axis=1)
    starts = np.concatenate([[0], np.cumsum(running)])
    rows = np.concatenate([order[:count] * frames + t for t, count in enumerate(running)])
    steps, before = [], []
    for times in (range(len(running)), reversed(range(len(running)))):
        own: list[Step] = []
        came = np.full(len(rows), len(rows))
        for t in times:
            row, count = int(starts[t]), int(running[t])
            previous, carried = (own[-1].row, min(count, own[-1].rows)) if own else (0, 0)
            own.append(Step(row, count, previous, carried))
            came[row : row + carried] = np.arange(previous, previous + carried)
        steps.append(own)
        before.append(torch.from_numpy(came))
    return Plan(torch.from_numpy(rows), (steps[0], steps[1]), (before[0], before[1]))


class _Layer(torch.autograd.Function):
    """x (B, T, D), a plan, and per direction the four weights of an `nn.LSTM` -> (B, T, H) or (B, T, 2H), padding zero."""

    @staticmethod
    def forward(ctx, x: Tensor, plan: Plan, *weights: Tensor) -> Tensor:
        batch, frames, size = x.shape
        rows = x.reshape(-1, size).index_select(0, plan.frames)
        directions = range(len(weights) // 4)
        done = _side_by_side([lambda d=d: _forward(rows, plan.steps[d], *weights[4 * d : 4 * d + 4]) for d in directions])
        out = torch.cat([state[-1] for state in done], dim=1)
        ctx.plan, ctx.shape = plan, x.shape
        ctx.save_for_backward(rows, *weights, *(tensor for state in done for tensor in state))
        return x.new_zeros(batch * frames, out.shape[1]).index_copy_(0, plan.frames, out).view(batch, frames, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        rows, *saved = ctx.saved_tensors
        plan, directions = ctx.plan, range(len(saved) // 8)
        weights, states = saved[: 4 * len(directions)], saved[4 * len(directions) :]
        grads = grad.reshape(-1, grad.shape[2]).index_select(0, plan.frames).chunk(len(directions), dim=1)
        wanted = ctx.needs_input_grad[0]
        done = _side_by_side(
            [
                lambda d=d: _backward(
                    rows, plan.steps[d], plan.before[d], *weights[4 * d : 4 * d + 2], *states[4 * d : 4 * d + 4], grads[d], wanted
                )
                for d in directions
            ]
        )
        grad_x = None
        if wanted:
            total = done[0][0] if len(done) == 1 else done[0][0].add_(done[1][0])
            grad_x = total.new_zeros(ctx.shape).view(-1, ctx.shape[2]).index_copy_(0, plan.frames, total).view(ctx.shape)
        return grad_x, None, *(tensor for result in done for tensor in result[1:])


def _forward(x: Tensor, steps: list[Step], w_in: Tensor, w_rec: Tensor, b_in: Tensor, b_rec: Tensor) -> tuple[Tensor, ...]:
    """Activations of the gates (R, 4H), cell states, their tanh and outputs, each (R, H)."""
    from asr.models.lstm_kernels import step_forward

    gates = torch.addmm(b_in + b_rec, x, w_in.t())
    cells, squashed, out = (gates.new_empty(len(x), w_rec.shape[1]) for _ in range(3))
    arrays = [tensor.numpy() for tensor in (gates, cells, squashed, out)]
    zeros = np.zeros(w_rec.shape[1], dtype=np.float32)
    transposed = w_rec.t().contiguous()
    for step in steps:
        row, _, previous, carried = step
        if carried:
            gates[row : row + carried].addmm_(out[previous : previous + carried], transposed)
        step_forward(*arrays, *step, zeros)
    return gates, cells, squashed, out


def _backward(
    x: Tensor,
    steps: list[Step],
    before: Tensor,
    w_in: Tensor,
    w_rec: Tensor,
    gates: Tensor,
    cells: Tensor,
    squashed: Tensor,
    out: Tensor,
    grad_out: Tensor,
    wanted: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of the rows, if wanted, and of the four weights."""
    from asr.models.lstm_kernels import step_backward

    width, most = w_rec.shape[1], max(step.rows for step in steps)
    grad_hidden, grad_cell = gates.new_zeros(most, width), gates.new_zeros(most, width)
    sums = torch.empty_like(gates)  # not in place of the activations: a graph may be walked twice
    arrays = [tensor.numpy() for tensor in (gates, cells, squashed, sums, grad_out.contiguous(), grad_hidden, grad_cell)]
    zeros = np.zeros(width, dtype=np.float32)
    for step in reversed(steps):
        row, _, _, carried = step
        step_backward(*arrays, *step, zeros)
        if carried:
            torch.mm(sums[row : row + carried], w_rec, out=grad_hidden[:carried])
    came = torch.cat([out, out.new_zeros(1, width)]).index_select(0, before)
    grad_bias = sums.sum(dim=0)
    return (sums @ w_in if wanted else None), sums.t() @ x, sums.t() @ came, grad_bias, grad_bias


_POOLS: dict[int, ThreadPoolExecutor] = {}


def _side_by_side(jobs: list[Callable[[], tuple]]) -> list[tuple]:
    """Run one or two jobs, two of them at once on half of the threads each, without recording a graph."""
    threads = torch.get_num_threads()
    if len(jobs) == 1 or threads == 1:
        with torch.no_grad():
            return [job() for job in jobs]
    pool = _POOLS.get(os.getpid())
    if pool is None:  # a forked process has none of its parent's threads
        pool = _POOLS[os.getpid()] = ThreadPoolExecutor(1, thread_name_prefix="lstm-direction")

    def beside() -> tuple:
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


def takes(cell: nn.Module, x: Tensor) -> bool:
    """Whether `lstm_layer` is the path for this input: training in float32 on a CPU."""
    return (
        isinstance(cell, nn.LSTM)
        and torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == cell.weight_ih_l0.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


def lstm_layer(x: Tensor, lengths: Tensor, directions: list[nn.LSTM]) -> Tensor:
    """x (B, T, D), lengths (B,) -> (B, T, H) or, with a second LSTM that reads backwards, (B, T, 2H); padding is zero."""
    sizes = tuple(lengths.tolist())
    width = directions[0].hidden_size
    if max(sizes) == 0:
        return x.new_zeros(*x.shape[:2], width * len(directions))
    weights = [w for lstm in directions for w in (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0)]
    return _Layer.apply(x, make_plan(sizes, x.shape[1]), *weights)
