"""Where a training runs and in which precision."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from asr.errors import UsageError


def choose_device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device=cuda, but torch finds no usable GPU here: use device=cpu or install a CUDA build of torch")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def autocast_for(device: torch.device, precision: torch.dtype) -> Callable[[], AbstractContextManager]:
    if precision == torch.float32:
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=precision)
