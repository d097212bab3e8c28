"""The picture and the report of `asr-inspect gradient`: how far back a gradient reaches."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from asr.data.files import show_path
from asr.errors import UsageError
from asr.inspection.figures import DASHES, colour, new_figure, plain_text, png, tidy
from asr.inspection.gradient_reach import READINGS, STATIONS, GradientOptions, Reach, fresh_reach, trained_reach
from asr.inspection.page import Cell, Picture, Report, Table
from asr.inspection.source import before_training, describe_encoder, load_network, one_utterance, refuse_unread

#: Where the picture ends below: a gradient this small moves no weight.
FLOOR = 1e-12


# --- the picture


def draw_reaches(reaches: Sequence[Reach]) -> bytes:
    """One panel per state and direction of reading; a logarithmic scale, the same in all."""
    states = list(dict.fromkeys(reach.state for reach in reaches))
    readings = [reading for reading in (False, True) if any(reach.bidirectional == reading for reach in reaches)]
    figure = new_figure(12.0, 1.3 + 3.9 * len(states))
    grid = figure.subplots(len(states), len(readings), sharey=True, squeeze=False)
    names = list(dict.fromkeys(reach.name for reach in reaches))
    top = 3 * max(float(reach.norms.max()) for reach in reaches)
    for state, row in zip(states, grid):
        for reading, axes in zip(readings, row):
            shown = [reach for reach in reaches if (reach.state, reach.bidirectional) == (state, reading)]
            _draw_panel(axes, shown, names)
            axes.set_ylim(max(FLOOR, min(float(reach.least[reach.least > 0].min()) for reach in reaches) / 3), top)
            axes.set_title(f"{state}, {'bidirectional' if reading else 'forward-only'}", loc="left", fontsize=10)
        row[0].set_ylabel("norm of d(output at t) / d(input at t – lag)", fontsize=9)
    for axes, reading in zip(grid[-1], readings):
        axes.set_xlabel("lag, frames (negative: inputs to come)" if reading else "lag, frames")
    handles = {line.get_label(): line for axes in grid.flat for line in axes.get_lines()}
    figure.legend(
        [handles[name] for name in names],
        [plain_text(name) for name in names],
        loc="outside lower center",
        ncols=min(len(names), 4),
        frameon=False,
        fontsize=9,
    )
    figure.suptitle("How far back a gradient reaches", fontsize=12)
    return png(figure)


def _draw_panel(axes: Axes, reaches: Sequence[Reach], names: Sequence[str]) -> None:
    for reach in reaches:
        place = names.index(reach.name)
        seen = np.where(reach.norms > 0, reach.norms, np.nan)
        axes.plot(reach.lags, seen, color=colour(place), linestyle=DASHES[place % 2], linewidth=1.8, label=reach.name)
        axes.fill_between(
            reach.lags, reach.least, reach.most, where=reach.least > 0, color=colour(place), alpha=0.12, linewidth=0
        )
    axes.set_yscale("log")
    tidy(axes)
    shifts = {reach.frame_s for reach in reaches}
    if len(shifts) == 1 and None not in shifts:
        _seconds_above(axes, float(shifts.pop() or 1.0))


def _seconds_above(axes: Axes, frame_s: float) -> None:
    def seconds(lag: Any) -> Any:
        return lag * frame_s

    def frames(time: Any) -> Any:
        return time / frame_s

    upper = axes.secondary_xaxis("top", functions=(seconds, frames))
    upper.set_xlabel("lag, s", fontsize=9)
    upper.tick_params(labelsize=8)


# --- the report


def look(options: GradientOptions, files: Sequence[str], say: Callable[[str], None]) -> Report:
    """`asr-inspect gradient`."""
    paths = [options.model] if options.model else options.models
    heard = bool(files or options.manifest)
    if paths and not heard:
        raise UsageError("trained networks need a recording to be measured on: give an audio file, or manifest=FILE with id=NAME")
    if heard and not paths:
        raise UsageError("a recording needs trained networks to hear it: add models=[...], or leave the recording out")
    if paths:
        refuse_unread(options, ("stations", "readings", "fresh"), "it chooses fresh networks, while trained ones are given")
    reaches = _trained(paths, files, options, say) if paths else _fresh(options, say)
    facts = _trained_facts(paths, files, options) if paths else _fresh_facts(options)
    return Report(
        name="gradient",
        title="How far back a gradient reaches",
        lead=(
            "The norm of the derivative of the output at a time t by the input at t - lag. What vanishes here cannot be "
            "learnt by gradient descent: no error that shows at t tells what should have been kept lag frames before. In a "
            "simple recurrent network the norm changes by about the same factor at every step (Hochreiter 1991; Bengio, Simard "
            "and Frasconi 1994). The constant error carrousel of the LSTM hands it on with the weight 1 (Hochreiter and "
            "Schmidhuber 1997); a forget gate lets it fade as fast as the network likes (Gers, Schmidhuber and Cummins 2000). A "
            "feed-forward network sees nothing beyond its window."
        ),
        facts=facts,
        pictures=(
            Picture(
                "gradient",
                "Norm of the gradient against the lag",
                f"Mean over {options.positions} {'times t' if paths else 'random sequences'}, the band from the least to the "
                "largest of them; logarithmic scale. A line that ends has become exactly zero. The output is that of the last "
                "recurrent layer, the input that of the first.",
                draw_reaches(reaches),
            ),
        ),
        tables=_tables(reaches, options),
        summary="\n".join(_line(reach) for reach in reaches),
    )


def _fresh(options: GradientOptions, say: Callable[[str], None]) -> list[Reach]:
    reaches = []
    for reading in options.readings:
        for station in options.stations:
            say(f"{STATIONS[station][0]}, {reading}")
            reaches.append(fresh_reach(station, READINGS[reading], options))
    return reaches


def _trained(paths: Sequence[str], files: Sequence[str], options: GradientOptions, say: Callable[[str], None]) -> list[Reach]:
    utterance = one_utterance(options, files)
    reaches = []
    for path, name in zip(paths, _names(paths)):
        loaded = load_network(path)
        title = f"{name}: {describe_encoder(loaded.model.options.encoder).rpartition(',')[0]}"
        for state, network in (("before training", before_training(loaded)), ("after training", loaded)):
            say(f"{title}, {state}")
            reaches.append(trained_reach(title, state, network, utterance, options))
    return sorted(reaches, key=lambda reach: reach.state, reverse=True)


def _names(paths: Sequence[str]) -> list[str]:
    """Names that tell the networks apart: the folders', or the whole paths where two are called the same."""
    short = [Path(path).resolve().parent.name if Path(path).name == "model" else Path(path).resolve().name for path in paths]
    return [show_path(name) for name in (short if len(set(short)) == len(short) else paths)]


