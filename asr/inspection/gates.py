"""What single cells do while a recording is heard: gates, cell states, outputs, and the posteriors that all of them end in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from asr.errors import UsageError
from asr.inspection.figures import GREY, colour, dash, draw_spectrogram, new_figure, plain_text, png, shown_symbol, tidy
from asr.inspection.page import Cell, Picture, Report, Table
from asr.inspection.source import (
    Heard,
    WindowOptions,
    describe_encoder,
    hear,
    network_of,
    one_utterance,
    through_layers,
)
from asr.models.ctc import BLANK
from asr.models.encoder import EncoderOptions
from asr.models.package import LoadedModel
from asr.text.tokenizer import Tokenizer

DIRECTIONS = ("forward", "backward")
#: What a layer's trace holds, from the door to the output: key -> its panel's name and whether it is a gate within 0 .. 1.
PANELS = {
    "input": ("input gate", True),
    "reset": ("reset gate", True),
    "update": ("update gate", True),
    "forget": ("forget gate", True),
    "output": ("output gate", True),
    "candidate": ("candidate", False),
    "cell": ("cell state", False),
    "hidden": ("cell output", False),
}
#: Most cells that one picture can show.
MOST = 14
#: Symbols whose posterior nowhere reaches this are not drawn.
SEEN = 0.05


@dataclass
class GatesOptions(WindowOptions):
    #: layer that is looked into, counted from 1; 0 for the last one
    layer: int = 0
    #: direction of reading (bidirectional networks): forward | backward
    direction: str = "forward"
    #: cells that are shown, counted from 1; none for the most active ones, whose outputs vary most within the picture
    cells: list[int] = field(default_factory=list)
    #: how many of the most active cells are shown, 1 to 14
    count: int = 3
    #: seed of a fresh network's weights
    seed: int = 1
    #: shape of a fresh network, where `model` is not given
    encoder: EncoderOptions = field(default_factory=EncoderOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer < 0:
            raise UsageError(f"layer={self.layer} is out of range: layers are counted from 1, and 0 stands for the last one")
        if self.direction not in DIRECTIONS:
            raise UsageError(f"direction={self.direction} is not known: choose one of {', '.join(DIRECTIONS)}")
        if not 1 <= self.count <= MOST or len(self.cells) > MOST:
            raise UsageError(f"count={self.count} with {len(self.cells)} cells: one picture shows 1 to {MOST}")
        if self.cells and self.count != 3:
            raise UsageError(f"count={self.count} and cells={self.cells} are given together: leave one of them out")
        if min(self.cells, default=1) < 1 or len(set(self.cells)) < len(self.cells):
            raise UsageError(f"cells={self.cells}: expected different numbers, counted from 1")
        if not 0 <= self.seed < 2**31:
            raise UsageError(f"seed={self.seed} is out of range: use a whole number from 0 to {2**31 - 1}")


@dataclass(frozen=True)
class Watched:
    """Some cells of one layer and direction over T' frames."""

    #: Layer and cells, counted from 1.
    layer: int
    cells: tuple[int, ...]
    backward: bool
    #: key of `PANELS` -> (T', cells)
    values: Mapping[str, np.ndarray]


@torch.no_grad()
def watch(loaded: LoadedModel, heard: Heard, options: GatesOptions) -> Watched:
    """The trace of one layer, cut to the chosen cells or to those whose outputs have the largest standard deviation.

    Raises UsageError for a layer, direction or cell that the network does not have.
    """
    encoder, shape = loaded.model.encoder, loaded.model.options.encoder
    layer = options.layer or shape.layers
    if layer > shape.layers:
        raise UsageError(f"layer={layer}: the network has {shape.layers}")
    entering = through_layers(encoder, heard.entering, heard.hidden_lengths, count=layer - 1)
    recurrent: Any = encoder.layers[layer - 1]
    traces = recurrent.trace(encoder.norms[layer - 1](entering), heard.hidden_lengths)
    backward = options.direction == "backward"
    if backward and len(traces) == 1:
        raise UsageError("direction=backward: the network reads forward only, or has no recurrence")
    trace = {key: value[0].double().numpy() for key, value in traces[int(backward)].items()}
    outputs = trace["hidden"]
    missing = [cell for cell in options.cells if cell > outputs.shape[1]]
    if missing:
        raise UsageError(f"cells={options.cells}: layer {layer} has cells 1 to {outputs.shape[1]}")
    ranking = np.argsort(-outputs[options.inside(heard.times)].std(axis=0), kind="stable")
    cells = [cell - 1 for cell in options.cells] or ranking[: options.count].tolist()
    values = {key: trace[key][:, cells] for key in PANELS if key in trace}
    return Watched(layer, tuple(cell + 1 for cell in cells), backward, values)


