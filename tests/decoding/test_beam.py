"""Beam search as its users meet it: options and inputs that cannot be (V1, V12), times, confidences, batches, notices."""

import math
import os
import threading

import numpy as np
import pytest

from asr.decoding import compiled as keeping
from asr.decoding.beam import BeamDecoder, BeamOptions
from asr.decoding.beam_reference import TokenLanguage, Weights, prefix_beam_search
from asr.decoding.greedy import greedy_decode
from asr.errors import DataError, ModelError, UsageError
from asr.text.hotwords import HotWords
from asr.text.lexicon import Lexicon, Pronunciation
from asr.text.ngram_train import train_ngram
from asr.text.tokenizer import Tokenizer, TokenOptions
from tests.decoding.enumerated import emissions

LETTERS = Tokenizer(("<blank>", " ", "a", "b", "c"), TokenOptions())
PHONES = Tokenizer(("<blank>", "A", "B", "C"), TokenOptions(unit="phones"))
WORDS = train_ngram([line.split() for line in ("ab cab", "cab ab a", "a cab")], order=2)


def spell(*runs: tuple[int, int], likely: float = 0.9) -> np.ndarray:
    """Log-probabilities in which each (symbol, frames) has `likely`, the rest shared equally."""
    symbols = [symbol for symbol, frames in runs for _ in range(frames)]
    odds = np.full((len(symbols), len(LETTERS)), (1 - likely) / (len(LETTERS) - 1))
    odds[np.arange(len(symbols)), symbols] = likely
    return np.log(odds).astype(np.float32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 0}, "beam must lie between 1 and 1000000, got 0"),
        ({"beam": -3}, "beam must lie between 1 and 1000000, got -3"),
        ({"beam": 10**9}, "beam must lie between 1 and 1000000, got 1000000000"),
        ({"nbest": 0}, "nbest must lie between 1 and beam=16, got 0"),
        ({"nbest": 17}, "nbest must lie between 1 and beam=16, got 17"),
        ({"lm_weight": math.nan}, "lm_weight must be a finite number, got nan"),
        ({"lm_weight": -0.5}, "lm_weight must not be negative, got -0.5"),
        ({"insertion_bonus": math.inf}, "insertion_bonus must be a finite number, got inf"),
        ({"unknown_penalty": -1.0}, "unknown_penalty must not be negative, got -1.0"),
        ({"score_gap": 0.0}, "score_gap must be above 0, got 0.0"),
        ({"token_gap": math.nan}, "token_gap must be above 0, got nan"),
        ({"confidence_scale": math.inf}, "confidence_scale must be a finite number, got inf"),
        ({"mbr": math.nan}, "mbr must be a finite number, got nan"),
        ({"mbr": -1.0}, "mbr must not be negative, got -1.0"),
        ({"lm_unit": "syllables"}, 'lm_unit="syllables" is not one of auto, tokens, words'),
    ],
)
def test_v1_options_that_cannot_be(options, message):
    with pytest.raises(UsageError) as fault:
        BeamOptions(**options)
    assert str(fault.value) == message


def test_v1_a_beam_wider_than_all_that_there_is_is_no_fault():
    found = BeamDecoder(LETTERS, BeamOptions(beam=1_000_000, nbest=1_000_000)).decode(emissions(2, 5, seed=0))
    assert 1 < len(found) <= 5 * 5


@pytest.mark.parametrize(("value", "frame"), [(np.nan, 2), (np.inf, 0), (-np.inf, 4)])
@pytest.mark.parametrize("kind", ["tokens", "lexicon"])
def test_v12_no_text_is_made_of_broken_numbers(value, frame, kind):
    log_probs = emissions(6, 5, seed=3)
    log_probs[frame, :] = value
    if np.isnan(value):
        log_probs[frame, 1:] = -1.0
    lexicon = Lexicon.of_words(["ab", "c"]) if kind == "lexicon" else None
    with pytest.raises(DataError, match=f"not finite at frame {frame} of 6; no text is made of them"):
        BeamDecoder(LETTERS, BeamOptions(), lexicon=lexicon).decode(log_probs)


