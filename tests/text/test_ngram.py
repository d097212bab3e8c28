"""N-gram models: sums over the vocabulary, ARPA there and back, damaged files refused, and perplexity by hand."""

import gzip
import math

import numpy as np
import pytest

from asr.errors import ModelError
from asr.text.arpa import read_arpa, write_arpa
from asr.text.ngram import NgramModel
from asr.text.ngram_train import train_ngram

TEXT = ["the cat sat on the mat", "the dog sat on the cat", "a cat and a dog", "the mat", "a dog sat", "on the mat the cat sat"]
SENTENCES = [line.split() for line in TEXT]
BY_HAND = r"""\data\
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


@pytest.fixture(scope="module")
def model() -> NgramModel:
    return train_ngram(SENTENCES, order=3)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_every_context_sums_to_one(order):
    model = train_ngram(SENTENCES, order=order)
    states = range(len(model.tables.backoff_state))
    assert len(states) > order - 1
    words = [word for word in range(len(model.words)) if word != model.bos]
    for state in states:
        assert sum(math.exp(model.score(state, word)[0]) for word in words) == pytest.approx(1.0, abs=1e-5)


def test_phone_unigrams_without_counts_of_counts_train():
    model = train_ngram([["AA", "B"], ["AA", "B"]], order=2)
    assert model.score_sentence(["AA", "B"]) > model.score_sentence(["B", "AA"])


def test_arpa_there_and_back(model, tmp_path):
    for name in ("a.arpa", "b.arpa.gz"):
        write_arpa(model, tmp_path / name)
        again = read_arpa(tmp_path / name)
        assert again.words == model.words
        for sentence in [*SENTENCES, ["the", "unicorn"], []]:
            assert again.score_sentence(sentence) == pytest.approx(model.score_sentence(sentence), abs=1e-4)
    assert gzip.decompress((tmp_path / "b.arpa.gz").read_bytes()) == (tmp_path / "a.arpa").read_bytes()


def test_scores_by_hand(tmp_path):
    (tmp_path / "hand.arpa").write_text(BY_HAND)
    model = read_arpa(tmp_path / "hand.arpa")
    ten = math.log(10)
    # P(a | <s>), P(a | a), then </s> is not a bigram of a: its back-off and the unigram.
    assert model.score_sentence(["a", "a"]) == pytest.approx((-0.1 - 0.4 - 0.3 - 0.7) * ten, rel=1e-5)
    assert model.score_sentence(["z"]) == pytest.approx((-0.5 - 1.0 - 0.7) * ten, rel=1e-5)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ngram 2=2", "ngram 2=3"),
        ("ngram 2=2", "ngram 2=1"),
        ("\\end\\\n", ""),
        ("-0.4 a a", "nan a a"),
        ("-0.4 a a", "0.4 a a"),
        ("-0.4 a a", "-0.4 a b"),
        ("ngram 1=4\nngram 2=2\n", ""),
    ],
)
def test_s13_damaged_arpa_files_are_refused_in_one_sentence(old, new, tmp_path):
    assert old in BY_HAND
    path = tmp_path / "bad.arpa"
    path.write_text(BY_HAND.replace(old, new))
    with pytest.raises(ModelError) as fault:
        read_arpa(path)
    assert str(path) in str(fault.value)
    assert "\n" not in str(fault.value)


def test_tables_are_what_compiled_code_expects(model):
    tables = model.tables
    assert tables.arc_begin[0] == 0
    assert tables.arc_begin[-1] == len(tables.arc_word) == len(tables.arc_logp) == len(tables.arc_next)
    for state in range(len(tables.backoff_state)):
        arcs = tables.arc_word[tables.arc_begin[state] : tables.arc_begin[state + 1]]
        assert (np.diff(arcs) > 0).all()
    assert tables.backoff_state[0] == -1
    assert set(range(len(model.words))) - {model.bos} <= set(tables.arc_word[: tables.arc_begin[1]].tolist())
