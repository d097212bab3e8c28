"""Counts and alignments: by hand, against a second implementation, and as sums."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UsageError
from asr.scoring.edits import EditCounts, Pair, align, count, count_edits, split_tokens

TOKENS = st.lists(st.sampled_from("abc"), max_size=7)


def edit_distance(reference, hypothesis):
    """Wagner & Fischer 1974, row by row: the referee."""
    row = list(range(len(hypothesis) + 1))
    for i, spoken in enumerate(reference, 1):
        previous, row[0] = row[0], i
        for j, heard in enumerate(hypothesis, 1):
            previous, row[j] = row[j], min(previous + (spoken != heard), row[j] + 1, row[j - 1] + 1)
    return row[-1]


@given(TOKENS, TOKENS)
def test_the_number_of_errors_is_the_edit_distance(reference, hypothesis):
    counts = count(align([reference], [hypothesis])[0])
    assert counts.errors == edit_distance(reference, hypothesis)
    assert counts.reference_tokens == len(reference)
    assert counts.hypothesis_tokens == len(hypothesis)


@given(TOKENS, TOKENS)
def test_an_alignment_spells_both_sides_and_marks_each_column_rightly(reference, hypothesis):
    (alignment,) = align([reference], [hypothesis])
    assert [pair.reference for pair in alignment if pair.reference is not None] == reference
    assert [pair.hypothesis for pair in alignment if pair.hypothesis is not None] == hypothesis
    assert all(pair.reference is not None or pair.hypothesis is not None for pair in alignment)


@given(st.lists(st.tuples(TOKENS, TOKENS), max_size=4))
def test_counts_of_many_are_the_sum_of_the_counts_of_each(pairs):
    pooled = count_edits([(" ".join(left), " ".join(right)) for left, right in pairs], "phone")
    assert pooled.errors == sum(edit_distance(left, right) for left, right in pairs)
    assert pooled.reference_tokens == sum(len(left) for left, _ in pairs)


def test_each_kind_of_error_by_hand():
    assert align([["the", "cat", "sat", "down"]], [["a", "cat", "sat", "there", "down"]]) == [
        (Pair("the", "a"), Pair("cat", "cat"), Pair("sat", "sat"), Pair(None, "there"), Pair("down", "down"))
    ]
    assert count_edits([("a b c d", "a x c")], "word") == EditCounts(correct=2, substitutions=1, deletions=1)
    assert EditCounts(2, 1, 1, 3).error_rate == 5 / 4


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected", "rate"),
    [("", "", EditCounts(), None), ("", "a b", EditCounts(insertions=2), None), ("a", " ", EditCounts(deletions=1), 1.0)],
)
def test_empty_sides_are_defined(reference, hypothesis, expected, rate):
    counts = count_edits([(reference, hypothesis)], "word")
    assert counts == expected
    assert counts.error_rate == rate


def test_characters_count_the_space_between_words_and_no_other_white_space():
    assert split_tokens(" so  it\tis \n", "char") == list("so it is")
    assert split_tokens(" so  it\tis \n", "word") == ["so", "it", "is"]
    assert count_edits([("ab", "a b")], "char") == EditCounts(correct=2, insertions=1)


def test_composed_and_decomposed_letters_are_the_same_text():
    assert split_tokens("cafe\u0301", "char") == split_tokens("caf\u00e9", "char") == list("caf\u00e9")
    assert split_tokens("\uff21", "word") == ["\uff21"], "compatibility forms are not folded"


def test_nothing_else_is_normalised():
    assert count_edits([("It's A", "its a")], "word").substitutions == 2


def test_an_unknown_unit_is_a_usage_error():
    with pytest.raises(UsageError, match="unit must be one of word, char, phone, got 'words'"):
        split_tokens("a", "words")
