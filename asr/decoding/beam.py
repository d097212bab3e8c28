"""Beam search over CTC emissions with language models, lexicons and hot words.

The score of a hypothesis is

    ln (sum of its paths' probabilities) + lm_weight ln P(hypothesis, </s>) + insertion_bonus x words
        - unknown_penalty x words that the language model does not know + boosts of its hot words

where with a lexicon each path counts with the probability of the pronunciation that it spells, and all pronunciations of a
sequence of words are summed; homophones are different hypotheses. What is counted, and judged by the language model, are words
where they are known: with a lexicon, and in characters with spaces. It is tokens for phones without a lexicon, and with a
language model of characters. A run of spaces counts as one space and those at the ends as none.

Two searches share the beam. Without a lexicon hypotheses are free sequences of tokens; a word that a language model of words does
not know is judged as its <unk>, less `unknown_penalty`, for <unk> stands for all unknown words together and says nothing of how
this one is spelled. With a lexicon hypotheses are sequences of its words and nothing else can come out; words of it that the
language model does not know are judged in the same way. Hot words are spared the penalty.

The best hypothesis is the one of the highest score or, with `mbr`, the one of which fewest errors are expected
(`asr.decoding.beam_traceback`): among many hypotheses that share most words, the likeliest one as a whole is often not the one
with the likeliest words.

A beam of 1 without a language model is not greedy search: it sums over paths. The best path of a hypothesis is never more
probable than the sum that stands in its score.

With byte pairs a piece that begins a word ends the one before. A word of the language model, and a hot word, is then known only
by the pieces that the model's own transcripts are cut into; spelled in other pieces it is an unknown one, and two hypotheses may
have the same text. A hot word is also found where it begins a longer word.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from asr.decoding.hypothesis import Hypothesis, Word
from asr.errors import DataError, ModelError, UsageError
from asr.text.hotwords import HotTables, HotWords, build_automaton
from asr.text.kenlm_binary import KenlmModel
from asr.text.lexicon import Lexicon, LexiconTree
from asr.text.ngram import NgramModel, NgramTables
from asr.text.tokenizer import WRITTEN_SPACE, Tokenizer

LM_UNITS = ("auto", "tokens", "words")
#: no search is better for more, and it keeps the room of a beam in the range of memory
WIDEST_BEAM = 1_000_000
SPACE = " "
LanguageModel = NgramModel | KenlmModel


@dataclass
class BeamOptions:
    """What the search keeps, and what a hypothesis is worth."""

    #: prefixes kept after each frame
    beam: int = 16
    #: prefixes that score so much less than the best one are dropped, natural-logarithm units
    score_gap: float = 18.0
    #: tokens that are so much less likely than the likeliest symbol of their frame are not tried, natural-logarithm units
    token_gap: float = 8.0
    #: hypotheses returned
    nbest: int = 1
    #: weight of the language model's logarithm
    lm_weight: float = 0.5
    #: added for each word, or token where the language model is of tokens; natural-logarithm units
    insertion_bonus: float = 0.0
    #: taken away for each word (token) that the language model does not know and that is no hot word, at least 0
    unknown_penalty: float = 10.0
    #: what the language model's words are: auto | tokens | words (auto: tokens where more than half of them are tokens)
    lm_unit: str = "auto"
    #: phone that may stand between the words of a lexicon, where the model has it
    silence: str = "sil"
    #: exponent of the posterior from which confidences are taken; below 1 they are less sure of themselves
    confidence_scale: float = 1.0
    #: 0: the best hypothesis is the likeliest; above: the one of fewest expected errors, by the posterior to this power
    mbr: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.beam <= WIDEST_BEAM:
            raise UsageError(f"beam must lie between 1 and {WIDEST_BEAM}, got {self.beam}")
        if not 1 <= self.nbest <= self.beam:
            raise UsageError(f"nbest must lie between 1 and beam={self.beam}, got {self.nbest}")
        for name in ("score_gap", "token_gap", "confidence_scale"):
            if not getattr(self, name) > 0.0:
                raise UsageError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("lm_weight", "insertion_bonus", "unknown_penalty", "confidence_scale", "mbr"):
            if not math.isfinite(getattr(self, name)):
                raise UsageError(f"{name} must be a finite number, got {getattr(self, name)}")
        for name in ("lm_weight", "unknown_penalty", "mbr"):
            if getattr(self, name) < 0.0:
                raise UsageError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.lm_unit not in LM_UNITS:
            raise UsageError(f'lm_unit="{self.lm_unit}" is not one of {", ".join(LM_UNITS)}')


class BeamDecoder:
    """A search made ready: tables for the compiled code. May be called from several threads at once.

    `notices` holds one sentence for each thing that a user should hear of: words of the lexicon that the model cannot spell,
    a language model that hardly knows the words that can be recognised.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        options: BeamOptions,
        *,
        language_model: LanguageModel | None = None,
        lexicon: Lexicon | None = None,
        hotwords: HotWords | None = None,
    ) -> None:
        from asr.decoding.beam_kernels import Limits

        self.tokenizer, self.options = tokenizer, options
        self.notices: list[str] = []
        self._words: tuple[str, ...] = lexicon.words if lexicon is not None else ()
        self._labelled = lexicon is not None
        for word in sorted(_listed(hotwords) - set(self._words)) if lexicon is not None else ():
            raise DataError(f'the hot word "{word}" is not in the lexicon; add it there with its pronunciation')
        self._limits = Limits(int(options.beam), float(options.score_gap), float(options.token_gap))
        self._separator = _separator(tokenizer, options, lexicon)
        self._begins = _frozen(np.array(tokenizer.begins_word))
        of_words = _counts_words(tokenizer, options, language_model, lexicon)
        self._fusion = _fusion(language_model, options)
        self._kenlm = language_model if isinstance(language_model, KenlmModel) else None
        if lexicon is not None:
            self._search, self._tables = self._prepare_words(language_model, lexicon, hotwords)
        else:
            self._search, self._tables = self._prepare_tokens(language_model, of_words, hotwords)
        self._hot = self._prepare_hotwords(hotwords, lexicon)

    def decode(self, log_probs: np.ndarray, *, frame_shift_s: float = 0.0, first_frame_s: float = 0.0) -> list[Hypothesis]:
        """The n best hypotheses of log_probs (T', V), natural logarithms with the blank at 0; T' may be 0. Never empty.

        Times are seconds: frame 0 has its centre at first_frame_s. Where no sequence of whole words of a lexicon is left in the
        beam, the last word is left out. Raises DataError for NaN or infinite values: text out of them would be invented.
        """
        from asr.decoding.beam_traceback import collect

        rows = self._checked(log_probs)
        if self._kenlm is not None:
            self._kenlm.forget()
        broken, scores, last, ended, records = self._search(rows, self._limits, self._fusion, self._tables, self._hot)
        if broken >= 0:
            where = f"at frame {broken} of {len(rows)}"
            raise DataError(f"the model's log-probabilities are not finite {where}; no text is made of them")
        best = collect(
            rows,
            np.argsort(-scores, kind="stable"),
            scores,
            last,
            ended,
            records,
            self.options.nbest,
            self._separator,
            self._begins,
            self._labelled,
            float(self.options.confidence_scale),
            float(self.options.mbr),
        )
        return self._hypotheses(best, frame_shift_s, first_frame_s)

    def decode_batch(
        self, emissions: Sequence[np.ndarray], *, frame_shift_s: float = 0.0, first_frame_s: float = 0.0, threads: int = 1
    ) -> list[list[Hypothesis]]:
        """`decode` of each utterance, on so many cores; the answers do not depend on their number."""

        def one(log_probs: np.ndarray) -> list[Hypothesis]:
            return self.decode(log_probs, frame_shift_s=frame_shift_s, first_frame_s=first_frame_s)

        if threads <= 1 or len(emissions) < 2:
            return [one(log_probs) for log_probs in emissions]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(one, emissions))

    def _checked(self, log_probs: np.ndarray) -> np.ndarray:
        if log_probs.ndim != 2:
            raise ValueError(f"expected log-probabilities of shape (frames, vocabulary), got {log_probs.shape}")
        if log_probs.shape[1] != len(self.tokenizer):
            counts = f"the tokens are {len(self.tokenizer)}, the log-probabilities {log_probs.shape[1]} per frame"
            raise ModelError(f"{counts}; do model and tokens belong together?")
        rows = np.ascontiguousarray(log_probs, dtype=np.float32).view()
        rows.flags.writeable = False  # one compiled variant for all
        return rows

    def _hypotheses(self, best, shift: float, first: float) -> list[Hypothesis]:
        token_begin, word_begin = best.token_begin.tolist(), best.word_begin.tolist()
        tokens, peaks = best.tokens.tolist(), (first + best.peaks * shift).tolist()
        starts = np.maximum(first + (best.starts - 0.5) * shift, 0.0).tolist()
        ends = np.maximum(first + (best.ends - 0.5) * shift, 0.0).tolist()
        words, confidences = best.words.tolist(), best.confidences.tolist()
        firsts, lasts = best.firsts.tolist(), best.lasts.tolist()
        found = []
        for rank, (score, risk) in enumerate(zip(best.scores.tolist(), best.risks.tolist())):
            begin, end = token_begin[rank], token_begin[rank + 1]
            spoken = range(word_begin[rank], word_begin[rank + 1])
            if self._labelled:
                names = [self._words[words[place]] for place in spoken]
                text = SPACE.join(names)
            else:
                text = self.tokenizer.decode(tokens[begin:end])
                names = [self.tokenizer.decode(tokens[begin + firsts[place] : begin + lasts[place]]) for place in spoken]
            timed = tuple(
                Word(name, starts[begin + firsts[place]], ends[begin + lasts[place] - 1], confidences[place])
                for name, place in zip(names, spoken)
                if name
            )
            spans = tuple(zip(starts[begin:end], ends[begin:end]))
            found.append(Hypothesis(text, tuple(tokens[begin:end]), score, tuple(peaks[begin:end]), timed, spans, risk))
        return found

    def _prepare_tokens(self, model: LanguageModel | None, of_words: bool, hotwords: HotWords | None):
        from asr.decoding.beam_lookahead import without_context
        from asr.decoding.beam_tokens import Vocabulary, search_tokens

        tokenizer, options = self.tokenizer, self.options
        tree, entry_word = _NO_TREE, _ints([])
        ahead = without_context(tree, np.zeros(0), options.insertion_bonus if of_words else 0.0)
        token_word = _ints(np.zeros(len(tokenizer)))
        if model is not None and not of_words:
            token_word = _ints([-1, *(model.id(_token_name(symbol)) for symbol in tokenizer.symbols[1:])])
        if of_words and model is not None:
            tree, entry_word = self._spelled(model, hotwords)
            ahead = self._ahead(model, tree, entry_word, open_vocabulary=True)
        tables = Vocabulary(token_word, tree, entry_word, ahead, self._separator, self._begins, of_words)

        def search(*arguments):
            broken, scores, last, records = search_tokens(*arguments)
            return broken, scores, last, np.full(len(last), -1, np.int32), records

        return search, tables

    def _spelled(self, model: LanguageModel, hotwords: HotWords | None) -> tuple[LexiconTree, np.ndarray]:
        """The words of a language model, and hot words, spelled with the model's tokens; (E,) their ids."""
        known = [word for word in model.words if model.knows(word)]
        vocabulary = Lexicon.of_words(word for word in known if not self.tokenizer.unknown_symbols(word))
        strange = len(known) - len(vocabulary)
        self._notice_share(strange, len(known), "words of the language model cannot be spelled with the model's characters")
        listed = _listed(hotwords)
        vocabulary = Lexicon.of_words([*vocabulary.words, *sorted(listed)])
        if not vocabulary:
            return _NO_TREE, _ints([])
        tree, _ = vocabulary.tree(self.tokenizer, separator=self._separator)
        return tree, _ints([self._ngram_id(model, vocabulary.words[index], listed) for index in tree.word])

    def _ngram_id(self, model: LanguageModel, word: str, listed: set[str]) -> int:
        from asr.decoding.beam_kernels import LISTED

        return LISTED if word in listed and not model.knows(word) else model.id(word)

    def _ahead(self, model: LanguageModel | None, tree: LexiconTree, words: np.ndarray, *, open_vocabulary: bool):
        from asr.decoding.beam_lookahead import look_ahead

        options = self.options
        weights = {"weight": options.lm_weight, "bonus": options.insertion_bonus, "penalty": options.unknown_penalty}
        return look_ahead(model, tree, words, open_vocabulary=open_vocabulary, **weights)

    def _prepare_words(self, model: LanguageModel | None, lexicon: Lexicon, hotwords: HotWords | None):
        from asr.decoding.beam_lexicon import Words, search_words

        tree, left_out = lexicon.tree(self.tokenizer, separator=self._separator)
        if left_out:
            names = ", ".join(left_out[:5]) + (" ..." if len(left_out) > 5 else "")
            self.notices.append(f"{len(left_out)} of {len(lexicon)} words of the lexicon cannot be recognised: {names}")
        ngram_word = _ints(np.zeros(len(lexicon)))
        if model is not None:
            listed = _listed(hotwords)
            ngram_word = _ints([self._ngram_id(model, word, listed) for word in lexicon.words])
            strangers = sum(not model.knows(word) for word in lexicon.words)
            self._notice_share(strangers, len(lexicon), "words of the lexicon are unknown to the language model")
        warmth = np.exp(_hot_below(tree, lexicon, hotwords))
        ends = np.repeat(np.arange(len(tree.token)), np.diff(tree.word_begin))
        by_word = np.argsort(tree.word, kind="stable")
        end_begin = np.searchsorted(tree.word[by_word], np.arange(len(lexicon) + 1))
        required = self.tokenizer.options.unit == "characters" and self._separator >= 0
        most = int(np.diff(tree.word_begin).max())
        tables = Words(
            tree,
            ngram_word,
            self._ahead(model, tree, ngram_word[tree.word], open_vocabulary=False),
            _frozen(warmth),
            _ints(end_begin),
            _ints(ends[by_word]),
            self._separator,
            required,
            most,
            float(warmth.max()),
        )
        return search_words, tables

    def _prepare_hotwords(self, hotwords: HotWords | None, lexicon: Lexicon | None) -> HotTables:
        if hotwords is None:
            return build_automaton([], [])
        if lexicon is not None:
            index = {word: number for number, word in enumerate(lexicon.words)}
            return hotwords.automaton(lambda phrase: [index[word] for word in phrase.split()])
        return hotwords.automaton(self.tokenizer.encode, separator=self._separator if self._separator >= 0 else None)

    def _notice_share(self, count: int, total: int, fact: str) -> None:
        if total and count > total / 2:
            self.notices.append(f"{100 * count // total} % of the {fact}; are both in the same case and spelling?")


