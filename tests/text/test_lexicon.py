"""Pronunciation dictionaries: the formats in use, probabilities, and the tree that a search walks."""

import gzip
import math

import numpy as np
import pytest

from asr.errors import DataError, UsageError
from asr.text.lexicon import Lexicon, LexiconTree, Pronunciation, build_tree, read_lexicon
from asr.text.tokenizer import Tokenizer, TokenOptions

ARPABET = Tokenizer(("<blank>", "AA", "AH", "HH", "IY", "L", "OW", "R", "D"), TokenOptions(unit="phones", phone_set="arpabet"))


def write(path, text: str, encoding: str = "utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def entries(lexicon: Lexicon) -> dict[tuple[str, str], float]:
    return {(each.word, " ".join(each.phones)): round(math.exp(each.logp), 4) for each in lexicon.pronunciations}


CMUDICT = """;;; # CMUdict  --  Major Version: 0.07
"QUOTE  K W OW1 T
#HASH-MARK  HH AE1 SH M AA2 R K
;SEMI-COLON  S EH1 M IY0 K OW1 L AH0 N
READ  R EH1 D
READ(1)  R IY1 D
DÉJÀ  D EY2 ZH AA1
"""


def test_cmudict_with_its_variants_and_its_encoding(tmp_path):
    found = entries(read_lexicon(write(tmp_path / "cmudict-0.7b", CMUDICT, "latin-1")))
    assert found[("READ", "R EH1 D")] == found[("READ", "R IY1 D")] == 0.5
    assert found[("DÉJÀ", "D EY2 ZH AA1")] == 1.0
    assert {word for word, _ in found} == {'"QUOTE', "#HASH-MARK", ";SEMI-COLON", "READ", "DÉJÀ"}


def test_cmudict_with_comments_and_lower_case(tmp_path):
    text = "a AH0\na(2) EY1\naalborg AO1 L B AO0 R G # place, danish\n\n# a line of its own\n"
    lexicon = read_lexicon(write(tmp_path / "cmudict.dict", text), case="upper")
    assert entries(lexicon) == {("A", "AH0"): 0.5, ("A", "EY1"): 0.5, ("AALBORG", "AO1 L B AO0 R G"): 1.0}
    assert lexicon.words == ("A", "AALBORG")
    assert "A" in lexicon
    assert "a" not in lexicon
    assert len(lexicon) == 2


def test_librispeech_repeats_the_word_and_kaldi_gives_probabilities(tmp_path):
    plain = "A\tAH0\nA\tEY1\nA\tAH0\nA''S\tEY1 Z\n<s>\tSIL\n"
    assert entries(read_lexicon(write(tmp_path / "librispeech-lexicon.txt", plain))) == {
        ("A", "AH0"): 0.5,
        ("A", "EY1"): 0.5,
        ("A''S", "EY1 Z"): 1.0,
    }
    weighted = "A 0.75 AH0\nA 0.25 EY1\nTHE 1.0 DH AH0\nTHE 5e-1 DH IY0\n"
    with gzip.open(tmp_path / "lexiconp.txt.gz", "wt") as handle:
        handle.write(weighted)
    assert entries(read_lexicon(tmp_path / "lexiconp.txt.gz")) == {
        ("A", "AH0"): 0.75,
        ("A", "EY1"): 0.25,
        ("THE", "DH AH0"): 1.0,
        ("THE", "DH IY0"): 0.5,
    }


def test_timit_between_slashes(tmp_path):
    comments = "; TIMITDIC.TXT\n; the phonemic dictionary\n"
    text = comments + "-knacks  /n ae1 k s/\nlive~v  /l ih1 v/\nlive~adj  /l ay1 v/\nshe'd  /sh iy1 d/\n"
    assert entries(read_lexicon(write(tmp_path / "TIMITDIC.TXT", text))) == {
        ("-knacks", "n ae k s"): 1.0,
        ("live", "l ih v"): 0.5,
        ("live", "l ay v"): 0.5,
        ("she'd", "sh iy d"): 1.0,
    }


def test_a_list_of_words(tmp_path):
    lexicon = read_lexicon(write(tmp_path / "words.txt", "\ufeffhallo\r\nwelt\r\nhallo\r\n"))
    assert lexicon.words == ("hallo", "welt")
    assert lexicon.words == Lexicon.of_words(["hallo", "welt", "hallo"]).words
    with pytest.raises(DataError, match="a list of words without pronunciations, which a model of phones cannot use"):
        lexicon.tree(ARPABET)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "lexicon: holds no word; expected lines of a word and its phones"),
        (b";;; nothing\n\n", "lexicon: holds no word"),
        (b"A 0.5 AH\nTHE 1.5 DH\n", "lexicon:2: a probability must be above 0 and at most 1, not 1.5"),
        (b"A 0.5 AH\nTHE 0 DH\n", "lexicon:2: a probability must be above 0 and at most 1, not 0"),
        (b"she /sh iy/\nhe /hh iy/\nhad hh ae d\n", "lexicon:3: expected a word and its phones between slashes"),
        (b"she /sh iy/\nhe //\n", "lexicon:2: expected a word and its phones between slashes"),
        (b"caf\xe9 K AE F EY\n", "lexicon:1: byte 0xE9 in column 4 is not UTF-8"),
        (b"A\0B AH\n", "lexicon:1: holds a NUL byte"),
        (b"\xff\xfeA\0", "is UTF-16 text"),
        (b"\x1f\x8b\x08\x00cut", "gzip data is cut or damaged"),
    ],
)
def test_files_that_are_no_lexicon(tmp_path, text, message):
    (tmp_path / "lexicon").write_bytes(text)
    with pytest.raises(DataError) as fault:
        read_lexicon(tmp_path / "lexicon")
    assert message in str(fault.value)
    with pytest.raises(DataError, match="no such file"):
        read_lexicon(tmp_path / "absent")
    with pytest.raises(UsageError, match="must be one of keep, lower, upper"):
        read_lexicon(tmp_path / "lexicon", case="title")


