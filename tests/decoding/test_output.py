"""The file of hypotheses: interrupted, continued, refused."""

import json
import os

import pytest

from asr.decoding.output import PartialOutput, Record
from asr.errors import ResourceError, UsageError

MADE_FROM = {"model": "abc", "batch_seconds": 3.0}


def record(number, text="wörter"):
    return Record(f"u{number}", text, score=-1.2345)


def finished(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_lines_come_in_the_order_asked_for_and_the_part_goes(tmp_path):
    with PartialOutput(tmp_path / "hyp", MADE_FROM) as output:
        output.add([record(2), record(0)])
        output.add([Record("u1", "", phones="", error="was cut")])
        assert not (tmp_path / "hyp").exists()
        output.finish(["u0", "u1", "u2"])
    assert finished(tmp_path / "hyp") == [
        {"id": "u0", "text": "wörter", "score": -1.2345},
        {"id": "u1", "text": "", "phones": "", "score": None, "error": "was cut"},
        {"id": "u2", "text": "wörter", "score": -1.2345},
    ]
    assert os.listdir(tmp_path) == ["hyp"]


@pytest.mark.parametrize("cut", [0, 1, 5, 40, 60])
def test_a_part_cut_anywhere_is_continued_without_its_broken_line(tmp_path, cut):
    with PartialOutput(tmp_path / "hyp", MADE_FROM) as output:
        output.add([record(0), record(1), record(2)])
    part = tmp_path / "hyp.part"
    part.write_bytes(part.read_bytes()[: len(part.read_bytes()) - cut])
    with PartialOutput(tmp_path / "hyp", MADE_FROM) as output:
        kept = {"u0": 1, "u1": 2, "u2": 3}[max(output.done)]
        assert kept == 3 - -(-cut // len(record(0).line().encode()))
        assert not output.restarted
        output.add(record(number) for number in range(kept, 3))
        output.finish(["u0", "u1", "u2"])
    assert (tmp_path / "hyp").read_text(encoding="utf-8") == "".join(record(number).line() for number in range(3))


def test_a_part_of_another_model_or_option_is_not_continued(tmp_path):
    with PartialOutput(tmp_path / "hyp", MADE_FROM) as output:
        output.add([record(0, "of the other model")])
    with PartialOutput(tmp_path / "hyp", {**MADE_FROM, "model": "xyz"}) as output:
        assert output.restarted
        assert output.done == {}
        output.add([record(0, "mine")])
        output.finish(["u0"])
    assert finished(tmp_path / "hyp")[0]["text"] == "mine"


def test_a_foreign_file_named_like_the_part_is_not_taken_for_one(tmp_path):
    (tmp_path / "hyp.part").write_bytes(b"\xff\x00 something else\n" * 3)
    with PartialOutput(tmp_path / "hyp", MADE_FROM) as output:
        assert output.restarted
        output.finish([])
    assert (tmp_path / "hyp").read_text() == ""


def test_an_existing_file_is_kept_unless_overwriting(tmp_path):
    (tmp_path / "hyp").write_text("precious\n")
    with pytest.raises(UsageError, match="hyp exists already; choose another name, or overwrite=true"):
        PartialOutput(tmp_path / "hyp", MADE_FROM)
    assert os.listdir(tmp_path) == ["hyp"]
    with PartialOutput(tmp_path / "hyp", MADE_FROM, overwrite=True) as output:
        output.add([record(0)])
        assert (tmp_path / "hyp").read_text() == "precious\n", "until the new one is complete"
        output.finish(["u0"])
    assert len(finished(tmp_path / "hyp")) == 1


def test_places_that_cannot_be_written_are_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a folder or a device"):
        PartialOutput(tmp_path, MADE_FROM)
    with pytest.raises(UsageError, match="cannot be written: a part of the path is a file"):
        PartialOutput(tmp_path / "file" / "hyp", MADE_FROM)


def test_missing_folders_are_made(tmp_path):
    with PartialOutput(tmp_path / "new" / "folder" / "hyp", MADE_FROM) as output:
        output.finish([])
    assert (tmp_path / "new" / "folder" / "hyp").is_file()


def test_two_runs_cannot_write_one_file(tmp_path):
    with PartialOutput(tmp_path / "hyp", MADE_FROM), pytest.raises(UsageError, match="another process is writing"):
        PartialOutput(tmp_path / "hyp", MADE_FROM)


def test_a_full_disk_is_told_and_what_is_there_is_kept(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with PartialOutput(tmp_path / "hyp", MADE_FROM) as output:
        output.add([record(0)])
        full = open("/dev/full", "wb")  # noqa: SIM115 (closed by the output)
        kept, output._handle = output._handle, full
        with pytest.raises(ResourceError, match=r"hyp\.part cannot be written: no space left on device"):
            output.add([record(1)])
        kept.close()
    with PartialOutput(tmp_path / "hyp", MADE_FROM) as output:
        assert list(output.done) == ["u0"]
