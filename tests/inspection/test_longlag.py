"""The long-time-lag tasks: as in the paper, by compiled networks that are the toolkit's own cells, solved by those that can."""

import csv
import io
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from asr.errors import UsageError
from asr.inspection import longlag_kernels as kernels
from asr.inspection.longlag import best_outcomes, look
from asr.inspection.longlag_tasks import TASKS, draw_adding, draw_batches, draw_order
from asr.inspection.longlag_training import (
    CELLS,
    PATIENCE,
    RETURNS,
    Attempt,
    LonglagOptions,
    Trial,
    count_weights,
    fitting_network,
    network,
    run_trials,
    share_right,
    stages,
    start_values,
)
from asr.inspection.page import csv_text
from asr.models.cells import Cell, CellOptions

#: Cells beyond those of the figure: every switch that the kernels have.
OTHERS = {
    "peepholes1997": CellOptions(forget_gate=False, peepholes=True),
    "coupled_peepholes": CellOptions(coupled=True, peepholes=True),
}
EVERY = {**{name: cell for name, (_, cell) in CELLS.items()}, **OTHERS}


def reference(options: CellOptions, net, flat: np.ndarray, x: np.ndarray) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The readout (B, O) by `asr.models.cells` in float64, and the weights it depends on, in the order of the vector."""
    parts = [torch.tensor(part.astype(np.float64), requires_grad=True) for part in kernels.parts_of(net, flat)]
    cell = Cell(x.shape[1], replace(options, width=net.cells)).double()
    for name, part in zip(("weight_in", "weight_rec", "bias", "bias_rec", "peephole"), parts):
        if getattr(cell, name) is not None:
            assert getattr(cell, name).shape == part.shape
            delattr(cell, name)
            setattr(cell, name, part)
    out, _, _ = cell.unroll(torch.tensor(x.astype(np.float64)).permute(2, 0, 1), torch.full((x.shape[2],), len(x)))
    return out[:, -1] @ parts[5].t() + parts[6], parts


def work_space(net, steps: int, batch: int) -> list[np.ndarray]:
    rows = kernels.gates_of(net) * net.cells
    return [
        np.empty((steps + extra, size, batch), np.float32) for extra, size in ((0, rows), *[(1, net.cells)] * 2, (0, net.cells))
    ]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", EVERY)
def test_the_gradient_is_that_of_the_toolkits_cells(name: str, task: str) -> None:
    """And the work space may be longer than the sequence, with the rests of an earlier one in it."""
    draw = np.random.default_rng(3)
    net = network(EVERY[name], 5, TASKS[task])
    flat = draw.uniform(-0.5, 0.5, count_weights(net)).astype(np.float32)
    x, targets = TASKS[task].draw(draw, 10, 6)
    found = np.full_like(flat, np.nan)
    space = work_space(net, len(x) + 3, 6)
    for array in space:
        array[:] = 7.0
    loss = kernels.gradient(net, flat, x, targets, found, *space)
    out, parts = reference(EVERY[name], net, flat, x)
    labels = torch.tensor(targets)
    expected = F.cross_entropy(out, labels.long()) if net.classify else 0.5 * F.mse_loss(out[:, 0], labels.double())
    expected.backward()
    assert loss == pytest.approx(expected.item(), abs=1e-6)
    gradient = np.concatenate([part.grad.numpy().ravel() for part in parts if part.numel()])
    assert np.abs(gradient).max() > 1e-3
    np.testing.assert_allclose(found, gradient, atol=1e-5)
    np.testing.assert_allclose(kernels.outputs(net, flat, x).T, out.detach().numpy(), atol=1e-5)


def test_the_updates_are_adams() -> None:
    net = network(CELLS["lstm"][1], 4, TASKS["adding"])
    flat = start_values(net, gate_bias=1.0, seed=1)
    given = draw_batches(TASKS["adding"], 10, batches=5, batch=3, seed=(1,))
    weights = torch.tensor(flat.astype(np.float64), requires_grad=True)
    adam = torch.optim.Adam([weights], lr=0.02)
    for x, steps, targets in zip(given.x, given.lengths, given.targets):
        found = np.empty_like(flat)
        kernels.gradient(net, weights.detach().numpy().astype(np.float32), x[:steps], targets, found, *work_space(net, steps, 3))
        weights.grad = torch.tensor(found.astype(np.float64))
        torch.nn.utils.clip_grad_norm_([weights], 0.05)
        adam.step()
    mean, square = np.zeros_like(flat), np.zeros_like(flat)
    rate, clip = np.float32(0.02), np.float32(0.05)
    for begin, end in ((0, 2), (2, 5)):  # in two pieces, as in one
        kernels.train(
            net, flat, mean, square, begin, given.x[begin:end], given.lengths[begin:end], given.targets[begin:end], rate, clip
        )
    np.testing.assert_allclose(flat, weights.detach().numpy(), atol=2e-5)


def test_a_gradient_that_is_not_finite_teaches_nothing() -> None:
    net = network(CELLS["rnn_relu"][1], 4, TASKS["adding"])
    flat = start_values(net, gate_bias=0.0, seed=1)
    before = flat.copy()
    x = np.full((1, 5, 2, 3), np.nan, np.float32)
    given = (x, np.array([5]), np.zeros((1, 3), np.float32))
    kernels.train(net, flat, np.zeros_like(flat), np.zeros_like(flat), 0, *given, np.float32(0.1), np.float32(1.0))
    assert np.array_equal(flat, before)


def test_adding_is_the_task_of_1997() -> None:
    lengths, seconds = set(), set()
    for seed in range(60):
        x, targets = draw_adding(np.random.default_rng(seed), 50, 7)
        steps = len(x)
        lengths.add(steps)
        for b in range(7):
            marked = np.flatnonzero(x[:, 1, b] == 1)
            assert len(marked) == 2
            assert marked[0] < 10 or marked[1] < 10
            assert steps - 1 - marked[-1] >= 50, "the lag is at least what was asked for"
            assert targets[b] == pytest.approx(0.5 + x[marked, 0, b].sum() / 4)
            edges = {0, steps - 1} - set(marked)
            assert all(x[edge, 1, b] == -1 for edge in edges)
            assert 0 not in marked or x[0, 0, b] == 0
            assert set(np.flatnonzero(x[:, 1, b])) == edges | set(marked)
            seconds.add(marked[-1])
        assert np.abs(x[:, 0]).max() <= 1
    assert min(lengths) >= 100
    assert max(lengths) <= 110
    assert len(lengths) > 8
    assert max(seconds) > 44, "late marks must occur"


@pytest.mark.parametrize("lag", [3, 4, 6, 9])
@pytest.mark.parametrize("name", TASKS)
def test_short_lags_are_the_same_tasks(name: str, lag: int) -> None:
    """What counts lies at least the lag before the end, at two different steps, and the target is told by it."""
    for seed in range(40):
        x, targets = TASKS[name].draw(np.random.default_rng(seed), lag, 6)
        for b in range(6):
            marked = np.flatnonzero(x[:, 1, b] == 1) if name == "adding" else np.flatnonzero(x[:, 6:, b].any(axis=1))
            assert len(marked) == 2
            assert len(x) - 1 - marked[-1] >= lag
            if name == "adding":
                assert targets[b] == pytest.approx(0.5 + x[marked, 0, b].sum() / 4)
            else:
                assert targets[b] == 2 * x[marked[0], 7, b] + x[marked[1], 7, b]


def test_temporal_order_is_the_task_of_1997() -> None:
    """Lag 40 is the paper's: X or Y at 10 to 20 and 50 to 60, the end at 100 to 110, counted from 0."""
    lengths, times, classes = set(), [set(), set()], set()
    for seed in range(60):
        x, targets = draw_order(np.random.default_rng(seed), 40, 5)
        lengths.add(len(x))
        assert (x.sum(axis=1) == 1).all()
        symbols = x.argmax(axis=1)
        assert (symbols[0] == 0).all()
        assert (symbols[-1] == 5).all()
        for b in range(5):
            told = np.flatnonzero(symbols[:, b] >= 6)
            assert len(told) == 2
            for place, time in zip(times, told):
                place.add(int(time))
            first, second = symbols[told, b] - 6
            assert targets[b] == 2 * first + second
            classes.add(int(targets[b]))
            rest = np.delete(symbols[1:-1, b], told - 1)
            assert rest.min() >= 1
            assert rest.max() <= 4
    assert (min(lengths), max(lengths)) == (101, 111)
    assert [(min(place), max(place)) for place in times] == [(10, 20), (50, 60)]
    assert classes == {0, 1, 2, 3}
    for seed in range(20):
        symbols = draw_order(np.random.default_rng(seed), 25, 5)[0].argmax(axis=1)
        assert len(symbols) - 1 - np.flatnonzero((symbols >= 6).any(axis=1)).max() >= 25


