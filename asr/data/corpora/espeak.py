"""Speech from espeak-ng, the library in the optional package espeakng-loader; needs the extra ``demo``."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asr.data.corpora.espeak_child import SAMPLE_RATE
from asr.errors import ResourceError, UsageError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SAMPLE_RATE", "Engine", "Phrase", "find_engine", "speak"]

CHILD = Path(__file__).with_name("espeak_child.py")
#: Seconds one voice may take; it needs a fraction of a second.
PATIENCE = 120


@dataclass(frozen=True)
class Phrase:
    """Words to be spoken in one breath."""

    text: str
    #: Words per minute, 80 to 450.
    rate: int
    #: 0 to 99; 50 is the voice's own.
    pitch: int
    #: How much the pitch moves, 0 to 99; 50 is the voice's own.
    range: int


@dataclass(frozen=True)
class Engine:
    """Where the library and its data lie."""

    library: str
    data: str
    version: str

    def has_variant(self, name: str) -> bool:
        """Whether a voice variant exists; espeak-ng itself falls back to its plain voice without a word."""
        return os.path.isfile(os.path.join(self.data, "voices", "!v", name))


def find_engine() -> Engine:
    """Locate espeak-ng; raises UsageError naming the extra to install when the package is not there."""
    try:
        import espeakng_loader
    except ImportError:
        message = "the corpus digits needs espeak-ng, which comes with the extra demo: pip install 'asr[demo]'"
        raise UsageError(message) from None
    from importlib.metadata import version

    return Engine(espeakng_loader.get_library_path(), espeakng_loader.get_data_path(), version("espeakng-loader"))


def speak(engine: Engine, voice: str, phrases: Sequence[Phrase]) -> "list[np.ndarray]":
    """Each phrase as samples (N,) int16 at ``SAMPLE_RATE``; the same voice and phrases give the same samples.

    ``voice`` is ACCENT+VARIANT, for example ``en-us+m3``. Raises ResourceError when espeak-ng fails or dies.
    """
    import numpy as np

    parent, name = os.path.split(os.path.realpath(engine.data))
    request = {"library": engine.library, "data_parent": parent, "data_name": name, "voice": voice}
    request["phrases"] = [asdict(phrase) for phrase in phrases]  # type: ignore[assignment]
    try:
        answer = subprocess.run(
            [sys.executable, "-I", "-S", os.fspath(CHILD)],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ResourceError(f"espeak-ng with the voice {voice} could not be run: {error}") from None
    if answer.returncode:
        words = answer.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = words[-1] if words else f"it ended with code {answer.returncode}"
        raise ResourceError(f"espeak-ng with the voice {voice} failed: {reason}")
    return [np.frombuffer(piece, np.dtype("<i2")) for piece in _pieces(answer.stdout, len(phrases), voice)]


def _pieces(data: bytes, expected: int, voice: str) -> list[bytes]:
    pieces: list[bytes] = []
    start = 0
    for _ in range(expected):
        (size,) = struct.unpack_from("<I", data, start) if len(data) >= start + 4 else (0,)
        piece = data[start + 4 : start + 4 + size]
        if not size or len(piece) != size:
            raise ResourceError(f"espeak-ng with the voice {voice} spoke {len(pieces)} of {expected} phrases")
        pieces.append(piece)
        start += 4 + size
    return pieces
