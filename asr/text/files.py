"""Text files of any size: read line by line, unpacked where they are gzip; written whole or not at all."""

import gzip
import io
import os
import secrets
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

from asr.errors import DataError, ResourceError, UsageError

#: A longer line is no line of text; reading stops there instead of filling the memory.
MAX_LINE_BYTES = 64 * 2**20
GZIP_MAGIC = b"\x1f\x8b"


def show(path: str | os.PathLike[str]) -> str:
    """The path as it can stand in a message: unchanged, or escaped where it holds what would break the line."""
    text = os.fspath(path)
    return text if text.isprintable() else ascii(text)


@contextmanager
def open_text(path: str | os.PathLike[str]) -> Iterator[io.BufferedReader]:
    """A regular file for reading in binary, unpacked when its first bytes are those of gzip; never blocks on a pipe.

    Raises DataError in one sentence when there is no such file, it cannot be read, or (while reading) the gzip data is damaged.
    """
    shown = show(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise DataError(f"{shown}: no such file") from None
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "the path holds a NUL character"
        raise DataError(f"{shown}: cannot be read ({reason})") from None
    with open(descriptor, "rb") as handle:
        mode = os.fstat(handle.fileno()).st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
            raise DataError(f"{shown}: is {kind}, expected a file")
        if handle.peek(2)[:2] != GZIP_MAGIC:
            yield handle
            return
        try:
            with gzip.GzipFile(fileobj=handle) as unpacked:
                yield io.BufferedReader(cast(io.RawIOBase, unpacked), 2**20)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            where = handle.tell()
            raise DataError(f"{shown}: the gzip data is cut or damaged near byte {where}; copy or make it again") from None


def read_lines(handle: io.BufferedReader, path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Each line as (1-based number, bytes without its end); a byte-order mark at the start is dropped.

    Raises DataError for UTF-16 text and for a line longer than MAX_LINE_BYTES.
    """
    number = 0
    while line := handle.readline(MAX_LINE_BYTES):
        number += 1
        if number == 1:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataError(f"{show(path)}: is UTF-16 text: convert it with iconv -f UTF-16 -t UTF-8")
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) >= MAX_LINE_BYTES:
            raise DataError(f"{show(path)}:{number}: the line is longer than {MAX_LINE_BYTES // 2**20} MiB; is it a text file?")
        yield number, line.rstrip(b"\r\n")


def decode_line(line: bytes, path: str | os.PathLike[str], number: int) -> str:
    """The line as text; DataError naming the line and the byte that is not UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02X} in column {error.start + 1}"
        raise DataError(f"{show(path)}:{number}: {byte} is not UTF-8; convert the file with iconv") from None


def write_text(path: str | os.PathLike[str], pieces: Iterable[bytes]) -> None:
    """Write the pieces, packed when the name ends in .gz, so that a reader sees all of the file or the one before.

    A temporary file in the same folder, fsync, rename; missing folders are made. The same pieces give the same bytes. A device
    or a pipe is written directly. Raises UsageError for a folder, ResourceError naming the path when writing fails.
    """
    target = os.path.realpath(path)
    if os.path.isdir(target):
        raise UsageError(f"{show(path)}: is a folder; expected the name of a file to write")
    special = os.path.exists(target) and not os.path.isfile(target)
    temporary = target if special else os.path.join(os.path.dirname(target), f".tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(temporary, "wb") as handle:
            _write_pieces(handle, pieces, packed=target.endswith(".gz"))
            handle.flush()
            if not special:
                os.fsync(handle.fileno())
        if not special:
            os.replace(temporary, target)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ResourceError(f"{show(path)}: cannot be written ({reason}); free some space or choose another place") from None
    finally:
        if not special and os.path.lexists(temporary):
            os.remove(temporary)


def _write_pieces(handle: io.BufferedWriter, pieces: Iterable[bytes], *, packed: bool) -> None:
    if not packed:
        handle.writelines(pieces)
        return
    # No name and no time in the header: the bytes depend on the content alone.
    with gzip.GzipFile(filename="", mode="wb", fileobj=handle, mtime=0, compresslevel=6) as archive:
        for piece in pieces:
            archive.write(piece)
