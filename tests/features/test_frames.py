import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.features.frames import MirroredSignals, plan_tiles, reflect


@pytest.mark.parametrize(("length", "expected"), [(1, "aaaaaaaaa"), (2, "aabbaabba"), (3, "bccbaabcc"), (5, "edcbaabcd")])
def test_reflect_repeats_the_edge_and_turns_as_often_as_needed(length, expected):
    positions = reflect(np.arange(-5, 4), np.array(length))
    assert "".join("abcde"[position] for position in positions) == expected


def test_reflect_of_an_empty_signal_stays_at_its_start():
    assert reflect(np.arange(-3, 3), np.array(0)).tolist() == [0] * 6


@pytest.mark.parametrize("width", [4, 6, 9, 30])
@pytest.mark.parametrize("begin", [-3, -1, 0, 2, 5])
def test_cut_gives_the_mirrored_samples(begin, width):
    lengths = [9, 5, 6]
    signals = torch.arange(27.0).reshape(3, 9)
    mirrored = MirroredSignals(signals, lengths, before=3, after=4)
    for rows in (slice(0, 3), slice(0, 1), slice(1, 3)):
        pieces = mirrored.cut(rows, begin, width)
        assert pieces.shape == (rows.stop - rows.start, width)
        checked = 0
        for row, piece in zip(range(rows.start, rows.stop), pieces):
            for column in range(min(width - 1, lengths[row] + 4 - begin)):
                position = int(reflect(np.array(begin + column), np.array(lengths[row])))
                assert piece[column] == signals[row, position]
                checked += 1
        assert checked > 0


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 50))
def test_tiles_hold_each_frame_once_within_the_limit(frames, limit):
    seen = [[] for _ in frames]
    for tile in plan_tiles(frames, limit):
        width = tile.frames.stop - tile.frames.start
        assert 0 < width * (tile.utterances.stop - tile.utterances.start) <= limit
        for utterance in range(tile.utterances.start, tile.utterances.stop):
            seen[utterance] += range(tile.frames.start, min(tile.frames.stop, frames[utterance]))
    assert seen == [list(range(count)) for count in frames]


def test_short_neighbours_share_a_tile():
    tiles = plan_tiles([10, 12, 8, 100, 3], 40)
    assert [(tile.utterances, tile.frames) for tile in tiles] == [
        (slice(0, 3), slice(0, 12)),
        (slice(3, 4), slice(0, 40)),
        (slice(3, 4), slice(40, 80)),
        (slice(3, 4), slice(80, 100)),
        (slice(4, 5), slice(0, 3)),
    ]
