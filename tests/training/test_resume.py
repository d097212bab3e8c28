"""What a run may go on with: the same options and data wherever they lie; what differs is named."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from asr.errors import DataError, UsageError
from asr.training.checkpoint import load_newest
from asr.training.optim import LastAverage
from asr.training.options import DataOptions, TrainConfig
from asr.training.resume import differing_keys, other_place, refuse_other_data, refuse_other_run
from asr.training.train import train
from tests.training.tones import write_tones


def test_keys_that_differ_are_named_with_both_values():
    stored, current, defaults = asdict(TrainConfig()), asdict(TrainConfig()), asdict(TrainConfig())
    stored["encoder"]["width"], current["encoder"]["width"] = 12, 13
    stored["tokens"]["map"], current["tokens"]["map"] = {}, {"a": "b"}
    current["run_dir"], current["data"]["dir"], current["device"] = "elsewhere", "moved", "cuda"
    assert differing_keys(stored, current, defaults) == [
        "encoder.width: 12 -> 13",
        "tokens.map: {} -> {'a': 'b'}",
    ]


def test_an_option_added_since_had_its_default():
    stored, current, defaults = asdict(TrainConfig()), asdict(TrainConfig()), asdict(TrainConfig())
    del stored["objective"], stored["training"]["weight_noise"]
    assert differing_keys(stored, current, defaults) == []
    current["training"]["weight_noise"] = 0.5
    assert differing_keys(stored, current, defaults) == ["training.weight_noise: 0.0 -> 0.5"]
    stored["encoder"]["gone"] = 3
    assert differing_keys(stored, current, defaults)[0] == "encoder.gone: 3 -> None"


def test_moved_data_go_on_and_other_data_do_not(config, tones, tmp_path):
    assert train(config) == 0
    state, _ = load_newest(Path(config.run_dir))
    moved = tmp_path / "moved"
    shutil.copytree(tones, moved)
    (moved / "train.jsonl").rename(moved / "learn.jsonl")
    there = replace(config, data=DataOptions(dir=str(moved), train="learn.jsonl"), device="auto")
    refuse_other_run(state, there)
    write_tones(moved, "valid", 8, seed=3)
    with pytest.raises(UsageError, match=r"moved/valid\.jsonl has changed since the last checkpoint of .*, or is another one"):
        refuse_other_run(state, there)


def test_other_recordings_of_the_same_manifest_are_refused(config):
    """Skipped ones change the order of training, so there must be as many of them as before, and the same."""
    assert train(config) == 0
    state, _ = load_newest(Path(config.run_dir))
    refuse_other_data(state, state)
    older = {key: value for key, value in state.items() if key != "used"}
    refuse_other_data(older, state)
    now = json.loads(json.dumps(state))
    now["used"]["train"] = [state["used"]["train"][0] - 1, "0" * 64]
    with pytest.raises(DataError, match=r"train\.jsonl: 47 utterances can be used now, 48 could at the last checkpoint of .*run"):
        refuse_other_data(state, now)


def test_another_device_or_precision_is_said():
    here = {"device": "cpu", "precision": "float32"}
    assert other_place({"precision": "float32"}, here) is None
    warning = other_place({"device": "cuda", "precision": "bfloat16"}, here)
    assert warning.startswith("WARNING: the run was on cuda in bfloat16 and goes on on cpu in float32")


def test_kept_weights_are_read_to_where_the_model_is():
    """A checkpoint is read into main memory; the mean of the last epochs is taken where the weights of the next epoch are."""
    weights = {"0/weight": torch.ones(2, 2), "0/bias": torch.ones(2)}
    average = LastAverage(torch.nn.Linear(2, 2, device="meta"), 3)
    average.load_state(weights)
    average.after_epoch()
    assert {tensor.device.type for tensor in average.weights().values()} == {"meta"}


def test_the_model_to_start_from_is_not_needed_again(config, tmp_path, capsys):
    assert train(config) == 0
    tuned = replace(config, init=str(tmp_path / "first"), run_dir=str(tmp_path / "tuned"))
    shutil.copytree(config.run_dir, tmp_path / "first")
    assert train(tuned) == 0
    shutil.rmtree(tmp_path / "first")
    shutil.rmtree(sorted((tmp_path / "tuned" / "checkpoints").iterdir())[-1])
    capsys.readouterr()
    assert train(tuned) == 0
    assert "resumed from step" in capsys.readouterr().err


def test_a_model_without_checkpoints_is_not_written_over(config):
    """Someone has removed the checkpoints to save space: the model took two epochs."""
    assert train(config) == 0
    shutil.rmtree(Path(config.run_dir) / "checkpoints")
    before = (Path(config.run_dir) / "model" / "model.safetensors").read_bytes()
    with pytest.raises(
        UsageError, match=r"run holds a model of 2 epochs and no checkpoint .* another run_dir, to which init=.*run brings"
    ):
        train(config)
    assert (Path(config.run_dir) / "model" / "model.safetensors").read_bytes() == before
    shutil.rmtree(Path(config.run_dir) / "model")
    assert train(config) == 0


def test_a_folder_of_something_else_is_refused_before_the_training(config):
    (Path(config.run_dir) / "model").mkdir(parents=True)
    (Path(config.run_dir) / "model" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"model: is no model folder, for it holds 'thesis\.tex'"):
        train(config)
    assert not (Path(config.run_dir) / "data_report.json").exists()
