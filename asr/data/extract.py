"""Unpacking an archive from the internet into a new folder: files and folders only, nothing outside, nothing without end.

Refused are links, devices and pipes, absolute names and names with ``..``, names that are one on some file systems (letter
case, Unicode form) and names given twice, setuid files, sparse files, encrypted members, wrong check sums, and archives that
unpack to more than recordings can. Modes, owners and times are not taken over. What was unpacked before a fault is removed.
"""

import os
import re
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from asr.data.files import UNPRINTABLE, show_path, write_fault
from asr.data.tar import PACKED, ArchiveStream, Member, Readable, is_tar, read_members
from asr.errors import DataError

_ENCRYPTED = 0x1
_PACKED_BY = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_WRITE_BYTES = 2**20


@dataclass(frozen=True)
class ExtractLimits:
    """What an archive may unpack to. The largest part of LibriSpeech has 150,000 members, VCTK 180,000."""

    #: Files and folders.
    members: int = 500_000
    #: Bytes of all files together: this many times the archive, but never below ``floor``. Text packs to a tenth.
    ratio: float = 40.0
    floor: int = 64 * 2**20
    #: Folders above a file.
    depth: int = 32
    #: Bytes of one part of a name; no common file system takes more.
    name: int = 255

    def total(self, packed: int) -> int:
        """Bytes that an archive of this size may unpack to."""
        return max(self.floor, int(self.ratio * packed))


@dataclass(frozen=True)
class Extracted:
    """How much was unpacked."""

    files: int
    bytes: int


def extract(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    limits: ExtractLimits | None = None,
    on_read: Callable[[int], None] = lambda _: None,
) -> Extracted:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip archive into ``folder``, which must not exist yet.

    ``on_read(position)`` is told how far the archive has been read (bytes). Raises DataError for an archive that is refused,
    damaged or of another kind, ResourceError when the disk is full; the folder is gone then.
    """
    limits = limits or ExtractLimits()
    with open(path, "rb") as handle:
        is_zip = handle.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    if not is_zip and not is_tar(path):
        raise DataError(f"{show_path(path)}: {_what_instead(path)}; expected a tar or zip archive")
    os.makedirs(folder)
    try:
        packed = os.path.getsize(path)
        sink = _Sink(path, os.fspath(folder), limits, packed)
        for member, body in _zip_members(path, on_read) if is_zip else _tar_members(path, limits.total(packed), on_read):
            sink.take(member, body)
        return Extracted(sink.files, sink.bytes)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _tar_members(path: str | os.PathLike[str], total: int, on_read: Callable[[int], None]) -> Iterator[tuple[Member, Readable]]:
    # the headers and their padding come on top of the content, and count as well: a million empty files are a bomb too
    with closing(ArchiveStream(path, limit=2 * total, on_read=on_read)) as stream:
        yield from read_members(stream)


def _zip_members(path: str | os.PathLike[str], on_read: Callable[[int], None]) -> Iterator[tuple[Member, Readable]]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise _zip_fault(path, error) from None
    with archive:
        for info in archive.infolist():
            yield _zip_member(info), _ZipBody(archive, info, path)
            on_read(info.header_offset + info.compress_size)


def _zip_fault(path: str | os.PathLike[str], error: Exception) -> DataError:
    reason = "a wrong CRC" if "CRC" in str(error) else str(error).strip(".").lower() or "it ends too early"
    return DataError(f"{show_path(path)}: is damaged or was cut ({reason}); download it again")


def _zip_member(info: zipfile.ZipInfo) -> Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    refused = ""
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        refused = "a symbolic link" if kind == stat.S_IFLNK else "a device or a pipe"
    elif info.flag_bits & _ENCRYPTED:
        refused = "an encrypted file"
    elif info.compress_type not in _PACKED_BY:
        refused = f"a file packed by method {info.compress_type}, which is not read here"
    mode = info.external_attr >> 16 & 0o7777
    return Member(info.orig_filename, info.is_dir(), info.file_size, mode, refused)


class _ZipBody:
    """The content of a zip member; opened at the first read, so that a refused one never is."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str | os.PathLike[str]) -> None:
        self._archive, self._info, self._path = archive, info, path
        self._handle: Readable | None = None

    def read(self, count: int, /) -> bytes:
        try:
            if self._handle is None:
                self._handle = self._archive.open(self._info)
            return self._handle.read(count)  # compares the CRC at the end
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
            raise _zip_fault(self._path, error) from None


