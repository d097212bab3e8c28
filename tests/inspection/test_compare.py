"""Trainings side by side: what two real tiny trainings wrote, means over seeds, pooled intervals, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.cli.decode import main as decode
from asr.cli.score import main as score
from asr.errors import DataError, ModelError, UsageError
from asr.inspection.compare import CompareOptions, group_runs, look, markdown, mean_curve, read_run
from asr.inspection.source import describe_encoder
from asr.models.encoder import EncoderOptions
from asr.models.package import load_model
from asr.training.options import TrainingOptions
from asr.training.train import train
from tests.inspection.networks import column, network, quiet, saved
from tests.training.tones import tiny_config, write_tones


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """`lstm/seed1`, `lstm/seed2` and `rnn`, trained for two epochs, decoded and scored with the commands."""
    folder = tmp_path_factory.mktemp("trained")
    for part, count, seed in (("train", 24, 1), ("valid", 6, 2), ("test", 12, 3)):
        write_tones(folder / "data", part, count, seed=seed, speakers=3)
    shape = EncoderOptions(conv_channels=4, layers=1, width=12, dropout=0.1)
    training = TrainingOptions(epochs=2, precision="float32", threads=1, average_decay=0.5)
    for name, seed, cell in (("lstm/seed1", 1, "lstm"), ("lstm/seed2", 2, "lstm"), ("rnn", 1, "rnn")):
        run = folder / name
        config = tiny_config(folder / "data", run, encoder=replace(shape, cell=cell), training=training, seed=seed)
        assert train(config) == 0
        hyp = str(run / "test.hyp.jsonl")
        manifest = str(folder / "data" / "test.jsonl")
        assert decode([f"model={run}", f"manifest={manifest}", f"out={hyp}"]) == 0
        assert score([f"ref={manifest}", f"hyp={hyp}", "unit=char", f"out={run / 'score'}"]) == 0
    return folder


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture
def runs(trained, tmp_path) -> Path:
    shutil.copytree(trained, tmp_path / "runs")
    return tmp_path / "runs"


def names(folder: Path) -> list[str]:
    return [str(folder / name) for name in ("lstm/seed1", "lstm/seed2", "rnn")]


def test_a_run_is_read_as_it_was_written(trained):
    for path in names(trained):
        run = read_run(path)
        lines = [json.loads(line) for line in (Path(path) / "metrics.jsonl").read_text().splitlines()]
        best = min(lines, key=lambda line: (line["error_rate"], line["valid_loss"]))
        assert (run.epochs, run.best_epoch, run.finished) == (2, best["epoch"], True)
        assert run.weights == sum(weight.numel() for weight in load_model(path).model.parameters())
        assert run.error_rate == json.loads((Path(path) / "score" / "score.json").read_text())["error_rate"]
        assert run.score["reference_tokens"] > 20
        assert 0 < run.seconds < 600
    assert [read_run(path).seed for path in names(trained)] == [1, 2, 1]
    assert read_run(str(trained / "rnn")).network == "rnn (tanh), 1 x 12, bidirectional"


def test_seeds_are_taken_together_under_the_folder_above(trained):
    lstm, rnn = group_runs([read_run(path) for path in names(trained)])
    assert [(station.name, len(station.runs)) for station in (lstm, rnn)] == [("lstm", 2), ("rnn", 1)]
    rates = [run.error_rate for run in lstm.runs]
    assert lstm.error_rate == pytest.approx(sum(rates) / 2)
    epochs, errors = mean_curve(lstm)
    tables = [[line["error_rate"] for line in run.metrics] for run in lstm.runs]
    assert epochs == [1, 2]
    assert errors == pytest.approx([50 * (a + b) for a, b in zip(*tables)])
    assert rnn.error_rate == rnn.runs[0].error_rate
    assert rnn.interval == tuple(rnn.runs[0].score["interval"])


def test_the_interval_over_seeds_draws_speakers_with_all_their_seeds(runs):
    """A bootstrap by hand: whole speakers, their counts added up over the seeds."""
    station = group_runs([read_run(path) for path in names(runs)[:2]])[0]
    counts: dict[str, np.ndarray] = {}
    for run in station.runs:
        for entry in run.score["speakers"]:
            errors = entry["substitutions"] + entry["deletions"] + entry["insertions"]
            counts[entry["speaker"]] = counts.get(entry["speaker"], 0) + np.array([errors, entry["reference_tokens"]])
    table = np.array([counts[name] for name in sorted(counts)])
    assert len(table) == 3
    drawn = table[np.random.default_rng(5).integers(0, 3, (20000, 3))].sum(axis=1)
    expected = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    assert station.interval == pytest.approx(tuple(expected), abs=0.02)
    assert station.interval[0] <= station.error_rate <= station.interval[1]
    edit(runs / "lstm/seed2/score/score.json", speakers=[])
    assert group_runs([read_run(path) for path in names(runs)[:2]])[0].interval is None, "speakers must be the same"
    shutil.rmtree(runs / "lstm/seed2/score")
    unscored = group_runs([read_run(path) for path in names(runs)[:2]])[0]
    assert unscored.interval is None
    assert unscored.error_rate is None


def test_the_report_holds_one_row_for_each_station_and_each_run(runs):
    said: list[str] = []
    report = look(CompareOptions(out="x", title="Two cells"), names(runs), said.append)
    assert said == []
    table, every = report.tables
    lstm, rnn = group_runs([read_run(path) for path in names(runs)])
    assert list(column(table, "station")) == ["lstm", "rnn"]
    assert list(column(table, "seeds")) == [2, 1]
    assert list(column(table, "CER, %").astype(float)) == pytest.approx([100 * lstm.error_rate, 100 * rnn.error_rate])
    bounds = [[100 * bound for bound in station.interval] for station in (lstm, rnn)]
    found = np.stack([column(table, "interval from, %"), column(table, "to, %")], axis=1).astype(float)
    np.testing.assert_allclose(found, bounds)
    minutes = [np.mean([run.seconds for run in station.runs]) / 60 for station in (lstm, rnn)]
    assert list(column(table, "training, min").astype(float)) == pytest.approx(minutes)
    assert list(column(every, "run")) == names(runs)
    assert list(column(every, "finished")) == ["yes"] * 3
    lowest = [100 * min(line["error_rate"] for line in run.metrics) for run in (*lstm.runs, *rnn.runs)]
    assert list(column(every, "lowest validation, %").astype(float)) == pytest.approx(lowest)
    assert report.title == "Two cells"
    assert report.pictures[0].png.startswith(b"\x89PNG")
    assert dict(report.facts)["scored on"] == f"{rnn.runs[0].score['reference_tokens']} reference tokens"
    assert report.summary == markdown([lstm, rnn], "CER")
    assert f"| {100 * lstm.error_rate:.2f} % (mean of 2 seeds) |" in report.summary
    assert report.summary.splitlines()[0].count("|") == report.summary.splitlines()[3].count("|")


def test_what_is_not_measured_is_left_empty(runs):
    """No score, no checkpoint: the cells stay empty, and the run says that it was not trained to its end."""
    shutil.rmtree(runs / "rnn/score")
    shutil.rmtree(runs / "rnn/checkpoints")
    said: list[str] = []
    report = look(CompareOptions(out="x"), [str(runs / "rnn")], said.append)
    assert said == [f"note: {runs / 'rnn'} has not been trained to its end"]
    assert report.tables[0].rows[0][6:] == (None, None, None, None)
    assert dict(report.facts)["scored on"] == "nothing yet"
    assert report.summary.splitlines()[2].endswith("| 2 |  |  |  |")


def test_scores_on_different_manifests_are_told(runs):
    edit(runs / "rnn/score/score.json", reference_tokens=7)
    said: list[str] = []
    look(CompareOptions(out="x"), names(runs), said.append)
    assert said == ["WARNING: the runs are scored on manifests of different sizes; their rates are not comparable"]


def test_one_of_several_scores_is_chosen(runs):
    shutil.copytree(runs / "rnn/score", runs / "rnn/score_other")
    edit(runs / "rnn/score_other/score.json", error_rate=0.125)
    with pytest.raises(UsageError, match=r"rnn: has several scores \(score, score_other\): choose one with score=NAME"):
        read_run(str(runs / "rnn"))
    assert read_run(str(runs / "rnn"), score="score_other").error_rate == 0.125
    with pytest.raises(UsageError, match=r"score_third: holds no score.json; score the run with asr-score out="):
        read_run(str(runs / "rnn"), score="score_third")


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    with pytest.raises(UsageError, match="there is nothing to compare: give run directories"):
        look(CompareOptions(out="x"), [], quiet)
    bare = saved(network(), tmp_path / "bare")
    with pytest.raises(UsageError, match=r"bare: is no run directory of asr-train: no epoch is written in its metrics\.jsonl"):
        read_run(str(bare))
    edit(runs / "rnn/score/score.json", unit="word")
    with pytest.raises(UsageError, match="the runs are scored by char and word: only rates of one unit can be compared"):
        look(CompareOptions(out="x"), names(runs), quiet)
    (runs / "rnn/score/score.json").write_text("[1, 2")
    with pytest.raises(DataError, match=r"score.json: is damaged, expected a table of values in JSON"):
        read_run(str(runs / "rnn"))
    weights = runs / "lstm/seed1/model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        read_run(str(runs / "lstm/seed1"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "lstm, 3 x 256, bidirectional"),
        ({"peepholes": True, "bidirectional": False, "layers": 2, "width": 9}, "lstm with peepholes, 2 x 9, forward-only"),
        ({"forget_gate": False}, "lstm without forget gate, 3 x 256, bidirectional"),
        ({"cell": "rnn", "activation": "relu"}, "rnn (relu), 3 x 256, bidirectional"),
        ({"self_conditioned": 2}, "lstm, 3 x 256, self-conditioned at layer 2, bidirectional"),
    ],
)
def test_a_network_in_a_few_words(options, words):
    assert describe_encoder(EncoderOptions(**options)) == words
