"""Optimiser, learning-rate schedule and averages of weights."""

import math
from collections import deque
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from asr.errors import UsageError
from asr.models.cells import Cell
from asr.models.ctc import CtcHead
from asr.models.encoder import SelfConditioning
from asr.training.distributed import Ranks
from asr.training.muon import Muon

OPTIMIZERS = ("adamw", "muon", "sgd")
SCHEDULES = ("cosine", "constant")


@dataclass
class OptimOptions:
    #: adamw | muon (the matrices between the layers take orthogonal steps, all other weights those of AdamW) | sgd
    optimizer: str = "adamw"
    #: peak learning rate
    learning_rate: float = 1e-3
    #: learning rate at the end of the schedule
    final_learning_rate: float = 1e-5
    #: cosine (from the peak down to the end) | constant
    schedule: str = "cosine"
    #: steps of linear rise to the peak
    warmup_steps: int = 300
    #: decay of weight matrices per step, times the learning rate; biases and norms are left alone
    weight_decay: float = 0.01
    #: AdamW, and Muon for what it leaves to AdamW: decay of the first and second moments
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    #: SGD and Muon: momentum (the authors of Muon take 0.95)
    momentum: float = 0.9
    #: largest norm of the gradient of the mean loss per utterance (0 = no clipping)
    clip: float = 5.0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UsageError(f"optim.optimizer must be one of {', '.join(OPTIMIZERS)}, got '{self.optimizer}'")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"optim.schedule must be one of {', '.join(SCHEDULES)}, got '{self.schedule}'")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"optim.learning_rate must be above 0, got {self.learning_rate}")
        for name in ("final_learning_rate", "warmup_steps", "weight_decay", "momentum", "clip"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"optim.{name} must not be negative, got {getattr(self, name)}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"optim.betas must be two numbers in [0, 1), got {self.betas}")


def learning_rate(step: int, progress: float, options: OptimOptions) -> float:
    """Rate of step `step` (0-based), when the fraction `progress` (0..1) of all epochs is behind it."""
    peak = options.learning_rate
    rate = peak
    if options.schedule == "cosine":
        low = min(options.final_learning_rate, peak)
        rate = low + (peak - low) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return rate * min(1.0, (step + 1) / max(1, options.warmup_steps))


def hidden_matrices(model: nn.Module) -> list[tuple[nn.Parameter, int]]:
    """The trained matrices from layer to layer and from step to step, without those that write or read symbols, and the number
    of gates that stand one above the other in each."""
    symbols = {
        id(part) for module in model.modules() if isinstance(module, (CtcHead, SelfConditioning)) for part in module.modules()
    }
    found: list[tuple[nn.Parameter, int]] = []
    for module in model.modules():
        if isinstance(module, Cell):
            gates = len(module.options.gates)
            found += [(module.weight_in, gates), (module.weight_rec, gates)]
            found += [] if module.weight_proj is None else [(module.weight_proj, 1)]
        elif isinstance(module, (nn.Linear, nn.Conv2d)) and id(module) not in symbols:
            found.append((module.weight, 1))
    return [(weight, gates) for weight, gates in found if weight.requires_grad]


def build_optimizer(
    model: nn.Module, options: OptimOptions, *, ranks: Ranks | None = None, dtype: torch.dtype = torch.float32
) -> torch.optim.Optimizer:
    """The chosen optimiser over the trained weights of `model`; only tensors of two or more axes decay.

    ranks, dtype: for `Muon`.
    """
    hidden = hidden_matrices(model) if options.optimizer == "muon" else []
    apart = {id(weight) for weight, _ in hidden}
    trained = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in apart]
    groups = [
        {"params": [weight for weight in trained if weight.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [weight for weight in trained if weight.ndim < 2], "weight_decay": 0.0},
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum)
    adam = {"lr": options.learning_rate, "betas": tuple(options.betas), "eps": 1e-8, "fused": True}
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, **adam)
    return Muon(hidden, groups, momentum=options.momentum, weight_decay=options.weight_decay, ranks=ranks, dtype=dtype, **adam)


class RunningAverage:
    """Exponential average of the weights; its memory grows with the steps at first, so early averages are not stale."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self._live = list(model.parameters())
        self._mean = [weight.detach().clone() for weight in self._live]
        self._names = [name for name, _ in model.named_parameters()]

    def after_step(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self._mean, self._live, 1 - decay)

    def after_epoch(self) -> None:
        pass

    def weights(self) -> dict[str, Tensor]:
        return dict(zip(self._names, self._mean))

    def state(self) -> dict[str, Tensor]:
        return self.weights()

    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, mean in zip(self._names, self._mean):
            mean.copy_(state[name])


class LastAverage:
    """Mean of the weights at the ends of the last `count` epochs."""

    def __init__(self, model: nn.Module, count: int):
        self._model = model
        self._kept: deque[dict[str, Tensor]] = deque(maxlen=count)

    def after_step(self, step: int) -> None:
        pass

    def after_epoch(self) -> None:
        self._kept.append({name: weight.detach().clone() for name, weight in self._model.named_parameters()})

    def weights(self) -> dict[str, Tensor]:
        if not self._kept:
            return {name: weight.detach().clone() for name, weight in self._model.named_parameters()}
        return {name: torch.stack([kept[name] for kept in self._kept]).mean(0) for name in self._kept[0]}

    def state(self) -> dict[str, Tensor]:
        return {f"{place}/{name}": weight for place, kept in enumerate(self._kept) for name, weight in kept.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._kept.clear()
        live = dict(self._model.named_parameters())
        for place in range(len(state) // max(1, len(live))):
            self._kept.append({name: state[f"{place}/{name}"].to(weight.device) for name, weight in live.items()})


class NoAverage:
    """The live weights themselves."""

    def __init__(self, model: nn.Module):
        self._model = model

    def after_step(self, step: int) -> None:
        pass

    def after_epoch(self) -> None:
        pass

    def weights(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self._model.named_parameters()}

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        pass


WeightAverage = RunningAverage | LastAverage | NoAverage
