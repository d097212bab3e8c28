"""Times of words and tokens: from frames and subsampling, from the level of the recording, and always in order."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decoding.greedy import greedy_decode
from asr.decoding.hypothesis import Hypothesis, Word
from asr.decoding.segment import FRAME, measure_levels
from asr.decoding.times import (
    REACH,
    Loudness,
    script_of,
    time_hypothesis,
    time_script,
    token_times,
    word_times,
    words_of,
    write_script,
)
from asr.errors import DataError
from asr.text.tokenizer import WRITTEN_SPACE, Tokenizer, TokenOptions

RATE = 8000
LETTERS = Tokenizer.build(["ab c"], TokenOptions())
PHONES = Tokenizer(["<blank>", "AA", "B", "sil"], TokenOptions(unit="phones"))
PIECES = Tokenizer(
    ["<blank>", WRITTEN_SPACE, "a", "b", f"{WRITTEN_SPACE}a", f"{WRITTEN_SPACE}ab"], TokenOptions(unit="bytepairs", size=6)
)
#: s between two frames of the emissions, and the centre of the first: two frames of 10 ms become one
SHIFT, FIRST = 0.02, 0.0175


def emissions(runs, vocabulary, likely=0.9):
    """Log-probabilities of runs (token, frames); the blank is 0."""
    symbols = [token for token, frames in runs for _ in range(frames)]
    odds = np.full((len(symbols), vocabulary), (1 - likely) / (vocabulary - 1))
    odds[np.arange(len(symbols)), symbols] = likely
    return np.log(odds).astype(np.float32)


def sound(seconds, *spoken, background=-70.0, voice=-20.0, seed=0):
    """Loudness of a recording with a voice in the stretches (start, end), s, over a background, dB."""
    draw = np.random.default_rng(seed)
    samples = draw.normal(size=round(seconds * RATE)) * 10 ** (background / 20)
    for start, end in spoken:
        part = slice(round(start * RATE), round(end * RATE))
        samples[part] += draw.normal(size=part.stop - part.start) * 10 ** (voice / 20)
    return Loudness.of(measure_levels(samples.astype(np.float32), RATE))


# --- scripts


def test_spaces_part_the_words_of_characters_and_phones_stand_alone():
    script = write_script("ab c", LETTERS)
    assert script.words == ("ab", "c")
    assert script.owners == (0, 0, -1, 1)
    assert script.symbols == ("a", "b", " ", "c")
    assert script_of(LETTERS.encode("ab c"), LETTERS) == script
    phones = write_script("AA B", PHONES)
    assert (phones.words, phones.owners, phones.symbols) == ((), (0, 1), ("AA", "B"))
    with pytest.raises(DataError, match='"z"'):
        write_script("a z", LETTERS)


def test_a_model_without_a_space_is_given_the_words_one_after_another():
    single = Tokenizer.build(["ab", "c"], TokenOptions())
    script = write_script("ab c", single)
    assert (script.words, script.owners) == (("ab", "c"), (0, 0, 1))


def test_pieces_that_begin_with_the_written_space_begin_words():
    script = write_script("ab a b", PIECES)
    assert script.words == ("ab", "a", "b")
    assert [PIECES.symbols[token] for token in script.tokens] == [f"{WRITTEN_SPACE}ab", f"{WRITTEN_SPACE}a", WRITTEN_SPACE, "b"]
    again = script_of(script.tokens, PIECES)
    assert again.words == script.words
    assert again.owners == (0, 1, -1, 2)
    assert script_of([2, 3, 5, 1, 1, 4, 3], PIECES).words == ("ab", "ab", "ab")


# --- frames to seconds


@pytest.mark.parametrize("subsampling", [1, 2, 4])
@pytest.mark.parametrize("first", [0.0, 0.0125])
def test_frames_are_told_in_seconds_whatever_the_subsampling(subsampling, first):
    """A token in frames 3 and 4 of the emissions is spoken from half a frame before the one to half a frame after the other."""
    shift = 0.01 * subsampling
    log_probs = emissions([(0, 3), (2, 2), (0, 4)], 4)
    for found in (
        time_script(log_probs, write_script("B", PHONES), frame_shift_s=shift, first_frame_s=first).tokens[0],
        time_hypothesis(
            greedy_decode(log_probs, PHONES.decode, frame_shift_s=shift, first_frame_s=first), PHONES, None, seconds=9 * shift
        )[1][0],
    ):
        assert found.text == "B"
        assert found.start == pytest.approx(max(0.0, first + 2.5 * shift - REACH))
        assert found.end == pytest.approx(min(9 * shift, first + 4.5 * shift + REACH))


def test_a_real_model_says_when_its_frames_are(loaded):
    """The centre of frame t of the emissions, from the samples that can change it: those around it and no others."""
    import torch

    from asr.decoding.options import DecodeOptions
    from asr.decoding.recognizer import Recognizer

    recognizer = Recognizer(loaded, DecodeOptions())
    front = loaded.model.features
    assert recognizer.frame_shift_s == pytest.approx(front.frame_shift_s * loaded.model.encoder.subsampling)
    samples = np.zeros((1, RATE), dtype=np.float32)
    samples[0, 4000] = 1.0
    features, _ = front(torch.from_numpy(samples), torch.tensor([RATE]))
    energy = features[0].exp().sum(dim=1).numpy()
    peak = float((energy * np.arange(len(energy))).sum() / energy.sum())
    # the click at 0.5 s is heard most by the frame whose centre is nearest to it; frames before subsampling are 10 ms apart
    steps = (peak - loaded.model.encoder.centre_frames) / loaded.model.encoder.subsampling
    assert recognizer.first_frame_s + steps * recognizer.frame_shift_s == pytest.approx(0.5, abs=0.011)


# --- the level of the recording


def test_words_end_where_silence_begins():
    loudness = sound(3.0, (0.5, 1.1), (1.8, 2.4))
    spans = word_times(np.array([[0.7, 0.9], [2.0, 2.1]]), loudness, seconds=3.0)
    np.testing.assert_allclose(spans, [[0.5, 1.1], [1.8, 2.4]], atol=0.021)


def test_without_a_pause_the_border_is_where_it_is_quietest():
    levels = np.full(200, -70.0, dtype=np.float32)
    levels[40:160] = -20.0
    levels[99:102] = -35.0
    spans = word_times(np.array([[0.6, 0.7], [1.3, 1.4]]), Loudness.of(levels), seconds=2.0)
    np.testing.assert_allclose(spans, [[0.4, 1.0], [1.0, 1.6]], atol=0.011)
    assert spans[0, 1] == spans[1, 0]


def test_between_phones_the_border_is_half_way():
    """What is silent there may be the closure of a stop."""
    loudness = sound(2.0, (0.4, 0.93), (0.98, 1.6))
    spans = word_times(np.array([[0.6, 0.7], [1.3, 1.4]]), loudness, seconds=2.0, words=False)
    np.testing.assert_allclose(spans, [[0.4, 1.0], [1.0, 1.6]], atol=0.021)
    assert spans[0, 1] == spans[1, 0]


def test_a_spike_in_the_silence_after_a_word_is_led_back_to_it():
    loudness = sound(2.0, (0.5, 0.9))
    (span,) = word_times(np.array([[0.85, 1.0]]), loudness, seconds=2.0)
    np.testing.assert_allclose(span, [0.5, 0.9], atol=0.021)


@pytest.mark.parametrize(
    ("spikes", "expected"),
    [
        # each just behind its sound; each just before it; the first at once, the others late
        ([[1.0, 1.1], [1.75, 1.8], [2.6, 2.7]], [[0.5, 0.9], [1.2, 1.7], [2.1, 2.5]]),
        ([[0.3, 0.4], [1.05, 1.15], [2.0, 2.05]], [[0.5, 0.9], [1.2, 1.7], [2.1, 2.5]]),
        ([[0.01, 0.1], [1.75, 1.8], [2.6, 2.7]], [[0.5, 0.9], [1.2, 1.7], [2.1, 2.5]]),
        # of two in one silence the first goes back and the second on
        ([[0.95, 1.0], [1.1, 1.15], [2.2, 2.3]], [[0.5, 0.9], [1.2, 1.7], [2.1, 2.5]]),
    ],
)
def test_words_whose_spikes_all_stand_in_a_silence_are_led_to_the_sound_beside_it(spikes, expected):
    loudness = sound(3.0, (0.5, 0.9), (1.2, 1.7), (2.1, 2.5))
    spans = word_times(np.array(spikes), loudness, seconds=3.0)
    np.testing.assert_allclose(spans, expected, atol=0.021)


def test_a_word_is_not_led_to_a_sound_that_another_word_is_in_nor_to_one_far_away():
    loudness = sound(4.0, (0.5, 0.9), (3.2, 3.6))
    spans = word_times(np.array([[0.6, 0.7], [1.2, 1.3]]), loudness, seconds=4.0)
    np.testing.assert_allclose(spans[0], [0.5, 0.9], atol=0.021)
    assert 0.9 <= spans[1, 0] < spans[1, 1] < 3.0


def test_a_constant_offset_or_digital_silence_is_no_fault():
    flat = Loudness.of(measure_levels(np.zeros(RATE, dtype=np.float32), RATE))
    spans = word_times(np.array([[0.3, 0.4], [0.6, 0.7]]), flat, seconds=1.0)
    assert np.isfinite(spans).all()
    assert (spans[:, 1] > spans[:, 0]).all()
    empty = Loudness.of(np.zeros(0, dtype=np.float32))
    np.testing.assert_allclose(word_times(np.array([[0.3, 0.4]]), empty, seconds=1.0), [[0.26, 0.44]])


def test_without_levels_words_reach_a_little_beyond_their_spikes_and_no_farther_than_the_middle():
    spans = word_times(np.array([[0.01, 0.2], [0.22, 0.4], [0.9, 0.98]]), None, seconds=1.0)
    np.testing.assert_allclose(spans, [[0.0, 0.21], [0.21, 0.44], [0.86, 1.0]])
    assert word_times(np.zeros((0, 2)), None, seconds=1.0).shape == (0, 2)


@st.composite
def recordings(draw):
    """Spikes in order and a level that has nothing to do with them."""
    edges = sorted(draw(st.lists(st.floats(0.0, 5.0), min_size=2, max_size=24).filter(lambda found: len(found) % 2 == 0)))
    levels = draw(st.lists(st.sampled_from([-120.0, -70.0, -40.0, -20.0]), min_size=1, max_size=12))
    repeats = draw(st.integers(1, 60))
    return np.array(edges).reshape(-1, 2), np.repeat(levels, repeats).astype(np.float32)


@settings(deadline=None, max_examples=150)
@given(recordings(), st.booleans(), st.booleans())
def test_words_are_in_order_and_never_empty_nor_crossed(recording, words, heard):
    spikes, levels = recording
    seconds = max(5.0, len(levels) * FRAME)
    spans = word_times(spikes, Loudness.of(levels) if heard else None, seconds=seconds, words=words)
    assert spans.shape == spikes.shape
    assert (spans >= 0.0).all()
    if heard:
        inside = spikes[:, 0] < len(levels) * FRAME
        assert (spans[inside, 1] <= len(levels) * FRAME + FRAME + 1e-9).all()
    assert (spans[:, 1] >= spans[:, 0]).all()
    assert (spans[1:, 0] >= spans[:-1, 0] - 1e-9).all()


def test_tokens_share_the_time_of_their_word():
    begins, ends = np.array([0.1, 0.3, 0.8]), np.array([0.2, 0.4, 0.9])
    found = token_times(begins, ends, np.array([0, 0, 1]), np.array([[0.05, 0.5], [0.6, 1.0]]))
    np.testing.assert_allclose(found, [[0.05, 0.25], [0.25, 0.5], [0.6, 1.0]])
    assert token_times(np.zeros(0), np.zeros(0), np.zeros(0, int), np.zeros((0, 2))).shape == (0, 2)


# --- alignment and recognition, timed


RUNS = [(0, 10), (2, 2), (0, 3), (3, 2), (0, 12), (1, 1), (0, 12), (4, 3), (0, 10)]  # "ab c", the space at frame 29


def test_an_alignment_is_timed_by_the_level():
    log_probs = emissions(RUNS, len(LETTERS))
    centre = [FIRST + SHIFT * frame for frame in (10.5, 15.5, 43)]
    loudness = sound(1.2, (centre[0] - 0.1, centre[1] + 0.1), (centre[2] - 0.1, centre[2] + 0.15))
    timed = time_script(log_probs, write_script("ab c", LETTERS), frame_shift_s=SHIFT, first_frame_s=FIRST, loudness=loudness)
    assert [word.text for word in timed.words] == ["ab", "c"]
    assert [token.text for token in timed.tokens] == ["a", "b", "c"], "the space has no time of its own"
    expected = [(centre[0] - 0.1, centre[1] + 0.1), (centre[2] - 0.1, centre[2] + 0.15)]
    np.testing.assert_allclose([(word.start, word.end) for word in timed.words], expected, atol=0.021)
    assert timed.tokens[0].start == timed.words[0].start
    assert timed.tokens[1].end == timed.words[0].end
    assert timed.words[0].confidence == pytest.approx(0.9, abs=1e-5)
    assert timed.score < 0


def test_what_was_recognised_is_timed_as_what_was_aligned():
    log_probs = emissions(RUNS, len(LETTERS))
    times = {"frame_shift_s": SHIFT, "first_frame_s": FIRST}
    loudness = sound(1.2, (0.12, 0.43), (0.78, 1.02))
    greedy = greedy_decode(log_probs, LETTERS.decode, **times)
    words = words_of(greedy, LETTERS, log_probs, **times)
    assert [word.text for word in words] == ["ab", "c"]
    assert [word.confidence for word in words] == pytest.approx([0.9, 0.9], abs=1e-5)
    timed_words, timed_tokens = time_hypothesis(
        Hypothesis(greedy.text, greedy.tokens, greedy.score, greedy.times, words, greedy.spans), LETTERS, loudness, seconds=1.2
    )
    aligned = time_script(log_probs, write_script("ab c", LETTERS), loudness=loudness, **times)
    assert timed_words == aligned.words
    assert [(one.text, one.start, one.end) for one in timed_tokens] == [(one.text, one.start, one.end) for one in aligned.tokens]


def test_confidence_without_a_beam_is_the_mean_of_the_letters():
    log_probs = emissions([(2, 1), (0, 1), (3, 1)], len(LETTERS))
    log_probs[2] = np.log([0.05, 0.05, 0.3, 0.55, 0.05])
    found = greedy_decode(log_probs, LETTERS.decode, frame_shift_s=1.0)
    (word,) = words_of(found, LETTERS, log_probs, frame_shift_s=1.0, first_frame_s=0.0)
    assert word.confidence == pytest.approx(math.sqrt(0.9 * 0.55), abs=1e-5)
    assert (
        words_of(greedy_decode(log_probs[:0], LETTERS.decode), LETTERS, log_probs[:0], frame_shift_s=1.0, first_frame_s=0.0) == ()
    )
    phones = greedy_decode(emissions([(1, 1)], 4), PHONES.decode)
    assert words_of(phones, PHONES, log_probs, frame_shift_s=1.0, first_frame_s=0.0) == ()


def test_the_silence_between_the_words_of_a_lexicon_belongs_to_no_word():
    spans = ((0.1, 0.2), (0.3, 0.4), (0.5, 0.8), (0.9, 1.0))
    words = (Word("ab", 0.1, 0.4, 0.7), Word("a", 0.9, 1.0, 0.6))
    found = Hypothesis("ab a", (1, 2, 3, 1), -1.0, (0.15, 0.35, 0.6, 0.95), words, spans)
    timed, tokens = time_hypothesis(found, PHONES, None, seconds=2.0)
    assert [word.confidence for word in timed] == [0.7, 0.6]
    assert [token.text for token in tokens] == ["AA", "B", "AA"]
    np.testing.assert_allclose([(one.start, one.end) for one in tokens], [(0.06, 0.25), (0.25, 0.44), (0.86, 1.04)])
    assert time_hypothesis(Hypothesis("", (), 0.0, ()), PHONES, None, seconds=2.0) == ((), ())


def test_no_word_is_aligned_across_a_silence():
    """The second letter is a little likelier where somebody speaks again, but there another word begins."""
    log_probs = np.log(np.full((60, len(LETTERS)), 0.02)).astype(np.float32)
    log_probs[:, 0] = np.log(0.92)
    for frame, token, likely in ((8, 2, 0.9), (15, 3, 0.3), (45, 3, 0.5)):
        log_probs[frame, token] = np.log(likely)
    script, times = write_script("ab", LETTERS), {"frame_shift_s": SHIFT, "first_frame_s": FIRST}
    loudness = sound(60 * SHIFT, (0.1, 0.4), (0.8, 1.1))
    (word,) = time_script(log_probs, script, loudness=loudness, **times).words
    assert (word.start, word.end) == pytest.approx((0.1, 0.4), abs=0.021)
    (word,) = time_script(log_probs, script, **times).words
    assert word.end > 0.9
