"""LJ Speech 1.1: 13,100 sentences of books read by one woman, 22.05 kHz; keithito.com/LJ-Speech-Dataset, public domain."""

import os
from dataclasses import dataclass
from pathlib import Path

from asr.data.corpora.corpus import (
    Found,
    Prepared,
    SplitOptions,
    check_choice,
    distinct,
    expect_folder,
    measure,
    option,
    read_text,
    share_out,
)
from asr.data.corpora.counts import CountOptions, Size, check_counts, size_of
from asr.data.corpora.wording import plain, text_option
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance

#: As its page (keithito.com/LJ-Speech-Dataset) says: 13,100 clips, 23:55:17 in all.
PUBLISHED = {"the corpus": Size(utterances=13100, hours=23.92)}
TABLE = "metadata.csv"
SPEAKER = "LJ"


@dataclass
class LjspeechOptions(CountOptions):
    text: str = text_option()
    valid_fraction: float = option(0.05, "share of the sentences for valid, 0 to 1")
    test_fraction: float = option(0.05, "share of the sentences for test, 0 to 1")
    seed: int = option(1, "seed of the draw")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "text")
        self.split()

    def split(self) -> SplitOptions:
        return SplitOptions(self.valid_fraction, self.test_fraction, self.seed, split_by="utterance")


def prepare(root: Path, options: LjspeechOptions) -> Prepared:
    """``root`` is LJSpeech-1.1 with metadata.csv and wavs/. The text is the third column: abbreviations and numbers in words."""
    expect_folder(root, f"the folder LJSpeech-1.1 with {TABLE} and wavs/")
    problems: list[Problem] = []
    notes: list[str] = []
    found = _read_table(root, options, problems)
    _name_strays(root, {item.utterance.id for item in found}, problems)
    kept, doubled = distinct(found)
    usable, unreadable, warned = measure(kept)
    problems += doubled + unreadable
    size = size_of([item.utterance.speaker for item in kept], usable)
    check_counts(root, {"the corpus": size}, PUBLISHED, options, problems, notes)
    if options.text == "plain":
        notes.append("texts in small letters and without punctuation (--text raw keeps them)")
    notes.append("one speaker: numbers on it say nothing about other voices")
    parts, split = share_out(usable, options.split(), problems, root)
    return Prepared(parts, f"the corpus has no parts; {split}", problems, notes + warned)


def _read_table(root: Path, options: LjspeechOptions, problems: list[Problem]) -> list[Found]:
    """Lines ``LJ001-0001|as printed|as read``; quotation marks are ordinary characters."""
    path = root / TABLE
    if not path.exists():
        problems.append(Problem("missing-file", show_path(path), "no such file; the texts stand in it"))
        return []
    found = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        where = f"{show_path(path)}:{number}"
        cells = line.rstrip("\r").split("|")
        if not line.strip():
            continue
        if len(cells) != 3 or not cells[0]:
            problems.append(Problem("bad-row", where, f"expected NAME|TEXT|TEXT IN WORDS, got {line[:40]!r}"))
            continue
        text = plain(cells[2]) if options.text == "plain" else " ".join(cells[2].split())
        audio = os.fspath(root / "wavs" / f"{cells[0]}.wav")
        found.append(Found(Utterance(cells[0], audio, 0.0, text=text, speaker=SPEAKER), where))
    return found


def _name_strays(root: Path, known: set[str], problems: list[Problem]) -> None:
    for path in sorted((root / "wavs").glob("*.wav")):
        if path.stem not in known:
            fault = f"has no line in {TABLE}, so what is said in it is unknown"
            problems.append(Problem("no-transcript", show_path(path), fault, id=path.stem))
