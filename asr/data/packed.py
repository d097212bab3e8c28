"""Files that were packed by gzip or zstd: told by their first bytes, and how far one that was cut goes.

gzip is read, line by line and never all at once. zstd is not: its frames are only walked over, so that a file that was cut is
told from one that is whole and wants to be unpacked.
"""

import gzip
import os
import zlib
from typing import BinaryIO

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
#: What reading a gzip file may raise that is about the file and not about the disk.
GZIP_FAULTS = (EOFError, gzip.BadGzipFile, zlib.error)
#: Frames of zstd that hold no data begin with one of sixteen numbers.
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_DICTIONARY_BYTES = (0, 1, 2, 4)


def gzip_fault(error: Exception, file: BinaryIO, line: int) -> str:
    """What is wrong with a gzip file whose reading raised one of ``GZIP_FAULTS`` after this line (0: before the first)."""
    size = os.fstat(file.fileno()).st_size
    after = f"after line {line}" if line else "before the first line is complete"
    if isinstance(error, EOFError):
        return f"was cut: the gzip stream breaks off at byte {size:,}, {after}; copy it again"
    return f"is damaged: the gzip stream is wrong before byte {min(file.tell(), size):,} of {size:,}, {after}; copy it again"


def zstd_fault(file: BinaryIO) -> str:
    """What to do about a zstd file: unpack it, or copy it again where a frame breaks off (RFC 8878, section 3.1)."""
    size = os.fstat(file.fileno()).st_size
    at = 0
    while at < size:
        end = _frame_end(file, at)
        if end is None or end > size:
            what = "the zstd stream breaks off at byte" if end else f"what stands at byte {at:,} is no zstd frame; the file has"
            return f"was cut or damaged: {what} {size:,}; copy it again"
        at = end
    return "is zstd-compressed: unpack it with unzstd"


def _frame_end(file: BinaryIO, at: int) -> int | None:
    """Where the frame that begins at this byte ends, beyond the file where it was cut; None where there is no frame."""
    magic = _number(file, at, 4)
    if magic in _SKIPPABLE:
        return at + 8 + _number(file, at + 4, 4)
    if magic != int.from_bytes(ZSTD, "little"):
        return None
    flags = _number(file, at + 4, 1)
    single, checksum = flags >> 5 & 1, flags >> 2 & 1
    content_bytes = (single, 2, 4, 8)[flags >> 6]
    at += 5 + (1 - single) + _DICTIONARY_BYTES[flags & 3] + content_bytes
    while True:
        block = _number(file, at, 3)
        kind = block >> 1 & 3
        if kind == 3:
            return None
        beyond = at + 3 + (1 if kind == 1 else block >> 3)
        if block & 1 or beyond >= os.fstat(file.fileno()).st_size:
            return beyond + (4 * checksum if block & 1 else 1)
        at = beyond


def _number(file: BinaryIO, at: int, length: int) -> int:
    """The unsigned number of so many bytes, the low one first; bytes beyond the end of the file count as 0."""
    file.seek(at)
    return int.from_bytes(file.read(length), "little")
