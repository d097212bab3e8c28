"""Validation counts what it says, and swapped weights come back."""

import pytest
import torch

from asr.scoring.edits import EditCounts
from asr.training.diagnosis import diagnose
from asr.training.validate import Validation, count_pairs, example_places, weights_swapped


def test_edits_are_pooled_over_pairs():
    pairs = [("A B C", "A X C"), ("D", ""), ("E F", "E F G")]
    assert count_pairs(pairs, "phone") == EditCounts(correct=4, substitutions=1, deletions=1, insertions=1)
    assert count_pairs([("ab c", "ab")], "char") == EditCounts(correct=2, deletions=2)


def test_weights_come_back_even_after_a_fault():
    model = torch.nn.Linear(2, 1)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    other = {name: weight + 1 for name, weight in before.items()}
    seen = []

    def use_and_fail():
        with weights_swapped(model, other):
            seen.append(model.weight.detach().clone())
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        use_and_fail()
    assert torch.equal(seen[0], other["weight"])
    assert torch.equal(model.weight, before["weight"])


def result(empty: int) -> Validation:
    return Validation(loss=3.0, symbols=EditCounts(), words=None, blank_fraction=1.0, empty=empty, examples=[])


def test_blank_plateau_is_explained_then_warned_about():
    assert diagnose(1, result(3), utterances=10) is None
    assert "normal" in diagnose(2, result(10), utterances=10)
    assert "optim.learning_rate" in diagnose(5, result(10), utterances=10)


def test_examples_are_the_same_each_time_and_not_every_nth():
    ids = [f"{digit}_{speaker}_{take}" for speaker in "abc" for digit in range(10) for take in range(9)]
    places = example_places(ids)
    assert places == sorted(set(places)) == example_places(ids)
    assert len({ids[place][0] for place in places}) > 1
    assert example_places(ids[:2]) == [0, 1]
    assert example_places([]) == []
