"""The whole recogniser: padding, lengths, times, seeds."""

from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.features.filterbank import FeatureOptions
from asr.features.normalize import NormalizeOptions
from asr.models.ctc import ctc_loss
from asr.models.encoder import TIME_STRIDES, EncoderOptions
from asr.models.model import ModelOptions, SpeechModel


def build(*, seed: int | None = 1, **encoder) -> SpeechModel:
    options = ModelOptions(
        features=FeatureOptions(sample_rate=8000, num_bins=8),
        encoder=EncoderOptions(**{"conv_channels": 2, "layers": 2, "width": 5, **encoder}),
    )
    return SpeechModel(options, vocabulary=6, seed=seed)


def noise(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    waveforms = torch.randn(len(lengths), max(lengths), generator=draw).mul(0.1)
    for row, length in enumerate(lengths):
        waveforms[row, length:] = 0
    return waveforms, torch.tensor(lengths)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(("frontend", "conditioned"), [("conv", 0), ("stack", 0), ("conv", 1)])
def test_alone_and_in_a_batch_give_the_same_log_probabilities(frontend, conditioned, grad):
    model = build(frontend=frontend, subsampling=3, self_conditioned=conditioned).eval()
    waveforms, lengths = noise(4000, 1, 0, 700, 2345, 3999)
    with torch.set_grad_enabled(grad):
        together = model(waveforms, lengths)
        assert together.log_probs.dtype == torch.float32
        assert together.lengths.tolist() == [model.emission_length(length) for length in lengths.tolist()]
        for row, length in enumerate(lengths.tolist()):
            alone = model(waveforms[row : row + 1, :length], lengths[row : row + 1])
            frames = model.emission_length(length)
            assert alone.log_probs.shape == (1, frames, 6)
            assert torch.allclose(alone.log_probs[0], together.log_probs[row, :frames], rtol=0, atol=1e-4)


@given(samples=st.integers(0, 1500), subsampling=st.sampled_from(tuple(TIME_STRIDES)), shift=st.sampled_from([5.0, 10.0, 12.5]))
@settings(max_examples=25, deadline=None)
def test_emission_length_is_what_forward_gives(samples, subsampling, shift):
    options = ModelOptions(
        features=FeatureOptions(sample_rate=8000, num_bins=4, frame_shift_ms=shift),
        encoder=EncoderOptions(conv_channels=1, layers=1, width=1, subsampling=subsampling),
    )
    model = SpeechModel(options, vocabulary=2).eval()
    with torch.no_grad():
        emissions = model(torch.zeros(1, samples), torch.tensor([samples]))
    assert emissions.log_probs.shape[1] == int(emissions.lengths) == model.emission_length(samples)


@pytest.mark.parametrize(
    ("frontend", "subsampling", "first"), [("conv", 1, 5), ("conv", 4, 5), ("stack", 1, 5), ("stack", 4, 20)]
)
def test_times_of_frames(frontend, subsampling, first):
    emissions = build(frontend=frontend, subsampling=subsampling).eval()(*noise(3000))
    assert emissions.frame_shift_s == pytest.approx(0.010 * subsampling)
    assert emissions.first_frame_s == pytest.approx(0.001 * first)


def test_same_seed_same_numbers():
    state = torch.get_rng_state()
    first, second, third = build(seed=5), build(seed=5), build(seed=6)
    assert torch.equal(torch.get_rng_state(), state)
    weights = dict(first.named_parameters())
    assert len(weights) > 10
    assert all(torch.equal(weight, dict(second.named_parameters())[name]) for name, weight in weights.items())
    assert not torch.equal(first.head.linear.weight, third.head.linear.weight)
    torch.manual_seed(3)
    drawn = build(seed=None)
    torch.manual_seed(3)
    assert torch.equal(drawn.head.linear.weight, build(seed=None).head.linear.weight)
    assert not torch.equal(torch.get_rng_state(), state)


def test_a_training_step_repeats_bit_by_bit_and_reaches_every_weight():
    def gradients() -> dict[str, torch.Tensor]:
        model = build(seed=4).train()
        torch.manual_seed(11)
        emissions = model(*noise(3000, 2000))
        losses = ctc_loss(emissions.log_probs, emissions.lengths, torch.tensor([[1, 2], [3, 3]]), torch.tensor([2, 2]))
        losses.mean().backward()
        return {name: weight.grad for name, weight in model.named_parameters()}

    first, second = gradients(), gradients()
    assert len(first) > 10
    for name, grad in first.items():
        assert grad.abs().sum() > 0, name
        assert torch.equal(grad, second[name]), name


def test_masks_and_speaker_statistics_are_applied():
    options = ModelOptions(
        FeatureOptions(sample_rate=8000, num_bins=8),
        NormalizeOptions(mean="speaker", variance="speaker"),
        EncoderOptions(conv_channels=2, layers=1, width=4),
    )
    model = SpeechModel(options, vocabulary=3, seed=1).eval()
    plain = model(*noise(3000)).log_probs
    cmvn = torch.stack([torch.zeros(1, 8), torch.full((1, 8), 3.0)], dim=1)
    assert not torch.allclose(model(*noise(3000), cmvn=cmvn).log_probs, plain)
    masked = model(*noise(3000), spec_augment=lambda features, lengths: features * 0).log_probs
    assert not torch.allclose(masked, plain)


def test_uniform_start_values_are_those_of_the_whole_network():
    """As Graves, Mohamed and Hinton (2013) draw them: every weight within 0.1 of zero, the output layer's and the biases too."""
    model = build(initialization="uniform", forget_bias=0.0, frontend="stack", subsampling=1, layer_norm=False)
    weights = torch.cat([weight.flatten() for weight in model.parameters()])
    assert weights.abs().max() <= 0.1
    assert weights.abs().max() > 0.0999
    assert model.head.linear.bias.abs().max() > 0
    assert build().head.linear.bias.abs().max() == 0


def test_parameter_count_by_hand():
    model = build(layers=1, width=5, layer_norm=False, bidirectional=False)
    conv = (2 * 9 + 2) + (2 * 2 * 9 + 2)
    lstm = 4 * 5 * (2 * 2 + 5 + 1)
    assert model.parameter_count() == conv + lstm + (5 * 6 + 6)
    assert {field.name for field in fields(ModelOptions)} == {"features", "normalize", "encoder"}
