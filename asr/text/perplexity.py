"""How well an n-gram model predicts a text."""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError
from asr.text.kenlm_binary import KenlmModel
from asr.text.ngram import BOS, EOS, NgramModel

#: Tokens scored at a time.
CHUNK = 2**20
UNKNOWN_LISTED = 20


@dataclass(frozen=True)
class Perplexity:
    """Sums over a text. `</s>` is predicted once for each sentence and counted as a token; `<s>` is given and not counted."""

    sentences: int
    #: words, without </s>
    words: int
    #: words that the model does not know ("out of vocabulary"), and the most frequent of them with their counts
    unknown: int
    unknown_words: tuple[tuple[str, int], ...]
    #: ln P of all tokens, and of the unknown words among them
    logp: float
    unknown_logp: float

    @property
    def tokens(self) -> int:
        """Words and </s>."""
        return self.words + self.sentences

    @property
    def with_unknown(self) -> float:
        """exp(-ln P / tokens) over all tokens; an unknown word costs the probability of <unk> (1e-100 where there is none)."""
        return _perplexity(self.logp, self.tokens)

    @property
    def without_unknown(self) -> float:
        """The same over the known words and </s>; unknown words still stand in the contexts of others, as <unk>."""
        return _perplexity(self.logp - self.unknown_logp, self.tokens - self.unknown)

    @property
    def bits(self) -> float:
        """Cross entropy in bits per token, over all tokens."""
        return -self.logp / self.tokens / math.log(2)


def _score(model: NgramModel | KenlmModel, ids: NDArray[np.int32], logps: NDArray[np.float64]) -> None:
    if isinstance(model, NgramModel):
        from asr.text.ngram_kernels import score_stream

        score_stream(*model.tables, model.start, model.eos, ids, logps)
        return
    state = model.start
    for place, word in enumerate(ids.tolist()):
        logps[place], state = model.score(state, word)
        if word == model.eos:
            state = model.start
            model.forget()


def _perplexity(logp: float, tokens: int) -> float:
    return math.exp(min(-logp / tokens, 700.0))


def measure_perplexity(model: NgramModel | KenlmModel, sentences: Iterable[Sequence[str]]) -> Perplexity:
    """The perplexity of a text; sentences without words are left out.

    The word "<unk>" in the text counts as unknown. Raises DataError for <s> or </s> in the text, and when it has no words.
    """
    stream, number, words = array("i"), 0, 0
    misses: Counter[str] = Counter()
    sums = np.zeros(2)

    def flush() -> None:
        ids = np.frombuffer(stream, np.int32)
        logps = np.empty(len(ids))
        _score(model, ids, logps)
        sums[:] += logps.sum(), logps[(ids == model.unk) | (ids < 0)].sum()

    for sentence in sentences:
        if not sentence:
            continue
        ids = list(map(model.id, sentence))
        if model.bos in ids or model.eos in ids:
            raise DataError(f"the text holds {BOS} or {EOS}, which the model sets around each sentence itself; remove it")
        if -1 in ids or model.unk in ids:
            misses.update(word for word in sentence if not model.knows(word))
        number, words = number + 1, words + len(ids)
        stream.extend([*ids, model.eos])
        if len(stream) >= CHUNK:
            flush()
            stream = array("i")
    if not number:
        raise DataError("the text has no words: a perplexity needs at least one sentence")
    if stream:
        flush()
    listed = sorted(misses.items(), key=lambda item: (-item[1], item[0]))[:UNKNOWN_LISTED]
    return Perplexity(number, words, misses.total(), tuple(listed), float(sums[0]), float(sums[1]))
