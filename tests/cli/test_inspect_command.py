"""`asr-inspect`: each picture from a tiny model, its numbers and its page, and its mistakes."""

import pytest

from asr.cli.inspect import LOOKS, main
from tests.decoding.tiny import save_babbler, write_speech

COMMANDS = {
    "gradient": ["lag=8", "stations=[rnn,lstm1997,lstm]"],
    "gates": ["model=MODEL", "AUDIO"],
    "ctc": ["target=cat"],
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspect")
    return save_babbler(folder / "run"), write_speech(folder) / "u1.wav"


def test_the_pictures_are_listed_and_none_is_missing():
    assert set(COMMANDS) <= set(LOOKS) == {"gradient", "gates", "ctc", "longlag", "compare"}
    for look in LOOKS.values():
        __import__(look.module)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_look_writes_picture_numbers_and_page(name, stage, tmp_path):
    model, audio = stage
    words = [word.replace("MODEL", str(model)).replace("AUDIO", str(audio)) for word in COMMANDS[name]]
    out = tmp_path / "look"
    assert main([name, f"out={out}", *words]) == 0
    kinds = {path.suffix for path in out.iterdir()}
    assert {".png", ".html", ".csv"} <= kinds
    page = (out / f"{name}.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert "<script" not in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gatse", "out=x"], "gates"),
        (["gates"], "out"),
        (["gradient", "out=OUT", "stations=[lstn]"], "lstm"),
        (["gradient", "out=OUT", "lagg=3"], "lag"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_two(words, message, tmp_path, capsys):
    assert main([word.replace("OUT", str(tmp_path / "o")) for word in words]) == 2
    err = capsys.readouterr().err.strip()
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err
