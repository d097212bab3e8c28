"""LibriSpeech (OpenSLR 12) and Mini LibriSpeech (OpenSLR 31): English audio books, 16 kHz, FLAC; CC BY 4.0.

Vassil Panayotov et al., "LibriSpeech: an ASR corpus based on public domain audio books", ICASSP 2015. Table 1 there gives hours
and speakers of the seven parts; it has dev-other and test-other the wrong way round (5.3 and 5.1 h; the recordings last 5.1 and
5.3 h, as icefall's statistics of them say too). The utterances are those that the published archives hold; together they are the
292,367 utterances, 2,484 speakers and 982.1 hours that the Montreal Forced Aligner counts (in MontrealCorpusTools/mfa-models,
corpus/english/librispeech_english). Mini LibriSpeech: lhotse's examples (lhotse-speech/lhotse, examples/*.ipynb) find 1,519
utterances, which last 5.3 hours, and 1,089.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asr.data.corpora.corpus import (
    Found,
    Prepared,
    SplitOptions,
    check_choice,
    distinct,
    expect_folder,
    measure,
    of_part,
    option,
    share_out_train,
)
from asr.data.corpora.counts import CountOptions, Size, check_counts, size_of
from asr.data.corpora.kaldi import read_entries
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.errors import DataError

TRAINING = ("train-clean-100", "train-clean-360", "train-other-500")
EVALUATION = ("dev-clean", "dev-other", "test-clean", "test-other")
PUBLISHED = {
    "train-clean-100": Size(utterances=28539, speakers=251, hours=100.6),
    "train-clean-360": Size(utterances=104014, speakers=921, hours=363.6),
    "train-other-500": Size(utterances=148688, speakers=1166, hours=496.7),
    "dev-clean": Size(utterances=2703, speakers=40, hours=5.4),
    "dev-other": Size(utterances=2864, speakers=33, hours=5.1),
    "test-clean": Size(utterances=2620, speakers=40, hours=5.4),
    "test-other": Size(utterances=2939, speakers=33, hours=5.3),
}
MINI = {"train-clean-5": Size(utterances=1519, hours=5.3), "dev-clean-2": Size(utterances=1089)}
#: Which parts each value of --train takes.
HOURS = {"100": TRAINING[:1], "460": TRAINING[:2], "960": TRAINING}
NAME = re.compile(r"(?P<speaker>\d+)-(?P<chapter>\d+)-\d+")


@dataclass
class LibrispeechOptions(CountOptions):
    train: str = option(
        "auto",
        "hours to train on: 100 (train-clean-100), 460 (and train-clean-360), 960 (and train-other-500), auto (all there are)",
        choices=("auto", "100", "460", "960"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "train")


@dataclass
class MiniLibrispeechOptions(CountOptions):
    valid_fraction: float = option(0.1, "share of the training speakers for valid, 0 to 1")
    seed: int = option(1, "seed of the draw of valid")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.split()

    def split(self) -> SplitOptions:
        return SplitOptions(valid_fraction=self.valid_fraction, test_fraction=0.0, seed=self.seed, split_by="speaker")


def prepare(root: Path, options: LibrispeechOptions) -> Prepared:
    """``root`` is the folder LibriSpeech with some of its seven parts, or the one above it.

    train is the training parts together, valid dev-clean and dev-other together; each of the four small parts is a manifest of
    its own name besides. The field ``subset`` says which part an utterance comes from.
    """
    problems: list[Problem] = []
    notes: list[str] = []
    folder = _folder(root, PUBLISHED)
    training = HOURS.get(options.train) or [part for part in TRAINING if (folder / part).is_dir()]
    absent = [part for part in EVALUATION if not (folder / part).is_dir()]
    if absent:
        notes.append(f"{', '.join(absent)}: not there, so there is no such manifest")
    taken = [*training, *(part for part in EVALUATION if part not in absent)]
    parts = _read(root, folder, {part: PUBLISHED[part] for part in taken}, options, problems, notes)
    train = [utterance for part in training for utterance in parts[part]]
    valid = [utterance for part in ("dev-clean", "dev-other") for utterance in parts.get(part, [])]
    split = f"train is {' + '.join(training) or 'empty'}, valid dev-clean + dev-other; the four small parts are manifests, too"
    return Prepared(
        {"train": train, "valid": valid, **{part: parts.get(part, []) for part in EVALUATION}}, split, problems, notes
    )


def prepare_mini(root: Path, options: MiniLibrispeechOptions) -> Prepared:
    """``root`` is the folder LibriSpeech of Mini LibriSpeech, or the one above it: train-clean-5 and dev-clean-2."""
    problems: list[Problem] = []
    notes: list[str] = []
    parts = _read(root, _folder(root, MINI), MINI, options, problems, notes)
    given = {"train": parts["train-clean-5"], "dev": parts["dev-clean-2"]}
    shared, split = share_out_train(given, options.split(), problems, root)
    return Prepared(shared, f"train is train-clean-5, dev is dev-clean-2; {split}", problems, notes)


def _folder(root: Path, known: Sequence[str] | dict[str, Size]) -> Path:
    """The folder that holds the parts: root, or LibriSpeech below it."""
    expect_folder(root, f"the folder LibriSpeech with {', '.join(known)}")
    for folder in (root, root / "LibriSpeech"):
        if any((folder / part).is_dir() for part in known):
            return folder
    raise DataError(
        f"{show_path(root)}: holds none of {', '.join(known)}; unpack the archives there, or name the folder above them"
    )


def _read(
    root: Path, folder: Path, wanted: dict[str, Size], options: CountOptions, problems: list[Problem], notes: list[str]
) -> dict[str, list[Utterance]]:
    """The usable utterances of each part; what is missing, damaged or extra in them becomes a problem."""
    found: list[Found] = []
    for part in wanted:
        name = "train" if part.startswith("train") else "dev" if part in MINI else part
        faults: list[Problem] = []
        found += [replace(item, part=name) for item in scan(folder / part, faults)]
        problems += of_part(faults, name)
    kept, doubled = distinct(found)
    usable, unreadable, warned = measure(kept)
    problems += doubled + unreadable
    notes += warned
    parts = {part: [item for item in usable if item.extra["subset"] == part] for part in wanted}
    named = {part: [item.utterance.speaker for item in kept if item.utterance.extra["subset"] == part] for part in wanted}
    check_counts(root, {part: size_of(named[part], parts[part]) for part in wanted}, wanted, options, problems, notes)
    return parts


def scan(part: Path, problems: list[Problem]) -> Iterator[Found]:
    """The utterances of one part, SPEAKER/CHAPTER/SPEAKER-CHAPTER-0000.flac, with the text of SPEAKER-CHAPTER.trans.txt."""
    for speaker in _numbered(part):
        for chapter in _numbered(speaker):
            names = sorted(os.listdir(chapter))
            listed = f"{speaker.name}-{chapter.name}.trans.txt"
            entries = read_entries(chapter / listed, problems)
            if entries is None and listed not in names:
                problems.append(Problem("missing-file", show_path(chapter / listed), "no such file; the texts stand in it"))
            for name in names:
                key, suffix = os.path.splitext(name)
                if suffix == ".flac" and entries is not None and key not in entries:
                    fault = f"has no line in {listed}, so what is said in it is unknown"
                    problems.append(Problem("no-transcript", show_path(chapter / name), fault, id=key))
            for key, entry in (entries or {}).items():
                where = f"{show_path(chapter / listed)}:{entry.line}"
                match = NAME.fullmatch(key)
                if match is None or (match["speaker"], match["chapter"]) != (speaker.name, chapter.name):
                    fault = f"expected {speaker.name}-{chapter.name}-NUMBER and the text, got {key!r}"
                    problems.append(Problem("bad-line", where, fault, id=key))
                    continue
                path = os.fspath(chapter / f"{key}.flac")
                extra = {"subset": part.name}
                yield Found(Utterance(key, path, 0.0, text=entry.value, speaker=speaker.name, extra=extra), where)


def _numbered(folder: Path) -> list[Path]:
    """The sub-directories whose names are numbers, in numerical order."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()), key=lambda path: int(path.name))
