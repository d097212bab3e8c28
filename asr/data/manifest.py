"""Manifests: one JSON object per line and utterance, read with every fault named by its line, written atomically.

The fields are a superset of NeMo's: ``id, audio_filepath, duration, offset, text, phones, speaker``; others are kept.
"""

import gzip
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

from asr.data.files import UNPRINTABLE, file_sha256, open_regular, show_path, write_atomic
from asr.data.packed import GZIP, GZIP_FAULTS, ZSTD, gzip_fault, zstd_fault
from asr.errors import DataError

__all__ = [
    "Problem",
    "Utterance",
    "manifest_sha256",
    "parse_json_line",
    "read_manifest",
    "scan_json_lines",
    "scan_manifest",
    "write_atomic",
    "write_manifest",
]

MAX_LINE_BYTES = 4 * 2**20
LISTED_PROBLEMS = 20
#: Further field of an utterance that is a piece of a recording: how long all of it is (s).
RECORDING_DURATION = "recording_duration"
#: Further field: the sha256 of the recording's file, in hexadecimal.
AUDIO_SHA256 = "audio_sha256"
HALF_PAIR = re.compile("[\ud800-\udfff]")
FIELDS = ("id", "audio_filepath", "duration", "offset", "text", "phones", "speaker")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One line of a manifest: a stretch of a recording and what is said in it."""

    id: str
    #: A path that can be opened from any working folder.
    audio_filepath: str
    #: Seconds.
    duration: float
    #: Seconds from the start of the recording.
    offset: float = 0.0
    text: str | None = None
    #: Phones separated by spaces.
    phones: str | None = None
    speaker: str | None = None
    #: Fields of the manifest that the toolkit does not know, kept when it writes.
    extra: dict[str, Any] = field(default_factory=dict, hash=False)
    #: 1-based line in the manifest, 0 when it did not come from one; not written.
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Problem:
    """One fault found in a manifest or in a recording it names."""

    #: A short slug, the class the fault is counted under: ``missing-file``, ``duplicate-id`` ...
    kind: str
    #: ``train.jsonl:12``, or the file alone.
    where: str
    message: str
    #: The utterance, where the line could be read that far.
    id: str | None = None
    #: The part that a corpus has it in, where it has parts of its own and names this one.
    part: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


def read_manifest(path: str | os.PathLike[str]) -> list[Utterance]:
    """All utterances of a manifest, in file order, with audio paths resolved against the manifest's folder.

    Raises DataError listing every line that cannot be used (the first 20, and how many there are), and for an empty manifest.
    """
    utterances, problems = scan_manifest(path)
    if len(problems) == 1:
        raise DataError(str(problems[0]))
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems[:LISTED_PROBLEMS])
        more = f"\n  ... and {len(problems) - LISTED_PROBLEMS} more" if len(problems) > LISTED_PROBLEMS else ""
        raise DataError(f"{show_path(path)}: {len(problems)} lines cannot be used:\n{listed}{more}")
    if not utterances:
        raise DataError(f"{show_path(path)}: is empty; expected one JSON object per line and utterance")
    return utterances


def scan_manifest(path: str | os.PathLike[str]) -> tuple[list[Utterance], list[Problem]]:
    """The usable lines of a manifest, and one Problem for each of the others (syntax, encoding, fields, repeated ids).

    Numbers are checked for their type here, for their value (negative, beyond the end of the recording) by
    ``asr.data.check``. Raises DataError only when the file itself cannot be read.
    """
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    utterances: list[Utterance] = []
    problems: list[Problem] = []
    first_line: dict[str, int] = {}
    for number, item in scan_json_lines(path):
        if isinstance(item, Problem):
            problems.append(item)
            continue
        where = f"{show_path(path)}:{number}"
        fault = _field_fault(item)
        if fault:
            name = item.get("id")
            problems.append(Problem("bad-field", where, fault, id=name if isinstance(name, str) else None))
            continue
        name = item["id"]
        if name in first_line:
            message = f'id "{name}" stands on lines {first_line[name]} and {number}; give each utterance its own id'
            problems.append(Problem("duplicate-id", where, message, id=name))
            continue
        first_line[name] = number
        utterances.append(_utterance(item, folder, number))
    return utterances, problems


def scan_json_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """Each non-blank line of a JSON-lines file as ``(1-based line, object)``, or a Problem in place of the object.

    A file packed by gzip is unpacked on the way, whatever its name. Reads line by line and never holds more than 4 MiB of a
    line, so memory stays bounded. Raises DataError when the path is missing, a folder, or not a regular file.
    """
    shown = show_path(path)
    with open_regular(path) as file:
        head = file.read(4)
        file.seek(0)
        if head.startswith(ZSTD):
            yield 1, Problem("packed", shown, zstd_fault(file))
            return
        if not head.startswith(GZIP):
            yield from _scan_lines(file, shown)
            return
        number = 0
        with gzip.GzipFile(fileobj=file) as unpacked:
            try:
                for number, item in _scan_lines(unpacked, shown):
                    yield number, item
            except GZIP_FAULTS as error:
                yield number + 1, Problem("cut-manifest", shown, gzip_fault(error, file, number))


def _scan_lines(handle: BinaryIO | gzip.GzipFile, shown: str) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    number = 0
    while line := handle.readline(MAX_LINE_BYTES + 1):
        number += 1
        where = f"{shown}:{number}"
        if number == 1:
            if _is_utf16(line[:4]):
                fault = "is UTF-16 text: convert it with iconv -f UTF-16 -t UTF-8"
                yield 1, Problem("encoding", shown, f"{fault}; expected plain UTF-8 text with one JSON object per line")
                return
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) > MAX_LINE_BYTES:
            while not line.endswith(b"\n") and line:
                line = handle.readline(MAX_LINE_BYTES)
            message = f"the line is longer than {MAX_LINE_BYTES // 2**20} MiB; expected one utterance per line"
            yield number, Problem("line-too-long", where, message)
        elif line.strip(b" \t\r\n"):
            yield number, parse_json_line(line, where)


def write_manifest(path: str | os.PathLike[str], utterances: Iterable[Utterance]) -> None:
    """Write a manifest atomically, one line per utterance in the order given.

    Audio below the manifest's folder or below that folder's parent is written as a relative path, so the two can be moved
    together; other audio as an absolute path. Raises DataError for a repeated id, ResourceError when writing fails.
    """
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    seen: set[str] = set()
    lines = []
    for utterance in utterances:
        if utterance.id in seen:
            raise DataError(f'{show_path(path)}: id "{utterance.id}" would be written twice; give each utterance its own id')
        seen.add(utterance.id)
        lines.append(_line(utterance, folder, path))
    write_atomic(path, b"".join(lines))


def manifest_sha256(path: str | os.PathLike[str]) -> str:
    """The sha256 of the manifest's bytes in hexadecimal; DataError when it cannot be read."""
    return file_sha256(path)


