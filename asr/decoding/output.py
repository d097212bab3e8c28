"""The file of hypotheses: gathered in `out.part` while decoding, so that an interrupted run goes on where it stopped."""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from asr.data.files import show_path, write_atomic
from asr.decoding.formats import time_fields, word_fields
from asr.decoding.hypothesis import Hypothesis, Word
from asr.errors import ResourceError, UsageError

try:
    import fcntl
except ImportError:  # not on Windows, where two runs into one file are not noticed
    fcntl = None  # type: ignore[assignment]

#: bytes of a file's name without its suffix
LONGEST_NAME = 200
#: what some file system or shell takes for more than a name, and the mark it is replaced with
UNFIT = re.compile(r'[%/\\:*?"<>|\x00-\x1f\x7f]')


@dataclass(frozen=True)
class Record:
    """One line of hyp.jsonl. `score` is the natural logarithm of what the search maximised, None with an error."""

    id: str
    text: str
    phones: str | None = None
    score: float | None = None
    error: str | None = None
    #: `text`, `start` and `end` (s) and `confidence` (0..1 or None) of each word, where they were asked for; none of phones
    words: list[dict[str, Any]] | None = None
    #: `text`, `start` and `end` (s) of each token, with the words
    tokens: list[dict[str, Any]] | None = None
    #: the best hypotheses, this one first, where more than one was asked for
    nbest: list[dict[str, Any]] | None = None

    @classmethod
    def of(
        cls,
        name: str,
        hypotheses: Sequence[Hypothesis],
        *,
        phones: Sequence[str] | None = None,
        timed: Sequence[tuple[Sequence[Word], Sequence[Word]]] | None = None,
        nbest: bool = False,
    ) -> "Record":
        """The record of an utterance: hypotheses, the best first, and of each its phones, its words and its tokens."""
        lines = []
        for rank, one in enumerate(hypotheses):
            fields: dict[str, Any] = {"text": one.text}
            if phones is not None:
                fields["phones"] = phones[rank]
            fields["score"] = round(one.score, 4)
            if timed is not None:
                words, tokens = timed[rank]
                fields["words"] = [word_fields(word) for word in words]
                fields["tokens"] = [time_fields(token) for token in tokens]
            lines.append(fields)
        return cls(name, **lines[0], nbest=lines if nbest else None)

    def line(self) -> str:
        fields: dict[str, Any] = {"id": self.id, "text": self.text}
        if self.phones is not None:
            fields["phones"] = self.phones
        fields["score"] = self.score
        for name in ("error", "words", "tokens", "nbest"):
            if getattr(self, name) is not None:
                fields[name] = getattr(self, name)
        return json.dumps(fields, ensure_ascii=False, allow_nan=False) + "\n"


