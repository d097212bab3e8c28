"""From files and words to option objects: what is accepted, and how everything else is refused."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import asr.config
from asr.cli.arguments import Arguments, split_arguments
from asr.config import compose_config, option_fields, set_keys
from asr.errors import UsageError


@dataclass
class Encoder:
    layers: int = 3
    dropout: float = 0.2
    bidirectional: bool = True
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise UsageError(f"encoder.layers must be at least 1, got {self.layers}")


@dataclass
class Tokens:
    unit: str = "characters"
    map: dict[str, str] = field(default_factory=dict)


@dataclass
class Augment:
    speed: list[float] = field(default_factory=lambda: [1.0])


@dataclass
class Config:
    run_dir: str
    init: str = field(default="", metadata={"path": True})
    seed: int = 1
    encoder: Encoder = field(default_factory=Encoder)
    tokens: Tokens = field(default_factory=Tokens)
    augment: Augment = field(default_factory=Augment)


FILES = {
    "train": "seed: 5\ndefaults:\n  - _self_\n  - encoder: null\n  - empty: null\n  - experiment: null\n",
    "encoder/big": "layers: 5\n",
    "encoder/narrow": "layers: 2\ndropout: 0\n",
    "experiment/digits": (
        "# @package _global_\n# Digits\ndefaults:\n  - override /encoder: big\nencoder:\n  dropout: 0.5\ntokens:\n  map: {a: b}\n"
    ),
    "experiment/words": "# @package _global_\ntokens:\n  unit: words\n",
    "experiment/typo": "# @package _global_\nencoder:\n  layrs: 5\n",
    "experiment/code": "# @package _global_\nencoder:\n  _target_: os.system\n",
    "experiment/secret": "# @package _global_\ntokens:\n  unit: ${oc.env:HOME}\n",
    "experiment/broken": "# @package _global_\nencoder: [\n",
    "experiment/tag": "# @package _global_\nencoder: !!python/object/apply:os.system [id]\n",
    "experiment/latin": "# @package _global_\ntokens:\n  unit: \xe4\n",
    "experiment/scalar": "# @package _global_\nencoder: 5\n",
    "experiment/nogroup": "# @package _global_\ndefaults:\n  - override /decoder: beam\n",
    "experiment/wrongtype": "# @package _global_\nencoder:\n  layers: many\n",
    "experiment/number": "# @package _global_\n7: x\n",
    "experiment/123": "# @package _global_\nseed: 123\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of configuration files, under a name that no grammar likes."""
    folder = tmp_path / "conf ä#=%20 (x),'y'"
    for name, text in FILES.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1" if name.endswith("latin") else "utf-8"))
    monkeypatch.setattr(asr.config, "config_source", lambda: folder)
    return folder


def compose(*words: str) -> Config:
    return compose_config("train", split_arguments(["run_dir=x", *words], path_keys=["run_dir"]), Config)


def test_defaults_come_from_the_classes_then_the_files() -> None:
    assert compose() == Config(run_dir="x", seed=5)


def test_an_experiment_selects_and_sets() -> None:
    expected = Config("x", "", 5, Encoder(5, 0.5), Tokens(map={"a": "b"}))
    assert compose("experiment=digits") == expected


def test_what_is_typed_wins_over_the_experiment() -> None:
    config = compose("experiment=digits", "encoder=narrow", "seed=7")
    assert config.encoder == Encoder(layers=2, dropout=0.0)
    assert config.tokens.map == {"a": "b"}
    assert config.seed == 7
    assert compose("encoder.layers=4", "encoder=narrow", "experiment=digits").encoder == Encoder(4, 0.0)
    assert compose("experiment=123").seed == 123


@pytest.mark.parametrize(
    ("words", "part", "expected"),
    [
        (["augment.speed=[0.9,1.0,1.1]"], "augment", Augment([0.9, 1.0, 1.1])),
        (["augment.speed=[]"], "augment", Augment([])),
        (["encoder.dropout=1e-3"], "encoder", Encoder(dropout=0.001)),
        (["encoder.dropout=1"], "encoder", Encoder(dropout=1.0)),
        (["encoder.bidirectional=false"], "encoder", Encoder(bidirectional=False)),
        (["encoder.bidirectional=no"], "encoder", Encoder(bidirectional=False)),
        (["encoder.limit=4"], "encoder", Encoder(limit=4)),
        (["encoder.limit=null"], "encoder", Encoder()),
        (["encoder.layers=1", "encoder.layers=2"], "encoder", Encoder(layers=2)),
        (["tokens.unit=größe, (x) #1"], "tokens", Tokens("größe, (x) #1")),
        (["tokens.unit='a b'"], "tokens", Tokens("a b")),
        (['tokens.map={"ä": ae, no: yes, 1: "2", " ": "_"}'], "tokens", Tokens(map={"ä": "ae", "no": "yes", "1": "2", " ": "_"})),
        (["tokens.map.ß=ss"], "tokens", Tokens(map={"ß": "ss"})),
        (["experiment=digits", "tokens.map={c: d}"], "tokens", Tokens(map={"a": "b", "c": "d"})),
    ],
)
def test_values(words: list[str], part: str, expected: object) -> None:
    config = compose(*words)
    assert getattr(config, part) == expected
    assert type(config.encoder.dropout) is float