def test_chance_is_what_a_constant_answer_gets() -> None:
    """The answer that is best without looking: the mean of the sum, and any class."""
    for name, task in TASKS.items():
        net = fitting_network(CELLS["rnn"][1], task, 100)
        flat = np.zeros(count_weights(net), np.float32)
        kernels.parts_of(net, flat)[6][0] = 0.5
        sequences = draw_batches(task, 10, batches=200, batch=32, seed=(5,))
        assert share_right(net, flat, sequences) == pytest.approx(task.chance, abs=0.015), name


@pytest.mark.parametrize("name", CELLS)
def test_start_values_are_uniform_and_gates_begin_by_keeping(name: str) -> None:
    net = fitting_network(CELLS[name][1], TASKS["adding"], 400)
    assert 330 <= count_weights(net) <= 400
    plain, opened = (start_values(net, gate_bias=bias, seed=2) for bias in (0.0, 5.0))
    assert np.abs(plain).max() <= 0.1
    assert np.abs(plain).max() > 0.099
    assert abs(plain.mean()) < 0.01
    moved = (opened - plain).reshape(-1)
    bias = kernels.parts_of(net, moved)[2].reshape(-1, net.cells).mean(axis=1)
    options = replace(CELLS[name][1], width=net.cells)
    expected = {"input": -5.0 * (options.cell == "lstm"), "forget": 5.0, "update": 5.0}
    np.testing.assert_allclose(bias, [expected.get(gate, 0.0) for gate in options.gates], atol=1e-5)
    assert np.count_nonzero(moved) == np.count_nonzero(np.abs(bias) > 1) * net.cells


