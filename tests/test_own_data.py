"""Own recordings in one line: `asr-train data.folder=DIR run_dir=DIR`, and everything that a user can get wrong with it."""

import json
import os
import re
import shlex
import shutil
import unicodedata
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.data.corpora.espeak import SAMPLE_RATE, Phrase, find_engine, speak
from asr.features.filterbank import FeatureOptions
from asr.models.encoder import EncoderOptions
from asr.models.model import ModelOptions, SpeechModel
from asr.models.package import load_model, save_model
from asr.text.tokenizer import Tokenizer, TokenOptions
from asr.training.loop import Training
from tests.faults.commands import Outcome, fine, read_lines, run_words, told

#: So small a network, and so short a training, that only the way through it is tested.
TINY = (
    "encoder.layers=1",
    "encoder.width=8",
    "encoder.conv_channels=4",
    "features.num_bins=16",
    "training.epochs=1",
    "optim.warmup_steps=2",
    "device=cpu",
)
GEORGIAN = ["მთა", "მდინარე", "სახლი", "წიგნი", "ძაღლი", "კატა", "წყალი", "მზე"]
ARABIC = ["كتاب", "بيت", "مدينة", "قلم", "ماء", "شمس", "قمر", "نجم"]


@pytest.fixture
def asr(capfd) -> Callable[..., Outcome]:
    def run(command: str, *words: object) -> Outcome:
        capfd.readouterr()
        code = run_words(command, [str(word) for word in words])
        return Outcome(command, code, *capfd.readouterr())

    return run


def write_noise(path: Path, seconds: float = 0.6, rate: int = 16000, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng((seed, len(path.name))).normal(0, 0.1, round(seconds * rate))
    soundfile.write(path, samples, rate)


def fill(root: Path, speakers: int = 3, takes: int = 4, rate: int = 16000) -> Path:
    """Recordings of noise with texts of two letters."""
    for speaker in range(speakers):
        for take in range(takes):
            path = root / f"s{speaker}" / f"{take}.wav"
            write_noise(path, 0.5 + 0.1 * take, rate=rate, seed=10 * speaker + take)
            path.with_suffix(".txt").write_text("ab ba" if take % 2 else "ab", encoding="utf-8")
    return root


def synthesize(root: Path, language: str, words: list[str], *, takes: int) -> Path:
    """SYNTHETIC speech of three voices: two or three of the words in each recording, some with a full stop."""
    pytest.importorskip("espeakng_loader", reason="needs the extra demo")
    engine = find_engine()
    draw = np.random.default_rng(5)
    for voice in ("m1", "f2", "m4"):
        spoken = [" ".join(draw.choice(words, draw.integers(2, 4), replace=False)) for _ in range(takes)]
        sounds = speak(engine, f"{language}+{voice}", [Phrase(text, 160, 50, 50) for text in spoken])
        for take, (text, samples) in enumerate(zip(spoken, sounds)):
            path = root / voice / f"{take:02d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            with wave.open(str(path), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(SAMPLE_RATE)
                file.writeframes(samples.tobytes())
            path.with_suffix(".txt").write_text(f"{text}{'.' * (take % 2)}\n", encoding="utf-8")
    return root


def next_commands(err: str) -> list[list[str]]:
    """The commands that a training names at its end, as words."""
    lines = err.split("\nnext:\n")[1].splitlines()
    return [shlex.split(line) for line in lines if line.startswith("  asr-")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "words", "said"),
    [
        ("ka", GEORGIAN, "in Georgian script"),
        ("ar", ARABIC, "in Arabic script, "),
    ],
)
def test_a_script_never_seen_is_trained_decoded_and_scored(asr, tmp_path, language, words, said):
    """With the one line, and then with the two lines that it prints; one of the scripts is written from right to left."""
    root, run = synthesize(tmp_path / "my recordings", language, words, takes=12), tmp_path / "run"
    keys = ("encoder.layers=1", "encoder.width=48", "training.epochs=12", "augment.start_epoch=9", "device=cpu")
    outcome = fine(asr("train", f"data.folder={root}", f"run_dir={run}", *keys))
    assert f"{root}: 36 recordings" in outcome.err
    assert "12 (" in outcome.err
    assert said in outcome.err
    assert ("written from right to left" in outcome.err) == (language == "ar")
    assert "tokens.punctuation=drop" in outcome.err
    assert "encoder.width=48" not in outcome.err, "what was typed was not chosen"
    metrics = read_lines(run / "metrics.jsonl")
    assert metrics[-1]["train_loss"] < 0.8 * metrics[0]["train_loss"]

    decode, score = next_commands(outcome.err)
    assert decode[:3] == ["asr-decode", f"model={run}", f"manifest={run / 'data' / 'test.jsonl'}"]
    fine(asr("decode", *decode[1:]))
    shown = fine(asr("score", *score[1:])).out
    references = read_lines(run / "data" / "test.jsonl")
    assert len(references) == len(read_lines(run / "test.hyp.jsonl")) == 12
    assert {one["speaker"] for one in references}.isdisjoint(one["speaker"] for one in read_lines(run / "data" / "train.jsonl"))
    count = sum(len(one["text"].split()) for one in references)
    assert f"of {count} reference tokens" in shown
    assert {"unicode=folded", "punctuation=drop", "unit=word"} <= set(score)

    tokenizer = load_model(run).tokenizer
    letters = {letter for word in words for letter in unicodedata.normalize("NFC", word)}
    assert set(tokenizer.symbols[1:]) == letters | {" "}, "the alphabet is that of the words, without the full stop"
    text = " ".join(words[:2])
    assert [tokenizer.symbols[token] for token in tokenizer.encode(text)] == list(text), "in the order in which it is said"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Path]:
    """A folder and a finished training with it. Copy them before changing them."""
    place = tmp_path_factory.mktemp("own")
    root, run = fill(place / "recordings"), place / "run"
    assert run_words("train", [f"data.folder={root}", f"run_dir={run}", *TINY]) == 0
    return root, run


