"""The score of every hypothesis by enumeration of all paths: it knows nothing of prefixes, beams or trees."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from asr.text.lexicon import Pronunciation


def emissions(frames: int, symbols: int, seed: int, *, peak: float = 2.0) -> np.ndarray:
    """Log-probabilities (T', V) float32 that favour no symbol; a higher peak makes each frame more sure."""
    logits = np.random.default_rng(seed).normal(scale=peak, size=(frames, symbols))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def collapse(path: Sequence[int]) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol)


def sequences(log_probs: np.ndarray) -> dict[tuple[int, ...], float]:
    """Token sequence -> probability, over all paths."""
    found: dict[tuple[int, ...], float] = defaultdict(float)
    odds = np.exp(log_probs.astype(np.float64))
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        found[collapse(path)] += math.prod(odds[frame, symbol] for frame, symbol in enumerate(path))
    return found


def texts(log_probs: np.ndarray, spell: Callable[[tuple[int, ...]], str], judge: Callable[[str], float]) -> dict[str, float]:
    """Text -> score: paths whose text is the same but for spaces are summed; `judge` gives all but the acoustic part."""
    found: dict[str, float] = defaultdict(float)
    for tokens, probability in sequences(log_probs).items():
        found[" ".join(spell(tokens).split())] += probability
    return {text: math.log(probability) + judge(text) for text, probability in found.items()}


def readings(
    tokens: tuple[str, ...], pronunciations: Sequence[Pronunciation], separator: str | None, required: bool
) -> Iterator[tuple[tuple[str, ...], float]]:
    """(words, probability of the pronunciations) of each way to read tokens as words, with separators where they may be."""

    def read(rest: tuple[str, ...], first: bool) -> Iterator[tuple[tuple[str, ...], float]]:
        bare = rest
        while bare and bare[0] == separator:
            bare = bare[1:]
        if not bare:
            yield (), 1.0
            return
        if not first and required and len(bare) == len(rest):
            return
        for each in pronunciations:
            length = len(each.phones)
            if bare[:length] == each.phones:
                for words, probability in read(bare[length:], False):
                    yield (each.word, *words), probability * math.exp(each.logp)

    return read(tokens, True)


def word_sequences(
    log_probs: np.ndarray,
    symbols: Sequence[str],
    pronunciations: Sequence[Pronunciation],
    judge: Callable[[tuple[str, ...]], float],
    *,
    separator: str | None = None,
    required: bool = False,
) -> dict[str, float]:
    """Words -> score: summed over paths and over the pronunciations that they spell."""
    found: dict[tuple[str, ...], float] = defaultdict(float)
    for tokens, probability in sequences(log_probs).items():
        spelled = tuple(symbols[token] for token in tokens)
        for words, share in readings(spelled, pronunciations, separator, required):
            found[words] += probability * share
    return {" ".join(words): math.log(probability) + judge(words) for words, probability in found.items()}


def occurrences(units: Sequence[str], phrase: Sequence[str]) -> int:
    """How often a phrase stands in a sequence, overlaps counted."""
    size = len(phrase)
    return sum(tuple(units[at : at + size]) == tuple(phrase) for at in range(len(units) - size + 1))
