"""What every corpus module shares: its options, the utterances it found, and what it hands back."""

import codecs
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.data.archive import Archive
from asr.data.files import UNPRINTABLE, open_regular, show_path
from asr.data.manifest import RECORDING_DURATION, Problem, Utterance
from asr.data.split import add_valid, split_utterances
from asr.errors import DataError, UsageError

if TYPE_CHECKING:
    from asr.data.containers import AudioError

#: A segment may end this many seconds after its recording and is then cut there; more is a problem.
SEGMENT_TOLERANCE = 0.05
#: Kinds of problem that cannot be left out: a command in place of a path, too little data to share out, and a corpus or a
#: manifest that is not all there.
COMMAND = "command"
TOO_FEW = "too-few"
WRONG_COUNT = "wrong-count"
FATAL = (COMMAND, TOO_FEW, WRONG_COUNT, "cut-manifest", "packed")

#: The last row cannot be read; such files are named with the way to convert them instead of being overlooked.
AUDIO_SUFFIXES = frozenset(
    {
        *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"),
        *(".au", ".snd", ".sph", ".nist", ".caf", ".w64", ".rf64"),
        *(".m4a", ".mp4", ".aac", ".webm", ".mka", ".wma", ".amr", ".3gp"),
    }
)


@dataclass(frozen=True)
class Corpus:
    """One row of the table of corpora."""

    summary: str
    #: A dataclass whose fields are the options of the command line.
    options: type
    #: ``prepare(root, options)``; a corpus that is generated writes its audio below root. With ``converts`` there is a third
    #: argument, the folder for audio that cannot be read as it is.
    prepare: Callable[..., "Prepared"]
    #: The experiment to train next.
    experiment: str
    #: What --root has to hold, for the help.
    root: str
    generated: bool = False
    #: What --download fetches, or a function of the options; empty where there is nothing that a program may fetch.
    archives: Sequence[Archive] | Callable[[Any], Sequence[Archive]] = ()
    #: Folder that the archives unpack to, read in place of the root where it exists below it.
    folder: str = ""
    #: Where people get the corpus.
    page: str = ""
    converts: bool = False


@dataclass(frozen=True)
class Prepared:
    """Utterances by part, how they were shared out, and everything that was left out or is worth knowing.

    Besides train, valid, dev and test a corpus may have parts of its own names (``test-other``); each becomes a manifest.
    """

    parts: dict[str, list[Utterance]]
    #: One sentence: how the parts were made.
    split: str
    #: What could not be used, each named; the command refuses the corpus for it, or goes on without.
    problems: list[Problem]
    notes: list[str]


@dataclass(frozen=True)
class Found:
    """An utterance as a corpus names it, before its recording is looked at; duration 0 stands for the whole recording."""

    utterance: Utterance
    #: The file and line, or the path, to name when something is wrong with it.
    where: str
    #: The part that the corpus has it in; None where the parts are drawn.
    part: str | None = None


def option(default: Any, meaning: str, *, choices: Sequence[str] = ()) -> Any:
    """A field of a corpus's options: its default, and one line that the command shows as help."""
    return field(default=default, metadata={"help": meaning, "choices": tuple(choices)})


@dataclass
class SplitOptions:
    """How a corpus without parts of its own is shared out."""

    valid_fraction: float = option(0.1, "share of the data for valid (choice of checkpoint, early stopping), 0 to 1")
    test_fraction: float = option(0.1, "share of the data for test, 0 to 1; only where the corpus names no parts")
    seed: int = option(1, "seed of the draw")
    split_by: str = option("auto", "auto: by speaker where there are enough", choices=("auto", "speaker", "utterance"))

    def __post_init__(self) -> None:
        for name in ("valid_fraction", "test_fraction"):
            check_fraction(name, getattr(self, name))
        if self.valid_fraction + self.test_fraction >= 1:
            total = f"{self.valid_fraction} + {self.test_fraction}"
            raise UsageError(f"--valid-fraction and --test-fraction: expected a sum below 1, got {total}; train needs the rest")
        check_choice(self, "split_by")


def share_out(
    usable: Sequence[Utterance], options: SplitOptions, problems: list[Problem], root: Path
) -> tuple[dict[str, list[Utterance]], str]:
    """Cut valid and test out of a corpus without parts; the parts and how they were made. Too little to cut is a problem."""
    shares = {"valid": options.valid_fraction, "test": options.test_fraction}
    try:
        return split_utterances(usable, shares, seed=options.seed, by=options.split_by)
    except DataError as error:
        problems.append(Problem(TOO_FEW, show_path(root), str(error)))
        return {"train": list(usable)}, ""


def share_out_train(
    given: Mapping[str, list[Utterance]], options: SplitOptions, problems: list[Problem], root: Path
) -> tuple[dict[str, list[Utterance]], str]:
    """Cut valid out of train in a corpus that names its parts, where it has none; else as ``share_out``."""
    try:
        return add_valid(given, options.valid_fraction, seed=options.seed, by=options.split_by)
    except DataError as error:
        problems.append(Problem(TOO_FEW, show_path(root), str(error)))
        return dict(given), ""


def check_fraction(name: str, value: float) -> None:
    """Raise UsageError unless the share lies in [0, 1); the option is named as it is typed."""
    if not 0 <= value < 1:
        raise UsageError(f"--{name.replace('_', '-')}: expected a share of at least 0 and below 1, got {value:g}")


