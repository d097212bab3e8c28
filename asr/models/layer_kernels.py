"""All time steps of one direction of a layer, compiled: in each the product with the recurrent weights, then the cells.

One call for all of them, which lets go of Python's lock: two directions run side by side. `steps` (S, 4) are those of a
`asr.models.recurrence.Plan` in the order of reading: row, rows, previous, carried. `matrix` holds the recurrent weights as
`panels`; recurrent (rows, .) and room are scratch for the products of one step; the other arrays are those of `cell_kernels`.
"""

from asr.models.cell_kernels import (
    compiled,
    gru_backward,
    gru_forward,
    load,
    lstm_backward,
    lstm_forward,
    rnn_backward,
    rnn_forward,
    store,
)
from asr.models.product_kernels import multiply


@compiled()
def enter(outputs, previous, carried, rows, matrix, room, recurrent):
    """recurrent[:rows] get what the outputs before send; rows that nothing is carried on to get zero."""
    multiply(outputs, previous, carried, matrix, room, recurrent, False)
    recurrent[carried:rows] = 0.0


@compiled()
def read_lstm(steps, gates, matrix, peephole, cells, hidden, outputs, projection, projected, recurrent, room, zero, coupled):
    """outputs (., P) are `hidden` itself where there is no `projection` (panels of P columns; none: empty)."""
    for n in range(len(steps)):
        row, rows, previous, carried = steps[n, 0], steps[n, 1], steps[n, 2], steps[n, 3]
        enter(outputs, previous, carried, rows, matrix, room, recurrent)
        lstm_forward(gates, recurrent, peephole, cells, hidden, row, rows, previous, carried, zero, coupled)
        if len(projection):
            multiply(hidden, row, rows, projection, room, projected, False)
            for b in range(rows):
                given, out = projected[b], outputs[row + b]
                for j in range(len(out)):
                    store(out, j, given[j])


@compiled()
def read_rnn(steps, sums, matrix, hidden, recurrent, room, rectified):
    for n in range(len(steps)):
        row, rows, previous, carried = steps[n, 0], steps[n, 1], steps[n, 2], steps[n, 3]
        enter(hidden, previous, carried, rows, matrix, room, recurrent)
        rnn_forward(sums, recurrent, hidden, row, rows, rectified)


@compiled()
def read_gru(steps, gates, matrix, bias, inner, hidden, recurrent, room, zero):
    """bias (H,) enters the recurrent part of the candidate."""
    width = hidden.shape[1]
    for n in range(len(steps)):
        row, rows, previous, carried = steps[n, 0], steps[n, 1], steps[n, 2], steps[n, 3]
        enter(hidden, previous, carried, rows, matrix, room, recurrent)
        for b in range(rows):
            candidate = recurrent[b, 2 * width :]
            for j in range(width):
                candidate[j] += bias[j]
        gru_forward(gates, recurrent, inner, hidden, row, rows, previous, carried, zero)


# Back through time: the steps from the last to the first. grad_out (B, P) are the gradients that come back to the outputs, and
# are left for the step before; where cut[n], nothing comes back from step n.


@compiled()
def back_lstm(
    steps,
    cut,
    gates,
    peephole,
    cells,
    sums,
    above,
    from_above,
    grad_out,
    grad_hidden,
    grad_cell,
    grad_peephole,
    matrix,
    projection,
    room,
    zero,
    coupled,
):
    """With a projection above (R, P) becomes all of the gradient of the outputs, and from_above is one row of zeros; without
    one they are the same, and so are grad_hidden (B, H) and grad_out."""
    for n in range(len(steps) - 1, -1, -1):
        row, rows, previous, carried = steps[n, 0], steps[n, 1], steps[n, 2], steps[n, 3]
        if len(projection):
            for b in range(rows):
                total, later = above[row + b], grad_out[b]
                for j in range(len(later)):
                    store(total, j, load(total[j]) + later[j])
            multiply(above, row, rows, projection, room, grad_hidden, False)
        lstm_backward(
            gates,
            peephole,
            cells,
            sums,
            from_above,
            grad_hidden,
            grad_cell,
            grad_peephole,
            row,
            rows,
            previous,
            carried,
            zero,
            coupled,
        )
        if cut[n]:
            grad_out[:rows] = 0.0
            grad_cell[:rows] = 0.0
        else:
            multiply(sums, row, carried, matrix, room, grad_out, False)


@compiled()
def back_rnn(steps, cut, hidden, sums, above, grad_out, matrix, room, rectified):
    for n in range(len(steps) - 1, -1, -1):
        row, rows, carried = steps[n, 0], steps[n, 1], steps[n, 3]
        rnn_backward(hidden, sums, above, grad_out, row, rows, rectified)
        if cut[n]:
            grad_out[:rows] = 0.0
        else:
            multiply(sums, row, carried, matrix, room, grad_out, False)


@compiled()
def back_gru(steps, cut, gates, inner, hidden, sums, above, grad_out, matrix, room, zero):
    entered = sums[:, : 3 * hidden.shape[1]]
    for n in range(len(steps) - 1, -1, -1):
        row, rows, previous, carried = steps[n, 0], steps[n, 1], steps[n, 2], steps[n, 3]
        gru_backward(gates, inner, hidden, sums, above, grad_out, row, rows, previous, carried, zero)
        if cut[n]:
            grad_out[:rows] = 0.0
        else:
            multiply(entered, row, carried, matrix, room, grad_out, True)
