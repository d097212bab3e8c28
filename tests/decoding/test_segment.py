"""Pauses of sounds that were put together from known pieces, and the cuts planned from them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.segment import FRAME, Cut, Pause, find_pauses, measure_levels, plan_cuts

RATE = 8000


def sound(seconds, level_db, seed=0):
    """Noise of this level, dB re full scale."""
    return np.random.default_rng(seed).normal(size=round(seconds * RATE)) * 10 ** (level_db / 20)


def speech(*pieces, background=-60.0):
    """(seconds, speaking) pieces over a background."""
    parts = [sound(seconds, -20.0 if speaking else -200.0, number) for number, (seconds, speaking) in enumerate(pieces)]
    whole = np.concatenate(parts)
    return (whole + sound(len(whole) / RATE, background, 99)).astype(np.float32)


def pauses_of(samples):
    return [(pause.start * FRAME, pause.stop * FRAME) for pause in find_pauses(measure_levels(samples, RATE))]


def test_the_level_of_a_frame_is_its_power_without_its_mean():
    samples = np.r_[np.full(80, 0.5), np.tile([0.1, -0.1], 40) + 0.3, np.zeros(80), np.ones(79)].astype(np.float32)
    np.testing.assert_allclose(measure_levels(samples, RATE), [-120.0, -20.0, -120.0], atol=0.01)


@pytest.mark.parametrize("background", [-100.0, -60.0, -40.0])
def test_pauses_are_found_where_they_are(background):
    samples = speech((3, True), (0.8, False), (5, True), (0.4, False), (4, True), background=background)
    found = pauses_of(samples)
    np.testing.assert_allclose(found, [(3.0, 3.8), (8.8, 9.2)], atol=0.05)


def test_a_gap_shorter_than_a_pause_is_none():
    assert pauses_of(speech((3, True), (0.15, False), (3, True))) == []


def test_digital_silence_between_noisy_pauses_hides_none_of_them():
    samples = speech((10, True), (1, False), (10, True), background=-55.0)
    samples = np.concatenate([samples, np.zeros(6 * RATE, dtype=np.float32), samples])
    found = pauses_of(samples)
    np.testing.assert_allclose(found, [(10, 11), (21, 27), (37, 38)], atol=0.05)


def test_a_background_that_rises_is_followed():
    quiet = speech((20, True), (1, False), (20, True), background=-70.0)
    loud = speech((20, True), (1, False), (20, True), background=-38.0)
    found = pauses_of(np.concatenate([quiet, loud]))
    np.testing.assert_allclose(found, [(20, 21), (61, 62)], atol=0.05)


def test_a_minute_of_silence_is_one_pause_and_not_many_words():
    found = pauses_of(speech((30, True), (60, False), (30, True)))
    assert found[0][0] == pytest.approx(30, abs=0.05)
    assert found[-1][1] == pytest.approx(90, abs=0.05)
    assert sum(stop - start for start, stop in found) > 58


@pytest.mark.parametrize("samples", [sound(20, -30).astype(np.float32), np.zeros(RATE, np.float32)], ids=["noise", "zeros"])
def test_sound_of_one_level_has_no_pause(samples):
    assert pauses_of(samples) == []


def test_nothing_at_all_has_no_pause():
    assert pauses_of(np.zeros(0, np.float32)) == []


@given(st.floats(1.0, 400.0), st.lists(st.tuples(st.floats(0.3, 20.0), st.floats(0.3, 3.0)), max_size=30))
def test_no_piece_is_longer_than_allowed_and_cuts_in_pauses_are_in_their_middle(seconds, pieces):
    edges = np.cumsum(np.ravel(pieces)) / FRAME
    pauses = [Pause(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
    cuts = plan_cuts(seconds, pauses, longest=30.0)
    places = [0.0, *(cut.at for cut in cuts), seconds]
    lengths = [later - earlier for earlier, later in itertools.pairwise(places)]
    assert all(0 < length <= 30.0 + 1e-9 for length in lengths)
    assert all(length >= 15.0 - 1e-9 for length in lengths[:-1])
    middles = [(pause.start + pause.stop) / 2 * FRAME for pause in pauses]
    for begin, cut in zip(places, cuts):
        assert cut.pause == any(begin + 15.0 <= middle <= begin + 30.0 for middle in middles)
        assert not cut.pause or cut.at in middles


def test_the_longest_pause_is_taken_and_of_long_ones_the_last():
    pauses = [Pause(1000, 1200), Pause(1800, 1840), Pause(2100, 2150), Pause(2900, 2940)]
    assert plan_cuts(40.0, pauses, longest=30.0) == [Cut(21.25, True)]
    assert plan_cuts(40.0, [*pauses[:2], Pause(2100, 2170), *pauses[2:], Pause(2600, 2700)], longest=30.0) == [Cut(26.5, True)]
    assert plan_cuts(30.0, pauses, longest=30.0) == []
