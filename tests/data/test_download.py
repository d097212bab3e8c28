"""Downloads from a server that breaks off, lies, is busy or asks for a login: the right bytes arrive, or a sentence says why."""

import hashlib
import io
import os
import random
import socket
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from asr.data import download as module
from asr.data.archive import Archive
from asr.data.download import acquire, download, unpack
from asr.errors import DataError, ResourceError
from tests.data.unreliable import (
    Unreliable,
    breaks_off,
    honest,
    ignores_range,
    login,
    says,
    serving,
    without_length,
    wrong_piece,
)


def packed(**files: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"corpus/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


CONTENT = packed(a=random.Random(1).randbytes(50_000), b=b"text")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[Unreliable]:
    with serving(CONTENT) as found:
        yield found


@pytest.fixture
def archive(server: Unreliable) -> Archive:
    return Archive(server.url(), "corpus", size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())


class Run:
    """A download whose words and pauses are noted, and which never sleeps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.pauses: list[float] = []

    def __call__(self, archive: Archive, **options) -> Path:
        return download(archive, self.folder, say=self.said.append, sleep=self.pauses.append, timeout=5, **options)

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_file_is_fetched_once_and_verified(run: Run, archive: Archive, server: Unreliable):
    assert run(archive).read_bytes() == CONTENT
    assert run.files() == ["corpus.tar.gz"]
    assert run(archive) == run.folder / "corpus.tar.gz"
    assert server.ranges() == [None]
    assert run.said == [
        f"fetching {archive.url} ({len(CONTENT):,} bytes, sha256 {archive.sha256})",
        f"{run.folder / 'corpus.tar.gz'} is there; verifying",
    ]


def test_md5_where_there_is_no_sha256(run: Run, archive: Archive, server: Unreliable):
    pinned = replace(archive, sha256="", md5=hashlib.md5(CONTENT).hexdigest(), size=None)
    assert run(pinned).read_bytes() == CONTENT
    run.folder.joinpath("corpus.tar.gz").unlink()
    with pytest.raises(DataError, match=f"has md5 {pinned.md5}, expected {'0' * 32}"):
        run(replace(pinned, md5="0" * 32))


def test_a_break_is_resumed_where_it_happened(run: Run, archive: Archive, server: Unreliable):
    server.script = [breaks_off(20_000), breaks_off(20_000), honest]
    assert run(archive).read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=20000-", "bytes=40000-"]
    assert run.files() == ["corpus.tar.gz"]
    assert run.pauses == [2.0, 2.0]
    assert run.said[1:] == [
        f"the connection broke off after 20,000 of {len(CONTENT):,} bytes; again in 2 s",
        f"the connection broke off after 40,000 of {len(CONTENT):,} bytes; again in 2 s",
    ]


def test_a_later_run_goes_on(run: Run, archive: Archive, server: Unreliable):
    server.script = [breaks_off(30_000), says(503)]
    with pytest.raises(ResourceError, match="the server is busy"):
        run(archive)
    assert run.files() == ["corpus.tar.gz.part", "corpus.tar.gz.part.json"]
    server.script = [honest]
    assert run(archive).read_bytes() == CONTENT
    assert server.ranges()[-1] == "bytes=30000-"
    assert run.files() == ["corpus.tar.gz"]


def test_stopping_keeps_the_part(run: Run, archive: Archive, server: Unreliable, monkeypatch: pytest.MonkeyPatch):
    def stop(bar: object, position: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_advance", stop)
        with pytest.raises(KeyboardInterrupt):
            run(archive)
    assert run.said[-1] == f"stopped; {run.folder / 'corpus.tar.gz.part'} is kept, and the same command goes on from there"
    assert (run.folder / "corpus.tar.gz.part").stat().st_size > 0
    assert run(archive).read_bytes() == CONTENT


@pytest.mark.parametrize("behaviour", [ignores_range, wrong_piece])
def test_without_206_for_the_rest_it_begins_anew(run: Run, archive: Archive, server: Unreliable, behaviour):
    server.script = [breaks_off(20_000), behaviour]
    assert run(archive).read_bytes() == CONTENT
    assert server.ranges()[1] == "bytes=20000-"


def test_a_server_without_range_that_breaks_off_is_given_up(run: Run, archive: Archive, server: Unreliable):
    def broken(answer, content: bytes) -> None:
        answer.reply(200, content[:9000], Content_Length=len(content))

    server.script = [broken]
    with pytest.raises(ResourceError, match=r"broke off after 9,000 of .* \(tried 3 times without a new byte\)"):
        run(archive, attempts=3)
    assert len(server.requests) == 3


def test_another_version_is_not_appended(run: Run, archive: Archive, server: Unreliable):
    """If-Range: the server sends the whole new file when the part belongs to another."""
    server.script = [breaks_off(20_000), honest]
    other = replace(archive, size=None, sha256="")
    fresh = packed(a=b"new" * 1000)

    def replaced(pause: float) -> None:
        server.content = fresh

    path = download(other, run.folder, say=run.said.append, sleep=replaced, timeout=5)
    assert path.read_bytes() == fresh
    assert server.requests[1]["If-Range"] != ""
    assert run.said[-1].endswith(f"has sha256 {hashlib.sha256(fresh).hexdigest()}")


def test_what_was_complete_when_the_run_was_killed(run: Run, archive: Archive, server: Unreliable):
    """The length is not known, so the server is asked; it has nothing more to send."""
    unsized = replace(archive, size=None)
    (run.folder / "corpus.tar.gz.part").write_bytes(CONTENT)
    assert run(unsized).read_bytes() == CONTENT
    assert server.ranges() == [f"bytes={len(CONTENT)}-"]
    (run.folder / "corpus.tar.gz").rename(run.folder / "corpus.tar.gz.part")
    assert run(archive).read_bytes() == CONTENT
    assert len(server.requests) == 1
    (run.folder / "corpus.tar.gz").unlink()
    (run.folder / "corpus.tar.gz.part").write_bytes(CONTENT + b"more")
    assert run(unsized).read_bytes() == CONTENT
    assert server.ranges()[1:] == [f"bytes={len(CONTENT) + 4}-", None]


def test_a_length_that_is_not_told_and_one_that_is_wrong(run: Run, archive: Archive, server: Unreliable):
    server.script = [without_length]
    assert run(replace(archive, size=None)).read_bytes() == CONTENT
    (run.folder / "corpus.tar.gz").unlink()
    server.content = CONTENT + b"more"
    with pytest.raises(DataError, match=f"the server sent more than the {len(CONTENT):,} bytes of the file"):
        run(archive)
    server.script = [honest]
    with pytest.raises(DataError, match=f"the server offers {len(CONTENT) + 4:,} bytes, expected {len(CONTENT):,}: the publ"):
        run(archive)
    assert run.files() == []


def test_changed_bytes_are_put_aside_with_both_sums(run: Run, archive: Archive, server: Unreliable):
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(DataError) as caught:
        run(archive)
    message = str(caught.value)
    assert f"has sha256 {hashlib.sha256(server.content).hexdigest()}, expected {archive.sha256}" in message
    assert "the publisher has replaced it since" in message
    assert "leave out --download" in message
    assert run.files() == ["corpus.tar.gz.refused"]
    server.content = CONTENT
    assert run(archive).read_bytes() == CONTENT


def test_a_file_put_there_by_hand_is_verified(run: Run, archive: Archive, server: Unreliable):
    path = run.folder / "corpus.tar.gz"
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=f"has {len(CONTENT) - 1:,} bytes, expected {len(CONTENT):,}; remove it to have it"):
        run(archive)
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(DataError, match=r"has sha256 .*, expected"):
        run(archive)
    assert path.exists()
    path.write_bytes(CONTENT)
    assert run(archive) == path
    assert server.requests == []


@pytest.mark.parametrize("size", [True, False])
def test_a_login_page_is_named(run: Run, archive: Archive, server: Unreliable, size: bool):
    server.script = [login]
    with pytest.raises(DataError) as caught:
        run(archive if size else replace(archive, size=None, sha256=""))
    message = str(caught.value)
    assert "answers with a web page, not with the file (it sends on to http://127.0.0.1" in message
    assert "/login?next=corpus); does it ask for a login?" in message
    assert f"put it at {run.folder / 'corpus.tar.gz'}, and run the same command again" in message
    assert run.files() == []


def test_a_page_of_the_right_length_is_told_by_its_first_bytes(run: Run, archive: Archive, server: Unreliable):
    server.script = [says(200, b"\n<html>".ljust(len(CONTENT)), Content_Type="application/gzip")]
    with pytest.raises(DataError, match="answers with a web page"):
        run(archive)
    assert run.files() == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, r"asks for a name and a password \(401 Unauthorized\)"),
        (403, r"refuses to hand it out \(403 Forbidden\)"),
        (404, r"does not have it there any more \(404 Not Found\)"),
        (418, r"does not hand it out \(418"),
        (204, r"answers 204 No Content; expected the file"),
    ],
)
def test_a_refusal_is_not_repeated(run: Run, archive: Archive, server: Unreliable, status: int, words: str):
    server.script = [says(status)]
    with pytest.raises(DataError, match=words):
        run(archive)
    assert (len(server.requests), run.pauses) == (1, [])


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_redirects_lead_to_the_web_only(run: Run, archive: Archive, server: Unreliable, place: str):
    server.script = [says(302, Location=place)]
    with pytest.raises(
        DataError, match=r"the server sends on to .*not allowed|the server sends on to '.*', which is not followed"
    ):
        run(archive)


def test_redirects_never_drop_encryption():
    request = urllib.request.Request("https://example.org/a")
    from asr.data.transfer import _Redirects

    with pytest.raises(DataError, match=r"sends on to 'http://example.org/a', which is not followed"):
        _Redirects().redirect_request(request, None, 302, "", {}, "http://example.org/a")
    assert _Redirects().redirect_request(request, None, 302, "", {}, "https://other.org/b").full_url == "https://other.org/b"


def test_a_busy_server_is_asked_again_with_growing_pauses(run: Run, archive: Archive, server: Unreliable):
    server.script = [says(503), says(503), says(429, Retry_After=7), says(500), honest]
    assert run(archive).read_bytes() == CONTENT
    assert run.pauses == [2.0, 4.0, 7.0, 16.0]
    assert "the server is busy (429 Too Many Requests); again in 7 s" in run.said


def test_pauses_and_attempts_have_an_end(run: Run, archive: Archive, server: Unreliable):
    server.script = [says(503)]
    with pytest.raises(
        ResourceError, match=r"busy \(503 Service Unavailable\) \(tried 6 times without a new byte\)\. By hand: fetch"
    ):
        run(archive)
    assert run.pauses == [2.0, 4.0, 8.0, 16.0, 32.0]
    server.script = [says(429, Retry_After=3600)]
    with pytest.raises(ResourceError, match="asks to come back in 60 minutes"):
        run(archive)
    assert len(run.pauses) == 5
    server.script = [says(503, Retry_After="Fri, 01 Jan 2100 00:00:00 GMT")]
    with pytest.raises(ResourceError, match="asks to come back in"):
        run(archive)


def test_a_server_that_drips_is_given_up(run: Run, archive: Archive, server: Unreliable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "EXCHANGES", 9)
    server.script = [breaks_off(1)]
    with pytest.raises(ResourceError, match="given up after 9 times"):
        run(archive)
    assert server.ranges()[-1] == "bytes=8-"


def test_offline(run: Run, archive: Archive, monkeypatch: pytest.MonkeyPatch):
    def offline(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with pytest.raises(ResourceError) as caught:
        run(replace(archive, url="https://www.openslr.org/resources/1/corpus.tar.gz"), attempts=2)
    assert str(caught.value) == (
        "https://www.openslr.org/resources/1/corpus.tar.gz: the name www.openslr.org cannot be looked up; is this machine "
        "offline? (tried 2 times without a new byte). By hand: fetch https://www.openslr.org/resources/1/corpus.tar.gz "
        f"({len(CONTENT):,} bytes, sha256 {archive.sha256}) on a machine that can, put it at {run.folder / 'corpus.tar.gz'}, "
        f"and run the same command again; or unpack the corpus into {run.folder} yourself and leave out --download"
    )


def test_nobody_listens_and_a_proxy_is_named(run: Run, archive: Archive, monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ResourceError, match=r"127\.0\.0\.1 cannot be reached \(connection refused\) \(tried 1 time without"):
        run(replace(archive, url=f"http://127.0.0.1:{port}/corpus.tar.gz"), attempts=1)
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{port}")
    with pytest.raises(ResourceError) as caught:
        run(replace(archive, url="http://corpora.example/corpus.tar.gz"), attempts=1)
    assert f"asked through the proxy 127.0.0.1:{port}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_silence_and_nonsense_are_faults_of_the_line(run: Run, archive: Archive, server: Unreliable):
    def silent(answer, content: bytes) -> None:
        answer.connection.recv(1)

    def nonsense(answer, content: bytes) -> None:
        answer.wfile.write(b"220 ready for mail\r\n")

    server.script = [silent]
    with pytest.raises(ResourceError, match=r"127\.0\.0\.1 does not answer"):
        download(archive, run.folder, say=run.said.append, sleep=run.pauses.append, timeout=0.2, attempts=1)
    server.script = [nonsense]
    with pytest.raises(ResourceError, match=r"no proper answer from 127\.0\.0\.1 \(220 ready for mail"):
        run(archive, attempts=1)


def test_no_encryption_where_it_is_asked_for(run: Run, archive: Archive, server: Unreliable):
    secure = replace(archive, url=archive.url.replace("http:", "https:"))
    with pytest.raises(ResourceError, match=r"no encrypted connection to 127\.0\.0\.1 \(.*tried 1 time without a new byte"):
        run(secure, attempts=1)


def test_an_untrusted_certificate_is_not_tried_again(run: Run, archive: Archive, monkeypatch: pytest.MonkeyPatch):
    import ssl

    def untrusted(*args: object, **kwargs: object) -> None:
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = "self-signed certificate"
        raise error

    monkeypatch.setattr("asr.data.transfer._open", untrusted)
    with pytest.raises(
        ResourceError, match=r"cannot be trusted \(self-signed certificate\); are clock and proxy right\?\. By hand"
    ):
        run(replace(archive, url="https://www.openslr.org/corpus.tar.gz"))
    assert run.pauses == []


def test_a_full_disk_is_told_before_and_during(run: Run, archive: Archive, monkeypatch: pytest.MonkeyPatch, server: Unreliable):
    with pytest.raises(ResourceError, match=r"no space left on the disk for it \(needs 1,000,000,000.0 MB"):
        run(replace(archive, size=10**15))
    assert server.requests == []
    real = open

    class Full:
        def __init__(self, path: Path) -> None:
            self._handle = real(path, "ab", buffering=0)

        def __getattr__(self, name: str):
            return getattr(self._handle, name)

        def __enter__(self):
            return self

        def __exit__(self, *error: object) -> None:
            self._handle.close()

        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        "builtins.open", lambda path, mode="r", *a, **k: Full(path) if mode == "ab" else real(path, mode, *a, **k)
    )
    with pytest.raises(ResourceError, match=r"corpus\.tar\.gz\.part: no space left on the disk or in the quota"):
        run(archive)


def test_a_folder_that_cannot_be_written(tmp_path: Path, archive: Archive):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="a part of the path is a file"):
        acquire([archive], tmp_path / "file" / "root")


def test_acquire_unpacks_once(tmp_path: Path, archive: Archive, server: Unreliable):
    said: list[str] = []
    acquire([archive], tmp_path / "my root", say=said.append)
    root = tmp_path / "my root"
    assert (root / "corpus" / "b").read_bytes() == b"text"
    assert sorted(path.name for path in root.iterdir()) == [".download.lock", "corpus", "corpus.tar.gz"]
    acquire([archive], root, say=said.append)
    assert len(server.requests) == 1
    assert said[1:] == [f"unpacking {root / 'corpus.tar.gz'}"]


def test_parts_join_one_folder_and_appear_last(tmp_path: Path):
    """Two archives with one top folder, as LibriSpeech has them; what each of them holds is there only when it is whole."""
    for part in ("dev", "test"):
        data = packed(README=b"both", **{f"{part}/1": part.encode(), f"{part}/2": b"x"})
        (tmp_path / f"{part}.tar.gz").write_bytes(data)
    archives = [Archive(f"http://127.0.0.1:9/{part}.tar.gz", f"corpus/{part}") for part in ("dev", "test")]
    moved: list[str] = []
    rename = os.replace
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asr.data.download.os.replace", lambda old, new: moved.append(Path(new).name) or rename(old, new))
        acquire(archives, tmp_path, say=lambda message: None)
    assert moved == ["corpus", "README", "test"]
    assert {path.name for path in (tmp_path / "corpus").iterdir()} == {"README", "dev", "test"}


def test_a_folder_of_its_own_for_an_archive_without_one(tmp_path: Path):
    (tmp_path / "a.tar.gz").write_bytes(CONTENT)
    acquire([Archive("http://127.0.0.1:9/a.tar.gz", "mine/corpus", into="mine")], tmp_path, say=lambda message: None)
    assert (tmp_path / "mine" / "corpus" / "b").exists()


def test_an_archive_of_something_else(tmp_path: Path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(CONTENT)
    with pytest.raises(DataError, match=r"a\.tar\.gz: holds no LibriSpeech; it is not the archive it should be"):
        unpack(Archive("http://127.0.0.1:9/a.tar.gz", "LibriSpeech"), path, tmp_path, say=lambda message: None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_full_disk_while_unpacking_leaves_the_archive_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(CONTENT)

    def full(*args: object, **kwargs: object) -> None:
        raise ResourceError("no space left")

    monkeypatch.setattr("asr.data.download.extract", full)
    with pytest.raises(ResourceError):
        unpack(Archive("http://127.0.0.1:9/a.tar.gz", "corpus"), path, tmp_path, say=lambda message: None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar.gz"]


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path, archive: Archive):
    (tmp_path / ".unpack-1-ff").mkdir()
    (tmp_path / ".unpack-1-ff" / "half").write_text("")
    acquire([archive], tmp_path, say=lambda message: None)
    assert not (tmp_path / ".unpack-1-ff").exists()


def test_of_two_runs_one_waits(tmp_path: Path, archive: Archive, server: Unreliable):
    """The server holds the first run back until the second one says that it waits; the file is fetched once."""
    root = tmp_path / "root"
    script = "import sys; from asr.data import archive, download; download.acquire([archive.Archive(*sys.argv[2:])], sys.argv[1])"
    second: list[subprocess.Popen[str]] = []

    def slow(answer, content: bytes) -> None:
        words = [sys.executable, "-c", script, str(root), archive.url, archive.holds]
        second.append(subprocess.Popen(words, stderr=subprocess.PIPE, text=True))
        assert second[0].stderr.readline() == (
            f"{root} is in use by process {os.getpid()} on {os.uname().nodename}, which downloads; waiting for it\n"
        )
        honest(answer, content)

    server.script = [slow, honest]
    acquire([archive], root, say=lambda message: None)
    assert second[0].communicate(timeout=60) == (None, "")
    assert second[0].returncode == 0
    assert len(server.requests) == 1
