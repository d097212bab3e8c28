"""A first word on what to expect from so much speech: only what recipes have measured, and what is rough is called so."""

import math
from dataclasses import dataclass

from asr.training.plan import show_hours

#: So many different words are a list to choose from rather than a language.
FEW_WORDS = 60
#: h
TOO_LITTLE = 0.02


@dataclass(frozen=True)
class Measured:
    """A row of "What was measured" in README.md, as its recipe describes it."""

    recipe: str
    #: h of speech it was trained on
    hours: float
    speech: str
    result: str


YESNO = Measured(
    "recipes/yesno", 0.05, "one person who says yes and no", "0.42 % of the words were wrong, on more of the same voice"
)
FSDD = Measured(
    "recipes/fsdd",
    0.29,
    "six people who say ten digits",
    "1.67 % of the words were wrong on the voices of the training and 20.10 % on voices that were not in it",
)
SENTENCES = Measured(
    "recipes/speechocean762",
    2.37,
    "English sentences read by a hundred learners, half of them children",
    "31.87 % of the characters and 63.56 % of the words were wrong on new voices",
)
SOME_SENTENCES = Measured(
    "recipes/speechocean762",
    0.59,
    "English sentences read by 23 learners, a third of them children",
    "46.95 % of the characters and 86.80 % of the words were wrong on new voices",
)
#: h, where the two sets of sentences are equally near
BETWEEN = math.sqrt(SOME_SENTENCES.hours * SENTENCES.hours)
MEASURED = (YESNO, FSDD, SOME_SENTENCES, SENTENCES)


def expectations(*, hours: float, different_words: int, new_voices: bool) -> list[str]:
    """Sentences for a user with so many hours of training speech. new_voices: the part set aside has speakers of its own."""
    if different_words <= FEW_WORDS:
        near = YESNO if hours < 0.1 else FSDD
        lines = [f"{_told(near)}; you have {show_hours(hours)} with {different_words} different words"]
    else:
        near = SOME_SENTENCES if hours < BETWEEN else SENTENCES
        share = hours / near.hours
        if share > 1.25:
            how = "more" if near is SOME_SENTENCES else "more than was ever measured with this toolkit"
            how += ", so expect fewer errors"
        else:
            how = "about as much, so expect about as many errors" if share > 0.8 else "less, so expect more errors"
            how += ", unless your speakers, words or sentences vary less"
        lines = [f"{_told(near)}; you have {show_hours(hours)}, {how}"]
        lines.append(
            "roughly, and not measured here: it takes some tens of hours before free speech becomes readable; until then a "
            "language model of your own texts (asr-lm, then asr-decode decoder=beam lm=FILE) helps most"
        )
    if hours < TOO_LITTLE:
        lines.append("roughly, and not measured here: so little is enough to try the commands, not to recognise anything")
    if not new_voices:
        lines.append(
            "the part set aside may hold voices of the training, so strangers will be understood less well than its figures say"
        )
    return lines


def _told(row: Measured) -> str:
    return f"with {show_hours(row.hours)} of {row.speech}, {row.result} ({row.recipe})"
