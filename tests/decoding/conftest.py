"""A tiny model and recordings to decode."""

from pathlib import Path

import pytest

from asr.models.package import LoadedModel, load_model
from tests.decoding.tiny import save_babbler, write_speech


@pytest.fixture(scope="session")
def babbler(tmp_path_factory) -> Path:
    return save_babbler(tmp_path_factory.mktemp("babbler"))


@pytest.fixture(scope="session")
def loaded(babbler) -> LoadedModel:
    return load_model(babbler)


@pytest.fixture(scope="session")
def speech(tmp_path_factory) -> Path:
    return write_speech(tmp_path_factory.mktemp("speech"))
