"""Pronunciation dictionaries, read from the formats in use, and the prefix tree in which a search looks words up.

A file holds one pronunciation per line; a word with several has several lines. Four ways to write it are told apart:

    HELLO  HH AH0 L OW1           CMUdict (also HELLO(2), HELLO(1) for further ones, ;;; and # for comments)
    HELLO	HH AH L OW            LibriSpeech: the same without marks, the word repeated
    hello 0.8 HH AH L OW          Kaldi's lexiconp: a probability after the word
    hello  /hh ax l ow1/          TIMIT's TIMITDIC.TXT (; for comments, live~v for one reading of a spelling)

and a list of words, one per line, which will do for models of characters: there a word is pronounced as it is spelled.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError, UsageError
from asr.text.files import open_text, read_lines, show
from asr.text.phones import strip_arpabet
from asr.text.tokenizer import RESERVED, Tokenizer, show_symbol

CASES = ("keep", "lower", "upper")
#: Stress digits of the TIMIT dictionary; its phone names hold no digit.
_TIMIT_STRESS = re.compile(r"(?<=[a-z])[0-2](?= |$)")
_TIMIT_ENTRY = re.compile(r"(\S+)\s+/([^/]*)/\s*")
_VARIANT = re.compile(r"(.+)\(\d+\)")
_PROBABILITY = re.compile(r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Pronunciation:
    word: str
    #: phones as the file writes them; empty in a list of words
    phones: tuple[str, ...]
    #: ln P(phones | word)
    logp: float


class LexiconTree(NamedTuple):
    """The spellings of all words in token ids as a tree of N nodes, for compiled code. Node 0 is the root.

    A node stands for the tokens on the way to it. Several words may end in one (homophones), and a word may end in several.
    """

    #: (N + 1,): the children of node n are the nodes child_begin[n] .. child_begin[n + 1] - 1
    child_begin: NDArray[np.int32]
    #: (N,) the token that leads to the node; 0 for the root
    token: NDArray[np.int32]
    #: (N,) the node above; -1 for the root
    parent: NDArray[np.int32]
    #: (N + 1,): the words that end in node n are the entries word_begin[n] .. word_begin[n + 1] - 1
    word_begin: NDArray[np.int32]
    #: (E,) index of the word
    word: NDArray[np.int32]
    #: (E,) ln P(these tokens | word)
    logp: NDArray[np.float64]

    def best_below(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,): the highest of values (E,) among the entries in and below each node, -inf where there is none."""
        best = np.full(len(self.token), -np.inf)
        owner = np.repeat(np.arange(len(self.token)), np.diff(self.word_begin))
        np.maximum.at(best, owner, values)
        for begin, end in reversed(self._levels()):
            np.maximum.at(best, self.parent[begin:end], best[begin:end])
        return best

    def places(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(N,) and (N,): with all entries in depth-first order, those in and below node n are first[n] .. end[n] - 1.

        Those that end in the node itself come first, in their own order.
        """
        own = np.diff(self.word_begin)
        below = own.copy()
        for begin, end in reversed(self._levels()):
            np.add.at(below, self.parent[begin:end], below[begin:end])
        before = np.cumsum(below) - below  # siblings follow each other
        first = np.zeros(len(own), np.int32)
        for begin, end in self._levels():
            above = self.parent[begin:end]
            first[begin:end] = first[above] + own[above] + before[begin:end] - before[self.child_begin[above]]
        return first, (first + below).astype(np.int32)

    def _levels(self) -> list[tuple[int, int]]:
        """The first node and the one behind the last of each level below the root; nodes are numbered level by level."""
        levels = [(0, 1)]
        while levels[-1][0] < levels[-1][1]:
            begin, end = levels[-1]
            levels.append((int(self.child_begin[begin]), int(self.child_begin[end])))
        return levels[1:-1]


class Lexicon:
    """Words and how they are pronounced. The probabilities of a word's pronunciations that a file does not give are equal."""

    def __init__(self, pronunciations: Iterable[Pronunciation]) -> None:
        self.pronunciations = tuple(pronunciations)
        #: each word once, in the order of its first pronunciation
        self.words: tuple[str, ...] = tuple(dict.fromkeys(each.word for each in self.pronunciations))
        self._known = frozenset(self.words)

    @classmethod
    def of_words(cls, words: Iterable[str]) -> "Lexicon":
        """A list of words for a model of characters, each pronounced as it is spelled."""
        return cls(Pronunciation(word, (), 0.0) for word in dict.fromkeys(words))

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._known

    def tree(self, tokenizer: Tokenizer, *, separator: int = -1) -> tuple[LexiconTree, tuple[str, ...]]:
        """(the tree in the tokens of a model, the words left out).

        Left out are words that need a symbol which the model lacks, and those with the token `separator` inside.

        Models of characters and of byte pairs read the spelling, models of phones the pronunciation, both normalised as the
        model's transcripts were, the latter without stress where the model knows none; pronunciations that become equal are
        added. Raises DataError when no word is left, and for phones without any.
        """
        by_characters = tokenizer.options.writes_text
        index = {word: number for number, word in enumerate(self.words)}
        entries: dict[tuple[tuple[int, ...], int], float] = {}
        spell = _speller(tokenizer)
        missing: Counter[str] = Counter()
        for each in self.pronunciations:
            if by_characters and each.word in missing:
                continue
            ids, unknown = spell(each.word if by_characters else " ".join(each.phones))
            if unknown or not ids or separator in ids:
                missing.update(unknown)
                continue
            key, logp = (ids, index[each.word]), 0.0 if by_characters else each.logp
            known = entries.get(key)
            if known is None or by_characters:
                entries[key] = logp
            else:
                entries[key] = float(np.logaddexp(known, logp))
        if not entries:
            raise DataError(self._nothing_fits(by_characters, missing))
        spelled = {word for _, word in entries}
        return build_tree(entries), tuple(word for number, word in enumerate(self.words) if number not in spelled)

    def _nothing_fits(self, by_characters: bool, missing: Counter[str]) -> str:
        if not by_characters and not any(each.phones for each in self.pronunciations):
            return "the lexicon is a list of words without pronunciations, which a model of phones cannot use; give it phones"
        names = ", ".join(show_symbol(symbol) for symbol, _ in missing.most_common(5))
        kind = "spelled with the model's characters" if by_characters else "pronounced with the model's phones"
        return f"no word of the lexicon can be {kind}: it has no {names or 'symbol'}; do lexicon and model belong together?"


def read_lexicon(path: str | os.PathLike[str], *, case: str = "keep") -> Lexicon:
    """Read a dictionary (plain or gzip); the way it is written is found out. `case`: words keep | lower | upper.

    Raises DataError naming file and line for what is no entry, for a probability outside (0, 1], reserved names as words, and
    a file without entries. An entry that stands twice counts once.
    """
    if case not in CASES:
        raise UsageError(f'the case of a lexicon must be one of {", ".join(CASES)}, got "{case}"')
    changes: dict[str, Callable[[str], str]] = {"keep": str, "lower": str.lower, "upper": str.upper}
    change = changes[case]
    lines = _entries(path)
    parse = _parser([line for _, line in lines])
    found: dict[tuple[str, tuple[str, ...]], float | None] = {}
    for number, line in lines:
        try:
            word, phones, probability = parse(line)
        except ValueError as fault:
            raise DataError(f'{show(path)}:{number}: {fault}, got "{line[:60]}"') from None
        if word in RESERVED:
            continue
        key = (change(word), phones)
        found[key] = probability if probability is not None else found.get(key)
    if not found:
        raise DataError(f"{show(path)}: holds no word; expected lines of a word and its phones")
    counts = Counter(word for word, _ in found)
    return Lexicon(
        Pronunciation(word, phones, math.log(1.0 / counts[word] if probability is None else probability))
        for (word, phones), probability in found.items()
    )


def build_tree(entries: dict[tuple[tuple[int, ...], int], float]) -> LexiconTree:
    """The tree of {(token ids, word): ln P(ids | word)}; no sequence of ids may be empty. Nodes are numbered level by level."""
    ordered = sorted(entries)
    lengths = np.array([len(ids) for ids, _ in ordered])
    deepest = int(lengths.max())
    table = np.zeros((len(ordered), deepest), dtype=np.int32)
    for row, (ids, _) in zip(table, ordered):
        row[: len(ids)] = ids
    at = np.zeros(len(ordered), dtype=np.int64)
    tokens, parents, count = [np.zeros(1, np.int32)], [np.full(1, -1, np.int32)], 1
    for depth in range(deepest):
        alive = np.flatnonzero(lengths > depth)
        above, token = at[alive], table[alive, depth]
        fresh = np.r_[True, (above[1:] != above[:-1]) | (token[1:] != token[:-1])]
        at[alive] = count - 1 + np.cumsum(fresh)
        tokens.append(token[fresh])
        parents.append(above[fresh].astype(np.int32))
        count += int(fresh.sum())
    parent = np.concatenate(parents)
    by_node = np.argsort(at, kind="stable")
    tree = LexiconTree(
        child_begin=(1 + np.searchsorted(parent[1:], np.arange(count + 1))).astype(np.int32),
        token=np.concatenate(tokens),
        parent=parent,
        word_begin=np.searchsorted(at[by_node], np.arange(count + 1)).astype(np.int32),
        word=np.array([ordered[row][1] for row in by_node], dtype=np.int32),
        logp=np.array([entries[ordered[row]] for row in by_node], dtype=np.float64),
    )
    for array in tree:
        array.flags.writeable = False
    return tree


def _speller(tokenizer: Tokenizer) -> Callable[[str], tuple[tuple[int, ...], list[str]]]:
    """text -> (ids, unknown symbols); phones one by one, each looked up once, for a dictionary repeats a few of them often.

    A phone that the model does not have is taken without its stress: dictionaries mark it, and few models are taught it.
    """

    def whole(text: str) -> tuple[tuple[int, ...], list[str]]:
        unknown = tokenizer.unknown_symbols(text)
        return ((), unknown) if unknown else (tuple(tokenizer.encode(text)), [])

    if tokenizer.options.writes_text:
        return whole
    seen: dict[str, tuple[tuple[int, ...], list[str]]] = {}

    def by_phone(text: str) -> tuple[tuple[int, ...], list[str]]:
        pieces = []
        for phone in text.split():
            if phone not in seen:
                found = whole(phone)
                seen[phone] = found if found[0] else whole(strip_arpabet(phone))
            pieces.append(seen[phone])
        return tuple(token for ids, _ in pieces for token in ids), [symbol for _, unknown in pieces for symbol in unknown]

    return by_phone


def _entries(path: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """Numbered lines without comments and empty ones. CMUdict 0.7b is Latin-1; everything else must be UTF-8."""
    entries = []
    with open_text(path) as handle:
        cmudict = handle.peek(3)[:3] == b";;;"
        for number, raw in read_lines(handle, path):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                if not cmudict:
                    byte = f"byte 0x{raw[error.start]:02X} in column {error.start + 1}"
                    raise DataError(f"{show(path)}:{number}: {byte} is not UTF-8; convert the file with iconv") from None
                line = raw.decode("latin-1")
            if "\0" in line:
                raise DataError(f"{show(path)}:{number}: holds a NUL byte; is it a text file?")
            line = line.split(" #", 1)[0].strip()
            # An entry may be of these very characters: CMUdict pronounces ";SEMI-COLON" and "#HASH-MARK".
            if line and not re.match(r";;;|;(?:\s|$)|#(?:\s|$)", line):
                entries.append((number, line))
    return entries


_Parse = Callable[[str], tuple[str, tuple[str, ...], float | None]]


def _parser(lines: Sequence[str]) -> _Parse:
    """How these lines are written: TIMIT's slashes, a number after each word, or neither."""
    sample = lines[:1000]
    if sample and sum("/" in line for line in sample) > len(sample) / 2:
        return _parse_timit
    if sample and all(len(line.split()) > 2 and _PROBABILITY.fullmatch(line.split()[1]) for line in sample):
        return _parse_weighted
    return _parse_plain


def _parse_plain(line: str) -> tuple[str, tuple[str, ...], float | None]:
    word, *phones = line.split()
    variant = _VARIANT.fullmatch(word)
    return variant[1] if variant and phones else word, tuple(phones), None


def _parse_weighted(line: str) -> tuple[str, tuple[str, ...], float | None]:
    word, number, *phones = (*line.split(), "", "")[: max(3, len(line.split()))]
    if not _PROBABILITY.fullmatch(number) or not phones or not phones[0]:
        raise ValueError("expected a word, a probability and phones, as in the lines before")
    if not 0.0 < float(number) <= 1.0:
        raise ValueError(f"a probability must be above 0 and at most 1, not {number}")
    return word, tuple(phones), float(number)


def _parse_timit(line: str) -> tuple[str, tuple[str, ...], float | None]:
    match = _TIMIT_ENTRY.fullmatch(line)
    if not match or not match[2].split():
        raise ValueError("expected a word and its phones between slashes, as in the lines before")
    return match[1].split("~")[0], tuple(_TIMIT_STRESS.sub("", match[2]).split()), None
