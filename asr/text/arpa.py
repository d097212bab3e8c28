r"""ARPA files of n-gram models, plain or gzip: read with every damage named by its line, and written.

\data\, `ngram N=COUNT` for each length, then sections `\N-grams:` of lines `log10(P)  w1 ... wN  [log10(back-off weight)]`,
then \end\. What stands before \data\ is a comment.
"""

import gzip
import io
import os
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError, ModelError, ResourceError
from asr.text.files import decode_line, open_text, show, write_text
from asr.text.ngram import BOS, EOS, MAX_ORDER, UNK, NgramLevel, NgramModel, build_model, list_levels

LN10 = float(np.log(10.0))
#: Stands in ARPA files for the logarithm of 0.
LOWEST = -99.0
#: Lines that a comment before \data\ may have.
COMMENT_LINES = 1000
#: Bytes of memory an n-gram takes while a model is read, as measured, and the characters its shortest line has.
BYTES_PER_NGRAM, CHARACTERS_PER_NGRAM = 130, 4
BLOCK_BYTES = 2**20
KENLM_MAGIC = b"mmap lm http://kheafield.com/code"
_COUNT = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)\s*")
_SECTION = re.compile(rb"\\(\d+)-grams:\s*")
#: What bytes.split() takes for white space, by byte.
_BLANK = np.isin(np.arange(256), np.frombuffer(b" \t\n\r\x0b\x0c", np.uint8)).astype(np.uint8)


def read_arpa(path: str | os.PathLike[str], *, say: Callable[[str], None] | None = None) -> NgramModel:
    r"""The model of an ARPA file; `say` receives one sentence when it has no <unk>.

    Raises ModelError in one sentence for what is damaged: no \data\, order 0, counts that are not the file's, a missing \end\,
    NaN or positive log-probabilities, n-grams given twice, with an unknown word or without their prefix, no <s> or </s>.
    Raises ResourceError when the memory cannot hold what the header promises.
    """
    try:
        words, levels = _read(path)
    except DataError as error:  # no such file, damaged gzip data, not UTF-8
        raise ModelError(str(error)) from None
    if UNK not in words and say is not None:
        say(f"{show(path)}: has no {UNK}: a word it does not know gets the probability 1e-100; better take one that has {UNK}")
    return build_model(words, levels)


def _read(path: str | os.PathLike[str]) -> tuple[list[str], list[NgramLevel]]:
    with open_text(path) as handle:
        lines = _Lines(path, handle)
        counts = _read_header(lines)
        _check_size(path, counts, packed=isinstance(handle.raw, gzip.GzipFile))
        known: dict[bytes, int] = {}
        first = _read_section(lines, 1, counts[0], known, grow=True)
        words = _vocabulary(lines, known)
        levels = [NgramLevel(np.zeros(len(words), np.int32), first.ids[:, 0], first.logp, first.weight)]
        for length in range(2, len(counts) + 1):
            _check_title(lines, lines.need(rf"\{length}-grams:"), length)
            section = _read_section(lines, length, counts[length - 1], known)
            levels.append(_sort_level(lines, section, levels, words))
        if (line := lines.need("more")) != b"\\end\\":
            lines.fault(rf"expected \end\ after the last section, got {_quote(line)}")
    return words, levels


def write_arpa(model: NgramModel, path: str | os.PathLike[str]) -> None:
    """Write a model, packed when the name ends in .gz; ResourceError naming the path when it cannot be written."""
    write_text(path, _format(model))


