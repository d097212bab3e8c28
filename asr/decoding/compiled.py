"""Compiling functions that call each other from several modules, and keeping the compiled code."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
HERE = Path(__file__).resolve().parent
#: What the compiled searches are made of. numba looks at the file of a function only, not at those of the functions in it.
SOURCES = (
    HERE / "compiled.py",
    *(HERE / f"beam_{name}.py" for name in ("kernels", "lookahead", "tokens", "lexicon", "traceback")),
    HERE.parent / "text" / "ngram_kernels.py",
)


def compiled(function: Callable) -> Any:
    """numba.njit of a function that neither makes arrays nor returns any.

    References to arrays are not counted in it (`_nrt`): with many small functions that hand many arrays on, numba spends most of
    the time of a search on that. The code is kept beside this file, else in the user's cache folder, or nowhere if none is
    writable. Each state of the sources has a folder of its own, so that code compiled from an older one is never run.
    """
    return _kept(function, _nrt=False)


def makes_arrays(function: Callable) -> Any:
    """As `compiled`, for a function that makes arrays or returns them."""
    return _kept(function)


def inlined(function: Callable) -> Any:
    """As `compiled`, for a small function that is called very often: its code is copied to where it is called."""
    return numba.njit(inline="always", _nrt=False, **OPTIONS)(function)


def _kept(function: Callable, **more: bool) -> Any:
    given = numba.config.CACHE_DIR
    try:
        numba.config.CACHE_DIR = str(_folder(given))
        return numba.njit(cache=True, **OPTIONS, **more)(function)
    except (RuntimeError, OSError):
        return numba.njit(**OPTIONS, **more)(function)
    finally:
        numba.config.CACHE_DIR = given


def _folder(given: str) -> Path:
    digest = hashlib.sha256()
    for source in SOURCES:
        digest.update(source.read_bytes())
    beside = HERE / "__pycache__"
    if given:
        parent = Path(given)
    elif os.access(beside if beside.exists() else HERE, os.W_OK):
        parent = beside
    else:
        parent = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asr"
    return parent / f"search-{digest.hexdigest()[:16]}"
