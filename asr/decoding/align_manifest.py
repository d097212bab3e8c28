"""Alignment as a user asks for it: the recordings of a manifest and their transcripts in, files with times out."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from asr.data.audio import WARNINGS
from asr.data.manifest import Utterance
from asr.decoding.align import PriorEstimate
from asr.decoding.emissions import fingerprint, plan_batches, progress_bar, read_batches, speaker_statistics
from asr.decoding.formats import FORMATS, TimedRecord, parse_record
from asr.decoding.hypothesis import Word
from asr.decoding.options import CHANNELS, DEVICES, DecodeOptions
from asr.decoding.output import PartialOutput
from asr.decoding.recognizer import Recognizer, emit
from asr.decoding.search import count_threads
from asr.decoding.segment import FRAME, frame_samples, measure_levels
from asr.decoding.times import Loudness, time_script, write_script
from asr.decoding.transcribe import caught_notices
from asr.errors import DataError, UsageError
from asr.models.package import LoadedModel

#: name, without its ending, of the one file of a form that joins all recordings
JOINED = "alignment"
#: s of a recording that are read at once to measure its level
BLOCK = 60.0
CLOCKS = ("utterance", "recording")


@dataclass
class AlignOptions:
    #: run directory or its model/ folder
    model: str = field(default="", metadata={"path": True})
    #: manifest of recordings with their transcripts: `text`, or `phones` where the model's tokens are phones
    manifest: str = field(default="", metadata={"path": True})
    #: folder to write: a file per recording, or alignment.ctm, alignment.jsonl
    out: str = field(default="", metadata={"path": True})
    #: ctm | textgrid (Praat) | elan | srt | vtt | json
    format: str = "json"
    #: replace files that are there
    overwrite: bool = False
    #: zero of the times: utterance (its beginning) | recording (of the file, where the manifest takes a stretch of it)
    clock: str = "utterance"
    #: let the level of the recording say where words begin and end; without, they end 40 ms beyond what the network marks
    levels: bool = True
    #: share of the label priors taken from the model's log-posteriors, 0 to 1: CTC puts tokens later and shorter than they are
    prior_scale: float = 0.0
    #: s of the manifest's audio, spread over it, whose mean posteriors are the priors
    prior_seconds: float = 600.0
    #: auto | cpu | cuda
    device: str = "auto"
    #: processor cores to use, 0: all
    threads: int = 0
    #: most audio seconds in one batch, padding counted
    batch_seconds: float = 120.0
    #: s that are heard as one, at least 30; longer recordings are heard piece by piece and aligned as a whole
    max_seconds: float = 600.0
    #: what finds the pauses to cut at: level (of the sound) | neural (a detector of voices, with the extra vad)
    pauses: str = "level"
    #: recordings with several channels: mix (their mean) | first | error
    channels: str = "mix"

    def __post_init__(self) -> None:
        choices = {"format": tuple(FORMATS), "clock": CLOCKS, "device": DEVICES, "channels": CHANNELS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} must be one of {', '.join(allowed)}, got '{getattr(self, name)}'")
        if not 0.0 <= self.prior_scale <= 1.0:
            raise UsageError(f"prior_scale must lie between 0 and 1, got {self.prior_scale}")
        if not 0.0 < self.prior_seconds < float("inf"):
            raise UsageError(f"prior_seconds must be above 0 and finite, got {self.prior_seconds}")
        self.heard()

    def heard(self) -> DecodeOptions:
        """The options of the pass of the network, which checks them."""
        names = ("model", "device", "threads", "batch_seconds", "max_seconds", "pauses", "channels")
        return DecodeOptions(**{name: getattr(self, name) for name in names}, decoder="greedy")


@dataclass(frozen=True)
class AlignmentSummary:
    """What a pass over a manifest did."""

    utterances: int
    #: audio aligned now (what an earlier, interrupted run had done is not counted), s
    audio_seconds: float
    wall_seconds: float
    #: utterances taken over from an interrupted run
    resumed: int
    #: utterance id -> why it could not be aligned
    failed: dict[str, str]
    #: what was odd but aligned -> number of recordings
    notices: dict[str, int]
    #: the file, or the folder of files, that was written
    written: Path


def align_manifest(
    loaded: LoadedModel,
    utterances: Sequence[Utterance],
    options: AlignOptions,
    *,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> AlignmentSummary:
    """Align utterances with their transcripts and write the form that the options ask for into the folder `out`.

    An utterance that cannot be aligned is left out of the files, besides JSON lines, which hold its `error`. Interrupted,
    the same call goes on from a .part, and the files come out the same. Raises UsageError and ResourceError about `out`.
    """
    began = time.monotonic()
    recognizer = Recognizer(loaded, options.heard())
    form = FORMATS[options.format]
    joined = Path(options.out) / (JOINED + form.suffix)
    target = joined if form.joined else Path(options.out)
    made_from = _made_from(loaded, utterances, options)
    opened = PartialOutput(target, made_from, overwrite=options.overwrite, folder=not form.joined, parse=parse_record)
    with opened as output, caught_notices() as notices:
        done: dict[str, Any] = output.done
        resumed = len(done)
        if output.restarted:
            say(f"{output.path} was made by another model, manifest or option; starting afresh")
        if resumed:
            say(f"going on from {output.path}: {resumed} of {len(utterances)} utterances are done")
        batches = [batch for batch in plan_batches(utterances, recognizer) if any(one.id not in done for one in batch)]
        statistics = speaker_statistics(recognizer, utterances if batches else [], say)
        log_prior = estimate_prior(recognizer, utterances, options, statistics, say) if batches else None
        seconds = sum(one.duration for batch in batches for one in batch)
        with progress_bar(seconds, progress) as bar:
            bar.set_description("aligning")
            for records in _aligned(recognizer, batches, statistics, options, log_prior, bar):
                output.add(record for record in records if record.id not in done)  # type: ignore[misc]
        failed = {one.id: done[one.id].error for one in utterances if done[one.id].error is not None}
        kept = [one.id for one in utterances if one.id not in failed or options.format == "json"]
        output.finish(kept, form.render, suffix=form.suffix)  # type: ignore[arg-type]
    odd = Counter(WARNINGS[kind] for kind in notices.values())
    return AlignmentSummary(len(utterances), seconds, time.monotonic() - began, resumed, failed, dict(odd), target)


def estimate_prior(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    options: AlignOptions,
    statistics: Callable[[Utterance], np.ndarray | None],
    say: Callable[[str], None],
) -> np.ndarray | None:
    """`prior_scale` times the log-prior (V,) of the symbols: their mean posterior over utterances spread over the manifest.

    None without a scale. Recordings that cannot be read are left out here; they are told when their turn comes.
    """
    if options.prior_scale == 0.0:
        return None
    seconds = sum(one.duration for one in utterances)
    step = max(1, round(seconds / options.prior_seconds))
    estimate = PriorEstimate(recognizer.model.vocabulary)
    chosen = [one for one in utterances[::step] if not recognizer.is_long(one.duration)] or list(utterances[:1])
    for reading in read_batches(recognizer, plan_batches(chosen, recognizer)):
        known = [statistics(one) for one in reading.batch if one.id in reading.waveforms]
        for log_probs in emit(recognizer.model, list(reading.waveforms.values()), cmvn=known):
            estimate.add(log_probs)
        for one in reading.batch:
            if recognizer.is_long(one.duration):
                part = replace(one, duration=min(one.duration, options.prior_seconds, options.max_seconds))
                estimate.add(recognizer.hear(part, statistics(one)))
    say(f"label priors from {estimate.frames * recognizer.frame_shift_s:.0f} s of audio in {len(chosen)} utterances")
    return estimate.log_prior(options.prior_scale)


def measure_loudness(recognizer: Recognizer, utterance: Utterance, waveform: np.ndarray | None = None) -> Loudness:
    """The level of a recording; of one that is not given as samples (N,) at the model's rate, read block by block."""
    rate = recognizer.sample_rate
    if waveform is not None:
        return Loudness.of(measure_levels(waveform, rate))
    step = round(BLOCK / FRAME) * frame_samples(rate) / rate
    levels = []
    begin = 0.0
    while begin < utterance.duration - FRAME:
        length = min(step, utterance.duration - begin)
        block = replace(utterance, offset=utterance.offset + begin, duration=length)
        levels.append(measure_levels(recognizer.read(block), rate))
        begin += step
    return Loudness.of(np.concatenate(levels) if levels else np.zeros(0, dtype=np.float32))


