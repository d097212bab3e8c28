"""Kaldi folders: what they say is read as it is, everything wrong is listed at once, nothing in them is run."""

from pathlib import Path

import pytest

from asr.data.corpora.kaldi import KaldiOptions, prepare
from asr.errors import DataError


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content, "utf-8")
    return folder


@pytest.fixture
def root(tmp_path: Path, record) -> Path:
    """Ten utterances of five speakers, paths with blanks and umlauts, relative to the folder."""
    keys = [f"s{number // 2}-{number}" for number in range(10)]
    for key in keys:
        record(tmp_path / "wäv files" / f"{key}.wav", seconds=0.5)
    return write(
        tmp_path,
        wav_scp="".join(f"{key} wäv files/{key}.wav\n" for key in keys),
        text="".join(f"{key} Hallo  Wörld {key}\n" for key in keys),
        utt2spk="".join(f"{key} {key[:2]}\n" for key in keys),
    )


def test_one_folder_is_split_by_speaker(root: Path):
    prepared = prepare(root, KaldiOptions())
    assert {part: len(items) for part, items in prepared.parts.items()} == {"train": 6, "valid": 2, "test": 2}
    assert (prepared.problems, prepared.notes) == ([], [])
    utterance = next(item for items in prepared.parts.values() for item in items if item.id == "s0-1")
    assert (utterance.text, utterance.speaker, utterance.duration) == ("Hallo  Wörld s0-1", "s0", 0.5)
    assert Path(utterance.audio_filepath) == root / "wäv files" / "s0-1.wav"


def test_byte_order_mark_and_windows_line_ends_are_read(root: Path):
    plain = prepare(root, KaldiOptions())
    for name in ("text", "wav.scp"):
        content = (root / name).read_text("utf-8")
        (root / name).write_bytes(b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode())
    assert prepare(root, KaldiOptions()) == plain


def test_all_problems_are_listed_at_once(root: Path):
    (root / "text").write_text(
        "s0-0 a\ns0-1 b\ns0-1 b again\ns1-2 c\ns9-9 d\n" + "".join(f"s{n // 2}-{n} x\n" for n in range(3, 9))
    )
    (root / "utt2spk").write_text("".join(f"s{n // 2}-{n} s{n // 2}\n" for n in range(1, 10)))
    lines = (root / "wav.scp").read_text("utf-8").splitlines()
    lines[4] = "s2-4 ~/x.wav"
    lines[5] = "s2-5 gone.wav"
    lines[6] = "s3-6 raw.ark:1234"
    (root / "wav.scp").write_text("\n".join(lines), "utf-8")
    prepared = prepare(root, KaldiOptions())
    told = {(problem.kind, Path(problem.where).name, problem.id) for problem in prepared.problems}
    assert told == {
        ("duplicate-id", "text:3", "s0-1"),
        ("missing-entry", "text:5", "s9-9"),
        ("missing-entry", "text:1", "s0-0"),
        ("missing-entry", "wav.scp:1", "s0-0"),
        ("missing-entry", "wav.scp:10", "s4-9"),
        ("missing-entry", "utt2spk:9", "s4-9"),
        ("home-path", "wav.scp:5", "s2-4"),
        ("missing-file", "wav.scp:6", "s2-5"),
        ("archive", "wav.scp:7", "s3-6"),
    }
    assert len(prepared.notes) == 2
    assert prepared.notes[1].endswith("recordings beside those that are named are not used: s2-4.wav, s2-5.wav, s3-6.wav")
    assert prepared.notes[0].endswith("text:6: not in Kaldi's sorted order, which does not matter here")
    assert sorted(item.id for items in prepared.parts.values() for item in items) == ["s0-1", "s1-2", "s1-3", "s3-7", "s4-8"]


