"""What a run directory may go on with: its own configuration, manifests and recordings. Another device may be, and is said."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asr.data.manifest import manifest_sha256
from asr.errors import DataError, ModelError, UsageError
from asr.models.package import check_replaceable
from asr.training.metrics import read_metrics
from asr.training.options import FREE_ON_RESUME, TrainConfig
from asr.training.preparation import Part, manifest_path

PARTS = ("train", "valid")


def identity(config: TrainConfig, parts: dict[str, Part], symbols: list[str], place: tuple[str, str, int]) -> dict[str, Any]:
    """What a checkpoint stores to be recognised by. place: device, precision, and number of processes.

    `used` holds, for each part, how many utterances are used and the sha256 of their ids in order: the order of training rests
    on them.
    """
    ids = {name: [utterance.id for utterance in parts[name].utterances] for name in PARTS}
    return {
        "config": asdict(config),
        "manifests": {name: manifest_sha256(manifest_path(config, getattr(config.data, name))) for name in PARTS},
        "used": {name: [len(some), hashlib.sha256("\n".join(some).encode()).hexdigest()] for name, some in ids.items()},
        "tokens": symbols,
        "device": place[0],
        "precision": place[1],
        "processes": place[2],
    }


def refuse_other_run(state: dict[str, Any], config: TrainConfig) -> None:
    """Before anything is read: UsageError names the options that differ, or the manifest."""
    run_dir = config.run_dir
    differing = differing_keys(state["config"], asdict(config), asdict(TrainConfig()))
    if differing:
        raise UsageError(
            f"{run_dir} holds a run with another configuration ({'; '.join(differing)}): give the same values to resume it, or "
            f"another run_dir, to which init={run_dir} brings what it has learnt"
        )
    for name, expected in state["manifests"].items():
        path = manifest_path(config, getattr(config.data, name))
        if manifest_sha256(path) != expected:
            raise UsageError(
                f"{path} has changed since the last checkpoint of {run_dir}, or is another one: restore it, or choose another "
                "run_dir"
            )


def refuse_lost_run(config: TrainConfig) -> None:
    """Where there is no checkpoint: UsageError rather than a new training over a model that took longer, or over other files.

    A model of the first validation is what a kill before the first checkpoint leaves, and is made again.
    """
    run_dir = Path(config.run_dir)
    check_replaceable(run_dir / "model")
    try:
        epoch = json.loads((run_dir / "model" / "config.json").read_text(encoding="utf-8"))["notes"]["epoch"]
        epoch = max([epoch, *(line["epoch"] for line in read_metrics(run_dir / "metrics.jsonl"))])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if epoch > config.training.validate_every:
        raise UsageError(
            f"{run_dir} holds a model of {epoch} epochs and no checkpoint to go on from: choose another run_dir, to which "
            f"init={run_dir} brings what it has learnt"
        )


def refuse_other_data(state: dict[str, Any], now: dict[str, Any]) -> None:
    """Once the data are read: ModelError for other symbols, DataError for other recordings. now: what `identity` gave."""
    run_dir = now["config"]["run_dir"]
    if state["tokens"] != now["tokens"]:
        raise ModelError(f"{run_dir} was trained with other symbols than the data gives now: choose another run_dir")
    for name, used in state.get("used", {}).items():
        if used != now["used"][name]:
            raise DataError(
                f"{now['config']['data'][name]}: {now['used'][name][0]} utterances can be used now, {used[0]} could at the last "
                f"checkpoint of {run_dir}: bring the recordings back into the state they had, or choose another run_dir"
            )


def other_place(state: dict[str, Any], now: dict[str, Any]) -> str | None:
    """A warning where device, precision or the number of processes differ."""

    def place(one: dict[str, Any]) -> list[str]:
        processes = one.get("processes", 1)
        return [one.get("device", now["device"]), one["precision"], *([f"{processes} processes"] if processes > 1 else [])]

    was, here = place(state), place(now)
    if was == here:
        return None
    return (
        f"WARNING: the run was on {' in '.join(was)} and goes on on {' in '.join(here)}: it will not end with the very weights "
        "that it would have had there"
    )


def differing_keys(stored: dict[str, Any], current: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    """Lines `key: stored -> current` for each option that differs, those in FREE_ON_RESUME left out.

    An option that the stored configuration does not know, because it was added since, had its default.
    """
    before, now = {**_flat(defaults, defaults), **_flat(stored, defaults)}, _flat(current, defaults)
    keys = sorted((before.keys() | now.keys()) - FREE_ON_RESUME)
    return [f"{key}: {before.get(key)!r} -> {now.get(key)!r}" for key in keys if before.get(key) != now.get(key)]


def _flat(tree: dict[str, Any], shape: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys; what is a set of keys in `shape`, and no value that happens to be a mapping, is taken apart."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        inner = shape.get(key)
        if isinstance(value, dict) and isinstance(inner, dict) and inner:
            out.update(_flat(value, inner, f"{prefix}{key}."))
        else:
            out[prefix + key] = value
    return out