def _aligned(
    recognizer: Recognizer,
    batches: Sequence[Sequence[Utterance]],
    statistics: Callable[[Utterance], np.ndarray | None],
    options: AlignOptions,
    log_prior: np.ndarray | None,
    bar: tqdm,
) -> Iterator[list[TimedRecord]]:
    """The records of each batch; its utterances are aligned by several threads."""
    with ThreadPoolExecutor(count_threads(recognizer.options)) as pool:
        for reading in read_batches(recognizer, batches):
            known = [statistics(one) for one in reading.batch if one.id in reading.waveforms]
            rows = emit(recognizer.model, list(reading.waveforms.values()), cmvn=known)
            heard = dict(zip(reading.waveforms, rows))

            def one_record(one: Utterance, heard=heard, reading=reading) -> TimedRecord:
                empty = TimedRecord(one.id, one.duration, (), audio=one.audio_filepath, text=_text(recognizer, one))
                try:
                    if one.id in reading.errors:
                        raise DataError(reading.errors[one.id])
                    log_probs = heard.get(one.id)
                    if log_probs is None:
                        log_probs = recognizer.hear(one, statistics(one))
                    waveform = reading.waveforms.get(one.id)
                    return _timed(recognizer, one, empty, log_probs, waveform, options, log_prior)
                except DataError as fault:
                    return replace(empty, error=str(fault))

            records = []
            for one, record in zip(reading.batch, pool.map(one_record, reading.batch)):
                records.append(record)
                bar.update(one.duration)
            yield records


