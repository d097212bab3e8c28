"""`asr-score` as it is typed: what it prints, what it writes, how it ends."""

import json
import os

import pytest

from asr.cli.score import main

REF = [
    {"id": "u1", "audio_filepath": "u1.wav", "duration": 1.0, "text": "the cat sat", "phones": "DH AH", "speaker": "s1"},
    {"id": "u2", "audio_filepath": "u2.wav", "duration": 1.0, "text": "on the mat", "phones": "AA N", "speaker": "s2"},
]
HYP = [{"id": "u2", "text": "on mat", "score": -2.0}, {"id": "u1", "text": "the cat sat", "score": -1.0}]


@pytest.fixture
def files(tmp_path):
    """Reference and hypotheses in a folder whose name Hydra's grammar would refuse."""
    folder = tmp_path / "a=b, (c) #1 'ü'"
    folder.mkdir()
    for name, records in (("ref.jsonl", REF), ("hyp.jsonl", HYP)):
        (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return folder


def words(folder, *more):
    return [f"ref={folder / 'ref.jsonl'}", f"hyp={folder / 'hyp.jsonl'}", *more]


def test_the_table_and_both_files(files, capsys):
    assert main(words(files, "unit=word", f"out={files / 'score of it'}")) == 0
    shown = capsys.readouterr()
    assert "word error rate 16.67 % of 6 reference tokens (95 % interval 0.00 .. 33.33 %, 1000 bootstrap draws" in shown.out
    assert f"written: {files / 'score of it' / 'alignments.txt'}" in shown.out
    assert shown.err == ""
    stored = json.loads((files / "score of it" / "score.json").read_text(encoding="utf-8"))
    fixed = {"unit": "word", "utterances": 2, "reference_tokens": 6, "correct": 5, "substitutions": 0, "deletions": 1}
    fixed |= {"insertions": 0, "error_rate": 1 / 6, "interval": [0.0, 1 / 3], "missing": [], "extra": []}
    assert {key: stored[key] for key in fixed} == fixed
    assert "REF: on the mat\nHYP: on *   mat\n        D" in (files / "score of it" / "alignments.txt").read_text(encoding="utf-8")


@pytest.fixture
def other(files):
    """Another recogniser: wrong throughout with the first speaker, and silent with the second."""
    (files / "other.jsonl").write_text('{"id": "u1", "text": "a bat", "score": -1.0}\n', encoding="utf-8")
    return f"against={files / 'other.jsonl'}"


def test_two_recognisers_are_compared_on_the_same_draws(files, other, capsys):
    assert main(words(files, other, f"out={files}")) == 0
    shown = capsys.readouterr().out
    assert "against: word error rate 100.00 % of 6 reference tokens (95 % interval 100.00 .. 100.00 %" in shown
    assert "1 without hypothesis there, or not decodable: scored as deletions" in shown
    assert "hyp - against: -83.33 points (95 % interval -100.00 .. -66.67, paired draws); hyp is better in 100.0 %" in shown
    assert "cannot tell" not in shown
    stored = json.loads((files / "score.json").read_text())
    assert stored["error_rate"] == 1 / 6, "the first recogniser is scored as ever"
    expected = {"error_rate": 1.0, "missing": ["u2"], "extra": [], "interval": [1.0, 1.0], "deletions": 4, "substitutions": 2}
    expected |= {"difference": -5 / 6, "difference_interval": [-1.0, pytest.approx(-2 / 3)], "better_in_draws": 1.0}
    assert {key: stored["against"][key] for key in expected} == expected


def test_a_recogniser_against_itself_is_not_told_apart(files, capsys):
    assert main(words(files, f"against={files / 'hyp.jsonl'}")) == 0
    shown = capsys.readouterr().out
    assert "hyp - against: +0.00 points (95 % interval +0.00 .. +0.00, paired draws); hyp is better in 50.0 %" in shown
    assert "the interval holds 0: these references cannot tell the two apart" in shown


def test_one_speaker_gives_rates_but_no_difference(files, other, capsys):
    (files / "ref.jsonl").write_text(json.dumps(REF[0]) + "\n")
    assert main(words(files, other, f"out={files}")) == 0
    assert "hyp - against" not in capsys.readouterr().out
    assert json.loads((files / "score.json").read_text())["against"]["difference"] is None


def test_without_out_nothing_is_written(files, capsys):
    assert main(words(files, "unit=char")) == 0
    assert "character error rate 19.05 % of 21 reference tokens" in capsys.readouterr().out
    assert sorted(os.listdir(files)) == ["hyp.jsonl", "ref.jsonl"]


def test_an_undefined_rate_is_no_fault(files, capsys):
    (files / "ref.jsonl").write_text('{"id": "u1", "text": ""}\n')
    assert main(words(files, f"out={files}")) == 0
    assert "word error rate undefined: 0 reference tokens in 1 utterance" in capsys.readouterr().out
    assert json.loads((files / "score.json").read_text())["error_rate"] is None


def test_options_of_the_score_arrive(files, capsys):
    assert main(words(files, "unit=phone", "phone_set=arpabet", "resamples=200", "seed=3", f"out={files}")) == 0
    assert "200 bootstrap draws" in capsys.readouterr().out
    stored = json.loads((files / "score.json").read_text())
    assert (stored["seed"], stored["resamples"], stored["phone_set"]) == (3, 200, "arpabet")


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["unit=words"], 2, "asr-score: unit must be one of word, char, phone, got 'words'\n"),
        (["uint=word"], 2, "asr-score: unknown key 'uint': the closest known key is unit\n"),
        (["seed=one"], 2, "asr-score: seed takes a whole number"),
        (["ref="], 2, "asr-score: ref= is missing: write asr-score ref=FILE hyp=FILE unit=word|char|phone\n"),
        (["hyp=/no/such/file"], 3, "asr-score: /no/such/file: no such file\n"),
        (["hyp=/"], 3, "asr-score: /: is a folder, expected a file\n"),
        (["against=/no/such/file"], 3, "asr-score: /no/such/file: no such file\n"),
    ],
)
def test_a_mistake_is_one_sentence_and_its_exit_code(files, capsys, more, code, message):
    assert main([*words(files, f"out={files / 'out'}"), *more]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(message)
    assert shown.err.count("\n") == 1
    assert not (files / "out").exists()


def test_a_duplicate_id_names_both_lines(files, capsys):
    with open(files / "hyp.jsonl", "a") as handle:
        handle.write(json.dumps(HYP[0]) + "\n")
    assert main(words(files)) == 3
    assert 'hyp.jsonl:3: id "u2" stands on lines 1 and 3; give each utterance one line' in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_told(files, capsys):
    assert main(words(files, f"out={files / 'ref.jsonl'}")) == 2
    assert "ref.jsonl is a file; expected the name of a folder" in capsys.readouterr().err
    assert len((files / "ref.jsonl").read_text().splitlines()) == 2
