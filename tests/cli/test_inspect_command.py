"""`asr-inspect`: each look from a tiny model, its picture, numbers and page; its mistakes, each one sentence and a code."""

import csv
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from asr.cli.describe import read_options
from asr.cli.inspect import LOOKS, main
from tests.decoding.tiny import save_babbler, write_speech

#: Words of the smallest look of each kind; MODEL, AUDIO, MANIFEST and RUN stand for what the stage holds.
COMMANDS = {
    "gradient": ["lag=8", "stations=[rnn,lstm1997,lstm]", "fresh.width=6"],
    "gates": ["model=MODEL", "AUDIO"],
    "ctc": ["target=cat", "steps=30"],
    "saliency": ["model=MODEL", "manifest=MANIFEST", "id=u2", "labels=[1]", "stretches=4"],
    "longlag": ["tasks=[order]", "lags=[10]", "cells=[rnn,lstm]", "learning_rates=[0.01]", "seeds=1", "updates=100"],
    "compare": ["RUN"],
}
#: files beside the page
FILES = {
    "gradient": {"gradient.png", "gradient.csv"},
    "gates": {"gates.png", "gates.csv", "labels.csv", "posteriors.csv"},
    "ctc": {"ctc.png", "lattice.png", "ctc.csv", "lattice.csv"},
    "saliency": {"saliency.png", "saliency.csv", "saliency_labels.csv"},
    "longlag": {"longlag.png", "longlag.csv", "longlag_trials.csv"},
    "compare": {"compare.png", "compare.csv", "runs.csv"},
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("inspect")
    speech = write_speech(folder)
    run = save_babbler(folder / "a run")
    lines = [{"step": 3, "epoch": epoch, "error_rate": 0.9 / epoch, "valid_loss": 1.0} for epoch in (1, 2)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    damaged = save_babbler(folder / "damaged")
    weights = damaged / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    (folder / "text.wav").write_text("no sound")
    (folder / "cut.jsonl").write_text('{"id": "u1", "audio')
    return {
        "MODEL": str(run),
        "RUN": str(run),
        "AUDIO": str(speech / "u1.wav"),
        "SHORT": str(speech / "u2.wav"),
        "MANIFEST": str(speech / "manifest.jsonl"),
        "DAMAGED": str(damaged),
        "TEXT": str(folder / "text.wav"),
        "CUT": str(folder / "cut.jsonl"),
        "NOWHERE": str(folder / "nowhere"),
    }


def filled(words: list[str], stage: dict[str, str], out: Path) -> list[str]:
    found = []
    for word in words:
        for name, value in {**stage, "OUT": str(out)}.items():
            word = word.replace(name, value)
        found.append(word)
    return found


def test_the_looks_are_listed_and_none_is_missing():
    assert list(LOOKS) == ["gradient", "gates", "ctc", "saliency", "longlag", "compare"]
    for look in LOOKS.values():
        assert callable(importlib.import_module(look.module).look)


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_writes_picture_numbers_and_page(name, stage, tmp_path, capsys):
    out = tmp_path / "a look"
    assert main([name, f"out={out}", *filled(COMMANDS[name], stage, out)]) == 0
    assert {path.name for path in out.iterdir()} == FILES[name] | {f"{name}.html"}
    page = (out / f"{name}.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == sum(file.endswith(".png") for file in FILES[name])
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    for file in FILES[name]:
        content = (out / file).read_bytes()
        if file.endswith(".png"):
            assert content.startswith(b"\x89PNG")
            continue
        head, *rows = csv.reader(content.decode("utf-8").splitlines())
        assert len(rows) >= 1
        assert all(len(row) == len(head) for row in rows)
    written = capsys.readouterr().out.splitlines()[-1]
    assert written.startswith("written: ")
    assert all(str(out / file) in written for file in FILES[name])


@pytest.mark.parametrize("name", LOOKS)
def test_help_lists_every_key_without_torch(name):
    program = (
        "import sys\nfrom asr.cli.inspect import main\n"
        f"code = main([{name!r}, '--help'])\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules, file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (0, "False False")
    assert done.stdout.startswith(f"usage: asr-inspect {name} out=DIR")
    for option in read_options(LOOKS[name].module, LOOKS[name].options):
        assert option.key in done.stdout


def test_help_without_a_name_lists_the_looks(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, look in LOOKS.items():
        assert f"  {name:9} {look.meaning}" in out


MISTAKES = [
    # usage and configuration: 2
    (2, [], "what to look at is missing: write asr-inspect NAME out=DIR, NAME one of gradient, gates, ctc"),
    (2, ["gatse", "out=x"], "'gatse' is nothing to look at: did you mean 'gates'?"),
    (2, ["gates"], "out= is missing: write asr-inspect gates out=DIR"),
    (2, ["gradient", "out=OUT", "stations=[lstn]"], "stations=[lstn]: expected some of mlp, rnn, relu, lstm1997"),
    (2, ["gradient", "out=OUT", "lagg=3"], "unknown key 'lagg': the closest known key is lag"),
    (2, ["gradient", "out=OUT", "lag=many"], "lag"),
    (2, ["gradient", "out=OUT", "fresh.width=0"], "fresh.width=0 is out of range"),
    (2, ["gradient", "out=OUT", "models=[MODEL]"], "trained networks need a recording to be measured on"),
    (2, ["gradient", "out=OUT", "AUDIO"], "a recording needs trained networks to hear it"),
    (2, ["gates", "out=OUT", "model=MODEL"], "there is nothing to hear: give one audio file, or manifest=FILE with id=NAME"),
    (2, ["gates", "out=OUT", "model=MODEL", "AUDIO", "SHORT"], "2 audio files are given, one picture shows one of them"),
    (2, ["gates", "out=OUT", "model=MODEL", "manifest=MANIFEST", "AUDIO"], "are given together: give one audio file"),
    (2, ["gates", "out=OUT", "model=MODEL", "manifest=MANIFEST", "id=u99"], "id=u99 is not in "),
    (2, ["gates", "out=OUT", "model=MODEL", "AUDIO", "layer=4"], "layer=4: the network has 1"),
    (2, ["gates", "out=OUT", "model=MODEL", "AUDIO", "cells=[9]"], "cells=[9]: layer 1 has cells 1 to 8"),
    (2, ["gates", "out=OUT", "model=MODEL", "AUDIO", "begin=9"], "begin=9 end=0: no frame lies there"),
    (2, ["gates", "out=OUT", "model=MODEL", "AUDIO", "encoder.width=9"], "encoder.* gives the shape of a fresh network"),
    (2, ["gates", "out=OUT", "AUDIO", "encoder.cell=mlp", "encoder.peepholes=true"], "encoder.peepholes=true does not go with"),
    (2, ["ctc", "out=OUT", "target=aab", "frames=3"], "frames=3 are too few for target=aab: it needs 4"),
    (2, ["ctc", "out=OUT", "AUDIO"], "a recording needs a network to hear it: add model=DIR"),
    (2, ["ctc", "out=OUT", "model=MODEL", "AUDIO"], "nobody wrote down what is said in"),
    (2, ["saliency", "out=OUT", "model=MODEL", "AUDIO", "labels=[99]"], "labels=[99]: the decoded labels of u1.wav are 1 to"),
    (2, ["saliency", "out=OUT", "model=MODEL", "AUDIO", "symbol=x"], "symbol=x is none of the network's: choose from"),
    (
        2,
        ["saliency", "out=OUT", "model=MODEL", "AUDIO", "method=deep"],
        "method=deep is not known: choose integrated or gradient",
    ),
    (2, ["saliency", "out=OUT"], "there is nothing to hear"),
    (2, ["longlag", "out=OUT", "cells=[lsmt]"], "cells must be one or more of rnn, rnn_relu"),
    (2, ["longlag", "out=OUT", "a.wav"], "'a.wav' is no key=value, and this command takes no files"),
    (2, ["compare", "out=OUT"], "there is nothing to compare: give run directories"),
    (2, ["compare", "out=OUT", "RUN", "score=score"], "holds no score.json; score the run with asr-score out="),
    (2, ["compare", "out=OUT", "NOWHERE"], "nowhere: is no run directory of asr-train"),
    # recordings and manifests: 3
    (3, ["gates", "out=OUT", "model=MODEL", "NOWHERE.wav"], "nowhere.wav"),
    (3, ["gates", "out=OUT", "model=MODEL", "TEXT"], "text.wav"),
    (3, ["saliency", "out=OUT", "model=MODEL", "manifest=CUT"], "cut.jsonl:1"),
    (
        3,
        ["ctc", "out=OUT", "model=MODEL", "SHORT", "target=abcdeabcdeabcdeabcdeabcde"],
        "its target needs 25; give a shorter target=",
    ),
    (3, ["gradient", "out=OUT", "model=MODEL", "SHORT", "positions=64"], "too few for positions=64; choose a longer recording"),
    # models: 4
    (4, ["gates", "out=OUT", "model=NOWHERE", "AUDIO"], "nowhere"),
    (4, ["saliency", "out=OUT", "model=DAMAGED", "AUDIO"], "model.safetensors"),
    (4, ["ctc", "out=OUT", "models=[DAMAGED]", "AUDIO", "target=a"], "model.safetensors"),
    (4, ["gradient", "out=OUT", "model=DAMAGED", "AUDIO"], "model.safetensors"),
    (4, ["compare", "out=OUT", "DAMAGED"], "damaged"),
]


@pytest.mark.parametrize(("code", "words", "message"), MISTAKES, ids=[" ".join(words) or "nothing" for _, words, _ in MISTAKES])
def test_a_mistake_is_one_sentence_and_its_code(code, words, message, stage, tmp_path, capsys):
    out = tmp_path / "o"
    if words[-1:] == ["DAMAGED"]:
        (Path(stage["DAMAGED"]) / "metrics.jsonl").write_text('{"epoch": 1, "error_rate": 0.5}\n')
    assert main(filled(words, stage, out)) == code
    err = capsys.readouterr().err.strip().splitlines()
    assert message in err[-1]
    assert err[-1].startswith("asr-inspect: ")
    assert not any("Traceback" in line for line in err)
    assert all(line.startswith("asr-inspect: ") for line in err)
    assert not out.exists(), "nothing is written where nothing was seen"
