"""TED-LIUM 3 (OpenSLR 51): talks in NIST SPHERE with transcripts in NIST STM; CC BY-NC-ND 3.0.

François Hernandez et al., "TED-LIUM 3: twice as much data and corpus repartition for experiments on speaker adaptation",
SPECOM 2018. Read is its legacy distribution, whose development and test talks are those of the earlier releases.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from asr.data.corpora.corpus import Found, Prepared, check_choice, distinct, expect_folder, measure, of_part, option, read_text
from asr.data.corpora.counts import CountOptions, Size, check_counts
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.errors import DataError

#: Part -> its folder below legacy/.
FOLDERS = {"train": "train", "valid": "dev", "test": "test"}
#: Lines of the transcripts, excluded stretches included (GitHub, tensorflow/datasets, docs/catalog/tedlium.md), and talks (the
#: README of the corpus).
PUBLISHED = {
    "train": Size(utterances=268263, speakers=2351),
    "valid": Size(utterances=591, speakers=8),
    "test": Size(utterances=1469, speakers=11),
}
EXCLUDED = "ignore_time_segment_in_scoring"
UNKNOWN = "<unk>"
#: What stands in a transcript and is no word: silence, noises, the name of the utterance at its end.
MARK = re.compile(r"<sil>|\{[^}\s]*\}|\[[^]\s]*\]|\([^)\s]*-[^)\s]*\)$", re.IGNORECASE)
VARIANT = re.compile(r"(?<=\S)\(\d+\)")
#: Clitics stand apart (it 's, you 're); they belong to the word before them.
CLITIC = re.compile(r" (?='\w)")


@dataclass
class TedliumOptions(CountOptions):
    unknown: str = option(
        "leave-out",
        "training utterances with <unk>, a word that was said and not written down: leave-out, or keep them without it",
        choices=("leave-out", "keep"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "unknown")


@dataclass(frozen=True)
class StmLine:
    """One line of a transcript: RECORDING CHANNEL SPEAKER START END <LABELS> WORDS; times in seconds."""

    recording: str
    speaker: str
    start: float
    end: float
    words: str
    #: 1-based.
    line: int


def prepare(root: Path, options: TedliumOptions) -> Prepared:
    """``root`` is TEDLIUM_release-3 with legacy/ (and data/), or the folder above it. valid is its dev; a speaker is a talk."""
    expect_folder(root, "the folder TEDLIUM_release-3 with legacy/")
    base = next((folder for folder in (root, root / "TEDLIUM_release-3") if (folder / "legacy").is_dir()), None)
    if base is None:
        raise DataError(f"{show_path(root)}: holds no folder legacy; is it TEDLIUM_release-3?")
    problems: list[Problem] = []
    counted: Counter[str] = Counter()
    found: list[Found] = []
    part_of: dict[str, str] = {}
    sizes = {}
    for part in FOLDERS:
        faults: list[Problem] = []
        lines, items = _read_part(base, part, options, counted, faults)
        problems += of_part(faults, part)
        sizes[part] = Size(len(lines), len({line.recording for line in lines}))
        part_of.update((item.utterance.id, part) for item in items)
        found += items
    kept, doubled = distinct(found)
    usable, unreadable, warned = measure(kept)
    problems += doubled + unreadable
    notes = [f"{count:,} {what}" for what, count in counted.items()]
    check_counts(root, sizes, PUBLISHED, options, problems, notes, units=("lines", "talks"))
    parts = {part: [item for item in usable if part_of[item.id] == part] for part in FOLDERS}
    split = "the legacy distribution: train its train, valid its dev, test its test; the talk stands for the speaker"
    return Prepared(parts, split, problems, notes + warned)


def read_stm(path: Path, problems: list[Problem]) -> Iterator[StmLine]:
    """The lines of a NIST STM file (NIST SCTK, stm.5); comments are passed over, a line of another form is a problem."""
    try:
        lines = read_text(path).split("\n")
    except DataError as error:
        problems.append(Problem("unreadable-file", show_path(path), str(error).removeprefix(show_path(path)).lstrip(": ")))
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(";;"):
            continue
        fields = line.split(None, 5)
        try:
            recording, _, speaker, start, end = fields[:5]
            times = float(start), float(end)
        except ValueError:
            fault = f"expected RECORDING CHANNEL SPEAKER START END <LABELS> WORDS, got {line.strip()[:40]!r}"
            problems.append(Problem("bad-line", f"{show_path(path)}:{number}", fault))
            continue
        if not 0 <= times[0] < times[1] < float("inf"):
            fault = f"expected 0 <= start < end, got {times[0]:g} and {times[1]:g} s"
            problems.append(Problem("bad-segment", f"{show_path(path)}:{number}", fault))
            continue
        rest = fields[5] if len(fields) > 5 else ""
        words = rest if not rest.startswith("<") or rest.startswith((UNKNOWN, "<sil>")) else rest.partition(">")[2]
        yield StmLine(recording, speaker, *times, words.strip(), number)


def clean(words: str) -> str:
    """The words alone: without marks of silence and noise and pronunciation variants, clitics joined to their words."""
    return CLITIC.sub("", " ".join(VARIANT.sub("", MARK.sub(" ", words)).split()))


def _read_part(
    base: Path, part: str, options: TedliumOptions, counted: Counter[str], problems: list[Problem]
) -> tuple[list[StmLine], list[Found]]:
    """Every line of the part's transcripts, and the utterances among them."""
    folders = [base / "legacy" / FOLDERS[part], *([base / "data"] if part == "train" else [])]
    texts = _files(folders, "stm")
    talks = _files(folders, "sph")
    for name in sorted(texts.keys() ^ talks.keys()):
        path, lacking = (texts[name], "sph") if name in texts else (talks[name], "stm")
        kind = "missing-file" if lacking == "sph" else "no-transcript"
        problems.append(Problem(kind, show_path(path), f"there is no {lacking}/{name}.{lacking} that belongs to it", id=name))
    lines: list[StmLine] = []
    found = []
    for name, path in sorted(texts.items()):
        for line in read_stm(path, problems):
            if line.recording != name:
                fault = f"the recording is {line.recording!r}, but the file is called {name}"
                problems.append(Problem("bad-line", f"{show_path(path)}:{line.line}", fault))
                continue
            lines.append(line)
            utterance = _utterance(line, part, options, counted)
            if utterance is not None and name in talks:
                utterance = replace(utterance, audio_filepath=os.fspath(talks[name]))
                found.append(Found(utterance, f"{show_path(path)}:{line.line}", part))
    return lines, found


