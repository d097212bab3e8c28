"""Free Spoken Digit Dataset: single digits, six speakers, 8 kHz; github.com/Jakobovski/free-spoken-digit-dataset."""

import re
from dataclasses import dataclass
from pathlib import Path

from asr.data.corpora.corpus import Found, Prepared, check_fraction, expect_folder, measure, option, some
from asr.data.corpora.counts import CountOptions, Size, check_counts, size_of
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.data.split import carve
from asr.errors import DataError, UsageError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: The official test set is the recordings 0 to 4 of each digit and speaker.
TEST_INDICES = range(5)
#: Fifty recordings of each digit and speaker.
PUBLISHED = {"the corpus": Size(utterances=3000, speakers=6)}
NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<index>\d+)\.wav", re.IGNORECASE)


@dataclass
class FsddOptions:
    leave_out: str = option("", "a speaker: all of that speaker's recordings become test, the others train and valid")
    valid_fraction: float = option(0.1, "share of each training speaker's recordings for valid, 0 to 1")
    seed: int = option(1, "seed of the draw of valid")

    def __post_init__(self) -> None:
        check_fraction("valid_fraction", self.valid_fraction)


def prepare(root: Path, options: FsddOptions) -> Prepared:
    """``root`` is the repository's folder or its ``recordings/``; one utterance per recording, text ``zero`` to ``nine``."""
    expect_folder(root, "the Free Spoken Digit Dataset with its folder recordings/")
    folder = root / "recordings" if (root / "recordings").is_dir() else root
    found, problems = [], []
    for path in sorted(folder.iterdir()):
        match = NAME.fullmatch(path.name)
        if match:
            utterance = Utterance(path.stem, str(path), 0.0, text=DIGITS[int(match["digit"])], speaker=match["speaker"])
            found.append(Found(utterance, show_path(path), _half(utterance.id, options)))
        elif path.suffix.lower() == ".wav":
            message = "the name is not DIGIT_SPEAKER_INDEX.wav, so what is said in it is unknown"
            problems.append(Problem("unexpected-name", show_path(path), message))
    if not found:
        raise DataError(f"{show_path(folder)}: holds no recording named DIGIT_SPEAKER_INDEX.wav; is it the dataset's folder?")
    usable, unreadable, notes = measure(found)
    parts, split = _split(usable, options, [item.utterance for item in found])
    problems += _gaps(folder, [item.utterance for item in found], options)
    size = {"the corpus": size_of([item.utterance.speaker for item in found])}
    check_counts(root, size, PUBLISHED, CountOptions(counts="any"), problems, notes)
    return Prepared(parts, split, problems + unreadable, notes)


def _half(name: str, options: FsddOptions) -> str:
    """`test`, or `train`, of which the validation part is drawn, for a recording named DIGIT_SPEAKER_INDEX."""
    spoken, _, index = name.rpartition("_")
    tested = spoken.partition("_")[2] == options.leave_out if options.leave_out else int(index) in TEST_INDICES
    return "test" if tested else "train"


def _gaps(folder: Path, found: list[Utterance], options: FsddOptions) -> list[Problem]:
    """A problem for each recording that is missing before a later one of the same digit and speaker."""
    numbers: dict[str, set[int]] = {}
    for utterance in found:
        stem, _, number = utterance.id.rpartition("_")
        numbers.setdefault(stem, set()).add(int(number))
    return [
        Problem(
            "missing-file",
            show_path(folder / f"{stem}_{number}.wav"),
            f"no such file, but there is {stem}_{max(there)}.wav",
            part=_half(f"{stem}_{number}", options),
        )
        for stem, there in numbers.items()
        for number in sorted({*range(max(there))} - there)
    ]


def _split(usable: list[Utterance], options: FsddOptions, every: list[Utterance]) -> tuple[dict[str, list[Utterance]], str]:
    speakers = sorted({str(utterance.speaker) for utterance in every})
    if options.leave_out and options.leave_out not in speakers:
        raise UsageError(f"--leave-out: no speaker {options.leave_out!r}; expected one of {some(speakers, 20)}")
    parts: dict[str, list[Utterance]] = {"train": [], "valid": [], "test": []}
    training: dict[str, list[Utterance]] = {speaker: [] for speaker in speakers}
    for utterance in usable:
        tested = _half(utterance.id, options) == "test"
        (parts["test"] if tested else training[str(utterance.speaker)]).append(utterance)
    for recordings in training.values():
        share = options.valid_fraction if len(recordings) > 1 else 0.0
        assigned = carve([utterance.id for utterance in recordings], {"valid": share}, seed=options.seed) if recordings else {}
        for utterance in recordings:
            parts[assigned[utterance.id]].append(utterance)
    test = (
        f"all recordings of {options.leave_out}"
        if options.leave_out
        else "recordings 0 to 4 of each digit and speaker (official)"
    )
    valid = f"{100 * options.valid_fraction:g} % of the others of each speaker, drawn with seed {options.seed}"
    if not parts["valid"]:
        del parts["valid"]
    return parts, f"test is {test}; valid is {valid}; train is the rest"
