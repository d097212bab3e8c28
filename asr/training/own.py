"""A folder of recordings in place of a prepared corpus: `asr-train data.folder=DIR` makes its manifests and its plan, once.

Manifests and the record of all files lie in `run_dir/data`. The same command goes on with them; a folder that has changed since
is refused, and what has changed is named.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from asr.data.audio import inspect_audio
from asr.data.check import DataReport, check_utterances, refuse_or_skip
from asr.data.corpora.corpus import TOO_FEW, Prepared, some
from asr.data.corpora.folder import FolderOptions, prepare
from asr.data.files import show_path, write_atomic
from asr.data.manifest import Utterance, write_manifest
from asr.errors import DataError, UsageError
from asr.features.filterbank import FeatureExtractor
from asr.models.package import load_model
from asr.text.normalize import runs_leftwards, scripts_of
from asr.text.tokenizer import Tokenizer, normalize, show_symbol
from asr.training.checkpoint import locked
from asr.training.distributed import Ranks
from asr.training.expectations import expectations
from asr.training.folder_record import FORMAT, RECORD, mark_files, read_record, refuse_changed
from asr.training.options import DataOptions, TrainConfig
from asr.training.plan import (
    MIDDLE_SHARE,
    SPEEDS,
    Choice,
    Plan,
    Spoken,
    network_choice,
    rate_choice,
    schedule_choices,
    show_hours,
    size_for,
    steps_choice,
    text_choice,
)
from asr.training.preparation import build_model, write_report

FEWEST = 3
#: A letter that stands less often in the training part is hardly learnt.
RARE = 5
#: Where less than this share of the speech is left to train, the user hears of it.
SMALL_SHARE = 0.6
#: Learning rate and steps of a training that starts from another model, as a share of those of one that starts from nothing.
TUNING_RATE = 0.3


@dataclass(frozen=True)
class OwnData:
    """What `open_folder` found. `prepared` is None where an earlier call has written the manifests already."""

    #: run_dir/data
    place: Path
    #: keys of `asr-train` to set where the user has not
    keys: dict[str, Any]
    #: what to tell the user, line by line
    told: list[str]
    prepared: Prepared | None = None
    #: path below the folder -> size, time and sum of the file
    files: dict[str, dict[str, Any]] = field(default_factory=dict)


def open_folder(config: TrainConfig, typed: frozenset[str]) -> OwnData:
    """Look at `config.data.folder` and make a plan; `typed` are the keys that the user or an experiment has set.

    Nothing is written. Raises UsageError for keys that do not go together and for a run directory that was begun with another
    folder or another state of it; DataError, naming all files, where the folder cannot be used.
    """
    if Ranks.of_environment().world > 1:
        raise UsageError(
            "data.folder= is for one process: write manifests with `asr-data prepare folder --root DIR --out DIR` first and give "
            "them to torchrun by data.dir=DIR"
        )
    root, run_dir = Path(config.data.folder), Path(config.run_dir)
    _refuse_places(config, root, run_dir)
    place = run_dir / "data"
    if any((run_dir / "checkpoints").glob("step-*")):
        record = read_record(place / RECORD)
        refuse_changed(record, root, run_dir)
        keys = {**record["keys"], "data.dir": os.fspath(place)}
        return OwnData(place, keys, [f"{show_path(root)}: {len(record['files'])} files, as they were when {run_dir} was begun"])
    prepared = _prepare(root, config)
    try:
        plan, told = _plan(prepared, config, typed, root)
    except DataError as fault:
        _refuse(_check(prepared, config, build=False), config)  # what is wrong with single recordings explains more
        raise DataError(f"{show_path(root)}: {fault}") from None
    return OwnData(place, {**plan.keys, "data.dir": os.fspath(place)}, told, prepared, mark_files(root))


def write_folder(own: OwnData, config: TrainConfig) -> None:
    """Check everything with the final keys, all problems at once, and write manifests and record; nothing where they are there.

    Raises DataError with the list of problems, after it is written to `run_dir/data_report.json`.
    """
    if own.prepared is None:
        return
    try:
        os.makedirs(config.run_dir, exist_ok=True)
    except OSError as fault:
        raise UsageError(f"run_dir={config.run_dir} cannot be made ({fault.strerror}): choose another") from None
    with locked(Path(config.run_dir)):
        _write(own, own.prepared, config)


def _write(own: OwnData, prepared: Prepared, config: TrainConfig) -> None:
    report = _check(prepared, config)
    usable = {one.id for one in _refuse(report, config)}
    parts = {part: [one for one in items if one.id in usable] for part, items in prepared.parts.items() if items}
    for part in ("train", "valid"):
        if not parts[part]:
            raise DataError(f"{report.where}: nothing is left for {part} after {report.unusable} recordings were left out")
    for part, items in parts.items():
        write_manifest(own.place / f"{part}.jsonl", items)
    record = {
        "format": FORMAT,
        "folder": os.path.abspath(config.data.folder),
        "split": prepared.split,
        "left_out": [asdict(problem) for problem in report.problems],
        "keys": {key: value for key, value in own.keys.items() if key != "data.dir"},
        "files": own.files,
    }
    write_atomic(own.place / RECORD, json.dumps(record, indent=1, ensure_ascii=False))


def _refuse_places(config: TrainConfig, root: Path, run_dir: Path) -> None:
    if not config.run_dir:
        raise UsageError("run_dir is not set: give a folder for the model and its checkpoints, run_dir=DIR")
    if config.data.dir:
        raise UsageError("data.dir and data.folder exclude each other: prepared manifests, or a folder of recordings")
    if (config.data.train, config.data.valid) != (DataOptions.train, DataOptions.valid):
        raise UsageError(
            "data.train and data.valid name manifests of data.dir and do not go with data.folder, which gets its own"
        )
    if config.tokens.unit == "phones":
        raise UsageError(
            "tokens.unit=phones needs phones, and data.folder gives words; leave it out, or prepare a corpus with phones"
        )
    here, inside = os.path.realpath(root), os.path.realpath(run_dir)
    if inside == here or inside.startswith(os.path.join(here, "")):
        raise UsageError(
            f"run_dir={run_dir} lies in data.folder={root}, where its files would be taken for recordings; choose another"
        )
    if (root / config.data.train).is_file():
        raise UsageError(f"data.folder={root} holds {config.data.train}: it is a prepared folder, write data.dir={root}")


def _prepare(root: Path, config: TrainConfig) -> Prepared:
    options = FolderOptions(
        valid_fraction=config.data.valid_fraction,
        test_fraction=config.data.test_fraction,
        seed=config.seed,
        split_by=config.data.split_by,
    )
    prepared = prepare(root, options)
    found = sum(map(len, prepared.parts.values()))
    shown = show_path(root)
    if not found and all(problem.kind == "no-transcript" for problem in prepared.problems):
        example = prepared.problems[0].where
        text = f"{os.path.basename(os.path.splitext(example)[0])}.txt"
        raise DataError(
            f"{shown}: none of its {len(prepared.problems)} recordings has a transcript: write what is said in {example} to "
            f"{text} beside it; tables and other layouts are read by asr-data prepare"
        )
    if found and not prepared.parts.get("train"):
        raise DataError(
            f"{shown}: its recordings lie in {' and '.join(sorted(prepared.parts))}, none in train; name a part train"
        )
    too_few = [problem.message for problem in prepared.problems if problem.kind == TOO_FEW]
    if found < FEWEST:
        listed = "".join(f"\n  {problem}" for problem in prepared.problems[:20] if problem.kind != TOO_FEW)
        raise DataError(
            f"{shown}: {found} recording{'s' * (found != 1)} with a transcript {'is' if found == 1 else 'are'} too few: one part "
            f"trains, one chooses the best epoch, one is set aside; {FEWEST} are the least, some hundred a beginning{listed}"
        )
    if too_few:
        raise DataError(f"{shown}: {too_few[0]}")
    return prepared


def _plan(prepared: Prepared, config: TrainConfig, typed: frozenset[str], root: Path) -> tuple[Plan, list[str]]:
    """All choices, each made with those before it, and what to tell."""
    train = prepared.parts["train"]
    spoken = [Spoken(one.duration, inspect_audio(one.audio_filepath).sample_rate, one.text or "") for one in train]
    hours = sum(one.duration for one in spoken) / 3600
    size = size_for(hours)
    fixed = {key: getattr(getattr(config, group), name) for key in typed for group, _, name in [key.partition(".")] if name}
    choices: list[Choice] = []

    def settle(*more: Choice) -> TrainConfig:
        choices.extend(more)
        return _overlaid(config, Plan(tuple(choices)).keys, typed)

    texts = [one.text or "" for items in prepared.parts.values() for one in items]
    if config.init:
        now = settle(_start_choice(config.init))
    else:
        now = settle(text_choice(texts), rate_choice(spoken), network_choice(size, hours, fixed))
    rare = _letters_elsewhere(prepared, now)
    if rare:
        reason = f"alphabet: {len(rare)} letter{'s' * (len(rare) > 1)} that only the other parts hold, and nobody can learn"
        now = settle(Choice({"tokens.extra": rare}, reason))
    tokenizer = _build_tokenizer(train, now)
    if not config.init:
        frames = FeatureExtractor(now.features).num_frames
        fastest = max(config.augment.speed) if "augment.speed" in typed else max(SPEEDS)
        encoded = {one.text: tokenizer.encode(one.text) for one in spoken}
        seconds_to_frames = lambda seconds: frames(int(seconds * now.features.sample_rate))  # noqa: E731
        settle(steps_choice(spoken, encoded.__getitem__, seconds_to_frames, fastest))
    rate = TUNING_RATE if config.init else 1.0
    settle(*schedule_choices(size, [one.duration for one in spoken], rate=rate, fixed=fixed))
    plan = Plan(tuple(choices))
    return plan, [*_told_of(prepared, tokenizer, root), *_chosen(plan, typed), *_expected(prepared, hours, tokenizer)]


def _overlaid(config: TrainConfig, keys: Mapping[str, Any], typed: frozenset[str]) -> TrainConfig:
    """The configuration with these keys, those that were typed excepted."""
    groups: dict[str, dict[str, Any]] = {}
    for key, value in keys.items():
        if key not in typed:
            group, name = key.split(".")
            groups.setdefault(group, {})[name] = value
    return replace(config, **{group: replace(getattr(config, group), **values) for group, values in groups.items()})


def _start_choice(init: str) -> Choice:
    """Features, network and text rules of the model to start from, so that its weights fit, where they are not the defaults."""
    start, defaults = load_model(init), asdict(TrainConfig())
    groups = asdict(start.model.options)
    if start.tokenizer.options.writes_text:
        groups["tokens"] = {name: value for name, value in asdict(start.tokenizer.options).items() if name != "extra"}
    keys = {
        f"{group}.{name}": value
        for group, values in groups.items()
        for name, value in values.items()
        if value != defaults[group][name]
    }
    if start.model.options.encoder.self_conditioned:
        keys["objective.intermediate"] = MIDDLE_SHARE
    return Choice(keys, f"start: features, network and text rules as in {show_path(init)}, so that its weights fit")


def _letters_elsewhere(prepared: Prepared, config: TrainConfig) -> list[str]:
    """Letters of valid and test that no transcript of train holds."""
    letters = {
        part: set("".join(normalize(one.text or "", config.tokens) for one in items)) for part, items in prepared.parts.items()
    }
    return sorted(set().union(*letters.values()) - letters["train"] - {" "})


def _build_tokenizer(train: Iterable[Utterance], config: TrainConfig) -> Tokenizer:
    return Tokenizer.build([one.text for one in train if one.text], config.tokens)


def _refuse(report: DataReport, config: TrainConfig) -> list[Utterance]:
    """Write the report; the usable recordings, or DataError with all problems."""
    write_report({"folder": report}, Path(config.run_dir) / "data_report.json")
    return refuse_or_skip(report, config.data)


def _check(prepared: Prepared, config: TrainConfig, *, build: bool = True) -> DataReport:
    """One report of the whole folder: what the reader refused, and what the network cannot use.

    Without `build`, for want of an alphabet, transcripts are only required to be there.
    """
    where = show_path(config.data.folder)
    tokenizer = _build_tokenizer(prepared.parts["train"], config) if build else None
    model = build_model(config, len(tokenizer)) if tokenizer else None
    reports = [
        check_utterances(
            items,
            options=config.data,
            sample_rate=config.features.sample_rate,
            unit=config.tokens.unit,
            encode=tokenizer.encode if tokenizer else lambda text: [1] * bool(text.strip()),
            unknown=tokenizer.unknown_symbols if tokenizer else None,
            changes=tokenizer.changes if tokenizer else None,
            frames_of=model.emission_length if model and part in ("train", "valid") else None,
            fastest=max(config.augment.speed) if part == "train" else 1.0,
            where=where,
        )
        for part, items in prepared.parts.items()
        if items
    ]
    usable = [one for report in reports for one in report.usable]
    warnings: Counter[str] = Counter()
    for report in reports:
        warnings.update(report.warnings)
    problems = [*prepared.problems, *(problem for report in reports for problem in report.problems)]
    return DataReport(
        where=where,
        usable=usable,
        problems=problems,
        warnings=dict(warnings),
        utterances=sum(report.utterances for report in reports) + len(prepared.problems),
        hours=sum(one.duration for one in usable) / 3600,
    )


def _told_of(prepared: Prepared, tokenizer: Tokenizer, root: Path) -> list[str]:
    """What the folder holds and how it is shared out."""
    parts = {part: items for part, items in prepared.parts.items() if items}
    everything = [one for items in parts.values() for one in items]
    hours = {part: sum(one.duration for one in items) / 3600 for part, items in parts.items()}
    speakers = {one.speaker for one in everything} - {None}
    voices = f"{len(speakers)} speakers, by sub-folder" if speakers else "speakers unknown, for there are no sub-folders"
    lines = [f"{show_path(root)}: {len(everything)} recordings, {show_hours(sum(hours.values()))}, {voices}", prepared.split]
    uses = {
        "train": "to train",
        "valid": "to choose the best epoch by",
        "dev": "set aside",
        "test": "set aside to be recognised at the end",
    }
    lines.append("; ".join(f"{len(items)} ({show_hours(hours[part])}) {uses[part]}" for part, items in parts.items()))
    share = hours["train"] / sum(hours.values())
    if share < SMALL_SHARE and prepared.split.startswith("split by speaker"):
        lines.append(
            f"note: so that the parts share no speaker, only {100 * share:.0f} % is left to train; data.split_by=utterance "
            "leaves more, and then the error rate is one on known voices"
        )
    lines += [f"note: {note}" for note in prepared.notes]
    text = "".join(tokenizer.normalize(one.text or "") for one in everything)
    seconds = 3600 * sum(hours.values())
    scripts = scripts_of(text)
    kind = f" in {' and '.join(scripts[:3])} script" if scripts else ""
    leftwards = ", written from right to left and recognised in the order it is said" if runs_leftwards(text) else ""
    pace = f"{len(text) / seconds:.1f} characters a second"
    lines.append(f"transcripts: {len(tokenizer) - 1} different tokens{kind}, {pace}{leftwards}")
    return lines


def _chosen(plan: Plan, typed: frozenset[str]) -> list[str]:
    return ["chosen (type any of these keys and yours is taken):", *(f"  {line}" for line in plan.lines(typed))]


def _expected(prepared: Prepared, hours: float, tokenizer: Tokenizer) -> list[str]:
    train = [tokenizer.normalize(one.text or "") for one in prepared.parts["train"]]
    words = {word for text in train for word in text.split()}
    voices = {part: {one.speaker for one in items} for part, items in prepared.parts.items() if items}
    aside = voices.get("test") or voices.get("dev") or voices["valid"]
    new_voices = None not in aside and aside.isdisjoint(voices["train"])
    lines = ["what to expect:"]
    lines += [f"  {line}" for line in expectations(hours=hours, different_words=len(words), new_voices=new_voices)]
    counts = Counter("".join(train))
    rare = sorted((letter for letter, count in counts.items() if count < RARE), key=lambda letter: (counts[letter], letter))
    if rare:
        shown = some((f"{show_symbol(letter)} {counts[letter]}" for letter in rare), limit=10)
        lines.append(f"  letters that stand fewer than {RARE} times in the training part will hardly be learnt: {shown}")
    return lines
