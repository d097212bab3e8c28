"""The loop learns, resumes to the same bytes, and refuses what does not belong together."""

import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from asr.batches.order import BatchOptions
from asr.errors import DataError, ModelError, UsageError
from asr.features.augment import AugmentOptions
from asr.features.normalize import NormalizeOptions
from asr.models.package import load_model
from asr.scoring.edits import EditCounts
from asr.text.tokenizer import TokenOptions
from asr.training import loop, objective
from asr.training.checkpoint import load_newest
from asr.training.loop import Training
from asr.training.metrics import read_metrics
from asr.training.options import DataOptions, TrainConfig, TrainingOptions
from asr.training.train import train
from tests.training.tones import tiny_config, write_tones


def timeless(run_dir: Path) -> list[dict]:
    clocks = {"train_s", "valid_s", "audio_s_per_s"}
    return [{key: value for key, value in line.items() if key not in clocks} for line in read_metrics(run_dir / "metrics.jsonl")]


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "model" / "model.safetensors")


def same_run(one: Path, other: Path) -> None:
    assert timeless(one) == timeless(other)
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_learns_the_tones_and_leaves_all_its_files(tones, tmp_path):
    training = TrainingOptions(epochs=25, precision="float32", threads=1, average_decay=0.8)
    config = tiny_config(tones, tmp_path / "run", training=training, batches=BatchOptions(utterances=4))
    assert train(config) == 0
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert len(lines) == 25
    assert lines[0]["valid_character_error_rate"] > 0.5
    assert min(line["valid_character_error_rate"] for line in lines) <= 0.1
    assert {"valid_word_error_rate", "train_loss", "valid_loss", "blank_fraction", "learning_rate"} <= lines[0].keys()
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"model", "checkpoints", "metrics.jsonl", "data_report.json", "curves.png"} <= files
    names = {path.name for path in (tmp_path / "run" / "model").iterdir()}
    assert names == {"model.safetensors", "config.json", "tokens.txt", "checksums.json"}
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    best = min(range(len(lines)), key=lambda place: (lines[place]["error_rate"], lines[place]["valid_loss"]))
    assert load_model(tmp_path / "run").notes["epoch"] == lines[best]["epoch"]


AUGMENTED = AugmentOptions(
    speed=[0.9, 1.0, 1.1], noise_probability=0.5, gain_db=3.0, frequency_masks=1, frequency_width=3, time_masks=1
)


@pytest.mark.parametrize("average", ["running", "last", "none"])
@pytest.mark.parametrize("stop_at", [2, 6, 9])
def test_stopped_and_resumed_equals_straight(config, tmp_path, monkeypatch, average, stop_at):
    """6 batches an epoch: stopped inside the first epoch, at its end, and inside the second."""
    training = replace(config.training, average=average, average_last=2)
    straight = replace(config, training=training, augment=AUGMENTED, run_dir=str(tmp_path / "straight"))
    assert train(straight) == 0
    stop_and_resume(replace(straight, run_dir=str(tmp_path / "stopped")), stop_at, monkeypatch)
    same_run(tmp_path / "straight", tmp_path / "stopped")


def test_joined_recordings_train_and_resume_to_the_same_bytes(config, tmp_path, monkeypatch):
    """Fewer and longer ones, with all of the text; the same ones after a resume inside the epoch."""
    batches = replace(config.batches, join=0.9, join_seconds=30.0, short_first_epochs=0)
    straight = replace(config, augment=AUGMENTED, batches=batches, run_dir=str(tmp_path / "straight"))
    training = Training(straight)
    training.prepare()
    order, behind = training.order(1)
    names = [index for batch in order for first in batch for index in [first, *behind.get(first, [])]]
    assert sorted(names) == list(range(len(training.data.train_part.utterances)))
    assert behind
    heard = training.data.train.batches(order, epoch=1, behind=behind)
    tokens = sum(int(batch.token_lengths.sum()) for batch in heard)
    assert tokens == sum(map(len, training.data.train_part.targets)), "there is no space among the tones"
    assert train(straight) == 0
    stop_and_resume(replace(straight, run_dir=str(tmp_path / "stopped")), 2, monkeypatch)
    same_run(tmp_path / "straight", tmp_path / "stopped")


