"""Rows O6, O7 and C12: processes that die, batches that do not divide, and a resume with another number of processes."""

from pathlib import Path

import pytest

from asr.training.metrics import read_metrics
from tests.training.test_distributed import PROGRAM, ROOT, WORDS, alone, torchrun
from tests.training.tones import write_seven_batches

WORDS = [*WORDS, "batches.utterances=2", "training.epochs=2"]


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    return write_seven_batches(tmp_path_factory.mktemp("tones"))


def program(folder: Path, rank: int, what: str) -> Path:
    path = folder / "program.py"
    path.write_text(PROGRAM.format(root=str(ROOT), rank=rank, what=what))
    return path


def test_o6_when_a_process_dies_the_others_end_and_the_same_command_goes_on(tones, tmp_path):
    words = [f"data.dir={tones}", f"run_dir={tmp_path / 'run'}", *WORDS]
    died = torchrun(2, program(tmp_path, 1, "before_epoch(1, 'die')"), *words)
    assert died.returncode != 0
    assert "exitcode  : 9" in died.stderr, died.stderr
    assert [line["epoch"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [1]
    again = torchrun(2, None, *words)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("resumed from step 4 (epoch 2") == 1
    assert [line["step"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [4, 8]


def test_o7_seven_batches_for_three_processes_are_three_steps(tones, tmp_path):
    outcome = torchrun(3, None, f"data.dir={tones}", f"run_dir={tmp_path / 'run'}", *WORDS)
    assert outcome.returncode == 0, outcome.stderr
    assert [line["step"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [3, 6]


def test_c12_one_process_goes_on_where_two_were_stopped(tones, tmp_path):
    """Two processes are stopped by a signal to the second of them after two steps, so after four of seven batches."""
    words = [f"data.dir={tones}", f"run_dir={tmp_path / 'run'}", *WORDS]
    stopped = torchrun(2, program(tmp_path, 1, "signal_at_step(15, 2)"), *words)
    assert "exitcode  : 143" in stopped.stderr, stopped.stderr
    again = alone(*words)
    assert again.returncode == 0, again.stderr
    assert "resumed from step 2 (epoch 1, batch 4)" in again.stderr
    assert "2 processes" in again.stderr
    assert [line["step"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [2 + 3, 2 + 3 + 7]
