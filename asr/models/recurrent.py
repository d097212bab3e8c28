"""Recurrent layers over padded batches: time, direction and depth, each a separate small piece.

Both directions run on the dense batch. The backward direction reads each utterance reversed at its own length, so padding
never enters a state that a valid frame depends on.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from asr.models import lstm_cpu


def _lstm(input_size: int, width: int) -> nn.Module:
    return nn.LSTM(input_size, width, batch_first=True)


def _gru(input_size: int, width: int) -> nn.Module:
    return nn.GRU(input_size, width, batch_first=True)


def _rnn(input_size: int, width: int) -> nn.Module:
    return nn.RNN(input_size, width, batch_first=True)


#: Each entry builds one layer of one direction: a module that maps (B, T, D) and a state, or None, to (B, T, H) and a state.
CELLS: dict[str, Callable[[int, int], nn.Module]] = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}

#: Blocks of H rows in the weights of a cell, and the block whose bias opens the forget gate.
GATES: dict[str, int] = {"lstm": 4, "gru": 3, "rnn": 1}
FORGET_GATE: dict[str, int] = {"lstm": 1}


class _Reorder(torch.autograd.Function):
    """Rows of x (R, D) in the order given by an index that is its own inverse, so the gradient takes the same gather."""

    @staticmethod
    def forward(ctx, x: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return grad.index_select(0, order), None


def _reversal(lengths: Tensor, frames: int) -> Tensor:
    """(B,) lengths -> (B * T,) row numbers that reverse each utterance at its own length and leave its padding in place."""
    time = torch.arange(frames, device=lengths.device)
    lengths = lengths.unsqueeze(1)
    inside = torch.where(time < lengths, lengths - 1 - time, time)
    return (inside + frames * torch.arange(len(lengths), device=lengths.device).unsqueeze(1)).flatten()


def _reordered(x: Tensor, order: Tensor) -> Tensor:
    batch, frames, size = x.shape
    return _Reorder.apply(x.reshape(batch * frames, size), order).view(batch, frames, size)


def reverse_within_length(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse x (B, T, D) along time, each row within its own length (B,); frames beyond it stay where they are."""
    return _reordered(x, _reversal(lengths, x.shape[1]))


def valid_frames(lengths: Tensor, frames: int) -> Tensor:
    """(B,) lengths -> (B, T) bool, True where the frame belongs to the utterance."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


class RecurrentLayer(nn.Module):
    """One recurrent layer, forward-only or bidirectional, of any cell in `CELLS`.

    Maps x (B, T, D) with lengths (B,) to (B, T, H), or (B, T, 2H) with the forward half first. States start at zero in each
    utterance. Frames beyond an utterance's length are zero in the output.
    """

    def __init__(self, input_size: int, width: int, *, cell: str = "lstm", bidirectional: bool = True):
        super().__init__()
        self.ahead = CELLS[cell](input_size, width)
        self.back = CELLS[cell](input_size, width) if bidirectional else None
        self.output_size = 2 * width if bidirectional else width

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if x.shape[0] * x.shape[1] == 0:
            return x.new_zeros(x.shape[0], x.shape[1], self.output_size)
        if lstm_cpu.takes(self.ahead, x):
            return lstm_cpu.lstm_layer(x, lengths, [self.ahead] if self.back is None else [self.ahead, self.back])
        out = self.ahead(x, None)[0]
        if self.back is not None:
            order = _reversal(lengths, x.shape[1])
            out = torch.cat([out, _reordered(self.back(_reordered(x, order), None)[0], order)], dim=2)
        return out * valid_frames(lengths, x.shape[1]).unsqueeze(2)
