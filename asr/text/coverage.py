"""Whether a language model and the words it is to judge are spelt alike."""

import unicodedata
from collections.abc import Callable, Iterable, Sequence

from asr.text.kenlm_binary import KenlmModel
from asr.text.ngram import NgramModel
from asr.text.phones import strip_arpabet
from asr.text.tokenizer import WRITTEN_SPACE

#: What may turn the words into the model's, in the order in which it is offered.
SPELLINGS: dict[str, Callable[[str], str]] = {
    "in upper case": str.upper,
    "in lower case": str.lower,
    "with a capital first letter": str.capitalize,
    "in Unicode NFC": lambda word: unicodedata.normalize("NFC", word),
    "in Unicode NFD": lambda word: unicodedata.normalize("NFD", word),
    "with ' instead of ’": lambda word: word.replace("’", "'"),
    "with ’ instead of '": lambda word: word.replace("'", "’"),
    "with _ instead of '": lambda word: word.replace("'", "_"),
    "without hyphens": lambda word: word.replace("-", ""),
    "without stress digits": strip_arpabet,
    f"with {WRITTEN_SPACE} for the space": lambda word: word.replace(" ", WRITTEN_SPACE),
    f"with {WRITTEN_SPACE} before the word": lambda word: WRITTEN_SPACE + word,
}
#: Share of unknown words that is worth a warning, and share of these that a spelling must make known to be offered.
NOTEWORTHY, CURED = 0.5, 0.5
SHOWN = 3


def coverage_warning(
    model: NgramModel | KenlmModel, words: Iterable[str], *, what: str = "words", noteworthy: float = NOTEWORTHY
) -> str | None:
    """One sentence when at least the share `noteworthy` of the words is unknown to the model, with the spelling that would help.

    words: those of the text, the lexicon or the tokenizer that the model is to score, repeated as often as they count. what:
    how the sentence calls them. None when enough of them are known, or there are none.
    """
    listed = list(words)
    unknown = [word for word in listed if not model.knows(word)]
    if not unknown or len(unknown) < noteworthy * len(listed):
        return None
    # Rounded down: 100 % means that not a single one is known.
    share = 100 * len(unknown) // len(listed)
    sentence = f"{share} % of {what} are unknown to the language model"
    known = {name: sum(map(model.knows, map(spell, unknown))) for name, spell in SPELLINGS.items()}
    best = max(known, key=lambda name: known[name])
    if known[best] >= CURED * len(unknown):
        return f"{sentence}; {100 * known[best] // len(unknown)} % of these would be known {best}"
    examples = ", ".join(f'"{word}"' for word in list(dict.fromkeys(unknown))[:SHOWN])
    theirs = ", ".join(f'"{word}"' for word in _examples(model.words))
    return f"{sentence} ({examples}; its own are {theirs}): it fits another unit, language or spelling"


def _examples(words: Sequence[str]) -> list[str]:
    """A few words from all over the vocabulary."""
    return [words[(2 * part + 1) * len(words) // (2 * SHOWN)] for part in range(SHOWN)]
