"""Packed manifests: gzip is read line by line, zstd is walked over; every cut is told with its byte."""

import base64
import gzip
import tracemalloc

import pytest

from asr.data.manifest import Problem, scan_json_lines

LINES = [{"id": f"u{number}", "n": number} for number in range(60)]
TEXT = "".join(f'{{"id": "u{number}", "n": {number}}}\n' for number in range(60)).encode()
#: By zstd 1.5.4 of six short lines: `zstd -3`, `zstd -19 --check`, and `zstd --no-check --no-content-size` out of a pipe.
ZSTD = {
    "fast": "KLUv/QRYHQEAqHsiaWQiOiAidTAifQoxMjM0NSJ9CgUAgBPAHeAY4AIU8wvo9aT9",
    "checked": "KLUv/QRoHQEAqHsiaWQiOiAidTAifQoxMjM0NSJ9CgUAgBPAHeAY4AIU8wvo9aT9",
    "piped": "KLUv/QBYHQEAqHsiaWQiOiAidTAifQoxMjM0NSJ9CgUAgBPAHeAY4AIU8ws=",
}


def only(path) -> Problem:
    ((number, problem),) = scan_json_lines(path)
    assert (number, isinstance(problem, Problem)) == (1, True)
    return problem


def test_gzip_is_told_by_its_first_bytes_and_may_have_several_members(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_bytes(gzip.compress(TEXT[:200]) + gzip.compress(TEXT[200:]))
    assert list(scan_json_lines(path)) == list(enumerate(LINES, start=1))
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + TEXT.replace(b"\n", b"\r\n\r\n")))
    assert [item for _, item in scan_json_lines(path)] == LINES
    path.write_bytes(gzip.compress(TEXT.decode().encode("utf-16")))
    assert only(path).message.startswith("is UTF-16 text")


def test_gzip_cut_anywhere_gives_the_whole_lines_and_the_byte(tmp_path):
    whole = gzip.compress(TEXT, mtime=0)
    path = tmp_path / "train.jsonl.gz"
    for length in range(4, len(whole)):
        path.write_bytes(whole[:length])
        *lines, (number, problem) = scan_json_lines(path)
        assert [item for _, item in lines] == LINES[: len(lines)]
        assert (number, problem.kind, problem.where) == (len(lines) + 1, "cut-manifest", str(path))
        after = f"after line {len(lines)}" if lines else "before the first line is complete"
        assert problem.message == f"was cut: the gzip stream breaks off at byte {length}, {after}; copy it again"


@pytest.mark.parametrize("at", [20, -5, -1])
def test_gzip_with_another_byte(tmp_path, at):
    changed = bytearray(gzip.compress(TEXT, mtime=0))
    changed[at] ^= 0x55
    (tmp_path / "x").write_bytes(changed)
    *_, (_, problem) = scan_json_lines(tmp_path / "x")
    assert problem.kind == "cut-manifest"
    assert problem.message.startswith(("is damaged: the gzip stream is wrong before byte ", "was cut: "))


def test_a_line_without_end_takes_no_memory(tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(b'{"id": "' + bytes(20_000_000) + b'"}\n{"id": "b"}\n', compresslevel=1))
    tracemalloc.start()
    try:
        (_, problem), last = scan_json_lines(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert problem.kind == "line-too-long"
    assert last == (2, {"id": "b"})
    assert peak < 15 * 2**20


@pytest.mark.parametrize("form", list(ZSTD))
def test_zstd_is_whole_or_told_to_be_cut(tmp_path, form):
    data = base64.b64decode(ZSTD[form])
    path = tmp_path / "train.jsonl.zst"
    skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    for whole in (data, data + data, data + skipped + data):
        path.write_bytes(whole)
        assert only(path).message == "is zstd-compressed: unpack it with unzstd"
    for length in range(4, len(data)):
        path.write_bytes(data[:length])
        assert only(path).message == f"was cut or damaged: the zstd stream breaks off at byte {length}; copy it again"
    path.write_bytes(data + b"rest")
    at = f"what stands at byte {len(data)} is no zstd frame; the file has {len(data) + 4}"
    assert only(path).message == f"was cut or damaged: {at}; copy it again"
