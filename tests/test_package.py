"""What pip installs: the metadata, and the files of the wheel, built with the project's own settings."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it on Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", line, maxsplit=1)[0].lower() for line in requirements}


def test_every_command_has_an_entry_point() -> None:
    scripts = PROJECT["project"]["scripts"]
    assert scripts == {
        f"asr-{name}": f"asr.cli.{name}:main" for name in ("data", "train", "lm", "decode", "align", "score", "inspect")
    }


def test_the_pins_cover_what_is_installed_directly() -> None:
    """And every pin allows what pyproject.toml asks for by name; versions are for pip to compare."""
    lines = (ROOT / "scripts/constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+( ; python_version >= \"3.11\")?", line) for line in pins)
    assert "torch==2.13.0" in pins
    extras = PROJECT["project"]["optional-dependencies"]
    direct = names(PROJECT["project"]["dependencies"]) | names(extras["dev"]) | names(extras["demo"])
    assert direct <= names(pins)
    assert names(pins) - direct == {"omegaconf"}


def test_dev_brings_what_the_demo_needs() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert names(extras["demo"]) <= names(extras["dev"])
    assert names(extras["bytepairs"]) | names(extras["lm"]) | names(extras["vad"]) <= names(extras["dev"])
    assert set(extras) == {"bytepairs", "demo", "lm", "onnx", "serve", "track", "vad", "dev"}


def test_the_wheel_holds_the_code_and_the_configuration_files(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="needs hatchling to build a wheel without the network")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        found = set(packed.namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "asr").rglob("*.py")}
    configs = {f"asr/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert {"asr/cli/train.py", "asr/data/manifest.py"} <= modules
    assert {"asr/configs/train.yaml", "asr/configs/experiment/digits.yaml"} <= configs
    assert modules | configs <= found
    outside = {name for name in found if not name.startswith(("asr/", "asr-"))}
    assert not outside
    assert not {name for name in found if "__pycache__" in name or name.startswith("asr/tests")}
