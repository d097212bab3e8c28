"""The training loop: one epoch after another until the schedule, patience or a signal ends it; resumable at every checkpoint."""

import errno
import math
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from asr import __version__
from asr.batches.dataset import Batch, evaluation_order
from asr.batches.order import batch_order
from asr.data.audio import AudioWarning
from asr.data.files import remove_leftovers, show_path, write_reason
from asr.errors import ModelError, ResourceError, UsageError, is_out_of_memory
from asr.features.augment import utterance_seed
from asr.models.device import autocast_for, choose_device, choose_precision, low_precision_pays
from asr.models.package import load_model, save_model
from asr.training import metrics
from asr.training.checkpoint import flatten_optimizer, load_newest, locked, restore_optimizer, save_checkpoint
from asr.training.diagnosis import diagnose
from asr.training.memory import FreePages
from asr.training.noise import WeightNoise
from asr.training.objective import Objective
from asr.training.optim import LastAverage, NoAverage, RunningAverage, WeightAverage, build_optimizer, learning_rate
from asr.training.options import TrainConfig
from asr.training.preparation import check_data, manifest_path, refuse_parts
from asr.training.progress import BAR, end_text, epoch_line, epoch_text, next_text
from asr.training.reading import read_recordings
from asr.training.resume import identity, other_place, refuse_lost_run, refuse_other_data, refuse_other_run
from asr.training.terminal import StopAsked, say
from asr.training.validate import Validation, validate, weights_swapped
from asr.training.warmstart import copy_matching


