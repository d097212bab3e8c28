"""Connectionist temporal classification at work: the lattice of a target, and its error signal while a network learns.

Graves, Fernández, Gomez and Schmidhuber (2006). The error signal is what the softmax's inputs are pushed by, minus the
derivative of eq. 16: occupancy of a symbol minus its output, zero where the network says just what the target asks for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from asr.data.files import show_path
from asr.data.manifest import Utterance
from asr.errors import DataError, UsageError
from asr.inspection.figures import COLOURS, GREY, HEAT, cell_edges, colour, dash, new_figure, plain_text, png, shown_symbol, tidy
from asr.inspection.page import Cell, Picture, Report, Table
from asr.inspection.source import (
    Heard,
    WindowOptions,
    before_training,
    checkpoints_of,
    hear,
    load_network,
    one_utterance,
    refuse_unread,
)
from asr.models.ctc import BLANK, forward_backward, required_frames
from asr.models.package import LoadedModel

#: Lattices with at most so many frames and states are drawn as circles and arrows, larger ones as a picture.
CIRCLES = (64, 25)
#: Outputs below this are not named in a picture.
NAMED = 0.4
#: Share of a frame's paths below which an arrow is not drawn.
FAINT = 2e-3


@dataclass
class CtcOptions(WindowOptions):
    #: networks that are the stages, in this order: run directories, model folders, checkpoints; without it, the stages are
    #: those of the training of `model`, or of a toy
    models: list[str] = field(default_factory=list)
    #: what is said; without it, the text in the manifest (a toy: cat)
    target: str = ""
    #: stages of the training that are shown, 2 to 6
    stages: int = 3
    #: toy: frames of its one sequence
    frames: int = 24
    #: toy: steps of gradient descent
    steps: int = 400
    #: toy: learning rate
    learning_rate: float = 0.5
    #: toy: seed of its start values
    seed: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model and self.models:
            raise UsageError("model= (the stages of one training) and models= (one stage each) are given together: leave one out")
        for name, (low, high) in {"stages": (2, 6), "frames": (1, 200), "steps": (1, 100_000), "seed": (0, 2**31 - 1)}.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name}={getattr(self, name)} is out of range: use a whole number from {low} to {high}")
        if not 0 < self.learning_rate <= 100:
            raise UsageError(f"learning_rate={self.learning_rate} is out of range: use a number above 0, at most 100")
        if not (self.model or self.models) and (self.begin or self.end):
            raise UsageError(
                "begin= and end= choose a part of a recording, and the toy has none: leave them out, or add model=DIR"
            )


@dataclass(frozen=True)
class Stage:
    """One target in one network. T frames, V symbols, L = 2U + 1 states: the target with blanks around its tokens."""

    name: str
    #: Negative log-likelihood of the target, nats.
    loss: float
    #: (T, V) what the softmax says.
    outputs: np.ndarray
    #: (T, V) probability that a path of the target is at this symbol, eq. 15 over p(l|x).
    occupancies: np.ndarray
    #: (T, L) the same for each state of the lattice.
    states: np.ndarray
    #: (T - 1, L, 3) probability that a path goes on to the same state, the next, the one after that.
    moves: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """(T, V) minus the gradient of the loss for the softmax's inputs."""
        return self.occupancies - self.outputs


def stage_of(name: str, log_probs: np.ndarray, target: Sequence[int]) -> Stage:
    """Forward and backward pass of one target (U ids, feasible) over log_probs (T, V)."""
    log_probs = np.asarray(log_probs, dtype=np.float64)
    found = forward_backward(log_probs, target)
    symbols = lattice_symbols(target)
    emission = log_probs[:, symbols]
    with np.errstate(invalid="ignore", over="ignore"):
        states = np.nan_to_num(np.exp(found.alphas + found.betas - emission + found.loss))
        moves = np.zeros((len(log_probs) - 1, len(symbols), 3))
        for ahead in range(min(3, len(symbols))):
            size = len(symbols) - ahead
            flow = np.exp(found.alphas[:-1, :size] + found.betas[1:, ahead:] + found.loss)
            moves[:, :size, ahead] = np.nan_to_num(flow)
    jumps = (symbols[2:] != BLANK) & (symbols[2:] != symbols[:-2])
    moves[:, :-2, 2] *= jumps
    return Stage(name, found.loss, np.exp(log_probs), found.occupancies, states, moves)


def lattice_symbols(target: Sequence[int]) -> np.ndarray:
    """The symbol of each state, (2U + 1,)."""
    symbols = np.full(2 * len(target) + 1, BLANK)
    symbols[1::2] = target
    return symbols


# --- where the stages come from


@dataclass(frozen=True)
class Course:
    """A target and the networks it was put to, from first to last."""

    stages: tuple[Stage, ...]
    target: tuple[int, ...]
    #: id -> how it is written
    symbols: tuple[str, ...]
    #: (T,) time of each frame
    times: np.ndarray
    unit: str
    title: str
    facts: tuple[tuple[str, str], ...]