def test_the_rest_of_an_epoch_is_in_the_order_of_its_beginning(config):
    """It depends on the number of processes, and other ones may go on."""
    begun = Training(config)
    begun.prepare()
    plain = begun.order(1)[0]
    begun.together, begun.epoch, begun.batch_index = 2, 1, 3
    begun.started = begun.last_rate = 0.0
    order = begun.order(1)[0]
    assert order != plain
    begun.checkpoint()
    found = load_newest(Path(config.run_dir))
    later = Training(config)
    later.prepare(resuming=True)
    later.resume(*found)
    assert later.order(1)[0] == order
    later.finish_epoch(1.0)
    assert later.order(1)[0] == plain
    later.resume({**found[0], "batch_index": 0}, found[1])
    assert later.order(1)[0] == plain


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (
            20.0,
            r"\nbatches\.join: in an epoch [12]\d of 48 recordings stand behind another of their speaker, up to 20 s together\n",
        ),
        (0.1, r"\nWARNING: batches\.join: in an epoch 0 of 48 recordings stand .*, up to 0\.1 s together\n"),
    ],
)
def test_how_many_recordings_are_joined_is_told(config, capsys, seconds, words):
    Training(replace(config, batches=replace(config.batches, join=0.5, join_seconds=seconds))).prepare()
    assert re.search(words, capsys.readouterr().err)


def test_recordings_without_a_speaker_are_counted(config, capsys):
    training = Training(replace(config, batches=replace(config.batches, join=0.5)))
    training.prepare()
    for place, utterance in enumerate(training.data.train_part.utterances[:40]):
        training.data.train_part.utterances[place] = replace(utterance, speaker=None)
    capsys.readouterr()
    training.tell_of_joins()
    assert re.search(r"in an epoch \d of 48 .* together; 40 have no speaker\n", capsys.readouterr().err)


def stop_and_resume(config: TrainConfig, stop_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Training.train_step

    def stopping(self, *rest):
        rate = plain(self, *rest)
        if self.step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return rate

    with monkeypatch.context() as patched:
        patched.setattr(Training, "train_step", stopping)
        assert train(config) == 143
    assert load_newest(Path(config.run_dir))[0]["step"] == stop_at
    assert train(config) == 0


@pytest.mark.parametrize("stop_at", [2, 9])
def test_the_phase_with_weight_noise_resumes_to_the_same_bytes(config, tmp_path, monkeypatch, stop_at):
    """Graves 2013: SGD with momentum and a constant rate; first to the lowest loss, then from there with noise."""
    optim = replace(config.optim, optimizer="sgd", schedule="constant", learning_rate=1e-2, warmup_steps=0, weight_decay=0.0)
    training = replace(config.training, average="none", best_by="loss")
    assert train(replace(config, optim=optim, training=training)) == 0
    noisy = replace(config, optim=optim, training=replace(training, best_by="error", weight_noise=0.075), init=config.run_dir)
    assert train(replace(noisy, run_dir=str(tmp_path / "straight"))) == 0
    stop_and_resume(replace(noisy, run_dir=str(tmp_path / "stopped")), stop_at, monkeypatch)
    same_run(tmp_path / "straight", tmp_path / "stopped")
    clean = replace(noisy, training=training, run_dir=str(tmp_path / "clean"))
    assert train(clean) == 0
    assert timeless(tmp_path / "clean") != timeless(tmp_path / "straight")


def test_validation_never_sees_the_noise(config, tmp_path):
    """With a learning rate of nearly nothing, the weights and so the validation stay what they are, however loud the noise."""
    base = replace(config, optim=replace(config.optim, learning_rate=1e-30, weight_decay=0.0))
    assert train(base) == 0
    noisy = replace(base, training=replace(config.training, weight_noise=1.0), run_dir=str(tmp_path / "noisy"))
    assert train(noisy) == 0
    quiet, loud = (read_metrics(Path(one.run_dir) / "metrics.jsonl")[-1] for one in (base, noisy))
    assert loud["valid_loss"] == quiet["valid_loss"]
    assert loud["train_loss"] != quiet["train_loss"]


@pytest.mark.parametrize(("best_by", "kept"), [("error", 1), ("loss", 2)])
def test_best_is_chosen_by_error_or_by_loss(config, monkeypatch, best_by, kept):
    """Validations that fall in loss and rise in error: the kept epoch depends on the choice, and so does patience."""
    plain = loop.validate

    def opposed(model, *rest, **words):
        found = plain(model, *rest, **words)
        number = next(calls)
        return replace(found, loss=9.0 - number, symbols=EditCounts(correct=9 - number, substitutions=1 + number))

    calls = iter(range(10))
    monkeypatch.setattr(loop, "validate", opposed)
    assert train(replace(config, training=replace(config.training, best_by=best_by))) == 0
    assert load_model(config.run_dir).notes["epoch"] == kept
    assert load_newest(Path(config.run_dir))[0]["best"]["epoch"] == kept


def test_loader_threads_and_cache_change_nothing(config, tmp_path):
    base = replace(config, augment=AUGMENTED)
    assert train(replace(base, run_dir=str(tmp_path / "one"))) == 0
    assert train(replace(base, run_dir=str(tmp_path / "two"), batches=BatchOptions(utterances=8, workers=3, cache_mb=0))) == 0
    same_run(tmp_path / "one", tmp_path / "two")


def test_other_seed_other_weights(config, tmp_path):
    assert train(config) == 0
    assert train(replace(config, seed=2, run_dir=str(tmp_path / "two"))) == 0
    first, second = weights(Path(config.run_dir)), weights(tmp_path / "two")
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_finished_run_is_left_alone(config, capsys):
    assert train(config) == 0
    before = {path: path.read_bytes() for path in Path(config.run_dir).rglob("*") if path.is_file() and path.name != ".lock"}
    assert train(config) == 0
    assert "already complete" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in before}


