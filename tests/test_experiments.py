"""The experiments in configs/: each can be put together, and what follows a paper has the size that the paper gives."""

import pytest

from asr.cli.arguments import Arguments
from asr.cli.describe import group_choices
from asr.config import compose_config
from asr.models.model import ModelOptions, SpeechModel
from asr.training.options import TrainConfig


def compose(*words: str) -> TrainConfig:
    return compose_config("train", Arguments(overrides=list(words)), TrainConfig)


@pytest.mark.parametrize("name", group_choices("experiment"))
def test_it_can_be_put_together(name: str):
    config = compose(f"experiment={name}")
    assert config != compose()
    assert config.training.epochs > 1


@pytest.mark.parametrize(
    ("words", "millions"),
    [
        (("encoder.layers=1",), 0.8),
        (("encoder.layers=1", "encoder.width=622"), 3.8),
        (("encoder.layers=2",), 2.3),
        (("encoder.bidirectional=false", "encoder.width=421"), 3.8),
        ((), 3.8),
        (("encoder.layers=5",), 6.8),
    ],
)
def test_the_networks_of_graves_2013_have_the_weights_of_its_table_1(words: tuple[str, ...], millions: float):
    """61 phones and the blank; the paper rounds to tenths of a million."""
    config = compose("experiment=timit_graves2013", *words)
    options = ModelOptions(features=config.features, normalize=config.normalize, encoder=config.encoder)
    model = SpeechModel(options, vocabulary=62, seed=1)
    assert model.features.output_size == 123
    assert round(sum(weight.numel() for weight in model.parameters()) / 1e6, 1) == millions
    recurrent = [weight for name, weight in model.named_parameters() if not name.startswith("head.")]
    assert all(float(weight.detach().abs().max()) <= 0.1 for weight in recurrent)


def test_graves_2013_trains_as_the_paper_says():
    config = compose("experiment=timit_graves2013", "training.weight_noise=0.075")
    assert (config.optim.optimizer, config.optim.schedule, config.optim.learning_rate, config.optim.momentum) == (
        "sgd",
        "constant",
        1e-4,
        0.9,
    )
    assert (config.batches.utterances, config.optim.weight_decay, config.encoder.dropout, config.augment.speed) == (
        1,
        0,
        0,
        [1.0],
    )
    assert (config.normalize.mean, config.normalize.variance, config.tokens.phone_set) == ("global", "global", "timit61")
    assert (config.encoder.peepholes, config.encoder.forget_gate, config.encoder.layer_norm) == (True, True, False)
