"""Recordings through a model: padding, batches, interruptions, long files and bad ones never change or invent a text."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from asr.data.manifest import read_manifest
from asr.decoding import transcribe
from asr.decoding.recognizer import DecodeOptions, Recognizer, emit
from asr.decoding.transcribe import transcribe_files, transcribe_manifest
from asr.errors import DataError, UsageError
from asr.models.device import choose_device
from asr.models.package import load_model
from asr.scoring.edits import count_edits
from tests.decoding.tiny import RATE, save_babbler, tone_burst


def decode(loaded, folder, out, **options):
    """Lines of the output file, by id, in its order."""
    summary = transcribe_manifest(loaded, read_manifest(folder / "manifest.jsonl"), out, DecodeOptions(**options))
    return {line["id"]: line for line in map(json.loads, out.read_text(encoding="utf-8").splitlines())}, summary


def write_manifest_of(folder, **recordings):
    """recordings: id -> samples, or bytes of a broken file."""
    lines = []
    for name, content in recordings.items():
        path = folder / f"{name}.wav"
        if isinstance(content, bytes):
            path.write_bytes(content)
            seconds = 1.0
        else:
            soundfile.write(path, content, RATE, subtype="FLOAT")
            seconds = len(content) / RATE
        lines.append({"id": name, "audio_filepath": path.name, "duration": seconds})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_text_of_the_tiny_model_is_worth_comparing(loaded, speech):
    texts = [one.hypothesis.text for one in transcribe_files(loaded, [str(speech / f"u{i}.wav") for i in range(10)])]
    assert len(set(texts)) == 10
    assert all(texts)
    assert all(text == " ".join(text.split()) for text in texts)


def test_an_utterance_alone_and_padded_has_the_same_log_probabilities(loaded):
    waveforms = [tone_burst(seconds, seed) for seed, seconds in enumerate([0.31, 1.7, 0.02, 0.9])]
    together = emit(loaded.model, waveforms)
    for waveform, padded in zip(waveforms, together):
        (alone,) = emit(loaded.model, [waveform])
        assert len(alone) == loaded.model.emission_length(len(waveform)) == len(padded)
        np.testing.assert_allclose(alone, padded, atol=1e-4)


def test_batches_of_one_and_of_many_and_single_files_give_the_same_text(loaded, speech, tmp_path):
    alone, _ = decode(loaded, speech, tmp_path / "alone", batch_seconds=0.1)
    many, summary = decode(loaded, speech, tmp_path / "many", batch_seconds=1000.0)
    assert [line["id"] for line in many.values()] == [f"u{i}" for i in range(10)], "the manifest's order, not that of lengths"
    files = transcribe_files(loaded, [str(speech / f"u{i}.wav") for i in range(10)])
    for name, file in zip(many, files, strict=True):
        assert set(many[name]) == {"id", "text", "score"}
        assert many[name]["text"] == alone[name]["text"] == file.hypothesis.text
        assert many[name]["score"] == pytest.approx(alone[name]["score"], abs=1e-2)
        assert many[name]["score"] < 0
    assert summary.failed == {}
    assert summary.audio_seconds == pytest.approx(10.7)


def test_the_order_of_the_manifest_changes_no_text(loaded, speech, tmp_path):
    utterances = read_manifest(speech / "manifest.jsonl")
    transcribe_manifest(loaded, utterances[::-1], tmp_path / "hyp")
    backwards = [json.loads(line) for line in (tmp_path / "hyp").read_text().splitlines()]
    forwards, _ = decode(loaded, speech, tmp_path / "forwards")
    assert {line["id"]: line["text"] for line in backwards} == {name: line["text"] for name, line in forwards.items()}
    assert backwards[0]["id"] == "u9"


def test_an_interrupted_run_is_continued_to_the_same_file(loaded, speech, tmp_path, monkeypatch):
    options = {"batch_seconds": 2.5}
    decode(loaded, speech, tmp_path / "whole", **options)
    whole, heard = (tmp_path / "whole").read_bytes(), []

    def interrupted(model, waveforms, **named):
        if len(heard) == 4:
            raise KeyboardInterrupt
        heard.append(len(waveforms))
        return emit(model, waveforms, **named)

    monkeypatch.setattr(transcribe, "emit", interrupted)
    said = []
    utterances = read_manifest(speech / "manifest.jsonl")
    with pytest.raises(KeyboardInterrupt):
        transcribe_manifest(loaded, utterances, tmp_path / "hyp", DecodeOptions(**options), say=said.append)
    kept = sum(heard[:3])  # the last batch that was heard had not been written
    assert 2 < kept < 10
    assert said == [f"{kept} of 10 utterances are kept in {tmp_path / 'hyp.part'}; the same command goes on from there"]
    assert not (tmp_path / "hyp").exists()

    monkeypatch.setattr(transcribe, "emit", emit)
    part = tmp_path / "hyp.part"
    part.write_bytes(part.read_bytes()[:-7])  # as a kill in the middle of a line leaves it
    summary = transcribe_manifest(loaded, utterances, tmp_path / "hyp", DecodeOptions(**options), say=said.append)
    assert (tmp_path / "hyp").read_bytes() == whole
    assert summary.resumed == kept - 1
    assert f"{kept - 1} of 10 utterances are done" in said[-1]
    assert not part.exists()


def test_a_part_made_with_another_model_is_not_mixed_in(loaded, speech, tmp_path, monkeypatch):
    other = load_model(save_babbler(tmp_path / "other", seed=2))
    expected, _ = decode(loaded, speech, tmp_path / "expected", batch_seconds=2.5)
    monkeypatch.setattr(
        "asr.decoding.output.PartialOutput.finish", lambda *words, **named: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        decode(other, speech, tmp_path / "hyp", batch_seconds=2.5)
    monkeypatch.undo()
    found, summary = decode(loaded, speech, tmp_path / "hyp", batch_seconds=2.5)
    assert summary.resumed == 0
    assert found == expected


def test_a_bad_recording_costs_no_other_its_text(loaded, tmp_path):
    good = {f"g{i}": tone_burst(0.6 + i / 10, i) for i in range(3)}
    poisoned = tone_burst(1.0, 9)
    poisoned[500] = np.nan
    bad = {"cut": b"RIFF\x00", "nan": poisoned, "empty": b"", "loud": tone_burst(1.0, 8) * 1e6}
    write_manifest_of(tmp_path, g0=good["g0"], **bad, g1=good["g1"], g2=good["g2"])
    lines, summary = decode(loaded, tmp_path, tmp_path / "hyp")
    assert list(lines) == ["g0", "cut", "nan", "empty", "loud", "g1", "g2"]
    assert set(summary.failed) == {"cut", "nan", "empty", "loud"}
    for name in bad:
        assert (lines[name]["text"], lines[name]["score"]) == ("", None)
        assert name in lines[name]["error"]
    assert "NaN" in lines["nan"]["error"]
    for name in good:
        assert "error" not in lines[name]
        (file,) = transcribe_files(loaded, [str(tmp_path / f"{name}.wav")])
        assert lines[name]["text"] == file.hypothesis.text != ""


def test_a_missing_recording_has_an_error_and_an_offset_is_kept(loaded, tmp_path):
    samples = tone_burst(2.0, 5)
    soundfile.write(tmp_path / "long.wav", samples, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "piece.wav", samples[4000:12000], RATE, subtype="FLOAT")
    lines = [
        {"id": "whole", "audio_filepath": "long.wav", "duration": 2.0},
        {"id": "inside", "audio_filepath": "long.wav", "duration": 1.0, "offset": 0.5},
        {"id": "piece", "audio_filepath": "piece.wav", "duration": 1.0},
        {"id": "gone", "audio_filepath": "gone.wav", "duration": 1.0},
        {"id": "beyond", "audio_filepath": "long.wav", "duration": 9.0},
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, summary = decode(loaded, tmp_path, tmp_path / "hyp")
    assert found["inside"]["text"] == found["piece"]["text"] != found["whole"]["text"]
    assert set(summary.failed) == {"gone", "beyond"}


@pytest.mark.parametrize("samples", [1, 20, 39])
def test_a_recording_too_short_for_a_frame_has_the_empty_text_and_no_error(loaded, tmp_path, samples):
    write_manifest_of(tmp_path, short=tone_burst(1.0, 1)[:samples], other=tone_burst(1.0, 2))
    lines, summary = decode(loaded, tmp_path, tmp_path / "hyp")
    assert lines["short"] == {"id": "short", "text": "", "score": 0.0}
    assert lines["other"]["text"]
    assert summary.failed == {}
    (file,) = transcribe_files(loaded, [str(tmp_path / "short.wav")])
    assert (file.error, file.hypothesis.text) == (None, "")


@pytest.mark.parametrize("samples", [np.zeros(RATE), np.full(RATE, 0.5), np.ones(100)], ids=["silence", "constant", "short"])
def test_silence_and_constants_are_decoded_without_a_fault(loaded, tmp_path, samples):
    write_manifest_of(tmp_path, flat=samples.astype(np.float32))
    lines, summary = decode(loaded, tmp_path, tmp_path / "hyp")
    assert summary.failed == {}
    assert lines["flat"]["score"] <= 0


def test_weights_that_give_no_finite_numbers_give_no_text_either(loaded, tmp_path, speech):
    broken = load_model(loaded.folder)
    broken.model.head.linear.bias.data.fill_(float("nan"))
    lines, summary = decode(broken, speech, tmp_path / "hyp")
    assert len(summary.failed) == 10
    assert all(line["text"] == "" and "not finite" in line["error"] for line in lines.values())


def test_any_rate_and_channel_count_is_heard(loaded, tmp_path):
    samples = tone_burst(1.0, 3)
    soundfile.write(tmp_path / "mono.wav", samples, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "twice.flac", np.stack([samples, samples], axis=1), RATE, subtype="PCM_24")
    soundfile.write(tmp_path / "left.wav", np.stack([samples, np.zeros_like(samples)], axis=1), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "fast.wav", np.zeros(44100, dtype=np.float32), 44100)
    mono, twice, left, fast = transcribe_files(
        loaded, [str(tmp_path / name) for name in ("mono.wav", "twice.flac", "left.wav", "fast.wav")]
    )
    assert mono.notices == ()
    assert twice.hypothesis.text == mono.hypothesis.text
    assert len(twice.notices) == 1
    assert "channels were mixed to one" in twice.notices[0]
    assert fast.error is None
    first = DecodeOptions(channels="first")
    assert next(transcribe_files(loaded, [left.path], first)).hypothesis.text == mono.hypothesis.text
    refused = next(transcribe_files(loaded, [left.path], DecodeOptions(channels="error")))
    assert "has 2 channels" in refused.error


def test_odd_recordings_of_a_manifest_are_counted(loaded, tmp_path):
    write_manifest_of(tmp_path, a=np.stack([tone_burst(1.0, 1)] * 2, axis=1), b=np.stack([tone_burst(1.0, 2)] * 2, axis=1))
    _, summary = decode(loaded, tmp_path, tmp_path / "hyp")
    ((words, times),) = summary.notices.items()
    assert times == 2
    assert "mixed" in words


def test_a_phone_model_writes_its_phones_into_both_fields(speech, tmp_path):
    loaded = load_model(save_babbler(tmp_path / "phones", unit="phones"))
    lines, _ = decode(loaded, speech, tmp_path / "hyp")
    for line in lines.values():
        assert line["phones"] == line["text"]
        assert set(line["phones"].split()) <= {"AA", "B", "CH", "D"}
    assert any(lines[name]["phones"] for name in lines)


def with_pauses(seconds, seed, every=4.0):
    """Tones with half a second of near silence every few seconds."""
    samples = tone_burst(seconds, seed)
    for start in np.arange(every, seconds, every):
        begin = round(start * RATE)
        samples[begin : begin + RATE // 2] *= 0.001
    return samples


@pytest.mark.parametrize(
    ("mean", "make"),
    [("global", tone_burst), ("utterance", with_pauses), ("speaker", with_pauses)],
)
def test_long_recordings_are_heard_in_pieces_that_agree_with_the_whole(tmp_path, mean, make):
    loaded = load_model(save_babbler(tmp_path, mean=mean))
    write_manifest_of(tmp_path, long=make(95.0, 4), short=tone_burst(1.0, 5))
    whole, _ = decode(loaded, tmp_path, tmp_path / "whole", max_seconds=600.0)
    pieces, _ = decode(loaded, tmp_path, tmp_path / "pieces", max_seconds=30.0)
    # of a thousand decisions of a model without any knowledge, one or two are so close that rounding turns them
    counts = count_edits([(whole["long"]["text"], pieces["long"]["text"])], "char")
    assert counts.errors <= 3
    assert counts.reference_tokens > 300
    assert pieces["short"] == whole["short"]
    (file,) = transcribe_files(loaded, [str(tmp_path / "long.wav")], DecodeOptions(max_seconds=30.0))
    assert file.hypothesis.text == pieces["long"]["text"]
    assert file.duration == pytest.approx(95.0, abs=0.02)
    emitted = Recognizer(loaded, DecodeOptions(max_seconds=30.0)).hear_file(str(tmp_path / "long.wav"))
    together = Recognizer(loaded, DecodeOptions()).hear_file(str(tmp_path / "long.wav"))
    assert emitted.shape == together.shape
    assert np.abs(emitted - together).mean() < 0.005


def test_a_long_recording_is_never_held_as_a_whole(loaded, tmp_path, monkeypatch):
    write_manifest_of(tmp_path, long=with_pauses(100.0, 4))
    heard, searched = [], []

    def counted(model, waveforms, **named):
        heard.append([len(one) for one in waveforms])
        return emit(model, waveforms, **named)

    plain = transcribe.Search.__call__
    monkeypatch.setattr("asr.decoding.recognizer.emit", counted)
    monkeypatch.setattr(transcribe.Search, "__call__", lambda *w, **n: searched.append(len(w[1])) or plain(*w, **n))
    decode(loaded, tmp_path, tmp_path / "hyp", max_seconds=30.0, batch_seconds=50.0)
    lengths = [length for batch in heard for length in batch]
    assert max(lengths) <= 30 * RATE
    assert max(map(len, heard)) > 1, "pieces are heard together where the batch has room"
    assert all(max(batch) * len(batch) <= 50 * RATE for batch in heard)
    assert len(searched) > 4, "each stretch between two pauses is searched by itself"
    assert sum(searched) == loaded.model.emission_length(100 * RATE)


@pytest.mark.parametrize("scope", ["mean", "variance"])
def test_speakers_are_normalised_by_all_their_recordings(speech, tmp_path, scope):
    scopes = {"mean": "global", "variance": "none", scope: "speaker"}
    loaded = load_model(save_babbler(tmp_path / "model", **scopes))
    utterances = read_manifest(speech / "manifest.jsonl")
    recognizer = Recognizer(loaded, DecodeOptions())
    statistics = recognizer.speaker_statistics(utterances)
    assert sorted(statistics) == ["s0", "s1", "s2"]
    rows = [recognizer.read(one) for one in utterances if one.speaker == "s1"]
    frames = np.concatenate([np.asarray(feature_frames(loaded, row)) for row in rows])
    np.testing.assert_allclose(statistics["s1"], [frames.mean(axis=0), frames.std(axis=0)], rtol=1e-4, atol=1e-4)

    decode(loaded, speech, tmp_path / "together", batch_seconds=50)
    transcribe_manifest(loaded, [one for one in utterances if one.speaker == "s1"], tmp_path / "one_speaker")
    transcribe_manifest(loaded, [replace(one, speaker=None) for one in utterances], tmp_path / "nobody")
    together, one_speaker, nobody = (
        {line["id"]: line["text"] for line in map(json.loads, (tmp_path / name).read_text().splitlines())}
        for name in ("together", "one_speaker", "nobody")
    )
    assert one_speaker.items() <= together.items()
    assert nobody != together, "without speakers each utterance is normalised by itself"
    (file,) = transcribe_files(loaded, [str(speech / "u3.wav")])
    assert file.hypothesis.text == nobody["u3"]


def feature_frames(loaded, waveform):
    import torch

    features, lengths = loaded.model.features(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
    return features[0, : int(lengths[0])]


def test_utterances_without_speaker_are_told(speech, tmp_path):
    loaded = load_model(save_babbler(tmp_path / "model", mean="speaker"))
    utterances = read_manifest(speech / "manifest.jsonl")
    utterances[3] = replace(utterances[3], speaker=None)
    said = []
    transcribe_manifest(loaded, utterances, tmp_path / "hyp", say=said.append)
    assert said == ["notice: 1 of 10 utterances name no speaker and are normalised by themselves"]


def test_a_bad_recording_is_left_out_of_its_speakers_statistics(speech, tmp_path):
    loaded = load_model(save_babbler(tmp_path / "model", mean="speaker"))
    utterances = read_manifest(speech / "manifest.jsonl")
    expected = Recognizer(loaded, DecodeOptions()).speaker_statistics(utterances)
    with_bad = [*utterances, replace(utterances[0], id="bad", audio_filepath=str(tmp_path / "gone.wav"))]
    found = Recognizer(loaded, DecodeOptions()).speaker_statistics(with_bad)
    for speaker, rows in expected.items():
        np.testing.assert_array_equal(found[speaker], rows)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"decoder": "bean"}, "decoder must be one of greedy, beam, lexicon, auto, got 'bean'"),
        ({"device": "gpu"}, "device must be one of auto, cpu, cuda"),
        ({"channels": "left"}, "channels must be one of mix, first, error"),
        ({"batch_seconds": 0.0}, "batch_seconds must be above 0"),
        ({"batch_seconds": float("nan")}, "batch_seconds must be above 0"),
        ({"max_seconds": 29.0}, "max_seconds must be at least 30"),
        ({"max_seconds": float("inf")}, "max_seconds must be at least 30 and finite"),
    ],
)
def test_wrong_options_are_named(option, message):
    with pytest.raises(UsageError) as fault:
        DecodeOptions(**option)
    assert message in str(fault.value)


def test_a_device_that_is_not_there_is_a_usage_error(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(UsageError, match="torch finds no usable GPU"):
        choose_device("cuda")


def test_a_fault_of_ours_is_not_hidden_as_bad_data(loaded, speech, monkeypatch):
    monkeypatch.setattr("asr.decoding.recognizer.read_audio", lambda *words, **named: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(transcribe_files(loaded, [str(speech / "u0.wav")]))


def test_real_speech_is_decoded_from_every_kind_of_file(loaded, shared_data):
    found = [path for path in sorted(shared_data.rglob("*")) if path.suffix in (".wav", ".flac", ".ogg", ".opus", ".mp3")]
    assert found, "the folder of real speech holds no recordings"
    kinds = {path.suffix: path for path in found if os.path.getsize(path) < 2e6}
    for one in transcribe_files(loaded, [str(path) for path in kinds.values()]):
        assert one.error is None
        assert one.hypothesis.text


def test_data_errors_name_the_file(loaded, tmp_path):
    with pytest.raises(DataError, match="gone"):
        Recognizer(loaded, DecodeOptions()).hear_file(str(tmp_path / "gone.wav"))
