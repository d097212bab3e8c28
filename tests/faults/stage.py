"""A process with everything imported, which forks one child per command: real processes to sabotage and kill, without waiting.

Run as a program it is that process; `Stage` is the other end.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0
#: What the commands import on their way, and what takes a second or more to do so.
LOADED_ONCE = (
    "matplotlib.pyplot",
    "soxr",
    "torch._dynamo",
    "asr.config",
    "asr.decoding.transcribe",
    "asr.models.layer_kernels",
    "asr.scoring.report",
    "asr.training.train",
    "tests.faults.commands",
    "tests.faults.sabotage",
)


@dataclass
class Act:
    """A command under way."""

    stage: "Stage"
    command: str
    pid: int
    out: Path
    err: Path

    def wait(self):
        """Wait for its end; the code of a process that a signal ended is the signal's number, negative."""
        from tests.faults.commands import Outcome

        code = int(self.stage.answer())
        texts = [path.read_text(encoding="utf-8") if path.is_file() else "" for path in (self.out, self.err)]
        return Outcome(self.command, code, *texts)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def told(self) -> str:
        """What it has written to stderr so far."""
        return self.err.read_text(encoding="utf-8") if self.err.exists() else ""

    def until(self, ready) -> None:
        """Wait until `ready()` is true while the command runs."""
        limit = time.monotonic() + PATIENCE_S
        while not ready():
            assert time.monotonic() < limit, f"not ready after {PATIENCE_S:g} s:\n{self.told()}"
            time.sleep(0.005)


class Stage:
    """One command at a time in a process of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._number = 0
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
            start_new_session=True,
        )
        assert self.answer() == "ready"

    def start(self, command: str, words: list[str], *sabotage: tuple, out: Path | None = None, err: Path | None = None) -> Act:
        """Begin `asr-COMMAND words...`; each sabotage is `(name, {argument: value})`. Output goes to files unless given."""
        self._number += 1
        out = out or self.folder / f"{self._number}.out"
        err = err or self.folder / f"{self._number}.err"
        order = {"command": command, "words": words, "sabotage": sabotage, "out": str(out), "err": str(err)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Act(self, command, int(self.answer()), out, err)

    def run(self, command: str, words: list[str], *sabotage: tuple, **places):
        """`start` and `wait`."""
        return self.start(command, words, *sabotage, **places).wait()

    def answer(self) -> str:
        line = self._process.stdout.readline()
        assert line, "the stage has died"
        return line.rstrip("\n")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def perform(order: dict) -> None:
    """In the forked child: become the command. Never returns."""
    from tests.faults import sabotage
    from tests.faults.commands import run_words

    code = 1
    try:
        for number, path in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOCTTY
            descriptor = os.open(path, flags)
            os.dup2(descriptor, number)
            os.close(descriptor)
        # what the streams of the stage knew of their files is not true of these
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        signal.alarm(int(PATIENCE_S))
        for name, values in order["sabotage"]:
            getattr(sabotage, name)(**values)
        code = run_words(order["command"], order["words"])
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    sys.path.insert(0, str(ROOT))
    for name in LOADED_ONCE:
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            perform(json.loads(line))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
