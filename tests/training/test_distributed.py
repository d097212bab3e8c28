"""Several processes under torchrun: what they compute together is what one computes with larger batches."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from asr.batches.order import BatchOptions, batch_order
from asr.errors import DataError, UsageError
from asr.training.distributed import Ranks
from asr.training.metrics import read_metrics
from asr.training.terminal import StopAsked
from tests.training.tones import write_seven_batches

ROOT = Path(__file__).resolve().parents[2]
WORDS = [
    "device=cpu",
    "features.sample_rate=8000",
    "features.num_bins=16",
    "encoder.conv_channels=4",
    "encoder.layers=1",
    "encoder.width=12",
    "encoder.dropout=0",
    "optim.learning_rate=1e-2",
    "optim.warmup_steps=5",
    "training.precision=float32",
    "training.threads=1",
    "training.average=none",
]
PROGRAM = """
import os, sys
sys.path.insert(0, {root!r})
from tests.faults import sabotage
if os.environ.get("RANK") == "{rank}":
    sabotage.{what}
from asr.cli.train import main
sys.exit(main())
"""


#: Writes the names of the threads of each process at the end of an epoch, where it may fail, and after the command.
THREADS = """
import os, sys
sys.path.insert(0, {root!r})
from asr.errors import ResourceError
from asr.training.loop import Training

def tell(when):
    names = [open(f"/proc/self/task/{{task}}/comm").read().strip() for task in os.listdir("/proc/self/task")]
    with open(os.path.join({folder!r}, when + os.environ["RANK"]), "w") as file:
        file.write(" ".join(names))

finish = Training.finish_epoch
def finish_epoch(self, seconds):
    tell("during")
    shared = self.shared_model
    if {failing}:
        raise ResourceError("no room")
    finish(self, seconds)
Training.finish_epoch = finish_epoch

from asr.cli.train import main
code = main()
tell("after")
sys.exit(code)
"""


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    return write_seven_batches(tmp_path_factory.mktemp("tones"))


def torchrun(processes: int, program: Path | None, *words: str) -> subprocess.CompletedProcess[str]:
    """`asr-train WORDS` in so many processes, or `program` in its place."""
    what = [str(program)] if program else ["--module", "asr", "train"]
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *what, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )


def alone(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "asr", "train", *words]
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


@pytest.mark.parametrize(("count", "world"), [(7, 3), (6, 3), (1, 4), (5, 1), (0, 2)])
def test_every_batch_is_counted_once_in_as_many_steps_everywhere(count, world):
    order = [[2 * number, 2 * number + 1] for number in range(count)]
    shares = [Ranks(rank, world).shares(order) for rank in range(world)]
    assert {len(own) for own in shares} == {-(-count // world)}
    for step in zip(*shares):
        assert {share.utterances for share in step} == {sum(len(share.batch) for share in step if share.counts)}
    assert sorted(number for own in shares for share in own if share.counts for number in share.batch) == list(range(2 * count))


def test_one_process_sends_nothing():
    ranks = Ranks()
    assert ranks.total([1.5, 2]) == [1.5, 2]
    assert ranks.of_first(7) == 7
    assert ranks.gathered([3, 4, 5], 2) == [3, 4]
    model = torch.nn.Linear(2, 2)
    assert ranks.wrap(model) is model
    with pytest.raises(DataError, match="as it is"):
        ranks.together(lambda: (_ for _ in ()).throw(DataError("as it is")))


@pytest.mark.parametrize(
    "variables", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x"}, {"RANK": "-1"}, {"WORLD_SIZE": "0"}, {"LOCAL_RANK": "1"}]
)
def test_variables_that_torchrun_does_not_set_are_refused(variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="torchrun"):
        Ranks.of_environment()


def test_a_ctrl_c_that_torchrun_hands_on_is_not_a_second_one():
    with StopAsked(lambda text: None, deaf_s=60.0) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
    with StopAsked(lambda text: None):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_two_processes_are_one_with_batches_twice_as_large(optimizer, tones, tmp_path):
    """In the first epoch, from short to long, two small batches in a row are a large one. Three and a half: the last step has
    one batch for two processes.
    """
    options = {size: BatchOptions(utterances=size) for size in (2, 4)}
    durations = [json.loads(line)["duration"] for line in (tones / "train.jsonl").read_text().splitlines()]
    small, large = (batch_order(durations, options=options[size], seed=1, epoch=0) for size in (2, 4))
    assert len(small) == 7
    assert [[number for batch in small[at : at + 2] for number in batch] for at in range(0, 7, 2)] == large
    words = [f"data.dir={tones}", "training.epochs=1", *WORDS, f"optim.optimizer={optimizer}", "optim.schedule=constant"]
    together = torchrun(2, None, *words, f"run_dir={tmp_path / 'two'}", "batches.utterances=2")
    assert together.returncode == 0, together.stderr
    apart = alone(*words, f"run_dir={tmp_path / 'one'}", "batches.utterances=4")
    assert apart.returncode == 0, apart.stderr
    assert together.stderr.count("epoch   1/1") == 1
    assert "Warning" not in together.stderr, together.stderr
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl")[0] for name in ("one", "two"))
    assert one["step"] == two["step"] == 4
    assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)
    for name, tensor in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], tensor, rtol=1e-3, atol=2e-5)


def test_a_fault_of_the_data_is_told_once(tones, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for part in ("train", "valid"):
        lines = [json.loads(line) for line in (tones / f"{part}.jsonl").read_text().splitlines()]
        for line in lines:
            line["audio_filepath"] = str(tones / line["audio_filepath"])
        lines[1]["audio_filepath"] = "nowhere.wav"
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    outcome = torchrun(2, None, f"data.dir={folder}", f"run_dir={tmp_path / 'run'}", *WORDS)
    assert outcome.returncode != 0
    assert outcome.stderr.count("train-001") == 1, outcome.stderr
    assert "exitcode  : 3" in outcome.stderr, outcome.stderr


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are told by /proc")
@pytest.mark.parametrize("failing", [False, True])
def test_no_thread_of_the_group_outlives_the_training(failing, tones, tmp_path):
    """An interpreter that ends while such a thread gives back a tensor aborts, now and then, and its exit code is lost."""
    program = tmp_path / "program.py"
    program.write_text(THREADS.format(root=str(ROOT), folder=str(tmp_path), failing=failing))
    outcome = torchrun(2, program, f"data.dir={tones}", f"run_dir={tmp_path / 'run'}", *WORDS, "training.epochs=1")
    assert (outcome.returncode == 0) is not failing, outcome.stderr
    during, after = ([path.read_text() for path in tmp_path.glob(f"{when}[01]")] for when in ("during", "after"))
    assert len(during) == 2
    assert all("gloo" in names for names in during)
    assert after, outcome.stderr  # torchrun stops the other process when one has failed
    assert all("python" in names and "gloo" not in names for names in after)


def test_own_recordings_are_for_one_process(tones, tmp_path):
    outcome = torchrun(2, None, f"data.folder={tones}", f"run_dir={tmp_path / 'run'}")
    assert outcome.returncode != 0
    assert "asr-data prepare folder" in outcome.stderr
    assert "exitcode  : 2" in outcome.stderr
