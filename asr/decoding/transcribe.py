"""Recordings to text: any audio file, or a whole manifest in batches, through one model."""

import contextlib
import hashlib
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from asr.batches.order import BatchOptions, cut_batches
from asr.data.audio import WARNINGS, AudioWarning
from asr.data.files import file_sha256
from asr.data.manifest import Utterance
from asr.decoding.greedy import Hypothesis
from asr.decoding.output import PartialOutput, Record
from asr.decoding.recognizer import DecodeOptions, Recognizer, emit
from asr.errors import DataError
from asr.models.package import LoadedModel

#: most recordings in one batch, whatever their length
MOST_IN_A_BATCH = 64


@dataclass(frozen=True)
class Transcript:
    """One audio file and its text; `hypothesis` is None where `error` says why."""

    path: str
    hypothesis: Hypothesis | None
    error: str | None = None
    #: what was odd about the recording, one sentence each
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """What a pass over a manifest did."""

    utterances: int
    #: audio decoded now (what an earlier, interrupted run had done is not counted), s
    audio_seconds: float
    wall_seconds: float
    #: utterances taken over from an interrupted run
    resumed: int
    #: utterance id -> why it could not be decoded
    failed: dict[str, str]
    #: what was odd but decoded -> number of recordings
    notices: dict[str, int]


def transcribe_files(
    loaded: LoadedModel, paths: Sequence[str], options: DecodeOptions | None = None, *, progress: bool = False
) -> Iterator[Transcript]:
    """The text of each audio file, one after the other in the order given; a file that cannot be decoded carries its error.

    A recording too short for a single frame has the empty text. There is no speaker: a model that normalises by speaker
    takes the statistics of each file.
    """
    recognizer = Recognizer(loaded, options or DecodeOptions())
    for path in tqdm(paths, desc="decoding", unit="file", disable=not progress, leave=False, file=sys.stderr):
        hypothesis, error = None, None
        with _caught_notices() as notices:
            try:
                hypothesis = recognizer.search(recognizer.hear_file(path))
            except DataError as fault:
                error = str(fault)
        yield Transcript(path, hypothesis, error, tuple(dict.fromkeys(str(notice) for notice in notices)))