SMALL = LonglagOptions(
    tasks=["order"],
    lags=[10],
    cells=["rnn", "lstm1997"],
    learning_rates=[0.003, 0.03],
    growing=False,
    gate_bias=5.0,
    seeds=2,
    updates=350,
    weights=300,
)


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return run_trials(SMALL)


def test_the_lstm_solves_what_the_plain_network_does_not(trials: list[Trial]) -> None:
    assert len(trials) == 8
    plain, memory = best_outcomes(trials)
    assert (plain.cell, memory.cell) == ("rnn", "lstm1997")
    assert (plain.solved, memory.solved) == (0, 2)
    assert plain.right < 0.6
    assert memory.right >= 0.99
    assert memory.sequences is not None
    assert memory.sequences <= 350 * 16
    assert plain.sequences is None


def test_a_solved_network_stops_its_cells_other_rates_and_no_other_cell(trials: list[Trial]) -> None:
    assert {trial.outcome for trial in trials if trial.cell == "rnn"} == {"not solved"}
    assert {trial.sequences for trial in trials if trial.cell == "rnn"} == {350 * 16}
    outcomes = {trial.learning_rate: trial.outcome for trial in trials if trial.cell == "lstm1997"}
    assert outcomes == {0.03: "solved", 0.003: "stopped"}
    last = max(trial.sequences for trial in trials if trial.solved)
    assert {trial.sequences for trial in trials if trial.outcome == "stopped"} == {last}
    for trial in trials:
        assert [seen for seen, *_ in trial.curve] == [*range(1600, trial.sequences, 1600), trial.sequences]
        assert {lag for _, lag, _ in trial.curve} == {10}
        assert 0 < trial.right <= 1


# --- a lag that grows


def test_the_lag_grows_by_half_up_to_the_one_asked_for() -> None:
    assert stages(100, True) == [3, 5, 8, 12, 19, 29, 44, 66, 100]
    assert stages(4, True) == [4]
    assert stages(100, False) == [100]
    for lag in range(5, 300):
        assert all(1.4 <= after / before <= 1.8 for before, after in pairwise(stages(lag, True)))


GROWING = LonglagOptions(tasks=["order"], lags=[40], cells=["rnn", "lstm"], learning_rates=[0.03], seeds=1, updates=4000)


@pytest.fixture(scope="module")
def grown() -> dict[str, Trial]:
    return {trial.cell: trial for trial in run_trials(GROWING)}


def test_from_plain_start_values_a_forget_gate_learns_to_keep_and_the_plain_network_does_not(grown: dict[str, Trial]) -> None:
    """Every weight within +-0.1, gates too."""
    assert GROWING.gate_bias == 0
    plain, memory = grown["rnn"], grown["lstm"]
    assert memory.solved
    assert memory.reached == 40
    assert not plain.solved
    assert plain.reached < 20
    assert plain.right < 0.5
    assert [lag for _, lag, _ in memory.curve] == sorted(lag for _, lag, _ in memory.curve), "it never had to go back"
    for trial in (plain, memory):
        lags, way = [lag for _, lag, _ in trial.curve], stages(40, True)
        for place, (lag, after) in enumerate(pairwise(lags), start=1):
            if after < lag:
                assert after == way[way.index(lag) - 1], "to the lag before, and to no other"
                assert set(lags[place - PATIENCE * (1 + RETURNS) : place]) == {lag}, "and not until it has long been stuck"
        assert set(lags) <= set(stages(40, True))
        for (_, lag, right), (_, after, _) in pairwise(trial.curve):
            assert (after > lag) == (right >= 0.9 and lag < 40), "the lag grows when, and only when, it has been learnt"
        assert trial.reached == max((lag for _, lag, right in trial.curve if right >= 0.9), default=0)


