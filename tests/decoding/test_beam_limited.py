"""With a limited beam, gaps and look-ahead the compiled search keeps the very prefixes that its plain twin keeps."""

import math

import numpy as np
import pytest

from asr.decoding.beam import BeamDecoder, BeamOptions
from asr.decoding.beam_reference import LexiconLanguage, TokenLanguage, Weights, prefix_beam_search
from asr.text.hotwords import HotWords
from asr.text.lexicon import Lexicon, Pronunciation
from asr.text.ngram_train import train_ngram
from asr.text.tokenizer import Tokenizer, TokenOptions
from tests.decoding.enumerated import emissions

SYMBOLS = ("<blank>", " ", "a", "b", "c", "d")
LETTERS = Tokenizer(SYMBOLS, TokenOptions())
PHONES = Tokenizer(("<blank>", "A", "B", "C", "D", "sil"), TokenOptions(unit="phones"))
TEXT = [line.split() for line in ("ab cad dab", "bad cab dad ab", "a cad a dab", "dad ab bad")]
WORDS = train_ngram(TEXT, order=3)
CHARACTERS = train_ngram([list("▁".join(line)) for line in TEXT], order=4)
DICTIONARY = Lexicon(
    Pronunciation(word, tuple(phones), math.log(probability))
    for word, phones, probability in [
        ("ab", "AB", 0.6),
        ("ab", "DB", 0.4),
        ("cad", "CAD", 1.0),
        ("dab", "DAB", 0.5),
        ("dab", "DB", 0.5),
        ("kad", "CAD", 0.93),
        ("a", "A", 1.0),
    ]
)
LIMITS = [(1, 50.0, 50.0), (3, 50.0, 50.0), (6, 4.0, 50.0), (8, 50.0, 2.5), (12, 8.0, 5.0), (40, 30.0, 30.0)]
FRAMES = 40


def assert_same(decoder: BeamDecoder, log_probs: np.ndarray, expected: dict[str, float]) -> None:
    found = {one.text: one.score for one in decoder.decode(log_probs)}
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-5)


def options_for(beam: int, score_gap: float, token_gap: float, **others) -> BeamOptions:
    return BeamOptions(beam=beam, nbest=beam, score_gap=score_gap, token_gap=token_gap, **others)


def contexts(state: int) -> list[tuple[float, int]]:
    """This state and each shorter one down to the empty one, with the sum of the back-off weights on the way to it."""
    found = [(0.0, state)]
    while state > 0:
        found.append((found[-1][0] + float(WORDS.tables.backoff_logp[state]), int(WORDS.tables.backoff_state[state])))
        state = found[-1][1]
    return found


def listed_in(state: int) -> dict[str, float]:
    """ln P of the words, each by the best of the contexts that list it."""
    best: dict[str, float] = {}
    for backoff, context in contexts(state):
        for arc in range(WORDS.tables.arc_begin[context], WORDS.tables.arc_begin[context + 1]):
            word = WORDS.words[WORDS.tables.arc_word[arc]]
            best[word] = max(best.get(word, -math.inf), backoff + float(WORDS.tables.arc_logp[arc]))
    return {word: logp for word, logp in best.items() if WORDS.knows(word)}


def backoff_to_all(state: int) -> float:
    return contexts(state)[-1][0]


def lookahead_of_words(weight: float, bonus: float, penalty: float):
    """What a word begun can be worth at most, of all words that begin so, or as an unknown word."""
    unknown = WORDS.score(0, WORDS.unk)[0]

    def lend(state: int, word: tuple[int, ...]) -> float:
        begun = LETTERS.decode(word)
        known = [weight * logp for other, logp in listed_in(state).items() if other.startswith(begun)]
        return bonus + max([weight * (backoff_to_all(state) + unknown) - penalty, *known])

    return lend


