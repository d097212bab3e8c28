"""The lattice of CTC against all its paths, its error signal against torch's gradient, and the stages of a training."""

import json
import re
from itertools import groupby, product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from asr.errors import DataError, ModelError, UsageError
from asr.inspection.ctc import look
from asr.inspection.ctc_course import CtcOptions, spread, stage_of, train_toy
from asr.inspection.source import load_network
from asr.models.package import load_model
from asr.training.checkpoint import save_checkpoint
from tests.inspection.networks import column, network, quiet, recording, saved

TARGETS = [(1, 2), (1, 1), (2,), (1, 2, 1), ()]
FRAMES = 5


def random_log_probs(frames: int = FRAMES, symbols: int = 3, seed: int = 0) -> np.ndarray:
    logits = 2 * np.random.default_rng(seed).standard_normal((frames, symbols))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def walks(target: tuple[int, ...], frames: int) -> list[tuple[int, ...]]:
    """Every way through the states 0 .. 2U of the target with blanks around its tokens, by its definition: a sequence of symbols
    that collapses to the target, each frame's symbol told apart by how far the reading has come.
    """
    found = []
    for path in product(range(3), repeat=frames):
        if tuple(key for key, _ in groupby(path) if key) != target:
            continue
        states, read = [], 0
        for t, symbol in enumerate(path):
            read += symbol != 0 and (t == 0 or path[t - 1] != symbol)
            states.append(2 * read - 1 if symbol else 2 * read)
        found.append(tuple(states))
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_occupancies_and_moves_are_shares_of_all_paths(target):
    log_probs = random_log_probs()
    stage = stage_of("x", log_probs, target)
    symbols = [0] + [each for token in target for each in (token, 0)]
    paths = walks(target, FRAMES)
    weights = [np.exp(sum(log_probs[t, symbols[state]] for t, state in enumerate(path))) for path in paths]
    total = sum(weights)
    assert len(paths) > 0
    assert stage.loss == pytest.approx(-np.log(total))
    states, moves = np.zeros((FRAMES, len(symbols))), np.zeros((FRAMES - 1, len(symbols), 3))
    occupancies = np.zeros((FRAMES, 3))
    for path, weight in zip(paths, weights):
        for t, state in enumerate(path):
            states[t, state] += weight / total
            occupancies[t, symbols[state]] += weight / total
            if t + 1 < FRAMES:
                moves[t, state, path[t + 1] - state] += weight / total
    np.testing.assert_allclose(stage.states, states, atol=1e-12)
    np.testing.assert_allclose(stage.occupancies, occupancies, atol=1e-12)
    np.testing.assert_allclose(stage.moves, moves, atol=1e-12)
    np.testing.assert_allclose(stage.outputs, np.exp(log_probs))


def torch_loss(logits: torch.Tensor, target: tuple[int, ...]) -> torch.Tensor:
    sizes = torch.tensor([len(logits)]), torch.tensor([len(target)])
    return F.ctc_loss(logits.log_softmax(dim=1)[:, None], torch.tensor([target]), *sizes, reduction="sum")


@pytest.mark.parametrize("target", TARGETS[:4])
def test_the_error_signal_is_minus_the_gradient_at_the_softmax(target):
    logits = torch.from_numpy(random_log_probs(seed=3)).requires_grad_()
    loss = torch_loss(logits, target)
    loss.backward()
    stage = stage_of("x", logits.log_softmax(dim=1).detach().numpy(), target)
    assert stage.loss == pytest.approx(loss.item())
    assert float(logits.grad.abs().max()) > 0.1
    np.testing.assert_allclose(stage.error, -logits.grad.numpy(), atol=1e-12)


def test_the_toy_goes_down_the_gradient():
    course = train_toy((1, 2), frames=6, vocabulary=3, steps=4, learning_rate=0.3, seed=5)
    assert course.shape == (5, 6, 3)
    logits = torch.from_numpy(0.1 * np.random.default_rng(5).standard_normal((6, 3)))
    for step in range(5):
        logits = logits.detach()
        np.testing.assert_allclose(course[step], logits.log_softmax(dim=1).numpy(), atol=1e-12)
        logits.requires_grad_()
        torch_loss(logits, (1, 2)).backward()
        logits = logits - 0.3 * logits.grad


