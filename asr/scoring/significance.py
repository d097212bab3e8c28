"""How far an error rate, or the difference of two, can be trusted: the bootstrap over speakers (Bisani & Ney, ICASSP 2004)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

#: drawn group numbers held at once (int64), so that memory stays near 30 MB whatever the test set
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Difference:
    """How two recognisers differ on the same references; below zero the first makes fewer errors."""

    #: difference of the error rates, a fraction
    rate: float
    #: its percentile interval
    interval: tuple[float, float]
    #: share of the draws in which the first makes fewer errors; equal numbers count half
    better: float


def bootstrap_interval(
    errors: Sequence[int], tokens: Sequence[int], *, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Percentile interval of sum(errors) / sum(tokens) when whole groups (speakers or utterances) are drawn with replacement.

    `errors` and `tokens` hold one count per group, so that what one group shares (a voice, a room) stays together. Draws
    without any token say nothing about the rate and are left out. None with fewer than two groups or without tokens.
    """
    rates = _drawn_rates(errors, tokens, resamples, seed)
    return None if rates is None else _percentiles(rates, confidence)


def paired_difference(
    errors: Sequence[int],
    others: Sequence[int],
    tokens: Sequence[int],
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Difference | None:
    """The rates of two recognisers compared: `errors` and `others` per group of the same `tokens`, drawn together.

    What makes a group hard for both leaves the difference alone, so it is known far better than either rate. None where
    `bootstrap_interval` has none.
    """
    if len(errors) != len(others):
        raise ValueError(f"{len(errors)} error counts against {len(others)}")
    differences = [one - other for one, other in zip(errors, others)]
    rates = _drawn_rates(differences, tokens, resamples, seed)
    if rates is None:
        return None
    better = float((rates < 0).mean() + 0.5 * (rates == 0).mean())
    return Difference(sum(differences) / sum(tokens), _percentiles(rates, confidence), better)


def _drawn_rates(counts: Sequence[int], tokens: Sequence[int], resamples: int, seed: int) -> np.ndarray | None:
    """sum(counts) / sum(tokens) of each draw of groups that has tokens."""
    if len(counts) != len(tokens):
        raise ValueError(f"{len(counts)} error counts for {len(tokens)} token counts")
    if len(tokens) < 2 or sum(tokens) == 0:
        return None
    count_array, token_array = np.asarray(counts, dtype=np.int64), np.asarray(tokens, dtype=np.int64)
    rates = []
    for chosen in _draws(len(tokens), resamples, seed):
        token_sums = token_array[chosen].sum(axis=1)
        rates.append(count_array[chosen].sum(axis=1)[token_sums > 0] / token_sums[token_sums > 0])
    pooled = np.concatenate(rates)
    return pooled if pooled.size else None


def _draws(groups: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """(draws, groups) group numbers with replacement, `resamples` draws in all, in pieces that fit into memory."""
    draw = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // groups)
    for start in range(0, resamples, at_once):
        yield draw.integers(0, groups, size=(min(at_once, resamples - start), groups))


def _percentiles(rates: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(rates, [tail, 1 - tail])
    return float(low), float(high)
