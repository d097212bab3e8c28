"""Gates: what the picture shows against the equations of each cell, written out once more, and against the decoder."""

import numpy as np
import pytest
import torch

from asr.decoding.greedy import greedy_decode
from asr.errors import UsageError
from asr.inspection.gates import GatesOptions, look, watch
from asr.inspection.source import enter, hear
from asr.models.package import LoadedModel
from tests.inspection.networks import column, network, quiet, recording, saved

CELLS = {
    "rnn": {"cell": "rnn", "activation": "relu"},
    "gru": {"cell": "gru"},
    "lstm": {},
    "lstm1997": {"forget_gate": False},
    "peepholes": {"peepholes": True},
    "peepholes1997": {"forget_gate": False, "peepholes": True},
    "coupled": {"coupled": True, "peepholes": True},
    "self-conditioned": {"self_conditioned": 1},
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return recording(tmp_path_factory.mktemp("sound"))


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_hand(name: str, weights: dict[str, np.ndarray], x: np.ndarray) -> dict[str, np.ndarray]:
    """Every gate of one direction over x (T, D), step by step from the papers' equations, in numpy: each (T, H)."""
    width = weights["weight_rec"].shape[1]
    hidden, cell = np.zeros(width), np.zeros(width)
    rows: list[dict[str, np.ndarray]] = []
    for frame in x:
        w, u, b = (weights[part].reshape(-1, width, *weights[part].shape[1:]) for part in ("weight_in", "weight_rec", "bias"))
        sums = [wi @ frame + ui @ hidden + bi for wi, ui, bi in zip(w, u, b)]
        if name == "rnn":
            hidden = np.maximum(sums[0], 0)
            rows.append({"hidden": hidden})
            continue
        if name == "gru":
            reset, update = logistic(sums[0]), logistic(sums[1])
            candidate = np.tanh(w[2] @ frame + b[2] + reset * (u[2] @ hidden + weights["bias_rec"]))
            hidden = (1 - update) * candidate + update * hidden
            rows.append({"reset": reset, "update": update, "candidate": candidate, "hidden": hidden})
            continue
        peep = list(weights.get("peephole", np.zeros((3, width))))
        row = {"input": logistic(sums[0] + peep[0] * cell)}
        if name in ("lstm", "peepholes", "self-conditioned"):
            row["forget"] = logistic(sums[1] + peep[1] * cell)
            keep = row["forget"]
        else:
            keep = 1 - row["input"] if name == "coupled" else 1.0
            if name == "coupled":
                row["forget"] = keep
        row["candidate"] = np.tanh(sums[-2])
        cell = keep * cell + row["input"] * row["candidate"]
        row["output"] = logistic(sums[-1] + peep[-1] * cell)
        hidden = row["output"] * np.tanh(cell)
        rows.append({**row, "cell": cell, "hidden": hidden})
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def entering_last(loaded: LoadedModel, heard) -> np.ndarray:
    """(T', E) what the last layer of two sees, by the layers' own forward pass."""
    encoder = loaded.model.encoder
    with torch.no_grad():
        x, lengths = enter(encoder, heard.features, heard.lengths)
        x = encoder.layers[0](encoder.norms[0](x), lengths)
        if encoder.self_conditioned:
            x = x + encoder.condition.back(encoder.condition.head(x).exp())
        return encoder.norms[1](x)[0].double().numpy()


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", CELLS)
def test_gates_and_states_are_those_of_the_equations(name, direction, sound):
    loaded = network(layers=2, width=5, **CELLS[name])
    options = GatesOptions(out="x", layer=2, direction=direction, cells=[5, 2])
    heard = hear(loaded, sound, options)
    watched = watch(loaded, heard, options)
    layer = loaded.model.encoder.layers[1]
    cell = layer.ahead if direction == "forward" else layer.back
    weights = {key: value.detach().double().numpy() for key, value in cell.named_parameters()}
    x = entering_last(loaded, heard)
    expected = by_hand(name, weights, x if direction == "forward" else x[::-1])
    if direction == "backward":
        expected = {key: value[::-1] for key, value in expected.items()}
    assert (watched.layer, watched.cells, watched.backward) == (2, (5, 2), direction == "backward")
    assert set(watched.values) == set(expected)
    for key, value in expected.items():
        assert value.std() > 0.01, key
        np.testing.assert_allclose(watched.values[key], value[:, [4, 1]], atol=2e-5)


def test_a_feed_forward_layer_shows_its_outputs(sound):
    loaded = network(cell="mlp", context=1)
    options = GatesOptions(out="x", cells=[3])
    heard = hear(loaded, sound, options)
    watched = watch(loaded, heard, options)
    assert set(watched.values) == {"hidden"}
    with torch.no_grad():
        outputs = loaded.model.encoder(heard.features, heard.lengths)[0][0].numpy()
    np.testing.assert_allclose(watched.values["hidden"][:, 0], outputs[:, 2], atol=1e-6)
    with pytest.raises(UsageError, match="direction=backward: the network reads forward only, or has no recurrence"):
        watch(loaded, heard, GatesOptions(out="x", direction="backward"))


def test_the_most_active_cells_are_those_that_move_most_within_the_window(sound):
    loaded = network(width=9)
    for begin, end in ((0.0, 0.0), (0.0, 0.2), (0.5, 0.7)):
        options = GatesOptions(out="x", count=4, begin=begin, end=end)
        heard = hear(loaded, sound, options)
        with torch.no_grad():
            outputs = loaded.model.encoder(heard.features, heard.lengths)[0][0, :, :9].double().numpy()
        inside = (heard.times >= begin) & (heard.times <= (end or 9))
        moves = outputs[inside].std(axis=0)
        assert watch(loaded, heard, options).cells == tuple(np.argsort(-moves)[:4] + 1)


def test_the_report_holds_gates_labels_and_posteriors_in_seconds(sound, tmp_path):
    loaded = network(features={"frame_shift_ms": 8.0}, subsampling=3)
    folder = saved(loaded, tmp_path / "run")
    report = look(GatesOptions(out="x", model=str(folder), begin=0.1, end=0.5, cells=[1, 4]), [sound.audio_filepath], quiet)
    _, labels, gates, posteriors = report.tables
    with torch.no_grad():
        heard = hear(loaded, sound, GatesOptions(out="x"))
        said = loaded.model(torch.from_numpy(heard.waveform)[None], torch.tensor([len(heard.waveform)]))
    log_probs = said.log_probs[0].double().numpy()
    times = said.first_frame_s + said.frame_shift_s * np.arange(len(log_probs))
    assert said.frame_shift_s == pytest.approx(0.024)
    inside = (times >= 0.1) & (times <= 0.5)
    np.testing.assert_allclose(column(posteriors, "time_s"), times[inside])
    found = np.array([row[2:] for row in posteriors.rows])
    np.testing.assert_allclose(found, np.exp(log_probs[inside]), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert posteriors.columns[2:] == ("blank", *loaded.tokenizer.symbols[1:])
    spoken = greedy_decode(
        log_probs, lambda ids: "".join(loaded.tokenizer.decode(ids)), frame_shift_s=0.024, first_frame_s=said.first_frame_s
    )
    assert len(labels.rows) == len(spoken.tokens) > 2
    assert list(column(labels, "label")) == [loaded.tokenizer.symbols[token] for token in spoken.tokens]
    np.testing.assert_allclose(column(labels, "time_s").astype(float), spoken.times)
    assert len(gates.rows) == 2 * inside.sum()
    assert set(column(gates, "cell")) == {1, 4}
    for name in ("input gate", "forget gate", "output gate"):
        values = column(gates, name)
        assert values.min() > 0
        assert values.max() < 1
    assert report.pictures[0].png.startswith(b"\x89PNG")


def test_a_fresh_network_is_looked_into(sound):
    options = GatesOptions(out="x", seed=4, layer=1)
    options.encoder.cell, options.encoder.width, options.encoder.layers = "rnn", 7, 2
    report = look(options, [sound.audio_filepath], quiet)
    facts = dict(report.facts)
    assert facts["network"] == "a fresh network (seed 4): rnn (tanh), 2 x 7, bidirectional"
    assert facts["looked into"].startswith("layer 1 of 2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": -1}, "layer=-1 is out of range: layers are counted from 1"),
        ({"direction": "up"}, "direction=up is not known: choose one of forward, backward"),
        ({"count": 15}, "count=15 with 0 cells: one picture shows 1 to 14"),
        ({"cells": [2, 2]}, r"cells=\[2, 2\]: expected different numbers"),
        ({"count": 2, "cells": [1]}, r"count=2 and cells=\[1\] are given together"),
        ({"seed": -1}, "seed=-1 is out of range"),
        ({"begin": 2.0, "end": 1.0}, "begin=2 end=1: expected 0 <= begin < end"),
        ({"id": "x"}, "id=x names an utterance of a manifest: add manifest=FILE"),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(UsageError, match=message):
        GatesOptions(out="x", **changes)


def test_what_draws_a_fresh_network_is_refused_with_a_trained_one(sound, tmp_path):
    folder = str(saved(network(), tmp_path / "run"))
    with pytest.raises(UsageError, match="seed=4 draws the weights of a fresh network, and model= brings its own"):
        look(GatesOptions(out="x", model=folder, seed=4), [sound.audio_filepath], quiet)
    options = GatesOptions(out="x", model=folder)
    options.encoder.layers = 2
    with pytest.raises(UsageError, match=r"encoder.\* gives the shape of a fresh network, and model= brings its own"):
        look(options, [sound.audio_filepath], quiet)


def test_a_layer_or_cell_that_is_not_there_is_named(sound):
    loaded = network()
    heard = hear(loaded, sound, GatesOptions(out="x"))
    with pytest.raises(UsageError, match="layer=3: the network has 1"):
        watch(loaded, heard, GatesOptions(out="x", layer=3))
    with pytest.raises(UsageError, match=r"cells=\[2, 7\]: layer 1 has cells 1 to 6"):
        watch(loaded, heard, GatesOptions(out="x", cells=[2, 7]))
