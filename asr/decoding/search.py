"""The search that the options ask for, with its language model, dictionary and hot words: emissions in, hypotheses out."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.data.files import file_sha256, show_path
from asr.decoding.calibrate import apply_map
from asr.decoding.greedy import greedy_decode
from asr.decoding.hypothesis import Hypothesis, Word
from asr.decoding.options import (
    DEFAULT_BEAM,
    DEFAULT_BLANK_PENALTY,
    DEFAULT_INSERTION_BONUS,
    DEFAULT_LM_WEIGHT,
    DEFAULT_MBR,
    TUNED_KEYS,
    DecodeOptions,
)
from asr.decoding.times import words_of
from asr.decoding.tuned import Tuned, find_tuned, read_tuned, tuned_path
from asr.text.tokenizer import WRITTEN_SPACE, Tokenizer


@dataclass(frozen=True)
class Weights:
    """What decides between hypotheses, beside the emissions."""

    decoder: str
    beam: int
    lm_weight: float
    insertion_bonus: float
    #: 0: the likeliest hypothesis; above: that of fewest expected errors, by the posterior to this power
    mbr: float = DEFAULT_MBR
    #: see `with_blank_penalty`
    blank_penalty: float = DEFAULT_BLANK_PENALTY


@dataclass(frozen=True)
class Sources:
    """The files behind a search, read, and their sha256 by the key they were given with."""

    language_model: Any = None
    lexicon: Any = None
    hotwords: Any = None
    sha256: tuple[tuple[str, str], ...] = ()


class Search:
    """Log-probabilities to n-best hypotheses. It knows no model, and may be called from several threads at once."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        options: DecodeOptions,
        *,
        sources: Sources | None = None,
        tuned: Tuned | None = None,
        weights: Weights | None = None,
        confidence_scale: float | None = None,
    ):
        self.tokenizer, self.options, self.tuned = tokenizer, options, tuned
        self.sources = sources or Sources()
        self.weights = weights or choose_weights(options, tuned)
        self.confidence_scale = confidence_scale or (tuned.confidence_scale if tuned else 1.0)
        self.is_phones = tokenizer.options.unit == "phones"
        self._space = tokenizer.symbols.index(" ") if " " in tokenizer.symbols else None
        spaceless = tokenizer.options.unit == "characters" and self._space is None and self.sources.lexicon is None
        self._between = "" if spaceless else " "
        self._decoder = None if self.weights.decoder == "greedy" else self._build(self.weights)

    def __call__(self, log_probs: np.ndarray, *, frame_shift_s: float, first_frame_s: float) -> list[Hypothesis]:
        """Hypotheses of (T', V), the best first; the text has single spaces, none at its ends.

        Raises DataError for log-probabilities that are not finite.
        """
        times = {"frame_shift_s": frame_shift_s, "first_frame_s": first_frame_s}
        if self._decoder is None:
            found = [greedy_decode(log_probs, self.spell, **times)]
        else:
            log_probs = with_blank_penalty(log_probs, self.weights.blank_penalty)
            found = self._decoder.decode(log_probs, **times)[: self.options.nbest]
        if self.options.needs_words:
            found = [one if one.words else replace(one, words=words_of(one, self.tokenizer, log_probs, **times)) for one in found]
        return [self._calibrated(one) for one in found]

    def spell(self, tokens: Sequence[int]) -> str:
        """The text of token ids with single spaces, none at its ends."""
        return " ".join(self.tokenizer.decode(tokens).split())

    def join(self, stretches: Sequence[list[Hypothesis]]) -> list[Hypothesis]:
        """The n-best hypotheses of a recording from those of its stretches, in order: texts follow each other, scores and risks
        add up."""
        if len(stretches) == 1:
            return stretches[0]
        best: list[tuple[float, float, tuple[int, ...]]] = [(0.0, 0.0, ())]
        for found in stretches:
            grown = [
                (risk + one.risk, lack - one.score, (*path, rank)) for risk, lack, path in best for rank, one in enumerate(found)
            ]
            best = sorted(grown)[: self.options.nbest]
        return [self._joined([found[rank] for found, rank in zip(stretches, path)]) for _, _, path in best]

    @property
    def notices(self) -> list[str]:
        """What is odd about language model, lexicon and model together, one sentence each."""
        return [] if self._decoder is None else list(self._decoder.notices)

    @property
    def made_from(self) -> dict[str, Any]:
        """All that decides the hypotheses of given emissions."""
        calibration = [self.confidence_scale, *([self.tuned.slope, self.tuned.offset] if self.tuned else [1.0, 0.0])]
        weights = vars(self.weights)
        return {
            **weights,
            **dict(self.sources.sha256),
            "nbest": self.options.nbest,
            "words": [self.options.needs_words, self.options.levels],
            "calibration": calibration,
        }

    def _build(self, weights: Weights) -> Any:
        from asr.decoding.beam import BeamDecoder, BeamOptions

        options = BeamOptions(
            beam=weights.beam,
            nbest=min(self.options.nbest, weights.beam),
            lm_weight=weights.lm_weight,
            insertion_bonus=weights.insertion_bonus,
            mbr=weights.mbr,
            confidence_scale=self.confidence_scale,
        )
        model = self.sources.language_model if weights.lm_weight > 0 else None
        lexicon, hotwords = self.sources.lexicon, self.sources.hotwords
        return BeamDecoder(self.tokenizer, options, language_model=model, lexicon=lexicon, hotwords=hotwords)

    def _calibrated(self, hypothesis: Hypothesis) -> Hypothesis:
        if self.tuned is None or (self.tuned.slope, self.tuned.offset) == (1.0, 0.0):
            return hypothesis
        found = np.array([np.nan if word.confidence is None else word.confidence for word in hypothesis.words])
        mapped = apply_map(found, self.tuned.slope, self.tuned.offset).tolist()
        words = tuple(
            word if word.confidence is None else replace(word, confidence=confidence)
            for word, confidence in zip(hypothesis.words, mapped)
        )
        return replace(hypothesis, words=words)

    def _joined(self, pieces: Sequence[Hypothesis]) -> Hypothesis:
        score, risk = sum(one.score for one in pieces), sum(one.risk for one in pieces)
        spoken = [one for one in pieces if one.text]
        tokens: list[int] = []
        times: list[float] = []
        words: list[Word] = []
        spans: list[tuple[float, float]] = []
        for one in spoken:
            if tokens and self._space is not None:
                tokens.append(self._space)
                times.append(one.times[0] if one.times else times[-1])
                spans.append((times[-1], times[-1]))
            tokens += one.tokens
            times += one.times
            words += one.words
            spans += one.spans
        text = self._between.join(one.text for one in spoken)
        return Hypothesis(text, tuple(tokens), score, tuple(times), tuple(words), tuple(spans), risk)


