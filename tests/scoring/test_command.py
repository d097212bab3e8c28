"""What asr-score is told to count for a model: phones, words or characters, after the rules of the model's own text."""

import json

import pytest

from asr.cli.arguments import Arguments
from asr.config import compose_config
from asr.scoring.command import score_words
from asr.scoring.score import ScoreOptions
from asr.text.tokenizer import TokenOptions


@pytest.fixture
def manifest(tmp_path):
    def write(*texts: str):
        path = tmp_path / "test.jsonl"
        lines = [{"id": str(i), "audio_filepath": "a.wav", "duration": 1.0, "text": text} for i, text in enumerate(texts)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return write


@pytest.mark.parametrize(
    ("texts", "unit"),
    [
        (["two words"], "word"),
        (["one", "two"], "word"),
        (["สวัสดีชาวโลก"], "char"),
        (["你好世界", "再见"], "char"),
        (["こんにちは世界"], "char"),
        (["안녕하세요 세계"], "word"),
        (["გამარჯობა", "你"], "word"),
        ([""], "word"),
    ],
)
def test_characters_are_counted_where_words_are_not_parted(manifest, texts, unit):
    assert score_words(TokenOptions(), manifest(*texts)) == [f"unit={unit}"]


def test_phones_and_missing_manifests(tmp_path):
    phones = TokenOptions(unit="phones", map={"q": ""})
    assert score_words(phones, tmp_path / "none") == ["unit=phone"]
    assert score_words(phones, tmp_path / "none", words=True) == ["unit=word"]
    assert score_words(TokenOptions(), tmp_path / "none") == ["unit=word"]


def test_the_rules_of_the_model_are_those_of_the_score(manifest):
    """Every rule, as asr-score itself reads the words back."""
    tokens = TokenOptions(unicode="folded", case="lower", punctuation="drop", digits="ascii", map={"&": " and ", "ß": "ss"})
    words = score_words(tokens, manifest("a b"))
    options = compose_config("score", Arguments(overrides=words), ScoreOptions)
    rules = {name: getattr(tokens, name) for name in vars(options.rules)}
    assert vars(options.rules) == rules
    assert options.unit == "word"
