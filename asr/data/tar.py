"""Tar archives as a stream of members: POSIX (ustar, pax) and GNU headers, plain or packed with gzip, bzip2 or xz.

Reads headers and bodies, nothing else: what a member may be called and where it goes is decided in ``asr.data.extract``.
Every length is bounded before memory is taken or bytes are handed on, for a kilobyte of archive can promise terabytes.
"""

import bz2
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from asr.data.files import show_path
from asr.errors import DataError

BLOCK = 512
#: Bytes of a long name or of a pax record; real ones stay below a few hundred.
MAX_RECORD = 64 * 1024
#: Memory that unpacking xz may take (its dictionary); ``xz -9`` needs 65 MiB.
XZ_MEMORY = 256 * 2**20
#: Bytes behind the end mark that are read to reach the check sum of the packer; tar pads to a few kilobytes.
MAX_PADDING = 2**20

#: First bytes of what gzip, bzip2 and xz have packed.
GZIP, BZIP2, XZ = PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")
REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
    b"S": "a sparse file",
    b"M": "a part of a multi-volume archive",
    b"V": "a volume label",
    b"D": "a GNU directory dump",
}


class Readable(Protocol):
    """What a member's content and a packed file have in common."""

    def read(self, count: int, /) -> bytes: ...


@dataclass(frozen=True)
class Member:
    """One entry of an archive, as its header describes it."""

    #: As it stands in the archive, with undecodable bytes escaped (surrogateescape).
    name: str
    is_folder: bool
    #: Bytes of content.
    size: int
    #: Permission bits with setuid, setgid and sticky.
    mode: int
    #: What it is where it is neither a file nor a folder: ``a symbolic link`` ...; empty otherwise.
    refused: str = ""


class ArchiveStream:
    """The unpacked bytes of a file, in order: never more than ``limit`` of them, and every fault told in one sentence."""

    def __init__(self, path: str | os.PathLike[str], *, limit: int, on_read: Callable[[int], None] = lambda _: None) -> None:
        self.path = path
        self.limit = limit
        self._read_so_far = 0
        self._on_read = on_read
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close()
        self._source = _unpacker(self._file)

    def read(self, count: int) -> bytes:
        """The next ``count`` bytes, fewer only at the end. Raises DataError when the file is damaged, cut or a bomb."""
        pieces = []
        missing = count
        while missing:
            try:
                piece = self._source.read(min(missing, 2**20))
            except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise DataError(f"{show_path(self.path)}: is damaged or was cut ({_reason(error)}); download it again") from None
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
            self._read_so_far += len(piece)
            if self._read_so_far > self.limit:
                raise DataError(
                    f"{show_path(self.path)}: refused: unpacks to more than {self.limit / 1e6:,.0f} MB, which no recordings "
                    f"packed into {os.path.getsize(self.path) / 1e6:,.1f} MB do; it is no corpus"
                )
        self._on_read(self._file.tell())
        return b"".join(pieces)

    def close(self) -> None:
        self._file.close()


class Body:
    """The content of a member; what is not read of it is passed over before the next header."""

    def __init__(self, stream: ArchiveStream, size: int) -> None:
        self._stream = stream
        self.left = size

    def read(self, count: int) -> bytes:
        data = self._stream.read(min(count, self.left))
        if len(data) < min(count, self.left):
            raise _cut(self._stream)
        self.left -= len(data)
        return data


def is_tar(path: str | os.PathLike[str]) -> bool:
    """Whether the first block, unpacked where it is packed, is a tar header whose check sum holds.

    Raises DataError when it is packed and cannot be unpacked.
    """
    with closing(ArchiveStream(path, limit=BLOCK)) as stream:
        block = stream.read(BLOCK)
    return len(block) == BLOCK and bool(block.strip(b"\0")) and _checksum_holds(block)


def read_members(stream: ArchiveStream) -> Iterator[tuple[Member, Body]]:
    """Each member with its content, in file order; the content has to be read before the next member is asked for.

    Raises DataError for a header that is damaged, for records larger than 64 KiB, and for an archive without its end mark.
    """
    records: dict[str, str] = {}
    common: dict[str, str] = {}
    while True:
        block = stream.read(BLOCK)
        if len(block) < BLOCK:
            raise _cut(stream)
        if not block.strip(b"\0"):
            break
        if not _checksum_holds(block):
            raise DataError(f"{show_path(stream.path)}: a tar header is damaged (its check sum is wrong); download it again")
        kind = block[156:157]
        size = _number(block[124:136], stream)
        if kind in b"xgLK" and kind:
            content = _record(stream, size)
            if kind == b"g":
                common.update(_pax(content, stream))
            elif kind == b"x":
                records.update(_pax(content, stream))
            elif kind == b"L":
                records["path"] = _text(content)
            continue
        member = _member(block, {**common, **records}, stream)
        records = {}
        body = Body(stream, 0 if member.is_folder or member.refused else member.size)
        whole = body.left
        yield member, body
        while body.left:
            body.read(2**20)
        _pass_over(stream, -whole % BLOCK)
    if len(stream.read(MAX_PADDING + 1)) > MAX_PADDING:  # also reads the check sum of the packer
        raise DataError(f"{show_path(stream.path)}: refused: more bytes stand behind the end mark of the archive")


