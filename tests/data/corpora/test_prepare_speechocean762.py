from pathlib import Path

import pytest

from asr.data.corpora.speechocean762 import SpeechoceanOptions, prepare
from asr.data.prepare import count_part
from asr.errors import DataError


@pytest.fixture
def root(tmp_path: Path, record) -> Path:
    """Twelve speakers with one utterance each in train, one in test."""
    spoken = []
    for half, speakers in (("train", range(12)), ("test", [50])):
        keys = {f"{speaker:04d}": f"{speaker:05d}0011" for speaker in speakers}
        (tmp_path / half).mkdir()
        for speaker, key in keys.items():
            record(tmp_path / "WAVE" / f"SPEAKER{speaker}" / f"{key}.WAV")
        files = {
            "wav.scp": [f"{key}\tWAVE/SPEAKER{speaker}/{key}.WAV" for speaker, key in keys.items()],
            "text": [f"{key}\tWE CALL" for key in keys.values()],
            "utt2spk": [f"{key} {speaker}" for speaker, key in keys.items()],
            "spk2gender": [f"{speaker}\tf" for speaker in keys],
            "spk2age": [f"{speaker}\t9" for speaker in keys],
        }
        for name, lines in files.items():
            (tmp_path / half / name).write_text("\n".join(lines) + "\n")
        spoken += [line for key in keys.values() for line in (f"{key}.1\tK_B AO0_I L_E", f"{key}.0\tW_B IY1_E")]
    (tmp_path / "resource").mkdir()
    (tmp_path / "resource" / "text-phone").write_text("\n".join(spoken) + "\n")
    return tmp_path


def test_parts_phones_and_speakers(root: Path):
    prepared = prepare(root, SpeechoceanOptions())
    assert {part: len(items) for part, items in prepared.parts.items()} == {"train": 9, "valid": 1, "dev": 2, "test": 1}
    assert [item.speaker for item in prepared.parts["dev"]] == ["0000", "0010"]
    assert [item.speaker for item in prepared.parts["valid"]] == ["0005"]
    utterance = prepared.parts["test"][0]
    assert (utterance.text, utterance.phones) == ("WE CALL", "W IY K AO L")
    assert utterance.extra == {"age": 9, "gender": "f"}
    assert prepared.problems == []
    assert [note.split(", so")[0] for note in prepared.notes] == [
        "train: found 12 of 2,500 utterances, 12 of 125 speakers",
        "test: found 1 of 2,500 utterances, 1 of 125 speakers",
    ]


def test_without_the_test_half(root: Path):
    for file in (root / "test").iterdir():
        file.unlink()
    (root / "test").rmdir()
    prepared = prepare(root, SpeechoceanOptions())
    assert "test" not in prepared.parts
    assert prepared.notes[1:] == [f"{root / 'test'}: no such folder, so there is no test part"]


def test_all_problems_at_once(root: Path):
    phones = (root / "resource" / "text-phone").read_text().splitlines()
    (root / "resource" / "text-phone").write_text("\n".join([*phones[1:], "odd line"]) + "\n")
    (root / "WAVE" / "SPEAKER0003" / "000030011.WAV").unlink()
    text = (root / "train" / "text").read_text().splitlines()
    (root / "train" / "text").write_text("\n".join(text[:-1]) + "\n")
    problems = prepare(root, SpeechoceanOptions()).problems
    assert {(problem.kind, problem.id) for problem in problems} == {
        ("bad-line", "odd"),
        ("missing-phones", "000000011"),
        ("missing-file", "000030011"),
        ("missing-entry", "000110011"),
    }


def test_missing_pieces(root: Path):
    (root / "resource" / "text-phone").unlink()
    (root / "train" / "wav.scp").unlink()
    problems = prepare(root, SpeechoceanOptions()).problems
    assert [(problem.kind, Path(problem.where).name) for problem in problems] == [
        ("missing-file", "text-phone"),
        ("missing-file", "wav.scp"),
    ]
    with pytest.raises(DataError, match="no such folder; expected the folder of speechocean762"):
        prepare(root / "absent", SpeechoceanOptions())


def test_the_real_corpus(shared_data: Path):
    prepared = prepare(shared_data / "speechocean762", SpeechoceanOptions())
    counts = {part: count_part(items) for part, items in prepared.parts.items()}
    assert prepared.problems == []
    dev = counts["dev"]
    assert (dev.speakers, dev.utterances, dev.words, dev.phones) == (13, 260, 1545, 4580)
    assert {part: of.speakers for part, of in counts.items()} == {"train": 100, "valid": 12, "dev": 13}
    assert sum(of.utterances for of in counts.values()) == 2500
    assert round(sum(of.hours for of in counts.values()), 2) == 2.88
    symbols = {phone for items in prepared.parts.values() for item in items for phone in item.phones.split()}
    assert len(symbols) == 39
