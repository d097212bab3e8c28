"""How far an error rate can be trusted: bootstrap intervals over speakers (Bisani & Ney, ICASSP 2004)."""

from collections.abc import Sequence

import numpy as np

#: drawn group numbers held at once (int64), so that memory stays near 30 MB whatever the test set
_DRAWS_AT_ONCE = 4_000_000


def bootstrap_interval(
    errors: Sequence[int], tokens: Sequence[int], *, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Percentile interval of sum(errors) / sum(tokens) when whole groups (speakers or utterances) are drawn with replacement.

    `errors` and `tokens` hold one count per group, so that what one group shares (a voice, a room) stays together. Draws
    without any token say nothing about the rate and are left out. None with fewer than two groups or without tokens.
    """
    if len(errors) != len(tokens):
        raise ValueError(f"{len(errors)} error counts for {len(tokens)} token counts")
    groups = len(tokens)
    if groups < 2 or sum(tokens) == 0:
        return None
    draw = np.random.default_rng(seed)
    error_counts, token_counts = np.asarray(errors, dtype=np.int64), np.asarray(tokens, dtype=np.int64)
    at_once = max(1, _DRAWS_AT_ONCE // groups)
    rates = []
    for start in range(0, resamples, at_once):
        chosen = draw.integers(0, groups, size=(min(at_once, resamples - start), groups))
        error_sums, token_sums = error_counts[chosen].sum(axis=1), token_counts[chosen].sum(axis=1)
        rates.append(error_sums[token_sums > 0] / token_sums[token_sums > 0])
    pooled = np.concatenate(rates)
    if pooled.size == 0:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(pooled, [tail, 1 - tail])
    return float(low), float(high)
