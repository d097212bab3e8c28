"""How much of a corpus there should be, as its publishers count it, and in what a copy of it differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.data.corpora.corpus import WRONG_COUNT, check_choice, option
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance

#: Published hours are rounded to tenths; this much of a part (as a share) may differ besides.
HOURS_TOLERANCE = 0.001
#: What a size counts, as messages call it.
UNITS = ("utterances", "speakers")


@dataclass
class CountOptions:
    """What to do about a corpus that is not all there."""

    counts: str = option(
        "exact",
        "exact: refuse a copy whose counts differ from the published ones; any: take what there is, and say what differs",
        choices=("exact", "any"),
    )

    def __post_init__(self) -> None:
        check_choice(self, "counts")


@dataclass(frozen=True)
class Size:
    """How large a part of a corpus is; 0 stands for what is not known."""

    utterances: int
    speakers: int = 0
    hours: float = 0.0


def size_of(speakers: Sequence[str | None], usable: Sequence[Utterance] = ()) -> Size:
    """The size of a part: ``speakers`` holds the speaker of each utterance it has, ``usable`` the utterances that can be read.

    The hours are left open (0) where some cannot be read, for then they say nothing about the copy that is not said already.
    """
    hours = sum(utterance.duration for utterance in usable) / 3600 if len(usable) == len(speakers) else 0.0
    return Size(len(speakers), len({*speakers} - {None}), hours)


def differences(found: Size, published: Size, units: tuple[str, str] = UNITS) -> str:
    """``found 3 of 3,696 utterances, 1 of 462 speakers``; empty where nothing differs."""
    pairs = ((found.utterances, published.utterances), (found.speakers, published.speakers))
    faults = [f"{have:,} of {want:,} {unit}" for unit, (have, want) in zip(units, pairs) if want and have != want]
    tolerance = 0.06 + HOURS_TOLERANCE * published.hours
    if not faults and found.hours and published.hours and abs(found.hours - published.hours) > tolerance:
        faults.append(f"{found.hours:.1f} of {published.hours:.1f} h")
    return f"found {', '.join(faults)}" if faults else ""


def check_counts(
    root: Path,
    found: Mapping[str, Size],
    published: Mapping[str, Size],
    options: CountOptions,
    problems: list[Problem],
    notes: list[str],
    *,
    units: tuple[str, str] = UNITS,
) -> None:
    """Compare each part with what was published of it: what differs becomes a problem, or a note with ``--counts any``."""
    for part, expected in published.items():
        fault = differences(found.get(part, Size(0)), expected, units)
        if fault and options.counts == "any":
            notes.append(f"{part}: {fault}, so numbers on it cannot be compared with others'")
        elif fault:
            advice = "unpack the whole corpus, or take what there is with --counts any"
            problems.append(Problem(WRONG_COUNT, show_path(root), f"{part}: {fault}; {advice}"))