def test_what_lies_in_the_run_directory(finished):
    run = finished[1]
    assert {path.name for path in (run / "data").iterdir()} == {"train.jsonl", "valid.jsonl", "test.jsonl", "folder.json"}
    parts = {part: read_lines(run / "data" / f"{part}.jsonl") for part in ("train", "valid", "test")}
    assert {part: len(lines) for part, lines in parts.items()} == {"train": 4, "valid": 4, "test": 4}
    assert all(Path(line["audio_filepath"]).is_file() for lines in parts.values() for line in lines)
    record = json.loads((run / "data" / "folder.json").read_text(encoding="utf-8"))
    assert set(record["files"]) == {f"s{s}/{t}.{suffix}" for s in range(3) for t in range(4) for suffix in ("wav", "txt")}
    assert record["keys"]["encoder.width"] == 64, "what the table says, beside what was typed"
    assert load_model(run).model.options.encoder.width == 8


def test_the_same_line_again_is_complete_and_says_what_comes_next(finished, asr):
    root, run = finished
    before = {path: path.stat().st_mtime_ns for path in sorted(run.rglob("*")) if path.is_file() and path.name != ".lock"}
    outcome = fine(asr("train", f"data.folder={root}", f"run_dir={run}", *TINY))
    assert "already complete" in outcome.err
    assert f"{root}: 24 files, as they were when {run} was begun" in outcome.err
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_stopped_training_goes_on_with_the_same_line(finished, asr, tmp_path, monkeypatch):
    """Manifests and plan are those of the first time, though the table has changed since."""
    root = shutil.copytree(finished[0], tmp_path / "recordings")
    line = [f"data.folder={root}", f"run_dir={tmp_path / 'run'}", *TINY[:-3], "training.epochs=3", *TINY[-2:]]
    finish = Training.finish_epoch

    def stop_after_the_first(training, seconds):
        finish(training, seconds)
        if training.epoch == 1:
            os.kill(os.getpid(), 15)

    monkeypatch.setattr(Training, "finish_epoch", stop_after_the_first)
    assert asr("train", *line).code == 143
    monkeypatch.setattr(Training, "finish_epoch", finish)
    monkeypatch.setattr("asr.training.own.size_for", None)
    os.utime(root / "s0" / "0.wav")
    outcome = fine(asr("train", *line))
    assert "resumed from step" in outcome.err
    assert [line["epoch"] for line in read_lines(tmp_path / "run" / "metrics.jsonl")] == [1, 2, 3]
    assert len(next_commands(outcome.err)) == 2


