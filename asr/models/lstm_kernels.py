"""The elementwise halves of one LSTM time step, compiled; imported by the first training step on a CPU, not before.

Each kernel works on rows (utterances) of arrays whose rows are all frames of a batch. The matrix products between the steps
are not done here. NaN in gives NaN out.
"""

import numba
import numpy as np

f32 = np.float32
# Reassociation lets the loops run in vector registers; nothing here assumes that values are finite.
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "arcp", "nsz", "reassoc"}}
ROW, ROWS = numba.float32[::1], numba.float32[:, ::1]


def compiled(signature=None, **options):
    """numba.njit; the compiled code is kept beside this file or in the user's cache folder, or nowhere if none is writable."""

    def decorate(function):
        signatures = () if signature is None else (signature,)
        try:
            return numba.njit(*signatures, cache=True, **OPTIONS, **options)(function)
        except (RuntimeError, OSError):
            return numba.njit(*signatures, **OPTIONS, **options)(function)

    return decorate


@compiled(inline="always")
def exponential(x):
    """e to the x, relative error about 1e-7, for float32; x beyond -87 .. 88 counts as the nearer end."""
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


# What works in place has one argument: two that are the same array would send the loop down its slow, unvectorised branch.
@compiled()
def sigmoid_(x):
    for j in range(len(x)):
        x[j] = f32(1.0) / (f32(1.0) + exponential(-x[j]))


@compiled()
def tanh_(x):
    for j in range(len(x)):
        x[j] = f32(2.0) / (f32(1.0) + exponential(f32(-2.0) * x[j])) - f32(1.0)


@compiled()
def tanh_into(x, y):
    for j in range(len(x)):
        y[j] = f32(2.0) / (f32(1.0) + exponential(f32(-2.0) * x[j])) - f32(1.0)


@compiled()
def cell_into(i, f, g, previous, c):
    for j in range(len(c)):
        c[j] = f[j] * previous[j] + i[j] * g[j]


@compiled()
def product_into(a, b, y):
    for j in range(len(y)):
        y[j] = a[j] * b[j]


@compiled(numba.void(ROWS, ROWS, ROWS, ROWS, numba.int64, numba.int64, numba.int64, numba.int64, ROW))
def step_forward(gates, cells, squashed, out, row, rows, previous, carried, zeros):
    """One time step of the rows `row` .. `row + rows`.

    gates (R, 4H) hold the sums that enter the gates i, f, g, o and get their activations; cells (R, H) get the cell states,
    squashed (R, H) their tanh, out (R, H) the outputs. The first `carried` rows go on from the rows at `previous`, the others
    start.
    """
    width = cells.shape[1]
    for b in range(rows):
        gate = gates[row + b]
        i, f, g, o = gate[:width], gate[width : 2 * width], gate[2 * width : 3 * width], gate[3 * width :]
        sigmoid_(gate[: 2 * width])
        tanh_(g)
        sigmoid_(o)
        cell_into(i, f, g, cells[previous + b] if b < carried else zeros, cells[row + b])
        tanh_into(cells[row + b], squashed[row + b])
        product_into(o, squashed[row + b], out[row + b])


@compiled()
def gradient_into(i, f, g, o, squashed, previous, grad_out, grad_hidden, grad_cell, di, df, dg, do):
    for j in range(len(squashed)):
        dh = grad_out[j] + grad_hidden[j]
        ij, fj, gj, oj, s = i[j], f[j], g[j], o[j], squashed[j]
        dc = grad_cell[j] + dh * oj * (f32(1.0) - s * s)
        di[j] = dc * gj * ij * (f32(1.0) - ij)
        df[j] = dc * previous[j] * fj * (f32(1.0) - fj)
        dg[j] = dc * ij * (f32(1.0) - gj * gj)
        do[j] = dh * s * oj * (f32(1.0) - oj)
        grad_cell[j] = dc * fj


@compiled(numba.void(ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, numba.int64, numba.int64, numba.int64, numba.int64, ROW))
def step_backward(gates, cells, squashed, sums, grad_out, grad_hidden, grad_cell, row, rows, previous, carried, zeros):
    """The gradient of `step_forward`: from the activations of the gates to sums (R, 4H), the gradients of what entered them.

    grad_out (R, H) comes from above; grad_hidden and grad_cell (B, H) come from the step after this one, and grad_cell is left
    for the step before.
    """
    width = cells.shape[1]
    for b in range(rows):
        gate, total = gates[row + b], sums[row + b]
        gradient_into(
            gate[:width],
            gate[width : 2 * width],
            gate[2 * width : 3 * width],
            gate[3 * width :],
            squashed[row + b],
            cells[previous + b] if b < carried else zeros,
            grad_out[row + b],
            grad_hidden[b],
            grad_cell[b],
            total[:width],
            total[width : 2 * width],
            total[2 * width : 3 * width],
            total[3 * width :],
        )