def test_stages_are_spread_over_the_roots_of_the_losses():
    assert spread([16.0, 9.0, 4.0, 1.0, 0.0], 5) == [0, 1, 2, 3, 4]
    assert spread([100.0, 25.0, 16.0, 9.0, 0.0], 3) == [0, 1, 4]
    assert spread([100.0, 99.0, 98.0, 0.0, 0.0], 3) == [0, 2, 4] or spread([100.0, 99.0, 98.0, 0.0, 0.0], 3) == [0, 3, 4]
    assert spread([5.0, 5.0, 5.0], 6) == [0, 1, 2]
    assert spread([5.0], 3) == [0]


def test_the_report_of_a_toy():
    report = look(CtcOptions(out="x", target="aba", frames=12, steps=60, stages=4, learning_rate=1.0, seed=2), [], quiet)
    stages, signals, lattice = report.tables
    losses = column(stages, "loss, nats").astype(float)
    assert len(losses) == 4
    assert (np.diff(losses) < 0).all()
    assert column(stages, "best path reads")[-1] == "aba"
    assert [picture.name for picture in report.pictures] == ["ctc", "lattice"]
    assert all(picture.png.startswith(b"\x89PNG") for picture in report.pictures)
    course = train_toy((1, 2, 1), frames=12, vocabulary=3, steps=60, learning_rate=1.0, seed=2)
    for name, loss in zip(column(stages, "stage"), losses):
        step = 0 if name == "before training" else int(re.fullmatch(r"after (\d+) steps", name)[1])
        stage = stage_of(name, course[step], (1, 2, 1))
        assert stage.loss == pytest.approx(loss)
        rows = [row for row in signals.rows if row[0] == name]
        assert len(rows) == 12 * 3
        for _, frame, _, symbol, output, occupancy, error in rows:
            token = ["blank", "a", "b"].index(symbol)
            expected = (stage.outputs[frame - 1, token], stage.occupancies[frame - 1, token], stage.error[frame - 1, token])
            assert (output, occupancy, error) == pytest.approx(expected, abs=1e-12)
        rows = [row for row in lattice.rows if row[0] == name]
        np.testing.assert_allclose(np.reshape([row[5] for row in rows], (12, 7)), stage.states, atol=1e-12)
    assert [row[4] for row in lattice.rows[:7]] == ["blank", "a", "blank", "b", "blank", "a", "blank"]


