"""The fused GPU kernels against the CPU path: on a GPU where there is one, else in Triton's interpreter where it is installed."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch

from asr.models.cells import CellOptions
from asr.models.recurrent import RecurrentLayer

LENGTHS = [4, 9, 0, 7]
VARIANTS = [
    {"peepholes": True},
    {"forget_gate": False},
    {"forget_gate": False, "peepholes": True},
    {"coupled": True},
    {"coupled": True, "peepholes": True},
]
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


def compare(options: dict, *, width: int, bidirectional: bool, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Largest difference to the CPU path in outputs and gradients, relative to the largest value of each."""
    from asr.models import recurrence_gpu

    torch.manual_seed(0)
    layer = RecurrentLayer(6, CellOptions(width=width, **options), bidirectional=bidirectional)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, 0.0, 0.5)
    x, lengths = torch.randn(4, 9, 6, requires_grad=True), torch.tensor(LENGTHS)
    pull = torch.randn(4, 9, layer.output_size)
    inputs = [x, *layer.parameters()]
    plain = layer(x, lengths)
    expected = [plain, *torch.autograd.grad((plain * pull).sum(), inputs)]
    layer = layer.to(device)
    moved = x.detach().to(device, dtype).requires_grad_()
    out = recurrence_gpu.run_layer(moved, lengths.to(device), layer._cells())
    ours = [out, *torch.autograd.grad((out * pull.to(device)).sum(), [moved, *layer.parameters()])]
    assert len(ours) == len(expected) > 4
    return max(float((a.float().cpu() - b).abs().max() / b.abs().max()) for a, b in zip(ours, expected))


@needs_gpu
@needs_triton
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
def test_on_a_gpu(options, bidirectional, dtype, tolerance):
    assert compare(options, width=100, bidirectional=bidirectional, device="cuda", dtype=dtype) < tolerance


@needs_gpu
@needs_triton
def test_a_layer_on_a_gpu_takes_the_kernel(monkeypatch):
    from asr.models import recurrence_gpu

    calls = []
    run = recurrence_gpu.run_layer
    monkeypatch.setattr(recurrence_gpu, "run_layer", lambda *arguments: calls.append(1) or run(*arguments))
    layer = RecurrentLayer(6, CellOptions(width=20, peepholes=True))
    x, lengths = torch.randn(4, 9, 6), torch.tensor(LENGTHS)
    there = layer.cuda()(x.cuda(), lengths.cuda())
    assert calls == [1]
    assert torch.allclose(there.cpu(), layer.cpu()(x, lengths), atol=1e-5)


@needs_triton
def test_in_the_interpreter():
    """In a process of its own, for Triton decides when it is loaded whether it compiles or interprets."""
    script = """
import json, sys, torch
from tests.models.test_recurrence_gpu import VARIANTS, compare
from asr.models import recurrence_gpu
recurrence_gpu.BLOCKS.update(BM=16, BN=16, BK=16)
found = [compare(options, width=width, bidirectional=way) for options in VARIANTS for width in (5, 20) for way in (True, False)]
print(json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert len(found) == 4 * len(VARIANTS)
    assert max(found) < 1e-5


def test_without_triton_the_readable_path_runs(monkeypatch):
    from asr.models import recurrent

    monkeypatch.setitem(sys.modules, "asr.models.recurrence_gpu", None)
    recurrent._gpu_kernels.cache_clear()
    try:
        assert recurrent._gpu_kernels() is None
    finally:
        recurrent._gpu_kernels.cache_clear()