@pytest.mark.parametrize(("beam", "score_gap", "token_gap"), LIMITS)
@pytest.mark.parametrize("kind", ["alone", "characters", "words", "hot"])
def test_free_text(beam, score_gap, token_gap, kind):
    log_probs = emissions(FRAMES, len(SYMBOLS), seed=beam, peak=2.5)
    weight, bonus, penalty = 0.7, 0.6, 1.0
    others = {"lm_weight": weight, "insertion_bonus": bonus, "unknown_penalty": penalty}
    model = {"characters": CHARACTERS, "words": WORDS}.get(kind)
    hot = HotWords(("cad", "bad cab"), (3.0, 5.0)) if kind == "hot" else None
    options = options_for(beam, score_gap, token_gap, **others)
    decoder = BeamDecoder(LETTERS, options, language_model=model, hotwords=hot)
    tables = None if hot is None else hot.automaton(LETTERS.encode, separator=1)
    weights = Weights(weight, bonus, penalty, model=model, hot=tables)
    if kind == "characters":
        ids = [-1, *(CHARACTERS.id("▁" if symbol == " " else symbol) for symbol in SYMBOLS[1:])]
        twin = TokenLanguage(weights, separator=1, token_word=ids)
    elif kind == "words":
        lend = lookahead_of_words(weight, bonus, penalty)
        twin = TokenLanguage(weights, separator=1, word_of=lambda word: WORDS.id(LETTERS.decode(word)), lookahead=lend)
    else:
        twin = TokenLanguage(weights, separator=1, word_of=lambda word: 0, lookahead=lambda state, word: bonus)
    found = prefix_beam_search(log_probs, twin, beam=beam, score_gap=score_gap, token_gap=token_gap)
    assert_same(decoder, log_probs, {LETTERS.decode(tokens): score for tokens, score in found})


@pytest.mark.parametrize(("beam", "score_gap", "token_gap"), LIMITS)
@pytest.mark.parametrize("kind", ["alone", "words", "hot"])
def test_words_of_a_lexicon(beam, score_gap, token_gap, kind):
    log_probs = emissions(FRAMES, len(PHONES), seed=beam + 7, peak=2.5)
    weight, bonus, penalty = 0.7, 0.6, 1.0
    model = WORDS if kind == "words" else None
    hot = HotWords(("cad", "ab a"), (3.0, 5.0)) if kind == "hot" else None
    others = {"lm_weight": weight, "insertion_bonus": bonus, "unknown_penalty": penalty}
    options = options_for(beam, score_gap, token_gap, **others)
    decoder = BeamDecoder(PHONES, options, language_model=model, lexicon=DICTIONARY, hotwords=hot)
    tree, _ = DICTIONARY.tree(PHONES)
    index = {word: number for number, word in enumerate(DICTIONARY.words)}
    tables = None if hot is None else hot.automaton(lambda phrase: [index[word] for word in phrase.split()])
    ids = [0 if model is None else model.id(word) for word in DICTIONARY.words]
    spelled = {node: "".join(PHONES.symbols[token] for token in path) for node, path in paths_of(tree).items()}

    def judged(state: int, word: str) -> float:
        if model is None:
            return bonus
        if not model.knows(word):
            return weight * (backoff_to_all(state) + model.score(0, model.unk)[0]) + bonus - penalty
        return weight * listed_in(state)[word] + bonus

    def lend(state: int, node: int) -> float:
        values, boosts = [], [0.0]
        for each in DICTIONARY.pronunciations:
            if "".join(each.phones).startswith(spelled[node]):
                values.append(each.logp + judged(state, each.word))
                if hot is not None:
                    share = {"cad": 3.0, "ab": 2.5, "a": 2.5}.get(each.word, 0.0)
                    boosts.append(share * len(spelled[node]) / len(each.phones))
        return max(values) + max(boosts)

    weights = Weights(weight, bonus, penalty, model=model, hot=tables)
    twin = LexiconLanguage(weights, tree, ids, separator=5, lookahead=lend)
    found = prefix_beam_search(log_probs, twin, beam=beam, score_gap=score_gap, token_gap=token_gap)
    expected = {" ".join(DICTIONARY.words[word] for word in words): score for words, score in found[:beam]}
    if not expected:  # the best prefix within a word stands without it
        assert len(decoder.decode(log_probs)) >= 1
    else:
        assert_same(decoder, log_probs, expected)


def paths_of(tree) -> dict[int, tuple[int, ...]]:
    paths: dict[int, tuple[int, ...]] = {0: ()}
    for node in range(1, len(tree.token)):
        paths[node] = (*paths[int(tree.parent[node])], int(tree.token[node]))
    return paths


def test_a_wider_beam_finds_no_worse_hypothesis_here():
    scores = []
    for beam in (1, 2, 4, 8, 16, 64, 256):
        decoder = BeamDecoder(LETTERS, BeamOptions(beam=beam, lm_weight=0.7), language_model=WORDS)
        scores.append(sum(decoder.decode(emissions(FRAMES, 6, seed=seed))[0].score for seed in range(20)))
    assert scores == sorted(scores)
    assert scores[-1] - scores[0] > 1.0
