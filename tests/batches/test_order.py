"""The order of training is a pure function of seed and epoch, complete, and within its limits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.batches.order import BatchOptions, batch_order, cut_batches, join_recordings
from asr.errors import UsageError

DURATIONS = [0.5 + (37 * i % 101) / 10 for i in range(200)]


@settings(deadline=None, max_examples=60)
@given(
    durations=st.lists(st.floats(0.01, 40.0), min_size=1, max_size=60),
    utterances=st.integers(1, 9),
    seconds=st.floats(1.0, 60.0),
    epoch=st.integers(0, 3),
)
def test_every_utterance_once_and_limits_held(durations, utterances, seconds, epoch):
    options = BatchOptions(utterances=utterances, seconds=seconds)
    batches = batch_order(durations, options=options, seed=3, epoch=epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(durations)))
    for batch in batches:
        assert len(batch) <= utterances
        assert len(batch) == 1 or len(batch) * max(durations[i] for i in batch) <= seconds


def test_pure_function_of_seed_and_epoch():
    options = BatchOptions()
    first = batch_order(DURATIONS, options=options, seed=1, epoch=2)
    assert first == batch_order(DURATIONS, options=options, seed=1, epoch=2)
    assert first != batch_order(DURATIONS, options=options, seed=1, epoch=3)
    assert first != batch_order(DURATIONS, options=options, seed=2, epoch=2)


def test_first_epoch_goes_from_short_to_long():
    batches = batch_order(DURATIONS, options=BatchOptions(short_first_epochs=1), seed=1, epoch=0)
    flat = [DURATIONS[i] for batch in batches for i in batch]
    assert flat == sorted(flat)
    shuffled = batch_order(DURATIONS, options=BatchOptions(short_first_epochs=0), seed=1, epoch=0)
    assert [DURATIONS[i] for batch in shuffled for i in batch] != flat


@pytest.mark.parametrize("together", [2, 3, 50])
def test_batches_of_one_step_are_of_similar_lengths(together):
    """Processes that take one batch each wait for the longest: a step costs its longest batch."""
    options = BatchOptions(utterances=4, jitter=0.0)
    alone, batches = (batch_order(DURATIONS, options=options, seed=1, epoch=5, together=size) for size in (1, together))
    longest = [max(DURATIONS[i] for i in batch) for batch in batches]
    ranks = {place: rank for rank, place in enumerate(sorted(range(len(batches)), key=lambda place: longest[place]))}
    steps = [range(start, min(start + together, len(batches))) for start in range(0, len(batches), together)]
    assert all(max(ranks[place] for place in step) - min(ranks[place] for place in step) == len(step) - 1 for step in steps)
    assert sorted(map(sorted, alone)) == sorted(map(sorted, batches))
    assert together == 50 or longest != sorted(longest)
    first = batch_order(DURATIONS, options=options, seed=1, epoch=0, together=together)
    assert first == batch_order(DURATIONS, options=options, seed=1, epoch=0)


def test_lengths_in_a_bucket_are_similar_and_jitter_mixes_them():
    def padding(jitter: float) -> float:
        batches = batch_order(DURATIONS, options=BatchOptions(jitter=jitter, utterances=8), seed=1, epoch=5)
        padded = sum(len(batch) * max(DURATIONS[i] for i in batch) for batch in batches)
        return padded / sum(DURATIONS) - 1

    assert padding(0.0) < 0.05
    assert padding(0.0) < padding(0.3) < 0.5


def test_one_long_utterance_is_a_batch_by_itself():
    assert cut_batches([0, 1, 2], [1.0, 99.0, 1.0], BatchOptions(seconds=10.0)) == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("utterances", 0),
        ("seconds", 0.0),
        ("short_first_epochs", -1),
        ("join", 1.0),
        ("join_seconds", 0.0),
        ("jitter", 1.0),
        ("workers", 0),
        ("cache_mb", -1),
    ],
)
def test_options_out_of_range_are_named(field, value):
    with pytest.raises(UsageError, match=f"batches.{field} must"):
        BatchOptions(**{field: value})


def test_joined_recordings_are_of_one_speaker_and_each_is_heard_once():
    speakers = [None if index % 7 == 0 else f"s{index % 3}" for index in range(len(DURATIONS))]
    options = BatchOptions(join=0.6, join_seconds=3 * max(DURATIONS))
    groups = join_recordings(DURATIONS, speakers, options=options, seed=1, epoch=4)
    assert sorted(index for group in groups for index in group) == list(range(len(DURATIONS)))
    assert any(len(group) > 1 for group in groups)
    for group in groups:
        assert len({speakers[index] for index in group}) == 1
        assert len(group) == 1 or speakers[group[0]] is not None
        assert len(group) == 1 or sum(DURATIONS[index] for index in group) <= options.join_seconds
    assert groups == join_recordings(DURATIONS, speakers, options=options, seed=1, epoch=4)
    assert groups != join_recordings(DURATIONS, speakers, options=options, seed=1, epoch=5)
    assert groups != join_recordings(DURATIONS, speakers, options=options, seed=2, epoch=4)


def test_about_the_share_asked_for_is_joined():
    def joined(count, duration=1.0, epoch=1, **options):
        return join_recordings([duration] * count, ["a"] * count, options=BatchOptions(**options), seed=1, epoch=epoch)

    assert 250 < 1000 - len(joined(1000, join=0.3, join_seconds=1e9)) < 350
    alone = [[0], [1], [2], [3]]
    assert joined(4) == alone
    assert joined(4, join=0.9, epoch=0) == alone, "not while they go from short to long"
    assert all(len(group) == 1 for group in joined(9, duration=5.0, join=0.9, join_seconds=8.0))
