"""`asr-decode`: recordings to text, a whole manifest or single files; and the weights of a language model, tuned."""

import shlex
import sys

from asr.cli.arguments import run_command, split_arguments
from asr.cli.describe import Option, describe_keys, read_options
from asr.errors import DataError, UsageError

USAGE = """\
usage: asr-decode model=DIR manifest=FILE out=hyp.jsonl [key=value ...]
       asr-decode model=DIR a.wav b.flac ... [key=value ...]
       asr-decode tune=true model=DIR manifest=FILE lm=FILE [key=value ...]

The first form decodes a manifest in batches and writes one JSON line for each
utterance: id, text, phones (phone models), score, error where a recording
could not be decoded, and words, tokens and nbest where asked for. Interrupted,
the same command goes on where it stopped. format= writes other forms; srt,
vtt, textgrid and elan make out= a folder with one file per utterance.

The second form prints "name<TAB>text" for each audio file, or what format=
says; all else goes to stderr. Names that start with '-' or look like
key=value go after --. With several files, srt, vtt, textgrid and elan need
out=FOLDER.

Either ends with exit code 3 when a recording could not be decoded; the others
are decoded nevertheless.

The third form finds lm_weight, insertion_bonus, blank_penalty, beam and mbr on
a validation manifest and keeps them beside the model: the same lm= (and
lexicon=) then uses them. What does not help there stays off.

  asr-decode model=runs/fsdd manifest=data/fsdd/test.jsonl out=runs/fsdd/hyp.jsonl
  asr-decode tune=true model=runs/so762 manifest=data/valid.jsonl lm=words.arpa
  asr-decode model=runs/so762 lm=words.arpa format=srt lecture.mp3 > lecture.srt

keys
"""
#: recordings listed on stderr when they could not be decoded
LISTED = 20


def usage() -> str:
    return USAGE + "\n".join(describe_keys(_options()))


def main(argv: list[str] | None = None) -> int:
    return run_command(_decode, argv, usage=usage)


def _options() -> list[Option]:
    return read_options("asr.decoding.options", "DecodeOptions")


def _decode(argv: list[str]) -> int:
    keys = _options()
    arguments = split_arguments(
        argv, path_keys=[option.key for option in keys if option.path], allow_files=True, keys=[option.key for option in keys]
    )

    from asr.config import compose_config
    from asr.decoding.options import DecodeOptions

    options = compose_config("decode", arguments, DecodeOptions)
    _check_form(options, arguments.files)
    if options.tune:
        return _tune(options)
    return _decode_manifest(options) if options.manifest else _decode_files(options, arguments.files)


def _check_form(options, files: list[str]) -> None:
    form = "write asr-decode model=DIR manifest=FILE out=FILE, or asr-decode model=DIR a.wav b.flac ..."
    if not options.model:
        raise UsageError(f"model= is missing: {form}")
    if options.manifest and files:
        raise UsageError(f"manifest= and the file {files[0]!a} are given together: {form}")
    if not options.manifest and not files:
        raise UsageError(f"neither manifest= nor an audio file is given: {form}")
    if options.tune:
        if not options.manifest:
            raise UsageError("tune=true needs manifest=FILE, a validation manifest with transcripts")
    elif options.manifest and not options.out:
        raise UsageError(f"out= is missing: {form}")
    elif options.out and not options.manifest and not options.has_file_each:
        raise UsageError(f"manifest= is missing: {form}")
    elif len(files) > 1 and options.has_file_each and not options.out:
        raise UsageError(f"format={options.format} makes a file of each recording: add out=FOLDER for those of {len(files)}")


def _load(options):
    import torch

    from asr.models.device import choose_device
    from asr.models.package import load_model

    if options.threads:
        torch.set_num_threads(options.threads)
    return load_model(options.model, device=str(choose_device(options.device)))


def _decode_files(options, files: list[str]) -> int:
    from asr.decoding.transcribe import transcribe_files
    from asr.decoding.written import write_files

    failed = 0
    many = len(files) > 1 and sys.stderr.isatty()
    found = transcribe_files(_load(options), files, options, progress=many, say=_tell)
    for one, text in write_files(found, options):
        print(text, end="", flush=True)
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
    from asr.scoring.command import score_words

    utterances = read_manifest(options.manifest)
    loaded = _load(options)
    done = transcribe_manifest(loaded, utterances, options.out, options, progress=sys.stderr.isatty(), say=_tell)
    resumed = f", {done.resumed} of them by an earlier run" if done.resumed else ""
    speed = f" ({done.audio_seconds / done.wall_seconds:.0f} x real time)" if done.audio_seconds and done.wall_seconds else ""
    seconds = f"{done.audio_seconds:.0f} s of audio in {done.wall_seconds:.1f} s{speed}"
    _tell(f"decoded {done.utterances} utterances{resumed}: {seconds}")
    for words, times in sorted(done.notices.items()):
        _tell(f"notice: {times} recordings: {words}")
    for name, error in list(done.failed.items())[:LISTED]:
        _tell(f"not decoded: {name}: {error}")
    if done.failed:
        listed = f" (the first {LISTED} are listed)" if len(done.failed) > LISTED else ""
        failed = f"{len(done.failed)} of {done.utterances} recordings could not be decoded{listed}"
        raise DataError(f"{failed}; they have an empty text and `error` in {options.out}")
    if options.format not in ("auto", "json"):
        _tell(f"written: {options.out}")
        return 0
    counted = score_words(loaded.tokenizer.options, options.manifest, words=options.search == "lexicon")
    score = shlex.join(["asr-score", f"ref={options.manifest}", f"hyp={options.out}", *counted])
    _tell(f"written: {options.out}; next: {score}")
    return 0


def _tune(options) -> int:
    from asr.data.manifest import read_manifest
    from asr.decoding.tune_manifest import tune_manifest
    from asr.decoding.tune_pictures import table

    utterances = read_manifest(options.manifest)
    done = tune_manifest(_load(options), utterances, options, progress=sys.stderr.isatty(), say=_tell)
    print(table(done.tuning))
    print(done.verdict)
    before, after = done.tuning.calibration.error_before, done.tuning.calibration.error_after
    if before is not None and after is not None:
        print(f"confidence: expected calibration error {100 * before:.1f} %, {100 * after:.1f} % once mapped, on other speakers")
    print("\nwritten: " + "  ".join(map(str, (done.kept, *done.files))))
    return 0


def _tell(text: str) -> None:
    print(f"asr-decode: {text}", file=sys.stderr, flush=True)
