"""Manifests of lhotse: cuts, or recordings with supervisions; JSON lines, plain or packed with gzip.

Read is what such a file says, without lhotse. Audio that a manifest asks to compute (commands, mixtures, changed speed) is
refused with words: a manifest of ours names stretches of files.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from asr.data.corpora.corpus import (
    COMMAND,
    Found,
    Prepared,
    SplitOptions,
    distinct,
    measure,
    of_part,
    printable,
    share_out,
    share_out_train,
    some,
    unnamed,
)
from asr.data.corpora.jsonlines import SUFFIXES, part_in_name, read_json_lines, seconds_of, text_of
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.data.split import PARTS
from asr.errors import DataError

KINDS = ("cuts", "recordings", "supervisions")


@dataclass
class LhotseOptions(SplitOptions):
    """The shares apply where the names of the files speak of no parts."""


@dataclass
class _Reader:
    """One part's manifests: the problems found on the way, and the recordings by their id."""

    problems: list[Problem]
    recordings: dict[str, Any] = field(default_factory=dict)
    #: Cuts and supervisions in which nothing is said.
    silent: int = 0


def prepare(root: Path, options: LhotseOptions) -> Prepared:
    """``root`` is a file of cuts, or a folder with files of cuts, or of recordings and supervisions.

    A file's name says what it holds (``..._cuts_train.jsonl.gz``) and which part. Every supervision is an utterance, with the
    id of its cut where the cut has no other. Relative paths start from the file's folder or the one above it.
    """
    files = _files(root)
    has_parts = "train" in files and None not in files
    problems: list[Problem] = []
    found: list[Found] = []
    part_of: dict[str, str | None] = {}
    silent = 0
    for part, kinds in files.items():
        reader = _Reader([])
        items = [item for path in kinds["cuts"] for item in _cuts(path, reader)]
        if not kinds["cuts"]:
            items = list(_supervisions(kinds, reader))
        for item in items:
            part_of.setdefault(item.utterance.id, part)
        own = part if has_parts else None
        found += [replace(item, part=own) for item in items]
        problems += of_part(reader.problems, own)
        silent += reader.silent
    kept, doubled = distinct(found)
    usable, unreadable, notes = measure(kept)
    notes += unnamed(item.utterance.audio_filepath for item in found)
    problems += doubled + unreadable
    notes += [f"{silent:,} cuts or supervisions without text left out"] if silent else []
    if has_parts:
        given = {part: [item for item in usable if part_of[item.id] == part] for part in PARTS}
        parts, split = share_out_train(given, options, problems, root)
        return Prepared(parts, split, problems, notes)
    if len(files) > 1:
        notes.append("the names do not speak of parts for all files, so all of it is shared out")
    parts, split = share_out(usable, options, problems, root)
    return Prepared(parts, split, problems, notes)


def _files(root: Path) -> dict[str | None, dict[str, list[Path]]]:
    """Part (None: the name speaks of none) -> kind -> files. Cuts win over recordings and supervisions."""
    if not root.is_dir():
        if not root.exists():
            raise DataError(f"{show_path(root)}: no such file; expected lhotse's cuts, or a folder with manifests")
        return {None: {"cuts": [root], "recordings": [], "supervisions": []}}
    grouped: dict[str | None, dict[str, list[Path]]] = {}
    for path in sorted(root.iterdir()):
        kind = next((kind for kind in KINDS if kind in path.name.lower()), None)
        if kind and path.name.endswith(SUFFIXES):
            grouped.setdefault(part_in_name(path.name), {kind: [] for kind in KINDS})[kind].append(path)
    if any(kinds["cuts"] for kinds in grouped.values()):
        return {part: {**kinds, "recordings": [], "supervisions": []} for part, kinds in grouped.items() if kinds["cuts"]}
    if not any(kinds["supervisions"] for kinds in grouped.values()):
        raise DataError(f"{show_path(root)}: holds no file *cuts*.jsonl(.gz) nor *supervisions*.jsonl(.gz)")
    return {part: kinds for part, kinds in grouped.items() if kinds["supervisions"]}