# --- the picture


def draw_gates(heard: Heard, watched: Watched, tokenizer: Tokenizer, window: slice, *, title: str) -> bytes:
    """Spectrogram, one panel per gate and state, posteriors with the decoded labels; time from top to bottom the same."""
    keys = [key for key in watched.values if key != "candidate"]
    heights = [1.7, *([1.0] * len(keys)), 1.5]
    figure = new_figure(11.5, 1.2 + 1.15 * sum(heights))
    rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    draw_spectrogram(rows[0], heard.logmel, heard.logmel_times, heard.hz)
    rows[0].set_title("log-mel spectrogram, and the decoded labels at their times", loc="left", fontsize=10)
    times = heard.times
    half = heard.frame_shift_s / 2
    left, right = max(times[window.start] - half, 0.0), times[window.stop - 1] + half
    for axes, key in zip(rows[1:], keys):
        _draw_panel(axes, key, times[window], watched, window)
    cells = min(len(watched.cells), 7)
    rows[1].legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=cells, frameon=False, fontsize=9, borderaxespad=0)
    _draw_posteriors(rows[-1], heard, tokenizer, window)
    name_labels(rows[0], heard, tokenizer, left, right)
    rows[-1].set_xlabel("time, s")
    rows[-1].set_xlim(left, right)
    figure.suptitle(title, fontsize=12)
    figure.align_ylabels(rows)
    return png(figure)


def _draw_panel(axes: Axes, key: str, times: np.ndarray, watched: Watched, window: slice) -> None:
    name, gate = PANELS[key]
    for place, cell in enumerate(watched.cells):
        axes.plot(
            times,
            watched.values[key][window, place],
            color=colour(place),
            linestyle=dash(place),
            linewidth=1.3,
            label=f"cell {cell}",
        )
    if gate:
        axes.set_ylim(-0.04, 1.04)
        axes.set_yticks([0, 0.5, 1])
    else:
        axes.axhline(0, color="0.5", linewidth=0.7)
    axes.set_ylabel("opening" if gate else "value", fontsize=9)
    tidy(axes)
    axes.set_title(f"{name} (0 shut, 1 open)" if gate else name, loc="left", fontsize=10)


def _draw_posteriors(axes: Axes, heard: Heard, tokenizer: Tokenizer, window: slice) -> None:
    """The blank dashed, every symbol that shows itself in a colour of its own and named at its highest frame of each spike."""
    posteriors = np.exp(heard.log_probs)
    axes.plot(heard.times, posteriors[:, BLANK], color=GREY, linestyle=(0, (4, 2)), linewidth=1.2)
    seen = [symbol for symbol in range(1, posteriors.shape[1]) if posteriors[window, symbol].max() >= SEEN]
    for symbol in seen:
        axes.plot(heard.times, posteriors[:, symbol], color=colour(symbol - 1), linestyle=dash(symbol - 1), linewidth=1.4)
    for token, time in zip(heard.hypothesis.tokens, heard.hypothesis.times):
        frame = round((time - heard.times[0]) / heard.frame_shift_s)
        if window.start <= frame < window.stop:
            axes.annotate(
                shown_symbol(tokenizer.symbols[token]),
                (time, posteriors[frame, token]),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=9,
                color=colour(token - 1),
            )
    axes.set_ylim(0, 1.22)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel("probability", fontsize=9)
    tidy(axes)
    axes.set_title("CTC posteriors: symbols named at their spikes, the blank dashed", loc="left", fontsize=10)


