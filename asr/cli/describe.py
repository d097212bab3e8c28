"""What `--help` says about keys: read from the sources of the option classes, so that nothing heavy is imported.

The option classes live beside code that imports torch; their text is parsed, never run.
"""

import ast
import functools
import itertools
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

#: The option class of asr-train, and the keys its help shows; `--keys` shows all.
TRAINING = ("asr.training.options", "TrainConfig")
MAIN_KEYS = (
    "run_dir",
    "data.dir",
    "data.folder",
    "init",
    "device",
    "seed",
    "tokens.unit",
    "features.kind",
    "augment.speed",
    "encoder.cell",
    "encoder.layers",
    "encoder.width",
    "encoder.bidirectional",
    "encoder.subsampling",
    "encoder.dropout",
    "optim.learning_rate",
    "training.epochs",
    "training.precision",
    "data.on_bad",
)


@dataclass(frozen=True)
class Option:
    """One key of a command: dotted name, type and default as written in YAML ("" default: none), one line of meaning."""

    key: str
    kind: str
    default: str
    meaning: str
    path: bool


def read_options(module: str, name: str) -> list[Option]:
    """All keys of the dataclass `name` in `module` (an asr module), nested dataclasses included, in the order of the source."""
    return list(_options(module, name, ""))


def config_source() -> "Traversable":
    """Folder of the YAML files: inside the installed package (which may be a zip file), or beside it in a checkout."""
    package = files("asr")
    inside = package.joinpath("configs")
    return inside if inside.is_dir() else Path(str(package)).parent / "configs"


def group_choices(group: str) -> dict[str, str]:
    """The YAML files of a group (`experiment`, `encoder`, ...) by name, each with the comment at its head."""
    folder = config_source().joinpath(group)
    entries = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name)
    return {entry.name.removesuffix(".yaml"): _head_comment(entry.read_text(encoding="utf-8")) for entry in entries}


def _head_comment(text: str) -> str:
    """The first lines of comment on one line, without Hydra's own header."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line for line in (line.lstrip("# ") for line in lines) if not line.startswith("@"))


def describe_training() -> str:
    """The text of `asr-train --help`."""
    options = {option.key: option for option in read_options(*TRAINING)}
    groups = sorted(entry.name for entry in config_source().iterdir() if entry.is_dir() and entry.name != "experiment")
    choices = {f"{group}={name}": meaning for group in groups for name, meaning in group_choices(group).items()}
    return "\n".join(
        [
            "usage: asr-train data.folder=RECORDINGS run_dir=DIR [KEY=VALUE ...]",
            "       asr-train experiment=NAME data.dir=PREPARED run_dir=DIR [KEY=VALUE ...]",
            "",
            *textwrap.wrap(
                "Train a recogniser on a folder of recordings with their texts (anna/01.wav, anna/01.txt), or on one that "
                "`asr-data prepare` wrote. The same command again resumes a stopped run.",
                100,
            ),
            "",
            "experiments (experiment=NAME):",
            *_two_columns(group_choices("experiment").items()),
            "",
            "ready-made parts, instead of single keys:",
            *_two_columns(choices.items()),
            "",
            f"main keys with their defaults (asr-train --keys lists all {len(options)}):",
            *describe_keys(options[key] for key in MAIN_KEYS if key in options),
            "",
            "flags: --help, --keys, --version, --debug (tracebacks)",
            "exit codes: 0 fine, 1 internal fault, 2 usage, 3 data, 4 model, 5 out of disk, memory or device, 130/143 stopped",
        ]
    )


def describe_keys(options: Iterable[Option]) -> list[str]:
    """One line or more for each key: `key=default`, and its meaning."""
    return _two_columns((f"{option.key}={option.default}", option.meaning) for option in options)


def _two_columns(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Rows of a table that fits the terminal; where the first column is too wide, the second starts on a line of its own."""
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 40), 130)
    indent = 38 if width >= 80 else 6
    lines = []
    for name, meaning in rows:
        head = f"  {name} "
        wrapped = textwrap.wrap(meaning, width - indent, break_on_hyphens=False) or [""]
        if len(head) <= indent:
            lines.append((head.ljust(indent) + wrapped.pop(0)).rstrip())
        else:
            lines.append(head.rstrip())
        lines.extend(" " * indent + line for line in wrapped if line)
    return lines