def choose_weights(options: DecodeOptions, tuned: Tuned | None) -> Weights:
    """What was typed, else what was tuned, else the defaults. A language model without any weight is not used."""

    def pick(typed: float | None, found: float | None, default: float) -> float:
        return typed if typed is not None else found if found is not None else default

    decoder = options.search
    if tuned is not None and options.decoder == "auto" and not options.asks_for_beam:
        decoder = tuned.decoder
    return Weights(
        decoder=decoder,
        beam=int(pick(options.beam, tuned.beam if tuned else None, max(DEFAULT_BEAM, options.nbest))),
        lm_weight=pick(options.lm_weight, tuned.lm_weight if tuned else None, DEFAULT_LM_WEIGHT) if options.lm else 0.0,
        insertion_bonus=pick(options.insertion_bonus, tuned.insertion_bonus if tuned else None, DEFAULT_INSERTION_BONUS),
        mbr=pick(options.mbr, tuned.mbr if tuned else None, DEFAULT_MBR),
        blank_penalty=pick(options.blank_penalty, tuned.blank_penalty if tuned else None, DEFAULT_BLANK_PENALTY),
    )


def with_blank_penalty(log_probs: np.ndarray, penalty: float) -> np.ndarray:
    """(T', V) natural logarithms in which the blank, at 0, is e^penalty times less likely beside all others; 0 changes nothing.

    A network that CTC has taught on little speech takes the blank where it is in doubt, and leaves out what it cannot tell. A
    language model can, if it is asked.
    """
    if penalty == 0.0 or log_probs.ndim != 2 or not log_probs.size:
        return log_probs
    shifted = log_probs.astype(np.float32)
    left = np.log1p(np.exp(shifted[:, :1]) * np.float32(math.expm1(-penalty)))  # of a sum of one
    shifted[:, 0] -= penalty
    return shifted - left


