"""Rows C of the catalogue but for a full disk: killed, stopped, damaged, doubled and changed trainings go on or are refused."""

import hashlib
import json
import random
import re
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asr import __version__
from asr.models.package import load_model
from tests.faults.commands import Outcome, content, fine, read_lines, steps, to_lines, told, train_words

FILES = ("model.safetensors", "optimizer.safetensors", "average.safetensors", "state.json", "checksums.json")
CLOCKS = {"train_s", "valid_s", "audio_s_per_s"}


@pytest.fixture
def resume(stage, words) -> Callable[[Path], Outcome]:
    """The command again, in another folder."""

    def run(folder: Path, *sabotage: tuple) -> Outcome:
        return stage.run("train", words, ("no_curves", {}), ("work_in", {"folder": str(folder)}), *sabotage)

    return run


@pytest.fixture
def resume_all(stage, words) -> Callable[[list[Path]], list[Outcome]]:
    """The command again in many folders."""

    def run(folders: list[Path]) -> list[Outcome]:
        fine(stage.run("train", words, ("no_curves", {}), ("train_in_each", {"folders": [str(folder) for folder in folders]})))
        return [Outcome("train", int((one / "code").read_text()), "", (one / "err").read_text()) for one in folders]

    return run


def timeless(run_dir: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in CLOCKS} for line in read_lines(run_dir / "metrics.jsonl")]


def same_run(one: Path, other: Path) -> None:
    """The same model to the byte, the same metrics but for the clock, and nothing left behind."""
    assert content(one / "model") == content(other / "model")
    assert timeless(one) == timeless(other)
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    assert steps(one)[-1] == steps(other)[-1]
    litter = [path for path in one.rglob("*") if ".tmp" in path.name or ".old" in path.name]
    assert not litter


