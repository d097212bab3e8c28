"""Prefix beam search in compiled code: what both searches share, and the search over free sequences of tokens.

`asr.decoding.beam_reference` is the same search to be read beside the papers; here is what makes it fast.

Sums are probabilities on one scale for all prefixes of a frame, not logarithms: merging is an addition, and no exponential is
taken per prefix. A factor that belongs to a prefix (language model, insertion bonus, hot words) is multiplied into its sums
once, when the prefix is made. The scale follows the best prefix; what falls 1e-200 below it (460 in natural logarithms) is 0.

A prefix is a node: a row of `nodes` and `factors`, found by its key (parent node, token) in a hash table, so that a prefix that
died and comes back meets its children again. A frame costs no look-up: each living prefix asks whether its parent lives.
"""

from typing import NamedTuple

import numpy as np

from asr.decoding.compiled import compiled, makes_arrays
from asr.text.ngram_kernels import ask
from asr.text.ngram_kernels import step as ngram_step

BLANK = 0
#: Columns of `nodes`: the key, then the state of the language model, the place in the vocabulary's tree (-1: left it), the state
#: of the hot words, and where the prefix stands in the beam (-1: it does not).
FIRST, SECOND, NGRAM, SPELLED, HOT, PLACE = range(6)
#: Columns of `factors`: what the last token multiplied into the sums; what the prefix is lent for pruning.
STEP, LENT = range(2)
#: Columns of `sums`: over all paths that end in a blank, and in the last token; of the best such path.
BLANKS, TOKENS, BEST_BLANK, BEST_TOKEN = range(4)
#: Columns of `paths`: the node, and the last record on the best path that ends in a blank, and in the last token. For a proposed
#: prefix the latter is the record before its last token, and the last two columns are that token and the word it ends.
NODE, BLANK_RECORD, TOKEN_RECORD, LAST, ENDED = range(5)
#: Columns of `records`, one for each token on a best path: the one before, frame, token, word that ended before it (-1: none).
BEFORE, FRAME, TOKEN, WORD = range(4)
#: Entries of `counts`.
KNOWN, WRITTEN = range(2)
#: The id of a hot word that the language model does not know: an unknown one, but not denied anything for it.
LISTED = -2
SMALLEST = 1e-200
#: Typed, as literals in calls would have each function compiled once more for them.
NONE, ROOT, START, ONE = np.int32(-1), np.int32(0), np.int64(0), np.int64(1)
ROOM = 256


class Store(NamedTuple):
    """What is kept of all prefixes until the end of the utterance."""

    nodes: np.ndarray
    factors: np.ndarray
    records: np.ndarray
    #: hash table of node numbers, -1 where free
    table: np.ndarray
    #: how many nodes and how many records there are
    counts: np.ndarray


class Beam(NamedTuple):
    """Prefixes as they stand after a frame. As a draft: those of the beam, then the proposed ones, with what their nodes get."""

    sums: np.ndarray
    paths: np.ndarray
    nodes: np.ndarray
    factors: np.ndarray
    ranks: np.ndarray


class Frame(NamedTuple):
    """The tokens of a frame that are not pruned."""

    #: their ids and probabilities, as many as are kept
    tokens: np.ndarray
    odds: np.ndarray
    #: (V,) where a token stands among them, -1 where it was pruned
    position: np.ndarray
    #: (V,) working space: -1
    memo: np.ndarray


class Limits(NamedTuple):
    beam: int
    #: natural logarithms
    score_gap: float
    token_gap: float


class Fusion(NamedTuple):
    """The language model and how it is weighed. What a unit is, a token or a word, is the search's affair."""

    #: NgramTables; without a model (`present`) they are not read
    tables: tuple
    present: bool
    #: state after <s>, id of </s>, id of unknown words or -1
    start: int
    end: int
    unknown: int
    #: factor of ln P; what each unit adds; what an unknown unit is denied
    weight: float
    bonus: float
    penalty: float
    #: where the functions are that stand for the tables of a model without any; 0 for one with tables
    logp_at: int
    state_at: int


@compiled
def look_up(fusion, state, word):
    """(ln P(word | state), next state)."""
    if fusion.logp_at:
        return ask(fusion.logp_at, fusion.state_at, state, word)
    t = fusion.tables
    return ngram_step(t[0], t[1], t[2], t[3], t[4], t[5], state, word)


@compiled
def weigh(fusion, state, word):
    """(weighted ln P(word | state) with the insertion bonus, next state)."""
    if not fusion.present:
        return fusion.bonus, state
    total = fusion.bonus
    if word == LISTED:
        word = np.int32(fusion.unknown)
    elif word == fusion.unknown or word < 0:
        total -= fusion.penalty
    logp, following = look_up(fusion, state, word)
    return total + fusion.weight * logp, following


@compiled
def weigh_end(fusion, state):
    if not fusion.present:
        return 0.0
    return fusion.weight * look_up(fusion, state, np.int32(fusion.end))[0]


@compiled
def find(labels, low, high, label):
    """The index of `label` in labels[low:high], which is sorted, or -1."""
    end = high
    while low < high:
        middle = (low + high) >> 1
        if labels[middle] < label:
            low = middle + 1
        else:
            high = middle
    return low if low < end and labels[low] == label else -1


