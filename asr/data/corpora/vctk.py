"""VCTK 0.92: newspaper sentences read by 110 speakers of English with different accents, 48 kHz; CC BY 4.0.

Junichi Yamagishi, Christophe Veaux and Kirsten MacDonald, "CSTR VCTK Corpus", University of Edinburgh, doi.org/10.7488/ds/2645.
Two microphones recorded each sentence. Known gaps of the published corpus are told and are no faults of a copy: the texts of
p315 were lost, p280 and some sentences of p362 lack the second microphone.
"""

import os
import re
from collections import Counter
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
from asr.errors import DataError

AUDIO, TEXTS = "wav48_silence_trimmed", "txt"
#: Speakers whose texts (all) and recordings (some) are not in the published corpus.
WITHOUT_TEXT = ("p315",)
WITH_GAPS = ("p280", "p362")
NAME = re.compile(r"(?P<key>(?P<speaker>[ps]\d+)_\d+)_mic(?P<microphone>[12])\.flac")
#: 110 speakers, less p315 whose texts are lost; p280 has no recording of the second microphone.
PUBLISHED = {"mic1": Size(0, speakers=109), "mic2": Size(0, speakers=108)}


@dataclass
class VctkOptions(CountOptions):
    microphone: str = option("1", "1: DPA 4035, omnidirectional; 2: Sennheiser MKH 800", choices=("1", "2"))
    text: str = text_option()
    valid_fraction: float = option(0.05, "share of the speakers for valid, 0 to 1")
    test_fraction: float = option(0.1, "share of the speakers for test, 0 to 1")
    seed: int = option(1, "seed of the draw")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "microphone")
        check_choice(self, "text")
        self.split()

    def split(self) -> SplitOptions:
        return SplitOptions(self.valid_fraction, self.test_fraction, self.seed, split_by="speaker")


def prepare(root: Path, options: VctkOptions) -> Prepared:
    """``root`` is VCTK-Corpus-0.92 with wav48_silence_trimmed/ and txt/. The same sentences are read by several speakers."""
    expect_folder(root, f"the folder VCTK-Corpus-0.92 with {AUDIO}/ and {TEXTS}/")
    if not (root / AUDIO).is_dir():
        raise DataError(f"{show_path(root)}: holds no folder {AUDIO}; is it VCTK 0.92?")
    problems: list[Problem] = []
    gaps: Counter[str] = Counter()
    found = _pair(root, options, problems, gaps)
    kept, doubled = distinct(found)
    usable, unreadable, warned = measure(kept)
    problems += doubled + unreadable
    notes = [f"{count:,} {what}, as in the published corpus" for what, count in gaps.items()]
    part = f"mic{options.microphone}"
    size = size_of([item.utterance.speaker for item in kept], usable)
    check_counts(root, {part: size}, {part: PUBLISHED[part]}, options, problems, notes)
    if options.text == "plain":
        notes.append("texts in small letters and without punctuation (--text raw keeps them)")
    parts, split = share_out(usable, options.split(), problems, root)
    return Prepared(parts, f"the corpus has no parts; {split}", problems, notes + warned)


def _pair(root: Path, options: VctkOptions, problems: list[Problem], gaps: Counter[str]) -> list[Found]:
    """Recordings of the chosen microphone with their texts."""
    about = _speakers(root / "speaker-info.txt")
    texts = {path.stem: path for path in sorted((root / TEXTS).glob("*/*.txt"))}
    found = []
    heard = set()
    for path in sorted((root / AUDIO).glob("*/*.flac")):
        match = NAME.fullmatch(path.name)
        if match is None:
            fault = "the name is not SPEAKER_NUMBER_micN.flac, so what is said in it is unknown"
            problems.append(Problem("unexpected-name", show_path(path), fault))
            continue
        if match["microphone"] != options.microphone:
            continue
        key, speaker = match["key"], match["speaker"]
        heard.add(key)
        if key not in texts:
            if speaker in WITHOUT_TEXT:
                gaps[f"recordings of {speaker} have no text"] += 1
            else:
                fault = f"there is no {TEXTS}/{speaker}/{key}.txt, so what is said in it is unknown"
                problems.append(Problem("no-transcript", show_path(path), fault, id=key))
            continue
        try:
            raw = read_text(texts[key]).strip()
        except DataError as error:
            fault = str(error).removeprefix(show_path(texts[key])).lstrip(": ")
            problems.append(Problem("bad-transcript", show_path(texts[key]), fault, id=key))
            continue
        text = plain(raw) if options.text == "plain" else " ".join(raw.split())
        utterance = Utterance(key, os.fspath(path), 0.0, text=text, speaker=speaker, extra=about.get(speaker, {}))
        found.append(Found(utterance, show_path(path)))
    for key in texts.keys() - heard:
        if key.split("_")[0] in WITH_GAPS:
            gaps[f"texts of {key.split('_')[0]} have no recording"] += 1
        else:
            fault = f"there is no recording {key}_mic{options.microphone}.flac of it"
            problems.append(Problem("missing-file", show_path(texts[key]), fault, id=key))
    return found


def _speakers(path: Path) -> dict[str, dict[str, str]]:
    """Speaker -> age, gender and accent, from lines ``p225  23  F    English    Southern  England``; empty without the file."""
    about = {}
    for line in read_text(path).split("\n")[1:] if path.is_file() else []:
        cells = line.split()
        if len(cells) >= 4:
            about[cells[0]] = {"age": cells[1], "gender": cells[2], "accent": cells[3]}
    return about
