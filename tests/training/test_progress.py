"""The commands that a training names at its end can be typed as they stand."""

import json
import shlex

from asr.text.tokenizer import TokenOptions
from asr.training.options import DataOptions, TrainConfig
from asr.training.progress import next_text


def test_the_commands_that_come_next(tmp_path):
    """Quoted for a shell, with the rules of the model's text."""
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"id": "1", "audio_filepath": "a.wav", "duration": 1.0, "text": "a b"}) + "\n")
    config = TrainConfig(run_dir="my runs/first", data=DataOptions(dir=str(tmp_path)), tokens=TokenOptions(map={"&": "and"}))
    decode, score = (shlex.split(line) for line in next_text(config).splitlines()[1:])
    assert decode == ["asr-decode", "model=my runs/first", f"manifest={path}", "out=my runs/first/test.hyp.jsonl"]
    assert score[:5] == ["asr-score", f"ref={path}", "hyp=my runs/first/test.hyp.jsonl", "unit=word", 'map={"&": "and"}']
