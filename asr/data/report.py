"""What a check found out about a manifest: for the screen as a table, for programs as JSON."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from asr.data.audio import WARNINGS
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.text.tokenizer import show_symbol

EXAMPLES = 3
LISTED_SYMBOLS = 50
MAX_MESSAGE = 240

NOTES = {
    **WARNINGS,
    "text-spaces": "the transcript has runs of white space, which count as one space",
    "text-invisible": "the transcript holds invisible characters, which are left out (tokens.unicode)",
    "text-unicode": "the transcript's characters are written in another form (tokens.unicode)",
    "text-case": "the transcript's letters get another case (tokens.case)",
    "text-punctuation": "the transcript's marks are changed or left out (tokens.punctuation)",
    "text-digits": "the transcript's digits are written as 0 to 9 (tokens.digits)",
    "text-map": "the transcript is changed by tokens.map",
    "resampled": "the recording has another sample rate than the model and is resampled",
    "shared-speakers": "speakers stand in more than one part: the error rate on them flatters",
    "shared-recordings": "recordings stand in more than one part: the error rate on them flatters",
}


@dataclass(frozen=True)
class UnknownSymbol:
    """A symbol of the transcripts that the alphabet lacks."""

    symbol: str
    #: How often it stands in the manifest, and in how many utterances.
    count: int
    utterances: int
    #: ``train.jsonl:7``, and the id there.
    where: str
    first: str


@dataclass(frozen=True)
class DataReport:
    """What a check found out about one manifest."""

    where: str
    usable: list[Utterance]
    problems: list[Problem]
    #: Utterances that are used, but not as they are, by kind.
    warnings: dict[str, int]
    #: All lines of the manifest, unusable ones included.
    utterances: int
    #: Of the usable utterances, as the manifest states them.
    hours: float
    unknown_symbols: list[UnknownSymbol] = field(default_factory=list)

    @property
    def unusable(self) -> int:
        """How many utterances cannot be used; one may have several problems."""
        return self.utterances - len(self.usable)

    @property
    def counts(self) -> dict[str, int]:
        """Problems by kind, the most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def to_dict(self) -> dict[str, Any]:
        """The report for data_report.json: every problem, with its kind, place and id."""
        durations = [utterance.duration for utterance in self.usable]
        return {
            "manifest": self.where,
            "utterances": self.utterances,
            "usable": len(self.usable),
            "hours": round(self.hours, 4),
            "speakers": len({utterance.speaker for utterance in self.usable if utterance.speaker is not None}),
            "shortest_s": min(durations, default=0.0),
            "longest_s": max(durations, default=0.0),
            "counts": self.counts,
            "warnings": self.warnings,
            "unknown_symbols": [vars(symbol) for symbol in self.unknown_symbols],
            "problems": [
                {"kind": problem.kind, "where": problem.where, "id": problem.id, "message": problem.message}
                for problem in self.problems
            ],
        }

    def table(self) -> str:
        """The report for the screen: counts and the first examples of each kind of problem."""
        head = f"{self.where}: {self.utterances} utterances, {len(self.usable)} usable ({self.hours:.2f} h)"
        rows: list[tuple[str, str, str]] = []
        for kind, count in self.counts.items():
            examples = list(self._examples(kind))
            rows.append((kind, str(count), examples[0]))
            rows.extend(("", "", example) for example in examples[1:])
        rows.extend(("note: " + kind, str(count), NOTES.get(kind, "")) for kind, count in self.warnings.items())
        wide = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
        lines = [f"  {kind:<{wide[0]}}  {count:>{wide[1]}}  {text}".rstrip() for kind, count, text in rows]
        return "\n".join([head, *lines])

    def _examples(self, kind: str) -> Iterator[str]:
        if kind == "unknown-symbol" and self.unknown_symbols:
            for symbol in self.unknown_symbols[:LISTED_SYMBOLS]:
                times = f"{symbol.count} times in {symbol.utterances} utterances"
                yield f"{show_symbol(symbol.symbol)} {times}, first in {symbol.first} ({symbol.where})"
            if len(self.unknown_symbols) > LISTED_SYMBOLS:
                yield f"... and {len(self.unknown_symbols) - LISTED_SYMBOLS} more symbols"
            return
        found = [problem for problem in self.problems if problem.kind == kind]
        for problem in found[:EXAMPLES]:
            place = problem.where.removeprefix(f"{self.where}:")
            line = f"line {place}" if place.isdigit() else place
            text = f"{line}: {problem.message}" if problem.id is None else f"{line}, {problem.id}: {problem.message}"
            yield text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 4] + " ..."
        if len(found) > EXAMPLES:
            yield f"... and {len(found) - EXAMPLES} more{_common_folder(found) if kind == 'missing-file' else ''}"


def _common_folder(problems: list[Problem]) -> str:
    paths = [os.path.dirname(problem.message.partition(": ")[0]) for problem in problems]
    try:
        folder = os.path.commonpath(paths)
    except ValueError:
        return ""
    return f", all below {show_path(folder)}: is that folder in place?" if folder.strip("/") else ""
