"""TIMIT (LDC93S1): 630 Americans read ten sentences each; phones and words with their times. Not free: catalog.ldc.upenn.edu.

The parts are those of most publications: 462 speakers to train on, a development set of 50 and the core test set of 24, all
without the two sa sentences that every speaker reads. The core test set stands in the corpus's own ``doc/testset.doc``; the
development set is the one of Halberstadt's thesis (MIT, 1998) as the Kaldi recipe lists it (egs/timit/s5/conf/dev_spk.list and
test_spk.list, of which these two lists are equal copies).
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.data.corpora.corpus import Found, Prepared, expect_folder, measure, read_text, some
from asr.data.corpora.counts import CountOptions, Size, check_counts, size_of
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.errors import DataError
from asr.text.phones import TIMIT61, fold_phones

RATE_HZ = 16000


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Two men and one woman of each of the eight dialect regions.
CORE_TEST = _names(
    "MDAB0 MWBT0 FELC0 MTAS1 MWEW0 FPAS0 MJMP0 MLNT0 FPKT0 MLLL0 MTLS0 FJLM0 "
    "MBPM0 MKLT0 FNLP0 MCMJ0 MJDH0 FMGD0 MGRT0 MNJM0 FDHC0 MJLN0 MPAM0 FMLD0"
)
DEVELOPMENT = _names(
    "FADG0 FAKS0 FCAL1 FCMH0 FDAC1 FDMS0 FDRW0 FEDW0 FGJD0 FJEM0 FJMG0 FJSJ0 FKMS0 FMAH0 FMML0 FNMR0 FREW0 "
    "FSEM0 MAJC0 MBDG0 MBNS0 MBWM0 MCSH0 MDLF0 MDLS0 MDVC0 MERS0 MGJF0 MGLB0 MGWT0 MJAR0 MJFC0 MJSW0 MMDB1 "
    "MMDM2 MMJR0 MMWH0 MPDF0 MRCS0 MREB0 MRJM4 MRJR0 MROA0 MRTK0 MRWS1 MTAA0 MTDT0 MTEB0 MTHC0 MWJG0"
)
PUBLISHED = {
    "train": Size(utterances=3696, speakers=462),
    "valid": Size(utterances=400, speakers=50),
    "test": Size(utterances=192, speakers=24),
}
#: SI and SX sentences of a speaker.
SENTENCES = 8
#: What a copy holds of each utterance; the times are those of the phones (.PHN), the words (.WRD) and the sentence (.TXT).
KINDS = ("WAV", "PHN", "WRD", "TXT")
#: Copies of later years have ``SA1.WAV.wav`` (RIFF) beside ``SA1.WAV`` (NIST SPHERE), or in its place.
NAME = re.compile(r"(?P<sentence>S[AIX]\d+)\.(?P<kind>WAV|PHN|WRD|TXT)(?P<riff>\.WAV)?", re.IGNORECASE)
SPEAKER = re.compile(r"[FM][A-Z]{3}\d", re.IGNORECASE)
DIALECT = re.compile(r"DR[1-8]", re.IGNORECASE)
#: Labels may end this much after the recording (s) without a word about it.
LABEL_TOLERANCE = 0.05
SPLIT = (
    "train is TRAIN, valid the 50 speakers of the usual development set, test the 24 speakers of the core test set, "
    "all without the sa sentences"
)


@dataclass
class TimitOptions(CountOptions):
    """The parts are fixed; only an incomplete copy leaves a choice."""


@dataclass(frozen=True)
class Label:
    """What is said from one sample to another (16 kHz)."""

    start: int
    end: int
    symbol: str

    def seconds(self) -> list[Any]:
        """``[start (s), end (s), symbol]``, as the manifest has it."""
        return [self.start / RATE_HZ, self.end / RATE_HZ, self.symbol]


@dataclass(frozen=True)
class Sentence:
    """The files of one utterance, by kind."""

    half: str
    dialect: str
    speaker: str
    sentence: str
    files: dict[str, Path]

    @property
    def id(self) -> str:
        return f"{self.speaker}_{self.sentence}"

    @property
    def part(self) -> str:
        """train, valid or test; empty for the test speakers that stand in none of the usual sets."""
        if self.half == "TRAIN":
            return "train"
        return "valid" if self.speaker in DEVELOPMENT else "test" if self.speaker in CORE_TEST else ""


def prepare(root: Path, options: TimitOptions) -> Prepared:
    """``root`` holds TRAIN/ and TEST/, directly or a few folders down; names in either case, audio NIST SPHERE or RIFF.

    ``phones`` are the 61 symbols of .PHN, ``text`` the words of .WRD. Further fields of the manifest: ``phone_segments`` and
    ``word_segments`` (lists of [start s, end s, symbol]), ``prompt`` (the sentence of .TXT), ``dialect``, ``sex``.
    """
    expect_folder(root, "the TIMIT corpus with TRAIN/ and TEST/")
    problems: list[Problem] = []
    notes: list[str] = []
    sentences = [item for half, folder in _halves(root).items() for item in scan(half, folder, problems, notes)]
    spoken = [item for item in sentences if not item.sentence.startswith("SA")]
    used = [item for item in spoken if item.part]
    if not used:
        raise DataError(f"{show_path(root)}: holds no SI or SX sentence of a speaker of TIMIT; is it the corpus's folder?")
    notes.append(f"{len(sentences) - len(spoken):,} sa sentences left out, for every speaker reads the same two")
    notes += _incomplete(used, len(spoken) - len(used), {item.speaker for item in spoken if not item.part})
    kinds = [kind for kind in KINDS if any(kind in item.files for item in used) or kind in ("WAV", "PHN")]
    notes += [f"there is no .{kind} file, so the fields made of it are missing" for kind in KINDS if kind not in kinds]
    part_of = {item.id: item.part for item in used}
    found = [complete for item in used if (complete := _complete(item, kinds, problems)) is not None]
    usable, unreadable, warned = measure(found)
    problems += unreadable
    parts = {part: [item for item in usable if part_of[item.id] == part] for part in PUBLISHED}
    sizes = {part: size_of([item.speaker for item in used if item.part == part], parts[part]) for part in parts}
    check_counts(root, sizes, PUBLISHED, options, problems, notes)
    notes += _late_labels(usable) + [count_phones(part, items) for part, items in parts.items() if items]
    return Prepared(parts, SPLIT, problems, notes + warned)


def _incomplete(used: list[Sentence], unused: int, others: set[str]) -> list[str]:
    """Notes about speakers without all of their sentences, and about those that no part takes."""
    notes = []
    counts = Counter(item.speaker for item in used)
    odd = [f"{speaker} ({count})" for speaker, count in sorted(counts.items()) if count != SENTENCES]
    if odd:
        notes.append(f"speakers with another number of SI and SX sentences than {SENTENCES}: {len(odd)}: {some(odd)}")
    if others:
        notes.append(f"{unused:,} sentences of TEST are not used: their speakers ({len(others)}) are in neither set")
    return notes


def count_phones(part: str, utterances: list[Utterance]) -> str:
    """How many phones a part has under each convention; error rates compare only where these numbers are the same."""
    labels = [(utterance.phones or "").split() for utterance in utterances]
    merged = sum(len(fold_phones(phones, "39", merge_silence=True)) for phones in labels)
    counts = [
        ("phones of the set of 61", sum(map(len, labels))),
        ("of 48", sum(len(fold_phones(phones, "48")) for phones in labels)),
        ("of 39", sum(len(fold_phones(phones, "39")) for phones in labels)),
        ("of 39 with each run of silences as one", merged),
    ]
    return f"{part}: " + ", ".join(f"{count:,} {convention}" for convention, count in counts)


def read_labels(path: Path, *, in_order: bool = True) -> list[Label]:
    """The lines ``START END SYMBOL`` of a label file, in samples; DataError naming the line for one that is none of these.

    ``in_order``: no line starts before the one above it, as phones do; words of TIMIT may overlap.
    """
    labels: list[Label] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        fields = line.split(None, 2)
        if len(fields) < 3 or not (fields[0].isdecimal() and fields[1].isdecimal()):
            raise DataError(f"{show_path(path)}:{number}: expected START END SYMBOL, got {line.strip()[:40]!r}")
        label = Label(int(fields[0]), int(fields[1]), fields[2].strip())
        before = labels[-1].start if labels and in_order else 0
        if not before <= label.start < label.end:
            fault = f"expected {before} <= START < END, got {label.start} and {label.end}"
            raise DataError(f"{show_path(path)}:{number}: {fault}")
        labels.append(label)
    if not labels:
        raise DataError(f"{show_path(path)}: is empty; expected lines START END SYMBOL")
    return labels


def _halves(root: Path) -> dict[str, Path]:
    """TRAIN and TEST below root, at most three folders down, whatever the case of their names."""
    for folder, folders, _ in os.walk(root, followlinks=True):
        by_name = {name.upper(): name for name in sorted(folders, reverse=True)}
        if "TRAIN" in by_name and "TEST" in by_name:
            return {half: Path(folder, by_name[half]) for half in ("TRAIN", "TEST")}
        folders[:] = sorted(folders) if len(Path(folder).relative_to(root).parts) < 3 else []
    raise DataError(f"{show_path(root)}: holds no folders TRAIN and TEST, in capitals or not; is it the TIMIT corpus?")


def scan(half: str, folder: Path, problems: list[Problem], notes: list[str]) -> Iterator[Sentence]:
    """Every utterance of TRAIN or TEST with its files; recordings of other names, and one file in two cases, become problems."""
    doubled = 0
    for dialect in _folders(folder, DIALECT, problems):
        for speaker in _folders(dialect, SPEAKER, problems):
            sentences: dict[str, dict[str, Path]] = {}
            name = speaker.name.upper()
            if half == "TRAIN" and name in CORE_TEST | DEVELOPMENT:
                problems.append(Problem("misplaced", show_path(speaker), f"{name} is a speaker of TEST, not of TRAIN"))
            for path in sorted(speaker.iterdir()):
                match = NAME.fullmatch(path.name)
                if match is None:
                    if path.suffix.lower() == ".wav":
                        fault = "the name is not SA, SI or SX and a number, so it is no sentence of TIMIT"
                        problems.append(Problem("unexpected-name", show_path(path), fault))
                    continue
                files = sentences.setdefault(match["sentence"].upper(), {})
                kind = match["kind"].upper() + (".WAV" if match["riff"] else "")
                if kind in files:
                    fault = f"stands beside {files[kind].name}; keep one of the two"
                    problems.append(Problem("ambiguous", show_path(path), fault))
                files.setdefault(kind, path)
            for sentence, files in sorted(sentences.items()):
                riff = files.pop("WAV.WAV", None)
                doubled += riff is not None and "WAV" in files
                yield Sentence(half, dialect.name.upper(), name, sentence, files if riff is None else {"WAV": riff, **files})
    if doubled:
        notes.append(f"{half}: {doubled:,} recordings stand there twice; NAME.WAV was taken, NAME.WAV.wav was not")


def _folders(folder: Path, pattern: re.Pattern[str], problems: list[Problem]) -> Iterator[Path]:
    """The folders whose names fit; another one that holds files of an utterance is a problem."""
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        if pattern.fullmatch(path.name):
            yield path
        elif any(NAME.fullmatch(name) for _, _, names in os.walk(path) for name in names):
            what = (
                "a dialect region (DR1 to DR8)" if pattern is DIALECT else "a speaker of TIMIT (F or M, three letters, a digit)"
            )
            problems.append(Problem("unexpected-name", show_path(path), f"holds sentences, but its name is not that of {what}"))


def _complete(item: Sentence, kinds: list[str], problems: list[Problem]) -> Found | None:
    """The utterance with its phones, words and times; None where a file is missing or cannot be used, which is a problem."""
    lacking = [kind for kind in kinds if kind not in item.files]
    for kind in lacking:
        there = next(iter(item.files.values()))
        fault = f"there is no .{kind} file of {item.sentence} beside {there.name}"
        problems.append(Problem("missing-file", show_path(there.parent), fault, id=item.id, part=item.part))
    if lacking:
        return None
    try:
        labels = {kind: read_labels(item.files[kind], in_order=kind == "PHN") for kind in kinds if kind != "WAV"}
    except DataError as error:
        place, _, fault = str(error).partition(": ")
        problems.append(Problem("bad-label", place, fault, id=item.id, part=item.part))
        return None
    phones, words = labels["PHN"], labels.get("WRD")
    foreign = sorted({label.symbol for label in phones} - set(TIMIT61))
    if foreign:
        fault = f"{some(foreign)} is none of the 61 phones of TIMIT"
        problems.append(Problem("unknown-phone", show_path(item.files["PHN"]), fault, id=item.id, part=item.part))
        return None
    extra: dict[str, Any] = {"dialect": item.dialect, "sex": item.speaker[0]}
    prompt = " ".join(labels["TXT"][0].symbol.split()) if "TXT" in labels else None
    if prompt is not None:
        extra["prompt"] = prompt
    extra["phone_segments"] = [label.seconds() for label in phones]
    if words is not None:
        extra["word_segments"] = [label.seconds() for label in words]
    text = prompt if words is None else " ".join(label.symbol for label in words)
    symbols = " ".join(label.symbol for label in phones)
    utterance = Utterance(
        item.id, os.fspath(item.files["WAV"]), 0.0, text=text, phones=symbols, speaker=item.speaker, extra=extra
    )
    return Found(utterance, show_path(item.files["WAV"]), item.part)


def _late_labels(utterances: list[Utterance]) -> list[str]:
    """A note about labels that go on after their recording has ended."""
    late = [item.id for item in utterances if item.extra["phone_segments"][-1][1] > item.duration + LABEL_TOLERANCE]
    return [f"the phones of {len(late)} recordings go on after their end: {some(late)}"] if late else []
