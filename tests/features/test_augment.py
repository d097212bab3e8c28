import numpy as np
import pytest
import torch

from asr.errors import UsageError
from asr.features import augment
from asr.features.augment import (
    NOISE_COLORS,
    AugmentOptions,
    SpecAugment,
    augment_waveform,
    change_level,
    colored_noise,
    speed_factor,
    utterance_seed,
    warped_places,
)
from asr.features.filterbank import FeatureExtractor, FeatureOptions, mel_centres_hz
from tests.features.signals import voice

RATE = 16000
EVERYTHING = {
    "speed": [0.9, 1.1],
    "noise_probability": 0.5,
    "gain_db": 6.0,
    "frequency_warp": 0.1,
    "frequency_masks": 2,
    "time_masks": 2,
}


def augmented(seed, waveform=None, **options):
    waveform = voice(8000).astype(np.float32) if waveform is None else waveform
    return augment_waveform(waveform, sample_rate=RATE, options=AugmentOptions(**options), seed=seed)


def power(samples):
    return float(np.mean(np.square(samples, dtype=np.float64)))


def test_seed_depends_on_each_part_and_not_on_the_process():
    seeds = {utterance_seed(*key) for key in [(1, 0, "a"), (2, 0, "a"), (1, 1, "a"), (1, 0, "b"), (11, 0, "a"), (1, 10, "a")]}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert utterance_seed(1, 2, "spät 1") == 8854495507603359656


def test_same_seed_same_samples_and_another_seed_others():
    for seed in range(4):
        assert np.array_equal(augmented(seed, **EVERYTHING), augmented(seed, **EVERYTHING))
    results = [augmented(seed, **EVERYTHING) for seed in range(8)]
    assert len({result.tobytes() for result in results}) == 8
    assert all(result.dtype == np.float32 for result in results)


def test_defaults_change_nothing():
    waveform = voice(400).astype(np.float32)
    assert np.array_equal(augmented(5, waveform), waveform)
    features = torch.randn(2, 10, 4)
    assert torch.equal(SpecAugment(AugmentOptions())(features, torch.tensor([10, 4]), torch.tensor([1, 2])), features)


def test_speed_is_drawn_from_the_list_and_moves_the_pitch():
    options = AugmentOptions(speed=[0.8, 1.0, 1.25])
    factors = [speed_factor(options, seed) for seed in range(60)]
    assert {factors.count(factor) > 8 for factor in options.speed} == {True}
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / RATE).astype(np.float32)
    for factor in (0.8, 1.25):
        result = augmented(0, tone, speed=[factor])
        assert abs(len(result) - 8000 / factor) <= 1
        peak = np.argmax(np.abs(np.fft.rfft(result))) * RATE / len(result)
        assert abs(peak - 1000 * factor) < 4
        assert abs(power(result) / 0.5 - 1) < 0.05


def test_noise_has_the_ratio_asked_for():
    waveform = voice(16000).astype(np.float32)
    for snr_db in (-5.0, 10.0, 30.0):
        for color in NOISE_COLORS:
            noise = augmented(3, waveform, noise_probability=1.0, noise_snr_db=[snr_db, snr_db], noise_colors=[color]) - waveform
            assert abs(10 * np.log10(power(waveform) / power(noise)) - snr_db) < 0.05


def test_noise_range_and_probability():
    waveform = voice(2000).astype(np.float32)
    ratios = []
    for seed in range(200):
        noise = augmented(seed, waveform, noise_probability=0.3, noise_snr_db=[5.0, 10.0]) - waveform
        if np.any(noise):
            ratios.append(10 * np.log10(power(waveform) / power(noise)))
    assert 40 <= len(ratios) <= 80
    assert 4.9 < min(ratios) < 5.6
    assert 9.4 < max(ratios) < 10.1


@pytest.mark.parametrize(("color", "decibels_per_octave"), [("white", 0.0), ("pink", 3.01), ("brown", 6.02)])
def test_colours_fall_as_they_should(color, decibels_per_octave):
    noise = colored_noise(1 << 16, color=color, sample_rate=RATE, generator=np.random.default_rng(0))
    assert abs(power(noise) - 1) < 1e-9
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    hertz = np.fft.rfftfreq(len(noise), 1 / RATE)
    octaves = [10 * np.log10(spectrum[(hertz >= low) & (hertz < 2 * low)].mean()) for low in (250, 500, 1000, 2000)]
    assert np.abs(-np.diff(octaves) - decibels_per_octave).max() < 0.8


def test_silence_stays_silence_and_nothing_stays_nothing():
    for samples in (np.zeros(500, np.float32), np.zeros(0, np.float32)):
        result = augmented(1, samples, noise_probability=1.0, gain_db=10.0, speed=[1.1])
        assert not result.any()
        assert abs(len(result) - len(samples) / 1.1) <= 1
    one = augmented(1, np.ones(1, np.float32), noise_probability=1.0, noise_colors=["brown"])
    assert one.shape == (1,)
    assert np.isfinite(one).all()


