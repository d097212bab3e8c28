"""Best-path decoding by hand, and against the definition of the collapse."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.greedy import DECODERS, greedy_decode
from asr.errors import DataError

SYMBOLS = ["-", "a", "b"]


def spell(ids):
    return "".join(SYMBOLS[index] for index in ids)


def emissions(path, height=0.9):
    """Log-probabilities whose best path is `path`."""
    probabilities = np.full((len(path), len(SYMBOLS)), (1 - height) / (len(SYMBOLS) - 1))
    probabilities[np.arange(len(path)), path] = height
    return np.log(probabilities).astype(np.float32)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ([0, 0, 0], ""),
        ([1, 1, 1], "a"),
        ([1, 0, 1], "aa"),
        ([1, 1, 2, 2], "ab"),
        ([0, 1, 0, 0, 2, 2, 0], "ab"),
        ([2, 1, 1, 0, 1, 2], "baab"),
        ([2], "b"),
    ],
)
def test_runs_become_one_token_and_blanks_go(path, text):
    hypothesis = greedy_decode(emissions(path), spell)
    assert hypothesis.text == text
    assert spell(hypothesis.tokens) == text
    assert hypothesis.score == pytest.approx(len(path) * np.log(0.9), rel=1e-5)


@given(st.lists(st.integers(0, 2), max_size=12))
def test_the_collapse_is_that_of_the_paper(path):
    expected = [symbol for symbol, _ in itertools.groupby(path) if symbol != 0]
    hypothesis = greedy_decode(emissions(path), spell)
    assert list(hypothesis.tokens) == expected
    assert len(hypothesis.times) == len(expected)


def test_a_token_stands_at_the_highest_frame_of_its_run():
    log_probs = np.log([[0.9, 0.05, 0.05], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]])
    hypothesis = greedy_decode(log_probs, spell, frame_shift_s=0.02, first_frame_s=0.005)
    assert hypothesis.text == "ab"
    assert hypothesis.times == pytest.approx((0.045, 0.085))
    assert hypothesis.score == pytest.approx(np.log(0.9 * 0.6 * 0.8 * 0.7 * 0.8))


def test_no_frames_give_no_text():
    hypothesis = greedy_decode(np.zeros((0, 3), dtype=np.float32), spell)
    assert (hypothesis.text, hypothesis.tokens, hypothesis.score, hypothesis.times) == ("", (), 0.0, ())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_and_never_become_text(value):
    log_probs = emissions([1, 0, 2, 0])
    log_probs[2, 1] = value
    with pytest.raises(DataError, match="not finite at frame 2 of 4"):
        greedy_decode(log_probs, spell)


def test_impossible_symbols_are_no_fault():
    log_probs = emissions([1, 2])
    log_probs[:, 0] = -np.inf
    assert greedy_decode(log_probs, spell).text == "ab"


def test_the_table_offers_it_by_name():
    assert DECODERS["greedy"] is greedy_decode
