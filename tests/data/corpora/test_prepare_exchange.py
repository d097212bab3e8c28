"""What other toolkits write: NeMo manifests, Hugging Face audio folders, lhotse manifests, Kaldi folders with STM."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from asr.data.corpora import audiofolder, kaldi, lhotse, nemo
from asr.data.corpora.audiofolder import AudiofolderOptions
from asr.data.corpora.jsonlines import part_in_name
from asr.data.corpora.kaldi import KaldiOptions
from asr.data.corpora.lhotse import LhotseOptions
from asr.data.corpora.nemo import NemoOptions
from asr.data.manifest import read_manifest, write_manifest
from asr.errors import DataError, UsageError
from tests.data.corpora.miniature_open import (
    SAID,
    jsonl,
    lhotse_recording,
    wav,
    write_audiofolder,
    write_lhotse,
    write_nemo,
    write_stm,
)


def texts(prepared) -> dict[str, list[str]]:
    return {part: [item.text for item in items] for part, items in prepared.parts.items()}


def told(prepared) -> set[tuple[str, str, str | None]]:
    return {(problem.kind, Path(problem.where).name, problem.id) for problem in prepared.problems}


def lines(path: Path) -> list[dict]:
    data = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()]


EXPECTED = {"train": ["face a bed", "bed a face"], "valid": ["fed a cab"], "test": ["faced bead"]}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("librispeech_cuts_train-clean-100.jsonl.gz", "train"),
        ("val_manifest.json", "valid"),
        ("dev.json", "dev"),
        ("testing-set", "test"),
        ("trainer.json", None),
        ("train_test.json", None),
        ("Validation.JSON", "valid"),
    ],
)
def test_the_part_in_a_name(name: str, part: str | None):
    assert part_in_name(name) == part


# NeMo


def test_nemo_folders_and_files(tmp_path: Path):
    root = write_nemo(tmp_path)
    prepared = nemo.prepare(root, NemoOptions())
    assert (texts(prepared), prepared.problems) == (EXPECTED, [])
    first = prepared.parts["train"][0]
    assert (first.id, first.speaker, first.duration) == ("ann", "ann", 0.8)
    one = nemo.prepare(root / "train_manifest.json", NemoOptions(test_fraction=0, valid_fraction=0))
    assert texts(one) == {"train": EXPECTED["train"]}
    (root / "train_manifest.json").unlink()
    shared = nemo.prepare(root, NemoOptions(valid_fraction=0))
    assert shared.notes == [
        "2 recordings beside those that are named are not used: ann.wav, ben.wav",
        "the names speak of test, valid alone, so all of it is shared out",
    ]


def test_nemo_reads_what_we_write(tmp_path: Path):
    """Our manifests are a superset of NeMo's: they come back as they were."""
    prepared = nemo.prepare(write_nemo(tmp_path / "nemo"), NemoOptions())
    items = [item for part in prepared.parts.values() for item in part]
    write_manifest(tmp_path / "all.jsonl", items)
    again = nemo.prepare(tmp_path / "all.jsonl", NemoOptions(test_fraction=0, valid_fraction=0))
    assert again.parts["train"] == items == read_manifest(tmp_path / "all.jsonl")


def test_nemo_pieces_of_one_recording(tmp_path: Path):
    wav(tmp_path / "talk.wav", "a" * 25)
    entry = {"audio_filepath": str(tmp_path / "talk.wav"), "duration": 0.5, "source": "radio"}
    jsonl(tmp_path / "m.jsonl", [{**entry, "offset": n * 0.5, "text": f"t{n}"} for n in range(3)])
    items = nemo.prepare(tmp_path / "m.jsonl", NemoOptions(test_fraction=0, valid_fraction=0)).parts["train"]
    extra = {"source": "radio", "recording_duration": 2.0}
    assert [(item.id, item.offset, item.duration, item.extra) for item in items] == [
        ("talk-0000000-0000050", 0.0, 0.5, extra),
        ("talk-0000050-0000100", 0.5, 0.5, extra),
        ("talk-0000100-0000150", 1.0, 0.5, extra),
    ]