def test_a_symbol_without_any_probability_is_no_fault():
    log_probs = emissions(6, 5, seed=3)
    log_probs[:, 2] = -np.inf
    found = BeamDecoder(LETTERS, BeamOptions(beam=500, nbest=500)).decode(log_probs)
    assert found[0].text
    assert all("a" not in one.text for one in found)


@pytest.mark.parametrize("seed", range(6))
def test_v10_a_beam_of_one_sums_over_paths(seed):
    """It is not greedy search; the best path of its text, and of greedy search's, is at most as probable as its sum."""
    log_probs = emissions(30, 4, seed=seed, peak=2.0)
    greedy = greedy_decode(log_probs, PHONES.decode)
    one = BeamDecoder(PHONES, BeamOptions(beam=1, token_gap=np.inf)).decode(log_probs)[0]
    wide = BeamDecoder(PHONES, BeamOptions(beam=2000, token_gap=np.inf, score_gap=np.inf)).decode(log_probs)[0]
    assert wide.score >= one.score - 1e-9
    assert wide.score > greedy.score
    same = TokenLanguage(Weights())
    twin = dict(prefix_beam_search(log_probs, same, beam=2000))
    assert twin[greedy.tokens] >= greedy.score


def test_peaked_emissions_give_the_greedy_text():
    log_probs = spell((2, 2), (0, 1), (3, 1), (1, 2), (0, 2), (4, 1), (0, 1), (4, 1))
    greedy = greedy_decode(log_probs, LETTERS.decode)
    assert greedy.text == "ab cc"
    assert BeamDecoder(LETTERS, BeamOptions()).decode(log_probs)[0].tokens == greedy.tokens


def test_no_frame_and_a_wrong_shape():
    model = train_ngram([["A", "B"], ["B"]], order=2)
    empty = BeamDecoder(PHONES, BeamOptions(lm_weight=0.5), language_model=model).decode(np.zeros((0, 4), np.float32))
    assert [(one.text, one.tokens, one.times, one.words) for one in empty] == [("", (), (), ())]
    assert empty[0].score == pytest.approx(0.5 * model.score_sentence([]))
    decoder = BeamDecoder(PHONES, BeamOptions())
    with pytest.raises(ModelError, match="the tokens are 4, the log-probabilities 5 per frame"):
        decoder.decode(np.zeros((3, 5), np.float32))
    with pytest.raises(ValueError, match="shape"):
        decoder.decode(np.zeros(4, np.float32))


def test_times_are_those_of_the_best_path():
    log_probs = spell((0, 2), (2, 3), (0, 1), (3, 1), (1, 1), (0, 2), (4, 2), (0, 1))
    log_probs[3, 2] += 0.05  # the likeliest frame of the run 2 .. 4
    found = BeamDecoder(LETTERS, BeamOptions()).decode(log_probs, frame_shift_s=0.04, first_frame_s=0.03)[0]
    assert found.text == "ab c"
    assert found.times == pytest.approx([0.03 + 0.04 * frame for frame in (3, 6, 7, 10)], abs=1e-9)
    assert [word.text for word in found.words] == ["ab", "c"]
    edges = [(0.03 + 0.04 * (start - 0.5), 0.03 + 0.04 * (end - 0.5)) for start, end in ((2, 7), (10, 12))]
    assert [(word.start, word.end) for word in found.words] == pytest.approx(np.array(edges), abs=1e-9)


def test_times_with_a_lexicon_and_homophones():
    lexicon = Lexicon(
        [
            Pronunciation("sea", ("A", "B"), 0.0),
            Pronunciation("see", ("A", "B"), 0.0),
            Pronunciation("saw", ("B",), math.log(0.5)),
            Pronunciation("saw", ("B", "C"), math.log(0.5)),
        ]
    )
    runs = [(0, 1), (1, 1), (2, 2), (0, 1), (2, 1), (3, 1)]
    log_probs = spell(*runs)[:, :4]
    model = train_ngram([["see", "saw"], ["see"], ["sea"]], order=1)
    found = BeamDecoder(PHONES, BeamOptions(nbest=4), lexicon=lexicon, language_model=model).decode(log_probs, frame_shift_s=0.1)
    assert [one.text for one in found[:2]] == ["see saw", "sea saw"]
    assert found[0].tokens == (1, 2, 2, 3)
    starts = [(word.text, round(word.start / 0.1 + 0.5), round(word.end / 0.1 + 0.5)) for word in found[0].words]
    assert starts == [("see", 1, 4), ("saw", 5, 7)]
    assert 0.5 < found[0].words[0].confidence < 0.9
    assert found[0].words[1].confidence > 0.95, "whichever homophone stands before it"


