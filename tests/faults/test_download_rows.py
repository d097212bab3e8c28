"""Rows S10, S11 and D1 to D7: `asr-data prepare --download`, a server that does everything wrong, and bad archives."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.data.archive import Archive
from asr.data.corpora import CORPORA
from asr.data.download import acquire
from asr.data.extract import ExtractLimits
from tests.data.unreliable import Unreliable, breaks_off, honest, ignores_range, login, says, serving
from tests.faults.commands import Outcome, content, fine, told


def recordings() -> dict[str, bytes]:
    """Six recordings named as those of OpenSLR 1."""
    files = {}
    for number in range(6):
        data = io.BytesIO()
        samples = np.random.default_rng(number).uniform(-0.1, 0.1, 4000)
        soundfile.write(data, samples, 8000, format="WAV", subtype="PCM_16")
        files["_".join(f"{number:04b}") + ".wav"] = data.getvalue()
    return files


def packed(change: Callable[[tarfile.TarFile], None] = lambda archive: None) -> bytes:
    """waves_yesno.tar.gz, with what `change` adds at its end."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        for name, wav in recordings().items():
            add(archive, f"waves_yesno/{name}", wav)
        change(archive)
    return data.getvalue()


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(data))


WHOLE = packed()


class Site:
    """A server with a corpus, the command that fetches it, and what lies in its --root."""

    def __init__(self, server: Unreliable, folder: Path, asr: Callable[..., Outcome], patch: pytest.MonkeyPatch) -> None:
        self.server, self.root, self.out, self._asr, self._patch = server, folder / "root", folder / "out", asr, patch
        self.pin(hashlib.sha256(WHOLE).hexdigest(), len(WHOLE))

    def pin(self, sha256: str = "", size: int | None = None, name: str = "waves_yesno.tar.gz") -> None:
        archive = Archive(self.server.url(name), "waves_yesno", size, sha256)
        self._patch.setitem(CORPORA, "yesno", replace(CORPORA["yesno"], archives=(archive,)))

    def prepare(self) -> Outcome:
        return self._asr("data", "prepare", "yesno", "--root", self.root, "--out", self.out, "--download")

    def prepared(self) -> None:
        outcome = fine(self.prepare())
        assert "train           2" in outcome.out
        assert sorted(path.name for path in (self.root / "waves_yesno").iterdir()) == sorted(recordings())

    def litter(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir() if path.name not in (".download.lock", "waves_yesno.tar.gz"))


