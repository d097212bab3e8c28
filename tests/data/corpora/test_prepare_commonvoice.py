"""Common Voice in miniature: MP3, tables without quotation marks, and no voice on both sides of the split."""

import warnings
from pathlib import Path

import pytest

from asr.data.audio import read_audio
from asr.data.corpora.commonvoice import SPEAKER, CommonVoiceOptions, prepare
from asr.errors import DataError, UsageError
from tests.data.corpora.miniature_open import CV_CLIPS, cv_table, speaker_hash, write_commonvoice, write_mp3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_commonvoice(tmp_path)


def texts(prepared) -> dict[str, list[str]]:
    return {part: [item.text for item in items] for part, items in prepared.parts.items()}


def test_parts_speakers_and_words(folder: Path, tmp_path: Path):
    prepared = prepare(folder, CommonVoiceOptions())
    assert prepared.problems == []
    assert texts(prepared) == {
        "train": ["a bad cab", "dad fed a bee", "ace he said"],
        "valid": ["a faded cafe"],
        "test": ["it's a bead a bad bead"],
    }
    first = prepared.parts["train"][0]
    assert (first.id, first.speaker) == ("common_voice_en_101", speaker_hash("ada")[:SPEAKER])
    assert first.extra == {"gender": "female_feminine", "raw_text": "A bad cab."}
    assert first.duration == pytest.approx(0.8, abs=0.1)
    assert len(read_audio(first.audio_filepath, sample_rate=16000)) == pytest.approx(16000 * first.duration, abs=1)
    for above in (tmp_path, folder.parent):
        assert prepare(above, CommonVoiceOptions()).parts == prepared.parts
    raw = prepare(folder, CommonVoiceOptions(text="raw"))
    assert texts(raw)["train"] == ["A bad cab.", "Dad fed a bee!", "“Ace,” he said."]
    assert "texts in small letters and without punctuation (--text raw keeps them)" in set(prepared.notes) - set(raw.notes)


