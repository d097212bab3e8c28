"""An unlimited beam gives the texts and scores that an enumeration of all paths gives; the compiled search and its plain twin."""

import math

import numpy as np
import pytest

from asr.decoding.beam import BeamDecoder, BeamOptions
from asr.decoding.beam_reference import LISTED, LexiconLanguage, TokenLanguage, Weights, prefix_beam_search
from asr.decoding.beam_traceback import edits
from asr.scoring.edits import count_edits
from asr.text.hotwords import HotWords
from asr.text.lexicon import Lexicon, Pronunciation
from asr.text.ngram import NgramModel
from asr.text.ngram_train import train_ngram
from asr.text.tokenizer import Tokenizer, TokenOptions
from tests.decoding.enumerated import emissions, occurrences, sequences, texts, word_sequences

LETTERS = Tokenizer(["<blank>", " ", "a", "b"], TokenOptions())
PHONES = Tokenizer(["<blank>", "X", "Y", "Z"], TokenOptions(unit="phones"))
QUIET = Tokenizer(["<blank>", "X", "Y", "sil"], TokenOptions(unit="phones"))
SHAPES = [(0, 3), (1, 2), (3, 3), (4, 3), (5, 3), (4, 4), (5, 4)]
CHARACTERS = train_ngram([list("ab▁a"), list("aab"), list("b▁ab▁b")], order=3)
TRIPHONES = train_ngram([list("XYX"), list("YYZ"), list("ZX")], order=2)
WORDS = train_ngram([line.split() for line in ("a ab a", "ab b b", "a b")], order=2)
DICTIONARY = Lexicon(
    [
        Pronunciation("ix", ("X",), math.log(0.7)),
        Pronunciation("ix", ("X", "Y"), math.log(0.3)),
        Pronunciation("eks", ("X",), 0.0),
        Pronunciation("yxy", ("Y", "X"), 0.0),
        Pronunciation("yy", ("Y", "Y"), math.log(0.5)),
        Pronunciation("yy", ("Y",), math.log(0.5)),
    ]
)
STORIES = train_ngram([line.split() for line in ("ix yy ix", "eks yxy", "yy eks")], order=2)


def cut(tokenizer: Tokenizer, symbols: int) -> Tokenizer:
    return Tokenizer(tokenizer.symbols[:symbols], tokenizer.options)


def all_of(decoder: BeamDecoder, log_probs: np.ndarray) -> dict[str, float]:
    found = {one.text: one.score for one in decoder.decode(log_probs)}
    best = decoder.decode(log_probs)[0]
    assert best.score == max(found.values())
    return found


def unlimited(**options) -> BeamOptions:
    return BeamOptions(beam=5000, nbest=5000, score_gap=np.inf, token_gap=np.inf, **options)


def assert_same(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-6)
    assert max(found, key=found.__getitem__) == max(expected, key=expected.__getitem__)


def judge_units(model: NgramModel | None, units, options: BeamOptions) -> float:
    """Everything but the acoustic part, from the text alone."""
    score = options.insertion_bonus * len(units)
    if model is not None:
        unknown = sum(not model.knows(unit) for unit in units)
        score += options.lm_weight * model.score_sentence(units) - options.unknown_penalty * unknown
    return score


@pytest.mark.parametrize(("frames", "symbols"), SHAPES)
@pytest.mark.parametrize("bonus", [0.0, -0.7])
def test_free_text_without_a_language_model(frames, symbols, bonus):
    log_probs, tokenizer = emissions(frames, symbols, seed=frames), cut(LETTERS, symbols)
    options = unlimited(insertion_bonus=bonus)
    expected = texts(log_probs, tokenizer.decode, lambda text: bonus * len(text.split()))
    assert_same(all_of(BeamDecoder(tokenizer, options), log_probs), expected)
    twin = TokenLanguage(Weights(insertion_bonus=bonus), separator=1, word_of=lambda word: 0)
    assert_same({tokenizer.decode(tokens): score for tokens, score in prefix_beam_search(log_probs, twin)}, expected)


