"""From YAML files and the command line to a tree of option objects; the only importer of Hydra and OmegaConf besides asr.cli.

Hydra selects and merges the files of `configs/`; the option classes then say which keys exist, of which type. Nothing in a
configuration can run code: `_target_` is no key, and `${...}` is refused wherever it stands.
"""

import contextlib
import os
import tempfile
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from asr.cli.arguments import Arguments, closest, expand_home
from asr.cli.describe import config_source
from asr.errors import UsageError

T = TypeVar("T")
EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
MISSING = "???"


@dataclass(frozen=True)
class OptionField:
    """A key of the option tree. kind: its type. node: it holds further keys. path: its value is a path."""

    kind: Any
    node: bool
    path: bool

    @property
    def mapping(self) -> bool:
        return typing.get_origin(self.kind) is dict

    @property
    def sequence(self) -> bool:
        return typing.get_origin(self.kind) is list

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.node:
            return "a set of keys"
        if self.mapping:
            return "a mapping such as {a: b}"
        if self.sequence:
            return "a list such as [1,2]"
        parts = [part for part in typing.get_args(self.kind) if part is not type(None)] or [self.kind]
        words = " or ".join(EXPECTED.get(part, str(part)) for part in parts)
        return f"{words} or null" if type(None) in typing.get_args(self.kind) else words


def compose_config(name: str, arguments: Arguments, schema: type[T], *, base: Mapping[str, Any] | None = None) -> T:
    """Build `schema`, a tree of dataclasses, from `configs/NAME.yaml`, what it selects, and the command line.

    The command line wins over an experiment, that over `base` (dotted key -> value), and that over the defaults of the classes.
    Values in `arguments.paths`, and of
    fields marked `metadata={"path": True}`, are taken as they stand. Raises UsageError, in one sentence, for an unknown key
    (naming the closest), a value of the wrong type, a missing one, an unknown choice, `${`, `_target_`, and for whatever
    `__post_init__` of an option class refuses. Changes neither the working folder nor any file.
    """
    known = option_fields(schema)
    tree, paths, groups = _collect(name, arguments, known)
    if base:
        below: dict[str, Any] = {}
        for key, value in base.items():
            _put(below, key, value)
        _refuse_foreign(below, known, "the plan for the data")
        tree = _plain(OmegaConf.merge(OmegaConf.create(below), OmegaConf.create(tree)))
    filled = _with_defaults(tree, schema, known)
    for key, path in paths.items():
        if key not in known:
            raise UsageError(_unknown_key(key, f"{key}={path}", [*known, *groups]))
        _put(filled, key, path)
    missing = [key for key, option in known.items() if not option.node and key not in paths and _value_at(filled, key) == MISSING]
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} must be given: add {' '.join(f'{key}=VALUE' for key in missing)} to the command"
        )
    return _build(schema, filled)


def set_keys(name: str, arguments: Arguments, schema: type) -> frozenset[str]:
    """The keys that the command line, or a file it selects, sets; `compose_config` tells what is wrong with their values."""
    known = option_fields(schema)
    tree, paths, _ = _collect(name, arguments, known)
    return frozenset(key for key, option in known.items() if not option.node and (key in paths or _is_set(tree, key)))


def _is_set(tree: Any, key: str) -> bool:
    for name in key.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return False
        tree = tree[name]
    return True


def _collect(
    name: str, arguments: Arguments, known: Mapping[str, OptionField]
) -> tuple[dict[str, Any], dict[str, str], dict[str, list[str]]]:
    """(what the files and the command line set, as a tree; the paths of the command line; the groups of files)"""
    paths = dict(arguments.paths)
    choices: dict[str, str] = {}
    values: list[tuple[str, Any]] = []
    with _config_folder() as folder:
        groups = _groups(folder, name)
        for word in arguments.overrides:
            key, equals, text = word.partition("=")
            if not equals:
                raise UsageError(f"'{_brief(word)}' has no value: write {key}=VALUE")
            if key in known and known[key].path:
                paths[key] = expand_home(text)
            elif "${" in text:
                raise UsageError(f"{_brief(word)}: '${{...}}' is not resolved here: write the value itself")
            elif key in groups:
                choices[key] = _checked_choice(key, text, groups[key])
            else:
                values.append((key, _read_value(key, text, known, groups)))
        tree = _compose(folder, name, choices)
        if "experiment" in choices and len(choices) > 1:  # what was typed wins over what the experiment sets
            typed = {group: choice for group, choice in choices.items() if group != "experiment"}
            tree = _plain(OmegaConf.merge(tree, _compose(folder, name, typed)))
    selector = f"experiment={choices['experiment']}" if "experiment" in choices else f"configs/{name}.yaml"
    _refuse_foreign(tree, known, f"{selector} or a file it selects")
    for key, value in values:
        _put(tree, key, value)
    return tree, paths, groups


