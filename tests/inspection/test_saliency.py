"""Saliency: gradients against finite differences, shares that add up, and a picture of what was asked for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from asr.errors import UsageError
from asr.features.filterbank import FeatureExtractor, FeatureOptions, mel_centres_hz
from asr.inspection.saliency import SaliencyOptions, choose, look, middle
from asr.inspection.saliency_shares import Asked, Loudness, added_features, explain, mean_gradients, probes, way_points
from asr.inspection.source import hear, mel_extractor
from tests.decoding.tiny import RATE, tone_burst
from tests.inspection.networks import column, network, quiet, recording, saved

KINDS = {
    "fbank": {},
    "energy and derivatives": {"energy": True, "deltas": 2},
    "cepstra": {"kind": "mfcc", "num_ceps": 7, "deltas": 1},
    "cepstra with energy": {"kind": "mfcc", "num_ceps": 7, "energy": True},
}
ENCODERS = {
    "lstm": {},
    "peepholes, stacked frames": {"frontend": "stack", "peepholes": True, "layers": 2},
    "recurrent, forward": {"cell": "rnn", "bidirectional": False, "subsampling": 3},
    "feed-forward": {"cell": "mlp", "context": 2},
    "self-conditioned": {"layers": 2, "self_conditioned": 1},
}


#: No kinks and no normalisation: few places on the way are enough to integrate exactly.
SMOOTH = {"frontend": "stack", "layer_norm": False, "subsampling": 4}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return recording(tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def long_sound(tmp_path_factory):
    return recording(tmp_path_factory.mktemp("sound"), 2.5)


def heard_by(loaded, sound):
    return hear(loaded, sound, SaliencyOptions(out="x"))


def log_posteriors(loaded, features: torch.Tensor) -> torch.Tensor:
    """By the encoder's own forward pass, in float64."""
    model = loaded.model.double()
    hidden, _ = model.encoder(features, torch.full((len(features),), features.shape[1]))
    return model.head(hidden)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_gradient_is_that_of_finite_differences(name, sound):
    loaded = network(**ENCODERS[name])
    heard = heard_by(loaded, sound)
    asked = [Asked(1, 2, 3), Asked(2, 0, len(heard.times) - 1)]
    x = heard.features[0].double()
    run = lambda copies: log_posteriors(loaded, copies)  # noqa: E731
    found = mean_gradients(run, torch.zeros_like(x), x, asked, places=np.ones(1), weights=np.ones(1))
    draw = np.random.default_rng(0)
    near = [int(one.frame * loaded.model.encoder.subsampling) for one in asked]
    frames = [max(0, min(len(x) - 1, place + offset)) for place in near for offset in range(-7, 8)]
    cells = [(frame, int(draw.integers(x.shape[1]))) for frame in frames]
    step = 1e-6
    with torch.no_grad():
        moved = torch.stack([x + step * sign * _one(x, *cell) for cell in cells for sign in (1, -1)])
        both = run(moved).reshape(len(cells), 2, -1, len(loaded.tokenizer))
    for row, one in enumerate(asked):
        slopes = (both[:, 0, one.frame, one.token] - both[:, 1, one.frame, one.token]) / (2 * step)
        ours = torch.stack([found[row][cell] for cell in cells])
        assert slopes.abs().max() > 1e-3
        assert float((ours - slopes).abs().max()) < 1e-6 * max(1.0, float(slopes.abs().max()))


def _one(x: torch.Tensor, frame: int, size: int) -> torch.Tensor:
    """Zero but for one cell."""
    e = torch.zeros_like(x)
    e[frame, size] = 1.0
    return e


