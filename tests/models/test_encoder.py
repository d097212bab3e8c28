"""The encoder: lengths, padding, options, start values."""

from dataclasses import fields
from itertools import product
from typing import Any

import pytest
import torch
from torch.nn.functional import conv2d

from asr.errors import UsageError
from asr.models import encoder as encoder_module
from asr.models.cells import CELLS
from asr.models.encoder import FRONTENDS, ConvFrontend, Dropout, Encoder, EncoderOptions, StackFrontend

SMALL = {"conv_channels": 3, "width": 4, "layers": 2, "dropout": 0.0}
#: One value for each option that is not its default.
OTHER = {
    "frontend": "stack",
    "subsampling": 3,
    "conv_channels": 5,
    "conv_blocks": 2,
    "projection": 6,
    "cell": "gru",
    "layers": 1,
    "width": 3,
    "bidirectional": False,
    "dropout": 0.5,
    "locked_dropout": True,
    "layer_norm": False,
    "forget_bias": 2.0,
    "initialization": "uniform",
    "activation": "relu",
    "forget_gate": False,
    "peepholes": True,
    "coupled": True,
    "cell_projection": 3,
    "context": 1,
    "truncation": 2,
    "input_noise": 0.6,
    "self_conditioned": 1,
}
#: What an option needs beside it.
BESIDE = {
    "activation": {"cell": "rnn"},
    "context": {"cell": "mlp"},
    "peepholes": {"initialization": "uniform"},
    "locked_dropout": {"dropout": 0.5},
}


def build(**options) -> Encoder:
    torch.manual_seed(7)
    return Encoder(EncoderOptions(**{**SMALL, **options}), 11, vocabulary=6)


