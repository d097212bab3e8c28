"""The compiled path of a recurrent layer on a CPU: its plan, its threads, and the LSTM against the library's layer."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from asr.models import product_kernels, recurrence, recurrent
from asr.models.cells import CellOptions
from asr.models.recurrence import make_plan
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
    assert [tuple(step) for step in plan.steps[0]] == [(0, 3, 6, 0), (3, 2, 0, 2), (5, 1, 3, 1)]
    assert [tuple(step) for step in plan.steps[1]] == [(5, 1, 6, 0), (3, 2, 5, 1), (0, 3, 3, 2)]
    assert plan.before[0].tolist() == [6, 6, 6, 0, 1, 3]
    assert plan.before[1].tolist() == [3, 4, 6, 5, 6, 6]


@pytest.mark.parametrize("lengths", [[12, 3, 0, 12, 7], [1, 1, 1, 1, 1], [12, 12, 12, 12, 12]])
@pytest.mark.parametrize("width", [1, 5, 33])
def test_equals_the_dense_path(lengths, width, monkeypatch):
    torch.manual_seed(0)
    layer = RecurrentLayer(7, CellOptions(width=width))
    x, lengths = torch.randn(5, 12, 7, requires_grad=True), torch.tensor(lengths)
    ours = gradients(layer, x, lengths)
    monkeypatch.setattr(recurrent, "compiled_path", lambda options, x: False)
    dense = gradients(layer, x, lengths)
    assert len(ours) == 8
    for a, b in zip(ours, dense):
        assert (a - b).abs().max() < 1e-5 * max(1.0, float(b.abs().max()))


def test_large_values_saturate_as_the_library_does(monkeypatch):
    torch.manual_seed(0)
    layer = RecurrentLayer(3, CellOptions(width=4))
    x, lengths = (torch.randn(2, 6, 3) * 1e4).requires_grad_(), torch.tensor([6, 4])
    ours = gradients(layer, x, lengths)
    monkeypatch.setattr(recurrent, "compiled_path", lambda options, x: False)
    dense = gradients(layer, x, lengths)
    assert all(a.isfinite().all() for a in ours)
    assert (ours[0] - dense[0]).abs().max() < 1e-5


def test_a_value_that_is_not_a_number_is_not_hidden():
    layer = RecurrentLayer(3, CellOptions(width=4), bidirectional=False)
    x = torch.randn(2, 6, 3)
    x[0, 2, 1] = torch.nan
    out = layer(x, torch.tensor([6, 6]))
    assert out[0, :2].isfinite().all()
    assert out[0, 2:].isnan().all()
    assert out[1].isfinite().all()


def test_two_threads_give_the_same_numbers_and_are_handed_back(two_threads):
    torch.manual_seed(0)
    layer = RecurrentLayer(7, CellOptions(width=6))
    x, lengths = torch.randn(4, 10, 7, requires_grad=True), torch.tensor([10, 8, 5, 10])
    side_by_side = gradients(layer, x, lengths)
    assert torch.get_num_threads() == 2
    assert any(thread.name.startswith("lstm-direction") for thread in threading.enumerate())
    torch.set_num_threads(1)
    one_by_one = gradients(layer, x, lengths)
    assert len(one_by_one) == 8
    for a, b in zip(side_by_side, one_by_one):
        assert (a - b).abs().max() < 1e-5


def test_a_fault_in_the_second_direction_is_raised_and_threads_handed_back(two_threads):
    with pytest.raises(ZeroDivisionError):
        recurrence._side_by_side([lambda: (1,), lambda: (1 // 0,)])
    assert torch.get_num_threads() == 2


def test_a_graph_can_be_walked_twice():
    layer = RecurrentLayer(3, CellOptions(width=4))
    x = torch.randn(2, 5, 3, requires_grad=True)
    loss = layer(x, torch.tensor([5, 3])).square().sum()
    first = torch.autograd.grad(loss, [x, *layer.parameters()], retain_graph=True)
    second = torch.autograd.grad(loss, [x, *layer.parameters()])
    assert len(first) == 7
    assert all(torch.equal(a, b) for a, b in zip(first, second))


@pytest.mark.parametrize(("kind", "accuracy"), [(np.float32, 2e-7), (np.float64, 1e-15)])
def test_squashing_functions_are_accurate(kind, accuracy):
    from asr.models.cell_kernels import open_, show_into, squash_

    x = np.linspace(-30, 30, 20001).astype(kind)
    y, zeros = x.copy(), np.zeros_like(x)
    open_(y, zeros, zeros, zeros)
    assert np.abs(y - 1 / (1 + np.exp(-x.astype(np.float64)))).max() < accuracy
    y = x.copy()
    squash_(y, zeros)
    assert np.abs(y - np.tanh(x.astype(np.float64))).max() < 2 * accuracy
    shown = np.empty_like(x)
    show_into(np.ones_like(x), x, shown)
    assert np.array_equal(shown, y)
    edge = np.array([np.nan, np.inf, -np.inf, 0.0], dtype=kind)
    squash_(edge, np.zeros_like(edge))
    assert np.isnan(edge[0])
    assert edge[1:].tolist() == [1.0, -1.0, 0.0]


@pytest.fixture
def poisoned_memory():
    """Memory that nobody wrote to holds NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    "options", [{"cell": "lstm", "peepholes": True}, {"cell": "lstm", "projection": 3}, {"cell": "gru"}, {"cell": "rnn"}]
)
def test_rows_of_zeros_that_follow_in_bfloat16_change_nothing(options, monkeypatch, poisoned_memory):
    """39 rows are computed as 39 and as 64; the sums behind the products are rounded to bfloat16 in either."""
    torch.manual_seed(0)
    layer = RecurrentLayer(7, CellOptions(width=8, **options))
    x, lengths = torch.randn(5, 12, 7, requires_grad=True), torch.tensor([12, 12, 0, 12, 3])
    found = []
    for rows in (1, 64):
        monkeypatch.setattr(recurrence, "ROWS", rows)
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(x, lengths)
        pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
        found.append([out.detach().float(), *torch.autograd.grad((out.float() * pull).sum(), [x, *layer.parameters()])])
    for plain, padded in zip(*found):
        assert plain.isfinite().all()
        assert (plain - padded).abs().max() < 0.01 * max(1.0, float(plain.abs().max()))


