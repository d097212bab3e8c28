"""When each word and token was spoken, in seconds: from frames of the emissions and from the level of the recording.

CTC says where a token is recognised, not where its sound begins and ends: its posterior is a spike of a few frames somewhere in
or shortly after the sound, with blanks to both sides, and a network that reads in both directions may set the spike tens of
milliseconds off. So the spikes say only *which* stretch of sound a word is, and the level of the recording where that begins
and ends. Between the spikes of two words,

* where it is silent for 0.1 s or more, the first word ends where the silence begins and the second begins where it ends;
* else the border lies where it is quietest.

Silent means below a threshold that follows the recording: 6 dB above its background, or 45 dB below its loudest where there is
no background to speak of. At its two ends a word then goes on as long as the level, averaged over 30 ms, stays 2 dB above the
background. Tokens of a word share its time, with borders half-way between their spikes.

A word all of whose spikes stand in a silence is the nearer sound beside it that no other word is in.

Silence also goes into the alignment (`Silence`): no word is spoken in it, and none goes on across it.

Without the level, each end lies up to 40 ms beyond the spikes, at most at the middle between two words. The figures were
chosen on recordings of the validation part of a digit corpus joined with silence, with noise and without a gap.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from asr.decoding.align import Alignment, Silence, align
from asr.decoding.hypothesis import Hypothesis, Word
from asr.decoding.segment import FRAME, NEIGHBOURHOOD
from asr.text.tokenizer import WRITTEN_SPACE, Tokenizer

#: s of silence that part two words; the closures of stops within a word are mostly shorter
SHORTEST_PAUSE = 0.1
#: dB above the background up to which it is silent, and up to which a word may still fade out
MARGIN, FADING_MARGIN = 6.0, 2.0
#: dB below the loudest sound of the neighbourhood where everything is silent, and where nothing is
DEPTH, LEAST_DEPTH = 45.0, 8.0
#: dB that the loudest sound of a neighbourhood may lie below that of the recording and still be speech
FAINTEST = 25.0
#: percentiles of the level that stand for the background and for the loudest sound
BACKGROUND, LOUDEST = 5, 99
#: s that a word may go on beyond its first or last spike where no silence ends it, and beyond the edge of a silence
FARTHEST, FADING = 0.3, 0.15
#: s of sound that a word gets at most whose spikes stand beside it, in a silence, and how far from it they may stand
LONGEST_WORD, FARTHEST_SOUND = 1.0, 1.0
#: s by which a word is taken to go on beyond its spikes where the level is not known
REACH = 0.04
#: what a frame of silence costs where there should be none, natural logarithm
SILENCE_COST = 5.0


@dataclass(frozen=True)
class Script:
    """What is to be found in a recording: tokens, and the words that they spell."""

    tokens: tuple[int, ...]
    #: the text of each token
    symbols: tuple[str, ...]
    #: (U,) the word that each token belongs to, counted from 0; -1 for a separator, which has no time of its own
    owners: tuple[int, ...]
    #: empty for phone models, whose tokens stand alone
    words: tuple[str, ...]


@dataclass(frozen=True)
class Timed:
    """The words and tokens of a recording with their times.

    `confidence` is the geometric mean of the highest posteriors of the tokens: how sure the model is of what it was told,
    which shows where text and recording differ, and is not calibrated.
    """

    words: tuple[Word, ...]
    tokens: tuple[Word, ...]
    #: natural logarithm of the probability of the best path
    score: float


@dataclass(frozen=True)
class Loudness:
    """The level of a recording, one value for each 10 ms, with what is background and what is loud around it, all (F,) in dB."""

    levels: np.ndarray
    background: np.ndarray
    loudest: np.ndarray

    @classmethod
    def of(cls, levels: np.ndarray) -> "Loudness":
        """From the levels of a whole recording (`asr.decoding.segment.measure_levels`): percentiles of the 15 s on each side."""
        block = round(NEIGHBOURHOOD / FRAME / 3)
        parts = [levels[max(0, start - 3 * block) : start + 4 * block] for start in range(0, len(levels), block)]
        if not parts:
            return cls(*(np.zeros(0) for _ in range(3)))
        low, high = np.array([np.percentile(part, [BACKGROUND, LOUDEST]) for part in parts]).T
        high = np.maximum(high, np.percentile(levels, LOUDEST) - FAINTEST)
        return cls(np.asarray(levels, dtype=np.float64), *(np.repeat(row, block)[: len(levels)] for row in (low, high)))

    def threshold(self, margin: float) -> np.ndarray:
        """The level (F,) up to which it is silent, for a margin above the background, dB."""
        silent = np.maximum(self.background + margin, self.loudest - DEPTH)
        return np.minimum(silent, self.loudest - LEAST_DEPTH)

    def silences(self) -> np.ndarray:
        """(n, 2) frames [start, stop) of stretches of silence of at least `SHORTEST_PAUSE`."""
        quiet = np.concatenate([[False], self.levels <= self.threshold(MARGIN), [False]])
        edges = np.flatnonzero(quiet[1:] != quiet[:-1]).reshape(-1, 2)
        return edges[edges[:, 1] - edges[:, 0] >= round(SHORTEST_PAUSE / FRAME)]


def write_script(text: str, tokenizer: Tokenizer) -> Script:
    """The script of a transcript: words of a character model are parted by spaces, phones stand alone.

    A model that has never seen a space (it was trained on single words) gets the words without one. Raises DataError naming
    the symbols that the model does not have.
    """
    if tokenizer.options.unit == "phones":
        return script_of(tokenizer.encode(text), tokenizer)
    if " " in tokenizer.symbols:
        return script_of(tokenizer.encode(text), tokenizer)
    words = tokenizer.normalize(text).split()
    spelled = [tokenizer.encode(word) for word in words]
    tokens = [token for ids in spelled for token in ids]
    owners = [owner for owner, ids in enumerate(spelled) for _ in ids]
    return Script(tuple(tokens), tuple(tokenizer.symbols[token] for token in tokens), tuple(owners), tuple(words))


def script_of(tokens: Sequence[int], tokenizer: Tokenizer) -> Script:
    """The script of token ids, such as those of a hypothesis; spaces part words."""
    symbols = tuple(tokenizer.symbols[token] for token in tokens)
    if tokenizer.options.unit == "phones":
        return Script(tuple(tokens), symbols, tuple(range(len(symbols))), ())
    owners: list[int] = []
    words: list[str] = []
    begun = False
    for token, symbol in zip(tokens, symbols):
        letters = symbol.replace(WRITTEN_SPACE, " ").strip()
        if letters and begun and not tokenizer.begins_word[token]:
            words[-1] += letters
        elif letters:
            words.append(letters)
        begun = bool(letters)
        owners.append(len(words) - 1 if letters else -1)
    return Script(tuple(tokens), symbols, tuple(owners), tuple(words))


def words_of(
    hypothesis: Hypothesis, tokenizer: Tokenizer, log_probs: np.ndarray, *, frame_shift_s: float, first_frame_s: float
) -> tuple[Word, ...]:
    """The words that the tokens of a hypothesis spell, with the times of their spikes; none for phones.

    The confidence is the geometric mean of the highest posteriors of a word's tokens in log_probs (T', V): what is left where
    the search weighs no word against others.
    """
    script = script_of(hypothesis.tokens, tokenizer)
    if not script.words:
        return ()
    peaks = np.rint((np.array(hypothesis.times) - first_frame_s) / frame_shift_s).astype(np.int64)
    heights = log_probs[peaks, list(script.tokens)].astype(np.float64)
    owners = np.array(script.owners)
    spelled = np.flatnonzero(owners >= 0)
    groups = np.split(spelled, np.flatnonzero(np.diff(owners[spelled])) + 1)
    return tuple(
        Word(text, hypothesis.spans[places[0]][0], hypothesis.spans[places[-1]][1], float(np.exp(heights[places].mean())))
        for text, places in zip(script.words, groups)
    )


def time_script(
    log_probs: np.ndarray,
    script: Script,
    *,
    frame_shift_s: float,
    first_frame_s: float = 0.0,
    loudness: Loudness | None = None,
    log_prior: np.ndarray | None = None,
) -> Timed:
    """Align a script with emissions (T', V) and give its words and tokens their times.

    Frame t of the emissions is centred on first_frame_s + t * frame_shift_s, s. Raises what `align` raises.
    """
    silence = None
    if loudness is not None and len(loudness.levels):
        centres = first_frame_s + frame_shift_s * np.arange(len(log_probs))
        silence = mark_silence(loudness, script, centres)
    found = align(log_probs, script.tokens, log_prior=log_prior, silence=silence)
    begins, ends = (first_frame_s + (frames - 0.5) * frame_shift_s for frames in (found.starts, found.ends))
    certain = _certainties(log_probs, script.tokens, found)
    owners = np.array(script.owners, dtype=np.int64)
    spoken = np.flatnonzero(owners >= 0)
    owners, begins, ends, certain = owners[spoken], begins[spoken], ends[spoken], certain[spoken]
    units = np.arange(owners[-1] + 1 if len(owners) else 0)
    first, last = np.searchsorted(owners, units, side="left"), np.searchsorted(owners, units, side="right") - 1
    seconds = frame_shift_s * len(log_probs)
    spikes = np.stack([begins[first], ends[last]], axis=1)
    spans = word_times(spikes, loudness, seconds=seconds, words=bool(script.words))
    tokens = token_times(begins, ends, owners, spans)
    symbols = [script.symbols[place] for place in spoken]
    means = np.exp(np.add.reduceat(certain, first) / (last + 1 - first)) if len(first) else certain
    return Timed(_words(script.words, spans, means), _words(symbols, tokens, np.exp(certain)), found.score)


def time_hypothesis(
    hypothesis: Hypothesis, tokenizer: Tokenizer, loudness: Loudness | None, *, seconds: float
) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
    """The words and the tokens of a hypothesis, whose times are those of spikes, with the times that the level gives them.

    `seconds` is the length of the recording. Separators between words (spaces, the silence of a lexicon) have no time and are
    left out. Without words, as of phones, each token stands alone.
    """
    words = hypothesis.words
    symbols = [tokenizer.symbols[token] for token in hypothesis.tokens]
    begins, ends = np.array(hypothesis.spans, dtype=np.float64).reshape(-1, 2).T
    owners = np.arange(len(symbols))
    spikes = np.stack([begins, ends], axis=1)
    if words:
        spikes = np.array([(word.start, word.end) for word in words])
        owners = np.searchsorted(spikes[:, 0], begins, side="right") - 1
        owners[(owners >= 0) & (begins >= spikes[owners, 1])] = -1
        owners[[symbol.isspace() for symbol in symbols]] = -1
    spoken = np.flatnonzero(owners >= 0)
    spans = word_times(spikes, loudness, seconds=seconds, words=bool(words))
    places = token_times(begins[spoken], ends[spoken], owners[spoken], spans).tolist()
    tokens = tuple(Word(symbols[place], start, end) for place, (start, end) in zip(spoken, places))
    return tuple(replace(word, start=start, end=end) for word, (start, end) in zip(words, spans.tolist())), tokens


def mark_silence(loudness: Loudness, script: Script, centres: np.ndarray) -> Silence:
    """What `align` needs to know of a recording's silences; centres (T',) are the times of the frames, s."""
    silent = np.zeros(len(loudness.levels), dtype=bool)
    for start, stop in loudness.silences():
        silent[start:stop] = True
    frames = np.clip((centres / FRAME).astype(np.int64), 0, len(silent) - 1)
    owners = np.array(script.owners, dtype=np.int64)
    joined = np.zeros(len(owners) + 1, dtype=bool)
    if len(script.words):
        joined[1:-1] = owners[1:] == owners[:-1]
    return Silence(np.where(silent[frames], SILENCE_COST, 0.0), owners >= 0, joined)


def word_times(spikes: np.ndarray, loudness: Loudness | None, *, seconds: float, words: bool = True) -> np.ndarray:
    """Start and end (W, 2), s, of words from the start of their first and the end of their last spike (W, 2), s.

    `seconds` is the length of the recording. No two overlap, and none is empty. With words=False they are phones: a border
    without a silence is half-way, for what is quietest may be the closure of a stop.
    """
    if len(spikes) == 0:
        return np.zeros((0, 2))
    seconds = max(seconds, float(spikes[-1, 1]))
    if loudness is None or not len(loudness.levels):
        return _reach(spikes, seconds)
    return _Edges(spikes, loudness, words=words).find()


def token_times(begins: np.ndarray, ends: np.ndarray, owners: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Start and end (U, 2), s, of tokens from those of their spikes (U,), their words (U,) and the times of words (W, 2)."""
    if len(begins) == 0:
        return np.zeros((0, 2))
    middles = (ends[:-1] + begins[1:]) / 2
    same = owners[1:] == owners[:-1]
    starts = np.concatenate([[spans[0, 0]], np.where(same, middles, spans[owners[1:], 0])])
    stops = np.concatenate([np.where(same, middles, spans[owners[:-1], 1]), [spans[-1, 1]]])
    return np.stack([np.clip(times, spans[owners, 0], spans[owners, 1]) for times in (starts, stops)], axis=1)


