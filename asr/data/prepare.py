"""From a corpus to manifests: prepare, refuse or leave out what cannot be used, write, and say what was done."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from asr.data.corpora import CORPORA, Prepared
from asr.data.corpora.corpus import FATAL, some
from asr.data.files import file_sha256, show_path, write_atomic
from asr.data.manifest import AUDIO_SHA256, Problem, Utterance, write_manifest
from asr.data.overlap import describe_copies, find_copies
from asr.data.split import PARTS, shared_speakers
from asr.errors import DataError, UsageError

RECORD = "prepare.json"
#: Where a corpus puts recordings that have to be converted.
AUDIO = "audio"
#: What a part may be called: its manifest is a file in the folder itself, whatever the record says.
PART_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
#: Where all problems stand when there are more than are shown.
PROBLEMS = "problems.txt"
LISTED = 20
ON_BAD = ("error", "skip")


@dataclass(frozen=True)
class PartCounts:
    """How much there is of one part."""

    utterances: int
    hours: float
    speakers: int
    words: int
    phones: int


@dataclass(frozen=True)
class Preparation:
    """What a prepared folder holds and how it came about; written to ``prepare.json``."""

    corpus: str
    #: The folder the corpus was read from; empty where it was generated.
    root: str
    options: dict[str, Any]
    split: str
    parts: dict[str, PartCounts]
    left_out: list[Problem]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The content of ``prepare.json``."""
        kinds = Counter(problem.kind for problem in self.left_out)
        parts = Counter(problem.part for problem in self.left_out if problem.part)
        items = list(map(asdict, self.left_out))
        return {**asdict(self), "left_out": {"count": len(items), "kinds": kinds, "parts": parts, "items": items}}

    def table(self) -> str:
        """The counts of each part, one line each, aligned."""
        rows: list[tuple[str, ...]] = [("part", "utterances", "hours", "speakers", "words", "phones")]
        for part, counts in self.parts.items():
            hours = f"{counts.hours:.3f}" if counts.hours < 10 else f"{counts.hours:.1f}"
            numbers = (counts.utterances, counts.speakers, counts.words, counts.phones)
            shown = [f"{number:,}" if number else "-" for number in numbers]
            rows.append((part, shown[0], hours, *shown[1:]))
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = [[row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))] for row in rows]
        return "\n".join("  ".join(line) for line in lines)


def prepare_corpus(
    name: str, root: Path | None, out: Path, options: Any, *, on_bad: str = "error", download: bool = False, sums: bool = False
) -> Preparation:
    """Prepare a corpus of ``CORPORA`` and write its manifests and ``prepare.json`` to ``out``.

    ``root`` is None for a generated corpus. ``on_bad="error"`` refuses the corpus when anything in it cannot be used and
    lists all of it; ``"skip"`` goes on without, names and counts it. Raises DataError for that, UsageError when ``out``
    holds another corpus, ResourceError when it cannot be written. ``download`` first fetches what is missing below ``root``;
    ``sums`` gives each utterance the sha256 of its recording.
    """
    corpus = CORPORA[name]
    _expect_place(out, name)
    if root is not None:
        root = _complete_root(name, root, options) if download else root
        root = root / corpus.folder if corpus.folder and (root / corpus.folder).is_dir() else root
    place = out if corpus.generated or root is None else root
    prepared = corpus.prepare(place, options, out / AUDIO) if corpus.converts else corpus.prepare(place, options)
    if prepared.problems and (on_bad == "error" or any(problem.kind in FATAL for problem in prepared.problems)):
        raise DataError(_refusal(out if root is None else root, out, prepared))
    parts = {part: prepared.parts[part] for part in dict.fromkeys([*PARTS, *prepared.parts]) if prepared.parts.get(part)}
    if not parts:
        bad = len(prepared.problems)
        raise DataError(
            f"{show_path(out if root is None else root)}: 0 of {bad} utterances usable:\n{_listing(prepared.problems)}"
        )
    if sums:
        parts = _with_sums(parts)
    # first, so that a preparation that is interrupted here is known as ours; the whole record replaces it at the end
    before = [part for part in _record(out).get("parts", ()) if PART_NAME.fullmatch(part)]
    write_atomic(out / RECORD, json.dumps({"corpus": name, "incomplete": True, "parts": [*before, *parts]}) + "\n")
    preparation = Preparation(
        corpus=name,
        root="" if root is None else os.path.abspath(root),
        options=asdict(options),
        split=prepared.split,
        parts={part: count_part(utterances) for part, utterances in parts.items()},
        left_out=prepared.problems,
        notes=[*prepared.notes, *shared_speakers(parts), *describe_copies(find_copies(parts)), *_clear(out, parts, before)],
    )
    for part, utterances in parts.items():
        write_manifest(out / f"{part}.jsonl", utterances)
    write_atomic(out / RECORD, json.dumps(preparation.to_dict(), indent=2) + "\n")
    return preparation


