"""Rows O of the catalogue: no GPU, a terminal that is closed, dumb, narrow or of another language, Ctrl-C, and typing errors."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import soundfile
import torch

from tests.faults.commands import FOREIGN, Outcome, content, fine, read_lines, small_set, steps, to_lines, told, train_words
from tests.faults.stage import ROOT


@pytest.mark.skipif(torch.cuda.is_available(), reason="only without a GPU is asking for one a mistake")
@pytest.mark.parametrize("command", ["train", "decode"])
def test_o5_a_gpu_asked_for_where_there_is_none(asr, speech, run_dir, tmp_path, command):
    words = {
        "train": [*train_words(speech, tmp_path / "run"), "device=cuda"],
        "decode": [f"model={run_dir}", "device=cuda", str(speech / "audio" / "test-000.wav")],
    }[command]
    told(asr(command, *words), 2, "device=cuda", "no usable GPU", "device=cpu", alone=True)


def python(command: list[str], **environment: str) -> Outcome:
    """`python -m asr COMMAND ...` as a program of its own, with an end of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "asr", *command],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    return Outcome(command[0], done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"))


def test_o1_memory_that_does_not_suffice_names_the_batch(stage, few, tmp_path):
    """Room for the model and not for its first step; with room for both the same command goes on."""
    words = train_words(few, tmp_path / "run", features__frame_shift_ms=0.125, encoder__conv_channels=64, encoder__subsampling=4)
    limit = ("before_epoch", {"number": 0, "what": "limit_memory", "more": 80_000_000})
    outcome = stage.run("train", words, ("no_curves", {}), limit)
    verdict = told(outcome, 5, "out of memory on cpu at step 1", "a batch of 8 recordings", "lower batches.seconds (now 90)")
    assert "\n" not in verdict
    assert steps(tmp_path / "run") == []
    fine(stage.run("train", words, ("no_curves", {})))


def test_o10_no_home_and_nothing_but_the_run_directory_to_write_to(few, tmp_path):
    """The package in a folder that may not be written, no HOME, and the working folder not writable either."""
    place = tmp_path / "site-packages"
    shutil.copytree(ROOT / "asr", place / "asr", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", place / "asr" / "configs")
    (tmp_path / "run").mkdir()
    for folder in [place, *(path for path in place.rglob("*") if path.is_dir())]:
        folder.chmod(0o555)
    words = train_words(few, tmp_path / "run")
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.faults.sabotage import drop_privileges\n"
        f"drop_privileges(); sys.path[0] = {str(place)!r}\n"
        f"from asr.__main__ import main; import asr; assert asr.__file__.startswith({str(place)!r})\n"
        f"sys.exit(main(['train', *{words!r}]))"
    )
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=place, env={**kept, "HOME": "/nonexistent"}
    )
    outcome = fine(Outcome("train", done.returncode, done.stdout, done.stderr))
    assert "done in" in outcome.err
    assert steps(tmp_path / "run") == [2]
    assert not list(place.rglob("__pycache__"))


def test_o11_without_assertions_with_warnings_as_errors_and_another_hash_seed(words, straight, tmp_path):
    """The same bytes. Warnings of the libraries themselves, while they are imported, are not ours."""
    program = "import sys, warnings, torch, numba, matplotlib.pyplot, soundfile, hydra, asr.training.loop\n"
    program += f"warnings.simplefilter('error')\nfrom asr.__main__ import main\nsys.exit(main(['train', *{words!r}]))"
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-O", "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment)
    fine(Outcome("train", done.returncode, done.stdout, done.stderr))
    assert content(tmp_path / "run" / "model") == content(straight / "model")


def test_o8_a_reader_that_never_read(tmp_path):
    """asr-score writes its report, though nobody reads its table; Python itself must not complain at its end either."""
    lines = [{"id": f"u{number}", "text": "eins " * 50, "speaker": f"s{number}"} for number in range(300)]
    (tmp_path / "ref.jsonl").write_bytes(to_lines(lines))
    words = f"ref={tmp_path}/ref.jsonl hyp={tmp_path}/ref.jsonl resamples=100 out={tmp_path}/score"
    script = f'{sys.executable} -m asr score {words} | true; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ""
    assert done.returncode == 141, "the code of a program that SIGPIPE ends"


