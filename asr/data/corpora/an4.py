"""AN4, the alphanumeric database of Carnegie Mellon (1991): names, addresses, numbers, spelt out and said; 16 kHz.

speech.cs.cmu.edu/databases/an4, in NIST SPHERE (an4_sphere.tar.gz) and as samples without any header, high byte first
(an4_raw.bigendian.tar.gz) or low byte first (an4_raw.littleendian.tar.gz). How much there should be is what its own lists say
(etc/an4_train.fileids, etc/an4_test.fileids); 773 words of test are those that Kaldi scores (egs/an4/s5/RESULTS).
"""

import io
import os
import re
import wave
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
    of_part,
    option,
    read_text,
    share_out_train,
)
from asr.data.corpora.counts import CountOptions, Size, check_counts, size_of
from asr.data.files import open_regular, show_path, write_atomic
from asr.data.manifest import Problem, Utterance
from asr.errors import DataError

RATE_HZ = 16000
PUBLISHED = {"train": Size(utterances=948, speakers=74), "test": Size(utterances=130, speakers=10)}
FOLDERS = {"train": "an4_clstk", "test": "an4test_clstk"}
#: In this order, where a recording is there more than once; the last one has no header and is converted.
SUFFIXES = (".sph", ".wav", ".raw")
#: ``<s> G O </s> (an251-fash-b)``: the words, then the name of the recording; the second field of the name is the speaker.
LINE = re.compile(r"(?P<text>.*?)\s*\((?P<name>[^\s()]+)\)\s*")
#: This much rougher (mean step between neighbouring samples) than with its bytes exchanged: the other byte order is meant.
ROUGHER = 2.0


@dataclass
class An4Options(CountOptions):
    byte_order: str = option(
        "big", "of recordings without a header (.raw): high byte first, or low byte first", choices=("big", "little")
    )
    valid_fraction: float = option(0.1, "share of the training speakers for valid, 0 to 1")
    seed: int = option(1, "seed of the draw of valid")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "byte_order")
        self.split()

    def split(self) -> SplitOptions:
        return SplitOptions(valid_fraction=self.valid_fraction, test_fraction=0.0, seed=self.seed, split_by="speaker")


def prepare(root: Path, options: An4Options, audio: Path) -> Prepared:
    """``root`` is the folder an4 with etc/ and wav/, or the one above it; recordings without a header go to ``audio`` as WAV."""
    expect_folder(root, "the folder an4 with etc/ and wav/")
    base = next((folder for folder in (root, root / "an4") if (folder / "etc").is_dir()), None)
    if base is None:
        raise DataError(f"{show_path(root)}: holds no folder etc; is it the folder an4?")
    problems: list[Problem] = []
    found: list[Found] = []
    part_of: dict[str, str] = {}
    for part in PUBLISHED:
        faults: list[Problem] = []
        items = _read_part(base, part, options, audio, faults)
        problems += of_part(faults, part)
        part_of.update((item.utterance.id, part) for item in items)
        found += items
    kept, doubled = distinct(found)
    usable, unreadable, notes = measure([item for item in kept if item.utterance.audio_filepath])
    problems += doubled + unreadable
    parts = {part: [item for item in usable if part_of[item.id] == part] for part in PUBLISHED}
    named = {part: [item.utterance.speaker for item in kept if part_of[item.utterance.id] == part] for part in PUBLISHED}
    check_counts(root, {part: size_of(named[part], parts[part]) for part in parts}, PUBLISHED, options, problems, notes)
    shared, split = share_out_train(parts, options.split(), problems, root)
    return Prepared(shared, split, problems, notes)