class PartialOutput:
    """Hypotheses on their way to `out`, in whatever order they are decoded.

    `made_from` names all that decides the hypotheses (model, manifest, options): an `out.part` that was made from something
    else is started afresh, one made from the same is continued; `done` then holds what it has. A line cut by a kill is
    dropped. `out` becomes a file, or with `folder` a folder of one file per utterance. `parse` makes a record of a line, or None
    of one that is none; by default a `Record`. Raises UsageError when `out` exists
    and `overwrite` is false, when it is of the other kind, when another process writes it; ResourceError when writing fails.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        made_from: dict[str, Any],
        *,
        overwrite: bool = False,
        folder: bool = False,
        parse: Callable[[bytes], Any] | None = None,
    ):
        self.out = Path(out)
        self._parse = parse or _parse
        self.folder = folder
        self.path = self.out.with_name(self.out.name + ".part")
        self.done: dict[str, Record] = {}
        self.restarted = False
        if folder and self.out.exists() and not self.out.is_dir():
            raise UsageError(f"out={show_path(out)} is a file; expected the name of a folder for a file per recording")
        if not folder and self.out.exists() and not self.out.is_file():
            raise UsageError(f"out={show_path(out)} is a folder or a device; expected the name of a file to write")
        if self.out.exists() and not overwrite and (not folder or any(self.out.iterdir())):
            raise UsageError(f"out={show_path(out)} exists already; choose another name, or overwrite=true to replace it")
        self._head = json.dumps({"made_from": made_from}, sort_keys=True) + "\n"
        self._handle = self._open()
        self._recover()

    def __enter__(self) -> "PartialOutput":
        return self

    def __exit__(self, *fault: object) -> None:
        with contextlib.suppress(OSError):  # what could not be written has been told already
            self._handle.close()

    def add(self, records: Iterable[Record]) -> None:
        """Append records and hand them to the operating system, so that only a power cut can lose them."""
        records = list(records)
        self._write("".join(record.line() for record in records))
        self.done.update((record.id, record) for record in records)

    def finish(self, order: Sequence[str], form: Callable[[Record], str] = Record.line, *, suffix: str = "") -> None:
        """Write what `form` makes of the records, the ids in this order, atomically, and remove the part.

        In a folder each record has a file of its own, named by `file_name` and `suffix`; the folder appears as a whole
        unless it was there before.
        """
        if not self.folder:
            write_atomic(self.out, "".join(form(self.done[name]) for name in order))
        else:
            whole = self.out.with_name(f"{self.out.name}.part-files")
            target = self.out if self.out.exists() and any(self.out.iterdir()) else whole
            if target == whole:
                shutil.rmtree(whole, ignore_errors=True)
            for name in order:
                write_atomic(target / (file_name(name) + suffix), form(self.done[name]))
            if target == whole:
                os.replace(whole, self.out)
        self.path.unlink()

    def _open(self) -> BinaryIO:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = open(self.path, "a+b")  # noqa: SIM115 (closed by __exit__)
        except OSError as fault:
            blocked = isinstance(fault, (FileExistsError, NotADirectoryError))
            reason = "a part of the path is a file" if blocked else os.strerror(fault.errno or 0).lower()
            raise UsageError(f"out={show_path(self.out)} cannot be written: {reason}; choose another place") from None
        if not _lock(handle):
            handle.close()
            raise UsageError(f"another process is writing {show_path(self.path)}; wait for it or choose another out=")
        return handle

    def _recover(self) -> None:
        self._handle.seek(0)
        head = self._handle.readline()
        kept = len(head)
        if head.decode("utf-8", "replace") != self._head:
            self.restarted = bool(head)
            self._handle.truncate(0)
            return self._write(self._head)
        for line in self._handle:
            record = self._parse(line)
            if record is None:
                break
            self.done[record.id] = record
            kept += len(line)
        self._handle.truncate(kept)

    def _write(self, text: str) -> None:
        try:
            self._handle.write(text.encode("utf-8"))
            self._handle.flush()
        except OSError as fault:
            reason = os.strerror(fault.errno or 0).lower()
            raise ResourceError(f"{show_path(self.path)} cannot be written: {reason}; free some space and run again") from None


def file_name(utterance: str) -> str:
    """A name for a file made from an utterance id, one for each: characters that no name may hold are written as %XX."""
    name = UNFIT.sub(lambda found: f"%{ord(found[0]):02X}", utterance)
    name = f"%2E{name[1:]}" if name.startswith(".") else name
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return f"{name.encode()[: LONGEST_NAME - 17].decode(errors='ignore')}-{hashlib.sha256(utterance.encode()).hexdigest()[:16]}"


def _lock(handle: BinaryIO) -> bool:
    """Whether the file is ours alone; False also when its owner finished and removed it while we were opening it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(handle.fileno()).st_nlink > 0


def _parse(line: bytes) -> Record | None:
    try:
        return Record(**json.loads(line)) if line.endswith(b"\n") else None
    except (ValueError, TypeError):
        return None
