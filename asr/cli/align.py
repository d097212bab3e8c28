"""`asr-align`: recordings and their transcripts to the times of words, phones or characters."""

import sys

from asr.cli.arguments import run_command, split_arguments
from asr.cli.describe import Option, describe_keys, read_options
from asr.errors import DataError, UsageError

USAGE = """\
usage: asr-align model=DIR manifest=FILE out=DIR format=FORM [key=value ...]

Find where in each recording of a manifest the words of its transcript are
spoken, and write that in a form that other programs read:

  json       alignment.jsonl: words and characters or phones, with confidences
  ctm        alignment.ctm: a line for each word (NIST, Kaldi)
  textgrid   a .TextGrid for each recording (Praat)
  elan       a .eaf for each recording (ELAN)
  srt, vtt   subtitles for each recording

A character model aligns `text`, a phone model `phones`. Recordings may be hours
long with all their text in one line of the manifest. Interrupted, the same
command goes on where it stopped.

It ends with exit code 3 when a text could not be aligned (it is too long for
its recording, or holds symbols that the model does not know); the others are
aligned nevertheless.

  asr-align model=runs/so762 manifest=data/test.jsonl out=times format=textgrid

keys
"""
#: utterances listed on stderr when they could not be aligned
LISTED = 20


def usage() -> str:
    return USAGE + "\n".join(describe_keys(_options()))


def main(argv: list[str] | None = None) -> int:
    return run_command(_align, argv, usage=usage)


def _options() -> list[Option]:
    return read_options("asr.decoding.align_manifest", "AlignOptions")


def _align(argv: list[str]) -> int:
    keys = _options()
    arguments = split_arguments(argv, path_keys=[one.key for one in keys if one.path], keys=[one.key for one in keys])

    from asr.config import compose_config
    from asr.data.manifest import read_manifest
    from asr.decoding.align_manifest import AlignOptions, align_manifest
    from asr.models.device import choose_device
    from asr.models.package import load_model

    options = compose_config("align", arguments, AlignOptions)
    missing = [name for name in ("model", "manifest", "out") if not getattr(options, name)]
    if missing:
        raise UsageError(f"{missing[0]}= is missing: write asr-align model=DIR manifest=FILE out=DIR format=FORM")
    utterances = read_manifest(options.manifest)
    loaded = load_model(options.model, device=str(choose_device(options.device)))
    return _report(align_manifest(loaded, utterances, options, progress=sys.stderr.isatty(), say=_tell), options.format)


def _report(done, form: str) -> int:
    resumed = f", {done.resumed} of them by an earlier run" if done.resumed else ""
    aligned = done.utterances - len(done.failed)
    _tell(f"aligned {aligned} utterances{resumed}: {done.audio_seconds:.0f} s of audio in {done.wall_seconds:.1f} s")
    for words, times in sorted(done.notices.items()):
        _tell(f"notice: {times} recordings: {words}")
    for name, error in list(done.failed.items())[:LISTED]:
        _tell(f"not aligned: {name}: {error}")
    if done.failed:
        listed = f" (the first {LISTED} are listed)" if len(done.failed) > LISTED else ""
        where = "have `error` in" if form == "json" else "are left out of"
        raise DataError(
            f"{len(done.failed)} of {done.utterances} utterances could not be aligned{listed}; they {where} {done.written}"
        )
    _tell(f"written: {done.written}")
    return 0


def _tell(text: str) -> None:
    print(f"asr-align: {text}", file=sys.stderr, flush=True)
