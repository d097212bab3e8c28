"""Binaries that KenLM's build_binary made: checked before they are loaded, scored through the package kenlm (the extra `lm`)."""

import ctypes
import math
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from asr.errors import DataError, ModelError, UsageError
from asr.text.arpa import KENLM_MAGIC, read_arpa
from asr.text.files import open_text, show
from asr.text.ngram import BOS, EOS, UNK, NgramModel

#: Order, whether the words are stored, and the counts of n-grams stand here (format version 5, little endian, 64 bits).
ORDER_AT, VOCABULARY_AT, COUNTS_AT = 88, 100, 108
BLOCK_BYTES = 2**24
CHILD_SECONDS = 600
LN10 = math.log(10.0)
_TRY = """
import sys, kenlm
config = kenlm.Config()
config.load_method, config.show_progress = kenlm.LoadMethod.READ, False
model = kenlm.Model(sys.argv[1], config)
sys.exit(0 if -1e30 < model.score(sys.argv[2]) <= 0 else 1)
"""


@dataclass(frozen=True)
class Contexts:
    """What one thread has met: number -> state of the package, and back, and (number, word) -> (ln P, next number)."""

    states: list[Any]
    numbers: dict[Any, int]
    steps: dict[tuple[int, int], tuple[float, int]]


class KenlmModel:
    """A KenLM binary behind the scoring methods of NgramModel; it has no tables, for the package does not show its n-grams.

    States are numbers that each thread gives anew: 0 the empty context, `start` the one after <s>, others in the order in which
    they are met. They hold until the thread calls `forget`.
    """

    def __init__(self, model: Any, state: Callable[[], Any], words: Sequence[str]) -> None:
        self._model, self._new_state = model, state
        self.order: int = model.order
        self.words = tuple(words)
        self._ids = {word: number for number, word in enumerate(self.words)}
        self.unk: int | None = self._ids[UNK]
        self.bos, self.eos = self._ids[BOS], self._ids[EOS]
        self.start = 1
        self._empty, self._begun = state(), state()
        model.NullContextWrite(self._empty)
        model.BeginSentenceWrite(self._begun)
        self._threads = threading.local()
        number = ctypes.c_int64
        self._logp_at = ctypes.CFUNCTYPE(ctypes.c_double, number, number)(lambda state, word: self.score(state, word)[0])
        self._state_at = ctypes.CFUNCTYPE(number, number, number)(lambda state, word: self.score(state, word)[1])
        #: of two C functions of a state and a word, int64: ln P as double, and the next state as int64. Compiled code may call
        #: them without the interpreter's lock
        self.addresses = tuple(ctypes.cast(one, ctypes.c_void_p).value or 0 for one in (self._logp_at, self._state_at))

    def id(self, word: str) -> int:
        """The id of a word; of an unknown one that of <unk>."""
        return self._ids.get(word, self._ids[UNK])

    def knows(self, word: str) -> bool:
        """Whether the word itself is in the model; <unk>, <s> and </s> are no words."""
        return word in self._ids and word not in (UNK, BOS, EOS)

    def forget(self) -> Contexts:
        """Give back the memory of the states that this thread has met; 0 and `start` are left."""
        self._threads.met = Contexts([self._empty, self._begun], {self._empty: 0, self._begun: self.start}, {})
        return self._threads.met

    def score(self, state: int, word: int) -> tuple[float, int]:
        """(ln P(word | state), next state); each new state takes some memory until `forget`."""
        met: Contexts = getattr(self._threads, "met", None) or self.forget()
        found = met.steps.get((state, word))
        if found is None:
            after = self._new_state()
            logp = self._model.BaseScore(met.states[state], self.words[word], after)
            number = met.numbers.setdefault(after, len(met.states))
            if number == len(met.states):
                met.states.append(after)
            found = met.steps[state, word] = logp * LN10, number
        return found

    def score_sentence(self, words: Sequence[str]) -> float:
        """ln P(words, </s> | <s>)."""
        total, state = 0.0, self.start
        for word in [*map(self.id, words), self.eos]:
            logp, state = self.score(state, word)
            total += logp
        return total


