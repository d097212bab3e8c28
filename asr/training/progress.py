"""What a training writes down and says about an epoch, and at its end."""

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asr.scoring.command import score_words
from asr.training.options import TrainConfig
from asr.training.validate import Validation

#: The bar of an epoch: what matters most comes first, for a narrow terminal cuts the rest off.
BAR = "{desc}: {n_fmt}/{total_fmt}{postfix} |{bar}| {elapsed}<{remaining}"


def epoch_line(result: Validation, *, unit: str, **standing: Any) -> dict[str, Any]:
    """The line of `metrics.jsonl`: `standing` (step, epoch, train_loss, learning rate, clocks) and what the validation found.

    unit: phone or character. `error_rate` is infinite where the reference is empty.
    """
    error = result.symbols.error_rate
    line = {
        **standing,
        "valid_loss": result.loss,
        "error_rate": error if error is not None else math.inf,
        f"valid_{unit}_error_rate": error,
        "blank_fraction": result.blank_fraction,
    }
    if result.words is not None:
        line["valid_word_error_rate"] = result.words.error_rate
    return line


def epoch_text(line: Mapping[str, Any], result: Validation, *, unit: str, epochs: int, better: bool) -> str:
    """The line on the screen, and a few transcripts to read below it."""
    words = result.words.error_rate if result.words is not None else None
    rates = f"{'PER' if unit == 'phone' else 'CER'} {100 * line['error_rate']:.1f} %"
    rates += "" if words is None else f", WER {100 * words:.1f} %"
    head = (
        f"epoch {line['epoch']:3d}/{epochs}  loss {line['train_loss']:.3f}  valid loss {result.loss:.3f}  {rates}  "
        f"{line['train_s']:.0f}+{line['valid_s']:.0f} s  {line['audio_s_per_s']:.0f} s audio/s{'  *best' if better else ''}"
    )
    return "\n".join([head, *(f"    ref: {reference}\n    hyp: {hypothesis}" for reference, hypothesis in result.examples)])


def end_text(config: TrainConfig, best: Mapping[str, Any], *, minutes: float, bad_steps: list[str]) -> str:
    """How it ended, where everything is, and the commands that come next."""
    run_dir = Path(config.run_dir)
    lines = []
    if bad_steps:
        lines.append(f"{len(bad_steps)} steps were skipped because their gradient was not finite: {'; '.join(bad_steps[:5])}")
    lines += [
        f"done in {minutes:.1f} minutes; best validation error {100 * best['error_rate']:.1f} % after epoch {best['epoch']}",
        f"model: {run_dir}/model    curves: {run_dir}/curves.png    metrics: {run_dir}/metrics.jsonl",
    ]
    return "\n".join([*lines, next_text(config)])


def next_text(config: TrainConfig) -> str:
    """The commands that decode and score the test part of the data, or the validation part where there is none."""
    run_dir = Path(config.run_dir)
    tests = [name for name in ("dev.jsonl", "test.jsonl") if (Path(config.data.dir) / name).exists()]
    manifest = Path(config.data.dir) / (tests[0] if tests else config.data.valid)
    hyp = run_dir / f"{manifest.stem}.hyp.jsonl"
    decode = ["asr-decode", f"model={run_dir}", f"manifest={manifest}", f"out={hyp}"]
    rules = score_words(config.tokens, manifest)
    score = ["asr-score", f"ref={manifest}", f"hyp={hyp}", *rules, f"out={run_dir / f'score_{manifest.stem}'}"]
    return f"next:\n  {shlex.join(decode)}\n  {shlex.join(score)}"
