"""`asr-score`: error rates from a reference manifest and a file of hypotheses."""

from asr.cli.arguments import run_command, split_arguments
from asr.cli.describe import Option, describe_keys, read_options
from asr.errors import UsageError

USAGE = """\
usage: asr-score ref=FILE hyp=FILE unit=word|char|phone [out=DIR] [key=value ...]

Compare hypotheses with references, joined by utterance id: error rate, token
counts and a 95 % interval (bootstrap over speakers, or over utterances where
there are none). out=DIR receives score.json and alignments.txt.

A reference without hypothesis, or whose recording could not be decoded, counts
as deletions. Edits cost 1 each. Both sides are compared in Unicode NFC, without
invisible marks and with runs of white space as one space; unit=char counts the
spaces between words. A model that was taught text without capitals or marks is
compared with such text by the same keys: case=lower punctuation=drop.

against=FILE names the hypotheses of another recogniser for the same references
and says what the difference between the two is worth: paired bootstrap, by
speaker where there are any.

  asr-score ref=data/fsdd/test.jsonl hyp=runs/fsdd/hyp.jsonl unit=word out=runs/fsdd/score
  asr-score ref=data/fsdd/test.jsonl hyp=runs/new/hyp.jsonl against=runs/old/hyp.jsonl

keys
"""


def usage() -> str:
    return USAGE + "\n".join(describe_keys(_options()))


def main(argv: list[str] | None = None) -> int:
    return run_command(_score, argv, usage=usage)


def _options() -> list[Option]:
    return read_options("asr.scoring.score", "ScoreOptions")


def _score(argv: list[str]) -> int:
    keys = _options()
    arguments = split_arguments(
        argv, path_keys=[option.key for option in keys if option.path], keys=[option.key for option in keys]
    )

    from asr.config import compose_config
    from asr.scoring.report import table, write_report
    from asr.scoring.score import ScoreOptions, score_files

    options = compose_config("score", arguments, ScoreOptions)
    for key in ("ref", "hyp"):
        if not getattr(options, key):
            raise UsageError(f"{key}= is missing: write asr-score ref=FILE hyp=FILE unit=word|char|phone")
    score = score_files(options)
    print(table(score))
    if options.out:
        print("\nwritten: " + "  ".join(write_report(score, options.out)))
    return 0
