"""Faults of recordings, rows A1-A32 of the catalogue: each ends in a sentence about it, or in the right samples."""

import errno
import os
import struct
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.data import audio, files
from asr.data.audio import AudioError, AudioWarning, inspect_audio, read_audio, resampled_length
from asr.errors import DataError, UsageError

RATE = 16000


def noise(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def encoded(folder: Path, samples: np.ndarray, name: str = "source.wav", rate: int = RATE, **how: str) -> bytes:
    """The bytes of a recording as soundfile writes it."""
    path = folder / name
    soundfile.write(path, samples, rate, **how)
    return path.read_bytes()


def patched(data: bytes, layout: str, at: int, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(layout, changed, at, value)
    return bytes(changed)


def refused(path: Path, data: bytes | None, kind: str, *words: str, reader=inspect_audio) -> str:
    """Check that the file is refused in one sentence with these words, by the headers and when it is read."""
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(AudioError) as caught:
        reader(path)
    if reader is inspect_audio:
        with pytest.raises(AudioError) as again:
            read_audio(path, sample_rate=RATE)
        assert str(again.value) == str(caught.value)
    message = str(caught.value)
    assert isinstance(caught.value, DataError)
    assert caught.value.exit_code == 3
    assert "\n" not in message
    assert message.startswith(str(path))
    assert caught.value.kind == kind, message
    for word in words:
        assert word in message
    return message


def read_16k(path: Path) -> np.ndarray:
    return read_audio(path, sample_rate=RATE)


def kinds(path: Path, **options) -> tuple[np.ndarray, list[str]]:
    """Samples and the kinds of the warnings that came with them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        samples = read_audio(path, **{"sample_rate": RATE, **options})
    assert all(isinstance(one.message, AudioWarning) for one in caught)
    return samples, [one.message.kind for one in caught]


def test_a01_missing_path(tmp_path):
    refused(tmp_path / "none.wav", None, "missing-file", "no such file")


def test_a02_empty_file(tmp_path):
    refused(tmp_path / "x.wav", b"", "empty-file", "empty (0 bytes)")


def test_a03_header_without_samples(tmp_path):
    data = encoded(tmp_path, noise())
    refused(tmp_path / "x.wav", data[:44], "no-samples", "0 samples", "32000 bytes")
    refused(tmp_path / "x.wav", patched(data[:44], "<I", 40, 0), "no-samples", "0 samples")


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.ogg", "x.mp3", "x.aiff", "x.au"])
def test_a04_header_cut(tmp_path, name):
    data = encoded(tmp_path, noise(), name)[:30]
    kind = "damaged-header" if name in ("x.wav", "x.flac", "x.aiff") else "cut-file"
    refused(tmp_path / name, data, kind, "cut")


def test_a05_half_a_wav(tmp_path):
    data = encoded(tmp_path, noise())
    refused(tmp_path / "x.wav", data[:16022], "cut-file", "RIFF", "promises 32000 bytes", "has 15978", "again")


@pytest.mark.parametrize(
    ("container", "subtype"), [("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16")]
)
def test_a05_half_of_other_uncompressed_files(tmp_path, container, subtype):
    data = encoded(tmp_path, noise(), "source", format=container, subtype=subtype)
    refused(tmp_path / "x", data[: len(data) // 2], "cut-file", "promises 320")


def test_a05_half_a_sphere_file(tmp_path):
    data = encoded(tmp_path, noise(), "source", format="NIST", subtype="PCM_16")
    refused(tmp_path / "x", data[: len(data) // 2], "cut-file", "promises 32000 bytes")


def test_a06_half_an_mp3(tmp_path):
    data = encoded(tmp_path, noise(), "source.mp3")
    refused(tmp_path / "x.mp3", data[: len(data) // 2], "cut-file", f"promises {len(data)} bytes", "was cut")


def test_a06_mp3_that_decodes_to_less_than_it_declares(tmp_path):
    """The byte count is right, the stream behind it is not: only decoding shows it."""
    data = encoded(tmp_path, noise(), "source.mp3")[:2500]
    data = patched(data, ">I", data.index(b"Xing") + 12, len(data))
    refused(tmp_path / "x.mp3", data, "cut-file", "promises 16000 samples", "yields", reader=read_16k)


@pytest.mark.parametrize("name", ["x.flac", "x.ogg", "x.opus"])
@pytest.mark.parametrize("missing", ["half", "one byte"])
def test_a07_flac_ogg_opus_cut(tmp_path, name, missing):
    how = {"format": "OGG", "subtype": "OPUS"} if name == "x.opus" else {}
    data = encoded(tmp_path, noise(), name, **how)
    refused(tmp_path / name, data[: len(data) // 2 if missing == "half" else -1], "cut-file", "cut", "again")


def test_a08_odd_last_byte(tmp_path):
    samples = noise()
    (tmp_path / "x.wav").write_bytes(encoded(tmp_path, samples)[:-1])
    read, warned = kinds(tmp_path / "x.wav")
    assert warned == ["half-sample"]
    np.testing.assert_allclose(read, samples[:-1], atol=2**-15)
    assert inspect_audio(tmp_path / "x.wav").notes == ("half-sample",)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 2_000_000_000])
def test_a09_a11_placeholder_sizes(tmp_path, size):
    samples = noise()
    data = patched(patched(encoded(tmp_path, samples), "<I", 40, size), "<I", 4, size)
    (tmp_path / "x.wav").write_bytes(data)
    assert inspect_audio(tmp_path / "x.wav").frames == RATE
    np.testing.assert_allclose(read_16k(tmp_path / "x.wav"), samples, atol=2**-15)


@pytest.mark.parametrize("size", [0, 1000])
def test_a10_data_size_zero_with_data_behind(tmp_path, size):
    data = patched(encoded(tmp_path, noise()), "<I", 40, size)
    refused(tmp_path / "x.wav", data, "wrong-header", f"says {size} bytes", "has 32000", "ffmpeg -ignore_length 1")


def test_a10_a_chunk_behind_the_samples_is_no_fault(tmp_path):
    data = encoded(tmp_path, noise(0.01))
    (tmp_path / "x.wav").write_bytes(data + b"LIST" + struct.pack("<I", 1000) + bytes(1000))
    assert inspect_audio(tmp_path / "x.wav").frames == 160


@pytest.mark.parametrize("rate", [0, 0xFFFFFFFF])
def test_a12_impossible_sample_rate(tmp_path, rate):
    data = patched(encoded(tmp_path, noise(0.1)), "<I", 24, rate)
    refused(tmp_path / "x.wav", data, "bad-sample-rate", f"{rate} Hz", "4-192 kHz")


@pytest.mark.parametrize("rate", [1, 655350])
def test_a13_sample_rate_out_of_range(tmp_path, rate):
    refused(tmp_path / "x.wav", encoded(tmp_path, noise(0.1), rate=rate), "bad-sample-rate", f"{rate} Hz", "4-192 kHz")


@pytest.mark.parametrize("channels", [0, 65535])
def test_a14_impossible_channels(tmp_path, channels):
    data = patched(encoded(tmp_path, noise(0.1)), "<H", 22, channels)
    refused(tmp_path / "x.wav", data, "bad-channels", f"{channels} channels", "1-32")


def test_a15_channels_are_mixed_taken_or_refused_but_never_in_silence(tmp_path):
    left, right = noise(0.2, seed=1), noise(0.2, seed=2)
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    mixed, warned = kinds(path)
    np.testing.assert_allclose(mixed, (left + right) / 2, atol=1e-7)
    assert warned == ["mixed-channels"]
    first, warned = kinds(path, channels="first")
    np.testing.assert_array_equal(first, left)
    assert warned == ["first-channel"]
    with pytest.raises(AudioError, match="has 2 channels, expected one"):
        read_audio(path, sample_rate=RATE, channels="error")
    with pytest.raises(UsageError, match='channels="both" is not one of mix, error, first'):
        read_audio(path, sample_rate=RATE, channels="both")


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_a16_another_sample_rate_is_resampled(tmp_path, rate):
    """A tone keeps its pitch and its level at the model's rate."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32) / 2
    soundfile.write(tmp_path / "x.wav", tone, rate, subtype="ULAW" if rate == 8000 else "PCM_16")
    samples, warned = kinds(tmp_path / "x.wav")
    assert samples.dtype == np.float32
    assert len(samples) == resampled_length(rate, rate, RATE) == RATE
    expected = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE) / 2
    np.testing.assert_allclose(samples[400:-400], expected[400:-400], atol=0.02)
    assert warned == (["upsampled"] if rate < RATE else [])
    with pytest.raises(AudioError, match=f"sampled at {rate} Hz, expected 16000 Hz"):
        read_audio(tmp_path / "x.wav", sample_rate=RATE, resample="error")


@pytest.mark.parametrize("length", [1, 2, 3, 441, 1001])
@pytest.mark.parametrize("rates", [(8000, 16000), (44100, 16000), (16000, 8000), (11025, 16000)])
def test_a16_the_resampled_length_is_known_beforehand(tmp_path, length, rates):
    soundfile.write(tmp_path / "x.wav", noise()[:length], rates[0])
    samples, _ = kinds(tmp_path / "x.wav", sample_rate=rates[1])
    assert len(samples) == resampled_length(length, *rates) >= 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a17_not_finite(tmp_path, value):
    samples = noise()
    samples[5000] = value
    data = encoded(tmp_path, samples, subtype="FLOAT")
    refused(tmp_path / "x.wav", data, "non-finite", "NaN or infinite samples (1 ", reader=read_16k)


def test_a18_far_outside_full_scale(tmp_path):
    samples = noise()
    samples[5000] = -1e6
    refused(tmp_path / "x.wav", encoded(tmp_path, samples, subtype="FLOAT"), "full-scale", "1e+06", "32768", reader=read_16k)


def test_a18_overshoot_is_taken_as_it_is(tmp_path):
    samples = 10 * noise()
    assert 2 < np.abs(samples).max() < 8
    (tmp_path / "x.wav").write_bytes(encoded(tmp_path, samples, subtype="FLOAT"))
    np.testing.assert_array_equal(read_16k(tmp_path / "x.wav"), samples)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a19_silence_and_constant_level(tmp_path, value):
    soundfile.write(tmp_path / "x.wav", np.full(1600, value), RATE)
    np.testing.assert_array_equal(read_16k(tmp_path / "x.wav"), np.full(1600, value, np.float32))


@pytest.mark.parametrize("length", [1, 200, 700])
def test_a20_very_short(tmp_path, length):
    samples = noise()[:length]
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_16k(tmp_path / "x.wav"), samples)


