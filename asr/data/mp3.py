"""The length of an MP3 file: from its table (Xing, Info) or by walking over the frame headers.

Without a table the decoder below soundfile guesses the length from the first bit rate, and stops there: a recording with a
variable bit rate would silently lose its end. Such files are given a table in memory.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

RATES = (44100, 48000, 32000)
KBITS_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
KBITS_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
#: Larger files are left to the decoder's guess, so that a walk stays under a second and the copy in memory small.
MAX_WALK_BYTES = 256 * 2**20


@dataclass(frozen=True)
class FrameHeader:
    """What the four bytes before each MP3 frame say (layer III)."""

    sample_rate: int
    #: Bytes, header included.
    length: int
    #: Samples per channel.
    samples: int
    #: Bytes between the header and the place of a Xing table.
    side_info: int


@dataclass(frozen=True)
class Mp3Length:
    """Where the frames start and how long the stream is; zeros where that could not be found out."""

    start: int = 0
    #: Bytes from ``start`` that the table promises, 0 without a table.
    promised: int = 0
    #: Samples per channel counted by a walk, 0 without one.
    counted: int = 0


def parse_header(data: bytes, at: int = 0) -> FrameHeader | None:
    """The frame header at this place, or None where there is none (layers I and II and free formats included)."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:
        return None
    version = data[at + 1] >> 3 & 3  # 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    kbit_index, rate_index = data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or kbit_index in (0, 15) or rate_index == 3:
        return None
    mpeg1, mono = version == 3, data[at + 3] >> 6 == 3
    rate = RATES[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    kbits = (KBITS_MPEG1 if mpeg1 else KBITS_MPEG2)[kbit_index]
    samples = 1152 if mpeg1 else 576
    side_info = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    return FrameHeader(rate, samples // 8 * kbits * 1000 // rate + (data[at + 2] >> 1 & 1), samples, side_info)


def mp3_length(handle: BinaryIO, size: int) -> Mp3Length:
    """Look for the table in the first frame; without one, count the frames."""
    start = _after_tags(handle)
    handle.seek(start)
    head = handle.read(8192)
    first = next((at for at in range(len(head) - 3) if parse_header(head, at)), None)
    if first is None:
        return Mp3Length()
    header = parse_header(head, first)
    assert header is not None
    table = first + 4 + header.side_info
    if head[table : table + 4] in (b"Xing", b"Info"):
        flags, _, promised = struct.unpack(">III", head[table + 4 : table + 16].ljust(12, b"\0"))
        return Mp3Length(start + first, promised if flags & 3 == 3 else 0, 0)
    if head[first + 36 : first + 40] == b"VBRI" or size - start > MAX_WALK_BYTES:
        return Mp3Length(start + first)
    handle.seek(start + first)
    return Mp3Length(start + first, 0, _count_samples(handle.read(), header))


def with_table(data: bytes, start: int, samples: int) -> bytes:
    """The frames from ``start`` behind a silent frame that holds a table with their number."""
    first = parse_header(data, start)
    assert first is not None
    # no checksum, a bit rate that leaves room for the table, no padding
    head = bytes([0xFF, data[start + 1] | 1, 0x80 | data[start + 2] & 0x0C, data[start + 3]])
    frame = parse_header(head)
    assert frame is not None
    table = b"Xing" + struct.pack(">III", 3, samples // first.samples, frame.length + len(data) - start)
    return (head + bytes(frame.side_info) + table).ljust(frame.length, b"\0") + data[start:]


def _after_tags(handle: BinaryIO) -> int:
    """Where the bytes after the leading ID3v2 tags begin."""
    at = 0
    for _ in range(16):
        handle.seek(at)
        tag = handle.read(10)
        if len(tag) < 10 or tag[:3] != b"ID3":
            break
        at += 10 + (tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9]) + 10 * bool(tag[5] & 0x10)
    return at


def _count_samples(data: bytes, first: FrameHeader) -> int:
    at = frames = 0
    while 0 <= at <= len(data) - 4:
        header = parse_header(data, at)
        if header is None or header.sample_rate != first.sample_rate:
            at = data.find(b"\xff", at + 1)
        else:
            frames += 1
            at += header.length
    return frames * first.samples