def name_labels(axes: Axes, heard: Heard, tokenizer: Tokenizer, left: float, right: float) -> None:
    """The decoded labels on the spectrogram, each at the time of its spike."""
    for token, time in zip(heard.hypothesis.tokens, heard.hypothesis.times):
        if left <= time <= right:
            axes.axvline(time, color="#D55E00", linewidth=0.6, alpha=0.5)
            axes.annotate(
                shown_symbol(tokenizer.symbols[token]),
                (time, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, -3),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=9,
                color="#8A3B00",
                bbox={"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            )


# --- the report


def look(options: GatesOptions, files: Sequence[str], say: Callable[[str], None]) -> Report:
    """`asr-inspect gates`."""
    utterance = one_utterance(options, files)
    loaded, name = network_of(options.model, options.encoder, seed=options.seed)
    heard = hear(loaded, utterance, options)
    window = options.inside(heard.times)
    watched = watch(loaded, heard, options)
    shape = loaded.model.options.encoder
    reading = "" if not shape.bidirectional else f", {options.direction} direction"
    place = f"layer {watched.layer} of {shape.layers}{reading}"
    title = plain_text(f"{heard.name}: {describe_encoder(shape)}; {place}")
    chosen = "as chosen" if options.cells else f"the {len(watched.cells)} whose outputs vary most"
    return Report(
        name="gates",
        title="Gates, cell states and posteriors",
        lead=(
            "Each line is one cell. The input gate lets the candidate into the cell state, the forget gate says how much of the "
            "state is kept from one frame to the next, the output gate how much of it the cell shows. The posteriors at the "
            "bottom are what all cells together end in: CTC says the blank most of the time and a label in spikes."
        ),
        facts=(
            ("recording", heard.name),
            ("said", heard.text or "(not written down)"),
            ("heard", heard.hypothesis.text or "(nothing)"),
            ("network", f"{name}: {describe_encoder(shape)}"),
            ("looked into", place),
            ("cells", f"{', '.join(map(str, watched.cells))} ({chosen})"),
            ("time per frame", f"{1000 * heard.frame_shift_s:g} ms"),
        ),
        pictures=(
            Picture(
                "gates",
                "From the sound to the labels",
                "All panels share the time axis. Gates lie between 0 (shut) and 1 (open). A backward direction has read "
                "everything to the right of a frame when it comes to it.",
                draw_gates(heard, watched, loaded.tokenizer, window, title=title),
            ),
        ),
        tables=_tables(heard, watched, loaded.tokenizer, window),
        summary=f"  heard: {heard.hypothesis.text}\n  {place}: cells {', '.join(map(str, watched.cells))}",
    )


def _tables(heard: Heard, watched: Watched, tokenizer: Tokenizer, window: slice) -> tuple[Table, ...]:
    """How the cells behave, where the labels are, and all values of the picture."""
    frames = range(window.start, window.stop)
    keys = list(watched.values)
    behaviour: list[tuple[Cell, ...]] = []
    for place, cell in enumerate(watched.cells):
        for key in keys:
            part = watched.values[key][window, place]
            behaviour.append((f"cell {cell}", PANELS[key][0], *map(float, (part.mean(), part.std(), part.min(), part.max()))))
    labels = [
        (number + 1, tokenizer.symbols[token], float(time), float(np.exp(heard.log_probs[_frame(heard, time), token])))
        for number, (token, time) in enumerate(zip(heard.hypothesis.tokens, heard.hypothesis.times))
    ]
    values = [
        (frame + 1, float(heard.times[frame]), cell, *(float(watched.values[key][frame, place]) for key in keys))
        for place, cell in enumerate(watched.cells)
        for frame in frames
    ]
    posteriors = np.exp(heard.log_probs)
    every = [(frame + 1, float(heard.times[frame]), *map(float, posteriors[frame])) for frame in frames]
    return (
        Table("", "How the cells behave", ("cell", "what", "mean", "standard deviation", "least", "most"), behaviour),
        Table("labels", "Decoded labels", ("number", "label", "time_s", "posterior"), labels),
        Table("gates", "Gates and states", ("frame", "time_s", "cell", *(PANELS[key][0] for key in keys)), values),
        Table("posteriors", "Posteriors", ("frame", "time_s", "blank", *tokenizer.symbols[1:]), every),
    )


def _frame(heard: Heard, time: float) -> int:
    return round((time - heard.times[0]) / heard.frame_shift_s)