@pytest.mark.parametrize(("frames", "symbols"), SHAPES)
def test_free_phones_with_a_model_of_phones(frames, symbols):
    log_probs, tokenizer = emissions(frames, symbols, seed=frames), cut(PHONES, symbols)
    options = unlimited(lm_weight=0.8, insertion_bonus=0.4, lm_unit="tokens")
    expected = texts(log_probs, tokenizer.decode, lambda text: judge_units(TRIPHONES, text.split(), options))
    assert_same(all_of(BeamDecoder(tokenizer, options, language_model=TRIPHONES), log_probs), expected)
    weights = Weights(0.8, 0.4, model=TRIPHONES)
    twin = TokenLanguage(weights, token_word=[-1, *map(TRIPHONES.id, tokenizer.symbols[1:])])
    assert_same({tokenizer.decode(tokens): score for tokens, score in prefix_beam_search(log_probs, twin)}, expected)


@pytest.mark.parametrize(("frames", "symbols"), SHAPES)
def test_free_text_with_a_model_of_characters(frames, symbols):
    log_probs, tokenizer = emissions(frames, symbols, seed=frames), cut(LETTERS, symbols)
    options = unlimited(lm_weight=0.8, insertion_bonus=0.4, lm_unit="tokens")
    expected = texts(log_probs, tokenizer.decode, lambda text: judge_units(CHARACTERS, text.replace(" ", "▁"), options))
    assert_same(all_of(BeamDecoder(tokenizer, options, language_model=CHARACTERS), log_probs), expected)
    ids = [-1, *(CHARACTERS.id("▁" if symbol == " " else symbol) for symbol in tokenizer.symbols[1:])]
    twin = TokenLanguage(Weights(0.8, 0.4, model=CHARACTERS), separator=1, token_word=ids)
    assert_same({tokenizer.decode(tokens): score for tokens, score in prefix_beam_search(log_probs, twin)}, expected)


@pytest.mark.parametrize(("frames", "symbols"), SHAPES)
@pytest.mark.parametrize("weight", [0.0, 0.9])
def test_free_text_with_a_model_of_words(frames, symbols, weight):
    log_probs, tokenizer = emissions(frames, symbols, seed=frames), cut(LETTERS, symbols)
    options = unlimited(lm_weight=weight, insertion_bonus=0.4, unknown_penalty=1.5, lm_unit="words")
    expected = texts(log_probs, tokenizer.decode, lambda text: judge_units(WORDS, text.split(), options))
    assert any(not WORDS.knows(word) for text in expected for word in text.split()) or frames < 3
    assert_same(all_of(BeamDecoder(tokenizer, options, language_model=WORDS), log_probs), expected)
    twin = TokenLanguage(
        Weights(weight, 0.4, 1.5, model=WORDS), separator=1, word_of=lambda word: WORDS.id(tokenizer.decode(word))
    )
    assert_same({tokenizer.decode(tokens): score for tokens, score in prefix_beam_search(log_probs, twin)}, expected)


@pytest.mark.parametrize(("frames", "symbols"), [(0, 3), (1, 3), (3, 3), (4, 3), (5, 3), (5, 4)])
@pytest.mark.parametrize("model", [None, STORIES], ids=["alone", "with-model"])
@pytest.mark.parametrize("silence", ["", "sil"])
def test_words_of_a_lexicon_of_phones(frames, symbols, model, silence):
    log_probs, tokenizer = emissions(frames, symbols, seed=frames), cut(QUIET, symbols)
    options = unlimited(lm_weight=0.9, insertion_bonus=0.4, silence=silence)
    separator = silence if silence in tokenizer.symbols else None
    pronunciations = DICTIONARY.pronunciations
    expected = word_sequences(
        log_probs, tokenizer.symbols, pronunciations, lambda words: judge_units(model, words, options), separator=separator
    )
    assert frames < 3 or any("ix" in text and text.replace("ix", "eks") in expected for text in expected)
    assert_same(all_of(BeamDecoder(tokenizer, options, language_model=model, lexicon=DICTIONARY), log_probs), expected)
    tree, _ = DICTIONARY.tree(tokenizer)
    ids = [0 if model is None else model.id(word) for word in DICTIONARY.words]
    place = tokenizer.symbols.index(separator) if separator else None
    twin = LexiconLanguage(Weights(0.9, 0.4, model=model), tree, ids, separator=place)
    found = {" ".join(DICTIONARY.words[word] for word in words): s for words, s in prefix_beam_search(log_probs, twin)}
    assert_same(found, expected)


