"""The file of hypotheses: gathered in `out.part` while decoding, so that an interrupted run goes on where it stopped."""

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from asr.data.files import show_path, write_atomic
from asr.errors import ResourceError, UsageError

try:
    import fcntl
except ImportError:  # not on Windows, where two runs into one file are not noticed
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Record:
    """One line of hyp.jsonl. `score` is the natural logarithm of the best path's probability, None with an error."""

    id: str
    text: str
    phones: str | None = None
    score: float | None = None
    error: str | None = None

    def line(self) -> str:
        fields: dict[str, Any] = {"id": self.id, "text": self.text}
        if self.phones is not None:
            fields["phones"] = self.phones
        fields["score"] = self.score
        if self.error is not None:
            fields["error"] = self.error
        return json.dumps(fields, ensure_ascii=False, allow_nan=False) + "\n"


class PartialOutput:
    """Hypotheses on their way to `out`, in whatever order they are decoded.

    `made_from` names all that decides the hypotheses (model, manifest, options): an `out.part` that was made from something
    else is started afresh, one made from the same is continued; `done` then holds what it has. A line cut by a kill is
    dropped. Raises UsageError when `out` exists and `overwrite` is false, when it cannot be a file, when another
    process writes it; ResourceError when writing fails.
    """

    def __init__(self, out: str | os.PathLike[str], made_from: dict[str, Any], *, overwrite: bool = False):
        self.out = Path(out)
        self.path = self.out.with_name(self.out.name + ".part")
        self.done: dict[str, Record] = {}
        self.restarted = False
        if self.out.exists() and not self.out.is_file():
            raise UsageError(f"out={show_path(out)} is a folder or a device; expected the name of a file to write")
        if self.out.exists() and not overwrite:
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

    def finish(self, order: Sequence[str]) -> None:
        """Write `out` with the ids in this order, atomically, and remove the part."""
        write_atomic(self.out, "".join(self.done[name].line() for name in order))
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
            record = _parse(line)
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
