"""The CTC loss against all paths, against the reference, and its checks."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import nn

from asr.errors import DataError, ModelError
from asr.models.ctc import CtcHead, check_targets, ctc_loss, ctc_reference, forward_backward, required_frames


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    """Repeats merged, then blanks removed."""
    merged = [symbol for k, symbol in enumerate(path) if k == 0 or symbol != path[k - 1]]
    return tuple(symbol for symbol in merged if symbol)


def all_paths(log_probs: np.ndarray) -> dict[tuple[int, ...], tuple[float, np.ndarray]]:
    """For each target that some path emits: its probability and how often, on average, each symbol stands at each frame."""
    frames, vocabulary = log_probs.shape
    found: dict[tuple[int, ...], list] = {}
    for path in product(range(vocabulary), repeat=frames):
        probability = float(np.exp(log_probs[np.arange(frames), list(path)].sum()))
        entry = found.setdefault(collapse(path), [0.0, np.zeros((frames, vocabulary))])
        entry[0] += probability
        entry[1][np.arange(frames), list(path)] += probability
    return {target: (total, counts / total) for target, (total, counts) in found.items()}


def log_softmax(frames: int, vocabulary: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(frames, vocabulary, generator=draw, dtype=torch.float64)).log_softmax(dim=1)


def one_loss(log_probs: torch.Tensor, target: tuple[int, ...]) -> torch.Tensor:
    tokens = torch.tensor([list(target)], dtype=torch.long).reshape(1, len(target))
    return ctc_loss(log_probs[None], torch.tensor([len(log_probs)]), tokens, torch.tensor([len(target)]))[0]


def test_loss_gradient_and_rule_equal_the_enumeration_of_all_paths():
    cases = 0
    for frames, vocabulary in product(range(1, 6), (2, 3)):
        log_probs = log_softmax(frames, vocabulary)
        emitted = all_paths(log_probs.numpy())
        assert sum(total for total, _ in emitted.values()) == pytest.approx(1.0, abs=1e-12)
        for size in range(frames + 2):
            for target in product(range(1, vocabulary), repeat=size):
                cases += 1
                logits = log_probs.clone().requires_grad_()
                loss = one_loss(logits.log_softmax(dim=1), target)
                (grad,) = torch.autograd.grad(loss, logits)
                loss = loss.detach()
                reference = forward_backward(log_probs.numpy(), target)
                assert (target in emitted) == (required_frames(target) <= frames)
                if target in emitted:
                    total, occupancies = emitted[target]
                    assert float(loss) == pytest.approx(-np.log(total), abs=1e-10)
                    assert reference.loss == pytest.approx(-np.log(total), abs=1e-10)
                    assert np.abs(reference.occupancies - occupancies).max() < 1e-10
                    assert np.abs(grad.numpy() - (log_probs.exp().numpy() - occupancies)).max() < 1e-10
                else:
                    assert float(loss) == reference.loss == np.inf
                    assert (grad == 0).all()
                    assert (reference.occupancies == 0).all()
    assert cases == 268


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_loss_equals_the_reference_in_a_padded_batch(dtype, tolerance):
    lengths, sizes = [40, 23, 31, 12, 1], [7, 11, 0, 3, 1]
    tokens = torch.randint(1, 9, (5, 11), generator=torch.Generator().manual_seed(1))
    logits = torch.stack([log_softmax(40, 9, seed) for seed in range(5)]).to(dtype).requires_grad_()
    losses = ctc_loss(logits.log_softmax(dim=2), torch.tensor(lengths), tokens, torch.tensor(sizes))
    (grad,) = torch.autograd.grad(losses.sum(), logits)
    losses = losses.detach()
    log_probs = logits.detach().double().log_softmax(dim=2)
    for row, (length, size) in enumerate(zip(lengths, sizes)):
        reference = forward_backward(log_probs[row, :length].numpy(), tokens[row, :size].tolist())
        assert float(losses[row]) == pytest.approx(reference.loss, abs=tolerance)
        expected = log_probs[row, :length].exp().numpy() - reference.occupancies
        assert np.abs(grad[row, :length].numpy() - expected).max() < tolerance
        assert (grad[row, length:] == 0).all()


def test_the_reference_reads_the_same_forwards_and_backwards():
    log_probs = log_softmax(9, 4).numpy()
    target = [1, 1, 3, 2]
    done = forward_backward(log_probs, target)
    states = np.array([0, 1, 0, 1, 0, 3, 0, 2, 0])
    with np.errstate(invalid="ignore"):
        per_frame = np.logaddexp.reduce(done.alphas + done.betas - log_probs[:, states], axis=1)
    assert np.allclose(per_frame, -done.loss)  # eq. 14: every frame gives the same total
    assert np.allclose(done.occupancies.sum(axis=1), 1)
    assert ctc_reference(log_probs[::-1], target[::-1]) == pytest.approx(done.loss)


def test_gradient_by_finite_differences():
    tokens, sizes, lengths = torch.tensor([[1, 1, 2], [3, 0, 0]]), torch.tensor([3, 1]), torch.tensor([6, 4])
    logits = torch.stack([log_softmax(6, 4, seed) for seed in (1, 2)]).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ctc_loss(x.log_softmax(dim=2), lengths, tokens, sizes), logits)


@pytest.mark.parametrize(("target", "frames"), [((), 0), ((5,), 1), ((5, 6), 2), ((5, 5), 3), ((5, 5, 5, 6, 6), 8)])
def test_required_frames(target, frames):
    assert required_frames(target) == frames
    assert required_frames(target) == len(target) + sum(a == b for a, b in pairwise(target))


def test_impossible_targets_cost_infinity_and_leave_the_others_alone():
    tokens, sizes = torch.tensor([[1, 1], [1, 2], [2, 3]]), torch.tensor([2, 2, 0])
    logits = torch.stack([log_softmax(4, 4, seed) for seed in range(3)]).requires_grad_()
    losses = ctc_loss(logits.log_softmax(dim=2), torch.tensor([2, 2, 0]), tokens, sizes)
    assert losses[0] == torch.inf
    assert losses[1].isfinite()
    assert losses[2] == 0  # no frames, no tokens
    losses.sum().backward()
    assert (logits.grad[0] == 0).all()
    assert logits.grad[1, :2].abs().sum() > 0
    assert (logits.grad[2] == 0).all()


def test_a_batch_without_any_token():
    log_probs = log_softmax(5, 3)[None]
    losses = ctc_loss(log_probs, torch.tensor([5]), torch.zeros(1, 0, dtype=torch.long), torch.tensor([0]))
    assert float(losses[0]) == pytest.approx(-float(log_probs[0, :, 0].sum()))
    check_targets(torch.zeros(1, 0, dtype=torch.long), torch.tensor([0]), torch.tensor([5]), 3, ["a"])


def test_no_probability_and_no_number_are_not_hidden():
    log_probs = log_softmax(4, 3)[None].repeat(2, 1, 1)
    log_probs[0, 2] = -torch.inf
    log_probs[1, 2] = torch.nan
    losses = ctc_loss(log_probs, torch.tensor([4, 4]), torch.tensor([[1, 2], [1, 2]]), torch.tensor([2, 2]))
    assert losses[0] == torch.inf
    assert not losses[1].isfinite()


def check(tokens, sizes, lengths, vocabulary=5):
    ids = [f"utt{k}" for k in range(len(tokens))]
    check_targets(torch.tensor(tokens), torch.tensor(sizes), torch.tensor(lengths), vocabulary, ids)


def test_good_targets_pass_with_anything_in_their_padding():
    check([[1, 2, 2, 99], [4, -7, 0, 0]], [3, 1], [4, 1])


@pytest.mark.parametrize(
    ("tokens", "lengths", "error", "message"),
    [
        ([[1, 2, 2], [1, 5, 2]], [9, 9], ModelError, r"utterance utt1 .* token id 5, .* 1 to 4"),
        ([[1, -1, 2], [1, 3, 2]], [9, 9], ModelError, r"utterance utt0 .* token id -1"),
        ([[1, 0, 2], [1, 3, 2]], [9, 9], DataError, r"utterance utt0 holds the blank"),
        ([[1, 2, 2], [1, 2, 2]], [3, 3], DataError, r"utterances utt0, utt1 cannot .* utt0 has 3 frames .* needs 4"),
        ([[1, 2, 2], [1, 2, 2]], [4, 3], DataError, r"utterance utt1 cannot be learnt: utt1 has 3 frames"),
    ],
)
def test_bad_targets_are_named(tokens, lengths, error, message):
    with pytest.raises(error, match=message):
        check(tokens, [3, 3], lengths)


def test_target_lengths_beyond_the_tensor_and_many_names():
    with pytest.raises(DataError, match="utt1"):
        check([[1, 2], [1, 2]], [2, 3], [9, 9])
    with pytest.raises(DataError, match="utt0, utt1, utt2, utt3, utt4 and 2 more"):
        check([[1, 1]] * 7, [2] * 7, [2] * 7)


def test_the_head_computes_in_float32_whatever_comes():
    torch.manual_seed(0)
    head, hidden = CtcHead(6, 4), torch.randn(2, 3, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_probs = head(hidden.bfloat16())
    assert log_probs.dtype == torch.float32
    assert torch.equal(log_probs, head(hidden.bfloat16().float()))
    assert torch.allclose(log_probs.exp().sum(dim=2), torch.ones(2, 3))
    expected = nn.functional.linear(hidden.double(), head.linear.weight.double(), head.linear.bias.double()).log_softmax(dim=2)
    assert torch.allclose(head(hidden).double(), expected, atol=1e-6)
