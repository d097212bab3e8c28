"""The archives of a corpus from their publisher: fetched once, resumed after a break, verified, unpacked, put in place.

What is there is never fetched again, and an archive that was put there by hand is as good as a downloaded one: a machine
without a network only needs the files.
"""

import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asr.data.archive import Archive
from asr.data.extract import extract
from asr.data.files import open_regular, show_path, write_fault
from asr.data.transfer import Broken, Part, Untrusted, transfer
from asr.errors import DataError, ResourceError

#: Exchanges in a row that bring no new byte before the download is given up; the pauses between them are 2, 4, 8 ... s.
ATTEMPTS = 6
#: Exchanges in all: a server that breaks off after every few bytes is not waited for without end.
EXCHANGES = 200
MAX_WAIT_S = 60.0
#: A server that asks for a longer pause is not waited for.
MAX_ASKED_WAIT_S = 300.0
SILENCE_S = 30.0
LOCK = ".download.lock"
UNPACKING = ".unpack-"


def tell(message: str) -> None:
    """Print to stderr, where progress goes."""
    print(message, file=sys.stderr, flush=True)


def acquire(
    archives: Sequence[Archive],
    root: str | os.PathLike[str],
    *,
    say: Callable[[str], None] = tell,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Make sure that what the archives hold stands below ``root``: fetch, verify and unpack those that are missing.

    The archives themselves are kept beside it. One process at a time works on a root; a second one waits. Raises DataError
    for a file that is not the pinned one, ResourceError for a disk that is full and a server that cannot be reached.
    """
    folder = Path(root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_fault(root, error, 0) from None
    if all((folder / archive.holds).exists() for archive in archives):
        return
    with _locked(folder, say):
        for leftover in folder.glob(f"{UNPACKING}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for archive in archives:
            if not (folder / archive.holds).exists():
                path = download(archive, folder, say=say, sleep=sleep)
                unpack(archive, path, folder, say=say)


def download(
    archive: Archive,
    folder: Path,
    *,
    say: Callable[[str], None] = tell,
    sleep: Callable[[float], None] = time.sleep,
    attempts: int = ATTEMPTS,
    timeout: float = SILENCE_S,
) -> Path:
    """The verified archive in ``folder``: the one that lies there, or fetched. Raises as ``acquire``; a part stays for later."""
    target = folder / archive.name
    if os.path.lexists(target):
        say(f"{show_path(target)} is there; verifying")
        fault = verify(archive, target)
        if fault:
            raise DataError(f"{show_path(target)}: {fault}; remove it to have it fetched again")
        return target
    part = Part(archive.url, target.with_name(f"{target.name}.part"), archive.size, bool(archive.sha256 or archive.md5))
    _expect_space(folder, (archive.size or 0) - part.have(), target)
    say(f"fetching {archive.url} ({archive.describe()})")
    try:
        _fetch(part, say=say, sleep=sleep, attempts=attempts, timeout=timeout)
        fault = verify(archive, part.path)
    except Broken as broken:
        raise ResourceError(f"{archive.url}: {broken}. {by_hand(archive, folder)}") from None
    except (DataError, Untrusted) as error:
        raise type(error)(f"{error}. {by_hand(archive, folder)}") from None
    except KeyboardInterrupt:
        say(f"stopped; {show_path(part.path)} is kept, and the same command goes on from there")
        raise
    if fault:
        refused = target.with_name(f"{target.name}.refused")
        os.replace(part.path, refused)
        part.drop()
        raise DataError(
            f"{archive.url}: {fault}: the file was damaged on its way, or the publisher has replaced it since; what came lies "
            f"in {show_path(refused)}. Run the command again; if they differ once more, unpack a file that you trust into "
            f"{show_path(folder)} yourself and leave out --download"
        )
    os.replace(part.path, target)
    part.note.unlink(missing_ok=True)
    if not part.pinned:
        say(f"no check sum is published for {archive.name}; what came has sha256 {_digest(target, 'sha256')}")
    return target


def by_hand(archive: Archive, folder: Path) -> str:
    """What to do on a machine that cannot fetch the archive."""
    return (
        f"By hand: fetch {archive.url} ({archive.describe()}) on a machine that can, put it at "
        f"{show_path(folder / archive.name)}, and run the same command again; or unpack the corpus into {show_path(folder)} "
        f"yourself and leave out --download"
    )


def verify(archive: Archive, path: Path) -> str:
    """Why a file is not the pinned one, in words; empty when it is. Raises DataError when it cannot be read."""
    with open_regular(path) as handle:
        size = os.fstat(handle.fileno()).st_size
    if archive.size is not None and size != archive.size:
        return f"has {size:,} bytes, expected {archive.size:,}"
    kind, expected = ("sha256", archive.sha256) if archive.sha256 else ("md5", archive.md5)
    found = _digest(path, kind) if expected else ""
    return f"has {kind} {found}, expected {expected}" if found != expected else ""


def unpack(archive: Archive, path: Path, root: Path, *, say: Callable[[str], None] = tell) -> None:
    """Unpack an archive below ``root``. ``archive.holds`` appears last and at once, so it is there only when all of it is.

    Files of the same name are replaced, folders are joined. Raises DataError for an archive that is refused or does not hold
    what it should, ResourceError when the disk is full.
    """
    _expect_space(root, path.stat().st_size, root / archive.holds)
    say(f"unpacking {show_path(path)}")
    scratch = root / f"{UNPACKING}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with _bar(path.stat().st_size, "unpacking") as bar:
            extract(path, scratch / archive.into, on_read=lambda position: _advance(bar, position))
        if not (scratch / archive.holds).exists():
            raise DataError(f"{show_path(path)}: holds no {archive.holds}; it is not the archive it should be")
        try:
            _move_in(scratch, root, archive.holds.split("/"))
        except OSError as error:
            raise write_fault(error.filename or root, error, 0) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fetch(part: Part, *, say: Callable[[str], None], sleep: Callable[[float], None], attempts: int, timeout: float) -> None:
    """Exchange after exchange until the file is whole; raises the last Broken when it does not become so."""
    failures, furthest = 0, part.have()
    with _bar(part.size, part.path.name.removesuffix(".part"), part.have()) as bar:
        for _ in range(EXCHANGES):
            try:
                return transfer(part, timeout=timeout, on_bytes=lambda position: _advance(bar, position))
            except Broken as broken:
                fault = broken
            failures = 1 if part.have() > furthest else failures + 1
            furthest = max(furthest, part.have())
            wait = min(2.0**failures, MAX_WAIT_S) if fault.wait is None else fault.wait
            if failures >= attempts or wait > MAX_ASKED_WAIT_S:
                asked = f", and asks to come back in {wait / 60:.0f} minutes" if wait > MAX_ASKED_WAIT_S else ""
                raise Broken(f"{fault}{asked} (tried {failures} time{'s' * (failures > 1)} without a new byte)")
            bar.clear()
            say(f"{fault}; again in {wait:g} s")
            sleep(wait)
    raise Broken(f"{fault} (given up after {EXCHANGES} times)")


def _digest(path: Path, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    size = path.stat().st_size
    with open_regular(path) as handle, _bar(size, "verifying") as bar:
        while block := handle.read(2**20):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def _bar(total: int | None, title: str, start: int = 0) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, initial=start, desc=title, unit="B", unit_scale=True, unit_divisor=1000, disable=None, leave=False)


def _advance(bar: Any, position: int) -> None:
    """Set the bar; a download that begins anew takes it back."""
    bar.update(position - bar.n)


def _expect_space(folder: Path, needed: int, target: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        fault = f"no space left on the disk for it (needs {needed / 1e6:,.1f} MB, {free / 1e6:,.1f} MB free)"
        raise ResourceError(f"{show_path(target)}: {fault}; free some and run again, or choose another --root")


def _move_in(source: Path, target: Path, last: Sequence[str]) -> None:
    """Move everything below ``source`` to ``target``; the path ``last`` below it comes at the end, by one rename."""
    for entry in sorted(source.iterdir(), key=lambda entry: entry.name == last[0] if last else False):
        place = target / entry.name
        leads = last[1:] if last and entry.name == last[0] else ()
        if entry.is_dir() and place.is_dir() and not place.is_symlink():
            _move_in(entry, place, leads)
        else:
            os.replace(entry, place)


@contextmanager
def _locked(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the root for this process; wait for another one that does."""
    import fcntl

    path = folder / LOCK
    try:
        handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise write_fault(path, error, 0) from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            say(f"{show_path(folder)} is in use by {handle.read().strip() or 'another process'}, which downloads; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {os.uname().nodename}")
        handle.flush()
        yield
