"""What a label depends on: its log-posterior at its spike, shared out over the time and frequency of the recording.

How that is done stands in `asr.inspection.saliency_shares`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes

from asr.data.files import show_path
from asr.errors import UsageError
from asr.inspection.figures import DIVERGING, draw_spectrogram, mel_image, new_figure, plain_text, png, shown_symbol
from asr.inspection.gates import name_labels
from asr.inspection.page import Cell, Picture, Report, Table
from asr.inspection.saliency_shares import BACKGROUNDS, METHODS, Asked, Saliency, explain
from asr.inspection.source import (
    Heard,
    WindowOptions,
    describe_encoder,
    hear,
    network_of,
    one_utterance,
    refuse_unread,
)
from asr.models.ctc import BLANK
from asr.models.encoder import EncoderOptions
from asr.text.tokenizer import Tokenizer

#: Most labels that one picture can show.
MOST = 8
#: Names of two symbols that are awkward to type.
SPELLED = {"blank": BLANK, "space": " "}
#: Share of the change that the shares may miss it by before it is told.
MISSED = 0.05
#: Frequencies that a low panel names, Hz.
FEW_HZ = (250, 1000, 4000)


@dataclass
class SaliencyOptions(WindowOptions):
    #: decoded labels that are explained, counted from 1; none for those within the picture, at most the first 8
    labels: list[int] = field(default_factory=list)
    #: in place of decoded labels, any symbol (also: blank, space), whether it is decoded or not
    symbol: str = ""
    #: where this symbol is explained, s; below 0 where its posterior is highest
    time: float = -1.0
    #: integrated (gradients along the way from the background to what is heard; they add up) | gradient (at its end alone)
    method: str = "integrated"
    #: what is heard where nothing is heard, filter by filter: quiet (5th percentile over the recording) | mean (over it)
    background: str = "quiet"
    #: stretches of the way, shorter where the log-posteriors change quickly, with two gradients each (method=integrated)
    stretches: int = 32
    #: seed of a fresh network's weights
    seed: int = 1
    #: shape of a fresh network, where `model` is not given
    encoder: EncoderOptions = field(default_factory=EncoderOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.labels) > MOST or min(self.labels, default=1) < 1 or len(set(self.labels)) < len(self.labels):
            raise UsageError(f"labels={self.labels}: expected at most {MOST} different numbers, counted from 1")
        if self.labels and self.symbol:
            raise UsageError(f"labels={self.labels} and symbol={self.symbol} are given together: leave one of them out")
        if self.time >= 0 and not self.symbol:
            raise UsageError(f"time={self.time:g} says where a symbol is explained: add symbol=SYMBOL, or leave it out")
        if not -1e9 < self.time < 1e9:
            raise UsageError(f"time={self.time:g} is out of range: use s, below 0 for where the symbol is likeliest")
        for name, known in (("method", METHODS), ("background", BACKGROUNDS)):
            if getattr(self, name) not in known:
                raise UsageError(f"{name}={getattr(self, name)} is not known: choose {' or '.join(known)}")
        for name, (low, high) in {"stretches": (1, 2048), "seed": (0, 2**31 - 1)}.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name}={getattr(self, name)} is out of range: use a whole number from {low} to {high}")


# --- what is asked for


def choose(heard: Heard, tokenizer: Tokenizer, options: SaliencyOptions, say: Callable[[str], None]) -> list[Asked]:
    """The symbols and frames that the options name. Raises UsageError for what is not there."""
    if options.symbol:
        return [_symbol_asked(heard, tokenizer, options)]
    decoded = [
        Asked(number, token, round((time - heard.times[0]) / heard.frame_shift_s))
        for number, (token, time) in enumerate(zip(heard.hypothesis.tokens, heard.hypothesis.times), start=1)
    ]
    if not decoded:
        raise UsageError(f"nothing is decoded in {show_path(heard.name)}: name a symbol to explain, symbol=SYMBOL")
    if options.labels:
        if max(options.labels) > len(decoded):
            raise UsageError(f"labels={options.labels}: the decoded labels of {show_path(heard.name)} are 1 to {len(decoded)}")
        return [decoded[number - 1] for number in options.labels]
    window = options.inside(heard.times)
    inside = [one for one in decoded if window.start <= one.frame < window.stop]
    if not inside:
        raise UsageError(f"begin={options.begin:g} end={options.end:g}: no label is decoded there; name a symbol, symbol=SYMBOL")
    if len(inside) > MOST:
        say(f"the first {MOST} of {len(inside)} labels are explained; choose others with labels=[...] or begin= and end=")
    return inside[:MOST]


def _symbol_asked(heard: Heard, tokenizer: Tokenizer, options: SaliencyOptions) -> Asked:
    known = dict(zip(tokenizer.symbols[1:], range(1, len(tokenizer))))
    token = known.get(options.symbol)
    if token is None and options.symbol in SPELLED:
        token = BLANK if options.symbol == "blank" else known.get(" ")
    if token is None:
        raise UsageError(
            f"symbol={options.symbol} is none of the network's: choose from {' '.join(tokenizer.symbols[1:])}, blank"
        )
    if options.time < 0:
        return Asked(0, token, int(heard.log_probs[:, token].argmax()))
    end = heard.times[-1] + heard.frame_shift_s
    if options.time > end:
        raise UsageError(f"time={options.time:g} lies beyond the recording, which ends at {end:.2f} s")
    return Asked(0, token, int(np.abs(heard.times - options.time).argmin()))


def middle(weights: np.ndarray, centres: np.ndarray) -> tuple[float, float]:
    """Between which two of `centres` (n,) the middle 80 % of non-negative `weights` (n,) lie."""
    reached = np.cumsum(weights) / max(weights.sum(), np.finfo(float).tiny)
    low, high = (min(int(np.searchsorted(reached, share)), len(centres) - 1) for share in (0.1, 0.9))
    return float(centres[low]), float(centres[high])


# --- the picture


def draw_saliency(
    heard: Heard, found: Sequence[Saliency], tokenizer: Tokenizer, edges: tuple[float, float], *, title: str
) -> bytes:
    """The spectrogram, and under it for each symbol what it depends on, over a faint spectrogram; one scale, one time axis."""
    heights = [1.5, *([1.0] * len(found))]
    figure = new_figure(11.5, 1.1 + 1.35 * sum(heights))
    rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    draw_spectrogram(rows[0], heard.logmel, heard.logmel_times, heard.hz)
    rows[0].set_title("log-mel spectrogram, and the decoded labels at their times", loc="left", fontsize=10)
    name_labels(rows[0], heard, tokenizer, *edges)
    limit = max(float(np.percentile(np.abs(one.shares[one.shares != 0]), 99)) if one.shares.any() else 0.0 for one in found)
    for axes, one in zip(rows[1:], found):
        image = _draw_shares(axes, heard, one, limit or 1.0)
        axes.set_title(_panel_title(heard, one, tokenizer), loc="left", fontsize=10)
    bar = figure.colorbar(image, ax=list(rows[1:]), pad=0.01, fraction=0.03, extend="both")
    bar.set_label("share of the log-posterior, nats\n(blue: against the label, red: for it)", fontsize=9)
    rows[-1].set_xlabel("time, s")
    rows[-1].set_xlim(*edges)
    figure.suptitle(title, fontsize=12)
    figure.align_ylabels(rows)
    return png(figure)


def _draw_shares(axes: Axes, heard: Heard, one: Saliency, limit: float):
    draw_spectrogram(axes, heard.logmel, heard.logmel_times, heard.hz, named=FEW_HZ, alpha=0.25)
    seen = np.clip(np.abs(one.shares.T) / limit, 0, 1) ** 0.5
    image = mel_image(
        axes,
        one.shares,
        heard.logmel_times,
        heard.hz,
        named=FEW_HZ,
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
        alpha=seen,
    )
    axes.axvline(heard.times[one.asked.frame], color="0.2", linewidth=0.9, linestyle=":")
    return image


def _panel_title(heard: Heard, one: Saliency, tokenizer: Tokenizer) -> str:
    name = shown_symbol(_name(one.asked, tokenizer))
    place = f"label {one.asked.number}, " if one.asked.number else ""
    posteriors = f"posterior {np.exp(one.heard):.3g}, of the background alone {np.exp(one.alone):.2g}"
    return f"{place}{name} at {heard.times[one.asked.frame]:.2f} s (dotted): {posteriors}"


def _name(asked: Asked, tokenizer: Tokenizer) -> str:
    return "blank" if asked.token == BLANK else tokenizer.symbols[asked.token]


# --- the report


def look(options: SaliencyOptions, files: Sequence[str], say: Callable[[str], None]) -> Report:
    """`asr-inspect saliency`."""
    if options.method == "gradient":
        refuse_unread(options, ("stretches",), "method=gradient looks at one place of the way")
    utterance = one_utterance(options, files)
    loaded, name = network_of(options.model, options.encoder, seed=options.seed)
    heard = hear(loaded, utterance, options)
    window = options.inside(heard.times)
    asked = choose(heard, loaded.tokenizer, options, say)
    found = explain(loaded, heard, asked, method=options.method, background=options.background, stretches=options.stretches)
    _tell_missed(heard, found, loaded.tokenizer, options, say)
    shape = describe_encoder(loaded.model.options.encoder)
    half = heard.frame_shift_s / 2
    edges = (max(heard.times[window.start] - half, 0.0), heard.times[window.stop - 1] + half)
    where = _where(heard, found, loaded.tokenizer)
    return Report(
        name="saliency",
        title="What a label depends on",
        lead=(
            "A label's log-posterior at its spike, shared out over time and frequency. Where nothing but the background is heard "
            "the label has some log-posterior, too; each cell says how much of the change the sound in it makes. Red speaks for "
            "the label, blue against it. With integrated gradients the shares add up to the change (Sundararajan, Taly and Yan "
            "2017). What the label gains from silence, such as the closure of a stop, shows only against a louder background "
            "(background=mean)."
        ),
        facts=_facts(heard, f"{name}: {shape}", options),
        pictures=(
            Picture(
                "saliency",
                "From the sound to one label",
                "On top the spectrogram with the decoded labels. Below, for each label, the share of its log-posterior that the "
                "sound at each time and frequency makes, over a faint spectrogram, on one scale for all labels; the dotted line "
                "is the frame at which the label is read. All panels share the time axis.",
                draw_saliency(heard, found, loaded.tokenizer, edges, title=plain_text(f"{heard.name}: {shape}")),
            ),
        ),
        tables=(where, _every(heard, found, loaded.tokenizer, options)),
        summary="\n".join(_line(row) for row in where.rows),
    )


def _tell_missed(
    heard: Heard, found: Sequence[Saliency], tokenizer: Tokenizer, options: SaliencyOptions, say: Callable[[str], None]
) -> None:
    for one in found if options.method == "integrated" else ():
        change = one.heard - one.alone
        if abs(one.missed) > MISSED * max(abs(change), 0.1):
            say(
                f"note: the shares of {_name(one.asked, tokenizer)} at {heard.times[one.asked.frame]:.2f} s miss their sum by "
                f"{one.missed:.2g} of {change:.3g} nats; stretches={4 * options.stretches} comes closer"
            )


def _facts(heard: Heard, network: str, options: SaliencyOptions) -> tuple[tuple[str, str], ...]:
    whole = options.method == "integrated"
    level = "5th percentile" if options.background == "quiet" else "mean"
    return (
        ("recording", heard.name),
        ("said", heard.text or "(not written down)"),
        ("heard", heard.hypothesis.text or "(nothing)"),
        ("network", network),
        (
            "method",
            f"gradients at {2 * options.stretches} points, integrated" if whole else "gradient at what is heard, times input",
        ),
        ("background", f"the {level} of each filter over the recording"),
        ("arithmetic", "float64"),
    )


def _where(heard: Heard, found: Sequence[Saliency], tokenizer: Tokenizer) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for one in found:
        size = np.abs(one.shares)
        rows.append(
            (
                one.asked.number or None,
                _name(one.asked, tokenizer),
                float(heard.times[one.asked.frame]),
                one.heard,
                one.alone,
                one.total,
                one.missed,
                float(one.shares.clip(min=0).sum()),
                float(one.shares.clip(max=0).sum()),
                float(one.frame_energy.sum()),
                *middle(size.sum(axis=1), heard.logmel_times),
                *middle(size.sum(axis=0), heard.hz),
            )
        )
    columns = ("number", "label", "time_s", "log_posterior", "background_alone", "sum_of_shares", "missed", "for", "against")
    places = ("frame_energy", "from_s", "to_s", "from_hz", "to_hz")
    note = "Shares in nats. The middle 80 % of their sizes lie between the times and between the frequencies told."
    return Table("saliency_labels", "Where each label comes from", (*columns, *places), rows, note)


def _line(row: Sequence[Cell]) -> str:
    number, label, time, heard, alone, *_, begin, end, low, high = row
    place = f"label {number} " if number else ""
    return (
        f"  {place}{label} at {time:.2f} s: log-posterior {heard:.3g} (background {alone:.3g}), "
        f"from {begin:.2f} to {end:.2f} s and {low:.0f} to {high:.0f} Hz"
    )


def _every(heard: Heard, found: Sequence[Saliency], tokenizer: Tokenizer, options: SaliencyOptions) -> Table:
    """One row per label and frame, one column per filter."""
    inside = options.inside(heard.logmel_times)
    rows = [
        (
            one.asked.number or None,
            _name(one.asked, tokenizer),
            float(heard.times[one.asked.frame]),
            frame + 1,
            float(heard.logmel_times[frame]),
            *map(float, one.shares[frame]),
        )
        for one in found
        for frame in range(inside.start, inside.stop)
    ]
    columns = ("number", "label", "label_time_s", "frame", "time_s", *(f"{hz:.1f} Hz" for hz in heard.hz))
    return Table("saliency", "Shares in nats, by frame and centre of the mel filter", columns, rows)