def test_confidence_is_the_share_of_the_posterior():
    log_probs = emissions(12, 5, seed=5, peak=3.0)
    found = BeamDecoder(LETTERS, BeamOptions(beam=64, nbest=64)).decode(log_probs)
    posterior = np.exp([one.score - found[0].score for one in found])
    posterior /= posterior.sum()
    best = found[0]
    assert len(best.words) > 1
    for word in best.words:
        holding = [any(each.text == word.text for each in one.words) for one in found]
        # The sum over all hypotheses with that word somewhere bounds the sum over those with it at this place.
        assert posterior[0] <= word.confidence <= posterior[holding].sum() + 1e-9
    only = [word for word in best.words if sum(each.text == word.text for each in best.words) == 1]
    assert only
    assert any(word.confidence > posterior[0] + 0.01 for word in only)
    flat = BeamDecoder(LETTERS, BeamOptions(beam=64, confidence_scale=0.2)).decode(log_probs)[0]
    assert all(a.confidence < b.confidence for a, b in zip(flat.words, best.words))
    assert flat.text == best.text


def test_a_word_elsewhere_does_not_support_a_word():
    """ "a b" against "b a": the same words, at other places."""
    log_probs = np.log(np.full((5, 5), 1e-6))
    log_probs[:, 0] = np.log(1e-3)
    for frame, symbols in ((0, (2, 3)), (2, (1, 1)), (4, (3, 2))):
        log_probs[frame, list(symbols)] = np.log([0.6, 0.4])
    log_probs[[1, 3], 0] = 0.0
    first, *others = BeamDecoder(LETTERS, BeamOptions(nbest=4)).decode(log_probs.astype(np.float32))
    assert first.text == "a b"
    assert {one.text for one in others} == {"a a", "b b", "b a"}
    assert [word.confidence for word in first.words] == pytest.approx([0.6, 0.6], abs=5e-3)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_batch_is_its_utterances(threads):
    batch = [emissions(frames, 5, seed=frames) for frames in (0, 7, 31, 2, 16)]
    decoder = BeamDecoder(LETTERS, BeamOptions(nbest=3), language_model=WORDS, hotwords=HotWords(("cab",), (2.0,)))
    alone = [decoder.decode(each, frame_shift_s=0.04) for each in batch]
    assert decoder.decode_batch(batch, frame_shift_s=0.04, threads=threads) == alone
    assert len({one[0].text for one in alone}) > 2


def test_threads_search_at_the_same_time():
    decoder = BeamDecoder(LETTERS, BeamOptions(beam=4))
    decoder.decode(emissions(3, 5, seed=0))
    long, seen = emissions(60_000, 5, seed=1), []
    worker = threading.Thread(target=lambda: decoder.decode(long))
    worker.start()
    while worker.is_alive():
        seen.append(len(seen))
    assert len(seen) > 1000, "the search holds the interpreter's lock"


def test_the_input_is_left_as_it_is():
    log_probs = emissions(8, 5, seed=1)
    frozen = log_probs.copy()
    decoder = BeamDecoder(LETTERS, BeamOptions())
    expected = decoder.decode(log_probs)
    assert np.array_equal(log_probs, frozen)
    assert log_probs.flags.writeable
    assert decoder.decode(np.asfortranarray(log_probs.astype(np.float64))) == expected
    log_probs.flags.writeable = False
    assert decoder.decode(log_probs) == expected


