"""Batches: padding, targets, statistics, and numbers that depend on seed, epoch and utterance alone."""

import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.batches.dataset import AudioStore, BatchLoader, evaluation_order
from asr.batches.order import BatchOptions
from asr.data.manifest import Utterance
from asr.errors import DataError
from asr.features.augment import AugmentOptions

RATE = 8000


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    draw = np.random.default_rng(1)
    made = []
    for number, length in enumerate((1600, 2400, 800, 4000)):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, draw.uniform(-0.5, 0.5, length), RATE)
        made.append(Utterance(f"u{number}", str(path), length / RATE, text="ab", speaker="even" if number % 2 == 0 else None))
    return made


TARGETS = [[1], [2, 3], [], [3, 2, 1]]


def load(utterances, order, *, epoch=0, workers=1, cache_mb=8, **options):
    store = AudioStore(sample_rate=RATE, cache_mb=cache_mb)
    return list(BatchLoader(utterances, TARGETS, store=store, workers=workers, **options).batches(order, epoch=epoch))


def test_padding_lengths_and_targets(utterances):
    first, second = load(utterances, [[0, 1], [3, 2]])
    assert first.ids == ["u0", "u1"]
    assert first.waveforms.shape == (2, 2400)
    assert first.waveforms.dtype == torch.float32
    assert first.waveform_lengths.tolist() == [1600, 2400]
    assert first.waveforms[0, 1600:].abs().max() == 0
    assert first.waveforms[0, :1600].abs().max() > 0.4
    assert first.tokens.tolist() == [[1, 0], [2, 3]]
    assert second.token_lengths.tolist() == [3, 0]
    assert first.cmvn is None


def test_samples_are_those_of_the_file(utterances):
    (batch,) = load(utterances, [[3]])
    samples, _ = soundfile.read(utterances[3].audio_filepath, dtype="float32")
    assert torch.allclose(batch.waveforms[0], torch.from_numpy(samples), atol=2**-15)


def test_recordings_that_are_joined(utterances):
    """The samples and texts one behind the other, each augmented as it is alone; the separator stands between texts."""
    store = AudioStore(sample_rate=RATE)
    loader = BatchLoader(utterances, TARGETS, store=store, augment=AUGMENT, seed=4, separator=[9])
    (batch,) = loader.batches([[0, 1]], epoch=2, behind={0: [2, 3]})
    alone = by_name(loader.batches([[0], [1], [2], [3]], epoch=2))
    assert batch.ids == ["u0", "u1"]
    assert batch.waveform_lengths.tolist() == [sum(len(alone[name]) for name in ("u0", "u2", "u3")), len(alone["u1"])]
    assert torch.equal(batch.waveforms[0], torch.cat([alone["u0"], alone["u2"], alone["u3"]]))
    assert torch.equal(batch.waveforms[1, : len(alone["u1"])], alone["u1"])
    assert batch.tokens.tolist() == [[1, 9, 9, 3, 2, 1], [2, 3, 0, 0, 0, 0]]
    assert batch.token_lengths.tolist() == [6, 2]


AUGMENT = AugmentOptions(speed=[0.9, 1.1], noise_probability=1.0, gain_db=6.0)


def by_name(batches):
    return {name: batch.waveforms[row, : batch.waveform_lengths[row]] for batch in batches for row, name in enumerate(batch.ids)}


def test_augmentation_is_the_same_in_any_order_batch_thread_count_and_cache(utterances):
    one = by_name(load(utterances, [[0], [1], [2], [3]], augment=AUGMENT, seed=4, epoch=2))
    other = by_name(load(utterances, [[3, 1], [0, 2]], augment=AUGMENT, seed=4, epoch=2, workers=3, cache_mb=0))
    assert one.keys() == other.keys()
    for name, waveform in one.items():
        assert torch.equal(waveform, other[name])


@pytest.mark.parametrize("change", [{"seed": 5}, {"epoch": 3}])
def test_augmentation_changes_with_seed_and_epoch(utterances, change):
    base = {"augment": AUGMENT, "seed": 4, "epoch": 2}
    one, other = by_name(load(utterances, [[3]], **base)), by_name(load(utterances, [[3]], **{**base, **change}))
    assert one["u3"].shape != other["u3"].shape or not torch.equal(one["u3"], other["u3"])


def test_speed_shortens_and_lengthens(utterances):
    fast = load(utterances, [[3]], augment=AugmentOptions(speed=[1.1]))[0].waveform_lengths.item()
    slow = load(utterances, [[3]], augment=AugmentOptions(speed=[0.9]))[0].waveform_lengths.item()
    assert abs(fast - 4000 / 1.1) <= 2
    assert abs(slow - 4000 / 0.9) <= 2


def test_statistics_reach_the_batch_and_unknown_speakers_are_nan(utterances):
    table = {"even": np.array([[1.0, 2.0], [3.0, 4.0]])}
    (batch,) = load(utterances, [[0, 1]], statistics=table.get)
    assert batch.cmvn.shape == (2, 2, 2)
    assert batch.cmvn[0].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert batch.cmvn[1].isnan().all()


def test_no_known_speaker_gives_no_statistics(utterances):
    (batch,) = load(utterances, [[1]], statistics={}.get)
    assert batch.cmvn is None


def test_fault_of_a_reader_is_raised_where_the_batches_are_used(utterances):
    Path(utterances[1].audio_filepath).unlink()
    with pytest.raises(DataError, match=r'^utterance "u1": .*1\.wav: no such file'):
        load(utterances, [[0], [1], [2]])


def test_faults_are_noted_and_their_recordings_left_out(utterances):
    Path(utterances[1].audio_filepath).unlink()
    faults: dict[str, DataError] = {}
    batches = load(utterances, [[0, 1, 2], [1], [3]], faults=faults, workers=2)
    assert [batch.ids for batch in batches] == [["u0", "u2"], ["u3"]]
    assert batches[0].waveform_lengths.tolist() == [1600, 800]
    assert batches[0].token_lengths.tolist() == [1, 0]
    assert list(faults) == ["u1"]
    assert "no such file" in str(faults["u1"])


def test_leaving_early_ends_the_threads(utterances):
    loader = BatchLoader(utterances, TARGETS, store=AudioStore(sample_rate=RATE), workers=2)
    batches = loader.batches([[0], [1], [2], [3]] * 10)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_cache_stays_within_its_budget(utterances):
    store = AudioStore(sample_rate=RATE, cache_mb=0)
    store.waveform(utterances[0])
    assert not store._kept
    roomy = AudioStore(sample_rate=RATE, cache_mb=1)
    first = roomy.waveform(utterances[0])
    Path(utterances[0].audio_filepath).unlink()
    assert np.array_equal(first, roomy.waveform(utterances[0]))


def test_evaluation_starts_with_the_longest():
    order = evaluation_order([1.0, 3.0, 2.0], BatchOptions(utterances=1))
    assert order == [[1], [2], [0]]
