"""One HTTP exchange: ask a server for the rest of a file and append what comes, or say why that was not possible.

Nothing here is trusted: the rest is only appended where the server says (206) that it is the rest of the same file, every
length is compared with what was promised, and a web page in place of the file is told from its type and its first bytes.
"""

import email.utils
import http.client
import json
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from typing import Any

from asr import __version__
from asr.data.extract import looks_like_page
from asr.data.files import show_path, write_fault
from asr.errors import DataError, ResourceError

BLOCK_BYTES = 2**18
#: Answers after which the same request may well succeed.
BUSY = (408, 425, 429, 500, 502, 503, 504)
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class Broken(Exception):
    """The exchange ended early; the same request may succeed. ``wait`` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Untrusted(ResourceError):
    """The server cannot prove who it is."""


@dataclass(frozen=True)
class Part:
    """A file that is being fetched, and what is known of it."""

    url: str
    #: Where the bytes go; those that are there are kept and continued.
    path: Path
    #: Bytes of the whole file, None where they are not known.
    size: int | None
    #: Whether a check sum will tell if pieces of two versions were put together.
    pinned: bool

    @property
    def note(self) -> Path:
        """Says which version of the file the bytes belong to."""
        return self.path.with_name(self.path.name + ".json")

    def have(self) -> int:
        """Bytes that are there."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def drop(self) -> None:
        """Forget what was fetched."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def version(self) -> str:
        """The mark (ETag or date) that the server gave the file that the bytes belong to; empty where there is none."""
        try:
            note = json.loads(self.note.read_text("utf-8"))
            return str(note["version"]) if note["url"] == self.url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""


def transfer(part: Part, *, timeout: float, on_bytes: Callable[[int], None] = lambda _: None) -> None:
    """Fetch the rest of a file; when this returns, as many bytes are there as the server promised.

    ``on_bytes(position)`` is told how far the file has come. ``timeout`` (s) bounds the silence, not the whole exchange.
    Raises Broken where trying again makes sense, DataError where the server has another file or none, ResourceError when
    the bytes cannot be stored or the certificate cannot be checked.
    """
    have = part.have()
    if part.size is not None and have > part.size:
        part.drop()
        have = 0
    if part.size is not None and have == part.size:
        return
    headers = {"User-Agent": f"asr/{__version__}", "Accept-Encoding": "identity"}
    version = part.version()
    if have and (version or part.pinned):
        headers["Range"] = f"bytes={have}-"
        if version:
            headers["If-Range"] = version
    try:
        with _open(urllib.request.Request(part.url, headers=headers), timeout) as answer:
            start, total = _expect_file(answer, part, have)
            _append(answer, part, start, total, on_bytes)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                _settle_range(error, part, have)
            else:
                raise _refused(error, part.url) from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _unreachable(error, part.url) from None


def _open(request: urllib.request.Request, timeout: float) -> Any:
    """The answer to a request. http and https only; nothing on this machine can be reached through a redirect."""
    opener = urllib.request.OpenerDirector()
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ]
    for handler in handlers:
        opener.add_handler(handler)
    return opener.open(request, timeout=timeout)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https, and never from https back to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            raise DataError(f"{req.full_url}: the server sends on to {newurl[:200]!a}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _expect_file(answer: Any, part: Part, have: int) -> tuple[int, int | None]:
    """Where the bytes of this answer begin in the file, and how long the file is; drops what is there where they do not fit."""
    if "html" in answer.headers.get("Content-Type", ""):
        raise _web_page(part.url, answer.url)
    start, total = 0, _length(answer.headers)
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        match = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        if not match or match[1] is None or int(match[1]) != have:
            part.drop()
            raise Broken("the server sent another piece of the file than the one asked for")
        start, total = have, None if match[3] == "*" else int(match[3])
    elif answer.status != HTTPStatus.OK:
        raise DataError(f"{part.url}: the server answers {answer.status} {answer.reason}; expected the file")
    if part.size is not None and total is not None and total != part.size:
        part.drop()
        raise DataError(
            f"{part.url}: the server offers {total:,} bytes, expected {part.size:,}: the publisher has replaced the file, or "
            f"something else stands there now"
        )
    if not start:
        part.drop()
        version = answer.headers.get("ETag", "")
        version = answer.headers.get("Last-Modified", "") if not version or version.startswith("W/") else version
        _store(part.note, json.dumps({"url": part.url, "version": version}).encode())
    return start, total if part.size is None else part.size


def _append(answer: Any, part: Part, start: int, total: int | None, on_bytes: Callable[[int], None]) -> None:
    position = start
    with _storing(part.path):
        handle = open(part.path, "ab", buffering=0)  # noqa: SIM115 - closed below
    with handle:
        while block := answer.read1(BLOCK_BYTES):  # what has come is stored, so that a break loses nothing
            if not position and looks_like_page(block):
                part.drop()
                raise _web_page(part.url, answer.url)
            position += len(block)
            if total is not None and position > total:
                break
            with _storing(part.path, len(block)):
                rest = memoryview(block)
                while rest:
                    rest = rest[handle.write(rest) :]
            on_bytes(position)
        with _storing(part.path):
            os.fsync(handle.fileno())
    if total is not None and position > total:
        part.drop()
        raise DataError(f"{part.url}: the server sent more than the {total:,} bytes of the file")
    if total is not None and position < total:
        raise Broken(f"the connection broke off after {position:,} of {total:,} bytes")


@contextmanager
def _storing(path: Path, needed: int = 0) -> Iterator[None]:
    """A fault of the disk becomes ResourceError, so that it is not taken for one of the network."""
    try:
        yield
    except OSError as error:
        raise write_fault(path, error, needed) from None


def _store(path: Path, data: bytes) -> None:
    with _storing(path, len(data)):
        path.write_bytes(data)


def _settle_range(error: urllib.error.HTTPError, part: Part, have: int) -> None:
    """The server has no byte behind those that are there: the file is complete, or it is another one."""
    match = CONTENT_RANGE.fullmatch(error.headers.get("Content-Range", "").strip())
    if part.size is None and match and match[3] == str(have):
        return
    part.drop()
    raise Broken("the server cannot go on where the download stopped; it begins anew")


def _refused(error: urllib.error.HTTPError, url: str) -> Exception:
    code = f"{error.code} {error.reason}".strip()
    if error.code in BUSY:
        return Broken(f"the server is busy ({code})", _retry_after(error.headers))
    meaning = {
        401: "asks for a name and a password",
        403: "refuses to hand it out",
        404: "does not have it there any more",
        407: "cannot be reached: the proxy asks for a name and a password",
        410: "does not have it any more",
    }
    if 300 <= error.code < 400:
        return DataError(f"{url}: the server sends on to a place that is not allowed, or in a circle ({code.splitlines()[0]})")
    return DataError(f"{url}: the server {meaning.get(error.code, 'does not hand it out')} ({code})")


def _unreachable(error: Exception, url: str) -> Exception:
    """What a fault below HTTP means."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    host = urllib.parse.urlsplit(url).hostname
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = cause.verify_message or "it is not valid"
        return Untrusted(f"{url}: the certificate of {host} cannot be trusted ({why}); are clock and proxy right?")
    if isinstance(cause, ssl.SSLError):
        reason = (cause.reason or "an error of TLS").replace("_", " ").lower()
        return Broken(f"no encrypted connection to {host} ({reason}){_proxy_words(url)}")
    if isinstance(cause, socket.gaierror):
        return Broken(f"the name {host} cannot be looked up; is this machine offline?{_proxy_words(url)}")
    if isinstance(cause, TimeoutError):
        return Broken(f"{host} does not answer{_proxy_words(url)}")
    if isinstance(cause, http.client.IncompleteRead):
        return Broken("the connection broke off")
    if isinstance(cause, OSError) and cause.errno:
        return Broken(f"{host} cannot be reached ({os.strerror(cause.errno).lower()}){_proxy_words(url)}")
    return Broken(f"no proper answer from {host} ({(str(cause).splitlines() or [''])[0][:100] or type(cause).__name__})")


def _proxy_words(url: str) -> str:
    """Names the proxy that was asked, without its password."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or (parts.hostname and urllib.request.proxy_bypass(parts.hostname)):
        return ""
    return f", asked through the proxy {proxy.rpartition('@')[2].rpartition('//')[2]}"


def _length(headers: Message) -> int | None:
    text = headers.get("Content-Length", "").strip()
    return int(text) if text.isascii() and text.isdecimal() else None


def _retry_after(headers: Message) -> float | None:
    """Seconds to wait, given as a number or as a date."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _web_page(url: str, final: str) -> DataError:
    """The error for a page in place of the file; ``final`` is where the redirects led."""
    led = f" (it sends on to {show_path(final)[:200]})" if final != url else ""
    return DataError(f"{url}: the server answers with a web page, not with the file{led}; does it ask for a login?")
