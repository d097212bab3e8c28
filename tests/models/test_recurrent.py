"""Recurrent layers against the library's own, with packed sequences and copied weights."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.models import lstm_cpu, recurrent
from asr.models.recurrent import CELLS, RecurrentLayer, reverse_within_length, valid_frames

LENGTHS = torch.tensor([4, 9, 1, 7, 9])
LIBRARY = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def library_layer(layer: RecurrentLayer, cell: str, input_size: int, width: int) -> nn.Module:
    """The library's layer with the weights of ours."""
    twin = LIBRARY[cell](input_size, width, batch_first=True, bidirectional=layer.back is not None)
    weights = dict(layer.ahead.state_dict())
    if layer.back is not None:
        weights |= {f"{name}_reverse": weight for name, weight in layer.back.state_dict().items()}
    twin.load_state_dict(weights)
    return twin


def packed(twin: nn.Module, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    out, _ = twin(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    return pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])[0]


def test_reversal_by_hand():
    x = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]).unsqueeze(2)
    reversed_ = reverse_within_length(x, torch.tensor([3, 0, 4]))
    assert reversed_.squeeze(2).tolist() == [[3, 2, 1, 4], [5, 6, 7, 8], [12, 11, 10, 9]]


def test_reversal_undoes_itself_and_has_the_right_gradient():
    x = torch.randn(5, 9, 2, dtype=torch.float64, requires_grad=True)
    assert torch.equal(reverse_within_length(reverse_within_length(x, LENGTHS), LENGTHS), x)
    assert torch.autograd.gradcheck(lambda y: reverse_within_length(y, LENGTHS) ** 2, x)


def test_cells_table_is_covered():
    assert set(CELLS) == set(LIBRARY) == set(recurrent.GATES)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_layer_equals_the_library_on_packed_sequences(cell, bidirectional, training):
    torch.manual_seed(1)
    layer = RecurrentLayer(6, 5, cell=cell, bidirectional=bidirectional)
    twin = library_layer(layer, cell, 6, 5)
    x = torch.randn(5, 9, 6, requires_grad=training)
    with torch.set_grad_enabled(training):
        ours, theirs = layer(x, LENGTHS), packed(twin, x, LENGTHS)
    assert ours.shape == (5, 9, layer.output_size)
    assert (ours - theirs).abs().max() < 1e-6
    assert (ours[~valid_frames(LENGTHS, 9)] == 0).all()
    if training:
        weights = torch.randn_like(ours)
        mine = torch.autograd.grad((ours * weights).sum(), [x, *layer.ahead.parameters()])
        reference = torch.autograd.grad((theirs * weights).sum(), [x, *list(twin.parameters())[: len(mine) - 1]])
        assert len(mine) == 5
        for a, b in zip(mine, reference):
            assert (a - b).abs().max() < 1e-5


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_gradient_of_the_dense_path(cell):
    torch.manual_seed(2)
    layer = RecurrentLayer(2, 2, cell=cell).double()
    x = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    assert not lstm_cpu.takes(layer.ahead, x)
    assert torch.autograd.gradcheck(lambda y: layer(y, torch.tensor([4, 2])), x)


@pytest.mark.parametrize("size", [(0, 4), (3, 0)])
def test_nothing_to_read(size):
    layer = RecurrentLayer(2, 3)
    assert layer(torch.zeros(*size, 2), torch.zeros(size[0], dtype=torch.long)).shape == (*size, 6)


def test_a_batch_of_empty_utterances_in_training():
    layer = RecurrentLayer(2, 3)
    out = layer(torch.randn(2, 4, 2), torch.tensor([0, 0]))
    assert out.shape == (2, 4, 6)
    assert (out == 0).all()


@pytest.mark.parametrize("training", [True, False])
def test_what_stands_in_the_padding_does_not_matter(training):
    layer = RecurrentLayer(3, 4)
    x = torch.randn(5, 9, 3)
    spoilt = x.clone()
    spoilt[~valid_frames(LENGTHS, 9)] = 1e6
    with torch.set_grad_enabled(training):
        assert torch.equal(layer(x, LENGTHS), layer(spoilt, LENGTHS))
