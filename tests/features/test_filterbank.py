import copy
import math

import numpy as np
import pytest
import soundfile
import torch

from asr.errors import UsageError
from asr.features.filterbank import LOG_FLOOR, FeatureExtractor, FeatureOptions, append_deltas
from asr.features.torchaudio_import import import_torchaudio
from tests.features.signals import frame_by_frame, voice

knf = pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank is in the extra dev")


def padded_batch(signals, padding=float("nan")):
    """Batch of float64 signals; whatever reads the padding shows as NaN."""
    batch = torch.full((len(signals), max(map(len, signals))), padding, dtype=torch.float64)
    for row, signal in zip(batch, signals):
        row[: len(signal)] = torch.as_tensor(signal)
    return batch, torch.tensor([len(signal) for signal in signals])


def torchaudio_features(signal, options):
    kaldi = import_torchaudio("torchaudio.compliance.kaldi")
    keywords = {
        "sample_frequency": options.sample_rate,
        "frame_length": options.frame_length_ms,
        "frame_shift": options.frame_shift_ms,
        "low_freq": options.low_hz,
        "high_freq": options.high_hz,
        "num_mel_bins": options.num_bins,
        "preemphasis_coefficient": options.preemphasis,
        "use_energy": options.energy,
        "energy_floor": 0.0,
        "snip_edges": False,
        "dither": 0.0,
    }
    samples = torch.as_tensor(signal, dtype=torch.float64)[None]
    if options.kind == "mfcc":
        return kaldi.mfcc(samples, num_ceps=options.num_ceps, **keywords)
    return kaldi.fbank(samples, **keywords)


def knf_features(signal, options):
    native, extractor = (knf.MfccOptions(), knf.OnlineMfcc) if options.kind == "mfcc" else (knf.FbankOptions(), knf.OnlineFbank)
    native.frame_opts.samp_freq = options.sample_rate
    native.frame_opts.snip_edges = False
    native.frame_opts.dither = 0.0
    native.mel_opts.num_bins = options.num_bins
    native.mel_opts.low_freq = options.low_hz
    native.mel_opts.high_freq = options.high_hz
    native.use_energy = options.energy
    if options.kind == "mfcc":
        native.num_ceps = options.num_ceps
    stream = extractor(native)
    stream.accept_waveform(options.sample_rate, np.asarray(signal, dtype=np.float32))
    stream.input_finished()
    assert stream.num_frames_ready > 0
    return np.stack([stream.get_frame(frame) for frame in range(stream.num_frames_ready)])