class _Lines:
    """A file line by line, or as blocks of whole lines; `number` counts the lines that were taken."""

    def __init__(self, path: str | os.PathLike[str], handle: io.BufferedReader) -> None:
        self.path, self.number = path, 0
        self._handle, self._rest = handle, b""

    def fault(self, message: str, *, line: bool = True) -> NoReturn:
        raise ModelError(f"{show(self.path)}{f':{self.number}' if line else ''}: {message}")

    def _more(self) -> bool:
        block = self._handle.read(BLOCK_BYTES)
        self._rest += block
        if len(self._rest) > 64 * BLOCK_BYTES:
            self.number += 1
            self.fault(f"the line is longer than {64 * BLOCK_BYTES // 2**20} MiB; expected an ARPA language model")
        return bool(block)

    def take(self) -> bytes | None:
        """The next line, stripped of white space; None at the end of the file."""
        while (end := self._rest.find(b"\n")) < 0 and self._more():
            pass
        if not self._rest:
            return None
        end = end + 1 if end >= 0 else len(self._rest)
        line, self._rest = self._rest[:end], self._rest[end:]
        self.number += 1
        return line.strip()

    def need(self, expected: str) -> bytes:
        """The next line that is not blank."""
        while (line := self.take()) is not None:
            if line:
                return line
        self.cut(expected)

    def cut(self, expected: str) -> NoReturn:
        self.fault(rf"the file ends where {expected} was expected: it has no \end\ and is cut; copy or make it again")

    def blocks(self, expected: str) -> Iterator[bytes]:
        """The lines before the next one that begins with a backslash; the caller counts them."""
        while True:
            if self._rest.startswith(b"\\"):
                return
            end = self._rest.find(b"\n\\")
            last = end if end >= 0 else self._rest.rfind(b"\n")
            block, self._rest = self._rest[: last + 1], self._rest[last + 1 :]
            if block:
                yield block
            if end < 0 and not self._more():
                self.number += 1
                self.cut(expected)


@dataclass
class _Section:
    """The n-grams of one length as the file has them."""

    #: (N, length) word ids
    ids: NDArray[np.int32]
    #: (N,) natural logarithms
    logp: NDArray[np.float32]
    weight: NDArray[np.float32]


def _read_header(lines: _Lines) -> list[int]:
    """The numbers of 1-grams, 2-grams ...; the title of the first section is taken as well."""
    while (line := lines.take()) is not None and line.removeprefix(b"\xef\xbb\xbf") != b"\\data\\":
        if lines.number == 1 and line.startswith(KENLM_MAGIC):
            lines.fault("is a KenLM binary, not an ARPA file", line=False)
        if lines.number >= COMMENT_LINES:
            lines.fault(rf"no \data\ in the first {COMMENT_LINES} lines; expected an ARPA language model", line=False)
    if line is None:
        lines.fault(r"has no \data\ line; expected an ARPA language model", line=False)
    counts: list[int] = []
    while match := _COUNT.fullmatch(line := lines.need("a count of n-grams")):
        if int(match[1]) != len(counts) + 1:
            lines.fault(f"counts {int(match[1])}-grams where {len(counts) + 1}-grams come next; the header is damaged")
        counts.append(int(match[2]))
    if not counts or not counts[0]:
        lines.fault("the model has order 0: its header counts no 1-grams", line=False)
    if len(counts) > MAX_ORDER:
        lines.fault(f"the model has order {len(counts)}; at most {MAX_ORDER} is supported", line=False)
    _check_title(lines, line, 1)
    return counts


def _check_size(path: str | os.PathLike[str], counts: Sequence[int], *, packed: bool) -> None:
    """A header must not promise more than the file, or the memory, can hold."""
    total, size = sum(counts), os.path.getsize(path)
    # gzip packs no more than 1032 to 1.
    if total * CHARACTERS_PER_NGRAM > size * (1032 if packed else 1):
        raise ModelError(f"{show(path)}: the header promises {total} n-grams, more than its {size} bytes can hold; it is damaged")
    needed, free = total * BYTES_PER_NGRAM, _free_memory()
    if (free is not None and needed > free) or total >= 2**31:
        have = f"{free / 2**30:.1f} GiB are free" if free is not None else "32-bit tables end there"
        need = f"{total} n-grams need about {needed / 2**30:.1f} GiB of memory and {have}"
        raise ResourceError(f"{show(path)}: {need}; take a smaller model (a lower order, or pruned)")


