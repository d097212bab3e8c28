"""Synthetic digits: the same bytes for the same seed, test voices never heard in training, nothing made twice."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.data.corpora import digits
from asr.data.corpora.digits import DigitsOptions, draw_plan, mix, prepare, voices
from asr.data.corpora.espeak import Engine, Phrase, find_engine, speak
from asr.errors import ResourceError, UsageError

needs_espeak = pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="needs the extra demo (espeak-ng)")
SMALL = {"train": 5, "valid": 2, "test": 3}


def audio_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.wav")}


def test_no_variant_speaks_in_two_parts_and_every_accent_in_each():
    variants = {part: {voice.split("+")[1] for voice in voices(part)} for part in ("train", "valid", "test")}
    assert sum(map(len, variants.values())) == len(set.union(*variants.values())) == 50
    for part in variants:
        assert len(set(voices(part))) == len(voices(part)) == digits.ACCENTS_PER_VARIANT * len(variants[part])
        assert {voice.split("+")[0] for voice in voices(part)} == set(digits.ACCENTS)


def test_plans_are_a_function_of_seed_part_and_number():
    plans = [draw_plan("train", number, seed=1) for number in range(300)]
    assert plans == [draw_plan("train", number, seed=1) for number in range(300)]
    assert plans[0] != draw_plan("train", 0, seed=2)
    assert plans[0].noise_seed != draw_plan("test", 0, seed=1).noise_seed
    assert {len(plan.text.split()) for plan in plans} == {1, 2, 3, 4, 5, 6}
    assert {word for plan in plans for word in plan.text.split()} == set(digits.DIGITS)
    assert all(len(plan.pauses) == len(plan.groups) + 1 and all(plan.groups) for plan in plans)
    assert len({plan.voice for plan in plans}) > 100


def test_mix_has_the_drawn_level_pauses_and_rate():
    plan = digits.Plan("x", "v", ((1,), (2, 3)), 150, 50, 50, (0.1, 0.4, 0.2), peak_db=-6.0, snr_db=60.0, noise_seed=3)
    tone = (8000 * np.sin(2 * np.pi * 300 * np.arange(11025) / 22050)).astype(np.int16)
    padded = np.concatenate([np.zeros(2000, np.int16), tone, np.zeros(3000, np.int16)])
    samples = mix([padded, tone], plan)
    assert samples.dtype == np.int16
    assert len(samples) / 16000 == pytest.approx(0.1 + 0.5 + 0.4 + 0.5 + 0.2, abs=0.05)
    assert np.abs(samples).max() / 32768 == pytest.approx(0.5, rel=0.05)
    pause = samples[int(0.75 * 16000) : int(0.9 * 16000)].astype(float)
    assert 0 < np.sqrt(np.mean(pause**2)) < 30
    louder = mix([padded, tone], digits.Plan(**{**vars(plan), "snr_db": 20.0}))
    quiet = louder[int(0.75 * 16000) : int(0.9 * 16000)].astype(float)
    assert 20 * np.log10(np.std(quiet) / np.std(pause)) == pytest.approx(40, abs=1.5)


@needs_espeak
def test_same_seed_same_bytes_and_nothing_is_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = prepare(tmp_path / "one", DigitsOptions(**SMALL))
    assert {part: len(items) for part, items in first.parts.items()} == SMALL
    content = audio_bytes(tmp_path / "one")
    assert len(content) == 10
    assert not list((tmp_path / "one").rglob(".tmp*"))
    second = prepare(tmp_path / "zw ö", DigitsOptions(**SMALL))
    assert audio_bytes(tmp_path / "zw ö") == content
    assert [item.text for item in second.parts["test"]] == [item.text for item in first.parts["test"]]

    damaged, lost = sorted((tmp_path / "one").rglob("*.wav"))[3:5]
    damaged.write_bytes(damaged.read_bytes()[:100])
    lost.unlink()
    again = prepare(tmp_path / "one", DigitsOptions(**SMALL))
    assert audio_bytes(tmp_path / "one") == content
    assert again.parts == first.parts
    assert again.notes[1] == "2 recordings made, 8 kept from an earlier run"

    monkeypatch.setattr(digits, "speak", lambda *_: pytest.fail("spoke although everything is there"))
    assert prepare(tmp_path / "one", DigitsOptions(**SMALL)).parts == first.parts


@needs_espeak
def test_more_utterances_change_none_of_the_first_and_another_seed_all(tmp_path: Path):
    few = prepare(tmp_path, DigitsOptions(train=2, valid=0, test=0))
    assert list(few.parts) == ["train"]
    before = audio_bytes(tmp_path)
    prepare(tmp_path, DigitsOptions(train=4, valid=0, test=0))
    assert before.items() <= audio_bytes(tmp_path).items()
    other = prepare(tmp_path, DigitsOptions(train=2, valid=0, test=0, seed=2))
    assert other.notes[1].startswith("2 recordings made")
    assert other.parts["train"][0].text != few.parts["train"][0].text


@needs_espeak
def test_what_is_written(tmp_path: Path):
    prepared = prepare(tmp_path, DigitsOptions(**SMALL))
    item = prepared.parts["test"][0]
    info = soundfile.info(item.audio_filepath)
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
    assert item.duration == pytest.approx(info.duration, abs=1e-6)
    assert item.extra == {"synthetic": True}
    assert item.speaker in voices("test")
    assert prepared.notes[0].startswith("SYNTHETIC speech of espeak-ng")
    assert "test: m4, m6, f3" in prepared.split
    for items in prepared.parts.values():
        for item in items:
            seconds = item.duration / len(item.text.split())
            assert 0.15 < seconds < 1.8, "digits of a plausible length"


@needs_espeak
def test_every_voice_speaks_and_differs():
    engine = find_engine()
    assert all(engine.has_variant(name) for names in digits.VARIANTS.values() for name in names)
    assert not engine.has_variant("zz")
    one = [Phrase("seven", 150, 50, 50)]
    spoken = {
        voice: speak(engine, voice, one)[0].tobytes() for voice in ("en-us+m1", "en+m1", "en-us+f3", "en-029+f3", "en-us+Alicia")
    }
    assert len(set(spoken.values())) == 5
    assert speak(engine, "en-us+f3", one)[0].tobytes() == spoken["en-us+f3"]


@needs_espeak
def test_faults_of_the_engine_are_one_sentence(tmp_path: Path):
    engine = find_engine()
    phrases = [Phrase("one", 150, 50, 50)]
    with pytest.raises(ResourceError, match="espeak-ng with the voice xx-nowhere failed: no voice xx-nowhere"):
        speak(engine, "xx-nowhere", phrases)
    with pytest.raises(ResourceError, match="espeak_Initialize answered"):
        speak(Engine(engine.library, str(tmp_path), "0"), "en-us", phrases)
    with pytest.raises(ResourceError, match="failed: "):
        speak(Engine(str(tmp_path / "none.so"), engine.data, "0"), "en-us", phrases)


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UsageError, match=r"extra demo: pip install 'asr\[demo\]'"):
        prepare(tmp_path, DigitsOptions())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value"), [("train", 0), ("valid", -1), ("test", -3)])
def test_counts_are_checked(name: str, value: int):
    with pytest.raises(UsageError, match=f"--{name}: expected at least"):
        DigitsOptions(**{name: value})
