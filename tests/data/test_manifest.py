"""Manifests: what is read, what is refused with its line (rows M1-M7, M13, M14), and that writing is all or nothing."""

import errno
import json
import os
import tracemalloc
from pathlib import Path

import pytest

from asr.data import files, manifest
from asr.data.manifest import (
    Utterance,
    manifest_sha256,
    read_manifest,
    scan_json_lines,
    scan_manifest,
    write_atomic,
    write_manifest,
)
from asr.errors import DataError, ResourceError, UsageError


def line(**fields) -> bytes:
    return json.dumps({"id": "a", "audio_filepath": "a.wav", "duration": 1.0} | fields).encode()


def refused(path: Path, data: bytes, *words: str) -> str:
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    for word in words:
        assert word in message
    return message


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "train.jsonl"


def test_fields(path):
    path.write_bytes(line(offset=2, text="hi", phones="HH AY", speaker="s", lang="en", tags=[1]) + b"\n\n" + line(id="b") + b"\n")
    first, second = read_manifest(path)
    assert first == Utterance(
        id="a",
        audio_filepath=str(path.parent / "a.wav"),
        duration=1.0,
        offset=2.0,
        text="hi",
        phones="HH AY",
        speaker="s",
        extra={"lang": "en", "tags": [1]},
    )
    assert (first.line, second.line) == (1, 3)
    assert (second.offset, second.text, second.phones, second.speaker, second.extra) == (0.0, None, None, None, {})


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b'{"id": "a",}', "column 12: trailing comma"),
        (b'{"id": "a", "duration": 1', "column 26: the JSON object ends too early"),
        (b'{"id": "a", "duration": NaN}', "column 25: NaN is not a JSON number"),
        (b'{"id": "a", "duration": -Infinity}', "column 25: -Infinity is not a JSON number"),
        (b'{"id": "a" "duration": 1}', "column 12: not valid JSON near"),
        (b"hello", "column 1: not valid JSON near 'hello'"),
        (b'["a", 1]', "expected a JSON object in braces, got a list"),
        (b'{"id": "a", "id": "b"}', 'the field "id" is given twice'),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_m01_invalid_json_names_line_and_column(path, bad, words):
    good = b"".join(line(id=f"u{index}") + b"\n" for index in range(1233))
    message = refused(path, good + bad + b"\n", f"{path}:1234: {words}")
    assert "\n" not in message


def test_m01_a_json_array_is_told_from_json_lines(path):
    refused(path, b"[\n" + line() + b"\n]", "ends too early")
    refused(path, b'[{"id": "a"},', ":1: column 14: the JSON object ends too early")


def test_m02_byte_order_mark_and_crlf_are_fine(path):
    path.write_bytes(b"\xef\xbb\xbf" + line(text="é") + b"\r\n" + line(id="b") + b"\r\n")
    assert [one.id for one in read_manifest(path)] == ["a", "b"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_m02_utf16(path, encoding):
    refused(path, line().decode().encode(encoding), "UTF-16", "iconv -f UTF-16 -t UTF-8")


def test_m02_other_encodings_are_guessed(path):
    refused(path, line() + b"\n" + '{"id": "é"}'.encode("latin-1"), ":2: byte 0xE9 in column 9 is not UTF-8", "Latin-1")
    refused(path, '{"id": "“é”"}'.encode("cp1252"), "Windows-1252")
    refused(path, b'{"id": "a\0"}', ":1: NUL byte in column 10")
    refused(path, b"\x1f\x8b\x08\0", "gzip")


def test_m03_duplicate_id_names_both_lines(path):
    refused(path, line() + b"\n" + line(id="b") + b"\n" + line() + b"\n", ':3: id "a" stands on lines 1 and 3')
    utterances, problems = scan_manifest(path)
    assert [one.id for one in utterances] == ["a", "b"]
    assert [(one.kind, one.id) for one in problems] == [("duplicate-id", "a")]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"duration": "3.2"}, '"duration" must be a number of seconds, got a string "3.2"'),
        ({"duration": True}, '"duration" must be a number of seconds, got true'),
        ({"duration": 10**30}, "which no recording has"),
        ({"offset": None}, '"offset" must be a number of seconds, got null'),
        ({"id": 7}, '"id" must be a string, got a number'),
        ({"id": " "}, '"id" is empty'),
        ({"id": "a\tb"}, '"id" holds a control character'),
        ({"audio_filepath": None}, '"audio_filepath" must be a string, got null'),
        ({"audio_filepath": "a\0b"}, '"audio_filepath" holds a NUL'),
        ({"text": ["a"]}, '"text" must be a string, got a list'),
        ({"text": "\ud800"}, "surrogate"),
        ({"speaker": 12}, '"speaker" must be a string, got a number'),
    ],
)
def test_m04_wrong_types(path, fields, words):
    refused(path, line(**fields), f"{path}:1: ", words)


def test_m04_missing_fields_are_all_named(path):
    refused(path, b'{"text": "x", "speaker": 3}', "missing fields id, audio_filepath, duration", '"speaker" must be')


def test_m04_null_transcripts_are_absent_ones(path):
    path.write_bytes(line(text=None, phones=None, speaker=None))
    assert read_manifest(path)[0].text is None


def test_m05_empty_manifest(path):
    for content in (b"", b"\n\n", b"\xef\xbb\xbf"):
        refused(path, content, "is empty")


def test_m07_values_out_of_range_are_left_to_the_check(path):
    path.write_bytes(line(duration=-1, offset=-2))
    assert (read_manifest(path)[0].duration, read_manifest(path)[0].offset) == (-1.0, -2.0)


