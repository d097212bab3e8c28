"""Pictures of `asr-inspect ctc`: outputs and error signals at stages of a training, and where the paths run in the lattice."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from asr.inspection.ctc_course import Course, Stage, lattice_symbols
from asr.inspection.figures import COLOURS, GREY, HEAT, cell_edges, colour, dash, new_figure, png, shown_symbol, tidy
from asr.models.ctc import BLANK

#: Lattices with at most so many frames and states are drawn as circles and arrows, larger ones as a picture.
CIRCLES = (64, 25)
#: Outputs below this are not named in a picture.
NAMED = 0.4
#: Share of a frame's paths below which an arrow is not drawn.
FAINT = 2e-3


def draw_course(course: Course) -> bytes:
    """Outputs on the left, error signals on the right, one row per stage: the figure of the paper."""
    figure = new_figure(11.5, 1.1 + 2.15 * len(course.stages))
    grid = figure.subplots(len(course.stages), 2, sharex=True, squeeze=False)
    shown = [BLANK, *dict.fromkeys(course.target)]
    others = [symbol for symbol in range(len(course.symbols)) if symbol not in shown]
    reach = 1.08 * max(float(np.abs(stage.error).max()) for stage in course.stages)
    for row, (stage, (left, right)) in enumerate(zip(course.stages, grid)):
        for axes, values in ((left, stage.outputs), (right, stage.error)):
            for place, symbol in enumerate(shown):
                axes.plot(course.times, values[:, symbol], **_line(place, course.symbols[symbol]))
            if others:
                axes.plot(course.times, values[:, others].sum(axis=1), color="0.7", linewidth=1, label="all others")
            tidy(axes)
        left.set(ylim=(0, 1.16), ylabel="output (probability)")
        left.set_yticks([0, 0.5, 1])
        right.axhline(0, color="0.3", linewidth=0.8)
        right.set(ylim=(-reach, reach), ylabel="error signal")
        left.set_title(f"{stage.name}:  loss {stage.loss:.3g} nats", loc="left", fontsize=10)
        _name_spikes(left, stage, course)
        if row == 0:
            right.set_title("up: the output shall rise; down: it shall fall", loc="left", fontsize=10)
    for axes in grid[-1]:
        axes.set_xlabel(_time_label(course))
        axes.set_xlim(course.times[0], course.times[-1])
    figure.suptitle(f"Outputs and error signals of CTC, {course.title}", fontsize=12)
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 12), frameon=False, fontsize=9)
    return png(figure)


def _line(place: int, symbol: str) -> dict:
    """The blank dashed and grey, as in the paper; symbols in colours."""
    if place == 0:
        return {"color": GREY, "linestyle": (0, (4, 2)), "linewidth": 1.3, "label": "blank"}
    return {"color": colour(place - 1), "linestyle": dash(place - 1), "linewidth": 1.6, "label": shown_symbol(symbol)}


def _name_spikes(axes: Axes, stage: Stage, course: Course) -> None:
    """Each run of frames in which one symbol wins gets its name above its peak, unless there are too many to read."""
    best = stage.outputs.argmax(axis=1)
    starts = np.flatnonzero(np.r_[True, best[1:] != best[:-1]])
    ends = np.r_[starts[1:], len(best)]
    runs = [
        (start, end)
        for start, end in zip(starts, ends)
        if best[start] != BLANK and stage.outputs[start:end, best[start]].max() > NAMED
    ]
    if len(runs) > 60:
        return
    for start, end in runs:
        peak = start + int(stage.outputs[start:end, best[start]].argmax())
        height = min(stage.outputs[peak, best[start]] + 0.02, 1.02)
        name = shown_symbol(course.symbols[best[start]])
        axes.annotate(name, (course.times[peak], height), ha="center", va="bottom", fontsize=8, annotation_clip=True)


def draw_lattices(course: Course) -> bytes:
    """Where the paths of the target run at each stage: circles and arrows for a small lattice, a heat map for a large one."""
    count, symbols = len(course.stages), lattice_symbols(course.target)
    small = len(course.times) <= CIRCLES[0] and len(symbols) <= CIRCLES[1]
    height = min(0.27 * len(symbols) + 0.75, 4.4)
    figure = new_figure(11.5, 0.5 + count * height)
    rows = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for axes, stage in zip(rows, course.stages):
        if small:
            _draw_circles(axes, stage, course, symbols)
        else:
            edges = cell_edges(course.times)
            extent = (edges[0], edges[-1], len(symbols) - 0.5, -0.5)
            image = axes.imshow(stage.states.T, aspect="auto", extent=extent, cmap=HEAT, vmin=0, vmax=1, interpolation="nearest")
            figure.colorbar(image, ax=axes, label="occupancy", pad=0.01)
        axes.set_title(f"{stage.name}:  loss {stage.loss:.3g} nats", loc="left", fontsize=10)
        _name_states(axes, course, symbols)
    figure.suptitle(f"Paths through the lattice of CTC, {course.title}", fontsize=12)
    rows[-1].set_xlabel(_time_label(course))
    return png(figure)


def _name_states(axes: Axes, course: Course, symbols: np.ndarray) -> None:
    """The states from top to bottom; of a long target only its tokens are named, and of a very long one every second or third."""
    names = ["–" if symbol == BLANK else shown_symbol(course.symbols[symbol]) for symbol in symbols]
    step = 1 if len(symbols) <= 25 else 2 * -(-len(symbols) // 80)
    places = range(1, len(symbols), step) if step > 1 else range(len(symbols))
    axes.set_yticks(list(places), [names[place] for place in places], fontsize=9 if step == 1 else 7)
    axes.set_ylabel("state (– blank)")
    axes.set_ylim(len(symbols) - 0.4, -0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_circles(axes: Axes, stage: Stage, course: Course, symbols: np.ndarray) -> None:
    """A circle per frame and state, its area the occupancy, and a line for each move, as strong as the share of paths in it."""
    step = course.times[1] - course.times[0] if len(course.times) > 1 else 1.0
    lines, weights = [], []
    for t, state, ahead in np.argwhere(stage.moves > FAINT):
        lines.append([(course.times[t], state), (course.times[t + 1], state + ahead)])
        weights.append(stage.moves[t, state, ahead])
    strength = np.sqrt(np.array(weights)) if weights else np.zeros(0)
    strokes = LineCollection(lines, colors=[(0.35, 0.35, 0.35, value) for value in strength], linewidths=0.4 + 2.2 * strength)
    axes.add_collection(strokes)
    frames, states = np.meshgrid(course.times, np.arange(len(symbols)), indexing="ij")
    axes.scatter(frames, states, s=2, color="0.8", zorder=1)
    fill = np.where(symbols == BLANK, GREY, COLOURS[0])
    axes.scatter(frames, states, s=170 * np.clip(stage.states, 0, 1), color=np.tile(fill, len(course.times)), zorder=3)
    axes.set_xlim(course.times[0] - step, course.times[-1] + step)
    axes.xaxis.set_major_locator(MaxNLocator(integer=course.unit == "frame"))


def _time_label(course: Course) -> str:
    return "frame" if course.unit == "frame" else "time, s"
