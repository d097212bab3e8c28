"""A folder of recordings with transcripts of the same name: a.wav and a.txt (or a.lab); speakers by sub-directory."""

import os
import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

from asr.data.corpora.corpus import (
    AUDIO_SUFFIXES,
    Found,
    Prepared,
    SplitOptions,
    distinct,
    expect_folder,
    measure,
    printable,
    read_text,
    share_out,
    share_out_train,
    some,
)
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.data.split import PARTS
from asr.errors import DataError

TEXT_SUFFIXES = (".txt", ".lab")
#: A label with times (HTK, TIMIT): two whole numbers before the text of every line.
ALIGNED = re.compile(r"\d+[ \t]+\d+[ \t]+\S")


@dataclass
class FolderOptions(SplitOptions):
    """Options of a folder; the shares apply where it names no parts."""


def prepare(root: Path, options: FolderOptions) -> Prepared:
    """``root`` holds recordings and transcripts, directly or in sub-directories; the first one names the speaker.

    Where everything lies in sub-directories called train, valid, dev or test, these are the parts and the next directory is
    the speaker. The id is the path below root without its suffix.
    """
    expect_folder(root, "a folder of recordings with .txt or .lab files of the same names")
    recordings, transcripts, notes = scan_folder(root)
    if not recordings:
        raise DataError(f"{show_path(root)}: holds no recording (expected .wav, .flac, .ogg, .opus, .mp3 ...)")
    tops = {os.path.split(key)[0].split(os.sep)[0] for key in [*recordings, *transcripts]}
    by_part = tops <= set(PARTS)
    found, problems = _pair(recordings, transcripts, 1 if by_part else 0)
    silent = [item.utterance.id for item in found if not item.utterance.text]
    if silent:
        notes.append(f"empty transcripts: {len(silent)} ({some(silent)})")
    kept, doubled = distinct(found)
    usable, unreadable, warned = measure(kept)
    problems += doubled + unreadable
    if by_part:
        problems = [replace(problem, part=problem.id.split("/")[0] if problem.id else None) for problem in problems]
        given = {part: [item for item in usable if item.id.split("/")[0] == part] for part in PARTS}
        parts, split = share_out_train(given, options, problems, root)
        return Prepared(parts, split, problems, notes + warned)
    parts, split = share_out(usable, options, problems, root)
    return Prepared(parts, split, problems, notes + warned)


def scan_folder(root: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]], list[str]]:
    """Recordings and transcripts by their path below root without suffix (in NFC, for disks differ), and remarks."""
    recordings: dict[str, list[Path]] = {}
    transcripts: dict[str, list[Path]] = {}
    hidden = []
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        seen.add(os.path.realpath(folder))
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and os.path.realpath(os.path.join(folder, name)) not in seen
        )
        for name in sorted(files):
            path = Path(folder, name)
            suffix = path.suffix.lower()
            table = recordings if suffix in AUDIO_SUFFIXES else transcripts if suffix in TEXT_SUFFIXES else None
            if table is not None and name.startswith("."):
                hidden.append(show_path(path))
            elif table is not None:
                key = unicodedata.normalize("NFC", os.path.splitext(os.path.relpath(path, root))[0])
                table.setdefault(key, []).append(path)
    notes = [f"{len(hidden)} hidden files not read: {some(hidden)}"] if hidden else []
    return recordings, transcripts, notes


def _pair(recordings: dict[str, list[Path]], transcripts: dict[str, list[Path]], depth: int) -> tuple[list[Found], list[Problem]]:
    """Recordings with their transcripts; ``depth`` counts the directories above the one that names the speaker."""
    found, problems = [], []
    for key in sorted({*recordings, *transcripts}):
        audio, texts = recordings.get(key, []), transcripts.get(key, [])
        if not audio or not texts:
            kind = "no-transcript" if audio else "no-recording"
            expected = f"no {' or '.join(TEXT_SUFFIXES)} file of the same name" if audio else "no recording of the same name"
            problems.append(Problem(kind, show_path((audio or texts)[0]), expected, id=_identity(key)))
            continue
        if len(audio) > 1:
            message = f"{len(audio)} recordings share one transcript ({some(path.name for path in audio)}); keep one"
            problems.append(Problem("ambiguous", show_path(audio[0]), message, id=_identity(key)))
            continue
        try:
            text = _transcript(texts)
        except DataError as error:
            problems.append(Problem("bad-transcript", show_path(texts[0]), _after(error, texts[0]), id=_identity(key)))
            continue
        directories = os.path.dirname(key).split(os.sep)[depth:]
        utterance = Utterance(_identity(key), os.fspath(audio[0]), 0.0, text=text)
        if directories and directories[0]:
            utterance = replace(utterance, speaker=printable(directories[0]))
        found.append(Found(utterance, show_path(audio[0])))
    return found, problems


def _transcript(paths: list[Path]) -> str:
    """The words of a transcript on one line; raises DataError for times, foreign encodings and two that differ."""
    texts = []
    for path in paths:
        content = read_text(path)
        lines = [line for line in content.split("\n") if line.strip()]
        if path.suffix.lower() == ".lab" and lines and all(ALIGNED.match(line) for line in lines):
            raise DataError(f"{show_path(path)}: a label with times on each line; expected the text alone")
        texts.append(" ".join(content.split()))
    if len(set(texts)) > 1:
        raise DataError(f"{show_path(paths[0])}: says something else than {paths[1].name}; keep one of the two")
    return texts[0]


def _after(error: DataError, path: Path) -> str:
    """The message without the path it starts with, for the listing puts the path in front again."""
    return str(error).removeprefix(show_path(path)).lstrip(": ")


def _identity(key: str) -> str:
    return printable("/".join(key.split(os.sep)))