def _with_sums(parts: dict[str, list[Utterance]]) -> dict[str, list[Utterance]]:
    """The same utterances with the field ``audio_sha256``; each file is read once."""
    from tqdm import tqdm

    paths = dict.fromkeys(one.audio_filepath for items in parts.values() for one in items)
    digests = {path: file_sha256(path) for path in tqdm(paths, desc="sha256", unit="file", disable=None, leave=False)}
    return {
        part: [replace(one, extra={**one.extra, AUDIO_SHA256: digests[one.audio_filepath]}) for one in items]
        for part, items in parts.items()
    }


def count_part(utterances: Sequence[Utterance]) -> PartCounts:
    """Utterances, hours, distinct speakers, words of the texts and phones."""
    return PartCounts(
        utterances=len(utterances),
        hours=round(sum(utterance.duration for utterance in utterances) / 3600, 6),
        speakers=len({utterance.speaker for utterance in utterances} - {None}),
        words=sum(len((utterance.text or "").split()) for utterance in utterances),
        phones=sum(len((utterance.phones or "").split()) for utterance in utterances),
    )


def describe_left_out(problems: Sequence[Problem]) -> str:
    """How many utterances or files were left out, of which kinds, and which; a warning for each part that is not whole."""
    lines = [f"{len(problems)} left out ({_kinds(problems)}):", _listing(problems)]
    lacking: dict[str, list[str]] = {}
    for problem in problems:
        if problem.part not in (None, "train"):
            lacking.setdefault(str(problem.part), []).append(problem.id or problem.where)
    for part, names in lacking.items():
        lacks = f"{len(names)} of these belong to it ({some(dict.fromkeys(names))})"
        lines.append(f"Warning: {part} is not whole: {lacks}. Scores on it cannot be compared with published ones.")
    unknown = sum(problem.part is None for problem in problems)
    if unknown:
        drawn = "parts that are drawn are drawn from the rest, and may not be those of a whole copy"
        lines.append(f"Of {unknown} of these no part is known: {drawn}.")
    return "\n".join(lines)


def _complete_root(name: str, root: Path, options: Any) -> Path:
    """Fetch the archives of a corpus; UsageError where there are none to fetch."""
    corpus = CORPORA[name]
    if not corpus.archives:
        place = f"get it from {corpus.page}, unpack it" if corpus.page else "put the data"
        fault = f"there is nothing that a program may fetch for {name}"
        raise UsageError(f"--download: {fault}; {place} and name the folder by --root")
    from asr.data.download import acquire

    acquire(corpus.archives(options) if callable(corpus.archives) else corpus.archives, root)
    return root


def _expect_place(out: Path, name: str) -> None:
    """Refuse to overwrite a file or another corpus."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out: {show_path(out)} is a file, expected a folder to write to")
    there = _record(out).get("corpus")
    if there not in (None, name):
        raise UsageError(f"--out: {show_path(out)} already holds the corpus {there}; choose another folder, or remove it first")
    foreign = [f"{part}.jsonl" for part in PARTS if (out / f"{part}.jsonl").exists()] if there is None else []
    if foreign:
        files = ", ".join(foreign)
        raise UsageError(f"--out: {show_path(out)} already holds {files} that asr-data did not write; choose another folder")


def _record(out: Path) -> dict[str, Any]:
    try:
        record = json.loads((out / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _clear(out: Path, parts: dict[str, list[Utterance]], before: Iterable[str]) -> list[str]:
    """Remove what an earlier preparation of the same corpus left and this one does not write; returns a note for each."""
    notes = []
    for part in dict.fromkeys([*PARTS, *before]):
        path = out / f"{part}.jsonl"
        if part not in parts and path.exists():
            path.unlink()
            notes.append(f"{part}.jsonl of an earlier preparation removed: there is no part {part} now")
    (out / PROBLEMS).unlink(missing_ok=True)
    return notes


def _refusal(place: Path, out: Path, prepared: Prepared) -> str:
    problems = prepared.problems
    good = sum(map(len, prepared.parts.values()))
    counted = (
        f"{show_path(place)}: {len(problems)} problem{'s' * (len(problems) > 1)} ({_kinds(problems)}), {good} utterances usable"
    )
    lines = [f"{counted}:", _listing(problems), *(f"  note: {note}" for note in prepared.notes)]
    if len(problems) > LISTED:
        everything = "".join(f"{problem.kind}\t{problem}\n" for problem in problems)
        write_atomic(out / PROBLEMS, everything.encode("utf-8", "backslashreplace"))
        lines.append(f"  all of them stand in {show_path(out / PROBLEMS)}")
    if good and not any(problem.kind in FATAL for problem in problems):
        lines.append("Repair them, or leave them out with --on-bad skip.")
    return "\n".join(lines)


def _kinds(problems: Sequence[Problem]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in Counter(problem.kind for problem in problems).most_common())


def _listing(problems: Sequence[Problem]) -> str:
    lines = [f"  {problem}" for problem in problems[:LISTED]]
    if len(problems) > LISTED:
        lines.append(f"  ... and {len(problems) - LISTED} more")
    return "\n".join(lines)
