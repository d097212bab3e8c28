"""yesno (OpenSLR 1): sixty recordings of eight Hebrew words each, one speaker, 8 kHz; openslr.org/1."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from asr.data.corpora.corpus import Found, Prepared, check_fraction, expect_folder, measure, option
from asr.data.corpora.counts import CountOptions, Size, check_counts, size_of
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.data.split import split_utterances
from asr.errors import DataError

#: ken and lo, written as English words.
WORDS = {"1": "YES", "0": "NO"}
PUBLISHED = {"the corpus": Size(utterances=60)}
NAME = re.compile(r"[01](_[01])*")


@dataclass
class YesnoOptions:
    valid_fraction: float = option(0.1, "share of the training recordings for valid, 0 to 1")
    seed: int = option(1, "seed of the draw of valid")

    def __post_init__(self) -> None:
        check_fraction("valid_fraction", self.valid_fraction)


def prepare(root: Path, options: YesnoOptions) -> Prepared:
    """``root`` holds the recordings, or is the folder above ``waves_yesno/``; the file name is the transcript."""
    expect_folder(root, "the recordings of OpenSLR 1, named like 0_1_1_0_1_0_0_1.wav")
    folder = root / "waves_yesno" if (root / "waves_yesno").is_dir() else root
    found, problems = [], []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav"):
        if NAME.fullmatch(path.stem):
            text = " ".join(WORDS[sign] for sign in path.stem.split("_"))
            found.append(Found(Utterance(path.stem, str(path), 0.0, text=text), show_path(path)))
        else:
            message = "the name is not made of 0 and 1, so what is said in it is unknown"
            problems.append(Problem("unexpected-name", show_path(path), message))
    if not found:
        raise DataError(f"{show_path(folder)}: holds no recording named like 0_1_1_0_1_0_0_1.wav; is it OpenSLR 1?")
    found = [replace(item, part="test" if number % 2 else "train") for number, item in enumerate(found)]
    position = {item.utterance.id: number for number, item in enumerate(found)}
    usable, unreadable, notes = measure(found)
    even = [utterance for utterance in usable if position[utterance.id] % 2 == 0]
    odd = [utterance for utterance in usable if position[utterance.id] % 2 == 1]
    share = options.valid_fraction if len(even) > 1 else 0.0
    cut, how = split_utterances(even, {"valid": share}, seed=options.seed, by="utterance")
    split = f"files in sorted order counted from 0: even positions train, odd positions test; valid cut from train, {how}"
    size = {"the corpus": size_of([None] * len(found))}
    check_counts(root, size, PUBLISHED, CountOptions(counts="any"), problems, notes)
    notes.append("the words are Hebrew: YES stands for ken (1), NO for lo (0)")
    return Prepared({**cut, "test": odd}, split, problems + unreadable, notes)
