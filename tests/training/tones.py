"""A toy language of tones: each letter is a tone of its own pitch, so that a tiny network learns it in seconds."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from asr.batches.order import BatchOptions
from asr.features.filterbank import FeatureOptions
from asr.models.encoder import EncoderOptions
from asr.training.optim import OptimOptions
from asr.training.options import DataOptions, TrainConfig, TrainingOptions

PITCH_HZ = {"a": 400, "b": 900, "c": 1800}
RATE = 8000


def write_tones(folder: Path, part: str, count: int, *, seed: int, speakers: int = 2) -> None:
    draw = np.random.default_rng(seed)
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        text = "".join(draw.choice(list(PITCH_HZ), size=draw.integers(1, 5)))
        pieces = [np.zeros(400)]
        for letter in text:
            time = np.arange(int(draw.integers(900, 1400))) / RATE
            pieces += [0.3 * np.sin(2 * np.pi * PITCH_HZ[letter] * time), np.zeros(400)]
        samples = np.concatenate(pieces) + draw.normal(0, 1e-3, sum(map(len, pieces)))
        name = f"{part}-{number:03d}"
        soundfile.write(folder / "audio" / f"{name}.wav", samples, RATE)
        lines.append(
            {
                "id": name,
                "audio_filepath": f"audio/{name}.wav",
                "duration": len(samples) / RATE,
                "text": text,
                "speaker": f"{part}-{number % speakers}",
            }
        )
    (folder / f"{part}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_seven_batches(folder: Path) -> Path:
    """14 utterances to train, at two in a batch seven batches, and 4 to validate."""
    write_tones(folder, "train", 14, seed=1)
    write_tones(folder, "valid", 4, seed=2)
    return folder


def tiny_config(data: Path, run_dir: Path, **changes) -> TrainConfig:
    base = TrainConfig(
        run_dir=str(run_dir),
        device="cpu",
        data=DataOptions(dir=str(data)),
        features=FeatureOptions(sample_rate=RATE, num_bins=16),
        encoder=EncoderOptions(conv_channels=4, layers=1, width=12, dropout=0.1),
        batches=BatchOptions(utterances=8),
        optim=OptimOptions(learning_rate=1e-2, warmup_steps=5),
        training=TrainingOptions(epochs=2, precision="float32", threads=1, average_decay=0.9),
    )
    return replace(base, **changes)