def _member(block: bytes, records: dict[str, str], stream: ArchiveStream) -> Member:
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    name = records.get("path", name)
    kind = block[156:157]
    size = _number(block[124:136], stream)
    if "size" in records:
        if not records["size"].isascii() or not records["size"].isdecimal():
            raise DataError(f"{show_path(stream.path)}: a pax record gives the size {records['size'][:20]!a}; it is damaged")
        size = int(records["size"])
    refused = REFUSED.get(kind, "")
    if any(key.startswith("GNU.sparse.") for key in records):
        refused = REFUSED[b"S"]
    elif not refused and kind not in (b"0", b"\0", b"5", b"7"):
        refused = f"an entry of the unknown type {kind!a}"
    is_folder = kind == b"5" or (kind in (b"0", b"\0") and name.endswith("/"))
    return Member(name, is_folder, size, _number(block[100:108], stream) & 0o7777, refused)


def _checksum_holds(block: bytes) -> bool:
    """The sum of the header's bytes with the field itself as blanks; some old writers sum signed bytes."""
    try:
        written = int(block[148:156].strip(b" \0") or b"0", 8)
    except ValueError:
        return False
    rest = block[:148] + b" " * 8 + block[156:]
    return written in (sum(rest), sum(byte - 256 if byte > 127 else byte for byte in rest))


def _number(field: bytes, stream: ArchiveStream) -> int:
    """An octal number, or with the first bit set a big-endian one (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    else:
        try:
            value = int(field.strip(b" \0") or b"0", 8)
        except ValueError:
            value = -1
    if not 0 <= value < 2**63:
        raise DataError(f"{show_path(stream.path)}: a tar header holds a number that is none; download it again")
    return value


def _record(stream: ArchiveStream, size: int) -> bytes:
    if size > MAX_RECORD:
        raise DataError(f"{show_path(stream.path)}: refused: a name or record of {size:,} bytes (at most {MAX_RECORD:,})")
    content = stream.read(size)
    if len(content) < size:
        raise _cut(stream)
    _pass_over(stream, -size % BLOCK)
    return content


def _pax(content: bytes, stream: ArchiveStream) -> dict[str, str]:
    """Records ``LENGTH KEY=VALUE\\n`` where LENGTH counts the whole record."""
    records = {}
    at = 0
    while at < len(content) and content[at]:
        blank = content.find(b" ", at, at + 20)
        digits = content[at:blank] if blank > 0 else b""
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = content[blank + 1 : end - 1].partition(b"=")
        if not blank < end <= len(content) or not equals or content[end - 1 : end] != b"\n":
            raise DataError(f"{show_path(stream.path)}: a pax record of the archive is damaged; download it again")
        records[_text(key)] = value.decode("utf-8", "surrogateescape")
        at = end
    return records


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _pass_over(stream: ArchiveStream, count: int) -> None:
    if len(stream.read(count)) < count:
        raise _cut(stream)


def _cut(stream: ArchiveStream) -> DataError:
    return DataError(f"{show_path(stream.path)}: ends in the middle: the archive was cut; download it again")


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip(".") or type(error).__name__


def _unpacker(handle: BinaryIO) -> Readable:
    """The same file, unpacked where its first bytes say that it is packed."""
    magic = handle.read(6)
    handle.seek(0)
    if magic.startswith(GZIP):
        return gzip.GzipFile(fileobj=handle)
    if magic.startswith(BZIP2):
        return bz2.BZ2File(handle)
    if magic.startswith(XZ):
        return _XzReader(handle)
    return handle


class _XzReader(io.RawIOBase):
    """Like lzma.LZMAFile, but a header cannot ask for gigabytes of memory."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._decoder = lzma.LZMADecompressor(memlimit=XZ_MEMORY)

    def read(self, count: int = -1, /) -> bytes:
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data.lstrip(b"\0") or self._handle.read(2**16).lstrip(b"\0")
                if not rest:
                    return b""
                self._decoder = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            else:
                rest = self._handle.read(2**16) if self._decoder.needs_input else b""
                if self._decoder.needs_input and not rest:
                    raise EOFError("the packed stream ends too early")
            if data := self._decoder.decompress(rest, count):
                return data
