"""One training step of a bidirectional LSTM-CTC stack, ours against the same stack on packed sequences.

Both sides: three layers of 320 cells per direction on 640 features, a linear layer to 42 symbols, CTC on 18 tokens per utterance,
AdamW; lengths from 0.8 to 1.0 of 110 frames, batches of 16 and 48. Steps of all sides alternate, so other work on the machine
meets each alike; each side's time is its shortest. `python benchmarks/train_step.py` prints a table and, last, one JSON object:
`ratio_fp32` and `ratio_bf16` are the time of the packed stack in float32 over ours, in float32 and under bfloat16 autocast, the
smaller of the two batch sizes; `ratio_packed_bf16` is the same for the packed stack under autocast.

With `--vary` each step has a batch of other lengths, 0.3 to 1.0 of 110 frames, as in a training: the code that the library makes
for each new shape counts, too. Look at the medians. One more side, `dense_bf16_each`, computes exactly the rows of each batch and
not up to the multiple of `asr.models.recurrence.ROWS`.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.models import recurrence
from asr.models.ctc import CtcHead, ctc_loss
from asr.models.device import low_precision_pays
from asr.models.encoder import Encoder, EncoderOptions

FRAMES, FEATURES, WIDTH, LAYERS, VOCABULARY, TOKENS = 110, 640, 320, 3, 42, 18


class PackedStack(nn.Module):
    """What most toolkits run: `nn.LSTM(bidirectional=True)` on a packed batch."""

    def __init__(self):
        super().__init__()
        self.layers = nn.LSTM(FEATURES, WIDTH, num_layers=LAYERS, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(2 * WIDTH, VOCABULARY)

    def loss(self, features: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        hidden, _ = self.layers(pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False))
        log_probs = self.linear(pad_packed_sequence(hidden, batch_first=True)[0]).float().log_softmax(dim=2)
        return F.ctc_loss(log_probs.transpose(0, 1), tokens, lengths, token_lengths, reduction="none")


class DenseStack(nn.Module):
    """The same stack from this package."""

    def __init__(self):
        super().__init__()
        options = EncoderOptions(frontend="stack", subsampling=1, layers=LAYERS, width=WIDTH, dropout=0.0, layer_norm=False)
        self.encoder = Encoder(options, FEATURES)
        self.head = CtcHead(self.encoder.output_size, VOCABULARY)

    def loss(self, features: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        hidden, lengths = self.encoder(features, lengths)
        return ctc_loss(self.head(hidden), lengths, tokens, token_lengths)


def make_batch(size: int, number: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features (B, T', D), lengths (B,), tokens (B, U), token lengths (B,); batches but the first have lengths of their own."""
    draw = torch.Generator().manual_seed(size + 1000 * number)
    lengths = torch.linspace(0.8 * FRAMES, FRAMES, size).round().long()[torch.randperm(size, generator=draw)]
    if number:
        lengths = torch.randint(3 * FRAMES // 10, FRAMES + 1, (size,), generator=draw)
    frames = int(lengths.max())
    features = torch.randn(size, frames, FEATURES, generator=draw)
    features[torch.arange(frames) >= lengths.unsqueeze(1)] = 0.0
    tokens = torch.randint(1, VOCABULARY, (size, TOKENS), generator=draw)
    return features, lengths, tokens, torch.full((size,), TOKENS)


def make_step(stack: nn.Module, autocast: bool, rows: int = recurrence.ROWS) -> Callable[[tuple[Tensor, ...]], None]:
    optimizer = torch.optim.AdamW(stack.parameters(), lr=1e-5, fused=True)

    def step(batch: tuple[Tensor, ...]) -> None:
        recurrence.ROWS = rows
        with torch.autocast("cpu", dtype=torch.bfloat16) if autocast else nullcontext():
            losses = stack.loss(*batch)
        optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        optimizer.step()

    return step


def measure(size: int, rounds: int, vary: bool) -> dict[str, tuple[float, float]]:
    """Shortest and median seconds of one step of each side."""
    steps = {
        "packed_fp32": make_step(PackedStack(), autocast=False),
        "dense_fp32": make_step(DenseStack(), autocast=False),
        "packed_bf16": make_step(PackedStack(), autocast=True),
        "dense_bf16": make_step(DenseStack(), autocast=True),
    }
    if vary:
        steps["dense_bf16_each"] = make_step(DenseStack(), autocast=True, rows=1)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + 1):
        batch = make_batch(size, round_ + 1 if vary else 0)
        for name, step in steps.items():
            start = time.perf_counter()
            step(batch)
            if round_:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    return {name: (min(values), statistics.median(values)) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads torch may use (2)")
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each side (7)")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 48], help="batch sizes (16 48)")
    parser.add_argument("--vary", action="store_true", help="other lengths in each step")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    results = {}
    for size in arguments.batches:
        seconds = measure(size, arguments.rounds, arguments.vary)
        best, middle = seconds["packed_fp32"]
        results[str(size)] = {
            name: {
                "seconds": round(t, 4),
                "ratio": round(best / t, 2),
                "median_seconds": round(m, 4),
                "median_ratio": round(middle / m, 2),
            }
            for name, (t, m) in seconds.items()
        }
        for name, (t, m) in seconds.items():
            print(f"batch {size:3d}  {name:15s} {t * 1000:8.1f} ms  {best / t:5.2f} x   (median {m * 1000:8.1f} ms)", flush=True)
    smallest = {name: min(result[name]["ratio"] for result in results.values()) for name in seconds}
    summary = {
        "ratio_fp32": smallest["dense_fp32"],
        "ratio_bf16": smallest["dense_bf16"],
        "ratio_packed_bf16": smallest["packed_bf16"],
        "bf16_pays_here": low_precision_pays("cpu"),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "vary": arguments.vary,
        "torch": torch.__version__,
        "cpu": platform.processor() or platform.machine(),
        "batches": results,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
