"""Finished trainings side by side: one table of sizes, times and error rates, and one picture of their learning curves."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from asr.data.files import open_regular, show_path
from asr.errors import DataError, UsageError
from asr.inspection.figures import colour, dash, new_figure, plain_text, png, tidy
from asr.inspection.page import Picture, Report, Table
from asr.inspection.source import checkpoints_of, describe_encoder, load_network
from asr.scoring.significance import bootstrap_interval
from asr.training.metrics import read_metrics

#: Short names of the error rates, by what score.json counts.
RATES = {"phone": "PER", "char": "CER", "word": "WER"}
MARKS = "osD^vP*X"


@dataclass
class CompareOptions:
    #: folder that receives the page, the picture and the tables; files of the same names are replaced
    out: str = field(default="", metadata={"path": True})
    #: name of the folder inside each run that holds its score.json; without it, the only one there
    score: str = ""
    #: title of the page and the picture
    title: str = "Trainings side by side"


@dataclass(frozen=True)
class Run:
    """One training."""

    folder: Path
    #: seed of the training
    seed: int
    #: the network in a few words
    network: str
    #: trained weights
    weights: int
    #: the training's epochs, and the one whose weights were kept
    epochs: int
    best_epoch: int
    #: whole time of the training, validation included, s; None where no checkpoint tells
    seconds: float | None
    #: whether the training went to its end
    finished: bool
    #: lines of metrics.jsonl
    metrics: tuple[dict[str, Any], ...]
    #: score.json of the test manifest; None where it has not been scored
    score: dict[str, Any] | None

    @property
    def error_rate(self) -> float | None:
        return self.score["error_rate"] if self.score else None


@dataclass(frozen=True)
class Station:
    """One configuration, trained with one seed or several."""

    name: str
    runs: tuple[Run, ...]

    @property
    def error_rate(self) -> float | None:
        """The mean over the seeds, as a fraction; None unless all of them are scored."""
        rates = [run.error_rate for run in self.runs]
        known = [rate for rate in rates if rate is not None]
        return sum(known) / len(known) if len(known) == len(rates) else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % bootstrap interval of the mean over the seeds, drawn over speakers, whose counts are added up over the seeds.

        With one seed it is the interval of score.json; several without speakers have none.
        """
        scores = [run.score for run in self.runs if run.score]
        if len(scores) < len(self.runs):
            return None
        if len(scores) == 1:
            return tuple(scores[0]["interval"]) if scores[0]["interval"] else None
        names = sorted({entry["speaker"] for entry in scores[0]["speakers"]})
        sums = {name: [0, 0] for name in names}
        for score in scores:
            if sorted(entry["speaker"] for entry in score["speakers"]) != names:
                return None
            for entry in score["speakers"]:
                sums[entry["speaker"]][0] += entry["substitutions"] + entry["deletions"] + entry["insertions"]
                sums[entry["speaker"]][1] += entry["reference_tokens"]
        errors, tokens = zip(*sums.values()) if sums else ((), ())
        return bootstrap_interval(errors, tokens, resamples=scores[0]["resamples"], seed=scores[0]["seed"])

    def mean(self, what: Callable[[Run], float | None]) -> float | None:
        values = [what(run) for run in self.runs]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None


def read_run(path: str, *, score: str = "") -> Run:
    """A run directory with a model, metrics and, where it has been scored, a score.

    Raises UsageError where nothing was trained or several scores are there and none is named, DataError for a damaged file.
    """
    folder = Path(path)
    metrics = read_metrics(folder / "metrics.jsonl")
    if not metrics:
        raise UsageError(f"{show_path(folder)}: is no run directory of asr-train: no epoch is written in its metrics.jsonl")
    loaded = load_network(path)
    checkpoints = checkpoints_of(path)
    state = _json(checkpoints[-1] / "state.json") if checkpoints else {}
    return Run(
        folder=folder,
        seed=int(loaded.notes.get("seed", 0)),
        network=describe_encoder(loaded.model.options.encoder),
        weights=loaded.model.parameter_count(),
        epochs=metrics[-1]["epoch"],
        best_epoch=int(loaded.notes.get("epoch", metrics[-1]["epoch"])),
        seconds=state.get("seconds"),
        finished=bool(state.get("finished")),
        metrics=tuple(metrics),
        score=_score(folder, score),
    )