def _is_utf16(head: bytes) -> bool:
    return head.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(head) == 4 and (head[0::2] == b"\0\0" or head[1::2] == b"\0\0"))


def parse_json_line(line: bytes, where: str) -> dict[str, Any] | Problem:
    """The object that a line of a JSON-lines file holds, or what is wrong with it at ``where``."""
    zero = line.find(b"\0")
    if zero >= 0:
        return Problem("encoding", where, f"NUL byte in column {zero + 1}; the file is damaged or not UTF-8 text")
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        guess = "Windows-1252" if any(0x80 <= value <= 0x9F for value in line) else "Latin-1"
        message = f"byte 0x{byte:02X} in column {error.start + 1} is not UTF-8; if it is {guess}, convert with iconv"
        return Problem("encoding", where, message)
    try:
        item = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        return Problem("bad-json", where, f"column {error.colno}: {_json_fault(text, error)}")
    except RecursionError:
        return Problem("bad-json", where, "nested too deeply; expected one flat JSON object")
    except ValueError as error:  # a number that is none, or a field given twice
        number = re.search(r"[:,\[]\s*(?=NaN|-?Infinity)", text)
        column = f"column {number.end() + 1}: " if number else ""
        return Problem("bad-json", where, f"{column}{error}")
    if not isinstance(item, dict):
        return Problem("bad-json", where, f"expected a JSON object in braces, got {_json_type(item)}")
    return item


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number; write a finite one")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    item = dict(pairs)
    if len(item) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'the field "{twice}" is given twice')
    return item


#: Made once: ``json.loads`` with such arguments would make one for each line, at several times its cost.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)


