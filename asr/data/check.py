"""All problems of a manifest at once, before anything is computed with it."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from asr.data.audio import (
    CHANNELS,
    LENGTH_TOLERANCE,
    RESAMPLE,
    AudioError,
    AudioInfo,
    AudioWarning,
    inspect_audio,
    read_audio,
    resampled_length,
)
from asr.data.files import file_sha256, show_path
from asr.data.manifest import AUDIO_SHA256, RECORDING_DURATION, Problem, Utterance
from asr.data.overlap import find_copies
from asr.data.report import DataReport, UnknownSymbol
from asr.errors import DataError, UsageError
from asr.text.tokenizer import show_symbol

__all__ = [
    "CheckOptions",
    "DataReport",
    "UnknownSymbol",
    "check_utterances",
    "cross_check",
    "refuse_or_skip",
    "target_text",
]

ON_BAD = ("error", "skip")
CHECKS = ("headers", "full")
#: Faults of the manifest itself, or of its alphabet: they are mended, never skipped.
MUST_BE_MENDED = (
    "bad-json",
    "encoding",
    "packed",
    "cut-manifest",
    "line-too-long",
    "bad-field",
    "duplicate-id",
    "unknown-symbol",
)


@dataclass
class CheckOptions:
    """What is checked in a manifest, and what happens to utterances that cannot be used."""

    #: utterances that cannot be used: error (stop, listing all) | skip (go on without them, listing all)
    on_bad: str = "error"
    #: with on_bad=skip, the largest fraction of unusable utterances that is accepted
    max_bad_fraction: float = 0.01
    #: headers (of every recording, fast) | full (decodes every recording)
    check: str = "headers"
    #: shortest utterance that is used, in seconds
    min_duration: float = 0.0
    #: longest utterance that is used, in seconds
    max_duration: float = 60.0
    #: recordings with several channels: mix | error | first
    channels: str = "mix"
    #: recordings at another sample rate than the model's: allow (resampled) | error
    resample: str = "allow"

    def __post_init__(self) -> None:
        choices = {"on_bad": ON_BAD, "check": CHECKS, "channels": CHANNELS, "resample": RESAMPLE}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise UsageError(f'data.{name}="{value}" is not one of {", ".join(allowed)}')
        if not 0 <= self.max_bad_fraction <= 1:
            raise UsageError(f"data.max_bad_fraction={self.max_bad_fraction:g} is not a fraction between 0 and 1")
        if not self.min_duration >= 0:
            raise UsageError(f"data.min_duration={self.min_duration:g} is not a number of seconds from 0 up")
        if not self.max_duration > self.min_duration:
            raise UsageError(f"data.max_duration={self.max_duration:g} is not above data.min_duration={self.min_duration:g}")


def target_text(utterance: Utterance, unit: str) -> str | None:
    """What an utterance is to be recognised as: its phones for ``unit="phones"``, else its text."""
    return utterance.phones if unit == "phones" else utterance.text


def check_utterances(
    utterances: Sequence[Utterance],
    *,
    options: CheckOptions,
    sample_rate: int,
    unit: str,
    encode: Callable[[str], list[int]] | None,
    unknown: Callable[[str], list[str]] | None,
    frames_of: Callable[[int], int] | None,
    changes: Callable[[str], list[str]] | None = None,
    fastest: float = 1.0,
    where: str = "train.jsonl",
    problems: Sequence[Problem] = (),
    progress: Callable[[Sequence[Utterance]], Iterable[Utterance]] | None = None,
) -> DataReport:
    """Every problem of every utterance of one manifest; nothing in the data makes it raise.

    ``problems`` are those of ``scan_manifest``, one per unusable line. ``encode`` turns a transcript into token ids and
    ``unknown`` names the symbols it lacks; without them only the recordings are checked. ``frames_of`` tells how many emission
    frames T' come of a number of samples at ``sample_rate`` Hz, here at the speed factor ``fastest``: CTC needs T' >= U + the
    number of equal neighbours among the U tokens. ``changes`` names the rules that change a transcript, which is counted among
    the warnings. ``progress`` may wrap the sequence, to draw a bar.
    """
    recordings = _Recordings(options, sample_rate, Counter(one.audio_filepath for one in utterances))
    texts = _Transcripts(unit, encode, unknown)
    found = list(problems)
    usable: list[Utterance] = []
    first: dict[str, str] = {}
    for utterance in progress(utterances) if progress else utterances:
        place = f"{where}:{utterance.line}" if utterance.line else where
        faults = []
        if utterance.id in first:
            faults.append(("duplicate-id", f'id "{utterance.id}" stands at {first[utterance.id]} too; give each its own id'))
        first.setdefault(utterance.id, place)
        samples, audio_faults = recordings.check(utterance)
        tokens, text_faults = texts.check(utterance, place)
        faults += audio_faults + text_faults
        if frames_of and tokens and not audio_faults:
            faults += _ctc_faults(tokens, frames_of(int(samples / fastest)), fastest)
        found.extend(Problem(kind, place, message, id=utterance.id) for kind, message in faults)
        if not faults:
            usable.append(utterance)
            recordings.notes.update(f"text-{name}" for name in (changes(target_text(utterance, unit) or "") if changes else ()))
    return DataReport(
        where=where,
        usable=usable,
        problems=found,
        warnings=dict(recordings.notes.most_common()),
        utterances=len(utterances) + len(problems),
        hours=sum(utterance.duration for utterance in usable) / 3600,
        unknown_symbols=texts.unknown_symbols(),
    )


def cross_check(reports: dict[str, DataReport]) -> dict[str, DataReport]:
    """The same reports after a comparison of their manifests with each other.

    An id that stands in an earlier manifest too is a problem of the later one; speakers and recordings that they share (the
    same stretch of a file, or the same text and samples) are counted among its warnings.
    """
    places: dict[str, str] = {}
    speakers: set[str] = set()
    copies = find_copies({part: report.usable for part, report in reports.items()})
    checked = {}
    for part, report in reports.items():
        repeated = [
            Problem(
                kind="duplicate-id",
                where=f"{report.where}:{one.line}",
                message=f'id "{one.id}" stands at {places[one.id]} too; give each utterance its own id',
                id=one.id,
            )
            for one in report.usable
            if one.id in places
        ]
        usable = [one for one in report.usable if one.id not in places]
        notes = dict(report.warnings)
        mine = {one.speaker for one in report.usable if one.speaker is not None}
        for kind, count in (("shared-speakers", len(mine & speakers)), ("shared-recordings", len(copies[part]))):
            if count:
                notes[kind] = count
        hours = sum(one.duration for one in usable) / 3600
        problems = [*report.problems, *repeated]
        checked[part] = replace(report, usable=usable, problems=problems, warnings=notes, hours=hours)
        speakers |= mine
        places.update((one.id, f"{report.where}:{one.line}") for one in report.usable)
    return checked


def refuse_or_skip(report: DataReport, options: CheckOptions) -> list[Utterance]:
    """The usable utterances, or DataError with the table.

    Raised for any problem under ``on_bad=error``; under ``on_bad=skip`` for faults that must be mended (the manifest's syntax,
    repeated ids, symbols outside the alphabet), for more than ``max_bad_fraction`` of unusable utterances, and when none is left.
    """
    if not report.utterances:
        raise DataError(f"{report.where}: 0 utterances; expected at least one")
    if not report.usable:
        raise DataError(f"{report.where}: 0 of {report.utterances} usable: {_causes(report, options)}\n{report.table()}")
    if not report.problems:
        return report.usable
    fraction = report.unusable / report.utterances
    share = f"{report.unusable} of {report.utterances} utterances cannot be used ({_causes(report, options)})"
    mend = [kind for kind in report.counts if kind in MUST_BE_MENDED]
    if mend:
        advice = f"these are never skipped and must be mended: {', '.join(mend)}"
        if "unknown-symbol" in mend:
            advice += " (a symbol can be replaced through tokens.map)"
    elif options.on_bad == "error":
        advice = "mend them, or go on without them through data.on_bad=skip"
    elif fraction > options.max_bad_fraction:
        advice = f"that is {fraction:.1%}, more than data.max_bad_fraction={options.max_bad_fraction:g} allows to skip"
    else:
        return report.usable
    raise DataError(f"{report.where}: {share}; {advice}\n{report.table()}")


class _Recordings:
    """Checks the audio side of utterances; each file is inspected once, however many utterances it holds."""

    def __init__(self, options: CheckOptions, sample_rate: int, uses: Counter[str]) -> None:
        self.options = options
        self.sample_rate = sample_rate
        self.uses = uses
        self.notes: Counter[str] = Counter()
        self._seen: dict[str, AudioInfo | AudioError] = {}
        self._sums: dict[str, str] = {}

    def check(self, utterance: Utterance) -> tuple[int, list[tuple[str, str]]]:
        """Samples of the utterance at the model's rate, and its faults as (kind, message)."""
        faults = []
        duration, options = utterance.duration, self.options
        if not duration > 0:
            faults.append(("bad-duration", f"duration is {duration:g} s; expected more than 0"))
        elif duration < options.min_duration:
            faults.append(("too-short", f"{duration:g} s, below data.min_duration={options.min_duration:g}"))
        elif duration > options.max_duration:
            faults.append(("too-long", f"{duration:g} s, above data.max_duration={options.max_duration:g}"))
        if not utterance.offset >= 0:
            faults.append(("bad-offset", f"offset is {utterance.offset:g} s; expected 0 or more"))
        info = self._inspect(utterance.audio_filepath)
        if isinstance(info, AudioError):
            return 0, [*faults, (info.kind, str(info))]
        faults += self._layout_faults(info)
        if faults:
            return 0, faults
        rest = info.frames - round(utterance.offset * info.sample_rate)
        length_fault = self._length_fault(utterance, info, rest)
        if length_fault:
            return 0, [length_fault]
        if options.check == "full":
            fault = self._sum_fault(utterance) or self._decode_fault(utterance, info)
            if fault:
                return 0, [fault]
        self._note(info)
        frames = round(duration * info.sample_rate)
        return resampled_length(min(frames, rest) if info.exact else frames, info.sample_rate, self.sample_rate), []

    def _inspect(self, path: str) -> AudioInfo | AudioError:
        seen = self._seen.get(path)
        if seen is None:
            try:
                seen = inspect_audio(path)
            except AudioError as error:
                seen = error
            self._seen[path] = seen
        return seen

    def _layout_faults(self, info: AudioInfo) -> list[tuple[str, str]]:
        faults = []
        if info.channels > 1 and self.options.channels == "error":
            faults.append(("channels", f"{info.channels} channels, expected one (data.channels=error)"))
        if info.sample_rate != self.sample_rate and self.options.resample == "error":
            faults.append(("sample-rate", f"{info.sample_rate} Hz, expected {self.sample_rate} Hz (data.resample=error)"))
        return faults

    def _length_fault(self, utterance: Utterance, info: AudioInfo, rest: int) -> tuple[str, str] | None:
        if not info.exact:
            return None
        duration, end = utterance.duration, utterance.offset + utterance.duration
        if rest <= 0:
            fault = f"offset {utterance.offset:g} s lies beyond the end of the recording ({info.duration:.3f} s)"
            return "offset-beyond-end", fault
        whole = utterance.extra.get(RECORDING_DURATION)
        if isinstance(whole, (int, float)) and abs(whole - info.duration) > LENGTH_TOLERANCE:
            fault = f"a piece of {whole:.3f} s in the manifest, {info.duration:.3f} s in the recording; prepare the data again"
            return "duration-mismatch", fault
        if utterance.offset == 0 and whole is None and self.uses[utterance.audio_filepath] == 1:
            if abs(duration - info.duration) > LENGTH_TOLERANCE:
                return (
                    "duration-mismatch",
                    f"{duration:.3f} s in the manifest, {info.duration:.3f} s in the recording; prepare the data again",
                )
        elif end > info.duration + LENGTH_TOLERANCE:
            return "segment-beyond-end", f"ends at {end:.3f} s, the recording at {info.duration:.3f} s"
        return None

    def _sum_fault(self, utterance: Utterance) -> tuple[str, str] | None:
        expected, path = utterance.extra.get(AUDIO_SHA256), utterance.audio_filepath
        if not isinstance(expected, str):
            return None
        if path not in self._sums:
            self._sums[path] = file_sha256(path)
        if self._sums[path] == expected.lower():
            return None
        sums = f"has sha256 {self._sums[path][:16]}..., the manifest says {expected[:16]}..."
        return "wrong-sha256", f"{show_path(path)}: {sums}: it was damaged or replaced; copy or download it again"

    def _decode_fault(self, utterance: Utterance, info: AudioInfo) -> tuple[str, str] | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)
            try:
                samples = read_audio(
                    utterance.audio_filepath,
                    sample_rate=info.sample_rate,
                    offset=utterance.offset,
                    duration=utterance.duration if info.exact else None,
                    channels=self.options.channels,
                )
            except AudioError as error:
                return error.kind, str(error)
        decoded = len(samples) / info.sample_rate
        if decoded < utterance.duration - LENGTH_TOLERANCE:
            return (
                "duration-mismatch",
                f"{utterance.duration:.3f} s in the manifest, {decoded:.3f} s decoded; prepare the data again",
            )
        return None

    def _note(self, info: AudioInfo) -> None:
        self.notes.update(info.notes)
        if info.channels > 1:
            self.notes["first-channel" if self.options.channels == "first" else "mixed-channels"] += 1
        if info.sample_rate != self.sample_rate:
            self.notes["upsampled" if info.sample_rate < self.sample_rate else "resampled"] += 1