def changed_text(root: Path) -> None:
    (root / "s1" / "0.txt").write_text("ba", encoding="utf-8")


def added(root: Path) -> None:
    write_noise(root / "s9" / "new.wav")
    (root / "s9" / "new.txt").write_text("ab", encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed_text, ("1 changed (s1/0.txt)",)),
        (added, ("2 added (s9/new.txt, s9/new.wav)",)),
        (lambda root: (root / "s1" / "0.wav").unlink(), ("1 removed (s1/0.wav)",)),
        (lambda root: write_noise(root / "s1" / "0.wav", 0.5, seed=77), ("1 changed (s1/0.wav)",)),
        (lambda root: (added(root), changed_text(root)), ("2 added", "1 changed")),
    ],
)
def test_a_folder_that_has_changed_is_refused(finished, asr, tmp_path, change, words):
    root, run = (shutil.copytree(path, tmp_path / path.name) for path in finished)
    record = run / "data" / "folder.json"
    record.write_text(record.read_text(encoding="utf-8").replace(str(finished[0]), str(root)), encoding="utf-8")
    change(root)
    words = (f"{root} has changed since {run} was begun", *words, "or choose another run_dir")
    told(asr("train", f"data.folder={root}", f"run_dir={run}", *TINY), 2, *words, alone=True)


def test_another_folder_or_another_beginning_is_refused(finished, asr, tmp_path):
    root, run = finished
    other = shutil.copytree(root, tmp_path / "other")
    told(asr("train", f"data.folder={other}", f"run_dir={run}", *TINY), 2, f"was begun with data.folder={root}", alone=True)
    bare = shutil.copytree(run, tmp_path / "bare")
    (bare / "data" / "folder.json").unlink()
    words = "holds a training that was not begun with data.folder: choose another run_dir"
    told(asr("train", f"data.folder={root}", f"run_dir={bare}", *TINY), 2, words, alone=True)
    (bare / "data" / "folder.json").write_text('{"format": 1}')
    told(asr("train", f"data.folder={root}", f"run_dir={bare}", *TINY), 4, "folder.json: is damaged", alone=True)
    shutil.rmtree(other)
    told(asr("train", f"data.folder={other}", f"run_dir={run}", *TINY), 2, "was begun with", alone=True)


def one_recording(root: Path) -> None:
    fill(root, speakers=1, takes=1)


def without_texts(root: Path) -> None:
    for path in fill(root).rglob("*.txt"):
        path.unlink()


def some_wrong(root: Path) -> None:
    fill(root)
    (root / "s0" / "0.txt").unlink()
    (root / "s1" / "1.txt").write_text(" \n")
    (root / "s2" / "2.wav").write_bytes(b"")
    (root / "s2" / "3.txt").write_text("ab" * 200)


