"""Interpolated modified Kneser-Ney estimation of n-gram models (S. F. Chen, J. Goodman, "An empirical study of smoothing
techniques for language modeling", report TR-10-98, Harvard 1998, section 3), on sorted arrays.

    p(w | h) = (c(h w) - D(c)) / sum over v of c(h v) + g(h) p(w | h without its first word)        eq. (27), recursively
    g(h) = (D1 N1(h) + D2 N2(h) + D3 N3+(h)) / sum over v of c(h v)
    D1 = 1 - 2 Y t2/t1,  D2 = 2 - 3 Y t3/t2,  D3+ = 3 - 4 Y t4/t3,  Y = t1 / (t1 + 2 t2)            eq. (26)

c is the number of occurrences for the longest n-grams and for those that begin with <s>, else the number of different words seen
before the n-gram. The recursion ends in 1 / V over all words but <s>, with <unk> and </s>: what <unk> has when the text has none.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError, UsageError
from asr.text.ngram import BOS, EOS, MAX_ORDER, UNK, NgramLevel, NgramModel, build_model

#: Discounts where the counts of counts give none, those KenLM takes.
FALLBACK = (0.5, 1.0, 1.5)
FIRST_WORD = 3

Array = NDArray[Any]


@dataclass(frozen=True)
class NgramTraining:
    """A model and how it was made. Tuples hold one entry for each length 1..order."""

    model: NgramModel
    #: sentences with at least one word
    sentences: int
    #: words, without <s> and </s>
    tokens: int
    #: D1, D2, D3+
    discounts: tuple[tuple[float, float, float], ...]
    #: different n-grams of the text (and <unk>), and those left after pruning
    seen: tuple[int, ...]
    kept: tuple[int, ...]
    #: what was done differently from the rule, one sentence each
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Counts:
    """The n-grams of one length, sorted by (prefix, word)."""

    prefix: Array  # (N,) index among the n-grams one shorter, as is suffix
    word: Array
    suffix: Array
    occurrences: Array
    count: Array  # c of the equations above


def train_ngram(sentences: Iterable[Sequence[str]], *, order: int, prune: Sequence[int] = (), min_count: int = 1) -> NgramModel:
    """The model alone of `estimate_ngram`."""
    return estimate_ngram(sentences, order=order, prune=prune, min_count=min_count).model


def estimate_ngram(
    sentences: Iterable[Sequence[str]], *, order: int, prune: Sequence[int] = (), min_count: int = 1
) -> NgramTraining:
    """Estimate a model of this order from sentences; <s> and </s> are put around each, empty ones are left out.

    prune: n-grams of length n that occur at most prune[n - 1] times are left out, their share goes to the back-off; the last
    number stands for all longer ones, too. min_count: rarer words are counted as <unk>. The word "<unk>" in a sentence is
    counted like any other. The result does not depend on the order of the sentences.

    Raises UsageError for numbers out of range, DataError for no text at all, for <s> or </s> among the words, and for words
    with white space in them.
    """
    thresholds = _check(order, prune, min_count)
    words, stream, number = _collect(sentences, min_count)
    levels = _count_levels(stream, order, len(words), words.index(BOS))
    discounts, notes = [], []
    for length, level in enumerate(levels, start=1):
        found, note = _discounts(level.count)
        discounts.append(found)
        if note:
            notes.append(f"{length}-grams: {note}")
    estimated = _estimate(levels, discounts, thresholds)
    seen = tuple(len(level.word) for level in levels)
    kept = tuple(len(level.word) for level in estimated)
    model = build_model(words, estimated)
    return NgramTraining(model, number, len(stream) - 2 * number, tuple(discounts), seen, kept, tuple(notes))


def _check(order: int, prune: Sequence[int], min_count: int) -> list[int]:
    """The pruning threshold of each length."""
    if not 1 <= order <= MAX_ORDER:
        raise UsageError(f"order must be 1..{MAX_ORDER}, got {order}")
    if min_count < 1:
        raise UsageError(f"min_count must be at least 1, got {min_count}")
    thresholds = [*prune, *[prune[-1] if prune else 0] * order][:order]
    if len(prune) > order or thresholds[0] != 0 or thresholds != sorted(thresholds):
        shown = ",".join(map(str, prune))
        raise UsageError(f"prune must be at most order={order} numbers that begin with 0 and never fall, got {shown}")
    return thresholds


def _collect(sentences: Iterable[Sequence[str]], min_count: int) -> tuple[list[str], NDArray[np.int32], int]:
    """The words (<unk>, <s>, </s>, then sorted), all sentences as one stream of ids with their marks, and how many they are."""
    ids: dict[str, int] = {UNK: 0, BOS: 1, EOS: 2}
    stream, number = array("i"), 0
    for sentence in sentences:
        if sentence:
            number += 1
            stream.append(1)
            stream.extend([ids.setdefault(word, len(ids)) for word in sentence])
            stream.append(2)
    if not number:
        raise DataError("the text has no words: a language model needs at least one sentence")
    found = np.frombuffer(stream, np.int32)
    occurrences = np.bincount(found, minlength=len(ids))
    for marker, index in ((BOS, 1), (EOS, 2)):
        if occurrences[index] != number:
            raise DataError(f"the text holds {marker}, which the model sets around each sentence itself; remove it")
    listed = list(ids)
    broken = next((word for word in listed if word.split() != [word]), None)
    if broken is not None:
        raise DataError(f"{broken!r} cannot be a word of a language model: it is empty or holds white space")
    rest = sorted(listed[index] for index in range(FIRST_WORD, len(listed)) if occurrences[index] >= min_count)
    words = [UNK, BOS, EOS, *rest]
    place = {word: index for index, word in enumerate(words)}
    renumbered = np.array([place.get(word, 0) for word in listed], np.int32)
    return words, renumbered[found], number


def _count_levels(stream: NDArray[np.int32], order: int, size: int, bos: int) -> list[_Counts]:
    """Count the n-grams of lengths 1..order; `stream` holds sentences from <s> to </s>, `size` is the number of words."""
    begins = np.where(stream == bos, np.arange(len(stream), dtype=np.int32), np.int32(0))
    # place of each token in its sentence, <s> at 0: an n-gram ends at the places from n - 1 on
    depth = np.arange(len(stream), dtype=np.int32) - np.maximum.accumulate(begins)
    del begins
    occurrences = np.bincount(stream, minlength=size)
    occurrences[bos] = 0  # given, never predicted
    none = np.zeros(size, np.int32)
    levels = [_Counts(none, np.arange(size, dtype=np.int32), none, occurrences, occurrences)]
    at_start = none > 0
    gram = stream  # index of the n-gram that ends at each token
    for length in range(2, order + 1):
        ends = np.flatnonzero(depth >= length - 1).astype(np.int32)
        keys = gram[ends - 1].astype(np.int64) * size + stream[ends]
        unique, inverse = np.unique(keys, return_inverse=True)
        del keys
        suffix = np.zeros(len(unique), np.int32)
        suffix[inverse] = gram[ends]
        before = np.bincount(suffix, minlength=len(at_start))
        levels[-1] = replace(levels[-1], count=np.where(at_start, levels[-1].occurrences, before))
        occurrences = np.bincount(inverse, minlength=len(unique))
        levels.append(
            _Counts((unique // size).astype(np.int32), (unique % size).astype(np.int32), suffix, occurrences, occurrences)
        )
        at_start = np.zeros(len(unique), bool)
        at_start[inverse[depth[ends] == length - 1]] = True
        gram = np.full(len(stream), -1, np.int32)
        gram[ends] = inverse
    return levels


def _discounts(count: Array) -> tuple[tuple[float, float, float], str]:
    """D1, D2, D3+ of eq. (26), and what was taken instead where they do not lie within 0 < D <= 1, 2, 3."""
    t1, t2, t3, t4 = (int(number) for number in np.bincount(np.minimum(count, 5), minlength=6)[1:5])
    tallies = f"{t1}, {t2}, {t3} and {t4} of them have the counts 1 to 4"
    if t1 and t2:
        y = t1 / (t1 + 2 * t2)
        if t3:
            found = (1 - 2 * y * t2 / t1, 2 - 3 * y * t3 / t2, 3 - 4 * y * t4 / t3)
            if all(0 < discount <= most for most, discount in enumerate(found, start=1)):
                return found, ""
        return (y, y, y), f"{tallies}, which gives no three discounts; one of {y:.3f} is taken for all"
    shown = ", ".join(map(str, FALLBACK))
    return FALLBACK, f"{tallies}, which gives no discounts; {shown} are taken"


def _estimate(
    levels: Sequence[_Counts], discounts: Sequence[tuple[float, float, float]], thresholds: Sequence[int]
) -> list[NgramLevel]:
    """Probabilities and back-off weights of the n-grams that pruning keeps."""
    # The level below the first: one context, under which all words but <s> are equally likely.
    lower = np.array([1.0 / (len(levels[0].word) - 1)])
    place = np.zeros(1, np.int64)  # of each n-gram among those that are kept
    estimated: list[NgramLevel] = []
    for level, three, threshold in zip(levels, discounts, thresholds, strict=True):
        kept = level.occurrences > threshold if estimated else np.ones(len(level.word), bool)
        discount = np.array([0.0, *three])[np.minimum(level.count, 3)]
        contexts = len(lower)
        total = np.bincount(level.prefix, level.count, contexts)
        spared = np.bincount(level.prefix, np.where(kept, discount, level.count), contexts)
        weight = np.divide(spared, total, out=np.ones(contexts), where=total > 0)
        own = np.divide(level.count - discount, total[level.prefix])
        probability = np.where(kept, own, 0.0) + weight[level.prefix] * lower[level.suffix]
        if estimated:
            below = estimated[-1]
            estimated[-1] = below._replace(backoff=np.log(weight[place >= 0]))
        estimated.append(
            NgramLevel(place[level.prefix[kept]], level.word[kept], np.log(probability[kept]), np.zeros(np.count_nonzero(kept)))
        )
        place = np.where(kept, np.cumsum(kept) - 1, -1)
        lower = probability
    return estimated
