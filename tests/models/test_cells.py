"""Every cell: the compiled path, the readable one, and where torch has the layer, the library's, on the same weights."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.models import recurrence
from asr.models.cells import Cell, CellOptions
from asr.models.recurrent import ContextLayer, RecurrentLayer, build_layer, compiled_path, valid_frames

LENGTHS = torch.tensor([4, 9, 0, 7, 9, 1])
BATCH, FRAMES, SIZE, WIDTH = 6, 9, 4, 5
VARIANTS = {
    "rnn": CellOptions(cell="rnn"),
    "rnn-relu": CellOptions(cell="rnn", activation="relu"),
    "gru": CellOptions(cell="gru"),
    "lstm": CellOptions(),
    "lstm-projected": CellOptions(projection=3),
    "lstm-1997": CellOptions(forget_gate=False),
    "lstm-1997-peepholes": CellOptions(forget_gate=False, peepholes=True),
    "lstm-1997-peepholes-projected": CellOptions(forget_gate=False, peepholes=True, projection=3),
    "lstm-peepholes": CellOptions(peepholes=True),
    "lstm-peepholes-projected": CellOptions(peepholes=True, projection=3),
    "lstm-coupled": CellOptions(coupled=True),
    "lstm-coupled-peepholes": CellOptions(coupled=True, peepholes=True),
}
IN_LIBRARY = {"rnn", "rnn-relu", "gru", "lstm", "lstm-projected"}


def make_layer(name: str, *, bidirectional: bool = True, dtype: torch.dtype = torch.float64, **changes) -> RecurrentLayer:
    torch.manual_seed(0)
    layer = RecurrentLayer(SIZE, replace(VARIANTS[name], width=WIDTH, **changes), bidirectional=bidirectional).to(dtype)
    for weight in layer.parameters():
        nn.init.normal_(weight, 0.0, 0.5)
    return layer


def make_input(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(BATCH, FRAMES, SIZE, dtype=dtype, generator=torch.Generator().manual_seed(1)).requires_grad_()


def make_state(layer: RecurrentLayer) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    shapes = ((BATCH, layer.options.output_size), (BATCH, WIDTH))
    return tuple(torch.randn(shape, dtype=torch.float64, generator=draw).requires_grad_() for shape in shapes)


def unrolled(layer: RecurrentLayer, x: Tensor, lengths: Tensor) -> Tensor:
    ways = [(layer.ahead, False)] + ([] if layer.back is None else [(layer.back, True)])
    return torch.cat([cell.unroll(x, lengths, backwards=backwards)[0] for cell, backwards in ways], dim=2)


def gradients(outputs: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(3)
    loss = sum((out.double() * torch.randn(out.shape, dtype=torch.float64, generator=draw)).sum() for out in outputs)
    return list(torch.autograd.grad(loss, inputs, retain_graph=True))


def furthest(ours: list[Tensor], theirs: list[Tensor]) -> float:
    assert len(ours) == len(theirs) > 1
    return max(float((a - b).detach().abs().max()) for a, b in zip(ours, theirs))


def library_layer(layer: RecurrentLayer) -> nn.Module:
    """torch's module of the same kind with the weights of `layer`."""
    options = layer.options
    kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[options.cell]
    extra = {"nonlinearity": options.activation} if options.cell == "rnn" else {}
    extra |= {"proj_size": options.projection} if options.projection else {}
    twin = kind(SIZE, WIDTH, batch_first=True, bidirectional=layer.back is not None, **extra).double()
    weights = {}
    for cell, end in ((layer.ahead, "_l0"), (layer.back, "_l0_reverse")):
        if cell is not None:
            second = torch.zeros_like(cell.bias)
            if cell.bias_rec is not None:
                second[2 * WIDTH :] = cell.bias_rec
            weights |= {"weight_ih" + end: cell.weight_in, "weight_hh" + end: cell.weight_rec}
            weights |= {"bias_ih" + end: cell.bias, "bias_hh" + end: second}
            if cell.weight_proj is not None:
                weights["weight_hr" + end] = cell.weight_proj
    twin.load_state_dict({name: weight.detach() for name, weight in weights.items()})
    return twin


