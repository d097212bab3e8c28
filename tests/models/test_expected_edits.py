"""Expected edits against all paths of tiny cases, and what a padded batch, a seed and a hopeless row change."""

import itertools

import jiwer
import numpy as np
import pytest
import torch
from torch import Tensor

from asr.models.expected_edits import draw_paths, expected_edits
from asr.models.expected_edits_kernels import edits_of_paths
from tests.decoding.enumerated import collapse

TARGETS = [[1, 2], [1, 1], [], [2], [2, 1, 2, 2, 1]]


def edits(path: tuple[int, ...], target: list[int]) -> int:
    """Edit distance of what a path says, by jiwer, which takes no empty reference."""
    said = [str(symbol) for symbol in collapse(path)]
    if not target:
        return len(said)
    counts = jiwer.process_words(" ".join(map(str, target)), " ".join(said))
    return counts.substitutions + counts.deletions + counts.insertions


def enumerated(log_probs: Tensor, target: list[int]) -> Tensor:
    """The expectation over all paths of log_probs (T, V), by autograd all through."""
    frames, vocabulary = log_probs.shape
    total = log_probs.sum() * 0
    for path in itertools.product(range(vocabulary), repeat=frames):
        total = total + log_probs[torch.arange(frames), list(path)].sum().exp() * edits(path, target)
    return total


def logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def estimated(log_probs: Tensor, target: list[int], *, paths: int, seed: int = 5) -> Tensor:
    tokens = torch.tensor([target], dtype=torch.long).reshape(1, -1)
    sizes = torch.tensor([len(target)])
    return expected_edits(log_probs[None], torch.tensor([len(log_probs)]), tokens, sizes, torch.tensor([seed]), paths=paths)[0]


@pytest.mark.parametrize("target", TARGETS)
def test_each_path_and_each_exchange_of_a_symbol_cost_what_they_cost(target):
    """For one path the kernel's table is p (edits with k at t - their mean): exact, whatever the path."""
    frames, vocabulary = 5, 3
    probabilities = logits(frames, vocabulary).softmax(dim=1).detach().numpy()
    tried = 0
    for path in itertools.product(range(vocabulary), repeat=frames):
        gradient = np.zeros((frames, vocabulary))
        mean = edits_of_paths(probabilities, np.array([path]), np.array(target, dtype=np.int64), gradient)
        assert mean == edits(path, target)
        for t in range(frames):
            costs = np.array([edits((*path[:t], k, *path[t + 1 :]), target) for k in range(vocabulary)])
            expected = probabilities[t] * (costs - (probabilities[t] * costs).sum())
            assert gradient[t] == pytest.approx(expected, abs=1e-12)
            tried += 1
    assert tried == frames * vocabulary**frames


@pytest.mark.parametrize("target", TARGETS)
def test_the_estimate_nears_the_sum_over_all_paths(target):
    """The spread of a mean of n paths is at most (edits of the worst path) / 2 sqrt(n): with 40,000, 0.0125 for five frames."""
    rows = logits(4, 3, seed=len(target))
    truth = enumerated(rows.log_softmax(dim=1), target)
    ours = estimated(rows.log_softmax(dim=1), target, paths=40000)
    assert float(ours.detach()) == pytest.approx(float(truth.detach()), abs=0.05)
    slope = torch.autograd.grad(truth, rows)[0]
    assert slope.abs().max() > 0.01
    assert torch.autograd.grad(ours, rows)[0].numpy() == pytest.approx(slope.numpy(), abs=0.01)


def test_the_gradient_has_no_bias_with_a_single_path():
    rows = logits(4, 3)
    slope = torch.autograd.grad(enumerated(rows.log_softmax(dim=1), [1, 2]), rows)[0]
    many = rows.log_softmax(dim=1).expand(3000, 4, 3)
    all_of = torch.ones(3000, dtype=torch.long)
    ours = expected_edits(many, 4 * all_of, torch.tensor([[1, 2]]).expand(3000, 2), 2 * all_of, torch.arange(3000), paths=1)
    assert torch.autograd.grad(ours.mean(), rows)[0].numpy() == pytest.approx(slope.numpy(), abs=0.02)


def test_alone_is_in_a_padded_batch_and_padding_gets_no_gradient():
    rows = logits(3, 9, 4)
    lengths, tokens = torch.tensor([9, 5, 0]), torch.tensor([[1, 2, 3], [3, 0, 0], [2, 2, 0]])
    sizes, seeds = torch.tensor([3, 1, 2]), torch.tensor([11, -12, 13])
    together = expected_edits(rows.log_softmax(dim=2), lengths, tokens, sizes, seeds, paths=6)
    slope = torch.autograd.grad(together.sum(), rows)[0]
    for row in range(3):
        frames, size = int(lengths[row]), int(sizes[row])
        one = slice(row, row + 1)
        alone = expected_edits(
            rows[one, :frames].log_softmax(dim=2), lengths[one], tokens[one, :size], sizes[one], seeds[one], paths=6
        )
        assert torch.equal(alone, together[one])
        assert torch.equal(torch.autograd.grad(alone.sum(), rows)[0][row], slope[row])
        assert (slope[row, frames:] == 0).all()
    assert float(together[2].detach()) == 2.0  # nothing is said where there are no frames


def test_paths_follow_the_seed_and_the_probabilities():
    rows = logits(6, 3).log_softmax(dim=1).detach().numpy()
    assert np.array_equal(draw_paths(rows, 20, 3), draw_paths(rows, 20, 3))
    assert not np.array_equal(draw_paths(rows, 20, 3), draw_paths(rows, 20, 4))
    drawn = draw_paths(rows, 20000, 3)
    assert drawn.shape == (20000, 6)
    shares = np.stack([(drawn == symbol).mean(axis=0) for symbol in range(3)], axis=1)
    assert shares == pytest.approx(np.exp(rows), abs=0.02)


def test_nan_in_gives_nan_out():
    rows = torch.full((2, 4, 3), 1 / 3).log()
    rows[0, 1, 2] = torch.nan
    ours = expected_edits(
        rows, torch.tensor([4, 4]), torch.tensor([[1], [1]]), torch.tensor([1, 1]), torch.tensor([1, 1]), paths=3
    )
    assert torch.isnan(ours).tolist() == [True, False]