@pytest.mark.parametrize(("frames", "symbols"), [(0, 4), (3, 4), (5, 3), (5, 4)])
def test_words_of_a_list_for_characters(frames, symbols):
    log_probs, tokenizer = emissions(frames, symbols, seed=frames), cut(LETTERS, symbols)
    lexicon = Lexicon.of_words(["a", "ab", "bb", "aa", "A b"])
    options = unlimited(lm_weight=0.9, insertion_bonus=0.4, unknown_penalty=1.5)
    pronunciations = [Pronunciation(word, tuple(word), 0.0) for word in ("a", "ab", "bb", "aa")]
    judge = lambda words: judge_units(WORDS, words, options)  # noqa: E731
    expected = word_sequences(log_probs, tokenizer.symbols, pronunciations, judge, separator=" ", required=True)
    decoder = BeamDecoder(tokenizer, options, language_model=WORDS, lexicon=lexicon)
    assert_same(all_of(decoder, log_probs), expected)
    tree, left_out = lexicon.tree(tokenizer, separator=1)
    assert "A b" in left_out
    ids = [WORDS.id(word) for word in lexicon.words]
    twin = LexiconLanguage(Weights(0.9, 0.4, 1.5, model=WORDS), tree, ids, separator=1, required=True)
    found = {" ".join(lexicon.words[word] for word in words): s for words, s in prefix_beam_search(log_probs, twin)}
    assert_same(found, expected)


@pytest.mark.parametrize("frames", [1, 3, 5])
@pytest.mark.parametrize("kind", ["alone", "characters", "words"])
def test_hot_words_in_free_text(frames, kind):
    """Whole words and phrases only, each occurrence, overlapping ones too, also the one that the end completes."""
    log_probs = emissions(frames, 4, seed=frames)
    hot = HotWords(("ab", "a b", "b a", "bb"), (1.5, 2.5, 0.5, 0.25))
    model = {"characters": CHARACTERS, "words": WORDS}.get(kind)
    options = unlimited(lm_weight=0.8, unknown_penalty=3.0, lm_unit="words" if kind == "words" else "auto")
    assert not WORDS.knows("bb"), "a hot word that the language model does not know is spared the penalty"

    def judge(text: str) -> float:
        boosts = sum(b * occurrences(text.split(), p.split()) for p, b in zip(hot.phrases, hot.boosts))
        spared = 3.0 * text.split().count("bb") if kind == "words" else 0.0
        units = text.split() if kind == "words" else text.replace(" ", "▁")
        return boosts + spared + judge_units(model, units, options)

    expected = texts(log_probs, LETTERS.decode, judge)
    assert_same(all_of(BeamDecoder(LETTERS, options, language_model=model, hotwords=hot), log_probs), expected)
    weights = Weights(0.8, 0.0, 3.0, model=model, hot=hot.automaton(LETTERS.encode, separator=1))
    if kind == "characters":
        twin = TokenLanguage(weights, separator=1, token_word=[-1, *map(CHARACTERS.id, "▁ab")])
    else:
        ids = {"bb": LISTED}
        word_of = lambda word: ids.get(LETTERS.decode(word), WORDS.id(LETTERS.decode(word)))  # noqa: E731
        twin = TokenLanguage(weights, separator=1, word_of=word_of)
    assert_same({LETTERS.decode(tokens): score for tokens, score in prefix_beam_search(log_probs, twin)}, expected)


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_hot_words_of_phones_and_of_a_lexicon(frames):
    log_probs = emissions(frames, 4, seed=frames)
    hot = HotWords(("X Y", "Y Y"), (1.5, 2.5))
    boosts = lambda units, one: sum(b * occurrences(units, p.split()) for p, b in zip(one.phrases, one.boosts))  # noqa: E731
    expected = texts(log_probs, PHONES.decode, lambda text: boosts(text.split(), hot))
    assert_same(all_of(BeamDecoder(PHONES, unlimited(), hotwords=hot), log_probs), expected)
    hot = HotWords(("eks", "ix yy"), (1.5, 2.5))
    options = unlimited(lm_weight=0.9)
    judge = lambda words: judge_units(STORIES, words, options) + boosts(words, hot)  # noqa: E731
    expected = word_sequences(log_probs, QUIET.symbols, DICTIONARY.pronunciations, judge, separator="sil")
    decoder = BeamDecoder(QUIET, options, language_model=STORIES, lexicon=DICTIONARY, hotwords=hot)
    assert_same(all_of(decoder, log_probs), expected)
    tree, _ = DICTIONARY.tree(QUIET)
    index = {word: number for number, word in enumerate(DICTIONARY.words)}
    weights = Weights(0.9, model=STORIES, hot=hot.automaton(lambda phrase: [index[word] for word in phrase.split()]))
    twin = LexiconLanguage(weights, tree, [STORIES.id(word) for word in DICTIONARY.words], separator=3)
    found = {" ".join(DICTIONARY.words[word] for word in words): s for words, s in prefix_beam_search(log_probs, twin)}
    assert_same(found, expected)


