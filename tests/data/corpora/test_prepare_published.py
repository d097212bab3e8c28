"""LJ Speech and VCTK in miniature: their folders, their known gaps, and what is wrong with a copy."""

from pathlib import Path

import pytest

from asr.data.corpora import ljspeech, vctk
from asr.data.corpora.counts import Size
from asr.data.corpora.ljspeech import LjspeechOptions
from asr.data.corpora.vctk import VctkOptions
from asr.errors import DataError, UsageError
from tests.data.corpora.miniature_open import wav, write_ljspeech, write_vctk


def sizes(prepared) -> dict[str, int]:
    return {part: len(items) for part, items in prepared.parts.items()}


def told(prepared) -> set[tuple[str, str, str | None]]:
    return {(problem.kind, Path(problem.where).name, problem.id) for problem in prepared.problems}


# LJ Speech


def test_lj_sentences_and_texts(tmp_path: Path):
    root = write_ljspeech(tmp_path)
    prepared = ljspeech.prepare(root, LjspeechOptions(counts="any"))
    assert (sizes(prepared), prepared.problems) == ({"train": 18, "valid": 1, "test": 1}, [])
    first = next(item for items in prepared.parts.values() for item in items if item.id == "LJ001-0001")
    assert (first.text, first.speaker) == ("doctor cab fed a bee", "LJ")
    assert first.duration == pytest.approx(18 * 0.08 * 16000 / 22050, abs=1e-3)
    assert "the corpus: found 20 of 13,100 utterances, so numbers on it cannot be compared with others'" in prepared.notes
    raw = ljspeech.prepare(root, LjspeechOptions(counts="any", text="raw"))
    assert {item.text for items in raw.parts.values() for item in items} == {'Doctor Cab fed a "bee,"'}


def test_lj_missing_extra_and_damaged(tmp_path: Path):
    root = write_ljspeech(tmp_path)
    (root / "wavs" / "LJ001-0001.wav").unlink()
    path = root / "wavs" / "LJ001-0002.wav"
    path.write_bytes(path.read_bytes()[:-5000])
    wav(root / "wavs" / "LJ009-0001.wav", "abc")
    with open(root / "metadata.csv", "a") as handle:
        handle.write("LJ001-0021|one column\nLJ001-0003|again|again\n")
    prepared = ljspeech.prepare(root, LjspeechOptions())
    assert told(prepared) == {
        ("missing-file", "metadata.csv:1", "LJ001-0001"),
        ("cut-file", "metadata.csv:2", "LJ001-0002"),
        ("no-transcript", "LJ009-0001.wav", "LJ009-0001"),
        ("bad-row", "metadata.csv:21", None),
        ("duplicate-id", "metadata.csv:22", "LJ001-0003"),
        ("wrong-count", "LJSpeech-1.1", None),
    }
    (root / "metadata.csv").unlink()
    assert ("missing-file", "metadata.csv", None) in told(ljspeech.prepare(root, LjspeechOptions()))


def test_lj_hours_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = write_ljspeech(tmp_path)
    monkeypatch.setattr(ljspeech, "PUBLISHED", {"the corpus": Size(20, hours=23.92)})
    (problem,) = ljspeech.prepare(root, LjspeechOptions()).problems
    assert problem.message.startswith("the corpus: found 0.0 of 23.9 h")
    with pytest.raises(UsageError, match="--valid-fraction and --test-fraction: expected a sum below 1"):
        LjspeechOptions(valid_fraction=0.5, test_fraction=0.5)


# VCTK


def test_vctk_speakers_texts_and_known_gaps(tmp_path: Path):
    root = write_vctk(tmp_path)
    options = VctkOptions(counts="any", valid_fraction=0.2, test_fraction=0.2)
    prepared = vctk.prepare(root, options)
    assert prepared.problems == []
    assert sizes(prepared) == {"train": 6, "valid": 2, "test": 2}
    speakers = [{item.speaker for item in items} for items in prepared.parts.values()]
    assert sum(map(len, speakers)) == len(set().union(*speakers)) == 5, "no speaker stands in two parts"
    item = next(item for items in prepared.parts.values() for item in items if item.id == "p225_001")
    assert (item.text, item.extra) == ("please call stella", {"age": "23", "gender": "F", "accent": "English"})
    assert item.audio_filepath.endswith("p225_001_mic1.flac")
    assert prepared.notes[0] == "2 recordings of p315 have no text, as in the published corpus"
    second = vctk.prepare(root, VctkOptions(counts="any", microphone="2", test_fraction=0.3))
    assert second.problems == []
    assert "2 texts of p280 have no recording, as in the published corpus" in second.notes
    assert all("_mic2" in item.audio_filepath for items in second.parts.values() for item in items)


def test_vctk_missing_extra_and_damaged(tmp_path: Path):
    root = write_vctk(tmp_path)
    audio, texts = root / "wav48_silence_trimmed", root / "txt"
    (audio / "p225" / "p225_001_mic1.flac").unlink()
    (texts / "p226" / "p226_001.txt").unlink()
    path = audio / "p226" / "p226_002_mic1.flac"
    path.write_bytes(path.read_bytes()[:-500])
    wav(audio / "p227" / "p227_one.flac", "abc", form="FLAC")
    (texts / "p227" / "p227_001.txt").write_bytes(b"caf\xe9")
    prepared = vctk.prepare(root, VctkOptions())
    assert told(prepared) == {
        ("missing-file", "p225_001.txt", "p225_001"),
        ("no-transcript", "p226_001_mic1.flac", "p226_001"),
        ("cut-file", "p226_002_mic1.flac", "p226_002"),
        ("unexpected-name", "p227_one.flac", None),
        ("bad-transcript", "p227_001.txt", "p227_001"),
        ("wrong-count", "VCTK-Corpus-0.92", None),
    }
    with pytest.raises(DataError, match="holds no folder wav48_silence_trimmed; is it VCTK"):
        vctk.prepare(tmp_path, VctkOptions())
    with pytest.raises(UsageError, match="--microphone: expected 1 or 2, got '3'"):
        VctkOptions(microphone="3")
