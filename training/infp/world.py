"""The processes that train together: one, those of `torchrun`, or those of Ray Train."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn

from dyconv.errors import ResourceError, UsageError

_PATIENCE = timedelta(hours=1)  # others wait as long while one of them validates or writes


@dataclass(frozen=True)
class World:
    """
    Attributes:
        rank, size: of this process, and how many there are.
        device: that it computes on.
        group: for numbers on the CPU; None for that of all processes.
        started: by `join`, rather than by Ray Train.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    group: Any = None
    started: bool = False

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """Sums over all processes. All of them have to call this."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(numbers, group=self.group)
        return numbers.tolist()

    def shares(self, counts: Iterable[float], parts: int) -> list[float]:
        """Counts of all processes' rows together, divided by the equal parts that these are computed in."""
        return [max(count, 1.0) / parts for count in self.total(*counts)]

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module so that its gradients are the mean over all processes."""
        if self.size == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        # Buffers are the same everywhere: they are constants, or follow from the weights.
        return DistributedDataParallel(module, broadcast_buffers=False)

    def wait(self) -> None:
        """Until all are here."""
        self.total(0.0)

    def close(self) -> None:
        """Leave what `join` started."""
        if self.started:
            distributed.destroy_process_group()


def device_of(asked: str) -> torch.device:
    """The device of "auto", "cpu" or "cuda"; with several processes each takes its own GPU.

    Raises:
        UsageError: for another name.
        ResourceError: where CUDA is asked for and not there.
    """
    if asked not in ("auto", "cpu", "cuda"):
        raise UsageError(f"expected the device auto, cpu or cuda, found {asked!r}")
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise ResourceError(
            "expected a GPU, found none that PyTorch can use", hint="train with --device cpu, or see nvidia-smi"
        )
    if asked == "cpu" or not there:
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def join(device: str = "auto") -> World:
    """The processes this one belongs to: of a process group that is there (Ray Train), of `torchrun`, or itself alone."""
    place = device_of(device)
    there = distributed.is_available() and distributed.is_initialized()
    if not there and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World(device=place)
    if not there:
        distributed.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=_PATIENCE)
    group = None if distributed.get_backend() == "gloo" else distributed.new_group(backend="gloo", timeout=_PATIENCE)
    return World(distributed.get_rank(), distributed.get_world_size(), place, group, started=not there)