def option_fields(schema: type, prefix: str = "") -> dict[str, OptionField]:
    """All keys of a tree of dataclasses, dotted, in order: inner nodes included."""
    found: dict[str, OptionField] = {}
    hints: dict[str, Any] = typing.get_type_hints(schema)
    for entry in fields(schema):
        if entry.init:
            key, kind = prefix + entry.name, hints[entry.name]
            node = isinstance(kind, type) and is_dataclass(kind)
            found[key] = OptionField(kind, node, bool(entry.metadata.get("path")))
            if node:
                found.update(option_fields(kind, key + "."))
    return found


@contextlib.contextmanager
def _config_folder() -> Iterator[Path]:
    """The YAML files as a folder on disk; from inside a zip file they are copied out for as long as they are needed."""
    source = config_source()
    if isinstance(source, Path):
        yield source.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="asr-configs-") as folder:
        pending = [(source, Path(folder))]
        while pending:
            entry, target = pending.pop()
            if entry.is_dir():
                target.mkdir(exist_ok=True)
                pending.extend((child, target / child.name) for child in entry.iterdir())
            else:
                target.write_bytes(entry.read_bytes())
        yield Path(folder)


def _groups(folder: Path, name: str) -> dict[str, list[str]]:
    """The groups that `configs/NAME.yaml` lets one choose from, each with the names of its files."""
    defaults = _plain(OmegaConf.load(folder / f"{name}.yaml")).get("defaults", [])
    chosen = [str(group).removeprefix("optional ") for entry in defaults if isinstance(entry, Mapping) for group in entry]
    return {group: sorted(path.stem for path in (folder / group).glob("*.yaml")) for group in chosen}


def _checked_choice(group: str, choice: str, choices: list[str]) -> str:
    if choice not in choices:
        if not choices:
            raise UsageError(f"{group}={_brief(choice)}: there is no file to choose in configs/{group}")
        there = f"there are {', '.join(choices)}"
        if not choice:
            raise UsageError(f"{group}= has no value: {there}")
        advice = f"did you mean {closest(choice, choices)}? T{there[1:]}"
        raise UsageError(f"{group}={_brief(choice)} is not known: {advice}")
    return choice


def _read_value(key: str, text: str, known: Mapping[str, OptionField], groups: Mapping[str, list[str]]) -> Any:
    """The value of `key=text` as plain data, by Hydra's grammar; a text that the grammar cannot read stays as it is."""
    word = _brief(f"{key}={text}")
    parent = key.rpartition(".")[0]
    option = known.get(key)
    if option is None and parent in known and known[parent].mapping:
        return text
    if option is None:
        raise UsageError(_unknown_key(key, f"{key}={text}", [*known, *groups]))
    if option.node:
        inner = next(name for name in known if name.startswith(f"{key}."))
        raise UsageError(f"{word}: {key} is a set of keys, each set on its own, as in {inner}=VALUE")
    if option.mapping:
        return _read_mapping(word, text)
    if text == MISSING:
        raise UsageError(f"{word}: {key} takes {option.expected}")
    try:
        override = OverridesParser.create().parse_override(f"{key}={text}")
    except (HydraException, OmegaConfBaseException, RecursionError):
        if option.kind is str:
            return text
        raise UsageError(f"{word}: {key} takes {option.expected}") from None
    if override.is_sweep_override():
        advice = f"write a list as {key}=[{text}]" if option.sequence else "give one, and run the command once for each"
        raise UsageError(f"{word}: {key} takes {option.expected}, got several values: {advice}")
    value = override.value()
    if not isinstance(value, (str, int, float, bool, list, dict, type(None))):
        raise UsageError(f"{word}: {key} takes {option.expected}")
    return value


