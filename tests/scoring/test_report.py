"""What a person reads: alignment columns, the table, and the written files."""

import json
import os

import pytest

from asr.errors import ResourceError, UsageError
from asr.scoring.edits import align, split_tokens
from asr.scoring.report import aligned_lines, alignments_text, display_width, summary_line, table, write_report
from asr.scoring.score import ScoreOptions, score_transcripts
from asr.scoring.transcripts import Transcript


def lines(reference, hypothesis, unit="word", **options):
    (alignment,) = align([split_tokens(reference, unit)], [split_tokens(hypothesis, unit)])
    return aligned_lines(alignment, unit=unit, **options)


def score(pairs, unit="word", **options):
    """pairs: id -> (speaker, reference, hypothesis or None)."""
    references = [Transcript(name, text=reference, speaker=speaker) for name, (speaker, reference, _) in pairs.items()]
    hypotheses = [Transcript(name, text=heard) for name, (_, _, heard) in pairs.items() if heard is not None]
    return score_transcripts(references, hypotheses, ScoreOptions(unit=unit, **options))


def test_words_stand_in_columns_with_a_mark_below_each_error():
    assert lines("the cat sat on a mat", "the hat sat there on mat") == [
        "REF: the cat sat *     on a mat",
        "HYP: the hat sat there on * mat",
        "         S       I        D",
    ]


def test_no_mark_line_where_all_is_right_and_none_where_all_is_empty():
    assert lines("a b", "a b") == ["REF: a b", "HYP: a b"]
    assert lines("", "") == ["REF:", "HYP:"]


def test_characters_stand_without_gaps_and_spaces_are_visible():
    assert lines("ab cd", "abcx", unit="char") == ["REF: ab▁cd", "HYP: ab*cx", "       D S"]


def test_wide_and_combining_characters_keep_the_columns():
    found = lines("東京 へ 行く", "京 へ 行った")
    assert found == ["REF: 東京 へ 行く", "HYP: 京   へ 行った", "     S       S"]
    starts = [display_width(line[: line.index("へ")]) for line in found[:2]]
    assert starts[0] == starts[1]
    assert display_width("e\u0301") == 1
    assert lines("x\u0301 b", "x c")[2] == "     S S"


@pytest.mark.parametrize("text", ["\x1b[2J", "a\u202eb", "\u2028"])
def test_nothing_in_a_transcript_can_drive_the_terminal(text):
    pair = {"u\x07": (text, text, "x")}
    for shown in (alignments_text(score(pair)), table(score(pair))):
        assert shown.replace("\n", "").isprintable()
    assert "u\\x07" in table(score(pair))


def test_long_alignments_are_broken_into_lines_of_the_width():
    text = " ".join(f"word{i}" for i in range(40))
    found = lines(text, text.replace("word17", "bird17"), width=60)
    assert len(found) > 6
    assert max(map(len, found)) <= 60
    assert " ".join(line[5:] for line in found if line.startswith("REF:")).split() == text.split()
    marked = found[[line.strip() for line in found].index("S") - 1]
    assert "bird17" in marked


def test_the_worst_utterance_comes_first_and_each_has_one_block():
    result = score({"good": ("s", "a b", "a b"), "bad": ("s", "a b", "x"), "half": ("s", "a b", "a"), "noise": ("s", "", "x")})
    blocks = alignments_text(result).split("\n\n")
    assert [block.split()[0] for block in blocks[1:]] == ["noise", "bad", "half", "good"]
    assert blocks[2].splitlines()[0] == "bad  speaker s  100.0 %  (2 tokens, 1 S, 1 D, 0 I)"
    assert "each at cost 1" in blocks[0]


def test_blocks_say_why_there_is_no_hypothesis():
    references = [Transcript("a", text="x"), Transcript("b", text="y")]
    result = score_transcripts(references, [Transcript("b", text="", error="the file was cut")], ScoreOptions())
    text = alignments_text(result)
    assert "no hypothesis\nREF: x\nHYP: *\n     D" in text
    assert "not decoded: the file was cut\nREF: y\nHYP: *\n     D" in text


def test_the_rate_is_printed_with_token_count_and_interval():
    pairs = {f"u{i}": (f"s{i}", "a b c d", "a b c x") for i in range(5)}
    expected = (
        "word error rate 25.00 % of 20 reference tokens (95 % interval 25.00 .. 25.00 %, 1000 bootstrap draws over 5 speakers)"
    )
    assert summary_line(score(pairs)) == expected
    one = {"u": ("s", "a", "a")}
    assert summary_line(score(one)) == "word error rate 0.00 % of 1 reference tokens (no interval from 1 utterance)"
    assert summary_line(score({"u": ("s", "", "")})) == "word error rate undefined: 0 reference tokens in 1 utterances"


def test_the_table_shows_heads_counts_speakers_and_frequent_errors():
    pairs = {f"u{i}": (f"s{i}", "one two", "one too" if i < 7 else "one two") for i in range(8)}
    shown = table(score({**pairs, "gone": ("s0", "one", None)}))
    assert shown.startswith("ref  u0  one two\nhyp  u0  one too\n")
    rows = [line.split() for line in shown.splitlines()]
    assert ["all", "9", "17", "9", "7", "1", "0", "47.06"] in rows
    assert ["speaker", "s0", "2", "3", "1", "1", "1", "0", "66.67"] in rows
    assert "(the 5 worst of 8 speakers; all are in score.json)" in shown
    assert "1 without hypothesis, scored as deletions: gone" in shown
    assert "7 x two -> too" in shown
    assert "  gone  speaker s0  100.0 %  (1 tokens, 0 S, 1 D, 0 I)" in shown


def test_the_files_are_written_and_hold_the_counts(tmp_path):
    result = score({"u1": ("s1", "a b c", "a c"), "u2": ("s2", "d", "e")})
    paths = write_report(result, tmp_path / "new" / "folder")
    assert [os.path.basename(path) for path in paths] == ["alignments.txt", "score.json"]
    stored = json.loads((tmp_path / "new" / "folder" / "score.json").read_text(encoding="utf-8"))
    assert list(stored)[:11] == [
        *("unit", "utterances", "reference_tokens", "correct", "substitutions", "deletions", "insertions"),
        *("error_rate", "interval", "missing", "extra"),
    ]
    assert (stored["reference_tokens"], stored["correct"], stored["error_rate"]) == (4, 2, 0.5)
    assert stored["interval"] == pytest.approx([1 / 3, 1.0])
    assert stored["top_deletions"] == [["b", 1]]
    assert [row["speaker"] for row in stored["speakers"]] == ["s1", "s2"]


def test_a_report_replaces_the_one_before_and_leaves_no_litter(tmp_path):
    for heard in ("a", "b"):
        write_report(score({"u": ("s", "a", heard)}), tmp_path)
    assert json.loads((tmp_path / "score.json").read_text())["substitutions"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alignments.txt", "score.json"]


def test_a_file_in_the_place_of_the_folder_is_a_usage_error(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(UsageError, match="taken is a file; expected the name of a folder"):
        write_report(score({"u": ("s", "a", "a")}), tmp_path / "taken")
    with pytest.raises(ResourceError, match="is a file, not a folder"):
        write_report(score({"u": ("s", "a", "a")}), tmp_path / "taken" / "inside")
    assert (tmp_path / "taken").read_text() == "mine"
