"""The sentences of text files and manifests, cut into the units of a language model."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from asr.data.files import show_path
from asr.data.manifest import Problem, scan_json_lines
from asr.errors import DataError, UsageError
from asr.text.files import decode_line, open_text, read_lines
from asr.text.normalize import CASES, DIGITS, PUNCTUATION, UNICODE_FORMS
from asr.text.phones import PHONE_SETS
from asr.text.tokenizer import WRITTEN_SPACE, TokenOptions, normalize

LANGUAGE_UNITS = ("word", "char", "phone")


@dataclass
class SentenceOptions:
    """What a sentence is cut into."""

    #: what the model predicts: word | char (the space is one, written ▁) | phone
    unit: str = "word"
    #: letters of the text: keep | lower | upper; here and in the next three keys take what the recogniser was taught
    case: str = "keep"
    #: Unicode form: NFC | folded (wide, narrow and presentation forms as plain letters) | NFKC | none
    unicode: str = "NFC"
    #: marks: keep | plain (typographic quotes and dashes as ' " -) | drop (none but those inside of words and numbers)
    punctuation: str = "keep"
    #: digits: keep | ascii (those of any script as 0 to 9)
    digits: str = "keep"
    #: unit=phone only: as_is | arpabet (stress and word-position marks dropped) | timit61 | timit48 | timit39 (folded)
    phone_set: str = "as_is"

    def __post_init__(self) -> None:
        choices = {
            "unit": LANGUAGE_UNITS,
            "case": CASES,
            "unicode": UNICODE_FORMS,
            "punctuation": PUNCTUATION,
            "digits": DIGITS,
            "phone_set": ("as_is", *PHONE_SETS),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise UsageError(f"{name} must be one of {', '.join(allowed)}, got '{value}'")
        if self.unit == "phone" and (self.punctuation, self.digits) != ("keep", "keep"):
            raise UsageError("punctuation and digits are about written text and do not go with unit=phone")
        if self.phone_set != "as_is" and self.unit != "phone":
            raise UsageError(f"phone_set={self.phone_set} goes with unit=phone only, got unit={self.unit}")


def split_paths(text: str) -> list[str]:
    """`a.txt,b.jsonl` as two paths; a file whose own name holds commas is one."""
    return [text] if os.path.exists(text) else [part for part in text.split(",") if part]


def read_sentences(paths: Iterable[str | os.PathLike[str]], options: SentenceOptions) -> Iterator[list[str]]:
    """Each line of each file as a list of units, empty lines as empty lists.

    A file named .jsonl is a manifest, of which `text` is taken, or `phones` with unit=phone; any other is plain text, one
    sentence per line. Either may be packed by gzip. The text goes through the rules of the options, by default Unicode NFC
    without invisible characters, as the tokens of a recogniser do. Raises DataError naming the line that cannot be used.
    """
    tokens = TokenOptions(
        unit="phones" if options.unit == "phone" else "characters",
        unicode=options.unicode,
        case=options.case,
        punctuation=options.punctuation,
        digits=options.digits,
        phone_set=options.phone_set,
    )
    for path in paths:
        manifest = os.fspath(path).removesuffix(".gz").endswith(".jsonl")
        for where, text in _manifest_lines(path, options.unit) if manifest else _text_lines(path):
            yield _cut(normalize(text, tokens), options.unit, where)


def _text_lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    with open_text(path) as handle:
        for number, line in read_lines(handle, path):
            yield f"{show_path(path)}:{number}", decode_line(line, path, number)


def _manifest_lines(path: str | os.PathLike[str], unit: str) -> Iterator[tuple[str, str]]:
    field = "phones" if unit == "phone" else "text"
    for number, item in scan_json_lines(path):
        if isinstance(item, Problem):
            raise DataError(str(item))
        where, text = f"{show_path(path)}:{number}", item.get(field)
        if not isinstance(text, str):
            raise DataError(f'{where}: has no "{field}", which unit={unit} is trained on; write it, or choose another unit')
        yield where, text


def _cut(text: str, unit: str, where: str) -> list[str]:
    if unit != "char":
        return text.split()
    if WRITTEN_SPACE in text:
        raise DataError(f"{where}: holds {WRITTEN_SPACE}, which stands for the space in a model of characters; remove it")
    return [WRITTEN_SPACE if character == " " else character for character in text]
