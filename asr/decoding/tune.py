"""The weights of a search, found on validation data from emissions that are computed once (`asr-decode tune=true`).

Errors are counted on a coarse grid of language-model weight and insertion bonus, then on a finer one around the best point.
Counts of one sample are noisy, and the lowest of many is low by luck in part: a quadratic surface is fitted to the low ones (Box
and Wilson, J. R. Stat. Soc. B 1951), and the best point is the one of those counted where the surface is lowest. The beam is the
smallest one that is as good. What makes the search another one stays off unless a paired bootstrap over speakers (Bisani & Ney,
ICASSP 2004) finds it better than the best setting without it: a penalty of the blank, hypotheses of fewest expected errors in
place of the likeliest ones, and the language model.
"""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from asr.data.manifest import Utterance
from asr.decoding.calibrate import Calibration, fit_calibration
from asr.decoding.hypothesis import Hypothesis
from asr.decoding.options import DEFAULT_BEAM, DecodeOptions
from asr.decoding.search import Search, Sources, Weights
from asr.errors import DataError, UsageError
from asr.scoring.edits import align, count, split_tokens
from asr.text.tokenizer import Tokenizer

LM_WEIGHTS = (0.2, 0.4, 0.6, 0.8, 1.1, 1.5, 2.0)
BONUSES = (-1.0, 0.0, 1.0, 2.0, 3.0, 4.5)
#: steps of the fine grid, and how many of them it goes to each side
LM_STEP, BONUS_STEP, AROUND = 0.1, 0.5, 2
#: share and number of errors above the fewest up to which a count takes part in the fit
VALLEY, SPARE = 0.08, 2
#: times that the fine grid may follow the best point
MOVES = 4
#: no weight or bonus beyond this is tried
LIMIT = 12.0
BEAMS = (4, 8, 16, 32, 64)
#: errors per reference token that a smaller beam may cost
BEAM_TOLERANCE = 0.001
#: exponents of the search's posterior among which the most telling confidences are looked for
SCALES = (1.0, 0.6, 0.35, 0.2, 0.1)
#: penalties of the blank, tried as long as each is better than the one before
PENALTIES = (0.5, 1.0, 1.5, 2.0, 3.0)
#: exponents of the posterior by which the hypothesis of fewest expected errors is taken
MBR = (1.0, 0.5, 0.25)
#: share of the bootstrap draws in which the language model, or the hypotheses of fewest expected errors, must make fewer errors
SURE_ENOUGH = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Trial:
    """What one setting makes of the validation data."""

    weights: Weights
    #: (N,) errors of each utterance
    errors: np.ndarray
    #: reference tokens in all
    tokens: int
    #: s that the search took
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return int(self.errors.sum())

    @property
    def error_rate(self) -> float:
        return self.total / self.tokens


@dataclass(frozen=True)
class Tuning:
    """All that was tried, what is best, and why."""

    unit: str
    best: Trial
    #: best setting without a language model, greedy search among them where it gives such tokens
    without: Trial
    greedy: Trial | None
    #: best setting with the language model, None where there is none
    with_lm: Trial | None
    #: share of bootstrap draws in which `with_lm` made fewer errors than `without`
    lm_better: float | None
    trials: tuple[Trial, ...]
    #: settings of `best` with other beams, by beam
    beams: tuple[Trial, ...]
    calibration: Calibration
    utterances: int
    speakers: int

    @property
    def lm_helps(self) -> bool:
        return self.with_lm is not None and self.best.weights.lm_weight > 0