@pytest.mark.parametrize("path", ["a b", "a=b", "#'\"", "${oc.env:HOME}", "x,(y)", "größe", "???", "", "null", "[1]"])
def test_paths_are_taken_as_they_stand(path: str) -> None:
    config = compose(f"run_dir={path}", f"init={path}")
    assert (config.run_dir, config.init) == (path, path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["encoder.layrs=4"], r"^unknown key 'encoder.layrs': the closest known key is encoder.layers$"),
        (["layers=4"], r"the closest known key is encoder.layers$"),
        (["experimant=digits"], r"the closest known key is experiment$"),
        (["hydra.run.dir=y"], r"^unknown key 'hydra.run.dir'"),
        (["encoder._target_=os.system"], r"^unknown key 'encoder._target_'"),
        (["tokens.unit.x=1"], r"^unknown key 'tokens.unit.x'"),
        (["encoder.layers=many"], r"^encoder.layers takes a whole number, got 'many'$"),
        (["encoder.layers=ä"], r"^encoder.layers=ä: encoder.layers takes a whole number$"),
        (["encoder.layers=2.5"], r"takes a whole number, got 2.5$"),
        (["encoder.layers=true"], r"takes a whole number, got true$"),
        (["encoder.layers=null"], r"takes a whole number, got null$"),
        (["encoder.layers="], r"takes a whole number, got ''$"),
        (["encoder.layers=???"], r"takes a whole number$"),
        (["encoder.layers=[1]"], r"takes a whole number, got \[1\]$"),
        (["encoder.layers=1,2"], r"takes a whole number, got several values: give one"),
        (["encoder.layers=choice(1,2)"], r"got several values"),
        (["encoder.limit=x"], r"takes a whole number or null, got 'x'$"),
        (["encoder.bidirectional=5"], r"takes true or false, got 5$"),
        (["encoder.dropout=" + "[" * 5000], r"takes a number$"),
        (["augment.speed=0.9,1.1"], r"write a list as augment.speed=\[0.9,1.1\]$"),
        (["augment.speed=0.9"], r"takes a list such as \[1,2\], got 0.9$"),
        (["augment.speed=[fast]"], r"takes a list such as \[1,2\], got \['fast'\]$"),
        (["tokens.map=5"], r"expected a mapping such as \{a: b\}$"),
        (["tokens.map={a"], r"expected a mapping"),
        (["tokens=phones"], r"tokens is a set of keys, each set on its own, as in tokens.unit=VALUE$"),
        (["tokens.unit=${oc.env:HOME}"], r"'\$\{\.\.\.\}' is not resolved here"),
        (["experiment=${oc.env:HOME}"], r"is not resolved here"),
        (["experiment=digit"], r"^experiment=digit is not known: did you mean digits\? There are 123, broken, code, digits, "),
        (["encoder=null"], r"^encoder=null is not known"),
        (["experiment="], r"^experiment= has no value: there are 123, broken, code, "),
        (["experiment=../train"], r"^experiment=../train is not known"),
        (["encoder=bgi"], r"did you mean big\? There are big, narrow$"),
        (["empty=x"], r"^empty=x: there is no file to choose in configs/empty$"),
        (["encoder={layers: 3}"], r"is not known"),
        (["encoder.layers=0"], r"^encoder.layers must be at least 1, got 0$"),
        (
            ["experiment=typo"],
            r"^unknown key 'encoder.layrs': .* encoder.layers; it is set by experiment=typo or a file it selects$",
        ),
        (["experiment=code"], r"^encoder._target_, set by experiment=code .* cannot name code to run$"),
        (["experiment=secret"], r"^tokens.unit, set by experiment=secret .* is not resolved here"),
        (["experiment=broken"], r"^a configuration file is no valid YAML: .*broken.yaml.*line 3"),
        (["experiment=tag"], r"^a configuration file is no valid YAML: .*python/object/apply"),
        (["experiment=latin"], r"cannot be put together: .*utf-8"),
        (["experiment=scalar"], r"^encoder, set by experiment=scalar .*: expected a set of keys, got 5$"),
        (["experiment=nogroup"], r"^configs/train.yaml experiment=nogroup cannot be put together: .*decoder"),
        (["experiment=wrongtype"], r"^encoder.layers takes a whole number, got 'many'$"),
        (["experiment=number"], r"^unknown key '7'"),
    ],
)
def test_a_mistake_gets_one_sentence(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose(*words)
    assert re.search(message, str(caught.value))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_missing_value_is_named() -> None:
    with pytest.raises(UsageError, match=r"^run_dir must be given: add run_dir=VALUE to the command$"):
        compose_config("train", Arguments(), Config)


def test_a_word_without_equals_is_refused() -> None:
    with pytest.raises(UsageError, match=r"write seed=VALUE"):
        compose_config("train", Arguments(overrides=["seed"]), Config)


def test_an_unknown_path_key_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown key 'run_dri': the closest known key is run_dir"):
        compose_config("train", Arguments(paths={"run_dri": "x"}), Config)


def test_a_file_that_looks_like_a_key_is_told_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("take=2.wav").touch()
    with pytest.raises(UsageError, match=r"\(if take=2.wav is a file, put it after --\)"):
        compose("take=2.wav")
    with pytest.raises(UsageError, match=r"^unknown key 'take': the closest known key is [\w.]+$"):
        compose("take=" + "x" * 5000)


def test_nothing_is_written_and_the_folder_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    compose("experiment=digits")
    compose("encoder=big")
    assert os.getcwd() == str(work)
    assert list(work.iterdir()) == []


def test_option_fields_are_all_keys_in_order() -> None:
    keys = option_fields(Config)
    expected = [
        "run_dir",
        "init",
        "seed",
        "encoder",
        "encoder.layers",
        "encoder.dropout",
        "encoder.bidirectional",
        "encoder.limit",
    ]
    assert list(keys) == [*expected, "tokens", "tokens.unit", "tokens.map", "augment", "augment.speed"]
    assert [key for key, option in keys.items() if option.path] == ["init"]
    assert [key for key, option in keys.items() if option.node] == ["encoder", "tokens", "augment"]


def words_of(*words: str) -> Arguments:
    return split_arguments(["run_dir=x", *words], path_keys=["run_dir"])


def test_a_base_wins_over_the_classes_and_nothing_else() -> None:
    base = {"encoder.layers": 7, "encoder.dropout": 0.1, "tokens.unit": "planned", "tokens.map": {"a": "z", "q": "r"}, "seed": 9}
    config = compose_config("train", words_of("encoder.dropout=0.3"), Config, base=base)
    assert (config.encoder, config.tokens.unit, config.seed) == (Encoder(7, 0.3), "planned", 5), (
        "seed is set by configs/train.yaml"
    )
    config = compose_config("train", words_of("experiment=digits"), Config, base=base)
    assert config.encoder == Encoder(5, 0.5)
    assert config.tokens == Tokens("planned", {"a": "b", "q": "r"})
    assert compose_config("train", words_of(), Config, base={}) == compose()
    assert compose_config("train", Arguments(paths={"run_dir": "x"}), Config, base={"init": "a=b"}).init == "a=b"


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"encoder.layrs": 7}, r"^unknown key 'encoder.layrs': .*; it is set by the plan for the data$"),
        ({"encoder._target_": "os.system"}, r"^encoder._target_, set by the plan for the data: .* cannot name code to run$"),
        ({"tokens.unit": "${oc.env:HOME}"}, r"^tokens.unit, set by the plan for the data: .* is not resolved here"),
        ({"encoder.layers": "many"}, r"^encoder.layers takes a whole number, got 'many'$"),
        ({"encoder.layers": 0}, r"^encoder.layers must be at least 1, got 0$"),
    ],
)
def test_a_base_is_checked_as_everything_else(base: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compose_config("train", words_of(), Config, base=base)


def test_the_keys_that_were_set() -> None:
    assert set_keys("train", words_of(), Config) == {"run_dir", "seed"}
    assert set_keys("train", words_of("encoder.layers=3"), Config) == {"run_dir", "seed", "encoder.layers"}, (
        "a default, but typed"
    )
    chosen = set_keys("train", words_of("experiment=digits", "encoder=narrow", "tokens.map.x=y"), Config)
    assert chosen == {"run_dir", "seed", "encoder.layers", "encoder.dropout", "tokens.map"}