def test_o8_a_reader_that_leaves_early(stage, run_dir, speech, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    sounds = [str(path) for path in sorted((speech / "audio").glob("test-*.wav"))] * 5
    act = stage.start("decode", [f"model={run_dir}", *sounds], ("slow_reads", {"seconds": 0.02}), out=pipe)
    with open(pipe, encoding="utf-8") as reader:
        assert reader.readline() == f"{sounds[0]}\tbac\n"
    outcome = act.wait()
    assert (outcome.code, outcome.err) == (141, "")


def on_a_terminal(stage, command: str, words: list[str], *, columns: int, **environment: str) -> str:
    """What a command shows on a terminal, where bars are drawn."""
    import fcntl
    import struct
    import termios

    controller, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    pieces = []

    def listen() -> None:
        try:
            while piece := os.read(controller, 65536):
                pieces.append(piece)
        except OSError:  # EIO: the last holder of the terminal has closed it
            return

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        name = Path(os.ttyname(terminal))
        outcome = stage.run(command, words, ("environment", {"TERM": "dumb", **environment}), out=name, err=name)
    finally:
        os.close(terminal)
        listener.join()
        os.close(controller)
    shown = b"".join(pieces).decode("utf-8")
    assert outcome.code == 0, shown
    assert not any(word in shown for word in FOREIGN)
    return shown


def test_o8_a_dumb_narrow_terminal_gets_a_bar_and_no_garbage(stage, few, run_dir, speech, tmp_path):
    shown = on_a_terminal(stage, "train", train_words(few, tmp_path / "run"), columns=40)
    bars = [piece for piece in re.split(r"[\r\n]+", shown) if piece.startswith("epoch 1:")]
    assert bars, "no bar was drawn, so nothing was tested"
    assert max(map(len, bars)) <= 40
    assert re.search(r"^epoch 1: [12]/2, loss \d", "\n".join(bars), re.MULTILINE), "the loss must be in sight"
    shown += on_a_terminal(
        stage, "decode", [f"model={run_dir}", f"manifest={speech / 'test.jsonl'}", f"out={tmp_path / 'hyp'}"], columns=40
    )
    assert "decoding" in shown
    assert "\x1b" not in shown


def test_o8_no_bars_where_there_is_no_terminal(stage, few, run_dir, speech, tmp_path):
    outcome = fine(stage.run("train", train_words(few, tmp_path / "run"), ("no_curves", {})))
    words = [f"model={run_dir}", f"manifest={speech / 'test.jsonl'}", f"out={tmp_path / 'hyp'}"]
    for text in (outcome.err, fine(stage.run("decode", words)).err):
        assert "\r" not in text
        assert "%|" not in text


PLAIN = {"LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii"}


def test_o8_umlauts_where_the_terminal_has_none(run_dir, speech, tmp_path):
    corpus = tmp_path / "Übung"
    corpus.mkdir()
    samples, rate = soundfile.read(speech / "audio" / "test-000.wav")
    for number in range(3):
        soundfile.write(corpus / f"größe{number}.wav", samples, rate)
        (corpus / f"größe{number}.txt").write_text("süß", encoding="utf-8")
    prepare = ["prepare", "folder", "--root", str(corpus), "--out", str(tmp_path / "däta")]
    outcome = fine(python(["data", *prepare, "--valid-fraction", "0", "--test-fraction", "0"], **PLAIN))
    assert outcome.out.isascii()
    assert {line["text"] for line in read_lines(tmp_path / "däta" / "train.jsonl")} == {"süß"}
    manifest = tmp_path / "däta" / "train.jsonl"
    outcome = fine(python(["score", f"ref={manifest}", f"hyp={manifest}", f"out={tmp_path / 'prüfung'}"], **PLAIN))
    assert (outcome.out + outcome.err).isascii()
    assert json.loads((tmp_path / "prüfung" / "score.json").read_text())["correct"] == 3
    assert "größe0" in (tmp_path / "prüfung" / "alignments.txt").read_text(encoding="utf-8")
    bad = corpus / "größe9.wav"
    bad.write_bytes(b"")
    outcome = python(["decode", f"model={run_dir}", str(corpus / "größe0.wav"), str(bad)], **PLAIN)
    told(outcome, 3, "1 of 2 files could not be decoded")
    assert (outcome.out + outcome.err).isascii()
    assert [line.split("\t")[1] for line in outcome.out.splitlines()] == ["bac", ""]


def test_o9_ctrl_c_in_the_data_check(stage, speech, tmp_path):
    act = stage.start("train", train_words(speech, tmp_path / "run"), ("slow_reads", {"seconds": 0.1}))
    act.until(lambda: (tmp_path / "run" / ".lock").exists())
    act.send(signal.SIGINT)
    told(act.wait(), 130, "stopped", alone=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_o9_ctrl_c_in_preparing(stage, speech, tmp_path):
    for line in small_set(speech, tmp_path / "data"):
        (tmp_path / "data" / line["audio_filepath"]).with_suffix(".txt").write_text(line["text"])
    words = ["prepare", "folder", "--root", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    reached = tmp_path / "reached"
    act = stage.start("data", words, ("slow_reads", {"seconds": 0.2, "tell": str(reached)}))
    act.until(reached.exists)
    act.send(signal.SIGINT)
    told(act.wait(), 130, "stopped", alone=True)
    assert not (tmp_path / "out").exists()


def test_o9_ctrl_c_in_training(stage, few, tmp_path):
    words = train_words(few, tmp_path / "run", training__epochs=3)
    act = stage.start("train", words, ("no_curves", {}), ("slow_steps", {"seconds": 0.3}))
    act.until(lambda: "epoch   1/3" in act.told())
    act.send(signal.SIGINT)
    outcome = act.wait()
    assert outcome.code == 130
    assert "stopping after this step" in outcome.err
    saved = steps(tmp_path / "run")[-1]
    assert 2 <= saved <= 4
    assert f"resumed from step {saved}" in fine(stage.run("train", words, ("no_curves", {}))).err


def test_o9_ctrl_c_in_decoding(stage, asr, run_dir, speech, tmp_path):
    out = tmp_path / "hyp"
    words = [f"model={run_dir}", f"manifest={speech / 'test.jsonl'}", f"out={out}", "batch_seconds=1"]
    part = tmp_path / "hyp.part"
    act = stage.start("decode", words, ("slow_reads", {"seconds": 0.3}))
    act.until(lambda: part.exists() and len(part.read_text().splitlines()) > 1)
    act.send(signal.SIGINT)
    outcome = act.wait()
    told(outcome, 130, "stopped")
    assert f"of 8 utterances are kept in {part}; the same command goes on from there" in outcome.err
    assert not out.exists()
    assert "going on from" in fine(asr("decode", *words)).err
    assert [line["text"] for line in read_lines(out)] == [line["text"] for line in read_lines(speech / "test.jsonl")]


GIVEN = ["data.dir=DATA", "run_dir=RUN"]
TYPING = {
    "O12-key": ("train", [*GIVEN, "encoder.widht=3"], "unknown key 'encoder.widht': the closest known key is encoder.width"),
    "O12-group": ("train", [*GIVEN, "encodr=small"], "unknown key 'encodr': the closest known key is encoder"),
    "O12-choice": ("train", [*GIVEN, "experiment=fsd"], "experiment=fsd is not known: did you mean fsdd?"),
    "O12-flag": ("train", [*GIVEN, "--epochs=3"], "unknown option '--epochs=3': options are written key=value"),
    "O12-multirun": ("train", [*GIVEN, "-m", "seed=1,2"], "a loop of the shell goes on when one of several fails"),
    "O12-sweep": ("train", [*GIVEN, "seed=1,2"], "seed takes a whole number, got several values: give one, and run the command"),
    "O12-whole": ("train", [*GIVEN, "encoder.width=many"], "encoder.width takes a whole number, got 'many'"),
    "O12-fraction": ("train", [*GIVEN, "encoder.layers=1.5"], "encoder.layers takes a whole number, got 1.5"),
    "O12-number": ("train", [*GIVEN, "optim.learning_rate=fast"], "optim.learning_rate takes a number, got 'fast'"),
    "O12-truth": ("train", [*GIVEN, "encoder.bidirectional=perhaps"], "encoder.bidirectional takes true or false, got 'perhaps'"),
    "O12-list": ("train", [*GIVEN, "augment.speed=quick"], "augment.speed takes a list such as [1,2], got 'quick'"),
    "O12-map": ("train", [*GIVEN, "tokens.map=[1,2]"], "expected a mapping such as {a: b}"),
    "O12-map-value": ("train", [*GIVEN, "tokens.map={a: [1, 2]}"], "expected a mapping such as {a: b}"),
    "O12-range": ("train", [*GIVEN, "training.epochs=0"], "training.epochs must be at least 1, got 0"),
    "O12-word": ("train", [*GIVEN, "small"], "'small' is no key=value, and this command takes no files"),
    "O12-empty": ("train", [*GIVEN, "seed="], "seed takes a whole number"),
    "O12-no-run-dir": ("train", ["data.dir=DATA"], "run_dir is not set: give a folder"),
    "O12-no-data": ("train", ["run_dir=RUN"], "data.dir is not set: give the folder that `asr-data prepare` wrote"),
    "O12-decode-key": ("decode", ["modell=DATA", "a.wav"], "unknown key 'modell': the closest known key is model"),
    "O12-decode-model": ("decode", ["a.wav"], "model= is missing"),
    "O12-decode-value": ("decode", ["model=DATA", "batch_seconds=long", "a.wav"], "batch_seconds takes a number, got 'long'"),
    "O12-score-key": ("score", ["reff=DATA"], "unknown key 'reff': the closest known key is ref"),
    "O12-score-ref": ("score", ["hyp=DATA"], "ref= is missing"),
    "O12-score-unit": ("score", ["ref=DATA", "hyp=DATA", "unit=words"], "unit must be one of word, char, phone, got 'words'"),
    "O12-corpus": ("data", ["prepare", "fssd", "--root", "DATA", "--out", "RUN"], "unknown corpus 'fssd': did you mean fsdd?"),
    "O12-option": ("data", ["prepare", "fsdd", "--rot", "DATA", "--out", "RUN"], "--ro"),
    "O12-data-value": (
        "data",
        ["prepare", "folder", "--root", "DATA", "--out", "RUN", "--seed", "x"],
        "--seed: expected a whole number, got 'x'",
    ),
    "O12-data-missing": ("data", ["prepare", "folder", "--out", "RUN"], "missing --root"),
}


@pytest.mark.parametrize("row", list(TYPING))
def test_a_typing_error_is_answered_with_what_was_meant(asr, speech, tmp_path, row):
    command, words, said = TYPING[row]
    words = [word.replace("DATA", str(speech)).replace("RUN", str(tmp_path / "run")) for word in words]
    told(asr(command, *words), 2, said, alone=True)
    assert list(tmp_path.iterdir()) == []
