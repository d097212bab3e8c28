"""The check of a manifest: every problem at once (rows A1, A3, A15, A16, A20, M3, M5-M10, M16), and what happens to them."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.data.check import CheckOptions, DataReport, check_utterances, cross_check, refuse_or_skip, target_text
from asr.data.manifest import Problem, Utterance, scan_manifest, write_manifest
from asr.errors import DataError, UsageError
from asr.text.tokenizer import Tokenizer, TokenOptions

RATE = 16000
TOKENIZER = Tokenizer.build(["abcdefgh "], TokenOptions())


def frames_of(samples: int) -> int:
    """Ten emission frames per second."""
    return samples // 1600


@pytest.fixture
def say(tmp_path) -> Callable[..., Utterance]:
    """Makes a recording of noise and the utterance for it."""
    rng = np.random.default_rng(0)

    def make(
        name: str, seconds: float = 1.0, text: str | None = "abc", *, rate: int = RATE, channels: int = 1, **fields
    ) -> Utterance:
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal((round(seconds * rate), channels)), rate)
        make.line += 1
        return Utterance(name, str(path), seconds, text=text, line=make.line, **fields)

    make.line = 0
    return make


def check(utterances, *, options: CheckOptions | None = None, **changes) -> DataReport:
    how = {
        "options": options or CheckOptions(),
        "sample_rate": RATE,
        "unit": "characters",
        "encode": TOKENIZER.encode,
        "unknown": TOKENIZER.unknown_symbols,
        "frames_of": frames_of,
    }
    return check_utterances(utterances, **{**how, **changes})


def found(report: DataReport) -> list[tuple[str | None, str]]:
    return [(problem.id, problem.kind) for problem in report.problems]


def only(report: DataReport, kind: str, *words: str) -> str:
    """The message of the one problem there is."""
    assert [problem.kind for problem in report.problems] == [kind]
    for word in words:
        assert word in report.problems[0].message
    return report.problems[0].message


def test_nothing_wrong(say):
    utterances = [say("a"), say("b", 2.0)]
    report = check(utterances)
    assert report.usable == utterances
    assert (report.problems, report.warnings, report.utterances, report.unusable) == ([], {}, 2, 0)
    assert report.hours == pytest.approx(3 / 3600)
    assert refuse_or_skip(report, CheckOptions()) == utterances


def test_all_problems_of_all_utterances_are_found_at_once(say, tmp_path):
    cut, empty = say("cut"), say("empty")
    Path(cut.audio_filepath).write_bytes(Path(cut.audio_filepath).read_bytes()[:1000])
    Path(empty.audio_filepath).write_bytes(b"")
    utterances = [
        say("good"),
        replace(say("missing"), audio_filepath=str(tmp_path / "none.wav")),
        cut,
        empty,
        replace(say("longer"), duration=1.2),
        replace(say("both", text="xyz"), duration=-1.0),
        say("dense", text="abcdefghabc"),
    ]
    report = check(utterances, problems=[Problem("bad-json", "train.jsonl:9", "column 1")])
    assert found(report) == [
        (None, "bad-json"),
        ("missing", "missing-file"),
        ("cut", "cut-file"),
        ("empty", "empty-file"),
        ("longer", "duration-mismatch"),
        ("both", "bad-duration"),
        ("both", "unknown-symbol"),
        ("dense", "ctc-impossible"),
    ]
    assert [one.id for one in report.usable] == ["good"]
    assert (report.utterances, report.unusable) == (8, 7)
    document = json.loads(json.dumps(report.to_dict()))
    assert document["counts"]["unknown-symbol"] == 1
    assert len(document["problems"]) == 8
    assert document["problems"][1] == {
        "kind": "missing-file",
        "where": f"train.jsonl:{utterances[1].line}",
        "id": "missing",
        "message": f"{tmp_path}/none.wav: no such file; put the recording there, or correct the path",
    }
    assert (document["utterances"], document["usable"], document["longest_s"]) == (8, 1, 1.0)


def test_a01_missing_files_are_grouped_with_the_folder_they_share(say, tmp_path):
    gone = [replace(say(f"u{index}"), audio_filepath=str(tmp_path / "gone" / "x" / f"{index}.wav")) for index in range(12)]
    table = check(gone, where="prepared/train.jsonl").table().splitlines()
    assert table[0] == "prepared/train.jsonl: 12 utterances, 0 usable (0.00 h)"
    assert table[1].split()[:5] == ["missing-file", "12", "line", "1,", "u0:"]
    assert table[4].strip() == f"... and 9 more, all below {tmp_path}/gone/x: is that folder in place?"
    assert len(table) == 5


def test_a15_a16_channels_and_rates_follow_the_options_and_are_counted(say):
    utterances = [say("stereo", channels=2), say("low", rate=8000), say("high", rate=44100), say("plain")]
    report = check(utterances)
    assert report.warnings == {"mixed-channels": 1, "upsampled": 1, "resampled": 1}
    assert len(report.usable) == 4
    assert "note: upsampled" in report.table()
    assert check(utterances, options=CheckOptions(channels="first")).warnings["first-channel"] == 1
    strict = check(utterances, options=CheckOptions(channels="error", resample="error"))
    assert found(strict) == [("stereo", "channels"), ("low", "sample-rate"), ("high", "sample-rate")]


def test_a20_an_utterance_shorter_than_a_frame_is_named_by_the_ctc_rule(say):
    only(check([say("short", 200 / RATE, "a")]), "ctc-impossible", "need 1 frames, the recording gives 0")


def test_a21_too_long_and_too_short(say):
    report = check([say("a", 1.0), say("b", 3.0), say("c", 2.0)], options=CheckOptions(min_duration=1.5, max_duration=2.5))
    assert found(report) == [("a", "too-short"), ("b", "too-long")]
    assert "1 s, below data.min_duration=1.5" in report.table()


def test_m03_duplicate_ids_name_both_places(say):
    only(check([say("a"), replace(say("b"), id="a")]), "duplicate-id", 'id "a" stands at train.jsonl:1 too')
    report = check([replace(say("c"), line=0), replace(say("d"), id="c", line=0)])
    assert [one.kind for one in report.problems] == ["duplicate-id"]


def test_m03_m16_duplicates_and_speakers_across_parts(say):
    train = check([say("a", speaker="s"), say("b", speaker="t")], where="train.jsonl")
    again = replace(train.usable[1], id="e")
    valid = check([replace(say("c"), id="a", line=1, speaker="s"), say("d", speaker="u"), again], where="valid.jsonl")
    assert not valid.problems
    reports = cross_check({"train": train, "valid": valid})
    assert reports["train"] == train
    assert reports["valid"].problems == [
        Problem("duplicate-id", "valid.jsonl:1", 'id "a" stands at train.jsonl:1 too; give each utterance its own id', id="a")
    ]
    assert [one.id for one in reports["valid"].usable] == ["d", "e"]
    assert reports["valid"].warnings == {"shared-speakers": 2, "shared-recordings": 1}
    assert "note: shared-speakers" in reports["valid"].table()


def test_m05_nothing_left_says_why(say, tmp_path):
    utterances = [say(f"u{index}", 2.0) for index in range(3)]
    utterances.append(replace(say("gone"), audio_filepath=str(tmp_path / "none.wav")))
    options = CheckOptions(on_bad="skip", max_bad_fraction=1.0, max_duration=1.5)
    with pytest.raises(DataError, match=r"0 of 4 usable: 3 too-long \(data.max_duration=1.5\), 1 missing-file") as caught:
        refuse_or_skip(check(utterances, options=options), options)
    assert caught.value.exit_code == 3
    with pytest.raises(DataError, match=r"train.jsonl: 0 utterances"):
        refuse_or_skip(check([]), options)


@pytest.mark.parametrize(
    ("stated", "fault"), [(1.04, None), (0.96, None), (1.06, "1.060 s in the manifest, 1.000 s"), (0.94, "0.940 s in")]
)
def test_m06_durations_may_differ_by_50_ms(say, stated, fault):
    report = check([replace(say("a"), duration=stated)])
    if fault is None:
        assert not report.problems
    else:
        only(report, "duration-mismatch", fault, "in the recording")


@pytest.mark.parametrize(("whole", "fault"), [(1.04, None), (1.06, "a piece of 1.060 s in the manifest, 1.000 s in")])
@pytest.mark.parametrize("offset", [0.0, 0.25])
def test_m06_a_piece_is_compared_by_its_recording(say, whole, fault, offset):
    """A piece from the start on, alone of its recording, is told from a wrong duration by what the manifest says of the whole."""
    piece = replace(say("a"), offset=offset, duration=0.5, extra={"recording_duration": whole})
    report = check([piece])
    if fault is None:
        assert not report.problems
    else:
        only(report, "duration-mismatch", fault)
    without = check([replace(piece, extra={})])
    assert bool(without.problems) == (offset == 0)


@pytest.mark.parametrize(
    ("offset", "duration", "kind"),
    [
        (0.0, 0.0, "bad-duration"),
        (0.0, -1.0, "bad-duration"),
        (-0.5, 0.5, "bad-offset"),
        (1.0, 0.5, "offset-beyond-end"),
        (0.5, 0.6, "segment-beyond-end"),
        (0.5, 0.54, None),
    ],
)
def test_m07_pieces_outside_the_recording(say, offset, duration, kind):
    report = check([replace(say("a"), offset=offset, duration=duration)])
    assert [problem.kind for problem in report.problems] == ([kind] if kind else [])


def test_m07_the_first_of_several_segments_is_no_wrong_duration(say):
    whole = say("a", 2.0)
    assert not check([replace(whole, duration=0.5), replace(whole, id="b", offset=0.5, duration=1.5)]).problems


@pytest.mark.parametrize(("text", "kind"), [("", "empty-text"), (" \t ", "empty-text"), (None, "missing-text")])
def test_m08_no_text(say, text, kind):
    only(check([say("a", text=text)]), kind)
    assert not check([say("b", text=text)], encode=None).problems


def test_m08_punctuation_only_after_normalisation(say):
    tokenizer = Tokenizer.build(["a"], TokenOptions(map={"?": ""}))
    report = check([say("a", text="??")], encode=tokenizer.encode, unknown=tokenizer.unknown_symbols)
    only(report, "empty-text", "'??'")


def test_m08_the_unit_decides_which_field_is_needed(say):
    utterance = say("a", text="a", phones="b b")
    assert (target_text(utterance, "characters"), target_text(utterance, "phones")) == ("a", "b b")
    only(check([replace(utterance, phones=None)], unit="phones"), "missing-text", 'has no "phones"; training on phones needs it')


def test_m09_unknown_symbols_with_counts_and_first_utterance(say):
    report = check([say("a", text="ab"), say("b", text="añ?"), say("c", text="ñañ?")])
    assert [(one.symbol, one.count, one.utterances, one.first, one.where) for one in report.unknown_symbols] == [
        ("ñ", 3, 2, "b", "train.jsonl:2"),
        ("?", 2, 2, "b", "train.jsonl:2"),
    ]
    assert report.counts == {"unknown-symbol": 2}
    table = report.table()
    assert '"ñ" (U+00F1) 3 times in 2 utterances, first in b (train.jsonl:2)' in table
    assert '"?" 2 times in 2 utterances, first in b' in table
    for on_bad in ("error", "skip"):
        with pytest.raises(DataError, match=r"must be mended: unknown-symbol .*tokens.map"):
            refuse_or_skip(report, CheckOptions(on_bad=on_bad, max_bad_fraction=1.0))


def test_m10_ctc_counts_repeats_and_the_fastest_speed(say):
    """Ten frames a second: ten tokens fit into one second, but no repeat among them, and no faster speech."""
    assert not check([say("fits", text="abcdefghab")]).problems
    only(
        check([say("repeat", text="abcdefghaa")]),
        "ctc-impossible",
        "10 tokens with 1 repeats need 11 frames, the recording gives 10",
    )
    only(check([say("fast", text="abcdefghab")], fastest=1.1), "ctc-impossible", "the recording gives 9 at speed 1.1")


def test_m10_the_frames_are_those_of_the_resampled_recording(say):
    seen = []
    check([say("a", 0.5, "a", rate=44100), replace(say("b", 0.5, "a"), duration=0.54)], frames_of=lambda n: seen.append(n) or 9)
    assert seen == [8000, 8000]


def test_check_full_decodes(say, tmp_path):
    flac = tmp_path / "x.flac"
    soundfile.write(flac, 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
    data = bytearray(flac.read_bytes())
    data[len(data) // 2] ^= 1
    flac.write_bytes(data)
    loud = say("loud")
    soundfile.write(loud.audio_filepath, np.full(RATE, 1e5), RATE, subtype="FLOAT")
    utterances = [replace(say("flipped"), audio_filepath=str(flac)), loud, say("good")]
    assert not check(utterances).problems
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check(utterances, options=CheckOptions(check="full"))
    assert found(report) == [("flipped", "damaged"), ("loud", "full-scale")]


def test_on_bad(say, tmp_path):
    utterances = [say(f"u{index}", 0.1, "a") for index in range(9)]
    utterances.insert(3, replace(say("gone"), audio_filepath=str(tmp_path / "none.wav")))
    report = check(utterances)
    with pytest.raises(DataError, match=r"1 of 10 utterances cannot be used \(1 missing-file\).*data.on_bad=skip") as caught:
        refuse_or_skip(report, CheckOptions())
    assert report.table() in str(caught.value)
    with pytest.raises(DataError, match=r"that is 10.0%, more than data.max_bad_fraction=0.05"):
        refuse_or_skip(report, CheckOptions(on_bad="skip", max_bad_fraction=0.05))
    kept = refuse_or_skip(report, CheckOptions(on_bad="skip", max_bad_fraction=0.1))
    assert [one.id for one in kept] == [f"u{index}" for index in range(9)]


def test_lines_that_cannot_be_parsed_are_never_skipped(say, tmp_path):
    path = tmp_path / "train.jsonl"
    write_manifest(path, [say(f"u{index}") for index in range(3)])
    path.write_text(path.read_text() + "{\n")
    utterances, problems = scan_manifest(path)
    report = check(utterances, problems=problems)
    assert (report.utterances, len(report.usable)) == (4, 3)
    with pytest.raises(DataError, match="must be mended: bad-json"):
        refuse_or_skip(report, CheckOptions(on_bad="skip", max_bad_fraction=1.0))


def test_progress_wraps_the_sequence(say):
    seen = []

    def bar(utterances):
        for utterance in utterances:
            seen.append(utterance.id)
            yield utterance

    assert len(check([say("a"), say("b")], progress=bar).usable) == 2
    assert seen == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"on_bad": "ignore"}, 'data.on_bad="ignore" is not one of error, skip'),
        ({"check": "fast"}, "data.check"),
        ({"channels": "left"}, "data.channels"),
        ({"resample": "no"}, "data.resample"),
        ({"max_bad_fraction": 1.5}, "data.max_bad_fraction=1.5"),
        ({"min_duration": -1.0}, "data.min_duration=-1"),
        ({"min_duration": 5.0, "max_duration": 5.0}, "data.max_duration=5 is not above data.min_duration=5"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(UsageError, match=words):
        CheckOptions(**options)


def test_real_corpus(shared_data):
    """The first hundred recordings of speechocean762 have no problem and no note."""
    paths = sorted((shared_data / "speechocean762").rglob("*.ogg"))[:100]
    assert len(paths) == 100
    utterances = [Utterance(one.stem, str(one), soundfile.info(one).duration, text="abc") for one in paths]
    report = check(utterances)
    assert (report.problems, report.warnings) == ([], {})
