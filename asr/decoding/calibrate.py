"""Confidences that mean what they say: how often words of a confidence are right, and a map that makes the two agree.

The map is the logistic one of Platt (1999), on the log-odds of the confidence. How well it does is measured on groups
(speakers) that it was not fitted on; the measure is the expected calibration error of Guo et al. (ICML 2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: confidences are kept this far away from 0 and 1 before their logarithms are taken: a posterior beyond that says more of what
#: the search has pruned than of the word
CERTAIN = 1e-3
#: the least probability whose logarithm is counted in the loss
LEAST_CHANCE = 1e-6
BINS = 10
#: parts into which the groups are cut to measure the map where it was not fitted
FOLDS = 5
#: fewest words, and fewest wrong ones, that a map is fitted to
LEAST_WORDS, LEAST_WRONG = 50, 5
#: weight of the wish that the map changes nothing, in words
PRIOR = 1.0
#: steps of Newton's method at most, and what is as small as no step
ROUNDS, STEP = 100, 1e-9


@dataclass(frozen=True)
class Calibration:
    """A map of confidences, and how well it does.

    Confidence c becomes 1 / (1 + exp(-(slope * ln(c / (1 - c)) + offset))); slope 1 and offset 0 leave it as it is.
    """

    slope: float
    offset: float
    #: exponent of the search's posterior that the confidences were taken from
    scale: float
    #: mean negative log-likelihood of right and wrong, mapped by what other groups say, natural logarithm
    loss: float
    #: expected calibration error as found, and mapped by what other groups say; None without words
    error_before: float | None
    error_after: float | None
    #: (words,) confidences as found, the same mapped by other groups, and whether the word was right
    confidences: np.ndarray
    mapped: np.ndarray
    right: np.ndarray


def apply_map(confidences: np.ndarray, slope: float, offset: float) -> np.ndarray:
    """Probabilities that words of these confidences (W,) are right."""
    return 1 / (1 + np.exp(-(slope * _log_odds(confidences) + offset)))


def calibration_error(confidences: np.ndarray, right: np.ndarray) -> float:
    """Mean distance between the confidence of a word and the share of right words in its bin, of ten equally wide ones."""
    share = [abs(confidences[rows].sum() - right[rows].sum()) for rows in bin_rows(confidences)]
    return float(sum(share) / len(confidences))


def bin_rows(confidences: np.ndarray) -> list[np.ndarray]:
    """Indices of the words in each bin that has any."""
    number = np.minimum((np.asarray(confidences) * BINS).astype(int), BINS - 1)
    return [rows for rows in (np.flatnonzero(number == one) for one in range(BINS)) if rows.size]


def fit_calibration(
    confidences: Sequence[float], right: Sequence[bool], groups: Sequence[int], *, scale: float = 1.0
) -> Calibration:
    """The map for words (W,) of these confidences, 0..1, of which these were right; too few of them leave it as it is."""
    found, hits = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=bool)
    if found.size == 0:
        return Calibration(1.0, 0.0, scale, 0.0, None, None, found, found, hits)
    slope, offset = _fit(found, hits)
    part = np.asarray(groups) % FOLDS
    mapped = found.copy()
    for fold in range(FOLDS):
        inside = part == fold
        mapped[inside] = apply_map(found[inside], *_fit(found[~inside], hits[~inside]))
    chance = np.clip(np.where(hits, mapped, 1 - mapped), LEAST_CHANCE, 1.0)
    return Calibration(
        slope=slope,
        offset=offset,
        scale=scale,
        loss=float(-np.log(chance).mean()),
        error_before=calibration_error(found, hits),
        error_after=calibration_error(mapped, hits),
        confidences=found,
        mapped=mapped,
        right=hits,
    )


def _log_odds(confidences: np.ndarray) -> np.ndarray:
    clipped = np.clip(confidences, CERTAIN, 1 - CERTAIN)
    return np.log(clipped) - np.log1p(-clipped)


def _fit(confidences: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the likeliest map, by Newton's method; a weak Gaussian prior keeps it near the identity."""
    if len(right) < LEAST_WORDS or (~right).sum() < LEAST_WRONG or right.sum() < LEAST_WRONG:
        return 1.0, 0.0
    inputs = np.stack([_log_odds(confidences), np.ones(len(right))], axis=1)
    signs = np.where(right, 1.0, -1.0)
    place = start = np.array([1.0, 0.0])

    def loss(values: np.ndarray) -> float:
        return float(np.logaddexp(0.0, -signs * (inputs @ values)).sum() + 0.5 * PRIOR * ((values - start) ** 2).sum())

    for _ in range(ROUNDS):
        chance = 1 / (1 + np.exp(-(inputs @ place)))
        slope = inputs.T @ (chance - right) + PRIOR * (place - start)
        curve = inputs.T @ (inputs * (chance * (1 - chance))[:, None]) + PRIOR * np.eye(2)
        step, share = np.linalg.solve(curve, slope), 1.0
        while share > STEP and loss(place - share * step) > loss(place):
            share /= 2
        place = place - share * step
        if share <= STEP or np.abs(step).max() < STEP:
            break
    return (float(place[0]), float(place[1])) if place[0] > 0 else (1.0, 0.0)
