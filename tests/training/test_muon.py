"""Muon: against singular vectors, torch's own, AdamW, and itself on other blocks, processes and days."""

import pytest
import torch

from asr.models.encoder import Encoder, EncoderOptions
from asr.training.checkpoint import flatten_optimizer, restore_optimizer
from asr.training.muon import Muon, _dealt, orthogonalized
from asr.training.optim import OptimOptions, build_optimizer, hidden_matrices

ADAM = {"lr": 0.02, "betas": (0.9, 0.98), "eps": 1e-8}


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shape", [(8, 8), (24, 7), (7, 24), (64, 9)])
def test_turned_matrices_keep_their_singular_vectors(shape):
    matrices = drawn(3, *shape)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inside = left.mT @ orthogonalized(matrices) @ right.mT  # diagonal: the singular values that were made
    values = inside.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(inside, torch.diag_embed(values), rtol=0, atol=2e-4)
    if shape != (8, 8):  # square matrices that are drawn may have a singular value next to nothing
        assert 0.65 < values.min() < values.max() < 1.25


def test_each_matrix_is_turned_alone_and_a_zero_stays_zero():
    matrices = torch.stack([drawn(5, 6), 1000 * drawn(5, 6) + 1, torch.zeros(5, 6)])
    turned = orthogonalized(matrices)
    for number in range(3):
        torch.testing.assert_close(turned[number : number + 1], orthogonalized(matrices[number : number + 1]))
    assert not turned[2].any()


def stepped(optimizer: torch.optim.Optimizer, weights: list[torch.nn.Parameter], steps: int = 4, first: int = 0) -> None:
    for step in range(first, first + steps):
        for number, weight in enumerate(weights):
            weight.grad = drawn(*weight.shape) * (1 + number) + 0.3 * step
        optimizer.step()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_steps_are_those_of_torch(shape):
    """Torch turns in bfloat16, and so do we here."""
    ours, theirs = (torch.nn.Parameter(drawn(*shape)) for _ in range(2))
    stepped(Muon([(ours, 1)], [], momentum=0.95, weight_decay=0.4, dtype=torch.bfloat16, **ADAM), [ours])
    library = torch.optim.Muon([theirs], lr=0.02, momentum=0.95, weight_decay=0.4, adjust_lr_fn="match_rms_adamw")
    stepped(library, [theirs])
    torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=0, atol=2e-3)
    moved = (ours.detach() - drawn(*shape)).abs().mean()
    assert moved > 0.02  # ten times what is let pass above


def test_blocks_of_rows_are_matrices_of_their_own():
    whole, parts = torch.nn.Parameter(drawn(12, 5)), [torch.nn.Parameter(block.clone()) for block in drawn(12, 5).chunk(3)]
    gradient = drawn(12, 5) + 0.5
    whole.grad = gradient.clone()
    for part, block in zip(parts, gradient.chunk(3)):
        part.grad = block.clone()
    Muon([(whole, 3)], [], momentum=0.9, weight_decay=0.1, **ADAM).step()
    Muon([(part, 1) for part in parts], [], momentum=0.9, weight_decay=0.1, **ADAM).step()
    torch.testing.assert_close(whole.detach(), torch.cat([part.detach() for part in parts]))


def test_a_convolution_is_a_matrix_of_its_output_channels():
    kernel, matrix = torch.nn.Parameter(drawn(6, 2, 3, 3)), torch.nn.Parameter(drawn(6, 2, 3, 3).reshape(6, 18))
    gradient = drawn(6, 2, 3, 3).contiguous(memory_format=torch.channels_last)
    kernel.grad, matrix.grad = gradient, gradient.reshape(6, 18)
    for weight in (kernel, matrix):
        Muon([(weight, 1)], [], momentum=0.9, weight_decay=0.1, **ADAM).step()
    torch.testing.assert_close(kernel.detach().reshape(6, 18), matrix.detach())


def test_all_other_weights_step_as_with_adamw():
    (matrix, ours), theirs = [torch.nn.Parameter(drawn(4, 3)) for _ in range(2)], torch.nn.Parameter(drawn(4, 3))
    muon = Muon([(matrix, 1)], [{"params": [ours], "weight_decay": 0.2}], momentum=0.9, weight_decay=0.1, **ADAM)
    adam = torch.optim.AdamW([theirs], weight_decay=0.2, **ADAM)
    for _ in range(3):
        matrix.grad, ours.grad, theirs.grad = drawn(4, 3), drawn(4, 3), drawn(4, 3)
        muon.step()
        adam.step()
    torch.testing.assert_close(ours.detach(), theirs.detach())
    assert not torch.equal(matrix.detach(), ours.detach())


def test_a_weight_without_gradient_stays():
    """As one that is not part of the loss."""
    matrix = torch.nn.Parameter(drawn(4, 3))
    Muon([(matrix, 1)], [], momentum=0.9, weight_decay=0.5, **ADAM).step()
    assert torch.equal(matrix.detach(), drawn(4, 3))


ENCODERS = {
    "lstm": {"cell": "lstm", "peepholes": True, "cell_projection": 3},
    "gru": {"cell": "gru"},
    "rnn": {"cell": "rnn"},
}


@pytest.mark.parametrize("cell", ENCODERS)
def test_what_is_turned_are_all_matrices_but_those_of_symbols(cell):
    options = EncoderOptions(
        layers=2, width=6, projection=5, self_conditioned=1, conv_channels=4, conv_blocks=1, **ENCODERS[cell]
    )
    encoder = Encoder(options, 16, vocabulary=9)
    gates = {id(weight): count for weight, count in hidden_matrices(encoder)}
    for name, weight in encoder.named_parameters():
        turned = weight.ndim >= 2 and "condition" not in name and "peephole" not in name
        assert (id(weight) in gates) == turned, name
        if turned:
            several = {"lstm": 4, "gru": 3, "rnn": 1}[cell] if "weight_in" in name or "weight_rec" in name else 1
            assert gates[id(weight)] == several, name
    optimizer = build_optimizer(encoder, OptimOptions(optimizer="muon", weight_decay=0.3, momentum=0.95))
    listed = [id(weight) for group in optimizer.param_groups for weight in group["params"]]
    assert sorted(listed) == sorted(map(id, encoder.parameters()))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.3, 0.0]


def test_the_state_goes_through_a_checkpoint():
    def made() -> tuple[torch.optim.Optimizer, list[torch.nn.Parameter]]:
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
        with torch.no_grad():
            model[0].weight.copy_(drawn(4, 3))
        return build_optimizer(model, OptimOptions(optimizer="muon", learning_rate=0.05)), list(model.parameters())

    optimizer, weights = made()
    stepped(optimizer, weights, steps=3)
    saved = {name: tensor.clone() for name, tensor in flatten_optimizer(optimizer).items()}
    between = [weight.detach().clone() for weight in weights]
    stepped(optimizer, weights, steps=2, first=3)
    later, again = made()
    for weight, value in zip(again, between):
        weight.data.copy_(value)
    restore_optimizer(later, saved)
    stepped(later, again, steps=2, first=3)
    for weight, expected in zip(again, weights):
        assert torch.equal(weight, expected)


def test_work_is_dealt_evenly():
    assert _dealt([5, 1, 1, 1, 1, 1], 2) == [0, 1, 1, 1, 1, 1]
    assert _dealt([3, 2, 2], 1) == [0, 0, 0]
    assert sorted(_dealt([1, 1, 1], 4)) == [0, 1, 2]