class Training:
    """State of one training; `run` goes on from wherever it stands."""

    def __init__(self, config: TrainConfig):
        self.config = config
        self.run_dir = Path(config.run_dir)
        self.device = choose_device(config.device)
        self.precision = choose_precision(config.training.precision, self.device)
        self.precision_name = str(self.precision).removeprefix("torch.")
        self.autocast = autocast_for(self.device, self.precision)
        self.step = self.epoch = self.batch_index = 0
        self.best: dict[str, Any] | None = None
        self.epoch_loss = self.epoch_tokens = self.epoch_audio_s = 0.0
        self.bad_steps: list[str] = []
        self.bad_in_a_row = 0
        self.seconds_before = 0.0
        self.free_pages = FreePages()

    # --- data and model

    def prepare(self, *, resuming: bool = False) -> None:
        """Check and read the data, build the model; `resuming`: a checkpoint will replace its weights."""
        config = self.config
        start = load_model(config.init) if config.init and not resuming else None
        report_path = self.run_dir / "data_report.json"
        self.tokenizer, model, reports = check_data(config, report_path)
        refuse_parts(reports, config)
        for report in reports.values():
            if report.problems or report.warnings:
                say(report.table())
        say("reading the audio and fitting the feature statistics")
        self.data = read_recordings(config, model, self.tokenizer, reports, report_path=report_path, say=say)
        train_part, valid_part = self.data.train_part, self.data.valid_part
        self.train_hours, valid_hours = (sum(part.durations) / 3600 for part in (train_part, valid_part))
        self.valid_order = evaluation_order(valid_part.durations, config.batches)
        say(
            f"data: {len(train_part.utterances)} utterances ({self.train_hours:.2f} h) to train, "
            f"{len(valid_part.utterances)} ({valid_hours:.2f} h) to validate, {len(self.tokenizer)} symbols with blank"
        )
        parts = {"train": train_part, "valid": valid_part}
        self.identity = identity(config, parts, list(self.tokenizer.symbols), (self.device.type, self.precision_name))
        self.unit = "phone" if self.tokenizer.options.unit == "phones" else "character"
        if start is not None:
            say(copy_matching(start.model, model, self.tokenizer, start.tokenizer))
        self.model = model.to(self.device)
        say(f"model: {model.parameter_count() / 1e6:.2f} M weights on {self.place()}")
        if self.precision == torch.bfloat16 and not low_precision_pays(self.device.type):
            say("bfloat16 is slower than float32 on this processor: the encoder computes in float32")
        self.optimizer = build_optimizer(self.model, config.optim)
        self.objective = Objective(config.objective, layers=config.encoder.layers, blocks=config.features.deltas + 1)
        self.noise = WeightNoise(self.model, sigma=config.training.weight_noise, seed=config.seed)
        self.average: WeightAverage = {
            "running": lambda: RunningAverage(self.model, config.training.average_decay),
            "last": lambda: LastAverage(self.model, config.training.average_last),
            "none": lambda: NoAverage(self.model),
        }[config.training.average]()

    def place(self) -> str:
        """Device and precision, in words."""
        threads = torch.get_num_threads()
        name = f"cpu, {threads} thread{'s' * (threads > 1)}"
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        return f"{name}, {self.precision_name}"

    def order(self, epoch: int) -> list[list[int]]:
        return batch_order(self.data.train_part.durations, options=self.config.batches, seed=self.config.seed, epoch=epoch)

    # --- steps

    def train_step(self, batch: Batch, progress: float) -> float:
        """One update; returns the learning rate. A gradient that is not finite is skipped, counted and named."""
        self.model.train()
        torch.manual_seed(utterance_seed(self.config.seed, self.epoch, f"step {self.step}"))
        rate = learning_rate(self.step, progress, self.config.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with self.noise.added(self.step):
            losses = self.objective.losses(self.model, batch, self.config.augment.at_epoch(self.epoch), self.autocast)
            losses.mean().backward()
        limit = self.config.optim.clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.step += 1
        if not torch.isfinite(norm):
            self.note_bad_step(batch, losses)
            return rate
        self.bad_in_a_row = 0
        self.optimizer.step()
        self.average.after_step(self.step)
        self.epoch_loss += float(losses.detach().sum())
        self.epoch_tokens += int(batch.token_lengths.sum())
        return rate

    def careful_step(self, batch: Batch, progress: float) -> float:
        """`train_step`; where memory does not suffice, ResourceError tells what was too large."""
        try:
            return self.train_step(batch.to(self.device), progress)
        except (MemoryError, RuntimeError) as fault:
            if not is_out_of_memory(fault):
                raise
            count, samples = batch.waveforms.shape
            seconds = count * samples / self.config.features.sample_rate
            raise ResourceError(
                f"out of memory on {self.device.type} at step {self.step + 1}, in a batch of {count} recordings and "
                f"{seconds:.0f} s, padding counted: lower batches.seconds (now {self.config.batches.seconds:g}) or "
                f"batches.utterances (now {self.config.batches.utterances}), or make the encoder smaller, in another run_dir"
            ) from fault

    def note_bad_step(self, batch: Batch, losses: torch.Tensor) -> None:
        names = [name for name, loss in zip(batch.ids, losses.tolist()) if not math.isfinite(loss)] or batch.ids
        self.bad_in_a_row += 1
        self.bad_steps.append(f"step {self.step}: {', '.join(names[:5])}")
        say(f"WARNING: gradient not finite, step skipped; utterances: {', '.join(names[:5])}")
        if self.bad_in_a_row >= self.config.training.max_bad_steps:
            raise self.diverged(f"{self.bad_in_a_row} steps in a row had a gradient that is not finite")

    def diverged(self, what: str) -> ModelError:
        kept = f"the best model so far is kept in {self.run_dir}/model" if self.best else "no model was saved yet"
        return ModelError(
            f"{what}: lower optim.learning_rate (now {self.config.optim.learning_rate:g}) and start again in another run_dir; "
            f"{kept}"
        )

    def run_epoch(self, stop: StopAsked) -> bool:
        """The rest of the epoch; False when it was stopped inside."""
        order = self.order(self.epoch)
        rest = order[self.batch_index :]
        started = saved = time.monotonic()
        heard = 0.0
        bar = tqdm(
            total=len(order),
            initial=self.batch_index,
            desc=f"epoch {self.epoch + 1}",
            bar_format=BAR,
            leave=False,
            disable=None,
        )
        batches = self.data.train.batches(rest, epoch=self.epoch)
        try:
            for batch in batches:
                rate = self.careful_step(batch, (self.epoch + self.batch_index / len(order)) / self.config.training.epochs)
                self.batch_index += 1
                self.last_rate = rate
                self.free_pages.after_step()
                heard += float(batch.waveform_lengths.sum()) / self.config.features.sample_rate
                mean = self.epoch_loss / max(1.0, self.epoch_tokens)
                speed = heard / (time.monotonic() - started)
                bar.set_postfix_str(f"loss {mean:.3f}, lr {rate:.1e}, {speed:.0f} s audio/s", refresh=False)
                bar.update()  # after the loss is set: the first step may be the only one that is drawn
                if stop.signal:
                    self.checkpoint()
                    return False
                if time.monotonic() - saved > 60 * self.config.training.checkpoint_minutes:
                    self.checkpoint()
                    saved = time.monotonic()
        finally:
            batches.close()
            bar.close()
        self.epoch_audio_s = heard
        return True

    # --- after an epoch

    def finish_epoch(self, seconds: float) -> None:
        self.epoch += 1
        self.batch_index = 0
        self.average.after_epoch()
        if self.epoch % self.config.training.validate_every == 0 or self.epoch == self.config.training.epochs:
            started = time.monotonic()
            with weights_swapped(self.model, self.average.weights()):
                result = validate(
                    self.model,
                    self.data.valid_part,
                    self.data.valid,
                    self.valid_order,
                    self.tokenizer,
                    device=self.device,
                    autocast=self.autocast,
                )
                if result is None:
                    raise self.diverged(f"the validation loss after epoch {self.epoch} is not finite")
                self.report(result, seconds, time.monotonic() - started)
        self.epoch_loss = self.epoch_tokens = 0.0

    def report(self, result: Validation, train_s: float, valid_s: float) -> None:
        training = self.config.training
        line = epoch_line(
            result,
            unit=self.unit,
            step=self.step,
            epoch=self.epoch,
            train_loss=self.epoch_loss / max(1.0, self.epoch_tokens),
            learning_rate=self.last_rate,
            train_s=round(train_s, 2),
            valid_s=round(valid_s, 2),
            audio_s_per_s=round(self.epoch_audio_s / max(train_s, 1e-9), 1),
        )
        best_by = training.best_by
        better = self.best is None or metrics.standing(line, best_by) < metrics.standing(self.best, best_by)
        if better:
            self.best = {key: line[key] for key in ("epoch", "step", "error_rate", "valid_loss")}
            save_model(self.run_dir / "model", self.model, self.tokenizer, notes=self.notes(line))
        say(epoch_text(line, result, unit=self.unit, epochs=training.epochs, better=better))
        if advice := diagnose(self.epoch, result, utterances=len(self.data.valid_part.utterances)):
            say(f"    note: {advice}")
        path = self.run_dir / "metrics.jsonl"
        metrics.append(path, line)
        metrics.draw_curves(
            metrics.read_metrics(path),
            self.run_dir / "curves.png",
            title=f"{self.run_dir.name}: {len(self.data.train_part.utterances)} training utterances",
            best_by=best_by,
        )

    def notes(self, line: dict[str, Any]) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "step": self.step,
            "valid_error_rate": line["error_rate"],
            "seed": self.config.seed,
            "precision": self.precision_name,
            "average": self.config.training.average,
            "training_utterances": len(self.data.train_part.utterances),
            "training_hours": round(self.train_hours, 4),
        }

    def patience_over(self) -> bool:
        patience = self.config.training.patience
        return bool(patience and self.best and self.epoch - self.best["epoch"] >= patience)

    # --- checkpoints

    def checkpoint(self, finished: bool = False) -> None:
        state = {
            "epoch": self.epoch,
            "batch_index": self.batch_index,
            "best": self.best,
            "epoch_loss": self.epoch_loss,
            "epoch_tokens": self.epoch_tokens,
            "bad_steps": self.bad_steps,
            "seconds": self.seconds_before + time.monotonic() - self.started,
            "last_rate": self.last_rate,
            "finished": finished,
            **self.identity,
            "asr": __version__,
            "torch": torch.__version__,
        }
        tensors = {
            "model": dict(self.model.state_dict()),
            "optimizer": flatten_optimizer(self.optimizer),
            "average": self.average.state(),
        }
        save_checkpoint(self.run_dir, self.step, tensors, state, keep=self.config.training.keep)

    def resume(self, state: dict[str, Any], tensors: dict[str, dict[str, torch.Tensor]]) -> None:
        refuse_other_data(state, self.identity)
        if warning := other_place(state, self.identity):
            say(warning)
        self.model.load_state_dict(tensors["model"])
        restore_optimizer(self.optimizer, tensors["optimizer"])
        self.average.load_state(tensors["average"])
        for name in ("step", "epoch", "batch_index", "best", "epoch_loss", "epoch_tokens", "bad_steps", "last_rate"):
            setattr(self, name, state[name])
        self.seconds_before = state["seconds"]
        metrics.keep_until(self.run_dir / "metrics.jsonl", self.epoch)
        say(f"resumed from step {self.step} (epoch {self.epoch + 1}, batch {self.batch_index})")

    def run(self) -> int:
        self.started = time.monotonic()
        with StopAsked() as stop:
            while self.epoch < self.config.training.epochs and not self.patience_over():
                started = time.monotonic()
                if self.run_epoch(stop):
                    self.finish_epoch(time.monotonic() - started)
                    done = self.epoch >= self.config.training.epochs or self.patience_over()
                    self.checkpoint(finished=done)
                    if done or not stop.signal:
                        continue
                say(f"stopped at step {self.step}, saved in {self.run_dir}: the same command goes on from here")
                return 128 + stop.signal
        assert self.best is not None
        minutes = (self.seconds_before + time.monotonic() - self.started) / 60
        say(end_text(self.config, self.best, minutes=minutes, bad_steps=self.bad_steps))
        return 0


