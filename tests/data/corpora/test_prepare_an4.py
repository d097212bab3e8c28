"""AN4 in miniature: SPHERE, and samples without a header in either byte order."""

from pathlib import Path

import numpy as np
import pytest

from asr.data.audio import read_audio
from asr.data.corpora import an4
from asr.data.corpora.an4 import An4Options, prepare, to_wav
from asr.data.corpora.counts import Size
from asr.data.prepare import prepare_corpus
from asr.errors import DataError, UsageError
from tests.data.corpora.miniature import an4_header, sphere, tones, write_an4

ANY = An4Options(counts="any")


@pytest.mark.parametrize(("form", "order", "option"), [("sphere", ">", "big"), ("raw", ">", "big"), ("raw", "<", "little")])
def test_every_form_gives_the_same_samples(tmp_path: Path, form: str, order: str, option: str):
    write_an4(tmp_path, form=form, order=order)
    prepared = prepare(tmp_path, An4Options(counts="any", byte_order=option), tmp_path / "audio")
    assert prepared.problems == []
    assert {part: (len(items), len({item.speaker for item in items})) for part, items in prepared.parts.items()} == {
        "train": (6, 3),
        "valid": (2, 1),
        "test": (4, 2),
    }
    first = prepared.parts["test"][0]
    assert (first.id, first.speaker, first.text) == ("an250-feax-b", "feax", "GO A B B A")
    samples = read_audio(first.audio_filepath, sample_rate=16000)
    assert np.array_equal(samples * 32768, tones("GO A B B A"))
    assert (tmp_path / "audio").exists() == (form == "raw")


def test_marks_and_the_name_are_taken_off(tmp_path: Path):
    write_an4(tmp_path)
    texts = {item.text for items in prepare(tmp_path, ANY, tmp_path / "audio").parts.values() for item in items}
    assert texts == {"GO A B B A", "BAG EGG"}


def test_the_wrong_byte_order_is_found_out(tmp_path: Path):
    write_an4(tmp_path, form="raw", order="<")
    found = prepare(tmp_path, ANY, tmp_path / "audio").problems
    assert len(found) == 12
    assert {problem.message for problem in found if problem.kind == "damaged"} == {
        "is noise when it is read with the high byte first; try --byte-order little"
    }
    noise = np.random.default_rng(1).integers(-9999, 9999, 4000).astype(">i2").tobytes()
    assert to_wav(noise, "big")[44:] == np.frombuffer(noise, ">i2").astype("<i2").tobytes(), "noise has no wrong order"
    with pytest.raises(UsageError, match="--byte-order: expected big or little, got 'middle'"):
        An4Options(byte_order="middle")


@pytest.mark.parametrize(("data", "message"), [(b"", "the file is empty"), (b"\0" * 1001, "holds 1001 bytes, which is no whole")])
def test_a_damaged_recording_without_a_header(tmp_path: Path, data: bytes, message: str):
    write_an4(tmp_path, form="raw")
    path = tmp_path / "an4" / "wav" / "an4_clstk" / "frax" / "an250-frax-b.raw"
    path.write_bytes(data)
    (problem,) = prepare(tmp_path, ANY, tmp_path / "audio").problems
    assert (problem.kind, problem.where, problem.id) == ("damaged", str(path), "an250-frax-b")
    assert message in problem.message


def test_missing_extra_and_damaged_files_are_named(tmp_path: Path):
    folder = write_an4(tmp_path)
    home = folder / "wav" / "an4_clstk" / "frax"
    (home / "an250-frax-b.sph").unlink()
    whole = (home / "cen0-frax-b.sph").read_bytes()
    (home / "cen0-frax-b.sph").write_bytes(whole[: len(whole) // 2])
    (home / "cen9-frax-b.sph").write_bytes(whole)
    with (folder / "etc" / "an4_train.transcription").open("a") as listed:
        listed.write("no name\n<s> TWICE </s> (cen0-frax-b)\n")
    found = prepare(tmp_path, ANY, tmp_path / "audio").problems
    assert {(problem.kind, problem.where.removeprefix(f"{folder}/"), problem.id) for problem in found} == {
        ("missing-file", "etc/an4_train.transcription:1", "an250-frax-b"),
        ("cut-file", "etc/an4_train.transcription:2", "cen0-frax-b"),
        ("no-transcript", "wav/an4_clstk/frax/cen9-frax-b.sph", "cen9-frax-b"),
        ("bad-line", "etc/an4_train.transcription:9", None),
        ("duplicate-id", "etc/an4_train.transcription:10", "cen0-frax-b"),
    }


def test_a_compressed_recording_is_named_with_the_way_out(tmp_path: Path):
    folder = write_an4(tmp_path)
    samples = tones("GO")
    header = [line.replace("-s3 pcm", "-s26 pcm,embedded-shorten-v2.00") for line in an4_header(samples)]
    (folder / "wav" / "an4_clstk" / "frax" / "cen0-frax-b.sph").write_bytes(sphere(samples, header))
    (problem,) = prepare(tmp_path, ANY, tmp_path / "audio").problems
    assert problem.kind == "unsupported-format"
    assert "compressed with shorten: sph2pipe -f wav" in problem.message


def test_the_counts_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_an4(tmp_path)
    found = prepare(tmp_path, An4Options(), tmp_path / "audio").problems
    assert [problem.message.split(";")[0] for problem in found] == [
        "train: found 8 of 948 utterances, 4 of 74 speakers",
        "test: found 4 of 130 utterances, 2 of 10 speakers",
    ]
    monkeypatch.setattr(an4, "PUBLISHED", {"train": Size(8), "test": Size(4)})
    prepared = prepare(tmp_path, An4Options(), tmp_path / "audio")
    assert (prepared.problems, prepared.notes) == ([], [])


def test_converted_recordings_lie_with_the_manifests(tmp_path: Path):
    """They are written once: a second preparation leaves them as they are."""
    write_an4(tmp_path / "corpus", form="raw")
    out = tmp_path / "out"
    prepare_corpus("an4", tmp_path / "corpus", out, ANY)
    copies = {path: path.stat().st_mtime_ns for path in (out / "audio").iterdir()}
    assert len(copies) == 12
    assert '"audio_filepath": "audio/an250-feax-b.wav"' in (out / "test.jsonl").read_text()
    prepare_corpus("an4", tmp_path / "corpus", out, ANY)
    assert {path: path.stat().st_mtime_ns for path in (out / "audio").iterdir()} == copies


def test_another_folder_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="holds no folder etc"):
        prepare(tmp_path, ANY, tmp_path / "audio")
    write_an4(tmp_path)
    (tmp_path / "an4" / "etc" / "an4_test.transcription").unlink()
    found = prepare(tmp_path, ANY, tmp_path / "audio").problems
    assert [problem.kind for problem in found] == ["unreadable-file"]
