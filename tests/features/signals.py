"""Signals for the feature tests, and a referee that follows Kaldi's definition frame by frame."""

import math

import numpy as np


def voice(num_samples: int, *, rate: int = 16000, seed: int = 0) -> np.ndarray:
    """Something like speech: a gliding harmonic tone that comes and goes, with noise. (num_samples,) float64 in [-1, 1]."""
    draws = np.random.default_rng(seed)
    time = np.arange(num_samples) / rate
    phase = 2 * math.pi * np.cumsum(120 + 30 * np.sin(2 * math.pi * 1.3 * time + seed)) / rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 12))
    envelope = np.clip(np.sin(2 * math.pi * 2.1 * time), 0.02, None)
    return 0.2 * tone * envelope + 0.01 * draws.standard_normal(num_samples)


def frame_by_frame(samples: np.ndarray, *, rate: int, num_bins: int, low_hz: float = 20.0, high_hz: float = -400.0) -> np.ndarray:
    """Log-mel filterbank in float64, one frame after the other, with the loops Kaldi's text describes."""
    window, shift = int(rate * 0.025), int(rate * 0.010)
    size = 2 ** math.ceil(math.log2(window))
    povey = np.array([(0.5 - 0.5 * math.cos(2 * math.pi * n / (window - 1))) ** 0.85 for n in range(window)])
    top = high_hz if high_hz > 0 else rate / 2 + high_hz
    edges = np.linspace(_mel(low_hz), _mel(top), num_bins + 2)
    rows = []
    for index in range((len(samples) + shift // 2) // shift):
        start = index * shift + shift // 2 - window // 2
        frame = np.array([samples[_mirror(n, len(samples))] for n in range(start, start + window)], dtype=np.float64)
        frame -= frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * povey, size)) ** 2
        energies = np.zeros(num_bins)
        for line in range(size // 2):
            mel = _mel(line * rate / size)
            for bin in range(num_bins):
                left, centre, right = edges[bin : bin + 3]
                if left < mel <= centre:
                    energies[bin] += power[line] * (mel - left) / (centre - left)
                elif centre < mel < right:
                    energies[bin] += power[line] * (right - mel) / (right - centre)
        rows.append(np.log(np.maximum(energies, np.finfo(np.float32).eps)))
    return np.array(rows).reshape(-1, num_bins)


def _mel(hz: float) -> float:
    return 1127.0 * math.log(1.0 + hz / 700.0)


def _mirror(position: int, length: int) -> int:
    while not 0 <= position < length:
        position = -position - 1 if position < 0 else 2 * length - 1 - position
    return position
