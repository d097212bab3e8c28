"""Common Voice (Mozilla): sentences read by volunteers in many languages; MP3, CC0. One folder per language.

Rosana Ardila et al., "Common Voice: A Massively-Multilingual Speech Corpus", LREC 2020. Its tables are tab-separated without
quotation marks: a quotation mark is an ordinary character, and a backslash stands before a tab that belongs to a cell.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from asr.data.corpora.corpus import (
    Found,
    Prepared,
    check_choice,
    distinct,
    expect_folder,
    measure,
    of_part,
    option,
    read_text,
    some,
)
from asr.data.corpora.wording import plain, text_option
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.errors import DataError, UsageError

#: Part -> its table.
TABLES = {"train": "train.tsv", "valid": "dev.tsv", "test": "test.tsv"}
VALIDATED = "validated.tsv"
#: Tables that name clips without anything being trained on them.
OTHERS = (VALIDATED, "invalidated.tsv", "other.tsv")
COLUMNS = ("client_id", "path", "sentence")
#: Column -> field of the manifest.
ABOUT = {"gender": "gender", "age": "age", "accents": "accent", "accent": "accent"}
#: Characters of the speaker's hash that are kept: 64 bits tell millions of speakers apart.
SPEAKER = 16
ESCAPED = re.compile(r"\\([\\\t\"])")


@dataclass
class CommonVoiceOptions:
    language: str = option("", "the language's folder, such as de or zh-TW (default: the only one there is)")
    train_on: str = option(
        "train",
        "train: the table train.tsv, one recording per sentence; validated: every validated recording of the other speakers "
        "and sentences",
        choices=("train", "validated"),
    )
    text: str = text_option()

    def __post_init__(self) -> None:
        check_choice(self, "train_on")
        check_choice(self, "text")


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    clip: str
    speaker: str
    sentence: str
    about: dict[str, str]
    #: File and 1-based line.
    where: str


def prepare(root: Path, options: CommonVoiceOptions) -> Prepared:
    """``root`` holds the folder of the language, is that folder, or is the one above the release (cv-corpus-...).

    valid is the published development set. A speaker of valid or test never trains, and none of valid is in test, whatever
    the tables say.
    """
    folder = find_language(root, options.language)
    problems: list[Problem] = []
    notes: list[str] = []
    tables: dict[str, list[Row]] = {}
    for part, name in [*TABLES.items(), *([("train", VALIDATED)] if options.train_on == "validated" else [])]:
        faults: list[Problem] = []
        tables[part] = read_table(folder / name, faults)
        problems += of_part(faults, part)
    tables = apart(tables, notes, by_sentence=options.train_on == "validated")
    found: list[Found] = []
    part_of: dict[str, str] = {}
    for part in ("test", "valid", "train"):
        items = [_found(folder, row, part, options) for row in tables[part]]
        for item in items:
            part_of.setdefault(item.utterance.id, part)
        found += items
    _name_strays(folder, {item.utterance.audio_filepath for item in found}, problems)
    kept, doubled = distinct(found)
    usable, unreadable, warned = measure(kept)
    problems += doubled + unreadable
    silent = [item.id for item in usable if not item.text]
    if silent:
        notes.append(f"empty transcripts: {len(silent)} ({some(silent)})")
    if options.text == "plain":
        notes.append("texts in small letters and without punctuation (--text raw keeps them)")
    parts = {part: [item for item in usable if part_of[item.id] == part] for part in TABLES}
    source = VALIDATED if options.train_on == "validated" else TABLES["train"]
    split = f"train is {source}, valid dev.tsv, test test.tsv of {folder.name}; no speaker stands in two of them"
    return Prepared(parts, split, problems, notes + warned)


def find_language(root: Path, language: str) -> Path:
    """The folder with the tables; UsageError when there are several and none is named, DataError when there is none."""
    expect_folder(root, "the folder of a Common Voice release, with a folder for each language")
    tables = sorted({path.parent for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}{TABLES['test']}")})
    if not tables:
        raise DataError(f"{show_path(root)}: holds no {TABLES['test']}; expected the folder of a Common Voice release")
    chosen = [folder for folder in tables if not language or folder.name == language]
    names = some(dict.fromkeys(folder.name for folder in tables), 20)
    if len(chosen) == 1:
        return chosen[0]
    if language:
        fault = f"no language {language!r}; there are {names}" if not chosen else f"{len(chosen)} releases have {language!r}"
        raise UsageError(f"--language: {show_path(root)} has {fault}" + ("" if not chosen else "; name one of them by --root"))
    raise UsageError(f"--language is missing: {show_path(root)} has {names}")


def read_table(path: Path, problems: list[Problem]) -> list[Row]:
    """The rows of a table; a line with another number of cells than the header is a problem, as is a missing table."""
    if not path.exists():
        problems.append(Problem("missing-file", show_path(path), "no such file; the sentences stand in it"))
        return []
    try:
        lines = read_text(path).split("\n")
    except DataError as error:
        problems.append(Problem("unreadable-file", show_path(path), str(error).removeprefix(show_path(path)).lstrip(": ")))
        return []
    header = _cells(lines[0])
    lacking = [name for name in COLUMNS if name not in header]
    if lacking:
        raise DataError(f"{show_path(path)}:1: no column {', '.join(lacking)}; expected a table of Common Voice")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip("\r"):
            continue
        where = f"{show_path(path)}:{number}"
        cells = _cells(line)
        if len(cells) != len(header):
            problems.append(Problem("bad-row", where, f"{len(cells)} cells, the header has {len(header)} (a tab between them)"))
            continue
        named = dict(zip(header, cells))
        if not named["client_id"] or not named["path"]:
            problems.append(Problem("bad-row", where, f"nothing in the column {'path' if named['client_id'] else 'client_id'}"))
            continue
        clip = named["path"] if os.path.splitext(named["path"])[1] else f"{named['path']}.mp3"
        about = {field: named[column] for column, field in ABOUT.items() if named.get(column)}
        rows.append(Row(clip, named["client_id"][:SPEAKER], named["sentence"], about, where))
    return rows


def apart(tables: dict[str, list[Row]], notes: list[str], *, by_sentence: bool) -> dict[str, list[Row]]:
    """The same tables without what a later part shares with an earlier one, in the order test, valid, train.

    Shared are speakers; with ``by_sentence`` also sentences. What is taken away is counted in a note.
    """
    speakers: set[str] = set()
    sentences: set[str] = set()
    clips: set[str] = set()
    result = {}
    for part in ("test", "valid", "train"):
        taken: Counter[str] = Counter()
        kept = []
        for row in tables[part]:
            if row.clip in clips and by_sentence:
                continue  # validated.tsv holds the clips of the other tables too
            reason = "speaker" if row.speaker in speakers else "sentence" if by_sentence and row.sentence in sentences else ""
            if reason:
                taken[reason] += 1
            else:
                kept.append(row)
        for reason, count in taken.items():
            notes.append(f"{count:,} recordings left out of {part}: their {reason} stands in a part that is only tested on")
        result[part] = kept
        speakers |= {row.speaker for row in kept}
        sentences |= {row.sentence for row in kept}
        clips |= {row.clip for row in kept}
    return result


def _found(folder: Path, row: Row, part: str, options: CommonVoiceOptions) -> Found:
    text = plain(row.sentence) if options.text == "plain" else " ".join(row.sentence.split())
    extra = {**row.about, "raw_text": row.sentence} if text != row.sentence else dict(row.about)
    path = os.fspath(folder / "clips" / row.clip)
    utterance = Utterance(os.path.splitext(row.clip)[0], path, 0.0, text=text, speaker=row.speaker, extra=extra)
    return Found(utterance, row.where, part)


def _name_strays(folder: Path, known: set[str], problems: list[Problem]) -> None:
    """A clip that no table names is a problem; those of the tables that are not used here are known by name."""
    clips = folder / "clips"
    stray = {entry.name for entry in os.scandir(clips) if entry.is_file()} if clips.is_dir() else set()
    stray -= {os.path.basename(path) for path in known}
    if not stray:
        return
    for name in dict.fromkeys([*TABLES.values(), *OTHERS]):
        if (folder / name).exists():
            stray -= {row.clip for row in read_table(folder / name, [])}
    for name in sorted(stray):
        fault = "stands in none of the tables, so what is said in it is unknown"
        problems.append(Problem("no-transcript", show_path(clips / name), fault, id=os.path.splitext(name)[0]))


def _cells(line: str) -> list[str]:
    """The cells of a line: split at tabs, except behind a backslash."""
    cells = re.split(r"(?<!\\)\t", line.rstrip("\r"))
    return [ESCAPED.sub(lambda match: match[1], cell) if "\\" in cell else cell for cell in cells]