def tensors_of(loaded) -> dict[str, dict[str, torch.Tensor]]:
    """What a checkpoint holds; no optimiser has been at work."""
    return {"model": dict(loaded.model.state_dict()), "optimizer": {}, "average": {}}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A run with a seed, two checkpoints on the way, and a last model; and a recording with a manifest."""
    folder = tmp_path_factory.mktemp("course")
    sound = recording(folder)
    networks = {step: network(seed=3) for step in (10, 20, 30)}
    with torch.no_grad():
        for step, loaded in networks.items():
            loaded.model.head.linear.bias[2] += step / 5
    run = saved(networks[30], folder / "run", seed=3, step=30)
    for step in (10, 20):
        save_checkpoint(run, step, tensors_of(networks[step]), {"step": step}, keep=9)
    line = {"id": "u1", "audio_filepath": sound.audio_filepath, "duration": 0.8, "text": "ab"}
    (folder / "test.jsonl").write_text(json.dumps(line) + "\n")
    return folder, networks


def model_log_probs(loaded, folder) -> np.ndarray:
    import soundfile

    samples, _ = soundfile.read(folder / "tones3.wav", dtype="float32")
    with torch.no_grad():
        said = loaded.model(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
    return said.log_probs[0].double().numpy()


def test_the_stages_of_a_run_are_its_checkpoints(course):
    folder, networks = course
    said: list[str] = []
    options = CtcOptions(out="x", model=str(folder / "run"), manifest=str(folder / "test.jsonl"), stages=4)
    report = look(options, [], said.append)
    names = list(column(report.tables[0], "stage"))
    assert names == ["before training", "after 10 steps", "after 20 steps", "after 30 steps, the best model"]
    losses = dict(zip(names, column(report.tables[0], "loss, nats").astype(float)))
    target = networks[30].tokenizer.encode("ab")
    for step, name in zip((10, 20, 30), names[1:]):
        log_probs = torch.from_numpy(model_log_probs(networks[step], folder))
        assert losses[name] == pytest.approx(float(torch_loss(log_probs, tuple(target))), abs=1e-3)
    assert said == [f"{folder / 'run'} has kept 2 checkpoints; training.keep=20 would keep more stages"]
    assert dict(report.facts)["target"] == "ab"


def test_networks_may_be_stages_and_a_window_cuts_the_picture_alone(course):
    folder, _ = course
    (first, _) = sorted((folder / "run" / "checkpoints").iterdir())
    models, name = [str(first), str(folder / "run")], first.name
    whole, cut = (
        look(CtcOptions(out="x", models=models, target="ba", **window), [str(folder / "tones3.wav")], quiet)
        for window in ({}, {"begin": 0.2, "end": 0.4})
    )
    assert list(column(whole.tables[0], "stage")) == [name, "run"]
    assert list(column(cut.tables[0], "loss, nats")) == list(column(whole.tables[0], "loss, nats"))
    times = np.unique(column(cut.tables[2], "time_s").astype(float))
    assert times.min() >= 0.2
    assert times.max() <= 0.4
    inside = [row[1:] for row in whole.tables[2].rows if 0.2 <= row[2] <= 0.4]
    assert [row[2:] for row in cut.tables[2].rows] == [row[1:] for row in inside]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "a", "models": ["b"]},
            r"model= \(the stages of one training\) and models= \(one stage each\) are given together",
        ),
        ({"stages": 1}, "stages=1 is out of range: use a whole number from 2 to 6"),
        ({"frames": 201}, "frames=201 is out of range"),
        ({"steps": 0}, "steps=0 is out of range"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 is out of range: use a number above 0"),
        ({"begin": 0.5}, "begin= and end= choose a part of a recording, and the toy has none"),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(UsageError, match=message):
        CtcOptions(out="x", **changes)


@pytest.mark.parametrize("changes", [{"frames": 9}, {"steps": 9}, {"learning_rate": 0.9}, {"seed": 9}, {"stages": 2}])
def test_what_nothing_would_read_is_refused(changes):
    (name,) = changes
    reason = "models= gives the stages one by one" if name == "stages" else "it belongs to the toy, while a network is given"
    with pytest.raises(UsageError, match=f"{name}= is set, and {reason}: leave it out"):
        look(CtcOptions(out="x", models=["a"], **changes), ["a.wav"], quiet)


def test_targets_that_cannot_be_are_named(course):
    folder, _ = course
    sound = str(folder / "tones3.wav")
    with pytest.raises(UsageError, match="frames=3 are too few for target=aab: it needs 4"):
        look(CtcOptions(out="x", target="aab", frames=3), [], quiet)
    with pytest.raises(UsageError, match=r"nobody wrote down what is said in .*tones3.wav: add target=TEXT"):
        look(CtcOptions(out="x", model=str(folder / "run")), [sound], quiet)
    with pytest.raises(DataError, match=r"tones3.wav: has 40 frames, its target needs 99; give a shorter target="):
        look(CtcOptions(out="x", model=str(folder / "run"), target="a" * 50), [sound], quiet)
    with pytest.raises(UsageError, match="a recording needs a network to hear it: add model=DIR or models="):
        look(CtcOptions(out="x"), [sound], quiet)
    other = saved(network(subsampling=4), folder / "other")
    with pytest.raises(UsageError, match="models= with other symbols or frame rates cannot be stages of one picture"):
        look(CtcOptions(out="x", models=[str(folder / "run"), str(other)], target="a"), [sound], quiet)


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    run = saved(network(), tmp_path / "run")
    save_checkpoint(run, 7, tensors_of(network(width=9)), {"step": 7}, keep=1)
    (checkpoint,) = (run / "checkpoints").iterdir()
    with pytest.raises(ModelError, match="is damaged, or does not belong to the model of its run"):
        load_network(str(checkpoint))
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model.safetensors"):
        load_network(str(checkpoint))
    assert load_model(run).model.vocabulary == 5
