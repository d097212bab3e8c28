"""The elementwise parts of one time step of each cell, compiled; imported by the first training step on a CPU, not before.

Each kernel works on rows (utterances) of arrays whose rows are all frames of a batch; the matrix products between the steps are
not done here. Values are stored as float32, float64, or bfloat16 (its bits as uint16), and always computed in float32 or
float64; cell states are never stored shorter than float32. NaN in gives NaN out.
"""

from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import overload

f32 = np.float32
# Reassociation lets the loops run in vector registers; nothing here assumes that values are finite.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "arcp", "nsz", "reassoc"}}


def compiled(**options):
    """numba.njit, `options` over `OPTIONS`; its code is kept beside this file or in the user's cache, or nowhere if it fails."""

    def decorate(function):
        try:
            return numba.njit(cache=True, **(OPTIONS | options))(function)
        except (RuntimeError, OSError):
            return numba.njit(**(OPTIONS | options))(function)

    return decorate


def load(x):
    """A stored value as a number: the bits of a bfloat16 are the upper half of a float32."""


@overload(load, inline="always")
def _load(x):
    if isinstance(x, types.Integer):
        return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)
    return lambda x: x


def store(y, j, x):
    """y[j] = x, rounded to nearest, ties to even, where y holds the bits of bfloat16."""


@overload(store, inline="always")
def _store(y, j, x):
    if isinstance(y.dtype, types.Integer):

        def rounded(y, j, x):
            bits = f32(x).view(np.uint32)
            y[j] = np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

        return rounded

    def plain(y, j, x):
        y[j] = x

    return plain


def exponential(x):
    """e to the x; for float32 with a relative error of about 1e-7, x beyond -87 .. 88 counting as the nearer end."""


@overload(exponential, inline="always")
def _exponential(x):
    if x == types.float64:
        return lambda x: np.exp(x)

    def short(x):
        x = f32(88.0) if x > f32(88.0) else x
        x = f32(-87.0) if x < f32(-87.0) else x
        # x = n ln 2 + r with ln 2 in two parts, e^r by a polynomial over |r| <= ln 2 / 2 (Moshier 1989, Cephes), 2^n by its bits.
        n = np.floor(x * f32(1.44269504) + f32(0.5))
        r = x - n * f32(0.693359375) + n * f32(2.12194440e-4)
        p = f32(1.9875691500e-4)
        p = p * r + f32(1.3981999507e-3)
        p = p * r + f32(8.3334519073e-3)
        p = p * r + f32(4.1665795894e-2)
        p = p * r + f32(1.6666665459e-1)
        p = p * r + f32(5.0000001201e-1)
        p = p * r * r + r + f32(1.0)
        bits = (np.int32(n) + np.int32(127)) << np.int32(23)
        return p * np.int32(bits).view(f32)

    return short


@compiled(inline="always")
def logistic(x):
    return f32(1.0) / (f32(1.0) + exponential(-x))


@compiled(inline="always")
def hyperbolic(x):
    return f32(2.0) / (f32(1.0) + exponential(f32(-2.0) * x)) - f32(1.0)


# What works in place has one array of that kind: two that are the same would send a loop down its slow, unvectorised branch.


@compiled()
def open_(gate, more, peephole, state):
    """A gate that sees the cell states through its peephole weights (zero without peepholes); `more` enters it, too."""
    for j in range(len(gate)):
        store(gate, j, logistic(load(gate[j]) + more[j] + peephole[j] * state[j]))


@compiled()
def squash_(x, more):
    for j in range(len(x)):
        store(x, j, hyperbolic(load(x[j]) + more[j]))


@compiled()
def forget_into(i, f, g, before, after):
    for j in range(len(after)):
        after[j] = load(f[j]) * before[j] + load(i[j]) * load(g[j])


@compiled()
def carry_into(i, g, before, after):
    for j in range(len(after)):
        after[j] = before[j] + load(i[j]) * load(g[j])


@compiled()
def couple_into(i, g, before, after):
    for j in range(len(after)):
        after[j] = before[j] + load(i[j]) * (load(g[j]) - before[j])


@compiled()
def show_into(o, state, hidden):
    for j in range(len(hidden)):
        store(hidden, j, load(o[j]) * hyperbolic(state[j]))


