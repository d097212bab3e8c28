"""Phone sets: sizes and folding as published, nothing merged but silence."""

import pytest

from asr.errors import DataError, UsageError
from asr.text.phones import ARPABET39, TIMIT39, TIMIT48, TIMIT48_TO_39, TIMIT61, fold_phones, strip_arpabet


def symbols(text: str) -> list[str]:
    return text.split()


def test_sizes():
    assert (len(TIMIT61), len(TIMIT48), len(TIMIT39), len(set(ARPABET39))) == (61, 48, 39, 39)
    assert set(TIMIT39) < set(TIMIT48)


def test_the_seven_groups_that_fall_together():
    """Lee and Hon 1989: within these groups confusions are not counted."""
    groups = {
        "sil": {"cl", "vcl", "epi", "sil"},
        "l": {"el", "l"},
        "n": {"en", "n"},
        "sh": {"sh", "zh"},
        "aa": {"ao", "aa"},
        "ih": {"ih", "ix"},
        "ah": {"ah", "ax"},
    }
    for target, members in groups.items():
        assert {phone for phone in TIMIT48 if TIMIT48_TO_39.get(phone, phone) == target} == members
    assert sum(len(members) - 1 for members in groups.values()) == 48 - 39


def test_folding_a_sentence():
    """SA1's first words: closures become silence, q goes, allophones join their phones."""
    phones = symbols("h# sh ix hv eh dcl jh ih dcl d ah kcl k s ux q en gcl g r iy s ix w aa sh epi axr")
    assert fold_phones(phones, "48") == symbols("sil sh ix hh eh vcl jh ih vcl d ah cl k s uw en vcl g r iy s ix w aa sh epi er")
    folded = symbols("sil sh ih hh eh sil jh ih sil d ah sil k s uw n sil g r iy s ih w aa sh sil er")
    assert fold_phones(phones, "timit39") == folded
    assert fold_phones(fold_phones(phones, "timit48"), "39") == folded
    assert fold_phones(folded, "39") == folded


@pytest.mark.parametrize(
    ("phone", "folded"), [("ax-h", "ah"), ("axr", "er"), ("em", "m"), ("eng", "ng"), ("nx", "n"), ("pau", "sil"), ("bcl", "sil")]
)
def test_single_phones(phone, folded):
    assert fold_phones([phone], "39") == [folded]


def test_only_runs_of_silence_are_merged_and_only_when_asked():
    phones = ["pau", "bcl", "epi", "n", "nx", "en", "tcl", "t", "h#", "q", "h#"]
    assert fold_phones(phones, "39") == ["sil", "sil", "sil", "n", "n", "n", "sil", "t", "sil", "sil"]
    assert fold_phones(phones, "39", merge_silence=True) == ["sil", "n", "n", "n", "sil", "t", "sil"]
    assert fold_phones(["cl", "cl", "sil", "sil"], "48", merge_silence=True) == ["cl", "cl", "sil"]


def test_unknown_phones_and_sets():
    with pytest.raises(DataError, match="not TIMIT phones: AA xx;"):
        fold_phones(["aa", "xx", "AA", "xx"], "39")
    with pytest.raises(UsageError, match='not to "61"'):
        fold_phones(["aa"], "61")


@pytest.mark.parametrize(
    ("phone", "bare"),
    [
        ("AH0_B", "AH"),
        ("AH1", "AH"),
        ("K_E", "K"),
        ("zh", "ZH"),
        ("NG_I", "NG"),
        ("AA2_S", "AA"),
        ("SIL", "SIL"),
        ("SIL_B", "SIL_B"),
        ("AH3", "AH3"),
        ("<unk>", "<unk>"),
    ],
)
def test_stress_and_position_marks_are_dropped(phone, bare):
    assert strip_arpabet(phone) == bare