@dataclass
class _Sink:
    """Where members go: checks each against what came before it, then writes it."""

    archive: str | os.PathLike[str]
    folder: str
    limits: ExtractLimits
    #: Bytes of the archive.
    packed: int
    #: What has been written.
    files: int = 0
    bytes: int = 0
    #: Each name as compared by file systems that ignore case and Unicode form -> (name, is a folder).
    _taken: dict[str, tuple[str, bool]] = field(default_factory=dict)
    _members: int = 0

    def take(self, member: Member, body: Readable) -> None:
        self._members += 1
        if self._members > self.limits.members:
            raise self._refusal(f"more than {self.limits.members:,} members")
        shown = show_path(member.name)
        if member.refused:
            raise self._refusal(f"{shown} is {member.refused}")
        parts = self._parts(member)
        if not parts:  # the folder itself
            return
        total = self.limits.total(self.packed)
        if self.bytes + member.size > total:
            raise self._refusal(f"unpacks to more than {total / 1e6:,.0f} MB, packed are {self.packed / 1e6:,.1f} MB")
        if member.mode & (stat.S_ISUID | stat.S_ISGID) and not member.is_folder:
            raise self._refusal(f"{shown} is a file with the setuid or setgid bit")
        self._claim(parts, member.is_folder)
        target = os.path.join(self.folder, *parts)
        try:
            os.makedirs(target if member.is_folder else os.path.dirname(target), exist_ok=True)
            if not member.is_folder:
                self._write(target, member, body)
        except OSError as error:
            raise write_fault(target, error, member.size) from None

    def _parts(self, member: Member) -> list[str]:
        """The parts of a member's name below the folder; raises DataError for a name that leads elsewhere."""
        name, shown = member.name, show_path(member.name)
        if not name:
            raise self._refusal("a member without a name")
        if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
            raise self._refusal(f"{shown} is an absolute path")
        if "\\" in name or UNPRINTABLE.search(name):
            raise self._refusal(f"{name!a} holds a backslash, a control character or bytes that are no UTF-8")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._refusal(f"{shown} leads out of the folder")
        if len(parts) > self.limits.depth:
            raise self._refusal(f"{shown[:60]}... lies more than {self.limits.depth} folders deep")
        if any(len(part.encode()) > self.limits.name for part in parts):
            raise self._refusal(f"{shown[:60]}... has a part longer than {self.limits.name} bytes")
        return parts

    def _claim(self, parts: list[str], is_folder: bool) -> None:
        """Note the name and the folders above it; raises DataError when one is taken by another name or kind."""
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            folder = depth < len(parts) or is_folder
            key = unicodedata.normalize("NFC", name).casefold()
            if key not in self._taken:
                self._taken[key] = name, folder
                continue
            other, was_folder = self._taken[key]
            if other != name:
                raise self._refusal(f"{name} and {other} are one name on file systems that ignore letter case or Unicode form")
            if folder != was_folder:
                raise self._refusal(f"{name} is both a file and a folder")
            if not folder:
                raise self._refusal(f"{name} stands in it twice")

    def _write(self, target: str, member: Member, body: Readable) -> None:
        written = 0
        with open(target, "xb") as handle:
            while block := body.read(_WRITE_BYTES):
                written += len(block)
                if written > member.size:
                    break
                handle.write(block)
        if written != member.size:
            fault = (
                f"{show_path(member.name)} should have {member.size} bytes and has {'more' if written > member.size else written}"
            )
            raise DataError(f"{show_path(self.archive)}: is damaged: {fault}; download it again")
        self.files += 1
        self.bytes += written

    def _refusal(self, fault: str) -> DataError:
        return DataError(f"{show_path(self.archive)}: refused: {fault}; nothing of it was kept")


def _what_instead(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as handle:
        head = handle.read(512)
    if not head:
        return "the file is empty"
    if looks_like_page(head):
        return "is a web page (of a login, or of an error?)"
    if head.startswith(PACKED):
        return "is damaged, or something else than a tar archive was packed"
    return f"is no archive that is read here (it begins with the bytes {head[:8].hex(' ')})"


def looks_like_page(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a web page."""
    start = head[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml", b"<!--"))
