"""Bootstrap intervals against what they must be in cases that can be worked out."""

from itertools import product

import numpy as np
import pytest

from asr.scoring import significance
from asr.scoring.significance import Difference, bootstrap_interval, paired_difference


def test_two_speakers_reach_from_the_better_to_the_worse():
    # draws of 2 out of 2: both first 1/4, mixed 1/2, both second 1/4; the 2.5 % and 97.5 % points are the extremes
    assert bootstrap_interval([1, 5], [10, 10]) == (0.1, 0.5)


def test_the_ratio_of_sums_is_taken_not_the_mean_of_ratios():
    low, high = bootstrap_interval([0, 90], [10, 90])
    assert (low, high) == (0.0, 1.0)
    draws = bootstrap_interval([0] * 50 + [90] * 50, [10] * 50 + [90] * 50, resamples=2000)
    assert draws[0] > 0.7, "the mean of ratios would be near 0.5, the ratio of sums is 0.9"


def test_width_agrees_with_the_binomial_where_utterances_are_single_words():
    draw = np.random.default_rng(3)
    errors = (draw.random(900) < 0.2).astype(int)
    low, high = bootstrap_interval(errors.tolist(), [1] * 900, resamples=4000)
    rate = errors.mean()
    half = 1.96 * np.sqrt(rate * (1 - rate) / 900)
    assert low == pytest.approx(rate - half, abs=0.004)
    assert high == pytest.approx(rate + half, abs=0.004)


def test_the_same_seed_draws_the_same_and_another_seed_others(monkeypatch):
    errors, tokens = list(range(30)), [40] * 30
    first = bootstrap_interval(errors, tokens, seed=5)
    assert bootstrap_interval(errors, tokens, seed=5) == first
    assert bootstrap_interval(errors, tokens, seed=6) != first
    monkeypatch.setattr(significance, "_DRAWS_AT_ONCE", 100)
    assert bootstrap_interval(errors, tokens, seed=5) == first, "how many draws are held at once must not matter"


@pytest.mark.parametrize(("errors", "tokens"), [([], []), ([3], [10]), ([0, 2], [0, 0])])
def test_no_interval_from_fewer_than_two_groups_or_without_tokens(errors, tokens):
    assert bootstrap_interval(errors, tokens) is None


def test_groups_without_tokens_do_not_divide_by_zero():
    low, high = bootstrap_interval([1, 0, 2], [0, 10, 10], resamples=500)
    assert 0 <= low <= high < np.inf


def test_two_speakers_one_better_and_one_worse():
    # draws of 2 out of 2: both first 1/4, mixed 1/2, both second 1/4; their differences are -2, 0 and 2 in 20 tokens
    found = paired_difference([1, 5], [2, 4], [10, 10], resamples=4000)
    assert (found.rate, found.interval) == (0.0, (-0.1, 0.1))
    assert found.better == pytest.approx(0.5, abs=0.03)


def test_the_difference_agrees_with_all_draws_of_four_speakers():
    errors, others, tokens = [3, 0, 7, 2], [4, 1, 6, 6], [20, 11, 30, 9]
    groups = [np.array(draw) for draw in product(range(4), repeat=4)]
    differences = np.array(errors) - np.array(others)
    rates = np.array([differences[draw].sum() / np.array(tokens)[draw].sum() for draw in groups])
    found = paired_difference(errors, others, tokens, resamples=40_000, seed=2)
    assert found.rate == -5 / 70
    assert found.better == pytest.approx((rates < 0).mean() + 0.5 * (rates == 0).mean(), abs=0.01)
    for bound, point in zip(found.interval, np.quantile(rates, [0.025, 0.975])):
        assert bound == pytest.approx(point, abs=0.01)


def test_what_is_hard_for_both_leaves_the_difference_alone():
    errors = np.random.default_rng(1).integers(0, 50, 40)
    tokens = [100] * 40
    assert paired_difference(errors.tolist(), (errors + 1).tolist(), tokens) == Difference(-0.01, (-0.01, -0.01), 1.0)
    low, high = bootstrap_interval(errors.tolist(), tokens)
    assert high - low > 0.05


def test_no_difference_from_one_speaker_or_of_unlike_counts():
    assert paired_difference([3], [4], [10]) is None
    assert paired_difference([0, 1], [1, 1], [0, 0]) is None
    with pytest.raises(ValueError, match="2 error counts against 3"):
        paired_difference([0, 1], [1, 1, 1], [10, 10])
