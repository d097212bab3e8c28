"""Recordings to text: any audio file, or a whole manifest in batches, through one model.

A manifest goes through three stages at the same time: a thread reads the recordings of the next batch, the network hears this
one, and worker threads search the emissions of those before it.
"""

import contextlib
import os
import sys
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from asr.data.audio import WARNINGS, AudioWarning
from asr.data.manifest import Utterance
from asr.decoding.emissions import Reading, fingerprint, plan_batches, progress_bar, read_batches, speaker_statistics
from asr.decoding.hypothesis import Hypothesis
from asr.decoding.output import PartialOutput, Record
from asr.decoding.recognizer import DecodeOptions, Recognizer, emit
from asr.decoding.search import Search, count_threads, open_search
from asr.decoding.segment import measure_levels
from asr.decoding.times import Loudness, time_hypothesis
from asr.decoding.windows import Stretch
from asr.decoding.written import Transcript, render, suffix_of
from asr.errors import DataError
from asr.models.package import LoadedModel

#: batches whose search may be under way while the network goes on
BACKLOG = 1
#: stretches of one recording that may wait for the search
WAITING = 16


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
    loaded: LoadedModel,
    paths: Sequence[str],
    options: DecodeOptions | None = None,
    *,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Transcript]:
    """The text of each audio file, one after the other in the order given; a file that cannot be decoded carries its error.

    A recording too short for a single frame has the empty text. There is no speaker: a model that normalises by speaker
    takes the statistics of each file.
    """
    options = options or DecodeOptions()
    recognizer = Recognizer(loaded, options)
    search = open_search(loaded.tokenizer, loaded.folder, options, say=say)
    with ThreadPoolExecutor(count_threads(options)) as pool:
        for path in tqdm(paths, desc="decoding", unit="file", disable=not progress, leave=False, file=sys.stderr):
            job = _Job(recognizer, search, pool)
            with caught_notices() as notices:
                try:
                    job.add(recognizer.stretches_of_file(path, measured=job.measure))
                except DataError as fault:
                    job.error = str(fault)
                record = _record(search, path, job)
            found = () if record.error is not None else tuple(job.result())
            yield Transcript(path, found, job.seconds, record, record.error, tuple(notices), loaded.tokenizer.options.unit)