@pytest.mark.parametrize("name", KINDS)
def test_features_are_linear_in_what_is_added(name):
    """The difference of two sounds in features is what their difference in energies adds; by the features' own code."""
    options = FeatureOptions(sample_rate=RATE, num_bins=12, **KINDS[name])
    sounds = [torch.from_numpy(tone_burst(0.6, seed)).double()[None] for seed in (1, 2)]
    lengths = torch.tensor([sounds[0].shape[1]])
    scale = 0.5 + torch.arange(FeatureExtractor(options).output_size, dtype=torch.float64)
    one, other = (FeatureExtractor(options).double()(each, lengths)[0][0] / scale for each in sounds)
    mel = [mel_extractor(options).double()(each, lengths)[0][0] for each in sounds]
    with_energy = FeatureExtractor(replace(options, kind="fbank", deltas=0, energy=True)).double()
    energy = [with_energy(each, lengths)[0][0, :, 0] for each in sounds]
    added = added_features(Loudness(mel[0] - mel[1], energy[0] - energy[1]), options, scale)
    assert added.shape == one.shape
    assert float((one - other).abs().max()) > 0.1
    assert float((added - (one - other)).abs().max()) < 1e-9


@pytest.mark.parametrize("background", ["quiet", "mean"])
@pytest.mark.parametrize("name", KINDS)
def test_the_shares_add_up_to_what_the_sound_changes(name, background, sound):
    loaded = network(KINDS[name], **SMOOTH)
    heard = heard_by(loaded, sound)
    asked = [Asked(0, token, frame) for token in range(3) for frame in (0, 9, len(heard.times) - 1)]
    found = explain(loaded, heard, asked, method="integrated", background=background, stretches=512)
    assert len(found) == 9
    changes = [one.heard - one.alone for one in found]
    assert max(map(abs, changes)) > 0.5
    for one, change in zip(found, changes):
        assert one.missed == pytest.approx(change - one.shares.sum() - one.frame_energy.sum(), abs=1e-9)
        assert abs(one.missed) < 0.002 * max(abs(change), 1.0)
        assert one.heard == pytest.approx(float(heard.log_probs[one.asked.frame, one.asked.token]), abs=1e-4)
        assert one.shares.shape == heard.logmel.shape
        assert one.frame_energy.any() == ("energy" in KINDS[name])


def test_the_shares_of_a_network_with_kinks_come_closer_to_their_sum(sound):
    """Convolutions with ReLU and layer normalisation, wild weights: the more stretches the less is missed."""
    loaded = network()
    heard = heard_by(loaded, sound)
    asked = [Asked(0, token, frame) for token in range(3) for frame in (0, 9)]
    changes, missed = [], []
    for stretches in (4, 300):
        found = explain(loaded, heard, asked, method="integrated", background="quiet", stretches=stretches)
        changes.append([one.heard - one.alone for one in found])
        missed.append([one.missed for one in found])
    assert changes[0] == changes[1]
    few, many = np.abs(missed)
    assert many.mean() < 0.2 * few.mean()
    assert many.mean() < 0.1 * np.abs(changes).mean()


def test_the_background_is_heard_where_nothing_is(sound):
    """`alone` is what the network says of a recording that is at every frame as the filter is at its quietest twentieth."""
    loaded = network()
    heard = heard_by(loaded, sound)
    for background, level in (("quiet", np.percentile(heard.logmel, 5, axis=0)), ("mean", heard.logmel.mean(axis=0))):
        (found,) = explain(loaded, heard, [Asked(0, 1, 4)], method="integrated", background=background, stretches=4)
        still = heard.features.double() + torch.from_numpy(level - heard.logmel) / heard.scale.double()
        assert still[0].std(dim=0).max() < 1e-5
        with torch.no_grad():
            assert found.alone == pytest.approx(float(log_posteriors(loaded, still)[0, 4, 1]), abs=1e-9)