@compiled
def follow_hot(hot, state, label):
    while True:
        arc = find(hot.arc_label, hot.arc_begin[state], hot.arc_begin[state + 1], label)
        if arc >= 0:
            return hot.arc_next[arc]
        if state == 0:
            return np.int32(0)
        state = hot.fail[state]


@compiled
def child_of(tree, node, token):
    """The child of a tree node, or -1."""
    return find(tree.token, tree.child_begin[node], tree.child_begin[node + 1], token)


@compiled
def place_in(table, nodes, first, second):
    """Where the node of this key stands in the hash table, or the free place for it."""
    mask = len(table) - 1
    mixed = np.uint64(first) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(second) * np.uint64(0xC2B2AE3D27D4EB4F)
    at = np.int64(mixed >> np.uint64(30)) & mask
    while table[at] >= 0 and (nodes[table[at], FIRST] != first or nodes[table[at], SECOND] != second):
        at = (at + 1) & mask
    return at


@makes_arrays
def rehashed(nodes, count, least):
    """A hash table of the nodes 0 .. count - 1 with at least so many places."""
    size = 4 * ROOM
    while size < least:
        size *= 2
    table = np.full(size, -1, np.int32)
    for node in range(count):
        table[place_in(table, nodes, nodes[node, FIRST], nodes[node, SECOND])] = node
    return table


@makes_arrays
def grown(array, rows):
    """The array with room for so many rows: itself, or a copy at least twice as large."""
    if rows <= len(array):
        return array
    larger = np.empty((max(rows, 2 * len(array)), array.shape[1]), array.dtype)
    larger[: len(array)] = array
    return larger


@makes_arrays
def new_store():
    nodes, factors = np.empty((ROOM, 6), np.int32), np.empty((ROOM, 2))
    return Store(nodes, factors, np.empty((ROOM, 4), np.int32), np.full(4 * ROOM, -1, np.int32), np.zeros(2, np.int64))


@makes_arrays
def with_room(store, nodes, records):
    """The store with room for so many more nodes and records."""
    known = store.counts[KNOWN]
    rows = grown(store.nodes, known + nodes)
    table = store.table
    if 2 * (known + nodes) > len(table):
        table = rehashed(rows, known, 4 * (known + nodes))
    written = store.counts[WRITTEN]
    return Store(rows, grown(store.factors, known + nodes), grown(store.records, written + records), table, store.counts)


@makes_arrays
def new_beam(rows):
    sums, paths = np.empty((rows, 4)), np.empty((rows, 5), np.int32)
    return Beam(sums, paths, np.empty((rows, 6), np.int32), np.empty((rows, 2)), np.empty(rows))


@compiled
def keep_tokens(row, gap, frame):
    """Fill the frame with the tokens within `gap` of the top symbol, likeliest first; their number, -1 if that is not finite."""
    top = row[0]
    broken = False
    for value in row:
        broken |= np.isnan(value)
        top = value if value > top else top
    if broken or not np.isfinite(top):
        return -1
    count = 0
    least = max(np.float64(top) - gap, -1e30)
    tokens = frame.tokens
    for token in range(1, len(row)):
        if row[token] >= least:
            at = count
            while at > 0 and row[tokens[at - 1]] < row[token]:
                tokens[at] = tokens[at - 1]
                at -= 1
            tokens[at] = token
            count += 1
    for at in range(count):
        frame.odds[at] = np.exp(np.float64(row[tokens[at]]))
        frame.position[tokens[at]] = at
    return count


@compiled
def forget_tokens(frame, kept):
    for index in range(kept):
        frame.position[frame.tokens[index]] = -1


@compiled
def highest(values, count, wanted):
    """The `wanted`-th highest of values[:count], which are reordered (Hoare 1961)."""
    low, high, target = 0, count - 1, wanted - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        left, right = low, high
        while left <= right:
            while values[left] > pivot:
                left += 1
            while values[right] < pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if target <= right:
            high = right
        elif target >= left:
            low = left
        else:
            break
    return values[target]


@compiled
def sift(heap, size, at):
    """Move the entry at `at` down to its place in heap[:size], whose first entry is its lowest."""
    value = heap[at]
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = value


@compiled
def survivors(ranks, count, beam, floor, scratch, chosen):
    """Indices of the best `beam` of ranks[:count] that reach the floor, in their order; of equal ranks the first ones."""
    passing = 0
    for index in range(count):
        if ranks[index] >= floor and ranks[index] > 0.0:
            scratch[passing] = ranks[index]
            passing += 1
    least, ties = floor, passing
    if passing > beam:
        least = highest(scratch, passing, beam)
        above = 0
        for index in range(count):
            above += ranks[index] > least
        ties = beam - above
    size = 0
    for index in range(count):
        rank = ranks[index]
        if rank > least or (rank == least and ties > 0 and rank > 0.0):
            ties -= rank == least
            chosen[size] = index
            size += 1
    return size


