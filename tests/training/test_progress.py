"""The commands that a training names at its end score what its model was taught to write."""

import json
import shlex

import pytest

from asr.cli.arguments import Arguments
from asr.config import compose_config
from asr.scoring.score import ScoreOptions
from asr.text.tokenizer import TokenOptions
from asr.training.options import DataOptions, TrainConfig
from asr.training.progress import next_text, score_words


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
    assert score_words(TokenOptions(unit="phones", map={"q": ""}), tmp_path / "none") == ["unit=phone"]
    assert score_words(TokenOptions(), tmp_path / "none") == ["unit=word"]


def test_the_rules_of_the_model_are_those_of_the_score(manifest):
    """Every rule, as asr-score itself reads the words back."""
    tokens = TokenOptions(unicode="folded", case="lower", punctuation="drop", digits="ascii", map={"&": " and ", "ß": "ss"})
    words = score_words(tokens, manifest("a b"))
    options = compose_config("score", Arguments(overrides=words), ScoreOptions)
    rules = {name: getattr(tokens, name) for name in vars(options.rules)}
    assert vars(options.rules) == rules
    assert options.unit == "word"


def test_the_lines_can_be_typed(manifest):
    """Quoted for a shell, for a folder with a space in its name."""
    path = manifest("a b")
    data = DataOptions(dir=str(path.parent))
    config = TrainConfig(run_dir="my runs/first", data=data, tokens=TokenOptions(map={"&": "and"}))
    decode, score = (shlex.split(line) for line in next_text(config).splitlines()[1:])
    assert decode == ["asr-decode", "model=my runs/first", f"manifest={path}", "out=my runs/first/test.hyp.jsonl"]
    assert score[:5] == ["asr-score", f"ref={path}", "hyp=my runs/first/test.hyp.jsonl", "unit=word", 'map={"&": "and"}']