def test_other_configuration_is_refused_by_key(config):
    assert train(config) == 0
    other = replace(config, seed=9, encoder=replace(config.encoder, width=13))
    with pytest.raises(UsageError, match=r"encoder.width: 12 -> 13.*seed: 1 -> 9"):
        train(other)


def test_free_keys_may_change(config):
    assert train(config) == 0
    assert train(replace(config, batches=replace(config.batches, workers=2))) == 0


def test_changed_manifest_is_refused(tmp_path):
    write_tones(tmp_path / "data", "train", 8, seed=1)
    write_tones(tmp_path / "data", "valid", 4, seed=2)
    config = tiny_config(tmp_path / "data", tmp_path / "run")
    assert train(config) == 0
    manifest = tmp_path / "data" / "train.jsonl"
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UsageError, match=r"train\.jsonl has changed"):
        train(config)


def broken_data(folder: Path) -> None:
    write_tones(folder, "train", 12, seed=1)
    write_tones(folder, "valid", 4, seed=2)
    (folder / "audio" / "train-001.wav").unlink()
    (folder / "audio" / "train-002.wav").write_bytes(b"")
    manifest = folder / "train.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines[3]["text"] = "abcabcabcabc" * 20
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_all_problems_are_listed_before_the_first_step(tmp_path):
    broken_data(tmp_path / "data")
    with pytest.raises(DataError) as caught:
        train(tiny_config(tmp_path / "data", tmp_path / "run"))
    text = str(caught.value)
    for name in ("train-001", "train-002", "train-003"):
        assert name in text
    report = json.loads((tmp_path / "run" / "data_report.json").read_text())
    assert {"train", "valid"} <= report.keys()
    assert len(report["train"]["problems"]) == 3
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_skipping_goes_on_without_them_and_says_so(tmp_path, capsys):
    broken_data(tmp_path / "data")
    data = DataOptions(dir=str(tmp_path / "data"), on_bad="skip", max_bad_fraction=0.5)
    assert train(replace(tiny_config(tmp_path / "data", tmp_path / "run"), data=data)) == 0
    assert load_model(tmp_path / "run").notes["training_utterances"] == 9
    assert "train-001" in capsys.readouterr().err


def test_gradient_not_finite_is_skipped_counted_and_named(config, tmp_path, monkeypatch, capsys):
    plain = objective.ctc_loss

    def poisoned(log_probs, *rest):
        return plain(log_probs, *rest) * (float("nan") if torch.is_grad_enabled() and next(calls) == 2 else 1.0)

    calls = iter(range(10**6))
    monkeypatch.setattr(objective, "ctc_loss", poisoned)
    assert train(config) == 0
    err = capsys.readouterr().err
    assert "gradient not finite, step skipped" in err
    assert "1 steps were skipped" in err
    assert len(load_newest(Path(config.run_dir))[0]["bad_steps"]) == 1