def transcribe_manifest(
    loaded: LoadedModel,
    utterances: Sequence[Utterance],
    out: str | os.PathLike[str],
    options: DecodeOptions | None = None,
    *,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Decode utterances in batches of similar length and write one line each to `out`, in the order given.

    An utterance that cannot be decoded gets an empty text and `error`. Interrupted, it leaves `out.part`, from which the same
    call goes on. Batches are the same in both runs, so the file comes out the same. `say` is handed one sentence now and
    then. Raises UsageError and ResourceError about `out`.
    """
    options = options or DecodeOptions()
    recognizer = Recognizer(loaded, options)
    began = time.monotonic()
    heard, odd = 0.0, Counter[str]()
    with PartialOutput(out, _fingerprint(loaded, utterances, options), overwrite=options.overwrite) as output:
        resumed = len(output.done)
        if output.restarted:
            say(f"{output.path} was made by another model, manifest or option; starting afresh")
        if resumed:
            say(f"going on from {output.path}: {resumed} of {len(utterances)} utterances are done")
        batches = [batch for batch in _batches(utterances, recognizer) if any(one.id not in output.done for one in batch)]
        statistics = _statistics(recognizer, utterances, say) if batches else {}
        seconds = round(sum(one.duration for batch in batches for one in batch))
        bar = tqdm(total=seconds, desc="decoding", unit="s", disable=not progress, leave=False, file=sys.stderr)
        with bar, _hint(output, len(utterances), say):
            for batch in batches:
                output.add(one for one in _decode_batch(recognizer, batch, statistics, odd) if one.id not in output.done)
                heard += sum(one.duration for one in batch)
                bar.n = round(heard)
                bar.refresh()
        output.finish([one.id for one in utterances])
    failed = {one.id: error for one in utterances if (error := output.done[one.id].error) is not None}
    return Summary(len(utterances), heard, time.monotonic() - began, resumed, failed, dict(odd))


def _fingerprint(loaded: LoadedModel, utterances: Sequence[Utterance], options: DecodeOptions) -> dict[str, str | float]:
    """All that decides the hypotheses: two runs with the same fingerprint write the same file."""
    digest = hashlib.sha256()
    for one in utterances:
        digest.update(ascii((one.id, one.audio_filepath, one.offset, one.duration, one.speaker)).encode())
    return {
        "model": file_sha256(loaded.folder / "checksums.json"),
        "utterances": digest.hexdigest(),
        "decoder": options.decoder,
        "device": next(loaded.model.parameters()).device.type,
        "batch_seconds": options.batch_seconds,
        "max_seconds": options.max_seconds,
        "channels": options.channels,
    }


def _batches(utterances: Sequence[Utterance], recognizer: Recognizer) -> list[list[Utterance]]:
    """Longest first, so that a lack of memory shows at once; a recording heard in windows is a batch by itself."""
    order = sorted(range(len(utterances)), key=lambda index: (-utterances[index].duration, index))
    long = [index for index in order if recognizer.is_long(utterances[index].duration)]
    limits = BatchOptions(utterances=MOST_IN_A_BATCH, seconds=recognizer.options.batch_seconds)
    durations = [max(0.0, one.duration) for one in utterances]
    cut = [[index] for index in long] + cut_batches(order[len(long) :], durations, limits)
    return [[utterances[index] for index in batch] for batch in cut]


def _statistics(recognizer: Recognizer, utterances: Sequence[Utterance], say: Callable[[str], None]) -> dict[str, np.ndarray]:
    """Statistics of each speaker where the model wants them, else none."""
    if not recognizer.model.options.normalize.needs_speakers:
        return {}
    nameless = sum(one.speaker is None for one in utterances)
    if nameless:
        say(f"notice: {nameless} of {len(utterances)} utterances name no speaker and are normalised by themselves")
    return recognizer.speaker_statistics(utterances)


def _decode_batch(
    recognizer: Recognizer, batch: Sequence[Utterance], statistics: dict[str, np.ndarray], odd: Counter[str]
) -> list[Record]:
    """One record per utterance of the batch; a recording that cannot be read leaves the others as they are."""
    errors: dict[str, str] = {}
    waveforms: dict[str, np.ndarray] = {}
    emitted: dict[str, np.ndarray] = {}
    cmvn = {one.id: statistics.get(one.speaker) if one.speaker is not None else None for one in batch}
    for one in batch:
        with _caught_notices() as notices:
            try:
                if recognizer.is_long(one.duration):
                    emitted[one.id] = recognizer.hear(one, cmvn[one.id])
                else:
                    waveforms[one.id] = recognizer.read(one)
            except DataError as fault:
                errors[one.id] = str(fault)
        odd.update({WARNINGS[notice.kind] for notice in notices})
    rows = emit(recognizer.model, list(waveforms.values()), cmvn=[cmvn[name] for name in waveforms])
    emitted.update(zip(waveforms, rows))
    return [_record(recognizer, one.id, emitted.get(one.id), errors.get(one.id)) for one in batch]


def _record(recognizer: Recognizer, name: str, log_probs: np.ndarray | None, error: str | None) -> Record:
    is_phones = recognizer.tokenizer.options.unit == "phones"
    if log_probs is not None:
        try:
            hypothesis = recognizer.search(log_probs)
            return Record(name, hypothesis.text, hypothesis.text if is_phones else None, round(hypothesis.score, 4))
        except DataError as fault:
            error = str(fault)
    return Record(name, "", "" if is_phones else None, None, error)


@contextlib.contextmanager
def _caught_notices() -> Iterator[list[AudioWarning]]:
    """AudioWarnings raised inside, gathered instead of printed; the list is filled when the block ends."""
    notices: list[AudioWarning] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AudioWarning)
        yield notices
    notices += [one.message for one in caught if isinstance(one.message, AudioWarning)]


@contextlib.contextmanager
def _hint(output: PartialOutput, utterances: int, say: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        say(f"{len(output.done)} of {utterances} utterances are kept in {output.path}; the same command goes on from there")
        raise