def test_integrated_gradients_are_the_mean_of_many_gradients(sound):
    """A plain mean over 3,000 even places, by torch's own Jacobian, against 128 places of our choice."""
    loaded = network(cell="rnn", **SMOOTH)
    heard = heard_by(loaded, sound)
    one = Asked(0, 2, 5)
    (found,) = explain(loaded, heard, [one], method="integrated", background="quiet", stretches=64)
    added = torch.from_numpy(heard.logmel - np.percentile(heard.logmel, 5, axis=0)) / heard.scale.double()
    start = heard.features[0].double() - added
    places = ((torch.arange(3000) + 0.5) / 3000).double()[:, None, None]
    total = torch.zeros_like(added)
    for part in places.split(300):
        copies = start + part * added
        jacobian = torch.autograd.functional.jacobian(lambda x: log_posteriors(loaded, x)[:, 5, 2].sum(), copies)
        total += jacobian.sum(dim=0) / 3000
    expected = (added * total).numpy()
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(found.shares, expected, atol=0.005 * np.abs(expected).max())


def test_gradient_times_input_is_exact_for_a_linear_network():
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 7, 4, generator=draw).double()
    run = lambda x: torch.einsum("btd,vtd->bv", x, weights)[:, None]  # noqa: E731
    start, added = torch.randn(2, 7, 4, generator=draw).double()
    asked = [Asked(0, token, 0) for token in range(3)]
    for places, points in (way_points(np.random.default_rng(0).random((len(probes()), 3)), 5), (np.ones(1), np.ones(1))):
        found = mean_gradients(run, start, added, asked, places=places, weights=points)
        assert torch.allclose(found, weights, rtol=0, atol=1e-12)


def test_padding_changes_no_gradient(sound):
    """The same recording at the head of a longer batch with noise behind it: the same shares, and nothing from the noise."""
    loaded = network(frontend="conv", peepholes=True, layers=2)
    heard = heard_by(loaded, sound)
    x = heard.features[0].double()
    model = loaded.model.double()

    def padded(copies: torch.Tensor) -> torch.Tensor:
        hidden, _ = model.encoder(copies, torch.full((len(copies),), len(x)))
        return model.head(hidden)

    longer = torch.cat([x, 100 * torch.ones(17, x.shape[1]).double()])
    asked = [Asked(0, 1, len(heard.times) - 1), Asked(0, 3, 6)]
    alone = mean_gradients(padded, torch.zeros_like(x), x, asked, places=np.ones(1), weights=np.ones(1))
    found = mean_gradients(padded, torch.zeros_like(longer), longer, asked, places=np.ones(1), weights=np.ones(1))
    assert float(alone.abs().max()) > 1e-3
    assert torch.allclose(found[:, : len(x)], alone, rtol=0, atol=1e-12)
    assert (found[:, len(x) :] == 0).all()


@pytest.mark.parametrize("stretches", [1, 6])
def test_places_integrate_cubics_exactly_wherever_they_are(stretches):
    """Gauss's rule with two points on each stretch."""
    seen = np.cumsum(np.random.default_rng(2).standard_normal((len(probes()), 2)) ** 3, axis=0)
    places, weights = way_points(seen, stretches)
    assert len(places) == 2 * stretches
    assert (places > 0).all()
    assert (places < 1).all()
    for power in range(4):
        assert weights @ places**power == pytest.approx(1 / (power + 1))


def test_places_stand_where_the_log_posterior_changes():
    step = 1 / (1 + np.exp(-(probes() - 0.3) / 0.01))
    places, _ = way_points(step[:, None], 20)
    assert 0.4 < np.mean(np.abs(places - 0.3) < 0.05) < 0.7
    assert max(np.diff(np.sort(places))) < 0.12


# --- what is asked for, and what is shown