@compiled()
def lstm_forward(gates, recurrent, peephole, cells, hidden, row, rows, previous, carried, zero, coupled):
    """One time step of the rows `row` .. `row + rows` of an LSTM.

    gates (R, 4H or 3H): sums that enter the gates i, (f,) g, o, in exchange for their activations; recurrent (rows, 4H or 3H):
    the products with the outputs before, which enter them too; peephole (3 or 2, H); cells (., H) get the cell states, hidden
    (., H) the outputs. The first `carried` rows go on from the rows at `previous`, the others from row `zero`.
    """
    width = cells.shape[1]
    free = gates.shape[1] == 4 * width
    for b in range(rows):
        gate, more = gates[row + b], recurrent[b]
        before, after = cells[previous + b if b < carried else zero], cells[row + b]
        i, g, o = gate[:width], gate[-2 * width : -width], gate[-width:]
        open_(i, more[:width], peephole[0], before)
        squash_(g, more[-2 * width : -width])
        if free:
            f = gate[width : 2 * width]
            open_(f, more[width : 2 * width], peephole[1], before)
            forget_into(i, f, g, before, after)
        elif coupled:
            couple_into(i, g, before, after)
        else:
            carry_into(i, g, before, after)
        open_(o, more[-width:], peephole[-1], after)
        show_into(o, after, hidden[row + b])


@compiled(inline="always")
def slope(y):
    """Derivative of the logistic function where its value is y."""
    return y * (f32(1.0) - y)


@compiled()
def output_gradient(o, peephole, state, above, hidden, cell, do):
    """The gradient dh = above + hidden of an output, on to the output gate and, added, to the cell state."""
    for j in range(len(state)):
        dh = load(above[j]) + load(hidden[j])
        out, t = load(o[j]), hyperbolic(state[j])
        d = dh * t * slope(out)
        cell[j] += dh * out * (f32(1.0) - t * t) + d * peephole[j]
        store(do, j, d)


@compiled()
def forget_gradient(i, f, g, before, see_i, see_f, cell, di, df, dg):
    for j in range(len(before)):
        dc, vi, vf, vg = cell[j], load(i[j]), load(f[j]), load(g[j])
        into_i, into_f = dc * vg * slope(vi), dc * before[j] * slope(vf)
        store(di, j, into_i)
        store(df, j, into_f)
        store(dg, j, dc * vi * (f32(1.0) - vg * vg))
        cell[j] = dc * vf + into_i * see_i[j] + into_f * see_f[j]


@compiled()
def carry_gradient(i, g, see_i, cell, di, dg):
    for j in range(len(see_i)):
        dc, vi, vg = cell[j], load(i[j]), load(g[j])
        into_i = dc * vg * slope(vi)
        store(di, j, into_i)
        store(dg, j, dc * vi * (f32(1.0) - vg * vg))
        cell[j] = dc + into_i * see_i[j]


@compiled()
def couple_gradient(i, g, before, see_i, cell, di, dg):
    for j in range(len(before)):
        dc, vi, vg = cell[j], load(i[j]), load(g[j])
        into_i = dc * (vg - before[j]) * slope(vi)
        store(di, j, into_i)
        store(dg, j, dc * vi * (f32(1.0) - vg * vg))
        cell[j] = dc * (f32(1.0) - vi) + into_i * see_i[j]


@compiled()
def gather_(total, d, state):
    for j in range(len(total)):
        total[j] += load(d[j]) * state[j]


@compiled()
def lstm_backward(
    gates, peephole, cells, sums, above, grad_hidden, grad_cell, grad_peephole, row, rows, previous, carried, zero, coupled
):
    """The gradient of `lstm_forward`: sums (R, 4H or 3H) get the gradients of what entered the gates.

    above (R, H): gradients of the outputs from the layer above, or (1, H) zeros where grad_hidden holds all of it; grad_hidden
    (., H) and grad_cell (., H) come from the step after this one, and grad_cell is left for the step before. grad_peephole
    (3 or 2, H) is added to, or (0, H) where it is not wanted.
    """
    width = cells.shape[1]
    free = gates.shape[1] == 4 * width
    for b in range(rows):
        gate, total = gates[row + b], sums[row + b]
        before, after = cells[previous + b if b < carried else zero], cells[row + b]
        i, g, o = gate[:width], gate[-2 * width : -width], gate[-width:]
        di, dg, do = total[:width], total[-2 * width : -width], total[-width:]
        from_above = above[row + b] if len(above) > 1 else above[0]
        output_gradient(o, peephole[-1], after, from_above, grad_hidden[b], grad_cell[b], do)
        if free:
            f, df = gate[width : 2 * width], total[width : 2 * width]
            forget_gradient(i, f, g, before, peephole[0], peephole[1], grad_cell[b], di, df, dg)
        elif coupled:
            couple_gradient(i, g, before, peephole[0], grad_cell[b], di, dg)
        else:
            carry_gradient(i, g, peephole[0], grad_cell[b], di, dg)
        if len(grad_peephole):
            gather_(grad_peephole[0], di, before)
            if free:
                gather_(grad_peephole[1], total[width : 2 * width], before)
            gather_(grad_peephole[-1], do, after)


