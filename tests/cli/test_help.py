"""`--help`, `--version` and the list of commands: right, and without loading what takes long."""

import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import asr.__main__ as command_list
from asr import __version__
from asr.cli.arguments import Arguments
from asr.cli.describe import MAIN_KEYS, TRAINING, config_source, describe_keys, describe_training, group_choices, read_options
from asr.config import compose_config, option_fields

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "torchaudio", "hydra", "omegaconf", "numpy", "numba", "librosa", "matplotlib", "soundfile", "soxr", "jiwer"}
#: (option class, command's configuration) of all commands that compose one
COMPOSED = {
    "train": TRAINING,
    "lm_train": ("asr.data.language_model", "LanguageModelOptions"),
    "lm_perplexity": ("asr.data.language_model", "PerplexityOptions"),
    "decode": ("asr.decoding.transcribe", "DecodeOptions"),
    "align": ("asr.decoding.align_manifest", "AlignOptions"),
    "score": ("asr.scoring.score", "ScoreOptions"),
}
#: asr-data reads its corpora's tables, which need numpy
LOADED_BY_DATA = {"numpy", "soundfile", "soxr", "librosa"}


def run(*words: str, flags: tuple[str, ...] = (), **environment: str | None) -> subprocess.CompletedProcess[str]:
    merged = {**os.environ, **environment}
    kept = {name: value for name, value in merged.items() if value is not None}
    return subprocess.run(
        [sys.executable, *flags, "-m", "asr", *words], capture_output=True, text=True, encoding="utf-8", env=kept
    )