def read_language_model(path: str | os.PathLike[str], *, say: Callable[[str], None] | None = None) -> NgramModel | KenlmModel:
    """The n-gram model of a file, ARPA (plain or gzip) or KenLM binary, told by its first bytes; `say` as for `read_arpa`.

    Raises ModelError in one sentence for a damaged file, UsageError for a binary where the package kenlm is missing.
    """
    try:
        with open_text(path) as handle:
            head = handle.peek(len(KENLM_MAGIC))[: len(KENLM_MAGIC)]
    except DataError as error:  # no such file, damaged gzip data
        raise ModelError(str(error)) from None
    return read_kenlm(path) if head == KENLM_MAGIC else read_arpa(path, say=say)


def read_kenlm(path: str | os.PathLike[str]) -> KenlmModel:
    """Load a KenLM binary into memory: never mapped, for a mapped file that gets shorter kills the process.

    The length of the file is compared with its header, and a child process loads it first, which may crash in our place.
    """
    try:
        import kenlm
    except ImportError:
        message = "a KenLM binary needs the package kenlm: pip install 'asr[lm]', or give the model as an ARPA file"
        raise UsageError(f"{show(path)}: {message}") from None
    words = _read_vocabulary(path)
    full = os.path.abspath(path)
    _try_in_child(path, full, " ".join(words[-3:]))
    config = kenlm.Config()
    config.load_method, config.show_progress = kenlm.LoadMethod.READ, False
    try:
        return KenlmModel(kenlm.Model(full, config), kenlm.State, words)
    except (OSError, RuntimeError):  # replaced since the child read it
        raise _damaged(path, "KenLM cannot load it") from None


def _damaged(path: str | os.PathLike[str], what: str) -> ModelError:
    return ModelError(f"{show(path)}: {what}; the binary is cut or damaged: copy it again, or run build_binary on its ARPA file")


def _read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    """The words, which stand at the end of the file, each with a NUL behind it; ModelError when some are not there."""
    size = os.path.getsize(path)
    with open_text(path) as handle:
        head = handle.read(COUNTS_AT + 8)
        if len(head) < COUNTS_AT + 8:
            raise _damaged(path, f"has {size} bytes, less than the header of a KenLM binary")
        order, stored = head[ORDER_AT], head[VOCABULARY_AT]
        (count,) = struct.unpack_from("<Q", head, COUNTS_AT)
        if not order or not 3 <= count <= size:
            raise _damaged(path, f"its header promises order {order} and {count} words in {size} bytes")
        if not stored:
            raise ModelError(f"{show(path)}: holds no vocabulary; run build_binary on its ARPA file again, without -i")
        tail = _from_marker(handle, UNK.encode() + b"\0")
    found = tail.count(b"\0")
    if found != count or not tail.endswith(b"\0"):
        raise _damaged(path, f"has {found} of the {count} words that its header promises")
    try:
        words = tail[:-1].decode("utf-8").split("\0")
    except UnicodeDecodeError:
        raise _damaged(path, "holds words that are not UTF-8") from None
    if not {UNK, BOS, EOS} <= set(words):
        raise _damaged(path, f"lacks {BOS} or {EOS}")
    return words


def _from_marker(handle: Any, marker: bytes) -> bytes:
    """What the rest of a file holds from the first place of the marker on."""
    kept = b""
    while block := handle.read(BLOCK_BYTES):
        kept += block
        place = kept.find(marker)
        if place >= 0:
            return kept[place:] + handle.read()
        kept = kept[-len(marker) :]
    return b""


def _try_in_child(path: str | os.PathLike[str], full: str, sentence: str) -> None:
    command = [sys.executable, "-I", "-c", _TRY, full, sentence]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=CHILD_SECONDS)
    except subprocess.TimeoutExpired:
        raise _damaged(path, f"KenLM did not load it within {CHILD_SECONDS} s") from None
    if done.returncode:
        raise _damaged(path, "KenLM crashes on it" if done.returncode < 0 else "KenLM cannot load it")
