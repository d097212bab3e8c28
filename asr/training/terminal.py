"""What a training tells the terminal, and how the terminal stops it."""

import signal
import sys
from typing import Any

from tqdm import tqdm


def say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


class StopAsked:
    """Remembers SIGINT, SIGTERM and SIGUSR1 (a cluster's warning) so that the step is finished and saved; a second SIGINT stops
    at once.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopAsked":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        say("stopping after this step; the checkpoint is saved first (once more: stop at once)")
