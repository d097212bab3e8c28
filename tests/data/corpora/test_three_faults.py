"""Every corpus with one recording missing, one too many and one cut: asr-data names all three at once and writes nothing.

Where it shall go on without, it says of which part the recording was.
"""

import json
import shutil
from pathlib import Path

import pytest

from asr.cli.data import main
from tests.data.corpora.test_round_trip import TRIPS

LIBRI = "LibriSpeech/{}/19/1019/19-1019-000"
CLIPS = "cv-corpus-17.0-2024-03-15/en/clips/common_voice_en_10"
VCTK = "VCTK-Corpus-0.92/wav48_silence_trimmed/p225/p225_00"
OCEAN = "speechocean762/WAVE/SPEAKER000"
#: Trip -> the recording that is taken away, the one that is cut, and the place of a copy of it that belongs to nothing.
FAULTS = {
    "timit": [f"TIMIT/TRAIN/DR1/FCJF0/{name}.WAV" for name in ("SX133", "SX223", "XX9")],
    "timit, merged": [f"TIMIT/train/dr1/fcjf0/{name}.wav" for name in ("sx133", "sx223", "xx9")],
    "librispeech": [LIBRI.format("train-clean-100") + f"{number}.flac" for number in (0, 1, 9)],
    "mini_librispeech": [LIBRI.format("train-clean-5") + f"{number}.flac" for number in (0, 1, 9)],
    "an4, SPHERE": [f"an4/wav/an4_clstk/frax/{name}-frax-b.sph" for name in ("an250", "cen0", "cen9")],
    "an4, raw": [f"an4/wav/an4_clstk/frax/{name}-frax-b.raw" for name in ("an250", "cen0", "cen9")],
    "tedlium": [
        f"TEDLIUM_release-3/legacy/{name}.sph" for name in ("dev/sph/AlGore_2009", "train/sph/AlGore_2006", "train/sph/No_2000")
    ],
    "commonvoice": [f"{CLIPS}{number}.mp3" for number in (1, 2, 99)],
    "vctk": [f"{VCTK}{number}_mic1.flac" for number in (1, 2, 9)],
    "ljspeech": [f"LJSpeech-1.1/wavs/LJ001-{number}.wav" for number in ("0001", "0002", "0099")],
    "speechcommands": [f"speech_commands_v0.02/bed/{name}.wav" for name in ("9db2bfe9_nohash_0", "3bb68054_nohash_0", "hello")],
    "nemo": [f"wavs/{name}.wav" for name in ("ann", "ben", "eve")],
    "audiofolder, CSV": [f"train/audio/{name}.flac" for name in ("ann", "ben", "eve")],
    "audiofolder, JSON": [f"train/audio/{name}.flac" for name in ("ann", "ben", "eve")],
    "lhotse, cuts": [f"audio/{name}.wav" for name in ("ann", "ben", "eve")],
    "lhotse, pairs": [f"audio/{name}.wav" for name in ("ann", "ben", "eve")],
    "kaldi, STM": [f"train/talk-{name}.wav" for name in ("ann", "ben", "eve")],
    "kaldi, segments": [f"audio/{name}.wav" for name in ("ann", "ben", "eve")],
    "yesno": [f"waves_yesno/{name}.wav" for name in ("0_0_0_0", "0_0_0_1", "yes_no")],
    "fsdd": [f"recordings/{name}.wav" for name in ("0_george_3", "0_george_4", "hello")],
    "speechocean762": [f"{OCEAN}{name}.WAV" for name in ("0/000000011", "1/000010011", "1/000010099")],
    "folder": [f"train/{name}.wav" for name in ("ann/one", "ben/one", "ben/two")],
    "csv": [f"clips/{name}.wav" for name in ("ann", "ben", "eve")],
}
#: What names the missing one, where it is not its file's name without suffix: yesno has no list of its recordings.
NAMED = {"yesno": "found 15 of 60 utterances", "folder": "train/ann/one.txt: no recording of the same name"}


def test_no_corpus_is_forgotten():
    assert FAULTS.keys() == TRIPS.keys()


@pytest.mark.parametrize("name", list(FAULTS))
def test_missing_extra_and_damaged(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    trip = TRIPS[name]
    root = tmp_path / "corpus"
    trip.write(root)
    missing, damaged, extra = (root / path for path in FAULTS[name])
    assert not extra.exists()
    shutil.copy(damaged, extra)
    missing.unlink()
    data = damaged.read_bytes()
    damaged.write_bytes(data[: len(data) // 2 | 1])
    place = root / "table.csv" if trip.corpus == "csv" else root
    words = ["prepare", trip.corpus, "--root", place, "--out", tmp_path / "out", *trip.words]
    assert main([str(word) for word in words]) == 3
    complaint = capsys.readouterr().err
    for word in (NAMED.get(trip.corpus, missing.stem), damaged.name, extra.name):
        assert word in complaint
    damage = next(line for line in complaint.splitlines() if damaged.name in line and extra.name not in line)
    assert any(word in damage for word in ("cut", "promises", "no whole number of 16-bit samples")), damage
    assert not list(tmp_path.glob("out/*.jsonl"))


#: These have no parts of their own: who is tested is drawn from what can be used.
DRAWN = {"vctk", "ljspeech"}


@pytest.mark.parametrize("name", list(TRIPS))
def test_a_test_set_does_not_shrink_in_silence(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    trip = TRIPS[name]
    root = tmp_path / "corpus"
    trip.write(root)
    place = root / "table.csv" if trip.corpus == "csv" else root
    words = ["prepare", trip.corpus, "--root", place, "--out", tmp_path / "out", *trip.words, "--on-bad", "skip"]
    assert main([str(word) for word in words]) == 0
    assert "Warning: " not in capsys.readouterr().out
    manifest = tmp_path / "out" / f"{trip.part}.jsonl"
    first = json.loads(manifest.read_text().splitlines()[0])
    recording = (manifest.parent / first["audio_filepath"]).resolve()
    if not recording.is_relative_to(root):
        (recording,) = root.rglob(f"{recording.stem}.raw")
    data = recording.read_bytes()
    recording.write_bytes(data[: len(data) // 2 | 1])
    assert main([str(word) for word in words]) == 0
    told = capsys.readouterr().out
    left_out = json.loads((tmp_path / "out" / "prepare.json").read_text())["left_out"]
    assert first["id"] in {item["id"] for item in left_out["items"]}
    if trip.corpus in DRAWN:
        assert (left_out["parts"], "Warning: " in told) == ({}, False)
        assert f"Of {left_out['count']} of these no part is known: " in told
        return
    assert left_out["parts"] == {trip.part: left_out["count"]}
    (warning,) = [line for line in told.splitlines() if line.startswith("Warning: ")]
    belong = f"{left_out['count']} of these belong to it ("
    assert warning.startswith(f"Warning: {trip.part} is not whole: {belong}")
    assert first["id"] in warning
    assert warning.endswith("Scores on it cannot be compared with published ones.")
