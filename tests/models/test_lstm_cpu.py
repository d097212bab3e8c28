"""The training path of the LSTM on a CPU against the library's layer and against itself."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from asr.models import lstm_cpu
from asr.models.lstm_cpu import make_plan
from asr.models.recurrent import RecurrentLayer


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def gradients(layer: nn.Module, x: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
    out = layer(x, lengths)
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
    return [out.detach(), *torch.autograd.grad((out * pull).sum(), [x, *layer.parameters()])]


def test_plan_by_hand():
    plan = make_plan((1, 3, 2), 4)
    assert plan.frames.tolist() == [4, 8, 0, 5, 9, 6]  # longest first: utterance 1, then 2, then 0
    assert [tuple(step) for step in plan.steps[0]] == [(0, 3, 0, 0), (3, 2, 0, 2), (5, 1, 3, 1)]
    assert [tuple(step) for step in plan.steps[1]] == [(5, 1, 0, 0), (3, 2, 5, 1), (0, 3, 3, 2)]
    assert plan.before[0].tolist() == [6, 6, 6, 0, 1, 3]
    assert plan.before[1].tolist() == [3, 4, 6, 5, 6, 6]


@pytest.mark.parametrize("lengths", [[12, 3, 0, 12, 7], [1, 1, 1, 1, 1], [12, 12, 12, 12, 12]])
@pytest.mark.parametrize("width", [1, 5, 33])
def test_equals_the_dense_path(lengths, width, monkeypatch):
    torch.manual_seed(0)
    layer = RecurrentLayer(7, width)
    x, lengths = torch.randn(5, 12, 7, requires_grad=True), torch.tensor(lengths)
    assert lstm_cpu.takes(layer.ahead, x)
    ours = gradients(layer, x, lengths)
    monkeypatch.setattr(lstm_cpu, "takes", lambda cell, x: False)
    dense = gradients(layer, x, lengths)
    assert len(ours) == 10
    for a, b in zip(ours, dense):
        assert (a - b).abs().max() < 1e-5 * max(1.0, float(b.abs().max()))


def test_large_values_saturate_as_the_library_does(monkeypatch):
    torch.manual_seed(0)
    layer = RecurrentLayer(3, 4)
    x, lengths = (torch.randn(2, 6, 3) * 1e4).requires_grad_(), torch.tensor([6, 4])
    ours = gradients(layer, x, lengths)
    monkeypatch.setattr(lstm_cpu, "takes", lambda cell, x: False)
    dense = gradients(layer, x, lengths)
    assert all(a.isfinite().all() for a in ours)
    assert (ours[0] - dense[0]).abs().max() < 1e-5


def test_a_value_that_is_not_a_number_is_not_hidden():
    layer = RecurrentLayer(3, 4, bidirectional=False)
    x = torch.randn(2, 6, 3)
    x[0, 2, 1] = torch.nan
    out = layer(x, torch.tensor([6, 6]))
    assert out[0, :2].isfinite().all()
    assert out[0, 2:].isnan().all()
    assert out[1].isfinite().all()


def test_two_threads_give_the_same_numbers_and_are_handed_back(two_threads):
    torch.manual_seed(0)
    layer = RecurrentLayer(7, 6)
    x, lengths = torch.randn(4, 10, 7, requires_grad=True), torch.tensor([10, 8, 5, 10])
    side_by_side = gradients(layer, x, lengths)
    assert torch.get_num_threads() == 2
    assert any(thread.name.startswith("lstm-direction") for thread in threading.enumerate())
    torch.set_num_threads(1)
    one_by_one = gradients(layer, x, lengths)
    assert len(one_by_one) == 10
    for a, b in zip(side_by_side, one_by_one):
        assert (a - b).abs().max() < 1e-5


def test_a_fault_in_the_second_direction_is_raised_and_threads_handed_back(two_threads):
    with pytest.raises(ZeroDivisionError):
        lstm_cpu._side_by_side([lambda: (1,), lambda: (1 // 0,)])
    assert torch.get_num_threads() == 2


def test_a_graph_can_be_walked_twice():
    layer = RecurrentLayer(3, 4)
    x = torch.randn(2, 5, 3, requires_grad=True)
    loss = layer(x, torch.tensor([5, 3])).square().sum()
    first = torch.autograd.grad(loss, [x, *layer.parameters()], retain_graph=True)
    second = torch.autograd.grad(loss, [x, *layer.parameters()])
    assert len(first) == 9
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_without_gradient_in_half_precision_or_for_other_cells_the_library_runs():
    layer, x = RecurrentLayer(3, 4), torch.randn(2, 5, 3)
    assert lstm_cpu.takes(layer.ahead, x)
    assert not lstm_cpu.takes(nn.GRU(3, 4), x)
    assert not lstm_cpu.takes(layer.ahead, x.double())
    with torch.no_grad():
        assert not lstm_cpu.takes(layer.ahead, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not lstm_cpu.takes(layer.ahead, x)


def test_exponential_is_accurate_to_float32():
    from asr.models.lstm_kernels import sigmoid_, tanh_, tanh_into

    x = np.linspace(-30, 30, 20001, dtype=np.float32)
    y = x.copy()
    sigmoid_(y)
    assert np.abs(y - 1 / (1 + np.exp(-x.astype(np.float64)))).max() < 2e-7
    tanh_into(x, y)
    assert np.abs(y - np.tanh(x.astype(np.float64))).max() < 4e-7
    edge = np.array([np.nan, np.inf, -np.inf, 0.0], dtype=np.float32)
    tanh_into(edge, y[:4])
    tanh_(edge)
    for result in (y[:4], edge):
        assert np.isnan(result[0])
        assert result[1:4].tolist() == [1.0, -1.0, 0.0]


def test_kernels_work_where_no_cache_can_be_written(monkeypatch):
    import numba

    from asr.models import lstm_kernels

    real, kept = numba.njit, []

    def njit(*signatures, cache=False, **options):
        kept.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(*signatures, **options)

    monkeypatch.setattr(numba, "njit", njit)
    double = lstm_kernels.compiled()(lambda x: 2.0 * x)
    assert double(3.0) == 6.0
    assert kept == [True, False]
