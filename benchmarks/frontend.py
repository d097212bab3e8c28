"""The convolutional front-end, forward and back, against the same convolutions as a plain `nn.Sequential`, one thread.

80 bins, 64 channels, two residual blocks, subsampling 4, six utterances of 3 to 6 s; each step has a batch of other lengths, as
in a training. The plain side keeps the layout that tensors have by default and takes padding for speech. Steps alternate, and
each side's time is its median. `python benchmarks/frontend.py` prints a line for each side and, last, one JSON object: `ratio` is
the plain side's time over ours.
"""

import argparse
import json
import statistics
import time

import torch
from torch import Tensor, nn

from asr.models.encoder import ConvFrontend, EncoderOptions

BINS, CHANNELS, BLOCKS, BATCH = 80, 64, 2, 6


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convolution(x).relu_()


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        first = nn.Conv2d(1, CHANNELS, 3, stride=2, padding=1)
        second = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1)
        self.layers = nn.Sequential(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True))
        self.layers.extend(Residual() for _ in range(BLOCKS))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        return self.layers(features.unsqueeze(1)).transpose(1, 2).flatten(2)


def make_batch(number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features (B, T, D), lengths (B,), the gradient (B, T', E) that comes back."""
    draw = torch.Generator().manual_seed(number)
    longest = int(torch.randint(360, 601, (1,), generator=draw))
    lengths = torch.randint(longest - 60, longest + 1, (BATCH,), generator=draw)
    frames = int(lengths.max())
    features = torch.randn(BATCH, frames, BINS, generator=draw)
    return features, lengths, torch.randn(BATCH, -(-frames // 4), CHANNELS * BINS // 4, generator=draw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="timed steps of each side (40)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options = EncoderOptions(subsampling=4, conv_channels=CHANNELS, conv_blocks=BLOCKS)
    sides: dict[str, nn.Module] = {"plain": Plain(), "ours": ConvFrontend(options, BINS)}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 5):
        features, lengths, grad = make_batch(number)
        for name, side in sides.items():
            side.zero_grad(set_to_none=True)
            begin = time.perf_counter()
            side(features, lengths).backward(grad)
            if number >= 5:  # the first ones warm up
                times[name].append(time.perf_counter() - begin)
    middle = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in middle.items():
        print(f"{name:6} {1e3 * seconds:7.1f} ms  {middle['plain'] / seconds:5.2f} x")
    print(json.dumps({"ratio": round(middle["plain"] / middle["ours"], 2), "rounds": rounds, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
