"""`metrics.jsonl`, one line per validation, and `curves.png`, its picture."""

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asr.data.files import write_atomic, write_fault


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of a metrics file; a last line cut off by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def keep_until(path: Path, epochs: int) -> list[dict[str, Any]]:
    """Drop the lines beyond the first `epochs` epochs, so that a resumed run writes no epoch twice; returns what is left.

    The step alone does not tell: a checkpoint at the last step of an epoch may be older than the epoch's line.
    """
    kept = [line for line in read_metrics(path) if line["epoch"] <= epochs]
    if path.exists():
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept))
    return kept


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a line; ResourceError when the disk does not take it."""
    text = json.dumps(line) + "\n"
    try:
        with open(path, "a", encoding="utf-8") as handle:
            handle.write(text)
    except OSError as fault:
        raise write_fault(path, fault, len(text)) from None


def standing(line: Mapping[str, Any], best_by: str) -> tuple[float, float]:
    """What makes one epoch better than another: the smaller the better, the second number between equals.

    Equal error rates are frequent on small validation sets: there the loss decides.
    """
    error, loss = line["error_rate"], line["valid_loss"]
    return (loss, error) if best_by == "loss" else (error, loss)


def draw_curves(lines: list[dict[str, Any]], path: Path, *, title: str, best_by: str = "error") -> None:
    """Training and validation loss, validation error, and learning rate against the epoch, as one PNG.

    best_by: the epoch marked as best is that of the lowest validation error or loss.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    epochs = [line["epoch"] for line in lines]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for key, label, colour, marker in (
        ("train_loss", "training (augmented, whole objective)", "#0072B2", "o"),
        ("valid_loss", "validation (CTC)", "#D55E00", "s"),
    ):
        left.plot(epochs, [line[key] for line in lines], color=colour, marker=marker, markersize=3, label=label)
    left.set(title="Loss", xlabel="epoch", ylabel="per symbol; CTC in nats")
    rates = (("valid_phone_error_rate", "phones", "#D55E00", "s"), ("valid_character_error_rate", "characters", "#D55E00", "s"))
    for key, label, colour, marker in (*rates, ("valid_word_error_rate", "words", "#009E73", "^")):
        if key in lines[-1]:
            values = [100 * line[key] if line.get(key) is not None else math.nan for line in lines]
            right.plot(epochs, values, color=colour, marker=marker, markersize=3, label=f"{label}, validation")
    best = min(lines, key=lambda line: standing(line, best_by))
    right.axvline(
        best["epoch"], color="0.5", linestyle=":", label=f"best: epoch {best['epoch']}, {100 * best['error_rate']:.1f} %"
    )
    right.set(title="Error rate, greedy", xlabel="epoch", ylabel="%")
    rate = right.twinx()
    rate.plot(epochs, [line["learning_rate"] for line in lines], color="0.7", linestyle="--", linewidth=1, label="learning rate")
    rate.set(ylabel="learning rate at the epoch's end")
    handles = [*right.get_lines(), *rate.get_lines()]
    right.legend(handles=handles, fontsize=8)
    left.legend(fontsize=8)
    for axes in (left, right, rate):
        axes.set_xlim(0.5, max(epochs) + 0.5)
        axes.set_ylim(0, 1.06 * axes.dataLim.y1 or 1.0)
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, format="png")
    pyplot.close(figure)
    write_atomic(path, picture.getvalue())
