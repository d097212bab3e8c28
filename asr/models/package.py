"""A model as a folder: weights, options, tokens and their checksums. Loading one verifies every byte and runs no code in it.

`model.safetensors` holds the weights, `config.json` the options, `tokens.txt` the symbols, and `checksums.json`, written last,
the sha256 of the other three. Parts are chosen by name from the tables of this package; nothing stored can name anything else.
"""

import difflib
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor

from asr import __version__
from asr.data.files import file_sha256, flush_to_disk, open_regular, show_path, write_flushed, write_reason
from asr.errors import AsrError, DataError, ModelError, ResourceError, UsageError
from asr.models.model import ModelOptions, SpeechModel
from asr.text.tokenizer import Tokenizer, TokenOptions

FORMAT = 1
FILES = ("model.safetensors", "config.json", "tokens.txt")
CHECKSUMS = "checksums.json"
CONTENTS = ", ".join((*FILES, CHECKSUMS))
DTYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "BOOL": torch.bool}
#: Largest text file and largest table of tensors that is read, bytes; real ones are a thousand times smaller.
TEXT_LIMIT = 2**24

T = TypeVar("T")


@dataclass(frozen=True)
class LoadedModel:
    """A verified model, in evaluation mode."""

    model: SpeechModel
    tokenizer: Tokenizer
    #: What the training wrote about itself; plain data, read by no part of the model.
    notes: dict[str, Any]
    #: The folder it came from.
    folder: Path


