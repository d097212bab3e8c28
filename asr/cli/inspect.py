"""`asr-inspect`: pictures of what goes on inside a network, each with its numbers and a page that explains it."""

import importlib
import sys
from dataclasses import dataclass

from asr.cli.arguments import closest, run_command, split_arguments
from asr.cli.describe import Option, describe_keys, read_options
from asr.errors import UsageError


@dataclass(frozen=True)
class Look:
    """One subcommand: where its options class stands, beside a function `look(options, files, say) -> Report`."""

    module: str
    options: str
    #: what it shows, in half a line
    meaning: str
    #: what it shows and from what, in a few lines, and commands as one types them
    text: str
    #: whether it takes words that are no keys
    audio: bool = True
    #: what these words are
    words: str = " [AUDIO FILE]"


LOOKS = {
    "gradient": Look(
        "asr.inspection.gradient",
        "GradientOptions",
        "how far back a gradient reaches: feed-forward, recurrent, the LSTMs, the GRU",
        """\
The norm of d(output at t) / d(input at t - lag) against the lag: the vanishing
gradient and the constant error carrousel in one figure. Without models, fresh
networks of every kind on noise; with models and a recording, each of them before
and after its training.

  asr-inspect gradient out=look
  asr-inspect gradient stations=[rnn,lstm1997,lstm] lag=200 out=look
  asr-inspect gradient models=[runs/rnn,runs/lstm] a.wav out=look""",
    ),
    "gates": Look(
        "asr.inspection.gates",
        "GatesOptions",
        "spectrogram, gates, cell states, outputs and CTC posteriors on one time axis",
        """\
What single cells do while a recording is heard: spectrogram, input, forget and
output gates, cell state and output of the most active cells (or of those named),
the posteriors of CTC with their spikes, and the labels that are decoded.

  asr-inspect gates model=runs/fsdd a.wav out=look
  asr-inspect gates model=runs/phones manifest=dev.jsonl id=012 layer=2 out=look
  asr-inspect gates encoder.cell=gru a.wav out=look      (a fresh network)""",
    ),
    "ctc": Look(
        "asr.inspection.ctc",
        "CtcOptions",
        "the lattice of CTC, and its error signal at stages of a training",
        """\
The forward-backward lattice of a short target with its occupancies, and the
outputs and error signals at the softmax at stages of a training. Without a model,
a toy is trained on the spot; with one, the stages are the network before its
training, checkpoints (training.keep says how many a run keeps), and the end.

  asr-inspect ctc target=cat out=look
  asr-inspect ctc model=runs/yesno manifest=data/yesno/test.jsonl out=look
  asr-inspect ctc models=[runs/one,runs/two] a.wav target="ken lo" out=look""",
    ),
    "saliency": Look(
        "asr.inspection.saliency",
        "SaliencyOptions",
        "which time and frequency each decoded label depends on",
        """\
The log-posterior of each decoded label at its spike (or of any symbol at any
time), shared out over time and frequency by integrated gradients: red where the
sound speaks for the label, blue where it speaks against it.

  asr-inspect saliency model=runs/fsdd a.wav out=look
  asr-inspect saliency model=runs/phones manifest=dev.jsonl id=012 labels=[2,3] out=look
  asr-inspect saliency model=runs/fsdd a.wav symbol=s time=0.4 out=look
  asr-inspect saliency encoder.cell=rnn a.wav symbol=a out=look  (a fresh network)""",
    ),
    "longlag": Look(
        "asr.inspection.longlag",
        "LonglagOptions",
        "the long-time-lag tasks of 1997: what each cell can learn to carry how far",
        """\
Trains small networks of every cell on the adding task and on temporal order
(Hochreiter and Schmidhuber 1997) and shows which of them solve it at which lag,
and how many sequences they needed. All begin with weights within +-0.1 and with
a short lag that grows as they learn. Needs no data and a few minutes.

  asr-inspect longlag out=look
  asr-inspect longlag tasks=[adding] lags=[50,100,200] cells=[rnn,lstm1997,gru] out=look
  asr-inspect longlag growing=false gate_bias=5 out=look  (gates set to keep, whole lag)""",
        audio=False,
    ),
    "compare": Look(
        "asr.inspection.compare",
        "CompareOptions",
        "finished trainings side by side: one table, one picture of learning curves",
        """\
One row for each training: network, weights, epochs, training time, error rate on
the scored part with its interval; and their learning curves in one picture. Runs
in folders named seed... are taken together under the name of the folder above.

  asr-inspect compare runs/one runs/two out=look
  asr-inspect compare runs/lstm/seed1 runs/lstm/seed2 runs/gru/seed1 score=score_phone out=look""",
        words=" RUN ...",
    ),
}

HEAD = """\
usage: asr-inspect {name} out=DIR [key=value ...]{file}

"""
FOOT = "out=DIR receives a page (HTML that needs nothing else), pictures (PNG) and numbers (CSV)."


def usage(argv: list[str]) -> str:
    """The help of the subcommand among these words, or the list of all."""
    name = next((word for word in argv if word in LOOKS), None)
    if name is None:
        rows = [f"  {each:9} {look.meaning}" for each, look in LOOKS.items()]
        head = HEAD.format(name=f"{'|'.join(LOOKS)}", file=" [AUDIO FILE]")
        return "\n".join(
            [head + "Pictures of what goes on inside a network.\n", *rows, "", FOOT, "asr-inspect NAME --help lists the keys."]
        )
    look = LOOKS[name]
    head = HEAD.format(name=name, file=look.words if look.audio else "")
    return "\n".join([head + look.text, "", FOOT, "", "keys", *describe_keys(_keys(look))])


def main(argv: list[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    return run_command(_inspect, words, usage=lambda: usage(words))


def _keys(look: Look) -> list[Option]:
    return read_options(look.module, look.options)


def _inspect(argv: list[str]) -> int:
    look = _chosen(argv)
    keys = _keys(look)
    names = [option.key for option in keys]
    paths = [option.key for option in keys if option.path]
    arguments = split_arguments(argv[1:], path_keys=paths, allow_files=look.audio, keys=names)

    from asr.config import compose_config

    module = importlib.import_module(look.module)
    options = compose_config("inspect", arguments, getattr(module, look.options))
    if not options.out:
        raise UsageError(f"out= is missing: write asr-inspect {argv[0]} out=DIR, the folder for page, pictures and numbers")

    from asr.inspection.page import write_report

    report = module.look(options, arguments.files, _tell)
    if report.summary:
        print(report.summary)
    print("written: " + "  ".join(write_report(report, options.out)))
    return 0


def _chosen(argv: list[str]) -> Look:
    known = ", ".join(LOOKS)
    if not argv:
        raise UsageError(f"what to look at is missing: write asr-inspect NAME out=DIR, NAME one of {known}")
    if argv[0] not in LOOKS:
        raise UsageError(f"'{argv[0]}' is nothing to look at: did you mean '{closest(argv[0], LOOKS)}'? There are {known}.")
    return LOOKS[argv[0]]


def _tell(text: str) -> None:
    print(f"asr-inspect: {text}", file=sys.stderr, flush=True)