def _score(folder: Path, name: str) -> dict[str, Any] | None:
    if name and not (folder / name / "score.json").is_file():
        raise UsageError(f"{show_path(folder / name)}: holds no score.json; score the run with asr-score out={folder / name}")
    found = [folder / name / "score.json"] if name else sorted(folder.glob("*/score.json"))
    if len(found) > 1:
        names = ", ".join(path.parent.name for path in found)
        raise UsageError(f"{show_path(folder)}: has several scores ({names}): choose one with score=NAME")
    return _json(found[0]) if found else None


def _json(path: Path) -> dict[str, Any]:
    with open_regular(path) as handle:
        try:
            content = json.loads(handle.read())
        except ValueError:
            content = None
    if not isinstance(content, dict):
        raise DataError(f"{show_path(path)}: is damaged, expected a table of values in JSON")
    return content


def group_runs(runs: Sequence[Run]) -> list[Station]:
    """Runs in folders named `seed...` belong to the station their parent is named after; any other is a station of its own."""
    groups: dict[tuple[Path, str], list[Run]] = {}
    for run in runs:
        folder = run.folder.resolve()
        name, place = (folder.parent.name, folder.parent) if folder.name.startswith("seed") else (folder.name, folder)
        groups.setdefault((place, name), []).append(run)
    return [Station(name, tuple(group)) for (_, name), group in groups.items()]


def look(options: CompareOptions, files: Sequence[str], say: Callable[[str], None]) -> Report:
    """`asr-inspect compare`: one row and one curve for each of the run directories `files`."""
    if not files:
        raise UsageError("there is nothing to compare: give run directories, asr-inspect compare out=DIR RUN RUN ...")
    runs = [read_run(path, score=options.score) for path in files]
    stations = group_runs(runs)
    units = {run.score["unit"] for run in runs if run.score}
    if len(units) > 1:
        raise UsageError(f"the runs are scored by {' and '.join(sorted(units))}: only rates of one unit can be compared")
    if len({_reference(run) for run in runs if run.score}) > 1:
        say("WARNING: the runs are scored on manifests of different sizes; their rates are not comparable")
    for run in runs:
        if not run.finished:
            say(f"note: {show_path(run.folder)} has not been trained to its end")
    rate = RATES[units.pop()] if units else "error rate"
    tokens = next((_reference(run)[1] for run in runs if run.score), None)
    return Report(
        name="compare",
        title=options.title,
        lead=(
            "Every row is a training: what network, how many weights, how long it took, and what it got wrong on recordings "
            "that no choice was made on. The interval says how far the rate would move with other speakers; it does not say "
            "how far it moves with another seed, which a second row or a mean over seeds does."
        ),
        facts=(
            ("runs", str(len(runs))),
            ("scored on", f"{tokens} reference tokens" if tokens is not None else "nothing yet"),
            ("rate", f"{rate} in %, with its 95 % bootstrap interval over speakers"),
        ),
        pictures=(
            Picture(
                "compare",
                "Learning curves and error rates",
                "Left: error rate on the validation part after each epoch, the mean over the seeds where there are several; the "
                "ring marks the epoch whose weights were kept. Right: error rate of these weights on the scored part, with its "
                "95 % interval.",
                draw(stations, title=options.title, rate=rate),
            ),
        ),
        tables=(station_table(stations, rate), run_table(runs)),
        summary=markdown(stations, rate),
    )


def _reference(run: Run) -> tuple[int, int]:
    assert run.score is not None
    return run.score["utterances"], run.score["reference_tokens"]


def station_table(stations: Sequence[Station], rate: str) -> Table:
    rows = []
    for station in stations:
        one = station.runs[0]
        low, high = station.interval or (None, None)
        seconds = station.mean(lambda run: run.seconds)
        rows.append(
            (
                station.name,
                one.network,
                one.weights,
                len(station.runs),
                one.epochs,
                station.mean(lambda run: run.best_epoch),
                None if seconds is None else seconds / 60,
                *(None if value is None else 100 * value for value in (station.error_rate, low, high)),
            )
        )
    columns = ("station", "network", "weights", "seeds", "epochs", "kept epoch", "training, min")
    return Table("compare", "The table", (*columns, f"{rate}, %", "interval from, %", "to, %"), rows)