def _timed(
    recognizer: Recognizer,
    one: Utterance,
    empty: TimedRecord,
    log_probs: np.ndarray,
    waveform: np.ndarray | None,
    options: AlignOptions,
    log_prior: np.ndarray | None,
) -> TimedRecord:
    if empty.text is None:
        unit = "phones" if recognizer.tokenizer.options.unit == "phones" else "text"
        raise DataError(f"the manifest gives it no `{unit}`, which is what would be aligned")
    script = write_script(empty.text, recognizer.tokenizer)
    loudness = measure_loudness(recognizer, one, waveform) if options.levels else None
    timed = time_script(
        log_probs,
        script,
        frame_shift_s=recognizer.frame_shift_s,
        first_frame_s=recognizer.first_frame_s,
        loudness=loudness,
        log_prior=log_prior,
    )
    shift = one.offset if options.clock == "recording" else 0.0
    words, tokens = ([_rounded(word, shift) for word in row] for row in (timed.words, timed.tokens))
    unit = recognizer.tokenizer.options.unit
    found = replace(empty, duration=one.duration + shift, words=tuple(words), score=round(timed.score, 4))
    return replace(found, tokens=tuple(tokens), unit=unit) if tokens else found


def _text(recognizer: Recognizer, one: Utterance) -> str | None:
    return one.phones if recognizer.tokenizer.options.unit == "phones" else one.text


def _rounded(word: Word, shift: float) -> Word:
    """As it is written to the .part, so that a run that goes on from there writes what one without a break does."""
    confidence = None if word.confidence is None else round(word.confidence, 4)
    return Word(word.text, round(word.start + shift, 3), round(word.end + shift, 3), confidence)


def _made_from(loaded: LoadedModel, utterances: Sequence[Utterance], options: AlignOptions) -> dict[str, Any]:
    heard = fingerprint(loaded, utterances, options.heard())
    texts = [(one.text, one.phones) for one in utterances]
    names = ("format", "clock", "levels", "prior_scale", "prior_seconds")
    return {
        **heard,
        **{name: getattr(options, name) for name in names},
        "texts": hashlib.sha256(ascii(texts).encode()).hexdigest(),
    }
