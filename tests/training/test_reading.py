"""Recordings whose headers are fine and whose samples are not: found before the first step, listed, skipped or refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.errors import DataError
from asr.features.normalize import NormalizeOptions
from asr.models.package import load_model
from asr.training.options import DataOptions
from asr.training.train import train
from tests.training.tones import RATE, tiny_config, write_tones


def with_nan(folder: Path, names: list[str]) -> None:
    """Ten and four tones; the named ones end in NaN, which only decoding can tell."""
    write_tones(folder, "train", 10, seed=1)
    write_tones(folder, "valid", 4, seed=2)
    for name in names:
        path = folder / "audio" / f"{name}.wav"
        samples, _ = soundfile.read(path)
        samples[-1] = np.nan
        soundfile.write(path, samples, RATE, subtype="FLOAT")


def config_for(folder: Path, **data):
    config = tiny_config(folder, folder / "run")
    return replace(config, data=DataOptions(dir=str(folder), **data), training=replace(config.training, epochs=1))


@pytest.mark.parametrize("scope", ["global", "speaker", "none"])
def test_all_are_listed_before_the_first_step(tmp_path, capsys, scope):
    """Whatever the statistics need: the training set for global ones, both sets for those of speakers, none of them for none."""
    with_nan(tmp_path, ["train-003", "train-008", "valid-001"])
    with pytest.raises(DataError) as caught:
        train(replace(config_for(tmp_path), normalize=NormalizeOptions(mean=scope, variance=scope)))
    told = str(caught.value)
    assert "2 of 10 utterances cannot be used (2 non-finite); mend them, or go on without them through data.on_bad=skip" in told
    assert "line 4, train-003: " in told
    assert "line 9, train-008: " in told
    assert "line 2, valid-001: " in told
    report = json.loads((tmp_path / "run" / "data_report.json").read_text())
    assert [problem["id"] for problem in report["train"]["problems"]] == ["train-003", "train-008"]
    assert [problem["kind"] for problem in report["valid"]["problems"]] == ["non-finite"]
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_skipping_goes_on_without_them(tmp_path, capsys):
    with_nan(tmp_path, ["train-003", "valid-001"])
    assert train(config_for(tmp_path, on_bad="skip", max_bad_fraction=0.3)) == 0
    err = capsys.readouterr().err
    assert "train-003" in err
    assert "data: 9 utterances" in err
    assert "3 (" in err
    assert load_model(tmp_path / "run").notes["training_utterances"] == 9
    assert train(config_for(tmp_path, on_bad="skip", max_bad_fraction=0.3)) == 0


def test_too_many_of_them_stop_the_training(tmp_path):
    with_nan(tmp_path, ["train-003", "train-004"])
    with pytest.raises(DataError, match=r"that is 20\.0%, more than data\.max_bad_fraction=0\.1 allows to skip"):
        train(config_for(tmp_path, on_bad="skip", max_bad_fraction=0.1))


def test_none_left_is_said(tmp_path):
    with_nan(tmp_path, [f"train-{number:03d}" for number in range(10)])
    with pytest.raises(DataError, match="0 of 10 usable: 10 non-finite"):
        train(config_for(tmp_path, on_bad="skip", max_bad_fraction=1.0))


def test_the_statistics_are_those_of_the_others(tmp_path):
    """The same model as of a folder that never had the bad recordings."""
    with_nan(tmp_path / "all", ["train-003"])
    assert train(config_for(tmp_path / "all", on_bad="skip", max_bad_fraction=0.3)) == 0
    with_nan(tmp_path / "rest", [])
    lines = (tmp_path / "rest" / "train.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "rest" / "train.jsonl").write_text("".join(lines[:3] + lines[4:]))
    assert train(config_for(tmp_path / "rest")) == 0
    one, other = (load_model(tmp_path / name / "run").model.state_dict() for name in ("all", "rest"))
    assert one.keys() == other.keys()
    assert all(bool((one[name] == other[name]).all()) for name in one)