def usable_model(run_dir: Path) -> int:
    """The epoch of the model that asr-decode would take now."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that its replacement was cut short
        return load_model(run_dir).notes["epoch"]


def resumed_step(outcome: Outcome) -> int:
    found = re.search(r"resumed from step (\d+)", outcome.err)
    return int(found[1]) if found else 0


@pytest.mark.parametrize(("save", "stride"), [("first", 3), ("last", 1)])
def test_c1_killed_at_every_file_event_of_a_save_ends_with_the_same_bytes(
    stage, words, half_way, straight, resume_all, tmp_path, save, stride
):
    """Of the first save, which has nothing to replace, every third event does."""
    start = tmp_path / "start"
    if save == "last":
        shutil.copytree(half_way, start)
    else:
        start.mkdir()
    (tmp_path / "copies").mkdir()
    sabotage = ("die_at_each_event", {"epoch": 0 if save == "first" else 2, "copies": str(tmp_path / "copies"), "stride": stride})
    fine(stage.run("train", words, ("no_curves", {}), ("work_in", {"folder": str(start)}), sabotage))
    folders = sorted((tmp_path / "copies").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(folders.pop())  # the one that was not killed
    events = [(folder / "event").read_text() for folder in folders]
    expected = ["fsync model.tmp", "fsync checkpoints/step-0"]
    if save == "last":
        expected += ["os.rename model", "os.rename model.tmp", "os.remove model.old", "os.rmdir model.old"]
        expected += ["open metrics.jsonl", "os.rename .tmp-", "os.rename checkpoints/", "os.remove checkpoints/step-0000002/"]
    for part in expected:
        assert any(event.startswith(part) for event in events), f"no event {part} among {events}"
    if save == "last":
        assert {usable_model(folder / "run") for folder in folders} == {2, 3}, "epochs of the model there is at any time"
    newest = [(steps(folder / "run") or [0])[-1] for folder in folders]
    assert set(newest) == ({0} if save == "first" else {4, 6})
    for event, step, folder, outcome in zip(events, newest, folders, resume_all(folders), strict=True):
        try:
            fine(outcome)
            if step == 6:
                assert "already complete" in outcome.err, "work was lost"
            else:
                assert resumed_step(outcome) == step, "work was lost"
            same_run(folder / "run", straight)
        except AssertionError as fault:
            raise AssertionError(f"killed before {event}: {fault}") from fault


def test_c2_killed_at_random_times_ends_with_the_same_bytes(stage, words, straight, tmp_path):
    """With a checkpoint after every step, so that it goes on inside epochs too."""
    draw = random.Random(8)
    words = [*words, "training.checkpoint_minutes=1e-6"]
    sabotages = (("no_curves", {}), ("work_in", {"folder": str(tmp_path)}), ("slow_steps", {"seconds": 0.1}))
    kills = 0
    while kills < 6:
        act = stage.start("train", words, *sabotages)
        act.until(lambda act=act: "model: " in act.told() or "already complete" in act.told())
        if "already complete" in act.told():
            fine(act.wait())
            break
        time.sleep(draw.uniform(0.0, 0.5))
        act.send(signal.SIGKILL)
        kills += act.wait().code == -signal.SIGKILL
    assert kills >= 2
    fine(stage.run("train", words, *sabotages))
    same_run(tmp_path / "run", straight)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 138)])
def test_c3_a_signal_finishes_the_step_saves_and_says_so(resume, straight, tmp_path, name, code):
    outcome = resume(tmp_path, ("signal_at_step", {"number": int(getattr(signal, name)), "step": 3}))
    assert outcome.code == code
    assert "stopping after this step; the checkpoint is saved first" in outcome.err
    assert "stopped at step 3, saved in run: the same command goes on from here" in outcome.err
    assert steps(tmp_path / "run") == [2, 3]
    again = fine(resume(tmp_path))
    assert resumed_step(again) == 3
    same_run(tmp_path / "run", straight)


def test_c3_a_second_ctrl_c_stops_at_once(resume, tmp_path):
    outcome = resume(tmp_path, ("signal_at_step", {"number": int(signal.SIGINT), "step": 3, "times": 2}))
    told(outcome, 130, "stopped")
    assert steps(tmp_path / "run") == [2]


def damaged(half_way: Path, folder: Path, name: str, damage: Callable[[bytes], bytes], which: tuple[int, ...] = (4,)) -> Path:
    """A copy of the half-finished run whose checkpoints `which` have one file damaged."""
    shutil.copytree(half_way, folder)
    for step in which:
        path = folder / "run" / "checkpoints" / f"step-{step:07d}" / name
        path.write_bytes(damage(path.read_bytes()))
    return folder


CUTS: dict[str, Callable[[bytes], bytes]] = {
    "0": lambda data: b"",
    "1": lambda data: data[:1],
    "4": lambda data: data[:4],
    "100": lambda data: data[:100],
    "half": lambda data: data[: len(data) // 2],
    "n-1": lambda data: data[:-1],
}


def flip(place: float, bit: int = 3) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[int(place * (len(changed) - 1))] ^= 1 << bit
        return bytes(changed)

    return change


FLIPS = {f"{place:g}": flip(place, bit) for place, bit in ((0.0, 0), (0.01, 7), (0.37, 4), (0.8, 1), (1.0, 3))}


def refused_when_all_are_damaged(half_way, resume_all, tmp_path, kinds) -> None:
    cases = [(name, kind) for name in FILES for kind in kinds]
    folders = [damaged(half_way, tmp_path / f"{name}-{kind}", name, kinds[kind], which=(2, 4)) for name, kind in cases]
    for (name, _), outcome in zip(cases, resume_all(folders), strict=True):
        # a list of checksums that can still be read blames a file that does not fit it
        named = "step-0000004/" if name == "checksums.json" else f"step-0000004/{name}"
        verdict = told(outcome, 4, "no intact checkpoint is left in run/checkpoints", named, "checksums.json", "start anew")
        assert "\n" not in verdict
    for outcome, folder in zip(resume_all(folders), folders, strict=True):
        told(outcome, 4, "no intact checkpoint is left in run/checkpoints", "step-0000002.corrupt is damaged", "start anew")
        assert content(folder / "run" / "model") == content(half_way / "run" / "model"), "the best model is kept"


def test_c7_cut_files_are_one_kind_of_error(half_way, resume_all, tmp_path):
    refused_when_all_are_damaged(half_way, resume_all, tmp_path, CUTS)


def test_c8_one_flipped_bit_is_noticed_wherever_it_is(half_way, resume_all, tmp_path):
    refused_when_all_are_damaged(half_way, resume_all, tmp_path, FLIPS)


@pytest.mark.parametrize("row", ["C7", "C8"])
def test_the_checkpoint_before_a_damaged_one_is_taken_and_said(half_way, straight, resume_all, tmp_path, row):
    damage = CUTS["half"] if row == "C7" else FLIPS["0.37"]
    folders = [damaged(half_way, tmp_path / name, name, damage) for name in FILES]
    for name, folder, outcome in zip(FILES, folders, resume_all(folders), strict=True):
        fine(outcome)
        warning = next(line for line in outcome.err.splitlines() if line.startswith("WARNING: "))
        assert ("checksums.json" if name == "checksums.json" else f"step-0000004/{name}") in warning
        assert "set aside as step-0000004.corrupt and the checkpoint before it is used" in warning
        assert resumed_step(outcome) == 2
        shutil.rmtree(folder / "run" / "checkpoints" / "step-0000004.corrupt")
        same_run(folder / "run", straight)


@pytest.mark.parametrize("row", ["C7", "C8"])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokens.txt"])
def test_a_damaged_model_is_refused_by_asr_decode(run_dir, speech, asr, tmp_path, row, name):
    for number, damage in enumerate((CUTS if row == "C7" else FLIPS).values()):
        copy = tmp_path / str(number)
        shutil.copytree(run_dir / "model", copy / "model")
        path = copy / "model" / name
        before = path.read_bytes()
        if damage(before) == before:  # the file is shorter than the cut
            continue
        path.write_bytes(damage(before))
        outcome = asr("decode", f"model={copy}", speech / "audio" / "test-000.wav")
        told(outcome, 4, str(path), "sha256", "copy the model folder again", alone=True)
        assert outcome.out == ""


def stray(folder: Path) -> None:
    """A checkpoint without its last file, the rests of killed saves, and a file in the place of a checkpoint."""
    checkpoints = folder / "run" / "checkpoints"
    (checkpoints / "step-0000004" / "checksums.json").unlink()
    (checkpoints / "step-0000006.tmp-9999999").mkdir()
    (checkpoints / "step-0000006.tmp-9999999" / "model.safetensors").write_bytes(b"half")
    (checkpoints / "step-0000006").write_text("a file")
    (folder / "run" / "model.tmp-9999999").mkdir()
    (folder / "run" / ".tmp-9999999-abcdef01").write_bytes(b"half")


def test_c9_what_a_killed_save_left_is_reported_and_removed(half_way, straight, resume, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(half_way, folder)
    stray(folder)
    outcome = fine(resume(folder))
    assert "removing run/checkpoints/step-0000006.tmp-9999999, the rest of a save that was cut off" in outcome.err
    assert "removing run/.tmp-9999999-abcdef01, the rest of a save that was cut off" in outcome.err
    assert "step-0000004/checksums.json is missing" in outcome.err
    assert "run/checkpoints/step-0000006 is no folder" in outcome.err
    assert resumed_step(outcome) == 2
    for kept in folder.rglob("*.corrupt"):
        shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
    same_run(folder / "run", straight)


def test_c10_a_second_training_in_one_folder_is_refused(stage, words, asr, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = stage.start(
        "train", words, ("no_curves", {}), ("work_in", {"folder": str(tmp_path)}), ("slow_steps", {"seconds": 0.3})
    )
    first.until(lambda: "model: " in first.told())
    verdict = told(asr("train", *words), 2, "run is in use by process", "choose another run_dir", alone=True)
    assert f"process {first.pid} on " in verdict
    fine(first.wait())
    fine(asr("train", *words))


def test_c13_a_finished_run_is_left_alone(straight, words, asr, tmp_path, monkeypatch):
    shutil.copytree(straight, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / ".lock").unlink()
    before = content(tmp_path / "run")
    outcome = fine(asr("train", *words))
    assert "run is already complete" in outcome.err
    (tmp_path / "run" / ".lock").unlink()
    assert content(tmp_path / "run") == before


@pytest.fixture
def elsewhere(few, words, half_way, tmp_path) -> Callable[..., list[str]]:
    """Half a run and its data, both moved; returns the words of the command that goes on with them."""
    shutil.copytree(half_way / "run", tmp_path / "moved run")
    shutil.copytree(few, tmp_path / "moved data")
    there = [f"data.dir={tmp_path / 'moved data'}", f"run_dir={tmp_path / 'moved run'}", "device=auto"]
    return lambda *more: [*words, *there, *more]


def test_c11_a_run_goes_on_at_another_place_with_other_threads_to_the_same_bytes(elsewhere, straight, asr, tmp_path):
    outcome = fine(asr("train", *elsewhere("batches.workers=3", "batches.cache_mb=0", "training.checkpoint_minutes=0.001")))
    assert resumed_step(outcome) == 4
    same_run(tmp_path / "moved run", straight)


def edited(run_dir: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what the checkpoints say of themselves, as another machine or version would have written it."""
    for folder in (run_dir / "checkpoints").iterdir():
        state = json.loads((folder / "state.json").read_text())
        change(state)
        (folder / "state.json").write_text(json.dumps(state))
        sums = json.loads((folder / "checksums.json").read_text())
        sums["state.json"] = hashlib.sha256((folder / "state.json").read_bytes()).hexdigest()
        (folder / "checksums.json").write_text(json.dumps(sums))


