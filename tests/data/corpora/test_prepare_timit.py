"""TIMIT in miniature: SPHERE and RIFF, either case of names, phones and words with their times, the usual parts."""

import json
from pathlib import Path

import pytest

from asr.data.corpora import timit
from asr.data.corpora.counts import Size
from asr.data.corpora.timit import CORE_TEST, DEVELOPMENT, TimitOptions, count_phones, prepare, read_labels
from asr.data.manifest import Utterance
from asr.data.prepare import prepare_corpus
from asr.errors import DataError, UsageError
from tests.data.corpora.miniature import timit_labels, tones, write_timit

SPEAKERS = {"TRAIN": ["FCJF0", "MDAC0"], "TEST": ["MDAB0", "FAKS0", "FAEM0"]}
ANY = TimitOptions(counts="any")


@pytest.fixture(params=["disc", "lower", "both", "riff"])
def root(request, tmp_path: Path) -> Path:
    """The folder above TIMIT/, of each kind of copy that is about."""
    write_timit(tmp_path, SPEAKERS, style=request.param)
    return tmp_path


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    return write_timit(tmp_path, SPEAKERS)


def test_the_usual_sets_are_complete():
    """24 and 50 speakers, two men for each woman in the core test set, none in both; the lists are typed, so they are counted."""
    assert (len(CORE_TEST), len(DEVELOPMENT)) == (24, 50)
    assert not CORE_TEST & DEVELOPMENT
    assert sum(name.startswith("F") for name in CORE_TEST) == 8
    assert all(timit.SPEAKER.fullmatch(name) for name in CORE_TEST | DEVELOPMENT)
    assert {part: size.utterances for part, size in timit.PUBLISHED.items()} == {"train": 3696, "valid": 400, "test": 192}
    assert all(size.utterances == 8 * size.speakers for size in timit.PUBLISHED.values())


def test_every_kind_of_copy_gives_the_same_parts(root: Path):
    prepared = prepare(root, ANY)
    assert prepared.problems == []
    assert {part: len(items) for part, items in prepared.parts.items()} == {"train": 8, "valid": 4, "test": 4}
    assert {part: {item.speaker for item in items} for part, items in prepared.parts.items()} == {
        "train": {"FCJF0", "MDAC0"},
        "valid": {"FAKS0"},
        "test": {"MDAB0"},
    }
    assert not any("_SA" in item.id for items in prepared.parts.values() for item in items)
    utterance = next(item for item in prepared.parts["test"] if item.id == "MDAB0_SI943")
    labels = timit_labels("she had a zoo")
    assert utterance.text == "she had a zoo"
    assert utterance.phones == "h# sh iy pau hv ae dcl d ax z ux h#" == " ".join(symbol for _, _, symbol in labels["PHN"])
    assert utterance.duration == len(tones(utterance.phones.split())) / 16000
    extra = utterance.extra
    assert (extra["dialect"], extra["sex"], extra["prompt"]) == ("DR1", "M", "She had a zoo.")
    assert extra["phone_segments"] == [[start / 16000, end / 16000, symbol] for start, end, symbol in labels["PHN"]]
    assert [segment[2] for segment in extra["word_segments"]] == ["she", "had", "a", "zoo"]
    assert extra["word_segments"][0][:2] == [0.08, 0.24]


def test_any_folder_above_will_do(disc: Path):
    deep = disc.parent / "LDC93S1" / "data"
    deep.mkdir(parents=True)
    disc.rename(deep / "timit")
    assert prepare(disc.parent, ANY).parts == prepare(deep / "timit", ANY).parts


