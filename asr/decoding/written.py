"""What a recognised recording looks like in each form of output."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.data.files import show_path, write_atomic
from asr.decoding.formats import FORMATS, TimedRecord
from asr.decoding.hypothesis import Hypothesis, Word
from asr.decoding.options import DecodeOptions
from asr.decoding.output import Record, file_name
from asr.errors import UsageError


@dataclass(frozen=True)
class Transcript:
    """One audio file and its text; `hypotheses` is empty where `error` says why."""

    path: str
    #: the best first
    hypotheses: tuple[Hypothesis, ...]
    #: s
    duration: float
    #: what is written about it, under its path
    record: Record
    error: str | None = None
    #: what was odd about the recording, one sentence each
    notices: tuple[str, ...] = ()
    #: what the tokens of the model are called: characters | phones | bytepairs
    unit: str = "characters"

    @property
    def hypothesis(self) -> Hypothesis | None:
        """The best one."""
        return self.hypotheses[0] if self.hypotheses else None


def render(record: Record, form: str, duration: float, *, unit: str = "characters") -> str:
    """One recording of so many seconds in a form of `asr.decoding.formats`, as text, or as json, which "auto" stands for.

    `unit` is what the tokens are called.
    """
    if form in ("auto", "json"):
        return record.line()
    if form == "text":
        return f"{record.id}\t{record.text}\n"
    words, tokens = (tuple(Word(**entry) for entry in entries or ()) for entries in (record.words, record.tokens))
    return FORMATS[form].render(TimedRecord(record.id, duration, words, tokens, unit))


def suffix_of(form: str) -> str:
    return FORMATS[form].suffix if form in FORMATS else f".{form}"


def write_files(found: Iterable[Transcript], options: DecodeOptions) -> Iterator[tuple[Transcript, str]]:
    """Each transcript of a file with what is to be printed of it.

    Forms of one file each go to the folder `out` where it is set, under the name of the recording. Raises UsageError for a
    folder that holds something, unless `overwrite` is set.
    """
    folder = Path(options.out) if options.out else None
    if folder is not None and folder.exists() and not options.overwrite and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"out={show_path(folder)} exists already; choose another name, or overwrite=true to replace it")
    written: Counter[str] = Counter()
    for one in found:
        if options.format in ("auto", "text"):
            yield one, f"{show_path(one.path)}\t{one.record.text}\n"
            continue
        text = render(one.record, options.format, one.duration, unit=one.unit)
        if folder is not None:
            name = file_name(os.path.splitext(os.path.basename(one.path))[0])
            written[name] += 1
            number = f"-{written[name]}" if written[name] > 1 else ""
            write_atomic(folder / f"{name}{number}{suffix_of(options.format)}", text)
            text = ""
        yield one, text