def test_bfloat16_is_rounded_as_torch_rounds_it():
    import numba

    from asr.models.cell_kernels import load, store

    @numba.njit
    def there_and_back(x, bits, y):
        for j in range(len(x)):
            store(bits, j, x[j])
            y[j] = load(bits[j])

    x = torch.randn(5000, generator=torch.Generator().manual_seed(0)) * 1e3
    x[:5] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, 1.00390625])
    y = np.empty(5000, dtype=np.float32)
    there_and_back(x.numpy(), np.empty(5000, dtype=np.uint16), y)
    np.testing.assert_array_equal(y, x.bfloat16().float().numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("size", "columns"), [(1, 1), (4, 128), (7, 21), (24, 300), (3, 129)])
def test_products_of_few_rows_are_those_of_torch(dtype, size, columns):
    """Of any number of rows from the first asked for, written or added, and not one row or column more."""
    torch.manual_seed(size)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x, matrix = torch.randn(16, size + 2).to(dtype), torch.randn(size, columns).to(dtype)
    laid = product_kernels.panels(recurrence.array_of(matrix))
    for rows in (0, 1, 2, 3, 4, 6, 7, 13):
        exact = x[2 : 2 + rows, :size].double() @ matrix.double()
        for add in (False, True):
            start = torch.randn(15, columns).to(wide)
            out, sums = start.clone(), np.full(15 * product_kernels.PANEL, np.nan, dtype=start.numpy().dtype)
            product_kernels.multiply(recurrence.array_of(x)[:, :size], 2, rows, laid, sums, out.numpy(), add)
            wanted = exact + start[:rows] if add else exact
            assert torch.allclose(out[:rows].double(), wanted, rtol=0, atol=1e-13 if dtype == torch.float64 else 3e-5)
            assert torch.equal(out[rows:], start[rows:])


def test_a_product_hands_on_what_is_not_a_number():
    matrix, sums, out = np.ones((4, 3), dtype=np.float32), np.empty(2 * product_kernels.PANEL, dtype=np.float32), np.zeros((2, 3))
    x = np.array([[1.0, np.nan, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]], dtype=np.float32)
    product_kernels.multiply(x, 0, 2, product_kernels.panels(matrix), sums, out, False)
    assert np.isnan(out[0]).all()
    assert out[1].tolist() == [10.0, 10.0, 10.0]


def test_kernels_work_where_no_cache_can_be_written(monkeypatch):
    import numba

    from asr.models import cell_kernels

    real, kept = numba.njit, []

    def njit(*signatures, cache=False, **options):
        kept.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(*signatures, **options)

    monkeypatch.setattr(numba, "njit", njit)
    double = cell_kernels.compiled()(lambda x: 2.0 * x)
    assert double(3.0) == 6.0
    assert kept == [True, False]
