"""Gradients against lags: norms against torch's own Jacobian, and the shapes that theory gives them."""

import numpy as np
import pytest
import torch

from asr.errors import DataError, UsageError
from asr.inspection.gradient import look
from asr.inspection.gradient_reach import (
    STATIONS,
    FreshOptions,
    GradientOptions,
    Reach,
    fresh_reach,
    jacobian_norms,
    trained_reach,
)
from asr.inspection.source import before_training, hear, through_layers
from asr.models.encoder import Encoder
from asr.models.package import load_model
from tests.inspection.networks import column, network, quiet, recording, saved

SHAPE = FreshOptions(width=4, inputs=3, context=2, layers=2)


def fresh_encoder(station: str, bidirectional: bool, seed: int = 1, shape: FreshOptions = SHAPE) -> Encoder:
    """Drawn as the look draws it: all weights from the seed."""
    torch.manual_seed(seed)
    return Encoder(shape.encoder(station, bidirectional), shape.inputs).double().eval()


def jacobian(encoder: Encoder, x: torch.Tensor) -> torch.Tensor:
    """(T, H, T, D) by torch: every output by every input, through the encoder's own forward pass. x: (T, D)."""
    lengths = torch.tensor([len(x)])
    return torch.autograd.functional.jacobian(lambda y: encoder(y[None], lengths)[0][0], x)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("station", STATIONS)
def test_norms_are_those_of_the_jacobian(station, bidirectional):
    encoder = fresh_encoder(station, bidirectional)
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(2)).double()

    def run(copies: torch.Tensor) -> torch.Tensor:
        return through_layers(encoder, copies, torch.full((len(copies),), copies.shape[1]))

    found = jacobian_norms(run, x[None], [0, 4, 8], directions=100, seed=1)
    expected = jacobian(encoder, x)[[0, 4, 8]].square().sum(dim=(1, 3)).sqrt().numpy()
    assert expected.max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)


def test_random_directions_estimate_the_square_without_bias():
    encoder = fresh_encoder("lstm", False)
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(2)).double()

    def run(copies: torch.Tensor) -> torch.Tensor:
        return through_layers(encoder, copies, torch.full((len(copies),), copies.shape[1]))

    exact = jacobian_norms(run, x[None], [5], directions=4, seed=0)[0] ** 2
    drawn = np.stack([jacobian_norms(run, x[None], [5], directions=2, seed=seed)[0] ** 2 for seed in range(300)])
    assert drawn.std(axis=0).max() > 0.05 * exact.max(), "two directions of four must differ from draw to draw"
    error = drawn.std(axis=0) / 300**0.5
    assert (np.abs(drawn.mean(axis=0) - exact) < 4 * error).all()