def _fresh_facts(options: GradientOptions) -> tuple[tuple[str, str], ...]:
    shape = options.fresh
    return (
        ("networks", f"fresh: {shape.layers} x {shape.width} cells, start values {shape.initialization}, seed {options.seed}"),
        ("bias of forget gates", f"{shape.forget_bias:g} added"),
        ("inputs", f"{options.positions} sequences of {shape.inputs} independent numbers from N(0, 1) a frame"),
        ("arithmetic", "float64"),
    )


def _trained_facts(paths: Sequence[str], files: Sequence[str], options: GradientOptions) -> tuple[tuple[str, str], ...]:
    return (
        ("networks", ", ".join(map(show_path, paths))),
        ("before training", "the same networks with the start values that the seed of their run gives"),
        ("recording", one_utterance(options, files).id),
        ("arithmetic", "float64"),
    )


def _line(reach: Reach) -> str:
    reading = "bidirectional" if reach.bidirectional else "forward-only"
    fades = "never within the lags shown" if reach.fades is None else f"from lag {reach.fades} on"
    return f"  {reach.name}, {reading}, {reach.state}: below 1 % of its largest {fades}"


def _tables(reaches: Sequence[Reach], options: GradientOptions) -> tuple[Table, ...]:
    marks = [lag for lag in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if lag <= options.lag]
    head = ("network", "state", "reading")

    def key(reach: Reach) -> tuple[str, str, str]:
        return reach.name, reach.state, "bidirectional" if reach.bidirectional else "forward-only"

    overview: list[tuple[Cell, ...]] = [(*key(reach), *map(reach.at, marks), reach.fades) for reach in reaches]
    columns = ("lag_frames", "lag_s", "norm", "norm_least", "norm_most", "relative_to_lag_0")
    every: list[tuple[Cell, ...]] = [
        (
            *key(reach),
            int(lag),
            None if reach.frame_s is None else float(lag * reach.frame_s),
            *map(
                float, (reach.norms[place], reach.least[place], reach.most[place], reach.norms[place] / (reach.at(0) or np.nan))
            ),
        )
        for reach in reaches
        for place, lag in enumerate(reach.lags)
    ]
    return (
        Table("", "Norms at some lags", (*head, *(f"lag {lag}" for lag in marks), "below 1 % from lag"), overview),
        Table("gradient", "Norm of the gradient against the lag", (*head, *columns), every),
    )
