from pathlib import Path

import pytest

from asr.data.corpora.fsdd import FsddOptions, prepare
from asr.errors import DataError, UsageError


@pytest.fixture
def root(tmp_path: Path, record) -> Path:
    for speaker in ("anna", "bert"):
        for digit in (0, 7):
            for index in range(11):
                record(tmp_path / "recordings" / f"{digit}_{speaker}_{index}.wav", seconds=0.1)
    return tmp_path


def test_official_split(root: Path):
    prepared = prepare(root, FsddOptions())
    assert {part: len(items) for part, items in prepared.parts.items()} == {"train": 22, "valid": 2, "test": 20}
    assert {int(item.id.split("_")[2]) for item in prepared.parts["test"]} == {0, 1, 2, 3, 4}
    assert {item.speaker for item in prepared.parts["valid"]} == {"anna", "bert"}
    first = prepared.parts["test"][0]
    assert (first.id, first.text, first.speaker, first.duration) == ("0_anna_0", "zero", "anna", 0.1)
    assert prepared.notes == [
        "the corpus: found 44 of 3,000 utterances, 2 of 6 speakers, so numbers on it cannot be compared with others'"
    ]
    assert prepared == prepare(root / "recordings", FsddOptions())
    assert prepared.parts["valid"] != prepare(root, FsddOptions(seed=2)).parts["valid"]


def test_leave_one_speaker_out(root: Path):
    parts = prepare(root, FsddOptions(leave_out="bert", valid_fraction=0.5)).parts
    assert {part: (len(items), {item.speaker for item in items}) for part, items in parts.items()} == {
        "train": (11, {"anna"}),
        "valid": (11, {"anna"}),
        "test": (22, {"bert"}),
    }
    with pytest.raises(UsageError, match="--leave-out: no speaker 'carl'; expected one of anna, bert"):
        prepare(root, FsddOptions(leave_out="carl"))


def test_what_cannot_be_used_is_named(root: Path, record):
    record(root / "recordings" / "hello.wav")
    (root / "recordings" / "0_anna_3.wav").write_bytes(b"")
    problems = prepare(root, FsddOptions()).problems
    assert [(problem.kind, Path(problem.where).name) for problem in problems] == [
        ("unexpected-name", "hello.wav"),
        ("empty-file", "0_anna_3.wav"),
    ]
    assert "empty" in problems[1].message


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="holds no recording named DIGIT_SPEAKER_INDEX"):
        prepare(tmp_path, FsddOptions())
    with pytest.raises(DataError, match="no such folder"):
        prepare(tmp_path / "absent", FsddOptions())


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_valid_fraction_is_checked(value: float):
    with pytest.raises(UsageError, match="--valid-fraction: expected a share of at least 0 and below 1"):
        FsddOptions(valid_fraction=value)


def test_no_valid_when_none_is_asked_for(root: Path):
    assert set(prepare(root, FsddOptions(valid_fraction=0.0)).parts) == {"train", "test"}


def test_the_real_dataset(shared_data: Path):
    prepared = prepare(shared_data / "fsdd", FsddOptions())
    assert {part: len(items) for part, items in prepared.parts.items()} == {"train": 2430, "valid": 270, "test": 300}
    assert (prepared.problems, prepared.notes) == ([], [])
