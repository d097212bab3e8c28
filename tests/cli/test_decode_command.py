"""`asr-decode` as it is typed: both forms, bad recordings, interruptions, exit codes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from asr.cli.decode import main
from tests.decoding.tiny import RATE, save_babbler, tone_burst, write_speech


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_babbler(tmp_path_factory.mktemp("a=b, (c) #1 'ü'"))


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return write_speech(tmp_path_factory.mktemp("speech"))


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_manifest_is_decoded_and_the_next_command_named(model, speech, tmp_path, capsys):
    out = tmp_path / "new folder" / "hyp.jsonl"
    assert main([f"model={model}", f"manifest={speech / 'manifest.jsonl'}", f"out={out}", "device=cpu"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "decoded 10 utterances: 11 s of audio" in shown.err
    assert f"next: asr-score ref={speech / 'manifest.jsonl'} 'hyp={out}' unit=word" in shown.err
    lines = read(out)
    assert [line["id"] for line in lines] == [f"u{i}" for i in range(10)]
    assert all(line["text"] and line["score"] < 0 and set(line) == {"id", "text", "score"} for line in lines)


def test_files_print_one_line_each_with_the_text_of_the_manifest(model, speech, tmp_path, capsys):
    assert main([f"model={model / 'model'}", f"manifest={speech / 'manifest.jsonl'}", f"out={tmp_path / 'hyp'}"]) == 0
    capsys.readouterr()
    paths = [str(speech / f"u{i}.wav") for i in (3, 1, 2)]
    assert main([f"model={model}", *paths]) == 0
    shown = capsys.readouterr()
    by_id = {line["id"]: line["text"] for line in read(tmp_path / "hyp")}
    assert shown.out == "".join(f"{path}\t{by_id[f'u{i}']}\n" for path, i in zip(paths, (3, 1, 2)))
    assert shown.err == ""


def test_odd_names_rates_and_channels(model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    samples = tone_burst(0.5, 1)
    names = ["a b.wav", "x=1.flac", "#ü'\".wav", "-lead.wav", "two\nlines.wav"]
    for name in names:
        soundfile.write(name, samples, RATE, format=name[-4:].replace(".", "").upper())
    soundfile.write("stereo.ogg", np.stack([samples, samples], axis=1), 44100)
    assert main([f"model={model}", "a b.wav", "stereo.ogg", "--", "x=1.flac", "#ü'\".wav", "-lead.wav", "two\nlines.wav"]) == 0
    shown = capsys.readouterr()
    rows = [line.split("\t") for line in shown.out.splitlines()]
    assert [row[0] for row in rows] == ["a b.wav", "stereo.ogg", "x=1.flac", "#ü'\".wav", "-lead.wav", "'two\\nlines.wav'"]
    assert len({row[1] for row in rows if row[0] != "stereo.ogg"}) == 1
    assert shown.err.startswith("asr-decode: notice: stereo.ogg: several channels were mixed to one (channels=first takes")
    assert shown.err.count("\n") == 1


def test_a_file_that_cannot_be_decoded_costs_no_other_its_line(model, speech, tmp_path, capsys):
    poisoned = tone_burst(1.0, 2)
    poisoned[100:200] = np.nan
    soundfile.write(tmp_path / "nan.wav", poisoned, RATE, subtype="FLOAT")
    (tmp_path / "page.wav").write_text("<!DOCTYPE html><html></html>")
    soundfile.write(tmp_path / "one.wav", tone_burst(1.0, 2)[:1], RATE)
    paths = [str(tmp_path / "nan.wav"), str(speech / "u0.wav"), str(tmp_path / "page.wav"), str(tmp_path / "one.wav")]
    assert main([f"model={model}", *paths]) == 3
    shown = capsys.readouterr()
    rows = dict(line.split("\t") for line in shown.out.splitlines())
    assert list(rows) == paths
    assert rows[paths[1]]
    assert rows[paths[0]] == rows[paths[2]] == rows[paths[3]] == "", "NaN must never become words"
    faults = shown.err.splitlines()
    assert len(faults) == 3
    assert "nan.wav: holds NaN or infinite samples" in faults[0]
    assert "page.wav: is an HTML page" in faults[1]
    assert faults[2] == "asr-decode: 2 of 4 files could not be decoded; their text is left empty"


@pytest.mark.parametrize("samples", [1, 30])
def test_a_recording_too_short_for_a_frame_is_no_fault(model, tmp_path, capsys, samples):
    soundfile.write(tmp_path / "short.wav", tone_burst(1.0, 2)[:samples], RATE)
    assert main([f"model={model}", str(tmp_path / "short.wav")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'short.wav'}\t\n"


def test_an_undecodable_line_of_a_manifest_has_an_error_and_exit_code_3(model, speech, tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(speech, folder)
    (folder / "u4.wav").write_bytes((folder / "u4.wav").read_bytes()[:2000])
    (folder / "u7.wav").unlink()
    out = tmp_path / "hyp.jsonl"
    assert main([f"model={model}", f"manifest={folder / 'manifest.jsonl'}", f"out={out}"]) == 3
    shown = capsys.readouterr().err
    lines = read(out)
    assert [line["id"] for line in lines] == [f"u{i}" for i in range(10)]
    assert [line["id"] for line in lines if "error" in line] == ["u4", "u7"]
    for name in ("u4", "u7"):
        assert f"not decoded: {name}: {folder / f'{name}.wav'}" in shown
    assert shown.splitlines()[-1].startswith("asr-decode: 2 of 10 recordings could not be decoded; they have an empty text")
    assert sorted(os.listdir(tmp_path)) == ["data", "hyp.jsonl"]


def test_an_existing_output_is_kept_unless_overwriting(model, speech, tmp_path, capsys):
    out = tmp_path / "hyp.jsonl"
    out.write_text("mine\n")
    command = [f"model={model}", f"manifest={speech / 'manifest.jsonl'}", f"out={out}"]
    assert main(command) == 2
    assert (
        f"asr-decode: out={out} exists already; choose another name, or overwrite=true to replace it\n" == capsys.readouterr().err
    )
    assert out.read_text() == "mine\n"
    assert main([*command, "overwrite=true"]) == 0
    assert len(read(out)) == 10


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["manifest=m", "out=o"], 2, "model= is missing: write asr-decode model=DIR"),
        (["model=MODEL"], 2, "neither manifest= nor an audio file is given"),
        (["model=MODEL", "manifest=m"], 2, "out= is missing"),
        (["model=MODEL", "out=o", "a.wav"], 2, "manifest= is missing"),
        (["model=MODEL", "manifest=m", "out=o", "a.wav"], 2, "manifest= and the file 'a.wav' are given together"),
        (["model=MODEL", "decoder=bean", "a.wav"], 2, "decoder must be one of greedy, beam, lexicon, auto, got 'bean'"),
        (["model=MODEL", "batch_second=3", "a.wav"], 2, "unknown key 'batch_second': the closest known key is batch_seconds"),
        (["model=/no/model", "a.wav"], 4, "/no/model: no such folder; give a run directory or its model/ folder"),
        (["model=MODEL", "manifest=/no/file", "out=o"], 3, "/no/file: no such file"),
        (["model=MODEL", "manifest=/dev/null", "out=o"], 3, "/dev/null: is a device, expected a regular file"),
    ],
)
def test_a_mistake_is_one_sentence_and_its_exit_code(model, tmp_path, monkeypatch, capsys, words, code, message):
    monkeypatch.chdir(tmp_path)
    assert main([word.replace("MODEL", str(model)) for word in words]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"asr-decode: {message}")
    assert shown.err.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_damaged_model_is_refused(model, speech, tmp_path, capsys):
    shutil.copytree(model, tmp_path / "run")
    weights = tmp_path / "run" / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    assert main([f"model={tmp_path / 'run'}", str(speech / "u0.wav")]) == 4
    assert "differ from the sha256 in checksums.json" in capsys.readouterr().err


def test_killed_at_any_time_the_same_command_ends_with_the_same_file(model, speech, tmp_path, capsys):
    """A real process, killed as soon as it has written something; then one that is left alone."""
    lines = [json.loads(line) for line in (speech / "manifest.jsonl").read_text().splitlines()]
    many = [{**line, "id": f"{line['id']}-{turn}"} for turn in range(20) for line in lines]
    (speech / "many.jsonl").write_text("".join(json.dumps(line) + "\n" for line in many))
    out, part = tmp_path / "hyp", tmp_path / "hyp.part"
    command = ["model=" + str(model), f"manifest={speech / 'many.jsonl'}", f"out={out}", "batch_seconds=0.1", "device=cpu"]
    process = subprocess.Popen([sys.executable, "-m", "asr", "decode", *command], stderr=subprocess.DEVNULL)
    while process.poll() is None and (part.stat().st_size if part.exists() else 0) <= 500:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part.stat().st_size > 500
    assert not out.exists()
    assert main(command) == 0
    assert "of 200 utterances are done" in capsys.readouterr().err
    found = out.read_bytes()
    assert main([*command, "overwrite=true"]) == 0
    assert out.read_bytes() == found
    assert [json.loads(line)["id"] for line in found.splitlines()] == [line["id"] for line in many]
    assert os.listdir(tmp_path) == ["hyp"]
