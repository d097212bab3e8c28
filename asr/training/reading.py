"""The one pass over all recordings before the first step: what cannot be decoded is found, the feature statistics are fitted."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asr.batches.dataset import AudioStore, BatchLoader, evaluation_order
from asr.data.containers import AudioError
from asr.data.manifest import Problem
from asr.data.report import DataReport
from asr.errors import DataError
from asr.models.model import SpeechModel
from asr.text.tokenizer import Tokenizer
from asr.training.options import TrainConfig
from asr.training.preparation import Part, fit_normalizer, speaker_statistics, usable_parts, write_report


@dataclass(frozen=True)
class Readers:
    """The data of a training, every recording of which has been decoded once."""

    train_part: Part
    valid_part: Part
    train: BatchLoader
    valid: BatchLoader


def read_recordings(
    config: TrainConfig,
    model: SpeechModel,
    tokenizer: Tokenizer,
    reports: dict[str, DataReport],
    *,
    report_path: Path | None,
    say: Callable[[str], None] | None,
) -> Readers:
    """Read all recordings of `reports` (keyed train and valid) and fit the statistics of `model` to those for training.

    A recording that cannot be decoded becomes a problem of its report like those of the headers: all are listed, then the
    training stops with DataError or goes on without them, as `data.on_bad` says. Without `say` nothing is shown.
    """
    parts = usable_parts(reports, config, tokenizer)
    options, faults = config.batches, dict[str, DataError]()
    store = AudioStore(
        sample_rate=config.features.sample_rate,
        channels=config.data.channels,
        resample=config.data.resample,
        cache_mb=options.cache_mb,
    )
    common: dict[str, Any] = {"store": store, "seed": config.seed, "workers": options.workers}
    statistics: dict[str, Callable] = {}
    for name, part in parts.items():
        reader = BatchLoader(part.utterances, part.targets, faults=faults, title=f"reading {name}" if say else "", **common)
        if config.normalize.needs_speakers:
            statistics[name] = speaker_statistics(model, part, reader, config).get
            reader.statistics = statistics[name]
        if name == "train":
            try:
                fit_normalizer(model, part, reader, config)
            except DataError:
                if len(faults) < len(part.utterances):
                    raise
        elif not config.normalize.needs_speakers:
            for _ in reader.batches(evaluation_order(part.durations, options)):
                pass
    if faults:
        reports = {name: leave_out(report, faults) for name, report in reports.items()}
        write_report(reports, report_path)
        parts = usable_parts(reports, config, tokenizer)
        if say:
            say("\n".join(report.table() for report in reports.values()))
    loaders = {
        name: BatchLoader(
            part.utterances,
            part.targets,
            augment=config.augment if name == "train" else None,
            statistics=statistics.get(name),
            separator=tokenizer.between,
            **common,
        )
        for name, part in parts.items()
    }
    return Readers(parts["train"], parts["valid"], loaders["train"], loaders["valid"])


def leave_out(report: DataReport, faults: dict[str, DataError]) -> DataReport:
    """The report with the utterances that `faults` (id -> what is wrong) names among its problems."""
    usable = [one for one in report.usable if one.id not in faults]
    problems = list(report.problems)
    for one in report.usable:
        if fault := faults.get(one.id):
            kind = fault.kind if isinstance(fault, AudioError) else "unreadable-file"
            problems.append(Problem(kind, f"{report.where}:{one.line}", str(fault), id=one.id))
    return replace(report, usable=usable, problems=problems, hours=sum(one.duration for one in usable) / 3600)
