"""N-gram models: equal to the equations and to KenLM's, sums over the vocabulary, ARPA there and back, damaged files refused."""

import gzip
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from asr.errors import ModelError
from asr.text.arpa import read_arpa, write_arpa
from asr.text.ngram import NgramModel, list_levels
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


GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "lmplz"


def by_the_equations(sentences: list[list[str]], order: int):
    """P(word | history) of interpolated modified Kneser-Ney, from dictionaries, word for word as Chen & Goodman write it."""
    padded = [["<s>", *sentence, "</s>"] for sentence in sentences]
    grams = [Counter(tuple(line[i : i + n]) for line in padded for i in range(len(line) - n + 1)) for n in range(1, order + 1)]
    counts: list[Counter] = []
    for n in range(1, order + 1):
        before = Counter(gram[1:] for gram in grams[n]) if n < order else Counter()
        counts.append(Counter({g: c if n == order or g[0] == "<s>" else before[g] for g, c in grams[n - 1].items()}))
    del counts[0][("<s>",)]
    discounts = []
    for each in counts:
        t1, t2, t3, t4 = (sum(value == k for value in each.values()) for k in (1, 2, 3, 4))
        y = t1 / (t1 + 2 * t2)
        discounts.append((0.0, 1 - 2 * y * t2 / t1, 2 - 3 * y * t3 / t2, 3 - 4 * y * t4 / t3))
    vocabulary = len(counts[0]) + 1  # and <unk>

    def probability(history: tuple[str, ...], word: str) -> float:
        n = len(history)
        lower = probability(history[1:], word) if n else 1.0 / vocabulary
        seen = {gram: count for gram, count in counts[n].items() if gram[:-1] == history}
        total = sum(seen.values())
        if not total:
            return lower
        discount = [discounts[n][min(count, 3)] for count in seen.values()]
        own = seen.get((*history, word), 0)
        return (max(own - discounts[n][min(own, 3)], 0) + sum(discount) * lower) / total

    return probability


@pytest.fixture(scope="module")
def made_up() -> list[list[str]]:
    return [line.split() for line in (GOLDEN / "words.txt").read_text().splitlines()]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_are_those_of_the_equations(order, made_up):
    model, probability = train_ngram(made_up, order=order), by_the_equations(made_up, order)
    draw = np.random.default_rng(0)
    spoken = [word for word in model.words if model.knows(word)]
    for number in draw.integers(len(made_up), size=300):
        line = ["<s>", *made_up[number], "</s>"]
        at = int(draw.integers(1, len(line)))
        history, word = line[max(0, at - order + 1) : at], line[at] if draw.random() < 0.5 else str(draw.choice(spoken))
        state = model.start if history[:1] == ["<s>"] else 0
        for each in history[history[:1] == ["<s>"] :]:
            _, state = model.score(state, model.id(each))
        assert math.exp(model.score(state, model.id(word))[0]) == pytest.approx(probability(tuple(history), word), rel=1e-4)


def test_the_model_is_the_one_that_kenlm_makes(made_up):
    ours, theirs = train_ngram(made_up, order=3), read_arpa(GOLDEN / "words.arpa")
    assert set(ours.words) == set(theirs.words)
    for mine, other in zip(spelled(ours), spelled(theirs), strict=True):
        assert mine.keys() == other.keys()
        assert len(mine) > 200
        for gram in mine.keys() - {("<s>",)}:
            assert mine[gram] == pytest.approx(other[gram], abs=2e-5), gram


def spelled(model: NgramModel) -> list[dict[tuple[str, ...], tuple[float, float]]]:
    """For each length the n-grams of a model, in words, with logarithms of probability and back-off weight."""
    found: list[dict[tuple[str, ...], tuple[float, float]]] = []
    shorter: list[tuple[str, ...]] = [()]
    for level in list_levels(model):
        grams = [(*shorter[prefix], model.words[word]) for prefix, word in zip(level.prefix, level.word)]
        found.append(dict(zip(grams, zip(level.logp.tolist(), level.backoff.tolist()))))
        shorter = grams
    return found
