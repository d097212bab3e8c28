"""Prefix beam search over the words of a lexicon, compiled: `LexiconLanguage` of `asr.decoding.beam_reference`, made fast.

A prefix is (history, node of the tree). A history is the sequence of words that are complete; it has a node of its own, whose key
is (history before, number of tree nodes + word), and the language model is asked once for each history.
"""

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
    KNOWN,
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
    place_in,
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
from asr.decoding.compiled import compiled, makes_arrays

#: Column of `nodes` that the search over tokens uses otherwise: the prefix with one token less in the tree, -1 at a word's start.
ABOVE = SPELLED
#: PLACE of a prefix that is neither in the beam nor proposed; a proposed one has PROPOSED minus its index in the draft.
NOWHERE, PROPOSED = -1, -2
#: Entries of `Tally.numbers`: prefixes in the draft, and ranks in the heap.
DRAFTED, HEAPED = range(2)


class Words(NamedTuple):
    """The lexicon as the search reads it."""

    #: a LexiconTree
    tree: tuple
    #: (W,) each word's id in the language model
    ngram_word: np.ndarray
    #: a Lookahead over the tree: what a word that has begun is lent until it is complete
    ahead: tuple
    #: (N,) what the beginnings of hot words are lent besides, as factors
    warmth: np.ndarray
    #: (W + 1,) and (E,): the nodes in which word w ends are end_node[end_begin[w]:end_begin[w + 1]]
    end_begin: np.ndarray
    end_node: np.ndarray
    #: the space or the silence between words, of which a run counts once; -1 where there is none
    separator: int
    #: whether words need it between them
    required: bool
    #: most words that end in one node
    most: int
    #: the highest of `warmth`
    hottest: float


class Tally(NamedTuple):
    """How a draft stands: what lies below the highest ranks so far cannot be kept."""

    numbers: np.ndarray
    #: (1,) the best rank
    best: np.ndarray
    #: the `limit` best ranks, the lowest first; ranks that grew later may stand with what they were
    heap: np.ndarray
    limit: int
    #: share of the best rank below which nothing is kept
    gap: float


@compiled
def floor_of(tally):
    least = tally.best[0] * tally.gap
    return max(least, tally.heap[0]) if tally.numbers[HEAPED] == tally.limit else least


