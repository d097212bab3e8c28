"""Training of one tiny recurrent network with a readout at the last step, compiled: forward, backward, Adam, all in one call.

Arrays are float32 with the sequences of a batch (B) innermost: inputs (T, D, B), sums and activations (T, n H, B) for n gates,
outputs and cell states (T + 1, H, B) with the start at 0. Weights have the shapes and the order of gates of
`asr.models.cells.Cell`. The interpreter lock is not held, so several networks train side by side in threads.
"""

from typing import NamedTuple

import numpy as np

from asr.models.cell_kernels import compiled, exponential, hyperbolic, logistic

f32 = np.float32
RNN, LSTM, GRU = 0, 1, 2
# Functions that call each other: with fast arithmetic their sums would depend on whether the compiled code is new or cached.
exact = compiled(fastmath=False)


class Network(NamedTuple):
    """What the kernels need to know of a network; a tuple, so that it can enter compiled code.

    family: RNN | LSTM | GRU. relu, forget, coupled, peepholes: its switches. inputs D, cells H, outputs O of the readout;
    classify: softmax and cross entropy over the O outputs, otherwise half the squared error of one linear output.
    """

    family: int
    relu: bool
    forget: bool
    coupled: bool
    peepholes: bool
    inputs: int
    cells: int
    outputs: int
    classify: bool


@exact
def gates_of(net):
    return 1 if net.family == RNN else 3 if net.family == GRU else 4 if net.forget else 3


@exact
def shapes_of(net):
    """Rows and columns of: input weights, recurrent weights, biases, the gru's recurrent bias, peepholes, readout, its bias."""
    n, h = gates_of(net), net.cells
    gru = h if net.family == GRU else 0
    peep = n - 1 if net.peepholes else 0
    return (
        (n * h, net.inputs),
        (n * h, h),
        (1, n * h),
        (1, gru),
        (peep, h),
        (net.outputs, h),
        (1, net.outputs),
    )


@exact
def parts_of(net, flat):
    """The weights as views into one vector, in the order of `shapes_of`."""
    shapes = shapes_of(net)
    ends = np.zeros(8, np.int64)
    for k, (rows, columns) in enumerate(shapes):
        ends[k + 1] = ends[k] + rows * columns
    return (
        flat[ends[0] : ends[1]].reshape(shapes[0]),
        flat[ends[1] : ends[2]].reshape(shapes[1]),
        flat[ends[2] : ends[3]],
        flat[ends[3] : ends[4]],
        flat[ends[4] : ends[5]].reshape(shapes[4]),
        flat[ends[5] : ends[6]].reshape(shapes[5]),
        flat[ends[6] : ends[7]],
    )


# Each row function works on contiguous rows, so that the loops run in vector registers.


@exact
def add_row(total, weight, row):
    for b in range(len(total)):
        total[b] += weight * row[b]


@exact
def product(matrix, rows, total):
    """total (n, B) += matrix (n, k) rows (k, B)."""
    n, k = matrix.shape
    batch, whole = rows.shape[1], k - k % 4
    for i in range(n):
        for j in range(0, whole, 4):
            w, x, y, z = matrix[i, j], matrix[i, j + 1], matrix[i, j + 2], matrix[i, j + 3]
            for b in range(batch):
                total[i, b] += w * rows[j, b] + x * rows[j + 1, b] + y * rows[j + 2, b] + z * rows[j + 3, b]
        for j in range(whole, k):
            w = matrix[i, j]
            for b in range(batch):
                total[i, b] += w * rows[j, b]


