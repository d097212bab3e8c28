"""Rows S of the catalogue: models, checkpoints and configurations that are foreign, hostile or unfit. Nothing in them runs."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from tests.faults.commands import Outcome, told, train_words

CANARY = "the pickle was opened"
CHECKPOINT = ("model.safetensors", "optimizer.safetensors", "average.safetensors", "state.json", "checksums.json")


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


def zipped_bomb(canary: Path, path: Path) -> bytes:
    """The same as torch.save writes it."""
    torch.save({"weights": Bomb(canary)}, path)
    return path.read_bytes()


def seal(folder: Path) -> None:
    """Write the checksums anew, as someone would who changes a model on purpose."""
    path = folder / "checksums.json"
    old = json.loads(path.read_text())
    names = old.get("sha256", old)
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    path.write_text(json.dumps({"sha256": sums} if "sha256" in old else sums))


@pytest.fixture
def model(run_dir, tmp_path) -> Path:
    """A copy of the model to be changed."""
    shutil.copytree(run_dir / "model", tmp_path / "changed" / "model")
    return tmp_path / "changed" / "model"


@pytest.fixture
def loaders(asr, speech, tmp_path) -> Callable[[Path], list[Outcome]]:
    """Every command that takes a model: asr-decode with a file and with a manifest, asr-train init=."""

    def run(path: Path) -> list[Outcome]:
        return [
            asr("decode", f"model={path}", speech / "audio" / "test-000.wav"),
            asr("decode", f"model={path}", f"manifest={speech / 'test.jsonl'}", f"out={tmp_path / 'hyp'}"),
            asr("train", *train_words(speech, tmp_path / "new"), f"init={path}"),
        ]

    return run


def all_refuse(outcomes: list[Outcome], *said: str) -> None:
    for outcome in outcomes:
        verdict = told(outcome, 4, *said)
        assert "\n" not in verdict
        assert outcome.out == ""


S1 = {
    "S1-file": lambda model, bomb: (model.parent / "model.pt").write_bytes(bomb),
    "S1-folder": lambda model, bomb: (shutil.rmtree(model), model.mkdir(), (model / "pytorch_model.bin").write_bytes(bomb)),
    "S1-weights": lambda model, bomb: ((model / "model.safetensors").write_bytes(bomb), seal(model)),
    "S1-config": lambda model, bomb: ((model / "config.json").write_bytes(bomb), seal(model)),
    "S1-tokens": lambda model, bomb: ((model / "tokens.txt").write_bytes(bomb), seal(model)),
    "S1-checksums": lambda model, bomb: (model / "checksums.json").write_bytes(bomb),
}


@pytest.mark.parametrize("kind", ["pickle", "torch"])
@pytest.mark.parametrize("row", list(S1))
def test_a_pickle_is_never_opened(model, loaders, tmp_path, row, kind):
    canary = tmp_path / CANARY
    bomb = pickle.dumps(Bomb(canary)) if kind == "pickle" else zipped_bomb(canary, tmp_path / "bomb.pt")
    S1[row](model, bomb)
    path = model.parent / "model.pt" if row == "S1-file" else model.parent
    all_refuse(loaders(path), str(path))
    assert not canary.exists()
    pickle.loads(pickle.dumps(Bomb(canary)))
    assert canary.exists(), "the bomb must work, or the test proves nothing"


@pytest.mark.parametrize("name", CHECKPOINT)
def test_s1_nor_is_one_in_a_checkpoint(half_way, words, asr, tmp_path, monkeypatch, name):
    shutil.copytree(half_way / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    canary = tmp_path / CANARY
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        (folder / name).write_bytes(zipped_bomb(canary, tmp_path / "bomb.pt"))
        if name != "checksums.json":
            seal(folder)
    told(asr("train", *words), 4, "no intact checkpoint is left in run/checkpoints", name)
    assert not canary.exists()


@pytest.mark.parametrize("key", ["manifest", "audio", "ref", "data"])
def test_s1_nor_is_one_anywhere_else(run_dir, speech, asr, tmp_path, key):
    canary = tmp_path / CANARY
    bomb = tmp_path / "train.jsonl"
    bomb.write_bytes(pickle.dumps(Bomb(canary)))
    shutil.copy(speech / "valid.jsonl", tmp_path)
    outcome = {
        "manifest": lambda: asr("decode", f"model={run_dir}", f"manifest={bomb}", f"out={tmp_path / 'hyp'}"),
        "audio": lambda: asr("decode", f"model={run_dir}", bomb),
        "ref": lambda: asr("score", f"ref={bomb}", f"hyp={bomb}"),
        "data": lambda: asr("train", *train_words(tmp_path, tmp_path / "run")),
    }[key]()
    told(outcome, 3)
    assert not canary.exists()


def test_s2_a_refused_file_is_not_tried_in_another_way(model, loaders, tmp_path, monkeypatch):
    """Whatever could unpickle is watched while a pickle is offered as weights."""
    opened = []
    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (np, "load")):
        monkeypatch.setattr(module, name, lambda *rest, _name=f"{module.__name__}.{name}", **named: opened.append(_name))
    (model / "model.safetensors").write_bytes(b"\x80\x04N.")
    seal(model)
    all_refuse(loaders(model), "is not a safetensors file")
    assert opened == []


def with_config(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        config = json.loads((model / "config.json").read_text())
        change(config)
        (model / "config.json").write_text(json.dumps(config))

    return apply


def with_tensors(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        tensors = {name: value.copy() for name, value in load((model / "model.safetensors").read_bytes()).items()}
        change(tensors)
        (model / "model.safetensors").write_bytes(save(tensors))

    return apply


def with_tokens(text: str) -> Callable[[Path], None]:
    return lambda model: (model / "tokens.txt").write_text(text)  # type: ignore[return-value]


def with_text(text: str) -> Callable[[Path], None]:
    return lambda model: (model / "config.json").write_text(text)  # type: ignore[return-value]


def poison(tensors: dict[str, np.ndarray]) -> None:
    tensors["head.linear.bias"][1] = np.nan


def with_pieces(text: str) -> Callable[[Path], None]:
    """A model of byte pairs with these tokens."""

    def apply(model: Path) -> None:
        with_config(lambda x: x["tokens"].update(unit="bytepairs", size=4))(model)
        (model / "tokens.txt").write_text(text, encoding="utf-8")

    return apply


def with_header(change: Callable[[dict[str, Any]], Any], cut: int = 0) -> Callable[[Path], None]:
    """Change the table at the head of the weights, and leave out the last `cut` bytes behind it."""

    def apply(model: Path) -> None:
        data = (model / "model.safetensors").read_bytes()
        size = int.from_bytes(data[:8], "little")
        table = json.loads(data[8 : 8 + size])
        change(table)
        head = json.dumps(table).encode()
        head += b" " * (-len(head) % 8)
        rest = data[8 + size : len(data) - cut]
        (model / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + rest)

    return apply


def overlap(table: dict[str, Any]) -> None:
    """Two matrices of one size share their bytes."""
    first, second = (table[f"encoder.layers.0.{way}.weight_rec"] for way in ("ahead", "back"))
    second["data_offsets"] = first["data_offsets"]


HEAD = "head.linear.weight"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi")
)
OTHER_MODELS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "S3-target": (with_config(lambda x: x["model"].update(_target_="os.system")), ("unknown option model._target_",)),
    "S3-inner": (
        with_config(lambda x: x["model"]["encoder"].update(_target_="logging.os.system", _args_=["true"])),
        ("unknown option model.encoder._",),
    ),
    "S3-top": (with_config(lambda x: x.update(_target_="builtins.open")), ("unknown key '_target_'",)),
    "S3-tokens": (with_config(lambda x: x["tokens"].update(_target_="joblib.load")), ("unknown option tokens._target_",)),
    "S3-name": (with_config(lambda x: x["model"]["encoder"].update(cell="torch.hub.load")), ("cell", "torch.hub.load", "lstm")),
    "S4-text": (
        with_config(lambda x: x["model"]["encoder"].update(cell="${oc.env:ASR_SECRET}")),
        ("cell", "${oc.env:ASR_SECRET}"),
    ),
    "S4-number": (
        with_config(lambda x: x["model"]["encoder"].update(layers="${oc.env:ASR_SECRET}")),
        ("layers", "has the wrong type, expected int"),
    ),
    "S4-map": (with_config(lambda x: x["tokens"].update(map={"a": "${oc.env:ASR_SECRET}"})), ("'${'",)),
    "S5-python": (with_text('!!python/object/apply:os.mkdir ["CANARY"]'), ("config.json", "is not JSON")),
    "S5-hyper": (with_text('model: !apply:os.mkdir ["CANARY"]'), ("config.json", "is not JSON")),
    "S6-laughs": (with_text(LAUGHS), ("config.json", "is not JSON")),
    "S6-deep": (with_text("[" * 10_000 + "]" * 10_000), ("config.json", "is not JSON")),
    "S6-large": (with_text("{" + " " * 50_000_000 + "}"), ("config.json", "is larger than 16 MiB")),
    "S7-entries": (
        with_header(
            lambda x: x.update({f"x{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(100_000)})
        ),
        ("holds unknown weights 'x0'",),
    ),
    "S7-overlap": (with_header(overlap), ("is not a safetensors file, or a damaged one",)),
    "S7-short": (with_header(lambda x: None, cut=9), ("is not a safetensors file, or a damaged one",)),
    "S7-beyond": (with_header(lambda x: x[HEAD].update(data_offsets=[0, 2**60])), ("is not a safetensors file",)),
    "S7-backwards": (with_header(lambda x: x[HEAD]["data_offsets"].reverse()), ("is not a safetensors file",)),
    "S7-dtype": (with_header(lambda x: x[HEAD].update(dtype="F16")), (HEAD, "F16", "config.json asks for torch.float32")),
    "S7-shape": (with_header(lambda x: x[HEAD].update(shape=[4, 2**40])), (HEAD, "config.json asks for torch.float32 [4, 48]")),
    "S7-no-table": (with_header(lambda x: (x.clear(), x.update({HEAD: 3}))), ("is not a safetensors file",)),
    "S8-nan": (with_tensors(poison), ("head.linear.bias", "NaN or infinity")),
    "S8-inf": (with_tensors(lambda x: x["head.linear.weight"].fill(np.inf)), ("head.linear.weight", "NaN or infinity")),
    "S8-vocabulary": (with_tokens("<blank> 0\na 1\nb 2\n"), ("tokens.txt has 3 symbols, config.json says 4",)),
    "S8-both": (
        lambda model: (with_tokens("<blank> 0\na 1\nb 2\n")(model), with_config(lambda x: x.update(vocabulary=3))(model)),
        ("output layer has [4] symbols, tokens.txt 3",),
    ),
    "S8-duplicate": (with_tokens("<blank> 0\na 1\na 2\nc 3\n"), ("tokens.txt", "'a' stands twice")),
    "S8-gap": (with_tokens("<blank> 0\na 1\nb 2\nc 4\n"), ('tokens.txt:4: expected "SYMBOL 3"', "'c 4'")),
    "S8-blank": (with_tokens("a 0\nb 1\nc 2\nd 3\n"), ("expected <blank> as symbol 0, got 'a'",)),
    "S8-shape": (with_config(lambda x: x["model"]["encoder"].update(width=25)), ("config.json asks for", "[100")),
    "S8-missing": (with_tensors(lambda x: x.pop("head.linear.bias")), ("lacks the weights 'head.linear.bias'",)),
    "S8-extra": (with_tensors(lambda x: x.update(more=np.zeros(3, np.float32))), ("holds unknown weights 'more'",)),
    "S12-joint": (with_pieces("<blank> 0\n▁b 1\n▁ 2\na 3\n"), ("tokens.txt", "'▁b', is no joint of two symbols before it")),
    "S12-space": (with_pieces("<blank> 0\nab 1\na 2\nb 3\n"), ("tokens.txt", "no symbol '▁', which begins a word")),
    "S12-inside": (with_pieces("<blank> 0\na▁ 1\n▁ 2\na 3\n"), ("tokens.txt", "is no piece of a word")),
    "S12-unit": (
        lambda model: (model / "tokens.txt").write_text("<blank> 0\n▁a 1\n▁ 2\na 3\n", encoding="utf-8"),
        ("tokens.txt", "'▁a', is not one character, but tokens.unit=characters"),
    ),
    "S12-size": (with_config(lambda x: x["tokens"].update(unit="bytepairs", size=-1)), ("tokens.size=-1 is out of range",)),
}


@pytest.mark.parametrize("row", list(OTHER_MODELS))
def test_a_model_that_is_not_what_it_should_be(model, loaders, tmp_path, monkeypatch, row):
    monkeypatch.setenv("ASR_SECRET", "open sesame")
    change, said = OTHER_MODELS[row]
    change(model)
    config = model / "config.json"
    config.write_text(config.read_text().replace("CANARY", str(tmp_path / CANARY)))
    seal(model)
    outcomes = loaders(model)
    all_refuse(outcomes, str(model), *said)
    assert not (tmp_path / CANARY).exists()
    assert not any("open sesame" in outcome.err for outcome in outcomes)


TYPED = {
    "S3-typed": ("encoder._target_=os.system", "unknown key 'encoder._target_'"),
    "S3-added": ("+encoder._target_=os.system", "take no '+'"),
    "S4-typed": ("encoder.cell=${oc.env:ASR_SECRET}", "is not resolved here"),
    "S4-map-typed": ("tokens.map={a: '${oc.env:ASR_SECRET}'}", "is not resolved here"),
    "S6-typed": ("tokens.map={a: &a [x, x], b: &b [*a, *a], c: [*b, *b]}", "expected a mapping such as {a: b}"),
    "S5-typed": ("tokens.map={a: !!python/object/apply:os.mkdir [CANARY]}", "tokens.map"),
}


@pytest.mark.parametrize("row", list(TYPED))
def test_nor_can_the_command_line_name_code_or_secrets(speech, asr, tmp_path, monkeypatch, row):
    monkeypatch.setenv("ASR_SECRET", "open sesame")
    word, said = TYPED[row]
    outcome = asr("train", *train_words(speech, tmp_path / "run"), word.replace("CANARY", str(tmp_path / CANARY)))
    told(outcome, 2, said, alone=True)
    assert "open sesame" not in outcome.err
    assert list(tmp_path.iterdir()) == []