def _cuts(path: Path, reader: _Reader) -> Iterator[Found]:
    """The utterances of a file of cuts."""
    for number, cut in read_json_lines(path, reader.problems):
        where = f"{show_path(path)}:{number}"
        name = text_of(cut, "id")
        kind = cut.get("type", "MonoCut")
        if kind != "MonoCut":
            what = {"MixedCut": "a mixture of recordings", "MultiCut": "several channels", "PaddingCut": "silence"}
            fault = f"{kind} ({what.get(kind, 'unknown')}) is not read here; expected MonoCut"
            reader.problems.append(Problem("unsupported-cut", where, fault, id=name))
            continue
        audio = _audio(cut.get("recording"), path, where, name, reader)
        start, length = seconds_of(cut, "start"), seconds_of(cut, "duration")
        said = [item for item in cut.get("supervisions") or [] if isinstance(item, dict) and text_of(item, "text")]
        reader.silent += not said
        if audio is None or not said:
            continue
        if start is None or not length or not name:
            fault = "expected an id, a start of at least 0 and a duration above 0 (s)"
            reader.problems.append(Problem("bad-field", where, fault, id=name))
            continue
        for item in said:
            own = name if len(said) == 1 else text_of(item, "id") or name
            at = item.get("start", 0.0)
            at = float(at) if isinstance(at, (int, float)) else 0.0  # negative where the cut begins within it
            until = min(at + (seconds_of(item, "duration") or length), length)
            yield from _utterance(item, own, audio, (start + max(at, 0.0), start + until), where, reader)


def _supervisions(kinds: dict[str, list[Path]], reader: _Reader) -> Iterator[Found]:
    """The utterances of supervisions, with the recordings that they name."""
    for path in kinds["recordings"]:
        for number, item in read_json_lines(path, reader.problems):
            where = f"{show_path(path)}:{number}"
            name = text_of(item, "id")
            if name is None or name in reader.recordings:
                fault = "has no id" if name is None else f"id {name!r} is already taken; give each recording its own"
                reader.problems.append(Problem("duplicate-id" if name else "bad-field", where, fault, id=name))
                continue
            reader.recordings[name] = _audio(item, path, where, name, reader)
    for path in kinds["supervisions"]:
        for number, item in read_json_lines(path, reader.problems):
            where = f"{show_path(path)}:{number}"
            name, recording = text_of(item, "id"), text_of(item, "recording_id")
            start, length = seconds_of(item, "start"), seconds_of(item, "duration")
            if not text_of(item, "text"):
                reader.silent += 1
            elif name is None or recording is None or start is None or not length:
                fault = "expected id, recording_id, a start of at least 0 and a duration above 0 (s)"
                reader.problems.append(Problem("bad-field", where, fault, id=name))
            elif recording not in reader.recordings:
                fault = f"its recording {recording} stands in no file *recordings*.jsonl(.gz)"
                reader.problems.append(Problem("missing-entry", where, fault, id=name))
            elif reader.recordings[recording] is not None:
                yield from _utterance(item, name, reader.recordings[recording], (start, start + length), where, reader)


def _utterance(
    item: dict[str, Any], name: str, audio: str, span: tuple[float, float], where: str, reader: _Reader
) -> Iterator[Found]:
    if span[1] <= span[0]:
        fault = f"its supervision lies outside the cut ({span[0]:g} to {span[1]:g} s)"
        reader.problems.append(Problem("bad-segment", where, fault, id=name))
        return
    text = " ".join((text_of(item, "text") or "").split())
    length = round(span[1] - span[0], 6)
    speaker = text_of(item, "speaker") or None
    extra = {key: item[key] for key in ("language", "gender") if isinstance(item.get(key), str)}
    utterance = Utterance(printable(name), audio, length, offset=round(span[0], 6), text=text, speaker=speaker, extra=extra)
    yield Found(utterance, where)


def _audio(recording: Any, path: Path, where: str, name: str | None, reader: _Reader) -> str | None:
    """The file that holds a recording; None, and a problem, where it is not simply a file."""
    fault = _source_fault(recording)
    if fault:
        reader.problems.append(Problem(fault[0], where, fault[1], id=name))
        return None
    source = str(recording["sources"][0]["source"])
    places = [os.path.join(folder, source) for folder in (path.parent, path.parent.parent)]
    return next((place for place in places if os.path.exists(place)), places[0])


def _source_fault(recording: Any) -> tuple[str, str] | None:
    if not isinstance(recording, dict) or not isinstance(recording.get("sources"), list):
        return "bad-field", "no recording with its sources; expected cuts or recordings of lhotse"
    sources = [source for source in recording["sources"] if isinstance(source, dict)]
    kinds = {text_of(source, "type") for source in sources}
    if "command" in kinds:
        command = next(text_of(source, "source") for source in sources if source.get("type") == "command")
        return COMMAND, f"commands are not run: {command!r}; write the recording to a file (lhotse: save_audios) and name that"
    if len(sources) != 1 or len(recording.get("channel_ids") or sources[0].get("channels") or [0]) > 1:
        return "channels", "has several channels, which may hold several speakers; write one file for each channel"
    if kinds != {"file"} or not text_of(sources[0], "source"):
        return "unsupported-source", f"its source is of the type {some(map(str, kinds))}, expected file; write it to a file first"
    if recording.get("transforms"):
        return "transformed", "its transforms (changed speed, volume ...) are not computed here; write the result to a file first"
    return None
