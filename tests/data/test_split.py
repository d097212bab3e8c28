"""Shares are seeded, keep speakers apart, and say how they were made."""

import pytest

from asr.data.manifest import Utterance
from asr.data.split import add_valid, carve, shared_speakers, split_utterances
from asr.errors import DataError


def utterances(count: int, speakers: int = 0) -> list[Utterance]:
    return [
        Utterance(f"u{number}", f"/a/{number}.wav", 1.0, speaker=f"s{number % speakers}" if speakers else None)
        for number in range(count)
    ]


def test_carve_gives_the_rounded_share_whatever_the_order():
    keys = [f"k{number}" for number in range(37)]
    assigned = carve(keys, {"valid": 0.1, "test": 0.2}, seed=3)
    assert carve(reversed(keys), {"valid": 0.1, "test": 0.2}, seed=3) == assigned
    assert sorted(assigned) == sorted(keys)
    assert [list(assigned.values()).count(part) for part in ("train", "valid", "test")] == [26, 4, 7]
    assert carve(keys, {"valid": 0.1, "test": 0.2}, seed=4) != assigned


def test_carve_is_the_same_for_ever():
    assert [key for key, part in carve("abcdefghij", {"valid": 0.3}, seed=1).items() if part == "valid"] == ["g", "d", "j"]


def test_a_small_share_is_at_least_one_and_never_all():
    assert list(carve("ab", {"valid": 0.01}, seed=1).values()).count("valid") == 1
    with pytest.raises(DataError, match="only 2 to share out: 1 for valid, 1 for test, which leaves nothing for train"):
        carve("ab", {"valid": 0.1, "test": 0.1}, seed=1)


def test_no_speaker_stands_in_two_parts():
    parts, sentence = split_utterances(utterances(60, speakers=12), {"valid": 0.1, "test": 0.1}, seed=1)
    voices = {part: {item.speaker for item in items} for part, items in parts.items()}
    assert {part: len(names) for part, names in voices.items()} == {"train": 10, "valid": 1, "test": 1}
    assert len(set.union(*voices.values())) == 12
    assert sentence == "split by speaker: valid 10 %, test 10 % of the 12 speakers drawn with seed 1"


@pytest.mark.parametrize(("speakers", "by"), [(0, "auto"), (2, "auto"), (12, "utterance")])
def test_split_by_utterance_where_speakers_are_few_or_it_is_asked(speakers: int, by: str):
    parts, sentence = split_utterances(utterances(60, speakers), {"valid": 0.1, "test": 0.1}, seed=1, by=by)
    assert {part: len(items) for part, items in parts.items()} == {"train": 48, "valid": 6, "test": 6}
    assert "by utterance" in sentence


def test_utterances_without_a_speaker_are_shared_out_one_by_one():
    mixed = [*utterances(20, speakers=4), *(Utterance(f"x{number}", "/a", 1.0) for number in range(6))]
    parts, _ = split_utterances(mixed, {"valid": 0.3}, seed=1, by="speaker")
    assert sum(map(len, parts.values())) == 26
    assert not {item.speaker for item in parts["valid"]} & {item.speaker for item in parts["train"]} - {None}


def test_valid_is_cut_from_train_only_where_it_is_missing():
    given = {"train": utterances(10), "dev": [Utterance("d", "/d", 1.0)]}
    parts, sentence = add_valid(given, 0.2, seed=1)
    assert [(part, len(items)) for part, items in parts.items()] == [("train", 8), ("valid", 2), ("dev", 1)]
    assert sentence.startswith("train, dev as the corpus has them; valid cut from train")
    given["valid"] = [Utterance("v", "/v", 1.0)]
    parts, sentence = add_valid(given, 0.2, seed=1)
    assert len(parts["train"]) == 10
    assert sentence == "train, valid, dev as the corpus has them"


def test_shared_speakers_are_told():
    given = {
        "train": utterances(4, speakers=2),
        "test": [Utterance("t", "/t", 1.0, speaker="s1"), Utterance("q", "/q", 1.0, speaker="z")],
    }
    assert shared_speakers(given) == ["1 of the 2 speakers of test also speak in train"]
