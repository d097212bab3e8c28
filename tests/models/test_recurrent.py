"""Recurrent layers: reversal, padding, and batches with nothing in them."""

import pytest
import torch

from asr.models.cells import CellOptions
from asr.models.recurrent import RecurrentLayer, reverse_within_length, valid_frames

LENGTHS = torch.tensor([4, 9, 1, 7, 9])


def test_reversal_by_hand():
    x = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]).unsqueeze(2)
    reversed_ = reverse_within_length(x, torch.tensor([3, 0, 4]))
    assert reversed_.squeeze(2).tolist() == [[3, 2, 1, 4], [5, 6, 7, 8], [12, 11, 10, 9]]


def test_reversal_undoes_itself_and_has_the_right_gradient():
    x = torch.randn(5, 9, 2, dtype=torch.float64, requires_grad=True)
    assert torch.equal(reverse_within_length(reverse_within_length(x, LENGTHS), LENGTHS), x)
    assert torch.autograd.gradcheck(lambda y: reverse_within_length(y, LENGTHS) ** 2, x)


@pytest.mark.parametrize("size", [(0, 4), (3, 0)])
def test_nothing_to_read(size):
    layer = RecurrentLayer(2, CellOptions(width=3))
    assert layer(torch.zeros(*size, 2), torch.zeros(size[0], dtype=torch.long)).shape == (*size, 6)


def test_a_batch_of_empty_utterances_in_training():
    layer = RecurrentLayer(2, CellOptions(width=3))
    out = layer(torch.randn(2, 4, 2), torch.tensor([0, 0]))
    assert out.shape == (2, 4, 6)
    assert (out == 0).all()


@pytest.mark.parametrize("training", [True, False])
def test_what_stands_in_the_padding_does_not_matter(training):
    layer = RecurrentLayer(3, CellOptions(width=4))
    x = torch.randn(5, 9, 3)
    spoilt = x.clone()
    spoilt[~valid_frames(LENGTHS, 9)] = 1e6
    with torch.set_grad_enabled(training):
        assert torch.equal(layer(x, LENGTHS), layer(spoilt, LENGTHS))
