"""Rows C4 and C5: no space, a size limit, no permission. It is said, nothing earlier is lost, no half of a file stays."""

import json
import shutil
from pathlib import Path

import pytest

from tests.faults.commands import Outcome, content, fine, read_lines, steps, to_lines, told, train_words

LIMITED = "larger than the file-size limit of this process"


@pytest.fixture
def wide_words(few, tmp_path) -> list[str]:
    """Two epochs of a model whose optimizer state is larger than everything else that is written."""
    return train_words(few, tmp_path / "run", training__epochs=2, encoder__width=80)


def limited(stage, words: list[str], size: int) -> Outcome:
    limit = ("before_epoch", {"number": 1, "what": "limit_file_size", "size": size})
    return stage.run("train", words, ("no_curves", {}), limit)


def no_litter(run_dir: Path) -> None:
    names = [path.name for path in run_dir.rglob("*")]
    assert not [name for name in names if ".tmp" in name or ".old" in name or name.startswith(".curves")]


SIZES = {"C5-model": 20_000, "C5-optimizer": 500_000}


@pytest.mark.parametrize("row", list(SIZES))
def test_a_save_that_hits_the_size_limit_keeps_the_save_before(stage, wide_words, tmp_path, row):
    outcome = limited(stage, wide_words, SIZES[row])
    run_dir = tmp_path / "run"
    place = "checkpoints/step-0000004" if row == "C5-optimizer" else "/run/model: "
    verdict = told(outcome, 5, place, LIMITED)
    assert "\n" not in verdict
    no_litter(run_dir)
    assert steps(run_dir) == [2]
    epoch = json.loads((run_dir / "model" / "config.json").read_text())["notes"]["epoch"]
    assert epoch == (2 if row == "C5-optimizer" else 1)
    again = fine(stage.run("train", wide_words, ("no_curves", {})))
    assert "resumed from step 2" in again.err
    assert [line["epoch"] for line in read_lines(run_dir / "metrics.jsonl")] == [1, 2]
    assert steps(run_dir) == [2, 4]


@pytest.mark.parametrize("file", ["metrics.jsonl", "curves.png"])
def test_c5_small_files_are_named_too(stage, few, tmp_path, file):
    """A quota that the picture or the metrics hit: the file is named, and the run can go on later."""
    words = train_words(few, tmp_path / "run", training__epochs=2)
    ballast = tmp_path / "run" / "metrics.jsonl"
    if file == "metrics.jsonl":
        assert stage.run("train", words, ("no_curves", {}), ("before_epoch", {"number": 1, "what": "die"})).code == 9
        line = read_lines(ballast)[0]
        ballast.write_text("".join(json.dumps(line) + "\n" for _ in range(400)))
        size = ballast.stat().st_size + 10
        assert size > 60_000, "the model and its checkpoint must fit"
        limit = ("before_epoch", {"number": 1, "what": "limit_file_size", "size": size})
        outcome = stage.run("train", words, ("no_curves", {}), limit)
    else:
        outcome = stage.run("train", words, ("before_epoch", {"number": 1, "what": "limit_file_size", "size": 40_000}))
    verdict = told(outcome, 5, file)
    assert "\n" not in verdict
    no_litter(tmp_path / "run")
    assert steps(tmp_path / "run") == [2]
    fine(stage.run("train", words, ("no_curves", {})))
    assert [line["epoch"] for line in read_lines(ballast)][-1] == 2


@pytest.mark.parametrize(("place", "leave"), [("model", 20_000), ("checkpoints/step-0000004", 1_000_000)])
def test_c4_a_full_disk_stops_training_and_keeps_the_save_before(stage, few, small_disk, place, leave):
    words = train_words(few, small_disk / "run", training__epochs=3)
    fill = ("before_epoch", {"number": 1, "what": "fill_disk", "folder": str(small_disk), "leave": leave})
    outcome = stage.run("train", words, ("no_curves", {}), fill)
    verdict = told(outcome, 5, str(small_disk / "run" / place), "no space left", "needs ", " MB free")
    assert "\n" not in verdict
    no_litter(small_disk / "run")
    assert steps(small_disk / "run") == [2]
    (small_disk / "ballast").unlink()
    outcome = fine(stage.run("train", [*words, "training.keep=1"], ("no_curves", {})))
    assert "resumed from step 2" in outcome.err