def test_a21_long_recordings_are_read_in_pieces(tmp_path):
    """A sparse file of 10 hours: the cap refuses it whole, a piece of it costs the memory of the piece."""
    path = tmp_path / "x.wav"
    seconds = 36000
    header = encoded(tmp_path, np.zeros(0, np.float32))[:44]
    path.write_bytes(patched(header, "<I", 40, seconds * RATE * 2))
    os.truncate(path, 44 + seconds * RATE * 2)
    assert inspect_audio(path).duration == seconds
    with pytest.raises(AudioError, match=r"36000.0 s of sound, more than the 600 s"):
        read_audio(path, sample_rate=RATE, max_seconds=600)
    tracemalloc.start()
    piece = read_audio(path, sample_rate=RATE, offset=35999.0, duration=1.0, max_seconds=600)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert piece.shape == (RATE,)
    assert peak < 4e6


@pytest.mark.parametrize("forged", ["flac", "flac by ten", "mp3"])
def test_a22_forged_length(tmp_path, forged):
    """A header that claims hours or months in a small file is refused before memory is taken for it."""
    if forged == "mp3":
        data = encoded(tmp_path, noise(), "source.mp3")
        data = patched(data, ">I", data.index(b"Xing") + 8, 0xFFFFFFFF)
        expected = ("forged-length", "more than a file of")
    else:
        data = encoded(tmp_path, noise(), "source.flac")
        total = 2**36 - 1 if forged == "flac" else 10 * RATE
        data = patched(patched(data, ">I", 22, total & 0xFFFFFFFF), ">B", 21, data[21] & 0xF0 | total >> 32)
        expected = ("forged-length", f"claims {total} samples") if forged == "flac" else ("cut-file", f"promises {total} samples")
    tracemalloc.start()
    refused(tmp_path / f"x.{forged[:4].strip()}", data, *expected)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_a23_the_content_counts_not_the_name(tmp_path):
    samples = noise()
    (tmp_path / "x.wav").write_bytes(encoded(tmp_path, samples, "source.mp3"))
    read = read_16k(tmp_path / "x.wav")
    assert len(read) == RATE
    assert np.corrcoef(read, samples)[0, 1] > 0.8


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x20ftypM4A ", "MPEG-4"),
        (b"\x1a\x45\xdf\xa3\x01\0\0\0", "Matroska file (webm"),
        (b"\x30\x26\xb2\x75\x8e\x66", "Windows Media"),
        (b"#!AMR\n", "AMR"),
        (b"\xff\xf1\x50\x80\0\0", "AAC"),
    ],
)
def test_a23_unsupported_containers_are_named(tmp_path, head, name):
    refused(tmp_path / "x.wav", head + bytes(100), "unsupported-format", name, "ffmpeg -i", "OUT.wav")


