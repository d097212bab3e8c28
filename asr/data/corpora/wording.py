"""The words of a transcript without what is written but not said: punctuation, capitals, typographic variants."""

import re
import unicodedata

from asr.data.corpora.corpus import option

#: Written in place of an apostrophe.
APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u02bc\u02b9\u00b4\u0060\uff07"), "'")
#: Joiners that decide how the letters around them are written, in Persian and Indic scripts.
JOINERS = "\u200c\u200d"
#: An apostrophe that does not stand between two letters may as well be a quotation mark.
QUOTE = re.compile(r"(?<!\w)'|'(?!\w)")
CHOICES = ("plain", "raw")


def text_option() -> str:
    """The option of a corpus whose transcripts have punctuation and capitals."""
    meaning = "plain: small letters without punctuation, apostrophes within words kept; raw: as the corpus has it"
    return option("plain", meaning, choices=CHOICES)  # type: ignore[no-any-return]


def plain(text: str) -> str:
    """Letters, marks and digits of any script in small letters, with single spaces; apostrophes within words stay.

    Unicode NFC first. Every other character becomes a space: ``"Well-known," he said.`` -> ``well known he said``.
    """
    normal = unicodedata.normalize("NFC", text).lower().translate(APOSTROPHES)
    kept = "".join(char if _is_said(char) else " " for char in normal)
    return " ".join(QUOTE.sub(" ", kept).split())


def _is_said(char: str) -> bool:
    return char == "'" or char in JOINERS or unicodedata.category(char)[0] in "LMN"
