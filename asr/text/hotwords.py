"""Hot words: words and phrases that a search shall prefer, as an automaton that counts them (Aho and Corasick 1975).

A phrase that a hypothesis holds completely adds its boost, natural-logarithm units, to the score, once for each occurrence.
While a phrase is only begun, the automaton lends the part of the boost that its matched part stands for; what is lent decides
which prefixes the search keeps and is gone as soon as the phrase goes on differently. It never enters a final score.
"""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError, UsageError
from asr.text.files import decode_line, open_text, read_lines, show
from asr.text.lexicon import Lexicon
from asr.text.tokenizer import Tokenizer, show_symbol

#: Boost of a phrase that names none, natural-logarithm units
BOOST = 5.0
MOST_BOOST = 100.0
MOST_PHRASES = 100_000
LONGEST_PHRASE = 1000


class HotTables(NamedTuple):
    """The automaton of N states over labels (token ids or word ids), for compiled code. State 0 has matched nothing."""

    #: (N + 1,): the arcs of state s are arc_begin[s] .. arc_begin[s + 1] - 1, sorted by label
    arc_begin: NDArray[np.int32]
    #: (N - 1,) and the states they lead to
    arc_label: NDArray[np.int32]
    arc_next: NDArray[np.int32]
    #: (N,) the state of the longest proper suffix; -1 for state 0
    fail: NDArray[np.int32]
    #: (N,) boosts of the phrases that are complete on entering the state
    bonus: NDArray[np.float64]
    #: (N,) what the phrases begun are lent; at least 0
    credit: NDArray[np.float64]


@dataclass(frozen=True)
class HotWords:
    """Phrases with their boosts."""

    #: normalised as the model's transcripts; words of the lexicon where there is one
    phrases: tuple[str, ...]
    #: natural-logarithm units, above 0
    boosts: tuple[float, ...]

    def automaton(self, encode: Callable[[str], Sequence[int]], *, separator: int | None = None) -> HotTables:
        """The automaton over encode(phrase). With a separator phrases match from one separator to the next, as whole words do."""
        edge = [] if separator is None else [separator]
        labels = [[*edge, *encode(phrase), *edge] for phrase in self.phrases]
        return build_automaton(labels, self.boosts, edges=len(edge))


def read_hotwords(
    path: str | os.PathLike[str], tokenizer: Tokenizer, *, lexicon: Lexicon | None = None, boost: float = BOOST
) -> HotWords:
    """Read hot words: a phrase per line, its own boost after a tab where it shall have one; empty lines and # comments pass.

    Phrases are normalised as transcripts are (a model of lower-case letters finds "Zürich" as "zürich"). With a lexicon they are
    words of it; without one they are text in the model's tokens, so for a model of phones they are phones. Raises DataError
    naming file and line for symbols or words that the model cannot write, a boost that is not above 0 and at most 100, and a
    file that is empty or too large to be a list of hot words; UsageError for such a `boost`.
    """
    if not 0.0 < boost <= MOST_BOOST:
        raise UsageError(f"the boost of hot words must be above 0 and at most {MOST_BOOST:g}, got {boost}")
    found: dict[str, float] = {}
    with open_text(path) as handle:
        for number, raw in read_lines(handle, path):
            line = decode_line(raw, path, number)
            if not line.strip() or line.startswith("#"):
                continue
            where = f"{show(path)}:{number}"
            phrase, value = _parse_line(line, where, boost)
            phrase = " ".join(phrase.split()) if lexicon else tokenizer.normalize(phrase)
            fault = _phrase_fault(phrase, tokenizer, lexicon)
            if fault:
                raise DataError(f"{where}: {fault}")
            found[phrase] = max(value, found.get(phrase, 0.0))
            if len(found) > MOST_PHRASES:
                raise DataError(
                    f"{where}: more than {MOST_PHRASES:,} hot words; a list as long as this is a language model's task"
                )
    if not found:
        raise DataError(f"{show(path)}: holds no hot word; write one word or phrase per line, or leave hotwords= out")
    return HotWords(tuple(found), tuple(found.values()))


