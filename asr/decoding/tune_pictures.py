"""What tuning has tried and found, as two pictures and a table."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from asr.decoding.calibrate import BINS, Calibration, bin_rows
from asr.decoding.tune import Trial, Tuning

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
#: colours of the surface end at this error rate above the best one, so that the valley can be seen; a fraction of the best
SPAN = 0.5


def table(tuning: Tuning) -> str:
    """The best settings with their error rates, one per line."""
    rows = [("setting", "lm_weight", "insertion_bonus", "blank_penalty", "beam", "mbr", f"{tuning.unit} errors", "rate")]
    named: list[tuple[str, Trial | None]] = [("greedy", tuning.greedy)]
    if tuning.without.weights.decoder != "greedy":
        named.append((f"{tuning.without.weights.decoder}, no language model", tuning.without))
    named += [("with the language model", tuning.with_lm), ("chosen", tuning.best)]
    for name, trial in named:
        if trial is not None:
            rows.append((name, *_numbers(trial), f"{trial.total} of {trial.tokens}", f"{100 * trial.error_rate:.2f} %"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows)


def draw_surface(tuning: Tuning, *, title: str) -> bytes:
    """PNG: the error rate over language-model weight and insertion bonus, and over the beam of the best of them."""
    figure = _figure(11, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    searched = tuning.with_lm is not None
    weights = (tuning.with_lm or tuning.without).weights
    shown = {"mbr": 0.0, "blank_penalty": weights.blank_penalty}  # one point has one rate
    likeliest = [one for one in tuning.trials if shown.items() <= vars(one.weights).items()]
    trials = [one for one in likeliest if one.weights.decoder != "greedy" and one not in tuning.beams]
    if searched:
        _plane(figure, left, [one for one in trials if one.weights.lm_weight > 0], tuning.unit)
        left.set(
            xlabel="lm_weight", ylabel=f"insertion_bonus (nats per {tuning.unit})", title="Weight and bonus, at the default beam"
        )
    else:
        ordered = sorted(trials, key=lambda one: one.weights.insertion_bonus)
        left.plot([one.weights.insertion_bonus for one in ordered], [100 * one.error_rate for one in ordered], "o-", color=BLUE)
        left.set(
            xlabel=f"insertion_bonus (nats per {tuning.unit})",
            ylabel=f"{tuning.unit} error rate (%)",
            title="Without a language model",
        )
    if searched:
        name = ", with ".join(["best", *(f"{key}={value:g}" for key in shown if (value := getattr(weights, key)))])
        star = {"color": "white", "markeredgecolor": "black", "markersize": 16, "clip_on": False}
        left.plot(weights.lm_weight, weights.insertion_bonus, "*", label=name, **star)
        left.legend(loc="upper right", fontsize=9)
    _beams(right, tuning)
    figure.suptitle(title)
    return _png(figure)


def draw_calibration(calibration: Calibration, *, title: str) -> bytes:
    """PNG: the share of right words against their confidence, as found and mapped, and how many words have which confidence."""
    figure = _figure(6.4, 6.2)
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    top.plot([0, 1], [0, 1], ":", color=GREY, label="as it should be")
    kinds = (
        (calibration.confidences, calibration.error_before, BLUE, "o-", "as found"),
        (calibration.mapped, calibration.error_after, ORANGE, "s--", "mapped (by other speakers)"),
    )
    for confidences, error, colour, style, name in kinds:
        rows = bin_rows(confidences)
        points = [(confidences[one].mean(), calibration.right[one].mean()) for one in rows]
        label = f"{name}: calibration error {100 * (error or 0):.1f} %"
        top.plot(*np.array(points).T, style, color=colour, label=label)
        edges = np.linspace(0, 1, BINS + 1)
        counts, _ = np.histogram(confidences, edges)
        bottom.stairs(counts, edges, color=colour, linestyle=style[1:], linewidth=1.6)
    top.set(ylabel="share of right words", ylim=(0, 1.02), title=title)
    top.legend(fontsize=9, loc="upper left")
    bottom.set(xlabel="confidence of the word", ylabel="words", xlim=(0, 1))
    for axes in (top, bottom):
        axes.grid(alpha=0.25)
    return _png(figure)


def _numbers(trial: Trial) -> tuple[str, ...]:
    if trial.weights.decoder == "greedy":
        return "-", "-", "-", "-", "-"
    weights = trial.weights
    switched = (weights.lm_weight, weights.blank_penalty, weights.mbr)
    lm_weight, penalty, mbr = (f"{value:g}" if value else "off" for value in switched)
    return lm_weight, f"{weights.insertion_bonus:g}", penalty, f"{weights.beam}", mbr


def _plane(figure: Figure, axes: Axes, trials: list[Trial], unit: str) -> None:
    """Colours between the points that were tried; the points themselves as dots."""
    across = np.array([one.weights.lm_weight for one in trials])
    up = np.array([one.weights.insertion_bonus for one in trials])
    rates = np.array([100 * one.error_rate for one in trials])
    top = min(rates.max(), rates.min() * (1 + SPAN) + 0.1)
    levels = np.linspace(rates.min(), top + 1e-6, 15)
    filled = axes.tricontourf(across, up, np.minimum(rates, top), levels=levels, cmap="viridis_r")
    axes.plot(across, up, ".", color="black", markersize=3, clip_on=False)
    bar = figure.colorbar(filled, ax=axes, format="%.1f")
    more = "" if rates.max() <= top else f", {top:.0f} and above in one colour"
    bar.set_label(f"{unit} error rate (%{more})")


def _beams(axes: Axes, tuning: Tuning) -> None:
    if not tuning.beams:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "greedy search is as good:\nno beam is needed", ha="center", va="center")
        return
    widths = [one.weights.beam for one in tuning.beams]
    axes.plot(widths, [100 * one.error_rate for one in tuning.beams], "o-", color=BLUE, label="beam")
    axes.plot(tuning.best.weights.beam, 100 * tuning.best.error_rate, "*", color=ORANGE, markersize=15, label="chosen")
    lines = [(tuning.greedy, "greedy", "--", GREEN), (tuning.without, "best without a language model", ":", GREY)]
    for trial, name, style, colour in lines if tuning.with_lm is not None else lines[:1]:
        if trial is not None:
            axes.axhline(100 * trial.error_rate, color=colour, linestyle=style, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.set(xlabel="beam (hypotheses)", ylabel=f"{tuning.unit} error rate (%)", title="Beam, at the chosen weights")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=9)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, format="png", metadata={"Software": None})
    return picture.getvalue()
