"""The same recording in two parts: by file, by samples, and what is no copy."""

import numpy as np
import pytest
import soundfile

from asr.data import audio
from asr.data.manifest import Utterance
from asr.data.overlap import Copy, describe_copies, find_copies


@pytest.fixture
def samples():
    return np.random.default_rng(1).integers(-5000, 5000, 8000, dtype=np.int16)


def write(path, samples, **how) -> str:
    soundfile.write(path, samples, 8000, **how)
    return str(path)


def test_copies_by_samples(tmp_path, samples):
    first = write(tmp_path / "a.wav", samples)
    again = write(tmp_path / "b.flac", samples)
    inside = write(tmp_path / "c.wav", np.concatenate([samples[:400], samples]))
    other = write(tmp_path / "d.wav", samples[::-1])
    train = [Utterance("a", first, 1.0, text="x"), Utterance("far", "/gone.wav", 1.0, text="x")]
    test = [
        Utterance("b", again, 1.0, text="x"),
        Utterance("piece", inside, 1.0, offset=0.05, text="x"),
        Utterance("other", other, 1.0, text="x"),
        Utterance("words", write(tmp_path / "e.wav", samples), 1.0, text="y"),
        Utterance("gone", "/gone too.wav", 1.0, text="x"),
    ]
    found = find_copies({"train": train, "test": test})
    assert found == {"train": [], "test": [Copy("b", "train", "a"), Copy("piece", "train", "a")]}
    assert describe_copies(found) == ["2 recordings of test stand in train, too, which flatters error rates: b, piece"]


def test_the_same_file_needs_no_look_at_it(monkeypatch):
    monkeypatch.setattr(audio, "read_audio", lambda *_, **__: pytest.fail("a file was read"))
    train = [Utterance(f"t{number}", f"/{number}.wav", 1.0, text=str(number)) for number in range(7)]
    test = [Utterance(f"x{number}", f"/{number}.wav", 2.0, text="other") for number in range(7)]
    found = find_copies({"train": train, "valid": [], "test": test})
    assert [copy.other for copy in found["test"]] == [one.id for one in train]
    assert describe_copies(found)[0].endswith("error rates: x0, x1, x2, x3, x4 and 2 more")


def test_what_is_no_copy():
    """The same words and length in one part; another stretch of a file; a part made of another one, with the same ids."""
    said = [Utterance("a", "/a.wav", 1.0, text="x"), Utterance("b", "/a.wav", 1.0, offset=1.0, text="x")]
    later = Utterance("c", "/a.wav", 1.0, offset=2.0, text="y")
    assert find_copies({"valid": said, "dev-clean": said, "test": [later]}) == {"valid": [], "dev-clean": [], "test": []}
    assert describe_copies({"valid": []}) == []
