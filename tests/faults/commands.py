"""The commands as a user types them, and what every fault must look like on the screen."""

import hashlib
import importlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: What libsndfile, mpg123, Python and libraries say in their own words; a user must never read it.
FOREIGN = (
    "Traceback",
    "File does not exist or is not a regular file",
    "Format not recognised",
    "SF_INFO",
    "LibsndfileError",
    "Error opening",
    "[src/libmpg123",
    "mpg123",
    "psf_",
    "Exception ignored",
    "internal fault",
    "UserWarning",
    "unexpected pos",
)
#: A model and a schedule so small that an epoch of a few tones takes a tenth of a second.
TINY = {
    "device": "cpu",
    "features.sample_rate": 8000,
    "features.num_bins": 16,
    "encoder.conv_channels": 4,
    "encoder.layers": 1,
    "encoder.width": 24,
    "encoder.dropout": 0,
    "batches.utterances": 8,
    "optim.learning_rate": 0.02,
    "optim.warmup_steps": 5,
    "training.precision": "float32",
    "training.threads": 1,
    "training.average_decay": 0.9,
    "training.epochs": 1,
}


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    command: str
    code: int
    out: str
    err: str

    @property
    def verdict(self) -> str:
        """What stands behind the last `asr-NAME: ` at the start of a line of stderr, up to the end: the reason of a failure."""
        head = f"asr-{self.command}: "
        lines = self.err.splitlines()
        last = max((number for number, line in enumerate(lines) if line.startswith(head)), default=None)
        assert last is not None, f"no line of the command's own on stderr:\n{self.err}"
        return "\n".join(lines[last:]).removeprefix(head)


def run_words(command: str, words: list[str]) -> int:
    """`asr-COMMAND words...` in this process."""
    return importlib.import_module(f"asr.cli.{command}").main(words)


def fine(outcome: Outcome) -> Outcome:
    """The command ended well."""
    assert outcome.code == 0, f"exit code {outcome.code}:\n{outcome.err}"
    check_words(outcome)
    return outcome


def told(outcome: Outcome, code: int, *words: str, alone: bool = False) -> str:
    """The command failed as the contract says: this exit code, and a reason with these words. Returns the reason.

    `alone`: nothing but this one line stands on stderr.
    """
    assert outcome.code == code, f"exit code {outcome.code}, expected {code}:\n{outcome.err}"
    check_words(outcome)
    for word in words:
        assert word in outcome.verdict, f"{word!r} is not in: {outcome.verdict}"
    if alone:
        assert outcome.err.count("\n") == 1, f"more than one line:\n{outcome.err}"
    return outcome.verdict


def check_words(outcome: Outcome) -> None:
    for word in FOREIGN:
        assert word not in outcome.err, f"{word!r} is in:\n{outcome.err}"
        assert word not in outcome.out


def train_words(data: Path, run_dir: Path, **changes: Any) -> list[str]:
    """The words of `asr-train` for the tiny model; `training__epochs=3` stands for `training.epochs=3`."""
    options = {**TINY, **{key.replace("__", "."): value for key, value in changes.items()}}
    return [f"data.dir={data}", f"run_dir={run_dir}", *(f"{key}={value}" for key, value in options.items())]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def to_lines(items: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items).encode()


def small_set(speech: Path, folder: Path, count: int = 3) -> list[dict[str, Any]]:
    """A data folder of its own: `count` recordings and lines to train on, whose manifest the test writes, and valid.jsonl."""
    (folder / "audio").mkdir(parents=True)
    lines = read_lines(speech / "test.jsonl")[:count]
    for line in lines + read_lines(speech / "valid.jsonl"):
        shutil.copy(speech / line["audio_filepath"], folder / "audio")
    shutil.copy(speech / "valid.jsonl", folder)
    return lines


def steps(run_dir: Path) -> list[int]:
    """Steps of the checkpoints whose every byte has its checksum, by an independent look at the files."""
    found = []
    for folder in run_dir.glob("checkpoints/step-*"):
        try:
            sums = json.loads((folder / "checksums.json").read_bytes())
            if all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == value for name, value in sums.items()):
                found.append(int(folder.name.removeprefix("step-")))
        except (OSError, ValueError):
            continue
    return sorted(found)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