def run(encoder: Encoder, features: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(8)
    return encoder(features, torch.tensor([features.shape[1]] * len(features)))[0]


def shapes() -> list[dict[str, Any]]:
    names = ("frontend", "subsampling", "cell", "bidirectional")
    every = [dict(zip(names, shape)) for shape in product(FRONTENDS, (1, 2, 3, 4, 6), CELLS, (True, False))]
    blocks = [{"conv_blocks": 2, "subsampling": subsampling} for subsampling in (1, 4)]
    conditioned = [{"cell": cell, "self_conditioned": 1} for cell in CELLS]
    return every + blocks + conditioned + [{"cell": "mlp", "layers": 3, "self_conditioned": 2}]


@pytest.mark.parametrize("options", shapes(), ids=lambda options: "-".join(str(value) for value in options.values()))
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
def test_padding_never_changes_an_answer(options, dtype, rounding):
    """In float32 without normalisation, which magnifies the rounding of a frame of little variance a hundredfold."""
    encoder = build(**options, layer_norm=dtype == torch.float64).to(dtype).eval()
    lengths = torch.tensor([23, 0, 1, 8, 13, 23])
    features = torch.randn(6, 23, 11).to(dtype)  # what stands in the padding is not zero: it must not matter
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            out, out_lengths = encoder(features, lengths)
            assert out.shape == (6, encoder.output_length(23), encoder.output_size)
            assert out_lengths.tolist() == [encoder.output_length(length) for length in lengths.tolist()]
            for row, length in enumerate(lengths.tolist()):
                alone, alone_length = encoder(features[row : row + 1, :length], lengths[row : row + 1])
                assert alone.shape[1] == int(alone_length)
                assert torch.allclose(alone[0], out[row, : alone.shape[1]], rtol=0, atol=rounding)
                assert (out[row, alone.shape[1] :] == 0).all()


@pytest.mark.parametrize(("frontend", "subsampling"), list(product(FRONTENDS, (1, 2, 3, 4, 6))))
def test_lengths_of_every_short_utterance(frontend, subsampling):
    encoder = build(frontend=frontend, subsampling=subsampling, layers=1).eval()
    for frames in range(14):
        out, lengths = encoder(torch.randn(1, frames, 11), torch.tensor([frames]))
        assert out.shape[1] == int(lengths) == encoder.output_length(frames) == -(-frames // subsampling)


@pytest.mark.parametrize("subsampling", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("blocks", [0, 2])
def test_the_convolutions_are_those_of_the_library_on_each_utterance_alone(subsampling, blocks):
    frontend = ConvFrontend(EncoderOptions(subsampling=subsampling, conv_channels=4, conv_blocks=blocks), 11)
    features, lengths = torch.randn(3, 23, 11), torch.tensor([23, 14, 1])
    together = frontend(features, lengths)
    for row, length in enumerate(lengths.tolist()):
        x = features[row : row + 1, None, :length]
        for layer, stride in ((frontend.first, frontend.strides[0]), (frontend.second, frontend.strides[1])):
            x = conv2d(x, layer.weight, layer.bias, stride=(stride, 2), padding=1).clamp(min=0)
        for block in frontend.blocks:
            x = x + conv2d(x, block.weight, block.bias, padding=1).clamp(min=0)
        alone = torch.stack([x[0, :, t].flatten() for t in range(x.shape[2])])
        assert torch.allclose(together[row, : len(alone)], alone, atol=1e-5)


def test_the_gradients_of_the_convolutions_lie_as_their_weights_do():
    """Else several processes, which lay the gradients of all weights end to end, warn."""
    frontend = ConvFrontend(EncoderOptions(conv_channels=4, conv_blocks=1), 11)
    frontend(torch.randn(2, 9, 11), torch.tensor([9, 6])).sum().backward()
    for weight in frontend.parameters():
        assert weight.grad.stride() == weight.stride()


def test_a_conv_frame_is_centred_on_its_feature_frame():
    for subsampling, blocks in ((1, 0), (2, 0), (3, 0), (4, 0), (4, 2), (6, 2)):
        frontend = ConvFrontend(EncoderOptions(subsampling=subsampling, conv_channels=4, conv_blocks=blocks), 11)
        features = torch.randn(1, 73, 11, requires_grad=True)
        (grad,) = torch.autograd.grad(frontend(features, torch.tensor([73]))[0, 6].sum(), features)
        seen = grad[0].abs().sum(dim=1).nonzero().flatten().tolist()
        assert (seen[0] + seen[-1]) / 2 == subsampling * 6
        assert frontend.centre == 0.5  # of a feature frame: the middle of frame 0


def test_a_stacked_frame_is_its_neighbours():
    frontend = StackFrontend(EncoderOptions(frontend="stack", subsampling=3), 2)
    out = frontend(torch.arange(1.0, 11.0).reshape(1, 5, 2), torch.tensor([5]))
    assert out.tolist() == [[[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 0, 0]]]
    assert frontend.centre == 1.5


def numbers(**options) -> tuple[torch.Tensor, torch.Tensor]:
    """What an encoder gives for a batch, and the gradient at the features."""
    features = torch.randn(2, 17, 11, generator=torch.Generator().manual_seed(1)).requires_grad_()
    out = run(build(**options), features)
    return out.detach(), torch.autograd.grad(out.square().sum(), features)[0]


def test_every_option_changes_the_numbers():
    assert set(OTHER) == {field.name for field in fields(EncoderOptions)}
    for name, value in OTHER.items():
        beside = BESIDE.get(name, {})
        plain, other = numbers(**beside), numbers(**beside, **{name: value})
        assert any(a.shape != b.shape or not torch.allclose(a, b) for a, b in zip(plain, other)), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frontend", "cnn"),
        ("cell", "transformer"),
        ("initialization", "zeros"),
        ("subsampling", 0),
        ("subsampling", 5),
        ("subsampling", 7),
        ("conv_channels", 0),
        ("conv_blocks", -1),
        ("projection", -1),
        ("layers", 0),
        ("layers", 9),
        ("width", 0),
        ("dropout", 1.0),
        ("dropout", float("nan")),
        ("forget_bias", float("inf")),
        ("activation", "sigmoid"),
        ("cell_projection", -1),
        ("context", -1),
        ("truncation", -1),
        ("input_noise", -0.1),
        ("input_noise", float("nan")),
        ("self_conditioned", -1),
        ("self_conditioned", 3),
    ],
)
def test_a_wrong_option_is_named(name, value):
    with pytest.raises(UsageError, match=rf"^encoder\.{name}="):
        EncoderOptions(**{name: value})


def test_layers_above_read_what_the_middle_says():
    """Nozaki and Komatsu 2021: the outputs of a layer, its softmax through a linear layer added, enter the next one."""
    encoder = build(self_conditioned=1).eval()
    features, lengths = torch.randn(2, 17, 11), torch.tensor([17, 9])
    outputs: list[torch.Tensor] = []
    drafts: list[torch.Tensor] = []
    out, out_lengths = encoder(features, lengths, outputs=outputs, drafts=drafts)
    weights = dict(encoder.condition.named_parameters())
    logits = outputs[0] @ weights["head.linear.weight"].T + weights["head.linear.bias"]
    assert torch.allclose(drafts[0], logits.log_softmax(dim=2), atol=1e-6)
    told = outputs[0] + logits.softmax(dim=2) @ weights["back.weight"].T
    expected = encoder.layers[1](encoder.norms[1](told), out_lengths)
    assert torch.allclose(out, expected, atol=1e-6)
    assert not torch.allclose(out, encoder.layers[1](encoder.norms[1](outputs[0]), out_lengths), atol=1e-2)


def test_self_conditioning_draws_no_other_start_values():
    plain, conditioned = build(), build(self_conditioned=1)
    weights = dict(conditioned.named_parameters())
    for name, weight in plain.named_parameters():
        assert torch.equal(weight, weights[name]), name
    assert all(weight.abs().max() <= 0.1 for weight in build(self_conditioned=1, initialization="uniform").condition.parameters())


@pytest.mark.parametrize(("frontend", "cell", "conditioned"), [*product(FRONTENDS, CELLS, (0,)), ("conv", "lstm", 1)])
def test_the_gradient_reaches_every_weight(frontend, cell, conditioned):
    blocks = 2 * conditioned
    encoder = build(frontend=frontend, cell=cell, projection=5, self_conditioned=conditioned, conv_blocks=blocks).train()
    run(encoder, torch.randn(2, 17, 11)).square().sum().backward()
    weights = dict(encoder.named_parameters())
    assert len(weights) >= (10 if cell == "mlp" else 16)
    for name, weight in weights.items():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


def test_start_values():
    layer = build(width=8, forget_bias=1.5).layers[1].back
    for gate in layer.weight_rec.chunk(4):
        assert torch.allclose(gate @ gate.T, torch.eye(8), atol=1e-5)
    assert layer.bias.tolist() == [0.0] * 8 + [1.5] * 8 + [0.0] * 16
    uniform = build(width=8, initialization="uniform", forget_bias=0.0).layers[1].back
    for weight in uniform.parameters():
        assert weight.abs().max() <= 0.1
        assert weight.std() > 0.03
    assert all((build(cell=cell).layers[0].ahead.bias == 0).all() for cell in ("gru", "rnn"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cell": "gru", "peepholes": True}, "encoder.peepholes=true does not go with encoder.cell=gru: it is for lstm"),
        ({"cell": "rnn", "forget_gate": False}, "encoder.forget_gate=false does not go with encoder.cell=rnn"),
        ({"cell": "rnn", "coupled": True}, "encoder.coupled=true does not go with encoder.cell=rnn"),
        ({"cell": "gru", "cell_projection": 3}, "encoder.cell_projection=3 does not go with encoder.cell=gru"),
        ({"activation": "relu"}, "encoder.activation=relu does not go with encoder.cell=lstm: it is for rnn and mlp"),
        ({"context": 2}, "encoder.context=2 does not go with encoder.cell=lstm: it is for mlp"),
        ({"cell": "mlp", "truncation": 5}, "encoder.truncation=5 does not go with encoder.cell=mlp"),
        (
            {"frontend": "stack", "conv_blocks": 1},
            "encoder.conv_blocks=1 does not go with encoder.frontend=stack: it is for conv",
        ),
        ({"coupled": True, "forget_gate": False}, "encoder.coupled=true does not go with encoder.forget_gate=false"),
        ({"cell": "gru", "forget_bias": 2.0}, "encoder.forget_bias=2.0 does not go with encoder.cell=gru: it is for lstm"),
        ({"forget_gate": False, "forget_bias": 0.0}, "encoder.forget_bias=0.0 does not go with encoder.forget_gate=false"),
    ],
)
def test_switches_that_a_cell_does_not_have_are_refused(options, words):
    with pytest.raises(UsageError, match=f"^{words}"):
        EncoderOptions(**options)


def test_only_the_first_feed_forward_layer_sees_a_window():
    encoder = build(cell="mlp", context=2, layers=3)
    assert [layer.window for layer in encoder.layers] == [(2, 2), (0, 0), (0, 0)]


def test_input_noise_only_in_training_and_of_the_given_size():
    encoder, features = build(input_noise=0.6, frontend="stack", subsampling=1).train(), torch.zeros(4, 500, 11)
    seen = []
    encoder.frontend.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    run(encoder, features)
    run(encoder.eval(), features)
    assert float(seen[0].std()) == pytest.approx(0.6, rel=0.02)
    assert torch.equal(seen[1], features)


def test_dropout_only_in_training():
    encoder, features = build(dropout=0.5), torch.randn(1, 9, 11)
    encoder.eval()
    assert torch.equal(run(encoder, features), run(encoder, features))
    encoder.train()
    assert torch.equal(run(encoder, features), run(encoder, features))  # the same seed
    torch.manual_seed(9)
    assert not torch.equal(encoder(features, torch.tensor([9]))[0], run(encoder, features))


@pytest.mark.parametrize("pays", [True, False])
def test_lower_precision_only_where_it_pays(pays, monkeypatch):
    monkeypatch.setattr(encoder_module, "low_precision_pays", lambda device: pays)
    encoder, features = build().eval(), torch.randn(2, 17, 11)
    plain = run(encoder, features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = run(encoder, features)
        assert torch.is_autocast_enabled("cpu")
    assert out.dtype == (torch.bfloat16 if pays else torch.float32)
    assert torch.equal(out, plain) is not pays
    assert torch.allclose(out.float(), plain, atol=0.05)


def test_lower_precision_trains(monkeypatch):
    monkeypatch.setattr(encoder_module, "low_precision_pays", lambda device: True)
    encoder = build().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = run(encoder, torch.randn(2, 17, 11))
    out.float().square().sum().backward()
    weights = dict(encoder.named_parameters())
    assert len(weights) >= 16
    for name, weight in weights.items():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


def test_a_gpu_always_takes_lower_precision():
    assert encoder_module.low_precision_pays("cuda")


def test_dropout_keeps_its_share_and_its_mean():
    torch.manual_seed(0)
    dropout = Dropout(0.3).train()
    x = torch.randn(40, 50, 70, requires_grad=True)
    out = dropout(x)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert (grad == 0).float().mean() == pytest.approx(0.3, abs=0.005)
    assert torch.allclose(grad[grad > 0], torch.tensor(1 / 0.7), atol=1e-4)
    assert torch.equal(out, x * grad)
    assert (grad.reshape(-1, 4) == 0).float().mean(dim=0).tolist() == pytest.approx([0.3] * 4, abs=0.01)
    assert (grad[..., 1:] * grad[..., :-1] > 0).float().mean() == pytest.approx(0.49, abs=0.01)  # neighbours are independent
    assert dropout(torch.ones(3, 0)).shape == (3, 0)
    assert Dropout(0.0).train()(x) is x
    assert Dropout(0.3).eval()(x) is x
    assert dropout(x.double()).dtype == torch.float64
    assert Dropout(0.9999999).train()(x).isfinite().all()


def test_locked_dropout_drops_the_same_in_all_frames_of_an_utterance():
    torch.manual_seed(0)
    dropout = Dropout(0.3, locked=True).train()
    x = torch.randn(40, 50, 70, dtype=torch.bfloat16, requires_grad=True)
    out = dropout(x)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert out.dtype == x.dtype
    assert torch.equal(grad, grad[:, :1].expand_as(grad))
    first = grad[:, 0]
    assert (first == 0).float().mean() == pytest.approx(0.3, abs=0.03)
    assert (first[0] != first[1]).any()
    assert torch.allclose(first[first > 0].float(), torch.tensor(1 / 0.7), atol=0.01)
    assert Dropout(0.3, locked=True).eval()(x) is x
