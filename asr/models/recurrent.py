"""Recurrent layers over padded batches: time, direction and depth, each a separate small piece.

Both directions run on the dense batch. The backward direction reads each utterance reversed at its own length, so padding
never enters a state that a valid frame depends on.
"""

from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.models import recurrence
from asr.models.cells import Cell, CellOptions


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


def compiled_path(options: CellOptions, x: Tensor) -> bool:
    """Whether `recurrence.run_layer` computes this cell here: on a CPU in training, or where torch's layer is missing or slow."""
    slow = not options.in_library or options.projection > 0
    return x.device.type == "cpu" and (torch.is_grad_enabled() or slow)


@lru_cache
def _gpu_kernels() -> ModuleType | None:
    """The fused kernels, where Triton is installed, as it is with torch's CUDA builds."""
    try:
        from asr.models import recurrence_gpu
    except ImportError:
        return None
    return recurrence_gpu


class RecurrentLayer(nn.Module):
    """One recurrent layer, forward-only or bidirectional, of any cell but `mlp`.

    Maps x (B, T, D) with lengths (B,) to (B, T, P), or (B, T, 2P) with the forward half first. States start at zero in each
    utterance. Frames beyond an utterance's length are zero in the output.
    """

    def __init__(self, input_size: int, options: CellOptions, *, bidirectional: bool = True):
        super().__init__()
        self.options = options
        self.ahead = Cell(input_size, options)
        self.back = Cell(input_size, options) if bidirectional else None
        self.output_size = options.output_size * (2 if bidirectional else 1)

    def initialize(self, initialization: str, forget_bias: float) -> None:
        """Draw start values, as `Cell.initialize` says."""
        for cell in self._cells():
            cell.initialize(initialization, forget_bias)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if x.shape[0] * x.shape[1] == 0:
            return x.new_zeros(x.shape[0], x.shape[1], self.output_size)
        device = x.device.type
        kernels = _gpu_kernels() if device == "cuda" and not self.options.in_library else None
        compiled, fused = compiled_path(self.options, x), kernels is not None and kernels.takes(self.options)
        if torch.is_autocast_enabled(device) and (device == "cpu" or fused):
            x = x.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=torch.is_autocast_enabled(device) and not compiled and not fused):
            if compiled:
                return recurrence.run_layer(x, lengths, self._cells())[0]
            if kernels is not None and fused:
                return kernels.run_layer(x, lengths, self._cells())
            return self._read_all(x, lengths)

    def _read_all(self, x: Tensor, lengths: Tensor) -> Tensor:
        out = torch.cat([self._read(cell, x, lengths, way) for cell, way in zip(self._cells(), (False, True))], dim=2)
        return out * valid_frames(lengths, x.shape[1]).unsqueeze(2)

    def run(self, x: Tensor, lengths: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Forward-only layers: outputs (B, T, P) from a state, and the state after each utterance's last frame.

        A state is outputs (B, P) and cell states (B, H); None starts from zero. So a sequence can be read piece by piece.
        """
        assert self.back is None, "a bidirectional layer has no state to carry"
        if state is None:
            state = self.ahead.start(len(x))
        if x.device.type == "cpu":
            return recurrence.run_layer(x, lengths, [self.ahead], state)
        return self.ahead.unroll(x, lengths, state)[:2]

    def trace(self, x: Tensor, lengths: Tensor) -> list[dict[str, Tensor]]:
        """Gates, cell states and outputs by name, each (B, T, H) in true time order, for each direction; plain torch."""
        return [cell.unroll(x, lengths, backwards=way)[2] for cell, way in zip(self._cells(), (False, True))]

    def _cells(self) -> list[Cell]:
        return [self.ahead] if self.back is None else [self.ahead, self.back]

    def _read(self, cell: Cell, x: Tensor, lengths: Tensor, backwards: bool) -> Tensor:
        if not self.options.in_library or self.options.truncation:
            return cell.unroll(x, lengths, backwards=backwards)[0]
        if not backwards:
            return cell.library(x)
        order = _reversal(lengths, x.shape[1])
        return _reordered(cell.library(_reordered(x, order)), order)


class ContextLayer(nn.Module):
    """A feed-forward layer over a window of frames: (B, T, D), (B,) -> (B, T, H); zero beyond an utterance's length.

    Sees `context` frames on each side, or with `bidirectional=False` only those before, zeros standing in beyond the ends.
    """

    def __init__(self, input_size: int, options: CellOptions, *, bidirectional: bool = True):
        super().__init__()
        self.options = options
        self.window = (options.context, options.context if bidirectional else 0)
        self.linear = nn.Linear((sum(self.window) + 1) * input_size, options.width)
        self.output_size = options.width

    @torch.no_grad()
    def initialize(self, initialization: str, forget_bias: float) -> None:
        """Draw start values: uniform (+-0.1) | Glorot's, biases zero. There is no forget gate to open."""
        if initialization == "uniform":
            nn.init.uniform_(self.linear.weight, -0.1, 0.1)
            nn.init.uniform_(self.linear.bias, -0.1, 0.1)
        else:
            nn.init.xavier_uniform_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if x.shape[0] * x.shape[1] == 0:
            return x.new_zeros(x.shape[0], x.shape[1], self.output_size)
        inside = valid_frames(lengths, x.shape[1]).unsqueeze(2)
        return getattr(torch, self.options.activation)(self.linear(self._windows(x * inside))) * inside

    def trace(self, x: Tensor, lengths: Tensor) -> list[dict[str, Tensor]]:
        """The outputs, as `RecurrentLayer.trace` names them."""
        return [{"hidden": self(x, lengths)}]

    def _windows(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, window * D), oldest frame first."""
        if sum(self.window) == 0:
            return x
        padded = F.pad(x, (0, 0, *self.window))
        return padded.unfold(1, sum(self.window) + 1, 1).transpose(2, 3).flatten(2)


def build_layer(input_size: int, options: CellOptions, *, bidirectional: bool = True) -> RecurrentLayer | ContextLayer:
    """The layer of a cell."""
    kind = ContextLayer if options.cell == "mlp" else RecurrentLayer
    return kind(input_size, options, bidirectional=bidirectional)
