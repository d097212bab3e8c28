"""What corpora in JSON-lines files share: reading them, packed ones too, and the part that a file's name speaks of."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from asr.data.corpora.table import PART_NAMES
from asr.data.manifest import Problem, scan_json_lines

SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")


def read_json_lines(path: Path, problems: list[Problem]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object of a JSON-lines file, packed or not, with its 1-based line; every other line becomes a problem."""
    for number, item in scan_json_lines(path):
        if isinstance(item, Problem):
            problems.append(item)
        else:
            yield number, item


def part_in_name(name: str) -> str | None:
    """The part that a file or folder name speaks of, ``train`` for ``librispeech_cuts_train-clean-100``; None for none or two."""
    words = re.split(r"[^a-z]+", name.lower())
    parts = {PART_NAMES[word] for word in words if word in PART_NAMES}
    return next(iter(parts)) if len(parts) == 1 else None


def group_by_part(paths: Iterable[Path]) -> dict[str, list[Path]] | None:
    """The files of each part; None where a name speaks of none."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        part = part_in_name(path.name)
        if part is None:
            return None
        groups.setdefault(part, []).append(path)
    return groups


def text_of(item: Mapping[str, Any], *names: str) -> str | None:
    """The first of these fields that holds text or a number, as text; None where none does."""
    for name in names:
        value = item.get(name)
        if isinstance(value, str) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            return str(value)
    return None


def seconds_of(item: Mapping[str, Any], name: str) -> float | None:
    """The field as a number of seconds, 0 where it is missing; None where it is no number from 0 to 10^9."""
    value = item.get(name)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        return None
    return float(value)
