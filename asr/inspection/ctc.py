"""Connectionist temporal classification at work: `asr-inspect ctc`.

Graves, Fernández, Gomez and Schmidhuber (2006).
"""

from collections.abc import Callable, Sequence

import numpy as np

from asr.errors import UsageError
from asr.inspection.ctc_course import Course, CtcOptions, Stage, lattice_symbols, model_course, toy_course
from asr.inspection.ctc_pictures import draw_course, draw_lattices
from asr.inspection.page import Cell, Picture, Report, Table
from asr.inspection.source import refuse_unread
from asr.models.ctc import BLANK


def look(options: CtcOptions, files: Sequence[str], say: Callable[[str], None]) -> Report:
    """`asr-inspect ctc`."""
    if options.model or options.models:
        refuse_unread(options, ("frames", "steps", "learning_rate", "seed"), "it belongs to the toy, while a network is given")
        if options.models:
            refuse_unread(options, ("stages",), "models= gives the stages one by one")
        course = model_course(options, files, say)
    elif options.manifest or files:
        raise UsageError("a recording needs a network to hear it: add model=DIR or models=[...], or leave the recording out")
    else:
        course = toy_course(options)
    return Report(
        name="ctc",
        title="Connectionist temporal classification at work",
        lead=(
            "A network is told what was said, but not when. The forward-backward algorithm sums over all ways to spread the "
            "target over the frames, with blanks in between; the share of these paths that is at a symbol in a frame is the "
            "symbol's occupancy there. The error signal is occupancy minus output: it is spread out while the network knows "
            "nothing, gathers around what it begins to predict, and vanishes where the outputs are spikes at the right labels "
            "(Graves, Fernández, Gomez and Schmidhuber 2006)."
        ),
        facts=(*course.facts, ("frames", str(len(course.times))), ("states of the lattice", str(2 * len(course.target) + 1))),
        pictures=(
            Picture(
                "ctc",
                "Outputs and error signals at stages of the training",
                "Left: what the softmax says, the blank dashed, the winning symbol named above its peak. Right: the error signal "
                "at the softmax's inputs, occupancy minus output, on one scale for all stages.",
                draw_course(course),
            ),
            Picture(
                "lattice",
                "The lattice: where the paths of the target run",
                "States from top to bottom are the target with a blank around and between its tokens; every path begins in one "
                "of the first two and ends in one of the last two. The more of the paths' probability goes through a state, the "
                "larger its circle (or the brighter its cell), and the stronger the line of a move.",
                draw_lattices(course),
            ),
        ),
        tables=_tables(course),
        summary="\n".join(f"  {stage.name}: loss {stage.loss:.4g} nats" for stage in course.stages),
    )


def _tables(course: Course) -> tuple[Table, ...]:
    shown = [BLANK, *dict.fromkeys(course.target)]
    symbols = lattice_symbols(course.target)
    stages = [
        (
            stage.name,
            stage.loss,
            float(np.exp(-stage.loss)),
            float(np.abs(stage.error).sum() / len(course.times)),
            _read(stage, course),
        )
        for stage in course.stages
    ]
    signals: list[tuple[Cell, ...]] = [
        (stage.name, t + 1, float(time), course.symbols[symbol], *(float(part[t, symbol]) for part in parts))
        for stage in course.stages
        for parts in [(stage.outputs, stage.occupancies, stage.error)]
        for t, time in enumerate(course.times)
        for symbol in shown
    ]
    lattice = [
        (stage.name, t + 1, float(time), state + 1, course.symbols[symbol], float(stage.states[t, state]))
        for stage in course.stages
        for t, time in enumerate(course.times)
        for state, symbol in enumerate(symbols)
    ]
    when = "time_s" if course.unit == "s" else "time_frames"
    return (
        Table(
            "",
            "The stages",
            ("stage", "loss, nats", "probability of the target", "error per frame (sum of sizes)", "best path reads"),
            stages,
        ),
        Table("ctc", "Outputs and error signals", ("stage", "frame", when, "symbol", "output", "occupancy", "error"), signals),
        Table("lattice", "Occupancies of the lattice", ("stage", "frame", when, "state", "symbol", "occupancy"), lattice),
    )


def _read(stage: Stage, course: Course) -> str:
    """The best path, collapsed."""
    best = stage.outputs.argmax(axis=1)
    kept = [symbol for k, symbol in enumerate(best) if symbol != BLANK and (k == 0 or symbol != best[k - 1])]
    joint = "" if all(len(symbol) == 1 for symbol in course.symbols[1:]) else " "
    return joint.join(course.symbols[symbol] for symbol in kept)
