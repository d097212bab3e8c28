"""Speech Commands in miniature: a folder for each word, two lists, and what is wrong with a copy."""

from pathlib import Path

import pytest

from asr.data.corpora import speechcommands
from asr.data.corpora.speechcommands import SpeechCommandsOptions
from asr.errors import DataError
from tests.data.corpora.miniature_open import COMMANDS, wav, write_speechcommands


def sizes(prepared) -> dict[str, int]:
    return {part: len(items) for part, items in prepared.parts.items()}


def told(prepared) -> set[tuple[str, str, str | None]]:
    return {(problem.kind, Path(problem.where).name, problem.id) for problem in prepared.problems}


def test_commands_follow_the_lists(tmp_path: Path):
    root = write_speechcommands(tmp_path)
    prepared = speechcommands.prepare(root, SpeechCommandsOptions(counts="any"))
    assert (sizes(prepared), prepared.problems) == ({"train": 6, "valid": 3, "test": 3}, [])
    assert {item.text for item in prepared.parts["test"]} == set(COMMANDS)
    assert {item.speaker for item in prepared.parts["test"]} == {"9db2bfe9"}
    assert prepared.parts["train"][0].id == "bed/0a7c2a8d_nohash_0"
    assert "3 words: bed, cat, go; _background_noise_ is not read" in prepared.notes


def test_commands_missing_extra_and_damaged(tmp_path: Path):
    root = write_speechcommands(tmp_path)
    (root / "bed" / "ffd2ba2f_nohash_0.wav").unlink()
    (root / "cat" / "0a7c2a8d_nohash_0.wav").write_bytes(b"")
    wav(root / "go" / "hello.wav", "abc")
    with open(root / "testing_list.txt", "a") as handle:
        handle.write("go/ffd2ba2f_nohash_0.wav\n")
    prepared = speechcommands.prepare(root, SpeechCommandsOptions())
    assert told(prepared) - {("wrong-count", "speech_commands_v0.02", None)} == {
        ("missing-file", "validation_list.txt:1", "bed/ffd2ba2f_nohash_0"),
        ("empty-file", "0a7c2a8d_nohash_0.wav", "cat/0a7c2a8d_nohash_0"),
        ("unexpected-name", "hello.wav", None),
        ("duplicate-id", "testing_list.txt:4", "go/ffd2ba2f_nohash_0"),
    }
    counts = [problem.message.split(";")[0] for problem in prepared.problems if problem.kind == "wrong-count"]
    assert counts == [
        "train: found 6 of 84,843 utterances",
        "valid: found 2 of 9,981 utterances",
        "test: found 3 of 11,005 utterances",
    ]
    (root / "testing_list.txt").unlink()
    assert ("missing-file", "testing_list.txt", None) in told(speechcommands.prepare(root, SpeechCommandsOptions()))
    with pytest.raises(DataError, match="holds no recording named WORD/SPEAKER_nohash_NUMBER"):
        speechcommands.prepare(tmp_path, SpeechCommandsOptions())
