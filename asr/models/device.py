"""Where a model runs and in which precision."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch

from asr.errors import UsageError


def choose_device(name: str) -> torch.device:
    """auto takes a GPU where there is one. Raises UsageError for cuda without a usable GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device=cuda, but torch finds no usable GPU here: use device=cpu or install a CUDA build of torch")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """auto takes bfloat16 where it is faster; on a CPU where it is slower, bfloat16 is computed in float32 by the encoder."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if low_precision_pays(device.type) else torch.float32


@lru_cache
def low_precision_pays(device: str) -> bool:
    """Whether matrix products in bfloat16 are faster than in float32 on this kind of device ("cpu", "cuda").

    On a CPU it takes tile units (AMX), or the AVX-512 bfloat16 instructions of AMD (from Zen 4): there a product takes half the
    time of float32. Intel's processors without AMX have the instructions too, but take twice the time with them.
    """
    if device != "cpu":
        return True
    if bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)()):
        return True
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()) and _vendor() == "AuthenticAMD"


def _vendor() -> str:
    """The maker of the processor as it names itself; empty where the system does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")
    except OSError:
        return ""


def autocast_for(device: torch.device, precision: torch.dtype) -> Callable[[], AbstractContextManager]:
    """The context in which the model is called for this precision."""
    if precision == torch.float32:
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=precision)
