"""Perplexity by hand, with and without unknown words, and in one pass or many."""

import math

import pytest

from asr.errors import DataError
from asr.text import perplexity
from asr.text.arpa import read_arpa
from asr.text.ngram_train import train_ngram
from asr.text.perplexity import measure_perplexity

HAND = r"""\data\
ngram 1=4
ngram 2=2

\1-grams:
-1.0 <unk>
-99 <s> -0.5
-0.7 </s>
-0.2 a -0.3

\2-grams:
-0.1 <s> a
-0.4 a a

\end\
"""


@pytest.fixture
def hand(tmp_path):
    (tmp_path / "hand.arpa").write_text(HAND)
    return read_arpa(tmp_path / "hand.arpa")


def test_the_sums_by_hand(hand):
    """ "a a </s>" costs 0.1 + 0.4 + (0.3 + 0.7); "z a </s>" costs (0.5 + 1.0) + 0.2 + (0.3 + 0.7), of which z 1.5; log10."""
    found = measure_perplexity(hand, [["a", "a"], [], ["z", "a"]])
    assert (found.sentences, found.words, found.tokens, found.unknown) == (2, 4, 6, 1)
    assert found.unknown_words == (("z", 1),)
    assert found.with_unknown == pytest.approx(10 ** ((1.5 + 2.7) / 6), rel=1e-5)
    assert found.without_unknown == pytest.approx(10 ** ((1.5 + 1.2) / 5), rel=1e-5)
    assert found.bits == pytest.approx((1.5 + 2.7) / 6 * math.log2(10), rel=1e-5)


def test_a_text_of_many_parts_is_scored_as_one(monkeypatch):
    sentences = [["a", "b", "a"][: 1 + number % 3] + ["c"] * (number % 2) for number in range(50)]
    model = train_ngram(sentences, order=3)
    whole = measure_perplexity(model, sentences)
    monkeypatch.setattr(perplexity, "CHUNK", 7)
    assert measure_perplexity(model, iter(sentences)).logp == pytest.approx(whole.logp, rel=1e-12)
    assert whole.logp == pytest.approx(sum(map(model.score_sentence, sentences)), rel=1e-6)


def test_the_unknown_are_listed_by_how_often_they_stand_there(hand):
    found = measure_perplexity(hand, [["x"] * 3 + ["y"] + ["<unk>"]])
    assert found.unknown_words == (("x", 3), ("<unk>", 1), ("y", 1))
    assert found.without_unknown == pytest.approx(10**0.7, rel=1e-5), "what is left is </s>"


def test_a_text_that_cannot_be_scored(hand):
    with pytest.raises(DataError, match="the text has no words"):
        measure_perplexity(hand, [[], []])
    with pytest.raises(DataError, match="holds <s> or </s>, which the model sets around each sentence itself"):
        measure_perplexity(hand, [["a", "</s>", "a"]])
