"""Tones to speak about, one model that has learnt them, and two ways to run a command: here, or in a process of its own."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.commands import Outcome, fine, read_lines, run_words, steps, train_words
from tests.faults.stage import Stage
from tests.training.tones import write_tones


@pytest.fixture(scope="session")
def speech(tmp_path_factory) -> Path:
    """A prepared folder: train, valid and test manifests of tones at 8 kHz. Read it, do not change it."""
    folder = tmp_path_factory.mktemp("speech")
    for part, count, seed in (("train", 64, 1), ("valid", 6, 2), ("test", 8, 78)):
        write_tones(folder, part, count, seed=seed)
    texts = [line["text"] for line in read_lines(folder / "test.jsonl")[:3]]
    assert texts == ["bac", "cacc", "abba"], "the small sets need all letters in their first recording"
    return folder


@pytest.fixture(scope="session")
def stage(tmp_path_factory) -> Iterator[Stage]:
    if sys.platform != "linux":
        pytest.skip("commands are sabotaged through what Linux offers")
    found = Stage(tmp_path_factory.mktemp("stage"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def run_dir(speech, stage, tmp_path_factory) -> Path:
    """A finished run of the tiny model, which has learnt the tones. Read it, do not change it."""
    folder = tmp_path_factory.mktemp("runs") / "tones"
    words = train_words(speech, folder, training__epochs=14, training__validate_every=14)
    fine(stage.run("train", words))
    return folder


@pytest.fixture(scope="session")
def few(tmp_path_factory) -> Path:
    """Two batches an epoch."""
    folder = tmp_path_factory.mktemp("few")
    write_tones(folder, "train", 16, seed=1)
    write_tones(folder, "valid", 2, seed=2)
    return folder


@pytest.fixture(scope="session")
def words(few) -> list[str]:
    """Three epochs into `run` below the working folder."""
    return train_words(few, Path("run"), training__epochs=3, training__keep=2)


@pytest.fixture(scope="session")
def straight(stage, words, tmp_path_factory) -> Path:
    """The folder of a training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("straight")
    outcome = fine(stage.run("train", words, ("no_curves", {}), ("work_in", {"folder": str(folder)})))
    assert outcome.err.count("*best") == 3, "each epoch must save a model, or less is tested than it seems"
    return folder / "run"


@pytest.fixture(scope="session")
def half_way(stage, words, tmp_path_factory) -> Path:
    """The folder of a training that was killed when its third epoch began: checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("half")
    kill = ("before_epoch", {"number": 2, "what": "die"})
    assert stage.run("train", words, ("no_curves", {}), ("work_in", {"folder": str(folder)}), kill).code == 9
    assert steps(folder / "run") == [2, 4]
    return folder


@pytest.fixture
def asr(capfd) -> Callable[..., Outcome]:
    """Run `asr-COMMAND words...` in this process; what C libraries write is caught as well."""

    def run(command: str, *words: object) -> Outcome:
        capfd.readouterr()
        before = signal.getsignal(signal.SIGINT)
        code = run_words(command, [str(word) for word in words])
        assert signal.getsignal(signal.SIGINT) is before, "the handler of Ctrl-C was not put back"
        return Outcome(command, code, *capfd.readouterr())

    return run


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