@pytest.mark.parametrize("growing", [True, False])
def test_a_stuck_network_goes_back_to_where_its_lag_began_and_learns_half_as_fast(growing: bool, monkeypatch) -> None:
    shares = iter([0.95, 0.3, 0.4, *[0.4] * PATIENCE])
    monkeypatch.setattr("asr.inspection.longlag_training.share_right", lambda *_: next(shares))
    attempt = Attempt(LonglagOptions(out="look", weights=100, growing=growing), "adding", 10, "lstm", 0.01, 1)
    given = draw_batches(TASKS["adding"], 3, batches=2, batch=4, seed=(1,))
    attempt.advance(given, given)
    begun = attempt.flat.copy()
    for _ in range(PATIENCE + 1):
        attempt.advance(given, given)
        assert (attempt.flat != begun).any(), "a better look, the second one, starts the count again"
        assert attempt.rate == 0.01
    attempt.advance(given, given)
    assert (attempt.flat == begun).all() == growing
    assert attempt.rate == (0.005 if growing else 0.01)
    assert attempt.learning_rate == 0.01, "what the table names"


def test_a_network_that_stays_stuck_goes_back_to_the_lag_before_at_full_speed(monkeypatch) -> None:
    shares = iter([0.95, *[0.4] * (1 + PATIENCE), *[0.4] * (1 + PATIENCE)])
    monkeypatch.setattr("asr.inspection.longlag_training.share_right", lambda *_: next(shares))
    attempt = Attempt(LonglagOptions(out="look", weights=100), "adding", 10, "lstm", 0.01, 1)
    start = attempt.flat.copy()
    given = draw_batches(TASKS["adding"], 3, batches=2, batch=4, seed=(1,))
    attempt.advance(given, given)
    assert attempt.current == stages(10, True)[1]
    for _ in range(2 * (1 + PATIENCE)):
        attempt.advance(given, given)
    assert attempt.current == stages(10, True)[0]
    assert (attempt.flat == start).all()
    assert attempt.rate == 0.01
    assert attempt.reached == stages(10, True)[0]


def test_one_batch_of_four_has_a_lag_that_was_learnt_before() -> None:
    plain = draw_batches(TASKS["order"], 100, batches=12, batch=2, seed=(1,))
    mixed = draw_batches(TASKS["order"], 100, batches=12, batch=2, seed=(1,), earlier=[5, 30])
    assert plain.lengths.min() > 250
    assert (mixed.lengths > 250).tolist() == 3 * [True, True, True, False]
    short = mixed.lengths[3::4]
    assert (short < [20, 90, 20]).all()
    assert short[1] > 70, "in turn"


def test_at_the_whole_lag_from_the_start_it_learns_nothing() -> None:
    (trial,) = run_trials(replace(GROWING, cells=["lstm"], growing=False, updates=600))
    assert trial.reached == 0
    assert trial.right < 0.4
    assert {lag for _, lag, _ in trial.curve} == {40}


@pytest.mark.parametrize(
    "changes",
    [{"batch": 8}, {"clip": 0.01}, {"weights": 200}, {"gate_bias": 1.0}, {"growing": False}, {"learning_rates": [0.02]}],
)
def test_every_option_of_the_training_changes_it(changes: dict) -> None:
    small = LonglagOptions(tasks=["adding"], lags=[20], cells=["peepholes"], learning_rates=[0.03], seeds=1, updates=100)
    one, other = (run_trials(options)[0].curve[0] for options in (small, replace(small, **changes)))
    assert one != other
    assert run_trials(small)[0].curve[0] == one