@compiled
def stay(beam, place, blank, repeat, reenter, draft):
    """One frame in which a prefix stays what it is: a blank, or its last token again.

    `reenter` is the probability of its last token where that may also follow a blank without becoming a second token: the
    space between words, of which a run counts once.
    """
    sums, paths = beam.sums, beam.paths
    blanks, tokens = sums[place, BLANKS], sums[place, TOKENS]
    best_blank, best_token = sums[place, BEST_BLANK], sums[place, BEST_TOKEN]
    draft.sums[place, BLANKS] = (blanks + tokens) * blank
    draft.sums[place, TOKENS] = tokens * repeat + blanks * reenter
    token_leads = best_token > best_blank
    draft.sums[place, BEST_BLANK] = (best_token if token_leads else best_blank) * blank
    draft.paths[place, BLANK_RECORD] = paths[place, TOKEN_RECORD] if token_leads else paths[place, BLANK_RECORD]
    blank_leads = best_blank * reenter > best_token * repeat
    draft.sums[place, BEST_TOKEN] = best_blank * reenter if blank_leads else best_token * repeat
    draft.paths[place, TOKEN_RECORD] = paths[place, BLANK_RECORD] if blank_leads else paths[place, TOKEN_RECORD]
    draft.paths[place, NODE] = paths[place, NODE]


@compiled
def stay_all(row, size, beam, lasts, separator, frame, draft):
    """All prefixes stay; lasts (size,) are their last tokens, 0 where there is none."""
    blank = np.exp(np.float64(row[BLANK]))
    memo = frame.memo
    for place in range(size):
        last = lasts[place]
        repeat, reenter = 0.0, 0.0
        if last > 0:
            if memo[last] < 0.0:
                memo[last] = np.exp(np.float64(row[last]))
            repeat = memo[last]
            if last == separator and frame.position[last] >= 0:
                reenter = repeat
        stay(beam, place, blank, repeat, reenter, draft)
    for place in range(size):
        memo[lasts[place]] = -1.0


@compiled
def leave(beam, place, token, last):
    """(sum over paths, best path, its last record) of a prefix as the next token finds it: after a blank, if it is the same."""
    sums, paths = beam.sums, beam.paths
    if token == last:
        return sums[place, BLANKS], sums[place, BEST_BLANK], paths[place, BLANK_RECORD]
    total = sums[place, BLANKS] + sums[place, TOKENS]
    if sums[place, BEST_TOKEN] > sums[place, BEST_BLANK]:
        return total, sums[place, BEST_TOKEN], paths[place, TOKEN_RECORD]
    return total, sums[place, BEST_BLANK], paths[place, BLANK_RECORD]


@compiled
def write_record(store, before, time, token, word):
    """Its number."""
    count = store.counts[WRITTEN]
    records = store.records
    records[count, BEFORE], records[count, FRAME], records[count, TOKEN], records[count, WORD] = before, time, token, word
    store.counts[WRITTEN] = count + 1
    return np.int32(count)


@compiled
def commit(time, size, chosen, fresh, store, draft, beam):
    """Write the chosen ones of a draft into the beam, whose first `size` places held the beam of the last frame."""
    nodes, table = store.nodes, store.table
    for place in range(size):
        nodes[draft.paths[place, NODE], PLACE] = -1
    for place in range(fresh):
        index = chosen[place]
        node = draft.paths[index, NODE]
        if node < 0:
            at = place_in(table, nodes, draft.nodes[index, FIRST], draft.nodes[index, SECOND])
            node = table[at]
            if node < 0:
                node = np.int32(store.counts[KNOWN])
                store.counts[KNOWN] += 1
                table[at] = node
                for column in range(nodes.shape[1]):
                    nodes[node, column] = draft.nodes[index, column]
                for column in range(2):
                    store.factors[node, column] = draft.factors[index, column]
        nodes[node, PLACE] = place
        beam.paths[place, NODE] = node
        beam.paths[place, BLANK_RECORD] = draft.paths[index, BLANK_RECORD]
        before = draft.paths[index, TOKEN_RECORD]
        if index >= size:
            before = write_record(store, before, time, draft.paths[index, LAST], draft.paths[index, ENDED])
        beam.paths[place, TOKEN_RECORD] = before
        for column in range(4):
            beam.sums[place, column] = draft.sums[index, column]


@compiled
def settle(beam, size, best):
    """Bring the sums near 1 where the best prefix is far from it, and the smallest to 0; ln of what they were divided by.

    The best paths have a scale of their own, for in time they become ever smaller parts of the sums.
    """
    sums, most = beam.sums, 0.0
    for place in range(size):
        most = max(most, sums[place, BEST_BLANK], sums[place, BEST_TOKEN])
    factor = 1.0 / best if best > 0.0 and not 1e-40 < best < 1e40 else 1.0
    factor_of_paths = 1.0 / most if most > 0.0 and not 1e-40 < most < 1e40 else 1.0
    for place in range(size):
        for column in range(4):
            value = sums[place, column] * (factor if column < BEST_BLANK else factor_of_paths)
            sums[place, column] = value if value > SMALLEST else 0.0
    return -np.log(factor)
