"""A Hugging Face ``audiofolder``: recordings, and metadata.csv or metadata.jsonl beside them with file_name and a transcript."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asr.data.corpora.corpus import (
    AUDIO_SUFFIXES,
    Found,
    Prepared,
    SplitOptions,
    distinct,
    expect_folder,
    measure,
    option,
    printable,
    share_out,
    share_out_train,
    some,
)
from asr.data.corpora.jsonlines import part_in_name, read_json_lines, text_of
from asr.data.corpora.table import TableOptions, read_table
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.data.split import PARTS
from asr.errors import DataError, UsageError

TABLES = ("metadata.csv", "metadata.jsonl")
FILE = "file_name"
#: What transcripts and speakers are usually called, the first that is there.
TEXTS = ("transcription", "text", "sentence", "transcript", "normalized_text")
SPEAKERS = ("speaker_id", "speaker", "client_id")


@dataclass
class AudiofolderOptions(SplitOptions):
    text_column: str = option("", f"the column with the transcript (default: the first there is of {', '.join(TEXTS)})")
    speaker_column: str = option("", f"the column with the speaker (default: the first of {', '.join(SPEAKERS)})")


@dataclass(frozen=True)
class Row:
    """What a table says of one recording."""

    file: str
    text: str
    speaker: str | None
    where: str


def prepare(root: Path, options: AudiofolderOptions) -> Prepared:
    """``root`` holds the tables, in itself or in its folders. Folders called train, test ... on the way are the parts."""
    expect_folder(root, f"a folder with {' or '.join(TABLES)} and recordings")
    tables = sorted(path for path in root.rglob("*") if path.name in TABLES)
    if not tables:
        raise DataError(f"{show_path(root)}: holds no {' or '.join(TABLES)}; parquet files are not read here")
    problems: list[Problem] = []
    found = [item for table in tables for item in _found(root, table, options, problems)]
    _name_strays(root, {os.path.realpath(item.utterance.audio_filepath) for item in found}, problems)
    kept, doubled = distinct(found)
    usable, unreadable, notes = measure(kept)
    problems += doubled + unreadable
    silent = [item.id for item in usable if not item.text]
    if silent:
        notes.append(f"empty transcripts: {len(silent)} ({some(silent)})")
    part_of = {item.id: _part(root, item.audio_filepath) for item in usable}
    if "train" in part_of.values() and None not in part_of.values():
        problems = [replace(problem, part=_part(root, os.path.join(root, problem.id or ""))) for problem in problems]
        given = {part: [item for item in usable if part_of[item.id] == part] for part in PARTS}
        parts, split = share_out_train(given, options, problems, root)
        return Prepared(parts, split, problems, notes)
    named = sorted({part for part in part_of.values() if part})
    if named:
        notes.append(f"folders speak of {', '.join(named)}, but not for all recordings, so all of it is shared out")
    parts, split = share_out(usable, options, problems, root)
    return Prepared(parts, split, problems, notes)


def _found(root: Path, table: Path, options: AudiofolderOptions, problems: list[Problem]) -> Iterator[Found]:
    for row in _csv_rows(table, options, problems) if table.suffix == ".csv" else _json_rows(table, options, problems):
        audio = os.fspath(table.parent / row.file)
        name = printable(os.path.splitext(os.path.relpath(audio, root))[0])
        text = " ".join(row.text.split())
        yield Found(Utterance(name, audio, 0.0, text=text, speaker=row.speaker), row.where)


def _csv_rows(table: Path, options: AudiofolderOptions, problems: list[Problem]) -> Iterator[Row]:
    with open(table, encoding="utf-8-sig", errors="replace") as handle:
        header = [name.strip().strip('"') for name in handle.readline().split(",")]
    text = options.text_column or _first(header, TEXTS, table, "--text-column")
    speaker = options.speaker_column or next((name for name in SPEAKERS if name in header), "")
    rows, faults = read_table(table, TableOptions(path_column=FILE, text_column=text, speaker_column=speaker))
    problems += faults
    for row in rows:
        where = f"{show_path(table)}:{row.line}"
        file = row.cells["path"].strip()
        if file:
            yield Row(file, row.cells["text"], row.cells.get("speaker", "").strip() or None, where)
        else:
            problems.append(Problem("missing-path", where, f"nothing in the column {FILE!r}"))


def _json_rows(table: Path, options: AudiofolderOptions, problems: list[Problem]) -> Iterator[Row]:
    text = options.text_column
    for number, item in read_json_lines(table, problems):
        where = f"{show_path(table)}:{number}"
        text = text or _first(item, TEXTS, table, "--text-column")
        file, words = text_of(item, FILE), text_of(item, text)
        if not file or words is None:
            problems.append(Problem("bad-field", where, f'no text in the field "{text if file else FILE}"', id=file))
            continue
        speaker = text_of(item, *([options.speaker_column] if options.speaker_column else SPEAKERS))
        yield Row(file, words, speaker or None, where)


def _first(there: Any, names: tuple[str, ...], table: Path, flag: str) -> str:
    found = next((name for name in names if name in there), None)
    if found is None:
        raise UsageError(f"{flag} is missing: {show_path(table)} has {some(there, 20)}")
    return found


def _part(root: Path, audio: str) -> str | None:
    """The part that a folder between root and the recording speaks of, the innermost first."""
    folders = os.path.dirname(os.path.relpath(audio, root)).split(os.sep)
    return next((part for name in reversed(folders) if (part := part_in_name(name))), None)


def _name_strays(root: Path, known: set[str], problems: list[Problem]) -> None:
    """A recording that stands in no table is a problem."""
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".") and os.path.realpath(path) not in known:
            fault = f"stands in no {' or '.join(TABLES)}, so what is said in it is unknown"
            problems.append(Problem("no-transcript", show_path(path), fault, id=os.path.relpath(path, root)))
