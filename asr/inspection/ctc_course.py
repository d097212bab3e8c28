"""The lattice of a target, and its error signal at stages of a training: those of a toy, or of a network that hears a recording.

Graves, Fernández, Gomez and Schmidhuber (2006). The error signal is what the softmax's inputs are pushed by, minus the
derivative of eq. 16: occupancy of a symbol minus its output, zero where the network says just what the target asks for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from asr.data.files import show_path
from asr.data.manifest import Utterance
from asr.errors import DataError, UsageError
from asr.inspection.figures import plain_text
from asr.inspection.source import (
    Heard,
    WindowOptions,
    before_training,
    checkpoints_of,
    hear,
    load_network,
    one_utterance,
)
from asr.models.ctc import BLANK, forward_backward, required_frames
from asr.models.package import LoadedModel


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
