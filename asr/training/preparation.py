"""From a folder of manifests to everything a training needs: tokenizer, checked utterances, targets, a fitted model."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from asr.batches.dataset import BatchLoader, evaluation_order
from asr.data.check import DataReport, check_utterances, cross_check, refuse_or_skip, target_text
from asr.data.files import show_path, write_atomic
from asr.data.manifest import Problem, Utterance, scan_manifest
from asr.errors import DataError, UsageError
from asr.features.normalize import StatisticsAccumulator, fit_global
from asr.models.model import ModelOptions, SpeechModel
from asr.text.tokenizer import Tokenizer
from asr.training.options import TrainConfig


@dataclass(frozen=True)
class Part:
    """One checked manifest: utterances and their token targets, in the same order."""

    utterances: list[Utterance]
    targets: list[list[int]]

    @property
    def durations(self) -> list[float]:
        return [utterance.duration for utterance in self.utterances]


def manifest_path(config: TrainConfig, name: str) -> Path:
    if not config.data.dir:
        raise UsageError(
            "data.dir is not set: give the folder that `asr-data prepare` wrote, data.dir=DIR, or a folder of recordings with "
            "their texts, data.folder=DIR"
        )
    folder = Path(config.data.dir)
    if not folder.is_dir():
        raise UsageError(f"data.dir={folder} is not a folder: make it with `asr-data prepare CORPUS --root DIR --out {folder}`")
    path = folder / name
    if not path.is_file():
        raise DataError(
            f"{path} does not exist: training needs a training and a validation manifest in data.dir; a folder of recordings "
            "with their texts is given by data.folder=DIR"
        )
    return path


def build_tokenizer(utterances: list[Utterance], config: TrainConfig) -> Tokenizer:
    texts = [text for utterance in utterances if (text := target_text(utterance, config.tokens.unit))]
    if not texts:
        field = "phones" if config.tokens.unit == "phones" else "text"
        raise DataError(f"no utterance of {config.data.train} has '{field}': tokens.unit={config.tokens.unit} needs it")
    return Tokenizer.build(texts, config.tokens)


def build_model(config: TrainConfig, vocabulary: int) -> SpeechModel:
    torch.manual_seed(config.seed)
    return SpeechModel(ModelOptions(config.features, config.normalize, config.encoder), vocabulary=vocabulary)


def check_data(config: TrainConfig, report_path: Path | None) -> tuple[Tokenizer, SpeechModel, dict[str, DataReport]]:
    """The alphabet of the training data, an untrained model, and the reports of all manifests, written to `report_path` if given.

    Raises DataError, after the report is written, where the transcripts give no alphabet.
    """
    found = {part: scan_manifest(manifest_path(config, getattr(config.data, part))) for part in ("train", "valid")}
    try:
        tokenizer = build_tokenizer(found["train"][0], config)
    except DataError as fault:
        reports = check_parts(config, found)
        write_report(reports, report_path)
        refuse_parts(reports, config)  # what is wrong with single lines explains more
        raise fault
    model = build_model(config, len(tokenizer))
    reports = check_parts(config, found, tokenizer, model.emission_length)
    write_report(reports, report_path)
    return tokenizer, model, reports


def write_report(reports: dict[str, DataReport], path: Path | None) -> None:
    if path is None:
        return
    document = {part: report.to_dict() for part, report in reports.items()}
    write_atomic(path, json.dumps(document, indent=1, ensure_ascii=False))


def check_parts(
    config: TrainConfig,
    found: dict[str, tuple[list[Utterance], list[Problem]]],
    tokenizer: Tokenizer | None = None,
    frames_of: Callable[[int], int] | None = None,
) -> dict[str, DataReport]:
    """Reports of all manifests, keyed train and valid: every problem of the data before the first step.

    Without a tokenizer, transcripts are only required to be there.
    """
    reports = {}
    for part, (utterances, problems) in found.items():
        reports[part] = check_utterances(
            utterances,
            options=config.data,
            sample_rate=config.features.sample_rate,
            unit=config.tokens.unit,
            encode=tokenizer.encode if tokenizer else lambda text: [1] * bool(text.strip()),
            unknown=tokenizer.unknown_symbols if tokenizer else None,
            changes=tokenizer.changes if tokenizer else None,
            frames_of=frames_of,
            fastest=max(config.augment.speed) if part == "train" else 1.0,
            where=show_path(manifest_path(config, getattr(config.data, part))),
            problems=problems,
        )
    return cross_check(reports)


def refuse_parts(reports: dict[str, DataReport], config: TrainConfig) -> dict[str, list[Utterance]]:
    """The utterances to work with; DataError with the problems of all manifests where the options say to stop."""
    usable, refusals = {}, []
    for name, report in reports.items():
        try:
            usable[name] = refuse_or_skip(report, config.data)
        except DataError as fault:
            refusals.append(str(fault))
    if refusals:
        raise DataError("\n".join(refusals))
    return usable


def usable_parts(reports: dict[str, DataReport], config: TrainConfig, tokenizer: Tokenizer) -> dict[str, Part]:
    """The utterances to work with and their targets; DataError as `refuse_parts`."""
    unit = config.tokens.unit
    return {
        name: Part(utterances, [tokenizer.encode(target_text(utterance, unit) or "") for utterance in utterances])
        for name, utterances in refuse_parts(reports, config).items()
    }


@torch.no_grad()
def speaker_statistics(model: SpeechModel, part: Part, loader: BatchLoader, config: TrainConfig) -> dict[str, np.ndarray]:
    """Mean and standard deviation (2, D) of the features of each speaker of one manifest."""
    speakers = {utterance.id: utterance.speaker for utterance in part.utterances}
    sums = StatisticsAccumulator()
    for batch in loader.batches(evaluation_order(part.durations, config.batches)):
        features, lengths = model.features(batch.waveforms, batch.waveform_lengths)
        sums.add(features, lengths, [speakers[name] for name in batch.ids])
    known = sums.keys()
    return {str(speaker): sums.statistics(speaker).numpy() for speaker in known if speaker is not None}


@torch.no_grad()
def fit_normalizer(model: SpeechModel, part: Part, loader: BatchLoader, config: TrainConfig) -> None:
    """Fit the training set's statistics into the model, over un-augmented audio."""
    order = evaluation_order(part.durations, config.batches)

    def batches():
        for batch in loader.batches(order):
            features, lengths = model.features(batch.waveforms, batch.waveform_lengths)
            yield features, lengths, batch.cmvn

    fit_global(model.normalizer, batches())