def _frozen(array: np.ndarray) -> np.ndarray:
    """The array itself, read-only: the compiled code knows one kind of array."""
    array.flags.writeable = False
    return array


def _ints(values) -> np.ndarray:
    return _frozen(np.array(values, dtype=np.int32))


_NO_TREE = LexiconTree(_ints([1, 1]), _ints([0]), _ints([-1]), _ints([0, 0]), _ints([]), _frozen(np.zeros(0)))
_NO_WEIGHTS = _frozen(np.zeros(1, np.float32))
_NO_NGRAMS = NgramTables(_ints([0, 0]), _ints([]), _NO_WEIGHTS, _ints([]), _NO_WEIGHTS, _ints([-1]))


def _fusion(model: LanguageModel | None, options: BeamOptions):
    from asr.decoding.beam_kernels import Fusion

    weights = (float(options.lm_weight), float(options.insertion_bonus), float(options.unknown_penalty))
    if model is None:
        return Fusion(tuple(_NO_NGRAMS), False, 0, 0, -1, *weights, 0, 0)
    unknown = -1 if model.unk is None else model.unk
    tables, addresses = (_NO_NGRAMS, model.addresses) if isinstance(model, KenlmModel) else (model.tables, (0, 0))
    return Fusion(tuple(tables), True, int(model.start), int(model.eos), int(unknown), *weights, *addresses)