def walk(tree: LexiconTree, tokens) -> int:
    node = 0
    for token in tokens:
        children = range(tree.child_begin[node], tree.child_begin[node + 1])
        node = next((child for child in children if tree.token[child] == token), -1)
        if node < 0:
            return -1
    return node


def words_at(tree: LexiconTree, node: int) -> dict[int, float]:
    span = slice(tree.word_begin[node], tree.word_begin[node + 1])
    return dict(zip(tree.word[span].tolist(), tree.logp[span].tolist()))


def test_a_tree_holds_every_spelling_and_no_other():
    rng = np.random.default_rng(0)
    spelled = {(tuple(rng.integers(1, 4, size=rng.integers(1, 6)).tolist()), int(word)): -float(word) for word in range(60)}
    tree = build_tree(spelled)
    prefixes = {ids[:length] for ids, _ in spelled for length in range(len(ids) + 1)}
    assert len(tree.token) == len(prefixes)
    for ids in prefixes:
        node = walk(tree, ids)
        assert node >= 0
        assert words_at(tree, node) == {word: logp for (each, word), logp in spelled.items() if each == ids}
        children = tree.token[tree.child_begin[node] : tree.child_begin[node + 1]]
        assert sorted(children.tolist()) == children.tolist()
        assert all(tree.parent[child] == node for child in range(tree.child_begin[node], tree.child_begin[node + 1]))
    assert walk(tree, (3, 3, 3, 3, 3, 3)) == -1
    assert not any(array.flags.writeable for array in tree)


def test_the_best_below_each_node():
    rng = np.random.default_rng(1)
    spelled = {(tuple(rng.integers(1, 4, size=rng.integers(1, 5)).tolist()), int(word)): 0.0 for word in range(40)}
    tree = build_tree(spelled)
    values = rng.normal(size=len(tree.word))
    by_word = {int(word): value for word, value in zip(tree.word, values)}
    best = tree.best_below(values)
    for ids, _ in spelled:
        for length in range(len(ids) + 1):
            below = [by_word[word] for other, word in spelled if other[:length] == ids[:length]]
            assert best[walk(tree, ids[:length])] == max(below)