@dataclass(frozen=True)
class _Source:
    """A module, read but not run: classes, constants, what it imports from asr (name -> module and name there), lines."""

    classes: dict[str, ast.ClassDef]
    constants: dict[str, ast.expr]
    imports: dict[str, tuple[str, str]]
    lines: list[str]


@functools.cache
def _parsed(module: str) -> _Source:
    parts = module.split(".")[1:]
    place = files("asr").joinpath("/".join(parts) + ".py")
    source = (place if place.is_file() else files("asr").joinpath("/".join([*parts, "__init__.py"]))).read_text(encoding="utf-8")
    tree = ast.parse(source)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    imports = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("asr")
        for alias in node.names
    }
    constants = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    return _Source(classes, constants, imports, source.splitlines())


def _find(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    source = _parsed(module)
    if name in source.classes:
        return module, source.classes[name]
    return _find(*source.imports[name]) if name in source.imports else None


def _options(module: str, name: str, prefix: str) -> Iterator[Option]:
    found = _find(module, name)
    if found is None:
        return
    module, node = found
    options: dict[str, list[Option]] = {}
    for base in node.bases:
        for option in _options(module, ast.unparse(base), prefix):
            options.setdefault(option.key.removeprefix(prefix).partition(".")[0], []).append(option)
    for position, statement in enumerate(node.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            follower = node.body[position + 1] if position + 1 < len(node.body) else None
            options[statement.target.id] = list(_field_options(module, statement, follower, prefix))
    for group in options.values():
        yield from group


def _field_options(module: str, statement: ast.AnnAssign, follower: ast.stmt | None, prefix: str) -> Iterator[Option]:
    key = prefix + ast.unparse(statement.target)
    kind = ast.unparse(statement.annotation).strip("'\"")
    if kind.isidentifier() and _find(module, kind):
        yield from _options(module, kind, key + ".")
        return
    source = _parsed(module)
    default, path = _default(statement.value, source.constants)
    meaning = _meaning(source.lines, statement, follower)
    yield Option(key, _readable_kind(kind), default, meaning, path)


def _default(value: ast.expr | None, constants: dict[str, ast.expr]) -> tuple[str, bool]:
    """The default as one types it, and whether the field is marked as a path."""
    if value is None:
        return "", False
    if not (isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] == "field"):
        return _as_typed(value, constants), False
    words = {word.arg: word.value for word in value.keywords}
    metadata = words.get("metadata")
    path = metadata is not None and bool(ast.literal_eval(metadata).get("path"))
    factory = words.get("default_factory")
    if isinstance(factory, ast.Lambda):
        return _as_typed(factory.body, constants), path
    if factory is not None:
        return {"list": "[]", "dict": "{}"}.get(ast.unparse(factory), ""), path
    return _as_typed(words["default"], constants) if "default" in words else "", path


def _as_typed(value: ast.expr, constants: dict[str, ast.expr]) -> str:
    """A literal in YAML's words; `list(NAME)` and NAME are looked up among the module's constants."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "list" and value.args:
        value = value.args[0]
    if isinstance(value, ast.Name) and value.id in constants:
        value = constants[value.id]
    items = value.keys if isinstance(value, ast.Dict) else value.elts if isinstance(value, (ast.List, ast.Tuple)) else None
    if items is not None:
        return f"[{','.join(_as_typed(item, constants) for item in items if item is not None)}]"
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return value.value
    return {"True": "true", "False": "false", "None": "null"}.get(ast.unparse(value), ast.unparse(value))


def _readable_kind(kind: str) -> str:
    return kind.replace("str", "text").replace("float", "number").replace("int", "whole number").replace("bool", "true or false")


def _meaning(lines: list[str], statement: ast.AnnAssign, follower: ast.stmt | None) -> str:
    """The comment above a field, the string below it, or the comment behind it: whichever is there, on one line."""
    above: list[str] = []
    for line in reversed(lines[: statement.lineno - 1]):
        if not line.strip().startswith("#"):
            break
        above.insert(0, line.strip().lstrip("#:").strip())
    if above:
        return " ".join(above)
    if isinstance(follower, ast.Expr) and isinstance(follower.value, ast.Constant) and isinstance(follower.value.value, str):
        return " ".join(follower.value.value.split())
    end = statement.end_lineno or statement.lineno
    return lines[end - 1][statement.end_col_offset :].strip().lstrip("#:").strip()