PIECES = Tokenizer(["<blank>", "▁a", "▁", "a", "b"], TokenOptions(unit="bytepairs"))


@pytest.mark.parametrize(("frames", "hot"), [(0, ()), (1, ()), (3, ()), (5, ()), (4, ("ab", "a b"))])
@pytest.mark.parametrize("weight", [None, 0.0, 0.9])
def test_byte_pairs_with_a_model_of_words(frames, hot, weight):
    """A piece that begins a word ends the one before; words are known in the pieces of the model's own transcripts."""
    log_probs = emissions(frames, 5, seed=frames)
    options = unlimited(lm_weight=weight or 0.0, insertion_bonus=0.4, unknown_penalty=1.5, lm_unit="words")
    model = None if weight is None else WORDS
    boosts = dict(zip(hot, (1.5, 2.5)))

    def words_of(tokens: tuple[int, ...]) -> list[tuple[int, ...]]:
        words: list[tuple[int, ...]] = []
        for token in tokens:
            words = [*words, (token,)] if not words or PIECES.begins_word[token] else [*words[:-1], (*words[-1], token)]
        return words

    def name(word: tuple[int, ...]) -> str:
        spelled = PIECES.decode(word)
        return spelled if spelled and tuple(PIECES.encode(spelled)) == word else "?"

    def judge(tokens: tuple[int, ...]) -> float:
        phrases = {phrase: [str(token) for token in PIECES.encode(phrase)] for phrase in hot}
        found = sum(boosts[each] * occurrences([str(token) for token in tokens], ids) for each, ids in phrases.items())
        return found + judge_units(model, [name(word) for word in words_of(tokens)], options)

    expected = {tokens: math.log(share) + judge(tokens) for tokens, share in sequences(log_probs).items()}
    words = HotWords(hot, tuple(boosts.values())) if hot else None
    found = {one.tokens: one for one in BeamDecoder(PIECES, options, language_model=model, hotwords=words).decode(log_probs)}
    assert_same({tokens: one.score for tokens, one in found.items()}, expected)
    for tokens, one in found.items():
        assert one.text == PIECES.decode(tokens)
        assert [word.text for word in one.words] == one.text.split()
    twin = TokenLanguage(
        Weights(options.lm_weight, 0.4, 1.5, model=model, hot=words.automaton(PIECES.encode) if words else None),
        word_of=lambda word: 0 if model is None else model.id(name(word)),
        begins=frozenset(place for place, begins in enumerate(PIECES.begins_word) if begins),
    )
    assert_same(dict(prefix_beam_search(log_probs, twin)), expected)