def test_the_counts_are_told(disc: Path):
    prepared = prepare(disc, TimitOptions())
    assert [(problem.kind, problem.message.split(";")[0]) for problem in prepared.problems] == [
        ("wrong-count", "train: found 8 of 3,696 utterances, 2 of 462 speakers"),
        ("wrong-count", "valid: found 4 of 400 utterances, 1 of 50 speakers"),
        ("wrong-count", "test: found 4 of 192 utterances, 1 of 24 speakers"),
    ]
    assert all("--counts any" in problem.message for problem in prepared.problems)
    notes = prepare(disc, ANY).notes
    assert "train: found 8 of 3,696 utterances, 2 of 462 speakers, so numbers on it cannot be compared with others'" in notes
    assert "10 sa sentences left out, for every speaker reads the same two" in notes
    assert "4 sentences of TEST are not used: their speakers (1) are in neither set" in notes
    with pytest.raises(UsageError, match="--counts: expected exact or any, got 'some'"):
        TimitOptions(counts="some")


def test_a_complete_copy_has_nothing_to_tell(disc: Path, monkeypatch: pytest.MonkeyPatch):
    sizes = {"train": Size(8, 2), "valid": Size(4, 1), "test": Size(4, 1)}
    monkeypatch.setattr(timit, "PUBLISHED", sizes)
    monkeypatch.setattr(timit, "SENTENCES", 4)
    prepared = prepare(disc, TimitOptions())
    assert prepared.problems == []
    assert [note for note in prepared.notes if "found" in note or "another number" in note] == []
    (disc / "TRAIN" / "DR1" / "FCJF0" / "SX133.WAV").unlink()
    (missing,) = prepare(disc, TimitOptions()).problems  # one of eight is named; the count, of utterances with any file, is right
    assert (missing.kind, missing.id) == ("missing-file", "FCJF0_SX133")
    for kind in ("PHN", "WRD", "TXT"):
        (disc / "TRAIN" / "DR1" / "FCJF0" / f"SX133.{kind}").unlink()
    prepared = prepare(disc, TimitOptions())
    assert [problem.message.split(";")[0] for problem in prepared.problems] == ["train: found 7 of 8 utterances"]
    assert "speakers with another number of SI and SX sentences than 4: 1: FCJF0 (3)" in prepared.notes


def test_phones_are_counted_under_each_convention(disc: Path):
    """By hand, the test sentences: 47 labels, 3 of them glottal stops; kcl and tcl meet twice."""
    notes = prepare(disc, ANY).notes
    assert "test: 47 phones of the set of 61, 44 of 48, 44 of 39, 42 of 39 with each run of silences as one" in notes
    phones = "h# pau ae q kcl tcl t h#"
    told = count_phones("test", [Utterance("a", "", 0.0, phones=phones), Utterance("b", "", 0.0, phones=phones)])
    assert told == "test: 16 phones of the set of 61, 14 of 48, 14 of 39, 10 of 39 with each run of silences as one"


