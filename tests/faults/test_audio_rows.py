"""Rows A of the catalogue, faults of recordings, through asr-train, asr-decode and asr-data prepare.

Each row puts one recording between two good ones. What cannot be used is named with its line and id and costs the others nothing.
"""

import errno
import importlib
import io
import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.faults.commands import fine, read_lines, small_set, to_lines, told, train_words
from tests.training.tones import RATE


def encoded(samples: np.ndarray, rate: int = RATE, form: str = "WAV", **how: str) -> bytes:
    """The bytes of a recording as soundfile writes it."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=form, **how)
    return buffer.getvalue()


def wav_with_sizes(samples: np.ndarray, riff: int | None, data: int) -> bytes:
    changed = bytearray(encoded(samples))
    if riff is not None:
        struct.pack_into("<I", changed, 4, riff)
    struct.pack_into("<I", changed, changed.index(b"data") + 4, data)
    return bytes(changed)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def forged_flac(samples: np.ndarray) -> bytes:
    """STREAMINFO with all 36 bits of the number of samples set."""
    changed = bytearray(encoded(samples, form="FLAC"))
    changed[21] |= 0x0F
    changed[22:26] = b"\xff" * 4
    return bytes(changed)


def forged_mp3(samples: np.ndarray) -> bytes:
    changed = bytearray(encoded(samples, form="MP3"))
    struct.pack_into(">I", changed, changed.index(b"Xing") + 8, 0xFFFFFF00)
    return bytes(changed)


def wav_with(samples: np.ndarray, at: int, form: str, value: int) -> bytes:
    """A WAV with one number of its header changed: 22 channels, 24 sample rate."""
    changed = bytearray(encoded(samples))
    struct.pack_into(form, changed, at, value)
    return bytes(changed)


def flipped(data: bytes) -> bytes:
    """One bit in the middle is another one."""
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


def without_table(samples: np.ndarray) -> bytes:
    """An MP3 of changing bit rate at 16 kHz behind an ID3 tag, without its first frame, which tells the length."""
    data = encoded(resampled(samples, 16000), 16000, form="MP3")
    assert b"Xing" in data[:200]
    return b"ID3\x04\0\0\0\0\x02\0" + bytes(256) + data[data.index(data[:2], 2) :]


def resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    import soxr

    return soxr.resample(samples, RATE, rate)


def poisoned(samples: np.ndarray, value: float) -> bytes:
    changed = samples.astype(np.float32)
    changed[len(changed) // 2] = value
    return encoded(changed, subtype="FLOAT")


@dataclass(frozen=True)
class Row:
    """One recording and what must become of it.

    make: samples (N,) float64 of tones -> bytes of the file, None: there is no file. kind: class of the problem; empty: the
    recording is used. words: what the message says, the two numbers compared and what to do; N stands for the number of samples.
    decoding_finds: the headers are in order, check=full finds the fault. note: class under which an oddity that is used is
    counted. same_text: it is decoded to the text of the untouched recording. seconds: the duration where it is not that of the
    tones. train_kind: the fault that only training has. plant: puts something else than a file of bytes there.
    """

    make: Callable[[np.ndarray], bytes | None] = lambda samples: None
    kind: str = ""
    words: tuple[str, ...] = ()
    decoding_finds: bool = False
    note: str = ""
    same_text: bool = False
    seconds: float | None = None
    train_kind: str = ""
    plant: Callable[[Path], object] | None = None


HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123456\n"
REFUSED = {
    "A1": Row(lambda x: None, "missing-file", ("no such file", "put the recording there, or correct the path")),
    "A2": Row(lambda x: b"", "empty-file", ("the file is empty (0 bytes)", "record or download it again")),
    "A3-zero": Row(lambda x: wav_with_sizes(x, 36, 0)[:44], "no-samples", ("0 samples", "again")),
    "A3-promised": Row(lambda x: encoded(x)[:44], "no-samples", ("0 samples", "promises {2N} bytes", "again")),
    "A4": Row(lambda x: encoded(x)[:30], "damaged-header", ("the WAV header is cut (30 bytes", "again")),
    "A5": Row(
        lambda x: encoded(x)[: 44 + len(x)],
        "cut-file",
        ("RIFF header promises {2N} bytes", "the file has {N}", "copy or download"),
    ),
    "A6": Row(lambda x: half(encoded(x, form="MP3")), "cut-file", ("MP3 header promises", "the file has", "copy or download")),
    "A7-flac": Row(
        lambda x: half(encoded(x, form="FLAC")), "cut-file", ("header promises {N} samples", "cut or damaged", "copy or download")
    ),
    "A7-opus": Row(
        lambda x: half(encoded(x, form="OGG", subtype="OPUS")), "cut-file", ("the last Ogg page is incomplete", "copy it again")
    ),
    "A10": Row(
        lambda x: wav_with_sizes(x, None, 0),
        "wrong-header",
        ("the header says 0 bytes of samples, the file has {2N}", "ffmpeg -ignore_length 1 -i"),
    ),
    "A12-zero": Row(
        lambda x: wav_with(x, 24, "<I", 0), "bad-sample-rate", ("the header says 0 Hz, outside 4-192 kHz", "write the file again")
    ),
    "A12-huge": Row(
        lambda x: wav_with(x, 24, "<I", 0xFFFFFFFF), "bad-sample-rate", ("the header says 4294967295 Hz", "write the file again")
    ),
    "A13-one": Row(lambda x: wav_with(x, 24, "<I", 1), "bad-sample-rate", ("the header says 1 Hz", "4-192 kHz")),
    "A13-forged": Row(lambda x: wav_with(x, 24, "<I", 655350), "bad-sample-rate", ("the header says 655350 Hz", "4-192 kHz")),
    "A14-none": Row(lambda x: wav_with(x, 22, "<H", 0), "bad-channels", ("the header says 0 channels, outside 1-32",)),
    "A14-many": Row(lambda x: wav_with(x, 22, "<H", 65535), "bad-channels", ("the header says 65535 channels, outside 1-32",)),
    "A17-nan": Row(
        lambda x: poisoned(x, np.nan), "non-finite", ("NaN or infinite samples", "write it again"), decoding_finds=True
    ),
    "A17-inf": Row(
        lambda x: poisoned(x, -np.inf), "non-finite", ("NaN or infinite samples", "write it again"), decoding_finds=True
    ),
    "A18": Row(
        lambda x: poisoned(x, 1e6), "full-scale", ("samples reach 1e+06 where full scale is 1", "divide"), decoding_finds=True
    ),
    "A22-flac": Row(forged_flac, "forged-length", ("header claims 68719476735 samples", "bytes can hold")),
    "A22-mp3": Row(forged_mp3, "forged-length", ("header claims 2473", "bytes can hold")),
    "A23-m4a": Row(
        lambda x: b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(500),
        "unsupported-format",
        ("is an MPEG-4 file (m4a, mp4), which is not read here", "ffmpeg -i"),
    ),
    "A23-webm": Row(
        lambda x: b"\x1a\x45\xdf\xa3" + bytes(500), "unsupported-format", ("is a Matroska file (webm, mkv)", "ffmpeg -i")
    ),
    "A24-html": Row(lambda x: HTML, "not-audio", ("is an HTML page", "download it again")),
    "A24-json": Row(lambda x: b'{"error": "rate limit"}', "not-audio", ("is JSON", "download it again")),
    "A24-pointer": Row(lambda x: POINTER, "not-audio", ("is a Git LFS pointer", "run git lfs pull")),
    "A25-folder": Row(kind="unreadable-file", words=("is a folder, expected a file",), plant=Path.mkdir),
    "A25-pipe": Row(kind="unreadable-file", words=("is a named pipe, expected a regular file",), plant=os.mkfifo),
    "A25-device": Row(
        kind="unreadable-file", words=("is a device, expected a regular file",), plant=lambda path: path.symlink_to("/dev/zero")
    ),
    "A25-dangling": Row(
        kind="missing-file", words=("is a link to nowhere, which does not exist",), plant=lambda path: path.symlink_to("nowhere")
    ),
    "A25-circle": Row(
        kind="missing-file", words=("is a link that leads back to itself",), plant=lambda path: path.symlink_to(path.name)
    ),
    "A27-flac": Row(
        lambda x: flipped(encoded(x, form="FLAC")),
        "cut-file",
        ("header promises {N} samples", "cut or damaged", "copy or download it again"),
    ),
    "A32-shorten": Row(
        lambda x: encoded(x, form="NIST").replace(b"-s3 pcm", b"-s26 pcm,embedded-shorten-v2.00", 1),
        "unsupported-format",
        ("is a SPHERE file compressed with shorten", "sph2pipe -f wav"),
    ),
}
USED = {
    "A8": Row(lambda x: encoded(x)[:-1], note="half-sample", same_text=True),
    "A9": Row(lambda x: wav_with_sizes(x, 0xFFFFFFFF, 0xFFFFFFFF), same_text=True),
    "A11": Row(lambda x: wav_with_sizes(x, 2_000_000_036, 2_000_000_000), same_text=True),
    "A15-two": Row(lambda x: encoded(np.stack([x, x], axis=1)), note="mixed-channels", same_text=True),
    "A15-eight": Row(lambda x: encoded(np.stack([x] * 8, axis=1)), note="mixed-channels", same_text=True),
    "A16-ulaw": Row(lambda x: encoded(x, subtype="ULAW"), same_text=True),
    "A16-down": Row(lambda x: encoded(resampled(x, 44100), 44100), note="resampled", same_text=True),
    "A16-up": Row(lambda x: encoded(resampled(x, 4000), 4000), note="upsampled"),
    "A19-zero": Row(lambda x: encoded(np.zeros(len(x)))),
    "A19-dc": Row(lambda x: encoded(np.full(len(x), 0.5))),
    "A20-one": Row(lambda x: encoded(x[:1]), seconds=1 / RATE, train_kind="ctc-impossible"),
    "A20-window": Row(lambda x: encoded(x[:200]), seconds=200 / RATE, train_kind="ctc-impossible"),
    "A20-frames": Row(lambda x: encoded(x[:700]), seconds=700 / RATE, train_kind="ctc-impossible"),
    "A23-mp3": Row(lambda x: encoded(x, form="MP3"), same_text=True),
    "A28-tag": Row(lambda x: b"ID3\x04\0\0\0\0\x02\0" + bytes(256) + encoded(x, form="MP3"), same_text=True),
    "A32-u8": Row(lambda x: encoded(x, subtype="PCM_U8"), same_text=True),
    "A32-24": Row(lambda x: encoded(x, subtype="PCM_24"), same_text=True),
    "A32-32": Row(lambda x: encoded(x, subtype="PCM_32"), same_text=True),
    "A32-double": Row(lambda x: encoded(x, subtype="DOUBLE"), same_text=True),
    "A32-alaw": Row(lambda x: encoded(x, subtype="ALAW"), same_text=True),
    "A32-wavex": Row(lambda x: encoded(x, form="WAVEX"), same_text=True),
    "A32-rf64": Row(lambda x: encoded(x, form="RF64"), same_text=True),
    "A32-aiff": Row(lambda x: encoded(x, form="AIFF"), same_text=True),
    "A32-au": Row(lambda x: encoded(x, form="AU"), same_text=True),
    "A32-sphere": Row(lambda x: encoded(x, form="NIST"), same_text=True),
}
ROWS = {**REFUSED, **USED}


@dataclass(frozen=True)
class Case:
    """A data folder with the odd recording `bad` on line 2, and its manifest, train.jsonl."""

    folder: Path
    row: Row
    lines: list[dict[str, Any]]
    words: tuple[str, ...]

    @property
    def bad(self) -> Path:
        return self.folder / "audio" / "bad.wav"


def build(speech: Path, folder: Path, rows: dict[str, Row]) -> list[dict[str, Any]]:
    """Good recordings first and last, one per row between them; returns the manifest's lines."""
    first, source, last = small_set(speech, folder)
    samples, _ = soundfile.read(folder / source["audio_filepath"])
    lines = [first]
    for name, row in rows.items():
        content = row.make(samples)
        path = f"audio/{name}.wav"
        if content is not None:
            (folder / path).write_bytes(content)
        if row.plant is not None:
            row.plant(folder / path)
        text = source["text"] if row.train_kind == "" else "abcabcabcabcabcabcabcabcabc"
        lines.append({**source, "id": name, "audio_filepath": path, "duration": row.seconds or source["duration"], "text": text})
    lines.append(last)
    (folder / "train.jsonl").write_bytes(to_lines(lines))
    return lines


