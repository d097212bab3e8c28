"""Training in several processes, as `torchrun` starts them: each takes other batches, one step is made of what all have found.

The batches of an epoch are dealt in turn: with W processes, step s takes the batches sW to sW + W - 1, one for each process. The
number of steps is therefore the same in all of them, whatever the number of batches (Goyal et al. 2017 call the batch of all
processes the minibatch; here, too, the loss is its mean over all utterances). Process 0 validates and writes.
"""

import os
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import NoReturn

import torch
from torch import Tensor, nn

from asr.errors import AsrError, ResourceError, UsageError


@dataclass(frozen=True)
class Share:
    """What one process does in one step."""

    #: indices of its utterances
    batch: list[int]
    #: utterances of all processes in this step
    utterances: int
    #: False where there were fewer batches left than processes: the batch is another's, computed but not counted
    counts: bool = True


class OtherFailed(Exception):
    """Another process has ended the training and says why; `code` is its exit code."""

    def __init__(self, code: int):
        super().__init__(f"another process ended with exit code {code}")
        self.code = code


class Ranks:
    """The processes of one training; without `torchrun` there is one, and nothing is sent."""

    def __init__(self, rank: int = 0, world: int = 1, local_rank: int = 0):
        self.rank, self.world, self.local_rank = rank, world, local_rank
        self.first = rank == 0
        #: where the numbers of this process are; None before `join`
        self.device: torch.device | None = None

    @classmethod
    def of_environment(cls) -> "Ranks":
        """As the variables RANK, WORLD_SIZE and LOCAL_RANK of `torchrun` say. Raises UsageError where they make no sense."""
        try:
            rank, world, local = (int(os.environ.get(name, default)) for name, default in VARIABLES.items())
        except ValueError:
            rank = world = local = -1
        if not (0 <= rank < world and 0 <= local <= rank):
            told = ", ".join(f"{name}={os.environ.get(name, '')}" for name in VARIABLES)
            raise UsageError(f"{told} is not what torchrun sets: start the processes by torchrun, or unset the three variables")
        return cls(rank, world, local)

    def join(self, device: torch.device, *, minutes: float) -> None:
        """Meet the other processes, each on a device of its own; one that is not heard of for so many minutes counts as lost.

        Raises UsageError for more processes than GPUs, ResourceError where the others are not met.
        """
        self.device = device
        if self.world == 1:
            return
        if device.type == "cuda":
            gpus = torch.cuda.device_count()
            if self.local_rank >= gpus:
                raise UsageError(
                    f"{self.local_rank + 1} or more processes on a machine with {gpus} GPU(s): use --nproc-per-node {gpus}, or "
                    "device=cpu"
                )
            self.device = torch.device("cuda", self.local_rank)
            torch.cuda.set_device(self.device)
        # DistributedDataParallel imports it. Its functions take the group there is at that moment for a default, and keep it.
        import_module("torch.distributed.nn")
        try:
            torch.distributed.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                rank=self.rank,
                world_size=self.world,
                timeout=timedelta(minutes=minutes),
            )
        except (RuntimeError, ValueError) as fault:
            raise ResourceError(f"process {self.rank} of {self.world} cannot meet the others: {_short(fault)}") from None

    def leave(self) -> None:
        """End the group and its threads: an interpreter that ends while they run may abort, and its exit code is lost.

        They end with the last reference to the group; the model that `wrap` gave holds one and must be gone before.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def shares(self, order: Sequence[list[int]]) -> list[Share]:
        """The share of this process in each step over the batches of `order`; as many in every process."""
        shares = []
        for start in range(0, len(order), self.world):
            group = order[start : start + self.world]
            counts = self.rank < len(group)
            shares.append(Share(group[self.rank if counts else 0], sum(map(len, group)), counts))
        return shares

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose backward pass leaves the mean over the processes in the gradients, the weights those of process 0."""
        if self.world == 1:
            return model
        return nn.parallel.DistributedDataParallel(model)

    def total(self, numbers: Iterable[float]) -> list[float]:
        """The sums over all processes of a few numbers."""
        values = list(numbers)
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        self._careful(lambda: torch.distributed.all_reduce(tensor))
        return tensor.tolist()

    def of_first(self, number: int) -> int:
        """The number that process 0 gives."""
        return int(self.total([number if self.first else 0])[0])

    def spread(self, tensor: Tensor, owner: int) -> None:
        """Fill the tensor, in place, with that of one process."""
        if self.world > 1:
            self._careful(lambda: torch.distributed.broadcast(tensor, owner))

    def gathered(self, numbers: Sequence[int], most: int) -> list[int]:
        """Up to `most` numbers, none below 0, from each process, in the order of the processes."""
        if self.world == 1:
            return list(numbers[:most])
        table = torch.full((self.world, most), -1.0, dtype=torch.float64, device=self.device)
        row: Tensor = table[self.rank]
        row[: len(numbers[:most])] = torch.tensor(numbers[:most], dtype=torch.float64, device=self.device)
        parts = [torch.empty_like(row) for _ in range(self.world)]
        self._careful(lambda: torch.distributed.all_gather(parts, row.contiguous()))
        return [int(number) for part in parts for number in part.tolist() if number >= 0]

    def together(self, work: Callable[[], None]) -> None:
        """Do the work in every process. Where it fails in one, all end: the first of them with its own fault, the others with
        OtherFailed, so that a user reads one sentence and not one for each process.
        """
        fault: AsrError | None = None
        try:
            work()
        except AsrError as caught:
            if self.world == 1:
                raise
            fault = caught
        codes = self.gathered([fault.exit_code if fault else 0], 1)
        failed = [rank for rank, code in enumerate(codes) if code]
        if not failed:
            return
        if fault is not None and self.rank == failed[0]:
            raise fault
        self._leave_word_to_other(codes[failed[0]])

    def fail(self, fault: AsrError) -> NoReturn:
        """End the training in all processes, which have met the same fault."""
        if self.first:
            raise fault
        self._leave_word_to_other(fault.exit_code)

    def _leave_word_to_other(self, code: int) -> NoReturn:
        time.sleep(1.0)  # torchrun stops the rest when one process ends: the one that speaks must have spoken
        raise OtherFailed(code)

    def _careful(self, send: Callable[[], object]) -> None:
        try:
            send()
        except RuntimeError as fault:
            raise self.lost(fault) from None

    def lost(self, fault: Exception) -> ResourceError:
        return ResourceError(
            f"process {self.rank} of {self.world} has lost another one, which ended or was not heard of in time: "
            f"{_short(fault)}; the same command goes on from the last checkpoint"
        )

    def is_loss(self, fault: Exception) -> bool:
        """Whether a step failed because another process is gone."""
        return self.world > 1 and (
            isinstance(fault, torch.distributed.DistError) or any(word in str(fault) for word in ("gloo", "NCCL", "Connection"))
        )


#: The variables of torchrun, and what they are without it.
VARIABLES = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}


def forget_frames(fault: BaseException) -> None:
    """Let go what is held by the functions that a fault, and those it came from, went through: among it the model of `wrap`.

    A traceback still names their lines.
    """
    chain: BaseException | None = fault
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__


def _short(fault: Exception) -> str:
    """The first line of what a library says."""
    return (str(fault).strip() or type(fault).__name__).splitlines()[0][:200]