def _free_memory() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as handle:
            return next(int(line.split()[1]) * 1024 for line in handle if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


def _check_title(lines: _Lines, line: bytes, length: int) -> None:
    match = _SECTION.fullmatch(line)
    if not match or int(match[1]) != length:
        lines.fault(rf"expected \{length}-grams: here, got {_quote(line)}")


def _read_section(lines: _Lines, length: int, count: int, known: dict[bytes, int], *, grow: bool = False) -> _Section:
    """The n-grams of one section whose title was taken; `grow` adds its words to `known`."""
    pieces, found = [], 0
    for block in lines.blocks(f"the end of {count} {length}-grams"):
        piece = None if grow else _parse_block(block, length, known)
        pieces.append(_parse_lines(lines, block, length, known, grow=grow) if piece is None else piece)
        lines.number += 0 if piece is None else block.count(b"\n")
        found += len(pieces[-1].logp)
    if found != count:
        lines.fault(f"the header promises {count} {length}-grams, the file has {found}; it is damaged", line=False)
    empty = _Section(np.zeros((0, length), np.int32), np.zeros(0, np.float32), np.zeros(0, np.float32))
    return _Section(*(np.concatenate(parts) for parts in zip(*(vars(one).values() for one in [empty, *pieces]), strict=True)))


def _parse_block(block: bytes, length: int, known: dict[bytes, int]) -> _Section | None:
    """All lines of a block at once; None where they are not all alike and without fault, to be taken one by one."""
    letters = np.frombuffer(b"\n" + block.rstrip() + b"\n", np.uint8)
    blank = _BLANK[letters]
    starts = np.flatnonzero(blank[1:] < blank[:-1])
    ends = np.searchsorted(starts, np.flatnonzero(letters == ord("\n"))[1:])  # fields up to the end of each line
    lines, fields = len(ends), int(ends[0])
    if not length + 1 <= fields <= length + 2 or np.any(ends != fields * np.arange(1, lines + 1)):
        return None
    parts = block.split()
    try:
        logp = np.array(list(map(float, parts[::fields])))
        weight = np.array(list(map(float, parts[length + 1 :: fields]))) if fields == length + 2 else np.zeros(lines)
        ids = [list(map(known.__getitem__, parts[column::fields])) for column in range(1, length + 1)]
    except (KeyError, ValueError):
        return None
    if not (np.all(logp <= 0.0) and np.all(weight < np.inf)):
        return None
    return _Section(np.array(ids, np.int32).T, _natural(logp), _natural(weight))


def _parse_lines(lines: _Lines, block: bytes, length: int, known: dict[bytes, int], *, grow: bool) -> _Section:
    """The lines of a block one by one, each fault named by its line."""
    ids, logps, weights = array("i"), array("d"), array("d")
    for line in block.split(b"\n")[:-1]:
        lines.number += 1
        parts = line.split()
        if not parts:
            continue
        if not length + 1 <= len(parts) <= length + 2:
            lines.fault(f"expected log10(P), {length} words and perhaps a back-off weight, got {_quote(line)}")
        names = parts[1 : length + 1]
        if grow:
            _add_word(lines, names[0], known)
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            lines.fault(f"the word {_quote(unknown)} is not among the 1-grams")
        ids.extend([known[name] for name in names])
        logp, weight = _numbers(lines, parts, length)
        logps.append(logp)
        weights.append(weight)
    columns = np.array(ids, np.int32).reshape(-1, length)
    return _Section(columns, _natural(np.array(logps)), _natural(np.array(weights)))


def _add_word(lines: _Lines, name: bytes, known: dict[bytes, int]) -> None:
    if name in known:
        lines.fault(f"the word {_quote(name)} stands twice among the 1-grams")
    decode_line(name, lines.path, lines.number)
    known[name] = len(known)


def _numbers(lines: _Lines, parts: list[bytes], length: int) -> tuple[float, float]:
    try:
        logp, weight = float(parts[0]), float(parts[-1]) if len(parts) == length + 2 else 0.0
    except ValueError:
        lines.fault(f"expected numbers around the words, got {_quote(b' '.join(parts))}")
    if not logp <= 0.0:
        lines.fault(f"log10 of a probability must be 0 or less, got {_quote(parts[0])}")
    if not weight < float("inf"):
        lines.fault(f"the logarithm of a back-off weight must be a finite number, got {_quote(parts[-1])}")
    return logp, weight


def _vocabulary(lines: _Lines, known: dict[bytes, int]) -> list[str]:
    """The words by id; <UNK> of other tools becomes <unk>."""
    words = [name.decode() for name in known]
    if UNK not in words and "<UNK>" in words:
        words[words.index("<UNK>")] = UNK
    for marker in (BOS, EOS):
        if marker not in words:
            lines.fault(f"has no {marker} among its 1-grams; a model of sentences needs it", line=False)
    return words


def _sort_level(lines: _Lines, section: _Section, lower: Sequence[NgramLevel], words: Sequence[str]) -> NgramLevel:
    """A section as the level above `lower`; a fault when an n-gram stands twice or its prefix is not there."""
    columns, length = section.ids, section.ids.shape[1]
    prefix = columns[:, 0].astype(np.int64)
    for column, level in enumerate(lower[1:], start=1):
        keys = level.prefix.astype(np.int64) * len(words) + level.word
        wanted = prefix * len(words) + columns[:, column]
        prefix = np.searchsorted(keys, wanted)
        absent = np.flatnonzero(np.append(keys, -1)[prefix] != wanted)
        if len(absent):
            whole, part = _spell(columns[absent[0]], words), _spell(columns[absent[0], : column + 1], words)
            lines.fault(f'the {length}-gram "{whole}" stands without its prefix "{part}"; the file is damaged', line=False)
    keys = prefix * len(words) + columns[:, -1]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        lines.fault(f'the {length}-gram "{_spell(columns[order[twice[0]]], words)}" stands twice', line=False)
    return NgramLevel(prefix[order], columns[order, -1], section.logp[order], section.weight[order])


def _spell(ids: NDArray[np.int32], words: Sequence[str]) -> str:
    return " ".join(words[number] for number in ids)


def _quote(line: bytes) -> str:
    """The start of a line as a message can show it."""
    text = line[:60].decode("utf-8", "replace")
    return f'"{text}"' if text.isprintable() else ascii(text)


def _natural(log10: NDArray[np.float64]) -> NDArray[np.float32]:
    return (np.maximum(log10, LOWEST) * LN10).astype(np.float32)


def _format(model: NgramModel) -> Iterator[bytes]:
    levels = list_levels(model)
    yield b"\\data\\\n"
    yield "".join(f"ngram {length}={len(level.word)}\n" for length, level in enumerate(levels, start=1)).encode()
    words = np.array(model.words, dtype=object)
    for length, level in enumerate(levels, start=1):
        yield f"\n\\{length}-grams:\n".encode()
        for begin in range(0, len(level.word), 2**16):
            yield "".join(_format_block(levels[:length], slice(begin, begin + 2**16), words, top=length == model.order)).encode()
    yield b"\n\\end\\\n"


def _format_block(levels: Sequence[NgramLevel], block: slice, words: NDArray[Any], *, top: bool) -> Iterator[str]:
    """Lines of some n-grams of the last of these levels."""
    level = levels[-1]
    columns, place = [words[level.word[block]]], level.prefix[block]
    for lower in levels[-2::-1]:
        columns.insert(0, words[lower.word[place]])
        place = lower.prefix[place]
    grams = map(" ".join, zip(*columns, strict=True))
    # + 0.0: no "-0" for a probability of 1
    logps = (level.logp[block].astype(np.float64) / LN10 + 0.0).tolist()
    if top:
        return (f"{logp:.7g}\t{gram}\n" for logp, gram in zip(logps, grams, strict=True))
    weights = (level.backoff[block].astype(np.float64) / LN10 + 0.0).tolist()
    return (f"{logp:.7g}\t{gram}\t{weight:.7g}\n" for logp, gram, weight in zip(logps, grams, weights, strict=True))