def _json_fault(text: str, error: json.JSONDecodeError) -> str:
    rest = text[error.pos :].lstrip()
    before = text[: error.pos + 1].rstrip()
    if not rest or error.msg.startswith("Unterminated string"):
        return "the JSON object ends too early; the line is cut, or the object is spread over several lines"
    if before.rstrip("}]").rstrip().endswith(",") and rest[:1] in ("}", "]", ","):
        return "trailing comma before the closing bracket"
    if text.lstrip().startswith("["):
        return "the file is a JSON array; expected one JSON object per line"
    return f"not valid JSON near {rest[:20].rstrip()!r}; expected one JSON object per line"


def _json_type(value: object) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names: dict[type, str] = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names[type(value)]


def _field_fault(item: dict[str, Any]) -> str | None:
    """What is wrong with the known fields of one line, all of it in one sentence; None when nothing is."""
    faults = []
    missing = [name for name in ("id", "audio_filepath", "duration") if name not in item]
    if missing:
        faults.append(f"missing field{'s' * (len(missing) > 1)} {', '.join(missing)}")
    for name in ("id", "audio_filepath", "text", "phones", "speaker"):
        value = item.get(name)
        if value is None and (name not in item or name in ("text", "phones", "speaker")):
            continue
        if not isinstance(value, str):
            faults.append(f'"{name}" must be a string, got {_json_type(value)}')
        elif name in ("id", "audio_filepath") and not value.strip():
            faults.append(f'"{name}" is empty')
        elif name == "id" and UNPRINTABLE.search(value):
            faults.append(f'"id" holds a control character ({value!a})')
        elif name == "audio_filepath" and "\0" in value:
            faults.append('"audio_filepath" holds a NUL character')
        elif name != "audio_filepath" and not value.isascii() and HALF_PAIR.search(value):
            faults.append(f'"{name}" holds half a surrogate pair, which is no character')
    for name in ("duration", "offset"):
        value = item.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            shown = f' "{value}" (take away the quotes)' if isinstance(value, str) else ""
            faults.append(f'"{name}" must be a number of seconds, got {_json_type(value)}{shown}')
        elif not abs(value) < 1e9:
            faults.append(f'"{name}" is {str(value)[:20]} s, which no recording has')
    return "; ".join(faults) or None


def _utterance(item: dict[str, Any], folder: str, line: int) -> Utterance:
    extra = {name: value for name, value in item.items() if name not in FIELDS}
    return Utterance(
        id=item["id"],
        audio_filepath=_resolve(item["audio_filepath"], folder),
        duration=float(item["duration"]),
        offset=float(item.get("offset", 0.0)),
        text=item.get("text"),
        phones=item.get("phones"),
        speaker=item.get("speaker"),
        extra=extra,
        line=line,
    )


def _resolve(path: str, folder: str) -> str:
    if os.path.isabs(path):
        return path
    while path.startswith(("./", "../")):
        if path.startswith("../"):
            folder = os.path.dirname(folder)  # exact, for the folder holds no links any more
        path = path.split("/", 1)[1].lstrip("/")
    return os.path.join(folder, path)


def _relative(path: str, folder: str) -> str:
    parent, name = os.path.split(os.path.abspath(path))
    full = os.path.join(os.path.realpath(parent), name)  # the last link stays: its name is the one people know
    for base in (folder, os.path.dirname(folder)):
        if full.startswith(os.path.join(base, "")) and base != os.path.dirname(base):
            return os.path.relpath(full, folder)
    return full


def _line(utterance: Utterance, folder: str, path: str | os.PathLike[str]) -> bytes:
    record: dict[str, Any] = {
        "id": utterance.id,
        "audio_filepath": _relative(utterance.audio_filepath, folder),
        "duration": utterance.duration,
        "offset": utterance.offset,
    }
    for name in ("text", "phones", "speaker"):
        value = getattr(utterance, name)
        if value is not None:
            record[name] = value
    clash = sorted(set(utterance.extra) & set(FIELDS))
    if clash:
        raise DataError(f'{show_path(path)}: utterance "{utterance.id}" has the extra field "{clash[0]}", a name already taken')
    record.update(utterance.extra)
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError):
        fault = "a field that JSON cannot hold (NaN, infinity or a Python object)"
        raise DataError(f'{show_path(path)}: utterance "{utterance.id}" has {fault}') from None
    try:
        return text.encode("utf-8") + b"\n"
    except UnicodeEncodeError:  # a file name that is not UTF-8: JSON escapes keep its bytes
        return json.dumps(record).encode("ascii") + b"\n"
