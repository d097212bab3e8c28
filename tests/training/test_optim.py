"""Schedules, parameter groups and averages of weights."""

import math

import pytest
import torch

from asr.errors import UsageError
from asr.training.optim import LastAverage, NoAverage, OptimOptions, RunningAverage, build_optimizer, learning_rate


def test_schedule_rises_then_falls_along_a_cosine():
    options = OptimOptions(learning_rate=1.0, final_learning_rate=0.1, warmup_steps=10)
    assert learning_rate(0, 0.0, options) == pytest.approx(0.1)
    assert learning_rate(4, 0.0, options) == pytest.approx(0.5)
    assert learning_rate(100, 0.0, options) == pytest.approx(1.0)
    assert learning_rate(100, 0.5, options) == pytest.approx(0.55)
    assert learning_rate(100, 0.25, options) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert learning_rate(100, 1.0, options) == pytest.approx(0.1)


def test_constant_schedule_only_warms_up():
    options = OptimOptions(learning_rate=0.5, schedule="constant", warmup_steps=2)
    assert [learning_rate(step, step / 4, options) for step in range(4)] == [0.25, 0.5, 0.5, 0.5]


def test_only_matrices_decay():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    decayed, kept = build_optimizer(model, OptimOptions(weight_decay=0.3)).param_groups
    assert [weight.ndim for weight in decayed["params"]] == [2]
    assert [weight.ndim for weight in kept["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)


@pytest.mark.parametrize(("kind", "expected"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_chosen_optimizer(kind, expected):
    optimizer = build_optimizer(torch.nn.Linear(2, 2), OptimOptions(optimizer=kind, momentum=0.7, betas=[0.8, 0.9]))
    assert type(optimizer) is expected
    group = optimizer.param_groups[0]
    assert (group["momentum"] == 0.7) if kind == "sgd" else (tuple(group["betas"]) == (0.8, 0.9))


def set_weight(model: torch.nn.Module, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def test_running_average_follows_its_formula_and_survives_a_round_trip():
    model = torch.nn.Linear(1, 1, bias=False)
    set_weight(model, 0.0)
    average = RunningAverage(model, 0.5)
    expected = 0.0
    for step, value in enumerate((1.0, 2.0, 4.0), start=1):
        set_weight(model, value)
        average.after_step(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.weights()["weight"].item() == pytest.approx(expected)
    other = RunningAverage(torch.nn.Linear(1, 1, bias=False), 0.5)
    other.load_state(average.state())
    assert other.weights()["weight"].item() == pytest.approx(expected)


def test_last_average_is_the_mean_of_the_last_epochs():
    model = torch.nn.Linear(1, 1, bias=False)
    average = LastAverage(model, 2)
    set_weight(model, 7.0)
    assert average.weights()["weight"].item() == 7.0
    for value in (1.0, 2.0, 4.0):
        set_weight(model, value)
        average.after_epoch()
    assert average.weights()["weight"].item() == 3.0
    other = LastAverage(model, 2)
    other.load_state(average.state())
    assert other.weights()["weight"].item() == 3.0


def test_no_average_is_the_live_model():
    model = torch.nn.Linear(1, 1, bias=False)
    average = NoAverage(model)
    set_weight(model, 5.0)
    assert average.weights()["weight"].item() == 5.0
    assert average.state() == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", "adam"),
        ("schedule", "linear"),
        ("learning_rate", 0.0),
        ("final_learning_rate", -1.0),
        ("warmup_steps", -1),
        ("weight_decay", -0.1),
        ("momentum", -0.1),
        ("clip", -1.0),
        ("betas", [0.9]),
    ],
)
def test_options_out_of_range_are_named(field, value):
    with pytest.raises(UsageError, match=f"optim.{field} must"):
        OptimOptions(**{field: value})