def test_c11_a_run_from_a_gpu_goes_on_without_one_and_says_so(elsewhere, asr, tmp_path):
    edited(tmp_path / "moved run", lambda state: state.update(device="cuda", precision="bfloat16"))
    outcome = fine(asr("train", *elsewhere("device=cpu")))
    assert "WARNING: the run was on cuda in bfloat16 and goes on on cpu in float32" in outcome.err
    assert resumed_step(outcome) == 4


def test_c11_recordings_that_cannot_be_used_any_more_would_change_the_order(stage, few, asr, tmp_path):
    shutil.copytree(few, tmp_path / "data")
    words = train_words(tmp_path / "data", tmp_path / "run", training__epochs=2, data__on_bad="skip", data__max_bad_fraction=0.2)
    assert stage.run("train", words, ("no_curves", {}), ("before_epoch", {"number": 1, "what": "die"})).code == 9
    (tmp_path / "data" / "audio" / "train-003.wav").unlink()
    said = ("train.jsonl: 15 utterances can be used now, 16 could at the last checkpoint", "another run_dir")
    told(asr("train", *words), 3, *said)


def test_c15_a_checkpoint_of_before_an_option_was_added(half_way, words, straight, resume, tmp_path):
    shutil.copytree(half_way, tmp_path / "old")

    def older(state: dict[str, Any]) -> None:
        del state["config"]["objective"], state["config"]["training"]["weight_noise"], state["used"], state["device"]

    edited(tmp_path / "old" / "run", older)
    assert resumed_step(fine(resume(tmp_path / "old"))) == 4
    same_run(tmp_path / "old" / "run", straight)


