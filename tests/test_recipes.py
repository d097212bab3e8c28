"""The recipes: their options with stand-ins for the four commands, and a dry run of each on its real corpus."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asr.cli.describe import group_choices
from asr.data.corpora import CORPORA
from asr.data.corpora.librispeech import PUBLISHED
from tests.data.corpora.miniature import write_an4, write_librispeech, write_tedlium, write_timit
from tests.data.corpora.miniature_open import write_commonvoice, write_speechcommands

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
#: Those of a corpus; a new one is found by itself.
RECIPES = tuple(name for name in sorted(CORPORA) if (ROOT / "recipes" / name).is_dir())
#: In this order; a recipe may decode and score more than once.
COMMANDS = ["asr-data", "asr-train", "asr-decode", "asr-score"]

#: Stands in for all commands: notes its words, and leaves the files that the scripts themselves read.
STAND_IN = """#!/usr/bin/env bash
printf '%s' "${0##*/}" >> "$LOG"
printf '\\t%s' "$@" >> "$LOG"
printf '\\n' >> "$LOG"
case "${0##*/}" in
    asr-data)
        while [ "$1" != --out ]; do shift; done
        mkdir -p "$2"
        for part in train valid dev test; do seq 100 > "$2/$part.jsonl"; done ;;
    asr-score)
        folder="${@: -1}" && folder="${folder#out=}" && mkdir -p "$folder"
        printf '{\\n  "error_rate": 0.%s5,\\n  "speakers": [\\n    {\\n      "error_rate": 0.9\\n    }\\n  ]\\n}\\n' \\
            "$(grep -c ^asr-score "$LOG")" > "$folder/score.json" ;;
