"""Muon: the step of a weight matrix is its momentum made orthogonal, so that it is as long in every direction.

K. Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the length of a step, with which the learning
rate and decay of Adam can be kept, as Liu et al. 2025, "Muon is scalable for LLM training", equation 4.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from asr.training.distributed import Ranks

#: a, b, c of one iteration, x <- a x + (b G + c G G) x with G = x x^T, and how often it is done (Jordan et al. 2024).
COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5


def orthogonalized(matrices: Tensor) -> Tensor:
    """(N, R, C) matrices U S V^T -> about U V^T: singular values of 0.68 to 1.14, those that were next to nothing smaller."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.AdamW):
    """Muon for some matrices, AdamW for all other weights, with one learning rate and decay for both.

    matrices: weights (R, C) or, of convolutions, (R, C, H, W), taken as (R, C H W), each with the number of blocks of R / blocks
    rows that it is made of, the gates of a recurrent cell: every block is turned alone.
    others: parameter groups for AdamW, whose options `adam` are.
    ranks: the processes that train together: each turns its share of the matrices, all take the same step.
    dtype: of the products that turn them.
    """

    def __init__(
        self,
        matrices: Sequence[tuple[nn.Parameter, int]],
        others: list[dict[str, Any]],
        *,
        momentum: float,
        weight_decay: float,
        ranks: Ranks | None = None,
        dtype: torch.dtype = torch.float32,
        **adam: Any,
    ):
        super().__init__([{"params": [weight for weight, _ in matrices], "weight_decay": weight_decay}, *others], **adam)
        self.blocks = [blocks for _, blocks in matrices]
        self.momentum, self.ranks, self.dtype = momentum, ranks or Ranks(), dtype
        self.owners = _dealt([_work(weight, blocks) for weight, blocks in matrices], self.ranks.world)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step. It takes the gradients of the matrices away: AdamW passes over what has none."""
        group = self.param_groups[0]
        turned = [self._turned(*each) for each in zip(group["params"], self.blocks, self.owners)]
        for weight, direction, owner in zip(group["params"], turned, self.owners):
            if direction is not None:
                self.ranks.spread(direction, owner)
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])
                weight.grad = None
        super().step()

    def _turned(self, weight: nn.Parameter, blocks: int, owner: int) -> Tensor | None:
        """What a learning rate of 1 would subtract from the weight; room for it where another process finds it."""
        if weight.grad is None:
            return None
        state = self.state[weight]
        if not state:  # AdamW looks for the number of steps in what it loads
            state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(weight)}
        state["step"] += 1
        mean = state["momentum"].lerp_(weight.grad, 1 - self.momentum)
        if owner != self.ranks.rank:
            return torch.empty_like(weight)
        ahead = weight.grad.lerp(mean, self.momentum)  # Nesterov
        gates = ahead.reshape(blocks, len(weight) // blocks, -1)
        turned = orthogonalized(gates.to(self.dtype)).to(weight.dtype)
        return (turned * (0.2 * max(gates.shape[1:]) ** 0.5)).reshape(weight.shape).contiguous()


def _work(weight: Tensor, blocks: int) -> int:
    """Multiplications of one iteration, in proportion."""
    rows = len(weight) // blocks
    small, large = sorted((rows, weight.numel() // len(weight)))
    return blocks * small**2 * (2 * large + small)


def _dealt(works: Sequence[int], world: int) -> list[int]:
    """Which process does which work: the largest first, always to the one that has least to do."""
    loads, owners = [0] * world, [0] * len(works)
    for number in sorted(range(len(works)), key=lambda number: -works[number]):
        owners[number] = loads.index(min(loads))
        loads[owners[number]] += works[number]
    return owners
