"""Recordings: what is in a file, told from its headers, and its samples at the rate that is wanted.

Both verify the file on the way: a cut, damaged, forged or foreign file ends in one sentence, never in fewer samples.
"""

import errno
import io
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import numpy as np
import soundfile

from asr.data.containers import AudioError, Container, examine, refuse_layout
from asr.data.files import open_regular, show_path
from asr.data.mp3 import with_table
from asr.errors import DataError, UsageError

CHANNELS = ("mix", "error", "first")
RESAMPLE = ("allow", "error")
#: How far the length of a recording may differ from what a manifest or an MP3 table says, in seconds.
LENGTH_TOLERANCE = 0.05
#: Floating-point samples beyond this are no overshoot but another scale (16-bit integers as floats, say).
MAX_PEAK = 8.0

#: Faults of a network share or a disk that may be over in a moment, and how long to wait before each further attempt (s).
PASSING = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR})
PAUSES_S = (0.05, 0.2, 0.8)

_BLOCK_FRAMES = 65536
#: No format here packs more samples of one channel into a byte (FLAC of silence: about 4,700).
_MAX_FRAMES_PER_BYTE = 16384
_stderr_lock = threading.RLock()

T = TypeVar("T")


class AudioWarning(UserWarning):
    """A recording that is used, but not as it is. ``kind`` is a key of ``WARNINGS``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class PassingError(AudioError):
    """A recording that could not be read just now."""


@dataclass(frozen=True)
class AudioInfo:
    """What the headers of a recording say, checked against the size of the file."""

    #: Hz.
    sample_rate: int
    channels: int
    #: Samples per channel.
    frames: int
    #: Seconds.
    duration: float
    #: Container and coding, ``WAV/PCM_16``.
    format: str
    #: False where the length is an estimate that only decoding can settle (MP3 of a kind that is not walked through).
    exact: bool = True
    #: Kinds of the AudioWarnings that the file itself gives rise to.
    notes: tuple[str, ...] = ()


def inspect_audio(path: str | os.PathLike[str]) -> AudioInfo:
    """Rate, channels and length of a recording, without decoding it.

    Raises DataError in one sentence when the file is missing, empty, cut, foreign (web page, pointer, m4a ...), or when its
    header is damaged or promises what the file cannot hold.
    """

    def look() -> AudioInfo:
        with _opened(path) as (info, _):
            return info

    return _again(look)


def measure_seconds(path: str | os.PathLike[str]) -> tuple[float, tuple[str, ...]]:
    """Duration (s) of a recording, and the kinds of the warnings that the file gives rise to.

    From the header; where that only estimates it, the file is decoded, block by block, so that memory does not grow with the
    length. Raises DataError as ``inspect_audio`` and ``read_audio``.
    """

    def look() -> tuple[float, tuple[str, ...]]:
        with _opened(path) as (info, sound):
            frames = info.frames if info.exact else sum(map(len, _blocks(path, info, sound, 0, info.frames)))
            return frames / info.sample_rate, info.notes

    return _again(look)


def read_audio(
    path: str | os.PathLike[str],
    *,
    sample_rate: int,
    offset: float = 0.0,
    duration: float | None = None,
    channels: str = "mix",
    max_seconds: float = 36000.0,
    resample: str = "allow",
) -> np.ndarray:
    """Samples (N,) of one channel, float32, full scale at 1, at ``sample_rate`` Hz.

    ``offset`` and ``duration`` (seconds, None: to the end) choose a piece; N is ``resampled_length`` of its length. A piece may
    end up to 50 ms before a manifest says. More than one channel: the mean with an AudioWarning (``mix``), the first one with an
    AudioWarning (``first``), or DataError (``error``). Another rate: resampled by soxr, with an AudioWarning when it is lower
    than the one wanted, or DataError (``resample="error"``). Integer files are scaled to [-1, 1); floating-point files are taken
    as they are up to a peak of 8; beyond that the scale is in doubt and DataError is raised, as for NaN and infinite samples.

    Raises DataError for every fault of the file and for a piece outside it. Never decodes more than ``max_seconds``.
    """
    if channels not in CHANNELS:
        raise UsageError(f'channels="{channels}" is not one of {", ".join(CHANNELS)}')
    if resample not in RESAMPLE:
        raise UsageError(f'resample="{resample}" is not one of {", ".join(RESAMPLE)}')

    def decode() -> tuple[AudioInfo, int, np.ndarray]:
        with _opened(path) as (info, sound):
            if info.channels > 1 and channels == "error":
                fault = f"has {info.channels} channels, expected one; set channels=mix or channels=first"
                raise AudioError("channels", path, fault)
            if info.sample_rate != sample_rate and resample == "error":
                fault = f"is sampled at {info.sample_rate} Hz, expected {sample_rate} Hz; resample it, or set resample=allow"
                raise AudioError("sample-rate", path, fault)
            start, count = _piece(path, info, offset, duration, max_seconds)
            return info, count, _decode(path, info, sound, start=start, count=count, first=channels == "first")

    info, count, samples = _again(decode)
    for kind in info.notes:
        _warn(kind, path)
    if info.exact and len(samples) < count:
        _warn("short-end", path)
    if info.channels > 1:
        _warn("first-channel" if channels == "first" else "mixed-channels", path)
    if info.sample_rate < sample_rate:
        _warn("upsampled", path)
    return _resampled(samples, info.sample_rate, sample_rate)


def resampled_length(samples: int, rate_in: int, rate_out: int) -> int:
    """How many samples ``read_audio`` returns for this many in the file: N * out / in, halves rounded up, at least 1."""
    return max(1, (2 * samples * rate_out + rate_in) // (2 * rate_in)) if samples else 0


WARNINGS = {
    "half-sample": "the last sample is incomplete and was left out; the file may have been cut",
    "short-end": "the last frame cannot be decoded, up to 50 ms are missing; the file may have been cut",
    "no-end-mark": "the Ogg stream lacks its end mark; the recording may have been cut",
    "mixed-channels": "several channels were mixed to one (channels=first takes the first, channels=error refuses)",
    "first-channel": "the first of several channels was taken (channels=first)",
    "upsampled": "the recording has a lower sample rate than the model: its upper band is empty",
}


def _warn(kind: str, path: str | os.PathLike[str]) -> None:
    warnings.warn(AudioWarning(kind, f"{show_path(path)}: {WARNINGS[kind]}"), stacklevel=3)


def _again(attempt: Callable[[], T]) -> T:
    """The attempt's answer; a fault that may pass is waited for, three times."""
    for pause in PAUSES_S:
        try:
            return attempt()
        except PassingError:
            time.sleep(pause)
    return attempt()


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[AudioInfo, soundfile.SoundFile]]:
    """An examined file, open for decoding at its first sample."""
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(open_regular(path, buffering=0))  # the decoder moves in the same descriptor
        except DataError as error:
            kind = "unreadable-file" if os.path.exists(path) else "missing-file"
            fault = str(error).removeprefix(f"{show_path(path)}: ")
            advice = "; put the recording there, or correct the path" if kind == "missing-file" else ""
            passing = isinstance(error.__context__, OSError) and error.__context__.errno in PASSING
            raise (PassingError if passing else AudioError)(kind, path, fault + advice) from None
        try:
            container = examine(handle, path)
            if container.name in ("MP3", "unknown"):
                stack.enter_context(_quiet_stderr())
            os.lseek(handle.fileno(), 0, os.SEEK_SET)
            sound = stack.enter_context(soundfile.SoundFile(handle.fileno(), closefd=False))
            refuse_layout(path, sound.samplerate, sound.channels)
            exact = True
            if container.mp3 is not None:
                tabled, exact = _mp3_source(handle, container, sound.frames)
                sound = stack.enter_context(soundfile.SoundFile(tabled)) if tabled else sound
            size = os.fstat(handle.fileno()).st_size
            _refuse_length(path, container, sound, size)
        except soundfile.SoundFileError:
            raise _open_fault(path, container, handle) from None
        except OSError as error:
            fault = f"cannot be read ({os.strerror(error.errno or 0)}); is the disk or the network share in order?"
            raise (PassingError if error.errno in PASSING else AudioError)("unreadable-file", path, fault) from None
        yield (
            AudioInfo(
                sample_rate=sound.samplerate,
                channels=sound.channels,
                frames=sound.frames,
                duration=sound.frames / sound.samplerate,
                format=f"{sound.format}/{sound.subtype}",
                exact=exact,
                notes=container.notes,
            ),
            sound,
        )


