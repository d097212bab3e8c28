"""Byte pairs: pieces of words, learnt from text by joining the most frequent neighbours again and again (Sennrich, Haddow and
Birch, ACL 2016, algorithm 1).

sentencepiece learns them. What it has learnt is a list of pieces in the order in which they were joined, and that list, the
model's tokens.txt, is all that is needed to cut a word: join the neighbours whose joint piece was learnt first, until none is
left. So a model needs no further file and no further package, and nothing in it is read by native code.

A piece that begins a word begins with U+2581, which stands for the space before it.
"""

import functools
import heapq
import io
from collections.abc import Iterable, Sequence

from asr.errors import UsageError

#: Stands for the space, in pieces and in files of symbols.
WRITTEN_SPACE = "▁"


class BytePairs:
    """Words -> the ids of their pieces. ``pieces[0]`` is the blank; the others are numbered in the order they were learnt."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self._ids = {piece: index for index, piece in enumerate(pieces) if index}
        self.cut = functools.lru_cache(2**16)(self._cut)

    def unknown(self, word: str) -> list[str]:
        """The characters of a word that no piece holds, in order, with repeats."""
        return [letter for letter in word if letter not in self._ids]

    def _cut(self, word: str) -> tuple[int, ...]:
        """The ids of a word whose characters are all known."""
        pieces: list[str] = [*(WRITTEN_SPACE + word)]
        after = [*range(1, len(pieces)), -1]
        before = [*range(-1, len(pieces) - 1)]
        joints = [joint for place in range(len(pieces) - 1) if (joint := self._joint(pieces, place, place + 1))]
        heapq.heapify(joints)
        while joints:
            _, left, right, joined = heapq.heappop(joints)
            if pieces[left] + pieces[right] != joined or after[left] != right:
                continue  # one of the two has been joined with its other neighbour
            pieces[left], pieces[right] = joined, ""
            after[left] = following = after[right]
            after[right] = -1
            if following >= 0:
                before[following] = left
            for pair in ((before[left], left), (left, following)):
                if min(pair) >= 0 and (joint := self._joint(pieces, *pair)):
                    heapq.heappush(joints, joint)
        return tuple(self._ids[piece] for piece in pieces if piece)

    def _joint(self, pieces: list[str], left: int, right: int) -> tuple[int, int, int, str] | None:
        """(rank, left, right, joint piece) of two neighbours, or None where they make no piece."""
        joined = pieces[left] + pieces[right]
        rank = self._ids.get(joined)
        return None if rank is None else (rank, left, right, joined)


def learn_byte_pairs(texts: Iterable[str], *, size: int, extra: Iterable[str] = ()) -> list[str]:
    """``size - 1`` pieces from normalised texts, in the order they were learnt; the characters come last. The blank is not among
    them. The same texts, in any order, give the same pieces. ``extra`` are characters to know beside those of the texts.

    Raises UsageError where sentencepiece is missing, and for a size that is too small for the characters or too large for the
    texts.
    """
    try:
        import sentencepiece
    except ImportError:
        message = "tokens.unit=bytepairs learns its units with sentencepiece, which comes with the extra bytepairs"
        raise UsageError(f"{message}: pip install 'asr[bytepairs]'") from None
    lines = sorted(text for text in texts if text)
    letters = {WRITTEN_SPACE, *extra}.union(*lines) - {" "}
    if size < len(letters) + 1:
        least = f"{len(letters) - 1} different characters, the space and the blank need {len(letters) + 1}"
        raise UsageError(f"tokens.size={size} is too small: {least}, and each byte pair one more")
    found = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=found,
        model_type="bpe",
        vocab_size=size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        required_chars="".join(sorted(letters - {WRITTEN_SPACE})),
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        max_sentence_length=2**30,
        shuffle_input_sentence=False,
        num_threads=1,
        unk_id=0,  # the place of the blank, so that ids agree
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_proto=found.getvalue())
    pieces = [model.id_to_piece(index) for index in range(1, len(model))]
    if len(pieces) + 1 < size:
        most = len(pieces) + 1
        raise UsageError(f"tokens.size={size} is too large: these transcripts give no more than {most}; set tokens.size={most}")
    return pieces


def pieces_fault(pieces: Sequence[str]) -> str | None:
    """What is wrong with a list of pieces, the blank first, as a sentence without a subject; None when nothing is.

    Each character of a piece must be a piece, and each longer piece the joint of two that were learnt before it.
    """
    ids = {piece: index for index, piece in enumerate(pieces) if index}
    if WRITTEN_SPACE not in ids:
        return f"no symbol {WRITTEN_SPACE!r}, which begins a word, but tokens.unit=bytepairs"
    for piece, index in ids.items():
        if not piece or piece.split() != [piece] or WRITTEN_SPACE in piece[1:]:
            return f"symbol {index}, {piece!r}, is no piece of a word, but tokens.unit=bytepairs"
        if len(piece) > 1 and not any(
            all((len(part) == 1 and part in ids) or ids.get(part, index) < index for part in (piece[:cut], piece[cut:]))
            for cut in range(1, len(piece))
        ):
            return f"symbol {index}, {piece!r}, is no joint of two symbols before it, but tokens.unit=bytepairs"
    return None
