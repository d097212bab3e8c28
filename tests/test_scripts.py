"""The shell scripts: what they refuse in one sentence. That they work is shown by running them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("scripts/quickstart.sh", "scripts/test.sh", ".ci/run")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh checkout, as far as the scripts see it, below a folder with an awkward name."""
    folder = tmp_path / "my clone ä (1)"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run(script: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    merged = {**os.environ, **environment}
    return subprocess.run([str(script), *words], capture_output=True, text=True, env=merged, cwd="/")


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_executable_and_stop_at_the_first_error(name: str) -> None:
    path = ROOT / name
    assert path.stat().st_mode & 0o111 == 0o111
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_missing_python_is_named(name: str, clone: Path) -> None:
    done = run(clone / name, PYTHON="no-such-python")
    assert done.returncode == 2
    assert done.stderr == "'no-such-python' is not there: install Python 3.10 or newer, or set PYTHON to one.\n"
    assert not (clone / ".venv").exists()


def test_an_old_python_is_named(clone: Path) -> None:
    old = clone / "old python"
    old.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Python 3.9.2' && echo 'more' && exit\nexit 1\n")
    old.chmod(0o755)
    done = run(clone / "scripts/test.sh", PYTHON=str(old))
    assert done.returncode == 2
    assert done.stderr == f"'{old}' is Python 3.9.2: Python 3.10 or newer is needed; set PYTHON to one.\n"


def test_an_installation_that_is_up_to_date_is_left_alone(clone: Path) -> None:
    """pip runs when .venv is new or what it depends on has changed, never otherwise, and is tried again after a failure."""
    binaries = clone / ".venv/bin"
    binaries.mkdir(parents=True)
    log = clone / "log"
    fake = binaries / "python"
    fake.write_text(
        f'#!/bin/sh\necho "$*" >> "{log}"\n'
        f'case "$*" in "- "*) exec "{sys.executable}" "$@" ;; *" install "*) [ ! -f "$FAILS" ] ;; esac\n'
    )
    fake.chmod(0o755)
    fails = clone / "fails"

    def installs(**environment: str) -> list[str]:
        log.write_text("")
        run(clone / "scripts/test.sh", "-k", "nothing", FAILS=str(fails), **environment)
        lines = log.read_text().splitlines()
        return [line for line in lines if " install " in line]

    fails.touch()
    assert len(installs()) == 1
    fails.unlink()
    (line,) = installs()
    assert line.endswith(f"-c {clone}/scripts/constraints.txt -e .[dev]")
    assert installs() == []
    last = log.read_text().splitlines()[-1]
    assert last.startswith("-m pytest ")
    assert last.endswith(" -k nothing")
    (line,) = installs(ASR_TORCH="torch==2.9.1 torchaudio==2.9.1", ASR_PIP_ARGS="--no-index --find-links /x")
    assert "--no-index --find-links /x" in line
    assert line.endswith(f"-c {clone}/.venv/constraints.txt torch==2.9.1 torchaudio==2.9.1 -e .[dev]")
    kept = (clone / ".venv/constraints.txt").read_text()
    assert "librosa==" in kept
    assert "\ntorch" not in kept
    with (clone / "scripts/constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert len(installs()) == 1
    assert installs() == []


def test_quickstart_explains_itself_without_installing(clone: Path) -> None:
    done = run(clone / "scripts/quickstart.sh", "--help")
    assert done.returncode == 0
    assert "scripts/quickstart.sh [RUN_DIR]" in done.stdout
    assert not (clone / ".venv").exists()
