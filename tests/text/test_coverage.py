"""A language model that hardly knows the words is told, with the spelling that would help."""

import pytest

from asr.text.coverage import coverage_warning
from asr.text.ngram_train import train_ngram


def model_of(*words):
    return train_ngram([list(words)], order=1)


@pytest.mark.parametrize(
    ("words", "theirs", "cure"),
    [
        (["the", "cat"], ["THE", "CAT"], "in upper case"),
        (["THE", "CAT"], ["the", "cat"], "in lower case"),
        (["the", "cat"], ["The", "Cat"], "with a capital first letter"),
        (["zu\u0308rich"], ["zürich"], "in Unicode NFC"),
        (["zürich"], ["zu\u0308rich"], "in Unicode NFD"),
        (["don’t"], ["don't"], "with ' instead of ’"),
        (["don't"], ["don’t"], "with ’ instead of '"),
        (["don't"], ["don_t"], "with _ instead of '"),
        (["twenty-one"], ["twentyone"], "without hyphens"),
        (["AH0", "AY1"], ["AH", "AY"], "without stress digits"),
        ([" "], ["▁"], "with ▁ for the space"),
        (["the", "cat"], ["▁the", "▁cat"], "with ▁ before the word"),
    ],
)
def test_the_spelling_that_would_help_is_named(words, theirs, cure):
    said = coverage_warning(model_of(*theirs), words)
    assert said == f"100 % of words are unknown to the language model; 100 % of these would be known {cure}"


def test_no_spelling_helps_with_another_language():
    said = coverage_warning(model_of("le", "chat", "dort"), ["the", "cat", "the"], what="the words of the text")
    assert said.startswith('100 % of the words of the text are unknown to the language model ("the", "cat"; its own are "')
    assert said.endswith("it fits another unit, language or spelling")


def test_a_few_unknown_words_are_no_fault():
    model = model_of("a", "b")
    assert coverage_warning(model, ["a", "b", "A"]) is None
    assert coverage_warning(model, []) is None
    assert coverage_warning(model, ["a", "B", "A"]).startswith("66 % of words are unknown")
    assert coverage_warning(model, ["a", "b", "A"], noteworthy=0.3).startswith("33 % of words are unknown")
