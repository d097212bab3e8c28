"""From the records of a search to its n best hypotheses: tokens, frames, words and the words' posteriors, compiled.

The best is the likeliest hypothesis, or with an exponent `mbr` the one of fewest expected errors (minimum Bayes risk: Stolcke,
Konig and Weintraub, Eurospeech 1997; Goel and Byrne, Computer Speech and Language 2000):

    argmin_h sum_g P(g)^mbr edits(h, g) / sum_g P(g)^mbr

over the hypotheses h, g that the search ends with; edits are of words where it knows words, else of tokens.
"""

from typing import NamedTuple

import numpy as np

from asr.decoding.beam_kernels import BEFORE, BLANK, FRAME, START, TOKEN, WORD
from asr.decoding.compiled import compiled, makes_arrays

#: Hypotheses with a smaller share of the posterior are no evidence for or against a word.
NEGLIGIBLE = 1e-9
#: Before the beginning of every sequence.
NOWHERE = -(2**31)


class Best(NamedTuple):
    """The n best hypotheses, best first. Tokens and words of all stand one after another."""

    scores: np.ndarray
    #: errors that are expected of each, 0 where they were not asked for
    risks: np.ndarray
    #: (n + 1,): the tokens of hypothesis h are the entries token_begin[h] .. token_begin[h + 1] - 1
    token_begin: np.ndarray
    tokens: np.ndarray
    #: frames [start, end) of a token on the best path, and the frame in between that is likeliest
    starts: np.ndarray
    ends: np.ndarray
    peaks: np.ndarray
    #: (n + 1,) the same for words
    word_begin: np.ndarray
    #: index of the word in the lexicon; where there is none, a number that depends on the spelling only
    words: np.ndarray
    #: tokens [first, last) of a word, counted from the first token of its hypothesis
    firsts: np.ndarray
    lasts: np.ndarray
    #: 0 .. 1
    confidences: np.ndarray


class Spoken(NamedTuple):
    """One hypothesis: its tokens with the frames at which they begin, then its words."""

    tokens: np.ndarray
    starts: np.ndarray
    words: np.ndarray
    firsts: np.ndarray
    lasts: np.ndarray
    #: (W, 2) first and last frame in which the word can have been spoken: between its neighbours' tokens
    zones: np.ndarray
    #: the frame before which the last token ends
    limit: int


@makes_arrays
def spell_out(records, last, ended, separator, begins, labelled, frames):
    """The hypothesis whose last record and last word are given. Separators at its end are dropped.

    With a lexicon, `labelled`, the records know where words end; without one separators do, and tokens that begin a word,
    begins (V,); `ended` is -1.
    """
    count, at = 0, last
    while at >= 0:
        count += 1
        at = records[at, BEFORE]
    tokens, starts, labels = np.empty(count, np.int32), np.empty(count, np.int32), np.empty(count + 1, np.int64)
    at, place = last, count
    while at >= 0:
        place -= 1
        tokens[place], starts[place], labels[place] = records[at, TOKEN], records[at, FRAME], records[at, WORD]
        at = records[at, BEFORE]
    words, firsts, lasts = np.empty(count + 1, np.int64), np.empty(count + 1, np.int32), np.empty(count + 1, np.int32)
    labels[count] = ended
    found, first = 0, START
    for place in range(count + 1):
        parts = place < count and tokens[place] == separator
        opens = place < count and begins[tokens[place]]
        ends = labels[place] >= 0 if labelled else parts or opens or place == count
        if ends and place > first:
            words[found], firsts[found], lasts[found] = labels[place], first, place
            if not labelled:
                words[found] = spelling(tokens, first, place)
            found += 1
        if ends:
            first = place + 1 if parts else place
    limit = frames
    spaced = labelled or separator >= 0 or begins.any()
    kept = lasts[found - 1] if found and spaced else count
    if spaced and found == 0:
        kept = 0
    if kept < count:
        limit = starts[kept]
    if not spaced:
        found = 0
    zones = np.empty((found, 2), np.int32)
    for word in range(found):
        zones[word, 0] = starts[firsts[word] - 1] + 1 if firsts[word] > 0 else 0
        zones[word, 1] = starts[lasts[word]] - 1 if lasts[word] < count else frames - 1
    return Spoken(tokens[:kept], starts[:kept], words[:found], firsts[:found], lasts[:found], zones, limit)


@compiled
def spelling(tokens, first, last):
    mixed = np.uint64(0xCBF29CE484222325)
    for place in range(first, last):
        mixed = (mixed ^ np.uint64(tokens[place])) * np.uint64(0x100000001B3)
    return np.int64(mixed)


@compiled
def support(spoken, other, weight, confidences):
    """Add the weight of the hypothesis `other` to the words that it holds too, where their zones meet."""
    begin = 0
    for word in range(len(spoken.words)):
        while begin < len(other.words) and other.zones[begin, 1] < spoken.zones[word, 0]:
            begin += 1
        rival = begin
        while rival < len(other.words) and other.zones[rival, 0] <= spoken.zones[word, 1]:
            if other.words[rival] == spoken.words[word]:
                confidences[word] += weight
                break
            rival += 1


