"""`asr-lm`: train n-gram language models and measure their perplexity."""

import sys
import time

from asr.cli.arguments import closest, run_command, split_arguments
from asr.cli.describe import Option, describe_keys, read_options
from asr.errors import UsageError

#: The parts of the command: what each does, its option class in asr.data.language_model and its file in configs/.
PARTS = {
    "train": ("estimate an n-gram model, by interpolated modified Kneser-Ney", "LanguageModelOptions", "lm_train"),
    "perplexity": ("how well a model predicts a text, with and without unknown words", "PerplexityOptions", "lm_perplexity"),
}
FORMS = {
    "train": "asr-lm train text=FILE[,FILE..] order=N out=FILE.arpa[.gz] [unit=word|char|phone] [key=value ...]",
    "perplexity": "asr-lm perplexity lm=FILE text=FILE[,FILE..] [unit=word|char|phone]",
}
MODULE = "asr.data.language_model"


def usage() -> str:
    forms = [f"  {form}" for form in FORMS.values()]
    lines = ["usage:", *forms, "", "N-gram language models of words, characters or phones, for beam search."]
    for name, (meaning, _, _) in PARTS.items():
        lines += ["", f"asr-lm {name}: {meaning}. Keys with their defaults:", *describe_keys(_options(name))]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    return run_command(_lm, argv, usage=usage, name="asr-lm")


def _options(part: str) -> list[Option]:
    return read_options(MODULE, PARTS[part][1])


def _lm(argv: list[str]) -> int:
    part = argv[0] if argv else ""
    if part not in PARTS:
        meant = f"did you mean '{closest(part, PARTS)}'?" if part else "expected"
        raise UsageError(f"{f'unknown command {part!r}: ' if part else 'no command: '}{meant} {' or '.join(FORMS.values())}")
    keys = _options(part)
    paths = [option.key for option in keys if option.path]
    arguments = split_arguments(argv[1:], path_keys=paths, keys=[option.key for option in keys])

    import asr.data.language_model as jobs
    from asr.config import compose_config

    options = compose_config(PARTS[part][2], arguments, getattr(jobs, PARTS[part][1]))
    if part == "train":
        return _train(options)
    print(jobs.describe_perplexity(jobs.perplexity_of(options, say=_tell), options))
    return 0


def _train(options) -> int:
    from asr.data.language_model import describe_training, train_language_model

    start = time.perf_counter()
    done = train_language_model(options)
    for note in done.notes:
        _tell(f"notice: {note}")
    print(describe_training(done, options, seconds=time.perf_counter() - start))
    return 0


def _tell(text: str) -> None:
    print(f"asr-lm: {text}", file=sys.stderr, flush=True)