class _Transcripts:
    """Checks the transcript side of utterances and counts the symbols that the alphabet lacks."""

    def __init__(self, unit: str, encode: Callable[[str], list[int]] | None, unknown: Callable[[str], list[str]] | None) -> None:
        self.unit = unit
        self.encode = encode
        self.unknown = unknown
        self._counts: Counter[str] = Counter()
        self._utterances: Counter[str] = Counter()
        self._first: dict[str, tuple[str, str]] = {}

    def check(self, utterance: Utterance, place: str) -> tuple[list[int], list[tuple[str, str]]]:
        """Token ids (none when there is a fault), and the faults as (kind, message)."""
        if self.encode is None:
            return [], []
        name = "phones" if self.unit == "phones" else "text"
        text = target_text(utterance, self.unit)
        if text is None:
            return [], [("missing-text", f'has no "{name}"; training on {self.unit} needs it')]
        symbols = self.unknown(text) if self.unknown else []
        if symbols:
            for symbol in symbols:
                self._counts[symbol] += 1
            for symbol in dict.fromkeys(symbols):
                self._utterances[symbol] += 1
                self._first.setdefault(symbol, (place, utterance.id))
            shown = ", ".join(show_symbol(symbol) for symbol in dict.fromkeys(symbols))
            return [], [("unknown-symbol", f"{name} holds {shown}, not in the alphabet")]
        try:
            tokens = self.encode(text)
        except DataError as error:
            return [], [("unknown-symbol", str(error))]
        if not tokens:
            return [], [("empty-text", f"{name} is empty after normalisation: {text[:40]!r}")]
        return tokens, []

    def unknown_symbols(self) -> list[UnknownSymbol]:
        """The most frequent first."""
        return [
            UnknownSymbol(symbol, count, self._utterances[symbol], *self._first[symbol])
            for symbol, count in self._counts.most_common()
        ]


def _ctc_faults(tokens: list[int], frames: int, fastest: float) -> list[tuple[str, str]]:
    repeats = sum(left == right for left, right in pairwise(tokens))
    needed = len(tokens) + repeats
    if frames >= needed:
        return []
    speed = f" at speed {fastest:g}" if fastest != 1 else ""
    fault = f"{len(tokens)} tokens with {repeats} repeats need {needed} frames, the recording gives {frames}{speed}"
    return [("ctc-impossible", fault)]


def _causes(report: DataReport, options: CheckOptions) -> str:
    limits = {
        "too-long": f" (data.max_duration={options.max_duration:g})",
        "too-short": f" (data.min_duration={options.min_duration:g})",
    }
    return ", ".join(f"{count} {kind}{limits.get(kind, '')}" for kind, count in report.counts.items())
