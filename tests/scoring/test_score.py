"""Joining by id, pooling, and what happens to utterances that are missing, extra, undecodable or empty."""

import json
import random

import pytest

from asr.errors import DataError, UsageError
from asr.scoring.edits import EditCounts, count_edits
from asr.scoring.report import alignments_text, score_dict
from asr.scoring.score import ScoreOptions, score_manifests
from asr.text.normalize import TextRules


@pytest.fixture
def write(tmp_path):
    def lines(name, *records):
        path = tmp_path / name
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
        return path

    return lines


def texts(**by_id):
    return [{"id": name, "text": text} for name, text in by_id.items()]


def test_pairs_are_joined_by_id_not_by_position(write):
    score = score_manifests(write("ref", *texts(a="one two", b="three")), write("hyp", *texts(b="three", a="one too")), "word")
    assert score.counts == EditCounts(correct=2, substitutions=1)
    assert [one.id for one in score.utterances] == ["a", "b"]


def test_a_reference_without_hypothesis_is_all_deletions_and_listed(write):
    score = score_manifests(write("ref", *texts(a="one two", b="three")), write("hyp", *texts(b="three", z="x")), "word")
    assert score.counts == EditCounts(correct=1, deletions=2)
    assert score.missing == ("a",)
    assert score.extra == ("z",)


def test_a_recording_that_was_not_decoded_counts_as_deletions_whatever_its_text(write):
    hyp = write("hyp", {"id": "a", "text": "one two", "error": "the file was cut"}, {"id": "b", "text": "three", "error": None})
    score = score_manifests(write("ref", *texts(a="one two", b="three")), hyp, "word")
    assert score.counts == EditCounts(correct=1, deletions=2)
    assert score.undecodable == ("a",)
    assert score.missing == ()


def test_the_order_of_lines_changes_nothing(write):
    draw = random.Random(0)
    ref = [{"id": f"u{i}", "text": draw.choice(["a b c", "b", "c d"]), "speaker": f"s{i % 4}"} for i in range(20)]
    hyp = [{"id": f"u{i}", "text": draw.choice(["a b c", "b", "c d"])} for i in range(3, 23)]
    first = score_dict(score_manifests(write("ref", *ref), write("hyp", *hyp), "word"))
    draw.shuffle(ref)
    draw.shuffle(hyp)
    assert score_dict(score_manifests(write("ref2", *ref), write("hyp2", *hyp), "word")) == first
    assert first["interval_by"] == "speaker"
    assert first["interval"][0] <= first["error_rate"] <= first["interval"][1]
    assert first["missing"] == ["u0", "u1", "u2"]
    assert first["extra"] == ["u20", "u21", "u22"]


def test_pooled_counts_are_the_sums_over_utterances_and_over_speakers(write):
    ref = [{"id": f"u{i}", "text": "a b c d", "speaker": "xyz"[i % 3]} for i in range(9)]
    hyp = [{"id": f"u{i}", "text": "a b x d e"[: i + 1]} for i in range(9)]
    score = score_manifests(write("ref", *ref), write("hyp", *hyp), "char")
    assert sum((one.counts for one in score.utterances), EditCounts()) == score.counts
    speakers = score.by_speaker()
    assert list(speakers) == ["x", "y", "z"]
    assert sum((counts for _, counts in speakers.values()), EditCounts()) == score.counts
    assert score.counts == count_edits([("a b c d", one["text"]) for one in hyp], "char")


@pytest.mark.parametrize("ref", [[], texts(a="", b="  ")])
def test_without_reference_tokens_the_rate_is_undefined(write, ref):
    score = score_manifests(write("ref", *ref), write("hyp", *texts(a="noise")), "word")
    assert score.counts.error_rate is None
    assert score.interval is None
    assert score.counts.insertions == len(ref[:1])
    assert score_dict(score)["error_rate"] is None


def test_an_empty_reference_adds_its_insertions_to_the_pool(write):
    score = score_manifests(write("ref", *texts(a="one", b="")), write("hyp", *texts(a="one", b="two three")), "word")
    assert score.counts.error_rate == 2.0