def run_table(runs: Sequence[Run]) -> Table:
    rows = [
        (
            show_path(run.folder),
            run.seed,
            run.weights,
            run.epochs,
            run.best_epoch,
            None if run.seconds is None else run.seconds / 60,
            min(line["error_rate"] for line in run.metrics) * 100,
            None if run.error_rate is None else 100 * run.error_rate,
            "yes" if run.finished else "no",
        )
        for run in runs
    ]
    columns = ("run", "seed", "weights", "epochs", "kept epoch", "training, min", "lowest validation, %", "test, %", "finished")
    return Table("runs", "Every training", columns, rows)


def markdown(stations: Sequence[Station], rate: str) -> str:
    """The table as Markdown, ready for a README; what has not been measured is left empty."""
    lines = [f"| station | network | weights | epochs | training | {rate} | 95 % interval |", "|" + " --- |" * 7]
    for station in stations:
        one = station.runs[0]
        seconds, error, interval = station.mean(lambda run: run.seconds), station.error_rate, station.interval
        seeds = "" if len(station.runs) == 1 else f" (mean of {len(station.runs)} seeds)"
        cells = (
            station.name,
            one.network,
            f"{one.weights / 1e6:.2f} M",
            str(one.epochs),
            "" if seconds is None else f"{seconds / 60:.1f} min",
            "" if error is None else f"{100 * error:.2f} %{seeds}",
            "" if interval is None else f"{100 * interval[0]:.2f} .. {100 * interval[1]:.2f} %",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_curve(station: Station) -> tuple[list[int], list[float]]:
    """Epochs that every seed validated, and the mean validation error there, %."""
    tables = [{line["epoch"]: line["error_rate"] for line in run.metrics} for run in station.runs]
    epochs = sorted(set.intersection(*(set(table) for table in tables)))
    return epochs, [100 * sum(table[epoch] for table in tables) / len(tables) for epoch in epochs]


def draw(stations: Sequence[Station], *, title: str, rate: str) -> bytes:
    figure = new_figure(12.5, max(4.8, 1.6 + 0.42 * len(stations)))
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    figure.suptitle(plain_text(title))
    for place, station in enumerate(stations):
        epochs, errors = mean_curve(station)
        style = {"color": colour(place), "linestyle": dash(place)}
        left.plot(epochs, errors, label=plain_text(station.name), linewidth=1.6, **style)
        for run in station.runs:
            kept = [(line["epoch"], 100 * line["error_rate"]) for line in run.metrics if line["epoch"] == run.best_epoch]
            left.plot(*zip(*kept), marker=MARKS[place % len(MARKS)], color=colour(place), fillstyle="none", markersize=7)
    left.set(title="Validation error after each epoch", xlabel="epoch", ylabel="error rate, %")
    _limit(left, stations)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(fontsize=9, frameon=False)
    _draw_rates(right, stations, rate)
    tidy(left)
    tidy(right)
    return png(figure)


def _limit(axes: Axes, stations: Sequence[Station]) -> None:
    """From 0 to a little above 100 %: a network that inserts wildly at its start must not squeeze the others."""
    highest = max(max(errors, default=0.0) for _, errors in map(mean_curve, stations))
    axes.set_ylim(0, min(highest * 1.03, 105.0))


def _draw_rates(axes: Axes, stations: Sequence[Station], rate: str) -> None:
    for place, station in enumerate(stations):
        error, interval = station.error_rate, station.interval
        if error is None:
            axes.text(0.5, place, "not scored", transform=axes.get_yaxis_transform(), ha="center", va="center", fontsize=9)
            continue
        if interval is not None:
            axes.plot(
                [100 * bound for bound in interval], [place, place], color=colour(place), linestyle=dash(place), linewidth=2.2
            )
        axes.plot(100 * error, place, marker=MARKS[place % len(MARKS)], color=colour(place), markersize=8)
        axes.annotate(f"{100 * error:.1f}", (100 * error, place), (0, 8), textcoords="offset points", ha="center", fontsize=9)
    names = [f"{plain_text(station.name)}\n{station.runs[0].weights / 1e6:.2f} M" for station in stations]
    axes.set_yticks(range(len(stations)), names)
    axes.set_ylim(len(stations) - 0.4, -0.7)
    axes.set(title=f"{rate} on the scored part", xlabel=f"{rate}, %")
