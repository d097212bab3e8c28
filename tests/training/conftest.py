"""Fixtures of the training tests: a toy language of tones."""

from pathlib import Path

import pytest

from asr.training.options import TrainConfig
from tests.training.tones import tiny_config, write_tones


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tones")
    write_tones(folder, "train", 48, seed=1)
    write_tones(folder, "valid", 8, seed=2)
    return folder


@pytest.fixture
def config(tones, tmp_path) -> TrainConfig:
    return tiny_config(tones, tmp_path / "run")