def test_labels_are_those_decoded(long_sound):
    loaded = network()
    heard = heard_by(loaded, long_sound)
    said: list[str] = []
    every = choose(heard, loaded.tokenizer, SaliencyOptions(out="x"), said.append)
    spoken = heard.hypothesis
    assert len(spoken.tokens) > 8
    assert [one.token for one in every] == list(spoken.tokens[:8])
    assert [heard.times[one.frame] for one in every] == pytest.approx(spoken.times[:8])
    assert [one.number for one in every] == [*range(1, 9)]
    assert said == [
        f"the first 8 of {len(spoken.tokens)} labels are explained; choose others with labels=[...] or begin= and end="
    ]
    chosen = choose(heard, loaded.tokenizer, SaliencyOptions(out="x", labels=[9, 2]), quiet)
    assert [one.number for one in chosen] == [9, 2]
    late = choose(heard, loaded.tokenizer, SaliencyOptions(out="x", begin=0.4), quiet)
    assert late[0].number == 1 + int(np.flatnonzero(np.array(spoken.times) >= 0.4)[0])


def test_any_symbol_at_any_time(sound):
    loaded = network()
    heard = heard_by(loaded, sound)
    for symbol, token in (("b", 3), ("space", 1), ("blank", 0)):
        (one,) = choose(heard, loaded.tokenizer, SaliencyOptions(out="x", symbol=symbol, time=0.31), quiet)
        assert (one.number, one.token) == (0, token)
        assert abs(heard.times[one.frame] - 0.31) <= heard.frame_shift_s / 2
        (likeliest,) = choose(heard, loaded.tokenizer, SaliencyOptions(out="x", symbol=symbol), quiet)
        assert heard.log_probs[likeliest.frame, token] == heard.log_probs[:, token].max()


def test_the_report_says_what_the_arrays_say(sound, tmp_path):
    folder = saved(network(KINDS["energy and derivatives"]), tmp_path / "run")
    options = SaliencyOptions(out="x", model=str(folder), labels=[2, 4], begin=0.1, end=0.6, stretches=40)
    report = look(options, [sound.audio_filepath], quiet)
    assert [picture.name for picture in report.pictures] == ["saliency"]
    assert report.pictures[0].png.startswith(b"\x89PNG")
    labels, every = report.tables
    loaded = network(KINDS["energy and derivatives"])
    heard = heard_by(loaded, sound)
    asked = choose(heard, loaded.tokenizer, options, quiet)
    found = explain(loaded, heard, asked, method="integrated", background="quiet", stretches=40)
    assert list(column(labels, "number")) == [2, 4]
    for name, values in {
        "log_posterior": [one.heard for one in found],
        "background_alone": [one.alone for one in found],
        "sum_of_shares": [one.total for one in found],
        "missed": [one.missed for one in found],
        "frame_energy": [one.frame_energy.sum() for one in found],
    }.items():
        assert column(labels, name) == pytest.approx(values, abs=1e-9), name
    assert column(labels, "for") + column(labels, "against") + column(labels, "frame_energy") == pytest.approx(
        column(labels, "sum_of_shares")
    )
    inside = (heard.logmel_times >= 0.1) & (heard.logmel_times <= 0.6)
    assert len(every.rows) == 2 * inside.sum()
    for one in found:
        rows = [row for row in every.rows if row[0] == one.asked.number]
        np.testing.assert_allclose([row[5:] for row in rows], one.shares[inside], atol=1e-12)
        np.testing.assert_allclose([row[4] for row in rows], heard.logmel_times[inside])
    shown_hz = [float(name.removesuffix(" Hz")) for name in every.columns[5:]]
    np.testing.assert_allclose(shown_hz, mel_centres_hz(loaded.model.options.features), atol=0.051)
    assert report.summary.count("\n") == 1
    assert "label 2 " in report.summary


def test_gradient_at_the_end_alone_is_another_method(sound, tmp_path):
    folder = str(saved(network(), tmp_path / "run"))
    sums = {}
    for method in ("integrated", "gradient"):
        said: list[str] = []
        report = look(
            SaliencyOptions(out="x", model=folder, labels=[1], method=method, background="mean"),
            [sound.audio_filepath],
            said.append,
        )
        sums[method] = column(report.tables[0], "sum_of_shares")[0]
        assert not said
    assert abs(sums["integrated"] - sums["gradient"]) > 0.01
    with pytest.raises(UsageError, match="stretches= is set, and method=gradient looks at one place of the way: leave it out"):
        look(SaliencyOptions(out="x", model=folder, method="gradient", stretches=9), [sound.audio_filepath], quiet)


