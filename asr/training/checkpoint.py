"""Checkpoints a killed training goes on from: complete, verified byte by byte, and never half written.

A checkpoint is a folder `step-N/` with `model.safetensors`, `optimizer.safetensors`, `average.safetensors`, `state.json` and,
written last, `checksums.json`. It is made under another name, flushed to the disk, and renamed. No file in it can run code.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from asr import __version__
from asr.data.files import flush_to_disk, write_flushed, write_reason
from asr.errors import ModelError, ResourceError, UsageError

FORMAT = 1
TENSOR_FILES = ("model", "optimizer", "average")

#: What `state.json` holds, and the tensors of each file.
Checkpoint = tuple[dict[str, Any], dict[str, dict[str, Tensor]]]


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run directory for this process; a second training in it is refused."""
    import fcntl

    path = run_dir / ".lock"
    with open(path, "a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            owner = handle.read().strip() or "another process"
            raise UsageError(f"{run_dir} is in use by {owner}: wait for it, stop it, or choose another run_dir") from None
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {os.uname().nodename}")
        handle.flush()
        yield


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors under names like `3/exp_avg`: parameter number, then name."""
    state = optimizer.state_dict()["state"]
    return {f"{number}/{name}": torch.as_tensor(value) for number, entries in state.items() for name, value in entries.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split("/", 1)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save_checkpoint(run_dir: Path, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any], *, keep: int) -> Path:
    """Write `run_dir/checkpoints/step-N` and remove all but the newest `keep`; ResourceError when the disk does not take it."""
    folder = run_dir / "checkpoints"
    final = folder / f"step-{step:07d}"
    partial = folder / f"step-{step:07d}.tmp-{os.getpid()}"
    size = sum(tensor.nbytes for part in tensors.values() for tensor in part.values())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < size + 2**20:
            raise OSError(errno.ENOSPC, "no space left")
        partial.mkdir()
        sums = {}
        for name in TENSOR_FILES:
            plain = {key: value.detach().cpu().contiguous() for key, value in tensors[name].items()}
            sums[f"{name}.safetensors"] = write_flushed(partial / f"{name}.safetensors", save(plain))
        sums["state.json"] = write_flushed(
            partial / "state.json", json.dumps({"format": FORMAT, "step": step, **state}, indent=1).encode()
        )
        write_flushed(partial / "checksums.json", json.dumps(sums, indent=1).encode())
        flush_to_disk(partial)
        if final.exists():
            shutil.rmtree(final)
        os.rename(partial, final)
        flush_to_disk(folder)
    except OSError as fault:
        shutil.rmtree(partial, ignore_errors=True)
        reason = write_reason(final, fault, size)
        advice = "what was saved before is intact; when this is mended, the same command goes on from there"
        raise ResourceError(f"checkpoint {final} could not be written: {reason}; {advice}") from None
    for _, old in _found(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _found(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    named = ((re.fullmatch(r"step-(\d+)", path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in named if match and path.is_dir())


def _verified(folder: Path) -> dict[str, bytes]:
    """The files of one checkpoint, each equal to its checksum; ModelError names the first that is not."""
    try:
        sums = json.loads((folder / "checksums.json").read_bytes())
        wanted = {f"{name}.safetensors" for name in TENSOR_FILES} | {"state.json"}
        if not isinstance(sums, dict) or set(sums) != wanted:
            raise ValueError("unexpected list of files")
    except (OSError, ValueError) as fault:
        raise ModelError(f"{folder}/checksums.json is missing or damaged ({fault})") from None
    files = {}
    for name, expected in sums.items():
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as fault:
            raise ModelError(f"{folder / name} cannot be read ({fault.strerror})") from None
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise ModelError(f"{folder / name} does not have its sha256 of checksums.json: it is damaged")
    return files


def read_checkpoint(run_dir: Path, step: int) -> Checkpoint:
    """State and tensors of the checkpoint that another process has found to be intact; ModelError where it is not so here."""
    try:
        return _read(run_dir / "checkpoints" / f"step-{step:07d}")
    except ModelError as fault:
        raise ModelError(f"{fault}; all processes must see the same run_dir") from None


def _read(folder: Path) -> Checkpoint:
    """State and tensors of one checkpoint; ModelError where it is damaged or not what its name says."""
    files = _verified(folder)
    try:
        name = "state.json"
        state = json.loads(files[name])
        tensors = {}
        for part in TENSOR_FILES:
            name = f"{part}.safetensors"
            tensors[part] = load(files[name])
    except (ValueError, KeyError, RuntimeError, SafetensorError):
        raise ModelError(f"{folder / name} is not what a checkpoint holds there") from None
    if not isinstance(state, dict):
        raise ModelError(f"{folder}/state.json is not what a checkpoint holds there")
    return state, tensors


def load_newest(run_dir: Path, tell: Any = print) -> Checkpoint | None:
    """State and tensors of the newest intact checkpoint, or None where there is none.

    A damaged one is renamed `.corrupt`, reported through `tell`, and the one before it is taken; the rests of killed saves are
    removed. Raises ModelError where there are checkpoints but none is intact.
    """
    folder = run_dir / "checkpoints"
    aside = _tidy(folder, tell)
    damaged: list[str] = []
    for _, path in reversed(_found(folder)):
        try:
            state, tensors = _read(path)
        except ModelError as fault:
            damaged.append(str(fault))
            tell(f"WARNING: {fault}; it is set aside as {path.name}.corrupt and the checkpoint before it is used")
            _set_aside(path)
            continue
        if state.get("format") != FORMAT:
            raise ModelError(
                f"{path} has checkpoint format {state.get('format')}, this version, {__version__}, reads {FORMAT}: "
                f"use the version that wrote it, {state.get('asr')}"
            )
        return state, tensors
    if damaged or aside:
        raise ModelError(f"no intact checkpoint is left in {folder}: {(damaged or aside)[0]}; start anew in another run_dir")
    return None


def _tidy(folder: Path, tell: Any) -> list[str]:
    """Remove the rests of killed saves and set aside what only has a checkpoint's name; a sentence for each that was set aside,
    now or before: with nothing else left, a run must not begin anew over its own model.
    """
    if not folder.is_dir():
        return []
    aside = [f"{path} is damaged" for path in sorted(folder.glob("step-*.corrupt"))]
    for path in sorted(folder.iterdir()):
        if re.fullmatch(r"step-\d+\.tmp-\d+", path.name):
            tell(f"removing {path}, the rest of a save that was cut off")
            shutil.rmtree(path, ignore_errors=True)
        elif re.fullmatch(r"step-\d+", path.name) and not path.is_dir():
            tell(f"WARNING: {path} is no folder; it is set aside as {path.name}.corrupt")
            _set_aside(path)
    return aside


def _set_aside(path: Path) -> None:
    target = path.with_name(path.name + ".corrupt")
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target, ignore_errors=True)
    os.replace(path, target)
