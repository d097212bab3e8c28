"""References and hypotheses joined by utterance id, counted, and pooled over the test set."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from asr.errors import DataError, UsageError
from asr.scoring.edits import UNITS, Alignment, EditCounts, align, count, split_tokens
from asr.scoring.significance import Difference, bootstrap_interval, paired_difference
from asr.scoring.transcripts import Transcript, list_faults, read_transcripts
from asr.text.normalize import TextRules
from asr.text.phones import fold_phones, strip_arpabet

PHONE_SETS = ("as_is", "arpabet", "timit48", "timit39")


@dataclass
class ScoreOptions:
    #: reference manifest (JSON lines with id and text or phones; speaker, if there, groups the bootstrap)
    ref: str = field(default="", metadata={"path": True})
    #: hypotheses, as asr-decode writes them (JSON lines with id and text or phones)
    hyp: str = field(default="", metadata={"path": True})
    #: hypotheses of another recogniser for the same references: the two are compared
    against: str = field(default="", metadata={"path": True})
    #: what is counted: word | char | phone
    unit: str = "word"
    #: folder for score.json and alignments.txt; empty prints the table only
    out: str = field(default="", metadata={"path": True})
    #: bootstrap draws behind the 95 % interval
    resamples: int = 1000
    #: seed of those draws
    seed: int = 1
    #: Unicode form of both sides: NFC | folded (wide, narrow and presentation forms as plain letters) | NFKC | none
    unicode: str = "NFC"
    #: letters of both sides before counting: keep | lower | upper
    case: str = "keep"
    #: marks of both sides: keep | plain (typographic quotes and dashes as ' " -) | drop (none but those inside words and numbers)
    punctuation: str = "keep"
    #: digits of both sides: keep | ascii (those of any script as 0 to 9)
    digits: str = "keep"
    #: replacements in both sides, after the steps above: substring -> string ("" deletes)
    map: dict[str, str] = field(default_factory=dict)
    #: phones of both sides before counting: as_is | arpabet (no stress and position marks) | timit48 | timit39 (folded)
    phone_set: str = "as_is"
    #: with phone_set=timit48 or timit39: count a run of silences as one, on both sides
    merge_silence: bool = False

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise UsageError(f"unit must be one of {', '.join(UNITS)}, got '{self.unit}'")
        if self.resamples < 100:
            raise UsageError(f"resamples must be at least 100 for a 95 % interval, got {self.resamples}")
        if self.seed < 0:
            raise UsageError(f"seed must not be negative, got {self.seed}")
        self.rules.check()
        if self.phone_set not in PHONE_SETS:
            raise UsageError(f"phone_set must be one of {', '.join(PHONE_SETS)}, got '{self.phone_set}'")
        if self.unit == "phone" and (self.punctuation, self.digits, self.map) != ("keep", "keep", {}):
            raise UsageError("punctuation, digits and map are about written text and do not go with unit=phone")
        if self.phone_set != "as_is" and self.unit != "phone":
            raise UsageError(f"phone_set={self.phone_set} goes with unit=phone only, got unit={self.unit}")
        if self.merge_silence and not self.phone_set.startswith("timit"):
            raise UsageError("merge_silence=true needs phone_set=timit48 or phone_set=timit39, which name the silence symbol")

    @property
    def rules(self) -> TextRules:
        """What both sides go through before they are compared."""
        return TextRules(self.unicode, self.case, self.punctuation, self.digits, self.map)


@dataclass(frozen=True)
class UtteranceScore:
    """One reference utterance with what was recognised of it."""

    id: str
    speaker: str | None
    alignment: Alignment
    counts: EditCounts
    #: no line in the hypothesis file
    missing: bool = False
    #: why the decoder could not decode it
    error: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Another recogniser on the same references."""

    score: "Score"
    #: of this one's error rate to the other's; None where there is no interval
    difference: Difference | None


