"""Words with times as other programs read them: NIST CTM, Praat TextGrid, ELAN, subtitles (SRT, WebVTT) and JSON lines.

Times are rounded to milliseconds, the unit of most of these forms. Before, they are put in order: what a form cannot hold (an
interval without length, two that overlap) becomes the nearest thing that it can.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from asr.decoding.hypothesis import Word

#: characters in one line of a subtitle, and lines in one subtitle
LINE_LENGTH = 42
LINES = 2
#: s that one subtitle may last, and s of silence after which the next words get one of their own
LONGEST_CUE = 7.0
LONGEST_PAUSE = 1.0
#: the least length of an interval, ms
LEAST = 1
MEDIA_TYPES = {".wav": "audio/x-wav", ".mp3": "audio/mpeg", ".flac": "audio/flac", ".ogg": "audio/ogg", ".opus": "audio/ogg"}
#: The date that ELAN asks for; a fixed one, so that the same alignment gives the same file.
NO_DATE = "1970-01-01T00:00:00+00:00"
SCHEMA = "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"


@dataclass(frozen=True)
class TimedRecord:
    """What was said in one recording, and when."""

    id: str
    #: s
    duration: float
    words: tuple[Word, ...]
    #: the tokens of the model (characters or phones), a tier below the words; may be empty
    tokens: tuple[Word, ...] = ()
    #: what the tokens are called: characters | phones
    unit: str = "characters"
    #: path of the recording, "" where unknown
    audio: str = ""
    text: str | None = None
    #: natural logarithm of the probability of the best path
    score: float | None = None
    #: why there is nothing to write
    error: str | None = None

    def line(self) -> str:
        """All fields as one line of JSON, which `parse_record` reads."""
        return json.dumps(asdict(self), allow_nan=False) + "\n"


def parse_record(line: bytes) -> TimedRecord | None:
    """The record of a line; None where it is cut or no record."""
    try:
        fields: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
        for name in ("words", "tokens"):
            fields[name] = tuple(Word(**word) for word in fields[name])
        return TimedRecord(**fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


@dataclass(frozen=True)
class Format:
    """How a form is written. `joined`: all recordings go to one file, one after the other; else each has a file of its own."""

    suffix: str
    joined: bool
    render: Callable[[TimedRecord], str]


def ctm(record: TimedRecord) -> str:
    """One line for each word: recording, channel 1, start and duration in seconds, word, and its confidence where there is one.
    Of a recording whose words are not known (phones) one line for each token.

    White space within an id or a word becomes an underscore, since it separates columns. An id that begins with `;;` would
    be a comment, and gets an underscore before it.
    """
    name = "_".join(record.id.split()) or "_"
    name = f"_{name}" if name.startswith(";;") else name
    lines = []
    for start, end, word in _in_order(_spoken(record)):
        confidence = "" if word.confidence is None else f" {word.confidence:.4f}"
        text = "_".join(word.text.split()) or "_"
        lines.append(f"{name} 1 {start / 1000:.3f} {(end - start) / 1000:.3f} {text}{confidence}\n")
    return "".join(lines)


def textgrid(record: TimedRecord) -> str:
    """A Praat TextGrid in the long text form: an interval tier for words and one for tokens, pauses as empty intervals."""
    tiers = [(name, _in_order(entries)) for name, entries in _tiers(record)]
    length = max([LEAST, round(1000 * record.duration), *(row[-1][1] for _, row in tiers if row)])
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {length / 1000:.3f}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, row) in enumerate(tiers, 1):
        intervals = _with_pauses(row, length)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_praat(name)}"]
        lines += ["        xmin = 0", f"        xmax = {length / 1000:.3f}", f"        intervals: size = {len(intervals)}"]
        for index, (start, end, text) in enumerate(intervals, 1):
            lines += [f"        intervals [{index}]:", f"            xmin = {start / 1000:.3f}"]
            lines += [f"            xmax = {end / 1000:.3f}", f"            text = {_praat(text)}"]
    return "\n".join(lines) + "\n"


def elan(record: TimedRecord) -> str:
    """An ELAN annotation document (EAF 3.0): a tier of words and one of tokens, and where the recording is, if that is known."""
    attributes = {"AUTHOR": "", "DATE": NO_DATE, "FORMAT": "3.0", "VERSION": "3.0"}
    ElementTree.register_namespace("xsi", "http://www.w3.org/2001/XMLSchema-instance")
    root = ElementTree.Element("ANNOTATION_DOCUMENT", {**attributes, SCHEMA: "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"})
    header = ElementTree.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    if record.audio:
        ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", _media(record.audio))
    tiers = [(name, _in_order(entries)) for name, entries in _tiers(record)]
    last = ElementTree.SubElement(header, "PROPERTY", NAME="lastUsedAnnotationId")
    last.text = str(sum(len(row) for _, row in tiers))
    slots = ElementTree.SubElement(root, "TIME_ORDER")
    # Each annotation has two time slots of its own: where two share one, ELAN moves both when one is moved.
    ends = [time for _, row in tiers for start, end, _ in row for time in (start, end)]
    names = {place: f"ts{number}" for number, place in enumerate(sorted(range(len(ends)), key=lambda place: ends[place]), 1)}
    for place, name in names.items():
        ElementTree.SubElement(slots, "TIME_SLOT", TIME_SLOT_ID=name, TIME_VALUE=str(ends[place]))
    number = 0
    for tier, row in tiers:
        below = ElementTree.SubElement(root, "TIER", LINGUISTIC_TYPE_REF="default-lt", TIER_ID=tier)
        for _, _, entry in row:
            references = {"TIME_SLOT_REF1": names[2 * number], "TIME_SLOT_REF2": names[2 * number + 1]}
            number += 1
            annotation = ElementTree.SubElement(below, "ANNOTATION")
            aligned = ElementTree.SubElement(annotation, "ALIGNABLE_ANNOTATION", {"ANNOTATION_ID": f"a{number}", **references})
            ElementTree.SubElement(aligned, "ANNOTATION_VALUE").text = _xml(entry.text)
    kind = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true"}
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", kind)
    ElementTree.indent(root, "    ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def srt(record: TimedRecord) -> str:
    """SubRip subtitles: numbered, `HH:MM:SS,mmm`, at most two lines of 42 characters and 7 s each."""
    cues = []
    for number, (start, end, lines) in enumerate(subtitles(_spoken(record)), 1):
        text = "\n".join(line.replace("-->", "->") for line in lines)
        cues.append(f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n\n")
    return "".join(cues)


def vtt(record: TimedRecord) -> str:
    """WebVTT subtitles, with the cues of `srt`."""
    escapes = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    cues = ["WEBVTT\n\n"]
    for start, end, lines in subtitles(_spoken(record)):
        text = "\n".join(line.translate(escapes) for line in lines)
        cues.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n\n")
    return "".join(cues)


def json_line(record: TimedRecord) -> str:
    """One JSON object on a line: id, duration and what else is known, and under `words` and `characters` or `phones` the entries.

    Each entry has text, start, end (s) and confidence.
    """
    fields: dict[str, Any] = {"id": record.id, "duration": round(record.duration, 3)}
    fields |= {name: value for name in ("text", "score", "error") if (value := getattr(record, name)) is not None}
    if record.words or not record.tokens:
        fields["words"] = [word_fields(word) for word in record.words]
    if record.tokens:
        fields[record.unit] = [word_fields(token) for token in record.tokens]
    return json.dumps(fields, ensure_ascii=False, allow_nan=False) + "\n"


#: The forms by name.
FORMATS = {
    "ctm": Format(".ctm", True, ctm),
    "textgrid": Format(".TextGrid", False, textgrid),
    "elan": Format(".eaf", False, elan),
    "srt": Format(".srt", False, srt),
    "vtt": Format(".vtt", False, vtt),
    "json": Format(".jsonl", True, json_line),
}


def time_fields(word: Word) -> dict[str, Any]:
    """A word as the JSON form holds it, without confidence: times in seconds, to the millisecond."""
    return {"text": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}


def word_fields(word: Word) -> dict[str, Any]:
    """A word as the JSON form holds it."""
    return {**time_fields(word), "confidence": None if word.confidence is None else round(word.confidence, 4)}


def subtitles(words: Iterable[Word]) -> list[tuple[int, int, list[str]]]:
    """Cues (start, end, lines), ms: as many words as fit two lines of 42 characters and 7 s, never across a pause of 1 s.

    A word longer than a line has a line of its own.
    """
    cues: list[tuple[int, int, list[str]]] = []
    for start, end, word in _in_order(words):
        text = " ".join(word.text.split())
        if not text:
            continue
        if cues and start - cues[-1][1] < 1000 * LONGEST_PAUSE and end - cues[-1][0] <= 1000 * LONGEST_CUE:
            begin, _, lines = cues[-1]
            if len(lines[-1]) + 1 + len(text) <= LINE_LENGTH:
                cues[-1] = (begin, end, [*lines[:-1], f"{lines[-1]} {text}"])
                continue
            if len(lines) < LINES:
                cues[-1] = (begin, end, [*lines, text])
                continue
        cues.append((start, end, [text]))
    return cues


def _spoken(record: TimedRecord) -> tuple[Word, ...]:
    """What a form of one tier holds: words, or tokens where no words are known."""
    return record.words or record.tokens


def _tiers(record: TimedRecord) -> list[tuple[str, tuple[Word, ...]]]:
    """The tiers that hold something, from the long units to the short ones; `words` where none does."""
    tiers = [("words", record.words), (record.unit, record.tokens)]
    return [tier for tier in tiers if tier[1]] or tiers[:1]


def _in_order(words: Iterable[Word]) -> list[tuple[int, int, Word]]:
    """Start and end of each word in ms, none before 0, none without length, none beginning before the one before has ended."""
    found: list[tuple[int, int, Word]] = []
    least = 0
    for word in words:
        start = max(least, round(1000 * word.start))
        least = max(start + LEAST, round(1000 * word.end))
        found.append((start, least, word))
    return found


def _with_pauses(row: Sequence[tuple[int, int, Word]], length: int) -> list[tuple[int, int, str]]:
    """Intervals that cover 0 .. length without a gap; at least one."""
    found: list[tuple[int, int, str]] = []
    at = 0
    for start, end, word in row:
        if start > at:
            found.append((at, start, ""))
        found.append((start, end, word.text))
        at = end
    return found if at >= length else [*found, (at, length, "")]


def _praat(text: str) -> str:
    """A string in Praat's quotes, which are doubled within."""
    return '"{}"'.format(" ".join(text.split()).replace('"', '""'))


def _xml(text: str) -> str:
    """Without the control characters that no XML document can hold."""
    return "".join(char for char in text if char in "\t\n" or (char >= " " and not "\ufffe" <= char <= "\uffff"))


def _media(audio: str) -> dict[str, str]:
    path = os.path.abspath(audio)
    name = PurePath(path)
    kind = MEDIA_TYPES.get(name.suffix.lower(), "unknown")
    return {"MEDIA_URL": f"file://{quote(os.fsencode(path))}", "MIME_TYPE": kind}


def _clock(milliseconds: int, mark: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{mark}{rest:03d}"
