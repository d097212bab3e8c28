"""Forced alignment against enumeration, a plain search and torchaudio; kept rows, silence, priors, memory; impossible texts."""

import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from asr.decoding.align import PriorEstimate, Silence, align, align_batch, required_frames
from asr.errors import DataError

ROOT = Path(__file__).resolve().parents[2]


def emissions(frames: int, vocabulary: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 2, (frames, vocabulary))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def collapsed(path: tuple[int, ...]) -> list[int]:
    runs = [symbol for place, symbol in enumerate(path) if place == 0 or symbol != path[place - 1]]
    return [symbol for symbol in runs if symbol]


def spans(path: tuple[int, ...]) -> list[tuple[int, int]]:
    edges = [place for place in range(len(path)) if place == 0 or path[place] != path[place - 1]] + [len(path)]
    return [(start, end) for start, end in pairwise(edges) if path[start]]


@pytest.mark.parametrize("tokens", [[1], [2, 1], [1, 1], [1, 2, 1], []])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_path_by_enumeration(tokens, seed):
    log_probs = emissions(5, 3, seed)
    paths = [path for path in product(range(3), repeat=5) if collapsed(path) == tokens]
    best = max(paths, key=lambda path: sum(log_probs[t, symbol] for t, symbol in enumerate(path)))
    for every in (None, 1, 2):
        found = align(log_probs, tokens, every=every)
        assert found.score == pytest.approx(float(sum(log_probs[t, symbol] for t, symbol in enumerate(best))), abs=1e-5)
        assert list(zip(found.starts.tolist(), found.ends.tolist())) == spans(best)


def test_kept_rows_change_nothing_on_a_longer_text():
    log_probs = emissions(400, 6, 1)
    tokens = np.random.default_rng(2).integers(1, 6, 90).tolist()
    whole = align(log_probs, tokens)
    for every in (3, 17, 400):
        part = align(log_probs, tokens, every=every)
        assert (part.starts == whole.starts).all()
        assert (part.ends == whole.ends).all()


def test_a_batch_is_its_utterances_and_an_impossible_text_is_named():
    parts = [emissions(9, 4, seed) for seed in range(3)]
    targets = [[1, 2], [3, 3, 3, 3, 3, 3], [2]]
    for threads in (1, 2):
        found = align_batch(parts, targets, threads=threads)
        assert isinstance(found[1], DataError)
        assert "needs 11 frames and the recording has 9" in str(found[1])
        for number in (0, 2):
            assert (found[number].starts == align(parts[number], targets[number]).starts).all()
    assert required_frames([3, 3, 1]) == 4


def test_a_prior_is_the_mean_posterior():
    prior = PriorEstimate(3)
    assert prior.log_prior() is None
    log_probs = emissions(50, 3, 5)
    prior.add(log_probs[:20])
    prior.add(log_probs[20:])
    assert np.allclose(prior.log_prior(0.5), 0.5 * np.log(np.exp(log_probs.astype(np.float64)).mean(axis=0)), atol=1e-6)


def test_not_a_number_is_refused():
    log_probs = emissions(5, 3, 0)
    log_probs[2, 1] = np.nan
    with pytest.raises(DataError, match="not numbers at frame 2 of 5"):
        align(log_probs, [1])


# --- the same path as other searches find