def _mp3_source(handle: BinaryIO, container: Container, guessed: int) -> tuple[io.BytesIO | None, bool]:
    """The same stream with a length table where the decoder guessed wrong without one; and whether the length is known."""
    length = container.mp3
    assert length is not None
    if not length.counted:
        return None, bool(length.promised)
    if abs(length.counted - guessed) <= 2 * 1152:
        return None, True
    handle.seek(0)
    return io.BytesIO(with_table(handle.read(), length.start, length.counted)), True


def _refuse_length(path: str | os.PathLike[str], container: Container, sound: soundfile.SoundFile, size: int) -> None:
    frames = sound.frames
    if frames <= 0:
        raise AudioError("no-samples", path, f"holds 0 samples ({size} bytes, all of them header); record or download it again")
    if frames >= 2**62:
        fault = f"the {container.name} header gives no length (written into a pipe?): ffmpeg -i '{show_path(path)}' OUT.wav"
        raise AudioError("wrong-header", path, fault)
    if frames > size * _MAX_FRAMES_PER_BYTE:
        fault = f"the header claims {frames} samples, more than a file of {size} bytes can hold: it is damaged or forged"
        raise AudioError("forged-length", path, fault)
    if container.name == "FLAC":  # the one format that hides a cut from its header, and finds its last frame fast
        try:
            sound.seek(frames - 1)
            sound.read(1, dtype="float32")
            sound.seek(0)
        except soundfile.SoundFileError:
            fault = f"the header promises {frames} samples, the last ones cannot be decoded: the file was cut or damaged"
            raise AudioError("cut-file", path, f"{fault}; copy or download it again") from None