def test_gain_stays_in_its_range():
    waveform = voice(100).astype(np.float32)
    gains = np.array([10 * np.log10(power(augmented(seed, waveform, gain_db=6.0)) / power(waveform)) for seed in range(100)])
    assert -6.01 < gains.min() < -5
    assert 5 < gains.max() < 6.01


def test_one_kind_does_not_move_the_draws_of_another():
    waveform = voice(4000).astype(np.float32)
    quiet = augmented(9, waveform, speed=[0.9, 1.1])
    louder = augmented(9, waveform, speed=[0.9, 1.1], gain_db=3.0)
    assert len(quiet) == len(louder)
    np.testing.assert_allclose(louder, quiet * (louder[100] / quiet[100]), rtol=1e-5)
    noisy, noisy_and_louder = (augmented(9, waveform, noise_probability=1.0, gain_db=gain) for gain in (0.0, 3.0))
    np.testing.assert_allclose(noisy_and_louder, noisy * (noisy_and_louder[100] / noisy[100]), rtol=1e-5)


def test_draws_of_different_kinds_are_independent():
    options = AugmentOptions(speed=[0.9, 1.1], gain_db=6.0)
    level = np.ones(100, np.float32)
    faster = [speed_factor(options, seed) > 1 for seed in range(100)]
    louder = [change_level(level, sample_rate=RATE, options=options, seed=seed)[0] > 1 for seed in range(100)]
    wider = (
        masked(torch.ones(100, 20, 1), [20] * 100, list(range(100)), time_masks=1, time_width=1.0).sum(dim=(1, 2)) > 10
    ).tolist()
    for first, second in ((faster, louder), (faster, wider), (louder, wider)):
        assert 30 <= sum(one == other for one, other in zip(first, second)) <= 70


def test_noise_and_masks_wait_for_their_epoch():
    options = AugmentOptions(**EVERYTHING, start_epoch=3)
    early, late = options.at_epoch(2), options.at_epoch(3)
    assert (early.noise_probability, early.frequency_warp, early.frequency_masks, early.time_masks) == (0.0, 0.0, 0, 0)
    assert (early.speed, early.gain_db) == (options.speed, options.gain_db)
    assert late == options


def masked(features, lengths, seeds, **options):
    return SpecAugment(AugmentOptions(**options))(features, torch.tensor(lengths), torch.tensor(seeds)) == 0


def test_masks_of_time_lie_inside_the_utterance():
    widths, first_frames, last_frames = set(), set(), set()
    for seed in range(150):
        zeros = masked(torch.ones(1, 30, 3), [16], [seed], time_masks=1, time_width=0.25)[0]
        assert torch.equal(zeros.any(dim=1), zeros.all(dim=1))
        frames = zeros[:, 0].nonzero()[:, 0].tolist()
        widths.add(len(frames))
        if frames:
            assert frames == list(range(frames[0], frames[-1] + 1))
            first_frames.add(frames[0])
            last_frames.add(frames[-1])
    assert widths == set(range(5))  # up to a quarter of 16 frames
    assert min(first_frames) == 0
    assert max(last_frames) == 15


def test_masks_of_frequency():
    widths, bins = set(), set()
    for seed in range(150):
        zeros = masked(torch.ones(1, 6, 20), [4], [seed], frequency_masks=1, frequency_width=4)[0]
        assert torch.equal(zeros.any(dim=0), zeros.all(dim=0))
        where = zeros[0].nonzero()[:, 0].tolist()
        widths.add(len(where))
        bins.update(where)
    assert widths == set(range(5))
    assert bins == set(range(20))


def test_number_of_masks():
    for name, axis in (("time_masks", 1), ("frequency_masks", 0)):
        runs = []
        for seed in range(40):
            options = {name: 3, "time_width": 0.05, "frequency_width": 5}
            line = masked(torch.ones(1, 100, 100), [100], [seed], **options)[0].all(dim=axis).int()
            runs.append(int((line.diff(prepend=torch.zeros(1, dtype=torch.int32)) == 1).sum()))
        assert max(runs) == 3


def test_derivatives_are_masked_with_their_features():
    spec = SpecAugment(AugmentOptions(frequency_masks=2, frequency_width=6), blocks=3)
    zeros = spec(torch.ones(5, 8, 30), torch.full((5,), 8), torch.arange(5)) == 0
    assert zeros.any()
    assert torch.equal(zeros[:, :, :10], zeros[:, :, 10:20])
    assert torch.equal(zeros[:, :, :10], zeros[:, :, 20:])


def test_masks_depend_on_the_seed_alone():
    options = {"frequency_masks": 2, "time_masks": 2, "time_width": 0.3}
    features = torch.randn(3, 50, 24)
    seeds, lengths = [utterance_seed(1, 0, name) for name in "abc"], [50, 20, 33]
    together = SpecAugment(AugmentOptions(**options))(features, torch.tensor(lengths), torch.tensor(seeds))
    assert not torch.equal(together, features)
    for row in (2, 0, 1):
        alone = SpecAugment(AugmentOptions(**options))(
            features[row : row + 1, : lengths[row]], torch.tensor(lengths[row : row + 1]), torch.tensor(seeds[row : row + 1])
        )
        assert torch.equal(alone[0], together[row, : lengths[row]])
    assert not torch.equal(masked(features, lengths, [1, 2, 3], **options), masked(features, lengths, [4, 5, 6], **options))


