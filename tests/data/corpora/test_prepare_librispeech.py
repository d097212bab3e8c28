"""LibriSpeech and Mini LibriSpeech in miniature: seven parts of FLAC, texts by chapter, published counts."""

from pathlib import Path

import pytest
import soundfile

from asr.data.corpora import librispeech
from asr.data.corpora.counts import Size, differences
from asr.data.corpora.librispeech import LibrispeechOptions, MiniLibrispeechOptions, prepare, prepare_mini
from asr.data.prepare import prepare_corpus
from asr.errors import DataError, UsageError
from tests.data.corpora.miniature import write_librispeech

SEVEN = {
    "train-clean-100": [19, 103],
    "train-clean-360": [14],
    "train-other-500": [20],
    "dev-clean": [84],
    "dev-other": [116],
    "test-clean": [61],
    "test-other": [367],
}
ANY = LibrispeechOptions(counts="any")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_librispeech(tmp_path, SEVEN)
    return tmp_path


def test_the_published_sizes():
    assert set(librispeech.PUBLISHED) == set(SEVEN)
    assert sum(librispeech.PUBLISHED[part].utterances for part in librispeech.TRAINING) == 281_241
    assert round(sum(librispeech.PUBLISHED[part].hours for part in librispeech.TRAINING)) == 961
    assert sum(size.speakers for size in librispeech.PUBLISHED.values()) == 2484


def test_all_seven_parts(root: Path):
    prepared = prepare(root, ANY)
    assert prepared.problems == []
    assert {part: len(items) for part, items in prepared.parts.items()} == {
        "train": 8,
        "valid": 4,
        "dev-clean": 2,
        "dev-other": 2,
        "test-clean": 2,
        "test-other": 2,
    }
    assert {item.extra["subset"] for item in prepared.parts["valid"]} == {"dev-clean", "dev-other"}
    first = prepared.parts["train"][0]
    assert (first.id, first.text, first.speaker) == ("19-1019-0000", "A BAD CAB", "19")
    assert first.audio_filepath == str(root / "LibriSpeech/train-clean-100/19/1019/19-1019-0000.flac")
    assert first.duration == soundfile.info(first.audio_filepath).frames / 16000
    assert prepare(root / "LibriSpeech", ANY).parts == prepared.parts


@pytest.mark.parametrize(
    ("hours", "speakers"), [("100", {"19", "103"}), ("460", {"19", "103", "14"}), ("960", {"19", "103", "14", "20"})]
)
def test_so_many_hours_to_train_on(root: Path, hours: str, speakers: set[str]):
    prepared = prepare(root, LibrispeechOptions(counts="any", train=hours))
    assert {item.speaker for item in prepared.parts["train"]} == speakers
    with pytest.raises(UsageError, match="--train: expected auto or 100 or 460 or 960, got '500'"):
        LibrispeechOptions(train="500")


def test_some_of_the_parts(tmp_path: Path):
    """What is there is used, what is not is noted; a training part that was asked for is missed."""
    write_librispeech(tmp_path, {"train-clean-100": [19], "dev-clean": [84]})
    prepared = prepare(tmp_path, ANY)
    assert {part for part, items in prepared.parts.items() if items} == {"train", "valid", "dev-clean"}
    assert "dev-other, test-clean, test-other: not there, so there is no such manifest" in prepared.notes
    found = prepare(tmp_path, LibrispeechOptions(train="460")).problems
    assert [problem.message.split(";")[0] for problem in found] == [
        "train-clean-100: found 2 of 28,539 utterances, 1 of 251 speakers",
        "train-clean-360: found 0 of 104,014 utterances, 0 of 921 speakers",
        "dev-clean: found 2 of 2,703 utterances, 1 of 40 speakers",
    ]


def test_a_complete_copy_has_nothing_to_tell(root: Path, monkeypatch: pytest.MonkeyPatch):
    sizes = {part: Size(2 * len(speakers), len(speakers)) for part, speakers in SEVEN.items()}
    monkeypatch.setattr(librispeech, "PUBLISHED", sizes)
    prepared = prepare(root, LibrispeechOptions())
    assert (prepared.problems, prepared.notes) == ([], [])
    monkeypatch.setitem(sizes, "dev-clean", Size(2, 1, hours=5.4))
    assert [problem.message.split(";")[0] for problem in prepare(root, LibrispeechOptions()).problems] == [
        "dev-clean: found 0.0 of 5.4 h"
    ]


