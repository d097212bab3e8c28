"""Time of 80-bin filterbank features on one thread, beside torchaudio.compliance.kaldi and kaldi-native-fbank.

    python benchmarks/features.py [--rounds 18]

Two shapes: 64 recordings of 4 s and one of 30 s, 16 kHz, white noise in [-1, 1]. The three take turns; the figures are medians
over the rounds. The last line is one JSON object: `ratio_torchaudio` and `ratio_knf` are the peer's time over ours, the smaller
of the two shapes. The peers have no call for a batch: they loop over it, each through its plain Python interface.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import functools
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
import torch

from asr.features.filterbank import FeatureExtractor, FeatureOptions
from asr.features.torchaudio_import import import_torchaudio

RATE = 16000
BINS = 80
SHAPES = {"64x4s": (64, 4 * RATE), "1x30s": (1, 30 * RATE)}


def ours(waveforms: torch.Tensor) -> Callable[[], list[np.ndarray]]:
    extractor = FeatureExtractor(FeatureOptions(num_bins=BINS, sample_rate=RATE))
    lengths = torch.full((len(waveforms),), waveforms.shape[1])
    return lambda: list(extractor(waveforms, lengths)[0].numpy())


def torchaudio(waveforms: torch.Tensor) -> Callable[[], list[np.ndarray]]:
    kaldi = import_torchaudio("torchaudio.compliance.kaldi")
    fbank = functools.partial(
        kaldi.fbank, num_mel_bins=BINS, sample_frequency=RATE, snip_edges=False, low_freq=20.0, high_freq=-400.0, dither=0.0
    )
    return lambda: [fbank(waveform[None]).numpy() for waveform in waveforms]


def kaldi_native(waveforms: torch.Tensor) -> Callable[[], list[np.ndarray]]:
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = RATE
    options.frame_opts.snip_edges = False
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = BINS
    options.mel_opts.low_freq = 20.0
    options.mel_opts.high_freq = -400.0
    arrays = list(waveforms.numpy())

    def features(samples: np.ndarray) -> np.ndarray:
        fbank = knf.OnlineFbank(options)
        fbank.accept_waveform(RATE, samples)
        fbank.input_finished()
        return np.stack([fbank.get_frame(frame) for frame in range(fbank.num_frames_ready)])

    return lambda: [features(samples) for samples in arrays]


PEERS = {"asr": ours, "torchaudio": torchaudio, "knf": kaldi_native}


def measure(shape: tuple[int, int], rounds: int) -> dict[str, float]:
    """Median seconds of each peer; they must agree, so that all do the same work."""
    waveforms = torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul_(0.1).clamp_(-1, 1)
    calls = {name: build(waveforms) for name, build in PEERS.items()}
    results = {name: np.stack(call()) for name, call in calls.items()}
    for name, result in results.items():
        difference = np.abs(result - results["asr"]).max()
        if not difference < 5e-3:
            raise SystemExit(f"{name} differs from asr by {difference}: the times would compare different work")
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(rounds):
        # Each comes after each of the others equally often: what ran before decides what is left in the caches.
        order = names[turn % 3 :] + names[: turn % 3]
        for name in order if turn % 2 else order[::-1]:
            start = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=18, help="runs of each, taking turns")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    times = {name: measure(shape, rounds) for name, shape in SHAPES.items()}
    for shape, medians in times.items():
        print(f"{shape}: " + ", ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in medians.items()))
    figures = {f"ratio_{peer}": round(min(row[peer] / row["asr"] for row in times.values()), 2) for peer in ("torchaudio", "knf")}
    packages = ("torch", "torchaudio", "kaldi-native-fbank", "numpy")
    figures |= {
        "milliseconds": {shape: {name: round(s * 1e3, 3) for name, s in row.items()} for shape, row in times.items()},
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "machine": f"{processor()}, {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in packages},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
