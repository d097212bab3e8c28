"""Rows V of the catalogue: decoding that is killed or has no place to write, and scoring of what is missing, doubled or empty."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.faults.commands import Outcome, fine, read_lines, to_lines, told


def score_of(asr, folder: Path, references: list[dict], hypotheses: list[dict], *more: str) -> tuple[Outcome, dict[str, Any]]:
    for name, lines in (("ref", references), ("hyp", hypotheses)):
        (folder / f"{name}.jsonl").write_bytes(to_lines(lines))
    words = [f"ref={folder / 'ref.jsonl'}", f"hyp={folder / 'hyp.jsonl'}", "unit=word", f"out={folder / 'score'}"]
    outcome = asr("score", *words, *more)
    path = folder / "score" / "score.json"
    return outcome, json.loads(path.read_text()) if path.exists() else {}


REFERENCES = [{"id": f"u{number}", "text": "eins zwei drei"} for number in range(4)]


def test_v2_a_missing_hypothesis_is_all_deletions_and_listed(asr, tmp_path):
    outcome, score = score_of(asr, tmp_path, REFERENCES, REFERENCES[1:])
    fine(outcome)
    assert (score["missing"], score["extra"]) == (["u0"], [])
    assert (score["reference_tokens"], score["correct"], score["deletions"]) == (12, 9, 3)
    assert "u0" in outcome.out


def test_v2_an_undecodable_recording_is_all_deletions(asr, tmp_path):
    failed = {"id": "u0", "text": "eins zwei drei", "error": "cut"}
    outcome, score = score_of(asr, tmp_path, REFERENCES, [failed, *REFERENCES[1:]])
    fine(outcome)
    assert (score["missing"], score["deletions"], score["error_rate"]) == ([], 3, 0.25)


def test_v2_an_extra_hypothesis_is_listed_and_not_counted(asr, tmp_path):
    outcome, score = score_of(asr, tmp_path, REFERENCES, [*REFERENCES, {"id": "new", "text": "vier"}])
    fine(outcome)
    assert (score["extra"], score["error_rate"], score["insertions"]) == (["new"], 0.0, 0)
    assert "new" in outcome.out


@pytest.mark.parametrize("side", ["ref", "hyp"])
def test_v2_an_id_that_stands_twice_is_refused(asr, tmp_path, side):
    twice = [*REFERENCES, REFERENCES[1]]
    outcome, score = score_of(asr, tmp_path, *((twice, REFERENCES) if side == "ref" else (REFERENCES, twice)))
    told(outcome, 3, f"{side}.jsonl:5", 'id "u1" stands on lines 2 and 5', "give each utterance one line", alone=True)
    assert score == {}


def test_v2_the_order_of_lines_means_nothing(asr, tmp_path):
    hypotheses = [{"id": one["id"], "text": one["text"].rsplit(" ", number % 3)[0]} for number, one in enumerate(REFERENCES)]
    _, straight = score_of(asr, tmp_path, REFERENCES, hypotheses)
    random.Random(1).shuffle(hypotheses)
    assert hypotheses[0]["id"] != "u0"
    assert score_of(asr, tmp_path, REFERENCES, hypotheses)[1] == straight
    assert straight["deletions"] == 1 + 2 + 0


def test_v3_an_empty_reference_counts_its_insertions(asr, tmp_path):
    outcome, score = score_of(
        asr,
        tmp_path,
        [{"id": "a", "text": ""}, {"id": "b", "text": "c d"}],
        [{"id": "a", "text": "x y"}, {"id": "b", "text": "c d"}],
    )
    fine(outcome)
    assert (score["reference_tokens"], score["insertions"], score["error_rate"]) == (2, 2, 1.0)


@pytest.mark.parametrize("references", [[], [{"id": "a", "text": ""}]], ids=["no-lines", "no-words"])
def test_v4_an_error_rate_of_nothing_is_undefined(asr, tmp_path, references):
    outcome, score = score_of(asr, tmp_path, references, [{"id": "a", "text": "x"}])
    fine(outcome)
    assert "undefined" in outcome.out
    assert (score["error_rate"], score["interval"], score["reference_tokens"]) == (None, None, 0)


@pytest.fixture
def many(speech, tmp_path) -> Path:
    """A manifest of 24 utterances, three or so to a batch of `batch_seconds=2`."""
    lines = [
        {**line, "id": f"{turn}-{line['id']}", "audio_filepath": str(speech / line["audio_filepath"])}
        for turn in range(3)
        for line in read_lines(speech / "test.jsonl")
    ]
    (tmp_path / "many.jsonl").write_bytes(to_lines(lines))
    return tmp_path / "many.jsonl"


@pytest.mark.parametrize("batches", [3, 4])
def test_v6_killed_decoding_goes_on_and_ends_the_same(asr, stage, run_dir, many, tmp_path, batches):
    words = [f"model={run_dir}", f"manifest={many}", "device=cpu", "batch_seconds=2"]
    fine(asr("decode", *words, f"out={tmp_path / 'straight'}"))
    out = tmp_path / "killed"
    assert stage.run("decode", [*words, f"out={out}"], ("die_after_batches", {"count": batches})).code == 9
    assert not out.exists()
    part = tmp_path / "killed.part"
    done = len(read_lines(part)) - 1
    assert 0 < done < 24
    part.write_bytes(part.read_bytes()[:-5])  # the last line was cut by the kill
    outcome = fine(asr("decode", *words, f"out={out}"))
    assert f"going on from {part}: {done - 1} of 24 utterances are done" in outcome.err
    assert out.read_bytes() == (tmp_path / "straight").read_bytes()
    assert [line["id"] for line in read_lines(out)] == [line["id"] for line in read_lines(many)]
    assert not part.exists()


PLACES = {
    "V7-exists": ("hyp.jsonl", "exists already; choose another name, or overwrite=true"),
    "V7-folder": (".", "is a folder or a device; expected the name of a file to write"),
    "V7-below-a-file": ("hyp.jsonl/inner/x", "cannot be written"),
    "V7-long-name": ("x" * 300, "file name too long"),
}


@pytest.mark.parametrize("row", list(PLACES))
def test_a_place_that_cannot_be_written_costs_no_decoding(asr, run_dir, speech, tmp_path, row):
    name, said = PLACES[row]
    (tmp_path / "hyp.jsonl").write_text("mine\n")
    out = tmp_path / name
    outcome = asr("decode", f"model={run_dir}", f"manifest={speech / 'test.jsonl'}", f"out={out}")
    code = 5 if row == "V7-long-name" else 2  # as row C22 has it
    told(outcome, code, str(out), said, "choose another" if row != "V7-folder" else "expected", alone=True)
    assert (tmp_path / "hyp.jsonl").read_text() == "mine\n"
    assert [path.name for path in tmp_path.iterdir()] == ["hyp.jsonl"]


def test_v7_overwriting_has_to_be_asked_for(asr, run_dir, speech, tmp_path):
    out = tmp_path / "hyp.jsonl"
    out.write_text("mine\n")
    words = [f"model={run_dir}", f"manifest={speech / 'test.jsonl'}", f"out={out}", "overwrite=true"]
    fine(asr("decode", *words))
    assert len(read_lines(out)) == 8


def test_v7_a_report_in_the_place_of_a_file_is_refused(asr, tmp_path):
    (tmp_path / "score").write_text("mine\n")
    (tmp_path / "ref.jsonl").write_bytes(to_lines(REFERENCES))
    outcome = asr("score", f"ref={tmp_path / 'ref.jsonl'}", f"hyp={tmp_path / 'ref.jsonl'}", f"out={tmp_path / 'score'}")
    told(outcome, 2, str(tmp_path / "score"), "is a file; expected the name of a folder")
    assert (tmp_path / "score").read_text() == "mine\n"
