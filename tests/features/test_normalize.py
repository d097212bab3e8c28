import math

import numpy as np
import pytest
import torch

from asr.errors import DataError, UsageError
from asr.features.filterbank import FeatureExtractor, FeatureOptions
from asr.features.normalize import SCOPES, NormalizeOptions, Normalizer, StatisticsAccumulator, fit_global

LENGTHS = torch.tensor([30, 1, 0, 17])


def example(padding=0.0, size=5):
    draws = torch.Generator().manual_seed(3)
    features = torch.randn(4, 30, size, generator=draws) * torch.linspace(0.5, 3, size) - 12
    features[torch.arange(30) >= LENGTHS[:, None]] = padding
    return features


def rows(features):
    return [row[:length].double().numpy() for row, length in zip(features, LENGTHS.tolist())]


def fitted(options, features, cmvn=None):
    normalizer = Normalizer(options, features.shape[2])
    halves = [slice(0, 2), slice(2, 4)]
    fit_global(normalizer, [(features[half], LENGTHS[half], None if cmvn is None else cmvn[half]) for half in halves])
    return normalizer


@pytest.mark.parametrize("variance", SCOPES)
@pytest.mark.parametrize("mean", SCOPES)
def test_each_scope_against_its_definition(mean, variance):
    features = example(padding=math.nan)
    cmvn = torch.stack([torch.full((4, 5), -11.0), torch.full((4, 5), 1.7)], dim=1)
    cmvn[3] = math.nan
    normalizer = fitted(NormalizeOptions(mean=mean, variance=variance), features, cmvn)
    normalised = normalizer(features, LENGTHS, cmvn)

    def centre(row, utterance):
        own = utterance.mean(0) if len(utterance) else np.zeros(5)
        speaker = np.full(5, -11.0) if row != 3 else own
        total = np.concatenate(rows(features)).mean(0)
        return {"none": np.zeros(5), "utterance": own, "global": total, "speaker": speaker}[mean]

    everything = np.concatenate([utterance - centre(row, utterance) for row, utterance in enumerate(rows(features))])
    for row, (ours, utterance) in enumerate(zip(normalised, rows(features))):
        length = len(utterance)
        own = utterance.std(0) if length > 1 else np.ones(5)
        speaker = np.full(5, 1.7) if row != 3 else own
        scale = {"none": np.ones(5), "utterance": own, "global": everything.std(0), "speaker": speaker}[variance]
        expected = (utterance - centre(row, utterance)) / scale
        np.testing.assert_allclose(ours[:length].numpy(), expected, atol=2e-5, rtol=1e-5)
        assert (ours[length:] == 0).all()


@pytest.mark.parametrize("scope", ["utterance", "speaker", "global"])
def test_padding_and_neighbours_change_nothing(scope):
    features = example(padding=7.0)
    normalizer = fitted(NormalizeOptions(mean=scope, variance=scope), features)
    together = normalizer(torch.nn.functional.pad(features, (0, 0, 0, 9), value=math.inf), LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = normalizer(features[row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(together[row, :length], alone[0], atol=1e-5, rtol=0)
        assert (together[row, length:] == 0).all()


@pytest.mark.parametrize("scope", ["utterance", "speaker", "global"])
def test_constant_features_are_not_divided(scope):
    # Digital silence, and one recording after it whose every frame is silent too: the variance is zero in each dimension.
    extractor = FeatureExtractor(FeatureOptions(num_bins=8, energy=True, deltas=1))
    features, lengths = extractor(torch.zeros(2, 4000), torch.tensor([4000, 2000]))
    normalizer = Normalizer(NormalizeOptions(mean=scope, variance=scope), 18)
    fit_global(normalizer, [(features, lengths)])
    cmvn = torch.zeros(2, 2, 18)
    cmvn[:, 0] = features[:, 0]
    normalised = normalizer(features, lengths, cmvn)
    assert normalised.isfinite().all()
    assert normalised.abs().max() < 1e-3


def test_speaker_without_statistics_falls_back_to_the_utterance():
    features = example()
    by_speaker = Normalizer(NormalizeOptions(mean="speaker", variance="speaker"), 5)
    by_utterance = Normalizer(NormalizeOptions(mean="utterance", variance="utterance"), 5)
    expected = by_utterance(features, LENGTHS)
    assert torch.equal(by_speaker(features, LENGTHS), expected)
    assert torch.equal(by_speaker(features, LENGTHS, torch.full((4, 2, 5), math.nan)), expected)
    known = torch.ones(4, 2, 5)
    assert not torch.equal(by_speaker(features, LENGTHS, known), expected)


def test_statistics_are_saved_with_the_module():
    features = example()
    normalizer = fitted(NormalizeOptions(mean="global", variance="global"), features)
    assert set(normalizer.state_dict()) == {"global_mean", "global_std"}
    other = Normalizer(normalizer.options, 5)
    assert not torch.equal(other(features, LENGTHS), normalizer(features, LENGTHS))
    other.load_state_dict(normalizer.state_dict())
    assert torch.equal(other(features, LENGTHS), normalizer(features, LENGTHS))


def test_needs_speakers():
    assert NormalizeOptions(mean="speaker").needs_speakers
    assert NormalizeOptions(variance="speaker").needs_speakers
    assert not NormalizeOptions().needs_speakers


def test_works_in_float64_and_under_autocast():
    features = example()
    normalizer = fitted(NormalizeOptions(), features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        single = normalizer(features, LENGTHS)
    double = normalizer.double()(features.double(), LENGTHS)
    assert single.dtype == torch.float32
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, atol=1e-5, rtol=1e-5)


def test_accumulator_keeps_speakers_apart_and_precision():
    # A large offset: with sums of squares in float32 the standard deviation would be lost.
    features = example(padding=math.nan) + 1e4
    speakers = StatisticsAccumulator()
    speakers.add(features, LENGTHS, ["a", "b", "c", "a"])
    speakers.add(features[:2], LENGTHS[:2], ["b", "b"])
    assert speakers.keys() == ["a", "b", "c"]
    first, second, _, fourth = rows(features)
    for key, parts in {"a": [first, fourth], "b": [second, first, second]}.items():
        frames = np.concatenate(parts)
        mean, std = speakers.statistics(key).numpy()
        assert speakers.frames(key) == len(frames)
        np.testing.assert_allclose(mean, frames.mean(0), rtol=1e-6)
        np.testing.assert_allclose(std, frames.std(0), rtol=1e-5)
    assert speakers.frames("c") == 0
    assert speakers.statistics("c").isnan().all()
    assert speakers.frames("nobody") == 0


def test_fit_refuses_nothing_and_nan():
    normalizer = Normalizer(NormalizeOptions(), 5)
    for batches in ([], [(torch.zeros(2, 0, 5), torch.tensor([0, 0]))]):
        with pytest.raises(DataError, match="expected frames"):
            fit_global(normalizer, batches)
    broken = example()
    broken[0, 3, 1] = math.nan
    with pytest.raises(DataError, match="not finite"):
        fit_global(normalizer, [(broken, LENGTHS)])
    assert torch.equal(normalizer.global_std, torch.ones(5))


@pytest.mark.parametrize("name", ["mean", "variance"])
def test_wrong_scope_is_named(name):
    with pytest.raises(UsageError, match=f"normalize.{name}=corpus: expected one of none, utterance, speaker, global"):
        NormalizeOptions(**{name: "corpus"})
