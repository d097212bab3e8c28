from pathlib import Path

import pytest

from asr.data.corpora.folder import FolderOptions, prepare
from asr.errors import DataError, UsageError


def pair(record, path: Path, text: str = "some words", suffix: str = ".txt") -> None:
    record(path)
    path.with_suffix(suffix).write_text(text, "utf-8")


def everything(prepared) -> dict:
    return {item.id: item for items in prepared.parts.values() for item in items}


def test_speakers_by_sub_directory(tmp_path: Path, record):
    for speaker in "abcdef":
        for number in range(2):
            pair(record, tmp_path / speaker / "session 1" / f"{number}.wav")
    prepared = prepare(tmp_path, FolderOptions())
    assert {part: len(items) for part, items in prepared.parts.items()} == {"train": 8, "valid": 2, "test": 2}
    assert prepared.split == "split by speaker: valid 10 %, test 10 % of the 6 speakers drawn with seed 1"
    item = everything(prepared)["c/session 1/1"]
    assert (item.speaker, item.text, item.duration) == ("c", "some words", 0.25)


def test_many_kinds_of_names_and_files(tmp_path: Path, record):
    names = ["Straße.wav", "it's #1 = 50%.flac", "-dash.ogg", "two\nlines.wav", "emoji 😀.WAV"]
    for name in names:
        pair(record, tmp_path / name, suffix=".lab")
    pair(record, tmp_path / "Bjo\u0308rn.wav")
    (tmp_path / "Bjo\u0308rn.txt").rename(tmp_path / "Bj\u00f6rn.txt")
    (tmp_path / "emoji 😀.lab").write_bytes("\ufeffzwei\r\n Zeilen \r\n".encode())
    prepared = prepare(tmp_path, FolderOptions(valid_fraction=0, test_fraction=0))
    assert prepared.problems == []
    found = everything(prepared)
    assert set(found) == {"Straße", "it's #1 = 50%", "-dash", "two\\u000alines", "emoji 😀", "Bj\u00f6rn"}
    assert found["emoji 😀"].text == "zwei Zeilen"
    assert all(Path(item.audio_filepath).is_file() and item.speaker is None for item in found.values())
    assert prepared.split == "everything in train"


def test_every_misfit_is_named(tmp_path: Path, record):
    for number in range(3):
        pair(record, tmp_path / f"good{number}.wav")
    record(tmp_path / "alone.wav")
    (tmp_path / "README.txt").write_text("about")
    pair(record, tmp_path / "both.wav")
    record(tmp_path / "both.flac")
    pair(record, tmp_path / "timed.wav", "0 2500 h#\n2500 4000 sh\n", suffix=".lab")
    pair(record, tmp_path / "differ.wav", "one")
    (tmp_path / "differ.lab").write_text("two")
    pair(record, tmp_path / "foreign.wav")
    (tmp_path / "foreign.txt").write_bytes("Jörg\n".encode("latin-1"))
    (tmp_path / "phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0")
    (tmp_path / "phone.txt").write_text("from a phone")
    pair(record, tmp_path / "._good0.wav")
    prepared = prepare(tmp_path, FolderOptions(valid_fraction=0, test_fraction=0))
    told = {problem.id: problem for problem in prepared.problems}
    assert len(told) == len(prepared.problems)
    assert {name: problem.kind for name, problem in told.items()} == {
        "alone": "no-transcript",
        "README": "no-recording",
        "both": "ambiguous",
        "timed": "bad-transcript",
        "differ": "bad-transcript",
        "foreign": "bad-transcript",
        "phone": "unsupported-format",
    }
    assert "label with times" in told["timed"].message
    assert "something else than differ.txt" in told["differ"].message
    assert "1: byte 0xF6 is not UTF-8 text; if it is Latin-1" in told["foreign"].message
    assert "ffmpeg" in told["phone"].message
    assert sorted(everything(prepared)) == ["good0", "good1", "good2"]
    assert [note.split(":")[0] for note in prepared.notes] == ["2 hidden files not read"]


def test_folders_called_train_and_test_are_parts(tmp_path: Path, record):
    for part, speakers in (("train", "abcd"), ("test", "e")):
        for speaker in speakers:
            pair(record, tmp_path / part / speaker / "x.wav")
    prepared = prepare(tmp_path, FolderOptions())
    assert {part: sorted(str(item.speaker) for item in items) for part, items in prepared.parts.items()}["test"] == ["e"]
    assert [len(prepared.parts[part]) for part in ("train", "valid")] == [3, 1]


def test_too_little_to_share_out_is_a_problem_beside_the_others(tmp_path: Path, record):
    pair(record, tmp_path / "a.wav")
    pair(record, tmp_path / "b.wav")
    record(tmp_path / "c.wav")
    prepared = prepare(tmp_path, FolderOptions())
    assert [problem.kind for problem in prepared.problems] == ["no-transcript", "too-few"]


def test_links_in_a_circle_end(tmp_path: Path, record):
    pair(record, tmp_path / "a" / "x.wav")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert list(everything(prepare(tmp_path, FolderOptions(valid_fraction=0, test_fraction=0)))) == ["a/x"]


def test_an_empty_transcript_is_kept_and_told(tmp_path: Path, record):
    pair(record, tmp_path / "a.wav", " \n")
    prepared = prepare(tmp_path, FolderOptions(valid_fraction=0, test_fraction=0))
    assert everything(prepared)["a"].text == ""
    assert prepared.notes == ["empty transcripts: 1 (a)"]


def test_a_folder_without_recordings_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="holds no recording"):
        prepare(tmp_path, FolderOptions())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"valid_fraction": 0.6, "test_fraction": 0.4}, "--valid-fraction and --test-fraction: expected a sum below 1"),
        ({"test_fraction": -1.0}, "--test-fraction: expected a share"),
        ({"split_by": "folder"}, "--split-by: expected auto or speaker or utterance, got 'folder'"),
    ],
)
def test_options_are_checked(options: dict, message: str):
    with pytest.raises(UsageError, match=message):
        FolderOptions(**options)


def test_split_options_are_used(tmp_path: Path, record):
    for speaker in "abcde":
        for number in range(4):
            pair(record, tmp_path / speaker / f"{number}.wav")
    prepared = prepare(tmp_path, FolderOptions(valid_fraction=0.25, test_fraction=0.5, split_by="utterance"))
    assert {part: len(items) for part, items in prepared.parts.items()} == {"train": 5, "valid": 5, "test": 10}
    assert prepared.parts != prepare(tmp_path, FolderOptions(0.25, 0.5, seed=2, split_by="utterance")).parts