def open_search(
    tokenizer: Tokenizer,
    model_folder: Path,
    options: DecodeOptions,
    *,
    texts: Iterable[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> Search:
    """The search of these options with its files, and with the weights that were tuned for them where none is typed.

    `texts` are transcripts in the spelling that is expected, where there are any: a language model that does not know their
    words is warned of. `say` is handed one sentence now and then. Raises DataError about a file.
    """
    sources = read_sources(tokenizer, options, say=say)
    tuned = None
    if options.decoder != "greedy" and not options.tune:
        tuned = _find(model_folder, options, dict(sources.sha256), say)
    search = Search(tokenizer, options, sources=sources, tuned=tuned)
    warn_of_spelling(tokenizer, search, texts, say)
    return search


def read_sources(tokenizer: Tokenizer, options: DecodeOptions, *, say: Callable[[str], None] = lambda text: None) -> Sources:
    """Language model, lexicon and hot words of the options, whichever are given, and their sha256."""
    sums = [(key, file_sha256(path)) for key in ("lm", "lexicon", "hotwords") if (path := getattr(options, key))]
    model = lexicon = hotwords = None
    if options.lm:
        from asr.text.kenlm_binary import read_language_model

        model = read_language_model(options.lm, say=lambda text: say(f"warning: {text}"))
    if options.lexicon:
        from asr.text.lexicon import read_lexicon

        lexicon = read_lexicon(options.lexicon)
    if options.hotwords:
        from asr.text.hotwords import read_hotwords

        hotwords = read_hotwords(options.hotwords, tokenizer, lexicon=lexicon)
    return Sources(model, lexicon, hotwords, tuple(sums))


def _find(folder: Path, options: DecodeOptions, sums: dict[str, str], say: Callable[[str], None]) -> Tuned | None:
    path = tuned_path(folder)
    entries = read_tuned(path)
    model = file_sha256(folder / "checksums.json")
    asked = "beam" if options.search == "greedy" else options.search  # what tune=true asks for without further files
    found = find_tuned(entries, model=model, lm=sums.get("lm"), lexicon=sums.get("lexicon"), asked=asked)
    if found is None:
        if any(one.model != model and one.lm == sums.get("lm") for one in entries):
            say(f"notice: {show_path(path)} was tuned for another state of this model and is not used; run tune=true again")
        return None
    weights = choose_weights(options, found)
    typed = [name for name in TUNED_KEYS if getattr(options, name) is not None]
    if found.lm_is_off and options.lm and options.lm_weight is None:
        say(f"{_why_off(found)}: it is off; lm_weight=VALUE turns it on")
    elif weights.decoder != "greedy":
        names = f"lm_weight={weights.lm_weight:g} " if options.lm else ""
        besides = f", besides {' and '.join(typed)} as typed" if typed else ""
        decoder = f"decoder={weights.decoder} " if weights.decoder != options.search else ""
        others = f" blank_penalty={weights.blank_penalty:g}" if weights.blank_penalty else ""
        others += f" mbr={weights.mbr:g}" if weights.mbr else ""
        chosen = f"{decoder}{names}insertion_bonus={weights.insertion_bonus:g} beam={weights.beam}{others}"
        say(f"{chosen} as tuned in {show_path(path)}{besides}")
    return found


def _why_off(tuned: Tuned) -> str:
    rates = f"{100 * (tuned.error_rate_with_lm or 0):.2f} % {tuned.unit} errors with it"
    rates += f", {100 * tuned.error_rate_without_lm:.2f} % without"
    return f"the language model did not help for certain on the validation data ({rates})"


def count_threads(options: DecodeOptions) -> int:
    """Cores to use: as set, or all that this process may run on."""
    if options.threads:
        return options.threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warn_of_spelling(tokenizer: Tokenizer, search: Search, texts: Iterable[str], say: Callable[[str], None]) -> None:
    """Say so when the language model hardly knows the words that can be recognised (another case, another spelling)."""
    from asr.text.coverage import coverage_warning

    model = search.sources.language_model
    warning = None
    if model is not None and search.weights.lm_weight > 0:
        known = {name for name in model.words if model.knows(name)}
        symbols = [WRITTEN_SPACE if symbol == " " else symbol for symbol in tokenizer.symbols[1:]]
        if known <= set(symbols):
            warning = coverage_warning(model, symbols, what="the model's tokens")
        elif search.sources.lexicon is None:
            words = [word for text in texts for word in tokenizer.normalize(text).split()]
            warning = coverage_warning(model, words, what="the words of the manifest")
    for notice in [warning] if warning else search.notices:
        say(f"warning: {notice}")