def test_the_table_of_what_the_library_has():
    assert {name for name, options in VARIANTS.items() if options.in_library} == IN_LIBRARY


@pytest.mark.parametrize("truncation", [0, 3])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("name", VARIANTS)
def test_compiled_equals_unrolled(name, bidirectional, truncation):
    layer, x = make_layer(name, bidirectional=bidirectional, truncation=truncation), make_input()
    assert compiled_path(layer.options, x)
    ours, plain = layer(x, LENGTHS), unrolled(layer, x, LENGTHS)
    assert float((ours - plain).detach().abs().max()) < 1e-12
    inputs = [x, *layer.parameters()]
    assert furthest(gradients([ours], inputs), gradients([plain], inputs)) < 1e-11


@pytest.mark.parametrize("name", VARIANTS)
def test_gradcheck(name):
    layer = make_layer(name, bidirectional=name != "lstm-peepholes-projected")
    lengths = torch.tensor([3, 0, 2])
    x = torch.randn(3, 3, SIZE, dtype=torch.float64, requires_grad=True)
    weights = list(layer.parameters())

    def run(x, *_):
        return layer(x, lengths)

    assert torch.autograd.gradcheck(run, (x, *weights))


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("name", sorted(IN_LIBRARY))
def test_compiled_equals_the_library_on_packed_sequences(name, bidirectional):
    layer, x = make_layer(name, bidirectional=bidirectional), make_input()
    lengths = LENGTHS.clamp(min=1)  # a packed batch takes no empty utterance
    twin = library_layer(layer)
    packed, _ = twin(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    theirs = pad_packed_sequence(packed, batch_first=True, total_length=FRAMES)[0]
    ours = layer(x, lengths)
    assert float((ours - theirs).detach().abs().max()) < 1e-10
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0"] + (["weight_hr_l0"] if layer.options.projection else [])
    mine = [layer.ahead.weight_in, layer.ahead.weight_rec, layer.ahead.bias]
    mine += [layer.ahead.weight_proj] if layer.options.projection else []
    assert furthest(gradients([ours], [x, *mine]), gradients([theirs], [x, *(getattr(twin, name) for name in names)])) < 1e-10


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("name", sorted(IN_LIBRARY))
def test_evaluation_runs_the_library_and_says_the_same(name, bidirectional):
    layer, x = make_layer(name, bidirectional=bidirectional), make_input()
    trained = layer(x, LENGTHS)
    with torch.no_grad():
        assert compiled_path(layer.options, x) == (name == "lstm-projected")  # slow in torch on a CPU
        assert float((layer(x, LENGTHS) - trained).abs().max()) < 1e-10


@pytest.mark.parametrize("truncation", [0, 3])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_state_carried_over_a_split_is_the_whole(name, truncation):
    layer, x = make_layer(name, bidirectional=False, truncation=truncation), make_input()
    start = make_state(layer)
    whole, last = layer.run(x, LENGTHS, start)
    first, between = layer.run(x[:, :6], LENGTHS.clamp(max=6), start)
    second, end = layer.run(x[:, 6:], (LENGTHS - 6).clamp(min=0), between)
    assert torch.allclose(torch.cat([first, second], dim=1), whole, rtol=0, atol=1e-12)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(end, last))
    plain, plain_last, _ = layer.ahead.unroll(x, LENGTHS, start)
    inputs = [x, *layer.parameters(), start[0]]
    ours, theirs = [whole, last[0]], [plain, plain_last[0]]
    if layer.options.cell == "lstm":
        inputs, ours, theirs = [*inputs, start[1]], [*ours, last[1]], [*theirs, plain_last[1]]
    assert furthest(ours, theirs) < 1e-12
    assert furthest(gradients(ours, inputs), gradients(theirs, inputs)) < 1e-11
    if not truncation:
        assert furthest(gradients([first, second, *end[: len(ours) - 1]], inputs), gradients(ours_split(ours), inputs)) < 1e-11


