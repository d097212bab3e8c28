"""A training from its configuration to its exit code: the processes meet, the run directory is opened, the loop runs."""

import errno
import warnings
from contextlib import ExitStack
from pathlib import Path

import torch

from asr.data.audio import AudioWarning
from asr.data.files import remove_leftovers, show_path, write_reason
from asr.errors import ResourceError, UsageError
from asr.models.device import choose_device
from asr.training import metrics
from asr.training.checkpoint import Checkpoint, load_newest, locked, read_checkpoint
from asr.training.distributed import OtherFailed, Ranks, forget_frames
from asr.training.loop import Training
from asr.training.options import TrainConfig
from asr.training.preparation import manifest_path
from asr.training.progress import next_text
from asr.training.resume import refuse_lost_run, refuse_other_run
from asr.training.terminal import say


def train(config: TrainConfig) -> int:
    """Train as configured, resuming what `config.run_dir` already holds; returns the exit code of `asr-train`.

    Under `torchrun`, one of several processes that train together. Raises UsageError for a run directory of another
    configuration, DataError for data that cannot be used, ResourceError when disk or memory run out or a process is lost.
    """
    if not config.run_dir:
        raise UsageError("run_dir is not set: give a folder for the model and its checkpoints, run_dir=DIR")
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    torch.set_flush_denormal(True)
    warnings.simplefilter("ignore", AudioWarning)  # the data check counted and named them
    ranks = Ranks.of_environment()
    ranks.join(choose_device(config.device), minutes=config.training.timeout_minutes)
    try:
        with ExitStack() as held:
            code = _train(config, ranks, held)
    except OtherFailed as other:
        code = other.code
    except BaseException as fault:
        if ranks.world > 1:
            forget_frames(fault)
        raise
    finally:
        ranks.leave()
    return code


def _train(config: TrainConfig, ranks: Ranks, held: ExitStack) -> int:
    run_dir = Path(config.run_dir)
    found: Checkpoint | None = None

    def open_run() -> None:
        nonlocal found
        if ranks.first:
            found = _open_run(config, held)

    def read_run() -> None:
        nonlocal found
        if not ranks.first and step >= 0:
            found = read_checkpoint(run_dir, step)

    ranks.together(open_run)
    step = ranks.of_first(-1 if found is None else found[0]["step"])
    ranks.together(read_run)
    training = Training(config, ranks)
    if found is not None and found[0]["finished"]:
        best = found[0]["best"]
        error = f"{100 * best['error_rate']:.1f} % after epoch {best['epoch']}"
        training.say(f"{run_dir} is already complete (best validation error {error})\n{next_text(config)}")
        return 0

    def prepare() -> None:
        training.prepare(resuming=found is not None)
        if found is not None:
            training.resume(*found)

    ranks.together(prepare)
    if ranks.first:  # what lies behind the last checkpoint will be written again
        metrics.keep_until(run_dir / "metrics.jsonl", training.epoch)
    return training.run()


def _open_run(config: TrainConfig, held: ExitStack) -> Checkpoint | None:
    """Lock the run directory until `held` is closed; what it holds to go on from."""
    run_dir = Path(config.run_dir)
    manifest_path(config, config.data.train)
    manifest_path(config, config.data.valid)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        kind = UsageError if fault.errno in (errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR) else ResourceError
        raise kind(f"run_dir={show_path(run_dir)} cannot be made: {write_reason(run_dir, fault, 0)}; choose another") from None
    held.enter_context(locked(run_dir))
    found = load_newest(run_dir, say)
    if found is None:
        refuse_lost_run(config)
    else:
        refuse_other_run(found[0], config)
    for name in remove_leftovers(run_dir):
        say(f"removing {name}, the rest of a save that was cut off")
    return found