def test_hours_are_compared_as_they_are_rounded():
    assert differences(Size(1, 0, 5.44), Size(1, 0, 5.4)) == ""
    assert differences(Size(1, 0, 5.3), Size(1, 0, 5.4)) == "found 5.3 of 5.4 h"
    assert differences(Size(1, 0, 496.9), Size(1, 0, 496.7)) == ""
    assert differences(Size(1, 0, 0.0), Size(1, 0, 496.7)) == "", "hours are not known where a recording cannot be read"


def test_missing_extra_and_damaged_files_are_named(root: Path):
    home = root / "LibriSpeech" / "train-clean-100" / "19" / "1019"
    other = root / "LibriSpeech" / "dev-clean" / "84" / "1084"
    (home / "19-1019-0000.flac").unlink()
    (home / "19-1019-0009.flac").write_bytes((home / "19-1019-0001.flac").read_bytes())
    whole = (other / "84-1084-0001.flac").read_bytes()
    (other / "84-1084-0001.flac").write_bytes(whole[: len(whole) // 2])
    with (other / "84-1084.trans.txt").open("a") as listed:
        listed.write("84-9999-0000 LOST\n84-1084-0000 AGAIN\n")
    (root / "LibriSpeech" / "test-clean" / "61" / "1061" / "61-1061.trans.txt").unlink()
    found = prepare(root, ANY).problems
    assert {(problem.kind, problem.id) for problem in found} == {
        ("missing-file", "19-1019-0000"),
        ("no-transcript", "19-1019-0009"),
        ("cut-file", "84-1084-0001"),
        ("bad-line", "84-9999-0000"),
        ("duplicate-id", "84-1084-0000"),
        ("missing-file", None),
    }
    places = {problem.id: problem.where for problem in found}
    assert places["19-1019-0000"] == f"{home / '19-1019.trans.txt'}:1"
    assert places["19-1019-0009"] == str(home / "19-1019-0009.flac")
    assert places[None] == str(root / "LibriSpeech/test-clean/61/1061/61-1061.trans.txt")


def test_parts_of_other_names_become_manifests_and_go_again(root: Path, tmp_path: Path):
    out = tmp_path / "out"
    prepare_corpus("librispeech", root, out, ANY)
    manifests = {"train", "valid", "dev-clean", "dev-other", "test-clean", "test-other"}
    assert {path.stem for path in out.glob("*.jsonl")} == manifests
    (root / "LibriSpeech" / "test-other").rename(tmp_path / "away")
    again = prepare_corpus("librispeech", root, out, ANY)
    assert {path.stem for path in out.glob("*.jsonl")} == manifests - {"test-other"}
    assert "test-other.jsonl of an earlier preparation removed: there is no part test-other now" in again.notes


def test_mini(tmp_path: Path):
    write_librispeech(tmp_path, {"train-clean-5": [19, 26, 32], "dev-clean-2": [84]})
    prepared = prepare_mini(tmp_path, MiniLibrispeechOptions(counts="any"))
    assert {part: len({item.speaker for item in items}) for part, items in prepared.parts.items()} == {
        "train": 2,
        "valid": 1,
        "dev": 1,
    }
    assert prepared.problems == []
    assert {item.extra["subset"] for item in prepared.parts["dev"]} == {"dev-clean-2"}
    found = prepare_mini(tmp_path, MiniLibrispeechOptions()).problems
    assert [problem.message.split(";")[0] for problem in found] == [
        "train-clean-5: found 6 of 1,519 utterances",
        "dev-clean-2: found 2 of 1,089 utterances",
    ]
    with pytest.raises(UsageError, match="--valid-fraction"):
        MiniLibrispeechOptions(valid_fraction=1.5)


def test_another_folder_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="holds none of train-clean-100, train-clean-360"):
        prepare(tmp_path, ANY)
    with pytest.raises(DataError, match="holds none of train-clean-5, dev-clean-2"):
        prepare_mini(tmp_path, MiniLibrispeechOptions())