@pytest.mark.parametrize("frames", [3, 5])
def test_byte_pairs_with_a_list_of_words(frames):
    log_probs = emissions(frames, 5, seed=frames)
    options = unlimited(lm_weight=0.9, insertion_bonus=0.4, unknown_penalty=1.5)
    listed = ("a", "ab", "b", "aa")
    pronunciations = [Pronunciation(word, tuple(PIECES.symbols[token] for token in PIECES.encode(word)), 0.0) for word in listed]
    judge = lambda words: judge_units(WORDS, words, options)  # noqa: E731
    expected = word_sequences(log_probs, PIECES.symbols, pronunciations, judge)
    decoder = BeamDecoder(PIECES, options, language_model=WORDS, lexicon=Lexicon.of_words(listed))
    assert_same(all_of(decoder, log_probs), expected)


# --- the fewest expected errors


def least_risk(scores: dict[str, float], unit: str, power: float) -> dict[str, float]:
    """Expected errors of each text by its definition: the edits to every other text, weighed by the posterior to the power."""
    best = max(scores.values())
    weights = {text: math.exp(power * (score - best)) for text, score in scores.items()}
    total = sum(weights.values())

    def errors(text: str, other: str) -> int:
        return count_edits([(other, text)], unit).errors

    return {text: sum(weight * errors(text, other) for other, weight in weights.items()) / total for text in scores}


@pytest.mark.parametrize("power", [1.0, 0.4])
@pytest.mark.parametrize("kind", ["words", "phones", "lexicon"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_text_of_fewest_expected_errors(kind, seed, power):
    tokenizer = cut(LETTERS if kind == "words" else PHONES, 4)
    log_probs = emissions(4, 4, seed=seed)
    options = {"lm_weight": 0.0, "insertion_bonus": 0.3}
    lexicon = DICTIONARY if kind == "lexicon" else None
    expected = all_of(BeamDecoder(tokenizer, unlimited(**options), lexicon=lexicon), log_probs)
    risks = least_risk(expected, "phone" if kind == "phones" else "word", power)
    found = BeamDecoder(tokenizer, unlimited(**options, mbr=power), lexicon=lexicon).decode(log_probs)
    assert {one.text: one.risk for one in found} == pytest.approx(risks, abs=1e-6)
    assert {one.text: one.score for one in found} == pytest.approx(expected)
    assert [one.risk for one in found] == sorted(one.risk for one in found), "the least risk comes first"
    alone = BeamDecoder(tokenizer, BeamOptions(**{**vars(unlimited(**options, mbr=power)), "nbest": 1}), lexicon=lexicon)
    assert alone.decode(log_probs)[0].text == found[0].text


def test_the_fewest_expected_errors_are_not_always_those_of_the_likeliest_text():
    differ = 0
    for seed in range(20):
        log_probs = emissions(5, 4, seed=seed)
        likeliest, least = (BeamDecoder(PHONES, unlimited(mbr=power)).decode(log_probs)[0] for power in (0.0, 1.0))
        assert likeliest.risk == 0.0
        differ += likeliest.text != least.text
    assert 0 < differ < 20


@pytest.mark.parametrize("seed", range(5))
def test_edits_are_those_of_the_scorer(seed):
    draw = np.random.default_rng(seed)
    room = np.zeros(33, np.int64)
    for _ in range(100):
        ours, theirs = (draw.integers(0, 3, draw.integers(0, 15)) for _ in range(2))
        expected = count_edits([(" ".join(map(str, theirs)), " ".join(map(str, ours)))], "word").errors
        assert edits(ours, theirs, room) == expected