def test_nemo_missing_extra_and_damaged(tmp_path: Path):
    root = write_nemo(tmp_path)
    path = root / "wavs" / "ben.wav"
    path.write_bytes(path.read_bytes()[:-3000])
    (root / "wavs" / "dov.wav").unlink()
    good = lines(root / "train_manifest.json")[0]
    bad = [
        {**good, "duration": 99.0},
        {**good, "audio_filepath": ["a.wav", "b.wav"]},
        {**good, "audio_filepath": "sox x.wav -t wav - |"},
        {**good, "shard_id": 3},
        {**good, "offset": -1},
        {"audio_filepath": "wavs/ann.wav"},
        {"text": "no path"},
    ]
    with open(root / "val_manifest.json", "a") as handle:
        handle.writelines(json.dumps(item) + "\n" for item in bad)
        handle.write("{cut\n")
    prepared = nemo.prepare(root, NemoOptions())
    assert told(prepared) == {
        ("cut-file", "train_manifest.json:2", "ben"),
        ("missing-file", "test_manifest.json:1", "dov"),
        ("duplicate-id", "val_manifest.json:2", "ann"),
        ("channels", "val_manifest.json:3", None),
        ("command", "val_manifest.json:4", None),
        ("tarred", "val_manifest.json:5", None),
        ("bad-field", "val_manifest.json:6", None),
        ("bad-field", "val_manifest.json:7", None),
        ("bad-field", "val_manifest.json:8", None),
        ("bad-json", "val_manifest.json:9", None),
    }
    with pytest.raises(DataError, match="no such file; expected a manifest"):
        nemo.prepare(root / "absent", NemoOptions())
    with pytest.raises(DataError, match="holds no manifest"):
        nemo.prepare(root / "wavs", NemoOptions())


# Hugging Face


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_audiofolder(tmp_path: Path, form: str):
    root = write_audiofolder(tmp_path, form=form)
    prepared = audiofolder.prepare(root, AudiofolderOptions(valid_fraction=0))
    assert prepared.problems == []
    assert texts(prepared) == {"train": [text for _, text in SAID[:3]], "test": [SAID[3][1]]}
    first = prepared.parts["train"][0]
    assert (first.id, first.speaker) == ("train/audio/ann", "ann")
    assert len(audiofolder.prepare(root, AudiofolderOptions(valid_fraction=0.3)).parts["valid"]) == 1
    alone = audiofolder.prepare(root / "train", AudiofolderOptions(valid_fraction=0, test_fraction=0.3))
    assert {part: len(items) for part, items in alone.parts.items()} == {"train": 2, "test": 1}


def test_audiofolder_with_one_table_above_the_parts(tmp_path: Path):
    write_audiofolder(tmp_path)
    rows = ["file_name,transcription,speaker_id,ipa\n"]
    for part in ("train", "test"):
        table = tmp_path / part / "metadata.csv"
        rows += [f"{part}/{line},x\n" for line in table.read_text().splitlines()[1:]]
        table.unlink()
    (tmp_path / "metadata.csv").write_text("".join(rows))
    prepared = audiofolder.prepare(tmp_path, AudiofolderOptions(valid_fraction=0))
    assert texts(prepared) == {"train": [text for _, text in SAID[:3]], "test": [SAID[3][1]]}
    other = audiofolder.prepare(tmp_path, AudiofolderOptions(valid_fraction=0, text_column="ipa", speaker_column="ipa"))
    assert {item.text for item in other.parts["train"]} == {item.speaker for item in other.parts["train"]} == {"x"}


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_audiofolder_missing_extra_and_damaged(tmp_path: Path, form: str):
    root = write_audiofolder(tmp_path, form=form)
    (root / "train" / "audio" / "ann.flac").unlink()
    path = root / "train" / "audio" / "ben.flac"
    path.write_bytes(path.read_bytes()[:-400])
    wav(root / "test" / "audio" / "zoe.flac", "abc", form="FLAC")
    first = 2 if form == "csv" else 1
    with open(root / "test" / f"metadata.{form}", "a") as handle:
        handle.write(',"no file",x\n' if form == "csv" else '{"transcription": "no file"}\n')
    prepared = audiofolder.prepare(root, AudiofolderOptions(valid_fraction=0))
    assert told(prepared) == {
        ("missing-file", f"metadata.{form}:{first}", "train/audio/ann"),
        ("cut-file", f"metadata.{form}:{first + 1}", "train/audio/ben"),
        ("no-transcript", "zoe.flac", "test/audio/zoe.flac"),
        ("missing-path" if form == "csv" else "bad-field", f"metadata.{form}:{first + 1}", None),
    }


def test_audiofolder_without_a_transcript(tmp_path: Path):
    root = write_audiofolder(tmp_path)
    with pytest.raises(UsageError, match="has no column 'words'"):
        audiofolder.prepare(root, AudiofolderOptions(text_column="words"))
    (root / "test" / "metadata.csv").write_text("file_name,label\na.wav,dog\n")
    with pytest.raises(UsageError, match=r"--text-column is missing: .* has file_name, label"):
        audiofolder.prepare(root, AudiofolderOptions())
    with pytest.raises(DataError, match=r"holds no metadata\.csv or metadata\.jsonl; parquet files are not read"):
        audiofolder.prepare(root / "train" / "audio", AudiofolderOptions())


