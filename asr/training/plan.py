"""What is chosen for a folder of recordings: text rules, network, batches and schedule, from the hours and the letters in it.

Every choice is a key of `asr-train` that any typed key, or an experiment, overrules. `SIZES` is the table; its rows up to ten
hours are near to what was measured in recipes/yesno, recipes/fsdd and recipes/speechocean762 ("Half an hour", "Characters"), the
others follow the same line and have not been measured.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from asr.batches.order import BatchOptions, batch_order
from asr.text.normalize import TextRules, normalize_text

#: Speeds at which training recordings are heard; the fastest one leaves the least room.
SPEEDS = (0.9, 1.0, 1.1)
#: The text is written at most so densely that nine of ten recordings have so many steps for each token; measured settings had 3.
STEPS_PER_TOKEN = 2.0
DENSE_SHARE = 0.1
#: Steps without masks over the features, for CTC to find its first letters.
CALM_STEPS = 600
EPOCHS = (20, 100)
#: Share of the loss that the middle output of a self-conditioned network has.
MIDDLE_SHARE = 0.3
#: What goes with Muon, as measured in recipes/speechocean762.
MUON_KEYS = {"optim.optimizer": "muon", "optim.momentum": 0.95, "optim.weight_decay": 0.3}

#: AdamW, where it is typed instead, goes on for so many times as many steps.
ADAM_STEPS = 2.5


@dataclass(frozen=True)
class Size:
    """A row of the table, for so many hours of training speech."""

    #: the row holds below so many hours
    below_hours: float
    layers: int
    #: cells per layer and direction
    width: int
    #: channels of the convolutions, residual convolutions behind them, width to which they are narrowed, and mel bins
    channels: int
    blocks: int
    projection: int
    bins: int
    dropout: float
    #: most recordings and most seconds in a batch
    utterances: int
    seconds: float
    #: steps of the whole training, from which the number of epochs follows
    steps: int
    #: adamw or muon
    optimizer: str
    #: peak of its learning rate
    rate: float


ADAM: dict[str, Any] = {"optimizer": "adamw", "channels": 16, "blocks": 0, "projection": 0, "bins": 40}
MUON: dict[str, Any] = {"optimizer": "muon", "channels": 64, "blocks": 2, "projection": 256, "bins": 80}
SIZES = (
    Size(0.1, **ADAM, layers=1, width=64, dropout=0.1, utterances=4, seconds=40, steps=1000, rate=3e-3),
    Size(0.5, **ADAM, layers=2, width=128, dropout=0.2, utterances=8, seconds=60, steps=3000, rate=2e-3),
    Size(2.0, **MUON, layers=3, width=192, dropout=0.3, utterances=10, seconds=72, steps=2500, rate=2.5e-3),
    Size(10, **MUON, layers=3, width=256, dropout=0.3, utterances=12, seconds=72, steps=5000, rate=2.5e-3),
    Size(50, **MUON, layers=4, width=384, dropout=0.3, utterances=16, seconds=160, steps=16000, rate=2e-3),
    Size(200, **MUON, layers=4, width=512, dropout=0.3, utterances=24, seconds=300, steps=30000, rate=2e-3),
    Size(1e9, **MUON, layers=5, width=640, dropout=0.2, utterances=48, seconds=600, steps=100000, rate=1.5e-3),
)


@dataclass(frozen=True)
class Spoken:
    """A recording of the training part, as far as the plan looks at it."""

    #: s
    duration: float
    #: Hz
    sample_rate: int
    text: str


@dataclass(frozen=True)
class Choice:
    """Keys that were chosen together, and why, in plain words."""

    keys: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class Plan:
    """All choices, in the order in which they are told."""

    choices: tuple[Choice, ...]

    @property
    def keys(self) -> dict[str, Any]:
        """Dotted key -> value."""
        return {key: value for choice in self.choices for key, value in choice.keys.items()}

    def lines(self, typed: frozenset[str] = frozenset()) -> list[str]:
        """The reason of each choice, and below it its keys; those that were `typed` instead, or set by an experiment, are left
        out.
        """
        lines = []
        for choice in self.choices:
            words = [f"{key}={_as_typed(value)}" for key, value in choice.keys.items() if key not in typed]
            if words:
                lines += [choice.reason, f"    {' '.join(words)}"]
        return lines


def size_for(hours: float) -> Size:
    """The row of the table for so many hours of training speech."""
    return next(size for size in SIZES if hours < size.below_hours)


def text_choice(texts: Sequence[str]) -> Choice:
    """The rules for these transcripts: presentation forms folded, small letters where both cases occur, no punctuation."""
    rules = TextRules(unicode="folded")
    keys: dict[str, Any] = {"tokens.unicode": rules.unicode}
    words = ["text: letters as they stand"]
    plain = [normalize_text(text, rules) for text in texts]
    if any(text != text.lower() for text in plain) and any(text != text.upper() for text in plain):
        keys["tokens.case"] = "lower"
        words.append("large ones made small, for both occur")
    dropped = replace(rules, punctuation="drop")
    marked = sum(normalize_text(text, dropped) != text for text in plain)
    if marked:
        keys["tokens.punctuation"] = "drop"
        words.append(f"punctuation left out, for nobody says it (it stands in {marked} of {len(texts)} transcripts)")
    words.append("digits as they are")
    return Choice(keys, ", ".join(words))


def rate_choice(spoken: Sequence[Spoken]) -> Choice:
    """The rate of the network: 8 kHz where most of the speech was recorded below 16 kHz."""
    low = sum(one.duration for one in spoken if one.sample_rate < 16000)
    total = sum(one.duration for one in spoken)
    if 2 * low > total:
        return Choice({"features.sample_rate": 8000}, f"sound: {100 * low / total:.0f} % was recorded below 16 kHz")
    return Choice({"features.sample_rate": 16000}, "sound: 16 kHz holds all that speech needs")


def steps_choice(
    spoken: Sequence[Spoken], encode: Callable[[str], list[int]], frames_of: Callable[[float], int], fastest: float
) -> Choice:
    """How many frames become one step of the network: as many as leave room for the text, for fewer steps are faster.

    CTC needs T' >= U + repeats, at the fastest speed too; `frames_of` turns seconds into frames T of 10 ms. A recording that has
    too few even without subsampling is left for the check to name.
    """
    room = [(frames_of(one.duration / fastest), _needed(encode(one.text))) for one in spoken]
    possible = [(frames, needed) for frames, needed in room if frames >= needed]
    for subsampling in (4, 3, 2, 1):
        shares = [-(-frames // subsampling) / max(1, needed) for frames, needed in possible]
        dense = sum(share < STEPS_PER_TOKEN for share in shares)
        if all(share >= 1 for share in shares) and dense <= DENSE_SHARE * len(shares):
            break
    needed = sum(needed for _, needed in possible)
    steps = sum(-(-frames // subsampling) for frames, _ in possible)
    reason = f"steps: {steps / max(1, needed):.1f} for each token on average, so that every recording has room for its text"
    return Choice({"encoder.subsampling": subsampling}, reason)


def network_choice(size: Size, hours: float, fixed: Mapping[str, Any] | None = None) -> Choice:
    """Front-end and layers, and where the upper layers read what those below would write.

    `fixed` holds values that were typed, by key: the others are chosen to go with them.
    """
    fixed = fixed or {}
    keys: dict[str, Any] = {"features.num_bins": size.bins, "encoder.conv_channels": size.channels}
    if size.blocks and fixed.get("encoder.frontend", "conv") == "conv":
        keys["encoder.conv_blocks"] = size.blocks
    if size.projection:
        keys["encoder.projection"] = size.projection
    keys |= {"encoder.layers": size.layers, "encoder.width": size.width, "encoder.dropout": size.dropout}
    layers = fixed.get("encoder.layers", size.layers)
    middle = {"encoder.self_conditioned", "objective.intermediate", "objective.intermediate_layer"}
    if size.optimizer == "muon" and layers > 1 and not middle & fixed.keys():
        keys |= {"encoder.self_conditioned": (layers + 1) // 2, "objective.intermediate": MIDDLE_SHARE}
    return Choice(keys, f"network: a {_word_for(size)} one, for {show_hours(hours)} of speech to learn from")


def schedule_choices(
    size: Size, durations: Sequence[float], *, rate: float = 1.0, fixed: Mapping[str, Any] | None = None
) -> list[Choice]:
    """Batches, epochs and what hangs on them; `rate` scales learning rate and steps, below 1 for a network that has learnt.

    `fixed` holds values that were typed, by key: the others are chosen to go with them.
    """
    fixed = fixed or {}
    muon = size.optimizer == "muon"
    utterances = fixed.get("batches.utterances", max(2, min(size.utterances, len(durations) // 10)))
    seconds = fixed.get("batches.seconds", size.seconds)
    per_epoch = len(batch_order(durations, options=BatchOptions(utterances=utterances, seconds=seconds), seed=1, epoch=1))
    own = fixed.get("optim.optimizer", size.optimizer) == size.optimizer
    wanted = rate * size.steps * (ADAM_STEPS if muon and not own else 1)
    epochs = fixed.get("training.epochs", min(max(round(wanted / per_epoch), EPOCHS[0]), EPOCHS[1]))
    steps = epochs * per_epoch
    training: dict[str, Any] = {
        "batches.utterances": utterances,
        "batches.seconds": seconds,
        "training.epochs": epochs,
        "optim.warmup_steps": min(max(steps // (10 if muon else 20), 20), 500),
        "training.average_decay": round(min(max(1 - 10 / steps, 0.95), 0.9998), 4),
    }
    if own:
        training |= {"optim.learning_rate": round(rate * size.rate, 6), **(MUON_KEYS if muon else {})}
    if size.width <= 128:
        training |= {"training.threads": 1, "training.precision": "float32"}
    variation: dict[str, Any] = {
        "augment.speed": list(SPEEDS),
        "augment.frequency_masks": 2,
        "augment.frequency_width": size.bins // (4 if muon else 5),
        "augment.time_masks": 5 if muon else 2,
        "augment.time_width": 0.06 if muon else 0.05,
        "augment.start_epoch": min(-(-CALM_STEPS // per_epoch), max(1, epochs // 4)),
    }
    views = ""
    if muon and rate == 1.0:
        variation |= {"objective.consistency": 0.2, "objective.consistency_start_epoch": epochs // 2}
        views = ", and in the second half two ways at once"
    times = "once" if epochs == 1 else f"{epochs} times"
    told = f"training: {times} through {len(durations)} recordings in {per_epoch} batches, {steps:,} steps"
    return [
        Choice(training, told),
        Choice(variation, f"variation: each recording slower, faster and with gaps{views}, to learn more from it"),
    ]


def show_hours(hours: float) -> str:
    """`12 min` or `3.1 h`."""
    return f"{60 * hours:.1f} min" if hours < 0.1 else f"{60 * hours:.0f} min" if hours < 1 else f"{hours:.1f} h"


def _needed(tokens: Sequence[int]) -> int:
    """Steps that CTC needs for these tokens: one each, and one between equal neighbours."""
    return len(tokens) + sum(left == right for left, right in pairwise(tokens))


def _word_for(size: Size) -> str:
    return ("very small", "small", "small", "middle-sized", "large", "large", "very large")[SIZES.index(size)]


def _as_typed(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_as_typed, value))}]"
    if isinstance(value, (bool, dict)):
        return json.dumps(value, ensure_ascii=False)
    return f"{value:g}" if isinstance(value, float) else str(value)