def with_texts(*texts: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for path, text in zip(sorted(fill(root).rglob("*.txt")), texts * 12):
            path.write_text(text, encoding="utf-8")

    return write


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda root: None, 3, ("no such folder; expected a folder of recordings with .txt or .lab files of the same names",)),
        (lambda root: root.write_text("x"), 3, ("is a file; expected a folder of recordings",)),
        (lambda root: root.mkdir(), 3, ("holds no recording (expected .wav",)),
        (without_texts, 3, ("none of its 12 recordings has a transcript", "s0/0.wav to 0.txt beside it", "asr-data prepare")),
        (one_recording, 3, ("1 recording with a transcript is too few", "3 are the least, some hundred a beginning")),
        (lambda root: fill(root / "test"), 3, ("its recordings lie in test, none in train; name a part train",)),
        (with_texts(""), 3, ("0 of 12 usable: 12 empty-text",)),
        (with_texts("?!", "..."), 3, ("no symbol to learn: all training transcripts are empty after normalisation",)),
        (with_texts("ab <unk>"), 3, ("holds <unk>, a name the toolkit keeps for itself",)),
        (
            some_wrong,
            3,
            (
                "4 of 12 utterances cannot be used",
                "no-transcript",
                "empty-text",
                "empty-file",
                "ctc-impossible",
                "data.on_bad=skip",
            ),
        ),
    ],
    ids=["missing", "file", "empty", "no-texts", "one", "no-train", "empty-texts", "marks-only", "reserved", "some"],
)
def test_folders_that_cannot_be_used(asr, tmp_path, make, code, words):
    make(tmp_path / "mine")
    outcome = asr("train", f"data.folder={tmp_path / 'mine'}", f"run_dir={tmp_path / 'run'}", *TINY)
    verdict = told(outcome, code, *words)
    assert str(tmp_path / "mine") in verdict
    assert not (tmp_path / "run" / "data").exists(), "nothing is left of it that a second try could trip over"
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_everything_wrong_is_in_the_report_and_can_be_left_out(asr, tmp_path):
    some_wrong(tmp_path / "mine")
    line = (f"data.folder={tmp_path / 'mine'}", f"run_dir={tmp_path / 'run'}", *TINY)
    told(asr("train", *line), 3, "4 of 12")
    report = json.loads((tmp_path / "run" / "data_report.json").read_text(encoding="utf-8"))["folder"]
    assert sorted(problem["id"] for problem in report["problems"]) == ["s0/0", "s1/1", "s2/2", "s2/3"]
    told(asr("train", *line, "data.on_bad=skip"), 3, "more than data.max_bad_fraction=0.01 allows to skip")
    fine(asr("train", *line, "data.on_bad=skip", "data.max_bad_fraction=0.5"))
    parts = [read_lines(tmp_path / "run" / "data" / f"{part}.jsonl") for part in ("train", "valid", "test")]
    kept = {one["id"] for part in parts for one in part}
    assert len(kept) == 8
    assert not kept & {"s0/0", "s1/1", "s2/2", "s2/3"}
    left = json.loads((tmp_path / "run" / "data" / "folder.json").read_text(encoding="utf-8"))["left_out"]
    assert len(left) == 4


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("data.folder=ROOT",), "run_dir is not set"),
        (("data.folder=ROOT", "run_dir=ROOT/run"), "lies in data.folder="),
        (("data.folder=ROOT", "run_dir=ROOT"), "lies in data.folder="),
        (("data.folder=ROOT", "run_dir=RUN", "data.dir=ROOT"), "data.dir and data.folder exclude each other"),
        (("data.folder=ROOT", "run_dir=RUN", "tokens=phones"), "tokens.unit=phones needs phones"),
        (("data.folder=ROOT", "run_dir=RUN", "data.valid=v.jsonl"), "data.train and data.valid name manifests of data.dir"),
        (("data.folder=ROOT", "run_dir=RUN", "data.split_by=voice"), "data.split_by must be one of auto, speaker, utterance"),
        (("data.folder=ROOT", "run_dir=RUN", "data.valid_fraction=0"), "the first above 0"),
        (("data.folder=ROOT", "run_dir=RUN", "data.test_fraction=0.95"), "that leave something to train"),
        (("data.dir=ROOT", "run_dir=RUN", "data.test_fraction=0.2"), "share out data.folder, which is not set"),
        (("data.folder=ROOT", "run_dir=RUN", "tokens.unit=bytepairs", "tokens.size=3"), "tokens.size=3 is too small"),
        (("data.floder=ROOT", "run_dir=RUN"), "the closest known key is data.folder"),
        (("data.folder=PREPARED", "run_dir=RUN"), "it is a prepared folder, write data.dir="),
        (("data.folder=ROOT", "run_dir=FILE/x"), "cannot be made"),
    ],
)
def test_keys_that_do_not_go_together(finished, asr, tmp_path, keys, words):
    places = {"ROOT": finished[0], "PREPARED": finished[1] / "data", "RUN": tmp_path / "run", "FILE": tmp_path / "file"}
    places["FILE"].write_text("")
    line = [re.sub("ROOT|PREPARED|RUN|FILE", lambda match: str(places[match[0]]), key) for key in keys]
    told(asr("train", *line), 2, words, alone=True)