@pytest.mark.parametrize("side", ["ref", "hyp"])
def test_an_id_that_stands_twice_is_refused_with_both_lines(write, side):
    files = {"ref": texts(a="one"), "hyp": texts(a="one")}
    files[side] = [*texts(a="one", b="x"), *texts(a="two")]
    with pytest.raises(DataError, match=rf'{side}:3: id "a" stands on lines 1 and 3'):
        score_manifests(write("ref", *files["ref"]), write("hyp", *files["hyp"]), "word")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": "x"}, 'missing field "id"'),
        ({"id": " ", "text": "x"}, '"id" is empty'),
        ({"id": 3, "text": "x"}, '"id" must be a string'),
        ({"id": "a", "text": ["x"]}, '"text" must be a string, got list'),
        ({"id": "a"}, 'the hypothesis "a" has no "text"'),
        ({"id": "a", "text": "\ud800"}, "half a surrogate pair"),
    ],
)
def test_a_faulty_hypothesis_is_named_by_file_and_line(write, record, message):
    path = write("hyp", *texts(b="fine"))
    path.write_text(path.read_text() + json.dumps(record) + "\n")
    with pytest.raises(DataError, match=r"hyp:2: ") as fault:
        score_manifests(write("ref", *texts(a="x", b="y")), path, "word")
    assert message in str(fault.value)


def test_all_faults_of_a_file_are_told_at_once(write):
    with pytest.raises(DataError) as fault:
        score_manifests(write("ref", *[{"id": f"u{i}"} for i in range(25)]), write("hyp"), "word")
    assert "25 references cannot be scored" in str(fault.value)
    assert "... and 5 more" in str(fault.value)


def test_byte_order_mark_and_crlf_are_no_fault(write, tmp_path):
    path = tmp_path / "ref"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "text": "one"}\r\n\r\n')
    assert score_manifests(path, write("hyp", *texts(a="one")), "word").counts == EditCounts(correct=1)


def test_phones_come_from_their_field_or_from_the_text_of_a_phone_recogniser(write):
    ref = write("ref", {"id": "a", "text": "hi", "phones": "HH AY"}, {"id": "b", "phones": "B"})
    hyp = write("hyp", {"id": "a", "text": "wrong", "phones": "HH EY"}, {"id": "b", "text": "B"})
    assert score_manifests(ref, hyp, "phone").counts == EditCounts(correct=2, substitutions=1)


def test_references_without_phones_are_refused(write):
    with pytest.raises(DataError, match='ref:1: the reference "a" has no "phones", which unit=phone compares'):
        score_manifests(write("ref", *texts(a="hi")), write("hyp", *texts(a="HH")), "phone")


def test_both_sides_are_folded_alike_and_silence_merged_only_on_request(write):
    ref = write("ref", {"id": "a", "phones": "h# pau sh ix q tcl t ax-h ae ae"})
    hyp = write("hyp", {"id": "a", "phones": "sil sh ih sil t ah ae ae"})
    plain = score_manifests(ref, hyp, "phone", phone_set="timit39")
    assert plain.counts == EditCounts(correct=8, deletions=1)
    merged = score_manifests(ref, hyp, "phone", phone_set="timit39", merge_silence=True)
    assert merged.counts == EditCounts(correct=8), "ae ae stays, sil sil becomes one"


def test_arpabet_marks_can_be_dropped(write):
    ref, hyp = write("ref", {"id": "a", "phones": "AH0 B_B"}), write("hyp", {"id": "a", "phones": "AH B"})
    assert score_manifests(ref, hyp, "phone").counts.substitutions == 2
    assert score_manifests(ref, hyp, "phone", phone_set="arpabet").counts == EditCounts(correct=2)


def test_a_phone_outside_the_set_is_named_with_its_line(write):
    ref = write("ref", {"id": "a", "phones": "aa"}, {"id": "b", "phones": "aa QQ"})
    with pytest.raises(DataError, match="ref:2: not TIMIT phones: QQ"):
        score_manifests(ref, write("hyp"), "phone", phone_set="timit39")


def test_case_is_kept_unless_asked(write):
    ref, hyp = write("ref", *texts(a="ONE two")), write("hyp", *texts(a="one two"))
    kept = score_manifests(ref, hyp, "word")
    assert kept.counts.substitutions == 1
    assert "1 of 1 substitutions differ in upper and lower case only" in kept.notes[0]
    lowered = score_manifests(ref, hyp, "word", rules=TextRules(case="lower"))
    assert lowered.counts == EditCounts(correct=2)
    assert lowered.notes == ()