def test_m13_a_very_long_line_costs_bounded_memory(path):
    with open(path, "wb") as handle:
        handle.write(line() + b"\n")
        for _ in range(48):
            handle.write(b"x" * 2**20)
        handle.write(b"\n" + line(id="b") + b"\n")
    tracemalloc.start()
    utterances, problems = scan_manifest(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [one.id for one in utterances] == ["a", "b"]
    assert [one.line for one in utterances] == [1, 3]
    assert [(one.kind, one.where) for one in problems] == [("line-too-long", f"{path}:2")]
    assert peak < 16 * 2**20


def test_m14_relative_paths_belong_to_the_manifest(tmp_path, monkeypatch):
    """Also after a change of the working folder, and where the manifest's folder is reached through a link."""
    (tmp_path / "data" / "wav").mkdir(parents=True)
    (tmp_path / "far" / "prepared").mkdir(parents=True)
    (tmp_path / "data" / "prepared").symlink_to(tmp_path / "far" / "prepared")
    (tmp_path / "far" / "prepared" / "train.jsonl").write_bytes(line(audio_filepath="../wav/a.wav"))
    monkeypatch.chdir(tmp_path / "data")
    found = read_manifest("prepared/train.jsonl")
    monkeypatch.chdir("/")
    assert found[0].audio_filepath == str(tmp_path / "far" / "wav" / "a.wav")


def test_m14_written_paths_are_relative_where_audio_lies_near(tmp_path, monkeypatch):
    near, beside, away = tmp_path / "p" / "out" / "a.wav", tmp_path / "p" / "wav" / "b.wav", tmp_path / "far" / "c.wav"
    monkeypatch.chdir(tmp_path)
    utterances = [Utterance(one.stem, str(one.relative_to(tmp_path)), 1.0) for one in (near, beside, away)]
    write_manifest("p/out/train.jsonl", utterances)
    written = [json.loads(text)["audio_filepath"] for text in (tmp_path / "p/out/train.jsonl").read_text().splitlines()]
    assert written == ["a.wav", "../wav/b.wav", str(away)]
    (tmp_path / "p").rename(tmp_path / "moved")
    found = [one.audio_filepath for one in read_manifest("moved/out/train.jsonl")]
    assert found == [str(tmp_path / "moved/out/a.wav"), str(tmp_path / "moved/wav/b.wav"), str(away)]


def test_what_is_written_is_read_again(path):
    """Umlauts, line separators, a file name that is not UTF-8, and unknown fields survive."""
    utterances = [
        Utterance(
            "ü 1",
            str(path.parent / "ä.wav"),
            1.25,
            offset=0.5,
            text="größe\u2028🎤",
            phones="a b",
            speaker="ß",
            extra={"k": None},
        ),
        Utterance("2", os.fsdecode(os.fsencode(path.parent) + b"/\xff.wav"), 0.1 + 0.2),
    ]
    write_manifest(path, utterances)
    assert read_manifest(path) == utterances
    assert "größe" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (Utterance("a", "b.wav", 1.0), 'id "a" would be written twice'),
        (Utterance("b", "b.wav", 1.0, extra={"text": "x"}), 'extra field "text"'),
        (Utterance("b", "b.wav", float("nan")), "a field that JSON cannot hold"),
    ],
)
def test_what_cannot_be_read_again_is_not_written(path, second, words):
    path.write_text("before")
    with pytest.raises(DataError, match=words):
        write_manifest(path, [Utterance("a", "a.wav", 1.0), second])
    assert path.read_text() == "before"


def test_many_problems_are_listed_together(path):
    message = refused(path, b"x\n" * 30, "30 lines cannot be used", f"{path}:1:", f"{path}:20:", "and 10 more")
    assert len(message.splitlines()) == 22


@pytest.mark.parametrize("name", ["none.jsonl", ".", "pipe", "dangling"])
def test_manifests_that_are_no_files(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    words = {"none.jsonl": "no such file", ".": "is a folder", "pipe": "named pipe", "dangling": "link to nowhere"}[name]
    with pytest.raises(DataError, match=words):
        read_manifest(tmp_path / name)


def test_json_lines_of_any_kind(path):
    path.write_bytes(b'{"a": 1}\n\nx\n{"b": 2}')
    found = list(scan_json_lines(path))
    assert found[0] == (1, {"a": 1})
    assert isinstance(found[1][1], manifest.Problem)
    assert found[2] == (4, {"b": 2})


def test_sha256(path):
    path.write_bytes(b"abc")
    assert manifest_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(DataError, match="no such file"):
        manifest_sha256(path.parent / "none")


def test_write_atomic_makes_folders_and_keeps_links(tmp_path):
    write_atomic(tmp_path / "new" / "folder" / "x.json", "é")
    assert (tmp_path / "new" / "folder" / "x.json").read_bytes() == "é".encode()
    (tmp_path / "link").symlink_to(tmp_path / "new" / "folder" / "x.json")
    write_atomic(tmp_path / "link", b"second")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new" / "folder" / "x.json").read_bytes() == b"second"


def test_write_atomic_to_a_device_leaves_it_in_place():
    write_atomic("/dev/null", b"x")
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_litter(path, monkeypatch, call):
    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    path.write_text("before")
    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(ResourceError, match=r"no space left .*needs 2\.0 MB, .* MB free") as caught:
        write_atomic(path, b"x" * 2_000_000)
    assert caught.value.exit_code == 5
    assert str(path) in str(caught.value)
    assert path.read_text() == "before"
    assert list(path.parent.iterdir()) == [path]


def test_write_faults_are_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResourceError, match="a part of the path is a file"):
        write_atomic(tmp_path / "file" / "x.json", "x")
    with pytest.raises(ResourceError, match="longer than the file system allows"):
        write_atomic(tmp_path / ("x" * 300), "x")
    with pytest.raises(UsageError, match="is a folder"):
        write_atomic(tmp_path, "x")
