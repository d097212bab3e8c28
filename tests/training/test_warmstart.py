"""Starting from another model: what belongs to a symbol goes to the same symbol."""

from types import SimpleNamespace

import torch

from asr.features.filterbank import FeatureOptions
from asr.models.encoder import EncoderOptions
from asr.models.model import ModelOptions, SpeechModel
from asr.training.warmstart import copy_matching

OLD, NEW = ["<blank>", "a", "b", "c"], ["<blank>", "c", "d", "a", "e"]


def build(symbols: list[str], seed: int) -> SpeechModel:
    encoder = EncoderOptions(conv_channels=2, layers=2, width=4, self_conditioned=1)
    return SpeechModel(ModelOptions(features=FeatureOptions(num_bins=8), encoder=encoder), vocabulary=len(symbols), seed=seed)


def test_output_layers_go_by_symbol():
    source, target, fresh = build(OLD, 1), build(NEW, 2), build(NEW, 2).state_dict()
    told = copy_matching(source, target, SimpleNamespace(symbols=NEW), SimpleNamespace(symbols=OLD))
    old, new = source.state_dict(), target.state_dict()
    heads = [f"{place}linear.{kind}" for place in ("head.", "encoder.condition.head.") for kind in ("weight", "bias")]
    pairs = [(name, old[name], new[name], fresh[name]) for name in heads]
    back = "encoder.condition.back.weight"
    pairs.append((back, old[back].T, new[back].T, fresh[back].T))
    for name, before, after, begun in pairs:
        for place, symbol in enumerate(NEW):
            assert torch.equal(after[place], before[OLD.index(symbol)] if symbol in OLD else begun[place]), name
        assert f"{name} (2 new symbols)" in told
    assert all(torch.equal(new[name], old[name]) for name in old if name not in {pair[0] for pair in pairs})
    assert told.startswith(f"init: {len(old)} of {len(old)} tensors copied; fresh: ")
    assert "not used" not in told
