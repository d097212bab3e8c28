"""Transcripts without punctuation, in scripts that do not work like English."""

import pytest

from asr.data.corpora.wording import plain


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('"Well-known," he said.', "well known he said"),
        ("It\u2019s \u2018quoted\u2019, isn't it?", "it's quoted isn't it"),
        ("L'été, c\u2019est l`heure", "l'été c'est l'heure"),
        ("rock 'n' roll's dogs'", "rock n roll's dogs"),
        ("¿3,5 €? ¡Añade!", "3 5 añade"),
        ("Stra\u00dfe \u2014 \u00c4rger", "stra\u00dfe \u00e4rger"),
        ("Cafe\u0301", "caf\u00e9"),
        ("क्या यह हिन्दी है।", "क्या यह हिन्दी है"),
        ("می\u200cخواهم بروم؟", "می\u200cخواهم بروم"),
        ("你好，世界！", "你好 世界"),
        (" \t...\u2026 ", ""),
    ],
)
def test_what_is_said_stays(written: str, said: str):
    assert plain(written) == said
    assert plain(said) == said
