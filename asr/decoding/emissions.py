"""A pass of the network over a manifest: batches of similar length, read ahead of the network, and emissions kept in a file."""

import hashlib
import io
import json
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from asr.batches.order import BatchOptions, cut_batches
from asr.data.files import file_sha256, open_regular, write_atomic
from asr.data.manifest import Utterance
from asr.decoding.recognizer import DecodeOptions, Recognizer, ahead, emit
from asr.errors import DataError
from asr.models.package import LoadedModel

#: most recordings in one batch, whatever their length
MOST_IN_A_BATCH = 64


@dataclass(frozen=True)
class Reading:
    """A batch whose recordings have been read: samples of those that are heard whole, and why others cannot be read, by id."""

    batch: Sequence[Utterance]
    waveforms: dict[str, np.ndarray]
    errors: dict[str, str]


def fingerprint(loaded: LoadedModel, utterances: Sequence[Utterance], options: DecodeOptions) -> dict[str, str | float]:
    """All that decides the emissions."""
    digest = hashlib.sha256()
    for one in utterances:
        digest.update(ascii((one.id, one.audio_filepath, one.offset, one.duration, one.speaker)).encode())
    return {
        "model": file_sha256(loaded.folder / "checksums.json"),
        "utterances": digest.hexdigest(),
        "device": next(loaded.model.parameters()).device.type,
        "batch_seconds": options.batch_seconds,
        "max_seconds": options.max_seconds,
        "pauses": options.pauses,
        "channels": options.channels,
    }


def plan_batches(utterances: Sequence[Utterance], recognizer: Recognizer) -> list[list[Utterance]]:
    """Longest first, so that a lack of memory shows at once; a recording heard in windows is a batch by itself."""
    order = sorted(range(len(utterances)), key=lambda index: (-utterances[index].duration, index))
    long = [index for index in order if recognizer.is_long(utterances[index].duration)]
    limits = BatchOptions(utterances=MOST_IN_A_BATCH, seconds=recognizer.options.batch_seconds)
    durations = [max(0.0, one.duration) for one in utterances]
    cut = [[index] for index in long] + cut_batches(order[len(long) :], durations, limits)
    return [[utterances[index] for index in batch] for batch in cut]


def read_batches(recognizer: Recognizer, batches: Sequence[Sequence[Utterance]]) -> Iterator[Reading]:
    """The batches with their samples, each read by a thread while the caller works on the one before."""
    return ahead(_read(recognizer, batch) for batch in batches)


def speaker_statistics(
    recognizer: Recognizer, utterances: Sequence[Utterance], say: Callable[[str], None]
) -> Callable[[Utterance], np.ndarray | None]:
    """Utterance -> mean and deviation (2, D) of its speaker where the model wants them and knows the speaker, else None."""
    if not recognizer.model.options.normalize.needs_speakers:
        return lambda one: None
    nameless = sum(one.speaker is None for one in utterances)
    if nameless:
        say(f"notice: {nameless} of {len(utterances)} utterances name no speaker and are normalised by themselves")
    known = recognizer.speaker_statistics(utterances)
    return lambda one: None if one.speaker is None else known.get(one.speaker)


def hear_manifest(
    recognizer: Recognizer, utterances: Sequence[Utterance], *, say: Callable[[str], None], progress: bool = False
) -> dict[str, np.ndarray]:
    """Log-probabilities (T', V) of each utterance by id, all in memory. Raises DataError for one that cannot be decoded."""
    batches = plan_batches(utterances, recognizer)
    statistics = speaker_statistics(recognizer, utterances, say)
    heard: dict[str, np.ndarray] = {}
    with progress_bar(sum(one.duration for one in utterances), progress) as bar:
        for reading in read_batches(recognizer, batches):
            for error in reading.errors.values():
                raise DataError(f"{error}; every recording of this manifest is needed")
            waveforms = reading.waveforms
            known = [statistics(one) for one in reading.batch if one.id in waveforms]
            heard.update(zip(waveforms, emit(recognizer.model, list(waveforms.values()), cmvn=known)))
            for one in reading.batch:
                if one.id not in waveforms:
                    heard[one.id] = recognizer.hear(one, statistics(one))
                bar.update(one.duration)
    return heard


def save_emissions(path: Path, emissions: Mapping[str, np.ndarray], made_from: Mapping[str, Any]) -> None:
    """Write log-probabilities (T', V) by id, float32, to an .npz file without any pickled object, atomically."""
    head = json.dumps({"made_from": made_from, "ids": list(emissions)}, sort_keys=True).encode()
    values = list(emissions.values())
    content = io.BytesIO()
    np.savez(
        content,
        head=np.frombuffer(head, dtype=np.uint8),
        lengths=np.array([len(rows) for rows in values], dtype=np.int64),
        log_probs=np.concatenate(values).astype(np.float32, copy=False),
    )
    write_atomic(path, content.getvalue())


def load_emissions(path: Path, made_from: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """What `save_emissions` wrote there; None without a file, for a damaged one and for one made from something else."""
    try:
        with open_regular(path) as handle, np.load(handle, allow_pickle=False) as content:
            head = json.loads(content["head"].tobytes())
            if head["made_from"] != dict(made_from):
                return None
            lengths, log_probs = content["lengths"], content["log_probs"]
    except (DataError, OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    if log_probs.dtype != np.float32 or log_probs.ndim != 2 or lengths.sum() != len(log_probs):
        return None
    return dict(zip(head["ids"], np.split(log_probs, np.cumsum(lengths)[:-1]), strict=True))


def progress_bar(seconds: float, progress: bool) -> tqdm:
    """A bar over seconds of audio, with the audio seconds decoded in a second."""
    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}, {rate_noinv_fmt}]"
    return tqdm(
        total=seconds, desc="decoding", unit=" s of audio", bar_format=form, disable=not progress, leave=False, file=sys.stderr
    )


def _read(recognizer: Recognizer, batch: Sequence[Utterance]) -> Reading:
    waveforms: dict[str, np.ndarray] = {}
    errors: dict[str, str] = {}
    for one in batch:
        try:
            if not recognizer.is_long(one.duration):
                waveforms[one.id] = recognizer.read(one)
        except DataError as fault:
            errors[one.id] = str(fault)
    return Reading(batch, waveforms, errors)
