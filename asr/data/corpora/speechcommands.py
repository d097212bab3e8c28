"""Speech Commands 0.02: single English words of one second, 16 kHz, thousands of speakers; CC BY 4.0.

Pete Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", arXiv 1804.03209.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from asr.data.corpora.corpus import Found, Prepared, distinct, expect_folder, measure, read_text, some
from asr.data.corpora.counts import CountOptions, Size, check_counts, size_of
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.errors import DataError

LISTS = {"valid": "validation_list.txt", "test": "testing_list.txt"}
NOISE = "_background_noise_"
#: Speaker and take; the same speaker keeps the name over all words.
NAME = re.compile(r"(?P<speaker>[0-9a-f]+)_nohash_\d+\.wav")
#: The lines of the two lists, and the rest of the 105,829 recordings that the paper counts.
PUBLISHED = {"train": Size(utterances=84843), "valid": Size(utterances=9981), "test": Size(utterances=11005)}


@dataclass
class SpeechCommandsOptions(CountOptions):
    """The parts are fixed; only an incomplete copy leaves a choice."""


def prepare(root: Path, options: SpeechCommandsOptions) -> Prepared:
    """``root`` is the folder with the two lists and a folder for each word. The folder's name is the text."""
    expect_folder(root, f"the folder of Speech Commands with {', '.join(LISTS.values())} and a folder for each word")
    problems: list[Problem] = []
    part_of = _read_lists(root, problems)
    found: list[Found] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))):
        for path in sorted(folder.iterdir()):
            match = NAME.fullmatch(path.name)
            if match:
                key = f"{folder.name}/{path.stem}"
                utterance = Utterance(key, os.fspath(path), 0.0, text=folder.name, speaker=match["speaker"])
                found.append(Found(utterance, show_path(path), part_of.get(key, ("train", ""))[0]))
            elif path.suffix.lower() == ".wav":
                fault = "the name is not SPEAKER_nohash_NUMBER.wav, so its speaker is unknown"
                problems.append(Problem("unexpected-name", show_path(path), fault))
    if not found:
        raise DataError(f"{show_path(root)}: holds no recording named WORD/SPEAKER_nohash_NUMBER.wav; is it Speech Commands?")
    names = {item.utterance.id for item in found}
    for key, (part, where) in part_of.items():
        if key not in names:
            problems.append(Problem("missing-file", where, f"there is no recording {key}.wav", id=key, part=part))
    kept, doubled = distinct(found)
    usable, unreadable, notes = measure(kept)
    problems += doubled + unreadable
    parts: dict[str, list[Utterance]] = {part: [] for part in PUBLISHED}
    sizes: dict[str, list[str | None]] = {part: [] for part in PUBLISHED}
    for item in kept:
        sizes[part_of.get(item.utterance.id, ("train", ""))[0]].append(item.utterance.speaker)
    for utterance in usable:
        parts[part_of.get(utterance.id, ("train", ""))[0]].append(utterance)
    check_counts(root, {part: size_of(speakers) for part, speakers in sizes.items()}, PUBLISHED, options, problems, notes)
    words = dict.fromkeys(item.text or "" for item in usable)
    notes.append(f"{len(words)} words: {some(words, 40)}; {NOISE} is not read")
    split = "valid is validation_list.txt, test testing_list.txt, train the rest"
    return Prepared(parts, split, problems, notes)


def _read_lists(root: Path, problems: list[Problem]) -> dict[str, tuple[str, str]]:
    """Recording (WORD/NAME without suffix) -> its part, and the line that says so."""
    part_of: dict[str, tuple[str, str]] = {}
    for part, name in LISTS.items():
        path = root / name
        if not path.exists():
            problems.append(Problem("missing-file", show_path(path), f"no such file; the recordings of {part} stand in it"))
            continue
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            if not line.strip():
                continue
            where = f"{show_path(path)}:{number}"
            key = os.path.splitext(line.strip())[0]
            if key in part_of:
                fault = f"{key} already stands in {part_of[key][1]}; a recording belongs to one part"
                problems.append(Problem("duplicate-id", where, fault, id=key))
            part_of.setdefault(key, (part, where))
    return part_of
