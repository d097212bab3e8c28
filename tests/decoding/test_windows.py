"""Plans of windows, and their joining on emissions that stand for known text."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding import windows
from asr.decoding.segment import Cut
from asr.decoding.windows import Window, join_windows, plan_windows

HOP, RATE = 4, 20  # five frames a second
OVERLAP = round(windows.OVERLAP * RATE / HOP)
CONTEXT = round(windows.CONTEXT * RATE / HOP)


@st.composite
def recordings(draw):
    """Samples of a recording and cuts at least an overlap apart, as `plan_cuts` makes them."""
    gaps = draw(st.lists(st.floats(10.0, 30.0), max_size=6))
    places = np.cumsum(gaps)
    cuts = [Cut(float(place), draw(st.booleans())) for place in places]
    rest = draw(st.floats(0.1, 30.0))
    return round((float(sum(gaps)) + rest) * RATE), cuts


@given(recordings())
def test_windows_cover_every_sample_start_on_frames_and_overlap_at_cuts(recording):
    num_samples, cuts = recording
    planned = plan_windows(num_samples, cuts, sample_rate=RATE, hop=HOP)
    assert len(planned) == len(cuts) + 1
    assert planned[0].start == 0
    assert planned[-1].stop == num_samples
    for window in planned:
        assert window.start == window.frame * HOP < window.stop
    for cut, (earlier, later) in zip(cuts, itertools.pairwise(planned)):
        assert earlier.stop - later.start == min((2 * CONTEXT if cut.pause else OVERLAP) * HOP, num_samples - later.start)
        assert earlier.pause == cut.pause


def test_a_short_recording_is_one_window():
    assert plan_windows(100, [], sample_rate=RATE, hop=HOP) == [Window(0, 100, 0)]


@given(recordings(), st.integers(1, 400), st.integers(0, 2**31))
def test_windows_of_a_whole_join_to_the_whole(recording, longest, seed):
    num_samples, cuts = recording
    whole = np.random.default_rng(seed).normal(size=(-(-num_samples // HOP), 3)).astype(np.float32)
    planned = plan_windows(num_samples, cuts, sample_rate=RATE, hop=HOP)
    pieces = [whole[window.frame : window.frame + -(-(window.stop - window.start) // HOP)] for window in planned]
    stretches = list(join_windows(planned, pieces, longest=longest))
    np.testing.assert_array_equal(np.concatenate([one.log_probs for one in stretches]), whole)
    begins = [one.frame for one in stretches]
    assert begins == [0, *np.cumsum([len(one.log_probs) for one in stretches])[:-1]]
    for earlier, later in itertools.pairwise(planned):
        assert not earlier.pause or any(later.frame <= begin <= earlier.stop / HOP for begin in begins[1:])
    assert all(len(one.log_probs) <= longest + (30 + windows.OVERLAP) * RATE / HOP for one in stretches)


def join_emissions(planned, pieces):
    (stretch,) = join_windows(planned, pieces, longest=10**6)
    return stretch.log_probs


def one_hot(path):
    return np.log(np.eye(2, dtype=np.float32)[path] * 0.8 + 0.1)


def test_the_seam_lies_where_both_windows_say_blank():
    # ten shared frames; the token at frames 14 to 16 covers the middle of the overlap (15)
    planned = [Window(0, 20, 0), Window(10, 30, 10)]
    path = np.zeros(30, dtype=int)
    path[14:17] = 1
    shifted = np.zeros(20, dtype=int)
    shifted[5:8] = 1  # the later window hears the token one frame later: 15 to 17
    joined = join_emissions(planned, [one_hot(path[:20]), one_hot(shifted)]).argmax(axis=1)
    assert len(joined) == 30
    runs = np.flatnonzero(np.diff(np.r_[0, joined, 0]) == 1)
    assert len(runs) == 1, "the token must be said once"
    assert joined.sum() == 3, "and not be cut"


def test_the_middle_is_the_seam_where_there_is_no_silence():
    planned = [Window(0, 20, 0), Window(10, 30, 10)]
    earlier, later = one_hot(np.ones(20, dtype=int)), one_hot(np.ones(20, dtype=int)) - 1
    joined = join_emissions(planned, [earlier, later])
    np.testing.assert_array_equal(joined[:15], earlier[:15])
    np.testing.assert_array_equal(joined[15:], later[5:])


def test_in_a_pause_the_recording_is_parted():
    planned = [Window(0, 20, 0, pause=True), Window(10, 30, 10)]
    path = np.zeros(30, dtype=int)
    path[14:17] = 1
    first, second = join_windows(planned, [one_hot(path[:20]), one_hot(path[10:])], longest=10**6)
    assert (first.frame, second.frame) == (0, len(first.log_probs))
    assert len(first.log_probs) in (13, 14, 17), "beside the token, not in it"
    assert sorted([first.log_probs.argmax(axis=1).sum(), second.log_probs.argmax(axis=1).sum()]) == [0, 3]


def test_without_a_blank_the_seam_lies_between_two_symbols():
    planned = [Window(0, 20, 0, pause=True), Window(10, 30, 10)]
    path = np.ones(30, dtype=int)
    path[17:] = 2
    emitted = np.log(np.eye(3, dtype=np.float32)[path] * 0.8 + 0.1)
    first, second = join_windows(planned, [emitted[:20], emitted[10:]], longest=10**6)
    assert (len(first.log_probs), second.frame) == (17, 17)
