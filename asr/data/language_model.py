"""From text files to a language model, and from both to a perplexity: what `asr-lm` does."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from asr.data.files import show_path
from asr.data.sentences import SentenceOptions, read_sentences, split_paths
from asr.errors import UsageError
from asr.text.arpa import write_arpa
from asr.text.coverage import coverage_warning
from asr.text.kenlm_binary import read_language_model
from asr.text.ngram_train import NgramTraining, estimate_ngram
from asr.text.perplexity import Perplexity, measure_perplexity

#: Words of a text that are looked up to see whether a model fits it.
LOOKED_UP = 100_000
NAMES = {"word": "words", "char": "characters", "phone": "phones"}

Say = Callable[[str], None]


@dataclass
class LanguageModelOptions(SentenceOptions):
    """`asr-lm train`."""

    #: plain text, one sentence per line, or manifests (.jsonl), packed by gzip or not; several with commas between
    text: str = field(default="", metadata={"path": True})
    #: the ARPA file to write; packed where the name ends in .gz
    out: str = field(default="", metadata={"path": True})
    #: number of words (or characters, or phones) in the longest n-grams: 1..15
    order: int = 3
    #: leave out n-grams of length 1, 2, ... that occur at most so often, such as [0,0,1]; the last number holds for longer ones
    prune: list[int] = field(default_factory=list)
    #: words that occur less often are counted as <unk>
    min_count: int = 1
    #: replace an existing file
    overwrite: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out and not self.out.removesuffix(".gz").endswith((".arpa", ".lm")):
            raise UsageError(f"out={show_path(self.out)} must end in .arpa or .arpa.gz, the only format that is written")


@dataclass
class PerplexityOptions(SentenceOptions):
    """`asr-lm perplexity`."""

    #: the language model: ARPA, plain or gzip, or a KenLM binary
    lm: str = field(default="", metadata={"path": True})
    #: plain text, one sentence per line, or manifests (.jsonl), packed by gzip or not; several with commas between
    text: str = field(default="", metadata={"path": True})


def _require(*given: tuple[str, str], form: str) -> None:
    for name, value in given:
        if not value:
            raise UsageError(f"{name}= is missing: {form}")


def train_language_model(options: LanguageModelOptions) -> NgramTraining:
    """Read the text, estimate the model and write it.

    Raises UsageError for options that do not fit together and for a file that exists, DataError for a text that cannot be
    used, ResourceError when the model cannot be written.
    """
    form = "write asr-lm train text=FILE order=N out=FILE.arpa"
    _require(("text", options.text), ("out", options.out), form=form)
    if os.path.isfile(options.out) and not options.overwrite:
        raise UsageError(f"out={show_path(options.out)} exists already; choose another name, or overwrite=true")
    sentences = read_sentences(split_paths(options.text), options)
    done = estimate_ngram(sentences, order=options.order, prune=options.prune, min_count=options.min_count)
    write_arpa(done.model, options.out)
    return done


def describe_training(done: NgramTraining, options: LanguageModelOptions, *, seconds: float) -> str:
    """The table that `asr-lm train` prints."""
    words = len(done.model.words) - 3
    name = NAMES[options.unit]
    head = f"{done.sentences} sentences, {done.tokens} {name}, {words} different, and <unk>, <s>, </s>"
    rows = ["n  n-grams seen      kept   discounts of n-grams seen once, twice, more often"]
    for length, (seen, kept, three) in enumerate(zip(done.seen, done.kept, done.discounts, strict=True), start=1):
        rows.append(f"{length} {seen:13d} {kept:9d}   {three[0]:.3f} {three[1]:.3f} {three[2]:.3f}")
    size = os.path.getsize(options.out) / 1e6
    return "\n".join([head, *rows, f"written: {show_path(options.out)} ({size:.1f} MB) after {seconds:.1f} s"])


def perplexity_of(options: PerplexityOptions, *, say: Say) -> Perplexity:
    """Score the text by the model; `say` receives a sentence when they do not seem to fit.

    Raises ModelError for a model, DataError for a text that cannot be used.
    """
    _require(("lm", options.lm), ("text", options.text), form="write asr-lm perplexity lm=FILE text=FILE")
    model = read_language_model(options.lm, say=say)
    paths = split_paths(options.text)
    some: list[str] = []

    def sentences() -> Iterator[list[str]]:
        for sentence in read_sentences(paths, options):
            if len(some) < LOOKED_UP:
                some.extend(sentence)
            yield sentence

    found = measure_perplexity(model, sentences())
    warning = coverage_warning(model, some, what=f"the {NAMES[options.unit]} of the text")
    if warning:
        say(warning)
    return found


def describe_perplexity(found: Perplexity, options: PerplexityOptions) -> str:
    """What `asr-lm perplexity` prints."""
    name = NAMES[options.unit]
    share = 100 * found.unknown / max(found.words, 1)
    lines = [
        f"perplexity {found.with_unknown:.2f} of all {found.tokens} tokens ({found.bits:.3f} bits each)",
        f"perplexity {found.without_unknown:.2f} without the {found.unknown} unknown {name}",
        f"tokens: {found.words} {name} and {found.sentences} sentence ends (</s>); <s> is not counted",
        f"unknown (out of vocabulary): {found.unknown} of {found.words} {name}, {share:.2f} %",
    ]
    if found.unknown_words:
        listed = ", ".join(f"{word} {times}" for word, times in found.unknown_words)
        lines.append(f"most frequent unknown {name}: {listed}")
    return "\n".join(lines)
