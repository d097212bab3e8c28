"""References and hypotheses as the scorer sees them: JSON lines with an id and text or phones, no audio needed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asr.data.files import show_path
from asr.data.manifest import LISTED_PROBLEMS, Problem, scan_json_lines
from asr.errors import DataError


@dataclass(frozen=True)
class Transcript:
    """One line of a reference manifest or of a decoder's output."""

    id: str
    text: str | None = None
    phones: str | None = None
    speaker: str | None = None
    #: why the recording could not be decoded, None if it could
    error: str | None = None
    #: file and 1-based line, for messages
    where: str = ""
    #: fields that a manifest has and a decoder's output has not
    has_audio: bool = False


def read_transcripts(path: str | os.PathLike[str]) -> list[Transcript]:
    """All lines of a JSON-lines file in its order; further fields are ignored, an empty file gives an empty list.

    Raises DataError listing the lines that cannot be used (the first 20 and their number): syntax, encoding, a missing or
    wrong field, an id that stands twice.
    """
    transcripts: list[Transcript] = []
    faults: list[str] = []
    lines: dict[str, int] = {}
    for number, item in scan_json_lines(path):
        where = f"{show_path(path)}:{number}"
        if isinstance(item, Problem):
            faults.append(str(item))
        elif fault := _field_fault(item):
            faults.append(f"{where}: {fault}")
        elif item["id"] in lines:
            message = f'id "{item["id"]}" stands on lines {lines[item["id"]]} and {number}; give each utterance one line'
            faults.append(f"{where}: {message}")
        else:
            lines[item["id"]] = number
            transcripts.append(_transcript(item, where))
    if faults:
        raise DataError(list_faults(faults, f"{show_path(path)}: {len(faults)} lines cannot be used"))
    return transcripts


def list_faults(faults: Sequence[str], head: str) -> str:
    """One fault as it is; several below `head`, the first 20 of them and how many more."""
    if len(faults) == 1:
        return faults[0]
    more = f"\n  ... and {len(faults) - LISTED_PROBLEMS} more" if len(faults) > LISTED_PROBLEMS else ""
    return f"{head}:" + "".join(f"\n  {fault}" for fault in faults[:LISTED_PROBLEMS]) + more


def _transcript(item: dict[str, Any], where: str) -> Transcript:
    speaker = item.get("speaker") or None
    fields = {name: item.get(name) for name in ("text", "phones", "error")}
    return Transcript(item["id"], **fields, speaker=speaker, where=where, has_audio="audio_filepath" in item)


def _field_fault(item: dict[str, Any]) -> str | None:
    if "id" not in item:
        return 'missing field "id"'
    for name in ("id", "text", "phones", "speaker", "error"):
        value = item.get(name)
        if name != "id" and value is None:
            continue
        if not isinstance(value, str):
            return f'"{name}" must be a string, got {type(value).__name__}'
        if any("\ud800" <= char <= "\udfff" for char in value):
            return f'"{name}" holds half a surrogate pair, which is no character'
    return None if item["id"].strip() else '"id" is empty'