def test_c4_a_full_disk_stops_decoding_which_goes_on_later(run_dir, speech, small_disk, asr, tmp_path):
    (small_disk / "ballast").write_bytes(bytes(3 * 2**20 - 8192))
    out = small_disk / "hyp.jsonl"
    many = [{**line, "id": f"{turn}-{line['id']}"} for turn in range(80) for line in read_lines(speech / "test.jsonl")]
    for line in many:
        line["audio_filepath"] = str(speech / line["audio_filepath"])
    manifest = tmp_path / "many.jsonl"
    manifest.write_bytes(to_lines(many))
    words = [f"model={run_dir}", f"manifest={manifest}", f"out={out}", "device=cpu", "batch_seconds=20"]
    told(asr("decode", *words), 5, "hyp.jsonl", "no space left on device", "free some space and run again")
    assert not out.exists()
    (small_disk / "ballast").unlink()
    outcome = fine(asr("decode", *words))
    assert "going on from" in outcome.err
    assert [line["id"] for line in read_lines(out)] == [line["id"] for line in many]


@pytest.mark.parametrize("stream", ["out", "err"])
def test_c4_output_into_a_full_device(stage, run_dir, speech, stream):
    sound = speech / "audio" / "test-000.wav"
    outcome = stage.run("decode", [f"model={run_dir}", str(sound)], **{stream: Path("/dev/full")})
    if stream == "out":
        told(outcome, 5, "no space left on device", alone=True)
    else:
        assert outcome.code == 0, "the text was written; there was nothing to say on stderr"
        assert outcome.out == f"{sound}\tbac\n"


def test_c4_a_report_into_a_full_device(stage, speech):
    outcome = stage.run("score", [f"{key}={speech / 'test.jsonl'}" for key in ("ref", "hyp")], out=Path("/dev/full"))
    told(outcome, 5, "no space left on device", alone=True)


def locked_folder(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o500)
    return folder


def test_c5_no_permission_to_write(stage, few, run_dir, speech, tmp_path):
    """Root gives up its powers for this, other users have none."""
    folder = locked_folder(tmp_path / "locked")
    plain = ("drop_privileges", {})
    outcome = stage.run("train", train_words(few, folder / "run"), plain)
    told(outcome, 2, str(folder / "run"), "permission", "choose another", alone=True)
    words = [f"model={run_dir}", f"manifest={speech / 'test.jsonl'}", f"out={folder / 'hyp.jsonl'}"]
    told(stage.run("decode", words, plain), 2, str(folder / "hyp.jsonl"), "permission denied", "choose another place", alone=True)
    words = [f"ref={speech / 'test.jsonl'}", f"hyp={speech / 'test.jsonl'}", f"out={folder / 'score'}"]
    told(stage.run("score", words, plain), 5, str(folder / "score"), "no permission to write there", "choose another place")
    root = tmp_path / "corpus"
    root.mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(speech / "audio" / "test-000.wav", root / f"{name}.wav")
        (root / f"{name}.txt").write_text("bac")
    words = ["prepare", "folder", "--root", str(root), "--out", str(folder / "out")]
    told(stage.run("data", words, plain), 5, str(folder / "out"), "no permission to write there", "choose another place")
    assert content(folder) == {}
    folder.chmod(0o700)


def test_c5_a_run_directory_that_may_not_be_written_any_more(stage, few, tmp_path):
    words = train_words(few, tmp_path / "run", training__epochs=2)
    assert stage.run("train", words, ("no_curves", {}), ("before_epoch", {"number": 1, "what": "die"})).code == 9
    before = content(tmp_path / "run")
    folders = [tmp_path / "run", tmp_path / "run" / "checkpoints"]
    for folder in folders:
        folder.chmod(0o500)
    outcome = stage.run("train", words, ("drop_privileges", {}), ("no_curves", {}))
    for folder in folders:
        folder.chmod(0o700)
    verdict = told(outcome, 5, str(tmp_path / "run"), "permission")
    assert "\n" not in verdict
    after = content(tmp_path / "run")
    del before[".lock"], after[".lock"]
    assert after == before
