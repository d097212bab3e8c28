"""A step of Muon over the matrices of an encoder, ours against `torch.optim.Muon`, one thread.

The matrices are those of three bidirectional LSTM layers of 256 cells behind a front-end of 64 channels (4.7 million weights).
Ours turns each gate alone, in float32 and in bfloat16; torch turns whole matrices, in bfloat16 always, and takes no
convolutions: they are flat for it here. `adamw` is the library's fused AdamW over the same weights. Steps alternate, and each
side's time is its shortest. `python benchmarks/muon.py` prints a table and, last, one JSON object: `ratio_fp32` and `ratio_bf16`
are torch's time over ours, `over_adamw` the time of our better one over AdamW's. Where bfloat16 does not pay, both sides that
compute in it are left out, for it is emulated there and very slow, and the ratios are null.
"""

import argparse
import json
import time

import torch

from asr.models.device import low_precision_pays
from asr.models.encoder import Encoder, EncoderOptions
from asr.training.muon import Muon
from asr.training.optim import hidden_matrices


def sides() -> dict[str, tuple[torch.optim.Optimizer, list[torch.nn.Parameter]]]:
    """Each side with the weights it steps over."""
    hidden = hidden_matrices(Encoder(EncoderOptions(conv_channels=64, conv_blocks=2, projection=256, layers=3, width=256), 80))

    def copies(flat: bool = False) -> list[torch.nn.Parameter]:
        return [torch.nn.Parameter(weight.detach().flatten(1) if flat else weight.detach().clone()) for weight, _ in hidden]

    found: dict[str, tuple[torch.optim.Optimizer, list[torch.nn.Parameter]]] = {}
    low = low_precision_pays("cpu")
    for name, dtype in (("ours_fp32", torch.float32), ("ours_bf16", torch.bfloat16))[: 1 + low]:
        weights = copies()
        blocks = [(weight, count) for weight, (_, count) in zip(weights, hidden)]
        found[name] = Muon(blocks, [], momentum=0.95, weight_decay=0.3, dtype=dtype, lr=1e-3, fused=True), weights
    if low:
        weights = copies(flat=True)
        found["torch"] = torch.optim.Muon(weights, lr=1e-3, weight_decay=0.3, adjust_lr_fn="match_rms_adamw"), weights
    weights = copies()
    found["adamw"] = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.3, fused=True), weights
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each side (7)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    optimizers = sides()
    seconds = dict.fromkeys(optimizers, float("inf"))
    for round_ in range(rounds + 1):
        for name, (optimizer, weights) in optimizers.items():
            for weight in weights:
                weight.grad = torch.randn_like(weight)
            begin = time.perf_counter()
            optimizer.step()
            if round_:  # the first round warms up
                seconds[name] = min(seconds[name], time.perf_counter() - begin)
    for name, found in seconds.items():
        print(f"{name:10s} {found * 1000:8.1f} ms", flush=True)
    ours = {name: found for name, found in seconds.items() if name.startswith("ours")}
    ratios = {name: round(seconds["torch"] / found, 2) if "torch" in seconds else None for name, found in ours.items()}
    summary = {
        "ratio_fp32": ratios["ours_fp32"],
        "ratio_bf16": ratios.get("ours_bf16"),
        "over_adamw": round(min(ours.values()) / seconds["adamw"], 1),
        "bf16_pays_here": low_precision_pays("cpu"),
        "rounds": rounds,
        "torch": torch.__version__,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
