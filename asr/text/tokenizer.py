"""Transcripts into token ids and back: characters, phones or byte pairs, after a declared normalisation and nothing else."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from asr.errors import DataError, ModelError, UsageError
from asr.text.bytepairs import WRITTEN_SPACE, BytePairs, learn_byte_pairs, pieces_fault
from asr.text.normalize import CASES, UNICODE_FORMS, TextRules, normalize_text, text_changes, unicode_form
from asr.text.phones import PHONE_SETS, TIMIT48, TIMIT61_TO_48, fold_phones, strip_arpabet

__all__ = [
    "BLANK",
    "CASES",
    "RESERVED",
    "UNICODE_FORMS",
    "UNITS",
    "WRITTEN_SPACE",
    "TokenOptions",
    "Tokenizer",
    "normalize",
    "show_symbol",
]

UNITS = ("characters", "phones", "bytepairs")

BLANK = "<blank>"
#: Written out in a transcript they would be mistaken for what the toolkit means by them.
RESERVED = (BLANK, "<unk>", "<s>", "</s>")
DEFAULT_SIZE = 500
LARGEST_SIZE = 100_000


@dataclass
class TokenOptions(TextRules):
    """What a transcript is cut into, and how it is normalised before."""

    #: what a token is: characters (of `text`) | phones (of `phones`) | bytepairs (pieces of words of `text`)
    unit: str = "characters"
    #: bytepairs only: how many tokens there are, the blank counted
    size: int = DEFAULT_SIZE
    #: tokens to have beside those of the training transcripts: characters, or phones
    extra: list[str] = field(default_factory=list)
    #: phones only: as_is | arpabet (stress and word-position marks dropped) | timit61 | timit48 | timit39 (folded)
    phone_set: str = "as_is"

    def __post_init__(self) -> None:
        for name, allowed in {"unit": UNITS, "phone_set": ("as_is", *PHONE_SETS)}.items():
            value = getattr(self, name)
            if value not in allowed:
                raise UsageError(f'tokens.{name}="{value}" is not one of {", ".join(allowed)}')
        self.check("tokens.")
        if self.unit != "phones" and self.phone_set != "as_is":
            raise UsageError(f"tokens.phone_set={self.phone_set} needs tokens.unit=phones")
        if self.unit == "phones":
            for name in ("punctuation", "digits"):
                if getattr(self, name) != "keep":
                    raise UsageError(f"tokens.{name}={getattr(self, name)} is about written text, not tokens.unit=phones")
        if self.unit != "bytepairs" and self.size != DEFAULT_SIZE:
            raise UsageError(f"tokens.size={self.size} needs tokens.unit=bytepairs; the other units are counted, not chosen")
        if not 3 <= self.size <= LARGEST_SIZE:
            raise UsageError(f"tokens.size={self.size} is out of range: use a whole number from 3 to {LARGEST_SIZE}")
        for symbol in self.extra:
            if fault := _extra_fault(symbol, self):
                raise UsageError(f"tokens.extra: {symbol!r} {fault}")

    @property
    def writes_text(self) -> bool:
        """Whether tokens spell written words, and not phones."""
        return self.unit != "phones"


class Tokenizer:
    """Text <-> token ids. Id 0 is the blank of CTC and stands for no text.

    In characters the space is a symbol like any other; in byte pairs it is U+2581 at the beginning of a piece.
    """

    def __init__(self, symbols: Sequence[str], options: TokenOptions) -> None:
        self.symbols: tuple[str, ...] = tuple(symbols)
        self.options = options
        self._ids = {symbol: index for index, symbol in enumerate(self.symbols) if index}
        fault = _symbols_fault(self.symbols, options)
        if fault:
            raise ModelError(f"tokens: {fault}")
        self._pairs = BytePairs(self.symbols) if options.unit == "bytepairs" else None
        #: (V,) whether a token begins a word by itself, without a space before it
        self.begins_word = tuple(self._pairs is not None and symbol.startswith(WRITTEN_SPACE) for symbol in self.symbols)

    @property
    def between(self) -> list[int]:
        """The tokens between two texts that are said one after the other: the space where it is a symbol of its own."""
        return [self.symbols.index(" ")] if " " in self.symbols else []

    def __len__(self) -> int:
        """The size V of the vocabulary, with the blank."""
        return len(self.symbols)

    @classmethod
    def build(cls, texts: Iterable[str], options: TokenOptions) -> "Tokenizer":
        """The alphabet of these (training) transcripts: in the order of code points, byte pairs in the order they are learnt.

        Raises DataError for a reserved name written out (``<blank>``, ``<unk>``, ``<s>``, ``</s>``), for the character U+2581,
        for phones outside the declared set, and when nothing is left after normalisation; UsageError for a number of byte pairs
        that these transcripts do not give.
        """
        found: set[str] = set()
        normals = []
        for text in texts:
            normal = normalize(text, options)
            for name in _reserved_in(normal, options):
                fault = f'the transcript "{text[:80]}" holds {name}, a name the toolkit keeps for itself'
                raise DataError(f"{fault}; remove it, or replace it through tokens.map")
            found.update(_split(normal, options))
            normals.append(normal)
        if not found:
            raise DataError("no symbol to learn: all training transcripts are empty after normalisation")
        if options.unit == "bytepairs":
            return cls((BLANK, *learn_byte_pairs(normals, size=options.size, extra=options.extra)), options)
        if options.phone_set != "as_is":
            foreign = sorted(found - set(PHONE_SETS[options.phone_set]))
            if foreign:
                fault = f"phones outside tokens.phone_set={options.phone_set}: {' '.join(foreign[:20])}"
                raise DataError(f"{fault}; replace them through tokens.map, or choose another set")
        return cls((BLANK, *sorted(found.union(options.extra))), options)

    def normalize(self, text: str) -> str:
        """The text after the declared steps of `TextRules`, and phones folded to their set."""
        return normalize(text, self.options)

    def changes(self, text: str) -> list[str]:
        """The names of the steps of `TextRules` that change this text; of phones, whose set is declared, none."""
        return text_changes(text, self.options) if self.options.writes_text else []

    def unknown_symbols(self, text: str) -> list[str]:
        """What the normalised text holds and the alphabet does not, in order, with repeats; reserved names written out too."""
        normal = normalize(text, self.options)
        reserved = _reserved_in(normal, self.options)
        if self._pairs is not None:
            return reserved or self._pairs.unknown(normal.replace(" ", ""))
        return reserved or [symbol for symbol in _split(normal, self.options) if symbol not in self._ids]

    def encode(self, text: str) -> list[int]:
        """The ids (1..V-1) of the normalised text; DataError naming the symbols outside the alphabet."""
        unknown = self.unknown_symbols(text)
        if unknown:
            names = ", ".join(show_symbol(symbol) for symbol in sorted(set(unknown)))
            raise DataError(f'"{text[:80]}" holds symbols outside the alphabet: {names}; replace them through tokens.map')
        normal = normalize(text, self.options)
        if self._pairs is not None:
            return [index for word in normal.split() for index in self._pairs.cut(word)]
        return [self._ids[symbol] for symbol in _split(normal, self.options)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids (1..V-1, no blanks): characters run together, phones with spaces between them, byte pairs as the
        words that they spell, with single spaces.
        """
        wrong = [index for index in ids if not 0 < index < len(self.symbols)]
        if wrong:
            raise ModelError(f"token id {wrong[0]} is outside 1..{len(self.symbols) - 1}; do model and tokens belong together?")
        text = ("" if self.options.writes_text else " ").join(self.symbols[index] for index in ids)
        return text if self._pairs is None else " ".join(text.replace(WRITTEN_SPACE, " ").split())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write tokens.txt: ``SYMBOL ID`` per line, in the order of ids, UTF-8, the space as U+2581."""
        lines = [f"{WRITTEN_SPACE if symbol == ' ' else symbol} {index}\n" for index, symbol in enumerate(self.symbols)]
        with open(path, "w", encoding="utf-8", newline="\n") as handle:
            handle.writelines(lines)

    @classmethod
    def load(cls, path: str | os.PathLike[str], options: TokenOptions) -> "Tokenizer":
        """Read tokens.txt; ModelError for a missing file, a line that is not ``SYMBOL ID``, a gap or a symbol given twice."""
        try:
            with open(path, encoding="utf-8", newline="\n") as handle:
                lines = handle.read().removesuffix("\n").split("\n")
        except OSError as error:
            raise ModelError(
                f"{path}: cannot be read ({os.strerror(error.errno or 0)}); the model folder is incomplete"
            ) from None
        except UnicodeDecodeError:
            raise ModelError(f"{path}: is not UTF-8 text; the model folder is damaged") from None
        symbols = []
        for number, line in enumerate(lines):
            symbol, _, index = line.removesuffix("\r").rpartition(" ")
            if not symbol or index != str(number):
                raise ModelError(f'{path}:{number + 1}: expected "SYMBOL {number}", got {line[:40]!r}; the file is damaged')
            symbols.append(" " if symbol == WRITTEN_SPACE and options.unit != "bytepairs" else symbol)
        fault = _symbols_fault(symbols, options)
        if fault:
            raise ModelError(f"{path}: {fault}; the file is damaged or belongs to another model")
        return cls(symbols, options)


def normalize(text: str, options: TokenOptions) -> str:
    """The declared normalisation of ``TokenOptions``, without an alphabet."""
    if options.writes_text:
        return normalize_text(text, options)
    text = unicode_form(text, options.unicode)
    if options.case != "keep":
        text = unicode_form(text.lower() if options.case == "lower" else text.upper(), options.unicode)
    phones = [phone for phone in (options.map.get(phone, phone) for phone in text.split()) if phone]
    return " ".join(_to_phone_set(phones, options.phone_set))


def show_symbol(symbol: str) -> str:
    """A symbol as a message shows it: in quotes, with its code point where one cannot read or tell it, a combining mark on a
    dotted circle.
    """
    if len(symbol) == 1 and (not symbol.isascii() or not symbol.isprintable()):
        code = f"U+{ord(symbol):04X}"
        shown = f"◌{symbol}" if unicodedata.category(symbol)[0] == "M" else symbol
        return f'"{shown}" ({code})' if symbol.isprintable() else code
    return f'"{symbol}"'


def _to_phone_set(phones: list[str], phone_set: str) -> list[str]:
    """Phones of the set; what is not of its alphabet is left alone, to be reported as unknown."""
    if phone_set == "arpabet":
        return [strip_arpabet(phone) for phone in phones]
    if phone_set in ("timit48", "timit39"):
        known = (phone in TIMIT61_TO_48 or phone in TIMIT48 for phone in phones)
        pieces = (fold_phones([phone], phone_set) if ok else [phone] for phone, ok in zip(phones, known, strict=True))
        return [phone for piece in pieces for phone in piece]
    return phones


def _split(normal: str, options: TokenOptions) -> list[str]:
    return list(normal) if options.writes_text else normal.split()


def _reserved_in(normal: str, options: TokenOptions) -> list[str]:
    if options.unit == "phones":
        return [phone for phone in normal.split() if phone in RESERVED or phone == WRITTEN_SPACE]
    return [name for name in (*RESERVED, WRITTEN_SPACE) if name in normal]


def _symbols_fault(symbols: Sequence[str], options: TokenOptions) -> str | None:
    if not symbols or symbols[0] != BLANK:
        return f"expected {BLANK} as symbol 0, got {symbols[0]!r}" if symbols else f"no symbols; expected {BLANK} first"
    if len(symbols) < 2:
        return f"only {BLANK}, no symbol to write"
    seen: set[str] = set()
    if options.unit == "bytepairs" and len(set(symbols)) == len(symbols):
        return pieces_fault(symbols)
    for index, symbol in enumerate(symbols):
        if symbol in seen:
            return f"symbol {symbol!r} stands twice, the second time as {index}"
        seen.add(symbol)
        if index and options.unit == "characters" and (len(symbol) != 1 or symbol == WRITTEN_SPACE):
            return f"symbol {index}, {symbol!r}, is not one character, but tokens.unit=characters"
        if index and options.unit == "phones" and (symbol.split() != [symbol] or symbol in RESERVED):
            return f"symbol {index}, {symbol!r}, is not a phone, but tokens.unit=phones"
    return None


def _extra_fault(symbol: str, options: TokenOptions) -> str | None:
    if options.writes_text:
        if len(symbol) != 1 or symbol == WRITTEN_SPACE or (symbol.isspace() and symbol != " "):
            return "is not one character"
    elif symbol.split() != [symbol] or symbol in RESERVED:
        return "is not a phone"
    normal = normalize(symbol, options)
    return None if symbol == " " or normal == symbol else f"becomes {normal!r} by the other keys of tokens; give it as it becomes"
