"""What the bytes of a file say before a decoder sees them: which format it is, and whether it is whole.

libsndfile reads a cut recording as a shorter one, and answers "format not recognised" to an empty file, a web page and a
Git LFS pointer alike. Here each of these gets its own sentence.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from asr.data.files import show_path
from asr.data.mp3 import Mp3Length, mp3_length
from asr.errors import DataError

MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 192_000
MAX_CHANNELS = 32
#: Sizes that writers put into a WAV header when they cannot come back to correct it: taken as "until the end of the file".
PLACEHOLDER_BYTES = 0x7FFF0000
PLACEHOLDER_SIZES = (2_000_000_000,)

READABLE = (
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg"),
    (0, b"ID3", "MP3"),
    (0, b"NIST_1A", "NIST SPHERE"),
    (0, b".snd", "AU"),
    (0, b"dns.", "AU"),
    (0, b"caff", "CAF"),
    (0, b"riff", "W64"),
    (0, b"Creative Voice", "VOC"),
    (8, b"WAVE", "WAV"),
    (8, b"AIFF", "AIFF"),
    (8, b"AIFC", "AIFF"),
)
UNREADABLE = (
    (4, b"ftyp", "an MPEG-4 file (m4a, mp4)"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska file (webm, mkv)"),
    (0, b"\x30\x26\xb2\x75", "a Windows Media file (wma)"),
    (0, b"#!AMR", "an AMR file"),
    (0, b"#!SILK", "a SILK file"),
    (1, b"#!SILK", "a SILK file"),
    (0, b"FLV", "a Flash video"),
    (8, b"AVI ", "an AVI video"),
    (0, b"\0\0\x01\xba", "an MPEG video"),
)
FOREIGN = (
    (0, b"\x1f\x8b", "is gzip-compressed, not a recording: unpack it first"),
    (0, b"PK\x03\x04", "is a ZIP archive, not a recording: unpack it first"),
    (0, b"\x89PNG", "is a picture (PNG), not a recording"),
    (0, b"\xff\xd8\xff", "is a picture (JPEG), not a recording"),
    (0, b"%PDF", "is a PDF document, not a recording"),
    (0, b"MThd", "is a MIDI file: it holds notes, not sound"),
)


class AudioError(DataError):
    """A recording that cannot be used; ``kind`` is the class it is counted under."""

    def __init__(self, kind: str, path: str | os.PathLike[str], fault: str) -> None:
        super().__init__(f"{show_path(path)}: {fault}")
        self.kind = kind


@dataclass(frozen=True)
class Container:
    """The format of a file as its bytes tell it."""

    #: ``WAV``, ``FLAC`` ..., or ``unknown``.
    name: str
    #: Oddities that cost nothing or next to nothing: ``half-sample``, ``no-end-mark``.
    notes: tuple[str, ...] = ()
    #: For MP3 alone.
    mp3: Mp3Length | None = None


def examine(handle: BinaryIO, path: str | os.PathLike[str]) -> Container:
    """Name the format of an open file and compare the sizes its header promises with the size it has.

    Reads a few kilobytes (the whole file only for an MP3 without a length table). Raises AudioError with a sentence for an
    empty file, a text, web page or pointer in place of a recording, a format that is not read here, and a cut file.
    """
    size = os.fstat(handle.fileno()).st_size
    handle.seek(0)
    head = handle.read(1024)
    if not head:
        raise AudioError("empty-file", path, "the file is empty (0 bytes); record or download it again")
    name = _name(head, path)
    if name == "WAV":
        return Container(name, notes=_examine_wave(handle, size, path))
    if name == "Ogg":
        return Container(name, notes=_examine_ogg(handle, size, path))
    if name == "MP3":
        length = mp3_length(handle, size)
        if length.promised * 0.99 > size - length.start:  # editors leave tables that are off by a tag or a frame
            _refuse_cut(path, length.promised, size - length.start, "MP3 header")
        return Container(name, mp3=length)
    if name == "AIFF":
        for chunk, start, promised in _chunks(handle, size, ">"):
            if chunk == b"SSND":
                _refuse_cut(path, promised, size - start, "AIFF header")
    elif name == "AU" and len(head) >= 12:
        start, promised = struct.unpack(">II" if head[:1] == b"." else "<II", head[4:12])
        if promised < PLACEHOLDER_BYTES:
            _refuse_cut(path, promised, size - start, "AU header")
    elif name == "NIST SPHERE":
        _examine_sphere(head, size, path)
    return Container(name)


def refuse_layout(path: str | os.PathLike[str], sample_rate: int, channels: int) -> None:
    """Raise AudioError for a sample rate outside 4-192 kHz or a number of channels outside 1-32."""
    if not MIN_RATE_HZ <= sample_rate <= MAX_RATE_HZ:
        fault = f"the header says {sample_rate} Hz, outside {MIN_RATE_HZ // 1000}-{MAX_RATE_HZ // 1000} kHz: it is damaged"
        raise AudioError("bad-sample-rate", path, f"{fault}; write the file again")
    if not 1 <= channels <= MAX_CHANNELS:
        fault = f"the header says {channels} channels, outside 1-{MAX_CHANNELS}: it is damaged"
        raise AudioError("bad-channels", path, f"{fault}; write the file again")


def _name(head: bytes, path: str | os.PathLike[str]) -> str:
    for at, magic, name in READABLE:
        if head.startswith(magic, at):
            return name
    for at, magic, name in UNREADABLE:
        if head.startswith(magic, at):
            source = show_path(path)
            raise AudioError("unsupported-format", path, f"is {name}, which is not read here: ffmpeg -i '{source}' OUT.wav")
    for at, magic, fault in FOREIGN:
        if head.startswith(magic, at):
            raise AudioError("not-audio", path, fault)
    if head[0] == 0xFF and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        if head[1] & 0x06:
            return "MP3"
        raise AudioError("unsupported-format", path, f"is an AAC stream: ffmpeg -i '{show_path(path)}' OUT.wav")
    text_fault = _text_fault(head)
    if text_fault:
        raise AudioError("not-audio", path, text_fault)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        raise AudioError("damaged-header", path, "the header is cut or damaged; record or download the file again")
    return "unknown"


def _text_fault(head: bytes) -> str | None:
    """What kind of text stands in place of a recording; None when the bytes are no text."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the recording itself: run git lfs pull"
    if start.startswith((b"/annex/objects/", b"../.git/annex/", b".git/annex/")):
        return "is a git-annex pointer, not the recording itself: run git annex get"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "is an HTML page, not a recording (an error page of the server?): download it again"
    if start.startswith((b"<?xml", b"<error")):
        return "is an XML document, not a recording (an error message of the server?): download it again"
    if start.startswith((b"{", b"[{", b'["')):
        return "is JSON, not a recording (an error message of the server?): download it again"
    try:
        text = head.decode("utf-8") if len(head) < 1024 else head[:-4].decode("utf-8", errors="ignore")
    except UnicodeDecodeError:
        return None
    if text.strip() and all(char.isprintable() or char in "\r\n\t\f\ufeff" for char in text):
        return f"is plain text ({text[:24]!a}), not a recording"
    return None


