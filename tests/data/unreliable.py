"""A server on this machine that serves one file, honestly or not: each request meets the next behaviour of its script."""

import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behaviour = Callable[["Answer", bytes], None]


class Answer(BaseHTTPRequestHandler):
    """One request; `server.script` says what becomes of it, and the last behaviour stays."""

    protocol_version = "HTTP/1.1"
    server: "Unreliable"

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.requests.append(dict(self.headers))
        script = self.server.script
        (script.pop(0) if len(script) > 1 else script[0])(self, self.server.content)

    def reply(self, status: int, body: bytes = b"", /, **headers: object) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Unreliable(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content = content
        self.script: list[Behaviour] = [honest]
        self.requests: list[dict[str, str]] = []
        #: What went wrong in the server itself; a client that hangs up is no fault.
        self.faults: list[BaseException] = []

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.faults.append(error)

    def url(self, name: str = "corpus.tar.gz") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/files/{name}"

    def ranges(self) -> list[str | None]:
        """The Range of each request so far."""
        return [request.get("Range") for request in self.requests]


@contextmanager
def serving(content: bytes) -> Iterator[Unreliable]:
    server = Unreliable(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    if server.faults:
        raise server.faults[0]


def tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:8]}"'


def start_of(answer: Answer, content: bytes) -> int:
    """Where the client wants to go on; 0 when it does not, or when it has begun another version of the file."""
    if answer.headers.get("If-Range", tag(content)) != tag(content):
        return 0
    return int(answer.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


def head(answer: Answer, content: bytes, start: int) -> None:
    answer.send_response(206 if start else 200)
    answer.send_header("Content-Length", str(len(content) - start))
    answer.send_header("ETag", tag(content))
    if start:
        answer.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    answer.end_headers()


def honest(answer: Answer, content: bytes) -> None:
    start = start_of(answer, content)
    if start >= len(content):
        answer.reply(416, Content_Range=f"bytes */{len(content)}")
        return
    head(answer, content, start)
    answer.wfile.write(content[start:])


def breaks_off(after: int) -> Behaviour:
    """Promises all and closes the connection after so many bytes."""

    def behave(answer: Answer, content: bytes) -> None:
        start = start_of(answer, content)
        head(answer, content, start)
        answer.wfile.write(content[start : start + after])

    return behave


def ignores_range(answer: Answer, content: bytes) -> None:
    answer.reply(200, content)


def wrong_piece(answer: Answer, content: bytes) -> None:
    """Says 206 and sends the file from its beginning."""
    answer.reply(206 if "Range" in answer.headers else 200, content, Content_Range=f"bytes 0-{len(content) - 1}/{len(content)}")


def says(status: int, body: bytes = b"", /, **headers: object) -> Behaviour:
    return lambda answer, content: answer.reply(status, body, **headers)


def without_length(answer: Answer, content: bytes) -> None:
    """In chunks, so that nobody knows the length beforehand."""
    answer.send_response(200)
    answer.send_header("Transfer-Encoding", "chunked")
    answer.end_headers()
    for start in range(0, len(content), 1000):
        piece = content[start : start + 1000]
        answer.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    answer.wfile.write(b"0\r\n\r\n")


def login(answer: Answer, content: bytes) -> None:
    if answer.path.startswith("/login"):
        answer.reply(200, b"<!DOCTYPE html><title>Please log in</title>" * 40, Content_Type="text/html; charset=utf-8")
    else:
        answer.reply(302, Location="/login?next=corpus")