@pytest.mark.parametrize("command", ["", "train", "lm", "decode", "align", "score", "data"])
@pytest.mark.parametrize("flag", ["--help", "-h", "--version"])
def test_help_loads_nothing_heavy(command: str, flag: str) -> None:
    words = [command, flag] if command else [flag]
    program = (
        "import sys\nfrom asr.__main__ import main\n"
        f"code = main({words!r})\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}), file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.split())
    assert {"asr", "sys"} <= loaded
    assert not loaded & (HEAVY - LOADED_BY_DATA if command == "data" else HEAVY)
    assert done.stdout == f"asr {__version__}\n" if flag == "--version" else len(done.stdout) > 200


def test_the_list_names_every_command_and_no_other() -> None:
    done = run()
    assert done.returncode == 0
    scripts = {path.stem for path in (ROOT / "asr/cli").glob("*.py")} - {"__init__", "arguments", "describe"}
    assert set(command_list.COMMANDS) == scripts
    for name in scripts:
        assert f"  asr-{name} " in done.stdout
        assert callable(importlib.import_module(f"asr.cli.{name}").main)


@pytest.mark.parametrize(("word", "meant"), [("trian", "train"), ("asr-scroe", "score"), ("decoder", "decode"), ("Data", "data")])
def test_an_unknown_command_is_refused(word: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_list.main([word, "x"]) == 2
    names = ", ".join(command_list.COMMANDS)
    assert capsys.readouterr().err == f"asr: '{word}' is no command: did you mean '{meant}'? There are {names}.\n"


def test_both_ways_to_name_a_command_reach_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_list.main(["train", "--help"]) == 0
    first = capsys.readouterr().out
    assert command_list.main(["asr-train", "--help"]) == 0
    assert capsys.readouterr().out == first
    assert first.startswith("usage: asr-train ")
    assert "asr-train experiment=NAME data.dir=PREPARED run_dir=DIR" in first


def test_train_help_lists_experiments_and_main_keys() -> None:
    text = describe_training()
    experiments = sorted(path.stem for path in (ROOT / "configs/experiment").glob("*.yaml"))
    assert {"digits", "fsdd", "yesno", "speechocean762_phones", "speechocean762_characters"} <= set(experiments)
    for name in experiments:
        assert f"\n  {name} " in text
    options = {option.key: option for option in read_options(*TRAINING)}
    assert set(MAIN_KEYS) <= options.keys()
    for key in MAIN_KEYS:
        assert f"  {key}={options[key].default}" in text


@pytest.mark.parametrize(("columns", "width"), [("20", 40), ("40", 40), ("80", 80), ("400", 130)])
def test_help_fits_the_terminal(columns: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    options = read_options(*TRAINING)
    lines = describe_keys(options)
    assert len(lines) >= len(options)
    shown = " ".join(" ".join(lines).split())
    for option in options:
        assert f"{option.key}={option.default} {option.meaning}" in shown
    meanings = [line for line in lines if line.startswith("   ")]
    assert max(map(len, meanings), default=0) <= width


@pytest.mark.parametrize("keys", [True, False])
def test_train_keys_lists_all(keys: bool) -> None:
    done = run("train", "--keys" if keys else "--help")
    assert done.returncode == 0
    listed = [option.key for option in read_options(*TRAINING) if f"  {option.key}=" in done.stdout]
    assert (len(listed) == len(read_options(*TRAINING))) is keys


@pytest.mark.parametrize("command", COMPOSED)
def test_what_help_reads_is_what_the_classes_say(command: str) -> None:
    module, name = COMPOSED[command]
    schema = getattr(importlib.import_module(module), name)
    listed = {option.key: option for option in read_options(module, name)}
    real = {key: option for key, option in option_fields(schema).items() if not option.node}
    assert listed.keys() == real.keys()
    for key, option in listed.items():
        assert option.path == real[key].path, key
        assert option.meaning, f"{key} has no line of meaning"
    typed = Arguments([f"{key}={option.default}" for key, option in listed.items()])
    assert compose_config(command, typed, schema) == compose_config(command, Arguments(), schema) == schema()


@pytest.mark.parametrize("group", sorted(entry.name for entry in config_source().iterdir() if entry.is_dir()))
def test_every_choice_composes_and_says_what_it_is(group: str) -> None:
    from asr.training.options import TrainConfig

    choices = group_choices(group)
    assert choices
    for name, meaning in choices.items():
        assert meaning, f"configs/{group}/{name}.yaml begins with no comment"
        config = compose_config("train", Arguments([f"{group}={name}"]), TrainConfig)
        assert isinstance(config, TrainConfig)
    base = compose_config("train", Arguments(), TrainConfig)
    assert any(compose_config("train", Arguments([f"{group}={name}"]), TrainConfig) != base for name in choices)


def test_a_choice_wins_over_an_experiment() -> None:
    from asr.training.options import TrainConfig

    config = compose_config("train", Arguments(["tokens=characters", "experiment=speechocean762_phones"]), TrainConfig)
    assert config.tokens.unit == "characters"
    with_phones = compose_config("train", Arguments(["experiment=speechocean762_phones"]), TrainConfig)
    assert with_phones.tokens.unit == "phones"
    assert config.optim == with_phones.optim
    changed = compose_config("train", Arguments(["optim=adamw", "experiment=speechocean762_phones"]), TrainConfig).optim
    assert (with_phones.optim.optimizer, changed.optimizer) == ("muon", "adamw")
    assert changed.learning_rate == TrainConfig().optim.learning_rate
    assert changed.warmup_steps == with_phones.optim.warmup_steps != TrainConfig().optim.warmup_steps


def test_a_typo_ends_with_exit_code_2_and_one_line(tmp_path: Path) -> None:
    words = ["train", "experiment=digits", f"run_dir={tmp_path / 'run'}", f"data.dir={tmp_path}", "encoder.layrs=2"]
    done = run(*words, HOME=None)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "asr-train: unknown key 'encoder.layrs': the closest known key is encoder.layers\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [("-O",), ("-W", "error"), ("-B", "-I")])
def test_interpreter_flags_change_nothing(flags: tuple[str, ...]) -> None:
    done = run("train", "--help", flags=flags, COLUMNS="100")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run("train", "--help", COLUMNS="100", PYTHONHASHSEED="7").stdout


def test_it_works_from_inside_a_zip_file(tmp_path: Path) -> None:
    """As installed: the configuration files lie inside the package. The folder is read-only, and there is no HOME."""
    archive = tmp_path / "asr ä.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in (ROOT / "asr").rglob("*.py"):
            packed.write(path, path.relative_to(ROOT))
        for path in (ROOT / "configs").rglob("*.yaml"):
            packed.write(path, "asr" / path.relative_to(ROOT))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    program = (
        "import asr, sys; assert '.zip' in asr.__file__, asr.__file__\n"
        "from asr.__main__ import main; from asr.cli.arguments import Arguments; from asr.config import compose_config\n"
        "from asr.scoring.score import ScoreOptions\n"
        "print(compose_config('score', Arguments(['unit=char'], {'ref': 'a', 'hyp': 'b'}), ScoreOptions).unit)\n"
        "sys.exit(main(['train', '--help']))"
    )
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "COLUMNS")}
    environment = {**kept, "PYTHONPATH": str(archive), "COLUMNS": "100"}
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", cwd=elsewhere, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "char\n" + run("train", "--help", COLUMNS="100").stdout
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("command", ["asr-train", "asr-lm", "asr-decode", "asr-score", "asr-data"])
def test_the_installed_commands_answer(command: str) -> None:
    script = shutil.which(command, path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("asr is not installed in this environment")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert command in done.stdout
