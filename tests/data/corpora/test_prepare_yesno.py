from pathlib import Path

import pytest

from asr.data.corpora.yesno import YesnoOptions, prepare
from asr.errors import DataError

NAMES = ["0_0_1", "0_1_0", "0_1_1", "1_0_0", "1_0_1", "1_1_0", "1_1_1"]


def test_even_positions_train_and_odd_ones_test(tmp_path: Path, record):
    for name in NAMES:
        record(tmp_path / "waves_yesno" / f"{name}.wav")
    (tmp_path / "waves_yesno" / "README").write_text("about")
    prepared = prepare(tmp_path, YesnoOptions())
    assert [item.id for item in prepared.parts["test"]] == NAMES[1::2]
    assert sorted(item.id for part in ("train", "valid") for item in prepared.parts[part]) == NAMES[0::2]
    assert len(prepared.parts["valid"]) == 1
    assert [item.text for item in prepared.parts["test"]][:2] == ["NO YES NO", "YES NO NO"]
    assert prepared == prepare(tmp_path / "waves_yesno", YesnoOptions())


def test_a_damaged_file_moves_no_other_to_another_part(tmp_path: Path, record):
    for name in NAMES:
        record(tmp_path / f"{name}.wav")
    (tmp_path / f"{NAMES[0]}.wav").write_bytes(b"RIFF")
    record(tmp_path / "yes.wav")
    prepared = prepare(tmp_path, YesnoOptions())
    assert [item.id for item in prepared.parts["test"]] == NAMES[1::2]
    assert sorted(problem.kind for problem in prepared.problems) == ["not-audio", "unexpected-name"]


def test_an_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="is it OpenSLR 1"):
        prepare(tmp_path, YesnoOptions())


def test_the_real_corpus(shared_data: Path):
    prepared = prepare(shared_data / "yesno", YesnoOptions())
    assert {part: len(items) for part, items in prepared.parts.items()} == {"train": 27, "valid": 3, "test": 30}
    assert sum(len(item.text.split()) for item in prepared.parts["test"]) == 240
    assert prepared.problems == []
