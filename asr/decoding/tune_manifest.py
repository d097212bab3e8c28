"""Tuning as a user asks for it: emissions heard once, weights found on them, the choice kept where decoding picks it up."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.data.files import file_sha256, show_path, write_atomic
from asr.data.manifest import Utterance
from asr.decoding.emissions import fingerprint, hear_manifest, load_emissions, save_emissions
from asr.decoding.options import TUNED_KEYS, DecodeOptions
from asr.decoding.recognizer import Recognizer
from asr.decoding.search import Search, count_threads, read_sources, warn_of_spelling
from asr.decoding.tune import RESAMPLES, SURE_ENOUGH, Bench, Trial, Tuning, reference_tokens, tune
from asr.decoding.tuned import Tuned, tuned_path, write_tuned
from asr.models.package import LoadedModel

#: folder beside the model for what tuning leaves
FOLDER = "tuning"


@dataclass(frozen=True)
class TuningRun:
    """A finished tuning and the files it wrote."""

    tuning: Tuning
    verdict: str
    files: tuple[Path, ...]
    #: where decoding finds the weights
    kept: Path


def tune_manifest(
    loaded: LoadedModel,
    utterances: Sequence[Utterance],
    options: DecodeOptions,
    *,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> TuningRun:
    """Find weights for the language model and the lexicon of the options on utterances with transcripts, and keep them.

    The folder `out`, or tuning/ beside the model, receives the emissions, all trials and the pictures; decode.json beside the
    model the choice. Raises DataError for recordings or transcripts that cannot be used, ResourceError where writing fails.
    """
    decoder = options.search
    references, unit = reference_tokens(utterances, loaded.tokenizer, decoder)
    sources = read_sources(loaded.tokenizer, options, say=say)
    search = Search(loaded.tokenizer, options, sources=sources)
    warn_of_spelling(loaded.tokenizer, search, [" ".join(tokens) for tokens in references], say)
    folder = Path(options.out) if options.out else tuned_path(loaded.folder).parent / FOLDER
    emissions = _emissions(loaded, utterances, options, folder, progress=progress, say=say)
    bench = Bench(
        loaded.tokenizer,
        sources,
        options,
        emissions,
        references,
        threads=count_threads(options),
        clock=time.monotonic,
        tried=lambda trial: say(_line(trial)),
    )
    tuning = tune(bench, utterances, decoder, unit=unit)
    kept = tuned_path(loaded.folder)
    write_tuned(kept, _entry(loaded, tuning, dict(sources.sha256), decoder))
    names = [Path(name).name.partition(".")[0] for name in (options.lexicon, options.lm) if name]
    return TuningRun(tuning, verdict(tuning), _write(folder, decoder, names, tuning), kept)


def verdict(tuning: Tuning) -> str:
    """One sentence about the language model and how sure it is; about the search where there is none."""
    best, without = tuning.best, tuning.without
    sample = f"{tuning.utterances} utterances of {tuning.speakers} groups"
    if tuning.with_lm is None:
        than = f", greedy search {100 * tuning.greedy.error_rate:.2f} %" if tuning.greedy is not None else ""
        return f"{best.weights.decoder} search: {100 * best.error_rate:.2f} % {tuning.unit} errors on {sample}{than}"
    rates = f"{100 * tuning.with_lm.error_rate:.2f} % {tuning.unit} errors with it, {100 * without.error_rate:.2f} % without"
    share = tuning.lm_better or 0.0
    proof = f"better in {100 * share:.1f} % of {RESAMPLES} paired bootstrap draws over {sample}"
    if tuning.lm_helps:
        return f"the language model helps and is on: {rates}; {proof}"
    return f"the language model is kept off, for it does not help for certain: {rates}; {proof}, needed {100 * SURE_ENOUGH:g} %"


def _emissions(
    loaded: LoadedModel,
    utterances: Sequence[Utterance],
    options: DecodeOptions,
    folder: Path,
    *,
    progress: bool,
    say: Callable[[str], None],
) -> list[np.ndarray]:
    made_from = fingerprint(loaded, utterances, options)
    path = folder / f"emissions-{made_from['model']:.8}-{made_from['utterances']:.8}.npz"
    saved = load_emissions(path, made_from)
    if saved is None:
        saved = hear_manifest(Recognizer(loaded, options), utterances, say=say, progress=progress)
        save_emissions(path, saved, made_from)
        say(f"emissions of {len(saved)} utterances are in {show_path(path)}")
    else:
        say(f"using the emissions in {show_path(path)}")
    return [saved[one.id] for one in utterances]


def _entry(loaded: LoadedModel, tuning: Tuning, sums: dict[str, str], asked: str) -> Tuned:
    best = tuning.best
    return Tuned(
        model=file_sha256(loaded.folder / "checksums.json"),
        lm=sums.get("lm"),
        lexicon=sums.get("lexicon"),
        asked=asked,
        decoder=best.weights.decoder,
        lm_weight=best.weights.lm_weight,
        insertion_bonus=best.weights.insertion_bonus,
        beam=best.weights.beam,
        unit=tuning.unit,
        error_rate=best.error_rate,
        error_rate_with_lm=tuning.with_lm.error_rate if tuning.with_lm else None,
        error_rate_without_lm=tuning.without.error_rate,
        error_rate_greedy=tuning.greedy.error_rate if tuning.greedy else None,
        lm_better=tuning.lm_better,
        confidence_scale=tuning.calibration.scale,
        slope=tuning.calibration.slope,
        offset=tuning.calibration.offset,
        calibration_error_before=tuning.calibration.error_before,
        calibration_error_after=tuning.calibration.error_after,
        utterances=tuning.utterances,
        mbr=best.weights.mbr,
        blank_penalty=best.weights.blank_penalty,
    )


def _write(folder: Path, decoder: str, names: Sequence[str], tuning: Tuning) -> tuple[Path, ...]:
    """Pictures and trials, named by the decoder and the files it searches with."""
    from asr.decoding.tune_pictures import draw_calibration, draw_surface

    label = "-".join([decoder, *names])
    name = f"{decoder} search" + (f" with {' and '.join(names)}" if names else "")
    written: dict[Path, bytes | str] = {
        folder / f"{label}.surface.png": draw_surface(tuning, title=f"{name}: errors on the validation data"),
        folder / f"{label}.trials.json": json.dumps([_fields(one) for one in tuning.trials], indent=1) + "\n",
    }
    if tuning.calibration.error_before is not None:
        picture = draw_calibration(tuning.calibration, title=f"{name}: confidence of {tuning.unit}s")
        written[folder / f"{label}.calibration.png"] = picture
    for path, content in written.items():
        write_atomic(path, content)
    return tuple(written)


def _fields(trial: Trial) -> dict[str, Any]:
    counts = {"errors": trial.total, "tokens": trial.tokens, "error_rate": round(trial.error_rate, 6)}
    return {**vars(trial.weights), **counts, "seconds": round(trial.seconds, 3)}


def _line(trial: Trial) -> str:
    weights = trial.weights
    keys = () if weights.decoder == "greedy" else TUNED_KEYS
    return " ".join([weights.decoder, *(f"{key}={getattr(weights, key):g}" for key in keys), f"{100 * trial.error_rate:.2f} %"])
