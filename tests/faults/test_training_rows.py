"""Rows T of the catalogue: targets no loss can take, steps that blow up, data without a validation set, schedules that go on."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from asr.batches.order import BatchOptions, batch_order
from asr.errors import AsrError, DataError, ModelError
from asr.features.normalize import NormalizeOptions, Normalizer
from asr.models.ctc import check_targets, ctc_loss
from asr.models.package import load_model
from asr.training import objective
from asr.training.loop import Training
from asr.training.metrics import read_metrics
from tests.faults.commands import content, fine, read_lines, steps, to_lines, told, train_words


def batch(lengths: list[int], targets: list[list[int]], token_lengths: list[int] | None = None) -> tuple[torch.Tensor, ...]:
    """Log-probabilities (B, T', 4) of nothing in particular, their lengths, and targets as the loss takes them."""
    log_probs = torch.randn(len(lengths), max(*lengths, 1), 4, generator=torch.Generator().manual_seed(1)).log_softmax(2)
    tokens = torch.zeros(len(targets), max(map(len, targets)), dtype=torch.int64)
    for row, target in zip(tokens, targets):
        row[: len(target)] = torch.tensor(target)
    sizes = token_lengths or [len(target) for target in targets]
    return log_probs.requires_grad_(), torch.tensor(lengths), tokens, torch.tensor(sizes)


IDS = ["anna/1", "anna/2"]
TARGETS: dict[str, tuple[list[int], list[list[int]], list[int] | None, type[AsrError], tuple[str, ...]]] = {
    "T1": ([9, 4], [[1, 2], [3, 3, 3]], None, DataError, ("anna/2 has 4 frames", "needs 5", "encoder.subsampling")),
    "T3": ([9, 0], [[1, 2], [3]], None, DataError, ("anna/2 has 0 frames", "needs 1")),
    "T4-large": ([9, 9], [[1, 2], [3, 4]], None, ModelError, ("utterance anna/2 holds token id 4", "the model knows 1 to 3")),
    "T4-negative": ([9, 9], [[1, -1], [3, 2]], None, ModelError, ("utterance anna/1 holds token id -1",)),
    "T5": ([9, 9], [[1, 2], [3, 0, 1]], None, DataError, ("utterance anna/2 holds the blank (id 0)",)),
    "T6": ([9, 9], [[1, 2], [3, 1]], [3, 2], DataError, ("target lengths of utterance anna/1 do not fit", "2 tokens")),
}


@pytest.mark.parametrize("row", list(TARGETS))
def test_no_target_reaches_the_loss_that_it_cannot_take(row):
    lengths, targets, sizes, kind, said = TARGETS[row]
    _, frames, tokens, token_lengths = batch(lengths, targets, sizes)
    with pytest.raises(kind) as caught:
        check_targets(tokens, token_lengths, frames, 4, IDS)
    assert all(words in str(caught.value) for words in said), str(caught.value)


def test_t1_an_impossible_target_that_gets_by_the_check_is_named(speech, asr, tmp_path, monkeypatch):
    """The check of the data is taken out of the way: what stands before the loss does not rely on it."""
    for part in ("train", "valid"):
        lines = read_lines(speech / f"{part}.jsonl")[:4]
        for line in lines:
            line["audio_filepath"] = str(speech / line["audio_filepath"])
        lines[2]["text"] = "a" * 400
        (tmp_path / f"{part}.jsonl").write_bytes(to_lines(lines))
    words = train_words(tmp_path, tmp_path / "run")
    told(asr("train", *words), 3, "ctc-impossible", "train-002")
    monkeypatch.setattr("asr.data.check._ctc_faults", lambda *rest: [])
    verdict = told(asr("train", *words), 3, "utterance train-002 cannot be learnt", "needs 799")
    assert "\n" not in verdict
    assert not (tmp_path / "run" / "model").exists()


def test_t2_an_empty_target_costs_what_its_blanks_cost():
    log_probs, lengths, tokens, sizes = batch([5, 3], [[], [2]])
    check_targets(tokens, sizes, lengths, 4, IDS)
    losses = ctc_loss(log_probs, lengths, tokens, sizes)
    assert losses[0].item() == pytest.approx(-log_probs[0, :5, 0].sum().item(), rel=1e-5)
    losses.sum().backward()
    assert torch.isfinite(log_probs.grad).all()


def test_t3_an_impossible_target_costs_infinity_and_moves_nothing():
    log_probs, lengths, tokens, sizes = batch([0, 3], [[1], [2]])
    losses = ctc_loss(log_probs, lengths, tokens, sizes)
    assert losses[0] == torch.inf
    losses[1].backward()
    assert torch.isfinite(log_probs.grad).all()
    assert not log_probs.grad[0].any()


@pytest.fixture
def poisoned(monkeypatch) -> Callable[[range], None]:
    """From now on the log-probabilities of these training steps, counted from 1, hold a NaN."""

    def poison(numbers: range) -> None:
        plain, seen = objective.ctc_loss, iter(range(1, 10**6))

        def loss(log_probs, *rest):
            broken = torch.zeros_like(log_probs)
            broken[0, 0, 0] = torch.nan if next(seen) in numbers else 0.0
            return plain(log_probs + broken, *rest)

        monkeypatch.setattr(objective, "ctc_loss", loss)

    return poison


def test_t7_a_step_with_nan_is_skipped_counted_and_named(few, asr, tmp_path, poisoned):
    poisoned(range(2, 3))
    err = fine(asr("train", *train_words(few, tmp_path / "run", training__epochs=2))).err
    warning = next(line for line in err.splitlines() if line.startswith("WARNING: gradient not finite, step skipped"))
    assert len(re.findall(r"train-\d{3}", warning)) >= 1
    assert "1 steps were skipped because their gradient was not finite: step 2: " in err
    load_model(tmp_path / "run")


def test_t7_too_many_such_steps_stop_and_keep_what_was_good(few, asr, tmp_path, poisoned):
    poisoned(range(3, 100))
    words = train_words(few, tmp_path / "run", training__epochs=9, training__max_bad_steps=3)
    outcome = asr("train", *words)
    kept = f"the best model so far is kept in {tmp_path / 'run'}/model"
    told(outcome, 4, "3 steps in a row had a gradient that is not finite", "lower optim.learning_rate (now 0.02)", kept)
    assert steps(tmp_path / "run") == [2, 4]
    load_model(tmp_path / "run")


def test_t8_a_learning_rate_too_high_stops_with_advice(few, asr, tmp_path):
    words = train_words(few, tmp_path / "run", training__epochs=9, optim__learning_rate=1e30)
    said = ("validation loss after epoch 1 is not finite", "lower optim.learning_rate (now 1e+30)", "in another run_dir")
    told(asr("train", *words), 4, *said, "no model was saved yet")
    assert not (tmp_path / "run" / "model").exists()


def test_t8_weights_that_explode_later_leave_the_best_model(few, asr, tmp_path, monkeypatch):
    plain = Training.train_step

    def exploding(self, *rest):
        if self.epoch == 1:
            with torch.no_grad():
                for weight in self.model.parameters():
                    weight.mul_(1e30)
        return plain(self, *rest)

    monkeypatch.setattr(Training, "train_step", exploding)
    words = train_words(few, tmp_path / "run", training__epochs=9, training__max_bad_steps=2)
    told(asr("train", *words), 4, "2 steps in a row", "lower optim.learning_rate", "the best model so far is kept in")
    assert load_model(tmp_path / "run").notes["epoch"] == 1
    assert steps(tmp_path / "run") == [2]


def test_t12_features_that_never_change_are_not_divided():
    normalizer = Normalizer(NormalizeOptions(mean="utterance", variance="utterance"), 3)
    silence = torch.full((2, 7, 3), -15.9)
    assert normalizer(silence, torch.tensor([7, 4])).abs().max() < 1e-5


@pytest.mark.parametrize("limit", ["batches.utterances=1", "batches.seconds=0.1", "batches.utterances=7"])
def test_t13_batches_of_one_and_a_last_one_that_is_not_full(few, asr, tmp_path, limit):
    count = len(read_lines(few / "train.jsonl"))
    fine(asr("train", *train_words(few, tmp_path / "run"), limit))
    assert steps(tmp_path / "run") == [-(-count // 7) if limit.endswith("7") else count]


def test_t13_one_long_utterance_is_a_batch_by_itself():
    """The rule: a batch holds as many seconds as allowed, padding counted, and never less than one utterance."""
    order = batch_order([1.0, 50.0, 2.0, 1.5], options=BatchOptions(utterances=9, seconds=6.0), seed=1, epoch=0)
    assert sorted(map(sorted, order)) == [[0, 2, 3], [1]]


@pytest.mark.parametrize("row", ["T14-empty", "T14-impossible"])
def test_a_validation_set_without_anything_to_validate_is_refused_before_training(few, asr, tmp_path, row):
    shutil.copytree(few, tmp_path / "data")
    lines = [] if row == "T14-empty" else [{**line, "text": "ab" * 500} for line in read_lines(few / "valid.jsonl")]
    (tmp_path / "data" / "valid.jsonl").write_bytes(to_lines(lines))
    said = "0 utterances; expected at least one" if row == "T14-empty" else "0 of 2 usable: 2 ctc-impossible"
    outcome = asr("train", *train_words(tmp_path / "data", tmp_path / "run"), "data.on_bad=skip", "data.max_bad_fraction=1")
    told(outcome, 3, "valid.jsonl: " + said)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_t15_masks_wider_than_the_utterance(few, asr, tmp_path):
    wide = ["augment.time_masks=3", "augment.time_width=1", "augment.frequency_masks=3", "augment.frequency_width=1000"]
    fine(asr("train", *train_words(few, tmp_path / "run"), *wide))
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[0]["train_loss"] > 0


def rates(path: Path) -> list[float]:
    return [float(line) for line in path.read_text().splitlines()]


def test_t16_the_learning_rate_goes_on_to_the_last_digit(stage, few, tmp_path):
    """Every step's rate, of a run stopped inside its second epoch and of one that was not."""
    found = {}
    for name, sabotages in {"straight": [()], "stopped": [(("signal_at_step", {"number": 15, "step": 3}),), ()]}.items():
        words = train_words(few, tmp_path / name / "run", training__epochs=3, optim__warmup_steps=4)
        record = ("record_rates", {"path": str(tmp_path / f"{name}.rates")})
        codes = [stage.run("train", words, ("no_curves", {}), record, *sabotage).code for sabotage in sabotages]
        assert codes == ([0] if name == "straight" else [143, 0])
        found[name] = rates(tmp_path / f"{name}.rates")
    assert len(found["straight"]) == 6
    assert len(set(found["straight"])) == 6
    assert found["stopped"] == found["straight"]


def test_t17_patience_and_the_best_model_after_a_resume(stage, few, tmp_path):
    """With a rate of nothing no epoch is better than the first: two more, and it is over, stopped in between or not."""
    kept = {}
    for name in ("straight", "killed"):
        words = train_words(few, tmp_path / name, training__epochs=9, training__patience=2, optim__learning_rate=1e-30)
        if name == "killed":
            assert stage.run("train", words, ("no_curves", {}), ("before_epoch", {"number": 2, "what": "die"})).code == 9
        fine(stage.run("train", words, ("no_curves", {})))
        epochs = [line["epoch"] for line in read_metrics(tmp_path / name / "metrics.jsonl")]
        best = json.loads((tmp_path / name / "model" / "config.json").read_text())["notes"]["epoch"]
        kept[name] = (epochs, best, content(tmp_path / name / "model"))
    assert kept["straight"][:2] == ([1, 2, 3], 1)
    assert kept["killed"] == kept["straight"]


def test_t19_a_start_from_another_network_lists_what_did_not_fit(few, run_dir, asr, tmp_path):
    words = train_words(few, tmp_path / "run", encoder__width=32)
    line = next(line for line in fine(asr("train", *words, f"init={run_dir}")).err.splitlines() if line.startswith("init: "))
    assert re.match(r"init: [1-9]\d* of \d+ tensors copied; fresh: ", line)
    assert re.search(r"encoder\.layers\.0\.ahead\.weight_rec \(\(96, 24\) there, \(128, 32\) here\)", line)


def test_t20_numbers_too_small_to_be_normal_are_zero(few, asr, tmp_path):
    torch.set_flush_denormal(False)
    fine(asr("train", *train_words(few, tmp_path / "run")))
    assert (torch.tensor([1e-30]) * 1e-10).item() == 0.0, "else a quiet recording could slow a step a hundred times"