@compiled()
def rnn_forward(sums, recurrent, hidden, row, rows, rectified):
    """hidden = tanh(sums + recurrent), or their positive part; sums (R, H), recurrent (rows, H), hidden (., H)."""
    for b in range(rows):
        x, more, y = sums[row + b], recurrent[b], hidden[row + b]
        if rectified:
            for j in range(len(x)):
                store(y, j, np.maximum(load(x[j]) + more[j], f32(0.0)))
        else:
            for j in range(len(x)):
                store(y, j, hyperbolic(load(x[j]) + more[j]))


@compiled()
def rnn_backward(hidden, sums, above, grad_hidden, row, rows, rectified):
    """sums (R, H) get the gradients of what entered; above (R, H) and grad_hidden (., H) are those of the outputs."""
    for b in range(rows):
        y, dx, up, later = hidden[row + b], sums[row + b], above[row + b], grad_hidden[b]
        if rectified:
            for j in range(len(y)):
                store(dx, j, (load(up[j]) + load(later[j])) * f32(load(y[j]) > f32(0.0)))
        else:
            for j in range(len(y)):
                value = load(y[j])
                store(dx, j, (load(up[j]) + load(later[j])) * (f32(1.0) - value * value))


@compiled()
def candidate_(n, r, q):
    for j in range(len(n)):
        store(n, j, hyperbolic(load(n[j]) + load(r[j]) * load(q[j])))


@compiled()
def mix_into(z, n, before, hidden):
    for j in range(len(hidden)):
        value = load(n[j])
        store(hidden, j, value + load(z[j]) * (load(before[j]) - value))


@compiled()
def add_open_(gate, more):
    for j in range(len(gate)):
        store(gate, j, logistic(load(gate[j]) + more[j]))


@compiled()
def keep_in(kept, x):
    for j in range(len(kept)):
        store(kept, j, x[j])


@compiled()
def gru_forward(gates, recurrent, inner, hidden, row, rows, previous, carried, zero):
    """One step of a GRU: gates (R, 3H) r, z, n; recurrent (rows, 3H) the products with the outputs before, bias of n included.

    inner (R, H) keeps what the reset gate multiplies; hidden (., H) gets the outputs.
    """
    width = hidden.shape[1]
    for b in range(rows):
        gate, more = gates[row + b], recurrent[b]
        r, z, n = gate[:width], gate[width : 2 * width], gate[2 * width :]
        keep_in(inner[row + b], more[2 * width :])
        add_open_(r, more[:width])
        add_open_(z, more[width : 2 * width])
        candidate_(n, r, inner[row + b])
        mix_into(z, n, hidden[previous + b if b < carried else zero], hidden[row + b])


@compiled()
def gru_gradient(r, z, n, q, before, up, later, dq, dr, dz, dn):
    for j in range(len(r)):
        dh = load(up[j]) + load(later[j])
        vr, vz, vn, vq = load(r[j]), load(z[j]), load(n[j]), load(q[j])
        into_n = dh * (f32(1.0) - vz) * (f32(1.0) - vn * vn)
        store(dn, j, into_n)
        store(dq, j, into_n * vr)
        store(dr, j, into_n * vq * slope(vr))
        store(dz, j, dh * (load(before[j]) - vn) * slope(vz))
        store(later, j, dh * vz)


@compiled()
def gru_backward(gates, inner, hidden, sums, above, grad_hidden, row, rows, previous, carried, zero):
    """sums (R, 4H) get the gradients of what entered: q (behind the reset gate), r, z, n; grad_hidden keeps the direct part."""
    width = hidden.shape[1]
    for b in range(rows):
        gate, total = gates[row + b], sums[row + b]
        gru_gradient(
            gate[:width],
            gate[width : 2 * width],
            gate[2 * width :],
            inner[row + b],
            hidden[previous + b if b < carried else zero],
            above[row + b],
            grad_hidden[b],
            total[:width],
            total[width : 2 * width],
            total[2 * width : 3 * width],
            total[3 * width :],
        )
