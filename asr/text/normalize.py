"""The declared changes of a transcript before it is cut into tokens: data, stored with a model. Nothing else is changed.

The order is fixed: invisible characters and Unicode form, case, punctuation, digits, replacements, white space.
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from asr.errors import UsageError

CASES = ("keep", "lower", "upper")
UNICODE_FORMS = ("NFC", "folded", "NFKC", "none")
PUNCTUATION = ("keep", "plain", "drop")
DIGITS = ("keep", "ascii")

#: Characters without a sound or a shape: zero-width space, word joiner, byte-order mark, soft hyphen, marks of direction,
#: grapheme joiner, selectors of a text or picture form. The joiners U+200C and U+200D stay, for some scripts spell with them.
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe0e\ufe0f\ufeff]")

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛‹›´`′", "'"),
        **dict.fromkeys("“”„‟«»″", '"'),
        **dict.fromkeys("‐‑‒–—―−⁃", "-"),
        "…": "...",
    }
)
#: Marks that stand for a word and are therefore no punctuation; symbols such as + and € (categories S) are none either.
_SPOKEN = frozenset("%‰٪&@§")
#: Marks that spell when letters stand on both sides: apostrophe, hyphen, middle dot, maqaf, geresh and gershayim, tsheg.
_INNER = frozenset("'-·\u05be\u05f3\u05f4\u0f0b")
#: Marks that belong to a number when digits stand on both sides.
_NUMERIC = frozenset(".,:/٫٬")
#: Scripts, as `scripts_of` names them, that leave no space between words.
_WITHOUT_SPACES = frozenset({"Cjk", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"})
#: Armenian marks of stress, exclamation and question, written inside of a word.
_WITHIN = frozenset("\u055b\u055c\u055e")


@dataclass
class TextRules:
    """How a transcript is normalised; the defaults change its Unicode form and its white space only."""

    #: Unicode form: NFC | folded (NFC; wide, narrow and presentation forms as plain letters) | NFKC, each without invisible
    #: characters (zero width, direction, soft hyphen) | none (as it is)
    unicode: str = "NFC"
    #: letters: keep | lower | upper
    case: str = "keep"
    #: marks: keep | plain (typographic quotes and dashes as ' " -) | drop (none but those inside of words and numbers)
    punctuation: str = "keep"
    #: digits: keep | ascii (those of any script as 0 to 9)
    digits: str = "keep"
    #: replacements, after the steps above: substring -> string ("" deletes); symbol -> symbol where tokens are phones
    map: dict[str, str] = field(default_factory=dict)

    def check(self, prefix: str = "") -> None:
        """Raise UsageError for a value that is not known; ``prefix`` stands before the names as a user types them."""
        choices = {"unicode": UNICODE_FORMS, "case": CASES, "punctuation": PUNCTUATION, "digits": DIGITS}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise UsageError(f'{prefix}{name}="{value}" is not one of {", ".join(allowed)}')
        if "" in self.map:
            raise UsageError(f"{prefix}map: the empty string cannot be replaced; name a substring or a symbol")


def normalize_text(text: str, rules: TextRules) -> str:
    """The text after all steps; runs of white space become one space, none is left at the ends."""
    for _, change in _steps(rules):
        text = change(text)
    return _single_spaced(text)


def text_changes(text: str, rules: TextRules) -> list[str]:
    """The names of the steps that change this text: spaces, invisible, unicode, case, punctuation, digits, map."""
    changed = [] if _single_spaced(text) == text else ["spaces"]
    for name, change in _steps(rules):
        after = change(text)
        if _single_spaced(after) != _single_spaced(text):
            changed.append(name)
        text = after
    return changed


def unicode_form(text: str, form: str) -> str:
    """The text in a form of ``UNICODE_FORMS``, without invisible characters unless the form is none."""
    return text if form == "none" else _compose(_INVISIBLE.sub("", text), form)


def scripts_of(text: str) -> list[str]:
    """The scripts of the letters in a text, the most frequent first, as Unicode names them: Latin, Georgian, Cjk ..."""
    counts: dict[str, int] = {}
    for letter in text:
        if unicodedata.category(letter)[0] == "L":
            script = unicodedata.name(letter, "UNKNOWN").split()[0].capitalize()
            counts[script] = counts.get(script, 0) + 1
    return sorted(counts, key=lambda script: (-counts[script], script))


def lacks_spaces(text: str) -> bool:
    """Whether most letters of a text belong to a script that is written without spaces between words."""
    scripts = scripts_of(text)
    return bool(scripts) and scripts[0] in _WITHOUT_SPACES


def runs_leftwards(text: str) -> bool:
    """Whether most letters of a text belong to a script that is written from right to left."""
    sides = [unicodedata.bidirectional(letter) for letter in text if unicodedata.category(letter)[0] == "L"]
    return 2 * sum(side in ("R", "AL") for side in sides) > len(sides)


def _steps(rules: TextRules) -> Iterator[tuple[str, Callable[[str], str]]]:
    form = rules.unicode
    if form != "none":
        yield "invisible", lambda text: _INVISIBLE.sub("", text)
        yield "unicode", lambda text: _compose(text, form)
    if rules.case != "keep":
        change = str.lower if rules.case == "lower" else str.upper
        yield "case", lambda text: unicode_form(change(text), form)
    if rules.punctuation != "keep":
        drop = rules.punctuation == "drop"
        yield "punctuation", lambda text: unicode_form(_drop_marks(text) if drop else text.translate(_PLAIN), form)
    if rules.digits == "ascii":
        yield "digits", lambda text: "".join(str(unicodedata.decimal(one)) if one.isdecimal() else one for one in text)
    if rules.map:
        yield "map", lambda text: functools.reduce(lambda text, pair: text.replace(*pair), rules.map.items(), text)


def _single_spaced(text: str) -> str:
    return " ".join(text.split())


def _compose(text: str, form: str) -> str:
    if form == "folded":
        return unicodedata.normalize("NFC", text.translate(_plain_forms()))
    return unicodedata.normalize("NFKC" if form == "NFKC" else "NFC", text)


@functools.cache
def _plain_forms() -> dict[int, str]:
    """Letters of other widths, ligatures and presentation forms -> what they present."""
    codes = (*range(0xFB00, 0xFEFF), *range(0xFF01, 0xFFEF))
    return {code: unicodedata.normalize("NFKC", chr(code)) for code in codes if unicodedata.decomposition(chr(code))}


def _drop_marks(text: str) -> str:
    text = text.translate(_PLAIN)
    return "".join(_instead(text, place) if _is_mark(one) else one for place, one in enumerate(text))


@functools.lru_cache(2**12)
def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "P" and character not in _SPOKEN


def _instead(text: str, place: int) -> str:
    """What stands for the mark at this place: itself inside of a word or a number, else a space."""
    mark, before, after = text[place], text[place - 1 : place], text[place + 1 : place + 2]
    if mark in _INNER and _spells(before) and _spells(after):
        return mark
    if mark in _NUMERIC and before.isdecimal() and after.isdecimal():
        return mark
    return "" if mark in _WITHIN else " "


def _spells(character: str) -> bool:
    return character != "" and unicodedata.category(character)[0] in "LMN"