REFEREE_OPTIONS = {
    "default": {},
    "energy": {"energy": True},
    "mfcc": {"kind": "mfcc"},
    "mfcc, energy": {"kind": "mfcc", "energy": True, "num_bins": 40, "num_ceps": 20},
    "8 kHz": {"sample_rate": 8000, "num_bins": 40},
    "8 kHz mfcc": {"sample_rate": 8000, "num_bins": 23, "kind": "mfcc"},
    "11025 Hz, odd window": {"sample_rate": 11025, "num_bins": 30},
    "22050 Hz, window and shift without common divisor": {"sample_rate": 22050, "energy": True},
    "48 kHz": {"sample_rate": 48000},
    "other frames": {"frame_length_ms": 32.0, "frame_shift_ms": 12.5},
    "other band": {"low_hz": 125.0, "high_hz": 3800.0, "num_bins": 17},
    "other difference": {"preemphasis": 0.5},
    "no difference": {"preemphasis": 0.0},
}


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("changes", REFEREE_OPTIONS.values(), ids=REFEREE_OPTIONS.keys())
def test_equals_torchaudio(changes, precision):
    options = FeatureOptions(**changes)
    window = options.window
    lengths = [options.sample_rate // 2, window, window + 1, options.sample_rate // 4 + 77, 3 * window - 1]
    signals = [voice(length, rate=options.sample_rate, seed=row) for row, length in enumerate(lengths)]
    signals[1] = signals[1] + 0.5  # a constant offset is removed
    batch, batch_lengths = padded_batch(signals)
    features, frames = FeatureExtractor(options)(batch.to(precision), batch_lengths)
    assert features.dtype == precision
    for signal, ours, count in zip(signals, features, frames.tolist()):
        referee = torchaudio_features(signal, options)
        assert count == len(referee) > 0
        assert ours.shape[1] == referee.shape[1]
        torch.testing.assert_close(ours[:count].double(), referee, atol=1e-3, rtol=0)


@pytest.mark.parametrize("changes", [{}, {"energy": True}, {"kind": "mfcc", "energy": True}, {"kind": "mfcc"}], ids=str)
@pytest.mark.parametrize("corpus", ["synthetic", "speechocean762"])
def test_equals_both_referees_on_speech(changes, corpus, request):
    options = FeatureOptions(**changes)
    if corpus == "synthetic":
        signals = [voice(16000).astype(np.float32), voice(700, seed=1).astype(np.float32)]
    else:
        folder = request.getfixturevalue("shared_data") / "speechocean762"
        paths = sorted(path for path in folder.rglob("*") if path.suffix in (".ogg", ".opus", ".wav", ".flac"))[:400:100]
        assert len(paths) == 4, f"no recordings in {folder}"
        signals = [soundfile.read(path, dtype="float32")[0] for path in paths]
    batch, lengths = padded_batch(signals)
    exact, frames = FeatureExtractor(options)(batch, lengths)
    features, _ = FeatureExtractor(options)(batch.float(), lengths)
    for row, (signal, count) in enumerate(zip(signals, frames.tolist())):
        native = knf_features(signal, options)
        assert native.shape == (count, features.shape[2])
        np.testing.assert_allclose(features[row, :count].numpy(), native, atol=5e-3, rtol=0)
        torch.testing.assert_close(exact[row, :count], torchaudio_features(signal, options), atol=1e-3, rtol=0)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_utterances_shorter_than_a_window(rate):
    shift, window = rate // 100, rate // 40
    lengths = [shift // 2, shift // 2 + 1, shift - 1, shift, window // 2, window - 1, window, 3 * shift + 1]
    signals = [voice(length, rate=rate, seed=length) for length in lengths]
    options = FeatureOptions(sample_rate=rate, num_bins=23)
    features, frames = FeatureExtractor(options)(*padded_batch(signals))
    for signal, ours, count in zip(signals, features.numpy(), frames.tolist()):
        expected = frame_by_frame(signal, rate=rate, num_bins=23)
        assert count == len(expected) > 0
        np.testing.assert_allclose(ours[:count], expected, atol=1e-9)
        np.testing.assert_allclose(ours[:count], knf_features(signal, options), atol=5e-3)


def test_number_of_frames():
    extractor = FeatureExtractor(FeatureOptions())
    for length in [0, 1, 79, 80, 81, 160, 239, 240, 399, 400, 401, 16000]:
        _, frames = extractor(torch.zeros(1, length), torch.tensor([length]))
        assert frames.tolist() == [extractor.num_frames(length)]
    assert [extractor.num_frames(length) for length in (79, 80, 239, 240, 16000)] == [0, 1, 1, 2, 100]
    assert extractor.frame_shift_s == 0.01
    assert FeatureExtractor(FeatureOptions(sample_rate=22050)).frame_shift_s == 220 / 22050


@pytest.mark.parametrize("changes", [{}, {"kind": "mfcc", "energy": True, "deltas": 2}, {"energy": True, "deltas": 1}], ids=str)
def test_alone_equals_in_any_batch(changes):
    extractor = FeatureExtractor(FeatureOptions(**changes))
    signals = [voice(length, seed=length) for length in (9000, 160, 0, 24000, 401, 79, 4000)]
    batch, lengths = padded_batch(signals)
    features, frames = extractor(batch.float(), lengths)
    assert features.shape == (7, 150, extractor.output_size)
    assert frames.tolist() == [extractor.num_frames(len(signal)) for signal in signals]
    for signal, together, count in zip(signals, features, frames.tolist()):
        alone, _ = extractor(torch.as_tensor(signal)[None].float(), torch.tensor([len(signal)]))
        torch.testing.assert_close(together[:count], alone[0], atol=1e-5, rtol=1e-5)
        assert (together[count:] == 0).all()
    wider = torch.nn.functional.pad(batch, (0, 5000), value=math.inf)
    torch.testing.assert_close(extractor(wider.float(), lengths)[0], features, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames_per_tile", [1, 2, 7, 40, 1000])
def test_tiles_do_not_show(frames_per_tile, monkeypatch):
    signals = [voice(length, seed=length) for length in (3300, 160, 0, 2000, 401)]
    batch, lengths = padded_batch(signals)
    expected, _ = FeatureExtractor(FeatureOptions(num_bins=20, energy=True))(batch, lengths)
    monkeypatch.setattr(FeatureExtractor, "frames_per_tile", frames_per_tile)
    features, _ = FeatureExtractor(FeatureOptions(num_bins=20, energy=True))(batch, lengths)
    torch.testing.assert_close(features, expected, atol=1e-12, rtol=0)


def test_no_samples_at_all():
    extractor = FeatureExtractor(FeatureOptions(deltas=1))
    for batch in (torch.zeros(2, 0), torch.zeros(2, 300), torch.zeros(0, 300)):
        features, frames = extractor(batch, torch.zeros(len(batch), dtype=torch.int64))
        assert features.shape == (len(batch), 0, 160)
        assert frames.tolist() == [0] * len(batch)


@pytest.mark.parametrize("kind", ["fbank", "mfcc"])
@pytest.mark.parametrize("level", [0.0, 0.7, -1.0])
def test_silence_and_constant_offset_are_finite(kind, level):
    extractor = FeatureExtractor(FeatureOptions(kind=kind, energy=True, deltas=2))
    features, frames = extractor(torch.full((1, 8000), level), torch.tensor([8000]))
    assert frames.tolist() == [50]
    assert features.isfinite().all()
    if kind == "fbank":
        torch.testing.assert_close(features[0, :, :81], torch.full((50, 81), math.log(LOG_FLOOR)), atol=1e-4, rtol=0)
        assert (features[0, :, 81:].abs() < 1e-4).all()


def test_loudest_signal_is_finite():
    square = torch.sign(torch.sin(torch.arange(8000) * 0.3))[None]
    features, _ = FeatureExtractor(FeatureOptions(energy=True))(square, torch.tensor([8000]))
    assert features.isfinite().all()
    torch.testing.assert_close(features[0, 10:-10, 0], torch.full((30,), math.log(400)), atol=0.02, rtol=0)


@pytest.mark.parametrize("order", [1, 2])
def test_deltas_equal_kaldi_native_fbank(order):
    signals = [voice(length, seed=length) for length in (160, 320, 480, 800, 8000)]
    batch, lengths = padded_batch(signals)
    features, frames = FeatureExtractor(FeatureOptions(num_bins=23, deltas=order))(batch, lengths)
    static, _ = FeatureExtractor(FeatureOptions(num_bins=23))(batch, lengths)
    assert frames.tolist() == [1, 2, 3, 5, 50]
    assert features.shape[2] == 23 * (1 + order)
    for ours, plain, count in zip(features, static, frames.tolist()):
        referee = knf.compute_deltas(knf.DeltaOptions(order=order, window=2), plain[:count].float().numpy())
        np.testing.assert_allclose(ours[:count].numpy(), np.asarray(referee).reshape(count, -1), atol=1e-4)


def test_deltas_of_a_line_and_a_parabola():
    # Away from the ends the regression is exact for polynomials of second degree, where slopes are 2 t and curvatures 2.
    frames = torch.arange(20.0, dtype=torch.float64)
    features = append_deltas(torch.stack([3 * frames, frames**2], dim=1)[None], torch.tensor([20]), 2)
    slopes, curvatures = features[0, 4:-4, 2:4], features[0, 4:-4, 4:]
    torch.testing.assert_close(slopes, torch.stack([torch.full_like(frames, 3.0), 2 * frames], dim=1)[4:-4])
    torch.testing.assert_close(curvatures, torch.tensor([0.0, 2.0], dtype=torch.float64).expand(12, 2))


CHANGES = {
    "kind": "mfcc",
    "sample_rate": 8000,
    "num_bins": 40,
    "frame_length_ms": 20.0,
    "frame_shift_ms": 12.0,
    "low_hz": 60.0,
    "high_hz": 7000.0,
    "preemphasis": 0.9,
    "energy": True,
    "deltas": 1,
    "dither": 0.001,
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_option_changes_the_features(name):
    batch, lengths = padded_batch([voice(4000)])
    before, _ = FeatureExtractor(FeatureOptions())(batch, lengths)
    after, _ = FeatureExtractor(FeatureOptions(**{name: CHANGES[name]}))(batch, lengths)
    assert before.shape != after.shape or (before - after).abs().max() > 1e-2


def test_number_of_cepstra():
    batch, lengths = padded_batch([voice(4000)])
    few, _ = FeatureExtractor(FeatureOptions(kind="mfcc", num_ceps=5))(batch, lengths)
    many, _ = FeatureExtractor(FeatureOptions(kind="mfcc", num_ceps=80))(batch, lengths)
    assert few.shape[2] == 5
    assert many.shape[2] == 80
    torch.testing.assert_close(many[:, :, :5], few)


def test_dither_is_the_same_each_time_and_in_each_batch():
    extractor = FeatureExtractor(FeatureOptions(dither=0.01, sample_rate=8000, num_bins=20))
    batch = torch.zeros(3, 40000)  # longer than the stored noise
    lengths = torch.tensor([40000, 4000, 40000])
    features, frames = extractor(batch, lengths)
    again, _ = FeatureExtractor(extractor.options)(batch, lengths)
    assert torch.equal(features, again)
    torch.testing.assert_close(features[0], features[2], atol=1e-5, rtol=0)
    alone, _ = extractor(batch[1:2, :4000], lengths[1:2])
    torch.testing.assert_close(features[1, : frames[1]], alone[0], atol=1e-5, rtol=0)
    energy, _ = FeatureExtractor(FeatureOptions(dither=0.01, energy=True))(torch.zeros(1, 16000), torch.tensor([16000]))
    assert abs(energy[0, :, 0].mean().exp() / (400 * 0.01**2) - 1) < 0.05


def test_float32_under_autocast_and_in_a_half_precision_model():
    batch, lengths = padded_batch([voice(4000)])
    expected, _ = FeatureExtractor(FeatureOptions(kind="mfcc"))(batch.float(), lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, _ = FeatureExtractor(FeatureOptions(kind="mfcc"))(batch.float(), lengths)
    assert features.dtype == torch.float32
    assert torch.equal(features, expected)
    features, _ = FeatureExtractor(FeatureOptions(kind="mfcc")).half()(batch.float(), lengths)
    assert torch.equal(features, expected)


def test_double_precision_module_and_copies():
    batch, lengths = padded_batch([voice(4000)])
    extractor = FeatureExtractor(FeatureOptions())
    exact, _ = extractor(batch, lengths)
    features, _ = copy.deepcopy(extractor).double()(batch.float(), lengths)
    assert features.dtype == torch.float64
    torch.testing.assert_close(features, exact, atol=1e-4, rtol=0)
    assert not torch.equal(extractor(batch.float(), lengths)[0].double(), exact)
    assert extractor.state_dict() == {}


def test_takes_samples_that_require_gradients():
    samples = torch.zeros(1, 800, requires_grad=True)
    features, _ = FeatureExtractor(FeatureOptions())(samples, torch.tensor([800]))
    assert not features.requires_grad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "plp"}, r"features.kind=plp: expected one of fbank, mfcc"),
        ({"sample_rate": 0}, r"features.sample_rate=0: expected a positive rate"),
        ({"num_bins": 3}, r"features.num_bins=3: expected at least 4"),
        ({"kind": "mfcc", "num_ceps": 81}, r"features.num_ceps=81: expected 1 to features.num_bins, which is 80"),
        ({"frame_length_ms": 0.01}, r"features.frame_length_ms=0.01: expected at least two samples"),
        ({"frame_shift_ms": 0.0}, r"features.frame_shift_ms=0.0: expected at least one sample"),
        ({"frame_shift_ms": 30.0}, r"features.frame_shift_ms=30.0: expected at most features.frame_length_ms"),
        ({"low_hz": 8000.0}, r"features.low_hz=8000.0: expected 0 to less than"),
        ({"high_hz": 9000.0}, r"features.high_hz=9000.0: expected a frequency above"),
        ({"high_hz": -7990.0}, r"features.high_hz=-7990.0"),
        ({"preemphasis": 1.5}, r"features.preemphasis=1.5: expected 0 to 1"),
        ({"deltas": 3}, r"features.deltas=3: expected 0, 1 or 2"),
        ({"dither": -1.0}, r"features.dither=-1.0"),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(UsageError, match=message):
        FeatureOptions(**changes)