class Bench:
    """Saved emissions with their references; counts the errors of any setting, each only once."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        sources: Sources,
        options: DecodeOptions,
        emissions: Sequence[np.ndarray],
        references: Sequence[list[str]],
        *,
        threads: int = 1,
        clock: Callable[[], float],
        tried: Callable[[Trial], None] = lambda trial: None,
    ):
        self.tokenizer, self.sources, self.options = tokenizer, sources, replace(options, tune=False)
        self.emissions, self.references = list(emissions), list(references)
        self.tokens = sum(map(len, references))
        self._threads, self._clock, self._tried = threads, clock, tried
        self._known: dict[Weights, Trial] = {}

    @property
    def trials(self) -> tuple[Trial, ...]:
        return tuple(self._known.values())

    def decode(self, weights: Weights, *, words: bool = False, confidence_scale: float = 1.0) -> list[Hypothesis]:
        """The best hypothesis of each utterance."""
        search = Search(
            self.tokenizer,
            replace(self.options, words=words),
            sources=self.sources,
            weights=weights,
            confidence_scale=confidence_scale,
        )
        with ThreadPoolExecutor(self._threads) as pool:
            found = pool.map(lambda rows: search(rows, frame_shift_s=1.0, first_frame_s=0.0)[0], self.emissions)
            return list(found)

    def measure(self, weights: Weights) -> Trial:
        if weights not in self._known:
            began = self._clock()
            texts = [hypothesis.text.split() for hypothesis in self.decode(weights)]
            seconds = self._clock() - began
            errors = [count(alignment).errors for alignment in align(self.references, texts)]
            self._known[weights] = Trial(weights, np.array(errors), self.tokens, seconds)
            self._tried(self._known[weights])
        return self._known[weights]


def tune(bench: Bench, utterances: Sequence[Utterance], decoder: str, *, unit: str) -> Tuning:
    """Find the weights of `decoder` ("beam", "lexicon") for the emissions and the language model of a bench."""
    start = Weights(decoder, DEFAULT_BEAM, 0.0, 0.0)
    greedy = bench.measure(replace(start, decoder="greedy")) if _greedy_compares(bench.tokenizer, decoder) else None
    groups = group_by_speaker(utterances)
    without = best_trial(bench, [replace(start, insertion_bonus=bonus) for bonus in BONUSES], groups, lm=False)
    if greedy is not None and decoder == "beam" and greedy.total <= without.total:
        without = greedy
    with_lm, share = None, None
    if bench.sources.language_model is not None:
        grid = [
            replace(start, lm_weight=weight, insertion_bonus=bonus) for weight, bonus in itertools.product(LM_WEIGHTS, BONUSES)
        ]
        with_lm = best_trial(bench, grid, groups, lm=True)
        share = share_of_wins(with_lm.errors, without.errors, groups)
    helps = with_lm is not None and share is not None and with_lm.total < without.total and share >= SURE_ENOUGH
    best = with_lm if helps and with_lm is not None else without
    beams: tuple[Trial, ...] = ()
    if best.weights.decoder != "greedy":
        beams = tuple(bench.measure(replace(best.weights, beam=beam)) for beam in BEAMS)
        fewest = min(trial.total for trial in beams)
        best = next(trial for trial in beams if trial.total <= fewest + BEAM_TOLERANCE * bench.tokens)
    return Tuning(
        unit=unit,
        best=best,
        without=without,
        greedy=greedy,
        with_lm=with_lm,
        lm_better=share,
        trials=bench.trials,
        beams=beams,
        calibration=_calibrated(bench, best.weights, utterances),
        utterances=len(utterances),
        speakers=len(set(group_by_speaker(utterances).tolist())),
    )


def best_trial(bench: Bench, grid: Sequence[Weights], groups: np.ndarray, *, lm: bool) -> Trial:
    """The best weights, from a coarse grid on. groups (N,) are those of `group_by_speaker`.

    A penalty of the blank, and then the hypotheses of least risk, are taken where they are better for certain.
    """
    plain = best = _settled(bench, [bench.measure(weights) for weights in grid], lm=lm)
    for penalty in PENALTIES:
        tried = _settled(bench, [bench.measure(replace(best.weights, blank_penalty=penalty))], lm=lm)
        if tried.total >= best.total:
            break
        best = tried
    likeliest = best if share_of_wins(best.errors, plain.errors, groups) >= SURE_ENOUGH else plain
    risky = min((bench.measure(replace(likeliest.weights, mbr=power)) for power in MBR), key=lambda trial: trial.total)
    sure = share_of_wins(risky.errors, likeliest.errors, groups) >= SURE_ENOUGH
    return _settled(bench, [risky], lm=lm) if sure else likeliest


def reference_tokens(utterances: Sequence[Utterance], tokenizer: Tokenizer, decoder: str) -> tuple[list[list[str]], str]:
    """The reference of each utterance in the tokens that the search writes, and what they are: word | phone.

    Raises DataError for a manifest without the transcripts, UsageError for one without any token in them.
    """
    unit = "phone" if tokenizer.options.unit == "phones" and decoder != "lexicon" else "word"
    name = "phones" if unit == "phone" else "text"
    missing = [one.id for one in utterances if getattr(one, name) is None]
    if missing:
        raise DataError(f'tune=true compares with "{name}", which "{missing[0]}" of the manifest has not; use another manifest')
    spoken = [str(getattr(one, name)) for one in utterances]
    own = unit == "phone" or tokenizer.options.writes_text
    references = [split_tokens(tokenizer.normalize(text) if own else text, unit) for text in spoken]
    if not any(references):
        raise UsageError("tune=true needs transcripts to count errors in, and those of this manifest are empty")
    return references, unit


def group_by_speaker(utterances: Sequence[Utterance]) -> np.ndarray:
    """(N,) number of the group of each utterance: speakers where every utterance has one and there are two, else utterances."""
    names = [one.speaker for one in utterances]
    if None in names or len(set(names)) < 2:
        return np.arange(len(utterances))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])


def share_of_wins(ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray, *, seed: int = 1) -> float:
    """Share of draws of whole groups, with replacement, in which `ours` (N,) are fewer errors than `theirs`; ties count half.

    A single group says nothing about others: 0.5.
    """
    difference = np.bincount(groups, weights=ours.astype(np.float64) - theirs)
    if len(difference) < 2:
        return 0.5
    draw = np.random.default_rng(seed)
    sums = np.array([difference[draw.integers(0, len(difference), len(difference))].sum() for _ in range(RESAMPLES)])
    return float((sums < 0).mean() + 0.5 * (sums == 0).mean())


def _greedy_compares(tokenizer: Tokenizer, decoder: str) -> bool:
    """Whether greedy search writes what this decoder writes: not phones where words are asked for."""
    return decoder == "beam" or tokenizer.options.writes_text


def _settled(bench: Bench, trials: Sequence[Trial], *, lm: bool) -> Trial:
    """From these trials on: a fine grid around the best one, as long as that moves."""
    counted = {trial.weights: trial for trial in trials}
    best = lowest(list(counted.values()))
    for _ in range(MOVES):
        weights, steps = best.weights, range(-AROUND, AROUND + 1)
        for left, up in itertools.product(steps if lm else (0,), steps):
            weight, bonus = round(weights.lm_weight + left * LM_STEP, 6), round(weights.insertion_bonus + up * BONUS_STEP, 6)
            if abs(bonus) <= LIMIT and (weight == 0 if not lm else 0 < weight <= LIMIT):
                place = replace(weights, lm_weight=weight, insertion_bonus=bonus)
                counted[place] = bench.measure(place)
        best = lowest(list(counted.values()))
        if best.weights == weights:
            break
    return best


def lowest(trials: Sequence[Trial]) -> Trial:
    """The trial where a quadratic surface through the low counts is lowest; where they are too few, that of the fewest errors."""
    fewest = min(trial.total for trial in trials)
    low = [trial for trial in trials if trial.total <= (1 + VALLEY) * fewest + SPARE]
    places = np.array([(one.weights.lm_weight, one.weights.insertion_bonus) for one in low])
    centred = (places - places.mean(axis=0)) / np.maximum(places.std(axis=0), 1e-9)
    across, up = centred.T
    terms = np.stack([np.ones(len(low)), across, up, across**2, up**2, across * up], axis=1)
    terms = terms[:, [column for column in range(6) if np.ptp(terms[:, column]) > 0 or column == 0]]
    heights = np.array([float(one.total) for one in low])
    if len(low) > terms.shape[1] and np.linalg.matrix_rank(terms) == terms.shape[1]:
        heights = terms @ np.linalg.lstsq(terms, heights, rcond=None)[0]

    def rank(place: int) -> tuple[float, float, float]:
        weights = low[place].weights
        return round(float(heights[place]), 6), weights.lm_weight, abs(weights.insertion_bonus)

    return low[min(range(len(low)), key=rank)]


def _calibrated(bench: Bench, weights: Weights, utterances: Sequence[Utterance]) -> Calibration:
    """How often the recognised words are right, by their confidence, taken so that it tells most about other speakers."""
    groups = group_by_speaker(utterances).tolist()
    scales = SCALES[:1] if weights.decoder == "greedy" else SCALES
    return min((_calibrated_at(bench, weights, scale, groups) for scale in scales), key=lambda one: one.loss)


def _calibrated_at(bench: Bench, weights: Weights, scale: float, groups: Sequence[int]) -> Calibration:
    heard = [one.words for one in bench.decode(weights, words=True, confidence_scale=scale)]
    alignments = align(bench.references, [[word.text for word in words] for words in heard])
    judged = [
        (word.confidence, pair.mark == "", group)
        for words, alignment, group in zip(heard, alignments, groups)
        for word, pair in zip(words, (pair for pair in alignment if pair.hypothesis is not None))
        if word.confidence is not None
    ]
    confidences, right, speakers = zip(*judged) if judged else ((), (), ())
    return fit_calibration(confidences, right, speakers, scale=scale)