def test_phones_are_folded_as_transcripts_are_and_equal_ones_added():
    lexicon = Lexicon(
        [
            Pronunciation("hello", ("HH", "AH0", "L", "OW1"), math.log(0.25)),
            Pronunciation("hello", ("HH", "AH1", "L", "OW0"), math.log(0.5)),
            Pronunciation("hollow", ("HH", "AA1", "L", "OW0"), 0.0),
            Pronunciation("zoo", ("Z", "UW1"), 0.0),
        ]
    )
    tree, left_out = lexicon.tree(ARPABET)
    assert left_out == ("zoo",)
    assert words_at(tree, walk(tree, ARPABET.encode("HH AH L OW"))) == {0: pytest.approx(math.log(0.75))}
    assert words_at(tree, walk(tree, ARPABET.encode("HH AA L OW"))) == {1: 0.0}
    timit = Tokenizer(("<blank>", "aa", "sil", "t"), TokenOptions(unit="phones", phone_set="timit39"))
    tree, left_out = Lexicon([Pronunciation("tot", ("t", "ao", "q", "tcl"), 0.0)]).tree(timit)
    assert not left_out
    assert words_at(tree, walk(tree, timit.encode("t aa sil"))) == {0: 0.0}


def test_characters_read_the_spelling_of_a_dictionary_with_phones():
    letters = Tokenizer(("<blank>", " ", "a", "e", "l"), TokenOptions(case="lower"))
    lexicon = Lexicon(
        [
            Pronunciation("All", ("AO", "L"), math.log(0.5)),
            Pronunciation("All", ("AA", "L"), math.log(0.5)),
            Pronunciation("all", ("AO", "L"), 0.0),
            Pronunciation("el al", ("EH",), 0.0),
            Pronunciation("Öl", ("ER", "L"), 0.0),
        ]
    )
    tree, left_out = lexicon.tree(letters, separator=1)
    assert left_out == ("el al", "Öl")
    assert words_at(tree, walk(tree, letters.encode("all"))) == {0: 0.0, 1: 0.0}
    with pytest.raises(DataError, match=r'no word of the lexicon can be spelled with the model\'s characters: it has no "x"'):
        Lexicon.of_words(["xxx"]).tree(letters)
    with pytest.raises(DataError, match=r'pronounced with the model\'s phones: it has no "EH"'):
        Lexicon([Pronunciation("x", ("EH", "EH"), 0.0)]).tree(Tokenizer(("<blank>", "AA"), TokenOptions(unit="phones")))


@pytest.mark.parametrize("symbols", [("AH", "K", "T"), ("AH0", "AH1", "AH", "K", "T"), ("AH0", "K", "T")])
def test_stress_is_dropped_where_the_model_knows_none(symbols):
    """Whatever its transcripts were normalised by: here as they stand."""
    tokenizer = Tokenizer(("<blank>", *symbols), TokenOptions(unit="phones"))
    lexicon = Lexicon(
        [Pronunciation("cut", ("K", "AH1", "T"), math.log(0.6)), Pronunciation("cut", ("K", "AH0", "T"), math.log(0.4))]
    )
    tree, left_out = lexicon.tree(tokenizer)
    assert left_out == ()
    expected = {
        ("AH", "K", "T"): {"K AH T": 1.0},
        ("AH0", "AH1", "AH", "K", "T"): {"K AH1 T": 0.6, "K AH0 T": 0.4},
        ("AH0", "K", "T"): {"K AH0 T": 0.4},
    }[symbols]
    found = {}
    for node in range(len(tree.token)):
        for entry in range(tree.word_begin[node], tree.word_begin[node + 1]):
            path, at = [], node
            while at > 0:
                path.insert(0, tokenizer.symbols[tree.token[at]])
                at = tree.parent[at]
            found[" ".join(path)] = float(np.exp(tree.logp[entry]))
    assert found == pytest.approx(expected)