# lhotse


@pytest.mark.parametrize("cuts", [True, False])
def test_lhotse(tmp_path: Path, cuts: bool):
    root = write_lhotse(tmp_path, cuts=cuts)
    prepared = lhotse.prepare(root, LhotseOptions(valid_fraction=0))
    assert prepared.problems == []
    assert texts(prepared) == {
        "train": ["face a bed", "face a bed", "bed a face", "bed a face"],
        "dev": ["fed a cab"],
        "test": ["faced bead"],
    }
    second = prepared.parts["train"][1]
    assert (second.id, second.offset, second.duration) == ("cut-ann-1" if cuts else "ann-1", 0.88, 0.8)
    assert (second.speaker, second.extra) == ("ann", {"language": "en", "recording_duration": 1.68})
    if cuts:
        alone = lhotse.prepare(root / "my_cuts_train.jsonl.gz", LhotseOptions(valid_fraction=0, test_fraction=0))
        assert alone.parts["train"] == prepared.parts["train"]


def test_lhotse_cuts_of_whole_recordings(tmp_path: Path):
    """Several supervisions in a cut, one that begins before it and one that ends after it; unpacked JSON lines."""
    recording = lhotse_recording(wav(tmp_path / "a.wav", "a" * 50), tmp_path)
    said = [
        {"id": "early", "recording_id": "a", "start": -0.5, "duration": 1.0, "channel": 0, "text": "one"},
        {"id": "in", "recording_id": "a", "start": 1.0, "duration": 0.5, "channel": 0, "text": "two"},
        {"id": "late", "recording_id": "a", "start": 1.75, "duration": 9.0, "channel": 0, "text": "three"},
        {"id": "silence", "recording_id": "a", "start": 1.5, "duration": 0.1, "channel": 0},
        {"id": "outside", "recording_id": "a", "start": 5.0, "duration": 1.0, "channel": 0, "text": "four"},
    ]
    cut = {"id": "c", "start": 1.0, "duration": 2.0, "channel": 0, "recording": recording, "type": "MonoCut"}
    path = jsonl(tmp_path / "cuts.jsonl", [{**cut, "supervisions": said}, {**cut, "id": "d", "supervisions": []}])
    prepared = lhotse.prepare(path, LhotseOptions(valid_fraction=0, test_fraction=0))
    assert [(item.id, item.offset, item.duration) for item in prepared.parts["train"]] == [
        ("early", 1.0, 0.5),
        ("in", 2.0, 0.5),
        ("late", 2.75, 0.25),
    ]
    assert told(prepared) == {("bad-segment", "cuts.jsonl:1", "outside")}
    assert prepared.notes == ["1 cuts or supervisions without text left out"]


def test_lhotse_what_is_not_simply_a_file_is_refused(tmp_path: Path):
    cut = lines(write_lhotse(tmp_path) / "my_cuts_test.jsonl.gz")[0]
    source = cut["recording"]["sources"][0]

    def changed(name: str, **recording) -> dict:
        return {**cut, "id": name, "recording": {**cut["recording"], **recording}}

    command = {"type": "command", "channels": [0], "source": "touch canary"}
    odd = [
        changed("url", sources=[{**source, "type": "url"}]),
        changed("memory", sources=[{**source, "type": "memory"}]),
        changed("two", sources=[source, source]),
        changed("stereo", channel_ids=[0, 1]),
        changed("fast", transforms=[{"name": "Speed", "kwargs": {"factor": 1.1}}]),
        {**cut, "id": "mix", "type": "MixedCut", "tracks": []},
        {**cut, "id": "none", "recording": None},
        {**cut, "id": "long", "duration": -1},
    ]
    path = jsonl(
        tmp_path / "odd.jsonl",
        [*odd, {**cut, "id": "gone", "recording": {**cut["recording"], "sources": [{**source, "source": "x.wav"}]}}],
    )
    prepared = lhotse.prepare(path, LhotseOptions(valid_fraction=0, test_fraction=0))
    assert told(prepared) == {
        ("unsupported-source", "odd.jsonl:1", "url"),
        ("unsupported-source", "odd.jsonl:2", "memory"),
        ("channels", "odd.jsonl:3", "two"),
        ("channels", "odd.jsonl:4", "stereo"),
        ("transformed", "odd.jsonl:5", "fast"),
        ("unsupported-cut", "odd.jsonl:6", "mix"),
        ("bad-field", "odd.jsonl:7", "none"),
        ("bad-field", "odd.jsonl:8", "long"),
        ("missing-file", "odd.jsonl:9", "gone"),
    }
    jsonl(path, [changed("run", sources=[command])])
    (problem,) = lhotse.prepare(path, LhotseOptions()).problems
    assert (problem.kind, problem.id) == ("command", "run")
    assert "commands are not run: 'touch canary'; write the recording to a file" in problem.message


