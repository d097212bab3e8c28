"""Every command of README.md is run here, on generated recordings and with tiny networks; an unknown command fails."""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli.describe import TRAINING, group_choices, read_options

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
RATE = 16000
#: A network and a training as small as they can be; appended to each `asr-train` of the README.
TINY = (
    "encoder.layers=3 encoder.width=8 encoder.conv_channels=4 features.num_bins=16 training.epochs=1 training.threads=1 "
    "optim.warmup_steps=2"
)
#: The symbol of a toy language -> the pitch of its tone, Hz.
TONES = {"N": 300, "OW1": 500, "M": 700, "EY1": 1000, "S": 1400, "IY1": 2000}
WORDS = {"NO": ("N", "OW1"), "MAY": ("M", "EY1"), "SEE": ("S", "IY1")}


@dataclass(frozen=True)
class Trial:
    """What is appended to a command, and what it must print (to either stream) and leave behind."""

    append: str = ""
    prints: str = ""
    leaves: tuple[str, ...] = ()


#: Commands that install; each is tried in a way of its own below.
INSTALLING = {
    "scripts/quickstart.sh",
    "scripts/test.sh",
    'ASR_PIP_ARGS="--extra-index-url ADDRESS" scripts/quickstart.sh',
    'ASR_TORCH="torch==2.9.1 torchaudio==2.9.1" scripts/quickstart.sh',
    "PYTHON=python3.12 scripts/quickstart.sh",
    "python3 -m venv .venv",
    ". .venv/bin/activate",
    'python -m pip install -c scripts/constraints.txt -e ".[demo]"',
}
#: All others, run one after the other in a folder where the README's corpora are.
TRIALS = {
    "asr-data prepare speechocean762 --root corpora/speechocean762 --out data/speechocean762": Trial(
        prints="Next: asr-train", leaves=("data/speechocean762/dev.jsonl", "data/speechocean762/prepare.json")
    ),
    "asr-train experiment=speechocean762_phones data.dir=data/speechocean762 run_dir=runs/phones": Trial(
        append=TINY,
        prints="epoch   1/1",
        leaves=(
            *(f"runs/phones/model/{name}" for name in ("model.safetensors", "config.json", "tokens.txt", "checksums.json")),
            *(f"runs/phones/{name}" for name in ("metrics.jsonl", "curves.png", "data_report.json", "checkpoints")),
        ),
    ),
    "asr-decode model=runs/phones manifest=data/speechocean762/dev.jsonl out=runs/phones/dev.hyp.jsonl": Trial(
        prints="decoded 2 utterances", leaves=("runs/phones/dev.hyp.jsonl",)
    ),
    "asr-score ref=data/speechocean762/dev.jsonl hyp=runs/phones/dev.hyp.jsonl unit=phone out=runs/phones/score": Trial(
        prints="of 12 reference tokens", leaves=("runs/phones/score/score.json", "runs/phones/score/alignments.txt")
    ),
    "asr-train data.folder=recordings run_dir=runs/mine": Trial(
        append=TINY,
        prints="epoch   1/1",
        leaves=("runs/mine/model/model.safetensors", *(f"runs/mine/data/{part}.jsonl" for part in ("train", "valid", "test"))),
    ),
    "asr-decode model=runs/mine manifest=runs/mine/data/test.jsonl out=runs/mine/test.hyp.jsonl": Trial(
        prints="decoded 2 utterances", leaves=("runs/mine/test.hyp.jsonl",)
    ),
    "asr-score ref=runs/mine/data/test.jsonl hyp=runs/mine/test.hyp.jsonl unit=word out=runs/mine/score": Trial(
        prints="of 6 reference tokens", leaves=("runs/mine/score/score.json",)
    ),
    'asr-decode model=runs/mine recordings/anna/01.wav "talks/a talk.flac"': Trial(prints="talks/a talk.flac\t"),
    "asr-train data.folder=recordings run_dir=runs/tuned init=runs/phones": Trial(
        append=TINY, prints="init: ", leaves=("runs/tuned/model/model.safetensors",)
    ),
    (
        "torchrun --standalone --nproc-per-node 2 -m asr train experiment=speechocean762_phones data.dir=data/speechocean762 "
        "run_dir=runs/both"
    ): Trial(append=TINY, prints="epoch   1/1", leaves=("runs/both/model/model.safetensors", "runs/both/metrics.jsonl")),
    "recipes/yesno/run.sh --help": Trial(prints="--stage N"),
    "asr-lm train text=runs/mine/data/train.jsonl order=3 out=runs/words.arpa": Trial(leaves=("runs/words.arpa",)),
    "asr-decode tune=true model=runs/mine manifest=runs/mine/data/valid.jsonl lm=runs/words.arpa": Trial(
        prints="greedy", leaves=("runs/mine/tuning",)
    ),
    "asr-decode model=runs/mine manifest=runs/mine/data/test.jsonl lm=runs/words.arpa out=runs/mine/beam.hyp.jsonl": Trial(
        prints="decoded 2 utterances", leaves=("runs/mine/beam.hyp.jsonl",)
    ),
    ("asr-score ref=runs/mine/data/test.jsonl hyp=runs/mine/beam.hyp.jsonl against=runs/mine/test.hyp.jsonl unit=word"): Trial(
        prints="of 6 reference tokens"
    ),
    "asr-lm train text=data/speechocean762/train.jsonl order=3 out=runs/ocean.arpa": Trial(leaves=("runs/ocean.arpa",)),
    (
        "awk 'NR == FNR {seen[$2]; next} $1 in seen' runs/ocean.arpa corpora/speechocean762/resource/lexicon.txt"
        " > runs/ocean.lexicon"
    ): Trial(leaves=("runs/ocean.lexicon",)),
    (
        "asr-decode tune=true model=runs/phones manifest=data/speechocean762/valid.jsonl lm=runs/ocean.arpa"
        " lexicon=runs/ocean.lexicon"
    ): Trial(prints="% word errors with it", leaves=("runs/phones/decode.json", "runs/phones/tuning")),
    (
        "asr-decode model=runs/phones manifest=data/speechocean762/dev.jsonl lm=runs/ocean.arpa lexicon=runs/ocean.lexicon"
        " out=runs/ocean.hyp.jsonl"
    ): Trial(prints="decoded 2 utterances", leaves=("runs/ocean.hyp.jsonl",)),
    "asr-score ref=data/speechocean762/dev.jsonl hyp=runs/ocean.hyp.jsonl unit=word": Trial(prints="of 6 reference tokens"),
    'asr-decode model=runs/mine hotwords=names.txt "talks/a talk.flac"': Trial(prints="talks/a talk.flac\t"),
    'asr-decode model=runs/mine format=srt "talks/a talk.flac"': Trial(),
    "asr-align model=runs/mine manifest=runs/mine/data/test.jsonl out=runs/mine/times format=textgrid": Trial(
        leaves=("runs/mine/times",)
    ),
    "python -m asr": Trial(prints="asr-decode"),
    "asr-data --help": Trial(prints="CORPUS:"),
    "asr-train --help": Trial(prints="experiments (experiment=NAME):"),
    "asr-train --keys": Trial(prints="optim.learning_rate="),
    "asr-lm --help": Trial(prints="asr-lm train"),
    "asr-decode --help": Trial(prints="usage: asr-decode"),
    "asr-align --help": Trial(prints="usage: asr-align"),
    "asr-score --help": Trial(prints="usage: asr-score"),
    "asr-inspect --help": Trial(prints="usage: asr-inspect"),
}


