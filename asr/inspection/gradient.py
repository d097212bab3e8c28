"""How far back a gradient reaches: the norm of d(output at t) / d(input at t - lag) against the lag.

Hochreiter (1991) and Bengio, Simard and Frasconi (1994): in a simple recurrent network it vanishes exponentially. Hochreiter
and Schmidhuber (1997): along the constant error carrousel it does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from asr.data.files import show_path
from asr.data.manifest import Utterance
from asr.errors import DataError, UsageError
from asr.inspection.figures import DASHES, colour, new_figure, plain_text, png, tidy
from asr.inspection.page import Cell, Picture, Report, Table
from asr.inspection.source import (
    SourceOptions,
    before_training,
    describe_encoder,
    hear,
    load_network,
    one_utterance,
    refuse_unread,
    through_layers,
)
from asr.models.encoder import INITIALIZATIONS, Encoder, EncoderOptions
from asr.models.package import LoadedModel

#: The line of descent: name as typed -> the name in a picture, and the switches of the encoder that make it.
STATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("feed-forward", {"cell": "mlp"}),
    "rnn": ("recurrent, tanh", {"cell": "rnn"}),
    "relu": ("recurrent, ReLU", {"cell": "rnn", "activation": "relu"}),
    "lstm1997": ("LSTM 1997, no forget gate", {"cell": "lstm", "forget_gate": False}),
    "lstm": ("LSTM, forget gate", {"cell": "lstm"}),
    "peepholes": ("LSTM, peepholes", {"cell": "lstm", "peepholes": True}),
    "gru": ("GRU", {"cell": "gru"}),
}
READINGS = {"forward": False, "bidirectional": True}
#: Values that one pass through a network may hold at once, sequences x frames x (inputs + outputs).
VALUES_AT_ONCE = 2**23
#: Where the picture ends below: a gradient this small moves no weight.
FLOOR = 1e-12


@dataclass
class FreshOptions:
    """The fresh networks that are compared; all have the same shape but for the cell."""

    #: layers
    layers: int = 1
    #: cells per layer and direction
    width: int = 64
    #: size of the inputs, independent numbers from N(0, 1)
    inputs: int = 40
    #: start values: uniform (within +-0.1) | orthogonal
    initialization: str = "uniform"
    #: added to the bias of forget gates
    forget_bias: float = 1.0
    #: frames that the feed-forward network sees on each side
    context: int = 5

    def __post_init__(self) -> None:
        limits = {"layers": (1, 8), "width": (1, 1024), "inputs": (1, 1024), "context": (0, 1000)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"fresh.{name}={getattr(self, name)} is out of range: use a whole number from {low} to {high}")
        if self.initialization not in INITIALIZATIONS:
            raise UsageError(f"fresh.initialization={self.initialization} is not known: choose {' or '.join(INITIALIZATIONS)}")
        if not -100 <= self.forget_bias <= 100:
            raise UsageError(f"fresh.forget_bias={self.forget_bias} is out of range: use a number from -100 to 100")

    def encoder(self, station: str, bidirectional: bool) -> EncoderOptions:
        """The network of one station: nothing but the recurrent layers."""
        switches = dict(STATIONS[station][1])
        if switches["cell"] == "mlp":
            switches["context"] = self.context
        if switches["cell"] == "lstm" and switches.get("forget_gate", True):
            switches["forget_bias"] = self.forget_bias
        return EncoderOptions(
            frontend="stack",
            subsampling=1,
            layers=self.layers,
            width=self.width,
            bidirectional=bidirectional,
            dropout=0.0,
            layer_norm=False,
            initialization=self.initialization,
            **switches,
        )


@dataclass
class GradientOptions(SourceOptions):
    #: trained networks, each shown before and after its training: run directories or model folders
    models: list[str] = field(default_factory=list)
    #: fresh networks: mlp | rnn | relu | lstm1997 | lstm | peepholes | gru
    stations: list[str] = field(default_factory=lambda: list(STATIONS))
    #: fresh networks read forward | bidirectional
    readings: list[str] = field(default_factory=lambda: list(READINGS))
    #: largest lag, frames of the recurrent layers
    lag: int = 100
    #: times t (fresh networks: random sequences) whose norms are averaged
    positions: int = 4
    #: orthonormal directions of the output that the norm is measured in: exact from as many as there are outputs,
    #: else an estimate without bias
    directions: int = 64
    #: seed of the fresh networks, their inputs and the directions
    seed: int = 1
    #: shape of the fresh networks
    fresh: FreshOptions = field(default_factory=FreshOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        limits = {"lag": (1, 2000), "positions": (1, 64), "directions": (1, 4096), "seed": (0, 2**31 - 1)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name}={getattr(self, name)} is out of range: use a whole number from {low} to {high}")
        for name, known in (("stations", STATIONS), ("readings", READINGS)):
            unknown = [each for each in getattr(self, name) if each not in known]
            if unknown or not getattr(self, name):
                raise UsageError(f"{name}=[{','.join(getattr(self, name))}]: expected some of {', '.join(known)}")
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise UsageError(f"{name}=[{','.join(getattr(self, name))}]: name each once")
        if self.model and self.models:
            raise UsageError("model= and models= are given together: put all networks into models=[...]")


@dataclass(frozen=True)
class Reach:
    """One curve: how strongly the output at a time depends on inputs before and after it."""

    #: What the network is called in the legend; the same before and after training.
    name: str
    #: fresh | before training | after training
    state: str
    bidirectional: bool
    #: (K,) lags in frames, negative ones look ahead.
    lags: np.ndarray
    #: (K,) mean over the positions of the Frobenius norm; and the least and the largest of them.
    norms: np.ndarray
    least: np.ndarray
    most: np.ndarray
    #: Time of a frame, s; None for a network without a recording.
    frame_s: float | None

    def at(self, lag: int) -> float | None:
        """The norm at one lag, None where it was not measured."""
        found = np.flatnonzero(self.lags == lag)
        return float(self.norms[found[0]]) if len(found) else None

    @property
    def fades(self) -> int | None:
        """The first lag into the past from which on the norm stays below a hundredth of its largest; None where it never does."""
        past = self.lags >= 0
        strong = np.flatnonzero(self.norms[past] >= 0.01 * self.norms.max())
        last = int(strong[-1]) if len(strong) else -1
        return last + 1 if last + 1 < past.sum() else None


def jacobian_norms(
    run: Callable[[Tensor], Tensor], x: Tensor, positions: Sequence[int], *, directions: int, seed: int
) -> np.ndarray:
    """Frobenius norms of d(output at t) / d(input at s), (positions, T), for each t in `positions` and every s.

    `run` maps copies of one sequence (B, T, E) to outputs (B, T, H). The squared norm is the sum of squared gradients over
    an orthonormal basis of the outputs: over all of it where `directions` >= H, else H / directions times the sum over so many
    directions drawn at random, whose mean is the squared norm. x: (1, T, E).
    """
    with torch.no_grad():
        size = run(x).shape[2]
    draw = torch.Generator().manual_seed(seed)
    count = min(directions, size)
    basis = torch.eye(size, dtype=x.dtype)
    if count < size:
        basis = torch.linalg.qr(torch.randn(size, count, generator=draw, dtype=x.dtype))[0].t() * (size / count) ** 0.5
    jobs = [(place, row) for place in range(len(positions)) for row in range(count)]
    at_once = max(1, VALUES_AT_ONCE // (x.shape[1] * (x.shape[2] + size)))
    squares = np.zeros((len(positions), x.shape[1]))
    for first in range(0, len(jobs), at_once):
        part = jobs[first : first + at_once]
        copies = x.expand(len(part), -1, -1).clone().requires_grad_()
        outputs = run(copies)
        times = torch.tensor([positions[place] for place, _ in part])
        wanted = outputs[torch.arange(len(part)), times]
        (gradient,) = torch.autograd.grad((wanted * basis[[row for _, row in part]]).sum(), copies)
        found = gradient.square().sum(dim=2).numpy()
        for (place, _), row in zip(part, found):
            squares[place] += row
    return np.sqrt(squares)


def _along_lags(norms: np.ndarray, positions: Sequence[int], lags: np.ndarray) -> np.ndarray:
    """(positions, T) -> (positions, K): the norm at t - lag."""
    return np.stack([row[t - lags] for row, t in zip(norms, positions)])


def _reach(name: str, state: str, bidirectional: bool, lags: np.ndarray, values: np.ndarray, frame_s: float | None) -> Reach:
    return Reach(name, state, bidirectional, lags, values.mean(axis=0), values.min(axis=0), values.max(axis=0), frame_s)


# --- fresh networks


def fresh_reach(station: str, bidirectional: bool, options: GradientOptions) -> Reach:
    """The station's curve, from `positions` sequences of noise that begin `lag` frames before the time of the output."""
    shape, lag = options.fresh, options.lag
    draw = torch.Generator().manual_seed(options.seed)
    sequences = torch.randn(options.positions, 2 * lag + 1, shape.inputs, generator=draw, dtype=torch.float64)
    if not bidirectional:
        sequences = sequences[:, : lag + 1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        encoder = Encoder(shape.encoder(station, bidirectional), shape.inputs).double().eval()
    lags = np.arange(-lag if bidirectional else 0, lag + 1)
    rows = [
        jacobian_norms(_runner(encoder), one[None], [lag], directions=options.directions, seed=options.seed) for one in sequences
    ]
    values = np.concatenate([_along_lags(row, [lag], lags) for row in rows])
    return _reach(STATIONS[station][0], "fresh", bidirectional, lags, values, None)


def _runner(encoder: Encoder) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        return through_layers(encoder, x, torch.full((len(x),), x.shape[1]))

    return run


# --- trained networks


def trained_reach(name: str, state: str, loaded: LoadedModel, utterance: Utterance, options: GradientOptions) -> Reach:
    """The curve of one network for one recording: from what enters its first recurrent layer to what leaves its last.

    The times t stand so that every lag is measured at all of them, evenly over what remains of the recording. Raises
    DataError for a recording too short for that.
    """
    entering = hear(loaded, utterance, options).entering.double()
    frames = entering.shape[1]
    bidirectional = loaded.model.options.encoder.bidirectional
    room = (frames - options.positions) // (2 if bidirectional else 1)
    if room < 1:
        raise DataError(
            f"{show_path(utterance.audio_filepath)}: has {frames} frames, too few for positions={options.positions}; "
            "choose a longer recording"
        )
    lag = min(options.lag, room)
    last = frames - 1 - lag if bidirectional else frames - 1
    positions = [round(float(t)) for t in np.linspace(lag, last, options.positions)]
    lags = np.arange(-lag if bidirectional else 0, lag + 1)
    encoder = loaded.model.encoder.double()
    norms = jacobian_norms(_runner(encoder), entering, positions, directions=options.directions, seed=options.seed)
    frame_s = loaded.model.features.frame_shift_s * encoder.subsampling
    return _reach(name, state, bidirectional, lags, _along_lags(norms, positions, lags), frame_s)


def _names(paths: Sequence[str]) -> list[str]:
    """Names that tell the networks apart: the folders', or the whole paths where two are called the same."""
    short = [Path(path).resolve().parent.name if Path(path).name == "model" else Path(path).resolve().name for path in paths]
    return [show_path(name) for name in (short if len(set(short)) == len(short) else paths)]


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
