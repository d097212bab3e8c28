"""`asr-align`: every form, and its mistakes."""

import pytest

from asr.cli.align import main
from tests.decoding.tiny import save_babbler, write_speech


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("align")
    return save_babbler(folder / "run"), write_speech(folder)


@pytest.mark.parametrize("form", ["json", "ctm", "textgrid", "elan", "srt", "vtt"])
def test_every_form_is_written(form, stage, tmp_path):
    model, speech = stage
    out = tmp_path / "out"
    assert main([f"model={model}", f"manifest={speech / 'manifest.jsonl'}", f"out={out}", f"format={form}"]) == 0
    files = [out] if out.is_file() else list(out.iterdir())
    assert files
    assert all(path.read_text(encoding="utf-8") for path in files)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["manifest=MANIFEST", "out=OUT"], 2, "model"),
        (["model=MODEL", "manifest=MANIFEST", "out=OUT", "format=pdf"], 2, "format must be one of"),
        (["model=MODEL", "manifest=gone.jsonl", "out=OUT"], 3, "gone.jsonl"),
        (["model=nowhere", "manifest=MANIFEST", "out=OUT"], 4, "nowhere"),
    ],
)
def test_a_mistake_is_one_sentence_and_its_exit_code(words, code, message, stage, tmp_path, capsys):
    model, speech = stage
    names = {"MODEL": model, "MANIFEST": speech / "manifest.jsonl", "OUT": tmp_path / "out"}
    filled = []
    for word in words:
        for name, value in names.items():
            word = word.replace(f"={name}", f"={value}")
        filled.append(word)
    assert main(filled) == code
    err = capsys.readouterr().err.strip()
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err
