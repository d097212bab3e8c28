"""A score to read: the table on the screen, alignments in columns, and score.json."""

import json
import os
import unicodedata
from collections.abc import Sequence
from typing import Any

from asr.data.files import show_path, write_atomic
from asr.errors import UsageError
from asr.scoring.edits import Alignment, EditCounts, Pair
from asr.scoring.score import Comparison, Score, UtteranceScore
from asr.text.normalize import TextRules

NAMES = {"word": "word error rate", "char": "character error rate", "phone": "phone error rate"}
NORMALIZATION = "Unicode NFC, invisible marks removed, runs of white space as one space"
#: columns of a line of alignment
WIDTH = 100
#: rows of each list on the screen, and in score.json
SHOWN, STORED = 5, 50
#: characters that turn or break a line on a terminal
_UNSAFE = set("\u200e\u200f\u2028\u2029") | {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def score_dict(score: Score) -> dict[str, Any]:
    """What score.json holds. Rates are fractions; `error_rate` and `interval` are None where they are undefined."""
    errors = score.confusions()
    return {
        "unit": score.unit,
        "utterances": len(score.utterances),
        **_count_fields(score.counts),
        "interval": None if score.interval is None else list(score.interval),
        "missing": list(score.missing),
        "extra": list(score.extra),
        "undecodable": list(score.undecodable),
        "utterances_with_errors": sum(one.counts.errors > 0 for one in score.utterances),
        "interval_by": score.interval_by,
        "resamples": score.resamples,
        "seed": score.seed,
        "costs": {"substitution": 1, "deletion": 1, "insertion": 1},
        "normalization": NORMALIZATION,
        **vars(score.rules),
        "phone_set": score.phone_set,
        "merge_silence": score.merge_silence,
        "speakers": [
            {"speaker": name, "utterances": number, **_count_fields(counts)}
            for name, (number, counts) in score.by_speaker().items()
        ],
        "top_substitutions": [[*tokens] for tokens in errors["S"][:STORED]],
        "top_deletions": [[reference, times] for reference, _, times in errors["D"][:STORED]],
        "top_insertions": [[hypothesis, times] for _, hypothesis, times in errors["I"][:STORED]],
        "against": None if score.against is None else _against_dict(score.against),
    }


def _against_dict(against: Comparison) -> dict[str, Any]:
    """The other recogniser in score.json: its counts, and how far the first one's error rate is from its own."""
    other, difference = against.score, against.difference
    return {
        **_count_fields(other.counts),
        "interval": None if other.interval is None else list(other.interval),
        "missing": list(other.missing),
        "extra": list(other.extra),
        "undecodable": list(other.undecodable),
        "difference": None if difference is None else difference.rate,
        "difference_interval": None if difference is None else list(difference.interval),
        "better_in_draws": None if difference is None else difference.better,
    }


def write_report(score: Score, out: str | os.PathLike[str]) -> list[str]:
    """Write score.json and alignments.txt into the folder `out`, made if need be; returns their paths.

    Raises UsageError when `out` is a file, ResourceError when it cannot be written.
    """
    if os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(f"out={show_path(out)} is a file; expected the name of a folder for score.json and alignments.txt")
    paths = [os.path.join(out, name) for name in ("alignments.txt", "score.json")]
    write_atomic(paths[0], alignments_text(score))
    write_atomic(paths[1], json.dumps(score_dict(score), ensure_ascii=False, indent=2) + "\n")
    return paths


def summary_line(score: Score) -> str:
    """The rate with its interval and what it was counted on, in one line."""
    rate = score.counts.error_rate
    if rate is None:
        return f"{NAMES[score.unit]} undefined: 0 reference tokens in {len(score.utterances)} utterances"
    interval = f"no interval from {score.groups} {_plural(score.groups, score.interval_by)}"
    if score.interval is not None:
        low, high = (f"{100 * bound:.2f}" for bound in score.interval)
        draws = f"{score.resamples} bootstrap draws over {score.groups} {_plural(score.groups, score.interval_by)}"
        interval = f"95 % interval {low} .. {high} %, {draws}"
    return f"{NAMES[score.unit]} {100 * rate:.2f} % of {score.counts.reference_tokens} reference tokens ({interval})"


def comparison_lines(score: Score) -> list[str]:
    """The other recogniser's rate, and what the difference is worth; nothing where there is no other."""
    if score.against is None:
        return []
    other, difference = score.against.score, score.against.difference
    lines = [f"against: {summary_line(other)}"]
    lost = {*other.missing, *other.undecodable}
    if lost:
        lines.append(f"  {len(lost)} without hypothesis there, or not decodable: scored as deletions")
    if difference is not None:
        low, high = (f"{100 * bound:+.2f}" for bound in difference.interval)
        lines.append(
            f"  hyp - against: {100 * difference.rate:+.2f} points (95 % interval {low} .. {high}, paired draws); "
            f"hyp is better in {100 * difference.better:.1f} % of the draws"
        )
        if difference.interval[0] <= 0 <= difference.interval[1]:
            lines.append("  the interval holds 0: these references cannot tell the two apart")
    return lines


def table(score: Score) -> str:
    """The report on the screen: both files' heads, rate, counts, worst speakers and utterances, most frequent errors."""
    lines = [f"{side}  {_safe(name)}  {_clip(text)}" for side, name, text in score.heads]
    lines += ["", summary_line(score), *comparison_lines(score), "", *_count_table(score)]
    for title, ids in (
        ("without hypothesis, scored as deletions", score.missing),
        ("not decodable, scored as deletions", score.undecodable),
        ("without reference, not scored", score.extra),
    ):
        if ids:
            more = " ..." if len(ids) > SHOWN else ""
            lines.append(f"{len(ids)} {title}: {', '.join(map(_safe, ids[:SHOWN]))}{more}")
    lines += [f"note: {_safe(note)}" for note in score.notes]
    lines += _frequent_errors(score)
    worst = [one for one in _worst_first(score.utterances) if one.counts.errors][:SHOWN]
    if worst:
        lines += ["", "worst utterances"]
        lines += [f"  {_utterance_head(one)}" for one in worst]
    return "\n".join(lines)


def alignments_text(score: Score) -> str:
    """One block per utterance, the worst first: REF and HYP in columns, and S, D or I below each error."""
    head = [
        summary_line(score),
        "S substitution, D deletion, I insertion, each at cost 1; * stands for no token"
        + (", ▁ for a space" if score.unit == "char" else ""),
        f"text compared after: {NORMALIZATION}"
        + "".join(f"; {name}={value}" for name, value in vars(score.rules).items() if value != getattr(TextRules(), name))
        + (f"; phones as {score.phone_set}" if score.phone_set != "as_is" else "")
        + ("; runs of silence merged" if score.merge_silence else ""),
    ]
    blocks = []
    for one in _worst_first(score.utterances):
        lines = [_utterance_head(one)]
        if one.missing:
            lines.append("no hypothesis")
        if one.error:
            lines.append(f"not decoded: {_safe(one.error)}")
        blocks.append("\n".join(lines + aligned_lines(one.alignment, unit=score.unit)))
    return "\n\n".join(["\n".join(head), *blocks]) + "\n"


def aligned_lines(alignment: Alignment, *, unit: str, width: int = WIDTH) -> list[str]:
    """REF, HYP and mark lines, as many of each as `width` columns ask for; the mark line is left out where all is correct."""
    gap = "" if unit == "char" else " "
    lines: list[str] = []
    row: list[tuple[str, str, str]] = []
    used = 0
    for cell in [_cell(pair) for pair in alignment]:
        size = display_width(cell[0]) + len(gap)
        if row and used + size > width - 5:
            lines += _row_lines(row, gap)
            row, used = [], 0
        row.append(cell)
        used += size
    return lines + (_row_lines(row, gap) if row or not lines else [])


def display_width(text: str) -> int:
    """Columns that a terminal with a fixed-width font gives a text: wide characters take two, combining ones none."""
    width = 0
    for char in text:
        if unicodedata.category(char) not in ("Mn", "Me", "Cf"):
            width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return width


def _row_lines(row: Sequence[tuple[str, str, str]], gap: str) -> list[str]:
    reference, hypothesis, marks = (gap.join(part).rstrip() for part in zip(*row)) if row else ("", "", "")
    lines = [f"REF: {reference}".rstrip(), f"HYP: {hypothesis}".rstrip()]
    return [*lines, f"     {marks}"] if marks else lines


def _cell(pair: Pair) -> tuple[str, str, str]:
    """Reference, hypothesis and mark of one column, padded to the same width."""
    reference, hypothesis = (_shown(token) for token in (pair.reference, pair.hypothesis))
    width = max(display_width(reference), display_width(hypothesis))
    padded = [text + " " * (width - display_width(text)) for text in (reference, hypothesis, pair.mark)]
    return padded[0], padded[1], padded[2]


def _shown(token: str | None) -> str:
    if token is None:
        return "*"
    if token == " ":
        return "▁"
    shown = _safe(token)
    if display_width(shown) == 0:
        return f"◌{shown}" if unicodedata.combining(shown[0]) else token.encode("unicode_escape").decode("ascii")
    return shown


def _safe(text: str) -> str:
    """The text with control characters written out, so that no transcript can move the cursor or turn a line around."""
    return "".join(
        char.encode("unicode_escape").decode("ascii") if char in _UNSAFE or unicodedata.category(char) in ("Cc", "Cs") else char
        for char in text
    )


def _clip(text: str, width: int = 70) -> str:
    clipped = _safe(" ".join(text.split()))
    return clipped if len(clipped) <= width else f"{clipped[: width - 4]} ..."


def _plural(number: int, noun: str) -> str:
    return noun if number == 1 else f"{noun}s"


def _rate(counts: EditCounts) -> str:
    return "undefined" if counts.error_rate is None else f"{100 * counts.error_rate:.2f}"


def _count_fields(counts: EditCounts) -> dict[str, Any]:
    return {
        "reference_tokens": counts.reference_tokens,
        "correct": counts.correct,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "error_rate": counts.error_rate,
    }


def _count_table(score: Score) -> list[str]:
    rows = [("all", len(score.utterances), score.counts)]
    speakers = [(f"speaker {_safe(name)}", number, counts) for name, (number, counts) in score.by_speaker().items()]
    if len(speakers) > 1:
        speakers.sort(key=lambda row: (-_badness(row[2]), row[0]))
        rows += speakers[:SHOWN]
    width = max(display_width(row[0]) for row in rows)
    titles = ("utterances", "tokens", "correct", "subs", "dels", "ins", "error %")
    lines = [" " * width + "".join(f"{title:>{max(9, len(title) + 1)}}" for title in titles)]
    for name, number, counts in rows:
        numbers = (number, counts.reference_tokens, counts.correct, counts.substitutions, counts.deletions, counts.insertions)
        cells = "".join(f"{value:>{max(9, len(title) + 1)}}" for title, value in zip(titles, (*numbers, _rate(counts))))
        lines.append(name + " " * (width - display_width(name)) + cells)
    if len(speakers) > SHOWN:
        lines.append(f"(the {SHOWN} worst of {len(speakers)} speakers; all are in score.json)")
    return lines


def _frequent_errors(score: Score) -> list[str]:
    errors = score.confusions()
    lines = []
    for mark, title in (("S", "substitutions"), ("D", "deletions"), ("I", "insertions")):
        shown = [
            f"{times} x {' -> '.join(_shown(token) for token in tokens if token)}" for *tokens, times in errors[mark][:SHOWN]
        ]
        if shown:
            lines.append(f"  {title:<14}{',  '.join(shown)}")
    return ["", "most frequent", *lines] if lines else []


def _utterance_head(one: UtteranceScore) -> str:
    counts = one.counts
    rate = "rate undefined" if counts.error_rate is None else f"{100 * counts.error_rate:.1f} %"
    speaker = f"  speaker {_safe(one.speaker)}" if one.speaker else ""
    numbers = f"{counts.reference_tokens} tokens, {counts.substitutions} S, {counts.deletions} D, {counts.insertions} I"
    return f"{_safe(one.id)}{speaker}  {rate}  ({numbers})"


def _badness(counts: EditCounts) -> float:
    """Order of the worst: by rate, with errors against an empty reference before all."""
    if counts.error_rate is not None:
        return counts.error_rate
    return float("inf") if counts.errors else 0.0


def _worst_first(utterances: Sequence[UtteranceScore]) -> list[UtteranceScore]:
    return sorted(utterances, key=lambda one: (-_badness(one.counts), -one.counts.errors, one.id))