def test_missing_extra_and_damaged_files_are_named(disc: Path):
    home = disc / "TRAIN" / "DR1" / "FCJF0"
    (home / "SI943.PHN").unlink()
    whole = (home / "SX223.WAV").read_bytes()
    (home / "SX223.WAV").write_bytes(whole[: len(whole) // 2])
    (home / "XX1.WAV").write_bytes(whole)
    (home / "sx133.wav").write_bytes(whole)
    (disc / "TRAIN" / "DR1" / "MDAB0").mkdir()
    (disc / "TEST" / "DR9").mkdir()
    (disc / "TEST" / "DR9" / "SX1.PHN").write_text("0 1 h#\n")
    (disc / "TEST" / "NOTES").mkdir()
    found = prepare(disc, ANY).problems
    assert {(problem.kind, problem.where.removeprefix(f"{disc}/"), problem.id) for problem in found} == {
        ("missing-file", "TRAIN/DR1/FCJF0", "FCJF0_SI943"),
        ("cut-file", "TRAIN/DR1/FCJF0/SX223.WAV", "FCJF0_SX223"),
        ("unexpected-name", "TRAIN/DR1/FCJF0/XX1.WAV", None),
        ("ambiguous", "TRAIN/DR1/FCJF0/sx133.wav", None),
        ("misplaced", "TRAIN/DR1/MDAB0", None),
        ("unexpected-name", "TEST/DR9", None),
    }
    messages = {problem.id: problem.message for problem in found}
    assert messages["FCJF0_SI943"] == "there is no .PHN file of SI943 beside SI943.TXT"
    assert f"the SPHERE header promises {len(whole) - 1024} bytes" in messages["FCJF0_SX223"]


@pytest.mark.parametrize(
    ("lines", "kind", "message"),
    [
        ("0 100 h#\n100 200 zz\n", "unknown-phone", "zz is none of the 61 phones"),
        ("0 100 h#\n100 sh\n", "bad-label", "expected START END SYMBOL, got '100 sh'"),
        ("0 100 h#\n200 150 sh\n", "bad-label", "expected 0 <= START < END, got 200 and 150"),
        ("50 100 h#\n10 150 sh\n", "bad-label", "expected 50 <= START < END, got 10 and 150"),
        ("\n", "bad-label", "is empty; expected lines START END SYMBOL"),
    ],
)
def test_damaged_labels_are_named_with_their_line(disc: Path, lines: str, kind: str, message: str):
    path = disc / "TEST" / "DR1" / "MDAB0" / "SX133.PHN"
    path.write_text(lines)
    (problem,) = prepare(disc, ANY).problems
    assert (problem.kind, problem.id) == (kind, "MDAB0_SX133")
    assert message in problem.message
    assert problem.where.startswith(str(path))
    assert problem.where == str(path) or problem.where.endswith(":2")


def test_words_may_overlap(disc: Path):
    path = disc / "TEST" / "DR1" / "MDAB0" / "SX133.WRD"
    path.write_text("1280 5000 a\n1000 7680 zoo\n7680 9000 act\n")
    prepared = prepare(disc, ANY)
    assert prepared.problems == []
    assert next(item for item in prepared.parts["test"] if item.id == "MDAB0_SX133").text == "a zoo act"


def test_labels_with_dos_line_ends(tmp_path: Path):
    (tmp_path / "a.phn").write_bytes(b"0 100 h#\r\n100 220 she had\r\n")
    labels = read_labels(tmp_path / "a.phn")
    assert [(label.start, label.end, label.symbol) for label in labels] == [(0, 100, "h#"), (100, 220, "she had")]
    assert labels[1].seconds() == [0.00625, 0.01375, "she had"]


def test_without_words_the_sentence_is_the_text(disc: Path):
    for path in disc.rglob("*.WRD"):
        path.unlink()
    prepared = prepare(disc, ANY)
    assert prepared.problems == []
    assert prepared.parts["test"][0].text == "Act oily."
    assert "word_segments" not in prepared.parts["test"][0].extra
    assert "there is no .WRD file, so the fields made of it are missing" in prepared.notes


def test_labels_that_go_on_are_noted(disc: Path):
    path = disc / "TEST" / "DR1" / "MDAB0" / "SX133.PHN"
    path.write_text(path.read_text().rsplit("\n", 2)[0] + "\n12800 99999 h#\n")
    prepared = prepare(disc, ANY)
    assert prepared.problems == []
    assert "the phones of 1 recordings go on after their end: MDAB0_SX133" in prepared.notes


def test_another_folder_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="holds no folders TRAIN and TEST"):
        prepare(tmp_path, ANY)
    for half in ("TRAIN", "TEST"):
        (tmp_path / half / "DR1" / "FCJF0").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no SI or SX sentence"):
        prepare(tmp_path, ANY)


def test_times_stand_in_the_manifest(disc: Path, tmp_path: Path):
    prepare_corpus("timit", disc, tmp_path / "out", ANY)
    line = json.loads((tmp_path / "out" / "test.jsonl").read_text().splitlines()[0])
    assert line["phone_segments"][0] == [0.0, 0.08, "h#"]
    assert line["word_segments"][0] == [0.08, 0.48, "act"]
    with pytest.raises(DataError, match="wrong-count"):
        prepare_corpus("timit", disc, tmp_path / "exact", TimitOptions(), on_bad="skip")
