"""Hot words: lists that cannot be (V9), and an automaton that counts what a plain search finds."""

import numpy as np
import pytest

from asr.errors import DataError, UsageError
from asr.text.hotwords import BOOST, HotWords, build_automaton, follow, read_hotwords
from asr.text.lexicon import Lexicon
from asr.text.tokenizer import Tokenizer, TokenOptions

LOWER = Tokenizer.build(["abcdefghijklmnopqrstuvwxyz ü"], TokenOptions(case="lower"))
PHONES = Tokenizer(("<blank>", "A", "B"), TokenOptions(unit="phones"))


def test_words_phrases_boosts_and_comments(tmp_path):
    path = tmp_path / "hot.txt"
    path.write_text("# names\nZürich\nNew   York\t7.5\n\nzu\u0308rich\t2\nZürich\t6\n", encoding="utf-8")
    found = read_hotwords(path, LOWER)
    assert found == HotWords(("zürich", "new york"), (6.0, 7.5)), "normalised as transcripts are; the highest boost counts"
    assert read_hotwords(path, LOWER, boost=9.0).boosts == (9.0, 7.5)
    assert BOOST == 5.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "hot: holds no hot word"),
        (b"\n# only a comment\n  \n", "hot: holds no hot word"),
        (b"fine\nh\xf6ren\n", "hot:2: byte 0xF6 in column 2 is not UTF-8"),
        (
            "fine\nсад\n".encode(),
            'hot:2: the hot word "сад" holds "а" (U+0430), "д" (U+0434), "с" (U+0441), which the model cannot write',
        ),
        (b"fine\t0\n", "hot:1: the boost after the tab must be a number above 0 and at most 100"),
        (b"fine\tnan\n", "hot:1: the boost after the tab must be a number above 0 and at most 100"),
        (b"fine\t2\nfine\t2\tx\n", 'hot:2: the boost after the tab must be a number above 0 and at most 100, got "2\tx"'),
        ("\u200b\n".encode(), "hot:1: nothing is left of the hot word after normalisation"),
        (b"a" * 1001, "hot:1: a hot word of 1001 characters; at most 1000 are taken"),
        (b"<unk>\n", 'holds "<unk>", which the model cannot write'),
    ],
)
def test_v9_lists_that_cannot_be(tmp_path, text, message):
    (tmp_path / "hot").write_bytes(text)
    with pytest.raises(DataError) as fault:
        read_hotwords(tmp_path / "hot", LOWER)
    assert message in str(fault.value)


def test_v9_a_huge_list_is_refused_at_the_line_where_it_becomes_one(tmp_path, monkeypatch):
    monkeypatch.setattr("asr.text.hotwords.MOST_PHRASES", 3)
    (tmp_path / "hot").write_text("a\nb\na\nc\nd\n")
    with pytest.raises(DataError, match=r"hot:5: more than 3 hot words"):
        read_hotwords(tmp_path / "hot", LOWER)
    with pytest.raises(UsageError, match="the boost of hot words must be above 0 and at most 100, got -1"):
        read_hotwords(tmp_path / "hot", LOWER, boost=-1)


def test_v9_with_a_lexicon_the_words_must_be_in_it(tmp_path):
    (tmp_path / "hot").write_text("New York\nNew Jork\n")
    lexicon = Lexicon.of_words(["New", "York"])
    with pytest.raises(DataError, match='hot:2: "Jork" of the hot word "New Jork" is not in the lexicon'):
        read_hotwords(tmp_path / "hot", PHONES, lexicon=lexicon)
    (tmp_path / "hot").write_text("New York\t3\n")
    assert read_hotwords(tmp_path / "hot", PHONES, lexicon=lexicon) == HotWords(("New York",), (3.0,))
    (tmp_path / "hot").write_text("A B\nA C\n")
    with pytest.raises(DataError, match='hot:2: the hot word "A C" holds "C", which the model cannot write'):
        read_hotwords(tmp_path / "hot", PHONES)


def test_the_automaton_counts_every_occurrence():
    rng = np.random.default_rng(0)
    for _ in range(30):
        phrases = {tuple(rng.integers(0, 3, size=rng.integers(1, 5)).tolist()) for _ in range(rng.integers(1, 8))}
        boosts = {phrase: float(rng.uniform(0.1, 5)) for phrase in phrases}
        tables = build_automaton(boosts.keys(), boosts.values())
        labels = rng.integers(0, 3, size=40).tolist()
        state, total = 0, 0.0
        for place, label in enumerate(labels, start=1):
            state = follow(tables, state, label)
            total += tables.bonus[state]
            begun = [
                boost * length / len(phrase)
                for phrase, boost in boosts.items()
                for length in range(1, len(phrase))
                if tuple(labels[max(0, place - length) : place]) == phrase[:length]
            ]
            assert tables.credit[state] == pytest.approx(max(begun, default=0.0)), "the most that is begun, and no more"
        held = sum(
            boost * sum(tuple(labels[at : at + len(phrase)]) == phrase for at in range(len(labels)))
            for phrase, boost in boosts.items()
        )
        assert total == pytest.approx(held)


def test_with_a_separator_phrases_are_whole_words():
    hot = HotWords(("art", "art is"), (2.0, 4.0))
    space = LOWER.encode("a b")[1]
    tables = hot.automaton(LOWER.encode, separator=space)

    def bonus(text: str) -> float:
        state, total = follow(tables, 0, space), 0.0
        for label in [*LOWER.encode(text), space]:
            state = follow(tables, state, label)
            total += tables.bonus[state]
        return total

    assert [bonus(text) for text in ("art", "party", "arts", "art art", "art is", "art isle", "is art", "")] == [
        2.0,
        0.0,
        0.0,
        4.0,
        6.0,
        2.0,
        2.0,
        0.0,
    ]