def _utterance(line: StmLine, part: str, options: TedliumOptions, counted: Counter[str]) -> Utterance | None:
    """The utterance of a line; None, and counted, where there is none in it."""
    if line.words.lower() == EXCLUDED:
        counted["stretches left out that the transcripts exclude (ignore_time_segment_in_scoring)"] += 1
        return None
    text = clean(line.words)
    if UNKNOWN in text.split():
        if part == "train" and options.unknown == "leave-out":
            counted["training utterances left out for <unk>, a word not written down (--unknown keep takes them)"] += 1
            return None
        counted[f"utterances of {part} hold <unk>, which was taken out of their text"] += 1
        text = " ".join(word for word in text.split() if word != UNKNOWN)
    if not text and part == "train":
        counted["training utterances left out that hold no word"] += 1
        return None
    name = f"{line.recording}-{round(line.start * 100):07d}-{round(line.end * 100):07d}"
    length = round(line.end - line.start, 6)
    return Utterance(name, "", length, offset=line.start, text=text, speaker=line.recording)


def _files(folders: list[Path], kind: str) -> dict[str, Path]:
    """Name -> file of the first of these folders that has files of this kind; talks of legacy/train may lie in data/ alone."""
    for folder in folders:
        paths = sorted((folder / kind).glob(f"*.{kind}"))
        if paths:
            return {path.stem: path for path in paths}
    return {}