def check_choice(options: Any, name: str) -> None:
    """Raise UsageError unless the option has one of the values its field allows."""
    allowed = type(options).__dataclass_fields__[name].metadata["choices"]
    value = getattr(options, name)
    if value not in allowed:
        raise UsageError(f"--{name.replace('_', '-')}: expected {' or '.join(allowed)}, got {value!r}")


def expect_folder(root: Path, expected: str) -> None:
    """Raise DataError unless root is a folder; ``expected`` says in a few words what it should hold."""
    if not root.is_dir():
        fault = "is a file" if root.exists() else "no such folder"
        raise DataError(f"{show_path(root)}: {fault}; expected {expected}")


def read_text(path: str | os.PathLike[str]) -> str:
    """A UTF-8 text file, with or without a byte order mark; line ends stay as they are.

    Raises DataError naming the line and a guess of the encoding when the file is not UTF-8, or when it cannot be read.
    """
    with open_regular(path) as handle:
        data = handle.read()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{show_path(path)}: is UTF-16 text; convert it with iconv -f UTF-16 -t UTF-8")
    zero = data.find(b"\0")
    if zero >= 0:
        line = data.count(b"\n", 0, zero) + 1
        raise DataError(f"{show_path(path)}:{line}: NUL byte; the file is damaged, or UTF-16 text to convert with iconv")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        guess = "Windows-1252" if 0x80 <= byte <= 0x9F else "Latin-1"
        hint = f"if it is {guess}, convert it with iconv -f {guess} -t UTF-8"
        raise DataError(f"{show_path(path)}:{line}: byte 0x{byte:02X} is not UTF-8 text; {hint}") from None


def printable(name: str) -> str:
    """A name that can serve as an id or a speaker: control and undecodable characters of a file name become escapes."""
    return UNPRINTABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", name)


def some(names: Iterable[str], limit: int = 5) -> str:
    """``a, b, c and 7 more``."""
    listed = list(names)
    head = ", ".join(listed[:limit])
    return head if len(listed) <= limit else f"{head} and {len(listed) - limit} more"


def unnamed(paths: Iterable[str]) -> list[str]:
    """A note about recordings that lie beside those that a table or a manifest names and are not named by it themselves.

    Which of the files in a folder belong to a table is not known, so they are no problem.
    """
    named: dict[str, set[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        named.setdefault(os.path.realpath(folder), set()).add(name)
    others = []
    for folder, names in named.items():
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES and not name.startswith(".") and name not in names:
                others.append(printable(name))
    return [f"{len(others):,} recordings beside those that are named are not used: {some(others)}"] if others else []


def of_part(problems: Iterable[Problem], part: str | None) -> list[Problem]:
    """The same problems, said to be of this part: a test set that lacks something is told of by its name."""
    return [replace(problem, part=part) for problem in problems]


def distinct(found: Iterable[Found]) -> tuple[list[Found], list[Problem]]:
    """Keep the first utterance of each id; each further one is a problem that names both places."""
    first: dict[str, Found] = {}
    problems = []
    for item in found:
        name = item.utterance.id
        earlier = first.setdefault(name, item)
        if earlier is not item:
            message = f'id "{name}" is already taken by {earlier.where}; give each utterance its own'
            problems.append(Problem("duplicate-id", item.where, message, id=name, part=item.part))
    return list(first.values()), problems


def measure(found: Sequence[Found]) -> tuple[list[Utterance], list[Problem], list[str]]:
    """Look at the header of each recording and fill in the durations (s); of a piece also that of its whole recording.

    Returns the usable utterances, one problem for each of the others (a missing or damaged recording, a segment that lies
    outside its recording), and a sentence for each kind of warning with its count.
    """
    from tqdm import tqdm

    from asr.data.containers import AudioError

    lengths: dict[str, float | AudioError] = {}
    warned: Counter[str] = Counter()
    usable, problems = [], []
    for item in tqdm(found, desc="reading headers", unit="file", disable=None, leave=False):
        utterance = item.utterance
        path = utterance.audio_filepath
        if path not in lengths:
            lengths[path] = _length(path, warned)
        length = lengths[path]
        if isinstance(length, AudioError):
            message = str(length).removeprefix(f"{item.where}: ")
            problems.append(Problem(length.kind, item.where, message, id=utterance.id, part=item.part))
            continue
        end = utterance.offset + utterance.duration if utterance.duration else length
        if utterance.offset >= length or end > length + SEGMENT_TOLERANCE:
            message = f"segment {utterance.offset:g} to {end:g} s lies outside {show_path(path)}, which lasts {length:g} s"
            problems.append(Problem("segment-outside", item.where, message, id=utterance.id, part=item.part))
            continue
        if utterance.offset or end < length - SEGMENT_TOLERANCE:
            utterance = replace(utterance, extra={**utterance.extra, RECORDING_DURATION: round(length, 6)})
        usable.append(replace(utterance, duration=round(min(end, length) - utterance.offset, 6)))
    return usable, problems, [f"{count} of {len(lengths)} recordings: {message}" for message, count in warned.items()]


def _length(path: str, warned: "Counter[str]") -> "float | AudioError":
    """Seconds, or why the recording cannot be used."""
    from asr.data.audio import WARNINGS, measure_seconds
    from asr.data.containers import AudioError

    try:
        length, notes = measure_seconds(path)
    except AudioError as error:
        return error
    warned.update(WARNINGS[kind] for kind in notes)
    return length
