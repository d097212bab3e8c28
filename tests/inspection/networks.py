"""Small networks with large random weights, which say something about any sound, and a sound to say it about."""

from pathlib import Path

import numpy as np
import soundfile
import torch

from asr.data.manifest import Utterance
from asr.features.filterbank import FeatureOptions
from asr.features.normalize import NormalizeOptions
from asr.inspection.source import WHOLE
from asr.models.encoder import EncoderOptions
from asr.models.model import ModelOptions, SpeechModel
from asr.models.package import LoadedModel, save_model
from asr.text.tokenizer import Tokenizer, TokenOptions
from tests.decoding.tiny import RATE, tone_burst


def network(features: dict | None = None, *, seed: int = 1, **encoder) -> LoadedModel:
    """Of 8 kHz sound and the symbols a, b, c and the space; `features` and `encoder` change its options."""
    options = ModelOptions(
        features=FeatureOptions(**{"sample_rate": RATE, "num_bins": 12, **(features or {})}),
        normalize=NormalizeOptions(mean="utterance", variance="global"),
        encoder=EncoderOptions(**{"conv_channels": 3, "layers": 1, "width": 6, **encoder}),
    )
    tokenizer = Tokenizer.build(["a b c"], TokenOptions())
    model = SpeechModel(options, vocabulary=len(tokenizer), seed=seed)
    with torch.no_grad():
        model.head.linear.weight.mul_(10.0)
        draw = torch.Generator().manual_seed(seed)
        model.normalizer.global_std.copy_(1.0 + 2.0 * torch.rand(len(model.normalizer.global_std), generator=draw))
        for layer in model.encoder.layers:
            for name, weight in layer.named_parameters():
                weight.add_(0.3 * torch.randn(weight.shape, generator=draw))
                assert weight.abs().max() > 0, name
    return LoadedModel(model.eval(), tokenizer, {}, Path())


def recording(folder: Path, seconds: float = 0.8, *, seed: int = 3) -> Utterance:
    path = folder / f"tones{seed}.wav"
    soundfile.write(path, tone_burst(seconds, seed), RATE, subtype="PCM_16")
    return Utterance(str(path), str(path), duration=WHOLE)


def saved(loaded: LoadedModel, folder: Path, **notes) -> Path:
    """The network as a run directory."""
    save_model(folder / "model", loaded.model, loaded.tokenizer, notes=notes)
    return folder


def quiet(text: str) -> None:
    """Takes what a look has to say, and keeps it to itself."""


def column(table, name: str) -> np.ndarray:
    return np.array([row[table.columns.index(name)] for row in table.rows])
