"""What a step minimises: consistency against its formula and torch's divergence, the middle output, options, and a training."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from asr.batches.dataset import Batch
from asr.errors import UsageError
from asr.features.augment import AugmentOptions
from asr.features.filterbank import FeatureOptions
from asr.models.ctc import ctc_loss
from asr.models.encoder import EncoderOptions
from asr.models.expected_edits import expected_edits
from asr.models.model import Emissions, ModelOptions, SpeechModel
from asr.training.metrics import read_metrics
from asr.training.objective import Objective, ObjectiveOptions, consistency
from asr.training.train import train

LENGTHS = (8000, 5000, 7000)
MASKS = AugmentOptions(frequency_masks=1, frequency_width=8, time_masks=2, time_width=0.2, start_epoch=0)
NO_MASKS = AugmentOptions(frequency_masks=0, time_masks=0)


@pytest.fixture
def model() -> SpeechModel:
    return build()


def build(**encoder) -> SpeechModel:
    options = EncoderOptions(conv_channels=3, layers=2, width=6, dropout=0.0, **encoder)
    return SpeechModel(ModelOptions(features=FeatureOptions(num_bins=16), encoder=options), vocabulary=5, seed=1)


def make_batch(rows: tuple[int, ...] = (0, 1, 2)) -> Batch:
    draw = torch.Generator().manual_seed(4)
    waveforms = 0.1 * torch.randn(3, max(LENGTHS), generator=draw)
    lengths = torch.tensor(LENGTHS)
    waveforms[torch.arange(max(LENGTHS)) >= lengths.unsqueeze(1)] = 0.0
    tokens = torch.tensor([[1, 2, 3], [4, 4, 0], [2, 1, 0]])
    picked = list(rows)
    longest = max(LENGTHS[row] for row in rows)
    return Batch(
        [f"u{row}" for row in rows],
        waveforms[picked, :longest],
        lengths[picked],
        tokens[picked],
        torch.tensor([3, 2, 2])[picked],
        torch.tensor([11, 12, 13])[picked],
        None,
    )


def losses(model: SpeechModel, batch: Batch, augment: AugmentOptions, *, epoch: int = 0, **options) -> Tensor:
    objective = Objective(ObjectiveOptions(**options), encoder=model.options.encoder, features=model.options.features)
    return objective.losses(model, batch, augment, nullcontext, epoch=epoch)


def test_consistency_is_the_symmetric_divergence_and_teachers_learn_nothing():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 7, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    log_probs = logits.log_softmax(dim=2)
    lengths = torch.tensor([7, 4, 7, 4])
    ours = consistency(Emissions(log_probs, lengths, 0.02, 0.0))
    first, second = log_probs.chunk(2)
    for row, length in enumerate((7, 4)):
        a, b = first[row, :length], second[row, :length]
        expected = F.kl_div(a, b.detach(), reduction="sum", log_target=True) + F.kl_div(
            b, a.detach(), reduction="sum", log_target=True
        )
        assert float(ours[row].detach()) == pytest.approx(float(expected.detach()) / 2)
        mine = torch.autograd.grad(ours[row], logits, retain_graph=True)[0]
        assert torch.allclose(mine, torch.autograd.grad(expected / 2, logits, retain_graph=True)[0])
        assert (mine[row, length:] == 0).all()


def test_without_options_it_is_ctc(model):
    batch = make_batch()
    emissions = model(batch.waveforms, batch.waveform_lengths)
    plain = ctc_loss(emissions.log_probs, emissions.lengths, batch.tokens, batch.token_lengths)
    assert torch.equal(losses(model, batch, NO_MASKS), plain)
    assert torch.allclose(losses(model, batch, NO_MASKS, consistency=0.2), plain)  # two equal views agree


def test_two_views_are_masked_independently_and_disagree(model):
    batch = make_batch()
    once, twice = losses(model, batch, MASKS), losses(model, batch, MASKS, consistency=0.2)
    more = losses(model, batch, MASKS, consistency=0.4)
    assert once.shape == twice.shape == (3,)
    assert (more > twice).all()
    assert not torch.allclose(once, twice - (more - twice))
    assert torch.equal(twice, losses(model, batch, MASKS, consistency=0.2))


def test_before_its_epoch_consistency_costs_nothing(model, monkeypatch):
    """One view until then, two from then on: counted where the encoder is called."""
    batch, heard = make_batch(), []
    forward = SpeechModel.forward
    monkeypatch.setattr(
        SpeechModel, "forward", lambda self, waves, *rest, **more: heard.append(len(waves)) or forward(self, waves, *rest, **more)
    )
    late = {"consistency": 0.2, "consistency_start_epoch": 2}
    assert torch.equal(losses(model, batch, MASKS, epoch=1, **late), losses(model, batch, MASKS))
    assert torch.equal(losses(model, batch, MASKS, epoch=2, **late), losses(model, batch, MASKS, consistency=0.2))
    assert heard == [3, 3, 6, 6]


@pytest.mark.parametrize("conditioned", [0, 1])
def test_the_middle_output_has_its_share(conditioned):
    model, batch = build(self_conditioned=conditioned), make_batch()
    emissions = model(batch.waveforms, batch.waveform_lengths, middle_layer=1)
    assert emissions.middle.shape == emissions.log_probs.shape
    assert not torch.allclose(emissions.middle, emissions.log_probs)
    parts = [
        ctc_loss(log_probs, emissions.lengths, batch.tokens, batch.token_lengths)
        for log_probs in (emissions.log_probs, emissions.middle)
    ]
    ours = losses(model, batch, NO_MASKS, intermediate=0.3)
    assert torch.allclose(ours, 0.7 * parts[0] + 0.3 * parts[1])
    assert model(batch.waveforms, batch.waveform_lengths).middle is None


def test_expected_edits_have_their_share_of_the_last_layer(model):
    batch = make_batch()
    emissions = model(batch.waveforms, batch.waveform_lengths, middle_layer=1)
    given = (emissions.lengths, batch.tokens, batch.token_lengths)
    nats, middle = (ctc_loss(log_probs, *given) for log_probs in (emissions.log_probs, emissions.middle))
    edits = expected_edits(emissions.log_probs, *given, batch.seeds, paths=5)
    assert torch.allclose(losses(model, batch, NO_MASKS, expected_edits=0.9, paths=5), 0.1 * nats + 0.9 * edits)
    both = losses(model, batch, NO_MASKS, expected_edits=0.9, paths=5, intermediate=0.3)
    assert torch.allclose(both, 0.7 * (0.1 * nats + 0.9 * edits) + 0.3 * middle)
    assert not torch.allclose(losses(model, batch, NO_MASKS, expected_edits=0.9, paths=6), 0.1 * nats + 0.9 * edits)


@pytest.mark.parametrize(
    "options",
    [
        {"consistency": 0.2},
        {"intermediate": 0.3},
        {"consistency": 0.2, "intermediate": 0.3},
        {"consistency": 0.2, "expected_edits": 0.9, "paths": 200},
    ],
)
@pytest.mark.parametrize("conditioned", [0, 1])
def test_alone_is_in_a_padded_batch(conditioned, options):
    model = build(self_conditioned=conditioned if "intermediate" in options else 0)
    together = losses(model, make_batch(), MASKS, **options)
    for row in range(3):
        assert torch.allclose(losses(model, make_batch((row,)), MASKS, **options)[0], together[row], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"consistency": -0.1}, "objective.consistency=-0.1 is out of range"),
        ({"consistency_start_epoch": -1}, "objective.consistency_start_epoch must not be negative, got -1"),
        ({"intermediate": 1.0}, "objective.intermediate=1.0 is out of range"),
        ({"intermediate_layer": -1}, "objective.intermediate_layer must not be negative, got -1"),
        ({"expected_edits": 1.1}, "objective.expected_edits=1.1 is out of range: use a share from 0 to 1"),
        ({"paths": 0}, "objective.paths=0 is out of range: use a number from 1 to 10000"),
    ],
)
def test_a_wrong_option_is_named(options, words):
    with pytest.raises(UsageError, match=f"^{words}"):
        ObjectiveOptions(**options)


def test_the_middle_must_lie_below_the_last_layer(config):
    five = EncoderOptions(layers=5)
    assert ObjectiveOptions(intermediate=0.3).layer(five) == 2
    assert ObjectiveOptions(intermediate=0.3, intermediate_layer=4).layer(five) == 4
    assert ObjectiveOptions(intermediate_layer=4).layer(EncoderOptions(layers=1)) == 0
    with pytest.raises(UsageError, match=r"objective\.intermediate=0\.3 with encoder\.layers=1: .* objective\.intermediate=0"):
        replace(config, objective=ObjectiveOptions(intermediate=0.3))
    with pytest.raises(UsageError, match=r"objective\.intermediate_layer=5 with encoder\.layers=5: the middle"):
        ObjectiveOptions(intermediate=0.3, intermediate_layer=5).layer(five)
    for layers, words in ((1, "none below it; use .*=0 objective"), (2, "use 0 .* or a layer below")):
        with pytest.raises(UsageError, match=rf"encoder\.self_conditioned=2 with encoder\.layers={layers}: .*{words}"):
            EncoderOptions(layers=layers, self_conditioned=2)


def test_the_middle_is_what_the_layers_above_read():
    conditioned = EncoderOptions(layers=5, self_conditioned=3)
    assert ObjectiveOptions(intermediate=0.3).layer(conditioned) == 3
    assert ObjectiveOptions(intermediate=0.3, intermediate_layer=3).layer(conditioned) == 3
    with pytest.raises(UsageError, match=r"^objective\.intermediate_layer=2 with encoder\.self_conditioned=3: the middle"):
        ObjectiveOptions(intermediate=0.3, intermediate_layer=2).layer(conditioned)
    with pytest.raises(UsageError, match=r"^encoder\.self_conditioned=3 with objective\.intermediate=0: nothing would teach"):
        ObjectiveOptions().layer(conditioned)


def test_views_are_warped_apart(model):
    """With a warp alone the two views differ, each as its own seed says."""
    warp = AugmentOptions(frequency_warp=0.2)
    batch = make_batch()
    assert not torch.allclose(losses(model, batch, warp), losses(model, batch, NO_MASKS), rtol=1e-3)
    assert (losses(model, batch, warp, consistency=0.4) > losses(model, batch, warp, consistency=0.2)).all()


def test_cepstra_cannot_be_warped(config):
    warp = replace(config.augment, frequency_warp=0.1)
    assert replace(config, augment=warp).augment.frequency_warp == 0.1
    with pytest.raises(UsageError, match=r"augment\.frequency_warp=0\.1 does not go with features\.kind=mfcc"):
        replace(config, augment=warp, features=replace(config.features, kind="mfcc", num_ceps=8))


def test_a_training_with_all_of_them_learns(config):
    encoder = replace(config.encoder, layers=2, self_conditioned=1)
    objective = ObjectiveOptions(consistency=0.2, intermediate=0.3, expected_edits=0.2)
    assert train(replace(config, encoder=encoder, objective=objective, training=replace(config.training, epochs=3))) == 0
    lines = read_metrics(Path(config.run_dir) / "metrics.jsonl")
    assert len(lines) == 3
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