esac
[ "${0##*/}" != "${FAILS:-}" ] || exit 3
"""


def run(
    recipe: str, *words: object, folder: Path, root: Path = ROOT, programs: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a recipe of the checkout `root` in `folder`, with the commands of this environment or with those in `programs`."""
    path = os.pathsep.join([*([str(programs)] if programs else []), str(BIN), os.environ["PATH"]])
    variables = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **environment}
    line = [str(root / "recipes" / recipe / "run.sh"), *map(str, words)]
    return subprocess.run(line, cwd=folder, env=variables, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("asr-data", "asr-train", "asr-decode", "asr-score", "asr-lm", "torchrun"):
        (programs / name).write_text(STAND_IN)
        (programs / name).chmod(0o755)
    return programs


@pytest.fixture
def dry(tmp_path: Path, stand_ins: Path):
    """``dry(recipe, *words)`` runs a copy of a recipe with stand-ins; returns how it ended and the commands it called."""
    log = tmp_path / "log"
    shutil.copytree(ROOT / "recipes", tmp_path / "clone" / "recipes")

    def call(recipe: str, *words: object, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
        log.write_text("")
        where = {"folder": tmp_path, "root": tmp_path / "clone", "programs": stand_ins}
        done = run(recipe, *words, **where, LOG=str(log), **environment)
        return done, [line.split("\t") for line in log.read_text().splitlines()]

    return call


def readme(recipe: str) -> str:
    return (ROOT / "recipes" / recipe / "README.md").read_text(encoding="utf-8")


def stages(calls: list[list[str]]) -> list[str]:
    """The commands called, each row of the same one told once."""
    return [words[0] for words, before in zip(calls, [[""], *calls]) if words[0] != before[0]]


def test_each_recipe_is_bash_alone():
    assert {"digits", "fsdd", "speechocean762", "timit", "yesno"} <= set(RECIPES)
    assert not list((ROOT / "recipes").rglob("*.py"))
    for recipe in RECIPES:
        lines = (ROOT / "recipes" / recipe / "run.sh").read_text().splitlines()
        assert lines[0] == "#!/usr/bin/env bash"
        assert "set -euo pipefail" in lines
        assert len(lines) <= 60


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_four_stages(recipe: str, dry, tmp_path: Path):
    out = tmp_path / "o u=t #1"
    done, calls = dry(recipe, "--data", tmp_path / "my corpus", "--out", out, "training.epochs=7", "seed=2")
    assert (done.returncode, done.stderr) == (0, "")
    assert stages(calls) == COMMANDS
    prepare, train, decode, score = (next(words for words in calls if words[0] == command) for command in COMMANDS)
    assert prepare[1:3] == ["prepare", recipe]
    assert str(tmp_path / "my corpus") in prepare
    prepared = prepare[prepare.index("--out") + 1]
    assert train[1:3] == [f"experiment={CORPORA[recipe].experiment}", f"data.dir={prepared}"]
    assert CORPORA[recipe].experiment in group_choices("experiment")
    assert train[4:] == ["training.epochs=7", "seed=2"]
    *_, last = (words for words in calls if words[0] == "asr-train")
    if last is not train:  # a second training goes on from the first
        assert last[1:3] == [f"experiment={CORPORA[recipe].experiment}_edits", f"data.dir={prepared}"]
        assert last[4:] == [train[3].replace("run_dir=", "init=", 1), "training.epochs=7", "seed=2"]
    run_dir = last[3].removeprefix("run_dir=")
    assert Path(run_dir).is_relative_to(out)
    part = Path(decode[2]).stem
    assert f"`{part}`" in readme(recipe), "the README must say which part is reported"
    assert decode[1:3] == [f"model={run_dir}", f"manifest={prepared}/{part}.jsonl"]
    assert score[1:3] == [f"ref={prepared}/{part}.jsonl", decode[3].replace("out=", "hyp=", 1)]
    assert "overwrite=true" in decode
    ending = done.stdout.splitlines()[-1]
    assert all(path in ending for path in (f"{run_dir}/model", f"{run_dir}/curves.png", decode[3][4:], score[-1][4:]))
    assert all(str(out) in line for line in ("\t".join(words) for words in calls[1:]))


def test_variables_of_the_environment_change_nothing(dry, tmp_path):
    """The names that recipes and `common.sh` use among themselves are theirs, whatever the user has exported."""
    words = ["yesno", "--data", tmp_path, "--out", tmp_path / "out"]
    plain, calls = dry(*words)
    odd, again = dry(*words, prepared="/elsewhere", remark="something else", small="yes", settings="a=b")
    assert again == calls
    assert odd.stdout == plain.stdout


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("stage", [2, 3, 4])
def test_a_later_start(recipe: str, stage: int, dry, tmp_path: Path):
    """Needs no corpus: what an earlier run prepared is there."""
    done, calls = dry(recipe, f"--out={tmp_path / 'out'}", "--stage", stage)
    assert (done.returncode, done.stderr) == (0, "")
    assert stages(calls) == COMMANDS[stage - 1 :]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("failing", ["asr-data", "asr-train", "asr-decode", "asr-score"])
def test_a_failing_command_ends_the_recipe_with_its_code(recipe: str, failing: str, dry, tmp_path: Path):
    done, calls = dry(recipe, "--data", tmp_path, "--out", tmp_path / "out", FAILS=failing)
    assert done.returncode == 3
    assert calls[-1][0] == failing


@pytest.mark.parametrize("recipe", RECIPES)
def test_small_makes_it_small_and_goes_elsewhere(recipe: str, dry, tmp_path: Path):
    done, calls = dry(recipe, "--data", tmp_path / "data", "--small", "--stage", 2, "training.epochs=3")
    assert done.returncode == 0
    trainings = [words for words in calls if words[0] == "asr-train"]
    assert len(trainings) == (2 if recipe == "speechocean762" else 1)
    for train in trainings:
        assert train[3].startswith(f"run_dir={tmp_path}/clone/runs/{recipe}-small/")
        epochs = [word for word in train if word.startswith("training.epochs=")]
        assert epochs[0] in ("training.epochs=1", "training.epochs=2")
        assert epochs[-1] == "training.epochs=3", "what is typed must win over --small"


@pytest.mark.parametrize(("recipe", "every"), [("fsdd", 11), ("speechocean762", 20)])
def test_small_keeps_a_part_of_the_manifests(recipe: str, every: int, dry, tmp_path: Path):
    done, calls = dry(recipe, "--data", tmp_path, "--small", "--out", "o=u t")
    assert done.returncode == 0
    prepared = tmp_path / Path(calls[0][calls[0].index("--out") + 1])
    part = "dev" if recipe == "speechocean762" else "test"
    for name in ("train", "valid", part):
        assert (prepared / f"{name}.jsonl").read_text().split() == [str(line) for line in range(1, 101, every)]
    assert not list(prepared.glob("*.tmp"))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--stages", "2"], "unknown option '--stages'"),
        (["-x"], "unknown option '-x'"),
        (["--stage", "5"], "--stage takes 1 (prepare), 2 (train), 3 (decode) or 4 (score), got '5'"),
        (["--out"], "--out has no value"),
        (["training.epochs"], "'training.epochs' is neither an option"),
        (["run_dir=here"], "'run_dir=here': the recipe sets run_dir"),
    ],
)
def test_a_wrong_word_is_one_sentence_and_code_2(recipe: str, words: list[str], sentence: str, dry, tmp_path: Path):
    done, calls = dry(recipe, "--data", tmp_path, *words)
    assert (done.returncode, done.stdout, calls) == (2, "", [])
    assert done.stderr.startswith(f"recipes/{recipe}/run.sh: {sentence}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("recipe", [name for name in RECIPES if not CORPORA[name].generated])
def test_a_corpus_is_asked_for(recipe: str, dry, tmp_path: Path):
    done, calls = dry(recipe, "--out", tmp_path / "out")
    assert (done.returncode, calls) == (2, [])
    assert "--data DIR is missing" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_tells_every_option(recipe: str, dry):
    done, calls = dry(recipe, "--help")
    assert (done.returncode, done.stderr, calls) == (0, "", [])
    assert all(option in done.stdout for option in ("--data DIR", "--out DIR", "--stage N", "--small", "KEY=VALUE"))
    assert "set -euo" not in done.stdout


def test_a_missing_installation_is_one_sentence(tmp_path: Path):
    copy = tmp_path / "recipes"
    shutil.copytree(ROOT / "recipes", copy)
    line = ["bash", str(copy / "yesno" / "run.sh"), "--data", "x"]
    done = subprocess.run(line, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "recipes/yesno/run.sh: asr-train is not there: install asr first, as README.md says\n"


def test_speechocean_characters(dry, tmp_path: Path):
    done, calls = dry("speechocean762", "--data", tmp_path, "--out", tmp_path / "out", "--unit", "characters")
    assert done.returncode == 0
    assert [words[1] for words in calls if words[0] == "asr-train"] == ["experiment=speechocean762_characters"]
    assert [words[3] for words in calls if words[0] == "asr-score"] == ["unit=char", "unit=word"]
    calls = dry("speechocean762", "--data", tmp_path, "--out", tmp_path / "out")[1]
    assert [words[3] for words in calls if words[0] == "asr-score"] == ["unit=phone"]
    done, calls = dry("speechocean762", "--unit", "words")
    assert (done.returncode, calls) == (2, [])
    assert "--unit takes phones or characters, got 'words'" in done.stderr


def test_timit_as_graves_mohamed_and_hinton_trained_it(dry, tmp_path: Path):
    """Two phases, the second with noise on the weights and from the first; beam of 100; both conventions of silence."""
    out = tmp_path / "out"
    done, calls = dry("timit", "--data", tmp_path, "--out", out, "--system", "graves2013", "--layers", 5, "seed=3")
    assert (done.returncode, done.stderr) == (0, "")
    clean, noisy = (words for words in calls if words[0] == "asr-train")
    assert clean[1:] == ["experiment=timit_graves2013", f"data.dir={out}/data", clean[3], "encoder.layers=5", "seed=3"]
    assert noisy[4:7] == [clean[3].replace("run_dir", "init"), "training.weight_noise=0.075", "training.best_by=error"]
    assert noisy[7:] == ["encoder.layers=5", "seed=3"]
    assert Path(clean[3]).name == "clean"
    (decode,) = (words for words in calls if words[0] == "asr-decode")
    assert decode[1] == noisy[3].replace("run_dir", "model")
    assert decode[-2:] == ["decoder=beam", "beam=100"]
    assert [words[5] for words in calls if words[0] == "asr-score"] == ["merge_silence=false", "merge_silence=true"]
    for words, sentence in (
        (["--system", "kaldi"], "--system takes modern or graves2013"),
        (["--layers", "9"], "--layers takes 3 to 5 with --system modern, got '9'"),
        (["--layers", "2"], "--layers takes 3 to 5 with --system modern, got '2'"),
        (["--layers", "0", "--system", "graves2013"], "--layers takes 1 to 5 with --system graves2013, got '0'"),
    ):
        done, calls = dry("timit", *words)
        assert (done.returncode, calls) == (2, [])
        assert sentence in done.stderr


def test_timit_graves2013_is_the_network_of_the_paper():
    """Weights by hand: layers of 250 cells in both directions, 123 features, 61 phones and the blank; the paper has millions."""
    from asr.cli.arguments import Arguments
    from asr.config import compose_config
    from asr.models.model import ModelOptions, SpeechModel
    from asr.training.options import TrainConfig

    for layers, millions in ((1, 0.8), (3, 3.8), (5, 6.8)):
        words = ["experiment=timit_graves2013", f"encoder.layers={layers}"]
        config = compose_config("train", Arguments(overrides=words), TrainConfig)
        options = ModelOptions(features=config.features, normalize=config.normalize, encoder=config.encoder)
        model = SpeechModel(options, vocabulary=62, initialize=False)
        sizes = [123, *[500] * (layers - 1)]
        cells = sum(2 * 250 * (4 * (size + 250 + 1) + 3) for size in sizes)
        assert model.parameter_count() == cells + 501 * 62
        assert round(model.parameter_count() / 1e6, 1) == millions
    assert (config.tokens.unit, config.tokens.phone_set) == ("phones", "timit61")
    assert (config.normalize.mean, config.normalize.variance, config.encoder.initialization) == ("global", "global", "uniform")
    assert (config.optim.optimizer, config.optim.learning_rate, config.optim.momentum) == ("sgd", 1e-4, 0.9)
    assert (config.optim.schedule, config.optim.warmup_steps, config.optim.clip) == ("constant", 0, 0)
    assert (config.batches.utterances, config.training.weight_noise, config.training.average) == (1, 0, "none")
    assert not config.augment.speed or set(config.augment.speed) == {1.0}


def test_timit_with_a_trigram_of_phones(dry, tmp_path: Path):
    done, calls = dry("timit", "--out", tmp_path / "out", "--stage", 3, "--ngram")
    assert (done.returncode, done.stderr) == (0, "")
    assert [words[0] for words in calls] == ["asr-decode", "asr-lm", *["asr-decode"] * 2, *["asr-score"] * 4]
    greedy, train, tune, searched = calls[:4]
    assert "decoder=greedy" in greedy
    assert {"unit=phone", "phone_set=timit39", f"text={tmp_path}/out/data/train.jsonl"} <= set(train)
    lm = next(word for word in train if word.startswith("out=")).replace("out=", "lm=")
    assert {lm, "tune=true", f"manifest={tmp_path}/out/data/valid.jsonl"} <= set(tune)
    assert {lm, f"manifest={tmp_path}/out/data/test.jsonl"} <= set(searched)
    assert len({words[-1] for words in calls[4:]}) == 4


def test_librispeech_with_a_language_model(dry, tmp_path: Path):
    done, calls = dry("librispeech", "--out", tmp_path / "out", "--stage", 3, "--lm", "my lm.arpa", "--lexicon", "words")
    assert (done.returncode, done.stderr) == (0, "")
    tune, *decodes = (words for words in calls if words[0] == "asr-decode")
    assert {"lm=my lm.arpa", "lexicon=words", "tune=true", f"manifest={tmp_path}/out/100/data/valid.jsonl"} <= set(tune)
    assert [Path(words[2]).name for words in decodes] == ["test-clean.jsonl", "test-other.jsonl"] * 2
    assert ["lm=my lm.arpa" in words for words in decodes] == [False, False, True, True]
    scored = [words[2].removeprefix("hyp=") for words in calls if words[0] == "asr-score"]
    assert scored == [words[3].removeprefix("out=") for words in decodes]
    done, calls = dry("librispeech", "--stage", 3, "--lexicon", "words")
    assert (done.returncode, calls) == (2, [])
    assert "--lexicon needs --lm FILE or --text FILE, too" in done.stderr


def test_librispeech_with_a_language_model_of_a_text(dry, tmp_path: Path):
    done, calls = dry("librispeech", "--out", tmp_path / "out", "--stage", 3, "--text", "my text.gz", "--lexicon", "words")
    assert (done.returncode, done.stderr) == (0, "")
    assert calls[0] == ["asr-lm", "train", "text=my text.gz", f"out={tmp_path}/out/words.arpa.gz", *calls[0][4:]]
    assert {"order=3", "overwrite=true"} <= set(calls[0])
    assert f"lm={tmp_path}/out/words.arpa.gz" in calls[1]
    assert {"lexicon=words", "tune=true"} <= set(calls[1])
    assert [words[0] for words in calls].count("asr-decode") == 5
    done, calls = dry("librispeech", "--text", "a", "--lm", "b")
    assert (done.returncode, calls) == (2, [])
    assert "--lm names a language model and --text makes one: give one of the two" in done.stderr


def test_librispeech_in_byte_pairs(dry, tmp_path: Path):
    done, calls = dry("librispeech", "--data", tmp_path, "--out", tmp_path / "out", "--unit", "bytepairs", "tokens.size=900")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{tmp_path}/out/100/data" in calls[0]
    assert calls[1][2:4] == [f"data.dir={tmp_path}/out/100/data", f"run_dir={tmp_path}/out/100-bytepairs/run"]
    assert calls[1][4:] == ["tokens.unit=bytepairs", "encoder.subsampling=4", "tokens.size=900"]
    assert calls[-1][-1] == f"out={tmp_path}/out/100-bytepairs/score_test-other.greedy"
    assert "--unit takes characters or bytepairs, got 'phones'" in dry("librispeech", "--unit", "phones")[0].stderr


def test_librispeech_in_several_processes(dry, tmp_path: Path):
    words = ("--data", tmp_path, "--out", tmp_path / "o u t", "--processes", 8, "seed=3")
    done, calls = dry("librispeech", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert [words[0] for words in calls[:3]] == ["asr-data", "torchrun", "asr-decode"]
    started = ["torchrun", "--standalone", "--nproc-per-node", "8", "-m", "asr", "train", "experiment=librispeech_100"]
    where = [f"data.dir={tmp_path / 'o u t' / '100' / 'data'}", f"run_dir={tmp_path / 'o u t' / '100' / 'run'}"]
    assert calls[1] == [*started, *where, "seed=3"]
    for wrong in ("0", "two", "-1", "1.5"):
        refused = dry("librispeech", "--processes", wrong)[0]
        assert refused.returncode == 2
        assert f"--processes takes a number from 1 to 99, got '{wrong}'" in refused.stderr


def test_both_trainings_of_speechocean_in_several_processes(dry, tmp_path: Path):
    done, calls = dry("speechocean762", "--data", tmp_path, "--out", tmp_path / "o u t", "--processes", 2, "seed=3")
    assert (done.returncode, done.stderr) == (0, "")
    assert [words[0] for words in calls] == ["asr-data", "torchrun", "torchrun", "asr-decode", "asr-score"]
    assert all(words[1:7] == ["--standalone", "--nproc-per-node", "2", "-m", "asr", "train"] for words in calls[1:3])
    assert [words[7] for words in calls[1:3]] == [f"experiment=speechocean762_phones{kind}" for kind in ("", "_edits")]
    assert calls[2][-2:] == [calls[1][9].replace("run_dir", "init"), "seed=3"]


def test_librispeech_of_960_hours(dry, tmp_path: Path):
    done, calls = dry("librispeech", "--data", tmp_path, "--out", tmp_path / "out", "--hours", "960", "--partial", "--download")
    assert done.returncode == 0
    assert calls[0][-5:] == ["--train", "960", "--counts", "any", "--download"]
    assert calls[1][1] == "experiment=librispeech_960"
    assert "--hours takes 100 or 960, got '500'" in dry("librispeech", "--hours", "500")[0].stderr


def test_each_speaker_is_left_out_in_turn(dry, tmp_path: Path):
    """The stand-in for the score counts up from 0.15, so the mean over six speakers is 0.40; rates of speakers are not in it."""
    done, calls = dry("fsdd", "--data", tmp_path / "my corpus", "--out", "o=u t", "--leave-one-out")
    assert (done.returncode, done.stderr) == (0, "")
    speakers = [words[-1] for words in calls if words[0] == "asr-data"]
    assert speakers == ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
    assert all(words[-2] == "--leave-out" for words in calls if words[0] == "asr-data")
    trained = [words[3] for words in calls if words[0] == "asr-train"]
    assert trained == [f"run_dir=o=u t/without-{speaker}/run" for speaker in speakers]
    assert [line.split() for line in done.stdout.splitlines()[-7:-5]] == [["george", "15.00", "%"], ["jackson", "25.00", "%"]]
    assert done.stdout.splitlines()[-1].endswith("6 speakers, each left out of training: 40.00 %")


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_commands_of_its_readme_are_accepted(recipe: str, dry, tmp_path: Path):
    blocks = re.findall(r"^```bash\n(.*?)^```", readme(recipe), flags=re.MULTILINE | re.DOTALL)
    commands: list[list[str]] = []
    variables: dict[str, str] = {}
    for line in (line for block in blocks for line in block.replace("\\\n", " ").splitlines()):
        words = shlex.split(re.sub(r"\$([A-Z_]+)", lambda name: variables[name[1]], line))
        if len(words) == 1 and (assigned := re.fullmatch(r"([A-Z_]+)=(.*)", words[0])):
            variables[assigned[1]] = assigned[2]
        else:
            commands.append(words)
    assert len(commands) >= 3
    for command in commands:
        if command[0] == "torchrun":
            assert command[command.index("-m") :][:3] == ["-m", "asr", "train"]
            command = ["asr-train", *command[command.index("train") + 1 :]]
        if command[0].startswith("asr-"):
            assert_composes(command)
            continue
        assert command[0] == f"recipes/{recipe}/run.sh"
        out = [] if "--out" in command else ["--out", "somewhere"]
        done, calls = dry(recipe, *command[1:], *out)
        assert done.returncode == 0, done.stderr
        assert calls[-1][0] == "asr-score"
        for word in (word for words in calls if words[0] == "asr-train" for word in words[4:]):
            assert_known(word)


def assert_composes(command: list[str]) -> None:
    """A command beside the recipe: all its keys and values are taken."""
    from asr.cli.arguments import Arguments
    from asr.cli.lm import PARTS
    from asr.config import compose_config
    from asr.data import language_model
    from asr.decoding.options import DecodeOptions
    from asr.scoring.score import ScoreOptions
    from asr.training.options import TrainConfig

    name, words = command[0].removeprefix("asr-"), command[1:]
    if name == "lm":
        name, options = PARTS[words[0]][2], getattr(language_model, PARTS[words[0]][1])
        words = words[1:]
    else:
        options = {"train": TrainConfig, "decode": DecodeOptions, "score": ScoreOptions}[name]
    assert compose_config(name, Arguments(words), options)


def assert_known(word: str) -> None:
    from asr.cli.arguments import Arguments
    from asr.config import compose_config
    from asr.training.options import TrainConfig

    assert compose_config("train", Arguments(overrides=[word]), TrainConfig)


def test_readmes_tell_measured_from_published():
    for recipe in RECIPES:
        text = readme(recipe)
        assert "*measured*" in text or "has not been measured" in text, recipe
        assert "*published elsewhere*" in text or recipe == "digits"
        assert "synthetic" in text.lower() or recipe != "digits"


#: recipe, its own words, the corpus, the folder of the score, reference tokens of the dry run
SMALL_RUNS = [
    ("yesno", [], "score", 240),
    ("fsdd", [], "official/score", 28),
    ("fsdd", ["--leave-one-out"], "without-jackson/score", 46),
    ("speechocean762", [], "phones/score_phone", 217),
    ("speechocean762", ["--unit", "characters"], "characters/score_word", 77),
]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("recipe", "words", "score", "tokens"), SMALL_RUNS)
def test_small_run_on_the_real_corpus(recipe: str, words: list[str], score: str, tokens: int, shared_data: Path, tmp_path: Path):
    if not (shared_data / recipe).is_dir():
        pytest.skip(f"needs the recordings of {recipe}, which are not here")
    done = run(recipe, "--data", shared_data / recipe, "--small", "--out", tmp_path / "o u t", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    check_scored(done, tmp_path / "o u t" / score, tokens)
    if "--leave-one-out" in words:
        assert "mean word error rate of 2 speakers" in done.stdout


def plant_timit(folder: Path) -> None:
    write_timit(folder, {"TRAIN": ["FCJF0"], "TEST": ["FAKS0", "MDAB0"]}, sentences={"SX1": "she had a zoo act oily"})


def plant_librispeech(folder: Path) -> None:
    write_librispeech(folder, dict(zip(PUBLISHED, ([19], [14], [20], [84], [116], [61], [367]))), words=["A BAD CAB"])


def plant_mini_librispeech(folder: Path) -> None:
    write_librispeech(folder, {"train-clean-5": [19, 26], "dev-clean-2": [84]}, words=["A BAD CAB"])


def plant_an4(folder: Path) -> None:
    write_an4(folder, form="raw", texts={"cen": "BAG EGG"})


def plant_tedlium(folder: Path) -> None:
    write_tedlium(
        folder, {"train": ["AlGore_2006"], "dev": ["AlGore_2009"], "test": ["AimeeMullins_2009P"]}, texts=["it 's a cab"]
    )


#: recipe, its own words, what makes a miniature of the corpus, the folder of the score, its reference tokens
MINIATURES = [
    ("timit", [], plant_timit, "modern/score_test_merged_true", 18),
    ("timit", ["--ngram"], plant_timit, "modern/score_test.ngram_merged_false", 19),
    ("timit", ["--system", "graves2013", "--layers", "1"], plant_timit, "graves2013-1/score_test_merged_false", 19),
    ("librispeech", [], plant_librispeech, "100/score_test-clean.greedy", 3),
    (
        "librispeech",
        ["--hours", "960", "--unit", "bytepairs", "tokens.size=9"],
        plant_librispeech,
        "960-bytepairs/score_test-other.greedy",
        3,
    ),
    ("librispeech", ["--processes", "2"], plant_librispeech, "100/score_test-clean.greedy", 3),
    ("mini_librispeech", [], plant_mini_librispeech, "score_word", 3),
    ("an4", [], plant_an4, "score_char", 7),
    ("tedlium", [], plant_tedlium, "score", 3),
    ("speechcommands", [], write_speechcommands, "score", 1),
]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("recipe", "words", "plant", "score", "tokens"), MINIATURES)
def test_small_run_on_a_miniature(recipe: str, words: list[str], plant, score: str, tokens: int, tmp_path: Path):
    """What is not free, or large, in its own format: the whole recipe, on the first line of each manifest."""
    plant(tmp_path / "corpus")
    done = run(
        recipe, "--data", tmp_path / "corpus", "--small", "--partial", "--out", tmp_path / "o u t", *words, folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    check_scored(done, tmp_path / "o u t" / score, tokens)
    refused = run(recipe, "--data", tmp_path / "corpus", "--out", tmp_path / "whole", *words, folder=tmp_path)
    assert refused.returncode == 3
    assert "wrong-count" in refused.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_small_run_on_one_of_two_languages(tmp_path: Path):
    """Common Voice publishes no counts to compare a copy with, and has a language to choose."""
    write_commonvoice(tmp_path / "corpus")
    write_commonvoice(
        tmp_path / "corpus", {"train": [("uwe", "Bade")], "dev": [("vera", "Bad")], "test": [("ida", "Ade, Abe")]}, language="de"
    )
    words = ["--data", tmp_path / "corpus", "--language", "de", "--small", "--out", tmp_path / "o u t"]
    done = run("commonvoice", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    check_scored(done, tmp_path / "o u t" / "de" / "score_word", 2)
    check_scored(done, tmp_path / "o u t" / "de" / "score_char", 7)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_small_run_on_synthetic_digits_and_again(tmp_path: Path):
    """The second time what is there is kept: the speech, the training, which is complete, and the same score."""
    pytest.importorskip("espeakng_loader", reason="needs the extra demo")
    out = tmp_path / "o u t"
    words = ["--small", "--out", out]
    done = run("digits", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    tokens = check_scored(done, out / "score", None)
    assert "SYNTHETIC" in done.stdout
    trained = (out / "run" / "model" / "model.safetensors").stat().st_mtime_ns
    again = run("digits", *words, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "already complete" in again.stderr
    assert (out / "run" / "model" / "model.safetensors").stat().st_mtime_ns == trained
    assert check_scored(again, out / "score", tokens) == tokens


def check_scored(done: subprocess.CompletedProcess[str], folder: Path, tokens: int | None) -> int:
    """The table was printed, and score.json agrees with it; returns the number of reference tokens."""
    score = json.loads((folder / "score.json").read_text())
    assert score["reference_tokens"] > 0
    assert tokens in (None, score["reference_tokens"])
    assert (score["missing"], score["extra"]) == ([], [])
    assert f"of {score['reference_tokens']} reference tokens" in done.stdout
    assert str(folder) in done.stdout.splitlines()[-1] or "mean word error rate" in done.stdout.splitlines()[-1]
    return score["reference_tokens"]
