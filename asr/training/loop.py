"""The training loop: one epoch after another until the schedule, patience or a signal ends it; resumable at every checkpoint."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from asr import __version__
from asr.batches.dataset import Batch, evaluation_order
from asr.batches.order import batch_order, join_recordings
from asr.errors import ModelError, ResourceError, is_out_of_memory
from asr.features.augment import utterance_seed
from asr.models.device import autocast_for, choose_device, choose_precision, low_precision_pays
from asr.models.package import load_model, save_model
from asr.training import metrics
from asr.training.checkpoint import flatten_optimizer, restore_optimizer, save_checkpoint
from asr.training.diagnosis import diagnose
from asr.training.distributed import Ranks, Share
from asr.training.memory import FreePages
from asr.training.noise import WeightNoise
from asr.training.objective import Objective
from asr.training.optim import LastAverage, NoAverage, RunningAverage, WeightAverage, build_optimizer, learning_rate
from asr.training.options import TrainConfig
from asr.training.preparation import check_data, refuse_parts
from asr.training.progress import BAR, end_text, epoch_line, epoch_text
from asr.training.reading import read_recordings
from asr.training.resume import identity, other_place, refuse_other_data
from asr.training.terminal import SIGNALS, StopAsked, say, say_nothing
from asr.training.validate import Validation, validate, weights_swapped
from asr.training.warmstart import copy_matching


class Training:
    """State of one training; `run` goes on from wherever it stands.

    ranks: the processes that train together; all hold the same weights, the first of them validates, writes and speaks.
    """

    def __init__(self, config: TrainConfig, ranks: Ranks | None = None):
        self.config = config
        self.ranks = ranks or Ranks()
        self.say = say if self.ranks.first else say_nothing
        self.run_dir = Path(config.run_dir)
        self.device = self.ranks.device or choose_device(config.device)
        self.precision = choose_precision(config.training.precision, self.device)
        self.precision_name = str(self.precision).removeprefix("torch.")
        self.autocast = autocast_for(self.device, self.precision)
        self.step = self.epoch = self.batch_index = 0
        self.together = self.ranks.world  #: batches of similar lengths that follow each other in this epoch
        self.best: dict[str, Any] | None = None
        self.best_epoch = 0
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
        self.tokenizer, model, reports = check_data(config, report_path if self.ranks.first else None)
        refuse_parts(reports, config)
        for report in reports.values():
            if report.problems or report.warnings:
                self.say(report.table())
        self.say("reading the audio and fitting the feature statistics")
        self.data = read_recordings(
            config,
            model,
            self.tokenizer,
            reports,
            report_path=report_path if self.ranks.first else None,
            say=self.say if self.ranks.first else None,
        )
        train_part, valid_part = self.data.train_part, self.data.valid_part
        self.train_hours, valid_hours = (sum(part.durations) / 3600 for part in (train_part, valid_part))
        self.valid_order = evaluation_order(valid_part.durations, config.batches)
        self.say(
            f"data: {len(train_part.utterances)} utterances ({self.train_hours:.2f} h) to train, "
            f"{len(valid_part.utterances)} ({valid_hours:.2f} h) to validate, {len(self.tokenizer)} symbols with blank"
        )
        if config.batches.join:
            self.tell_of_joins()
        parts = {"train": train_part, "valid": valid_part}
        place = (self.device.type, self.precision_name, self.ranks.world)
        self.identity = identity(config, parts, list(self.tokenizer.symbols), place)
        self.unit = "phone" if self.tokenizer.options.unit == "phones" else "character"
        if start is not None:
            self.say(copy_matching(start.model, model, self.tokenizer, start.tokenizer))
        elif config.objective.expected_edits and not resuming:
            self.say(
                f"WARNING: objective.expected_edits={config.objective.expected_edits} without init=: paths drawn from random "
                "weights teach little; train with CTC first, then go on from that model with init=DIR"
            )
        self.model = model.to(self.device)
        self.shared_model: torch.nn.Module = self.model
        self.say(f"model: {model.parameter_count() / 1e6:.2f} M weights on {self.place()}")
        pays = low_precision_pays(self.device.type)
        if self.precision == torch.bfloat16 and not pays:
            self.say("bfloat16 is slower than float32 on this processor: the encoder computes in float32")
        products = self.precision if pays else torch.float32
        self.optimizer = build_optimizer(self.model, config.optim, ranks=self.ranks, dtype=products)
        self.objective = Objective(config.objective, encoder=config.encoder, features=config.features)
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

    def order(self, epoch: int) -> tuple[list[list[int]], dict[int, list[int]]]:
        """The batches of an epoch, and the recordings that are joined to the end of some in them."""
        part, options, seed = self.data.train_part, self.config.batches, self.config.seed
        speakers = [utterance.speaker for utterance in part.utterances]
        groups = join_recordings(part.durations, speakers, options=options, seed=seed, epoch=epoch)
        durations = [sum(part.durations[index] for index in group) for group in groups]
        batches = batch_order(durations, options=options, seed=seed, epoch=epoch, together=self.together)
        order = [[groups[number][0] for number in batch] for batch in batches]
        return order, {group[0]: group[1:] for group in groups if len(group) > 1}

    def tell_of_joins(self) -> None:
        """How many recordings are joined to another one in the first epoch that joins them."""
        options, utterances = self.config.batches, self.data.train_part.utterances
        _, behind = self.order(options.short_first_epochs)
        joined, alone = sum(map(len, behind.values())), sum(utterance.speaker is None for utterance in utterances)
        self.say(
            f"{'' if joined else 'WARNING: '}batches.join: in an epoch {joined} of {len(utterances)} recordings stand behind "
            f"another of their speaker, up to {options.join_seconds:g} s together{f'; {alone} have no speaker' if alone else ''}"
        )

    # --- steps

    def train_step(self, batch: Batch, share: Share, progress: float) -> float:
        """One update; returns the learning rate. A gradient that is not finite is skipped, counted and named."""
        self.model.train()
        process = f", process {self.ranks.rank}" if self.ranks.rank else ""
        torch.manual_seed(utterance_seed(self.config.seed, self.epoch, f"step {self.step}{process}"))
        rate = learning_rate(self.step, progress, self.config.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with self.noise.added(self.step):
            masks = self.config.augment.at_epoch(self.epoch)
            losses = self.objective.losses(self.shared_model, batch, masks, self.autocast, epoch=self.epoch) * share.counts
            (losses.sum() * (self.ranks.world / share.utterances)).backward()
        limit = self.config.optim.clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self.step += 1
        if not torch.isfinite(norm):
            self.note_bad_step(batch, losses)
            return rate
        self.bad_in_a_row = 0
        self.optimizer.step()
        self.average.after_step(self.step)
        loss, tokens = self.ranks.total([float(losses.detach().sum()), share.counts * int(batch.token_lengths.sum())])
        self.epoch_loss += loss
        self.epoch_tokens += tokens
        return rate

    def careful_step(self, batch: Batch, share: Share, progress: float) -> float:
        """`train_step`; where memory does not suffice, ResourceError tells what was too large."""
        try:
            return self.train_step(batch.to(self.device), share, progress)
        except (MemoryError, RuntimeError) as fault:
            if self.ranks.is_loss(fault):
                raise self.ranks.lost(fault) from None
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
        utterances = self.data.train_part.utterances
        numbers = {utterance.id: number for number, utterance in enumerate(utterances)}
        suspects = [name for name, loss in zip(batch.ids, losses.tolist()) if not math.isfinite(loss)]
        found = self.ranks.gathered([numbers[name] for name in suspects], 5)
        found = found or self.ranks.gathered([numbers[name] for name in batch.ids], 5)
        names = ", ".join(utterances[number].id for number in found[:5])
        self.bad_in_a_row += 1
        self.bad_steps.append(f"step {self.step}: {names}")
        self.say(f"WARNING: gradient not finite, step skipped; utterances: {names}")
        if self.bad_in_a_row >= self.config.training.max_bad_steps:
            self.ranks.fail(self.diverged(f"{self.bad_in_a_row} steps in a row had a gradient that is not finite"))

    def diverged(self, what: str) -> ModelError:
        kept = f"the best model so far is kept in {self.run_dir}/model" if self.best else "no model was saved yet"
        return ModelError(
            f"{what}: lower optim.learning_rate (now {self.config.optim.learning_rate:g}) and start again in another run_dir; "
            f"{kept}"
        )

    def run_epoch(self, stop: StopAsked) -> bool:
        """The rest of the epoch; False when it was stopped inside."""
        order, behind = self.order(self.epoch)
        shares = self.ranks.shares(order[self.batch_index :])
        started = saved = time.monotonic()
        heard = 0.0
        bar = tqdm(
            total=len(order),
            initial=self.batch_index,
            desc=f"epoch {self.epoch + 1}",
            bar_format=BAR,
            leave=False,
            disable=None if self.ranks.first else True,
        )
        batches = self.data.train.batches([share.batch for share in shares], epoch=self.epoch, behind=behind)
        try:
            for batch, share in zip(batches, shares):
                progress = (self.epoch + self.batch_index / len(order)) / self.config.training.epochs
                self.last_rate = rate = self.careful_step(batch, share, progress)
                done = min(self.ranks.world, len(order) - self.batch_index)
                self.batch_index += done
                self.free_pages.after_step()
                seconds = float(batch.waveform_lengths.sum()) / self.config.features.sample_rate
                (told,) = self.ranks.total([share.counts * seconds])
                heard += told
                mean = self.epoch_loss / max(1.0, self.epoch_tokens)
                speed = heard / (time.monotonic() - started)
                bar.set_postfix_str(f"loss {mean:.3f}, lr {rate:.1e}, {speed:.0f} s audio/s", refresh=False)
                bar.update(done)  # after the loss is set: the first step may be the only one that is drawn
                if self.stop_agreed(stop):
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

    def stop_agreed(self, stop: StopAsked) -> bool:
        """Whether any process was asked to stop; all stop at the same step then, for the same reason."""
        asked = self.ranks.total([float(stop.signal == number) for number in SIGNALS])
        agreed = next((int(number) for number, count in zip(SIGNALS, asked) if count), 0)
        stop.signal = agreed or stop.signal  # one that came in between is for the next time
        return bool(agreed)

    # --- after an epoch

    def finish_epoch(self, seconds: float) -> None:
        self.epoch += 1
        self.batch_index = 0
        self.together = self.ranks.world
        self.average.after_epoch()
        if self.epoch % self.config.training.validate_every == 0 or self.epoch == self.config.training.epochs:
            self.ranks.together(lambda: self.validate(seconds) if self.ranks.first else None)
            self.best_epoch = self.ranks.of_first(self.best["epoch"] if self.best else 0)
        self.epoch_loss = self.epoch_tokens = 0.0

    def validate(self, train_s: float) -> None:
        """Validate with the averaged weights, keep them where they are the best so far, and tell of it."""
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
            self.report(result, train_s, time.monotonic() - started)

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
        self.say(epoch_text(line, result, unit=self.unit, epochs=training.epochs, better=better))
        if advice := diagnose(self.epoch, result, utterances=len(self.data.valid_part.utterances)):
            self.say(f"    note: {advice}")
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
        return bool(patience and self.best_epoch and self.epoch - self.best_epoch >= patience)

    # --- checkpoints

    def checkpoint(self, finished: bool = False) -> None:
        if not self.ranks.first:
            return
        state = {
            "epoch": self.epoch,
            "batch_index": self.batch_index,
            "together": self.together,
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
            self.say(warning)
        self.model.load_state_dict(tensors["model"])
        restore_optimizer(self.optimizer, tensors["optimizer"])
        self.average.load_state(tensors["average"])
        for name in ("step", "epoch", "batch_index", "best", "epoch_loss", "epoch_tokens", "bad_steps", "last_rate"):
            setattr(self, name, state[name])
        if self.batch_index:  # the rest of an epoch stays in the order in which it was begun
            self.together = state.get("together", 1)
        self.best_epoch = self.best["epoch"] if self.best else 0
        self.seconds_before = state["seconds"]
        self.say(f"resumed from step {self.step} (epoch {self.epoch + 1}, batch {self.batch_index})")

    def run(self) -> int:
        self.started = time.monotonic()
        self.shared_model = self.ranks.wrap(self.model)
        with StopAsked(self.say, deaf_s=2.0 if self.ranks.world > 1 else 0.0) as stop:
            while self.epoch < self.config.training.epochs and not self.patience_over():
                started = time.monotonic()
                if self.run_epoch(stop):
                    self.finish_epoch(time.monotonic() - started)
                    done = self.epoch >= self.config.training.epochs or self.patience_over()
                    self.checkpoint(finished=done)
                    if done or not self.stop_agreed(stop):
                        continue
                self.say(f"stopped at step {self.step}, saved in {self.run_dir}: the same command goes on from here")
                return 128 + stop.signal
        if self.best is not None:
            minutes = (self.seconds_before + time.monotonic() - self.started) / 60
            self.say(end_text(self.config, self.best, minutes=minutes, bad_steps=self.bad_steps))
        return 0
