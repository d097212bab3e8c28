"""The matrix products between the time steps, compiled: few rows, whose weights stay as they are from step to step.

A library's product of six rows by a matrix of a megabyte spends its time on copying the matrix into the order that it likes
best. Here that is done once for all steps (`panels`), and bfloat16 is widened while it is read. Sums are in float32 or float64.
"""

import numpy as np

from asr.models.cell_kernels import compiled, load

#: Columns that are summed at once; a constant, so that the loops run in vector registers.
PANEL = 128


def panels(matrix: np.ndarray) -> np.ndarray:
    """(K, N) -> one dimension: for each PANEL columns, the last ones filled up with zeros, their K rows."""
    size, columns = matrix.shape
    wide = np.zeros((size, -(-columns // PANEL) * PANEL), matrix.dtype)
    wide[:, :columns] = matrix
    return wide.reshape(size, -1, PANEL).transpose(1, 0, 2).ravel()


# Arrays are cut where a loop begins, so that it counts from zero: an index that might be negative would not be vectorised.


@compiled(inline="always")
def four_by_four(x, row, k, weights, sums):
    a0, a1, a2, a3 = load(x[row, k]), load(x[row, k + 1]), load(x[row, k + 2]), load(x[row, k + 3])
    b0, b1, b2, b3 = load(x[row + 1, k]), load(x[row + 1, k + 1]), load(x[row + 1, k + 2]), load(x[row + 1, k + 3])
    c0, c1, c2, c3 = load(x[row + 2, k]), load(x[row + 2, k + 1]), load(x[row + 2, k + 2]), load(x[row + 2, k + 3])
    d0, d1, d2, d3 = load(x[row + 3, k]), load(x[row + 3, k + 1]), load(x[row + 3, k + 2]), load(x[row + 3, k + 3])
    for j in range(PANEL):
        w0, w1, w2, w3 = load(weights[j]), load(weights[PANEL + j]), load(weights[2 * PANEL + j]), load(weights[3 * PANEL + j])
        sums[j] += a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3
        sums[PANEL + j] += b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3
        sums[2 * PANEL + j] += c0 * w0 + c1 * w1 + c2 * w2 + c3 * w3
        sums[3 * PANEL + j] += d0 * w0 + d1 * w1 + d2 * w2 + d3 * w3


@compiled(inline="always")
def two_by_four(x, row, k, weights, sums):
    a0, a1, a2, a3 = load(x[row, k]), load(x[row, k + 1]), load(x[row, k + 2]), load(x[row, k + 3])
    b0, b1, b2, b3 = load(x[row + 1, k]), load(x[row + 1, k + 1]), load(x[row + 1, k + 2]), load(x[row + 1, k + 3])
    for j in range(PANEL):
        w0, w1, w2, w3 = load(weights[j]), load(weights[PANEL + j]), load(weights[2 * PANEL + j]), load(weights[3 * PANEL + j])
        sums[j] += a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3
        sums[PANEL + j] += b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3


@compiled(inline="always")
def one_by_four(x, row, k, weights, sums):
    a0, a1, a2, a3 = load(x[row, k]), load(x[row, k + 1]), load(x[row, k + 2]), load(x[row, k + 3])
    for j in range(PANEL):
        w0, w1, w2, w3 = load(weights[j]), load(weights[PANEL + j]), load(weights[2 * PANEL + j]), load(weights[3 * PANEL + j])
        sums[j] += a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3


@compiled(inline="always")
def one_by_one(x, row, k, weights, sums):
    a = load(x[row, k])
    for j in range(PANEL):
        sums[j] += a * load(weights[j])


@compiled()
def multiply(x, first, rows, matrix, sums, out, add):
    """out[:rows] = x[first : first + rows] times a matrix (K, N), or that added to it.

    x (., K) and `matrix`, its `panels`, hold float32, float64 or the bits of bfloat16; out (., N) and sums, room for at least
    `rows` times PANEL numbers, float32 or float64.
    """
    size, columns = x.shape[1], out.shape[1]
    whole = size - size % 4
    for start in range(0, columns, PANEL):
        panel = matrix[start * size : (start + PANEL) * size]
        sums[: rows * PANEL] = 0.0
        for k in range(0, whole, 4):
            weights = panel[k * PANEL : (k + 4) * PANEL]
            row = 0
            while row + 4 <= rows:
                four_by_four(x, first + row, k, weights, sums[row * PANEL : (row + 4) * PANEL])
                row += 4
            if row + 2 <= rows:
                two_by_four(x, first + row, k, weights, sums[row * PANEL : (row + 2) * PANEL])
                row += 2
            if row < rows:
                one_by_four(x, first + row, k, weights, sums[row * PANEL : (row + 1) * PANEL])
        for k in range(whole, size):
            for row in range(rows):
                one_by_one(x, first + row, k, panel[k * PANEL : (k + 1) * PANEL], sums[row * PANEL : (row + 1) * PANEL])
        many = min(PANEL, columns - start)
        for row in range(rows):
            total, result = sums[row * PANEL : row * PANEL + many], out[row, start : start + many]
            if add:
                for j in range(many):
                    result[j] += total[j]
            else:
                for j in range(many):
                    result[j] = total[j]