@compiled
def heap_up(tally, rank):
    heap, size = tally.heap, tally.numbers[HEAPED]
    if size < tally.limit:
        heap[size] = rank
        tally.numbers[HEAPED] = size + 1
        if size + 1 == tally.limit:
            for at in range(tally.limit // 2 - 1, -1, -1):
                sift(heap, tally.limit, at)
    elif rank > heap[0]:
        heap[0] = rank
        sift(heap, size, START)


@compiled
def history(words, fusion, hot, store, before, word):
    """The node of a history with one more word, made where there is none yet."""
    nodes, second = store.nodes, np.int32(len(words.tree.token) + word)
    at = place_in(store.table, nodes, before, second)
    node = store.table[at]
    if node < 0:
        node = np.int32(store.counts[KNOWN])
        store.counts[KNOWN] += 1
        store.table[at] = node
        step, state = weigh(fusion, nodes[before, NGRAM], words.ngram_word[word])
        heat, lent = nodes[before, HOT], 0.0
        if len(hot.fail) > 1:
            heat = follow_hot(hot, heat, word)
            step += hot.bonus[heat]
            lent = hot.credit[heat]
        nodes[node, FIRST], nodes[node, SECOND], nodes[node, NGRAM], nodes[node, HOT] = before, second, state, heat
        nodes[node, PLACE], nodes[node, ABOVE] = NOWHERE, -1
        store.factors[node, STEP], store.factors[node, LENT] = np.exp(step), np.exp(lent)
    return node


@compiled
def lent_at(words, store, past, tree_node):
    """What the prefix (past, tree_node) is lent, as a factor."""
    lent = store.factors[past, LENT]
    if tree_node != ROOT:
        lent *= worth_at(words.ahead, store.nodes[past, NGRAM], tree_node) * words.warmth[tree_node]
    return lent


@compiled
def flow(time, total, path, before, past, tree_node, lent, above, token, ended, shared, store, draft, tally):
    """Let sums flow into the prefix (past, tree_node): one of the beam, one proposed already, or a new proposal.

    A new one must reach the floor, unless it is `shared`: other prefixes flow into it too.
    """
    nodes, sums, paths = store.nodes, draft.sums, draft.paths
    at = place_in(store.table, nodes, past, tree_node)
    node = store.table[at]
    place = NOWHERE if node < 0 else nodes[node, PLACE]
    if place >= 0:
        sums[place, TOKENS] += total
        if path > sums[place, BEST_TOKEN]:
            sums[place, BEST_TOKEN] = path
            paths[place, TOKEN_RECORD] = write_record(store, before, time, token, ended)
        draft.ranks[place] = (sums[place, BLANKS] + sums[place, TOKENS]) * store.factors[node, LENT]
    else:
        place = PROPOSED - place
        if place < 0:
            if (total * lent < floor_of(tally) and not shared) or total <= 0.0:
                return
            if node < 0:
                node = np.int32(store.counts[KNOWN])
                store.counts[KNOWN] += 1
                store.table[at] = node
                nodes[node, FIRST], nodes[node, SECOND], nodes[node, ABOVE] = past, tree_node, above
                store.factors[node, LENT] = lent
            place = tally.numbers[DRAFTED]
            tally.numbers[DRAFTED] += 1
            nodes[node, PLACE] = PROPOSED - place
            heap_up(tally, total * lent)
            for column in range(4):
                sums[place, column] = 0.0
            paths[place, NODE], paths[place, BLANK_RECORD], paths[place, TOKEN_RECORD] = node, -1, before
            paths[place, LAST], paths[place, ENDED] = token, ended
        sums[place, TOKENS] += total
        if path > sums[place, BEST_TOKEN]:
            sums[place, BEST_TOKEN], paths[place, TOKEN_RECORD] = path, before
            paths[place, LAST], paths[place, ENDED] = token, ended
        draft.ranks[place] = sums[place, TOKENS] * lent
    tally.best[0] = max(tally.best[0], draft.ranks[place])


@compiled
def merge(time, size, kept, frame, beam, lasts, words, store, taken, followed, draft):
    """Living prefixes take what flows in from living ones of the same history; all else that flows in is marked.

    Both marks are (size * kept,), by the prefix that is left and the token that leaves it: `taken` is done with, `followed`
    begins another word and ends in a living prefix, so that it counts however weak it is.
    """
    nodes, table, position, first = store.nodes, store.table, frame.position, len(words.tree.token)
    for place in range(size):
        node = beam.paths[place, NODE]
        token, past, at, source = lasts[place], nodes[node, FIRST], nodes[node, SECOND], nodes[node, ABOVE]
        if token <= 0 or position[token] < 0:
            continue
        column, begun = position[token], source < 0
        if begun and at != 0:
            source = table[place_in(table, nodes, past, ROOT)]
        if source >= 0 and nodes[source, PLACE] >= 0:
            origin = nodes[source, PLACE]
            taken[origin * kept + column] = True
            total, path, before = leave(beam, origin, token, lasts[origin])
            draft.sums[place, TOKENS] += total * frame.odds[column]
            if path * frame.odds[column] > draft.sums[place, BEST_TOKEN]:
                draft.sums[place, BEST_TOKEN] = path * frame.odds[column]
                draft.paths[place, TOKEN_RECORD] = write_record(store, before, time, token, NONE)
        before, word = nodes[past, FIRST], nodes[past, SECOND] - first
        if not begun or before < 0:
            continue
        for entry in range(words.end_begin[word], words.end_begin[word + 1]):
            source = table[place_in(table, nodes, before, words.end_node[entry])]
            if source >= 0 and nodes[source, PLACE] >= 0:
                followed[nodes[source, PLACE] * kept + column] = True


@compiled
def rank(size, beam, store, draft, tally):
    """Rank those that stay."""
    for place in range(size):
        lent = store.factors[beam.paths[place, NODE], LENT]
        draft.ranks[place] = (draft.sums[place, BLANKS] + draft.sums[place, TOKENS]) * lent
        tally.best[0] = max(tally.best[0], draft.ranks[place])
        heap_up(tally, draft.ranks[place])


@compiled
def lives(store, past, tree_node):
    node = store.table[place_in(store.table, store.nodes, past, tree_node)]
    return node >= 0 and store.nodes[node, PLACE] >= 0


@compiled
def has_rival(words, store, before, word, own):
    """Whether another living prefix than (before, own) leads to the same prefixes when `word` is complete."""
    for entry in range(words.end_begin[word], words.end_begin[word + 1]):
        if words.end_node[entry] != own and lives(store, before, words.end_node[entry]):
            return True
    if words.separator < 0 or words.required:
        return False
    longer = store.table[place_in(store.table, store.nodes, before, np.int32(len(words.tree.token) + word))]
    return longer >= 0 and own != 0 and lives(store, longer, ROOT)


@compiled
def go_deeper(time, size, kept, frame, lasts, taken, beam, store, words, draft, tally):
    """Extend each prefix by what may follow in the tree and is not in the beam."""
    nodes, tree, sums, position = store.nodes, words.tree, beam.sums, frame.position
    for place in range(size):
        node, last = beam.paths[place, NODE], lasts[place]
        past, at = nodes[node, FIRST], nodes[node, SECOND]
        above, most, shared = node, store.factors[node, LENT] * words.hottest, False
        if at == 0:
            above, most = NONE, store.factors[past, LENT] * words.hottest * worth_at(words.ahead, nodes[past, NGRAM], ROOT)
            if words.separator >= 0 and not words.required and nodes[past, FIRST] >= 0:
                shared = has_rival(words, store, nodes[past, FIRST], np.int32(nodes[past, SECOND] - len(tree.token)), ROOT)
        whole = sums[place, BLANKS] + sums[place, TOKENS]
        first, children = tree.child_begin[at], tree.child_begin[at + 1] - tree.child_begin[at]
        by_token = kept < children  # the shorter list is gone through; tokens stand in the order of their odds
        for each in range(kept if by_token else children):
            index = each if by_token else position[tree.token[first + each]]
            if index < 0 or taken[place * kept + index]:
                continue
            if not shared and whole * frame.odds[index] * most < floor_of(tally):
                if by_token:
                    break
                continue
            token = frame.tokens[index]
            child = child_of(tree, at, token) if by_token else first + each
            if child < 0:
                continue
            total, child = (sums[place, BLANKS] if token == last else whole) * frame.odds[index], np.int32(child)
            lent = lent_at(words, store, past, child)
            if shared or total * lent >= floor_of(tally):
                _, path, before = leave(beam, place, token, last)
                path *= frame.odds[index]
                flow(time, total, path, before, past, child, lent, above, token, NONE, shared, store, draft, tally)


@compiled
def go_onward(time, size, kept, frame, lasts, followed, spark, beam, store, words, fusion, hot, draft, tally):
    """Complete the words that end where a prefix stands, and begin the next one, or the separator between them.

    spark: the most that hot words can multiply a rank by.
    """
    tree, most, highest = words.tree, np.exp(fusion.bonus) * spark, words.ahead.highest
    low, high = 0, kept
    if words.required:
        low, high = frame.position[words.separator], frame.position[words.separator] + 1
    for place in range(size if high > 0 else 0):
        node, last = beam.paths[place, NODE], lasts[place]
        past, at = store.nodes[node, FIRST], store.nodes[node, SECOND]
        for entry in range(tree.word_begin[at], tree.word_begin[at + 1]):
            word = tree.word[entry]
            shared = has_rival(words, store, past, word, at)
            for index in range(low, high):
                token = frame.tokens[index]
                total, path, before = leave(beam, place, token, last)
                total, path = total * frame.odds[index], path * frame.odds[index]
                certain = shared or followed[place * kept + index]
                following = ROOT if token == words.separator else child_of(tree, ROOT, token)
                if following < 0 or (not certain and total * most * (1.0 if following == ROOT else highest) < floor_of(tally)):
                    continue
                longer = history(words, fusion, hot, store, past, word)
                factor = store.factors[longer, STEP] * np.exp(tree.logp[entry])
                total, path = total * factor, path * factor
                lent = lent_at(words, store, longer, following)
                flow(time, total, path, before, longer, following, lent, NONE, token, word, shared, store, draft, tally)


@compiled
def reach(size, kept, beam, lasts, store, words):
    """Fill in lasts (size,), the last tokens of the prefixes; at most how many prefixes can be proposed."""
    tree, count = words.tree, 0
    for place in range(size):
        at = store.nodes[beam.paths[place, NODE], SECOND]
        lasts[place] = tree.token[at] if at else max(0, words.separator)
        count += min(kept, tree.child_begin[at + 1] - tree.child_begin[at])
        count += (tree.word_begin[at + 1] - tree.word_begin[at]) * (1 if words.required else kept)
    return count


@compiled
def begin(words, fusion, hot, store, beam):
    """Node 0 is the empty history, node 1 the prefix without a word, which stands as if a separator had been before it."""
    store.nodes[0] = -1
    store.nodes[0, NGRAM], store.nodes[0, HOT] = fusion.start, 0
    store.factors[0] = 1.0
    node = 1
    store.nodes[node] = -1
    store.nodes[node, FIRST], store.nodes[node, SECOND], store.nodes[node, PLACE] = 0, 0, 0
    store.factors[node] = 1.0
    store.counts[KNOWN] = 2
    store.table[place_in(store.table, store.nodes, ROOT, ROOT)] = node
    beam.sums[0] = 0.0
    beam.sums[0, BLANKS] = beam.sums[0, BEST_BLANK] = 1.0
    beam.paths[0] = -1
    beam.paths[0, NODE] = node


@makes_arrays
def complete(size, scale, beam, store, words, fusion, hot):
    """(scores, last records, last words, -1 for none) of the hypotheses; each sequence of words is one.

    Prefixes within a word have no hypothesis, unless there are no others: then they count without that word.
    """
    tree, nodes, room = words.tree, store.nodes, max(1, size * words.most)
    whole = False
    for place in range(size):
        at = nodes[beam.paths[place, NODE], SECOND]
        whole |= at == 0 or tree.word_begin[at] < tree.word_begin[at + 1]
    scores, paths, owners = np.full(room, -np.inf), np.full(room, -np.inf), np.empty(room, np.int32)
    records, ended = np.full(room, NONE), np.full(room, NONE)
    found = 0
    for place in range(size):
        node, sums = beam.paths[place, NODE], beam.sums[place]
        past, at = nodes[node, FIRST], nodes[node, SECOND]
        leads = sums[BEST_TOKEN] > sums[BEST_BLANK]
        total = np.log(sums[BLANKS] + sums[TOKENS]) + scale
        path = np.log(max(sums[BEST_TOKEN], sums[BEST_BLANK]))
        first, end = tree.word_begin[at], tree.word_begin[at + 1]
        if at == 0 or not whole:
            first, end = 0, 1
        for entry in range(first, end):
            word, added, final = NONE, 0.0, past
            if at != 0 and whole:
                word = tree.word[entry]
                final = history(words, fusion, hot, store, past, word)
                added = tree.logp[entry] + np.log(store.factors[final, STEP])
            added += weigh_end(fusion, nodes[final, NGRAM])
            if nodes[final, PLACE] < 0:
                nodes[final, PLACE] = found
                owners[found] = final
                found += 1
            into = nodes[final, PLACE]
            scores[into] = np.logaddexp(scores[into], total + added)
            if path + added > paths[into]:
                paths[into], ended[into] = path + added, word
                records[into] = beam.paths[place, TOKEN_RECORD] if leads else beam.paths[place, BLANK_RECORD]
    for index in range(found):
        nodes[owners[index], PLACE] = NOWHERE
    return scores[:found], records[:found], ended[:found]


@makes_arrays
def search_words(log_probs, limits, fusion, words, hot):
    """(frame that is no distribution or -1, scores (F,), last records (F,), last words (F,), records (R, 4)), not sorted."""
    symbols = log_probs.shape[1]
    store, beam, draft = new_store(), new_beam(ROOM), new_beam(ROOM)
    frame = Frame(np.empty(symbols, np.int32), np.empty(symbols), np.full(symbols, -1, np.int32), np.full(symbols, -1.0))
    scratch, chosen, lasts = np.empty(ROOM), np.empty(ROOM, np.int64), np.empty(ROOM, np.int32)
    taken, followed = np.empty(ROOM, np.bool_), np.empty(ROOM, np.bool_)
    tally = Tally(np.zeros(2, np.int64), np.zeros(1), np.empty(ROOM + limits.beam), limits.beam, np.exp(-limits.score_gap))
    begin(words, fusion, hot, store, beam)
    spark = np.exp(hot.bonus.max() + hot.credit.max()) * words.hottest
    size, scale = ONE, 0.0
    for time in range(len(log_probs)):
        row = log_probs[time]
        kept = keep_tokens(row, limits.token_gap, frame)
        if kept < 0:
            return time, np.empty(0), np.empty(0, np.int32), np.empty(0, np.int32), store.records[:0]
        fresh = reach(size, kept, beam, lasts, store, words)
        rows = size + fresh
        if rows > len(chosen):
            draft, scratch, chosen = new_beam(2 * rows), np.empty(2 * rows), np.empty(2 * rows, np.int64)
        if size * kept > len(taken):
            taken, followed = np.empty(2 * size * kept, np.bool_), np.empty(2 * size * kept, np.bool_)
        store = with_room(store, 2 * fresh, 2 * rows)
        stay_all(row, size, beam, lasts, words.separator, frame, draft)
        taken[: size * kept], followed[: size * kept] = False, False
        merge(time, size, kept, frame, beam, lasts, words, store, taken, followed, draft)
        tally.numbers[DRAFTED], tally.numbers[HEAPED], tally.best[0] = size, 0, 0.0
        rank(size, beam, store, draft, tally)
        go_deeper(time, size, kept, frame, lasts, taken, beam, store, words, draft, tally)
        go_onward(time, size, kept, frame, lasts, followed, spark, beam, store, words, fusion, hot, draft, tally)
        count, best = tally.numbers[DRAFTED], tally.best[0]
        forget_tokens(frame, kept)
        for index in range(size, count):
            store.nodes[draft.paths[index, NODE], PLACE] = NOWHERE
        fresh = survivors(draft.ranks, count, limits.beam, best * tally.gap, scratch, chosen)
        if fresh > len(beam.sums):
            beam, lasts = new_beam(2 * fresh), np.empty(2 * fresh, np.int32)
        commit(time, size, chosen, fresh, store, draft, beam)
        size = fresh
        scale += settle(beam, size, best)
    store = with_room(store, ONE + size * words.most, START)
    scores, last, ended = complete(size, scale, beam, store, words, fusion, hot)
    return -1, scores, last, ended, store.records[: store.counts[1]]
