"""Back-off n-gram models as finite-state automata in flat arrays: a state is a context, an arc a word with its probability.

P(w | h) = p(w | h) where the model lists the n-gram h w, else b(h) P(w | h without its first word) (Katz 1987, IEEE Trans. ASSP
35(3), eq. 2, as ARPA files store it; interpolated models are stored the same way). The unit of a model may be words, phones or
characters: here each is a "word". Logarithms are natural; base 10 exists in ARPA files only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

UNK, BOS, EOS = "<unk>", "<s>", "</s>"
#: ln P of an unknown word under a model without <unk>: 10^-100, as KenLM takes it; never minus infinity, which has no weight.
UNLISTED_LOGP = -100.0 * float(np.log(10.0))
#: ln P of <s>, which nothing predicts: 10^-99, as ARPA files write a probability of 0.
NEVER = -99.0 * float(np.log(10.0))
MAX_ORDER = 15

Ints = NDArray[np.integer[Any]]
Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


class NgramTables(NamedTuple):
    """The automaton of S states and A arcs, contiguous for compiled code. State 0 is the empty context.

    State 0 has an arc for each word id but <s>. A word without an arc in a state is looked for in the state's back-off state,
    and so on down to state 0; the back-off weights of the states left on the way are added.
    """

    #: (S + 1,): arcs of state s are arc_begin[s]:arc_begin[s + 1], sorted by arc_word
    arc_begin: Int32
    #: (A,) word ids
    arc_word: Int32
    #: (A,) ln P(word | context)
    arc_logp: Float32
    #: (A,) the state after that word: the longest suffix that is a context of the model
    arc_next: Int32
    #: (S,) ln of the back-off weight; 0 for state 0
    backoff_logp: Float32
    #: (S,) the next shorter context; -1 for state 0
    backoff_state: Int32


class NgramLevel(NamedTuple):
    """The N n-grams of one length, sorted by (prefix, word), each once. Level 1 holds all V word ids in order, prefix 0."""

    #: (N,) index of the first n - 1 words in the level below
    prefix: Ints
    #: (N,) id of the last word
    word: Ints
    #: (N,) natural logarithms of probability and back-off weight
    logp: NDArray[np.floating[Any]]
    backoff: NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class NgramModel:
    """An n-gram model that cannot be changed. Words are numbered 0..V-1."""

    order: int
    #: id -> word
    words: tuple[str, ...]
    tables: NgramTables
    #: (S,) number of words in the context that a state stands for
    state_length: NDArray[np.int8]
    #: id of <unk>; None where the model has none
    unk: int | None
    #: ids of <s> and </s>
    bos: int
    eos: int
    #: the state after <s>
    start: int
    _ids: dict[str, int] = field(repr=False)

    def id(self, word: str) -> int:
        """The id of a word; of an unknown one that of <unk>, or -1 where the model has none."""
        return self._ids.get(word, -1 if self.unk is None else self.unk)

    def knows(self, word: str) -> bool:
        """Whether the word itself is in the model; <unk>, <s> and </s> are no words."""
        return self._ids.get(word, self.bos) not in (self.unk, self.bos, self.eos)

    def score(self, state: int, word: int) -> tuple[float, int]:
        """(ln P(word | state), next state) for a word id; -1 (unknown without <unk>) and <s> get UNLISTED_LOGP."""
        tables = self.tables
        weight = 0.0
        while True:
            begin, end = int(tables.arc_begin[state]), int(tables.arc_begin[state + 1])
            arc = begin + int(np.searchsorted(tables.arc_word[begin:end], word))
            if arc < end and tables.arc_word[arc] == word:
                return weight + float(tables.arc_logp[arc]), int(tables.arc_next[arc])
            if state == 0:
                return weight + UNLISTED_LOGP, 0
            weight += float(tables.backoff_logp[state])
            state = int(tables.backoff_state[state])

    def score_sentence(self, words: Sequence[str]) -> float:
        """ln P(words, </s> | <s>)."""
        total, state = 0.0, self.start
        for word in [*(self.id(word) for word in words), self.eos]:
            logp, state = self.score(state, word)
            total += logp
        return total


def build_model(words: Sequence[str], levels: Sequence[NgramLevel]) -> NgramModel:
    """The automaton of the n-grams of length 1, 2, ... n. `words` must hold <s> and </s>; the probability of <s> is not used.

    A context is a state when a longer n-gram begins with it or its back-off weight is not 1; the others would never be left
    but by backing off. The highest level has no back-off weights, whatever stands there.
    """
    ids = {word: number for number, word in enumerate(words)}
    bos, eos = ids[BOS], ids[EOS]
    order, size = len(levels), len(words)
    exact = _number_states(levels)
    kept = np.arange(size) != bos
    parents = [np.zeros(size, np.int64)[kept], *(exact[n - 1][levels[n].prefix] for n in range(1, order))]
    followers = [levels[0].word[kept], *(level.word for level in levels[1:])]
    arc_state = np.concatenate(parents)
    arc_word = np.concatenate(followers).astype(np.int32)
    own = np.concatenate([exact[0][kept], *exact[1:]])
    keys = arc_state * size + arc_word

    states = 1 + sum(int(np.count_nonzero(numbers >= 0)) for numbers in exact)
    backoff_state: Ints = np.full(states, -1, np.int64)
    backoff_logp = np.zeros(states, np.float32)
    state_length = np.zeros(states, np.int8)
    arc_next: list[Ints] = [np.maximum(own[: size - 1], 0)]
    first = exact[0][exact[0] >= 0]
    backoff_state[first], state_length[first] = 0, 1
    backoff_logp[first] = levels[0].backoff[exact[0] >= 0]
    for n in range(1, order):
        found = _shorter(parents[n], followers[n], backoff_state, keys, own, size)
        is_state = exact[n] >= 0
        backoff_state[exact[n][is_state]] = found[is_state]
        backoff_logp[exact[n][is_state]] = levels[n].backoff[is_state]
        state_length[exact[n][is_state]] = n + 1
        arc_next.append(np.where(is_state, exact[n], found))

    tables = NgramTables(
        arc_begin=np.searchsorted(arc_state, np.arange(states + 1)).astype(np.int32),
        arc_word=arc_word,
        arc_logp=np.concatenate([levels[0].logp[kept], *(level.logp for level in levels[1:])]).astype(np.float32),
        arc_next=np.concatenate(arc_next).astype(np.int32),
        backoff_logp=backoff_logp,
        backoff_state=backoff_state.astype(np.int32),
    )
    for array in (*tables, state_length):
        array.flags.writeable = False
    start = max(int(exact[0][bos]), 0)
    return NgramModel(order, tuple(words), tables, state_length, ids.get(UNK), bos, eos, start, ids)


def _number_states(levels: Sequence[NgramLevel]) -> list[Ints]:
    """For each n-gram of each level the number of its state, shorter contexts first, or -1."""
    numbers, count = [], 1
    for n, level in enumerate(levels):
        is_state = np.zeros(len(level.word), bool)
        if n + 1 < len(levels):
            is_state |= level.backoff != 0
            is_state[levels[n + 1].prefix] = True
        numbers.append(np.where(is_state, np.cumsum(is_state) + (count - 1), -1))
        count += int(np.count_nonzero(is_state))
    return numbers


def _shorter(
    state: Ints,
    word: Ints,
    backoff_state: Ints,
    keys: Ints,
    own: Ints,
    size: int,
) -> Ints:
    """For n-grams (state, word) the state of their longest proper suffix that is one.

    The longest suffix of `h w` ends in w, so it is `g w` with g a suffix of h; every prefix of a state is a state.
    """
    found = np.zeros(len(state), np.int64)
    context = backoff_state[state]
    open_ = np.arange(len(state))
    while len(open_):
        wanted = context * size + word[open_]
        arc = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        target = np.where(keys[arc] == wanted, own[arc], -1)
        done = (target >= 0) | (context == 0)
        found[open_[done]] = np.maximum(target[done], 0)
        open_ = open_[~done]
        context = backoff_state[context[~done]]
    return found


def list_levels(model: NgramModel) -> list[NgramLevel]:
    """The n-grams of a model, the inverse of `build_model`; <s> as a 1-gram has ln P = NEVER."""
    tables, size = model.tables, len(model.words)
    arc_state = np.repeat(np.arange(len(tables.backoff_state)), np.diff(tables.arc_begin))
    arc_length = model.state_length[arc_state].astype(np.int64) + 1
    exact = model.state_length[tables.arc_next] == arc_length
    backoff = np.where(exact, tables.backoff_logp[tables.arc_next], np.float32(0.0))
    # index of each state's n-gram in its level: unigrams by word id, longer ones by the place of their arc
    place = np.zeros(len(tables.backoff_state), np.int64)
    levels = []
    for length in range(1, model.order + 1):
        chosen = np.flatnonzero(arc_length == length)
        word, logp, weight = tables.arc_word[chosen], tables.arc_logp[chosen], backoff[chosen]
        prefix = place[arc_state[chosen]]
        position = np.arange(len(chosen))
        if length == 1:
            position = word.astype(np.int64)
            place[model.start] = model.bos
            start_weight = tables.backoff_logp[model.start] if model.start else np.float32(0.0)
            word, prefix = np.arange(size, dtype=np.int32), np.zeros(size, np.int64)
            logp, weight = np.insert(logp, model.bos, NEVER), np.insert(weight, model.bos, start_weight)
        place[tables.arc_next[chosen[exact[chosen]]]] = position[exact[chosen]]
        levels.append(NgramLevel(prefix, word, logp, weight))
    return levels
