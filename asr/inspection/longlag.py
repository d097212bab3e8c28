"""The long-time-lag tasks of Hochreiter and Schmidhuber (1997) for every cell: what each can carry over how many steps."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from asr.inspection.figures import colour, dash, new_figure, png, tidy
from asr.inspection.longlag_tasks import EARLIER, SHORTEST, TASKS, TOLERANCE
from asr.inspection.longlag_training import CELLS, FRESH, LEARNT, PATIENCE, SOLVED, LonglagOptions, Trial, run_trials, stages
from asr.inspection.page import Picture, Report, Table

MARKS = "ov^sDPX"
#: how the words beside a line are set
CAPTION: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "bottom", "fontsize": 8, "color": "0.4"}


@dataclass(frozen=True)
class Outcome:
    """One cell at one lag with its best learning rate."""

    task: str
    lag: int
    cell: str
    trials: tuple[Trial, ...]

    @property
    def solved(self) -> int:
        return sum(trial.solved for trial in self.trials)

    @property
    def right(self) -> float:
        """Mean share of fresh sequences answered rightly."""
        return sum(trial.right for trial in self.trials) / len(self.trials)

    @property
    def reached(self) -> float:
        """Median of the longest lags that its networks have learnt."""
        return float(median(trial.reached for trial in self.trials))

    @property
    def sequences(self) -> float | None:
        """Median number of training sequences until the task was solved; None unless every seed solved it."""
        return float(median(trial.sequences for trial in self.trials)) if self.solved == len(self.trials) else None


def best_outcomes(trials: Sequence[Trial]) -> list[Outcome]:
    """For each task, lag and cell the best learning rate: most seeds solved, then the longest lags, then most answers right, then
    fewest sequences.
    """
    outcomes = []
    for task, lag, cell in dict.fromkeys((trial.task, trial.lag, trial.cell) for trial in trials):
        mine = [trial for trial in trials if (trial.task, trial.lag, trial.cell) == (task, lag, cell)]
        rates = dict.fromkeys(trial.learning_rate for trial in mine)
        found = [Outcome(task, lag, cell, tuple(one for one in mine if one.learning_rate == rate)) for rate in rates]
        outcomes.append(max(found, key=_merit))
    return outcomes


def _merit(one: Outcome) -> tuple[float, ...]:
    trials = one.trials
    return one.solved, sum(trial.reached for trial in trials), round(one.right, 3), -sum(trial.sequences for trial in trials)


def look(options: LonglagOptions, files: Sequence[str], say: Callable[[str], None]) -> Report:
    """`asr-inspect longlag`."""
    say("the first run on a machine compiles its code, which takes up to half a minute")
    trials = run_trials(options, progress=sys.stderr.isatty())
    outcomes = best_outcomes(trials)
    return Report(
        name="longlag",
        title="How long a time lag each cell can learn to bridge",
        lead=(
            "Two tasks of Hochreiter and Schmidhuber (1997). Adding: of a long row of random numbers, two are marked, and a "
            "quarter of their sum is asked for at the end. Temporal order: two symbols far apart, and at the end, which of the "
            "four orders it was. What has to be kept lies at least the lag back, so its gradient must come through that many "
            "steps: it vanishes in a simple recurrent network, and is carried on unchanged by the constant error carrousel.\n\n"
            f"{_how(options)}\n\n"
            f"A network has solved its task when at least {SOLVED:.0%} of {FRESH:,} fresh sequences are right: an absolute error "
            f"under {TOLERANCE} (adding), the right class (temporal order)."
        ),
        facts=facts(options, trials),
        pictures=(
            Picture(
                "longlag",
                "Success against lag, and how it came",
                "Left: share of fresh sequences answered rightly, mean over the seeds at the best learning rate; a filled mark "
                "means that every seed solved the task. Points of equal height are moved apart a little. Right: "
                + ("how the lag grows" if options.growing else "the same share")
                + f" while the networks learn, up to a lag of {max(options.lags)}, one line for each seed; it ends with a filled "
                "mark where its network has solved the task.",
                draw(options, outcomes),
            ),
        ),
        tables=(outcome_table(outcomes), trial_table(trials)),
        summary=summary(outcomes),
    )


def _how(options: LonglagOptions) -> str:
    if not options.growing:
        return "Every network is trained at the lag itself from the start."
    return (
        f"Every network begins with a lag of {SHORTEST} steps, which grows by half whenever {LEARNT:.0%} of its answers are "
        f"right; after {PATIENCE} looks without a better answer it goes back to where that lag began and learns half as fast, "
        f"and after another {PATIENCE} to the lag before, as fast as at first. One batch of {EARLIER} has a lag learnt before. "
        "With all weights within +-0.1 gates are half open: a cell with a forget gate halves its state at every step and "
        "has to learn to keep it. It is tested, and has to succeed, at the whole lag."
    )


def facts(options: LonglagOptions, trials: Sequence[Trial]) -> tuple[tuple[str, str], ...]:
    rates = ", ".join(f"{rate:g}" for rate in options.learning_rates)
    bias = (
        f"; {options.gate_bias:g} added to the bias of forget gates and of the GRU's update gate, taken from that of input gates"
        if options.gate_bias
        else ""
    )
    return (
        ("start values", f"all weights uniform in +-0.1{bias}"),
        ("lag", f"grows from {SHORTEST} to the lag asked for" if options.growing else "the one asked for, from the start"),
        ("networks", f"as many cells as fit into {options.weights} weights; a linear readout at the last step"),
        ("training", f"Adam, {options.batch} sequences per update, norm of the gradient at most {options.clip:g}"),
        ("learning rates", f"{rates}: every cell with each, the best kept; {options.seeds} seeds"),
        ("given up after", f"{options.updates:,} updates, {options.updates * options.batch:,} sequences"),
        ("processor time", f"{sum(trial.seconds for trial in trials):.0f} s for {len(trials)} networks"),
    )


def outcome_table(outcomes: Sequence[Outcome]) -> Table:
    rows = [
        (
            TASKS[one.task].title,
            one.lag,
            CELLS[one.cell][0],
            one.trials[0].cells,
            one.trials[0].weights,
            one.trials[0].learning_rate,
            f"{one.solved} of {len(one.trials)}",
            100 * one.right,
            one.reached,
            one.sequences,
        )
        for one in outcomes
    ]
    columns = ("task", "lag", "cell", "cells", "weights", "best learning rate", "seeds that solve it", "right, %")
    medians = ("longest lag learnt (median)", "sequences until solved (median)")
    return Table("longlag", "Success by cell", (*columns, *medians), rows)


def trial_table(trials: Sequence[Trial]) -> Table:
    rows = [
        (
            TASKS[one.task].title,
            one.lag,
            CELLS[one.cell][0],
            one.learning_rate,
            one.seed,
            one.outcome,
            100 * one.right,
            one.reached,
            one.sequences,
            one.seconds,
        )
        for one in trials
    ]
    columns = ("task", "lag", "cell", "learning rate", "seed", "outcome", "right, %")
    note = "Stopped: another learning rate of the same cell had already solved the task with every seed."
    return Table(
        "longlag_trials", "Every network", (*columns, "longest lag learnt", "sequences", "processor time, s"), rows, note
    )


def summary(outcomes: Sequence[Outcome]) -> str:
    lines = []
    for task, lag in dict.fromkeys((one.task, one.lag) for one in outcomes):
        lines.append(f"{TASKS[task].title}, lag {lag}")
        for one in (one for one in outcomes if (one.task, one.lag) == (task, lag)):
            until = f"   came to lag {one.reached:g}" if one.sequences is None else f"   after {one.sequences:,.0f} sequences"
            solved = f"solved by {one.solved} of {len(one.trials)} seeds"
            rate = f"learning rate {one.trials[0].learning_rate:g}"
            lines.append(f"  {CELLS[one.cell][0]:20} {solved}   {100 * one.right:5.1f} % right   {rate}{until}")
    return "\n".join(lines)


def draw(options: LonglagOptions, outcomes: Sequence[Outcome]) -> bytes:
    """For each task a row: share right against lag; and for the longest one, how the lag grows, or the share if it does not."""
    figure = new_figure(12.5, 1.2 + 4.3 * len(options.tasks))
    grid = figure.subplots(len(options.tasks), 2, squeeze=False)
    for row, task in zip(grid, options.tasks):
        mine = [one for one in outcomes if one.task == task]
        for place, cell in enumerate(options.cells):
            _draw_lags(row[0], [one for one in mine if one.cell == cell], place, len(options.cells))
            longest = [one for one in mine if one.cell == cell and one.lag == max(options.lags)]
            _draw_learning(row[1], longest, place, options.growing)
        title = TASKS[task].title.capitalize()
        _name_axes(row, options, title, 100 * TASKS[task].chance)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    figure.suptitle("Long time lags: what each cell can learn to carry over how many steps")
    return png(figure)


def _name_axes(row: Sequence[Axes], options: LonglagOptions, title: str, chance: float) -> None:
    left, right = row
    for axes in (left,) if options.growing else row:
        axes.axhline(chance, color="0.6", linewidth=1, zorder=0)
        axes.annotate("chance", (1, chance), (-2, 2), xycoords=("axes fraction", "data"), **CAPTION)
        axes.set(ylim=(0, 105), ylabel="sequences answered rightly, %")
    left.set(title=f"{title}: success against lag", xlabel="lag, steps", xscale="log")
    left.set_xticks(options.lags, [str(lag) for lag in options.lags])
    left.minorticks_off()
    right.set(xlabel="training sequences, thousands", xlim=(0, None))
    right.xaxis.set_major_formatter(FuncFormatter(lambda seen, _: f"{seen / 1000:g}"))
    longest = max(options.lags)
    if options.growing:
        right.set(
            title=f"{title}: the lag grows to {longest}", ylabel="lag, steps", yscale="log", ylim=(SHORTEST / 1.2, longest * 1.3)
        )
        marks = stages(longest, True)
        right.set_yticks(marks, [str(lag) for lag in marks])
        right.minorticks_off()
    else:
        right.set(title=f"{title}: learning at lag {longest}")
    for axes in row:
        tidy(axes)


def _draw_lags(axes: Axes, outcomes: Sequence[Outcome], place: int, places: int) -> None:
    apart = 1.02 ** (place - (places - 1) / 2)
    style: dict[str, Any] = {"color": colour(place), "marker": MARKS[place % len(MARKS)], "markersize": 7}
    lags = [one.lag * apart for one in outcomes]
    axes.plot(lags, [100 * one.right for one in outcomes], linestyle=dash(place), fillstyle="none", **style)
    for lag, one in zip(lags, outcomes):
        if one.solved == len(one.trials):
            axes.plot(lag, 100 * one.right, linestyle="none", **style)
    axes.plot([], [], linestyle=dash(place), label=CELLS[outcomes[0].cell][0], **style)


def _draw_learning(axes: Axes, outcomes: Sequence[Outcome], place: int, growing: bool) -> None:
    apart = 1.015 ** (place - 3) if growing else 1.0
    for trial in (trial for one in outcomes for trial in one.trials):
        heights = [lag * apart if growing else 100 * right for _, lag, right in trial.curve]
        seen = [count for count, *_ in trial.curve]
        axes.plot(seen, heights, color=colour(place), linestyle=dash(place), linewidth=1, alpha=0.85)
        if trial.solved:
            axes.plot(seen[-1], heights[-1], marker=MARKS[place % len(MARKS)], color=colour(place), markersize=6)
