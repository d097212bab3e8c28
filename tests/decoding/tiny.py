"""A tiny model with random weights that says something about any sound, and tones to say it about."""

import json
from pathlib import Path

import numpy as np
import soundfile
import torch

from asr.features.filterbank import FeatureOptions
from asr.features.normalize import NormalizeOptions
from asr.models.encoder import EncoderOptions
from asr.models.model import ModelOptions, SpeechModel
from asr.models.package import save_model
from asr.text.tokenizer import Tokenizer, TokenOptions

RATE = 8000


def save_babbler(
    folder: Path, *, unit: str = "characters", seed: int = 1, mean: str = "utterance", variance: str = "global"
) -> Path:
    """Large output weights make the best symbol change every few frames, so that no transcript is empty by accident."""
    options = ModelOptions(
        features=FeatureOptions(sample_rate=RATE, num_bins=16),
        normalize=NormalizeOptions(mean=mean, variance=variance),
        encoder=EncoderOptions(conv_channels=4, layers=1, width=8),
    )
    tokenizer = Tokenizer.build(["ab c de"] if unit == "characters" else ["AA B CH D"], TokenOptions(unit=unit))
    model = SpeechModel(options, vocabulary=len(tokenizer), seed=seed)
    with torch.no_grad():
        model.head.linear.weight.mul_(10.0)
        if variance == "global":
            model.normalizer.global_std.fill_(3.0)
    save_model(folder / "model", model, tokenizer)
    return folder


def tone_burst(seconds: float, seed: int) -> np.ndarray:
    """Tones of changing pitch and loudness, (N,) float32."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pieces = np.array_split(time, max(1, round(seconds / 0.15)))
    sounds = [draw.uniform(0.02, 0.6) * np.sin(2 * np.pi * draw.uniform(150, 3500) * piece) for piece in pieces]
    return (np.concatenate(sounds) + draw.normal(0, 0.003, len(time))).astype(np.float32)


def write_speech(folder: Path) -> Path:
    """Ten recordings and their manifest.jsonl; lengths are mixed, so batches differ from the order of lines."""
    lines = []
    for number, seconds in enumerate([0.5, 2.0, 0.3, 1.1, 0.7, 1.6, 0.9, 1.3, 0.4, 1.9]):
        samples = tone_burst(seconds, number)
        name = f"u{number}"
        soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="PCM_16")
        duration = len(samples) / RATE
        lines.append(
            {"id": name, "audio_filepath": f"{name}.wav", "duration": duration, "speaker": f"s{number % 3}", "text": "a b"}
        )
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