def _reach(spikes: np.ndarray, seconds: float) -> np.ndarray:
    middles = (spikes[:-1, 1] + spikes[1:, 0]) / 2
    starts = np.maximum(spikes[:, 0] - REACH, np.concatenate([[0.0], middles]))
    ends = np.minimum(spikes[:, 1] + REACH, np.concatenate([middles, [seconds]]))
    return np.stack([starts, ends], axis=1)


class _Edges:
    """The search for the edges of words; all times are frames of the level."""

    def __init__(self, spikes: np.ndarray, loudness: Loudness, *, words: bool):
        self.words = words
        self.length = len(loudness.levels)
        inside = spikes / FRAME + np.array([0.5, -0.5])
        self.first = np.clip(np.floor(inside[:, 0]), 0, self.length - 1).astype(np.int64)
        self.last = np.clip(np.ceil(inside[:, 1]), self.first, self.length - 1).astype(np.int64)
        self.loud = loudness.levels > loudness.threshold(MARGIN)
        self.silences = loudness.silences()
        power = np.convolve(np.pad(10 ** (loudness.levels / 10), 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
        self.smooth = 10 * np.log10(power)
        if words:
            self._lead_back()
        self.fading = (self.smooth > loudness.threshold(FADING_MARGIN)) & (loudness.levels > loudness.threshold(FADING_MARGIN))

    def _lead_back(self) -> None:
        """Words whose spikes all stand in one silence go to the nearer of the two sounds beside it that no other word is in.

        A network that reads in both directions may say all words a little late, the first one at once, or all of them early. Of
        several words in one silence the first goes back, the last goes on, and others stay.
        """
        longest, farthest = round(LONGEST_WORD / FRAME), round(FARTHEST_SOUND / FRAME)
        begun, ended = self.silences.T
        behind = np.searchsorted(ended, self.first, side="right")  # the first silence that ends behind the first spike
        misled: dict[int, list[int]] = {}
        edges = np.concatenate([[0], self.silences.ravel(), [self.length]]).reshape(-1, 2)  # sound k lies before silence k
        taken = edges[:, 0] >= edges[:, 1]
        for word, (first, last, silence) in enumerate(zip(self.first, self.last, behind)):
            if silence < len(begun) and begun[silence] <= first and last < ended[silence]:
                misled.setdefault(int(silence), []).append(word)
            else:
                taken[silence : np.searchsorted(ended, last, side="right") + 1] = True
        for silence, words in misled.items():
            back, on = self.first[words[0]] - begun[silence], ended[silence] - self.last[words[-1]]
            goes_back = not taken[silence] and back <= farthest
            goes_on = not taken[silence + 1] and on <= farthest
            if len(words) == 1 and goes_back and goes_on:
                goes_back, goes_on = back <= on, on < back
            if goes_back:
                start, stop = edges[silence]
                self.first[words[0]], self.last[words[0]] = max(start, stop - longest), stop - 1
                taken[silence] = True
            if goes_on and (len(words) > 1 or not goes_back):
                start, stop = edges[silence + 1]
                self.first[words[-1]], self.last[words[-1]] = start, min(stop, start + longest) - 1
                taken[silence + 1] = True

    def find(self) -> np.ndarray:
        count = len(self.first)
        starts, ends = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        starts[0] = self._before(int(self.first[0]))
        ends[-1] = self._after(int(self.last[-1]))
        for word in range(1, count):
            ends[word - 1], starts[word] = self._between(int(self.last[word - 1]), int(self.first[word]))
        for word in range(count):
            self._trim(word, starts, ends, first=self.words or word == 0, last=self.words or word == count - 1)
        for word in range(count):
            self._fade(word, starts, ends)
        return np.stack([starts, np.maximum(ends, starts + 1)], axis=1) * FRAME

    def _silences_in(self, start: int, stop: int) -> np.ndarray:
        """Silences that lie in frames [start, stop), cut to it; what is left of them may be short."""
        if stop <= start:
            return self.silences[:0]
        begin = np.searchsorted(self.silences[:, 1], start, side="right")
        end = np.searchsorted(self.silences[:, 0], stop, side="left")
        return np.clip(self.silences[begin:end], start, stop)

    def _before(self, first: int) -> int:
        found = self._silences_in(0, first)
        farthest = max(0, first - round(FARTHEST / FRAME))
        return int(found[-1, 1]) if len(found) else farthest

    def _after(self, last: int) -> int:
        found = self._silences_in(last + 1, self.length)
        farthest = min(self.length, last + 1 + round(FARTHEST / FRAME))
        return int(found[0, 0]) if len(found) else farthest

    def _between(self, last: int, first: int) -> tuple[int, int]:
        """End of a word and start of the next, from the last spike of the one and the first of the other."""
        found = self._silences_in(last + 1, first)
        if len(found):
            return int(found[0, 0]), int(found[-1, 1])
        if first <= last + 1:
            return first, first
        cut = last + 1 + int(self.smooth[last + 1 : first].argmin()) if self.words else (last + 1 + first) // 2
        return cut, cut

    def _trim(self, word: int, starts: np.ndarray, ends: np.ndarray, *, first: bool, last: bool) -> None:
        """Silence at these edges of a word is taken off, though not the whole word; a spike that stands in it does not count."""
        loud = starts[word] + np.flatnonzero(self.loud[starts[word] : ends[word]])
        if len(loud) and first:
            starts[word] = loud[0]
        if len(loud) and last:
            ends[word] = loud[-1] + 1

    def _fade(self, word: int, starts: np.ndarray, ends: np.ndarray) -> None:
        farthest = round(FADING / FRAME)
        least = max(starts[word] - farthest, ends[word - 1] if word else 0)
        while starts[word] > least and self.fading[starts[word] - 1]:
            starts[word] -= 1
        most = min(ends[word] + farthest, starts[word + 1] if word + 1 < len(starts) else self.length)
        while ends[word] < most and self.fading[ends[word]]:
            ends[word] += 1


def _words(texts: Sequence[str], spans: np.ndarray, confidences: np.ndarray) -> tuple[Word, ...]:
    rows = zip(texts, spans.tolist(), confidences.tolist())
    return tuple(Word(text, start, end, confidence) for text, (start, end), confidence in rows)


def _certainties(log_probs: np.ndarray, tokens: Sequence[int], found: Alignment) -> np.ndarray:
    """The highest log-posterior (U,) of each token in its run of frames."""
    peaks = [log_probs[a:b, token].max() for token, a, b in zip(tokens, found.starts, found.ends)]
    return np.array(peaks, dtype=np.float64)