@dataclass(frozen=True)
class Score:
    """A scored test set. Nothing in it depends on the order of lines in the two files, besides `heads`."""

    unit: str
    #: sorted by id
    utterances: tuple[UtteranceScore, ...]
    counts: EditCounts
    #: 95 % bootstrap interval of the error rate, as fractions; None with fewer than two groups or no reference tokens
    interval: tuple[float, float] | None
    #: what the bootstrap drew: "speaker" or "utterance"
    interval_by: str
    groups: int
    resamples: int
    seed: int
    rules: TextRules
    phone_set: str
    merge_silence: bool
    #: ids of references without a hypothesis (scored as deletions), sorted
    missing: tuple[str, ...]
    #: ids of hypotheses without a reference (not scored), sorted
    extra: tuple[str, ...]
    #: ids of recordings that could not be decoded (scored as deletions), sorted
    undecodable: tuple[str, ...]
    #: (side, id, first words) of the first line of each file, to see that they are what was meant
    heads: tuple[tuple[str, str, str], ...]
    #: doubts about the input, one sentence each
    notes: tuple[str, ...]
    #: where there is another recogniser to compare with
    against: Comparison | None = None

    def by_speaker(self) -> dict[str, tuple[int, EditCounts]]:
        """Speaker -> (utterances, counts), sorted by name; utterances without a speaker are left out."""
        pooled: dict[str, tuple[int, EditCounts]] = {}
        for utterance in sorted(self.utterances, key=lambda one: one.speaker or ""):
            if utterance.speaker is not None:
                number, counts = pooled.get(utterance.speaker, (0, EditCounts()))
                pooled[utterance.speaker] = (number + 1, counts + utterance.counts)
        return pooled

    def confusions(self) -> dict[str, list[tuple[str, str, int]]]:
        """Errors by kind ('S', 'D', 'I') as (reference token, hypothesis token, times), the most frequent first."""
        tallies: dict[str, Counter[tuple[str, str]]] = {"S": Counter(), "D": Counter(), "I": Counter()}
        for utterance in self.utterances:
            for pair in utterance.alignment:
                if pair.mark:
                    tallies[pair.mark][(pair.reference or "", pair.hypothesis or "")] += 1
        ordered = {}
        for mark, tally in tallies.items():
            ordered[mark] = [(*tokens, times) for tokens, times in sorted(tally.items(), key=lambda item: (-item[1], item[0]))]
        return ordered


def score_manifests(
    ref_path: str | os.PathLike[str],
    hyp_path: str | os.PathLike[str],
    unit: str,
    *,
    resamples: int = 1000,
    seed: int = 1,
    rules: TextRules | None = None,
    phone_set: str = "as_is",
    merge_silence: bool = False,
) -> Score:
    """Score a file of hypotheses against a reference manifest.

    Every reference counts: one without hypothesis, or whose hypothesis carries `error`, is all deletions. Phones are taken
    from `phones` and, in hypotheses that have none, from `text`. Raises DataError for files that cannot be read, ids that
    stand twice, references without the transcript that `unit` asks for, and phones that `phone_set` does not know.
    """
    return score_files(
        ScoreOptions(
            ref=os.fspath(ref_path),
            hyp=os.fspath(hyp_path),
            unit=unit,
            resamples=resamples,
            seed=seed,
            **vars(rules or TextRules()),
            phone_set=phone_set,
            merge_silence=merge_silence,
        )
    )


def score_files(options: ScoreOptions) -> Score:
    """As `score_manifests`, for the files and settings of the command line."""
    references = read_transcripts(options.ref)
    score = score_transcripts(references, read_transcripts(options.hyp), options)
    if not options.against:
        return score
    return compare(score, score_transcripts(references, read_transcripts(options.against), options))


def compare(score: Score, other: Score) -> Score:
    """`score` with the difference to `other`, a score of the same references; both draw the same groups."""
    ours, theirs = (_groups(one.utterances)[1] for one in (score, other))
    difference = paired_difference(
        [group.errors for group in ours],
        [group.errors for group in theirs],
        [group.reference_tokens for group in ours],
        resamples=score.resamples,
        seed=score.seed,
    )
    return replace(score, against=Comparison(other, difference))