def test_a23_shortened_sphere_file(tmp_path):
    head = b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n".ljust(1024)
    refused(tmp_path / "x.wav", head + bytes(100), "unsupported-format", "shorten", "sph2pipe")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "HTML page"),
        (b'{"error": "not found"}', "JSON"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "XML document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "run git lfs pull"),
        (b"/annex/objects/SHA256E-s1--0.wav\n", "run git annex get"),
        (b"see the other folder\n", "plain text ('see the other folder"),
        ("Grüße, ".encode() * 400, "plain text"),
        (b"\x1f\x8b\x08\0\0\0", "gzip"),
        (b"PK\x03\x04\x14\0", "ZIP"),
        (b"\x89PNG\r\n\x1a\n", "picture"),
        (bytes(500), "belongs to no audio format"),
    ],
)
def test_a24_what_is_no_recording_is_named(tmp_path, content, words):
    message = refused(tmp_path / "x.wav", content, "not-audio", words)
    assert "recogni" not in message  # the decoder's own words


def test_a25_folders_pipes_devices_and_links(tmp_path):
    """None of them may block."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    refused(tmp_path, None, "unreadable-file", "is a folder")
    refused(tmp_path / "pipe", None, "unreadable-file", "named pipe")
    refused(Path("/dev/zero"), None, "unreadable-file", "is a device")
    refused(tmp_path / "dangling", None, "missing-file", "link to nowhere")
    refused(tmp_path / "circle", None, "missing-file", "leads back to itself")


def test_a26_no_permission(tmp_path, monkeypatch):
    def deny(*_):
        raise PermissionError(errno.EACCES, "denied")

    (tmp_path / "x.wav").write_bytes(encoded(tmp_path, noise(0.1)))
    monkeypatch.setattr(files.os, "open", deny)
    refused(tmp_path / "x.wav", None, "unreadable-file", "no permission")


def test_a27_flipped_byte_in_a_flac(tmp_path):
    data = encoded(tmp_path, noise(), "source.flac")
    middle = len(data) // 2
    refused(tmp_path / "x.flac", patched(data, "B", middle, data[middle] ^ 1), "damaged", "FLAC", "damaged", reader=read_16k)


def variable_rate_mp3(folder: Path) -> tuple[bytes, int]:
    """Five seconds whose bit rate changes half way, and the length of the frame with the length table."""
    samples = noise(5)
    samples[: len(samples) // 2] *= 0.001
    data = encoded(folder, samples, "source.mp3")
    assert b"Xing" in data[:200]
    return data, data.index(data[:2], 2)


@pytest.mark.parametrize("prefix", [b"", b"ID3\x04\0\0\0\0\x02\0" + bytes(256)])
def test_a28_mp3_with_variable_rate_and_no_table_keeps_its_end(tmp_path, prefix):
    data, first = variable_rate_mp3(tmp_path)
    path = tmp_path / "x.mp3"
    path.write_bytes(data[first:])
    assert soundfile.info(path).frames < 4 * RATE, "the decoder alone would lose a second or more"
    path.write_bytes(prefix + data[first:])
    info = inspect_audio(path)
    assert info.exact
    assert info.duration == pytest.approx(5, abs=0.06)
    assert len(read_16k(path)) / RATE == pytest.approx(5, abs=0.06)


def test_a28_junk_around_an_mp3(tmp_path):
    data = encoded(tmp_path, noise(), "source.mp3")
    (tmp_path / "x.mp3").write_bytes(b"ID3\x04\0\0\0\0\x02\0" + bytes(256) + data + b"TAG" + bytes(125))
    assert len(read_16k(tmp_path / "x.mp3")) == RATE


def test_a28_a_few_lost_samples_at_the_end_of_an_mp3_are_told(tmp_path):
    (tmp_path / "x.mp3").write_bytes(encoded(tmp_path, noise(), "source.mp3")[:-1])
    samples, warned = kinds(tmp_path / "x.mp3")
    assert RATE - 800 <= len(samples) < RATE
    assert warned == ["short-end"]


def test_a29_a_file_that_is_replaced_by_a_shorter_one(tmp_path):
    path = tmp_path / "x.wav"
    path.write_bytes(encoded(tmp_path, noise()))
    duration = inspect_audio(path).duration
    path.write_bytes(encoded(tmp_path, noise(0.5)))
    with pytest.raises(AudioError, match=r"offset \+ duration is 1.000 s, the recording ends at 0.500 s"):
        read_audio(path, sample_rate=RATE, duration=duration)


def test_a30_a_failing_disk_is_a_data_error(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "input/output error")

    (tmp_path / "x.wav").write_bytes(encoded(tmp_path, noise(0.1)))
    waits: list[float] = []
    monkeypatch.setattr(audio.time, "sleep", waits.append)
    with monkeypatch.context() as patch:
        patch.setattr(audio, "examine", fail)
        refused(tmp_path / "x.wav", None, "unreadable-file", "cannot be read", "disk")
    assert waits == 2 * list(audio.PAUSES_S), "each of the two readers waits"


@pytest.mark.parametrize("where", ["open", "examine"])
@pytest.mark.parametrize(("failures", "survives"), [(3, True), (4, False)])
def test_a30_what_passes_is_waited_for_three_times(tmp_path, monkeypatch, where, failures, survives):
    module = files.os if where == "open" else audio
    working = getattr(module, where)
    left = [failures]

    def flaky(*arguments):
        if left[0] and (where == "examine" or str(arguments[0]).endswith("x.wav")):
            left[0] -= 1
            raise OSError(errno.ESTALE, "stale file handle")
        return working(*arguments)

    path = tmp_path / "x.wav"
    path.write_bytes(encoded(tmp_path, noise(0.1)))
    monkeypatch.setattr(audio.time, "sleep", lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr(module, where, flaky)
        if survives:
            assert len(read_16k(path)) == 1600
        else:
            with pytest.raises(AudioError, match="cannot be read"):
                inspect_audio(path)
    assert left == [0]


def test_a30_what_does_not_pass_is_not_waited_for(tmp_path, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(audio.time, "sleep", waits.append)
    refused(tmp_path / "x.wav", None, "missing-file", "no such file")
    assert waits == []


@pytest.mark.parametrize(
    "name",
    ["two words.wav", 'it\'s "quoted".wav', "e\u0301.wav", "é.wav", "🎤.wav", "-x.wav", "a" * 251 + ".wav", "$(ls);#=.wav"],
)
def test_a31_any_file_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(encoded(tmp_path, noise(0.1)))
    assert len(read_16k(path)) == 1600
    refused(path, b"", "empty-file")


def test_a31_names_that_do_not_print_are_escaped(tmp_path):
    for name in (b"\xff.wav", b"a\nb.wav"):
        path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
        Path(path).write_bytes(encoded(tmp_path, noise(0.1)))
        assert len(read_16k(path)) == 1600
        os.truncate(path, 0)
        with pytest.raises(AudioError) as caught:
            inspect_audio(path)
        assert ascii(path)[1:-1] in str(caught.value)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("container", "subtype", "error"),
    [
        ("WAV", "PCM_16", 2**-15),
        ("WAV", "PCM_U8", 2**-7),
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "PCM_32", 1e-7),
        ("WAV", "DOUBLE", 1e-7),
        ("WAV", "ALAW", 0.02),
        ("WAV", "ULAW", 0.02),
        ("WAV", "IMA_ADPCM", 0.2),
        ("WAVEX", "PCM_16", 2**-15),
        ("RF64", "PCM_16", 2**-15),
        ("W64", "PCM_16", 2**-15),
        ("AIFF", "PCM_16", 2**-15),
        ("AU", "PCM_16", 2**-15),
        ("CAF", "PCM_16", 2**-15),
        ("NIST", "PCM_16", 2**-15),
        ("FLAC", "PCM_24", 2**-23),
    ],
)
def test_a32_formats(tmp_path, container, subtype, error):
    samples = noise(0.5)
    path = tmp_path / "x"
    soundfile.write(path, samples, RATE, format=container, subtype=subtype)
    info = inspect_audio(path)
    assert (info.sample_rate, info.channels, info.exact) == (RATE, 1, True)
    assert info.format == f"{container}/{subtype}"
    read = read_16k(path)
    assert len(read) == info.frames >= 8000
    np.testing.assert_allclose(read[:8000], samples, atol=error)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a32_ogg(tmp_path, subtype):
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32) / 2
    soundfile.write(tmp_path / "x", tone, RATE, format="OGG", subtype=subtype)
    assert inspect_audio(tmp_path / "x").duration == 1.0
    read = read_16k(tmp_path / "x")
    assert len(read) == RATE
    assert np.corrcoef(read[800:-800], tone[800:-800])[0, 1] > 0.99


def test_ogg_without_its_end_mark(tmp_path):
    data = bytearray(encoded(tmp_path, noise(), "source.ogg"))
    last = data.rindex(b"OggS")
    data[last + 5] &= ~4
    (tmp_path / "x.ogg").write_bytes(data)
    assert inspect_audio(tmp_path / "x.ogg").notes == ("no-end-mark",)


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.ogg"])
def test_a_piece_equals_the_same_stretch_of_the_whole(tmp_path, name):
    (tmp_path / name).write_bytes(encoded(tmp_path, noise(6), name))
    whole = read_16k(tmp_path / name)
    piece = read_audio(tmp_path / name, sample_rate=RATE, offset=1.25, duration=0.5)
    np.testing.assert_allclose(piece, whole[20000:28000], atol=1e-6)


@pytest.mark.parametrize(
    ("offset", "duration", "kind"),
    [
        (-0.1, None, "bad-offset"),
        (float("nan"), None, "bad-offset"),
        (1.0, None, "offset-beyond-end"),
        (0.0, 0.0, "bad-duration"),
        (0.0, -1.0, "bad-duration"),
        (0.0, float("nan"), "bad-duration"),
        (0.5, 0.56, "segment-beyond-end"),
    ],
)
def test_m07_pieces_outside_the_recording(tmp_path, offset, duration, kind):
    (tmp_path / "x.wav").write_bytes(encoded(tmp_path, noise()))
    with pytest.raises(AudioError) as caught:
        read_audio(tmp_path / "x.wav", sample_rate=RATE, offset=offset, duration=duration)
    assert caught.value.kind == kind


def test_a_piece_may_end_50_ms_early(tmp_path):
    (tmp_path / "x.wav").write_bytes(encoded(tmp_path, noise()))
    assert len(read_audio(tmp_path / "x.wav", sample_rate=RATE, offset=0.5, duration=0.55)) == 8000


def test_the_decoder_prints_nothing(tmp_path, capfd):
    data, first = variable_rate_mp3(tmp_path)
    (tmp_path / "x.mp3").write_bytes(data[first : len(data) // 2])
    kinds(tmp_path / "x.mp3")
    with audio._quiet_stderr():
        os.write(2, b"printed below Python")
    os.write(2, b"mine")
    assert capfd.readouterr().err == "mine"


def test_a_warning_about_an_mp3_is_not_swallowed_with_what_the_decoder_prints(tmp_path, capfd):
    (tmp_path / "x.mp3").write_bytes(encoded(tmp_path, noise(), "source.mp3")[:-1])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: os.write(2, str(message).encode())
        read_16k(tmp_path / "x.mp3")
    assert "up to 50 ms are missing" in capfd.readouterr().err


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files through /proc")
def test_files_are_closed(tmp_path):
    (tmp_path / "good.flac").write_bytes(encoded(tmp_path, noise(), "source.flac"))
    (tmp_path / "cut.flac").write_bytes((tmp_path / "good.flac").read_bytes()[:-1])
    (tmp_path / "text.flac").write_text("text")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        read_16k(tmp_path / "good.flac")
        for name in ("cut.flac", "text.flac", "none.flac"):
            with pytest.raises(AudioError):
                inspect_audio(tmp_path / name)
    assert len(os.listdir("/proc/self/fd")) == before


def test_random_damage_ends_in_our_error_or_in_samples(tmp_path):
    """Flipped bytes and cuts anywhere in five formats: never another exception, never more samples than the file can hold."""
    rng = np.random.default_rng(1)
    messages, peaks = [], []
    for name in ("x.wav", "x.flac", "x.ogg", "x.mp3", "x.aiff"):
        data = encoded(tmp_path, noise(0.3), name)
        for _ in range(40):
            damaged = bytearray(data)
            damaged[rng.integers(rng.choice([60, 400, len(data)]))] = rng.integers(256)
            (tmp_path / name).write_bytes(damaged[: rng.choice([len(data), rng.integers(len(data))], p=[0.8, 0.2])])
            try:
                samples, _ = kinds(tmp_path / name, max_seconds=60)
            except AudioError as error:
                messages.append(str(error))
            else:
                peaks.append(np.abs(samples).max())
    assert len(messages) > 20
    assert len(peaks) > 20
    assert all(message.startswith(str(tmp_path)) and "\n" not in message for message in messages)
    assert np.isfinite(peaks).all()


def test_real_recordings(shared_data):
    """Every format of the corpora beside the checkout: headers and decoding agree to the sample."""
    paths = [
        next(iter(sorted(shared_data.rglob(pattern))))
        for pattern in ("speechocean762/**/*.ogg", "fsdd/**/*.wav", "yesno/**/*.wav")
    ]
    for path in paths:
        info = inspect_audio(path)
        assert len(read_audio(path, sample_rate=info.sample_rate)) == info.frames > 1000