def plain_viterbi(log_probs, tokens, *, costs=None, voiced=None, joined=None):
    """The best path of the whole table, in plain Python from the definition: the symbol of each frame and the score."""
    frames, states = len(log_probs), 2 * len(tokens) + 1
    symbols = [0 if state % 2 == 0 else tokens[state // 2] for state in range(states)]
    taken = np.zeros((frames, states))
    if costs is not None:
        for state in range(states):
            due = voiced[state // 2] if state % 2 else joined[state // 2]
            taken[:, state] = costs * due
    best, back = np.full((frames, states), -np.inf), np.zeros((frames, states), dtype=int)
    for state in range(min(2, states)):
        best[0, state] = log_probs[0, symbols[state]] - taken[0, state]
    for t in range(1, frames):
        for state in range(states):
            ways = [state, state - 1] if state else [state]
            if state > 1 and state % 2 and symbols[state] != symbols[state - 2]:
                ways.append(state - 2)
            back[t, state] = max(ways, key=lambda way: best[t - 1, way])
            best[t, state] = best[t - 1, back[t, state]] + log_probs[t, symbols[state]] - taken[t, state]
    state = max(range(max(0, states - 2), states), key=lambda last: best[-1, last])
    score, path = best[-1, state], []
    for t in range(frames - 1, -1, -1):
        path.append(state)
        state = back[t, state]
    return path[::-1], score


def spans_of_states(path):
    runs = [
        (start, end) for start, end in pairwise([*(t for t in range(len(path)) if not t or path[t] != path[t - 1]), len(path)])
    ]
    return [(start, end) for start, end in runs if path[start] % 2]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("frames", "count"), [(60, 1), (60, 25), (61, 30), (90, 0)])
def test_the_best_path_of_the_whole_table(frames, count, seed):
    log_probs = emissions(frames, 5, seed)
    tokens = np.random.default_rng(seed).integers(1, 5, count).tolist()
    path, score = plain_viterbi(log_probs.astype(np.float64), tokens)
    for every in (None, 1, 7):
        found = align(log_probs, tokens, every=every)
        assert found.score == pytest.approx(score, abs=1e-3)
        assert list(zip(found.starts.tolist(), found.ends.tolist())) == spans_of_states(path)


@pytest.mark.parametrize("seed", range(4))
def test_silence_costs_what_is_said_in_it(seed):
    draw = np.random.default_rng(seed)
    log_probs, tokens = emissions(50, 5, seed), draw.integers(1, 5, 12).tolist()
    costs = np.where(draw.random(50) < 0.4, 5.0, 0.0)
    voiced, joined = draw.random(12) < 0.7, np.append(draw.random(12) < 0.5, False)
    path, score = plain_viterbi(log_probs.astype(np.float64), tokens, costs=costs, voiced=voiced, joined=joined)
    found = align(log_probs, tokens, silence=Silence(costs, voiced, joined), every=9)
    assert list(zip(found.starts.tolist(), found.ends.tolist())) == spans_of_states(path)
    taken = sum(costs[t] * (voiced[state // 2] if state % 2 else joined[state // 2]) for t, state in enumerate(path))
    assert found.score == pytest.approx(score + taken, abs=1e-3), "the score is that of the emissions"
    assert list(zip(found.starts.tolist(), found.ends.tolist())) != list(
        zip(*(a.tolist() for a in unhindered(log_probs, tokens)))
    )


def unhindered(log_probs, tokens):
    found = align(log_probs, tokens)
    return found.starts, found.ends


def test_a_prior_takes_the_head_start_of_the_blank():
    log_probs, tokens = emissions(80, 5, 3), [1, 2, 3, 4] * 4
    log_probs[:, 0] += 3.0
    log_probs -= np.log(np.exp(log_probs.astype(np.float64)).sum(axis=1, keepdims=True))
    prior = PriorEstimate(5)
    prior.add(log_probs)
    log_prior = prior.log_prior(0.8)
    path, _ = plain_viterbi(log_probs.astype(np.float64) - log_prior, tokens)
    plain, found = align(log_probs, tokens), align(log_probs, tokens, log_prior=log_prior)
    assert list(zip(found.starts.tolist(), found.ends.tolist())) == spans_of_states(path)
    assert (found.ends - found.starts).sum() > 1.5 * (plain.ends - plain.starts).sum()
    assert found.score <= plain.score, "the prior is not counted in"


@pytest.mark.parametrize("seed", range(3))
def test_forced_align_of_torchaudio_finds_the_same(seed):
    import torch

    from asr.features.torchaudio_import import import_torchaudio

    import_torchaudio()
    if not hasattr(torch.ops.torchaudio, "forced_align"):
        pytest.skip("the compiled part of torchaudio does not load here")
    log_probs = emissions(300, 8, seed)
    tokens = np.random.default_rng(seed).integers(1, 8, 70)
    lengths = torch.tensor([300]), torch.tensor([70])
    path, _ = torch.ops.torchaudio.forced_align(torch.from_numpy(log_probs)[None], torch.from_numpy(tokens)[None], *lengths, 0)
    found = align(log_probs, tokens.tolist(), every=20)
    drawn = np.zeros(300, dtype=int)
    for token, start, end in zip(tokens, found.starts, found.ends):
        drawn[start:end] = token
    assert drawn.tolist() == path[0].tolist()
    assert found.score == pytest.approx(float(log_probs[np.arange(300), path[0]].sum(dtype=np.float64)), rel=1e-6)


def test_a_likely_path_far_from_every_frames_best_symbol_is_found():
    """States are left out by how far they lie behind; the text of another recording lies very far behind everywhere."""
    log_probs = emissions(200, 5, 1)
    log_probs[:, 1:] -= 40.0
    tokens = np.random.default_rng(1).integers(1, 5, 90).tolist()
    path, score = plain_viterbi(log_probs.astype(np.float64), tokens)
    found = align(log_probs, tokens, every=13)
    assert found.score == pytest.approx(score, rel=1e-6)
    assert list(zip(found.starts.tolist(), found.ends.tolist())) == spans_of_states(path)
    impossible = log_probs.copy()
    impossible[:, tokens[0]] = -np.inf
    with pytest.raises(DataError, match="gives its text no probability at all"):
        align(impossible, tokens)


def test_the_memory_of_a_long_alignment_is_a_fraction_of_its_table():
    """900 s of frames with 13,500 tokens: the table would hold 600 MB at a byte for each state."""
    script = """
import resource
import numpy as np
from asr.decoding.align import align
draw = np.random.default_rng(0)
frames, tokens = 45_000, draw.integers(1, 30, 13_500)
log_probs = draw.normal(0, 1, (frames, 30)).astype(np.float32)
log_probs[np.sort(draw.choice(frames // 2, len(tokens), replace=False)) * 2, tokens] += 6
align(log_probs[:100], tokens[:3])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = align(log_probs, tokens)
assert (found.starts[1:] >= found.ends[:-1]).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60_000, "kB"