def save_model(folder: str | Path, model: SpeechModel, tokenizer: Tokenizer, *, notes: dict[str, Any] | None = None) -> None:
    """Write the model folder, replacing an older one as a whole.

    All files are written and flushed under another name first; until the last rename `load_model` finds the older model, after
    a kill between the two renames too. Raises ModelError for weights that are not finite or tokens that do not fit, UsageError
    for a folder that holds something else, ResourceError when the disk does not take it.
    """
    folder = Path(os.path.abspath(folder))
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    _check_finite(weights, folder)
    if len(tokenizer) != model.vocabulary:
        sizes = f"{len(tokenizer)} tokens, the model {model.vocabulary} outputs"
        raise ModelError(f"{show_path(folder)}: not saved, the tokenizer has {sizes}; save a model with its own tokenizer")
    config = {
        "format": FORMAT,
        "asr": __version__,
        "vocabulary": model.vocabulary,
        "model": asdict(model.options),
        "tokens": asdict(tokenizer.options),
        "notes": notes or {},
    }
    check_replaceable(folder)
    partial = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        sums = {
            FILES[0]: write_flushed(partial / FILES[0], save(weights)),
            FILES[1]: write_flushed(partial / FILES[1], json.dumps(config, indent=1, ensure_ascii=False).encode()),
        }
        tokenizer.save(partial / FILES[2])
        flush_to_disk(partial / FILES[2])
        sums[FILES[2]] = file_sha256(partial / FILES[2])
        write_flushed(partial / CHECKSUMS, json.dumps({"sha256": sums}, indent=1).encode())
        flush_to_disk(partial)
        _swap(partial, folder)
    except OSError as fault:
        reason = write_reason(folder, fault, sum(tensor.nbytes for tensor in weights.values()))
        raise ResourceError(
            f"{show_path(folder)}: the model could not be written: {reason}; the one before it is intact; free space or choose "
            "another folder"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_model(path: str | Path, device: str | torch.device = "cpu") -> LoadedModel:
    """Read and verify a model; `path` is a run directory or its model/ folder.

    Raises ModelError, in one sentence, for a folder that is no model, misses a file, differs from its checksums, holds an
    unknown option, an interpolation, weights of other names, kinds or shapes than its options ask for, weights that are not
    finite, or tokens that do not fit.
    """
    for _ in range(3):
        folder = _find(Path(path))
        before = folder.stat().st_ino
        try:
            return _load(folder, device)
        except ModelError:
            # A training may have replaced the folder between two reads; only a folder that stayed is to blame.
            if folder.exists() and folder.stat().st_ino == before:
                raise
    raise ModelError(f"{show_path(path)}: the model was replaced again and again while it was read; try again")


def _load(folder: Path, device: str | torch.device) -> LoadedModel:
    content = _verified(folder)
    config = _parse_json(content["config.json"], folder / "config.json")
    if config.get("format") != FORMAT:
        raise ModelError(
            f"{show_path(folder)}: config.json has format {config.get('format')!r}, this version, {__version__}, reads {FORMAT}; "
            f"use the version that wrote it, {config.get('asr')!r}"
        )
    unknown = set(config) - {"format", "asr", "vocabulary", "model", "tokens", "notes"}
    if unknown:
        raise ModelError(
            f"{show_path(folder)}: config.json holds the unknown key {min(unknown)!r}; it is not a model of this toolkit"
        )
    try:
        options = _build_options(ModelOptions, config.get("model"), "model")
        tokenizer = Tokenizer.load(folder / "tokens.txt", _build_options(TokenOptions, config.get("tokens"), "tokens"))
    except AsrError as fault:
        raise ModelError(f"{show_path(folder)}: {fault}") from None
    if config.get("vocabulary") != len(tokenizer):
        raise ModelError(
            f"{show_path(folder)}: tokens.txt has {len(tokenizer)} symbols, config.json says {config.get('vocabulary')!r}; "
            "the files are of different models"
        )
    model = _build_model(options, len(tokenizer), content["model.safetensors"], folder)
    return LoadedModel(model.eval().to(device), tokenizer, config.get("notes") or {}, folder)


def _find(path: Path) -> Path:
    """The model folder meant by `path`; while a training swaps folders, the one it had set aside."""
    if path.is_file():
        raise ModelError(f"{show_path(path)}: is a file; give a run directory or its model/ folder")
    if any((path / name).exists() for name in (*FILES, CHECKSUMS)):
        return path
    inner = path / "model"
    if inner.is_dir():
        return inner
    for target in (inner, path):
        aside = list(_leftovers(Path(os.path.abspath(target)), "old"))
        if aside:
            newest = max(aside, key=lambda folder: folder.stat().st_mtime)
            warnings.warn(f"{target}: its replacement was cut short, the model before it is used: {newest}", stacklevel=3)
            return newest
    if not path.is_dir():
        raise ModelError(f"{show_path(path)}: no such folder; give a run directory or its model/ folder")
    raise ModelError(f"{show_path(path)}: holds no model; expected {CONTENTS} there or in its model/ folder")


# --- writing


def _leftovers(folder: Path, kind: str) -> Iterator[Path]:
    """Folders that a killed save left beside `folder`: tmp (half written) or old (complete, set aside)."""
    if folder.parent.is_dir():
        pattern = re.compile(re.escape(folder.name) + rf"\.{kind}-\d+")
        yield from (path for path in folder.parent.iterdir() if pattern.fullmatch(path.name) and path.is_dir())


def check_replaceable(folder: Path) -> None:
    """UsageError for a folder that `save_model` would not write to, because it holds something else."""
    if folder.exists() or folder.is_symlink():
        plain = folder.is_dir() and not folder.is_symlink()
        foreign = set(os.listdir(folder)) - {*FILES, CHECKSUMS} if plain else {folder.name}
        if foreign:
            raise UsageError(
                f"{show_path(folder)}: is no model folder, for it holds {min(foreign)!r}; choose another place for the model"
            )


def _swap(partial: Path, folder: Path) -> None:
    old = folder.with_name(f"{folder.name}.old-{os.getpid()}")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(partial, folder)
    except OSError:
        if old.exists():
            os.rename(old, folder)
        raise
    flush_to_disk(folder.parent)
    for kind in ("old", "tmp"):
        for leftover in _leftovers(folder, kind):
            shutil.rmtree(leftover, ignore_errors=True)


# --- reading


def _verified(folder: Path) -> dict[str, bytes]:
    """The bytes of the files, each equal to its checksum."""
    content = {name: _read(folder / name) for name in (CHECKSUMS, *FILES)}
    sums = _parse_json(content.pop(CHECKSUMS), folder / CHECKSUMS).get("sha256")
    if not isinstance(sums, dict) or set(sums) != set(FILES):
        raise ModelError(
            f"{show_path(folder)}: checksums.json does not list {', '.join(FILES)}; it is not a model of this toolkit"
        )
    for name, data in content.items():
        if hashlib.sha256(data).hexdigest() != sums[name]:
            raise ModelError(
                f"{show_path(folder / name)}: its {len(data)} bytes differ from the sha256 in checksums.json, so it is damaged "
                "or was changed; copy the model folder again"
            )
    return content


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as handle:
            if path.suffix != ".safetensors" and os.fstat(handle.fileno()).st_size > TEXT_LIMIT:
                raise ModelError(f"{show_path(path)}: is larger than {TEXT_LIMIT // 2**20} MiB, which no file of a model is")
            return handle.read()
    except DataError as fault:
        raise ModelError(f"{fault}; a model folder holds {CONTENTS}") from None
    except OSError as fault:
        raise ModelError(f"{show_path(path)}: cannot be read ({fault.strerror}); copy the model folder again") from None


def _parse_json(data: bytes, path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(data.decode("utf-8"), parse_constant=float)
    except (ValueError, RecursionError):
        raise ModelError(f"{show_path(path)}: is not JSON as this toolkit writes it; copy the model folder again") from None
    if not isinstance(parsed, dict):
        raise ModelError(f"{show_path(path)}: holds no table of names and values; copy the model folder again")
    return parsed


def _build_options(kind: type[T], data: Any, where: str) -> T:
    """Plain data -> an options dataclass. Unknown keys are refused; a missing one has its default, which an option added
    later must choose so that it means what models did before.
    """
    if not isinstance(data, dict):
        raise ModelError(f"config.json: {where} is {type(data).__name__}, expected a table of options")
    types = get_type_hints(kind)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    values = {}
    for key, value in data.items():
        if key not in known:
            closest = difflib.get_close_matches(key, known, 1, 0.0)
            raise ModelError(f"config.json: unknown option {where}.{key}; the closest known one is {where}.{closest[0]}")
        if is_dataclass(types[key]):
            values[key] = _build_options(types[key], value, f"{where}.{key}")  # type: ignore[arg-type]
        else:
            if not _fits(value, types[key]):
                raise ModelError(f"config.json: {where}.{key}={value!r} has the wrong type, expected {_type_name(types[key])}")
            if "${" in str(value):
                raise ModelError(f"config.json: {where}.{key}={value!r} holds '${{', which is never filled in; write the value")
            values[key] = value
    return kind(**values)


def _type_name(expected: Any) -> str:
    return expected.__name__ if get_origin(expected) is None else str(expected)


def _fits(value: Any, expected: Any) -> bool:
    inner = get_args(expected)
    if get_origin(expected) is list:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if get_origin(expected) is dict:
        return isinstance(value, dict) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if inner:
        return any(_fits(value, choice) for choice in inner)
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, expected) and not (expected is int and isinstance(value, bool))


# --- weights


def _build_model(options: ModelOptions, vocabulary: int, data: bytes, folder: Path) -> SpeechModel:
    """The model with the stored weights; names, kinds and shapes are compared before memory is taken for any of them."""
    path = show_path(folder / "model.safetensors")
    try:
        with torch.device("meta"):
            expected = SpeechModel(options, vocabulary=vocabulary, seed=0, initialize=False).state_dict()
    except (MemoryError, RuntimeError, ValueError, OverflowError):
        raise ModelError(f"{show_path(folder)}: config.json describes a model that cannot be built on this machine") from None
    found = _tensor_table(data, path)
    head = found.get("head.linear.weight")
    if head is not None and head[1][:1] != [vocabulary]:
        raise ModelError(
            f"{path}: its output layer has {head[1][:1]} symbols, tokens.txt {vocabulary}; the files are of different models"
        )
    for name in sorted(set(expected) ^ set(found)):
        problem = "lacks the weights" if name in expected else "holds unknown weights"
        raise ModelError(f"{path}: {problem} {name!r}; it does not fit config.json")
    for name, tensor in expected.items():
        if found[name] != (tensor.dtype, list(tensor.shape)):
            stored = " ".join(map(str, found[name]))
            asked = f"{tensor.dtype} {list(tensor.shape)}"
            raise ModelError(f"{path}: {name} is {stored}, config.json asks for {asked}; the files are of different models")
    try:
        weights = load(data)
    except (safetensors.SafetensorError, ValueError, RuntimeError, KeyError):
        raise ModelError(f"{path}: is not a safetensors file, or a damaged one; copy the model folder again") from None
    _check_finite(weights, folder)
    model = SpeechModel(options, vocabulary=vocabulary, seed=0, initialize=False)
    model.load_state_dict(weights)
    return model


def _tensor_table(data: bytes, path: str) -> dict[str, tuple[torch.dtype | str, list[int]]]:
    """Names, kinds and shapes from the head of a safetensors file: 8 bytes of length, then JSON."""
    size = int.from_bytes(data[:8], "little")
    try:
        if not 0 < size <= min(TEXT_LIMIT, len(data) - 8):
            raise ValueError
        table = json.loads(data[8 : 8 + size].decode("utf-8"))
        table.pop("__metadata__", None)
        return {name: (DTYPES.get(entry["dtype"], str(entry["dtype"])), list(entry["shape"])) for name, entry in table.items()}
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        raise ModelError(f"{path}: is not a safetensors file, or a damaged one; copy the model folder again") from None


def _check_finite(weights: dict[str, Tensor], folder: Path) -> None:
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"{show_path(folder)}: weights {name} hold NaN or infinity, so the model can recognise nothing; use another one"
            )
