"""`asr-align`: every form for characters and phones, what cannot be aligned, interruptions, and its mistakes."""

import json
import os
import shutil

import pytest

from asr.cli.align import main
from asr.decoding import align_manifest
from asr.decoding.formats import FORMATS
from tests.decoding.tiny import save_babbler, write_speech


@pytest.fixture(scope="module")
def lent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("align")
    models = {unit: save_babbler(folder / unit, unit=unit) for unit in ("characters", "phones")}
    lines = read(write_speech(folder) / "manifest.jsonl")
    write(folder / "manifest.jsonl", [{**line, "text": "ab c de a", "phones": "AA B CH D"} for line in lines])
    return models, folder


@pytest.fixture
def stage(lent, tmp_path):
    """The models, and a folder of its own with recordings and manifest."""
    models, speech = lent
    shutil.copytree(speech, tmp_path / "data", ignore=shutil.ignore_patterns("characters", "phones"))
    return models, tmp_path


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def run(stage, out, *words, unit="characters"):
    models, folder = stage
    return main([f"model={models[unit]}", f"manifest={folder / 'data' / 'manifest.jsonl'}", f"out={out}", "device=cpu", *words])


@pytest.mark.parametrize("unit", ["characters", "phones"])
@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_form_is_written(form, unit, stage, tmp_path):
    out = tmp_path / "out"
    assert run(stage, out, f"format={form}", unit=unit) == 0
    names = sorted(path.name for path in out.iterdir())
    if FORMATS[form].joined:
        assert names == [f"alignment{FORMATS[form].suffix}"]
    else:
        assert names == [f"u{number}{FORMATS[form].suffix}" for number in range(10)]
    shown = {"characters": {"ctm": " de ", "json": '"text": "de"', "textgrid": '"de"', "elan": ">de<", "srt": "de", "vtt": "de"}}
    shown["phones"] = {"ctm": " CH ", "json": '"text": "CH"', "textgrid": '"CH"', "elan": ">CH<", "srt": "CH", "vtt": "CH"}
    for path in out.iterdir():
        text = path.read_text(encoding="utf-8")
        assert shown[unit][form] in text
        assert text.count(" CH ") == 10 if (form, unit) == ("ctm", "phones") else True


@pytest.mark.parametrize("levels", ["true", "false"])
def test_words_and_letters_are_in_order_within_their_recording(stage, tmp_path, levels):
    assert run(stage, tmp_path / "out", f"levels={levels}") == 0
    durations = {line["id"]: line["duration"] for line in read(tmp_path / "data" / "manifest.jsonl")}
    lines = read(tmp_path / "out" / "alignment.jsonl")
    assert [line["id"] for line in lines] == list(durations)
    for line in lines:
        assert [word["text"] for word in line["words"]] == ["ab", "c", "de", "a"]
        assert "".join(letter["text"] for letter in line["characters"]) == "abcdea"
        for entries in (line["words"], line["characters"]):
            edges = [edge for entry in entries for edge in (entry["start"], entry["end"])]
            assert edges == sorted(edges)
            assert 0 <= edges[0] < edges[-1] <= durations[line["id"]] + 0.02
        assert all(0 <= word["confidence"] <= 1 for word in line["words"])
        assert line["score"] < 0


def test_a_prior_and_the_level_change_the_times_and_no_text(stage, tmp_path, capsys):
    for name, words in {"plain": [], "prior": ["prior_scale=0.8"], "flat": ["levels=false"]}.items():
        assert run(stage, tmp_path / name, *words) == 0
    assert "label priors from" in capsys.readouterr().err
    plain, prior, flat = (read(tmp_path / name / "alignment.jsonl") for name in ("plain", "prior", "flat"))
    assert plain != prior
    assert plain != flat
    for other in (prior, flat):
        assert [[word["text"] for word in line["words"]] for line in other] == [["ab", "c", "de", "a"]] * 10


def test_times_count_from_the_utterance_or_from_the_recording(stage, tmp_path):
    lines = read(tmp_path / "data" / "manifest.jsonl")
    cut = {**lines[1], "id": "cut", "offset": 0.5, "duration": 1.4}
    write(tmp_path / "data" / "manifest.jsonl", [cut])
    for clock in ("utterance", "recording"):
        assert run(stage, tmp_path / clock, f"clock={clock}") == 0
    (one,), (other,) = (read(tmp_path / clock / "alignment.jsonl") for clock in ("utterance", "recording"))
    for word, later in zip(one["words"], other["words"]):
        assert later["start"] == pytest.approx(word["start"] + 0.5, abs=1e-6)
        assert later["end"] == pytest.approx(word["end"] + 0.5, abs=1e-6)
    assert other["duration"] == pytest.approx(1.9)


@pytest.mark.parametrize("form", ["json", "textgrid"])
def test_what_cannot_be_aligned_is_named_and_costs_no_other(stage, tmp_path, form, capsys):
    lines = read(tmp_path / "data" / "manifest.jsonl")
    lines[2]["text"] = "ab c de " * 40
    lines[4]["text"] = "ab Ω"
    (tmp_path / "data" / "u6.wav").unlink()
    write(tmp_path / "data" / "manifest.jsonl", lines)
    assert run(stage, tmp_path / "out", f"format={form}") == 3
    said = capsys.readouterr().err
    assert "not aligned: u2: its text needs 319 frames and the recording has" in said
    assert 'not aligned: u4: "ab Ω" holds symbols outside the alphabet: "Ω" (U+03A9)' in said
    assert "not aligned: u6: " in said
    assert "3 of 10 utterances could not be aligned" in said.splitlines()[-1]
    if form == "json":
        found = read(tmp_path / "out" / "alignment.jsonl")
        assert [line["id"] for line in found if "error" in line] == ["u2", "u4", "u6"]
        assert len(found) == 10
    else:
        assert sorted(os.listdir(tmp_path / "out")) == [f"u{number}.TextGrid" for number in (0, 1, 3, 5, 7, 8, 9)]