def _chunks(handle: BinaryIO, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """``(name, first byte, promised length)`` of each chunk of a RIFF or AIFF file, in file order."""
    at = 12
    for _ in range(1000):
        if at + 8 > size:
            return
        handle.seek(at)
        name, length = struct.unpack(f"{order}4sI", handle.read(8))
        yield name, at + 8, length
        at += 8 + length + (length & 1)


def _is_chunk(handle: BinaryIO, at: int, size: int, order: str) -> bool:
    if at + 8 > size:
        return False
    handle.seek(at)
    name, length = struct.unpack(f"{order}4sI", handle.read(8))
    return all(0x20 <= byte < 0x7F for byte in name) and at + 8 + length <= size + 1


def _examine_wave(handle: BinaryIO, size: int, path: str | os.PathLike[str]) -> tuple[str, ...]:
    handle.seek(0)
    form = handle.read(4)
    order = ">" if form in (b"RIFX", b"FORM") else "<"
    align = promised64 = 0
    for name, start, promised in _chunks(handle, size, order):
        handle.seek(start)
        if name == b"ds64" and start + 16 <= size:
            promised64 = struct.unpack(f"{order}8xQ", handle.read(16))[0]
        elif name == b"fmt " and start + 16 <= size:
            codec, channels, rate, align = struct.unpack(f"{order}HHI4xH", handle.read(14))
            refuse_layout(path, rate, channels)
            if codec == 0x55:
                fault = f"is MP3 inside a WAV header, which is not read here: ffmpeg -i '{show_path(path)}' OUT.wav"
                raise AudioError("unsupported-format", path, fault)
        elif name == b"data":
            if promised == 0xFFFFFFFF and promised64:
                promised = promised64
            elif promised >= PLACEHOLDER_BYTES or promised in PLACEHOLDER_SIZES:
                return ()
            return _examine_samples(handle, size, path, (start, promised, max(align, 1), order))
    raise AudioError("damaged-header", path, f"the WAV header is cut ({size} bytes, no samples); record or download it again")


def _examine_samples(
    handle: BinaryIO, size: int, path: str | os.PathLike[str], data: tuple[int, int, int, str]
) -> tuple[str, ...]:
    start, promised, align, order = data
    available = size - start
    if promised > available:
        if available and promised - available < align:
            return ("half-sample",)
        _refuse_cut(path, promised, available, "RIFF header")
    end = start + promised
    if available - promised > promised and not (_is_chunk(handle, end, size, order) or _is_chunk(handle, end + 1, size, order)):
        fault = f"the header says {promised} bytes of samples, the file has {available}: write it again with"
        raise AudioError("wrong-header", path, f"{fault} ffmpeg -ignore_length 1 -i '{show_path(path)}' OUT.wav")
    return ()


def _examine_ogg(handle: BinaryIO, size: int, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Check that the file ends with a whole page (RFC 3533), and that this page says it is the last one."""
    handle.seek(max(0, size - 2 * 65536))
    tail = handle.read()
    at = tail.rfind(b"OggS")
    while at >= 0:
        segments = tail[at + 26] if at + 26 < len(tail) else 0
        table = tail[at + 27 : at + 27 + segments]
        if len(table) == segments and segments and at + 27 + segments + sum(table) == len(tail):
            return () if tail[at + 5] & 4 else ("no-end-mark",)
        if tail[at + 4 : at + 5] in (b"\0", b""):
            break
        at = tail.rfind(b"OggS", 0, at)
    raise AudioError("cut-file", path, f"the last Ogg page is incomplete: the file was cut at {size} bytes; copy it again")


def _examine_sphere(head: bytes, size: int, path: str | os.PathLike[str]) -> None:
    fields = {}
    for line in head.decode("latin-1").splitlines()[2:]:
        parts = line.split(None, 2)
        if len(parts) == 3:
            fields[parts[0]] = parts[2].strip()
    if "shorten" in fields.get("sample_coding", ""):
        fault = f"is a SPHERE file compressed with shorten: sph2pipe -f wav '{show_path(path)}' OUT.wav"
        raise AudioError("unsupported-format", path, fault)
    try:
        start = int(head.split(b"\n")[1])
        numbers = [int(fields[name]) for name in ("sample_count", "channel_count", "sample_n_bytes")]
    except (KeyError, ValueError, IndexError):
        return
    _refuse_cut(path, numbers[0] * numbers[1] * numbers[2], size - start, "SPHERE header")


def _refuse_cut(path: str | os.PathLike[str], promised: int, available: int, header: str) -> None:
    if promised > available:
        fault = f"the {header} promises {promised} bytes of samples, the file has {max(available, 0)}: it was cut"
        if available <= 0:
            raise AudioError("no-samples", path, f"holds 0 samples; {fault}; copy or download it again")
        raise AudioError("cut-file", path, f"{fault}; copy or download it again")
