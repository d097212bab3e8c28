"""Plans of windows, and their joining on emissions that stand for known text."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.windows import Window, join_emissions, plan_windows

HOP = 4


@given(st.integers(1, 500), st.integers(5, 30), st.integers(1, 4))
def test_windows_cover_every_sample_and_start_on_frames(num_samples, frames, shared):
    windows = plan_windows(num_samples, hop=HOP, longest=frames * HOP, overlap=shared * HOP)
    assert windows[0].start == 0
    assert windows[-1].stop == num_samples
    for window in windows:
        assert window.start == window.frame * HOP
        assert 0 < window.stop - window.start <= frames * HOP
    for earlier, later in itertools.pairwise(windows):
        assert earlier.stop - later.start == shared * HOP


def test_a_short_recording_is_one_window():
    assert plan_windows(100, hop=HOP, longest=400, overlap=40) == [Window(0, 100, 0)]


def test_windows_without_room_for_the_overlap_are_refused():
    with pytest.raises(ValueError, match="cannot overlap"):
        plan_windows(1000, hop=HOP, longest=40, overlap=40)


@given(st.integers(1, 300), st.integers(6, 30), st.integers(1, 5), st.integers(0, 2**31))
def test_windows_of_a_whole_join_to_the_whole(frames, longest, shared, seed):
    whole = np.random.default_rng(seed).normal(size=(frames, 3)).astype(np.float32)
    windows = plan_windows(frames * HOP, hop=HOP, longest=longest * HOP, overlap=shared * HOP)
    pieces = [whole[window.frame : window.frame + -(-(window.stop - window.start) // HOP)] for window in windows]
    np.testing.assert_array_equal(join_emissions(windows, pieces), whole)


def one_hot(path):
    return np.log(np.eye(2, dtype=np.float32)[path] * 0.8 + 0.1)


def test_the_seam_lies_where_both_windows_say_blank():
    # ten shared frames; the token at frames 14 to 16 covers the middle of the overlap (15)
    windows = [Window(0, 20, 0), Window(10, 30, 10)]
    path = np.zeros(30, dtype=int)
    path[14:17] = 1
    shifted = np.zeros(20, dtype=int)
    shifted[5:8] = 1  # the later window hears the token one frame later: 15 to 17
    joined = join_emissions(windows, [one_hot(path[:20]), one_hot(shifted)]).argmax(axis=1)
    assert len(joined) == 30
    runs = np.flatnonzero(np.diff(np.r_[0, joined, 0]) == 1)
    assert len(runs) == 1, "the token must be said once"
    assert joined.sum() == 3, "and not be cut"


def test_the_middle_is_the_seam_where_there_is_no_silence():
    windows = [Window(0, 20, 0), Window(10, 30, 10)]
    earlier, later = one_hot(np.ones(20, dtype=int)), one_hot(np.ones(20, dtype=int)) - 1
    joined = join_emissions(windows, [earlier, later])
    np.testing.assert_array_equal(joined[:15], earlier[:15])
    np.testing.assert_array_equal(joined[15:], later[5:])
