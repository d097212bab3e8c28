"""How far back a gradient reaches: the norm of d(output at t) / d(input at t - lag) against the lag.

Hochreiter (1991) and Bengio, Simard and Frasconi (1994): in a simple recurrent network it vanishes exponentially. Hochreiter
and Schmidhuber (1997): along the constant error carrousel it does not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.data.files import show_path
from asr.data.manifest import Utterance
from asr.errors import DataError, UsageError
from asr.inspection.source import SourceOptions, hear, through_layers
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