def test_too_few_stretches_are_told(long_sound, tmp_path):
    folder = str(saved(network(), tmp_path / "run"))
    said: list[str] = []
    options = SaliencyOptions(out="x", model=folder, stretches=1, labels=[1, 2, 3, 4, 5, 6])
    report = look(options, [long_sound.audio_filepath], said.append)
    missed = np.abs(column(report.tables[0], "missed"))
    changes = np.abs(column(report.tables[0], "log_posterior") - column(report.tables[0], "background_alone"))
    assert len(said) == np.sum(missed > 0.05 * np.maximum(changes, 0.1)) > 0
    assert "stretches=4 comes closer" in said[0]


def test_a_fresh_network_is_seeded_and_shaped(sound):
    facts = {}
    for seed, cell in ((1, "rnn"), (2, "gru")):
        options = SaliencyOptions(out="x", symbol="e", seed=seed, stretches=2)
        options.encoder = replace(options.encoder, cell=cell, width=8, layers=1)
        report = look(options, [sound.audio_filepath], quiet)
        facts[cell] = dict(report.facts)["network"]
    assert facts["rnn"].startswith("a fresh network (seed 1): rnn (tanh), 1 x 8")
    assert facts["gru"].startswith("a fresh network (seed 2): gru, 1 x 8")


def test_where_the_middle_lies():
    centres = np.arange(10) * 0.1
    assert middle(np.eye(10)[4], centres) == pytest.approx((0.4, 0.4))
    assert middle(np.ones(10), centres) == pytest.approx((0.0, 0.8), abs=0.11)
    assert middle(np.zeros(10), centres) == pytest.approx((0.9, 0.9))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0]}, r"labels=\[0\]: expected at most 8 different numbers"),
        ({"labels": [3, 3]}, "expected at most 8 different numbers"),
        ({"labels": [*range(1, 10)]}, "expected at most 8 different numbers"),
        ({"labels": [1], "symbol": "a"}, "are given together"),
        ({"time": 0.3}, "time=0.3 says where a symbol is explained: add symbol=SYMBOL"),
        ({"symbol": "a", "time": float("nan")}, "time=nan is out of range"),
        ({"method": "smooth"}, "method=smooth is not known: choose integrated or gradient"),
        ({"background": "zero"}, "background=zero is not known: choose quiet or mean"),
        ({"stretches": 0}, "stretches=0 is out of range"),
        ({"seed": -1}, "seed=-1 is out of range"),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(UsageError, match=message):
        SaliencyOptions(out="x", **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [500]}, r"labels=\[500\]: the decoded labels of tones3.wav are 1 to"),
        ({"symbol": "z"}, "symbol=z is none of the network's: choose from   a b c, blank"),
        ({"symbol": "a", "time": 9.0}, "time=9 lies beyond the recording, which ends at 0.8"),
        ({"begin": 5.0}, "begin=5 end=0: no frame lies there"),
    ],
)
def test_what_is_not_there_is_named(changes, message, sound):
    loaded = network()
    heard = heard_by(loaded, sound)
    with pytest.raises(UsageError, match=message):
        choose(heard, loaded.tokenizer, SaliencyOptions(out="x", **changes), quiet)


def test_a_network_that_says_nothing_wants_a_symbol(sound):
    loaded = network()
    with torch.no_grad():
        loaded.model.head.linear.bias[0] = 1e3
    heard = heard_by(loaded, sound)
    with pytest.raises(UsageError, match=r"nothing is decoded in tones3.wav: name a symbol to explain, symbol=SYMBOL"):
        choose(heard, loaded.tokenizer, SaliencyOptions(out="x"), quiet)
