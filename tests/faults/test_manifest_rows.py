"""Rows M of the catalogue, faults of manifests and transcripts, through asr-train, asr-decode, asr-score and asr-data."""

import base64
import gzip
import itertools
import json
import os
import re
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import soundfile

from asr.data.manifest import read_manifest, scan_json_lines, write_manifest
from tests.faults.commands import fine, read_lines, small_set, to_lines, told, train_words
from tests.faults.test_audio_rows import report_of, row_of

Lines = list[dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """A fault of a manifest of three recordings, on its second line, and what each command makes of it.

    change: the good lines -> bytes of the manifest. kind: class of the problem in data_report.json; empty: nothing is wrong.
    words: what the line of the table says. part: the manifest that has the fault. place: how the table names it. whole: it is the
    whole file that is named, not a line. options: further words of
    asr-train. decode_words: what asr-decode says; decodes: how the second recording fares there (text, error, refused: no
    recording is decoded). mended: options under which asr-train takes the manifest.
    """

    change: Callable[[Lines], bytes]
    kind: str = ""
    words: tuple[str, ...] = ()
    part: str = "train"
    place: str = "line 2"
    options: tuple[str, ...] = ()
    whole: bool = False
    decodes: str = "text"
    decode_words: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()


def second(**changes: Any) -> Callable[[Lines], bytes]:
    """The second line with other fields; None takes a field away."""

    def change(lines: Lines) -> bytes:
        line = {key: value for key, value in {**lines[1], **changes}.items() if value is not None}
        return to_lines([lines[0], line, lines[2]])

    return change


def raw_second(edit: Callable[[bytes], bytes]) -> Callable[[Lines], bytes]:
    """The second line edited as bytes."""

    def change(lines: Lines) -> bytes:
        first, middle, last = to_lines(lines).splitlines()
        return b"\n".join([first, edit(middle), last]) + b"\n"

    return change


def whole(edit: Callable[[bytes], bytes]) -> Callable[[Lines], bytes]:
    return lambda lines: edit(to_lines(lines))


def later(seconds: float) -> Callable[[Lines], bytes]:
    return lambda lines: second(duration=lines[1]["duration"] + seconds)(lines)


JSON = ("expected one JSON object per line",)
ROWS = {
    "M1-syntax": Row(raw_second(lambda x: x[:-1] + b" extra}"), "bad-json", ("column", *JSON), decodes="refused"),
    "M1-cut": Row(raw_second(lambda x: x[:30]), "bad-json", ("column", "the line is cut"), decodes="refused"),
    "M1-comma": Row(raw_second(lambda x: x[:-1] + b",}"), "bad-json", ("column", "trailing comma"), decodes="refused"),
    "M1-nan": Row(
        raw_second(lambda x: x[:-1] + b', "snr": NaN}'), "bad-json", ("column", "NaN is not a JSON number"), decodes="refused"
    ),
    "M2-bom-crlf": Row(whole(lambda x: b"\xef\xbb\xbf" + x.replace(b"\n", b"\r\n"))),
    "M2-utf16": Row(
        whole(lambda x: x.decode().encode("utf-16")),
        "encoding",
        ("is UTF-16 text: convert it with iconv",),
        place="is UTF-16",
        whole=True,
        decodes="refused",
    ),
    "M2-latin1": Row(
        raw_second(lambda x: x[:-1] + ', "by": "Jürgen"}'.encode("latin-1")),
        "encoding",
        ("byte 0xFC in column", "if it is Latin-1, convert with iconv"),
        decodes="refused",
    ),
    "M2-nul": Row(raw_second(lambda x: x + b"\0\0"), "encoding", ("NUL byte in column", "damaged"), decodes="refused"),
    "M3-same": Row(
        lambda lines: second(id=lines[0]["id"])(lines),
        "duplicate-id",
        ("stands on lines 1 and 2", "give each utterance its own id"),
        decodes="refused",
    ),
    "M3-across": Row(
        lambda lines: second(id="test-001")(lines),
        "duplicate-id",
        ('id "test-001" stands at ', "train.jsonl:2 too"),
        part="valid",
    ),
    "M4-missing": Row(second(duration=None), "bad-field", ("missing field duration",), decodes="refused"),
    "M4-type": Row(
        second(duration="3.2"), "bad-field", ('"duration" must be a number of seconds, got a string "3.2"',), decodes="refused"
    ),
    "M4-several": Row(
        second(id=7, audio_filepath=None),
        "bad-field",
        ("missing field audio_filepath", '"id" must be a string'),
        decodes="refused",
    ),
    "M4-extra": Row(second(snr=12.5, channel="left", nested={"a": [1, 2]})),
    "M6-longer": Row(
        later(0.2),
        "duration-mismatch",
        ("s in the manifest", "s in the recording", "prepare the data again"),
        decodes="error",
        decode_words=("offset + duration is", "the recording ends at"),
    ),
    "M6-shorter": Row(later(-0.2), "duration-mismatch", ("s in the manifest", "s in the recording", "prepare the data again")),
    "M6-tolerated": Row(later(0.04)),
    "M7-negative": Row(second(duration=-1.0), "bad-duration", ("duration is -1 s; expected more than 0",), decodes="error"),
    "M7-zero": Row(second(duration=0), "bad-duration", ("duration is 0 s; expected more than 0",), decodes="error"),
    "M7-offset": Row(second(offset=-0.5), "bad-offset", ("offset is -0.5 s; expected 0 or more",), decodes="error"),
    "M7-beyond": Row(
        second(offset=99.0), "offset-beyond-end", ("offset 99 s lies beyond the end of the recording",), decodes="error"
    ),
    "M7-end": Row(
        second(offset=0.5),
        "segment-beyond-end",
        ("ends at", "the recording at"),
        decodes="error",
        decode_words=("offset + duration is", "the recording ends at"),
    ),
    "M8-empty": Row(second(text=""), "empty-text", ("text is empty after normalisation: ''",)),
    "M8-spaces": Row(second(text="  \t "), "empty-text", ("text is empty after normalisation",)),
    "M8-punctuation": Row(
        second(text="?!"), "empty-text", ("text is empty after normalisation: '?!'",), options=("tokens.map={'?': '', '!': ''}",)
    ),
    "M8-none": Row(second(text=None), "missing-text", ('has no "text"',)),
    "M9": Row(
        second(text="abßß"),
        "unknown-symbol",
        ('"ß" (U+00DF) 2 times in 1 utterances, first in valid-test-001 (',),
        part="valid",
        place="U+00DF",
        mended=("tokens.map={'ß': c}",),
    ),
    "M10": Row(second(text="ab" * 60), "ctc-impossible", ("120 tokens with 0 repeats need 120 frames, the recording gives",)),
    "M10-repeats": Row(
        second(text="aaa" * 15), "ctc-impossible", ("45 tokens with 44 repeats need 89 frames, the recording gives",)
    ),
}
BAD = {name: row for name, row in ROWS.items() if row.kind}


@dataclass(frozen=True)
class Case:
    folder: Path
    row: Row
    lines: Lines

    @property
    def manifest(self) -> Path:
        return self.folder / f"{self.row.part}.jsonl"


@pytest.fixture
def case(request, speech, tmp_path) -> Case:
    row = ROWS[request.param]
    lines = small_set(speech, tmp_path / "data")
    named = {"train": lines, "valid": [{**line, "id": f"valid-{line['id']}"} for line in lines]}
    for part, items in named.items():
        (tmp_path / "data" / f"{part}.jsonl").write_bytes(row.change(items) if part == row.part else to_lines(items))
    return Case(tmp_path / "data", row, lines)


def each(rows: dict[str, Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", list(rows), indirect=True)


@each(BAD)
def test_training_refuses_it_before_the_first_step(case, asr, tmp_path):
    name = case.manifest.name
    verdict = told(asr("train", *train_words(case.folder, tmp_path / "run"), *case.row.options), 3, name)
    shown = row_of(verdict.split("\n", 1)[1], case.row.place)
    for word in (case.row.kind, *case.row.words):
        assert word in verdict
    assert case.row.kind == "unknown-symbol" or all(word in shown for word in case.row.words)
    problems = report_of(tmp_path / "run")[case.row.part]["problems"]
    found = [problem for problem in problems if problem["kind"] == case.row.kind]
    assert len(found) == 1
    assert found[0]["where"] == (str(case.manifest) if case.row.whole else f"{case.manifest}:2")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@each({name: row for name, row in ROWS.items() if not row.kind or row.mended})
def test_training_takes_it(case, asr, tmp_path):
    fine(asr("train", *train_words(case.folder, tmp_path / "run"), *case.row.options, *case.row.mended))
    assert report_of(tmp_path / "run")[case.row.part]["usable"] == 3
    assert read_lines(tmp_path / "run" / "metrics.jsonl")


@each({name: row for name, row in ROWS.items() if row.part == "train"})
def test_decoding_needs_no_transcript_and_loses_no_other_recording(case, asr, run_dir, tmp_path):
    out = tmp_path / "hyp.jsonl"
    outcome = asr("decode", f"model={run_dir}", f"manifest={case.manifest}", f"out={out}", "device=cpu")
    words = case.row.decode_words or case.row.words
    if case.row.decodes == "refused":
        place = f"{case.manifest}: " if case.row.whole else f"{case.manifest}:2: "
        told(outcome, 3, place, *words, alone=True)
        assert not out.exists()
        return
    if case.row.decodes == "text":
        fine(outcome)
    else:
        told(outcome, 3, "1 of 3 recordings could not be decoded")
        shown = row_of(outcome.err, "not decoded: test-001: ")
        assert all(word in shown for word in words)
    lines = read_lines(out)
    assert [line["id"] for line in lines] == [line["id"] for line in case.lines]
    assert ["error" in line for line in lines] == [False, case.row.decodes == "error", False]
    assert [lines[0]["text"], lines[2]["text"]] == [case.lines[0]["text"], case.lines[2]["text"]]
    assert (lines[1]["text"] == "") == (case.row.decodes == "error")


@pytest.mark.parametrize("case", ["M4-extra"], indirect=True)
def test_further_fields_are_kept(case, tmp_path):
    write_manifest(tmp_path / "copy.jsonl", read_manifest(case.manifest))
    line = read_lines(tmp_path / "copy.jsonl")[1]
    assert (line["snr"], line["channel"], line["nested"]) == (12.5, "left", {"a": [1, 2]})


@pytest.mark.parametrize("part", ["train", "valid"])
def test_m5_an_empty_manifest(speech, asr, run_dir, tmp_path, part):
    lines = small_set(speech, tmp_path / "data")
    (tmp_path / "data" / "train.jsonl").write_bytes(to_lines(lines))
    (tmp_path / "data" / f"{part}.jsonl").write_bytes(b"\n")
    told(asr("train", *train_words(tmp_path / "data", tmp_path / "run")), 3, f"{part}.jsonl: 0 utterances; expected at least one")
    assert report_of(tmp_path / "run")[part]["utterances"] == 0
    words = [f"model={run_dir}", f"manifest={tmp_path / 'data' / f'{part}.jsonl'}", f"out={tmp_path / 'hyp.jsonl'}"]
    told(asr("decode", *words), 3, f"{part}.jsonl: is empty", alone=True)


def test_m5_nothing_is_left_of_a_manifest(speech, asr, tmp_path):
    lines = small_set(speech, tmp_path / "data")
    lines[2]["audio_filepath"] = "audio/away.wav"
    (tmp_path / "data" / "train.jsonl").write_bytes(to_lines(lines))
    for policy in ("error", "skip"):
        words = train_words(tmp_path / "data", tmp_path / "run", data__max_duration=0.1, data__on_bad=policy)
        told(asr("train", *words), 3, "train.jsonl: 0 of 3 usable: 3 too-long (data.max_duration=0.1), 1 missing-file")


def test_m5_no_transcript_at_all(speech, asr, tmp_path):
    lines = small_set(speech, tmp_path / "data")
    (tmp_path / "data" / "train.jsonl").write_bytes(to_lines([{**line, "text": None} for line in lines]))
    told(asr("train", *train_words(tmp_path / "data", tmp_path / "run")), 3, "train.jsonl", 'has no "text"')
    assert len(report_of(tmp_path / "run")["train"]["problems"]) == 3


def test_m7_a_segment_that_ends_before_it_starts(speech, asr, tmp_path):
    """Only Kaldi folders can say so: a manifest has no end."""
    lines = small_set(speech, tmp_path / "data")
    for name, value in (
        ("wav.scp", "".join(f"r{i} {tmp_path / 'data' / line['audio_filepath']}\n" for i, line in enumerate(lines))),
        ("text", "".join(f"u{i} {line['text']}\n" for i, line in enumerate(lines))),
        ("segments", "u0 r0 0 0.2\nu1 r1 0.3 0.1\nu2 r2 9 10\n"),
    ):
        (tmp_path / "data" / name).write_text(value)
    words = ["prepare", "kaldi", "--root", tmp_path / "data", "--out", tmp_path / "out", "--valid-fraction", "0"]
    verdict = told(asr("data", *words, "--test-fraction", "0"), 3, "2 problems")
    assert "segments:2: expected 0 <= start < end, got 0.3 and 0.1 s" in verdict
    assert "segments:3: segment 9 to 10 s lies outside" in verdict


@pytest.mark.parametrize("text", ["", "   ", "?!"])
def test_m8_scoring_takes_an_empty_text(asr, tmp_path, text):
    (tmp_path / "ref.jsonl").write_bytes(to_lines([{"id": "a", "text": text}, {"id": "b", "text": "eins zwei"}]))
    (tmp_path / "hyp.jsonl").write_bytes(to_lines([{"id": "a", "text": text}, {"id": "b", "text": "eins"}]))
    words = [f"ref={tmp_path / 'ref.jsonl'}", f"hyp={tmp_path / 'hyp.jsonl'}", "unit=word", f"out={tmp_path / 'score'}"]
    fine(asr("score", *words))
    score = json.loads((tmp_path / "score" / "score.json").read_text())
    tokens = 2 + (text == "?!")
    assert (score["reference_tokens"], score["deletions"], score["error_rate"]) == (tokens, 1, 1 / tokens)


def test_m10_the_limit_is_exact(speech, asr, tmp_path):
    """As many frames as tokens and repeats need is enough, one less is not, and the fastest speed counts."""
    lines = small_set(speech, tmp_path / "data")
    manifest = tmp_path / "data" / "train.jsonl"
    words = train_words(tmp_path / "data", tmp_path / "run")

    def give(text: str) -> None:
        manifest.write_bytes(to_lines([lines[0], {**lines[1], "text": text}, lines[2]]))

    give("ab" * 99)
    verdict = told(asr("train", *words), 3)
    frames = int(verdict.split("the recording gives ")[1].split()[0])
    assert 20 < frames < 99
    fits = "aab" * (frames // 4) + "a" * (frames % 4 > 0)  # four frames for each aab
    assert len(fits) + fits.count("aa") == 4 * (frames // 4) + (frames % 4 > 0)
    fits += "bcb"[: frames - len(fits) - fits.count("aa")]
    give(fits + "c")
    told(asr("train", *words), 3, f"need {frames + 1} frames, the recording gives {frames}")
    give(fits)
    fast = tmp_path / "fast"
    told(
        asr("train", *train_words(tmp_path / "data", fast, augment__speed="[1.0,1.1]")),
        3,
        f"need {frames} frames",
        "at speed 1.1",
    )
    fine(asr("train", *words))


def small_data(speech: Path, folder: Path, *, train: list[str], valid: list[str]) -> Path:
    """A data folder whose recordings have these texts."""
    lines = small_set(speech, folder)
    for part, texts in (("train", train), ("valid", valid)):
        items = [{**line, "id": f"{part}-{line['id']}", "text": text} for line, text in zip(lines, texts)]
        (folder / f"{part}.jsonl").write_bytes(to_lines(items))
    return folder


@pytest.mark.parametrize(
    ("train", "valid", "options", "symbols", "changed"),
    [
        (
            ["n\u00e9", "ne\u0301", "en"],
            ["ne\u0301", "n\u200b\u00e9", "\u200fn\u00ade\u0301"],
            (),
            {"e", "n", "\u00e9"},
            {"text-unicode": 2, "text-invisible": 2},
        ),
        (
            ["a1", "1a"],
            ["\uff41\uff11", "a\ufeff1"],
            ("tokens.unicode=NFKC",),
            {"a", "1"},
            {"text-unicode": 1, "text-invisible": 1},
        ),
        (["a1", "1a"], ["\uff41\uff11", "a1"], ("tokens.unicode=folded",), {"a", "1"}, {"text-unicode": 1}),
        (["a1", "1a"], ["a\u0661", "\u200fa1"], ("tokens.digits=ascii",), {"a", "1"}, {"text-digits": 1, "text-invisible": 1}),
        (["it's", "st"], ["it\u2019s"], ('tokens.map={\u2019: "\'"}',), {"i", "t", "'", "s"}, {"text-map": 1}),
        (["it's", "st"], ["\u201cit\u2019s\u201d!"], ("tokens.punctuation=drop",), {"i", "t", "'", "s"}, {"text-punctuation": 1}),
        (["it", "ti"], ["IT", " ti"], ("tokens.case=lower",), {"i", "t"}, {"text-case": 1, "text-spaces": 1}),
    ],
)
def test_m11_however_a_text_is_composed(speech, asr, tmp_path, train, valid, options, symbols, changed):
    """Composed and decomposed letters, invisible marks, wide digits and curly quotes are the same symbols, as declared; how many
    transcripts each rule changes is said.
    """
    data = small_data(speech, tmp_path / "data", train=train, valid=valid)
    outcome = fine(asr("train", *train_words(data, tmp_path / "run"), *options))
    notes = {kind: count for kind, count in report_of(tmp_path / "run")["valid"]["warnings"].items() if kind.startswith("text-")}
    assert notes == changed
    for kind, count in changed.items():
        assert re.search(rf"note: {kind} +{count} +the transcript", outcome.err)
    written = (tmp_path / "run" / "model" / "tokens.txt").read_text(encoding="utf-8").splitlines()
    assert {line.rpartition(" ")[0] for line in written[1:]} == symbols
    assert report_of(tmp_path / "run")["valid"]["usable"] == len(valid)


def test_m11_without_the_declaration_they_differ(speech, asr, tmp_path):
    data = small_data(speech, tmp_path / "data", train=["it's", "st"], valid=["it's", "it\u2019s"])
    verdict = told(asr("train", *train_words(data, tmp_path / "run")), 3, "valid.jsonl", "tokens.map")
    row_of(verdict, "U+2019")


@pytest.mark.parametrize("name", ["<blank>", "<unk>", "<s>", "</s>"])
@pytest.mark.parametrize("part", ["train", "valid"])
def test_m12_names_the_toolkit_keeps_for_itself(speech, asr, tmp_path, name, part):
    texts = {"train": ["ab", "ba"], "valid": ["ab"]}
    texts[part] = [f"a {name} b", *texts[part][1:]]
    data = small_data(speech, tmp_path / "data", **texts)
    words = train_words(data, tmp_path / "run")
    told(asr("train", *words), 3, name)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    fine(asr("train", *words, f"tokens.map={{'{name}': '', ' ': ''}}"))


def test_m13_a_line_of_fifty_megabytes(speech, asr, tmp_path):
    lines = small_set(speech, tmp_path / "data")
    manifest = tmp_path / "data" / "train.jsonl"
    long = to_lines([{**lines[1], "text": "a" * 50_000_000}])
    manifest.write_bytes(to_lines(lines[:1]) + long + to_lines(lines[2:]))
    tracemalloc.start()
    try:
        verdict = told(asr("train", *train_words(tmp_path / "data", tmp_path / "run")), 3, "1 of 3")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    row_of(verdict, "the line is longer than 4 MiB; expected one utterance per line")
    assert peak < 30 * 2**20


def test_m13_many_lines_are_read_one_by_one(tmp_path):
    """What a line costs, in memory and in time, does not grow with their number. (Ten million: the same, for a minute.)"""
    peaks, costs = [], []
    for count in (2_000, 100_000):
        path = tmp_path / f"{count}.jsonl"
        line = b'{"id": "u%d", "audio_filepath": "audio/a.wav", "duration": 1.5, "text": "a bad cab"}\n'
        path.write_bytes(b"".join(line % number for number in range(count)))
        began = time.process_time()
        assert sum(isinstance(item, dict) for _, item in scan_json_lines(path)) == count
        costs.append((time.process_time() - began) / count)
        tracemalloc.start()
        try:
            for _ in itertools.islice(scan_json_lines(path), min(count, 40_000)):
                pass
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0] + 2**16
    assert costs[1] < 5 * costs[0]


def test_m14_paths_belong_to_the_manifest(speech, asr, run_dir, tmp_path, monkeypatch):
    """From any working folder, with relative names of everything that a command reads and writes, prepared from a third one."""
    lines = small_set(speech, tmp_path / "data")
    (tmp_path / "data" / "train.jsonl").write_bytes(to_lines(lines))
    assert not Path(lines[0]["audio_filepath"]).is_absolute()
    for name in ("elsewhere", "third/deeper"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    fine(asr("train", *train_words(Path("..") / "data", Path("run"))))
    assert (tmp_path / "elsewhere" / "run" / "model").is_dir()
    fine(asr("decode", f"model={run_dir}", "manifest=../data/train.jsonl", "out=hyp.jsonl"))
    assert len(read_lines(tmp_path / "elsewhere" / "hyp.jsonl")) == 3
    monkeypatch.chdir(tmp_path / "third" / "deeper")
    words = ["--root", "../../data/train.jsonl", "--out", "../out", "--valid-fraction", "0.4", "--test-fraction", "0"]
    fine(asr("data", "prepare", "nemo", *words))
    monkeypatch.chdir(tmp_path)
    fine(asr("train", *train_words(Path("third") / "out", Path("again"))))
    assert report_of(tmp_path / "again")["train"]["usable"] == 2
    fine(asr("decode", "model=again", "manifest=third/out/train.jsonl", "out=again/hyp.jsonl"))
    assert not any("error" in line for line in read_lines(tmp_path / "again" / "hyp.jsonl"))


def test_m14_no_command_changes_the_working_folder(speech, asr, tmp_path):
    """Hydra's own switch for that is refused instead of being ignored."""
    lines = small_set(speech, tmp_path / "data")
    (tmp_path / "data" / "train.jsonl").write_bytes(to_lines(lines))
    before = os.getcwd()
    told(
        asr("train", *train_words(tmp_path / "data", tmp_path / "run"), "hydra.job.chdir=true"), 2, "hydra.job.chdir", alone=True
    )
    assert os.getcwd() == before


def test_m15_commands_are_not_run(speech, asr, run_dir, tmp_path):
    """Neither in wav.scp nor in a manifest, whatever is to be skipped."""
    lines = small_set(speech, tmp_path / "data")
    canary = tmp_path / "canary"
    command = f"touch {canary} |"
    (tmp_path / "data" / "train.jsonl").write_bytes(to_lines([lines[0], {**lines[1], "audio_filepath": command}, lines[2]]))
    told(asr("train", *train_words(tmp_path / "data", tmp_path / "run")), 3, "1 of 3", "missing-file", command)
    told(
        asr("decode", f"model={run_dir}", f"manifest={tmp_path / 'data' / 'train.jsonl'}", f"out={tmp_path / 'hyp'}"), 3, "1 of 3"
    )
    for name, value in (("wav.scp", f"u0 {command}\n"), ("text", "u0 a\n")):
        (tmp_path / "data" / name).write_text(value)
    words = ["prepare", "kaldi", "--root", tmp_path / "data", "--out", tmp_path / "out"]
    for policy in ("error", "skip"):
        told(asr("data", *words, "--on-bad", policy), 3, "wav.scp:1: commands are not run", "sph2pipe -f wav IN OUT.wav")
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["cuts", "recordings", "nemo"])
def test_m15_commands_in_the_manifests_of_others(asr, tmp_path, kind):
    """lhotse's sources of the type command, and a bar at the end of a path; nothing is written, whatever is to be skipped."""
    canary = tmp_path / "canary"
    source = {"type": "command", "channels": [0], "source": f"touch {canary} |"}
    recording = {"id": "r", "sources": [source], "sampling_rate": 8000, "num_samples": 8000, "duration": 1.0}
    said = {"id": "s", "recording_id": "r", "start": 0.0, "duration": 1.0, "channel": 0, "text": "ab"}
    cut = {"id": "c", "start": 0.0, "duration": 1.0, "channel": 0, "supervisions": [said], "recording": recording}
    files = {
        "cuts": {"my_cuts.jsonl": {**cut, "type": "MonoCut"}},
        "recordings": {"my_recordings.jsonl": recording, "my_supervisions.jsonl": said},
        "nemo": {"manifest.json": {"audio_filepath": source["source"], "duration": 1.0, "text": "ab"}},
    }[kind]
    (tmp_path / "in").mkdir()
    for name, item in files.items():
        (tmp_path / "in" / name).write_bytes(to_lines([item]))
    corpus = "nemo" if kind == "nemo" else "lhotse"
    for policy in ("error", "skip"):
        words = ["prepare", corpus, "--root", tmp_path / "in", "--out", tmp_path / "out", "--on-bad", policy]
        told(asr("data", *words), 3, f"{next(iter(files))}:1: commands are not run: 'touch /")
    assert not canary.exists()
    assert not list(tmp_path.glob("out/*.jsonl"))


def test_m16_what_train_and_valid_share_is_counted(speech, asr, tmp_path):
    """The same file twice, and its samples under another name, in another container."""
    lines = small_set(speech, tmp_path / "data")
    (tmp_path / "data" / "train.jsonl").write_bytes(to_lines(lines))
    samples, rate = soundfile.read(tmp_path / "data" / lines[1]["audio_filepath"], dtype="int16")
    soundfile.write(tmp_path / "data" / "audio" / "copy.flac", samples, rate)
    shared = [{**line, "id": f"valid-{line['id']}"} for line in lines]
    shared[1]["audio_filepath"] = "audio/copy.flac"
    shared[2]["audio_filepath"], other = read_lines(speech / "valid.jsonl")[0]["audio_filepath"], shared[2]["audio_filepath"]
    shared[2]["duration"] = read_lines(speech / "valid.jsonl")[0]["duration"]
    assert shared[2]["audio_filepath"] != other
    (tmp_path / "data" / "valid.jsonl").write_bytes(to_lines(shared))
    outcome = fine(asr("train", *train_words(tmp_path / "data", tmp_path / "run")))
    speakers = len({line["speaker"] for line in shared})
    assert report_of(tmp_path / "run")["valid"]["warnings"] == {"shared-speakers": speakers, "shared-recordings": 2}
    row_of(outcome.err, "recordings stand in more than one part: the error rate on them flatters")
    row_of(outcome.err, "speakers stand in more than one part: the error rate on them flatters")


def test_m16_what_train_and_test_share_is_told_when_a_corpus_is_prepared(speech, asr, tmp_path):
    small_set(speech, tmp_path / "data")
    source = sorted((tmp_path / "data" / "audio").iterdir())
    for place, recording in (("train/ann/a", 0), ("train/ann/b", 1), ("test/ann/c", 1), ("test/ben/d", 2)):
        path = tmp_path / "corpus" / f"{place}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source[recording].read_bytes())
        path.with_suffix(".txt").write_text("ab")
    words = ["prepare", "folder", "--root", tmp_path / "corpus", "--out", tmp_path / "out", "--valid-fraction", "0"]
    printed = fine(asr("data", *words)).out
    assert "Note: 1 of the 2 speakers of test also speak in train." in printed
    assert "Note: 1 recordings of test stand in train, too, which flatters error rates: test/ann/c." in printed
    notes = json.loads((tmp_path / "out" / "prepare.json").read_text())["notes"]
    assert len(notes) == 2


#: `zstd -19 --check` of one line, `{"id": "a", "audio_filepath": "a.wav", "duration": 1.0, "text": "ab"}`.
ZSTD = base64.b64decode(
    "KLUv/QRoDQIAwoMNEpDPAWNgvIQuBtT/nGLvyW6dSyAfzavmOwxBuvzBNo+k6R1ejxVsnqhcWwa2RM87/LzLUzsOAgAVJW695hjKxEDp"
)


@pytest.mark.parametrize("form", ["gzip", "gzip-cut", "gzip-damaged", "zstd", "zstd-cut"])
def test_m17_packed_manifests(speech, asr, run_dir, tmp_path, form):
    """gzip is read; one that was cut is told with the byte at which it ends, and never skipped. zstd is to be unpacked first."""
    lines = small_set(speech, tmp_path / "data")
    manifest = tmp_path / "data" / "train.jsonl"
    whole = ZSTD if form.startswith("zstd") else gzip.compress(to_lines(lines), mtime=0)
    at = len(whole) - 10 if form == "gzip-damaged" else len(whole) // 2
    manifest.write_bytes(
        {"cut": whole[:at], "damaged": whole[:-8] + bytes(8)}.get(form.partition("-")[2], whole),
    )
    words = {
        "gzip-cut": ("cut-manifest", f"was cut: the gzip stream breaks off at byte {at:,}, before the first line is complete"),
        "gzip-damaged": ("cut-manifest", f"is damaged: the gzip stream is wrong before byte {len(whole):,}", "after line 3"),
        "zstd": ("packed", "is zstd-compressed: unpack it with unzstd"),
        "zstd-cut": ("packed", f"was cut or damaged: the zstd stream breaks off at byte {at:,}; copy it again"),
    }.get(form, ())
    decode = ["decode", f"model={run_dir}", f"manifest={manifest}", f"out={tmp_path / 'hyp.jsonl'}"]
    if not words:
        fine(asr("train", *train_words(tmp_path / "data", tmp_path / "run")))
        fine(asr(*decode))
        assert [line["id"] for line in read_lines(tmp_path / "hyp.jsonl")] == [line["id"] for line in lines]
        return
    for policy in ("error", "skip"):
        run = train_words(tmp_path / "data", tmp_path / "run", data__on_bad=policy, data__max_bad_fraction=1)
        told(asr("train", *run), 3, "train.jsonl", *words)
    told(asr(*decode), 3, f"{manifest}: ", *words[1:], alone=True)


def test_m18_a_manifest_that_changed_since_the_checkpoint(speech, asr, tmp_path):
    lines = small_set(speech, tmp_path / "data")
    manifest = tmp_path / "data" / "train.jsonl"
    manifest.write_bytes(to_lines(lines))
    fine(asr("train", *train_words(tmp_path / "data", tmp_path / "run")))
    manifest.write_bytes(to_lines([*lines[:2], {**lines[2], "text": "abc"}]))
    told(asr("train", *train_words(tmp_path / "data", tmp_path / "run", training__epochs=1)), 2, "train.jsonl")
    manifest.write_bytes(to_lines(lines))
    assert "already complete" in fine(asr("train", *train_words(tmp_path / "data", tmp_path / "run"))).err


def test_m19_a_kaldi_folder_with_everything_wrong(speech, asr, tmp_path):
    lines = small_set(speech, tmp_path / "data")
    paths = [tmp_path / "data" / line["audio_filepath"] for line in lines]
    for name, value in (
        ("wav.scp", f"r2 {paths[2]}\nr0 {paths[0]}\nr1 ~/audio.wav\nr3 {paths[1]}\nr3 {paths[1]}\n"),
        ("text", "u0 ab\nu1 ba\nu2 bb\nu4 b\n"),
        ("utt2spk", "u0 s0\nu1 s1\nu2 s2\n"),
        ("segments", "u0 r0 0 0.2\nu1 r1 0 0.1\nu2 r2 0.3 0.3\nu3 r9 0 0.1\nu5 r0 x y\n"),
    ):
        (tmp_path / "data" / name).write_text(value)
    outcome = asr("data", "prepare", "kaldi", "--root", tmp_path / "data", "--out", tmp_path / "out")
    verdict = told(outcome, 3, "1 utterances usable")
    for place, fault in (
        ("wav.scp:3", "starts with ~, which only a shell expands"),
        ("wav.scp:5", "r3 already stands on line 4"),
        ("segments:3", "expected 0 <= start < end, got 0.3 and 0.3 s"),
        ("segments:4", "its recording r9 does not stand in wav.scp"),
        ("segments:5", "expected UTTERANCE RECORDING START END"),
        ("text:4", "u4 does not stand in segments"),
        ("wav.scp:4", "recording r3 has no line in segments"),
    ):
        assert any(f"{place}: " in line and fault in line for line in verdict.splitlines()), f"{place} {fault}"
    assert "wav.scp:2: not in Kaldi's sorted order, which does not matter here" in verdict


def test_m20_a_table_with_stray_quotes_and_tabs(speech, asr, tmp_path):
    lines = small_set(speech, tmp_path / "data")
    table = tmp_path / "data" / "table.tsv"
    rows = [f"{line['audio_filepath']}\t{text}" for line, text in zip(lines, ('a "b" c', '"a\tb"', "a\tb"))]
    table.write_text("\n".join(["path\ttext", *rows, f'{lines[0]["audio_filepath"]}\t"open']) + "\n")
    words = ["prepare", "csv", "--root", table, "--out", tmp_path / "out", "--path-column", "path", "--text-column", "text"]
    verdict = told(asr("data", *words, "--valid-fraction", "0", "--test-fraction", "0"), 3, "2 problems (2 bad-row)")
    assert "table.tsv:4: 3 cells, the header has 2 (a tab between them)" in verdict
    assert "table.tsv:5: the quotation marks do not match" in verdict
