"""What a search returns: text and tokens with their times, and words where the search knows them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """One recognised word and where it was heard."""

    text: str
    #: s from the beginning of the recording
    start: float
    #: s
    end: float
    #: 0 .. 1: the share of the search's posterior that holds this word at this place; None where nothing estimates it
    confidence: float | None = None


@dataclass(frozen=True)
class Hypothesis:
    """What was recognised in one recording."""

    text: str
    #: token ids, without blanks
    tokens: tuple[int, ...]
    #: natural logarithm of what the search maximised: of the best path's probability in greedy search, 0 or below
    score: float
    #: one time per token, in seconds: the centre of the frame that gives the token its highest posterior within its run
    times: tuple[float, ...]
    #: empty where the search does not look for words
    words: tuple[Word, ...] = ()
    #: start and end, s, of the run of frames of each token on the best path
    spans: tuple[tuple[float, float], ...] = ()
    #: errors that are expected of it by the search's posterior; 0 where the search does not look for the fewest
    risk: float = 0.0