@exact
def dot(a, b):
    total = f32(0.0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@exact
def outer(left, right, total):
    """total (n, k) += left (n, B) right (k, B) transposed."""
    batch = left.shape[1]
    for i in range(len(left)):
        for j in range(len(right)):
            part = f32(0.0)
            for b in range(batch):
                part += left[i, b] * right[j, b]
            total[i, j] += part


@exact
def transposed(matrix):
    turned = np.empty((matrix.shape[1], matrix.shape[0]), f32)
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            turned[j, i] = matrix[i, j]
    return turned


@exact
def squash(gate, relu):
    if relu:
        for j in range(len(gate)):
            gate[j] = max(gate[j], f32(0.0))
    else:
        for j in range(len(gate)):
            gate[j] = hyperbolic(gate[j])


@exact
def open_gate(gate):
    for j in range(len(gate)):
        gate[j] = logistic(gate[j])


@exact
def add_peepholes(gate, peephole, state):
    for h in range(len(peephole)):
        add_row(gate[h], peephole[h], state[h])


@exact
def forward(net, flat, x, gates, hidden, cells, recurrent):
    """Run x (T, D, B) from a state of zero: gates (T, n H, B) get the activations, hidden and cells (T + 1, H, B) the states.

    recurrent (T, H, B): what the gru's candidate gets from the recurrent weights, before the reset gate.
    """
    w_in, w_rec, bias, bias_rec, peep, _, _ = parts_of(net, flat)
    h = net.cells
    hidden[0] = 0.0
    cells[0] = 0.0
    for t in range(len(x)):
        gate, before, after = gates[t], hidden[t], hidden[t + 1]
        for i in range(len(bias)):
            gate[i, :] = bias[i]
        product(w_in, x[t], gate)
        if net.family == GRU:
            product(w_rec[: 2 * h], before, gate[: 2 * h])
            for i in range(h):
                recurrent[t, i, :] = bias_rec[i]
            product(w_rec[2 * h :], before, recurrent[t])
            gru_step(gate.reshape(-1), recurrent[t].reshape(-1), before.reshape(-1), after.reshape(-1))
            continue
        product(w_rec, before, gate)
        if net.family == RNN:
            squash(gate.reshape(-1), net.relu)
            after[:] = gate
        else:
            lstm_step(net, gate, peep, cells[t], cells[t + 1], after)


@exact
def lstm_step(net, gate, peep, before, after, out):
    h = net.cells
    n = len(gate) // h
    if net.peepholes:
        add_peepholes(gate[:h], peep[0], before)
        if net.forget:
            add_peepholes(gate[h : 2 * h], peep[1], before)
    open_gate(gate[: (n - 2) * h].reshape(-1))
    squash(gate[(n - 2) * h : (n - 1) * h].reshape(-1), False)
    i, f, g = gate[:h].reshape(-1), gate[h : 2 * h].reshape(-1), gate[(n - 2) * h : (n - 1) * h].reshape(-1)
    old, new = before.reshape(-1), after.reshape(-1)
    if net.forget:
        for j in range(len(new)):
            new[j] = f[j] * old[j] + i[j] * g[j]
    elif net.coupled:
        for j in range(len(new)):
            new[j] = old[j] + i[j] * (g[j] - old[j])
    else:
        for j in range(len(new)):
            new[j] = old[j] + i[j] * g[j]
    if net.peepholes:
        add_peepholes(gate[(n - 1) * h :], peep[n - 2], after)
    o, shown = gate[(n - 1) * h :].reshape(-1), out.reshape(-1)
    open_gate(o)
    for j in range(len(shown)):
        shown[j] = o[j] * hyperbolic(new[j])


@exact
def gru_step(gate, recurrent, before, after):
    size = len(after)
    open_gate(gate[: 2 * size])
    r, z, n = gate[:size], gate[size : 2 * size], gate[2 * size :]
    for j in range(size):
        n[j] = hyperbolic(n[j] + r[j] * recurrent[j])
        after[j] = (f32(1.0) - z[j]) * n[j] + z[j] * before[j]


@exact
def readout(net, flat, last):
    """Outputs (O, B) for the hidden states (H, B) of the last step."""
    _, _, _, _, _, weights, bias = parts_of(net, flat)
    out = np.empty((net.outputs, last.shape[1]), f32)
    for i in range(net.outputs):
        out[i, :] = bias[i]
    product(weights, last, out)
    return out


@exact
def output_error(net, out, targets):
    """Loss summed over the batch; `out` (O, B) becomes its gradient. Targets (B,): a number, or the number of a class."""
    loss = f32(0.0)
    for b in range(len(targets)):
        if not net.classify:
            out[0, b] -= targets[b]
            loss += f32(0.5) * out[0, b] * out[0, b]
            continue
        top = out[:, b].max()
        total = f32(0.0)
        right = int(targets[b])
        for i in range(net.outputs):
            out[i, b] = exponential(out[i, b] - top)
            total += out[i, b]
        loss -= np.log(out[right, b] / total)
        for i in range(net.outputs):
            out[i, b] /= total
        out[right, b] -= f32(1.0)
    return loss


@exact
def gradient(net, flat, x, targets, found, gates, hidden, cells, recurrent):
    """Mean loss of a batch; `found`, a vector like `flat`, gets its gradient. The other arrays are work space."""
    steps, batch = len(x), x.shape[2]
    gates, hidden, cells, recurrent = gates[:steps], hidden[: steps + 1], cells[: steps + 1], recurrent[:steps]
    forward(net, flat, x, gates, hidden, cells, recurrent)
    out = readout(net, flat, hidden[steps])
    loss = output_error(net, out, targets)
    found[:] = 0.0
    _, w_rec, _, _, peep, weights, _ = parts_of(net, flat)
    d_in, d_rec, d_bias, d_bias_rec, d_peep, d_weights, d_out = parts_of(net, found)
    outer(out, hidden[steps], d_weights)
    for i in range(net.outputs):
        d_out[i] = out[i].sum()
    h = net.cells
    turned = transposed(w_rec)
    dh, dc = np.zeros((h, batch), f32), np.zeros((h, batch), f32)
    product(transposed(weights), out, dh)
    for t in range(steps - 1, -1, -1):
        gate, before = gates[t], hidden[t]
        if net.family == GRU:
            # the sums below get the gradients of the gates' sums; the candidate's recurrent sum has its own
            gru_back(gate.reshape(-1), recurrent[t].reshape(-1), before.reshape(-1), dh.reshape(-1))
            outer(gate[: 2 * h], before, d_rec[: 2 * h])
            outer(recurrent[t], before, d_rec[2 * h :])
            for i in range(h):
                d_bias_rec[i] += recurrent[t, i].sum()
            product(turned[:, : 2 * h], gate[: 2 * h], dh)
            product(turned[:, 2 * h :], recurrent[t], dh)
        else:
            if net.family == RNN:
                rnn_back(gate.reshape(-1), dh.reshape(-1), net.relu)
            else:
                lstm_back(net, gate, peep, d_peep, cells[t], cells[t + 1], dh, dc)
            outer(gate, before, d_rec)
            dh[:] = 0.0
            product(turned, gate, dh)
        outer(gate, x[t], d_in)
        for i in range(len(d_bias)):
            d_bias[i] += gate[i].sum()
    found /= f32(batch)
    return loss / f32(batch)


@exact
def rnn_back(gate, dh, relu):
    """Activations of a step, in exchange for the gradient of its sums."""
    if relu:
        for j in range(len(gate)):
            gate[j] = dh[j] if gate[j] > f32(0.0) else f32(0.0)
    else:
        for j in range(len(gate)):
            gate[j] = dh[j] * (f32(1.0) - gate[j] * gate[j])


@exact
def lstm_back(net, gate, peep, d_peep, before, after, dh, dc):
    """As `rnn_back`; dc (H, B) comes from the step after this one and is left for the one before."""
    h = net.cells
    n = len(gate) // h
    i, f, g = gate[:h].reshape(-1), gate[h : 2 * h].reshape(-1), gate[(n - 2) * h : (n - 1) * h].reshape(-1)
    o, old, new = gate[(n - 1) * h :].reshape(-1), before.reshape(-1), after.reshape(-1)
    grad, carried = dh.reshape(-1), dc.reshape(-1)
    for j in range(len(o)):
        shown = hyperbolic(new[j])
        carried[j] += grad[j] * o[j] * (f32(1.0) - shown * shown)
        o[j] = grad[j] * shown * o[j] * (f32(1.0) - o[j])
    if net.peepholes:
        add_peepholes(dc, peep[n - 2], gate[(n - 1) * h :])
        for k in range(h):
            d_peep[n - 2, k] += dot(gate[(n - 1) * h + k], after[k])
    if net.forget:
        for j in range(len(o)):
            d = carried[j]
            carried[j] = d * f[j]
            f[j] = d * old[j] * f[j] * (f32(1.0) - f[j])
            di = d * g[j] * i[j] * (f32(1.0) - i[j])
            g[j] = d * i[j] * (f32(1.0) - g[j] * g[j])
            i[j] = di
    else:
        share = f32(1.0) if net.coupled else f32(0.0)
        for j in range(len(o)):
            d = carried[j]
            carried[j] = d * (f32(1.0) - share * i[j])
            di = d * (g[j] - share * old[j]) * i[j] * (f32(1.0) - i[j])
            g[j] = d * i[j] * (f32(1.0) - g[j] * g[j])
            i[j] = di
    if net.peepholes:
        for block in range(n - 2):
            add_peepholes(dc, peep[block], gate[block * h : (block + 1) * h])
            for k in range(h):
                d_peep[block, k] += dot(gate[block * h + k], before[k])


@exact
def gru_back(gate, recurrent, before, dh):
    """As `rnn_back`; `recurrent` becomes the gradient of the candidate's recurrent sum, dh what flows back past the gates."""
    size = len(before)
    r, z, n = gate[:size], gate[size : 2 * size], gate[2 * size :]
    for j in range(size):
        d = dh[j]
        dn = d * (f32(1.0) - z[j]) * (f32(1.0) - n[j] * n[j])
        dz = d * (before[j] - n[j]) * z[j] * (f32(1.0) - z[j])
        dh[j] = d * z[j]
        dr = dn * recurrent[j] * r[j] * (f32(1.0) - r[j])
        recurrent[j] = dn * r[j]
        r[j], z[j], n[j] = dr, dz, dn


@exact
def train(net, flat, mean, square, step, x, lengths, targets, rate, clip):
    """`len(lengths)` updates by Adam (0.9, 0.999) with the gradient's norm limited to `clip`, in place; returns the mean loss.

    x (N, T, D, B) and targets (N, B) hold one batch per update, of which the first `lengths[k]` steps count; mean and square
    are Adam's moments, step how many updates came before.
    """
    updates, longest, _, batch = x.shape
    found = np.empty(len(flat), f32)
    gates = np.empty((longest, gates_of(net) * net.cells, batch), f32)
    hidden = np.empty((longest + 1, net.cells, batch), f32)
    cells = np.empty((longest + 1, net.cells, batch), f32)
    recurrent = np.empty((longest, net.cells, batch), f32)
    total = 0.0
    for k in range(updates):
        total += gradient(net, flat, x[k, : lengths[k]], targets[k], found, gates, hidden, cells, recurrent)
        norm = np.sqrt(dot(found, found))
        if not norm < f32(1e30):  # too large, or not a number: this batch teaches nothing
            continue
        scale = f32(clip) / norm if norm > clip else f32(1.0)
        count = step + k + 1
        slow, fast = f32(1.0 - 0.999**count), f32(1.0 - 0.9**count)
        for j in range(len(flat)):
            g = scale * found[j]
            mean[j] = f32(0.9) * mean[j] + f32(0.1) * g
            square[j] = f32(0.999) * square[j] + f32(0.001) * g * g
            flat[j] -= f32(rate) * (mean[j] / fast) / (np.sqrt(square[j] / slow) + f32(1e-8))
    return total / updates


@exact
def outputs(net, flat, x):
    """Readout (O, B) after the last step of x (T, D, B)."""
    steps, batch = len(x), x.shape[2]
    gates = np.empty((steps, gates_of(net) * net.cells, batch), f32)
    hidden = np.empty((steps + 1, net.cells, batch), f32)
    cells = np.empty((steps + 1, net.cells, batch), f32)
    recurrent = np.empty((steps, net.cells, batch), f32)
    forward(net, flat, x, gates, hidden, cells, recurrent)
    return readout(net, flat, hidden[steps])
