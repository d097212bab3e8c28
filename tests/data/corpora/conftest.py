"""Tiny corpora made of noise: what is said in them does not matter here."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def record() -> Callable[..., Path]:
    """``record(path, seconds, rate)`` writes a recording, and the folders above it."""

    def write(path: Path, seconds: float = 0.25, rate: int = 8000) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(7).uniform(-0.1, 0.1, round(seconds * rate))
        soundfile.write(path, samples, rate)
        return path

    return write