@pytest.fixture
def case(request, speech, tmp_path) -> Case:
    row = ROWS[request.param]
    lines = build(speech, tmp_path / "data", {"bad": row})
    count = round(soundfile.info(speech / read_lines(speech / "test.jsonl")[1]["audio_filepath"]).frames)
    words = tuple(word.replace("{2N}", str(2 * count)).replace("{N}", str(count)) for word in row.words)
    return Case(tmp_path / "data", row, lines, words)


def each(rows: dict[str, Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", list(rows), indirect=True)


def report_of(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "data_report.json").read_text(encoding="utf-8"))


def row_of(table: str, place: str) -> str:
    """The one line of a table that names this place."""
    found = [line for line in table.splitlines() if place in line]
    assert len(found) == 1, f"{place!r} stands on {len(found)} lines of:\n{table}"
    return found[0]


@each(REFUSED)
def test_training_refuses_it_before_the_first_step(case, asr, tmp_path):
    run_dir = tmp_path / "run"
    check = {"data__check": "full"} if case.row.decoding_finds else {}
    verdict = told(asr("train", *train_words(case.folder, run_dir, **check)), 3, "train.jsonl", "1 of 3", "data.on_bad=skip")
    shown = row_of(verdict, "line 2, bad: ")
    for word in (case.row.kind, "bad.wav", *case.words):
        assert word in shown
    (problem,) = report_of(run_dir)["train"]["problems"]
    assert (problem["kind"], problem["where"], problem["id"]) == (case.row.kind, f"{case.folder}/train.jsonl:2", "bad")
    assert all(word in problem["message"] for word in case.words)
    assert not (run_dir / "metrics.jsonl").exists()
    assert not (run_dir / "checkpoints").exists()


@each({name: row for name, row in REFUSED.items() if row.decoding_finds})
def test_what_the_headers_hide_is_found_before_the_first_step(case, asr, tmp_path):
    """All recordings are read then, whatever the check was."""
    verdict = told(asr("train", *train_words(case.folder, tmp_path / "run")), 3, "1 of 3", "bad.wav", *case.words)
    row_of(verdict, "line 2, bad: ")
    (problem,) = report_of(tmp_path / "run")["train"]["problems"]
    assert (problem["kind"], problem["where"], problem["id"]) == (case.row.kind, f"{case.folder}/train.jsonl:2", "bad")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    skip = {"data__on_bad": "skip", "data__max_bad_fraction": 0.5}
    fine(asr("train", *train_words(case.folder, tmp_path / "run", **skip)))
    assert report_of(tmp_path / "run")["train"]["usable"] == 2


@each(REFUSED)
def test_decoding_a_manifest_gives_it_an_error_and_the_others_their_text(case, asr, run_dir, tmp_path):
    out = tmp_path / "hyp.jsonl"
    outcome = asr("decode", f"model={run_dir}", f"manifest={case.folder / 'train.jsonl'}", f"out={out}", "device=cpu")
    told(outcome, 3, "1 of 3 recordings could not be decoded", f"`error` in {out}")
    shown = row_of(outcome.err, "not decoded: bad: ")
    assert all(word in shown for word in ("bad.wav", *case.words))
    lines = read_lines(out)
    assert [line["id"] for line in lines] == [line["id"] for line in case.lines]
    assert [line["text"] for line in lines] == [case.lines[0]["text"], "", case.lines[2]["text"]]
    assert ["error" in line for line in lines] == [False, True, False]
    assert lines[1]["score"] is None
    assert all(word in lines[1]["error"] for word in ("bad.wav", *case.words))


@each(REFUSED)
def test_decoding_files_leaves_its_text_empty(case, asr, run_dir):
    paths = [str(case.folder / line["audio_filepath"]) for line in case.lines]
    outcome = asr("decode", f"model={run_dir}", *paths)
    told(outcome, 3, "1 of 3 files could not be decoded")
    texts = [case.lines[0]["text"], "", case.lines[2]["text"]]
    assert outcome.out == "".join(f"{path}\t{text}\n" for path, text in zip(paths, texts))
    shown = row_of(outcome.err, f"{case.bad}: ")
    assert all(word in shown for word in case.words)


@each({name: row for name, row in REFUSED.items() if name != "A1" and not row.decoding_finds and row.plant is None})
def test_preparing_a_folder_refuses_it(case, asr, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for line in case.lines:
        path = corpus / Path(line["audio_filepath"]).name
        path.write_bytes((case.folder / line["audio_filepath"]).read_bytes())
        path.with_suffix(".txt").write_text(line["text"])
    words = ["prepare", "folder", "--root", corpus, "--out", tmp_path / "out", "--valid-fraction", "0", "--test-fraction", "0"]
    verdict = told(asr("data", *words), 3, "1 problem (1 " + case.row.kind, "2 utterances usable", "--on-bad skip")
    shown = row_of(verdict, "bad.wav: ")
    assert all(word in shown for word in case.words)
    assert not (tmp_path / "out").exists()
    outcome = fine(asr("data", *words, "--on-bad", "skip"))
    assert "1 left out" in outcome.out
    assert len(read_lines(tmp_path / "out" / "train.jsonl")) == 2


@each({name: row for name, row in USED.items() if not row.train_kind})
def test_training_uses_it_and_counts_what_is_odd(case, asr, tmp_path):
    outcome = fine(asr("train", *train_words(case.folder, tmp_path / "run")))
    report = report_of(tmp_path / "run")["train"]
    assert (report["usable"], report["problems"]) == (3, [])
    assert report["warnings"] == ({case.row.note: 1} if case.row.note else {})
    if case.row.note:
        row_of(outcome.err, f"note: {case.row.note} ")
    (line,) = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert np.isfinite(line["train_loss"])


@each({name: row for name, row in USED.items() if row.train_kind})
def test_training_refuses_what_is_too_short_for_its_text(case, asr, tmp_path):
    verdict = told(asr("train", *train_words(case.folder, tmp_path / "run")), 3, "1 of 3")
    row_of(verdict, "line 2, bad: 27 tokens with 0 repeats need 27 frames, the recording gives ")
    (problem,) = report_of(tmp_path / "run")["train"]["problems"]
    assert problem["kind"] == case.row.train_kind


@each(USED)
def test_decoding_uses_it(case, asr, run_dir, tmp_path):
    out = tmp_path / "hyp.jsonl"
    fine(asr("decode", f"model={run_dir}", f"manifest={case.folder / 'train.jsonl'}", f"out={out}", "device=cpu"))
    lines = read_lines(out)
    assert not any("error" in line for line in lines)
    assert [lines[0]["text"], lines[2]["text"]] == [case.lines[0]["text"], case.lines[2]["text"]]
    assert np.isfinite(lines[1]["score"])
    if case.row.same_text:
        assert lines[1]["text"] == case.lines[1]["text"]
    if case.row.train_kind:
        assert lines[1]["text"] == ""
    outcome = fine(asr("decode", f"model={run_dir}", case.bad))
    assert outcome.out == f"{case.bad}\t{lines[1]['text']}\n"
    assert ("notice: " in outcome.err) == (case.row.note in ("half-sample", "mixed-channels", "upsampled"))


@pytest.mark.parametrize("case", ["A15-two", "A15-eight"], indirect=True)
def test_several_channels_can_be_refused_and_are_never_mixed_in_silence(case, asr, run_dir, tmp_path):
    outcome = asr("train", *train_words(case.folder, tmp_path / "run", data__channels="error"))
    row_of(told(outcome, 3, "1 of 3"), "channels, expected one (data.channels=error)")
    outcome = asr("decode", f"model={run_dir}", "channels=error", case.bad)
    told(outcome, 3, "1 of 1 files")
    row_of(outcome.err, "expected one; set channels=mix or channels=first")
    outcome = fine(asr("train", *train_words(case.folder, tmp_path / "first", data__channels="first")))
    row_of(outcome.err, "note: first-channel ")


@pytest.mark.parametrize("case", ["A16-ulaw", "A16-down", "A16-up"], indirect=True)
def test_another_rate_can_be_refused(case, asr, tmp_path):
    outcome = asr("train", *train_words(case.folder, tmp_path / "run", data__resample="error"))
    rate = soundfile.info(case.bad).samplerate
    if rate == RATE:
        fine(outcome)
    else:
        row_of(told(outcome, 3, "1 of 3"), f"line 2, bad: {rate} Hz, expected {RATE} Hz (data.resample=error)")


@pytest.mark.parametrize("case", ["A22-flac", "A22-mp3"], indirect=True)
def test_a_forged_length_takes_no_memory(case, asr, run_dir):
    asr("decode", f"model={run_dir}", case.folder / case.lines[0]["audio_filepath"])  # what is loaded once does not count
    tracemalloc.start()
    try:
        told(asr("decode", f"model={run_dir}", case.bad), 3, "1 of 1 files")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * 2**20


def test_all_of_them_are_listed_at_once_and_can_be_skipped(speech, asr, tmp_path):
    rows = {name: row for name, row in REFUSED.items() if not row.decoding_finds}
    build(speech, tmp_path / "data", rows)
    words = train_words(tmp_path / "data", tmp_path / "run")
    verdict = told(asr("train", *words), 3, f"{len(rows)} of {len(rows) + 2}")
    problems = report_of(tmp_path / "run")["train"]["problems"]
    assert [problem["id"] for problem in problems] == list(rows)
    assert all(f" {kind} " in verdict for kind in {problem["kind"] for problem in problems})
    told(asr("train", *words, "data.on_bad=skip"), 3, "more than data.max_bad_fraction=0.01 allows to skip")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    fine(asr("train", *words, "data.on_bad=skip", "data.max_bad_fraction=0.95"))
    notes = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["notes"]
    assert notes["training_utterances"] == 2
    assert report_of(tmp_path / "run")["train"]["usable"] == 2


def sparse_wav(path: Path, seconds: float) -> Path:
    """Digital silence that takes no room on the disk."""
    size = 2 * round(seconds * RATE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as handle:
        handle.write(wav_with_sizes(np.zeros(1), 36 + size, size)[:44])
        handle.truncate(44 + size)
    return path


def test_a21_ten_hours_are_prepared_but_not_trained_on(speech, asr, tmp_path):
    lines = small_set(speech, tmp_path / "data")
    sparse_wav(tmp_path / "data" / lines[1]["audio_filepath"], 36000)
    lines[1]["duration"] = 36000.0
    (tmp_path / "data" / "train.jsonl").write_bytes(to_lines(lines))
    verdict = told(asr("train", *train_words(tmp_path / "data", tmp_path / "run")), 3, "1 of 3", "too-long")
    row_of(verdict, "line 2, test-001: 36000 s, above data.max_duration=60")
    skip = {"data__on_bad": "skip", "data__max_bad_fraction": 0.5, "data__check": "full"}
    fine(asr("train", *train_words(tmp_path / "data", tmp_path / "run", **skip)))
    report = report_of(tmp_path / "run")["train"]
    assert (report["usable"], [problem["id"] for problem in report["problems"]]) == (2, ["test-001"])
    (tmp_path / "data" / "audio" / "test-001.txt").write_text("ab")
    for path in (tmp_path / "data" / "audio").glob("*.wav"):
        if path.stem != "test-001":
            path.unlink()
    words = ["--root", tmp_path / "data" / "audio", "--out", tmp_path / "out", "--valid-fraction", "0", "--test-fraction", "0"]
    assert "train           1   10.0" in fine(asr("data", "prepare", "folder", *words)).out


def test_a21_the_memory_of_decoding_does_not_grow_with_the_length(asr, run_dir, tmp_path):
    """Three minutes and twelve, where one minute is heard at once; of ten hours nothing else is asked."""
    peaks = []
    for minutes in (3, 12):
        path = sparse_wav(tmp_path / f"{minutes}.wav", 60 * minutes)
        tracemalloc.start()
        try:
            outcome = fine(asr("decode", f"model={run_dir}", path, "max_seconds=60", "batch_seconds=60"))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert outcome.out.startswith(f"{path}\t")
    assert peaks[1] < peaks[0] + 4e6 < peaks[0] + 9 * 60 * RATE * 4


def unsynchronised(data: bytes) -> bytes:
    """An MP3 in whose middle the headers of some frames are gone."""
    at = data.index(data[:2], len(data) // 2)
    return data[:at] + bytes(1000) + data[at + 1000 :]


@pytest.mark.parametrize("form", ["A27-mp3-sum", "A27-mp3-duration", "A27-wav-sum"])
def test_a_damage_that_decodes_is_found_by_sum_or_duration(speech, asr, tmp_path, form):
    """MP3 and WAV hide a changed byte: `--sha256` keeps the sums of the files, and the full check compares them."""
    corpus, out = tmp_path / "corpus", tmp_path / "data"
    corpus.mkdir()
    for line in read_lines(speech / "test.jsonl")[:3]:
        samples, _ = soundfile.read(speech / line["audio_filepath"])
        data = encoded(np.tile(samples, 3), form="WAV" if "wav" in form else "MP3")
        (corpus / f"{line['id']}.wav").write_bytes(data)
        (corpus / f"{line['id']}.txt").write_text(line["text"])
    words = ["--root", corpus, "--out", out, "--valid-fraction", "0.3", "--test-fraction", "0"]
    fine(asr("data", "prepare", "folder", *words, *(["--sha256"] if "sum" in form else [])))
    bad = out / read_lines(out / "train.jsonl")[1]["audio_filepath"]
    before = soundfile.info(bad).frames
    bad.write_bytes((flipped if "sum" in form else unsynchronised)(bad.read_bytes()))
    assert soundfile.info(bad).frames == before, "the header must not tell"
    outcome = asr("train", *train_words(out, tmp_path / "headers"))
    assert fine(outcome) if "sum" in form else told(outcome, 3, "1 of 2", "cut-file"), "reading it finds what is missing"
    verdict = told(asr("train", *train_words(out, tmp_path / "run", data__check="full")), 3, "1 of 2")
    if "sum" in form:
        shown = row_of(verdict, f"{bad.name}: has sha256 ")
        assert f"the manifest says {read_lines(out / 'train.jsonl')[1]['audio_sha256'][:16]}..." in shown
        assert "it was damaged or replaced; copy or download it again" in shown
    else:
        row_of(verdict, "the header promises")
    kind = "wrong-sha256" if "sum" in form else "cut-file"
    assert report_of(tmp_path / "run")["train"]["counts"] == {kind: 1}


def test_a28_mp3_without_a_length_table(speech, asr, run_dir, tmp_path):
    """The encoder's padding counts, then, but prepare, the full check and decoding agree on how long it is."""
    corpus, out = tmp_path / "corpus", tmp_path / "data"
    corpus.mkdir()
    for line in read_lines(speech / "test.jsonl")[:4]:
        samples, _ = soundfile.read(speech / line["audio_filepath"])
        (corpus / f"{line['id']}.mp3").write_bytes(without_table(samples))
        (corpus / f"{line['id']}.txt").write_text(line["text"])
    fine(asr("data", "prepare", "folder", "--root", corpus, "--out", out, "--valid-fraction", "0.25", "--test-fraction", "0"))
    fine(asr("train", *train_words(out, tmp_path / "run", data__check="full")))
    report = report_of(tmp_path / "run")["train"]
    assert (report["usable"], report["problems"]) == (3, [])
    fine(asr("decode", f"model={run_dir}", *sorted(corpus.glob("*.mp3"))))


@pytest.fixture
def good(speech, tmp_path) -> Path:
    """A data folder of three recordings; the second one is audio/test-001.wav."""
    (tmp_path / "data").mkdir()
    lines = small_set(speech, tmp_path / "data" / "set")
    (tmp_path / "data" / "set" / "train.jsonl").write_bytes(to_lines(lines))
    return tmp_path / "data" / "set"


def test_a26_a_recording_that_may_not_be_read(good, asr, run_dir, monkeypatch, tmp_path):
    """For a superuser, who may read everything, the system call is made to refuse."""
    path = good / "audio" / "test-001.wav"
    path.chmod(0)
    if os.access(path, os.R_OK):
        working = os.open

        def deny(name, *rest, **more):
            if os.fspath(name) == str(path):
                raise PermissionError(errno.EACCES, "denied")
            return working(name, *rest, **more)

        monkeypatch.setattr(os, "open", deny)
    words = ("test-001.wav", "no permission to read it; change its mode or owner")
    verdict = told(asr("train", *train_words(good, tmp_path / "run")), 3, "1 of 3")
    assert all(word in row_of(verdict, "line 2, test-001: ") for word in words)
    outcome = asr("decode", f"model={run_dir}", path)
    told(outcome, 3, "1 of 1 files")
    assert all(word in outcome.err for word in words)


def cut_before_reading(monkeypatch: pytest.MonkeyPatch, module: str, path: Path) -> None:
    """The recording loses its second half between the check and the reading."""
    target = importlib.import_module(module)
    working = target.read_audio
    whole = path.read_bytes()

    def read(name, **options):
        if os.fspath(name) == str(path):
            path.write_bytes(whole[: len(whole) // 2])
        return working(name, **options)

    monkeypatch.setattr(target, "read_audio", read)


def test_a29_a_recording_is_cut_while_it_is_used(good, asr, run_dir, monkeypatch, tmp_path):
    path = good / "audio" / "test-001.wav"
    whole = path.read_bytes()
    with monkeypatch.context() as patch:
        cut_before_reading(patch, "asr.batches.dataset", path)
        told(
            asr("train", *train_words(good, tmp_path / "run")),
            3,
            "test-001.wav",
            "RIFF header promises",
            "copy or download it again",
        )
    (problem,) = report_of(tmp_path / "run")["train"]["problems"]
    assert (problem["kind"], problem["id"]) == ("cut-file", "test-001"), "whole when it was checked, and listed all the same"
    path.write_bytes(whole)
    out = tmp_path / "hyp.jsonl"
    cut_before_reading(monkeypatch, "asr.decoding.recognizer", path)
    outcome = asr("decode", f"model={run_dir}", f"manifest={good / 'train.jsonl'}", f"out={out}", "device=cpu")
    told(outcome, 3, "1 of 3 recordings could not be decoded")
    row_of(outcome.err, "not decoded: test-001: ")
    assert ["error" in line for line in read_lines(out)] == [False, True, False]


@pytest.mark.parametrize(("failures", "survives"), [(3, True), (10**6, False)])
def test_a30_a_share_that_fails_for_a_moment(good, asr, monkeypatch, tmp_path, failures, survives):
    """Three further attempts, then it is a problem of that recording."""
    path = good / "audio" / "test-001.wav"
    working, left = os.open, [failures]

    def flaky(name, *rest, **more):
        if left[0] and os.fspath(name) == str(path):
            left[0] -= 1
            raise OSError(errno.ESTALE, "stale")
        return working(name, *rest, **more)

    monkeypatch.setattr(os, "open", flaky)
    monkeypatch.setattr("asr.data.audio.PAUSES_S", (0.0, 0.0, 0.0))
    outcome = asr("train", *train_words(good, tmp_path / "run"))
    if survives:
        fine(outcome)
        assert left == [0]
    else:
        row_of(told(outcome, 3, "1 of 3", "1 unreadable-file"), "cannot be read (Stale file handle)")
        assert left == [failures - 4]


NAMES = [
    *(
        "two words.wav",
        'it\'s "quoted".wav',
        "line\nbreak.wav",
        "\u00e9.wav",
        "e\u0301 apart.wav",
        "\N{MICROPHONE}.wav",
        "-leading.wav",
    ),
    *("a" * 251 + ".wav", "k=v, {x} #1 $(ls);`id`.wav", os.fsdecode(b"caf\xe9.wav")),
]


def test_a31_any_name(speech, asr, run_dir, tmp_path):
    """Through a manifest that prepare writes, training, decoding it, and decoding the files themselves."""
    corpus, out = tmp_path / "corpus", tmp_path / "data"
    corpus.mkdir()
    source = read_lines(speech / "test.jsonl")[1]
    sound = (speech / source["audio_filepath"]).read_bytes()
    paths = []
    for name in NAMES:
        path = corpus / name
        try:
            path.write_bytes(sound)
        except OSError:
            continue  # this file system takes UTF-8 only
        path.with_suffix(".txt").write_text(source["text"])
        paths.append(path)
    assert len(paths) >= len(NAMES) - 1
    fine(asr("data", "prepare", "folder", "--root", corpus, "--out", out, "--valid-fraction", "0.1", "--test-fraction", "0"))
    lines = read_lines(out / "train.jsonl") + read_lines(out / "valid.jsonl")
    assert len({line["id"] for line in lines}) == len(paths)
    fine(asr("train", *train_words(out, tmp_path / "run")))
    hyp = tmp_path / "hyp.jsonl"
    fine(asr("decode", f"model={run_dir}", f"manifest={out / 'train.jsonl'}", f"out={hyp}", "device=cpu"))
    assert {line["text"] for line in read_lines(hyp)} == {source["text"]}
    outcome = fine(asr("decode", f"model={run_dir}", "--", *paths))
    assert outcome.out.count(f"\t{source['text']}\n") == len(paths) == outcome.out.count("\n")
