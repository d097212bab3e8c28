"""One step of an n-gram automaton, and the score of many sentences, compiled; the readable twin is NgramModel.score."""

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from asr.text.ngram import UNLISTED_LOGP

OPTIONS = {"nogil": True, "error_model": "numpy"}
UNLISTED = UNLISTED_LOGP


def compiled(function):
    """numba.njit; the compiled code is kept beside this file or in the user's cache folder, or nowhere if none is writable."""
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except (RuntimeError, OSError):
        return numba.njit(**OPTIONS)(function)


@compiled
def step(arc_begin, arc_word, arc_logp, arc_next, backoff_logp, backoff_state, state, word):
    """(ln P(word | state), next state): the fields of NgramTables in their order, then a state and a word id (-1: unknown)."""
    weight = 0.0
    while True:
        low, high = arc_begin[state], arc_begin[state + 1]
        end = high
        while low < high:
            middle = (low + high) >> 1
            if arc_word[middle] < word:
                low = middle + 1
            else:
                high = middle
        if low < end and arc_word[low] == word:
            return weight + arc_logp[low], arc_next[low]
        if state == 0:
            return weight + UNLISTED, np.int32(0)
        weight += backoff_logp[state]
        state = backoff_state[state]


@compiled
def score_stream(arc_begin, arc_word, arc_logp, arc_next, backoff_logp, backoff_state, start, eos, stream, out):
    """ln P of each word id of `stream` (N,) into `out` (N,) float64; after each `eos` the state is `start` again."""
    state = start
    for position in range(len(stream)):
        word = stream[position]
        logp, state = step(arc_begin, arc_word, arc_logp, arc_next, backoff_logp, backoff_state, state, word)
        out[position] = logp
        if word == eos:
            state = start


def _native(result, number):
    """An intrinsic that calls the C function at an address with two int64: (address, state, word) -> result."""

    @intrinsic
    def call(typing_context, address, state, word):
        signature = result(numba.int64, numba.int64, numba.int64)

        def generate(context, builder, signature, arguments):
            whole = ir.IntType(64)
            function = ir.FunctionType(number, [whole, whole])
            return builder.call(builder.inttoptr(arguments[0], function.as_pointer()), arguments[1:])

        return signature, generate

    return call


_logp_at = _native(numba.float64, ir.DoubleType())
_state_at = _native(numba.int64, ir.IntType(64))


@compiled
def ask(logp_at, state_at, state, word):
    """`step` of a model that has no tables, through the two functions at these addresses (`KenlmModel.addresses`)."""
    logp = _logp_at(logp_at, state, word)
    return logp, np.int32(_state_at(state_at, state, word))