def test_one_folder_without_speakers(asr, tmp_path):
    """All in one folder: drawn by recording; the user hears that the voices are known."""
    for take in range(30):
        write_noise(tmp_path / "mine" / f"{take}.wav", 0.5, seed=take)
        (tmp_path / "mine" / f"{take}.lab").write_text("ab")
    outcome = fine(asr("train", f"data.folder={tmp_path / 'mine'}", f"run_dir={tmp_path / 'run'}", *TINY))
    assert "speakers unknown, for there are no sub-folders" in outcome.err
    assert "split by utterance" in outcome.err
    assert "may hold voices of the training" in outcome.err
    counts = [len(read_lines(tmp_path / "run" / "data" / f"{part}.jsonl")) for part in ("train", "valid", "test")]
    assert counts == [24, 3, 3]


def test_the_split_can_be_chosen(asr, tmp_path):
    fill(tmp_path / "mine", speakers=3, takes=10)
    line = (f"data.folder={tmp_path / 'mine'}", f"run_dir={tmp_path / 'run'}", *TINY)
    outcome = fine(asr("train", *line, "data.split_by=utterance", "data.test_fraction=0", "data.valid_fraction=0.2"))
    counts = {path.stem: len(read_lines(path)) for path in (tmp_path / "run" / "data").glob("*.jsonl")}
    assert counts == {"train": 24, "valid": 6}
    assert f"manifest={tmp_path / 'run' / 'data' / 'valid.jsonl'}" in next_commands(outcome.err)[0]
    assert "may hold voices of the training" in outcome.err
    outcome = fine(asr("train", *line[:1], f"run_dir={tmp_path / 'second'}", *TINY))
    assert "may hold voices of the training" not in outcome.err
    assert "only 33 % is left to train; data.split_by=utterance leaves more" in outcome.err


def test_parts_of_its_own(asr, tmp_path):
    for part, takes in (("train", 6), ("test", 3)):
        fill(tmp_path / "mine" / part, speakers=2, takes=takes)
    outcome = fine(asr("train", f"data.folder={tmp_path / 'mine'}", f"run_dir={tmp_path / 'run'}", *TINY))
    assert "train, test as the corpus has them; valid cut from train" in outcome.err
    assert "may hold voices of the training" in outcome.err, "both parts have an s0"
    assert len(read_lines(tmp_path / "run" / "data" / "test.jsonl")) == 6


def test_letters_that_only_the_other_parts_hold(asr, tmp_path):
    """They are in the alphabet, or the validation could not be read; they are named."""
    fill(tmp_path / "mine")
    for path in sorted((tmp_path / "mine").rglob("*.txt")):
        path.write_text(f"ab {path.parent.name[1]}")
    outcome = fine(asr("train", f"data.folder={tmp_path / 'mine'}", f"run_dir={tmp_path / 'run'}", *TINY))
    assert "alphabet: 2 letters that only the other parts hold" in outcome.err
    assert set(load_model(tmp_path / "run").tokenizer.symbols[1:]) == set(" ab012")
    assert len(load_model(tmp_path / "run").tokenizer.options.extra) == 2


def test_what_is_typed_or_set_by_an_experiment_wins(asr, tmp_path):
    fill(tmp_path / "mine", rate=8000)
    for path in (tmp_path / "mine").rglob("*.txt"):
        path.write_text("Ab, ba.")
    line = (f"data.folder={tmp_path / 'mine'}", *TINY)
    outcome = fine(asr("train", *line, f"run_dir={tmp_path / 'a'}"))
    loaded = load_model(tmp_path / "a")
    assert loaded.model.options.features.sample_rate == 8000
    assert (loaded.tokenizer.options.case, loaded.tokenizer.options.punctuation) == ("lower", "drop")
    assert "in 12 of 12 transcripts" in outcome.err
    outcome = fine(asr("train", *line, f"run_dir={tmp_path / 'b'}", "experiment=digits", "tokens.case=keep"))
    loaded = load_model(tmp_path / "b")
    assert loaded.model.options.features.sample_rate == 8000, "of the plan, for the experiment does not say"
    assert loaded.model.options.encoder.subsampling == 3, "of the experiment"
    assert (loaded.tokenizer.options.case, loaded.tokenizer.options.punctuation) == ("keep", "drop")
    assert "encoder.subsampling" not in outcome.err
    assert "tokens.case" not in outcome.err


