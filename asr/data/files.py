"""Opening files without ever blocking, and writing them so that a reader sees all of a file or none of it."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from typing import BinaryIO

from asr.errors import DataError, ResourceError, UsageError

#: Characters that would break a line of a message or a table: control, line separators, undecodable bytes of a file name.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def show_path(path: str | os.PathLike[str]) -> str:
    """The path as it can be printed on one line: unchanged, or escaped where it holds control or undecodable characters."""
    text = os.fspath(path)
    return ascii(text) if UNPRINTABLE.search(text) else text


def open_regular(path: str | os.PathLike[str], *, buffering: int = -1) -> BinaryIO:
    """Open a regular file for reading in binary (``buffering`` as in ``open``); never blocks on a pipe or a device.

    Raises DataError in one sentence when the path is missing, a folder, a pipe, a device, a broken link, or not readable.
    """
    shown = show_path(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        if os.path.islink(path):
            raise DataError(f"{shown}: is a link to {show_path(os.readlink(path))}, which does not exist") from None
        raise DataError(f"{shown}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{shown}: is a folder, expected a file") from None
    except PermissionError:
        raise DataError(f"{shown}: no permission to read it; change its mode or owner") from None
    except OSError as error:
        raise DataError(f"{shown}: {_read_fault(error)}") from None
    except ValueError:
        raise DataError(f"{shown}: the path holds a NUL character, which no file name can") from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb", buffering)
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise DataError(f"{shown}: is a folder, expected a file")
    kind = "a named pipe" if stat.S_ISFIFO(mode) else "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "a special file"
    raise DataError(f"{shown}: is {kind}, expected a regular file")


def _read_fault(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a link that leads back to itself"
    if error.errno == errno.ENAMETOOLONG:
        return "the name is longer than the file system allows"
    if error.errno == errno.ENXIO:
        return "is a socket or a device without a driver, expected a regular file"
    return f"cannot be read ({os.strerror(error.errno or 0)})"


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file so that a reader, or a power cut, sees all of it or the one before.

    Temporary file in the same folder, fsync, rename, fsync of the folder; missing parent folders are made. A device or a
    pipe is written directly. Raises ResourceError naming the path and the reason (no space, no permission ...).
    """
    target = os.path.realpath(path)
    content = data.encode("utf-8") if isinstance(data, str) else data
    if os.path.isdir(target):
        raise UsageError(f"{show_path(path)}: is a folder; expected the name of a file to write")
    try:
        if os.path.exists(target) and not os.path.isfile(target):
            with open(target, "wb") as handle:
                handle.write(content)
            return
        folder = os.path.dirname(target)
        os.makedirs(folder, exist_ok=True)
        _replace(target, folder, content)
    except OSError as error:
        raise write_fault(path, error, len(content)) from None


def remove_leftovers(folder: str | os.PathLike[str]) -> list[str]:
    """Remove the temporary files that killed processes of this machine left in a folder; returns their paths."""
    removed = []
    for name in sorted(os.listdir(folder)):
        match = re.fullmatch(r"\.tmp-(\d+)-[0-9a-f]+", name)
        if match and not _is_running(int(match[1])):
            removed.append(os.path.join(folder, name))
            os.remove(removed[-1])
    return removed


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The sha256 of the file's bytes in hexadecimal; DataError when it cannot be read."""
    digest = hashlib.sha256()
    with open_regular(path) as handle:
        while block := handle.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _replace(target: str, folder: str, content: bytes) -> None:
    temporary = os.path.join(folder, f".tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        write_flushed(temporary, content)
        os.replace(temporary, target)
    except BaseException:
        if os.path.lexists(temporary):
            os.remove(temporary)
        raise
    flush_to_disk(folder)


def write_flushed(path: str | os.PathLike[str], data: bytes) -> str:
    """Write a new file so that it is on the disk when this returns, not only in memory; returns the sha256 of its bytes."""
    with open(path, "xb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    return hashlib.sha256(data).hexdigest()


def flush_to_disk(path: str | os.PathLike[str]) -> None:
    """Wait until a file, or the names in a folder, are on the disk; folders are skipped where the system cannot flush them."""
    if os.path.isdir(path) and not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_fault(path: str | os.PathLike[str], error: OSError, needed: int) -> ResourceError:
    """The error to raise when ``needed`` bytes could not be written to ``path``."""
    reason = write_reason(path, error, needed)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(f"{show_path(path)}: {reason}; free some and run again")
    return ResourceError(f"{show_path(path)}: cannot be written: {reason}; choose another place")


def write_reason(path: str | os.PathLike[str], error: OSError, needed: int) -> str:
    """Why ``needed`` bytes could not be written to ``path``, in words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        folder = os.path.dirname(os.path.realpath(path))
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        free = shutil.disk_usage(folder).free
        return f"no space left on the disk or in the quota (needs {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB free)"
    reasons = {
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "no permission to write there",
        errno.EPERM: "no permission to write there",
        errno.EFBIG: "larger than the file-size limit of this process",
        errno.ENOTDIR: "a part of the path is a file, not a folder",
        errno.EEXIST: "a part of the path is a file, not a folder",
        errno.ENAMETOOLONG: "the name is longer than the file system allows",
    }
    return reasons.get(error.errno or 0) or os.strerror(error.errno or 0)
