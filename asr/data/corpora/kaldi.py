"""A Kaldi data folder: wav.scp, text (or NIST STM) and, where they exist, utt2spk and segments; or a folder of such folders."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from asr.data.corpora.corpus import (
    COMMAND,
    Found,
    Prepared,
    SplitOptions,
    distinct,
    expect_folder,
    measure,
    of_part,
    read_text,
    share_out,
    share_out_train,
    some,
    unnamed,
)
from asr.data.corpora.tedlium import EXCLUDED, read_stm
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.data.split import PARTS
from asr.errors import DataError

BLANKS = re.compile(r"[ \t]+")


@dataclass
class KaldiOptions(SplitOptions):
    """Options of a Kaldi folder; the shares apply where it names no parts."""


@dataclass(frozen=True)
class Entry:
    """What stands behind a key, and the 1-based line it stands on."""

    value: str
    line: int


def prepare(root: Path, options: KaldiOptions) -> Prepared:
    """``root`` is one data folder, or holds some of the folders train, valid, dev and test."""
    expect_folder(root, "a Kaldi data folder with wav.scp and text, or folders train, dev, test of that kind")
    if (root / "wav.scp").exists():
        paths: list[str] = []
        found, problems, notes = read_folder(root, root, paths)
        usable, warned = _usable(found, problems)
        parts, split = share_out(usable, options, problems, root)
        return Prepared(parts, split, problems, notes + warned + unnamed(paths))
    folders = sorted(path.parent for path in root.glob("*/wav.scp"))
    named = {folder.name: folder for folder in folders if folder.name in PARTS}
    if not named:
        others = f"; it has {some(folder.name for folder in folders)}, to be prepared one by one or renamed" if folders else ""
        raise DataError(f"{show_path(root)}: holds neither wav.scp nor a folder {', '.join(PARTS)} with one{others}")
    return _prepare_parts(root, named, [folder.name for folder in folders if folder.name not in PARTS], options)


def _prepare_parts(root: Path, named: Mapping[str, Path], others: list[str], options: KaldiOptions) -> Prepared:
    found: list[Found] = []
    problems: list[Problem] = []
    notes = [f"folders not read, for they are not called {', '.join(PARTS)}: {some(others)}"] if others else []
    part_of: dict[str, str] = {}
    paths: list[str] = []
    for part in PARTS:
        if part in named:
            items, faults, remarks = read_folder(named[part], root, paths)
            for item in items:
                part_of.setdefault(item.utterance.id, part)
            found += [replace(item, part=part) for item in items]
            problems += of_part(faults, part)
            notes += remarks
    usable, warned = _usable(found, problems)
    given = {part: [utterance for utterance in usable if part_of[utterance.id] == part] for part in PARTS}
    parts, split = share_out_train(given, options, problems, root)
    return Prepared(parts, split, problems, notes + warned + unnamed(paths))


def _usable(found: list[Found], problems: list[Problem]) -> tuple[list[Utterance], list[str]]:
    kept, doubled = distinct(found)
    usable, unreadable, warned = measure(kept)
    problems += doubled + unreadable
    return usable, warned


def read_folder(folder: Path, root: Path, paths: list[str] | None = None) -> tuple[list[Found], list[Problem], list[str]]:
    """Every utterance of one data folder, every inconsistency between its files, and remarks that stop nothing.

    Relative paths in wav.scp resolve against the first of: the folder, ``root``, the folder's parent and grandparent. Where
    there is no ``text``, files ``stm`` and ``*.stm`` say what is said when and by whom. The recordings of wav.scp are added
    to ``paths``.
    """
    problems: list[Problem] = []
    notes: list[str] = []
    files: dict[str, dict[str, Entry]] = {}
    timed = [] if (folder / "text").exists() else sorted({*folder.glob("*.stm"), *folder.glob("stm")})
    for name in ("wav.scp", "text", "utt2spk", "segments"):
        entries = read_entries(folder / name, problems, notes)
        if entries is not None:
            files[name] = entries
        elif name in ("wav.scp", "text") and not (folder / name).exists() and not (name == "text" and timed):
            problems.append(Problem("missing-file", show_path(folder / name), "no such file; a Kaldi data folder needs it"))
    audio = _audio_paths(folder, root, files.get("wav.scp", {}), problems)
    if paths is not None:
        paths += audio.values()
    if timed and "wav.scp" in files:
        return _read_timed(folder, timed, files["wav.scp"], audio, problems, notes), problems, notes
    segments = _segments(folder, files, problems) if "segments" in files else None
    if "wav.scp" not in files or "text" not in files:
        return [], problems, notes
    if "utt2spk" not in files:
        notes.append(f"{show_path(folder)}: no utt2spk, so no speakers are known")
    source = "wav.scp" if segments is None else "segments"
    common = cross_check(folder, {name: files[name] for name in (source, "text", "utt2spk") if name in files}, problems)
    stretches = {key: (key, 0.0, 0.0) for key in common} if segments is None else segments
    found = []
    for key in common:
        recording, start, end = stretches.get(key, ("", 0.0, 0.0))
        if recording not in audio:
            continue  # already a problem of its own
        speaker = files["utt2spk"][key].value if "utt2spk" in files else None
        length = round(end - start, 6) if end else 0.0
        utterance = Utterance(key, audio[recording], length, offset=start, text=files["text"][key].value, speaker=speaker)
        found.append(Found(utterance, f"{show_path(folder / source)}:{files[source][key].line}"))
    silent = [item.utterance.id for item in found if not item.utterance.text]
    if silent:
        notes.append(f"{show_path(folder / 'text')}: empty transcripts: {len(silent)} ({some(silent)})")
    return found, problems, notes


def _read_timed(
    folder: Path,
    paths: list[Path],
    recordings: Mapping[str, Entry],
    audio: Mapping[str, str],
    problems: list[Problem],
    notes: list[str],
) -> list[Found]:
    """The utterances of STM files: SPEAKER-RECORDING-START-END, times in hundredths of a second."""
    found = []
    named = set()
    excluded = 0
    for path in paths:
        for line in read_stm(path, problems):
            where = f"{show_path(path)}:{line.line}"
            named.add(line.recording)
            name = f"{line.speaker}-{line.recording}-{round(100 * line.start):07d}-{round(100 * line.end):07d}"
            if line.words.lower() == EXCLUDED:
                excluded += 1
            elif line.recording not in recordings:
                fault = f"its recording {line.recording} does not stand in wav.scp"
                problems.append(Problem("missing-entry", where, fault, id=name))
            elif line.recording in audio:
                length = round(line.end - line.start, 6)
                utterance = Utterance(
                    name, audio[line.recording], length, offset=line.start, text=line.words, speaker=line.speaker
                )
                found.append(Found(utterance, where))
    for key, entry in recordings.items():
        if key not in named:
            where = f"{show_path(folder / 'wav.scp')}:{entry.line}"
            problems.append(Problem("missing-entry", where, f"recording {key} has no line in {paths[0].name}", id=key))
    if excluded:
        notes.append(f"{excluded:,} stretches left out that the transcripts exclude ({EXCLUDED})")
    return found


def read_entries(path: Path, problems: list[Problem], notes: list[str] | None = None) -> dict[str, Entry] | None:
    """The lines ``KEY VALUE`` of a file; None when it is missing or unreadable.

    A repeated key and a line that is not UTF-8 become problems; a file that is not in Kaldi's order gets a note.
    """
    if not path.exists():
        return None
    try:
        lines = read_text(path).split("\n")
    except DataError as error:
        problems.append(Problem("unreadable-file", show_path(path), str(error).removeprefix(show_path(path)).lstrip(": ")))
        return None
    entries: dict[str, Entry] = {}
    previous, unsorted = b"", 0
    for number, line in enumerate(lines, start=1):
        key, _, value = BLANKS.sub(" ", line.strip(" \t\r"), count=1).partition(" ")
        if not key:
            continue
        if key in entries:
            message = f"{key} already stands on line {entries[key].line}; give each its own id"
            problems.append(Problem("duplicate-id", f"{show_path(path)}:{number}", message, id=key))
            continue
        entries[key] = Entry(value, number)
        unsorted = unsorted or (number if key.encode("utf-8") < previous else 0)
        previous = key.encode("utf-8")
    if unsorted and notes is not None:
        notes.append(f"{show_path(path)}:{unsorted}: not in Kaldi's sorted order, which does not matter here")
    return entries


def cross_check(folder: Path, files: Mapping[str, Mapping[str, Entry]], problems: list[Problem]) -> list[str]:
    """The keys that stand in every file, in the order of the first; each key that one of them lacks becomes a problem."""
    for name, entries in files.items():
        for other, theirs in files.items():
            for key in entries:
                if key not in theirs:
                    where = f"{show_path(folder / name)}:{entries[key].line}"
                    problems.append(Problem("missing-entry", where, f"{key} does not stand in {other}", id=key))
    first = next(iter(files.values()))
    return [key for key in first if all(key in entries for entries in files.values())]


def resolve_audio(value: str, bases: list[Path]) -> Path:
    """The first existing of a relative path below the given folders; the path below the first where none exists."""
    candidates = [base / value for base in bases]
    return next((path for path in candidates if path.exists()), candidates[0])


def _audio_paths(folder: Path, root: Path, entries: Mapping[str, Entry], problems: list[Problem]) -> dict[str, str]:
    """Recording id -> path. Nothing in wav.scp is ever run."""
    bases = list(dict.fromkeys([folder, root, folder.parent, folder.parent.parent]))
    paths = {}
    for key, entry in entries.items():
        fault = _path_fault(entry.value)
        if fault:
            problems.append(Problem(fault[0], f"{show_path(folder / 'wav.scp')}:{entry.line}", fault[1], id=key))
        else:
            paths[key] = os.fspath(resolve_audio(entry.value, bases))
    return paths


def _path_fault(value: str) -> tuple[str, str] | None:
    if not value:
        return "missing-path", "no path behind the recording's id"
    if value.endswith("|") or value.startswith("|") or value == "-":
        advice = "write each recording to a file (sox IN OUT.wav, or sph2pipe -f wav IN OUT.wav) and put that path here"
        return COMMAND, f"commands are not run: {value!r}; {advice}; .sph and .flac are read as they are"
    if value.startswith("~"):
        return "home-path", f"{value!r} starts with ~, which only a shell expands; write the whole path"
    if re.search(r"\.ark:\d+$", value):
        return "archive", f"{value!r} points into an archive; write its recordings to files (wav-copy ark:IN.ark scp,t:...)"
    return None


def _segments(
    folder: Path, files: Mapping[str, Mapping[str, Entry]], problems: list[Problem]
) -> dict[str, tuple[str, float, float]]:
    """Utterance -> (recording, start s, end s; end 0 means the recording's end)."""
    recordings = files.get("wav.scp")
    segments = {}
    used = set()
    for key, entry in files["segments"].items():
        where = f"{show_path(folder / 'segments')}:{entry.line}"
        fields = entry.value.split()
        used.add(fields[0] if fields else "")
        try:
            recording, start, end = fields[0], float(fields[1]), float(fields[2])
        except (ValueError, IndexError):
            problems.append(Problem("bad-segment", where, "expected UTTERANCE RECORDING START END, times in seconds", id=key))
            continue
        if recordings is not None and recording not in recordings:
            problems.append(Problem("missing-entry", where, f"its recording {recording} does not stand in wav.scp", id=key))
        elif not (0 <= start < float("inf") and (end == -1 or start < end < float("inf"))):
            problems.append(Problem("bad-segment", where, f"expected 0 <= start < end, got {start:g} and {end:g} s", id=key))
        else:
            segments[key] = (recording, start, 0.0 if end == -1 else end)
    for key, entry in (recordings or {}).items():
        if key not in used:
            where = f"{show_path(folder / 'wav.scp')}:{entry.line}"
            problems.append(Problem("missing-entry", where, f"recording {key} has no line in segments", id=key))
    return segments
