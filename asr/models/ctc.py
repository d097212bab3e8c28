"""Connectionist temporal classification: the output layer, the loss, and a reference to read against the paper.

Graves, Fernández, Gomez and Schmidhuber (2006), "Connectionist Temporal Classification". Symbol 0 is the blank.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.errors import DataError, ModelError

BLANK = 0


class CtcHead(nn.Module):
    """Hidden frames (B, T', E) -> log-probabilities (B, T', V), computed in float32 whatever the encoder ran in.

    The start values are Glorot's with biases of zero, or all within +-0.1 (`uniform`), as `encoder.initialization` says.
    """

    def __init__(self, input_size: int, vocabulary: int, *, uniform: bool = False):
        super().__init__()
        self.linear = nn.Linear(input_size, vocabulary)
        if uniform:
            nn.init.uniform_(self.linear.weight, -0.1, 0.1)
            nn.init.uniform_(self.linear.bias, -0.1, 0.1)
        else:
            nn.init.xavier_uniform_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.linear(hidden.to(self.linear.weight.dtype)).log_softmax(dim=2)


def required_frames(tokens: Sequence[int]) -> int:
    """Fewest frames that can emit `tokens`: one for each, and a blank between equal neighbours."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))


def _required(tokens: Tensor, token_lengths: Tensor) -> Tensor:
    """`required_frames` of each row: (B, U), (B,) -> (B,)."""
    inside = torch.arange(1, max(tokens.shape[1], 1), device=tokens.device) < token_lengths.unsqueeze(1)
    return token_lengths + ((tokens[:, 1:] == tokens[:, :-1]) & inside).sum(dim=1)


def check_targets(tokens: Tensor, token_lengths: Tensor, lengths: Tensor, vocabulary: int, ids: Sequence[str]) -> None:
    """Refuse targets the loss cannot take; the library's own loss reads outside its memory on some of them.

    tokens (B, U) and token_lengths (B,) are the targets, lengths (B,) the emission frames T', `vocabulary` V with the blank.
    Raises ModelError for an id outside 1 .. V-1, DataError for a blank inside a target and for an utterance with fewer
    frames than `required_frames`; each names the utterances.
    """
    tokens, token_lengths, lengths = tokens.cpu(), token_lengths.cpu(), lengths.cpu()
    wrong = (token_lengths < 0) | (token_lengths > tokens.shape[1])
    if wrong.any():
        raise DataError(f"target lengths of {_named(wrong, ids)} do not fit the padded targets of {tokens.shape[1]} tokens")
    inside = torch.arange(tokens.shape[1]) < token_lengths.unsqueeze(1)
    outside = ((tokens < 0) | (tokens >= vocabulary)) & inside
    if outside.any():
        raise ModelError(
            f"target of {_named(outside.any(dim=1), ids)} holds token id {int(tokens[outside][0])}, the model knows "
            f"1 to {vocabulary - 1}: the tokens do not belong to this model"
        )
    blank = (tokens == BLANK) & inside
    if blank.any():
        raise DataError(f"target of {_named(blank.any(dim=1), ids)} holds the blank (id {BLANK}), which no text may contain")
    required = _required(tokens, token_lengths)
    short = lengths < required
    if short.any():
        first = int(short.nonzero()[0])
        raise DataError(
            f"{_named(short, ids)} cannot be learnt: {ids[first]} has {int(lengths[first])} frames after subsampling and its "
            f"target needs {int(required[first])}; use a smaller encoder.subsampling or leave the utterance out"
        )


def _named(mask: Tensor, ids: Sequence[str], limit: int = 5) -> str:
    names = [ids[row] for row in mask.nonzero().flatten().tolist()]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{'utterance' if len(names) == 1 else 'utterances'} {', '.join(names[:limit])}{more}"