def train_toy(target: Sequence[int], *, frames: int, vocabulary: int, steps: int, learning_rate: float, seed: int) -> np.ndarray:
    """Gradient descent on the CTC loss with nothing before the softmax: log-probabilities (steps + 1, T, V) after each step."""
    logits = 0.1 * np.random.default_rng(seed).standard_normal((frames, vocabulary))
    found = np.zeros((steps + 1, frames, vocabulary))
    for step in range(steps + 1):
        found[step] = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        logits = logits + learning_rate * (forward_backward(found[step], target).occupancies - np.exp(found[step]))
    return found


def spread(losses: Sequence[float], count: int) -> list[int]:
    """Indices of `count` stages, first and last among them, the roots of whose losses are evenly spread."""
    heights = np.sqrt(losses)
    wanted = np.linspace(heights[0], heights[-1], min(count, len(losses)))
    chosen = [0]
    for step, height in enumerate(wanted[1:-1], start=1):
        free = range(chosen[-1] + 1, len(losses) - (len(wanted) - 1 - step))
        chosen.append(min(free, key=lambda index: abs(heights[index] - height)))
    return [*chosen, len(losses) - 1] if len(losses) > 1 else chosen


def toy_course(options: CtcOptions) -> Course:
    text = options.target or "cat"
    symbols = ("blank", *sorted(set(text)))
    target = tuple(symbols.index(character) for character in text)
    if required_frames(target) > options.frames:
        raise UsageError(f"frames={options.frames} are too few for target={text}: it needs {required_frames(target)}")
    course = train_toy(
        target,
        frames=options.frames,
        vocabulary=len(symbols),
        steps=options.steps,
        learning_rate=options.learning_rate,
        seed=options.seed,
    )
    losses = [forward_backward(log_probs, target).loss for log_probs in course]
    chosen = [(f"after {step} steps" if step else "before training", course[step]) for step in spread(losses, options.stages)]
    facts = (
        (
            "what learns",
            f"a toy: one free input of the softmax per frame and symbol, start values N(0, 0.1), seed {options.seed}",
        ),
        ("training", f"{options.steps} steps of gradient descent, learning rate {options.learning_rate:g}"),
        ("target", text),
    )
    stages = tuple(stage_of(name, log_probs, target) for name, log_probs in chosen)
    return Course(
        stages, target, symbols, np.arange(1, options.frames + 1, dtype=float), "frame", f'a toy learns "{text}"', facts
    )


def model_course(options: CtcOptions, files: Sequence[str], say: Callable[[str], None]) -> Course:
    utterance = one_utterance(options, files)
    heard: list[tuple[str, Heard]] = []
    for name, loaded in _networks(options, say):
        heard.append((name, hear(loaded, utterance, options)))
        last = loaded
    target, text = _target(last, heard[-1][1], utterance, options)
    if len({each.log_probs.shape for _, each in heard}) > 1:
        raise UsageError("models= with other symbols or frame rates cannot be stages of one picture: give networks of one kind")
    if required_frames(target) > len(heard[0][1].times):
        raise DataError(
            f"{show_path(utterance.audio_filepath)}: has {len(heard[0][1].times)} frames, its target needs "
            f"{required_frames(target)}; give a shorter target="
        )
    losses = [forward_backward(each.log_probs, target).loss for _, each in heard]
    chosen = range(len(heard)) if options.models else spread(losses, options.stages)
    times, inside = heard[0][1].times, options.inside(heard[0][1].times)
    stages = tuple(_cut(stage_of(heard[index][0], heard[index][1].log_probs, target), inside) for index in chosen)
    facts = (
        ("recording", heard[0][1].name),
        ("target", text),
        ("networks", ", ".join(map(show_path, options.models)) or show_path(options.model)),
    )
    return Course(
        stages,
        target,
        ("blank", *last.tokenizer.symbols[1:]),
        times[inside],
        "s",
        plain_text(f"{heard[0][1].name}: {text}"),
        facts,
    )


def _networks(options: CtcOptions, say: Callable[[str], None]):
    """(name, network), one after the other: those of `models`, or all stages of the training of `model`."""
    if options.models:
        for path in options.models:
            yield show_path(Path(path).name or path), load_network(path)
        return
    final = load_network(options.model)
    yield "before training", before_training(final)
    end = final.notes.get("step")
    kept = checkpoints_of(options.model)
    for folder in kept:
        step = int(folder.name.removeprefix("step-"))
        if not isinstance(end, int) or step < end:
            yield f"after {step} steps", load_network(str(folder))
    if len(kept) < options.stages:
        say(f"{show_path(options.model)} has kept {len(kept)} checkpoints; training.keep=20 would keep more stages")
    yield f"after {end} steps, the best model" if isinstance(end, int) else "after training", final


