"""The recipe `ladder`: its stations and their sizes, its options with stand-ins for the commands, its page, and a dry run."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from asr.cli.arguments import Arguments
from asr.cli.inspect import LOOKS
from asr.config import compose_config
from asr.models.model import ModelOptions, SpeechModel
from asr.training.options import TrainConfig
from tests.test_recipes import ROOT, STAND_IN, run

FOLDER = ROOT / "recipes" / "ladder"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
#: As for the other recipes, and a training makes its folder.
MAKES_FOLDER = """    asr-train)
        for word in "$@"; do [ "${word#run_dir=}" = "$word" ] || mkdir -p "${word#run_dir=}"; done ;;
    asr-score)"""
PROGRAM = STAND_IN.replace("    asr-score)", MAKES_FOLDER)
#: phones of speechocean762 and the blank
VOCABULARY = 40


def bash(script: str) -> str:
    """What a line says with the functions of stations.sh at hand."""
    line = f'source "{FOLDER}/stations.sh"; {script}'
    return subprocess.run(["bash", "-euc", line], capture_output=True, text=True, check=True).stdout


LADDER = bash('echo "${ladder[@]}"').split()
DEPTH = bash('echo "${depth[@]}"').split()
STATIONS = list(dict.fromkeys(LADDER + DEPTH))


def config_of(station: str) -> TrainConfig:
    words = ["experiment=ladder", "tokens=phones", *bash(f"network {station}").split()]
    return compose_config("train", Arguments(overrides=words), TrainConfig)


@pytest.mark.parametrize("station", STATIONS)
def test_every_station_has_about_a_million_weights(station: str) -> None:
    config = config_of(station)
    options = ModelOptions(features=config.features, normalize=config.normalize, encoder=config.encoder)
    count = SpeechModel(options, vocabulary=VOCABULARY, initialize=False).parameter_count()
    assert count == pytest.approx(1e6, rel=0.03)


def test_the_stations_are_the_line_and_differ_in_nothing_else() -> None:
    """Same data, schedule and regularisation; only what the name says, and the width that keeps the number of weights."""
    plain = config_of("lstm")
    for station in STATIONS:
        config = config_of(station)
        assert (config.optim, config.augment, config.batches, config.training) == (
            plain.optim,
            plain.augment,
            plain.batches,
            plain.training,
        )
        for name in ("frontend", "subsampling", "dropout", "layer_norm", "initialization", "forget_bias", "projection"):
            assert getattr(config.encoder, name) == getattr(plain.encoder, name), (station, name)
    cells = {name: config_of(name).encoder for name in LADDER}
    assert [one.cell for one in cells.values()] == ["mlp", "rnn", "rnn", "lstm", "lstm", "lstm", "lstm", "gru"]
    assert [name for name, one in cells.items() if not one.bidirectional] == ["rnn-forward", "lstm-forward"]
    assert [name for name, one in cells.items() if not one.forget_gate] == ["lstm1997"]
    assert [name for name, one in cells.items() if one.peepholes] == ["lstm-peepholes"]
    depths = {name: (config_of(name).encoder.layers, config_of(name).encoder.bidirectional) for name in DEPTH}
    assert sorted(depths.values()) == [(layers, two) for layers in (1, 2, 3, 5) for two in (False, True)]


@pytest.fixture
def dry(tmp_path: Path):
    """As in the tests of the other recipes; `asr-inspect` is a stand-in, too."""
    programs, log = tmp_path / "programs", tmp_path / "log"
    programs.mkdir()
    for name in ("data", "train", "decode", "score", "inspect"):
        (programs / f"asr-{name}").write_text(PROGRAM)
        (programs / f"asr-{name}").chmod(0o755)
    shutil.copytree(ROOT / "recipes", tmp_path / "clone" / "recipes")

    def call(*words: object, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
        log.write_text("")
        where = {"folder": tmp_path, "root": tmp_path / "clone", "programs": programs}
        done = run("ladder", *words, **where, LOG=str(log), **environment)
        return done, [line.split("\t") for line in log.read_text().splitlines()]

    return call


def value(words: list[str], key: str) -> str:
    (found,) = [word.removeprefix(f"{key}=") for word in words if word.startswith(f"{key}=")]
    return found


def test_all_stations_on_one_corpus_and_two_tables(dry, tmp_path: Path) -> None:
    out = tmp_path / "o u=t #1"
    done, calls = dry("--data", tmp_path / "my corpus", "--out", out, "--seeds", 2, "--epochs", 7, "optim.learning_rate=1e-3")
    assert (done.returncode, done.stderr) == (0, "")
    assert calls[0] == [
        "asr-data",
        "prepare",
        "speechocean762",
        "--root",
        str(tmp_path / "my corpus"),
        "--out",
        f"{out}/speechocean762/data",
    ]
    trained = [words for words in calls if words[0] == "asr-train"]
    assert [Path(value(words, "run_dir")).parts[-2:] for words in trained] == [
        (station, f"seed{seed}") for station in STATIONS for seed in (1, 2)
    ]
    for words in trained:
        assert words[1:3] == ["experiment=ladder", f"data.dir={out}/speechocean762/data"]
        assert value(words, "training.epochs") == "7"
        assert f"seed={Path(value(words, 'run_dir')).name.removeprefix('seed')}" in words
        assert words[-1] == "optim.learning_rate=1e-3"
        assert "tokens=phones" in words
    for command in ("asr-decode", "asr-score"):
        assert len([words for words in calls if words[0] == command]) == 2 * len(STATIONS)
    tables = [words for words in calls if words[0] == "asr-inspect"]
    assert [words[2] for words in tables] == [f"out={out}/speechocean762/ladder", f"out={out}/speechocean762/depth"]
    for words, names in zip(tables, (LADDER, DEPTH)):
        assert words[1] == "compare"
        assert [tuple(Path(word).parts[-2:]) for word in words[4:]] == [
            (name, f"seed{seed}") for name in names for seed in (1, 2)
        ]


def test_what_is_done_is_not_done_again(dry, tmp_path: Path) -> None:
    """Asked again, each training says itself that it is complete; decoding and scoring are left out, the tables are made anew."""
    words = ["--data", tmp_path, "--out", tmp_path / "out", "--stations", "rnn gru rnn"]
    done, calls = dry(*words)
    assert done.returncode == 0
    assert [words[0] for words in calls].count("asr-score") == 2
    for station in ("rnn", "gru"):
        model = tmp_path / "out" / "speechocean762" / station / "seed1" / "model"
        model.mkdir(parents=True)
        (model / "checksums.json").write_text("{}")
    score = tmp_path / "out" / "speechocean762" / "rnn" / "seed1" / "score" / "score.json"
    shutil.copy(score, f"{score}.new")
    Path(f"{score}.new").rename(score)
    done, calls = dry(*words)
    assert [words[0] for words in calls] == ["asr-data", "asr-train", "asr-train", "asr-decode", "asr-score", "asr-inspect"]
    assert "/gru/" in calls[3][1]
    done, calls = dry(*words, "--stage", 4)
    assert [words[0] for words in calls] == ["asr-score", "asr-score", "asr-inspect"]


def test_quick_corpora_and_a_small_run(dry, tmp_path: Path) -> None:
    done, calls = dry("--corpus", "digits", "--small")
    assert done.returncode == 0
    assert calls[0][:3] == ["asr-data", "prepare", "digits"]
    assert calls[0][-6:] == ["--train", "60", "--valid", "10", "--test", "10"]
    trained = [words for words in calls if words[0] == "asr-train"]
    assert [Path(value(words, "run_dir")).parent.name for words in trained] == [
        "mlp",
        "lstm-peepholes",
        "depth1-forward",
        "depth1",
    ]
    assert all("tokens=characters" in words and "encoder.width=16" in words for words in trained)
    assert all([word for word in words if word.startswith("training.epochs=")][-1] == "training.epochs=1" for words in trained)
    assert all(str(tmp_path / "clone/runs/ladder-small/digits") in value(words, "run_dir") for words in trained)
    done, calls = dry("--corpus", "fsdd", "--data", tmp_path, "--stations", "mlp", "--stage", 2)
    assert done.returncode == 0
    (train,) = [words for words in calls if words[0] == "asr-train"]
    assert "features.sample_rate=8000" in train
    assert [words[3] for words in calls if words[0] == "asr-score"] == ["unit=word"]


@pytest.mark.parametrize("failing", ["asr-data", "asr-train", "asr-decode", "asr-score", "asr-inspect"])
def test_a_failing_command_ends_the_recipe_with_its_code(failing: str, dry, tmp_path: Path) -> None:
    done, calls = dry("--data", tmp_path, "--out", tmp_path / "out", "--stations", "mlp", FAILS=failing)
    assert done.returncode == 3
    assert calls[-1][0] == failing


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "--data DIR is missing: the folder of speechocean762"),
        (["--corpus", "timit"], "--corpus takes speechocean762, fsdd or digits, got 'timit'"),
        (["--stations", "rnn lstn"], "--stations: 'lstn' is no station; there are mlp rnn-forward rnn lstm1997"),
        (
            ["--stations", "nowhere"],
            "--stations: 'nowhere' is no station; there are mlp rnn-forward rnn lstm1997 lstm-forward lstm lstm-peepholes gru "
            "depth1-forward depth1 depth2-forward depth2 depth5-forward depth5\n",
        ),
        (["--seeds", "0"], "--seeds takes a whole number from 1 on, got '0'"),
        (["--epochs", "ten"], "--epochs takes a whole number from 1 on, got 'ten'"),
        (["--stage", "5"], "--stage takes 1 (prepare), 2 (train), 3 (decode) or 4 (score), got '5'"),
        (["run_dir=x"], "'run_dir=x': the recipe sets run_dir"),
        (["--depth", "5"], "unknown option '--depth'"),
    ],
)
def test_a_wrong_word_is_one_sentence_and_code_2(words: list[str], sentence: str, dry) -> None:
    done, calls = dry(*words)
    assert (done.returncode, calls) == (2, [])
    assert done.stderr.startswith(f"recipes/ladder/run.sh: {sentence}")
    assert done.stderr.count("\n") == 1


def test_help_tells_every_option_and_station(dry) -> None:
    done, calls = dry("--help")
    assert (done.returncode, done.stderr, calls) == (0, "", [])
    for word in ("--data DIR", "--corpus NAME", "--seeds N", "--epochs N", "--stations", "--small", "KEY=VALUE", *STATIONS):
        assert word in done.stdout
    assert "set -euo" not in done.stdout


# --- the page


def blocks() -> list[list[str]]:
    found = re.findall(r"^```bash\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in found for line in block.splitlines()]


def test_the_commands_of_the_page_are_accepted(dry, tmp_path: Path) -> None:
    commands = blocks()
    assert len([words for words in commands if words[0] == "recipes/ladder/run.sh"]) >= 3
    assert {words[1] for words in commands if words[0] == "asr-inspect"} >= {"gradient", "gates", "ctc", "saliency", "longlag"}
    for words in commands:
        if words[0] == "recipes/ladder/run.sh":
            done, calls = dry(*words[1:], "--out", tmp_path / "out")
            assert done.returncode == 0, done.stderr
            assert calls[-1][0] == "asr-inspect"
            continue
        assert words[0] == "asr-inspect"
        look = LOOKS[words[1]]
        options = getattr(__import__(look.module, fromlist=["look"]), look.options)
        overrides = [word for word in words[2:] if "=" in word]
        assert any(word.startswith("out=") for word in overrides)
        compose_config("inspect", Arguments(overrides=overrides), options)


def test_the_page_has_eight_stations_with_switch_picture_and_number() -> None:
    parts = re.split(r"^### ", README, flags=re.MULTILINE)[1:]
    assert [part.split(".")[0] for part in parts] == [str(number) for number in range(1, 9)]
    for part in parts:
        body = part.split("\n## ")[0]
        assert "**Switch**" in body
        assert "**Picture**" in body
        assert "**Measured**" in body
        assert re.search(r"^    \S", body, flags=re.MULTILINE), "an equation, set off by four spaces"
        line = next(line for line in body.splitlines() if line.startswith("**Switch**"))
        switches = [word for group in re.findall(r"`([^`]*)`", line) for word in group.split() if word.startswith("encoder.")]
        assert switches or part.startswith(("4.", "8.")), "the vanishing gradient and CTC are no switches of the encoder"
        for word in switches:
            config = compose_config("train", Arguments(overrides=[*switches, word]), TrainConfig)
            assert config.encoder.layers == 3


def test_the_pictures_of_the_page_are_there_and_small() -> None:
    names = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert len(names) >= 2
    for name in names:
        file = FOLDER / name
        assert file.read_bytes().startswith(b"\x89PNG")
        assert file.stat().st_size < 150_000
    assert {path.name for path in FOLDER.glob("*.png")} == set(names), "no picture that the page does not show"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_small_run_on_the_real_corpus(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o u t"
    done = run("ladder", "--data", shared_data / "fsdd", "--corpus", "fsdd", "--small", "--out", out, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, stations in (("ladder", ["mlp", "lstm-peepholes"]), ("depth", ["depth1-forward", "depth1"])):
        assert (out / "fsdd" / name / "compare.png").read_bytes().startswith(b"\x89PNG")
        lines = (out / "fsdd" / name / "compare.csv").read_text().splitlines()
        assert [line.split(",")[0] for line in lines] == ["station", *stations]
    for station in ("mlp", "depth1"):
        score = json.loads((out / "fsdd" / station / "seed1" / "score" / "score.json").read_text())
        assert score["reference_tokens"] == 28
