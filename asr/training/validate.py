"""Greedy error rate on the validation data, with a few transcripts to read."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.batches.dataset import BatchLoader
from asr.decoding.greedy import greedy_decode
from asr.models.ctc import ctc_loss
from asr.models.model import SpeechModel
from asr.scoring.edits import EditCounts, align, count, split_tokens
from asr.text.tokenizer import Tokenizer
from asr.training.preparation import Part

EXAMPLES = 3


@dataclass(frozen=True)
class Validation:
    """Result of one pass over the validation data."""

    #: nats per target symbol
    loss: float
    #: edits of the unit the model writes: phones or characters
    symbols: EditCounts
    #: word edits; None for phone models
    words: EditCounts | None
    #: fraction of frames whose best symbol is blank
    blank_fraction: float
    #: hypotheses without any symbol
    empty: int
    #: (reference, hypothesis) of a few utterances, the same ones each time
    examples: list[tuple[str, str]]


def count_pairs(pairs: list[tuple[str, str]], unit: str) -> EditCounts:
    """Pooled edits of (reference, hypothesis) texts."""
    references = [split_tokens(reference, unit) for reference, _ in pairs]
    hypotheses = [split_tokens(hypothesis, unit) for _, hypothesis in pairs]
    return sum((count(alignment) for alignment in align(references, hypotheses)), EditCounts())


@contextmanager
def weights_swapped(model: SpeechModel, weights: dict[str, Tensor]) -> Iterator[None]:
    """The model with other weights for a while."""
    live = dict(model.named_parameters())
    own = {name: live[name].detach().clone() for name in weights}
    with torch.no_grad():
        for name, weight in weights.items():
            live[name].copy_(weight)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, weight in own.items():
                live[name].copy_(weight)


@torch.no_grad()
def validate(
    model: SpeechModel,
    part: Part,
    loader: BatchLoader,
    order: list[list[int]],
    tokenizer: Tokenizer,
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
) -> Validation | None:
    """Decode the whole part greedily; the model is left in evaluation mode. None where a loss is not finite: it has diverged."""
    model.eval()
    unit = "phone" if tokenizer.options.unit == "phones" else "char"
    decoded: dict[str, str] = {}
    loss = 0.0
    frames = blanks = 0
    for batch in loader.batches(order):
        batch = batch.to(device)
        with autocast():
            emissions = model(batch.waveforms, batch.waveform_lengths, cmvn=batch.cmvn)
        losses = ctc_loss(emissions.log_probs, emissions.lengths, batch.tokens, batch.token_lengths)
        loss += float(losses.sum())
        if not math.isfinite(loss):
            return None
        scores = emissions.log_probs.cpu().numpy()
        for row, (name, length) in enumerate(zip(batch.ids, emissions.lengths.tolist())):
            decoded[name] = greedy_decode(scores[row, :length], tokenizer.decode).text
            frames += length
            blanks += int((scores[row, :length].argmax(1) == 0).sum())
    references = [tokenizer.decode(target) for target in part.targets]
    pairs = [(reference, decoded[utterance.id]) for reference, utterance in zip(references, part.utterances)]
    return Validation(
        loss=loss / max(1, sum(map(len, part.targets))),
        symbols=count_pairs(pairs, unit),
        words=None if unit == "phone" else count_pairs(pairs, "word"),
        blank_fraction=blanks / max(1, frames),
        empty=sum(not hypothesis for _, hypothesis in pairs),
        examples=[pairs[place] for place in example_places([utterance.id for utterance in part.utterances])],
    )


def example_places(ids: Sequence[str]) -> list[int]:
    """Places of a few utterances to show, in order: drawn by id, for a regular choice meets the regularity of a corpus."""
    return sorted(sorted(range(len(ids)), key=lambda place: hashlib.sha256(ids[place].encode()).digest())[:EXAMPLES])