def _open_fault(path: str | os.PathLike[str], container: Container, handle: BinaryIO) -> AudioError:
    if container.name != "unknown":
        size = os.fstat(handle.fileno()).st_size
        fault = f"the {container.name} header is cut or damaged, or its coding is not read here (file of {size} bytes)"
        return AudioError("damaged-header", path, f"{fault}; download it again or convert it with ffmpeg")
    handle.seek(0)
    start = handle.read(8).hex(" ")
    return AudioError("not-audio", path, f"belongs to no audio format that is read here (it begins with the bytes {start})")


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep what the MP3 decoder prints off the screen. It writes below Python, so the whole process is quiet meanwhile."""
    with _stderr_lock:
        try:
            saved = os.dup(2)
        except OSError:  # there is no standard error to keep clean
            yield
            return
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            os.close(null)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _piece(
    path: str | os.PathLike[str], info: AudioInfo, offset: float, duration: float | None, max_seconds: float
) -> tuple[int, int]:
    """First sample and number of samples per channel, in the file's own rate."""
    rate = info.sample_rate
    if not 0 <= offset < math.inf:
        raise AudioError("bad-offset", path, f"offset is {offset:g} s; expected 0 or more")
    if duration is not None and not 0 < duration < math.inf:
        raise AudioError("bad-duration", path, f"duration is {duration:g} s; expected more than 0")
    start = round(offset * rate)
    rest = info.frames - start
    if rest <= 0:
        fault = f"offset {offset:g} s lies beyond the end of the recording ({info.duration:.3f} s)"
        raise AudioError("offset-beyond-end", path, fault)
    count = rest if duration is None else max(1, round(duration * rate))
    if count > rest + LENGTH_TOLERANCE * rate and info.exact:
        fault = f"offset + duration is {(start + count) / rate:.3f} s, the recording ends at {info.duration:.3f} s"
        raise AudioError("segment-beyond-end", path, fault)
    count = min(count, rest)
    if count > max_seconds * rate:
        fault = f"{count / rate:.1f} s of sound, more than the {max_seconds:g} s that are read at once; cut it into pieces"
        raise AudioError("too-long", path, fault)
    return start, count


def _decode(
    path: str | os.PathLike[str], info: AudioInfo, sound: soundfile.SoundFile, *, start: int, count: int, first: bool
) -> np.ndarray:
    """One channel of the piece, verified; the file's own rate."""
    blocks = [
        block[:, 0].copy() if first or info.channels == 1 else block.mean(axis=1)
        for block in _blocks(path, info, sound, start, count)
    ]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _blocks(
    path: str | os.PathLike[str], info: AudioInfo, sound: soundfile.SoundFile, start: int, count: int
) -> Iterator[np.ndarray]:
    """The samples (N, channels) of a piece block by block, each verified; the piece as a whole when there are no more."""
    done = 0
    try:
        if start:
            sound.seek(start)
        while done < count:
            block = sound.read(min(_BLOCK_FRAMES, count - done), dtype="float32", always_2d=True)
            if not len(block):
                break
            _refuse_samples(path, block, (start + done) / info.sample_rate)
            yield block
            done += len(block)
    except soundfile.SoundFileError:
        fault = f"the {info.format} stream is damaged or cut somewhere after {(start + done) / info.sample_rate:.2f} s"
        raise AudioError("damaged", path, f"{fault}; copy or download it again") from None
    tolerance = LENGTH_TOLERANCE * info.sample_rate if info.format.startswith("MP3") else 0
    if not done or (info.exact and done < count - tolerance):
        fault = f"the header promises {count} samples, decoding yields {done}: the file was cut"
        raise AudioError("cut-file", path, f"{fault}; copy or download it again")


def _refuse_samples(path: str | os.PathLike[str], block: np.ndarray, at: float) -> None:
    peak = float(max(block.max(), -block.min()))
    if not math.isfinite(peak):
        count = int((~np.isfinite(block)).sum())
        raise AudioError("non-finite", path, f"holds NaN or infinite samples ({count} after {at:.2f} s); write it again")
    if peak > MAX_PEAK:
        fault = f"samples reach {peak:g} where full scale is 1: the scale is in doubt"
        raise AudioError("full-scale", path, f"{fault}; divide them (by 32768, if they are 16-bit numbers) and write it again")


def _resampled(samples: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    if rate_in == rate_out:
        return samples
    import soxr

    length = resampled_length(len(samples), rate_in, rate_out)
    result = soxr.resample(samples, rate_in, rate_out)[:length]
    return np.pad(result, (0, length - len(result))).astype(np.float32, copy=False)