def score_transcripts(references: Sequence[Transcript], hypotheses: Sequence[Transcript], options: ScoreOptions) -> Score:
    """As `score_manifests`, for transcripts already read; ids must be unique on each side."""
    spoken = _tokens_by_id(references, partial(_reference_text, unit=options.unit), "references cannot be scored", options)
    heard = _tokens_by_id(hypotheses, partial(_hypothesis_text, unit=options.unit), "hypotheses cannot be scored", options)
    errors = {one.id: one.error for one in hypotheses if one.error}
    ordered = sorted(references, key=lambda one: one.id)
    alignments = align([spoken[one.id] for one in ordered], [heard.get(one.id, []) for one in ordered])
    utterances = tuple(
        UtteranceScore(one.id, one.speaker, alignment, count(alignment), one.id not in heard, errors.get(one.id))
        for one, alignment in zip(ordered, alignments)
    )
    by, groups = _groups(utterances)
    tokens = [group.reference_tokens for group in groups]
    interval = bootstrap_interval([group.errors for group in groups], tokens, resamples=options.resamples, seed=options.seed)
    return Score(
        unit=options.unit,
        utterances=utterances,
        counts=sum((one.counts for one in utterances), EditCounts()),
        interval=interval,
        interval_by=by,
        groups=len(groups),
        resamples=options.resamples,
        seed=options.seed,
        rules=options.rules,
        phone_set=options.phone_set,
        merge_silence=options.merge_silence,
        missing=tuple(one.id for one in utterances if one.missing),
        extra=tuple(sorted(set(heard) - set(spoken))),
        undecodable=tuple(one.id for one in utterances if one.error),
        heads=_heads(references, hypotheses, options.unit),
        notes=_notes(references, hypotheses, utterances),
    )


def _reference_text(transcript: Transcript, unit: str) -> str:
    name = "phones" if unit == "phone" else "text"
    text = transcript.phones if unit == "phone" else transcript.text
    if text is None:
        raise DataError(f'the reference "{transcript.id}" has no "{name}", which unit={unit} compares; choose another unit')
    return text


def _hypothesis_text(transcript: Transcript, unit: str) -> str:
    if transcript.error:
        return ""
    text = transcript.text
    if unit == "phone" and transcript.phones is not None:
        text = transcript.phones
    if text is None:
        name = '"phones" nor "text"' if unit == "phone" else '"text"'
        raise DataError(f'the hypothesis "{transcript.id}" has no {name}, which unit={unit} compares')
    return text


def _tokens_by_id(transcripts: Iterable[Transcript], text_of, head: str, options: ScoreOptions) -> dict[str, list[str]]:
    tokens: dict[str, list[str]] = {}
    faults = []
    for transcript in transcripts:
        try:
            tokens[transcript.id] = _fold(split_tokens(text_of(transcript), options.unit, rules=options.rules), options)
        except DataError as fault:
            faults.append(f"{transcript.where}: {fault}")
    if faults:
        raise DataError(list_faults(faults, f"{len(faults)} {head}"))
    return tokens


def _fold(tokens: list[str], options: ScoreOptions) -> list[str]:
    if options.phone_set == "as_is":
        return tokens
    if options.phone_set == "arpabet":
        return [strip_arpabet(phone) for phone in tokens]
    return fold_phones(tokens, options.phone_set, merge_silence=options.merge_silence)


def _groups(utterances: Sequence[UtteranceScore]) -> tuple[str, list[EditCounts]]:
    """The units of the bootstrap: speakers where every utterance has one and there are at least two, else utterances."""
    speakers: dict[str, EditCounts] = {}
    for one in sorted(utterances, key=lambda one: one.speaker or ""):
        if one.speaker is None:
            break
        speakers[one.speaker] = speakers.get(one.speaker, EditCounts()) + one.counts
    else:
        if len(speakers) > 1:
            return "speaker", list(speakers.values())
    return "utterance", [one.counts for one in utterances]


def _heads(references: Sequence[Transcript], hypotheses: Sequence[Transcript], unit: str) -> tuple[tuple[str, str, str], ...]:
    heads = []
    for side, transcripts in (("ref", references), ("hyp", hypotheses)):
        for one in transcripts[:1]:
            text = (one.phones or one.text if unit == "phone" else one.text) or ""
            heads.append((side, one.id, text))
    return tuple(heads)


def _notes(
    references: Sequence[Transcript], hypotheses: Sequence[Transcript], utterances: Sequence[UtteranceScore]
) -> tuple[str, ...]:
    notes = []
    if hypotheses and any(one.has_audio for one in hypotheses) and not any(one.has_audio for one in references):
        notes.append("hyp= looks like a manifest and ref= like a decoder's output: are the two swapped?")
    if references and hypotheses and all(one.missing for one in utterances):
        notes.append(f'no id occurs in both files: the first are "{references[0].id}" and "{hypotheses[0].id}"')
    wrong = [pair for one in utterances for pair in one.alignment if pair.mark == "S"]
    only_case = sum((pair.reference or "").casefold() == (pair.hypothesis or "").casefold() for pair in wrong)
    if only_case * 10 > len(wrong):
        notes.append(
            f"{only_case} of {len(wrong)} substitutions differ in upper and lower case only; case=lower compares without it"
        )
    return tuple(notes)