@compiled
def run_end(log_probs, token, start, limit):
    """Where the run of a token ends on the best path, and its likeliest frame; the frames from there to `limit` are blanks."""
    end, peak, gain, most = start + 1, start, 0.0, 0.0
    for frame in range(start + 1, limit):
        gain += log_probs[frame, token] - log_probs[frame, BLANK]
        if gain > most:
            most, end = gain, frame + 1
    for frame in range(start + 1, end):
        if log_probs[frame, token] > log_probs[peak, token]:
            peak = frame
    return end, peak


@compiled
def edits(ours, theirs, reach):
    """Fewest insertions, deletions and substitutions between two sequences; `reach` has room for both and three more.

    On each diagonal of the table of prefixes, the furthest place that one edit more reaches (Ukkonen, Information and Control
    1985): sequences that are nearly alike cost little, however long.
    """
    count, other = len(ours), len(theirs)
    origin = count + 1
    reach[: count + other + 3] = NOWHERE
    spent = 0
    while True:
        left = NOWHERE
        for diagonal in range(max(-spent, -count), min(spent, other) + 1):
            at = origin + diagonal
            here = reach[at]
            place = max(here + 1, left, reach[at + 1] + 1) if spent else 0
            left = here
            if place < 0:
                continue
            place = min(place, count, other - diagonal)
            while place < count and place + diagonal < other and ours[place] == theirs[place + diagonal]:
                place += 1
            reach[at] = place
        if reach[origin + other - count] == count:
            return spent
        spent += 1


@makes_arrays
def expected_errors(spoken, weights, of_words):
    """(n,) of each of n hypotheses: the edits to each other one, as often as its weight says."""
    count = len(spoken)
    longest = 0
    for one in spoken:
        longest = max(longest, len(one.tokens))
    reach, risks = np.empty(2 * longest + 3, np.int64), np.zeros(count)
    for one in range(count):
        for other in range(one):
            if of_words:
                apart = edits(spoken[one].words, spoken[other].words, reach)
            else:
                apart = edits(spoken[one].tokens, spoken[other].tokens, reach)
            risks[one] += weights[other] * apart
            risks[other] += weights[one] * apart
    return risks


@makes_arrays
def shares(scores, scale):
    """(F,) posterior to the power of `scale` of hypotheses with these scores, the first of them the highest."""
    weights = np.exp(scale * (scores - scores[0]))
    return weights / weights.sum()


@makes_arrays
def collect(log_probs, order, scores, last, ended, records, nbest, separator, begins, labelled, scale, mbr):
    """The Best of scores (F,), last records (F,) and last words (F,), given their order by score; `mbr` 0: the likeliest is best.

    A word's confidence is the share of the posterior of all F hypotheses, to the power of `scale`, that holds it at this place.
    """
    frames = len(log_probs)
    weights, belief = shares(scores[order], scale), shares(scores[order], mbr)
    wanted = min(nbest, len(order))
    involved = wanted
    while involved < len(order) and (weights[involved] > NEGLIGIBLE or (mbr > 0.0 and belief[involved] > NEGLIGIBLE)):
        involved += 1
    order, weights, belief = order[:involved], weights[:involved], belief[:involved]
    spoken = [spell_out(records, last[each], ended[each], separator, begins, labelled, frames) for each in order]
    risks = np.zeros(involved)
    if mbr > 0.0:
        risks = expected_errors(spoken, belief, labelled or separator >= 0 or begins.any())
        ranks = np.argsort(risks, kind="mergesort")
        risks, order, weights, spoken = risks[ranks], order[ranks], weights[ranks], [spoken[rank] for rank in ranks]
    token_begin, word_begin = np.zeros(wanted + 1, np.int64), np.zeros(wanted + 1, np.int64)
    for rank in range(wanted):
        token_begin[rank + 1] = token_begin[rank] + len(spoken[rank].tokens)
        word_begin[rank + 1] = word_begin[rank] + len(spoken[rank].words)
    tokens, starts = np.empty(token_begin[wanted], np.int32), np.empty(token_begin[wanted], np.int32)
    ends, peaks = np.empty_like(starts), np.empty_like(starts)
    words, confidences = np.empty(word_begin[wanted], np.int64), np.zeros(word_begin[wanted])
    firsts, lasts = np.empty(word_begin[wanted], np.int32), np.empty(word_begin[wanted], np.int32)
    for rank in range(wanted):
        one = spoken[rank]
        at, count = token_begin[rank], len(one.tokens)
        tokens[at : at + count], starts[at : at + count] = one.tokens, one.starts
        for place in range(count):
            limit = one.limit
            if place + 1 < count:
                limit = one.starts[place + 1] - (1 if one.tokens[place + 1] == one.tokens[place] else 0)
            ends[at + place], peaks[at + place] = run_end(log_probs, one.tokens[place], one.starts[place], limit)
        at, count = word_begin[rank], len(one.words)
        words[at : at + count], firsts[at : at + count], lasts[at : at + count] = one.words, one.firsts, one.lasts
        for other in range(involved):
            support(one, spoken[other], weights[other], confidences[at : at + count])
    confidences = np.minimum(confidences, 1.0)
    best = scores[order[:wanted]], risks[:wanted]
    return Best(*best, token_begin, tokens, starts, ends, peaks, word_begin, words, firsts, lasts, confidences)