@pytest.mark.parametrize("factor", [0.85, 0.95, 1.0, 1.1, 1.2])
def test_a_warp_moves_a_tone_as_its_frequency_would(factor):
    """The features of a tone, warped, peak where those of a tone of that many times the frequency lie."""
    options = FeatureOptions()
    extract, centres = FeatureExtractor(options), mel_centres_hz(options)
    for hz in (700.0, 1500.0, 3000.0):
        low, high = (
            extract(0.5 * torch.sin(2 * np.pi * pitch * torch.arange(4000) / RATE)[None], torch.tensor([4000]))[0][0, 10]
            for pitch in (hz, hz * factor)
        )
        places = warped_places(centres, factor)
        warped = np.interp(places, np.arange(len(centres)), high.numpy())
        assert abs(int(warped.argmax()) - int(low.argmax())) <= 1
    assert places[-1] == len(centres) - 1
    assert (np.diff(places) > 0).all()
    assert np.array_equal(warped_places(centres, 1.0), np.arange(len(centres)))


def test_warps_depend_on_the_seed_alone_and_treat_blocks_alike():
    """Three blocks of an energy and ten filters; the energy has no frequency and stays."""
    centres = mel_centres_hz(FeatureOptions(num_bins=10))
    spec = SpecAugment(AugmentOptions(frequency_warp=0.2), blocks=3, centres_hz=centres)
    one = torch.randn(4, 9, 11, generator=torch.Generator().manual_seed(2))
    features, lengths, seeds = one.repeat(1, 1, 3), torch.tensor([9, 5, 9, 9]), torch.tensor([1, 2, 3, 1])
    together = spec(features, lengths, seeds)
    for block in range(3):
        assert torch.equal(together[:, :, 11 * block : 11 * block + 11], together[:, :, :11])
    assert torch.equal(together[:, :, 0], features[:, :, 0])
    assert not torch.allclose(together[:, :, 1:11], features[:, :, 1:11], atol=0.1)
    for row in range(4):
        alone = spec(features[row : row + 1, : lengths[row]], lengths[row : row + 1], seeds[row : row + 1])
        assert torch.equal(alone[0], together[row, : lengths[row]])
    flat = torch.ones(3, 4, 33)
    assert torch.allclose(spec(flat, torch.tensor([4, 4, 4]), torch.tensor([5, 6, 7])), flat)
    by_hand = warped_places(centres, augment._generator(2, augment._WARP).uniform(0.8, 1.2))
    row = one[1, 0, 1:].numpy()
    assert together[1, 0, 1:11].numpy() == pytest.approx(np.interp(by_hand, np.arange(10), row), abs=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(spec(features, lengths, seeds), together)


def test_masks_wider_than_the_utterance():
    for lengths in ([1, 2, 0], [3, 3, 3]):
        options = AugmentOptions(frequency_masks=3, frequency_width=500, time_masks=3, time_width=1.0)
        result = SpecAugment(options)(torch.ones(3, 3, 8), torch.tensor(lengths), torch.tensor([1, 2, 3]))
        assert result.shape == (3, 3, 8)
        assert set(result.unique().tolist()) <= {0.0, 1.0}
    assert SpecAugment(options)(torch.ones(2, 0, 8), torch.tensor([0, 0]), torch.tensor([1, 2])).shape == (2, 0, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speed": []}, r"augment.speed=\[\]: expected a list of factors"),
        ({"speed": [0.9, 3.0]}, r"augment.speed=\[0.9, 3.0\]"),
        ({"noise_probability": 1.1}, r"augment.noise_probability=1.1: expected 0 to 1"),
        ({"noise_snr_db": [5.0]}, r"augment.noise_snr_db=\[5.0\]: expected two numbers"),
        ({"noise_snr_db": [15.0, 0.0]}, r"augment.noise_snr_db=\[15.0, 0.0\]"),
        ({"noise_colors": ["mauve"]}, r"augment.noise_colors=\['mauve'\]: expected a list of white, pink, brown"),
        ({"gain_db": -1.0}, r"augment.gain_db=-1.0"),
        ({"frequency_warp": 0.5}, r"augment.frequency_warp=0.5: expected a share from 0 to 0.3"),
        ({"frequency_masks": -1}, r"augment.frequency_masks=-1: expected 0 or more"),
        ({"frequency_width": -1}, r"augment.frequency_width=-1"),
        ({"time_masks": -1}, r"augment.time_masks=-1"),
        ({"time_width": 1.5}, r"augment.time_width=1.5: expected a share"),
        ({"start_epoch": -1}, r"augment.start_epoch=-1"),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(UsageError, match=message):
        AugmentOptions(**changes)
