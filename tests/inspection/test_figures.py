"""Figures: a PNG that is the same each time and looks as it was drawn, and axes that name what they show."""

import io

import numpy as np
import pytest
from PIL import Image

from asr.features.filterbank import FeatureOptions, mel_centres_hz, mel_filters
from asr.inspection.figures import COLOURS, DPI, cell_edges, dash, draw_spectrogram, new_figure, png, shown_symbol


def drawn() -> tuple[bytes, np.ndarray]:
    """A spectrogram under lines in every colour: the file, and the pixels that matplotlib drew."""
    figure = new_figure(6.0, 4.0)
    upper, lower = figure.subplots(2, 1)
    draw_spectrogram(upper, np.random.default_rng(0).random((50, 20)), np.arange(50) * 0.01, np.geomspace(100, 7000, 20))
    for place, colour in enumerate(COLOURS):
        lower.plot([0, 1], [place, place + 1], color=colour, linestyle=dash(place))
    file = png(figure)
    raw = io.BytesIO()
    figure.savefig(raw, dpi=DPI, format="png")
    return file, np.asarray(Image.open(raw).convert("RGB")).astype(int)


def test_the_file_is_small_the_same_each_time_and_looks_as_drawn():
    file, pixels = drawn()
    assert drawn()[0] == file
    shown = np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(int)
    assert shown.shape == pixels.shape == (4 * DPI, 6 * DPI, 3)
    assert np.abs(shown - pixels).max() <= 40
    assert np.mean(np.abs(shown - pixels).max(axis=2) > 12) < 0.01
    for colour in COLOURS:
        wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
        assert np.abs(shown - wanted).max(axis=2).min() <= 12, colour


def test_the_frequency_axis_names_its_filters():
    """A tick of so many kHz stands where the filter of that frequency is; the filters stand a row apart."""
    options = FeatureOptions(num_bins=40)
    hz = mel_centres_hz(options)
    peaks = mel_filters(options, 4096).argmax(axis=0) * options.sample_rate / 4096
    np.testing.assert_allclose(hz, peaks, atol=options.sample_rate / 4096)
    figure = new_figure(4.0, 3.0)
    axes = figure.subplots()
    draw_spectrogram(axes, np.zeros((9, 40)), np.arange(9) * 0.01, hz)
    figure.canvas.draw()
    ticks = {label.get_text(): place for place, label in zip(axes.get_yticks(), axes.get_yticklabels())}
    assert {"0.25", "1", "4"} <= set(ticks)
    for text, place in ticks.items():
        below = int(place)
        assert hz[below] <= 1000 * float(text) <= hz[min(below + 1, 39)]
    assert axes.get_xlim() == pytest.approx((-0.005, 0.085))


def test_edges_and_symbols():
    assert cell_edges([0.1, 0.2, 0.3]) == pytest.approx([0.05, 0.15, 0.25, 0.35])
    assert cell_edges([2.0]) == pytest.approx([1.5, 2.5])
    assert shown_symbol(" ") == "␣"
    assert shown_symbol("$x") == r"\$x"
