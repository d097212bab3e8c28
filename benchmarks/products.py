"""The products between time steps, `asr.models.product_kernels.multiply`, against `torch.mm`, one thread.

Of 2 to 48 rows with the recurrent weights of an LSTM of 256 cells: (rows, 256) x (256, 1024) forward, (rows, 1024) x (1024, 256)
backward; ours from float32 and from bfloat16, both with sums in float32, the library's in float32. Calls alternate, and each
side's time is its shortest. `python benchmarks/products.py` prints a table and, last, one JSON object: `ratio_fp32` and
`ratio_bf16` are the library's time over ours, the smaller of forward and backward at 6 rows.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch

from asr.models.product_kernels import PANEL, multiply, panels
from asr.models.recurrence import array_of

SHAPES = {"forward": (256, 1024), "backward": (1024, 256)}
ROWS = (2, 4, 6, 12, 24, 48)


def sides(rows: int, size: int, columns: int) -> dict[str, Callable[[], object]]:
    """A call of each side, checked against the library's result."""
    x, matrix = torch.randn(rows, size), torch.randn(size, columns)
    out, room = torch.empty(rows, columns), np.empty(rows * PANEL, dtype=np.float32)
    calls: dict[str, Callable[[], object]] = {"torch_fp32": lambda: torch.mm(x, matrix, out=out)}
    for name, dtype in (("ours_fp32", torch.float32), ("ours_bf16", torch.bfloat16)):
        given, laid, result = array_of(x.to(dtype)), panels(array_of(matrix.to(dtype))), torch.empty(rows, columns)

        def call(given=given, laid=laid, result=result) -> None:
            multiply(given, 0, rows, laid, room, result.numpy(), False)

        call()
        exact = x.to(dtype).double() @ matrix.to(dtype).double()
        assert torch.allclose(result.double(), exact, rtol=0, atol=1e-2), name
        calls[name] = call
    return calls


def shortest(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of one call of each side."""
    times = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            for _ in range(20):
                call()
            times[name] = min(times[name], (time.perf_counter() - begin) / 20)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50, help="rounds of 20 calls of each side (50)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: dict[str, dict[int, dict[str, float]]] = {}
    for way, (size, columns) in SHAPES.items():
        found[way] = {rows: shortest(sides(rows, size, columns), rounds) for rows in ROWS}
        for rows, times in found[way].items():
            theirs = times["torch_fp32"]
            told = "  ".join(f"{name} {1e6 * seconds:6.1f} us {theirs / seconds:5.2f} x" for name, seconds in times.items())
            print(f"{way:8} {rows:3} rows  {told}")
    ratios = {
        f"ratio_{kind}": round(min(times[6]["torch_fp32"] / times[6][f"ours_{kind}"] for times in found.values()), 2)
        for kind in ("fp32", "bf16")
    }
    print(json.dumps({**ratios, "rounds": rounds, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