def _target(loaded: LoadedModel, heard: Heard, utterance: Utterance, options: CtcOptions) -> tuple[tuple[int, ...], str]:
    text = options.target or heard.text
    if not text:
        raise UsageError(f"nobody wrote down what is said in {show_path(utterance.id)}: add target=TEXT")
    return tuple(loaded.tokenizer.encode(text)), loaded.tokenizer.normalize(text)


def _cut(stage: Stage, inside: slice) -> Stage:
    """The frames of a window, after the passes over all of them."""
    moves = stage.moves[inside.start : max(inside.stop - 1, inside.start)]
    return Stage(stage.name, stage.loss, stage.outputs[inside], stage.occupancies[inside], stage.states[inside], moves)


# --- pictures


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


# --- the report


def look(options: CtcOptions, files: Sequence[str], say: Callable[[str], None]) -> Report:
    """`asr-inspect ctc`."""
    if options.model or options.models:
        refuse_unread(options, ("frames", "steps", "learning_rate", "seed"), "it belongs to the toy, while a network is given")
        if options.models:
            refuse_unread(options, ("stages",), "models= gives the stages one by one")
        course = model_course(options, files, say)
    elif options.manifest or files:
        raise UsageError("a recording needs a network to hear it: add model=DIR or models=[...], or leave the recording out")
    else:
        course = toy_course(options)
    return Report(
        name="ctc",
        title="Connectionist temporal classification at work",
        lead=(
            "A network is told what was said, but not when. The forward-backward algorithm sums over all ways to spread the "
            "target over the frames, with blanks in between; the share of these paths that is at a symbol in a frame is the "
            "symbol's occupancy there. The error signal is occupancy minus output: it is spread out while the network knows "
            "nothing, gathers around what it begins to predict, and vanishes where the outputs are spikes at the right labels "
            "(Graves, Fernández, Gomez and Schmidhuber 2006)."
        ),
        facts=(*course.facts, ("frames", str(len(course.times))), ("states of the lattice", str(2 * len(course.target) + 1))),
        pictures=(
            Picture(
                "ctc",
                "Outputs and error signals at stages of the training",
                "Left: what the softmax says, the blank dashed, the winning symbol named above its peak. Right: the error signal "
                "at the softmax's inputs, occupancy minus output, on one scale for all stages.",
                draw_course(course),
            ),
            Picture(
                "lattice",
                "The lattice: where the paths of the target run",
                "States from top to bottom are the target with a blank around and between its tokens; every path begins in one "
                "of the first two and ends in one of the last two. The more of the paths' probability goes through a state, the "
                "larger its circle (or the brighter its cell), and the stronger the line of a move.",
                draw_lattices(course),
            ),
        ),
        tables=_tables(course),
        summary="\n".join(f"  {stage.name}: loss {stage.loss:.4g} nats" for stage in course.stages),
    )


def _tables(course: Course) -> tuple[Table, ...]:
    shown = [BLANK, *dict.fromkeys(course.target)]
    symbols = lattice_symbols(course.target)
    stages = [
        (
            stage.name,
            stage.loss,
            float(np.exp(-stage.loss)),
            float(np.abs(stage.error).sum() / len(course.times)),
            _read(stage, course),
        )
        for stage in course.stages
    ]
    signals: list[tuple[Cell, ...]] = [
        (stage.name, t + 1, float(time), course.symbols[symbol], *(float(part[t, symbol]) for part in parts))
        for stage in course.stages
        for parts in [(stage.outputs, stage.occupancies, stage.error)]
        for t, time in enumerate(course.times)
        for symbol in shown
    ]
    lattice = [
        (stage.name, t + 1, float(time), state + 1, course.symbols[symbol], float(stage.states[t, state]))
        for stage in course.stages
        for t, time in enumerate(course.times)
        for state, symbol in enumerate(symbols)
    ]
    when = "time_s" if course.unit == "s" else "time_frames"
    return (
        Table(
            "",
            "The stages",
            ("stage", "loss, nats", "probability of the target", "error per frame (sum of sizes)", "best path reads"),
            stages,
        ),
        Table("ctc", "Outputs and error signals", ("stage", "frame", when, "symbol", "output", "occupancy", "error"), signals),
        Table("lattice", "Occupancies of the lattice", ("stage", "frame", when, "state", "symbol", "occupancy"), lattice),
    )


def _read(stage: Stage, course: Course) -> str:
    """The best path, collapsed."""
    best = stage.outputs.argmax(axis=1)
    kept = [symbol for k, symbol in enumerate(best) if symbol != BLANK and (k == 0 or symbol != best[k - 1])]
    joint = "" if all(len(symbol) == 1 for symbol in course.symbols[1:]) else " "
    return joint.join(course.symbols[symbol] for symbol in kept)