def test_c15_a_checkpoint_of_another_format_names_the_version_that_reads_it(elsewhere, asr, tmp_path):
    edited(tmp_path / "moved run", lambda state: state.update(format=99, asr="7.1"))
    verdict = told(asr("train", *elsewhere()), 4, "format 99", "reads 1", "use the version that wrote it, 7.1", alone=True)
    assert __version__ in verdict


def test_c18_a_disk_that_cannot_keep_what_was_written_fails_the_save(resume, straight, tmp_path):
    outcome = resume(tmp_path, ("before_epoch", {"number": 1, "what": "failing_fsync"}))
    told(outcome, 5, "run/model", "could not be written", "the one before it is intact")
    assert steps(tmp_path / "run") == [2]
    assert usable_model(tmp_path / "run") == 1
    fine(resume(tmp_path))
    same_run(tmp_path / "run", straight)


@pytest.mark.parametrize("rest", ['{"epoch": 3, "st', "\x00\x00\x00\x00"])
def test_c19_metrics_cut_in_the_middle_of_a_line(half_way, straight, resume, tmp_path, rest):
    """By a kill; or by a power cut, after which a file may end in zeros."""
    shutil.copytree(half_way, tmp_path / "copy")
    with open(tmp_path / "copy" / "run" / "metrics.jsonl", "a") as handle:
        handle.write(rest)
    fine(resume(tmp_path / "copy"))
    same_run(tmp_path / "copy" / "run", straight)


@pytest.mark.parametrize("case", ["C22-long-name", "C22-long-path"])
def test_a_name_longer_than_the_file_system_allows(few, asr, tmp_path, case):
    run_dir = tmp_path / ("r" * 300) if case == "C22-long-name" else tmp_path.joinpath(*["r" * 200] * 21)
    told(asr("train", *train_words(few, run_dir)), 5, "run_dir=", "the name is longer than the file system allows", alone=True)


CHANGES = {
    "C14-option": (["encoder.width=25", "seed=7"], "encoder.width: 24 -> 25", "seed: 1 -> 7"),
    "C14-tokens": (["tokens.case=upper"], "tokens.case: 'keep' -> 'upper'", "another run_dir"),
    "C14-manifest": ([], "train.jsonl has changed since the last checkpoint", "another run_dir"),
    "C14-valid": ([], "valid.jsonl has changed since the last checkpoint", "another run_dir"),
}


@pytest.mark.parametrize("row", list(CHANGES))
def test_a_run_goes_on_with_its_own_configuration_and_data_only(half_way, words, few, asr, tmp_path, monkeypatch, row):
    more, *said = CHANGES[row]
    shutil.copytree(half_way / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    manifest = few / ("valid.jsonl" if row == "C14-valid" else "train.jsonl")
    before, kept = content(tmp_path / "run"), manifest.read_bytes()
    try:
        if row in ("C14-manifest", "C14-valid"):
            manifest.write_bytes(to_lines(read_lines(manifest)[:-1]))
        told(asr("train", *words, *more), 2, *said, alone=True)
    finally:
        manifest.write_bytes(kept)
    after = content(tmp_path / "run")
    del before[".lock"], after[".lock"]
    assert after == before
