"""Edit counts that add up, from minimal alignments with the costs 1/1/1 for substitution, deletion and insertion.

`sclite` weighs 4/3/3: the split into the three kinds, and now and then the total, differ between the two.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jiwer

from asr.errors import UsageError
from asr.text.normalize import TextRules, normalize_text

UNITS = ("word", "char", "phone")


@dataclass(frozen=True)
class EditCounts:
    """Token counts of one or many alignments; `a + b` and `sum(many, EditCounts())` pool them."""

    correct: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: "EditCounts") -> "EditCounts":
        return EditCounts(
            self.correct + other.correct,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def reference_tokens(self) -> int:
        return self.correct + self.substitutions + self.deletions

    @property
    def hypothesis_tokens(self) -> int:
        return self.correct + self.substitutions + self.insertions

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def error_rate(self) -> float | None:
        """Errors per reference token: 0 is perfect, above 1 is possible, None (undefined) without reference tokens."""
        return self.errors / self.reference_tokens if self.reference_tokens else None


@dataclass(frozen=True)
class Pair:
    """One column of an alignment: None stands for the token that the other side lacks; never None on both sides."""

    reference: str | None
    hypothesis: str | None

    @property
    def mark(self) -> str:
        """'S', 'D', 'I', or '' where both sides agree."""
        if self.reference is None:
            return "I"
        if self.hypothesis is None:
            return "D"
        return "" if self.reference == self.hypothesis else "S"


Alignment = tuple[Pair, ...]


def split_tokens(text: str, unit: str, *, rules: TextRules | None = None) -> list[str]:
    """Tokens of one transcript, after the rules and nothing else.

    By default that is Unicode NFC, invisible marks removed, runs of white space taken as one space. word and phone: pieces
    between spaces; char: code points, the spaces between words included.
    """
    if unit not in UNITS:
        raise UsageError(f"unit must be one of {', '.join(UNITS)}, got '{unit}'")
    normal = normalize_text(text, rules or TextRules())
    return list(normal) if unit == "char" else normal.split()


def align(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]) -> list[Alignment]:
    """Minimal-cost alignment of each reference with the hypothesis at the same place; either may be empty."""
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references for {len(hypotheses)} hypotheses")
    if not references:
        return []
    rows, columns = [list(tokens) for tokens in references], [list(tokens) for tokens in hypotheses]
    output = jiwer.process_words(rows, columns, _tokens_as_they_are, _tokens_as_they_are)  # type: ignore[arg-type]
    return [_pairs(chunks, row, column) for chunks, row, column in zip(output.alignments, rows, columns)]


def count(alignment: Iterable[Pair]) -> EditCounts:
    """Counts of one alignment."""
    marks = [pair.mark for pair in alignment]
    return EditCounts(marks.count(""), marks.count("S"), marks.count("D"), marks.count("I"))


def count_edits(pairs: Iterable[tuple[str, str]], unit: str) -> EditCounts:
    """Pooled counts of many (reference, hypothesis) texts, split into tokens of `unit`."""
    tokens = [(split_tokens(reference, unit), split_tokens(hypothesis, unit)) for reference, hypothesis in pairs]
    alignments = align([reference for reference, _ in tokens], [hypothesis for _, hypothesis in tokens])
    return sum(map(count, alignments), EditCounts())


def _tokens_as_they_are(sentences: list[list[str]]) -> list[list[str]]:
    return sentences


def _pairs(chunks: list[jiwer.AlignmentChunk], reference: list[str], hypothesis: list[str]) -> Alignment:
    pairs: list[Pair] = []
    for chunk in chunks:
        spoken = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        heard = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "delete":
            pairs += [Pair(token, None) for token in spoken]
        elif chunk.type == "insert":
            pairs += [Pair(None, token) for token in heard]
        else:
            pairs += [Pair(left, right) for left, right in zip(spoken, heard)]
    return tuple(pairs)
