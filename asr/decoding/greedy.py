"""Best-path decoding of CTC emissions (Graves et al., ICML 2006, section 3.2): the likeliest symbol of each frame, collapsed."""

from collections.abc import Callable, Sequence

import numpy as np

from asr.decoding.hypothesis import Hypothesis
from asr.errors import DataError

BLANK = 0


def greedy_decode(
    log_probs: np.ndarray, decode: Callable[[Sequence[int]], str], *, frame_shift_s: float = 0.0, first_frame_s: float = 0.0
) -> Hypothesis:
    """Collapse the best path of `log_probs` (T', V), natural logarithms with the blank at 0; T' may be 0.

    Runs of one symbol become one token, then blanks go: the map B of the paper. Of equal posteriors the lower id wins.
    `decode` turns token ids into text. Raises DataError for NaN or infinite values: text out of them would be invented.
    """
    if log_probs.ndim != 2:
        raise ValueError(f"expected log-probabilities of shape (frames, vocabulary), got {log_probs.shape}")
    if len(log_probs) == 0:
        return Hypothesis(text=decode([]), tokens=(), score=0.0, times=())
    best = log_probs.argmax(axis=1)
    heights = np.take_along_axis(log_probs, best[:, None], axis=1)[:, 0].astype(np.float64)
    if np.isnan(log_probs).any() or not np.isfinite(heights).all():
        frame = int(np.flatnonzero(np.isnan(log_probs).any(axis=1) | ~np.isfinite(heights))[0])
        raise DataError(
            f"the model's log-probabilities are not finite at frame {frame} of {len(log_probs)}; no text is made of them"
        )
    starts = np.flatnonzero(np.r_[True, best[1:] != best[:-1]])
    ends = np.r_[starts[1:], len(best)]
    spoken = [(start, end) for start, end in zip(starts, ends) if best[start] != BLANK]
    peaks = [int(start + heights[start:end].argmax()) for start, end in spoken]
    tokens = tuple(int(best[start]) for start, _ in spoken)
    times = tuple(first_frame_s + peak * frame_shift_s for peak in peaks)
    edges = np.maximum(first_frame_s + (np.array(spoken, dtype=np.float64).reshape(-1, 2) - 0.5) * frame_shift_s, 0.0)
    spans = tuple((start, end) for start, end in edges.tolist())
    return Hypothesis(text=decode(tokens), tokens=tokens, score=float(heights.sum()), times=times, spans=spans)


DECODERS = {"greedy": greedy_decode}