def test_too_many_bad_steps_stop_with_advice(config, monkeypatch):
    monkeypatch.setattr(objective, "ctc_loss", lambda log_probs, *rest: log_probs.sum((1, 2)) * float("nan"))
    with pytest.raises(ModelError, match=r"3 steps in a row.*learning_rate"):
        train(replace(config, training=replace(config.training, max_bad_steps=3)))


def test_patience_stops_early(config):
    options = replace(config.training, epochs=30, patience=2)
    assert train(replace(config, training=options, optim=replace(config.optim, learning_rate=1e-30, weight_decay=0.0))) == 0
    assert len(read_metrics(Path(config.run_dir) / "metrics.jsonl")) == 3


def test_validation_every_other_epoch(config):
    assert train(replace(config, training=replace(config.training, epochs=3, validate_every=2))) == 0
    assert [line["epoch"] for line in read_metrics(Path(config.run_dir) / "metrics.jsonl")] == [2, 3]


@pytest.mark.parametrize("unit", ["mean", "variance"])
@pytest.mark.parametrize("kind", ["none", "utterance", "speaker", "global"])
def test_every_normalisation_trains(config, unit, kind):
    assert train(replace(config, normalize=NormalizeOptions(**{unit: kind}), training=replace(config.training, epochs=1))) == 0


def test_bfloat16_trains(config):
    assert train(replace(config, training=replace(config.training, precision="bfloat16"))) == 0
    assert load_model(config.run_dir).notes["precision"] == "bfloat16"


def test_sgd_without_schedule_trains(config):
    optim = replace(
        config.optim, optimizer="sgd", schedule="constant", learning_rate=1e-3, momentum=0.8, clip=0.0, weight_decay=0.1
    )
    assert train(replace(config, optim=optim)) == 0
    assert read_metrics(Path(config.run_dir) / "metrics.jsonl")[-1]["learning_rate"] == 1e-3


def test_init_copies_what_fits_and_lists_the_rest(config, tmp_path, capsys):
    assert train(config) == 0
    same = replace(config, init=config.run_dir, run_dir=str(tmp_path / "fine"), training=replace(config.training, epochs=1))
    same = replace(same, optim=replace(config.optim, learning_rate=1e-12), seed=3)
    assert train(same) == 0
    fine, first = weights(tmp_path / "fine"), weights(Path(config.run_dir))
    assert all(torch.allclose(fine[name], first[name], atol=1e-5) for name in first if "normalizer" not in name)
    capsys.readouterr()
    wider = replace(same, run_dir=str(tmp_path / "wide"), encoder=replace(config.encoder, width=14))
    assert train(wider) == 0
    err = capsys.readouterr().err
    assert "fresh: encoder.layers.0.ahead.weight_in" in err


def test_missing_validation_manifest(tmp_path):
    write_tones(tmp_path / "data", "train", 4, seed=1)
    with pytest.raises(DataError, match=r"valid.jsonl does not exist"):
        train(tiny_config(tmp_path / "data", tmp_path / "run"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run_dir": ""}, "run_dir is not set"),
        ({"data": DataOptions()}, "data.dir is not set"),
        ({"data": DataOptions(dir="/no/such")}, "is not a folder"),
    ],
)
def test_what_is_missing_is_said(config, change, words):
    with pytest.raises(UsageError, match=words):
        train(replace(config, **change))


def test_phones_without_phones_in_the_manifest(config):
    with pytest.raises(DataError, match="phones"):
        train(replace(config, tokens=TokenOptions(unit="phones")))


@pytest.mark.skipif(torch.cuda.is_available(), reason="only without a GPU is asking for one a mistake")
def test_gpu_asked_for_where_there_is_none(config):
    with pytest.raises(UsageError, match="device=cuda"):
        train(replace(config, device="cuda"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("patience", -1),
        ("average", "mean"),
        ("average_decay", 1.0),
        ("precision", "float16"),
        ("checkpoint_minutes", 0.0),
        ("keep", 0),
        ("best_by", "luck"),
        ("weight_noise", -0.1),
        ("weight_noise", float("nan")),
    ],
)
def test_training_options_out_of_range(field, value):
    with pytest.raises(UsageError, match=f"training.{field} must"):
        TrainingOptions(**{field: value})


def test_device_and_seed_out_of_range():
    with pytest.raises(UsageError, match="device must"):
        TrainConfig(device="tpu")
    with pytest.raises(UsageError, match="seed must"):
        TrainConfig(seed=-1)