@pytest.fixture
def site(tmp_path: Path, asr, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("asr.data.download.acquire", partial(acquire, sleep=lambda seconds: None))
    with serving(WHOLE) as server:
        yield Site(server, tmp_path, asr, monkeypatch)


LINKS = {
    "S10-parent": lambda archive: add(archive, "../canary", b"x"),
    "S10-absolute": lambda archive: add(archive, "/tmp/canary", b"x"),
    "S10-symlink": lambda archive: (
        add(archive, "waves_yesno/d", type=tarfile.SYMTYPE, linkname="../.."),
        add(archive, "waves_yesno/d/canary", b"x"),
    ),
    "S10-hard-link": lambda archive: add(archive, "waves_yesno/l", type=tarfile.LNKTYPE, linkname="../../out"),
    "S10-device": lambda archive: add(archive, "waves_yesno/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "S10-setuid": lambda archive: add(archive, "waves_yesno/su", b"x", mode=0o4755),
    "S10-twice": lambda archive: add(archive, "waves_yesno/0_0_0_0.wav", b"x"),
    "S10-case": lambda archive: add(archive, "Waves_Yesno/0_0_0_0.wav", b"x"),
    "S10-bomb": lambda archive: add(archive, "waves_yesno/zeros", bytes(68_000_000)),
    "S10-members": lambda archive: [add(archive, f"waves_yesno/{number}") for number in range(200)],
}
WORDS = {
    "S10-parent": "../canary leads out of the folder",
    "S10-absolute": "/tmp/canary is an absolute path",
    "S10-symlink": "waves_yesno/d is a symbolic link",
    "S10-hard-link": "waves_yesno/l is a hard link",
    "S10-device": "waves_yesno/null is a character device",
    "S10-setuid": "setuid or setgid bit",
    "S10-twice": "waves_yesno/0_0_0_0.wav stands in it twice",
    "S10-case": "are one name on file systems that ignore letter case",
    "S10-bomb": "unpacks to more than 67 MB",
    "S10-members": "more than 100 members",
}


@pytest.mark.parametrize("row", list(LINKS))
def test_a_bad_tar_is_refused(site: Site, row: str, monkeypatch: pytest.MonkeyPatch):
    if row == "S10-members":
        monkeypatch.setattr("asr.data.extract.ExtractLimits", partial(ExtractLimits, members=100))
    site.server.content = packed(LINKS[row])
    site.pin()
    before = set(site.root.parent.rglob("*"))
    verdict = told(site.prepare(), 3, WORDS[row], "nothing of it was kept")
    assert "\n" not in verdict
    assert site.litter() == []
    assert set(site.root.parent.rglob("*")) - before == {
        site.root,
        site.root / ".download.lock",
        site.root / "waves_yesno.tar.gz",
    }
    assert not Path("/tmp/canary").exists()


def test_s10_a_sparse_terabyte(site: Site):
    info = tarfile.TarInfo("waves_yesno/huge")
    info.type, info.size = b"S", 2**40
    site.server.content = info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    site.pin(name="waves_yesno.tar")
    told(site.prepare(), 3, "waves_yesno/huge is a sparse file")
    assert site.litter() == ["waves_yesno.tar"]


def zipped(change: Callable[[zipfile.ZipFile], None]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, wav in recordings().items():
            archive.writestr(f"waves_yesno/{name}", wav)
        change(archive)
    return data.getvalue()


def linked(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("waves_yesno/link")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    archive.writestr(info, "/")


def damaged(data: bytes) -> bytes:
    """One bit of the check sum of the last member, in both places."""
    at, end = data.rindex(b"PK\x03\x04"), data.rindex(b"PK\x01\x02")
    return bytes(byte ^ (position in (at + 14, end + 16)) for position, byte in enumerate(data))


def encrypted(data: bytes) -> bytes:
    at, end = data.rindex(b"PK\x03\x04"), data.rindex(b"PK\x01\x02")
    return bytes(byte | (position in (at + 6, end + 8)) for position, byte in enumerate(data))


ZIPS = {
    "S11-parent": (lambda: zipped(lambda archive: archive.writestr("../canary", "x")), "../canary leads out of the folder"),
    "S11-symlink": (lambda: zipped(linked), "waves_yesno/link is a symbolic link"),
    "S11-bomb": (lambda: zipped(lambda archive: archive.writestr("waves_yesno/0", bytes(68_000_000))), "more than 67 MB"),
    "S11-crc": (lambda: damaged(zipped(lambda archive: None)), "a wrong CRC"),
    "S11-encrypted": (lambda: encrypted(zipped(lambda archive: None)), "is an encrypted file"),
}


@pytest.mark.parametrize("row", list(ZIPS))
def test_a_bad_zip_is_refused(site: Site, row: str):
    build, words = ZIPS[row]
    site.server.content = build()
    site.pin(name="waves_yesno.zip")
    told(site.prepare(), 3, words)
    assert site.litter() == ["waves_yesno.zip"]
    assert not (site.root.parent / "canary").exists()


def test_s11_a_good_zip_is_unpacked(site: Site):
    site.server.content = zipped(lambda archive: None)
    site.pin(name="waves_yesno.zip")
    site.prepared()


def test_d1_an_interrupted_download_goes_on_by_range_on_206_only(site: Site):
    site.server.script = [breaks_off(9000), honest]
    site.prepared()
    assert site.server.ranges() == [None, "bytes=9000-"]


def test_d1_a_killed_process_leaves_a_part_that_the_next_one_continues(site: Site, tmp_path: Path):
    """A process of its own, killed while the server holds the rest back."""
    script = (
        "import sys; from asr.data import archive, download; download.acquire([archive.Archive(*sys.argv[2:4])], sys.argv[1])"
    )
    words = [sys.executable, "-c", script, str(site.root), site.server.url("waves_yesno.tar.gz"), "waves_yesno"]
    process: list[subprocess.Popen[bytes]] = []

    def holds_back(answer, data: bytes) -> None:
        answer.send_response(200)
        answer.send_header("Content-Length", str(len(data)))
        answer.send_header("ETag", '"1"')
        answer.end_headers()
        answer.wfile.write(data[:9000])
        answer.wfile.flush()
        part = site.root / "waves_yesno.tar.gz.part"
        limit = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size == 9000) and time.monotonic() < limit:
            time.sleep(0.01)
        process[0].kill()
        process[0].wait()

    def continues(answer, data: bytes) -> None:
        assert answer.headers["If-Range"] == '"1"'
        start = int(answer.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        answer.reply(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")

    site.server.script = [holds_back, continues]
    process.append(subprocess.Popen(words, stderr=subprocess.DEVNULL))
    process[0].wait(60)
    assert process[0].returncode == -9
    assert site.litter() == ["waves_yesno.tar.gz.part", "waves_yesno.tar.gz.part.json"]
    site.prepared()
    assert len(site.server.requests) == 2


#: What comes in place of the file, the exit code and the words.
INSTEAD = {
    "D2-short": (says(200, WHOLE[:-1], Content_Length=len(WHOLE)), 5, "broke off after"),
    "D2-long": (says(200, WHOLE + b"x"), 3, "the server offers"),
    "D2-login": (login, 3, "does it ask for a login?"),
}


@pytest.mark.parametrize("row", list(INSTEAD))
def test_what_a_server_may_send_instead(site: Site, row: str):
    behaviour, code, words = INSTEAD[row]
    site.server.script = [behaviour]
    verdict = told(site.prepare(), code, words, "By hand: fetch", str(site.root / "waves_yesno.tar.gz"))
    assert "\n" not in verdict
    assert not (site.root / "waves_yesno").exists()
    assert not site.out.exists()


def test_d2_a_server_that_ignores_range_begins_anew(site: Site):
    site.server.script = [breaks_off(9000), ignores_range]
    site.prepared()


def test_d3_a_wrong_sum_is_told_with_both(site: Site):
    site.server.content = WHOLE[:-1] + b"?"
    wrong = hashlib.sha256(site.server.content).hexdigest()
    told(site.prepare(), 3, f"has sha256 {wrong}, expected {hashlib.sha256(WHOLE).hexdigest()}")
    assert site.litter() == ["waves_yesno.tar.gz.refused"]
    site.server.content = WHOLE
    site.prepared()


def test_d4_an_archive_that_was_replaced_upstream(site: Site):
    site.server.content = packed(lambda archive: add(archive, "waves_yesno/NEWS", b"new version"))
    told(site.prepare(), 3, "the publisher has replaced the file", f"expected {len(WHOLE):,}", "leave out --download")
    site.pin(hashlib.sha256(WHOLE).hexdigest())
    told(site.prepare(), 3, "the publisher has replaced it since", "leave out --download")
    assert not (site.root / "waves_yesno").exists()


BUSY = {"D5-busy": (503, "503 Service Unavailable"), "D5-too-many": (429, "429 Too Many Requests")}


@pytest.mark.parametrize("row", list(BUSY))
def test_a_busy_server_is_not_asked_for_ever(site: Site, row: str):
    status, words = BUSY[row]
    site.server.script = [says(status)]
    told(site.prepare(), 5, words, "tried 6 times", "By hand: fetch", f"put it at {site.root / 'waves_yesno.tar.gz'}")
    assert len(site.server.requests) == 6


def test_d5_offline_and_the_file_put_there_by_hand(site: Site, monkeypatch: pytest.MonkeyPatch):
    import socket

    def offline(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    told(site.prepare(), 5, "is this machine offline?", f"put it at {site.root / 'waves_yesno.tar.gz'}")
    (site.root / "waves_yesno.tar.gz").write_bytes(WHOLE)
    site.prepared()
    assert site.server.requests == []


def test_d5_a_proxy_and_a_wrong_kind_of_encryption(site: Site, monkeypatch: pytest.MonkeyPatch):
    archive = CORPORA["yesno"].archives[0]
    secure = replace(archive, url=archive.url.replace("http:", "https:"))
    monkeypatch.setitem(CORPORA, "yesno", replace(CORPORA["yesno"], archives=(secure,)))
    told(site.prepare(), 5, "no encrypted connection to 127.0.0.1 (", "By hand")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    told(site.prepare(), 5, "asked through the proxy 127.0.0.1:9", "By hand")


@pytest.mark.parametrize("row", ["D6-download", "D6-extract"])
def test_a_full_disk(site: Site, row: str, small_disk: Path):
    """Three megabytes: too few for the archive, or for what is in it."""
    noise = np.random.default_rng(1).bytes(4_000_000 if row == "D6-download" else 1_000_000)
    site.server.content = packed(
        lambda archive: (add(archive, "waves_yesno/a", noise), add(archive, "waves_yesno/b", bytes(2_500_000)))
    )
    site.pin()
    site.root = small_disk / "root"
    verdict = told(site.prepare(), 5, "no space left on the disk")
    assert "\n" not in verdict
    assert site.litter() == (["waves_yesno.tar.gz.part", "waves_yesno.tar.gz.part.json"] if row == "D6-download" else [])
    assert not site.out.exists()


def test_d7_of_two_runs_one_waits(site: Site):
    """The first holds the root until the second says that it waits; the archive is fetched once, and both end well."""
    script = (
        "import sys; from asr.data import archive, download; download.acquire([archive.Archive(*sys.argv[2:4])], sys.argv[1])"
    )
    words = [sys.executable, "-c", script, str(site.root), site.server.url("waves_yesno.tar.gz"), "waves_yesno"]
    second: list[subprocess.Popen[str]] = []

    def slow(answer, data: bytes) -> None:
        second.append(subprocess.Popen(words, stderr=subprocess.PIPE, text=True))
        assert "which downloads; waiting for it" in second[0].stderr.readline()
        honest(answer, data)

    site.server.script = [slow, honest]
    site.prepared()
    assert second[0].communicate(timeout=60)[1] == ""
    assert second[0].returncode == 0
    assert len(site.server.requests) == 1
    before = content(site.root)
    site.prepared()
    assert content(site.root) == before
