"""Byte pairs: cut as sentencepiece cuts them, learnt to the same pieces each time, and a file that survives only whole."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from asr.errors import DataError, ModelError, UsageError
from asr.text.bytepairs import BytePairs, learn_byte_pairs, pieces_fault
from asr.text.tokenizer import Tokenizer, TokenOptions

sentencepiece = pytest.importorskip("sentencepiece", reason="needs the extra bytepairs")

ENGLISH = (
    "the cat sat on the mat",
    "the other cats ate the rats",
    "that is the matter with the hat",
    "an actor attacks the theatre",
    "it's a cat's hat",
)
GEORGIAN = ("გამარჯობა მსოფლიო", "მე მიყვარს მთა და მთის მდინარე", "მთა მაღალია", "მდინარე მიდის")


def learn(texts: tuple[str, ...], size: int, **options) -> Tokenizer:
    return Tokenizer.build(texts, TokenOptions(unit="bytepairs", size=size, **options))


def test_pieces_and_round_trip():
    tokenizer = learn(ENGLISH, 40)
    assert len(tokenizer) == 40
    assert tokenizer.symbols[0] == "<blank>"
    assert "▁the" in tokenizer.symbols
    for text in (*ENGLISH, "mats rest", "'s", "a"):
        ids = tokenizer.encode(f"  {text} ")
        assert all(0 < index < 40 for index in ids)
        assert tokenizer.decode(ids) == text
    assert len(tokenizer.encode(ENGLISH[0])) < len(ENGLISH[0])
    assert (tokenizer.encode(" "), tokenizer.decode([])) == ([], "")
    begins = [symbol for symbol, flag in zip(tokenizer.symbols, tokenizer.begins_word, strict=True) if flag]
    assert begins
    assert all(symbol.startswith("▁") for symbol in begins)
    bare = tokenizer.symbols.index("▁")
    assert tokenizer.decode([bare, bare, *tokenizer.encode("cat"), bare]) == "cat"


@pytest.mark.parametrize(("texts", "size"), [(ENGLISH, 25), (ENGLISH, 60), (GEORGIAN, 45)])
def test_words_are_cut_as_sentencepiece_cuts_them(tmp_path, texts, size):
    """An independent encoder: sentencepiece itself, given the same pieces with the same ranks."""
    found = sentencepiece_model(texts, size)
    pieces = ["<blank>", *(found.id_to_piece(index) for index in range(1, size))]
    assert list(learn(texts, size).symbols) == pieces
    pairs = BytePairs(pieces)
    draw = random.Random(1)
    letters = sorted(set("".join(texts)) - {" "})
    words = {word for text in texts for word in text.split()}
    words |= {"".join(draw.choices(letters, k=draw.randint(1, 14))) for _ in range(3000)}
    words |= {letter * count for letter in letters for count in (2, 3, 7)}
    assert sum(list(pairs.cut(word)) != found.encode(word) for word in words) == 0
    assert max(len(word) - len(pairs.cut(word)) for word in words) >= 3


def sentencepiece_model(texts: tuple[str, ...], size: int) -> "sentencepiece.SentencePieceProcessor":
    import io

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=written,
        model_type="bpe",
        vocab_size=size,
        character_coverage=1.0,
        normalization_rule_name="identity",
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())


def test_the_same_texts_give_the_same_pieces():
    """In any order, and in a process with other hash seeds."""
    pieces = learn_byte_pairs(ENGLISH, size=50)
    assert learn_byte_pairs(reversed(ENGLISH), size=50) == pieces
    code = f"from asr.text.bytepairs import learn_byte_pairs; print(ascii(learn_byte_pairs({ENGLISH!r}, size=50)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
        env={"PYTHONHASHSEED": "7"},
    )
    assert done.stdout.strip() == ascii(pieces)
    assert done.stderr == ""


def test_a_long_word_is_cut_in_no_time():
    """A transcript of a script without spaces, or a damaged one, is one word."""
    tokenizer = learn(ENGLISH, 40)
    word = "thecat" * 20_000
    assert tokenizer.decode(tokenizer.encode(word)) == word


def test_the_text_is_normalised_before():
    tokenizer = learn(ENGLISH, 40, case="lower", punctuation="drop")
    assert tokenizer.encode("The CAT!") == tokenizer.encode("the cat")


def test_symbols_that_no_piece_holds():
    tokenizer = learn(ENGLISH, 40)
    assert tokenizer.unknown_symbols("caß the ß?") == ["ß", "ß", "?"]
    with pytest.raises(DataError, match=r'holds symbols outside the alphabet: "ß"'):
        tokenizer.encode("caß")
    assert learn(ENGLISH, 40, extra=["ß"]).unknown_symbols("caß") == []


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (10, r"tokens.size=10 is too small: 14 different characters, the space and the blank need 16, and each"),
        (5000, r"tokens.size=5000 is too large: these transcripts give no more than (\d+); set tokens.size=\1$"),
    ],
)
def test_a_size_that_does_not_fit(size, words):
    with pytest.raises(UsageError, match=words):
        learn(ENGLISH, size)


def test_m12_reserved_names():
    for name in ("<unk>", "<s>", "▁"):
        with pytest.raises(DataError, match=f"holds {name}, a name the toolkit keeps for itself"):
            learn((*ENGLISH, f"a {name} b"), 40)
    with pytest.raises(DataError, match="all training transcripts are empty"):
        learn(("", " "), 40)


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UsageError, match=r"comes with the extra bytepairs: pip install 'asr\[bytepairs\]'$"):
        learn(ENGLISH, 40)


def test_a_model_needs_the_extra_only_to_be_learnt(tmp_path, monkeypatch):
    tokenizer = learn(ENGLISH, 40)
    tokenizer.save(tmp_path / "tokens.txt")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    loaded = Tokenizer.load(tmp_path / "tokens.txt", tokenizer.options)
    assert loaded.symbols == tokenizer.symbols
    assert loaded.encode(ENGLISH[1]) == tokenizer.encode(ENGLISH[1])
    assert loaded.decode(loaded.encode("hats")) == "hats"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("▁the ", "▁xhe ", "is no joint of two symbols before it"),
        ("▁the ", "▁t▁e ", "is no piece of a word"),
        ("▁ ", "_ ", "no symbol '▁', which begins a word"),
        ("\nc ", "\nq ", "is no joint of two symbols before it"),
        ("\nc ", "\nm ", "symbol 'm' stands twice"),
    ],
)
def test_s12_a_damaged_file(tmp_path, old, new, words):
    path = tmp_path / "tokens.txt"
    learn(ENGLISH, 40).save(path)
    text = path.read_text(encoding="utf-8")
    assert f"\n{old.strip()} " in text
    path.write_text(text.replace(f"\n{old.strip()} ", f"\n{new.strip()} ", 1), encoding="utf-8")
    with pytest.raises(ModelError, match=words) as caught:
        Tokenizer.load(path, TokenOptions(unit="bytepairs", size=40))
    assert str(path) in str(caught.value)


def test_pieces_out_of_order_are_no_byte_pairs(tmp_path):
    pieces = list(learn(ENGLISH, 40).symbols)
    assert pieces_fault(pieces) is None
    place = pieces.index("▁the")
    assert "is no joint of two symbols before it" in (
        pieces_fault([pieces[0], pieces[place], *pieces[1:place], *pieces[place + 1 :]]) or ""
    )
    with pytest.raises(ModelError, match="is not one character"):
        Tokenizer(pieces, TokenOptions())