@pytest.mark.parametrize(("station", "bidirectional"), [("rnn", False), ("peepholes", True), ("mlp", True)])
def test_a_fresh_curve_is_the_mean_over_its_sequences(station, bidirectional):
    """The sequences, the middle or last frame, and each norm, by the Jacobian."""
    options = GradientOptions(out="x", lag=5, positions=3, seed=7, fresh=SHAPE)
    found = fresh_reach(station, bidirectional, options)
    encoder = fresh_encoder(station, bidirectional, seed=7)
    draw = torch.Generator().manual_seed(7)
    sequences = torch.randn(3, 11, 3, generator=draw, dtype=torch.float64)
    if not bidirectional:
        sequences = sequences[:, :6]
    norms = np.stack([jacobian(encoder, one)[5].square().sum(dim=(0, 2)).sqrt().numpy() for one in sequences])
    lags = list(range(-5 if bidirectional else 0, 6))
    assert list(found.lags) == lags
    by_lag = norms[:, [5 - lag for lag in lags]]
    np.testing.assert_allclose(found.norms, by_lag.mean(axis=0), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(found.least, by_lag.min(axis=0), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(found.most, by_lag.max(axis=0), rtol=1e-9, atol=1e-15)


@pytest.fixture(scope="module")
def curves() -> dict[str, Reach]:
    options = GradientOptions(out="x", lag=60, positions=2, fresh=FreshOptions(width=16, inputs=8, forget_bias=0.0, context=3))
    return {station: fresh_reach(station, False, options) for station in STATIONS}


def test_the_gradient_vanishes_in_a_recurrent_network_and_not_on_the_carrousel(curves):
    """Weights within +-0.1: sixteen cells shrink what comes back to less than a half each step, a forget gate to about a half,
    and the carrousel of 1997 hands it on."""
    recurrent, forget, carrousel = (curves[name].norms for name in ("rnn", "lstm", "lstm1997"))
    steps = np.log(recurrent[10:50] / recurrent[11:51])
    assert steps.min() > np.log(2), "the tanh network loses more than half at every step"
    halved = forget[20:50] / forget[21:51]
    assert halved.mean() == pytest.approx(2.0, abs=0.2)
    assert carrousel[60] > 0.3 * carrousel[20]
    assert recurrent[60] < 1e-15
    assert (curves["mlp"].norms[4:] == 0).all()
    assert (curves["mlp"].norms[:4] > 0).all()
    assert curves["mlp"].fades == 4


def test_forget_bias_and_start_values_are_used():
    shape = {"width": 8, "inputs": 4}
    kept = [
        fresh_reach("lstm", False, GradientOptions(out="x", lag=30, fresh=FreshOptions(forget_bias=bias, **shape))).norms[30]
        for bias in (0.0, 3.0)
    ]
    assert kept[1] > 1e6 * kept[0]
    drawn = [
        fresh_reach("rnn", False, GradientOptions(out="x", lag=5, fresh=FreshOptions(initialization=name, **shape))).norms
        for name in ("uniform", "orthogonal")
    ]
    assert drawn[1][5] > 1e3 * drawn[0][5]


def test_where_a_curve_fades():
    def reach(norms: list[float], first: int) -> Reach:
        values = np.array(norms)
        return Reach("x", "fresh", first < 0, np.arange(first, first + len(norms)), values, values, values, None)

    assert reach([1.0, 0.5, 0.02, 0.005, 0.001], 0).fades == 3
    assert reach([1.0, 0.005, 0.02, 0.005], 0).fades == 3
    assert reach([1.0, 0.5], 0).fades is None
    assert reach([8.0, 1.0, 0.05, 0.05], -1).fades == 1
    assert reach([8.0, 0.05, 0.05], -1).fades == 0
    assert reach([1.0, 0.5], 0).at(1) == 0.5
    assert reach([1.0, 0.5], 0).at(2) is None


@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_trained_network_is_measured_from_its_first_recurrent_layer_to_its_last(bidirectional, tmp_path):
    sound = recording(tmp_path)
    loaded = network(layers=2, width=4, peepholes=True, bidirectional=bidirectional)
    options = GradientOptions(out="x", lag=6, positions=3)
    found = trained_reach("one", "after training", loaded, sound, options)
    encoder = loaded.model.encoder.double()
    entering = hear(network(layers=2, width=4, peepholes=True, bidirectional=bidirectional), sound, options).entering.double()
    frames = entering.shape[1]
    lengths = torch.tensor([frames])
    every = torch.autograd.functional.jacobian(lambda x: through_layers(encoder, x[None], lengths)[0], entering[0])
    norms = every.square().sum(dim=(1, 3)).sqrt().numpy()
    last = frames - 1 - (6 if bidirectional else 0)
    times = [6, round((6 + last) / 2), last]
    lags = range(-6 if bidirectional else 0, 7)
    expected = np.array([[norms[t, t - lag] for lag in lags] for t in times])
    np.testing.assert_allclose(found.norms, expected.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.most, expected.max(axis=0), rtol=1e-6)
    assert found.frame_s == pytest.approx(0.02)


def test_before_training_is_the_network_of_the_runs_seed(tmp_path):
    sound = recording(tmp_path)
    began, ended = network(seed=5), network(seed=5)
    with torch.no_grad():
        for weight in ended.model.parameters():
            weight.mul_(1.5)
    loaded = load_model(saved(ended, tmp_path / "run", seed=5))
    first = before_training(loaded)
    for name, weight in type(began.model)(began.model.options, vocabulary=5, seed=5).named_parameters():
        assert torch.equal(dict(first.model.named_parameters())[name], weight)
    assert torch.equal(first.model.normalizer.global_std, ended.model.normalizer.global_std)
    report = look(GradientOptions(out="x", models=[str(tmp_path / "run")], lag=5, positions=2), [sound.audio_filepath], quiet)
    table = report.tables[1]
    for state, net in (("before training", first), ("after training", load_model(tmp_path / "run"))):
        expected = trained_reach("", "", net, sound, GradientOptions(out="x", lag=5, positions=2))
        rows = [row for row in table.rows if row[1] == state]
        assert [row[3] for row in rows] == [*range(-5, 6)]
        np.testing.assert_allclose([row[5] for row in rows], expected.norms, rtol=1e-9)
        np.testing.assert_allclose([row[4] for row in rows], 0.02 * np.arange(-5, 6))


def test_the_report_says_what_the_curves_say():
    options = GradientOptions(out="x", stations=["rnn", "lstm1997"], readings=["forward"], lag=12, positions=2, fresh=SHAPE)
    report = look(options, [], quiet)
    overview, every = report.tables
    for station in ("rnn", "lstm1997"):
        curve = fresh_reach(station, False, options)
        rows = [row for row in every.rows if row[0] == STATIONS[station][0]]
        np.testing.assert_allclose([row[5] for row in rows], curve.norms)
        np.testing.assert_allclose([row[8] for row in rows], curve.norms / curve.norms[0])
        (short,) = [row for row in overview.rows if row[0] == STATIONS[station][0]]
        assert short[3:] == (*(curve.at(lag) for lag in (0, 1, 2, 5, 10)), curve.fades)
    assert set(column(every, "reading")) == {"forward-only"}
    assert report.summary.count("\n") == 1


def test_a_recording_too_short_is_refused(tmp_path):
    loaded = network()
    with pytest.raises(DataError, match=r"has 10 frames, too few for positions=9; choose a longer recording"):
        trained_reach("x", "", loaded, recording(tmp_path, 0.2), GradientOptions(out="x", positions=9))
    short = trained_reach("x", "", loaded, recording(tmp_path, 0.2), GradientOptions(out="x", positions=2))
    assert list(short.lags) == [*range(-4, 5)], "the lags are cut to what the recording has room for"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lag": 0}, "lag=0 is out of range: use a whole number from 1 to 2000"),
        ({"positions": 65}, "positions=65 is out of range"),
        ({"directions": 0}, "directions=0 is out of range"),
        ({"stations": []}, r"stations=\[\]: expected some of mlp, rnn, relu"),
        ({"stations": ["rnn", "rnn"]}, r"stations=\[rnn,rnn\]: name each once"),
        ({"readings": ["backward"]}, r"readings=\[backward\]: expected some of forward, bidirectional"),
        ({"model": "a", "models": ["b"]}, "model= and models= are given together"),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(UsageError, match=message):
        GradientOptions(out="x", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 9}, "fresh.layers=9 is out of range: use a whole number from 1 to 8"),
        ({"width": 0}, "fresh.width=0 is out of range"),
        ({"context": -1}, "fresh.context=-1 is out of range"),
        ({"initialization": "zero"}, "fresh.initialization=zero is not known: choose orthogonal or uniform"),
        ({"forget_bias": 1e3}, "fresh.forget_bias=1000.0 is out of range"),
    ],
)
def test_wrong_shapes_are_named(changes, message):
    with pytest.raises(UsageError, match=message):
        FreshOptions(**changes)


def test_fewer_directions_are_an_estimate():
    exact, drawn = (
        fresh_reach("rnn", False, GradientOptions(out="x", lag=4, positions=2, directions=count, fresh=SHAPE)).norms
        for count in (64, 1)
    )
    assert 0.01 < np.abs(drawn / exact - 1).max() < 3


@pytest.mark.parametrize("changes", [{"stations": ["rnn"]}, {"readings": ["forward"]}, {"fresh": SHAPE}])
def test_what_chooses_fresh_networks_is_refused_with_trained_ones(changes):
    (name,) = changes
    with pytest.raises(UsageError, match=f"{name}= is set, and it chooses fresh networks, while trained ones are given"):
        look(GradientOptions(out="x", models=["a"], **changes), ["a.wav"], quiet)


def test_networks_and_recordings_belong_together():
    with pytest.raises(UsageError, match="trained networks need a recording to be measured on"):
        look(GradientOptions(out="x", models=["a"]), [], quiet)
    with pytest.raises(UsageError, match="a recording needs trained networks to hear it"):
        look(GradientOptions(out="x"), ["a.wav"], quiet)