def test_starting_from_another_model(finished, asr, tmp_path):
    """Its features, network and text rules are taken over, so that all its weights fit."""
    root = fill(tmp_path / "mine", speakers=4)
    keys = ("training.epochs=1", "device=cpu")
    outcome = fine(asr("train", f"data.folder={root}", f"run_dir={tmp_path / 'run'}", f"init={finished[1]}", *keys))
    assert load_model(tmp_path / "run").model.options == load_model(finished[1]).model.options
    tensors = re.search(r"init: (\d+) of (\d+) tensors copied", outcome.err)
    assert tensors
    assert tensors[1] == tensors[2]
    assert f"start: features, network and text rules as in {finished[1]}" in outcome.err
    told(asr("train", f"data.folder={root}", f"run_dir={tmp_path / 'no'}", f"init={tmp_path / 'none'}"), 4, "no such folder")


def test_a_self_conditioned_model_keeps_its_middle_output(asr, tmp_path):
    """Its layers go on reading it, so it goes on being taught."""
    root = fill(tmp_path / "mine", speakers=4)
    encoder = EncoderOptions(conv_channels=2, layers=2, width=4, subsampling=4, self_conditioned=1)
    tokenizer = Tokenizer.build(["abc"], TokenOptions())
    start = SpeechModel(ModelOptions(FeatureOptions(num_bins=16), encoder=encoder), vocabulary=len(tokenizer), seed=1)
    save_model(tmp_path / "start" / "model", start, tokenizer)
    words = (f"data.folder={root}", f"init={tmp_path / 'start'}", "training.epochs=1", "device=cpu")
    outcome = fine(asr("train", *words, f"run_dir={tmp_path / 'run'}"))
    assert load_model(tmp_path / "run").model.options == start.options
    assert "objective.intermediate=0.3" in outcome.err


def test_byte_pairs(asr, tmp_path):
    """From the folder to the score: greedy, with a language model of words, and the times of the words."""
    pytest.importorskip("sentencepiece", reason="needs the extra bytepairs")
    fill(tmp_path / "mine")
    for number, path in enumerate(sorted((tmp_path / "mine").rglob("*.txt"))):
        path.write_text(("ab bab abba", "abba ab", "bab bab")[number % 3])
    run = tmp_path / "run"
    words = (
        f"data.folder={tmp_path / 'mine'}",
        f"run_dir={run}",
        *TINY,
        "tokens=bytepairs",
        "tokens.size=9",
        "encoder.subsampling=1",
    )
    outcome = fine(asr("train", *words))
    loaded = load_model(run)
    assert loaded.tokenizer.options.unit == "bytepairs"
    assert len(loaded.tokenizer) == 9
    assert {path.name for path in (run / "model").iterdir()} == {
        "model.safetensors",
        "config.json",
        "tokens.txt",
        "checksums.json",
    }
    decode, score = next_commands(outcome.err)
    fine(asr("decode", *decode[1:]))
    fine(asr("score", *score[1:]))
    arpa, texts = tmp_path / "words.arpa", run / "data" / "train.jsonl"
    fine(asr("lm", "train", f"text={texts}", "order=2", f"out={arpa}"))
    hyp = tmp_path / "beam.jsonl"
    fine(asr("decode", *decode[1:3], f"out={hyp}", "decoder=beam", f"lm={arpa}"))
    assert [one["id"] for one in read_lines(hyp)] == [one["id"] for one in read_lines(run / "data" / "test.jsonl")]
    fine(asr("align", *decode[1:3], f"out={tmp_path / 'times'}"))
    (times,) = (tmp_path / "times").iterdir()
    for line, reference in zip(read_lines(times), read_lines(run / "data" / "test.jsonl")):
        assert [word["text"] for word in line["words"]] == reference["text"].split()

    tokens = run / "model" / "tokens.txt"
    tokens.write_text(tokens.read_text(encoding="utf-8").replace("▁ab", "▁xb"), encoding="utf-8")
    told(asr("decode", *decode[1:3], f"out={tmp_path / 'no'}"), 4, "tokens.txt", "sha256", alone=True)
