"""LSTMs that no vendor library has (peepholes, coupled or missing forget gates) on a GPU: one kernel for all steps of a layer.

A program of the kernel owns a tile of utterances in one direction and walks through time; the recurrent product and the gates of
a step are fused, so a layer costs two launches forwards and backwards, whatever its length. Products with the inputs, and the
gradients of the weights, are one large product each. Equal to `asr.models.cells.Cell.unroll` within rounding. Triton comes with
torch's CUDA builds.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr.models.cells import Cell, CellOptions

#: Utterances of a tile, columns and inner elements of a block of the recurrent product.
BLOCKS = {"BM": 16, "BN": 64, "BK": 64}


@triton.jit
def _tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def _lstm_forward(
    gates, w_rec, peephole, hidden, cells, lengths, B, T, H,
    FREE: tl.constexpr, COUPLED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """gates (W, B, T, nH) sums in, activations out; hidden and cells (W, B, T + 2, H), frame t at t + 1, zero at both ends."""
    way = tl.program_id(1)
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    live = rows < B
    length = tl.load(lengths + rows, mask=live, other=0)
    n = 4 if FREE else 3
    gates += way * B * T * n * H
    w_rec += way * n * H * H
    peephole += way * (n - 1) * H
    hidden += way * B * (T + 2) * H
    cells += way * B * (T + 2) * H
    for i in range(T):
        t = tl.where(way == 0, i, T - 1 - i)
        before = tl.where(way == 0, t, t + 2)
        inside = (t < length)[:, None]
        from_row = (rows * (T + 2) + before)[:, None] * H
        to_row = (rows * (T + 2) + t + 1)[:, None] * H
        gate_row = (rows * T + t)[:, None] * (n * H)
        for first in range(0, H, BN):
            cols = first + tl.arange(0, BN)
            mask = live[:, None] & (cols < H)[None, :]
            i_sum = tl.load(gates + gate_row + cols[None, :], mask=mask, other=0.0).to(tl.float32)
            g_sum = tl.load(gates + gate_row + ((n - 2) * H + cols)[None, :], mask=mask, other=0.0).to(tl.float32)
            o_sum = tl.load(gates + gate_row + ((n - 1) * H + cols)[None, :], mask=mask, other=0.0).to(tl.float32)
            f_sum = i_sum
            if FREE:
                f_sum = tl.load(gates + gate_row + (H + cols)[None, :], mask=mask, other=0.0).to(tl.float32)
            for start in range(0, H, BK):
                inner = start + tl.arange(0, BK)
                h = tl.load(hidden + from_row + inner[None, :], mask=live[:, None] & (inner < H)[None, :], other=0.0)
                w_mask = (inner < H)[:, None] & (cols < H)[None, :]
                w = w_rec + cols[None, :] * H + inner[:, None]
                i_sum = tl.dot(h, tl.load(w, mask=w_mask, other=0.0), i_sum, input_precision="ieee")
                g_sum = tl.dot(h, tl.load(w + (n - 2) * H * H, mask=w_mask, other=0.0), g_sum, input_precision="ieee")
                o_sum = tl.dot(h, tl.load(w + (n - 1) * H * H, mask=w_mask, other=0.0), o_sum, input_precision="ieee")
                if FREE:
                    f_sum = tl.dot(h, tl.load(w + H * H, mask=w_mask, other=0.0), f_sum, input_precision="ieee")
            c = tl.load(cells + from_row + cols[None, :], mask=mask, other=0.0)
            see_i = tl.load(peephole + cols, mask=cols < H, other=0.0)[None, :]
            see_o = tl.load(peephole + (n - 2) * H + cols, mask=cols < H, other=0.0)[None, :]
            i_gate = tl.sigmoid(i_sum + see_i * c)
            g_gate = _tanh(g_sum)
            if FREE:
                see_f = tl.load(peephole + H + cols, mask=cols < H, other=0.0)[None, :]
                f_gate = tl.sigmoid(f_sum + see_f * c)
                tl.store(gates + gate_row + (H + cols)[None, :], f_gate, mask=mask)
                new = f_gate * c + i_gate * g_gate
            elif COUPLED:
                new = c + i_gate * (g_gate - c)
            else:
                new = c + i_gate * g_gate
            o_gate = tl.sigmoid(o_sum + see_o * new)
            tl.store(gates + gate_row + cols[None, :], i_gate, mask=mask)
            tl.store(gates + gate_row + ((n - 2) * H + cols)[None, :], g_gate, mask=mask)
            tl.store(gates + gate_row + ((n - 1) * H + cols)[None, :], o_gate, mask=mask)
            tl.store(cells + to_row + cols[None, :], tl.where(inside, new, 0.0), mask=mask)
            tl.store(hidden + to_row + cols[None, :], tl.where(inside, o_gate * _tanh(new), 0.0), mask=mask)
        tl.debug_barrier()  # the next step reads what all threads of this one wrote


@triton.jit
def _lstm_backward(
    gates, w_rec, peephole, cells, above, sums, grad_hidden, grad_cell, lengths, B, T, H,
    FREE: tl.constexpr, COUPLED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """sums (W, B, T, nH) get gradients of what entered the gates; above (W, B, T, H); grad_hidden, grad_cell (W, B, H) zero."""
    way = tl.program_id(1)
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    live = rows < B
    length = tl.load(lengths + rows, mask=live, other=0)
    n = 4 if FREE else 3
    gates += way * B * T * n * H
    sums += way * B * T * n * H
    w_rec += way * n * H * H
    peephole += way * (n - 1) * H
    cells += way * B * (T + 2) * H
    above += way * B * T * H
    grad_hidden += way * B * H
    grad_cell += way * B * H
    for i in range(T):
        t = tl.where(way == 0, T - 1 - i, i)
        before = tl.where(way == 0, t, t + 2)
        inside = (t < length)[:, None]
        gate_row = (rows * T + t)[:, None] * (n * H)
        carry_row = rows[:, None] * H
        for first in range(0, H, BN):
            cols = first + tl.arange(0, BN)
            mask = live[:, None] & (cols < H)[None, :]
            i_gate = tl.load(gates + gate_row + cols[None, :], mask=mask, other=0.0).to(tl.float32)
            g_gate = tl.load(gates + gate_row + ((n - 2) * H + cols)[None, :], mask=mask, other=0.0).to(tl.float32)
            o_gate = tl.load(gates + gate_row + ((n - 1) * H + cols)[None, :], mask=mask, other=0.0).to(tl.float32)
            old = tl.load(cells + (rows * (T + 2) + before)[:, None] * H + cols[None, :], mask=mask, other=0.0)
            new = tl.load(cells + (rows * (T + 2) + t + 1)[:, None] * H + cols[None, :], mask=mask, other=0.0)
            see_i = tl.load(peephole + cols, mask=cols < H, other=0.0)[None, :]
            see_o = tl.load(peephole + (n - 2) * H + cols, mask=cols < H, other=0.0)[None, :]
            dh = tl.load(above + (rows * T + t)[:, None] * H + cols[None, :], mask=mask, other=0.0).to(tl.float32)
            dh += tl.load(grad_hidden + carry_row + cols[None, :], mask=mask, other=0.0)
            dc = tl.load(grad_cell + carry_row + cols[None, :], mask=mask, other=0.0)
            shown = _tanh(new)
            do = dh * shown * o_gate * (1.0 - o_gate)
            dc += dh * o_gate * (1.0 - shown * shown) + do * see_o
            dg = dc * i_gate * (1.0 - g_gate * g_gate)
            if FREE:
                see_f = tl.load(peephole + H + cols, mask=cols < H, other=0.0)[None, :]
                f_gate = tl.load(gates + gate_row + (H + cols)[None, :], mask=mask, other=0.0).to(tl.float32)
                di = dc * g_gate * i_gate * (1.0 - i_gate)
                df = dc * old * f_gate * (1.0 - f_gate)
                tl.store(sums + gate_row + (H + cols)[None, :], tl.where(inside, df, 0.0), mask=mask)
                carried = dc * f_gate + di * see_i + df * see_f
            elif COUPLED:
                di = dc * (g_gate - old) * i_gate * (1.0 - i_gate)
                carried = dc * (1.0 - i_gate) + di * see_i
            else:
                di = dc * g_gate * i_gate * (1.0 - i_gate)
                carried = dc + di * see_i
            tl.store(sums + gate_row + cols[None, :], tl.where(inside, di, 0.0), mask=mask)
            tl.store(sums + gate_row + ((n - 2) * H + cols)[None, :], tl.where(inside, dg, 0.0), mask=mask)
            tl.store(sums + gate_row + ((n - 1) * H + cols)[None, :], tl.where(inside, do, 0.0), mask=mask)
            tl.store(grad_cell + carry_row + cols[None, :], tl.where(inside, carried, 0.0), mask=mask)
        tl.debug_barrier()
        for first in range(0, H, BN):
            cols = first + tl.arange(0, BN)
            total = tl.zeros((BM, BN), tl.float32)
            for start in range(0, n * H, BK):
                inner = start + tl.arange(0, BK)
                d = tl.load(sums + gate_row + inner[None, :], mask=live[:, None] & (inner < n * H)[None, :], other=0.0)
                w_mask = (inner < n * H)[:, None] & (cols < H)[None, :]
                w = tl.load(w_rec + inner[:, None] * H + cols[None, :], mask=w_mask, other=0.0)
                total = tl.dot(d, w, total, input_precision="ieee")
            tl.store(grad_hidden + carry_row + cols[None, :], total, mask=live[:, None] & (cols < H)[None, :])
        tl.debug_barrier()


class _Layer(torch.autograd.Function):
    """x (B, T, D), lengths (B,), weights stacked over W directions -> outputs (W, B, T, H), zero beyond a length."""

    @staticmethod
    def forward(ctx, x: Tensor, lengths: Tensor, options: CellOptions, w_in: Tensor, w_rec: Tensor, bias: Tensor, peep: Tensor):
        ways, batch, frames, width = len(w_in), *x.shape[:2], options.width
        flat = x.reshape(1, -1, x.shape[2]).expand(ways, -1, -1)
        gates = torch.baddbmm(bias.to(x.dtype).unsqueeze(1), flat, w_in.transpose(1, 2)).contiguous()
        hidden = x.new_zeros(ways, batch, frames + 2, width)
        cells = torch.zeros(ways, batch, frames + 2, width, device=x.device)
        w_rec, peep = w_rec.contiguous(), peep.contiguous()
        grid = (triton.cdiv(batch, BLOCKS["BM"]), ways)
        switches = {"FREE": "forget" in options.gates, "COUPLED": options.coupled}
        _lstm_forward[grid](gates, w_rec, peep, hidden, cells, lengths, batch, frames, width, **switches, **BLOCKS)
        ctx.save_for_backward(x, lengths, w_in, w_rec, peep, gates, hidden, cells)
        ctx.options = options
        return hidden[:, :, 1:-1]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, lengths, w_in, w_rec, peep, gates, hidden, cells = ctx.saved_tensors
        options: CellOptions = ctx.options
        ways, batch, frames, width = len(w_in), *x.shape[:2], options.width
        sums = torch.empty_like(gates)
        carries = [torch.zeros(ways, batch, width, device=x.device) for _ in range(2)]
        grid = (triton.cdiv(batch, BLOCKS["BM"]), ways)
        switches = {"FREE": "forget" in options.gates, "COUPLED": options.coupled}
        above = grad.to(x.dtype).contiguous()
        tensors = (gates, w_rec, peep, cells, above, sums, *carries, lengths)
        _lstm_backward[grid](*tensors, batch, frames, width, **switches, **BLOCKS)
        flat = x.reshape(1, -1, x.shape[2]).expand(ways, -1, -1)
        before = torch.stack([part[:, 0:frames] if way == 0 else part[:, 2:] for way, part in enumerate(hidden)])
        old = torch.stack([part[:, 0:frames] if way == 0 else part[:, 2:] for way, part in enumerate(cells)])
        by_gate = sums.view(ways, batch, frames, len(options.gates), width)
        seen = [old] * (len(options.gates) - 2) + [cells[:, :, 1:-1]]
        watched = [number for number, gate in enumerate(options.gates) if gate != "candidate"]
        grad_peep = torch.stack([(by_gate[:, :, :, gate] * state).sum(dim=(1, 2)) for gate, state in zip(watched, seen)], dim=1)
        grad_x = torch.matmul(sums, w_in).sum(dim=0).view(x.shape) if ctx.needs_input_grad[0] else None
        return (
            grad_x,
            None,
            None,
            torch.bmm(sums.transpose(1, 2), flat),
            torch.bmm(sums.transpose(1, 2), before.reshape(ways, -1, width)),
            sums.sum(dim=1, dtype=torch.float32),
            grad_peep.float(),
        )


def takes(options: CellOptions) -> bool:
    """Whether this cell has its kernel here."""
    return options.cell == "lstm" and not options.projection and not options.truncation


def run_layer(x: Tensor, lengths: Tensor, directions: list[Cell]) -> Tensor:
    """x (B, T, D) float32 or bfloat16, lengths (B,) -> (B, T, H), or (B, T, 2H) with a second cell that reads backwards."""
    options = directions[0].options
    none = directions[0].bias.new_zeros(len(options.gates) - 1, options.width)
    peep = torch.stack([none if cell.peephole is None else cell.peephole for cell in directions]).float()
    stacked = [torch.stack([getattr(cell, name) for cell in directions]) for name in ("weight_in", "weight_rec", "bias")]
    w_in, w_rec = (weights.to(x.dtype) for weights in stacked[:2])
    out = _Layer.apply(x, lengths.to(x.device, torch.int32), options, w_in, w_rec, stacked[2].float(), peep)
    return torch.cat(list(out), dim=2)