def ctc_loss(log_probs: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Tensor:
    """Negative log-likelihood of each target, (B,) in nats, differentiable.

    log_probs (B, T', V), lengths (B,), tokens (B, U), token_lengths (B,). Token ids are trusted: call `check_targets` first.
    A target that needs more frames than its utterance has costs inf and sends back a gradient of zero.
    """
    feasible = lengths >= _required(tokens, token_lengths)
    if log_probs.is_cuda and torch.are_deterministic_algorithms_enabled():
        log_probs = log_probs.cpu()  # the CUDA backward has no deterministic form
    device = log_probs.device
    # An impossible target is replaced by the empty one, whose gradient is finite, and then cut off.
    loss = F.ctc_loss(
        log_probs.transpose(0, 1),
        F.pad(tokens, (0, int(tokens.shape[1] == 0))).to(device),
        lengths.to(device),
        torch.where(feasible, token_lengths, 0).to(device),
        blank=BLANK,
        reduction="none",
    )
    return torch.where(feasible.to(device), loss, torch.inf).to(tokens.device)


class ForwardBackward(NamedTuple):
    """What the reference computes. L = 2U + 1 states: the target with a blank around and between its tokens."""

    #: Negative log-likelihood of the target, nats; inf if no path emits it.
    loss: float
    #: (T, L) log forward variables, eq. 5 of the paper.
    alphas: np.ndarray
    #: (T, L) log backward variables, eq. 9; like the forward ones they include the emission at their own frame.
    betas: np.ndarray
    #: (T, V) probability that a path of the target emits each symbol at each frame; rows sum to 1.
    occupancies: np.ndarray


def forward_backward(log_probs: np.ndarray, target: Sequence[int]) -> ForwardBackward:
    """Forward and backward variables of one target in the log domain, float64: log_probs (T, V), target of U ids."""
    log_probs = np.asarray(log_probs, dtype=np.float64)
    frames, vocabulary = log_probs.shape
    states = np.full(2 * len(target) + 1, BLANK)
    states[1::2] = target
    skip = np.zeros(len(states), dtype=bool)  # may the state before last be left out: not to a blank, not to an equal token
    skip[2:] = (states[2:] != BLANK) & (states[2:] != states[:-2])
    emission = log_probs[:, states]

    alphas = np.full((frames, len(states)), -np.inf)
    betas = np.full((frames, len(states)), -np.inf)
    if frames == 0:
        return ForwardBackward(np.inf if len(target) else 0.0, alphas, betas, np.zeros((0, vocabulary)))
    alphas[0, :2] = emission[0, :2]
    for t in range(1, frames):  # eq. 6 and 7
        stay, step, jump = _shifted(alphas[t - 1], skip)
        alphas[t] = np.logaddexp(np.logaddexp(stay, step), jump) + emission[t]
    betas[-1, -2:] = emission[-1, -2:]
    for t in range(frames - 2, -1, -1):  # eq. 10 and 11: the same walk over the mirrored target
        stay, step, jump = _shifted(betas[t + 1, ::-1], np.concatenate([[False, False], skip[:1:-1]])[: len(states)])
        betas[t] = np.logaddexp(np.logaddexp(stay, step), jump)[::-1] + emission[t]

    log_likelihood = np.logaddexp.reduce(alphas[-1, -2:])  # eq. 8
    occupancies = np.zeros((frames, vocabulary))
    if log_likelihood > -np.inf:
        with np.errstate(invalid="ignore"):
            paths = np.exp(alphas + betas - emission - log_likelihood)  # eq. 14, over p(l|x)
        np.add.at(occupancies, (slice(None), states), np.where(emission > -np.inf, paths, 0.0))  # eq. 15
    return ForwardBackward(-float(log_likelihood), alphas, betas, occupancies)


def _shifted(row: np.ndarray, skip: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three ways into each state: from itself, from the one before, from the one before that where `skip` allows."""
    padded = np.concatenate([[-np.inf, -np.inf], row])
    return padded[2:], padded[1:-1], np.where(skip, padded[:-2], -np.inf)


def ctc_reference(log_probs: np.ndarray, target: Sequence[int]) -> float:
    """Negative log-likelihood of one target, nats: log_probs (T, V). Slow; the referee of `ctc_loss`."""
    return forward_backward(log_probs, target).loss
