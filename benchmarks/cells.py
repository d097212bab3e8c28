"""Our peephole LSTM layer against the library's LSTM without peepholes, forward and backward, on a CPU in float32.

Both read B = 16 sequences of T = 200 frames with 2H inputs, H = 256 and 320, forward-only and bidirectional; the library's layer
runs dense and, as most toolkits run it, on packed sequences (lengths 0.8 to 1.0 of T: ours and the packed layer skip the
padding then). Steps of all sides alternate; each side's time is its shortest. The growth of the resident memory is
taken in a fresh process for each side, after a small warm-up. `python benchmarks/cells.py` prints a table and, last, one JSON
object: `time_vs_dense` and `time_vs_packed` are our time over theirs with equal lengths and with differing ones, the worse of the
two widths, bidirectional; `_forward_only` the same for one direction; `memory_vs_dense` our growth over the library's.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.models.cells import CellOptions
from asr.models.recurrent import RecurrentLayer

FRAMES, BATCH, WIDTHS = 200, 16, (256, 320)
SIDES = ("ours", "dense", "packed")


def make_side(name: str, width: int, *, bidirectional: bool, frames: int, lengths: Tensor) -> Callable[[], None]:
    """One forward and backward pass of a layer."""
    x = torch.randn(BATCH, frames, 2 * width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    if name == "ours":
        layer = RecurrentLayer(2 * width, CellOptions(width=width, peepholes=True), bidirectional=bidirectional)
    else:
        layer = nn.LSTM(2 * width, width, batch_first=True, bidirectional=bidirectional)

    def step() -> None:
        if name == "ours":
            out = layer(x, lengths)
        elif name == "dense":
            out = layer(x)[0]
        else:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            out = pad_packed_sequence(layer(packed)[0], batch_first=True)[0]
        layer.zero_grad()
        x.grad = None
        out.square().sum().backward()

    return step


def measure(width: int, *, bidirectional: bool, rounds: int) -> dict[str, float]:
    """Shortest seconds of each side; "equal" with all lengths T, "differing" with lengths from 0.8 to 1.0 of T."""
    equal = torch.full((BATCH,), FRAMES)
    differing = torch.linspace(0.8 * FRAMES, FRAMES, BATCH).round().long()
    steps = {
        "ours equal": make_side("ours", width, bidirectional=bidirectional, frames=FRAMES, lengths=equal),
        "dense equal": make_side("dense", width, bidirectional=bidirectional, frames=FRAMES, lengths=equal),
        "ours differing": make_side("ours", width, bidirectional=bidirectional, frames=FRAMES, lengths=differing),
        "packed differing": make_side("packed", width, bidirectional=bidirectional, frames=FRAMES, lengths=differing),
    }
    best = dict.fromkeys(steps, float("inf"))
    for round_ in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_:  # the first round warms up
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def resident_bytes(field: str) -> int:
    """VmRSS or VmHWM of this process."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure_memory(name: str, width: int, *, bidirectional: bool) -> None:
    """Print by how many bytes one pass raises the peak of a process that has warmed up on five frames."""
    torch.set_num_threads(1)
    make_side(name, width, bidirectional=bidirectional, frames=5, lengths=torch.full((BATCH,), 5))()
    step = make_side(name, width, bidirectional=bidirectional, frames=FRAMES, lengths=torch.full((BATCH,), FRAMES))
    before = resident_bytes("VmRSS")
    step()
    print(resident_bytes("VmHWM") - before)


def memory(name: str, width: int, *, bidirectional: bool) -> int:
    words = [sys.executable, __file__, "--memory", name, "--width", str(width), *(["--bidirectional"] if bidirectional else [])]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads torch may use (2)")
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each side (7)")
    parser.add_argument("--memory", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--width", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--bidirectional", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        return measure_memory(arguments.memory, arguments.width, bidirectional=arguments.bidirectional)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    summary: dict[str, object] = {"threads": arguments.threads, "torch": torch.__version__, "cpu": platform.processor()}
    for bidirectional, end in ((True, ""), (False, "_forward_only")):
        worst = {"time_vs_dense": 0.0, "time_vs_packed": 0.0, "memory_vs_dense": 0.0}
        for width in WIDTHS:
            best = measure(width, bidirectional=bidirectional, rounds=arguments.rounds)
            grown = {name: memory(name, width, bidirectional=bidirectional) for name in ("ours", "dense")}
            ratios = {
                "time_vs_dense": best["ours equal"] / best["dense equal"],
                "time_vs_packed": best["ours differing"] / best["packed differing"],
                "memory_vs_dense": grown["ours"] / grown["dense"],
            }
            worst = {name: max(value, ratios[name]) for name, value in worst.items()}
            times = "  ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in best.items())
            sizes = "  ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in grown.items())
            way = "bidirectional" if bidirectional else "forward-only "
            print(f"H {width}  {way}  {times}  memory: {sizes}", flush=True)
        summary |= {name + end: round(value, 3) for name, value in worst.items()}
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
