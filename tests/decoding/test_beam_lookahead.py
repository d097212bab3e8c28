"""Look-ahead: never less than any word can add, no more further down, and what the lists of the contexts say."""

import math

import numpy as np
import pytest

from asr.decoding.beam_lookahead import in_context, without_context
from asr.decoding.beam_lookahead import worth_at as factor_at
from asr.text.lexicon import Lexicon, Pronunciation
from asr.text.ngram_train import train_ngram
from asr.text.tokenizer import Tokenizer, TokenOptions

PHONES = Tokenizer(("<blank>", "A", "B", "C", "D"), TokenOptions(unit="phones"))
WEIGHT, BONUS, UNKNOWN = 0.7, 0.4, -30.0


@pytest.fixture(scope="module")
def drawn():
    """(model, tree, words of its entries, what each is worth in each state); some words have two pronunciations."""
    draw = np.random.default_rng(3)
    spelled = {"".join(draw.choice(list("ABCD"), draw.integers(1, 6))) for _ in range(60)}
    words = sorted(spelled)
    text = [[words[place] for place in draw.zipf(1.3, 8) % len(words)] for _ in range(80)]
    model = train_ngram(text, order=3)
    lexicon = Lexicon(
        Pronunciation(word, tuple(phones), logp)
        for word in words
        for phones, logp in [(word, -0.2), (word[::-1] + "D", -1.7)][: 1 + len(word) % 2]
    )
    tree, left_out = lexicon.tree(PHONES)
    assert not left_out
    ids = np.array([model.id(lexicon.words[word]) for word in tree.word], np.int32)
    states = len(model.tables.backoff_state)
    scores = np.array([[model.score(state, word)[0] for word in ids] for state in range(states)])
    return model, tree, ids, WEIGHT * scores + BONUS + tree.logp


def worth_at(ahead, state, node):
    return math.log(factor_at(ahead, np.int32(state), np.int32(node)))


def below(tree, node):
    """Entries in and below a node, by walking."""
    found = list(range(tree.word_begin[node], tree.word_begin[node + 1]))
    for child in range(tree.child_begin[node], tree.child_begin[node + 1]):
        found += below(tree, child)
    return found


def test_places_are_the_entries_depth_first(drawn):
    _, tree, _, _ = drawn
    first, end = tree.places()
    order = below(tree, 0)
    assert len(order) == len(tree.word) > 60
    for node in range(len(tree.token)):
        assert order[first[node] : end[node]] == below(tree, node)


def test_without_context_it_is_the_best_word_below_or_the_unknown_one(drawn):
    _, tree, _, worth = drawn
    ahead = without_context(tree, worth[0], -3.0)
    for node in range(len(tree.token)):
        assert worth_at(ahead, 5, node) == pytest.approx(max(-3.0, worth[0, below(tree, node)].max()))
    assert worth_at(ahead, 5, -1) == pytest.approx(-3.0)
    assert math.log(ahead.highest) == pytest.approx(max(-3.0, worth[0].max()))


def test_in_context_it_bounds_the_best_word_below(drawn):
    model, tree, ids, worth = drawn
    ahead = in_context(tree, worth[0], UNKNOWN, ids, model.tables, weight=WEIGHT, bonus=BONUS)
    exact, cases = 0, 0
    for state in range(len(worth)):
        above = worth_at(ahead, state, 0)
        assert above <= math.log(ahead.highest) + 1e-9
        for node in range(1, len(tree.token)):
            bound, true = worth_at(ahead, state, node), worth[state, below(tree, node)].max()
            assert bound >= true - 1e-5
            assert bound <= worth_at(ahead, state, tree.parent[node]) + 1e-9
            exact, cases = exact + (bound <= true + 1e-5), cases + 1
    assert cases > 5000
    assert exact > 0.97 * cases


def test_behind_an_unlisted_context_only_the_backoff_differs(drawn):
    model, tree, ids, worth = drawn
    none = np.full(len(ids), -1, np.int32)
    ahead = in_context(tree, worth[0], UNKNOWN, none, model.tables, weight=WEIGHT, bonus=BONUS)
    tables = model.tables
    for state in range(len(worth)):
        backoff, shorter = 0.0, state
        while shorter > 0:
            backoff, shorter = backoff + WEIGHT * float(tables.backoff_logp[shorter]), int(tables.backoff_state[shorter])
        for node in (-1, 0, 1, len(tree.token) - 1):
            expected = backoff + (UNKNOWN if node < 0 else worth[0, below(tree, node)].max())
            assert worth_at(ahead, state, node) == pytest.approx(expected, abs=1e-5)
