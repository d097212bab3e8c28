"""What a training tells the terminal, and how the terminal stops it."""

import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm


def say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


def say_nothing(text: str) -> None:
    """What a process does that trains together with another one, which speaks for all."""


#: What asks a training to stop: Ctrl-C, a kill, a cluster's warning.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopAsked:
    """Remembers a signal of SIGNALS so that the step is finished and saved; a second SIGINT stops at once.

    deaf_s: seconds after the first signal in which another one is not a second wish; `torchrun` hands on a Ctrl-C that its
    processes have already had from the terminal.
    """

    def __init__(self, say: Callable[[str], None] = say, *, deaf_s: float = 0.0) -> None:
        self.signal = 0
        self.say = say
        self.deaf_s = deaf_s
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopAsked":
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        if self.signal and number == signal.SIGINT:
            if time.monotonic() - self._since < self.deaf_s:
                return
            raise KeyboardInterrupt
        self.signal = number
        self._since = time.monotonic()
        self.say("stopping after this step; the checkpoint is saved first (once more: stop at once)")
