"""What a word that has begun can still be worth: it decides which prefixes are kept, and nothing else.

The language model has not judged the last word of a prefix that ends within one. The prefix is lent the most that a word with
such a beginning can add to the score behind the words before it, and gives it back when the word is complete (language-model
look-ahead: Ortmanns, Ney and Eiden, ICSLP 1996). The most is taken over each length of context by itself: over the words that
the longest one lists, over those that the next shorter one lists, with the back-off weight to it, and so on. What a longer
context lists is not taken out of the shorter ones, so it is never too little, and hardly ever too much.
"""

import math
from typing import NamedTuple

import numpy as np

from asr.decoding.compiled import inlined
from asr.text.kenlm_binary import KenlmModel
from asr.text.lexicon import LexiconTree
from asr.text.ngram import UNLISTED_LOGP, NgramModel, NgramTables


class Lookahead(NamedTuple):
    """All worths are factors, e to what is added to the score: weights, insertion bonus and penalties are in them."""

    #: (1 + N,) the most that a word begun at each node of the tree is worth without any context; the first for a word that the
    #: tree does not hold
    anywhere: np.ndarray
    #: (N,) and (N,): the entries in and below node n have the places first[n] .. end[n] - 1
    first: np.ndarray
    end: np.ndarray
    #: (S + 1,): state s lists the words at arc_place[arc_begin[s]:arc_begin[s + 1]], sorted; state 0 none
    arc_begin: np.ndarray
    #: (A,) and (A,): the place of a word's entry, and its worth in that context
    arc_place: np.ndarray
    arc_worth: np.ndarray
    #: (S,) the highest of arc_worth in each state; its back-off weight, that of all steps to no context, the next shorter context
    best: np.ndarray
    backoff: np.ndarray
    down: np.ndarray
    shorter: np.ndarray
    #: the most that any word is worth in any context
    highest: float


def look_ahead(
    model: NgramModel | KenlmModel | None,
    tree: LexiconTree,
    words: np.ndarray,
    *,
    open_vocabulary: bool,
    weight: float,
    bonus: float,
    penalty: float,
) -> Lookahead:
    """Look-ahead of a tree whose entries are these words (E,) of the model, by id; a KenLM binary is asked for no context.

    Words below -1 are hot words that the model does not know, which are spared the penalty. open_vocabulary: the tree need not
    hold a word, which is then worth what an unknown one is.
    """
    if model is None:
        return without_context(tree, tree.logp + bonus, -math.inf)
    stranger = -1 if model.unk is None else model.unk
    worth = weight * _unigrams(model) + bonus
    unknown = float(worth[stranger]) - penalty if open_vocabulary else -math.inf
    alone = tree.logp + worth[np.where(words < -1, stranger, words)] - penalty * (words == stranger)
    if isinstance(model, KenlmModel):
        return without_context(tree, alone, unknown)
    known = np.where(words == stranger, -1, words)
    return in_context(tree, alone, unknown, known, model.tables, weight=weight, bonus=bonus)


def _unigrams(model: NgramModel | KenlmModel) -> np.ndarray:
    """(V + 1,) ln P of each word in the empty context; the last one is that of id -1."""
    found = np.full(len(model.words) + 1, UNLISTED_LOGP)
    if isinstance(model, KenlmModel):
        found[:-1] = [model.score(0, word)[0] for word in range(len(model.words))]
    else:
        arcs = slice(0, int(model.tables.arc_begin[1]))
        found[model.tables.arc_word[arcs]] = model.tables.arc_logp[arcs]
    return found


def without_context(tree: LexiconTree, worth: np.ndarray, unknown: float) -> Lookahead:
    """Look-ahead that is the same behind all words.

    worth (E,) is what each entry of the tree adds to the score, unknown what a word adds that it does not hold.
    """
    first, end = tree.places()
    anywhere = np.exp(np.append(unknown, np.maximum(tree.best_below(worth), unknown)))
    none, empty = np.zeros(1, np.int32), np.zeros(1)
    arrays = (anywhere, first, end, np.zeros(2, np.int32), none[:0], empty[:0], empty, empty, empty, none)
    return Lookahead(*map(_frozen, arrays), float(anywhere.max()))


def in_context(
    tree: LexiconTree, worth: np.ndarray, unknown: float, words: np.ndarray, tables: NgramTables, *, weight: float, bonus: float
) -> Lookahead:
    """Look-ahead behind any words of an n-gram model: words (E,) are the ids in it of the tree's entries, below 0 for none."""
    plain = without_context(tree, worth, unknown)
    owner = np.repeat(np.arange(len(tree.token)), np.diff(tree.word_begin))
    places = plain.first[owner] + np.arange(len(owner)) - tree.word_begin[owner]
    order = np.argsort(words, kind="stable")
    begins = np.searchsorted(words[order], tables.arc_word, side="left")
    counts = np.searchsorted(words[order], tables.arc_word, side="right") - begins
    states = np.repeat(np.arange(len(tables.arc_begin) - 1), np.diff(tables.arc_begin))
    counts[states == 0] = 0
    arcs = np.repeat(np.arange(len(states)), counts)
    entries = order[np.arange(len(arcs)) - np.repeat(np.cumsum(counts) - counts, counts) + begins[arcs]]
    by_place = np.lexsort((places[entries], states[arcs]))
    arcs, entries = arcs[by_place], entries[by_place]
    arc_begin = np.searchsorted(states[arcs], np.arange(len(tables.backoff_state) + 1)).astype(np.int32)
    arc_worth = np.exp(weight * tables.arc_logp[arcs] + tree.logp[entries] + bonus)
    best = np.zeros(len(tables.backoff_state))
    np.maximum.at(best, states[arcs], arc_worth)
    shorter = np.maximum(tables.backoff_state, 0)
    backoff = np.exp(weight * tables.backoff_logp.astype(np.float64))
    down, most, further = np.ones(len(best)), best.copy(), np.arange(len(best))
    most[0] = plain.highest
    while further.any():  # one step shorter each time
        down *= np.where(further > 0, backoff[further], 1.0)
        further = shorter[further]
        most = np.maximum(most, down * np.where(further > 0, best[further], plain.highest))
    arrays = (arc_begin, places[entries].astype(np.int32), arc_worth, best, backoff, down, shorter)
    return Lookahead(plain.anywhere, plain.first, plain.end, *map(_frozen, arrays), float(most.max()))


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@inlined
def listed(ahead, state, node):
    """The most that a word of this state's own list is worth that begins at this node of the tree; 0 where it lists none."""
    if node == 0:
        return ahead.best[state]
    low, end = ahead.arc_begin[state], ahead.arc_begin[state + 1]
    high, first = end, ahead.first[node]
    while low < high:
        middle = (low + high) >> 1
        if ahead.arc_place[middle] < first:
            low = middle + 1
        else:
            high = middle
    most = 0.0
    while low < end and ahead.arc_place[low] < ahead.end[node]:
        most = max(most, ahead.arc_worth[low])
        low += 1
    return most


@inlined
def worth_at(ahead, state, node):
    """The most that a word begun at this node of the tree (-1: at none) can be worth in this state."""
    most, backoff = ahead.anywhere[1 + node], 1.0
    if 0 < state < len(ahead.best):
        most *= ahead.down[state]
        while state > 0 and node >= 0:
            if backoff * ahead.best[state] > most:
                most = max(most, backoff * listed(ahead, state, node))
            backoff *= ahead.backoff[state]
            state = ahead.shorter[state]
    return most