def build_automaton(sequences: Iterable[Sequence[int]], boosts: Iterable[float], *, edges: int = 0) -> HotTables:
    """The automaton of label sequences. The first and last `edges` labels of each stand for no part of its boost."""
    children: list[dict[int, int]] = [{}]
    bonus, credit = [0.0], [0.0]
    for labels, boost in zip(sequences, boosts, strict=True):
        state, inner = 0, len(labels) - 2 * edges
        for place, label in enumerate(labels, start=1):
            if label not in children[state]:
                children[state][label] = len(children)
                children.append({})
                bonus.append(0.0)
                credit.append(0.0)
            state = children[state][label]
            matched = min(max(place - edges, 0), inner)
            if place < len(labels):
                credit[state] = max(credit[state], boost * matched / inner)
        bonus[state] += boost
    fail = _link(children, bonus, credit)
    arcs = [sorted(each.items()) for each in children]
    return _read_only(
        HotTables(
            arc_begin=np.cumsum([0, *(len(each) for each in arcs)]).astype(np.int32),
            arc_label=np.array([label for each in arcs for label, _ in each], dtype=np.int32),
            arc_next=np.array([state for each in arcs for _, state in each], dtype=np.int32),
            fail=np.array(fail, dtype=np.int32),
            bonus=np.array(bonus),
            credit=np.array(credit),
        )
    )


def follow(tables: HotTables, state: int, label: int) -> int:
    """The state after one more label: of the longest suffix that begins a phrase."""
    while True:
        begin, end = tables.arc_begin[state], tables.arc_begin[state + 1]
        arc = int(begin + np.searchsorted(tables.arc_label[begin:end], label))
        if arc < end and tables.arc_label[arc] == label:
            return int(tables.arc_next[arc])
        if state == 0:
            return 0
        state = int(tables.fail[state])


def _link(children: list[dict[int, int]], bonus: list[float], credit: list[float]) -> list[int]:
    """The fail state of each state, shorter ones first; bonus and credit get what the suffixes of a state add."""
    fail = [-1] + [0] * (len(children) - 1)
    level = list(children[0].values())
    while level:
        following = []
        for state in level:
            bonus[state] += bonus[fail[state]]
            credit[state] = max(credit[state], credit[fail[state]])
            for label, child in children[state].items():
                suffix = fail[state]
                while suffix >= 0 and label not in children[suffix]:
                    suffix = fail[suffix]
                fail[child] = children[suffix][label] if suffix >= 0 else 0
                following.append(child)
        level = following
    return fail


def _read_only(tables: HotTables) -> HotTables:
    for array in tables:
        array.flags.writeable = False
    return tables


def _parse_line(line: str, where: str, boost: float) -> tuple[str, float]:
    phrase, tab, number = line.partition("\t")
    if not tab or not number.strip():
        return phrase, boost
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0.0 < value <= MOST_BOOST:
        raise DataError(
            f'{where}: the boost after the tab must be a number above 0 and at most {MOST_BOOST:g}, got "{number[:40]}"'
        )
    return phrase, value


def _phrase_fault(phrase: str, tokenizer: Tokenizer, lexicon: Lexicon | None) -> str | None:
    if not phrase:
        return "nothing is left of the hot word after normalisation; remove the line"
    if len(phrase) > LONGEST_PHRASE:
        return f"a hot word of {len(phrase)} characters; at most {LONGEST_PHRASE} are taken"
    if lexicon is not None:
        absent = [word for word in phrase.split() if word not in lexicon]
        if absent:
            return f'"{absent[0]}" of the hot word "{phrase[:60]}" is not in the lexicon; add it there with its pronunciation'
        return None
    unknown = sorted(set(tokenizer.unknown_symbols(phrase)))
    if unknown:
        names = ", ".join(show_symbol(symbol) for symbol in unknown)
        return f'the hot word "{phrase[:60]}" holds {names}, which the model cannot write; spell it with the model\'s symbols'
    return None
