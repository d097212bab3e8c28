"""Prefix beam search over free sequences of tokens, compiled: `TokenLanguage` of `asr.decoding.beam_reference`, made fast."""

from typing import NamedTuple

import numpy as np

from asr.decoding.beam_kernels import (
    BEST_BLANK,
    BEST_TOKEN,
    BLANK_RECORD,
    BLANKS,
    ENDED,
    FIRST,
    HOT,
    LAST,
    LENT,
    NGRAM,
    NODE,
    NONE,
    ONE,
    PLACE,
    ROOM,
    ROOT,
    SECOND,
    SPELLED,
    START,
    STEP,
    TOKEN_RECORD,
    TOKENS,
    Frame,
    child_of,
    commit,
    follow_hot,
    forget_tokens,
    keep_tokens,
    leave,
    new_beam,
    new_store,
    settle,
    sift,
    stay_all,
    survivors,
    weigh,
    weigh_end,
    with_room,
    write_record,
)
from asr.decoding.beam_lookahead import worth_at
from asr.decoding.compiled import compiled, inlined, makes_arrays


class Vocabulary(NamedTuple):
    """What the language model calls the tokens, or the words that they spell; the words may be none."""

    #: (V,) each token's word id in a language model of tokens
    token_word: np.ndarray
    #: the words of a language model of words as a LexiconTree
    tree: tuple
    #: (E,) the word id of each entry of the tree
    entry_word: np.ndarray
    #: a Lookahead over that tree: what a word that has begun is lent until it is complete
    ahead: tuple
    #: the space between words, of which a run counts once, and which counts nothing at the ends; -1 where there is none
    separator: int
    #: (V,) bool, whether the token begins a word without a separator before it, as byte pairs do
    begins: np.ndarray
    #: whether the language model and the insertion bonus count words, which separators end and tokens begin, or tokens
    by_words: bool


@compiled
def word_at(vocabulary, fusion, spelled):
    """The id of the word that ends at this node of the tree, of an unknown one where none does."""
    if spelled > 0:
        entry = vocabulary.tree.word_begin[spelled]
        if entry < vocabulary.tree.word_begin[spelled + 1]:
            return vocabulary.entry_word[entry]
    return np.int32(fusion.unknown)


@inlined
def effect(vocabulary, fusion, hot, nodes, parent, token):
    """What one more token does to a prefix: its STEP and LENT, and its NGRAM, SPELLED and HOT."""
    state, spelled, heat = nodes[parent, NGRAM], nodes[parent, SPELLED], nodes[parent, HOT]
    step, lent = 1.0, 1.0
    if not vocabulary.by_words:
        added, state = weigh(fusion, state, vocabulary.token_word[token])
        step = np.exp(added)
    elif token == vocabulary.separator:
        added, state = weigh(fusion, state, word_at(vocabulary, fusion, spelled))
        step = np.exp(added)
        spelled = np.int32(0)
    else:
        if vocabulary.begins[token]:
            if parent > 0:
                added, state = weigh(fusion, state, word_at(vocabulary, fusion, spelled))
                step = np.exp(added)
            spelled = np.int32(0)
        if spelled >= 0:
            spelled = np.int32(child_of(vocabulary.tree, spelled, token))
        lent = worth_at(vocabulary.ahead, state, spelled)
    if len(hot.fail) > 1:
        heat = follow_hot(hot, heat, token)
        step *= np.exp(hot.bonus[heat])
        lent *= np.exp(hot.credit[heat])
    return step, lent, state, spelled, heat


@compiled
def ending(vocabulary, fusion, hot, nodes, node):
    """What the end of the utterance adds to a prefix that does not end in a separator: its last word, and </s>."""
    state, total = nodes[node, NGRAM], 0.0
    if node > 0:
        if vocabulary.by_words:
            total, state = weigh(fusion, state, word_at(vocabulary, fusion, nodes[node, SPELLED]))
        if len(hot.fail) > 1 and vocabulary.separator >= 0:
            total += hot.bonus[follow_hot(hot, nodes[node, HOT], vocabulary.separator)]
    return total + weigh_end(fusion, state)


@compiled
def merge(time, size, kept, frame, beam, store, taken, draft):
    """Living prefixes take what flows in from living parents; taken (size * kept,) marks what is not to be proposed again."""
    nodes, position = store.nodes, frame.position
    for place in range(size):
        node = beam.paths[place, NODE]
        parent, token = nodes[node, FIRST], nodes[node, SECOND]
        if parent < 0 or position[token] < 0 or nodes[parent, PLACE] < 0:
            continue
        origin = nodes[parent, PLACE]
        taken[origin * kept + position[token]] = True
        total, path, before = leave(beam, origin, token, nodes[parent, SECOND])
        factor = frame.odds[position[token]] * store.factors[node, STEP]
        draft.sums[place, TOKENS] += total * factor
        if path * factor > draft.sums[place, BEST_TOKEN]:
            draft.sums[place, BEST_TOKEN] = path * factor
            draft.paths[place, TOKEN_RECORD] = write_record(store, before, time, token, NONE)