@pytest.mark.parametrize("command", ["sox in.sph -t wav - |", "|cat x.wav", "-", "touch canary |"])
def test_commands_are_never_run(root: Path, command: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(root)
    with (root / "wav.scp").open("a") as file:
        file.write(f"s5-0 {command}\n")
    problems = [problem for problem in prepare(root, KaldiOptions()).problems if problem.kind == "command"]
    assert len(problems) == 1
    assert "commands are not run" in problems[0].message
    assert "sox IN OUT.wav" in problems[0].message
    assert problems[0].where.endswith("wav.scp:11")
    assert not (root / "canary").exists()


def test_segments_become_offsets(tmp_path: Path, record):
    record(tmp_path / "rec.wav", seconds=2.0)
    write(
        tmp_path,
        wav_scp="rec rec.wav\n",
        text="".join(f"u{number} text\n" for number in range(3)),
        segments="u0 rec 0 0.5\nu1 rec 0.5 1.25\nu2 rec 1.25 -1\n",
    )
    prepared = prepare(tmp_path, KaldiOptions(valid_fraction=0, test_fraction=0))
    assert prepared.problems == []
    assert [(item.offset, item.duration, item.speaker) for item in prepared.parts["train"]] == [
        (0.0, 0.5, None),
        (0.5, 0.75, None),
        (1.25, 0.75, None),
    ]
    assert prepared.notes == [f"{tmp_path}: no utt2spk, so no speakers are known"]


def test_bad_segments_are_named(tmp_path: Path, record):
    record(tmp_path / "rec.wav", seconds=2.0)
    lines = [
        "ok rec 0 1.0",
        "over rec 1.0 2.04",
        "a rec 1.0 1.0",
        "b rec 1.5 1",
        "c rec -1 1",
        "d rec x 1",
        "e rec 1",
        "f other 0 1",
    ]
    lines += ["g rec 1 2.2", "h rec 3 4", "i rec nan 1", "j rec 0 inf"]
    write(
        tmp_path,
        wav_scp="rec rec.wav\nunused rec.wav\n",
        text="".join(f"{line.split()[0]} text\n" for line in lines),
        segments="\n".join(lines),
    )
    prepared = prepare(tmp_path, KaldiOptions(valid_fraction=0, test_fraction=0))
    assert [(item.id, item.duration) for item in prepared.parts["train"]] == [("ok", 1.0), ("over", 1.0)]
    kinds = {problem.id: problem.kind for problem in prepared.problems}
    assert kinds == {
        **dict.fromkeys("abcdeij", "bad-segment"),
        **dict.fromkeys(("f", "unused"), "missing-entry"),
        **dict.fromkeys("gh", "segment-outside"),
    }


def test_sub_folders_are_the_parts(tmp_path: Path, record):
    for part, speakers in (("train", "abcd"), ("dev", "e"), ("test", "ad"), ("train_clean", "x")):
        keys = [f"{speaker}-{part}" for speaker in speakers]
        for key in keys:
            record(tmp_path / "audio" / f"{key}.wav")
        write(
            tmp_path / "data" / part,
            wav_scp="".join(f"{key} audio/{key}.wav\n" for key in keys),
            text="".join(f"{key} text\n" for key in keys),
            utt2spk="".join(f"{key} {key[0]}\n" for key in keys),
        )
    prepared = prepare(tmp_path / "data", KaldiOptions())
    assert {part: len(items) for part, items in prepared.parts.items()} == {"train": 3, "valid": 1, "dev": 1, "test": 2}
    assert prepared.split.startswith("train, dev, test as the corpus has them; valid cut from train, split by speaker")
    assert prepared.notes == [
        "folders not read, for they are not called train, valid, dev, test: train_clean",
        "1 recordings beside those that are named are not used: x-train_clean.wav",
    ]


def test_the_same_id_in_two_parts_is_a_problem(tmp_path: Path, record):
    record(tmp_path / "a.wav")
    for part in ("train", "test"):
        write(tmp_path / part, wav_scp="a a.wav\n", text="a text\n", utt2spk="a s\n")
    problems = prepare(tmp_path, KaldiOptions(valid_fraction=0)).problems
    assert [problem.kind for problem in problems] == ["duplicate-id"]
    assert "train" in problems[0].message
    assert "test" in problems[0].where


def test_missing_and_foreign_files(root: Path, tmp_path: Path):
    (root / "utt2spk").write_bytes("s0-0 J\xf6rg\n".encode("latin-1"))
    (root / "text").unlink()
    prepared = prepare(root, KaldiOptions(valid_fraction=0, test_fraction=0))
    assert {(problem.kind, Path(problem.where).name) for problem in prepared.problems} == {
        ("missing-file", "text"),
        ("unreadable-file", "utt2spk"),
    }
    assert any("0xF6" in problem.message and "Latin-1" in problem.message for problem in prepared.problems)
    assert not any(prepared.parts.values())


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds neither wav.scp nor a folder train, valid, dev, test with one$"):
        prepare(tmp_path, KaldiOptions())
    write(tmp_path / "mine", wav_scp="")
    with pytest.raises(DataError, match="it has mine, to be prepared one by one or renamed"):
        prepare(tmp_path, KaldiOptions())


def test_empty_transcripts_are_kept_and_told(root: Path):
    content = (root / "text").read_text("utf-8").splitlines()
    content[2] = "s1-2"
    (root / "text").write_text("\n".join(content), "utf-8")
    prepared = prepare(root, KaldiOptions(valid_fraction=0, test_fraction=0))
    assert len(prepared.parts["train"]) == 10
    assert prepared.notes[0].endswith("empty transcripts: 1 (s1-2)")