def shell_commands(text: str) -> list[str]:
    """The commands in the bash blocks of a Markdown text, in order, lines that end in a backslash joined."""
    blocks = re.findall(r"^```(?:bash|sh|shell|console)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def run(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in `folder` as a user with this environment activated would, the library from this checkout."""
    variables = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), **environment}
    words = ["bash", "-c", command]
    return subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_every_command_is_known_and_none_is_stale():
    found = shell_commands(README)
    assert len(found) > 20
    assert set(found) == INSTALLING | set(TRIALS)
    order = {command: number for number, command in enumerate(TRIALS)}
    rest = [command for command in found if command in TRIALS]
    assert rest == sorted(rest, key=order.__getitem__), "TRIALS run in another order than a reader types them"


def test_unknown_fences_hide_no_command():
    opening = re.findall(r"^```(.*)\n", README, flags=re.MULTILINE)[::2]
    assert set(opening) == {"bash", "json", "text"}


def write_tones(path: Path, words: list[str], seed: int) -> None:
    """A recording of each word's symbols as tones, in a little noise."""
    draw = np.random.default_rng(seed)
    pieces = [np.zeros(RATE // 10)]
    for word in words:
        for symbol in WORDS[word]:
            time = np.arange(RATE // 5) / RATE
            pieces += [0.3 * np.sin(2 * np.pi * TONES[symbol] * time), np.zeros(RATE // 20)]
    samples = np.concatenate(pieces)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples + draw.normal(0, 1e-3, len(samples)), RATE)


def write_speechocean(root: Path, speakers: int = 12) -> None:
    """The layout of speechocean762: one sentence of three words for each speaker."""
    text, phones, recordings, voices = [], [], [], []
    for speaker in range(speakers):
        turn = speaker % len(WORDS)
        key, words = f"{speaker:04d}0001", [*WORDS][turn:] + [*WORDS][:turn]
        write_tones(root / "WAVE" / f"SPEAKER{speaker:04d}" / f"{key}.wav", words, speaker)
        text.append(f"{key}\t{' '.join(words)}")
        recordings.append(f"{key}\tWAVE/SPEAKER{speaker:04d}/{key}.wav")
        voices.append(f"{key} {speaker:04d}")
        phones += [f"{key}.{number}\t{WORDS[word][0]}_B {WORDS[word][1]}_E" for number, word in enumerate(words)]
    for name, lines in {
        "train/text": text,
        "train/wav.scp": recordings,
        "train/utt2spk": voices,
        "train/spk2age": [f"{speaker:04d} 9" for speaker in range(speakers)],
        "train/spk2gender": [f"{speaker:04d} f" for speaker in range(speakers)],
        "resource/text-phone": phones,
        "resource/lexicon.txt": [*(f"{word}\t{' '.join(spoken)}" for word, spoken in WORDS.items()), "YES\tY EH1 S"],
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A folder with what the README's commands read."""
    folder = tmp_path_factory.mktemp("read me")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    write_speechocean(folder / "corpora" / "speechocean762")
    for number, speaker in enumerate(("anna", "ben", "carla", "dora", "emil")):
        for take in (1, 2):
            write_tones(folder / "recordings" / speaker / f"{take:02d}.wav", list(WORDS), 10 * number + take)
            (folder / "recordings" / speaker / f"{take:02d}.txt").write_text(" ".join(WORDS))
    write_tones(folder / "talks" / "a talk.flac", ["NO", "NO"], 99)
    (hotwords,) = re.findall(r"^```text\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    (folder / "names.txt").write_text(hotwords)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_command_works(workspace: Path):
    for command, trial in TRIALS.items():
        done = run(f"{command} {trial.append}", workspace)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert trial.prints in done.stdout + done.stderr, command
        missing = [name for name in trial.leaves if not (workspace / name).exists()]
        assert not missing, f"{command} did not write {missing}"
    assert (workspace / "runs" / "ocean.lexicon").read_text().split()[::3] == [*WORDS]  # YES is no word of the language model


FAKE_PYTHON = """#!/usr/bin/env bash
case "$1 $2 $3" in
    "-m pip install" | "-m pytest "*) printf '%s\\n' "$*" >> "$LOG" ;;
    "-m venv "*) cp -r -- "$FAKE_VENV" "${@: -1}" ;;
    *) exec REAL "$@" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the scripts whose `.venv` notes what would be installed and runs the library of this checkout."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copy(ROOT / "pyproject.toml", folder)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    real = shlex.quote(sys.executable)
    contents = {"python": FAKE_PYTHON.replace("REAL", real)}
    appended = {"data": "--train 60 --valid 8 --test 8", "train": TINY, "decode": "", "score": ""}
    for name, words in appended.items():
        contents[f"asr-{name}"] = f'#!/usr/bin/env bash\nexec {real} -m asr {name} "$@" {words}\n'
    for name, content in contents.items():
        (programs / name).write_text(content)
        (programs / name).chmod(0o755)
    return folder


def test_scripts_parse():
    for script in ("scripts/quickstart.sh", "scripts/test.sh"):
        assert os.access(ROOT / script, os.X_OK), script
        done = run(f"bash -n {script}", ROOT)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_quickstart_ends_with_transcripts_a_table_and_the_places(checkout: Path):
    pytest.importorskip("espeakng_loader", reason="needs the extra demo")
    log = checkout / "log"
    done = run("scripts/quickstart.sh", checkout, LOG=str(log))
    assert done.returncode == 0, done.stderr
    assert log.read_text().rstrip().endswith("-c " + str(checkout / "scripts/constraints.txt") + " -e .[demo]")
    assert done.stdout.count("heard:") == 3
    assert "word error rate" in done.stdout
    for name in ("model/model.safetensors", "curves.png", "hyp.jsonl", "score/score.json"):
        place = checkout / "runs" / "quickstart" / name
        assert place.exists(), name
    assert "This speech is synthetic" in done.stdout
    assert str(checkout / "runs/quickstart/model") in done.stdout


def test_test_script_hands_its_words_to_pytest(checkout: Path):
    done = run("scripts/test.sh tests/text -k phones", checkout, LOG=str(checkout / "log"))
    assert (done.returncode, done.stderr[:10]) == (0, "Installing")
    installed, tested = (checkout / "log").read_text().splitlines()
    assert installed.endswith("-e .[dev]")
    assert tested.startswith("-m pytest ")
    assert tested.endswith(" tests/text -k phones")


INSTALLS = {
    'ASR_PIP_ARGS="--extra-index-url ADDRESS" scripts/quickstart.sh': "--extra-index-url ADDRESS",
    'ASR_TORCH="torch==2.9.1 torchaudio==2.9.1" scripts/quickstart.sh': "torch==2.9.1 torchaudio==2.9.1",
    "PYTHON=python3.12 scripts/quickstart.sh": "-e .[demo]",
}


@pytest.mark.parametrize("command", INSTALLS)
def test_another_build_reaches_pip(command: str, checkout: Path):
    """The installation that quickstart.sh begins with, under the variables that the README sets for it."""
    assert command in INSTALLING
    (checkout / ".venv").rename(checkout / "fake")
    programs = checkout / "programs"
    programs.mkdir()
    shutil.copy(checkout / "fake" / "bin" / "python", programs / "python3.12")
    if "PYTHON" not in command:
        shutil.copy(checkout / "fake" / "bin" / "python", programs / "python3")
    variables = command.removesuffix(" scripts/quickstart.sh")
    done = run(
        f"{variables} bash -c 'source scripts/setup.sh && asr_setup demo'",
        checkout,
        LOG=str(checkout / "log"),
        FAKE_VENV=str(checkout / "fake"),
        PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
    )
    assert done.returncode == 0, done.stderr
    assert INSTALLS[command] in (checkout / "log").read_text()
    assert (checkout / ".venv" / "bin" / "asr-train").exists()


def test_installing_by_hand(tmp_path: Path):
    done = run("python3 -m venv .venv --without-pip && . .venv/bin/activate && command -v python", tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / ".venv" / "bin" / "python"))
    (install,) = (command for command in INSTALLING if "pip install" in command)
    words = shlex.split(install)
    assert (ROOT / words[words.index("-c") + 1]).is_file()
    extras = words[words.index("-e") + 1].removeprefix(".[").removesuffix("]").split(",")
    assert extras
    assert set(extras) <= set(metadata("asr").get_all("Provides-Extra") or [])


# What the text says beside its commands.


@functools.cache
def _schemas() -> Mapping[str, type]:
    from asr.decoding.recognizer import DecodeOptions
    from asr.scoring.score import ScoreOptions
    from asr.training.options import TrainConfig

    return {"train": TrainConfig, "decode": DecodeOptions, "score": ScoreOptions}


def _accepted(word: str) -> bool:
    from asr.cli.arguments import Arguments
    from asr.config import compose_config
    from asr.errors import UsageError

    needs = {
        "merge_silence=true": ["unit=phone", "phone_set=timit39"],
        "phone_set=timit39": ["unit=phone"],
        "decoder=lexicon": ["lexicon=words.txt"],
    }
    for name, schema in _schemas().items():
        try:
            compose_config(name, Arguments(overrides=[*needs.get(word, []), word]), schema)
        except UsageError:
            continue
        return True
    return False


def key_words() -> list[str]:
    """The words `key=value` in backticks outside of commands; a value in capitals stands for one of the user's."""
    prose = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    spans = [span for span in re.findall(r"`([^`]+)`", prose) if re.match(r"[a-z_.]+=", span)]
    return sorted({span for span in spans if re.search(r"=[^A-Z]", span)} - {"key=value"})


def test_keys_and_values_in_the_text_exist():
    words = key_words()
    assert len(words) > 25
    assert [word for word in words if not _accepted(word)] == []


def test_a_wrong_key_would_be_noticed():
    assert not _accepted("encoder.cells=lstm")
    assert not _accepted("augment=noisy")


def test_named_experiments_and_keys_are_those_there_are():
    row = next(line for line in README.splitlines() if line.startswith("| `asr-train experiment=NAME"))
    assert set(re.findall(r"`(\w+)`", row)) == set(group_choices("experiment"))
    defaults = {option.key: option.default for option in read_options(*TRAINING)}
    for key in ("encoder.layers", "encoder.width", "encoder.subsampling", "features.sample_rate", "training.epochs"):
        assert f"`{key}={defaults[key]}`" in README, key


def test_files_and_folders_in_the_text_exist():
    spans = re.findall(r"`((?:asr|configs|recipes|scripts|tests|benchmarks)(?:/[\w./]*)?)`", README)
    assert len(spans) > 15
    assert [span for span in spans if not (ROOT / span).exists()] == []