def test_the_picture_shows_how_the_lag_grows(grown: dict[str, Trial], monkeypatch) -> None:
    monkeypatch.setattr("asr.inspection.longlag.run_trials", lambda options, progress: list(grown.values()))
    report = look(GROWING, [], lambda text: None)
    assert report.pictures[0].png.startswith(b"\x89PNG")
    assert "how the lag grows" in report.pictures[0].caption
    (table, _) = (list(csv.DictReader(io.StringIO(csv_text(each)))) for each in report.tables)
    assert [float(row["longest lag learnt (median)"]) for row in table] == [grown["rnn"].reached, 40]
    assert f"came to lag {grown['rnn'].reached}" in report.summary
    facts = dict(report.facts)
    assert facts["start values"] == "all weights uniform in +-0.1"
    assert facts["lag"] == "grows from 3 to the lag asked for"


def test_threads_change_no_number(trials: list[Trial]) -> None:
    again = run_trials(replace(SMALL, threads=1))
    assert [replace(trial, seconds=0.0) for trial in again] == [replace(trial, seconds=0.0) for trial in trials]


TRAIN_ONE = """
import hashlib
from asr.inspection.longlag_tasks import TASKS, draw_batches
from asr.inspection.longlag_training import Attempt, LonglagOptions

attempt = Attempt(LonglagOptions(out="look"), "order", 10, "lstm", 0.03, 1)
given = draw_batches(TASKS["order"], 10, batches=100, batch=16, seed=(1,))
attempt.advance(given, given)
print(hashlib.sha256(attempt.flat.tobytes()).hexdigest())
"""


def test_code_compiled_now_and_code_from_the_cache_give_the_same_numbers(tmp_path) -> None:
    """Fast arithmetic would not: what the compiler makes of it depends on what it has compiled before."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    fresh, cached = (
        subprocess.run([sys.executable, "-c", TRAIN_ONE], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert len(fresh.strip()) == 64
    assert fresh == cached
    assert list((tmp_path / "cache").rglob("*.nbc")), "nothing was cached, so nothing was tested"


def test_the_best_rate_solves_most_then_comes_furthest_then_is_right_most_often_then_is_quickest() -> None:
    one = Trial("adding", 10, "gru", 0.1, 1, 400, 9, "solved", 800, 0.995, 10, ((800, 10, 1.0),), 1.0)
    slow, quick = replace(one, learning_rate=0.2, sequences=900), replace(one, learning_rate=0.3, sequences=700)
    failed = replace(one, learning_rate=0.4, outcome="not solved", right=0.4, reached=4)
    worse = replace(failed, learning_rate=0.5, right=0.3)
    further = replace(worse, learning_rate=0.6, reached=6)
    assert best_outcomes([failed, slow, quick, one])[0].trials == (quick,)
    assert best_outcomes([worse, failed])[0].trials == (failed,)
    assert best_outcomes([worse, failed, further])[0].trials == (further,)
    assert best_outcomes([further])[0].reached == 6
    both = best_outcomes([replace(quick, seed=2), failed, replace(failed, seed=2), quick])[0]
    assert both.solved == 2
    assert both.sequences == 700


def test_the_report_holds_the_table_the_curve_and_the_numbers(trials: list[Trial], monkeypatch, capsys) -> None:
    monkeypatch.setattr("asr.inspection.longlag.run_trials", lambda options, progress: trials)
    said: list[str] = []
    report = look(SMALL, [], said.append)
    assert said
    assert [picture.name for picture in report.pictures] == ["longlag"]
    assert report.pictures[0].png.startswith(b"\x89PNG")
    table, every = (list(csv.DictReader(io.StringIO(csv_text(each)))) for each in report.tables)
    assert [row["seeds that solve it"] for row in table] == ["0 of 2", "2 of 2"]
    assert float(table[1]["right, %"]) >= 99
    assert len(every) == 8
    assert "LSTM of 1997" in report.summary
    assert "solved by 2 of 2 seeds" in report.summary
    assert any("5 added to the bias of forget gates" in value for _, value in report.facts)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("tasks", [], "tasks must be one or more of adding, order"),
        ("tasks", ["adding", "multiplying"], "tasks must be"),
        ("cells", ["lstm", "lstm"], "cells must be one or more of rnn"),
        ("lags", [2], "lags must be different numbers from 3"),
        ("learning_rates", [0.0], "learning_rates must be different numbers"),
        ("seeds", 0, "seeds=0 is out of range"),
        ("weights", 10, "weights=10 is out of range"),
        ("updates", 50, "updates=50 is out of range"),
        ("batch", 0, "batch=0 is out of range"),
        ("threads", -1, "threads=-1 is out of range"),
        ("gate_bias", float("nan"), "gate_bias=nan is out of range"),
        ("clip", 0.0, "clip=0.0 is out of range"),
    ],
)
def test_options_out_of_range_are_named(field: str, value: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LonglagOptions(**{field: value})
