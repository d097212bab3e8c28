"""The page that tells how to add a corpus is true: its files and helpers exist, and a corpus that follows it needs no more."""

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from asr.cli.data import main
from asr.data.corpora import CORPORA
from asr.data.corpora.corpus import Corpus, Found, Prepared, SplitOptions, expect_folder, measure, option, share_out
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.data.split import PARTS

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "asr" / "data" / "corpora" / "README.md").read_text(encoding="utf-8")
#: Of a publisher; the others are forms of data that anybody may have.
PUBLISHED = [name for name, corpus in CORPORA.items() if corpus.page]
#: Made for speech synthesis: nobody publishes error rates on them.
WITHOUT_RECIPE = {"vctk", "ljspeech"}
#: mini_librispeech is read by the module of librispeech.
WITH_RECIPE = [name for name in CORPORA if (ROOT / "recipes" / name).is_dir() and not name.startswith("mini_")]


def test_the_files_and_helpers_it_names_exist():
    paths = re.findall(r"`((?:asr|configs|recipes|tests)/[\w./]+\.\w+)`", PAGE)
    assert len(paths) > 12
    assert [path for path in paths if "NAME" not in path and not (ROOT / path).is_file()] == []
    helpers = re.findall(r"^\| `(asr/\S+)` \| (.*) \|$", PAGE[PAGE.index("Helpers") : PAGE.index("Rules")], flags=re.MULTILINE)
    assert len(helpers) == 6
    for module, names in helpers:
        source = (ROOT / module).read_text(encoding="utf-8")
        for helper in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(def|class) {helper}\b", source, flags=re.MULTILINE), f"{module} has no {helper}"


@pytest.mark.parametrize(
    "name", [name for name in CORPORA if (ROOT / "recipes" / name).is_dir() and not name.startswith("mini_")]
)
def test_a_corpus_with_a_recipe_has_all_its_files(name: str):
    patterns = re.findall(r"`((?:asr|configs|recipes|tests)/[\w./]*NAME[\w./]*)`", PAGE)
    assert len(patterns) == 5
    own = [path.replace("NAME", CORPORA[name].experiment if "experiment" in path else name) for path in patterns]
    assert [path for path in own if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_corpora_have_recipes(name: str):
    assert (ROOT / "recipes" / name).is_dir() is (name not in WITHOUT_RECIPE)
    assert all(f"`{corpus}`" in PAGE for corpus in WITHOUT_RECIPE)


def test_no_other_module_knows_a_corpus_by_name():
    """Nothing else is touched: the name of a published corpus stands in its row alone (timit begins those of phone sets)."""
    names = {*PUBLISHED} - {"timit"}
    found = []
    for path in sorted((ROOT / "asr").rglob("*.py")):
        if path.parent.name != "corpora":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and node.value in names:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


# The file of a new corpus, as the page has it.


@dataclass
class HumsOptions(SplitOptions):
    loud: str = option("yes", "whether loud hums are taken", choices=("yes", "no"))


def prepare(root: Path, options: HumsOptions) -> Prepared:
    expect_folder(root, "a folder of hums")
    problems: list[Problem] = []
    found = []
    for path in sorted(root.glob("*.wav")):
        speaker, _, sound = path.stem.partition("-")
        if sound:
            found.append(Found(Utterance(path.stem, str(path), 0.0, text=sound, speaker=speaker), show_path(path)))
        else:
            problems.append(Problem("unexpected-name", show_path(path), "the name is not SPEAKER-SOUND.wav"))
    usable, unreadable, notes = measure(found)
    problems += unreadable
    parts, split = share_out(usable, options, problems, root)
    return Prepared(parts, split, problems, notes)


@pytest.fixture
def hums(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one row."""
    row = Corpus(summary="people who hum", options=HumsOptions, prepare=prepare, experiment="yesno", root="the hums")
    monkeypatch.setitem(CORPORA, "hums", row)


@pytest.mark.usefixtures("hums")
def test_a_row_is_all_that_the_command_needs(tmp_path: Path, record, capsys: pytest.CaptureFixture[str]):
    for speaker in "abcd":
        record(tmp_path / "in" / f"{speaker}-mm.wav")
    words = ["prepare", "hums", "--root", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "Next: asr-train experiment=yesno" in printed
    assert "by speaker" in printed
    sizes = json.loads((tmp_path / "out" / "prepare.json").read_text())["parts"]
    assert {part: size["utterances"] for part, size in sizes.items()} == {"train": 2, "valid": 1, "test": 1}
    assert set(sizes) < set(PARTS)
    record(tmp_path / "in" / "noname.wav")
    assert main(words) == 3
    assert "noname.wav: the name is not SPEAKER-SOUND.wav" in capsys.readouterr().err


@pytest.mark.usefixtures("hums")
def test_a_row_is_all_that_the_help_needs(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    assert re.search(r"^  hums +people who hum$", capsys.readouterr().out, flags=re.MULTILINE)
    assert main(["prepare", "hums", "--help"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"--loud \{yes,no\} +whether loud hums are taken \(yes\)", shown)
    assert "--valid-fraction" in shown
    assert "the hums" in shown