def _separator(tokenizer: Tokenizer, options: BeamOptions, lexicon: Lexicon | None) -> int:
    """The token between words, or -1: the space of characters, with a lexicon the silence of phones."""
    silence = options.silence if lexicon is not None and tokenizer.options.unit == "phones" else ""
    name = SPACE if tokenizer.options.unit == "characters" else silence
    return tokenizer.symbols.index(name, 1) if name in tokenizer.symbols[1:] else -1


def _token_name(symbol: str) -> str:
    return WRITTEN_SPACE if symbol == SPACE else symbol


def _counts_words(tokenizer: Tokenizer, options: BeamOptions, model: LanguageModel | None, lexicon: Lexicon | None) -> bool:
    """Whether the units of the score are words. Raises UsageError for a language model that cannot be used so."""
    of_tokens = options.lm_unit == "tokens"
    if model is not None and options.lm_unit == "auto":
        own = {_token_name(symbol) for symbol in tokenizer.symbols[1:]}
        known = [word for word in model.words if model.knows(word)]
        of_tokens = lexicon is None and 2 * sum(word in own for word in known) > len(known)
    if lexicon is not None:
        if of_tokens and model is not None:
            raise UsageError("lm_unit=tokens cannot be used with a lexicon: there the language model judges words")
        return True
    spaced = any(tokenizer.begins_word) or (tokenizer.options.unit == "characters" and SPACE in tokenizer.symbols[1:])
    if model is None:
        return spaced
    if not of_tokens and not spaced:
        kind = "phones" if tokenizer.options.unit == "phones" else "characters without a space"
        raise UsageError(f"a language model of words needs a lexicon for a model of {kind}; give lexicon= or one of {kind}")
    return not of_tokens


def _listed(hotwords: HotWords | None) -> set[str]:
    """The single words of the hot words."""
    return {word for phrase in (hotwords.phrases if hotwords is not None else ()) for word in phrase.split()}


def _hot_below(tree: LexiconTree, lexicon: Lexicon, hotwords: HotWords | None) -> np.ndarray:
    """(N,) what the beginnings of hot words are lent at the nodes of the tree: the share of the boost that has been heard."""
    lent = np.zeros(len(tree.token))
    if hotwords is None:
        return lent
    index = {word: number for number, word in enumerate(lexicon.words)}
    share = np.zeros(len(lexicon))
    for phrase, boost in zip(hotwords.phrases, hotwords.boosts):
        words = phrase.split()
        for word in words:
            share[index[word]] = max(share[index[word]], boost / len(words))
    ends = np.repeat(np.arange(len(tree.token)), np.diff(tree.word_begin))
    for entry in np.flatnonzero(share[tree.word] > 0.0):
        path, node = [], int(ends[entry])
        while node > 0:
            path.append(node)
            node = int(tree.parent[node])
        for depth, node in enumerate(reversed(path), start=1):
            lent[node] = max(lent[node], share[tree.word[entry]] * depth / len(path))
    return lent