def train(config: TrainConfig) -> int:
    """Train as configured, resuming what `config.run_dir` already holds; returns the exit code of `asr-train`.

    Raises UsageError for a run directory of another configuration, DataError for data that cannot be used, ResourceError when
    disk or memory run out.
    """
    if not config.run_dir:
        raise UsageError("run_dir is not set: give a folder for the model and its checkpoints, run_dir=DIR")
    run_dir = Path(config.run_dir)
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    torch.set_flush_denormal(True)
    warnings.simplefilter("ignore", AudioWarning)  # the data check counted and named them
    manifest_path(config, config.data.train)
    manifest_path(config, config.data.valid)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        kind = UsageError if fault.errno in (errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR) else ResourceError
        raise kind(f"run_dir={show_path(run_dir)} cannot be made: {write_reason(run_dir, fault, 0)}; choose another") from None
    with locked(run_dir):
        found = load_newest(run_dir, say)
        if found is None:
            refuse_lost_run(config)
        else:
            refuse_other_run(found[0], config)
        for name in remove_leftovers(run_dir):
            say(f"removing {name}, the rest of a save that was cut off")
        training = Training(config)
        if found is not None and found[0]["finished"]:
            best = found[0]["best"]
            error = f"{100 * best['error_rate']:.1f} % after epoch {best['epoch']}"
            say(f"{run_dir} is already complete (best validation error {error})\n{next_text(config)}")
            return 0
        training.prepare(resuming=found is not None)
        if found is not None:
            training.resume(*found)
        else:
            metrics.keep_until(run_dir / "metrics.jsonl", 0)  # of a run that was killed before its first checkpoint
        return training.run()
