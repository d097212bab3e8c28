"""`asr-decode`: recordings to text, a whole manifest or single files."""

import shlex
import sys

from asr.cli.arguments import run_command, split_arguments
from asr.cli.describe import Option, describe_keys, read_options
from asr.errors import DataError, UsageError

USAGE = """\
usage: asr-decode model=DIR manifest=FILE out=hyp.jsonl [key=value ...]
       asr-decode model=DIR a.wav b.flac ... [key=value ...]

The first form decodes a manifest in batches and writes one JSON line for each
utterance: id, text, phones (phone models), score, and error where a recording
could not be decoded. Interrupted, the same command goes on where it stopped.

The second form prints "name<TAB>text" for each audio file; all else goes to
stderr. Names that start with '-' or look like key=value go after --.

Either ends with exit code 3 when a recording could not be decoded; the others
are decoded nevertheless.

  asr-decode model=runs/fsdd manifest=data/fsdd/test.jsonl out=runs/fsdd/hyp.jsonl

keys
"""
#: recordings listed on stderr when they could not be decoded
LISTED = 20


def usage() -> str:
    return USAGE + "\n".join(describe_keys(_options()))


def main(argv: list[str] | None = None) -> int:
    return run_command(_decode, argv, usage=usage)


def _options() -> list[Option]:
    return read_options("asr.decoding.recognizer", "DecodeOptions")


def _decode(argv: list[str]) -> int:
    keys = _options()
    arguments = split_arguments(
        argv, path_keys=[option.key for option in keys if option.path], allow_files=True, keys=[option.key for option in keys]
    )

    from asr.config import compose_config
    from asr.decoding.recognizer import DecodeOptions

    options = compose_config("decode", arguments, DecodeOptions)
    _check_form(options, arguments.files)
    return _decode_manifest(options) if options.manifest else _decode_files(options, arguments.files)


def _check_form(options, files: list[str]) -> None:
    form = "write asr-decode model=DIR manifest=FILE out=FILE, or asr-decode model=DIR a.wav b.flac ..."
    if not options.model:
        raise UsageError(f"model= is missing: {form}")
    if options.manifest and files:
        raise UsageError(f"manifest= and the file {files[0]!a} are given together: {form}")
    if not options.manifest and not files:
        raise UsageError(f"neither manifest= nor an audio file is given: {form}")
    if bool(options.manifest) != bool(options.out):
        raise UsageError(f"{'out' if options.manifest else 'manifest'}= is missing: {form}")


def _load(options):
    from asr.models.device import choose_device
    from asr.models.package import load_model

    return load_model(options.model, device=str(choose_device(options.device)))


def _decode_files(options, files: list[str]) -> int:
    from asr.decoding.transcribe import transcribe_files

    failed = 0
    for one in transcribe_files(_load(options), files, options, progress=len(files) > 1 and sys.stderr.isatty()):
        name = one.path if one.path.isprintable() else ascii(one.path)
        print(f"{name}\t{one.hypothesis.text if one.hypothesis else ''}", flush=True)
        for notice in one.notices:
            _tell(f"notice: {notice}")
        if one.error is not None:
            failed += 1
            _tell(one.error)
    if failed:
        raise DataError(f"{failed} of {len(files)} files could not be decoded; their text is left empty")
    return 0


def _decode_manifest(options) -> int:
    from asr.data.manifest import read_manifest
    from asr.decoding.transcribe import transcribe_manifest

    utterances = read_manifest(options.manifest)
    loaded = _load(options)
    done = transcribe_manifest(loaded, utterances, options.out, options, progress=sys.stderr.isatty(), say=_tell)
    resumed = f", {done.resumed} of them by an earlier run" if done.resumed else ""
    _tell(f"decoded {done.utterances} utterances{resumed}: {done.audio_seconds:.0f} s of audio in {done.wall_seconds:.1f} s")
    for words, times in sorted(done.notices.items()):
        _tell(f"notice: {times} recordings: {words}")
    for name, error in list(done.failed.items())[:LISTED]:
        _tell(f"not decoded: {name}: {error}")
    if done.failed:
        listed = f" (the first {LISTED} are listed)" if len(done.failed) > LISTED else ""
        failed = f"{len(done.failed)} of {done.utterances} recordings could not be decoded{listed}"
        raise DataError(f"{failed}; they have an empty text and `error` in {options.out}")
    unit = "phone" if loaded.tokenizer.options.unit == "phones" else "word"
    score = shlex.join(["asr-score", f"ref={options.manifest}", f"hyp={options.out}", f"unit={unit}"])
    _tell(f"written: {options.out}; next: {score}")
    return 0


def _tell(text: str) -> None:
    print(f"asr-decode: {text}", file=sys.stderr, flush=True)