def _read_mapping(word: str, text: str) -> dict[str, Any]:
    """A YAML mapping on one line: keys can be quoted and hold any character, which Hydra's grammar forbids.

    Every scalar stays the text that was typed: `{no: yes}` maps a word to a word.
    """
    try:
        value = yaml.BaseLoader(text).get_single_data()
    except (yaml.YAMLError, RecursionError):
        value = None
    if not isinstance(value, dict) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise UsageError(f"{word}: expected a mapping such as {{a: b}}")
    return value


def _brief(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."


def _unknown_key(key: str, word: str, known: Iterable[str]) -> str:
    message = f"unknown key '{_brief(key)}': the closest known key is {closest(key, known)}"
    return f"{message} (if {word} is a file, put it after --)" if os.path.exists(word) else message


def _compose(folder: Path, name: str, choices: Mapping[str, str]) -> dict[str, Any]:
    """What `configs/NAME.yaml` and the chosen files set, as plain dicts and lists; nothing in it is resolved or checked."""
    words = [f"{group}={choice}" for group, choice in choices.items()]
    quoted = [f"{group}='{choice}'" for group, choice in choices.items()]  # or 123 would be a number
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            return _plain(compose(name, quoted))
    except yaml.YAMLError as error:
        raise UsageError(f"a configuration file is no valid YAML: {' '.join(str(error).split())}") from error
    except (HydraException, OmegaConfBaseException, UnicodeDecodeError) as error:
        first = str(error).strip().splitlines()[0]
        raise UsageError(f"{' '.join([f'configs/{name}.yaml', *words])} cannot be put together: {first}") from error


def _plain(config: Any) -> dict[str, Any]:
    tree: Any = OmegaConf.to_container(config, resolve=False)
    assert isinstance(tree, dict)
    return tree


def _refuse_foreign(tree: Mapping[Any, Any], known: Mapping[str, OptionField], origin: str, prefix: str = "") -> None:
    """Raise UsageError for anything in the composed tree that no option class has asked for."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(name, str) and name.startswith("_") and name.endswith("_"):
            raise UsageError(f"{key}, set by {origin}: a configuration holds values only and cannot name code to run")
        if key not in known:
            raise UsageError(f"{_unknown_key(key, key, known)}; it is set by {origin}")
        if known[key].node and isinstance(value, Mapping):
            _refuse_foreign(value, known, origin, f"{key}.")
        elif known[key].node:
            raise UsageError(f"{key}, set by {origin}: expected a set of keys, got {value!r}")
        elif "${" in repr(value):
            raise UsageError(f"{key}, set by {origin}: '${{...}}' is not resolved here: write the value itself")


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; a mapping is added to one that is there, as Hydra does."""
    *nodes, last = key.split(".")
    for node in nodes:
        tree = tree.setdefault(node, {})
    if isinstance(value, dict) and isinstance(tree.get(last), dict):
        tree[last] = {**tree[last], **value}
    else:
        tree[last] = value


def _with_defaults(tree: dict[str, Any], schema: type, known: Mapping[str, OptionField]) -> dict[str, Any]:
    """The tree with the defaults of the classes filled in and every value converted to the type of its field."""
    for key, option in known.items():
        value = _value_at(tree, key)
        if option.kind is bool and isinstance(value, int) and value not in (0, 1):  # OmegaConf takes 5 for true
            raise UsageError(f"{key} takes {option.expected}, got {value}")
    try:
        return _plain(OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.create(tree)))
    except OmegaConfBaseException as error:
        key = (error.full_key or "").partition("[")[0]
        key = key if key in known else key.rpartition(".")[0]
        if key not in known:
            raise
        raise UsageError(f"{key} takes {known[key].expected}, got {_as_typed(_value_at(tree, key))}") from error


def _value_at(tree: Any, key: str) -> Any:
    for name in key.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def _as_typed(value: Any) -> str:
    return (
        {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else _brief(repr(value))
    )


def _build(schema: type[T], values: Mapping[str, Any]) -> T:
    """Make the objects, innermost first; each class checks its own values in `__post_init__`."""
    hints = typing.get_type_hints(schema)
    made = {}
    for name, value in values.items():
        kind = hints[name]
        made[name] = _build(kind, value) if is_dataclass(kind) and isinstance(kind, type) else value
    return schema(**made)