@compiled
def rank(size, beam, store, vocabulary, ceilings, draft, bounds, heap):
    """Rank those that stay into draft.ranks and the heap; the best rank.

    bounds (size, 2) get the most by which a token can multiply the rank of what flows into it: a token between words, and any
    other. A word that goes on can only be worth less than what it is lent already.
    """
    best = 0.0
    for place in range(size):
        node = beam.paths[place, NODE]
        lent = store.factors[node, LENT]
        draft.ranks[place] = heap[place] = (draft.sums[place, BLANKS] + draft.sums[place, TOKENS]) * lent
        best = max(best, draft.ranks[place])
        bounds[place, 0], bounds[place, 1] = ceilings[0], ceilings[1]
        if vocabulary.by_words:
            if store.nodes[node, SPELLED] == 0:
                lent = worth_at(vocabulary.ahead, store.nodes[node, NGRAM], ROOT)
            bounds[place, 1] = ceilings[2] * lent
    for at in range(size // 2 - 1, -1, -1):
        sift(heap, size, at)
    return best


@compiled
def propose(size, kept, frame, limit, gap, best, beam, store, vocabulary, fusion, hot, taken, bounds, heap, draft):
    """Prefixes that are not in the beam, behind the `size` that are; (how many there are now, the best rank).

    heap[:size] holds the ranks of those that stay; as it grows it holds the `limit` best ranks, and what must lie below all of
    them is not looked at.
    """
    count, full = size, size
    nodes, sums, ranks = store.nodes, beam.sums, draft.ranks
    for index in range(kept):
        token, odds = frame.tokens[index], frame.odds[index]
        kind = 0 if token == vocabulary.separator or vocabulary.begins[token] else 1
        for place in range(size):
            node = beam.paths[place, NODE]
            last = nodes[node, SECOND]
            total = sums[place, BLANKS] if token == last else sums[place, BLANKS] + sums[place, TOKENS]
            total *= odds
            floor = best * gap
            if full == limit:
                floor = max(floor, heap[0])
            if total * bounds[place, kind] < floor or total <= 0.0 or taken[place * kept + index]:
                continue
            if token == last and token == vocabulary.separator:
                continue
            step, lent, state, spelled, heat = effect(vocabulary, fusion, hot, nodes, node, token)
            score = total * step * lent
            if score < floor:
                continue
            if full < limit:
                heap[full] = score
                full += 1
                if full == limit:
                    for at in range(full // 2 - 1, -1, -1):
                        sift(heap, full, at)
            else:
                heap[0] = score
                sift(heap, full, START)
            _, path, before = leave(beam, place, token, last)
            draft.sums[count, BLANKS], draft.sums[count, BEST_BLANK] = 0.0, 0.0
            draft.sums[count, TOKENS], draft.sums[count, BEST_TOKEN] = total * step, path * odds * step
            draft.paths[count, NODE], draft.paths[count, BLANK_RECORD], draft.paths[count, TOKEN_RECORD] = -1, -1, before
            draft.paths[count, LAST], draft.paths[count, ENDED] = token, -1
            draft.nodes[count, FIRST], draft.nodes[count, SECOND] = node, token
            draft.nodes[count, NGRAM], draft.nodes[count, SPELLED], draft.nodes[count, HOT] = state, spelled, heat
            draft.factors[count, STEP], draft.factors[count, LENT] = step, lent
            ranks[count] = score
            best = max(best, score)
            count += 1
    return count, best


@compiled
def begin(vocabulary, fusion, hot, store, beam):
    """The empty prefix, which stands as if a separator had been before it."""
    store.nodes[0] = -1
    store.nodes[0, SECOND] = max(0, vocabulary.separator)
    store.nodes[0, NGRAM], store.nodes[0, SPELLED], store.nodes[0, HOT], store.nodes[0, PLACE] = fusion.start, 0, 0, 0
    if vocabulary.separator >= 0 and len(hot.fail) > 1:
        store.nodes[0, HOT] = follow_hot(hot, ROOT, vocabulary.separator)
    store.factors[0] = 1.0
    store.counts[0] = 1
    beam.sums[0] = 0.0
    beam.sums[0, BLANKS] = beam.sums[0, BEST_BLANK] = 1.0
    beam.paths[0] = -1
    beam.paths[0, NODE] = 0


@makes_arrays
def finish(size, scale, beam, store, vocabulary, fusion, hot):
    """(scores, last records) of the hypotheses: a prefix that ends in a separator is the same one as that without it."""
    nodes = store.nodes
    scores, records, owner = np.full(size, -np.inf), np.full(size, NONE), np.empty(size, np.int32)
    paths = np.full(size, -np.inf)
    for place in range(size):
        node = beam.paths[place, NODE]
        owner[place] = place
        added = 0.0
        if node > 0 and nodes[node, SECOND] == vocabulary.separator:
            parent = nodes[node, FIRST]
            if nodes[parent, PLACE] >= 0:
                owner[place] = nodes[parent, PLACE]
            added = ending(vocabulary, fusion, hot, nodes, parent) - np.log(store.factors[node, STEP])
        else:
            added = ending(vocabulary, fusion, hot, nodes, node)
        sums = beam.sums[place]
        token_leads = sums[BEST_TOKEN] > sums[BEST_BLANK]
        score = np.log(sums[BLANKS] + sums[TOKENS]) + scale + added
        path = np.log(max(sums[BEST_TOKEN], sums[BEST_BLANK])) + added
        into = owner[place]
        scores[into] = np.logaddexp(scores[into], score)
        if path > paths[into]:
            paths[into] = path
            records[into] = beam.paths[place, TOKEN_RECORD] if token_leads else beam.paths[place, BLANK_RECORD]
    own = owner == np.arange(size)
    return scores[own], records[own]


@makes_arrays
def search_tokens(log_probs, limits, fusion, vocabulary, hot):
    """(frame that is no distribution or -1, scores (F,), last records (F,), records (R, 4)) of log_probs (T', V), not sorted."""
    symbols = log_probs.shape[1]
    store, beam, draft = new_store(), new_beam(ROOM), new_beam(ROOM)
    frame = Frame(np.empty(symbols, np.int32), np.empty(symbols), np.full(symbols, -1, np.int32), np.full(symbols, -1.0))
    taken, scratch, chosen, lasts = np.zeros(ROOM, np.bool_), np.empty(ROOM), np.empty(ROOM, np.int64), np.empty(ROOM, np.int32)
    begin(vocabulary, fusion, hot, store, beam)
    gap = np.exp(-limits.score_gap)
    spark = np.exp(hot.bonus.max() + hot.credit.max())
    ceilings = (np.exp(fusion.bonus) * spark, np.exp(fusion.bonus) * spark, spark)
    if vocabulary.by_words and vocabulary.begins.any():  # one word ends, unless it is the first, and another is lent something
        ceilings = (max(1.0, np.exp(fusion.bonus)) * spark * vocabulary.ahead.highest, ceilings[1], spark)
    bounds, heap = np.empty((ROOM, 2)), np.empty(ROOM + limits.beam)
    size, scale = ONE, 0.0
    for time in range(len(log_probs)):
        row = log_probs[time]
        kept = keep_tokens(row, limits.token_gap, frame)
        if kept < 0:
            return time, np.empty(0), np.empty(0, np.int32), store.records[:0]
        rows = size * (kept + 1)
        if rows > len(chosen):
            draft, scratch, chosen, taken = (
                new_beam(2 * rows),
                np.empty(2 * rows),
                np.empty(2 * rows, np.int64),
                np.zeros(2 * rows, np.bool_),
            )
        store = with_room(store, min(rows - size, limits.beam), size + min(rows, limits.beam))
        for place in range(size):
            lasts[place] = store.nodes[beam.paths[place, NODE], SECOND]
        stay_all(row, size, beam, lasts, vocabulary.separator, frame, draft)
        taken[: size * kept] = False
        merge(time, size, kept, frame, beam, store, taken, draft)
        best = rank(size, beam, store, vocabulary, ceilings, draft, bounds, heap)
        count, best = propose(
            size, kept, frame, limits.beam, gap, best, beam, store, vocabulary, fusion, hot, taken, bounds, heap, draft
        )
        forget_tokens(frame, kept)
        fresh = survivors(draft.ranks, count, limits.beam, best * gap, scratch, chosen)
        if fresh > len(beam.sums):
            beam, lasts, bounds = new_beam(2 * fresh), np.empty(2 * fresh, np.int32), np.empty((2 * fresh, 2))
        commit(time, size, chosen, fresh, store, draft, beam)
        size = fresh
        scale += settle(beam, size, best)
    scores, last = finish(size, scale, beam, store, vocabulary, fusion, hot)
    return -1, scores, last, store.records[: store.counts[1]]
