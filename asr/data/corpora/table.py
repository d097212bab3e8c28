"""Any CSV or TSV table that names recordings and what is said in them, one line each."""

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.data.corpora.corpus import (
    Found,
    Prepared,
    SplitOptions,
    check_choice,
    distinct,
    measure,
    option,
    printable,
    read_text,
    share_out,
    share_out_train,
    some,
    unnamed,
)
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.data.split import PARTS
from asr.errors import DataError, UsageError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".psv")
#: What else people call the parts.
PART_NAMES = {
    **{part: part for part in PARTS},
    "training": "train",
    "val": "valid",
    "validation": "valid",
    "development": "dev",
    "testing": "test",
}
COLUMNS = {"path": "path_column", "text": "text_column", "speaker": "speaker_column", "part": "split_column", "id": "id_column"}


@dataclass
class TableOptions(SplitOptions):
    """Options of a table; the shares apply where no column names the parts."""

    path_column: str = option("", "the column with the path of the recording (required)")
    text_column: str = option("", "the column with the transcript (required)")
    speaker_column: str = option("", "the column with the speaker")
    split_column: str = option("", "the column with the part: train, valid, dev or test")
    id_column: str = option("", "the column with the utterance's id (default: the path without its suffix)")
    table: str = option("", "the table, where --root is the folder that paths in it start from")
    quotes: str = option("standard", "none: quotation marks in the table are ordinary characters", choices=("standard", "none"))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "quotes")


@dataclass(frozen=True)
class Row:
    """The cells of one record by their role, and the 1-based line it starts on."""

    line: int
    cells: dict[str, str]


def prepare(root: Path, options: TableOptions) -> Prepared:
    """``root`` is the table, and relative paths start from its folder; or the folder they start from, with ``--table``."""
    path, base = _locate(root, options)
    rows, problems = read_table(path, options)
    found, more, part_of = _utterances(path, base, rows, options)
    problems += more
    kept, doubled = distinct(found)
    usable, unreadable, notes = measure(kept)
    notes += unnamed(item.utterance.audio_filepath for item in found)
    problems += doubled + unreadable
    silent = [item.id for item in usable if not item.text]
    if silent:
        notes.append(f"empty transcripts: {len(silent)} ({some(silent)})")
    if options.split_column:
        given = {part: [item for item in usable if part_of[item.id] == part] for part in PARTS}
        parts, split = share_out_train(given, options, problems, path)
        return Prepared(parts, split, problems, notes)
    parts, split = share_out(usable, options, problems, path)
    return Prepared(parts, split, problems, notes)