def test_both_sides_go_through_the_rules_that_were_asked_for(write):
    """What is written is compared, unless one asks for what a model was taught."""
    ref = write("ref", *texts(a="“Room ４,” she’s said — & left…", b="٣ x"))
    hyp = write("hyp", *texts(a="room 4 she's said and left", b="3 x"))
    assert score_manifests(ref, hyp, "word").counts.errors > 5
    rules = TextRules(unicode="folded", case="lower", punctuation="drop", digits="ascii", map={"&": "and"})
    score = score_manifests(ref, hyp, "word", rules=rules)
    assert score.counts == EditCounts(correct=8)
    stored = score_dict(score)
    assert {name: stored[name] for name in vars(rules)} == vars(rules)
    assert "; unicode=folded; case=lower; punctuation=drop; digits=ascii; map=" in alignments_text(score).splitlines()[2]
    assert "unicode=" not in alignments_text(score_manifests(ref, hyp, "word"))


def test_swapped_files_are_noticed(write):
    manifest = write("manifest", {"id": "a", "audio_filepath": "a.wav", "duration": 1.0, "text": "one"})
    decoded = write("decoded", {"id": "a", "text": "one", "score": -1.0})
    assert "are the two swapped?" in score_manifests(decoded, manifest, "word").notes[0]
    assert score_manifests(manifest, decoded, "word").notes == ()


def test_files_without_a_common_id_are_noticed(write):
    score = score_manifests(write("ref", *texts(a="one")), write("hyp", *texts(a2="one")), "word")
    assert 'no id occurs in both files: the first are "a" and "a2"' in score.notes


@pytest.mark.parametrize(
    ("speakers", "by", "groups"),
    [("ab", "speaker", 2), ("aa", "utterance", 2), (["a", None], "utterance", 2), (["a", ""], "utterance", 2)],
)
def test_the_bootstrap_draws_speakers_where_there_are_several(write, speakers, by, groups):
    ref = [{"id": str(i), "text": "x y", "speaker": speaker} for i, speaker in enumerate(speakers)]
    score = score_manifests(write("ref", *ref), write("hyp", {"id": "0", "text": "x y"}), "word")
    assert (score.interval_by, score.groups) == (by, groups)
    assert score.interval == (0.0, 1.0)


def test_the_interval_is_a_function_of_seed_and_draws(write):
    ref = write("ref", *texts(**{f"u{i}": "a b c d" for i in range(40)}))
    hyp = write("hyp", *texts(**{f"u{i}": "a b c d"[: i % 8] for i in range(40)}))
    scores = [score_manifests(ref, hyp, "word", seed=seed, resamples=200) for seed in (1, 1, 2)]
    assert scores[0].interval == scores[1].interval != scores[2].interval
    assert score_manifests(ref, hyp, "word", seed=1, resamples=201).interval != scores[0].interval


def test_confusions_are_tallied_the_most_frequent_first(write):
    ref, hyp = texts(a="x x y", b="x z"), texts(a="w w", b="w z q")
    confusions = score_manifests(write("ref", *ref), write("hyp", *hyp), "word").confusions()
    assert confusions == {"S": [("x", "w", 3)], "D": [("y", "", 1)], "I": [("", "q", 1)]}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"unit": "words"}, "unit must be one of word, char, phone, got 'words'"),
        ({"resamples": 99}, "resamples must be at least 100"),
        ({"seed": -1}, "seed must not be negative"),
        ({"case": "title"}, 'case="title" is not one of keep, lower, upper'),
        ({"punctuation": "strip"}, 'punctuation="strip" is not one of keep, plain, drop'),
        ({"unicode": "NFD"}, 'unicode="NFD" is not one of'),
        ({"unit": "phone", "digits": "ascii"}, "punctuation, digits and map are about written text"),
        ({"unit": "phone", "phone_set": "timit61"}, "phone_set must be one of as_is, arpabet, timit48, timit39"),
        ({"phone_set": "timit39"}, "phone_set=timit39 goes with unit=phone only, got unit=word"),
        ({"unit": "phone", "phone_set": "arpabet", "merge_silence": True}, "merge_silence=true needs phone_set=timit48"),
    ],
)
def test_wrong_options_are_named(option, message):
    with pytest.raises(UsageError) as fault:
        ScoreOptions(**option)
    assert message in str(fault.value)
