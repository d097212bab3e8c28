"""Manifests of NVIDIA NeMo: one JSON object a line with audio_filepath, duration and text; offset and speaker where known."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from asr.data.corpora.jsonlines import SUFFIXES, group_by_part, read_json_lines, seconds_of, text_of
from asr.data.files import show_path
from asr.data.manifest import FIELDS, Problem, Utterance
from asr.data.split import PARTS
from asr.errors import DataError

#: Fields that name something else here.
KNOWN = {*FIELDS, "text", "lang", "normalized_text"}


@dataclass
class NemoOptions(SplitOptions):
    """The shares apply where the names of the manifests speak of no parts."""


def prepare(root: Path, options: NemoOptions) -> Prepared:
    """``root`` is a manifest, or a folder of manifests whose names speak of the part (``train_manifest.json``).

    Relative paths start from the manifest's folder. The id is the field ``id``, or the name of the recording; where a
    recording has several lines, its place (in hundredths of a second) is added.
    """
    files = _manifests(root)
    groups = group_by_part(files)
    problems: list[Problem] = []
    found: list[Found] = []
    part_of: dict[str, str] = {}
    for part, paths in (groups or {"train": files}).items():
        faults: list[Problem] = []
        items = [item for path in paths for item in read_manifest(path, faults)]
        for item in items:
            part_of.setdefault(item.utterance.id, part)
        own = part if groups and "train" in groups else None
        found += [replace(item, part=own) for item in items]
        problems += of_part(faults, own)
    kept, doubled = distinct(found)
    usable, unreadable, notes = measure(kept)
    notes += unnamed(item.utterance.audio_filepath for item in found)
    problems += doubled + unreadable
    silent = [item.id for item in usable if not item.text]
    if silent:
        notes.append(f"empty transcripts: {len(silent)} ({some(silent)})")
    if groups and "train" in groups:
        given = {part: [item for item in usable if part_of[item.id] == part] for part in PARTS}
        parts, split = share_out_train(given, options, problems, root)
        return Prepared(parts, split, problems, notes)
    if groups:
        notes.append(f"the names speak of {', '.join(groups)} alone, so all of it is shared out")
    parts, split = share_out(usable, options, problems, root)
    return Prepared(parts, split, problems, notes)


def _manifests(root: Path) -> list[Path]:
    if not root.is_dir():
        if not root.exists():
            raise DataError(f"{show_path(root)}: no such file; expected a manifest, or a folder of manifests")
        return [root]
    files = [path for path in sorted(root.iterdir()) if path.name.endswith(SUFFIXES) and path.is_file()]
    if not files:
        raise DataError(f"{show_path(root)}: holds no manifest ({', '.join(SUFFIXES)})")
    return files


def read_manifest(path: Path, problems: list[Problem]) -> list[Found]:
    """The utterances of one manifest; what cannot be used becomes a problem with its line."""
    found = list(_utterances(path, problems))
    lines = Counter(item.utterance.audio_filepath for item in found if "id" not in item.utterance.extra)
    named = []
    for item in found:
        utterance = item.utterance
        extra = {name: value for name, value in utterance.extra.items() if name != "id"}
        if lines[utterance.audio_filepath] > 1 and "id" not in utterance.extra:
            start, end = utterance.offset, utterance.offset + utterance.duration
            utterance = replace(utterance, id=f"{utterance.id}-{round(100 * start):07d}-{round(100 * end):07d}")
        named.append(replace(item, utterance=replace(utterance, extra=extra)))
    return named


def _utterances(path: Path, problems: list[Problem]) -> Iterator[Found]:
    """Utterances with their own ``id`` still among the further fields, where they have one."""
    for number, item in read_json_lines(path, problems):
        where = f"{show_path(path)}:{number}"
        fault = _fault(item)
        if fault:
            problems.append(Problem(fault[0], where, fault[1], id=text_of(item, "id")))
            continue
        audio = os.path.join(path.parent, item["audio_filepath"])
        duration, offset = seconds_of(item, "duration") or 0.0, seconds_of(item, "offset") or 0.0
        name = printable(text_of(item, "id") or os.path.splitext(os.path.basename(audio))[0])
        extra = {key: value for key, value in item.items() if key not in KNOWN or key == "id"}
        speaker = text_of(item, "speaker", "speaker_id") or None
        text = " ".join((text_of(item, "text") or "").split())
        phones = text_of(item, "phones")
        yield Found(Utterance(name, audio, duration, offset, text, phones, speaker, extra), where)


def _fault(item: dict[str, Any]) -> tuple[str, str] | None:
    audio = item.get("audio_filepath")
    if isinstance(audio, list):
        return "channels", "audio_filepath is a list (one file per channel); mix the channels to one file first"
    if not isinstance(audio, str) or not audio.strip():
        return "bad-field", 'no text in the field "audio_filepath"; expected a manifest of NeMo'
    if audio.rstrip().endswith("|") or audio.lstrip().startswith("|"):
        return COMMAND, f"commands are not run: {audio[:60]!r}; write the recording to a file and put that path here"
    if "shard_id" in item:
        return "tarred", "shard_id: the recording lies in a tar file; unpack the shards, and leave shard_id out"
    if text_of(item, "text") is None:
        return "bad-field", 'no text in the field "text"'
    for name in ("duration", "offset"):
        if seconds_of(item, name) is None:
            return "bad-field", f'"{name}" is {item[name]!r}, expected a number of seconds'
    return None
