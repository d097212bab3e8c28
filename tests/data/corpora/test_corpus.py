"""What all corpora share: lengths, ids, lists, text files."""

import dataclasses
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import pytest

from asr.data import audio
from asr.data.corpora import CORPORA
from asr.data.corpora.corpus import Found, distinct, measure, option, printable, read_text, some
from asr.data.manifest import Utterance
from asr.errors import DataError


def found(path: Path, name: str = "u", **fields) -> Found:
    return Found(Utterance(name, str(path), fields.pop("duration", 0.0), **fields), "list:1")


def test_every_option_has_a_default_and_a_line_of_help():
    assert {"yesno", "folder"} <= CORPORA.keys()
    fields = [field for corpus in CORPORA.values() for field in dataclasses.fields(corpus.options)]
    assert len(fields) > 20
    assert all(isinstance(field.default, (str, int, float)) and field.metadata["help"] for field in fields)
    assert all("\n" not in corpus.summary for corpus in CORPORA.values())


def test_options_keep_their_choices():
    @dataclasses.dataclass
    class Options:
        colour: str = option("red", "the colour", choices=("red", "blue"))

    assert Options().colour == "red"
    assert dataclasses.fields(Options)[0].metadata["choices"] == ("red", "blue")


def test_odd_recordings_are_used_and_counted(tmp_path: Path, record):
    odd = record(tmp_path / "odd.wav", seconds=0.5)
    odd.write_bytes(odd.read_bytes()[:-1])
    whole = record(tmp_path / "whole.wav", seconds=0.25)
    usable, problems, notes = measure([found(odd), found(whole, "v")])
    assert [item.duration for item in usable] == [0.499875, 0.25]
    assert problems == []
    assert notes == [f"1 of 2 recordings: {audio.WARNINGS['half-sample']}"]


def test_an_estimated_length_is_settled_by_decoding(tmp_path: Path, record, monkeypatch: pytest.MonkeyPatch):
    """Block by block: a recording of any length takes the memory of one block."""
    path = record(tmp_path / "a.wav", seconds=150.5)
    opened = audio._opened

    @contextmanager
    def estimated(path):
        with opened(path) as (info, sound):
            yield dataclasses.replace(info, frames=2 * info.frames, duration=2 * info.duration, exact=False), sound

    monkeypatch.setattr(audio, "_opened", estimated)
    tracemalloc.start()
    try:
        (usable, _, _), peak = measure([found(path)]), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert usable[0].duration == 150.5
    assert peak < 2e6 < 150 * 8000 * 4


def test_segments_share_one_look_at_the_recording(tmp_path: Path, record, monkeypatch: pytest.MonkeyPatch):
    path = record(tmp_path / "a.wav", seconds=1.0)
    looks = []
    inspect = audio.measure_seconds
    monkeypatch.setattr(audio, "measure_seconds", lambda path: looks.append(path) or inspect(path))
    items = [found(path, f"u{n}", offset=n / 4, duration=0.25) for n in range(4)] + [
        found(path, "late", offset=1.0, duration=0.1)
    ]
    usable, problems, _ = measure(items)
    assert ([item.offset for item in usable], len(looks)) == ([0.0, 0.25, 0.5, 0.75], 1)
    assert [(problem.kind, problem.id) for problem in problems] == [("segment-outside", "late")]


def test_distinct_keeps_the_first_and_names_both_places():
    items = [Found(Utterance(name, "/a", 0.0), f"list:{line}") for line, name in enumerate("aba", 1)]
    kept, problems = distinct(items)
    assert [item.where for item in kept] == ["list:1", "list:2"]
    assert [str(problem) for problem in problems] == ['list:3: id "a" is already taken by list:1; give each utterance its own']


def test_names_and_lists():
    assert printable("a\nb\udce9ü") == "a\\u000ab\\udce9ü"
    assert some("abc") == "a, b, c"
    assert some("abcdefg", 2) == "a, b and 5 more"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"one\ntwo \xe4\n", "t:2: byte 0xE4 is not UTF-8 text; if it is Latin-1"),
        (b"one \x93two\x94\n", "t:1: byte 0x93 is not UTF-8 text; if it is Windows-1252"),
        ("one".encode("utf-16"), "t: is UTF-16 text"),
        (b"one\n\0", "t:2: NUL byte"),
    ],
)
def test_foreign_text_is_named(tmp_path: Path, data: bytes, message: str):
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_text(tmp_path / "t")
    assert message in str(caught.value)
    with pytest.raises(DataError, match="is a folder, expected a file"):
        read_text(tmp_path)