def test_the_language_is_an_option(folder: Path, tmp_path: Path):
    clips = {"train": [("uwe", "Käse")], "dev": [("vera", "Bad")], "test": [("willi", "Straße")]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        release = write_commonvoice(tmp_path, clips, language="de").parent
    with pytest.raises(UsageError, match=r"--language is missing: .* has de, en"):
        prepare(release, CommonVoiceOptions())
    with pytest.raises(UsageError, match=r"--language: .* has no language 'fr'; there are de, en"):
        prepare(release, CommonVoiceOptions(language="fr"))
    prepared = prepare(release, CommonVoiceOptions(language="de"))
    assert texts(prepared) == {"train": ["käse"], "valid": ["bad"], "test": ["straße"]}
    assert prepared.split.endswith("test test.tsv of de; no speaker stands in two of them")
    (tmp_path / "second").mkdir()
    write_commonvoice(tmp_path / "second", clips, language="de")
    (tmp_path / "second" / "cv-corpus-17.0-2024-03-15").rename(tmp_path / "cv-corpus-18.0")
    with pytest.raises(UsageError, match="2 releases have 'de'; name one of them by --root"):
        prepare(tmp_path, CommonVoiceOptions(language="de"))


def test_no_speaker_is_in_two_parts(tmp_path: Path):
    clips = {
        "train": [("ada", "a bad cab"), ("dan", "by a voice of the test"), ("cleo", "and by one of valid")],
        "dev": [("cleo", "a cafe"), ("dan", "of the test too")],
        "test": [("dan", "a bead")],
    }
    prepared = prepare(write_commonvoice(tmp_path, clips), CommonVoiceOptions())
    assert texts(prepared) == {"train": ["a bad cab"], "valid": ["a cafe"], "test": ["a bead"]}
    assert prepared.notes[:2] == [
        "1 recordings left out of valid: their speaker stands in a part that is only tested on",
        "2 recordings left out of train: their speaker stands in a part that is only tested on",
    ]
    assert prepared.problems == []


def test_training_on_all_that_is_validated(tmp_path: Path):
    """Several recordings of one sentence, but none of a tested sentence or speaker."""
    clips = {
        "train": [("ada", "a bad cab")],
        "dev": [("cleo", "a cafe")],
        "test": [("dan", "a bead")],
        "validated": [("ada", "a bad bee"), ("bob", "a bad cab"), ("bob", "a bead"), ("dan", "a face")],
    }
    folder = write_commonvoice(tmp_path, clips)
    rows = [line.split("\t") for line in (folder / "validated.tsv").read_text().splitlines()[1:]]
    assert len(rows) == 7, "the published table holds the clips of the parts too"
    prepared = prepare(folder, CommonVoiceOptions(train_on="validated"))
    assert sorted(texts(prepared)["train"]) == ["a bad bee", "a bad cab", "a bad cab"]
    assert (texts(prepared)["valid"], texts(prepared)["test"]) == (["a cafe"], ["a bead"])
    assert "1 recordings left out of train: their speaker stands in a part that is only tested on" in prepared.notes
    assert "1 recordings left out of train: their sentence stands in a part that is only tested on" in prepared.notes
    assert texts(prepare(folder, CommonVoiceOptions()))["train"] == ["a bad cab"]


def test_missing_extra_and_damaged_files_are_named(folder: Path):
    clips = folder / "clips"
    (clips / "common_voice_en_101.mp3").unlink()
    whole = (clips / "common_voice_en_102.mp3").read_bytes()
    (clips / "common_voice_en_102.mp3").write_bytes(whole[: len(whole) // 2])
    (clips / "common_voice_en_103.mp3").write_bytes(b"<html>sorry</html>")
    write_mp3(clips / "common_voice_en_999.mp3", "abc")
    with open(folder / "test.tsv", "a", encoding="utf-8") as handle:
        handle.write("only\ttwo\n" + "\t".join(["x" * 128, ""] + [""] * 11) + "\n")
    found = prepare(folder, CommonVoiceOptions()).problems
    assert {(problem.kind, Path(problem.where).name, problem.id) for problem in found} == {
        ("missing-file", "train.tsv:2", "common_voice_en_101"),
        ("cut-file", "train.tsv:3", "common_voice_en_102"),
        ("not-audio", "train.tsv:4", "common_voice_en_103"),
        ("no-transcript", "common_voice_en_999.mp3", "common_voice_en_999"),
        ("bad-row", "test.tsv:3", None),
        ("bad-row", "test.tsv:4", None),
    }
    assert "2 cells, the header has 13" in next(
        problem.message for problem in found if problem.where.endswith("tsv:3") and "cells" in problem.message
    )


def test_a_missing_table_and_foreign_ones(folder: Path, tmp_path: Path):
    (folder / "dev.tsv").unlink()
    problems = prepare(folder, CommonVoiceOptions()).problems
    assert ("missing-file", "dev.tsv") in {(problem.kind, Path(problem.where).name) for problem in problems}
    (folder / "dev.tsv").write_text("file\ttext\n")
    with pytest.raises(DataError, match="no column client_id, path, sentence; expected a table of Common Voice"):
        prepare(folder, CommonVoiceOptions())
    (folder / "dev.tsv").write_bytes(b"client_id\tpath\tsentence\nx\ty\tcaf\xe9\n")
    problems = prepare(folder, CommonVoiceOptions()).problems
    assert any(problem.kind == "unreadable-file" and "0xE9" in problem.message for problem in problems)
    with pytest.raises(DataError, match=r"holds no test\.tsv; expected the folder of a Common Voice release"):
        prepare(folder / "clips", CommonVoiceOptions())


def test_quotation_marks_and_escapes_are_as_the_publisher_writes_them(tmp_path: Path):
    sentences = ['"Open', 'a "b" c', "back\\slash", "tab\tin it"]
    folder = write_commonvoice(tmp_path, {**CV_CLIPS, "train": [("ada", sentence) for sentence in sentences]}, audio=False)
    for number in range(101, 109):
        write_mp3(folder / "clips" / f"common_voice_en_{number}.mp3", "abc")
    prepared = prepare(folder, CommonVoiceOptions(text="raw"))
    assert texts(prepared)["train"] == ['"Open', 'a "b" c', "back\\slash", "tab in it"]


def test_an_older_table_without_suffixes(folder: Path):
    """Releases of 2019 name clips without .mp3."""
    rows = [{"client_id": "q" * 128, "path": "common_voice_en_105", "sentence": "old"}]
    cv_table(folder / "test.tsv", rows)
    assert [item.text for item in prepare(folder, CommonVoiceOptions()).parts["test"]] == ["old"]


def test_options_are_checked():
    with pytest.raises(UsageError, match="--train-on: expected train or validated, got 'all'"):
        CommonVoiceOptions(train_on="all")
    with pytest.raises(UsageError, match="--text: expected plain or raw, got 'rough'"):
        CommonVoiceOptions(text="rough")
