"""Our peephole LSTM layer against the library's LSTM without peepholes, forward and backward, in float32.

Both read B = 16 sequences of T = 200 frames with 2H inputs, H = 256 and 320, forward-only and bidirectional; the library's layer
runs dense and, as most toolkits run it, on packed sequences (lengths 0.8 to 1.0 of T: ours and the packed layer skip the
padding then). Steps of all sides alternate; each side's time is its shortest. The growth of the resident memory is
taken in a fresh process for each side, after a small warm-up. `python benchmarks/cells.py` prints a table and, last, one JSON
object: `time_vs_dense` and `time_vs_packed` are our time over theirs with equal lengths and with differing ones, the worse of the
two widths, bidirectional; `_forward_only` the same for one direction; `memory_vs_dense` our growth over the library's.

`--device cuda` measures T = 500, B = 32, H = 320 and 512 against cuDNN, in float32 and bfloat16 (keys with `_bf16`), no memory.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.models.cells import CellOptions
from asr.models.recurrent import RecurrentLayer

#: Frames, utterances and widths on each kind of device.
SHAPES = {"cpu": (200, 16, (256, 320)), "cuda": (500, 32, (320, 512))}
SIDES = ("ours", "dense", "packed")


def make_side(
    name: str, width: int, *, bidirectional: bool, frames: int, lengths: Tensor, device: str = "cpu", half: bool = False
) -> Callable[[], None]:
    """One forward and backward pass of a layer."""
    x = torch.randn(len(lengths), frames, 2 * width, generator=torch.Generator().manual_seed(0))
    x = x.to(device, torch.bfloat16 if half else torch.float32).requires_grad_()
    if name == "ours":
        layer = RecurrentLayer(2 * width, CellOptions(width=width, peepholes=True), bidirectional=bidirectional)
    else:
        layer = nn.LSTM(2 * width, width, batch_first=True, bidirectional=bidirectional)
    layer = layer.to(device, torch.bfloat16 if half and name != "ours" else torch.float32)
    there = lengths.to(device)

    def step() -> None:
        if name == "ours":
            with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
                out = layer(x, there)
        elif name == "dense":
            out = layer(x)[0]
        else:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            out = pad_packed_sequence(layer(packed)[0], batch_first=True)[0]
        layer.zero_grad()
        x.grad = None
        out.square().sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def measure(width: int, *, bidirectional: bool, rounds: int, device: str, half: bool) -> dict[str, float]:
    """Shortest seconds of each side; "equal" with all lengths T, "differing" with lengths from 0.8 to 1.0 of T."""
    frames, batch, _ = SHAPES[device]
    equal = torch.full((batch,), frames)
    differing = torch.linspace(0.8 * frames, frames, batch).round().long()
    names = (("ours", "equal"), ("dense", "equal"), ("ours", "differing"), ("packed", "differing"))
    kinds = {"equal": equal, "differing": differing}
    same = {"bidirectional": bidirectional, "frames": frames, "device": device, "half": half}
    steps = {f"{name} {kind}": make_side(name, width, lengths=kinds[kind], **same) for name, kind in names}
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
    frames, batch, _ = SHAPES["cpu"]
    make_side(name, width, bidirectional=bidirectional, frames=5, lengths=torch.full((batch,), 5))()
    step = make_side(name, width, bidirectional=bidirectional, frames=frames, lengths=torch.full((batch,), frames))
    before = resident_bytes("VmRSS")
    step()
    print(resident_bytes("VmHWM") - before)


def memory(name: str, width: int, *, bidirectional: bool) -> int:
    words = [sys.executable, __file__, "--memory", name, "--width", str(width), *(["--bidirectional"] if bidirectional else [])]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def compare(*, bidirectional: bool, rounds: int, device: str, half: bool) -> dict[str, float]:
    """The ratios by name, the worse of the two widths; prints a line for each."""
    worst: dict[str, float] = {}
    for width in SHAPES[device][2]:
        best = measure(width, bidirectional=bidirectional, rounds=rounds, device=device, half=half)
        ratios = {
            "time_vs_dense": best["ours equal"] / best["dense equal"],
            "time_vs_packed": best["ours differing"] / best["packed differing"],
        }
        line = "  ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in best.items())
        if device == "cpu":
            grown = {name: memory(name, width, bidirectional=bidirectional) for name in ("ours", "dense")}
            ratios["memory_vs_dense"] = grown["ours"] / grown["dense"]
            line += "  memory: " + "  ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in grown.items())
        worst = {name: max(worst.get(name, 0.0), value) for name, value in ratios.items()}
        print(f"H {width}  {'bidirectional' if bidirectional else 'forward-only '}  {line}", flush=True)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads torch may use (2)")
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each side (7)")
    parser.add_argument("--device", choices=tuple(SHAPES), default="cpu", help="cpu | cuda (cpu)")
    parser.add_argument("--memory", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--width", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--bidirectional", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        return measure_memory(arguments.memory, arguments.width, bidirectional=arguments.bidirectional)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    summary: dict[str, object] = {"threads": arguments.threads, "torch": torch.__version__, "device": arguments.device}
    for half in (False, True) if arguments.device == "cuda" else (False,):
        for bidirectional in (True, False):
            worst = compare(bidirectional=bidirectional, rounds=arguments.rounds, device=arguments.device, half=half)
            end = ("" if bidirectional else "_forward_only") + ("_bf16" if half else "")
            summary |= {name + end: round(value, 3) for name, value in worst.items()}
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
