"""Forced alignment against enumeration of all paths; kept rows; impossible texts; forms of output."""

from itertools import pairwise, product

import numpy as np
import pytest

from asr.decoding.align import PriorEstimate, align, align_batch, required_frames
from asr.decoding.formats import FORMATS, TimedRecord
from asr.decoding.hypothesis import Word
from asr.errors import DataError


def emissions(frames: int, vocabulary: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 2, (frames, vocabulary))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def collapsed(path: tuple[int, ...]) -> list[int]:
    runs = [symbol for place, symbol in enumerate(path) if place == 0 or symbol != path[place - 1]]
    return [symbol for symbol in runs if symbol]


def spans(path: tuple[int, ...]) -> list[tuple[int, int]]:
    edges = [place for place in range(len(path)) if place == 0 or path[place] != path[place - 1]] + [len(path)]
    return [(start, end) for start, end in pairwise(edges) if path[start]]


@pytest.mark.parametrize("tokens", [[1], [2, 1], [1, 1], [1, 2, 1], []])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_path_by_enumeration(tokens, seed):
    log_probs = emissions(5, 3, seed)
    paths = [path for path in product(range(3), repeat=5) if collapsed(path) == tokens]
    best = max(paths, key=lambda path: sum(log_probs[t, symbol] for t, symbol in enumerate(path)))
    for every in (None, 1, 2):
        found = align(log_probs, tokens, every=every)
        assert found.score == pytest.approx(float(sum(log_probs[t, symbol] for t, symbol in enumerate(best))), abs=1e-5)
        assert list(zip(found.starts.tolist(), found.ends.tolist())) == spans(best)


def test_kept_rows_change_nothing_on_a_longer_text():
    log_probs = emissions(400, 6, 1)
    tokens = np.random.default_rng(2).integers(1, 6, 90).tolist()
    whole = align(log_probs, tokens)
    for every in (3, 17, 400):
        part = align(log_probs, tokens, every=every)
        assert (part.starts == whole.starts).all()
        assert (part.ends == whole.ends).all()


def test_a_batch_is_its_utterances_and_an_impossible_text_is_named():
    parts = [emissions(9, 4, seed) for seed in range(3)]
    targets = [[1, 2], [3, 3, 3, 3, 3, 3], [2]]
    for threads in (1, 2):
        found = align_batch(parts, targets, threads=threads)
        assert isinstance(found[1], DataError)
        assert "needs 11 frames and the recording has 9" in str(found[1])
        for number in (0, 2):
            assert (found[number].starts == align(parts[number], targets[number]).starts).all()
    assert required_frames([3, 3, 1]) == 4


def test_a_prior_is_the_mean_posterior():
    prior = PriorEstimate(3)
    assert prior.log_prior() is None
    log_probs = emissions(50, 3, 5)
    prior.add(log_probs[:20])
    prior.add(log_probs[20:])
    assert np.allclose(prior.log_prior(0.5), 0.5 * np.log(np.exp(log_probs.astype(np.float64)).mean(axis=0)), atol=1e-6)


def test_not_a_number_is_refused():
    log_probs = emissions(5, 3, 0)
    log_probs[2, 1] = np.nan
    with pytest.raises(DataError, match="not numbers at frame 2 of 5"):
        align(log_probs, [1])


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_form_holds_the_words_and_their_times(form):
    words = (Word("good", 0.5, 1.0, 0.9), Word("<day> & night", 1.25, 2.0, None))
    text = FORMATS[form].render(TimedRecord("u1", 2.5, words))
    assert "good" in text
    assert "night" in text
    begin = "0.5" if form not in ("srt", "vtt") else "00:00:00,500" if form == "srt" else "00:00:00.500"
    assert begin in text or "500" in text