def transcribe_manifest(
    loaded: LoadedModel,
    utterances: Sequence[Utterance],
    out: str | os.PathLike[str],
    options: DecodeOptions | None = None,
    *,
    search: Search | None = None,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Decode utterances in batches of similar length and write one line each to `out`, in the order given.

    An utterance that cannot be decoded gets an empty text and `error`. Interrupted, it leaves `out.part`, from which the same
    call goes on. Batches are the same in both runs, so the file comes out the same. `say` is handed one sentence now and
    then. `search` saves reading its files where they are read already. Raises UsageError and ResourceError about `out`.
    """
    options = options or DecodeOptions()
    recognizer = Recognizer(loaded, options)
    if search is None:
        texts = [one.text for one in utterances if one.text]
        search = open_search(loaded.tokenizer, loaded.folder, options, texts=texts, say=say)
    began = time.monotonic()
    made_from = {**fingerprint(loaded, utterances, options), **search.made_from}
    durations = {one.id: one.duration for one in utterances}
    with PartialOutput(out, made_from, overwrite=options.overwrite, folder=options.has_file_each) as output:
        resumed = len(output.done)
        if output.restarted:
            say(f"{output.path} was made by another model, manifest or option; starting afresh")
        if resumed:
            say(f"going on from {output.path}: {resumed} of {len(utterances)} utterances are done")
        batches = [batch for batch in plan_batches(utterances, recognizer) if any(one.id not in output.done for one in batch)]
        statistics = speaker_statistics(recognizer, utterances if batches else [], say)
        seconds = sum(one.duration for batch in batches for one in batch)
        with _hint(output, len(utterances), say), caught_notices() as notices, progress_bar(seconds, progress) as bar:
            for records in _decoded(recognizer, search, batches, statistics, bar):
                output.add(one for one in records if one.id not in output.done)
        output.finish(
            [one.id for one in utterances],
            lambda record: render(record, options.format, durations[record.id], unit=loaded.tokenizer.options.unit),
            suffix=suffix_of(options.format),
        )
    failed = {one.id: error for one in utterances if (error := output.done[one.id].error) is not None}
    odd = Counter(WARNINGS[kind] for kind in notices.values())
    return Summary(len(utterances), seconds, time.monotonic() - began, resumed, failed, dict(odd))


def _decoded(
    recognizer: Recognizer,
    search: Search,
    batches: Sequence[Sequence[Utterance]],
    statistics: Callable[[Utterance], np.ndarray | None],
    bar: tqdm,
) -> Iterator[list[Record]]:
    """The records of each batch, in the order of the batches."""
    with ThreadPoolExecutor(count_threads(recognizer.options)) as pool:
        waiting: deque[tuple[Sequence[Utterance], dict[str, _Job]]] = deque()
        try:
            for reading in read_batches(recognizer, batches):
                jobs = {one.id: _Job(recognizer, search, pool, error=reading.errors.get(one.id)) for one in reading.batch}
                _hear_batch(recognizer, reading, statistics, jobs, bar)
                waiting.append((reading.batch, jobs))
                while len(waiting) > BACKLOG:
                    yield _records(search, *waiting.popleft())
            while waiting:
                yield _records(search, *waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _hear_batch(
    recognizer: Recognizer,
    reading: Reading,
    statistics: Callable[[Utterance], np.ndarray | None],
    jobs: dict[str, "_Job"],
    bar: tqdm,
) -> None:
    """Run the network; what it says goes to the job of each utterance, a long one stretch by stretch."""
    known = [statistics(one) for one in reading.batch if one.id in reading.waveforms]
    rows = emit(recognizer.model, list(reading.waveforms.values()), cmvn=known)
    for name, log_probs in zip(reading.waveforms, rows):
        jobs[name].measure(measure_levels(reading.waveforms[name], recognizer.sample_rate))
        jobs[name].add([Stretch(0, log_probs)])
    for one in reading.batch:
        job, before = jobs[one.id], bar.n
        if recognizer.is_long(one.duration):
            try:
                stretches = recognizer.stretches(one, statistics(one), measured=job.measure)
                job.add(stretches, partial(_move, bar, before))
            except DataError as fault:
                job.error = str(fault)
        _move(bar, before, one.duration)


def _records(search: Search, batch: Sequence[Utterance], jobs: dict[str, "_Job"]) -> list[Record]:
    """One record per utterance of the batch; a recording that cannot be decoded leaves the others as they are."""
    return [_record(search, one.id, jobs[one.id]) for one in batch]


def _record(search: Search, name: str, job: "_Job") -> Record:
    error = job.error
    if error is None:
        try:
            return make_record(search, name, job.result(), loudness=job.loudness(), seconds=job.seconds)
        except DataError as fault:
            error = str(fault)
    return Record(name, "", "" if search.is_phones else None, None, error)


def make_record(
    search: Search, name: str, hypotheses: Sequence[Hypothesis], *, loudness: Loudness | None, seconds: float
) -> Record:
    """What is written about one recording of this length and, where it was measured, loudness."""
    phones = [search.spell(one.tokens) for one in hypotheses] if search.is_phones else None
    timed = None
    if search.options.needs_words:
        timed = [time_hypothesis(one, search.tokenizer, loudness, seconds=seconds) for one in hypotheses]
    return Record.of(name, hypotheses, phones=phones, timed=timed, nbest=search.options.nbest > 1)


class _Job:
    """One recording on its way through the search."""

    def __init__(self, recognizer: Recognizer, search: Search, pool: ThreadPoolExecutor, *, error: str | None = None):
        self.error = error
        #: s of sound heard so far
        self.seconds = 0.0
        self._levels: np.ndarray | None = None
        self._search, self._pool = search, pool
        self._shift, self._first = recognizer.frame_shift_s, recognizer.first_frame_s
        self._found: list[Future[list[Hypothesis]]] = []

    def add(self, stretches: Iterable[Stretch], heard: Callable[[float], object] = lambda seconds: None) -> None:
        """Search the stretches in other threads, waiting where too many would be held in memory."""
        for stretch in stretches:
            begin = self._first + stretch.frame * self._shift
            found = self._pool.submit(self._search, stretch.log_probs, frame_shift_s=self._shift, first_frame_s=begin)
            self._found.append(found)
            self.seconds = (stretch.frame + len(stretch.log_probs)) * self._shift
            heard(self.seconds)
            if len(self._found) > WAITING:
                self._found[-WAITING].exception()

    def measure(self, levels: np.ndarray) -> None:
        """Keep the level of each 10 ms of the recording, where it is of use."""
        if self._search.options.needs_words and self._search.options.levels:
            self._levels = levels

    def loudness(self) -> Loudness | None:
        return None if self._levels is None else Loudness.of(self._levels)

    def result(self) -> list[Hypothesis]:
        """Wait for all of it. Raises what the search raised."""
        return self._search.join([found.result() for found in self._found])


def _move(bar: tqdm, before: float, seconds: float) -> None:
    bar.update(before + seconds - bar.n)


@contextlib.contextmanager
def caught_notices() -> Iterator[dict[str, str]]:
    """AudioWarnings raised inside by any thread, gathered instead of printed: message -> kind."""
    notices: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("always", AudioWarning)
        others = warnings.showwarning

        def show(message: Warning | str, *rest: Any, **named: Any) -> None:
            if isinstance(message, AudioWarning):
                notices[str(message)] = message.kind
            else:
                others(message, *rest, **named)  # type: ignore[arg-type]

        warnings.showwarning = show
        yield notices


@contextlib.contextmanager
def _hint(output: PartialOutput, utterances: int, say: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        say(f"{len(output.done)} of {utterances} utterances are kept in {output.path}; the same command goes on from there")
        raise
