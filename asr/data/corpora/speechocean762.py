"""speechocean762: English read by Mandarin speakers, half of them children; openslr.org/101, CC BY 4.0."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asr.data.corpora.corpus import Found, Prepared, distinct, expect_folder, measure, unnamed
from asr.data.corpora.counts import CountOptions, Size, check_counts, size_of
from asr.data.corpora.kaldi import Entry, read_entries, read_folder
from asr.data.files import show_path
from asr.data.manifest import Problem, Utterance
from asr.text.phones import strip_arpabet

#: As its page says: 5,000 utterances of 250 speakers, half of them to train on.
PUBLISHED = {"train": Size(utterances=2500, speakers=125), "test": Size(utterances=2500, speakers=125)}
EXTRA_FILES = {"age": "spk2age", "gender": "spk2gender"}
SPLIT = (
    "by speaker, the speakers of train/ in sorted order: dev is every tenth, starting with the first; valid every tenth, "
    "starting with the sixth; train the others; test is test/, where it exists"
)


@dataclass
class SpeechoceanOptions:
    """The split is fixed, so there is nothing to choose."""


def prepare(root: Path, options: SpeechoceanOptions) -> Prepared:
    """``root`` holds WAVE/, train/, resource/text-phone and, in the complete corpus, test/.

    The text stays as it is; the phones are those of ``resource/text-phone`` without stress and word-position marks. Age
    and gender of the speaker become further fields of the manifest.
    """
    expect_folder(root, "the folder of speechocean762 with WAVE/, train/ and resource/")
    problems: list[Problem] = []
    notes: list[str] = []
    phones = read_phones(root / "resource" / "text-phone", problems)
    found: list[Found] = []
    tested: set[str] = set()
    voices: dict[str, str] = {}
    paths: list[str] = []
    halves = ["train", "test"] if (root / "test").is_dir() else ["train"]
    for half in halves:
        items, faults, remarks = read_folder(root / half, root, paths)
        voices.update((item.utterance.id, str(item.utterance.speaker)) for item in items)
        size = {half: size_of([item.utterance.speaker for item in items])}
        check_counts(root, size, {half: PUBLISHED[half]}, CountOptions(counts="any"), problems, notes)
        problems += faults
        notes += remarks
        found += _complete(root / half, items, phones, problems)
        tested |= {item.utterance.id for item in items} if half == "test" else set()
    if len(halves) == 1:
        notes.append(f"{show_path(root / 'test')}: no such folder, so there is no test part")
    kept, doubled = distinct(found)
    speakers = sorted({voice for key, voice in voices.items() if key not in tested})
    drawn = {
        **dict.fromkeys(speakers, "train"),
        **dict.fromkeys(speakers[0::10], "dev"),
        **dict.fromkeys(speakers[5::10], "valid"),
    }
    part_of = {key: "test" if key in tested else drawn[voice] for key, voice in voices.items()}
    usable, unreadable, warned = measure(kept)
    problems = [replace(one, part=part_of.get(one.id or "")) for one in (*problems, *doubled, *unreadable)]
    parts: dict[str, list[Utterance]] = {"train": [], "valid": [], "dev": [], "test": []}
    for utterance in usable:
        parts[part_of[utterance.id]].append(utterance)
    return Prepared(
        {part: items for part, items in parts.items() if items},
        SPLIT,
        problems,
        notes + warned + unnamed(paths),
    )


def read_phones(path: Path, problems: list[Problem]) -> dict[str, list[str]] | None:
    """Utterance -> the phones of each of its words, from lines ``UTTERANCE.WORD PHONE PHONE ...``; None without the file."""
    entries = read_entries(path, problems)
    if entries is None:
        if not path.exists():
            problems.append(Problem("missing-file", show_path(path), "no such file; the phones of the corpus stand in it"))
        return None
    words: dict[str, dict[int, str]] = {}
    for key, entry in entries.items():
        utterance, _, number = key.rpartition(".")
        if not utterance or not number.isdecimal():
            message = f"expected UTTERANCE.WORD PHONE PHONE ..., got {key!r}"
            problems.append(Problem("bad-line", f"{show_path(path)}:{entry.line}", message, id=key))
            continue
        words.setdefault(utterance, {})[int(number)] = " ".join(strip_arpabet(phone) for phone in entry.value.split())
    return {utterance: [of[number] for number in sorted(of)] for utterance, of in words.items()}


def _complete(folder: Path, items: list[Found], phones: dict[str, list[str]] | None, problems: list[Problem]) -> list[Found]:
    """Add phones, age and gender; an utterance whose words and phones do not match is a problem."""
    about = {name: read_entries(folder / file, problems) or {} for name, file in EXTRA_FILES.items()}
    complete = []
    for item in items:
        utterance = item.utterance
        words = len((utterance.text or "").split())
        spoken = None if phones is None else phones.get(utterance.id, [])
        if spoken is not None and len(spoken) != words:
            message = f"{utterance.id} has {words} words in text and {len(spoken)} in resource/text-phone"
            problems.append(Problem("missing-phones", item.where, message, id=utterance.id))
            continue
        extra = {name: _value(of.get(str(utterance.speaker))) for name, of in about.items()}
        extra = {name: value for name, value in extra.items() if value is not None}
        joined = None if spoken is None else " ".join(spoken)
        complete.append(replace(item, utterance=replace(utterance, phones=joined, extra=extra)))
    return complete


def _value(entry: Entry | None) -> Any:
    if entry is None:
        return None
    return int(entry.value) if entry.value.isdecimal() else entry.value
