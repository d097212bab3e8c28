"""Prefix beam search in plain Python, to be read beside the papers; the compiled searches must give the same answers.

The search is that of Graves and Jaitly (ICML 2014, section 3.2 and algorithm 1) in the form of Hannun et al. (2014,
arXiv:1408.2873, algorithm 1). A prefix l has two sums over the paths that collapse to it after frame t: those that end in a
blank, p_b(l), and those that end in its last token, p_nb(l). One frame more:

    p_b'(l)  = y(blank) (p_b(l) + p_nb(l))
    p_nb'(l) = y(last of l) p_nb(l)
    p_nb'(l + c) = w(l, c) y(c) (p_b(l) + p_nb(l)),   only p_b(l) where c is the last token of l

w is all that a language model, an insertion bonus and hot words say about the token c after l. What prefixes are, how they grow
and what w is stands in a *language*: free sequences of tokens, or the words of a lexicon. All numbers are natural logarithms.

A prefix can be lent something in advance of a word or phrase that it has begun; that decides whether it is kept and nothing else.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np

from asr.text.hotwords import HotTables, follow
from asr.text.lexicon import LexiconTree
from asr.text.ngram import NgramModel

BLANK = 0
NEVER = -np.inf
#: The id of a hot word that the language model does not know.
LISTED = -2
#: A token prefix, or (words, node of the lexicon's tree).
Prefix: TypeAlias = Hashable


class Language(Protocol):
    """What the search asks about prefixes."""

    def start(self) -> Prefix: ...

    def last(self, prefix: Prefix) -> int | None:
        """The last token: the one that needs a blank before it is emitted again."""

    def extend(self, prefix: Prefix, token: int) -> Iterable[tuple[Prefix, float]]:
        """The prefixes that one more token leads to, each with its weight ln w. May be the prefix itself."""

    def lend(self, prefix: Prefix) -> float:
        """What is added when prefixes are compared."""

    def finish(self, prefix: Prefix) -> Iterable[tuple[tuple[int, ...], float]]:
        """The hypotheses, token ids or word indices, that a prefix becomes at the end, each with what that adds."""


def prefix_beam_search(
    log_probs: np.ndarray,
    language: Language,
    *,
    beam: float = np.inf,
    score_gap: float = np.inf,
    token_gap: float = np.inf,
) -> list[tuple[tuple[int, ...], float]]:
    """(hypothesis, score) of log_probs (T', V), best first.

    Kept after each frame are the `beam` best prefixes among those at most `score_gap` below the best one; tokens more than
    `token_gap` below the likeliest symbol of their frame extend nothing.
    """
    prefixes = {language.start(): (0.0, NEVER)}
    for row in log_probs.astype(np.float64):
        kept = [token for token in range(1, len(row)) if NEVER < row[token] >= row.max() - token_gap]
        grown: dict[Prefix, tuple[float, float]] = {}

        def add(prefix: Prefix, blank: float, token: float, into: dict = grown) -> None:
            before = into.get(prefix, (NEVER, NEVER))
            into[prefix] = (float(np.logaddexp(before[0], blank)), float(np.logaddexp(before[1], token)))

        for prefix, (blank, token) in prefixes.items():
            total, last = float(np.logaddexp(blank, token)), language.last(prefix)
            add(prefix, total + row[BLANK], NEVER if last is None else token + row[last])
            for symbol in kept:
                source = blank if symbol == last else total
                if source == NEVER:
                    continue
                for longer, weight in language.extend(prefix, symbol):
                    add(longer, NEVER, source + row[symbol] + weight)
        ranks = {prefix: float(np.logaddexp(*sums)) + language.lend(prefix) for prefix, sums in grown.items()}
        floor = max(ranks.values()) - score_gap
        order = sorted((prefix for prefix in ranks if ranks[prefix] >= floor), key=lambda prefix: -ranks[prefix])
        prefixes = {prefix: grown[prefix] for prefix in (order if beam == np.inf else order[: int(beam)])}
    found: dict[tuple[int, ...], float] = {}
    for prefix, sums in prefixes.items():
        for hypothesis, weight in language.finish(prefix):
            score = float(np.logaddexp(*sums)) + weight
            found[hypothesis] = float(np.logaddexp(found.get(hypothesis, NEVER), score))
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


@dataclass
class Weights:
    """Score = ln of the sum over paths + lm_weight ln P + insertion_bonus x units - unknown_penalty x unknown units."""

    lm_weight: float = 0.5
    insertion_bonus: float = 0.0
    unknown_penalty: float = 0.0
    model: NgramModel | None = None
    hot: HotTables | None = None

    def unit(self, state: int, word: int) -> tuple[float, int]:
        """(what one more token or word adds, next state of the language model)"""
        if self.model is None:
            return self.insertion_bonus, state
        penalty = self.unknown_penalty if word in (-1, self.model.unk) else 0.0
        if word == LISTED:
            word = -1 if self.model.unk is None else self.model.unk
        logp, following = self.model.score(state, word)
        return self.lm_weight * logp + self.insertion_bonus - penalty, following

    def end(self, state: int) -> float:
        return 0.0 if self.model is None else self.lm_weight * self.model.score(state, self.model.eos)[0]

    def start(self) -> int:
        return 0 if self.model is None else self.model.start


@dataclass
class TokenLanguage:
    """Free sequences of tokens, with a language model of tokens, or of the words between separators, or of those that tokens of
    their own begin.

    A run of separators counts once and those at the ends count nothing, so hypotheses are the texts with single spaces.
    """

    weights: Weights
    #: the space, or None
    separator: int | None = None
    #: token -> word id of a language model of tokens
    token_word: Sequence[int] = ()
    #: tokens of a word -> word id of a language model of words; None where the model is of tokens
    word_of: Callable[[tuple[int, ...]], int] | None = None
    #: (state of the language model, tokens of a word that has begun behind it) -> what it is lent
    lookahead: Callable[[int, tuple[int, ...]], float] = field(default=lambda state, tokens: 0.0)
    #: tokens that begin a word without a separator
    begins: frozenset[int] = frozenset()

    def start(self) -> tuple[int, ...]:
        return ()

    def last(self, prefix: tuple[int, ...]) -> int | None:
        return prefix[-1] if prefix else self.separator

    def extend(self, prefix: tuple[int, ...], token: int) -> Iterable[tuple[tuple[int, ...], float]]:
        if token == self.separator == self.last(prefix):
            return [(prefix, 0.0)]
        return [((*prefix, token), self._total((*prefix, token)) - self._total(prefix))]

    def lend(self, prefix: tuple[int, ...]) -> float:
        word = self._words(prefix)[-1]
        lent = self.lookahead(self._weigh(self._units(prefix))[1], word) if word and self.word_of is not None else 0.0
        return lent + (0.0 if self.weights.hot is None else float(self.weights.hot.credit[self._heat(prefix)[0]]))

    def finish(self, prefix: tuple[int, ...]) -> Iterable[tuple[tuple[int, ...], float]]:
        text = prefix[:-1] if prefix and prefix[-1] == self.separator else prefix
        if not text or (self.separator is None and self.word_of is None):
            closed = self._total(text)
        elif self.word_of is not None:
            closed = (
                self._bonus(text if self.separator is None else (*text, self.separator)) + self._weigh(self._all_units(text))[0]
            )
        else:  # a phrase that the end completes counts, the separator that would show it does not
            closed = self._total(text) + self._bonus((*text, self.separator)) - self._bonus(text)
        return [(text, closed - self._total(prefix) + self.weights.end(self._state(text)))]

    def _words(self, tokens: tuple[int, ...]) -> list[tuple[int, ...]]:
        words: list[tuple[int, ...]] = [()]
        for token in tokens:
            if token == self.separator or (token in self.begins and words[-1]):
                words.append(())
            if token != self.separator:
                words[-1] += (token,)
        return words

    def _units(self, tokens: tuple[int, ...]) -> list[int]:
        """What the language model has counted of a prefix: all its tokens, or the words that have ended."""
        if self.word_of is None:
            return [self.token_word[token] if self.token_word else 0 for token in tokens]
        return [self.word_of(word) for word in self._words(tokens)[:-1]]

    def _total(self, tokens: tuple[int, ...]) -> float:
        return self._bonus(tokens) + self._weigh(self._units(tokens))[0]

    def _state(self, text: tuple[int, ...]) -> int:
        return self._weigh(self._all_units(text))[1]

    def _all_units(self, text: tuple[int, ...]) -> list[int]:
        """What the language model counts of a whole text: its last word as well."""
        last = [self.word_of(self._words(text)[-1])] if self.word_of is not None and text else []
        return [*self._units(text), *last]

    def _weigh(self, units: Iterable[int]) -> tuple[float, int]:
        """(what these units add, state of the language model behind them)"""
        total, state = 0.0, self.weights.start()
        for unit in units:
            added, state = self.weights.unit(state, unit)
            total += added
        return total, state

    def _bonus(self, tokens: tuple[int, ...]) -> float:
        return self._heat(tokens)[1]

    def _heat(self, tokens: tuple[int, ...]) -> tuple[int, float]:
        """(state of the hot words, boosts of the phrases complete so far)"""
        hot, state, total = self.weights.hot, 0, 0.0
        if hot is None:
            return 0, 0.0
        for token in tokens if self.separator is None else (self.separator, *tokens):
            state = follow(hot, state, token)
            total += float(hot.bonus[state])
        return state, total


@dataclass
class LexiconLanguage:
    """Sequences of words of a lexicon; a prefix is (words that are complete, node of the tree in the word begun).

    A word is complete when the next one begins or a separator follows. All pronunciations of a word lead to the same prefixes,
    where their sums are added, each with its probability; homophones lead to different ones.
    """

    weights: Weights
    tree: LexiconTree
    #: word of the lexicon -> word id of the language model
    ngram_word: Sequence[int]
    #: the space or the silence between words, or None; `required`: words do not follow each other without it
    separator: int | None = None
    required: bool = False
    #: (state of the language model, node) -> what a word begun there is lent
    lookahead: Callable[[int, int], float] = field(default=lambda state, node: 0.0)

    def start(self) -> tuple[tuple[int, ...], int]:
        return (), 0

    def last(self, prefix: tuple[tuple[int, ...], int]) -> int | None:
        return int(self.tree.token[prefix[1]]) if prefix[1] else self.separator

    def extend(self, prefix: tuple[tuple[int, ...], int], token: int) -> Iterable[tuple[Prefix, float]]:
        words, node = prefix
        if node == 0 and token == self.separator:
            return [(prefix, 0.0)]
        grown: list[tuple[Prefix, float]] = [((words, child), 0.0) for child in self._child(node, token)]
        if node == 0:
            return grown
        if token == self.separator:
            onwards: list[int] = [0]
        else:
            onwards = [] if self.required else self._child(0, token)
        for following in onwards:
            for word, logp in self._ending(node):
                longer = (*words, word)
                grown.append(((longer, following), logp + self._total(longer) - self._total(words)))
        return grown

    def lend(self, prefix: tuple[tuple[int, ...], int]) -> float:
        words, node = prefix
        lent = self.lookahead(self._state(words), node) if node else 0.0
        return lent + (0.0 if self.weights.hot is None else float(self.weights.hot.credit[self._heat(words)[0]]))

    def finish(self, prefix: tuple[tuple[int, ...], int]) -> Iterable[tuple[tuple[int, ...], float]]:
        words, node = prefix
        ways = [(words, 0.0)] if node == 0 else [((*words, word), logp) for word, logp in self._ending(node)]
        return [
            (all_, logp + self._total(all_) - self._total(words) + self.weights.end(self._state(all_))) for all_, logp in ways
        ]

    def _child(self, node: int, token: int) -> list[int]:
        children = range(self.tree.child_begin[node], self.tree.child_begin[node + 1])
        return [child for child in children if self.tree.token[child] == token]

    def _ending(self, node: int) -> list[tuple[int, float]]:
        entries = range(self.tree.word_begin[node], self.tree.word_begin[node + 1])
        return [(int(self.tree.word[entry]), float(self.tree.logp[entry])) for entry in entries]

    def _total(self, words: tuple[int, ...]) -> float:
        total, state = self._heat(words)[1], self.weights.start()
        for word in words:
            added, state = self.weights.unit(state, self.ngram_word[word])
            total += added
        return total

    def _state(self, words: tuple[int, ...]) -> int:
        state = self.weights.start()
        for word in words:
            state = self.weights.unit(state, self.ngram_word[word])[1]
        return state

    def _heat(self, words: tuple[int, ...]) -> tuple[int, float]:
        hot, state, total = self.weights.hot, 0, 0.0
        for word in words if hot is not None else ():
            state = follow(hot, state, word)  # type: ignore[arg-type]
            total += float(hot.bonus[state])  # type: ignore[union-attr]
        return state, total