def test_lhotse_a_packed_file_that_was_cut_is_told_by_its_byte(tmp_path: Path):
    root = write_lhotse(tmp_path)
    path = root / "my_cuts_train.jsonl.gz"
    data = gzip.compress(b"".join(json.dumps(cut).encode() + b"\n" for cut in lines(path) * 40), 1)
    path.write_bytes(data[: len(data) // 2])
    problems = lhotse.prepare(path, LhotseOptions()).problems
    cut = [problem for problem in problems if problem.kind == "cut-manifest"]
    assert len(cut) == 1
    assert f"was cut: the gzip stream breaks off at byte {len(data) // 2:,}, after line " in cut[0].message
    path.write_bytes(data[:-8] + bytes(8))
    (problem,) = [problem for problem in lhotse.prepare(path, LhotseOptions()).problems if problem.kind == "cut-manifest"]
    assert problem.message.startswith("is damaged: the gzip stream is wrong before byte ")


def test_lhotse_recordings_and_supervisions_that_do_not_fit(tmp_path: Path):
    root = write_lhotse(tmp_path, cuts=False)
    recordings = lines(root / "my_recordings_train.jsonl.gz")
    jsonl(root / "my_recordings_train.jsonl.gz", [recordings[0], recordings[0]])
    supervisions = lines(root / "my_supervisions_dev.jsonl.gz")
    jsonl(root / "my_supervisions_dev.jsonl.gz", [{**supervisions[0], "start": "x"}, {**supervisions[0], "text": ""}])
    prepared = lhotse.prepare(root, LhotseOptions(valid_fraction=0))
    assert told(prepared) == {
        ("duplicate-id", "my_recordings_train.jsonl.gz:2", "ann"),
        ("missing-entry", "my_supervisions_train.jsonl.gz:3", "ben-0"),
        ("missing-entry", "my_supervisions_train.jsonl.gz:4", "ben-1"),
        ("bad-field", "my_supervisions_dev.jsonl.gz:1", "cat-0"),
    }
    with pytest.raises(DataError, match=r"holds no file \*cuts\*"):
        lhotse.prepare(root / "audio", LhotseOptions())
    with pytest.raises(DataError, match="no such file; expected lhotse's cuts"):
        lhotse.prepare(root / "absent.jsonl", LhotseOptions())


# Kaldi with STM


def test_kaldi_with_stm(tmp_path: Path):
    root = write_stm(tmp_path)
    prepared = kaldi.prepare(root, KaldiOptions(valid_fraction=0))
    assert prepared.problems == []
    assert texts(prepared) == {"train": [text for _, text in SAID[:3]], "test": [SAID[3][1]]}
    first = prepared.parts["train"][0]
    assert (first.id, first.speaker, first.offset, first.duration) == ("ann-talk-ann-0000000-0000080", "ann", 0.0, 0.8)
    assert "3 stretches left out that the transcripts exclude (ignore_time_segment_in_scoring)" in prepared.notes
    one = kaldi.prepare(root / "train", KaldiOptions(valid_fraction=0, test_fraction=0))
    assert one.parts["train"] == prepared.parts["train"]
    shutil.move(root / "train" / "stm", root / "train" / "talks.stm")
    assert kaldi.prepare(root / "train", KaldiOptions(valid_fraction=0, test_fraction=0)).parts == one.parts


def test_kaldi_stm_missing_extra_and_damaged(tmp_path: Path):
    folder = write_stm(tmp_path) / "train"
    (folder / "talk-ann.wav").unlink()
    path = folder / "talk-ben.wav"
    path.write_bytes(path.read_bytes()[:-3000])
    wav(folder / "more.wav", "abc")
    with open(folder / "wav.scp", "a") as handle:
        handle.write("more more.wav\n")
    with open(folder / "stm", "a") as handle:
        handle.write("other 1 s 0 1 <o> who\ntalk-cat 1 s 3 2 <o> back\n")
    assert told(kaldi.prepare(folder, KaldiOptions(valid_fraction=0, test_fraction=0))) == {
        ("missing-file", "stm:2", "ann-talk-ann-0000000-0000080"),
        ("cut-file", "stm:4", "ben-talk-ben-0000000-0000080"),
        ("missing-entry", "wav.scp:4", "more"),
        ("missing-entry", "stm:8", "s-other-0000000-0000100"),
        ("bad-segment", "stm:9", None),
    }
