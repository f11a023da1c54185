"""Synchronous data parallel: every process trains on its share of each batch, and all take the same step.

Started by torchrun (or anything that sets RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), one process a device:

    torchrun --nproc-per-node 2 my_training.py

gloo carries the gradients on CPU, NCCL on GPU. Every process fits the whole model on the same data and returns the
same weights; only the loop over batches is shared, and only rank 0 writes files.
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; one alone is rank 0 of 1."""

    rank: int = 0
    size: int = 1

    @property
    def alone(self) -> bool:
        """Nothing is exchanged."""
        return self.size == 1

    def share(self, group: list[T]) -> list[T]:
        """Every `size`-th of a batch; empty for the last ranks of a batch that is too small."""
        return group[self.rank :: self.size]

    def wrapped(self, body: nn.Module) -> nn.Module:
        """The body whose backward pass averages gradients over the processes."""
        return body if self.alone else nn.parallel.DistributedDataParallel(body)

    def summed(self, value: Tensor) -> Tensor:
        """The sum over the processes, without gradient."""
        if self.alone:
            return value.detach()
        total = value.detach().clone()
        dist.all_reduce(total)
        return total

    def gathered(self, value: T) -> list[T]:
        """The value of every process, by rank."""
        if self.alone:
            return [value]
        found: list[T] = [value] * self.size
        dist.all_gather_object(found, value)
        return found


def pick_device(name: str) -> torch.device:
    """The device of a name; "auto" is CUDA when present.

    Raises:
        ValueError: CUDA is asked for and not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f'device "{name}" is asked for, but this torch sees no GPU; use "auto" or "cpu"')
    return torch.device(name)


def join(distributed: bool, device: torch.device) -> Ranks:
    """This process among its fellows; joins them if nobody has.

    Raises:
        ValueError: data parallel is asked for outside of torchrun.
    """
    if not distributed:
        return Ranks()
    if not dist.is_initialized():
        missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise ValueError(
                f"distributed training needs {', '.join(missing)} in the environment; start it with torchrun"
            )
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(_leave)
    return Ranks(dist.get_rank(), dist.get_world_size())


def _leave() -> None:
    """The threads of a group that nobody ended abort a process that is about to exit."""
    if dist.is_initialized():
        dist.destroy_process_group()
