"""The layout of the library, read from its sources: which folder may know which, and what no module may do."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {
    "": 0,
    "errors": 0,
    "text": 1,
    "data": 2,
    "scoring": 3,
    "features": 4,
    "batches": 5,
    "models": 6,
    "decoding": 7,
    "training": 8,
    "inspection": 9,
    "serving": 9,
    "config": 10,
    "cli": 10,
    "__main__": 10,
}
TORCH_FREE = {"", "errors", "text", "data", "scoring"}
#: The two modules of the decoding floor that see a model may use torch; the search itself is numpy.
TORCH_FREE_MODULES = {"asr.decoding.greedy"}
KNOW_HYDRA = {"config", "cli"}
FORBIDDEN_CALLS = {
    "eval": "runs text as code",
    "exec": "runs text as code",
    "torch.load": "unpickles; only weights_only=True is allowed",
    "yaml.load": "builds any object",
    "yaml.unsafe_load": "builds any object",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "joblib.load": "unpickles",
}
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "hydra.utils"}


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / "asr").rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def part_of(module: str) -> str:
    """The folder or top-level module: asr.text.phones -> text, asr.errors -> errors, asr -> ''."""
    return [*module.split("."), ""][1]


def imports_of(name: str, tree: ast.AST) -> set[str]:
    """Absolute names of what a module imports, late imports included; of asr only modules, not the names in them."""
    found = set()
    package = name if MODULES.get(name, Path()).name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            inner = {f"{base}.{alias.name}" for alias in node.names}
            modules = inner & MODULES.keys()
            found.update(modules)
            if len(modules) < len(inner):
                found.add(base)
    return found


IMPORTS = {name: imports_of(name, tree) for name, tree in TREES.items()}


def test_the_sources_are_found() -> None:
    assert {"asr", "asr.errors", "asr.config", "asr.__main__", "asr.cli.train"} <= MODULES.keys()
    assert "asr.errors" in IMPORTS["asr.config"]
    assert "torch" in IMPORTS["asr.models.ctc"]


def test_every_folder_has_a_floor() -> None:
    assert {part_of(name) for name in MODULES} <= FLOORS.keys()


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down_the_floors(name: str) -> None:
    floor = FLOORS[part_of(name)]
    others = {other: FLOORS[part_of(other)] for other in IMPORTS[name] & MODULES.keys() if part_of(other) != part_of(name)}
    wrong = {other: number for other, number in others.items() if number > floor or number == floor != FLOORS["cli"]}
    assert not wrong, f"{name} (floor {floor}) imports {wrong}: only lower floors are allowed"


def test_no_import_goes_in_a_circle() -> None:
    graph = {name: sorted(other for other in found if other in MODULES and other != name) for name, found in IMPORTS.items()}
    done: set[str] = set()
    trail: list[str] = []

    def visit(name: str) -> None:
        assert name not in trail, "circle: " + " -> ".join([*trail[trail.index(name) :], name])
        if name in done:
            return
        trail.append(name)
        for other in graph[name]:
            visit(other)
        trail.pop()
        done.add(name)

    for name in graph:
        visit(name)
    assert done == MODULES.keys()


@pytest.mark.parametrize("name", [name for name in MODULES if part_of(name) in TORCH_FREE or name in TORCH_FREE_MODULES])
def test_the_lower_floors_know_no_torch(name: str) -> None:
    roots = {other.split(".")[0] for other in IMPORTS[name]}
    assert not roots & {"torch", "torchaudio"}


@pytest.mark.parametrize("name", [name for name in MODULES if part_of(name) not in KNOW_HYDRA])
def test_the_core_knows_no_hydra(name: str) -> None:
    assert not {other.split(".")[0] for other in IMPORTS[name]} & {"hydra", "omegaconf"}


@pytest.mark.parametrize("name", MODULES)
def test_nothing_can_run_code_it_was_given(name: str) -> None:
    found = [
        f"imports {other}" for other in IMPORTS[name] if other in FORBIDDEN_IMPORTS or other.split(".")[0] in FORBIDDEN_IMPORTS
    ]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            found.extend(forbidden(node))
    assert not found, f"{MODULES[name]}: {found}"


def forbidden(call: ast.Call) -> list[str]:
    function = ast.unparse(call.func)
    words = {word.arg: ast.unparse(word.value) for word in call.keywords}
    found = []
    if function in FORBIDDEN_CALLS and not (function == "torch.load" and words.get("weights_only") == "True"):
        found.append(f"line {call.lineno}: {function} {FORBIDDEN_CALLS[function]}")
    if re.fullmatch(r"(.*\.)?(instantiate|extractall)", function):
        found.append(f"line {call.lineno}: {function}")
    found.extend(
        f"line {call.lineno}: {function}({word}=...)" for word in ("shell", "allow_pickle") if words.get(word, "False") != "False"
    )
    return found


@pytest.mark.parametrize(
    "line",
    [
        "eval('1')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text)",
        "subprocess.run(words, shell=True)",
        "hydra.utils.instantiate(config)",
        "instantiate(config)",
        "archive.extractall(folder)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_test_above_sees(line: str) -> None:
    call = ast.parse(line).body[0].value  # type: ignore[attr-defined]
    assert forbidden(call)


@pytest.mark.parametrize(
    "line", ["model.eval()", "torch.load(path, weights_only=True)", "subprocess.run(words)", "json.load(file)"]
)
def test_the_test_above_lets_pass(line: str) -> None:
    call = ast.parse(line).body[0].value  # type: ignore[attr-defined]
    assert not forbidden(call)
