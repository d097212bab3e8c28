"""asr-data: turn a corpus, or your own recordings, into manifests."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import NoReturn

from asr.cli.arguments import closest, run_command
from asr.data.corpora import CORPORA, Corpus
from asr.data.files import show_path
from asr.data.prepare import ON_BAD, RECORD, Preparation, describe_left_out, prepare_corpus
from asr.errors import UsageError

USAGE = """asr-data: turn a corpus, or your own recordings, into manifests

  asr-data prepare CORPUS --root DIR --out DIR [--download] [options]

writes train.jsonl, valid.jsonl, dev.jsonl and test.jsonl, as far as the corpus has them, and prepare.json, which says how
the parts were made, how much there is of each, and what was left out.

CORPUS:
{corpora}

asr-data prepare CORPUS --help lists the options of a corpus."""

METAVARS = {int: "N", float: "SHARE", str: "NAME"}


class _Parser(argparse.ArgumentParser):
    """argparse that ends with our one sentence instead of its own two."""

    def error(self, message: str) -> NoReturn:
        words = message.removeprefix("argument ")
        if words.startswith("unrecognized arguments: "):
            word = words.removeprefix("unrecognized arguments: ").split()[0]
            known = [name for name in self._option_string_actions if name.startswith("--")]
            words = f"unknown option {word!r}: did you mean {closest(word, known)}?"
        words = words.replace("the following arguments are required: ", "missing ")
        words = words.replace("invalid int value:", "expected a whole number, got").replace(
            "invalid float value:", "expected a number, got"
        )
        raise UsageError(f"{words} (asr-data prepare CORPUS --help lists the options)")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_command(run, argv)


def run(words: list[str]) -> int:
    """Prepare the corpus that the words name, and print what there is now and what to type next."""
    wants_help = any(word in ("-h", "--help") for word in words)
    if not words or words[0] != "prepare" or len(words) == 1 or words[1].startswith("-"):
        return _explain(words, wants_help)
    name = words[1]
    if name not in CORPORA:
        raise UsageError(f"unknown corpus {name!r}: did you mean {closest(name, CORPORA)}? Known are {', '.join(CORPORA)}")
    parser = build_parser(name, CORPORA[name])
    if wants_help:
        print(parser.format_help())
        return 0
    chosen = vars(parser.parse_args(words[2:]))
    root, out, on_bad, download, sums = (chosen.pop(key, None) for key in ("root", "out", "on_bad", "download", "sha256"))
    options = CORPORA[name].options(**chosen)
    preparation = prepare_corpus(name, root, out, options, on_bad=on_bad or "error", download=bool(download), sums=bool(sums))
    print(summary(preparation, out, CORPORA[name].experiment))
    return 0


def build_parser(name: str, corpus: Corpus) -> argparse.ArgumentParser:
    """The options of one corpus, from the fields of its dataclass."""
    parser = _Parser(prog=f"asr-data prepare {name}", description=corpus.summary, add_help=False, allow_abbrev=False)
    if not corpus.generated:
        parser.add_argument("--root", type=Path, required=True, metavar="DIR", help=corpus.root)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write to")
    meaning = "write the sha256 of each recording into the manifests; asr-train compares it with data.check=full"
    parser.add_argument("--sha256", action="store_true", help=meaning)
    if not corpus.generated:
        meaning = "error: refuse a corpus with anything unusable in it; skip: go on without, and say what was left out"
        parser.add_argument("--on-bad", choices=ON_BAD, default="error", help=f"{meaning} (error)")
        fetched = f"fetch what is missing below --root; from {corpus.page}" if corpus.archives else argparse.SUPPRESS
        parser.add_argument("--download", action="store_true", help=fetched)
    for item in fields(corpus.options):
        assert item.default is not MISSING
        shown = f" ({item.default})" if item.default != "" else ""
        parser.add_argument(
            f"--{item.name.replace('_', '-')}",
            dest=item.name,
            type=type(item.default),
            default=item.default,
            choices=item.metadata["choices"] or None,
            metavar=None if item.metadata["choices"] else METAVARS[type(item.default)],
            help=item.metadata["help"] + shown,
        )
    return parser


def summary(preparation: Preparation, out: Path, experiment: str) -> str:
    """What is printed at the end: the table, how the split was made, what is missing, and the next command."""
    lines = [preparation.table(), "", f"Split: {preparation.split}."]
    lines += [f"Note: {note}." for note in preparation.notes]
    if preparation.left_out:
        lines += ["", describe_left_out(preparation.left_out)]
    folder = shlex.quote(f"data.dir={out}")
    lines += ["", f"Written to {show_path(out)}; all of this stands in {RECORD}."]
    lines += [f"Next: asr-train experiment={experiment} {folder} run_dir=runs/{preparation.corpus}"]
    return "\n".join(lines)


def _explain(words: list[str], wants_help: bool) -> int:
    """Help, or what is missing when there is no corpus."""
    corpora = "\n".join(f"  {name:15} {corpus.summary}" for name, corpus in CORPORA.items())
    if not words or wants_help:
        print(USAGE.format(corpora=corpora), file=sys.stdout)
        return 0
    if words[0] != "prepare":
        raise UsageError(f"unknown command {words[0]!r}: expected asr-data prepare CORPUS --root DIR --out DIR")
    raise UsageError(f"no CORPUS behind prepare: expected one of {', '.join(CORPORA)}")


if __name__ == "__main__":
    sys.exit(main())
