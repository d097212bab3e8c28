"""`python -m asr` lists the commands; `python -m asr train ...` is `asr-train ...`."""

import importlib
import sys

from asr.cli.arguments import closest, run_command
from asr.errors import UsageError

COMMANDS = {
    "data": "prepare a corpus: manifests of recordings and transcripts, checked",
    "train": "train a recogniser",
    "lm": "train n-gram language models, measure their perplexity",
    "decode": "turn recordings into text",
    "align": "find when each word of a transcript is spoken",
    "score": "compare two manifests: error rate, its interval, alignments",
    "inspect": "pictures of gates, cell states, gradients, the CTC lattice",
}


def usage() -> str:
    lines = [f"  asr-{name:8} {meaning}" for name, meaning in COMMANDS.items()]
    return "\n".join(
        [
            "Train, run and score speech recognisers. The commands, in the order one uses them:",
            "",
            *lines,
            "",
            "Each answers --help. `python -m asr train ...` does the same as `asr-train ...`.",
        ]
    )


def _list_or_refuse(argv: list[str]) -> int:
    if argv:
        raise UsageError(
            f"'{argv[0]}' is no command: did you mean '{closest(argv[0], COMMANDS)}'? There are {', '.join(COMMANDS)}."
        )
    print(usage())
    return 0


def main(argv: list[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    command = words[0].removeprefix("asr-") if words else ""
    if command not in COMMANDS:
        return run_command(_list_or_refuse, words, usage=usage, name="asr")
    return importlib.import_module(f"asr.cli.{command}").main(words[1:])


if __name__ == "__main__":
    sys.exit(main())