def read_transcripts(path: Path, problems: list[Problem]) -> dict[str, tuple[str, int]]:
    """Name of the recording -> (words, 1-based line); <s> and </s> are dropped, a line of another form is a problem."""
    entries: dict[str, tuple[str, int]] = {}
    try:
        lines = read_text(path).split("\n")
    except DataError as error:
        problems.append(Problem("unreadable-file", show_path(path), str(error).removeprefix(show_path(path)).lstrip(": ")))
        return entries
    for number, line in enumerate(lines, start=1):
        match = LINE.fullmatch(line)
        if match is None:
            if line.strip():
                fault = f"expected WORDS (RECORDING), got {line.strip()[:40]!r}"
                problems.append(Problem("bad-line", f"{show_path(path)}:{number}", fault))
            continue
        words = [word for word in match["text"].split() if word not in ("<s>", "</s>")]
        if match["name"] in entries:
            fault = f"{match['name']} already stands on line {entries[match['name']][1]}"
            problems.append(Problem("duplicate-id", f"{show_path(path)}:{number}", fault, id=match["name"]))
            continue
        entries[match["name"]] = " ".join(words), number
    return entries


def to_wav(data: bytes, byte_order: str) -> bytes:
    """A WAV file of 16-bit samples at 16 kHz without a header; DataError where they are cut or are in the other byte order."""
    import numpy as np

    if not data:
        raise DataError("the file is empty (0 bytes); unpack it again")
    if len(data) % 2:
        raise DataError(f"holds {len(data)} bytes, which is no whole number of 16-bit samples: it was cut; unpack it again")
    samples = np.frombuffer(data, dtype=">i2" if byte_order == "big" else "<i2")
    steps = [
        float(np.abs(np.diff(order.astype(np.float64))).mean()) if len(samples) > 1 else 0.0
        for order in (samples, samples.byteswap())
    ]
    if steps[0] > ROUGHER * steps[1]:
        other = "little" if byte_order == "big" else "big"
        raise DataError(
            f"is noise when it is read with the {'high' if byte_order == 'big' else 'low'} byte first; try --byte-order {other}"
        )
    written = io.BytesIO()
    with wave.open(written, "wb") as wav:
        wav.setparams((1, 2, RATE_HZ, len(samples), "NONE", ""))
        wav.writeframes(samples.astype("<i2").tobytes())
    return written.getvalue()


def _read_part(base: Path, part: str, options: An4Options, audio: Path, problems: list[Problem]) -> list[Found]:
    """The utterances of train or test; one whose recording is missing or damaged has a problem and no path."""
    listed = base / "etc" / f"an4_{part}.transcription"
    entries = read_transcripts(listed, problems)
    recordings = _recordings(base / "wav" / FOLDERS[part])
    found = []
    for name, paths in sorted(recordings.items()):
        if entries and name not in entries:
            fault = f"does not stand in etc/{listed.name}, so what is said in it is unknown"
            problems.append(Problem("no-transcript", show_path(paths[0]), fault, id=name))
    for name, (text, line) in entries.items():
        where = f"{show_path(listed)}:{line}"
        speaker = name.split("-")[1] if name.count("-") == 2 else None
        path = ""
        if name in recordings:
            path = _readable(recordings[name][0], options, audio, name, problems)
        else:
            fault = f"there is no recording {name}{' or '.join(SUFFIXES)} below wav/{FOLDERS[part]}"
            problems.append(Problem("missing-file", where, fault, id=name))
        found.append(Found(Utterance(name, path, 0.0, text=text, speaker=speaker), where, part))
    return found


def _recordings(folder: Path) -> dict[str, list[Path]]:
    """Name -> its files, SPHERE first."""
    recordings: dict[str, list[Path]] = {}
    for where, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in SUFFIXES:
                recordings.setdefault(stem, []).append(Path(where, name))
    for paths in recordings.values():
        paths.sort(key=lambda path: SUFFIXES.index(path.suffix.lower()))
    return recordings


def _readable(path: Path, options: An4Options, audio: Path, name: str, problems: list[Problem]) -> str:
    """A path that can be read: the recording itself, or its copy with a header; empty (and a problem) where there is none."""
    if path.suffix.lower() != ".raw":
        return os.fspath(path)
    try:
        with open_regular(path) as handle:
            converted = to_wav(handle.read(), options.byte_order)
    except DataError as error:
        fault = str(error).removeprefix(show_path(path)).lstrip(": ")
        problems.append(Problem("damaged", show_path(path), fault, id=name))
        return ""
    copy = audio / f"{name}.wav"
    if not copy.is_file() or copy.read_bytes() != converted:
        write_atomic(copy, converted)
    return os.fspath(copy)