def ours_split(outputs: list[Tensor]) -> list[Tensor]:
    """The outputs of a whole sequence in the pieces of its split, so that the same random pulls meet the same values."""
    return [outputs[0][:, :6], outputs[0][:, 6:], *outputs[1:]]


def test_a_run_without_a_state_starts_from_zero():
    layer, x = make_layer("lstm-peepholes", bidirectional=False), make_input()
    assert torch.equal(layer.run(x, LENGTHS)[0], layer.run(x, LENGTHS, layer.ahead.start(BATCH))[0])
    assert torch.allclose(layer.run(x, LENGTHS)[0], layer(x, LENGTHS), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", VARIANTS)
def test_alone_is_in_a_padded_batch(name):
    layer, x = make_layer(name, dtype=torch.float32), make_input(torch.float32)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            together = layer(x, LENGTHS)
            for row, length in enumerate(LENGTHS.tolist()):
                if length:
                    alone = layer(x[row : row + 1, :length], LENGTHS[row : row + 1])
                    assert torch.allclose(alone[0], together[row, :length], rtol=0, atol=1e-5)
            assert (together[~valid_frames(LENGTHS, FRAMES)] == 0).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_bfloat16_is_float32_within_its_rounding(name):
    layer, x = make_layer(name, dtype=torch.float32), make_input(torch.float32)
    inputs = [x, *layer.parameters()]
    exact = layer(x, LENGTHS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = layer(x, LENGTHS)
    assert rounded.dtype == torch.bfloat16
    assert 0 < float((exact - rounded).detach().abs().max()) < 0.05 * max(1.0, float(exact.detach().abs().max()))
    for a, b in zip(gradients([exact], inputs), gradients([rounded], inputs)):
        assert a.dtype == b.dtype == torch.float32
        assert float((a - b).norm()) < 0.05 * float(a.norm())


def test_truncation_cuts_what_is_older_and_nothing_else():
    layer, x = make_layer("lstm", bidirectional=False, truncation=4), make_input()
    out = layer(x, LENGTHS)
    (reached,) = torch.autograd.grad(out[1, 6].sum(), x)
    assert (reached[1, :4] == 0).all()
    assert (reached[1, 4:7] != 0).all()
    assert (reached[1, 7:] == 0).all()


def test_the_input_and_forget_gates_see_the_state_before_and_the_output_gate_the_one_after():
    cell = Cell(1, CellOptions(width=1, peepholes=True)).double()
    with torch.no_grad():
        for weight in (cell.weight_in, cell.weight_rec, cell.bias):
            weight.zero_()
        cell.bias[2] = 100.0  # the candidate is one
        cell.peephole.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        _, state, gates = cell.step(cell.bias.unsqueeze(0), torch.zeros(1, 1).double(), torch.full((1, 1), 0.5).double())
    logistic = torch.sigmoid(torch.tensor([0.5, 1.0], dtype=torch.float64))
    assert [float(gates["input"]), float(gates["forget"])] == pytest.approx(logistic.tolist())
    after = float(logistic[1] * 0.5 + logistic[0])
    assert float(state) == pytest.approx(after)
    assert float(gates["output"]) == pytest.approx(1 / (1 + 2.718281828459045 ** (-3 * after)))


def test_the_carrousel_of_1997_carries_its_state_unchanged():
    layer = make_layer("lstm-1997", bidirectional=False)
    with torch.no_grad():
        layer.ahead.bias.view(3, WIDTH)[0] = -1e3  # input gates shut
        _, (_, state) = layer.run(make_input(), LENGTHS, (torch.zeros(BATCH, WIDTH).double(), torch.ones(BATCH, WIDTH).double()))
    assert (state == 1).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_trace_is_what_the_layer_computes(name):
    layer, x = make_layer(name), make_input()
    traces = layer.trace(x, LENGTHS)
    assert len(traces) == 2
    expected = {
        "rnn": {"hidden"},
        "gru": {"reset", "update", "candidate", "hidden"},
        "lstm": {"input", "candidate", "cell", "output", "hidden"},
    }[layer.options.cell]
    if layer.options.cell == "lstm" and layer.options.forget_gate:
        expected = expected | {"forget"}
    for trace in traces:
        assert set(trace) == expected
        assert all(value.shape == (BATCH, FRAMES, WIDTH) for value in trace.values())
    if not layer.options.projection:
        assert torch.allclose(torch.cat([trace["hidden"] for trace in traces], dim=2), layer(x, LENGTHS), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_start_values(name):
    options = replace(VARIANTS[name], width=8, projection=0)
    cell = Cell(3, options)
    cell.initialize("orthogonal", 1.5)
    for gate in cell.weight_rec.chunk(len(options.gates)):
        assert torch.allclose(gate @ gate.t(), torch.eye(8), atol=1e-5)
    shift = {"forget": 1.5} if "forget" in options.gates else {"input": -1.5} if options.coupled else {}
    for gate, bias in zip(options.gates, cell.bias.chunk(len(options.gates))):
        assert (bias == shift.get(gate, 0.0)).all()
    if cell.peephole is not None:
        assert (cell.peephole == 0).all()
    cell.initialize("uniform", 0.0)
    for weight in cell.parameters():
        assert 0.0 < float(weight.abs().max()) <= 0.1


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(("context", "bidirectional"), [(0, True), (2, True), (2, False), (20, True)])
def test_a_context_layer_is_one_product_over_its_window(context, bidirectional, activation):
    torch.manual_seed(0)
    options = CellOptions(cell="mlp", width=WIDTH, context=context, activation=activation)
    layer = build_layer(SIZE, options, bidirectional=bidirectional).double()
    assert isinstance(layer, ContextLayer)
    x = make_input()
    spoilt = x.detach().clone()
    spoilt[~valid_frames(LENGTHS, FRAMES)] = 1e6
    out = layer(spoilt, LENGTHS)
    assert out.shape == (BATCH, FRAMES, layer.output_size) == (BATCH, FRAMES, WIDTH)
    for row, length in enumerate(LENGTHS.tolist()):
        assert (out[row, length:] == 0).all()
        for t in range(length):
            seen = range(t - context, t + (context if bidirectional else 0) + 1)
            window = torch.cat([x[row, s] if 0 <= s < length else torch.zeros(SIZE).double() for s in seen])
            assert torch.allclose(out[row, t], getattr(torch, activation)(layer.linear(window)), rtol=0, atol=1e-12)
    assert torch.equal(layer.trace(spoilt, LENGTHS)[0]["hidden"], out)


def test_nothing_to_read_for_any_layer():
    for cell in ("mlp", "rnn", "lstm", "gru"):
        layer = build_layer(2, CellOptions(cell=cell, width=3))
        for size in ((0, 4), (3, 0)):
            assert layer(torch.zeros(*size, 2), torch.zeros(size[0], dtype=torch.long)).shape == (*size, layer.output_size)


def test_plan_of_a_run_that_starts_from_states():
    plan = recurrence.make_plan((1, 3, 0), 4, True)
    assert plan.order.tolist() == [1, 0, 2]
    assert [tuple(step) for step in plan.steps[0]] == [(0, 2, 4, 2), (2, 1, 0, 1), (3, 1, 2, 1)]
    assert plan.before[0].tolist() == [4, 5, 0, 2]
    assert plan.last.tolist() == [1, 3, 6]  # the empty utterance ends where it starts
