"""The expected number of edits of a path drawn from the output layer, and what it asks of each output.

Graves and Jaitly (2014), "Towards End-to-End Speech Recognition with Recurrent Neural Networks", section 4: CTC makes the
reference likely; this makes what is heard cost few edits, though it may not be the reference. Paths of one symbol per frame are
drawn from the softmax, collapsed, and compared with the reference. Where frame t of a path is replaced by symbol k, the edits
change; their mean over the paths is an unbiased estimate of E[edits | k at t], and the gradient at the log-probability of k is
p(k at t) times that.
"""

import numpy as np
import torch
from torch import Tensor


def expected_edits(
    log_probs: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, seeds: Tensor, *, paths: int
) -> Tensor:
    """(B,) mean edits (substitutions, deletions and insertions, each counts 1) of so many drawn paths, differentiable.

    log_probs (B, T', V), lengths (B,), tokens (B, U), token_lengths (B,) as for `ctc_loss`; the paths of an utterance depend on
    its seed (B,) and its own frames only. The gradient is that of the expectation, not of the drawn mean. NaN in gives NaN out.
    """
    return _ExpectedEdits.apply(log_probs, lengths, tokens, token_lengths, seeds, paths)


class _ExpectedEdits(torch.autograd.Function):
    @staticmethod
    def forward(ctx, log_probs, lengths, tokens, token_lengths, seeds, paths):
        from asr.models.expected_edits_kernels import edits_of_paths

        given = log_probs.detach().to("cpu", torch.float64).numpy()
        frames, targets, sizes = (tensor.cpu().numpy() for tensor in (lengths, tokens, token_lengths))
        means = np.zeros(len(given))
        gradient = np.zeros(given.shape)
        for row, seed in enumerate(seeds.cpu().numpy()):
            own = np.ascontiguousarray(given[row, : frames[row]])
            drawn = draw_paths(own, paths, int(seed))
            means[row] = edits_of_paths(np.exp(own), drawn, targets[row, : sizes[row]].astype(np.int64), gradient[row])
            if np.isnan(own).any():
                means[row] = np.nan
        ctx.save_for_backward(torch.from_numpy(gradient).to(log_probs.device, log_probs.dtype))
        return torch.from_numpy(means).to(log_probs.device, log_probs.dtype)

    @staticmethod
    def backward(ctx, *upstream):
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0][:, None, None], None, None, None, None, None


def draw_paths(log_probs: np.ndarray, paths: int, seed: int) -> np.ndarray:
    """(paths, T') symbols, each frame drawn on its own from log_probs (T', V); a pure function of both and the seed."""
    heights = np.cumsum(np.exp(log_probs), axis=1)
    draw = np.random.Generator(np.random.Philox(seed & 0xFFFFFFFFFFFFFFFF))
    levels = draw.random((len(log_probs), paths)) * heights[:, -1:]
    symbols = (levels[:, :, None] >= heights[:, None, :]).sum(axis=2)
    return np.ascontiguousarray(np.minimum(symbols, log_probs.shape[1] - 1).T.astype(np.int64))
