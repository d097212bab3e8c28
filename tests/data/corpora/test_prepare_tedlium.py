"""TED-LIUM 3 in miniature: whole talks in SPHERE, utterances cut out of them by NIST STM."""

from pathlib import Path

import pytest

from asr.data.corpora import tedlium
from asr.data.corpora.counts import Size
from asr.data.corpora.tedlium import TedliumOptions, clean, prepare, read_stm
from asr.data.manifest import Problem
from asr.errors import DataError, UsageError
from tests.data.corpora.miniature import write_tedlium

TALKS = {"train": ["AlGore_2006", "BillGates_2009"], "dev": ["AlGore_2009"], "test": ["AimeeMullins_2009P"]}
ANY = TedliumOptions(counts="any")


@pytest.fixture(params=[False, True], ids=["legacy", "data"])
def root(request, tmp_path: Path) -> Path:
    """Training talks below legacy/train, or in data/ alone."""
    write_tedlium(tmp_path, TALKS, data_only=request.param)
    return tmp_path


@pytest.fixture
def legacy(tmp_path: Path) -> Path:
    return write_tedlium(tmp_path, TALKS)


def test_parts_times_and_words(root: Path):
    prepared = prepare(root, ANY)
    assert prepared.problems == []
    assert {part: [item.text for item in items] for part, items in prepared.parts.items()} == {
        "train": ["it's a bad cab", "dad fed it"] * 2,
        "valid": ["it's a bad cab", "dad fed it"],
        "test": ["it's a bad cab", "dad fed it"],
    }
    first, second = prepared.parts["valid"]
    assert (first.id, first.speaker, first.offset, first.duration) == ("AlGore_2009-0000112-0000224", "AlGore_2009", 1.12, 1.12)
    assert first.audio_filepath == second.audio_filepath
    assert "4 stretches left out that the transcripts exclude (ignore_time_segment_in_scoring)" in prepared.notes
    assert (root / "TEDLIUM_release-3").is_dir()
    assert prepare(root / "TEDLIUM_release-3", ANY).parts == prepared.parts


def test_unknown_words(legacy: Path):
    """In training they cost the utterance, or the word; what is to be recognised stays, without the word."""
    note = "2 training utterances left out for <unk>, a word not written down (--unknown keep takes them)"
    assert note in prepare(legacy, ANY).notes
    kept = prepare(legacy, TedliumOptions(counts="any", unknown="keep"))
    assert [item.text for item in kept.parts["train"]][2::3] == ["a bead", "a bead"]
    assert "2 utterances of train hold <unk>, which was taken out of their text" in kept.notes
    path = legacy / "legacy" / "test" / "stm" / "AimeeMullins_2009P.stm"
    path.write_text(path.read_text().replace("it 's a bad cab", "a <unk>"))
    prepared = prepare(legacy, ANY)
    assert [item.text for item in prepared.parts["test"]] == ["a", "dad fed it"]
    assert "1 utterances of test hold <unk>, which was taken out of their text" in prepared.notes
    with pytest.raises(UsageError, match="--unknown: expected leave-out or keep, got 'drop'"):
        TedliumOptions(unknown="drop")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("it 's  they 're don 't", "it's they're don't"),
        ("'cause we ' re", "'cause we ' re"),
        ("{NOISE} well <sil> [BREATH] so", "well so"),
        ("read(2) it (2)", "read it (2)"),
        ("thank you (AlGore_2009-0012-0034)", "thank you"),
        ("naïve <unk> café", "naïve <unk> café"),
    ],
)
def test_what_is_no_word_goes(written: str, words: str):
    assert clean(written) == words


def test_stm_lines(tmp_path: Path):
    path = tmp_path / "a.stm"
    path.write_text(
        ";; a comment\n"
        "a 1 s 0.5 1.25 <o,f0,male> good day\n"
        "a 1 s 2 3 <unk> day\n"
        "\n"
        "a 1 s 3 4 <F0_M>\n"
        "a 1 s 5 4 <NA> back\n"
        "a 1 s x 4 <NA> what\n"
        "a 1 s 5\n"
        "a 1 s 6 inf <NA> long\n"
    )
    problems: list[Problem] = []
    lines = list(read_stm(path, problems))
    assert [(line.start, line.end, line.words, line.line) for line in lines] == [
        (0.5, 1.25, "good day", 2),
        (2.0, 3.0, "<unk> day", 3),
        (3.0, 4.0, "", 5),
    ]
    assert [(problem.kind, problem.where.rpartition(":")[2]) for problem in problems] == [
        ("bad-segment", "6"),
        ("bad-line", "7"),
        ("bad-line", "8"),
        ("bad-segment", "9"),
    ]
    assert problems[0].message == "expected 0 <= start < end, got 5 and 4 s"


def test_missing_extra_and_damaged_files_are_named(legacy: Path):
    train, test = legacy / "legacy" / "train", legacy / "legacy" / "test"
    (train / "sph" / "AlGore_2006.sph").unlink()
    whole = (train / "sph" / "BillGates_2009.sph").read_bytes()
    (train / "sph" / "BillGates_2009.sph").write_bytes(whole[: len(whole) // 2])
    (test / "sph" / "Extra_2010.sph").write_bytes(whole)
    path = test / "stm" / "AimeeMullins_2009P.stm"
    path.write_text(path.read_text() + "AimeeMullins_2009P 1 x 99 100 <NA> beyond\nOther_2009 1 x 1 2 <NA> astray\n")
    (legacy / "legacy" / "dev" / "stm" / "AlGore_2009.stm").write_bytes(b"AlGore_2009 1 s 0 1 <NA> caf\xe9\n")
    found = prepare(legacy, ANY).problems
    assert {(problem.kind, Path(problem.where).name, problem.id) for problem in found} == {
        ("missing-file", "AlGore_2006.stm", "AlGore_2006"),
        ("no-transcript", "Extra_2010.sph", "Extra_2010"),
        ("cut-file", "BillGates_2009.stm:2", "BillGates_2009-0000112-0000224"),
        ("cut-file", "BillGates_2009.stm:3", "BillGates_2009-0000224-0000336"),
        ("segment-outside", "AimeeMullins_2009P.stm:4", "AimeeMullins_2009P-0009900-0010000"),
        ("bad-line", "AimeeMullins_2009P.stm:5", None),
        ("unreadable-file", "AlGore_2009.stm", None),
    }


def test_the_counts_are_told(legacy: Path, monkeypatch: pytest.MonkeyPatch):
    found = prepare(legacy, TedliumOptions()).problems
    assert [problem.message.split(";")[0] for problem in found] == [
        "train: found 8 of 268,263 lines, 2 of 2,351 talks",
        "valid: found 3 of 591 lines, 1 of 8 talks",
        "test: found 3 of 1,469 lines, 1 of 11 talks",
    ]
    monkeypatch.setattr(tedlium, "PUBLISHED", {"train": Size(8, 2), "valid": Size(3, 1), "test": Size(3, 1)})
    prepared = prepare(legacy, TedliumOptions())
    assert prepared.problems == []
    assert not any("found" in note for note in prepared.notes)


def test_another_folder_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="holds no folder legacy; is it TEDLIUM_release-3"):
        prepare(tmp_path, ANY)