def test_long_audio_keeps_its_scale():
    """50,000 frames: the probability is far below the smallest float, the score is not."""
    log_probs = np.tile(emissions(50, 5, seed=2), (1000, 1))
    decoder = BeamDecoder(LETTERS, BeamOptions(beam=8))
    found = decoder.decode(log_probs)[0]
    greedy = greedy_decode(log_probs, LETTERS.decode)
    assert greedy.score < found.score < 0.7 * greedy.score
    assert len(found.times) == len(found.tokens) > 20_000
    assert list(found.times) == sorted(found.times)


def test_a_lexicon_without_a_whole_word_in_the_beam_leaves_the_last_word_out():
    lexicon = Lexicon.of_words(["ab", "cab"])
    log_probs = spell((2, 1), (3, 1), (1, 1), (4, 2), likely=0.999)
    found = BeamDecoder(LETTERS, BeamOptions(beam=1), lexicon=lexicon).decode(log_probs)
    assert [one.text for one in found] == ["ab"]
    assert found[0].tokens == (2, 3)
    short = BeamDecoder(LETTERS, BeamOptions(beam=1), lexicon=lexicon).decode(log_probs[3:])
    assert [(one.text, one.tokens, one.words) for one in short] == [("", (), ())]


def test_notices_of_what_does_not_fit():
    upper = train_ngram([["AB", "CAB"], ["CAB"]], order=1)
    assert BeamDecoder(LETTERS, BeamOptions(), language_model=WORDS).notices == []
    (notice,) = BeamDecoder(LETTERS, BeamOptions(), language_model=upper).notices
    assert notice.startswith("100 % of the words of the language model cannot be spelled with the model's characters")
    left_out, unknown = BeamDecoder(
        LETTERS, BeamOptions(), language_model=upper, lexicon=Lexicon.of_words(["ab", "cab", "Zürich"])
    ).notices
    assert left_out == "1 of 3 words of the lexicon cannot be recognised: Zürich"
    assert unknown.startswith("100 % of the words of the lexicon are unknown to the language model")


def test_language_models_that_cannot_be_used():
    with pytest.raises(UsageError, match="a language model of words needs a lexicon for a model of phones"):
        BeamDecoder(PHONES, BeamOptions(), language_model=WORDS)
    with pytest.raises(UsageError, match="lm_unit=tokens cannot be used with a lexicon"):
        BeamDecoder(LETTERS, BeamOptions(lm_unit="tokens"), language_model=WORDS, lexicon=Lexicon.of_words(["ab"]))
    with pytest.raises(DataError, match='the hot word "bc" is not in the lexicon'):
        BeamDecoder(LETTERS, BeamOptions(), lexicon=Lexicon.of_words(["ab"]), hotwords=HotWords(("ab bc",), (1.0,)))


def test_a_hot_word_wins_where_it_is_nearly_heard_and_nowhere_else():
    log_probs = spell((4, 1), (2, 1), (0, 1), (3, 1), likely=0.6)
    log_probs[3, 4] = log_probs[3, 3] - 0.5
    plain = BeamDecoder(LETTERS, BeamOptions()).decode(log_probs)[0]
    assert plain.text == "cab"
    hot = BeamDecoder(LETTERS, BeamOptions(), hotwords=HotWords(("cac",), (2.0,))).decode(log_probs)[0]
    assert hot.text == "cac"
    begun = BeamDecoder(LETTERS, BeamOptions(), hotwords=HotWords(("cabbac",), (2.0,))).decode(log_probs)[0]
    assert (begun.text, begun.score) == (plain.text, pytest.approx(plain.score, abs=1e-6)), "what is lent is taken back"


def test_the_compiled_code_goes_where_it_can_be_written(monkeypatch, tmp_path):
    folder = keeping._folder("")
    assert folder.parent.name == "__pycache__"
    assert keeping._folder(str(tmp_path)).parent == tmp_path
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert keeping._folder("") == tmp_path / "cache" / "asr" / folder.name
    other = tmp_path / "other.py"
    other.write_text("x = 1\n")
    monkeypatch.setattr(keeping, "SOURCES", (*keeping.SOURCES, other))
    before = keeping._folder("")
    other.write_text("x = 2\n")
    assert keeping._folder("") != before, "code compiled from older sources is never run"