@pytest.mark.parametrize("form", ["json", "srt"])
def test_interrupted_it_goes_on_and_ends_the_same(stage, tmp_path, form, capsys, monkeypatch):
    words = [f"format={form}", "batch_seconds=2"]
    assert run(stage, tmp_path / "straight", *words) == 0
    plain, heard = align_manifest.emit, []

    def emit(*rest, **named):
        heard.append(1)
        if len(heard) == 4:
            raise KeyboardInterrupt
        return plain(*rest, **named)

    monkeypatch.setattr(align_manifest, "emit", emit)
    assert run(stage, tmp_path / "out", *words) == 130
    assert not (tmp_path / "out" / f"u0{FORMATS[form].suffix}").exists()
    monkeypatch.setattr(align_manifest, "emit", plain)
    capsys.readouterr()
    assert run(stage, tmp_path / "out", *words) == 0
    assert " of 10 utterances are done" in capsys.readouterr().err
    found, expected = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("out", "straight"))
    assert found == expected
    assert sorted(os.listdir(tmp_path)) == ["data", "out", "straight"]


def test_an_alignment_that_is_there_is_kept_unless_overwriting(stage, tmp_path, capsys):
    assert run(stage, tmp_path / "out") == 0
    before = (tmp_path / "out" / "alignment.jsonl").read_bytes()
    assert run(stage, tmp_path / "out", "prior_scale=0.5") == 2
    assert "exists already; choose another name, or overwrite=true" in capsys.readouterr().err
    assert (tmp_path / "out" / "alignment.jsonl").read_bytes() == before
    assert run(stage, tmp_path / "out", "prior_scale=0.5", "overwrite=true") == 0
    assert (tmp_path / "out" / "alignment.jsonl").read_bytes() != before


def test_a_long_recording_is_aligned_as_a_whole(stage, tmp_path):
    """Heard in pieces of half a minute or at once: the words stand where they stood, but for a few at the seams."""
    import numpy as np
    import soundfile

    from tests.decoding.tiny import RATE, tone_burst

    samples = tone_burst(90.0, 8)
    for start in range(3, 90, 3):
        samples[start * RATE : start * RATE + RATE // 2] *= 0.001
    soundfile.write(tmp_path / "data" / "long.wav", samples, RATE, subtype="FLOAT")
    text = " ".join(np.random.default_rng(1).choice(["ab", "c", "de", "a"], 150))
    write(tmp_path / "data" / "manifest.jsonl", [{"id": "u", "audio_filepath": "long.wav", "duration": 90.0, "text": text}])
    starts = []
    for seconds in (30, 600):
        assert run(stage, tmp_path / str(seconds), f"max_seconds={seconds}") == 0
        (line,) = read(tmp_path / str(seconds) / "alignment.jsonl")
        assert [word["text"] for word in line["words"]] == text.split()
        starts.append(np.array([word["start"] for word in line["words"]]))
    assert starts[0][-1] > 80
    assert (np.abs(starts[0] - starts[1]) <= 0.03).mean() > 0.9


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["manifest=MANIFEST", "out=OUT"], 2, "model= is missing: write asr-align model=DIR"),
        (["model=MODEL", "out=OUT"], 2, "manifest= is missing: write asr-align model=DIR"),
        (["model=MODEL", "manifest=MANIFEST"], 2, "out= is missing: write asr-align model=DIR"),
        (["model=MODEL", "manifest=MANIFEST", "out=OUT", "format=pdf"], 2, "format must be one of ctm, textgrid, elan"),
        (["model=MODEL", "manifest=MANIFEST", "out=OUT", "clock=tower"], 2, "clock must be one of utterance, recording"),
        (["model=MODEL", "manifest=MANIFEST", "out=OUT", "prior_scale=2"], 2, "prior_scale must lie between 0 and 1, got 2.0"),
        (["model=MODEL", "manifest=MANIFEST", "out=OUT", "prior_scale=nan"], 2, "prior_scale must lie between 0 and 1, got nan"),
        (["model=MODEL", "manifest=MANIFEST", "out=OUT", "prior_seconds=0"], 2, "prior_seconds must be above 0"),
        (["model=MODEL", "manifest=MANIFEST", "out=OUT", "max_seconds=3"], 2, "max_seconds must be at least 30"),
        (
            ["model=MODEL", "manifest=MANIFEST", "out=OUT", "fromat=srt"],
            2,
            "unknown key 'fromat': the closest known key is format",
        ),
        (["model=MODEL", "manifest=gone.jsonl", "out=OUT"], 3, "gone.jsonl: no such file"),
        (["model=nowhere", "manifest=MANIFEST", "out=OUT"], 4, "nowhere: no such folder"),
    ],
)
def test_a_mistake_is_one_sentence_and_its_exit_code(words, code, message, stage, tmp_path, capsys):
    models, _ = stage
    names = {"MODEL": models["characters"], "MANIFEST": tmp_path / "data" / "manifest.jsonl", "OUT": tmp_path / "out"}
    filled = []
    for word in words:
        for name, value in names.items():
            word = word.replace(f"={name}", f"={value}")
        filled.append(word)
    assert main(filled) == code
    shown = capsys.readouterr()
    assert shown.err.startswith("asr-align: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
    assert os.listdir(tmp_path) == ["data"]