def _locate(root: Path, options: TableOptions) -> tuple[Path, Path]:
    """The table, and the folder that relative paths in it start from."""
    if options.table:
        if not root.is_dir():
            raise DataError(f"{show_path(root)}: expected the folder that the paths in --table start from")
        path = Path(options.table)
        return (path if path.exists() else root / path), root
    if root.is_dir():
        tables = sorted(path.name for path in root.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
        hint = f"--root {show_path(root / tables[0])}" if tables else "--root TABLE.csv, or --root FOLDER --table TABLE.csv"
        raise UsageError(f"{show_path(root)}: is a folder, expected the table itself: {hint}")
    return root, root.parent


def read_table(path: Path, options: TableOptions) -> tuple[list[Row], list[Problem]]:
    """The records of a table with the columns that the options name, and a problem for each line that cannot be read.

    The delimiter is the one under which the header has all the columns asked for. Raises DataError when the file is no
    UTF-8 text or empty, UsageError when a column is not named or not there.
    """
    text = read_text(path)
    if not text.strip():
        raise DataError(f"{show_path(path)}: is empty; expected a header line and one line per recording")
    wanted = {role: getattr(options, name) for role, name in COLUMNS.items() if getattr(options, name)}
    delimiter = _delimiter(path, text.lstrip("\r\n").split("\n", 1)[0], set(wanted.values()))
    records = _records(path, text, delimiter, options.quotes == "none")
    rows: list[Row] = []
    problems: list[Problem] = []
    header: list[str] | None = None
    places: dict[str, int] = {}
    for line, record in records:
        if isinstance(record, Problem):
            problems.append(record)
        elif not record or record == [""]:
            continue
        elif header is None:
            header = [name.strip() for name in record]
            places = _places(path, header, wanted, delimiter)
        elif len(record) != len(header):
            message = (
                f"{len(record)} cells, the header has {len(header)} ({_named(delimiter)} between them); {_quote_hint(options)}"
            )
            problems.append(Problem("bad-row", f"{show_path(path)}:{line}", message))
        else:
            rows.append(Row(line, {role: record[place] for role, place in places.items()}))
    if header is None:
        raise DataError(str(problems[0]) if problems else f"{show_path(path)}: has no header line")
    if not rows and not problems:
        raise DataError(f"{show_path(path)}: has a header and no line below it")
    return rows, problems


def _records(path: Path, text: str, delimiter: str, plain: bool) -> Iterator[tuple[int, list[str] | Problem]]:
    """Each record with the line it starts on. A record that runs over several lines is the mark of a stray quote."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL, strict=True)
    while True:
        line = reader.line_num + 1
        where = f"{show_path(path)}:{line}"
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reach = f"; lines {line} to {reader.line_num} were not read" if reader.line_num > line else ""
            message = f"the quotation marks do not match ({error}){reach}; double those inside a cell, or use --quotes none"
            if "limit" in str(error):
                message = f"a cell is longer than {csv.field_size_limit()} characters{reach}"
            yield line, Problem("bad-row", where, message)
            continue
        if reader.line_num > line:
            message = f"a cell runs on to line {reader.line_num}; a quotation mark is left open, or use --quotes none"
            yield line, Problem("bad-row", where, message)
            continue
        yield line, record


def _delimiter(path: Path, header: str, wanted: set[str]) -> str:
    def found(delimiter: str) -> tuple[int, bool, int]:
        names = {name.strip().strip('"') for name in header.split(delimiter)}
        return len(names & wanted), delimiter == "\t" and path.suffix.lower() in (".tsv", ".tab"), header.count(delimiter)

    return max(DELIMITERS, key=found)


def _places(path: Path, header: list[str], wanted: dict[str, str], delimiter: str) -> dict[str, int]:
    """Role -> index of its column."""
    listed = some(header, 20)
    for name in ("path_column", "text_column"):
        role = next(role for role, option_name in COLUMNS.items() if option_name == name)
        if role not in wanted:
            raise UsageError(f"--{name.replace('_', '-')} is missing; the columns of {show_path(path)} are {listed}")
    for role, column in wanted.items():
        if header.count(column) != 1:
            fault = "no column" if column not in header else "more than one column"
            flag = f"--{COLUMNS[role].replace('_', '-')}"
            raise UsageError(
                f"{flag}: {show_path(path)} has {fault} {column!r}; it has {listed} ({_named(delimiter)} between them)"
            )
    return {role: header.index(column) for role, column in wanted.items()}


def _utterances(
    path: Path, base: Path, rows: list[Row], options: TableOptions
) -> tuple[list[Found], list[Problem], dict[str, str]]:
    """What the rows name, a problem for each row that does not name it, and the part of each utterance."""
    found, problems = [], []
    part_of: dict[str, str] = {}
    for row in rows:
        where = f"{show_path(path)}:{row.line}"
        audio = row.cells["path"].strip()
        part = PART_NAMES.get(row.cells["part"].strip().lower()) if options.split_column else "train"
        name = printable(row.cells["id"].strip() if options.id_column else os.path.splitext(audio)[0])
        if not audio:
            problems.append(Problem("missing-path", where, f"nothing in the column {options.path_column!r}"))
        elif not name:
            problems.append(Problem("missing-id", where, f"nothing in the column {options.id_column!r}"))
        elif part is None:
            message = f"{options.split_column} is {row.cells['part']!r}, expected one of {', '.join(PARTS)}"
            problems.append(Problem("unknown-part", where, message, id=name))
        else:
            speaker = row.cells.get("speaker", "").strip() or None
            text = " ".join(row.cells["text"].split())
            utterance = Utterance(name, os.fspath(base / audio), 0.0, text=text, speaker=speaker)
            found.append(Found(utterance, where, part if options.split_column else None))
            part_of.setdefault(name, part)
    return found, problems, part_of


def _named(delimiter: str) -> str:
    return f"a {DELIMITERS[delimiter]}"


def _quote_hint(options: TableOptions) -> str:
    if options.quotes == "none":
        return "a cell must not hold the delimiter"
    return "put a cell that holds the delimiter in quotation marks"
