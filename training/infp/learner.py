"""What both stages have in common: a network, its running mean, an optimiser, and a step."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from dyconv.errors import UsageError
from training.infp.runs import Run, TrainConfig
from training.infp.world import World


class Learner(ABC):
    """A stage's network as it learns.

    Attributes:
        model: what is trained.
        mean: running mean of its weights, in evaluation mode: what samples, measures and files are made of.
    """

    model: nn.Module
    mean: nn.Module
    optimiser: torch.optim.Optimizer

    def __init__(self, run: Run, world: World) -> None:
        """
        Raises:
            UsageError: where a batch cannot be dealt in equal parts.
        """
        self.run, self.world = run, world
        parts = world.size * run.train.accumulate
        if run.train.batch % parts:
            raise UsageError(
                f"a batch of {run.train.batch} cannot be dealt to {world.size} processes x {run.train.accumulate} pieces",
                hint=f"choose a batch that is a multiple of {parts}",
            )
        torch.manual_seed(run.train.seed)  # the same weights to begin with in every process

    def begin(self, model: nn.Module, others: Sequence[nn.Module] = ()) -> None:
        """Take a network, and what learns beside it and is not kept."""
        train = self.run.train
        self.model = model.to(self.world.device).train()
        self.mean = copy.deepcopy(self.model).eval().requires_grad_(False)
        weights = [value for module in (self.model, *others) for value in module.parameters() if value.requires_grad]
        self.optimiser = torch.optim.AdamW(weights, train.rate, betas=train.betas, weight_decay=train.decay)

    @abstractmethod
    def terms(self, batch: Any, position: int) -> dict[str, Tensor]:
        """Take a step on this process's rows of global batch `position`; the terms of the loss, detached."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Tensors and plain values to go on from."""

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""

    @abstractmethod
    def save(self, out: Path) -> list[Path]:
        """Write the weights for use."""

    def step(self, batch: Any, position: int) -> dict[str, Tensor]:
        """`terms`, after all chance has been made a matter of seed, position and rank."""
        torch.manual_seed(mixed(self.run.train.seed, position, self.world.rank))
        return self.terms(batch, position)

    def descend(self, optimiser: torch.optim.Optimizer, rate: float) -> Tensor:
        """A step of an optimiser with the gradients as they are; their norm before clipping."""
        weights = [value for group in optimiser.param_groups for value in group["params"] if value.grad is not None]
        norm = clip_grad_norm_(weights, self.run.train.clip)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def follow(self, position: int) -> None:
        """Let the running mean follow; at first faster, so that it does not remember how the weights began."""
        decay = min(self.run.train.ema, (1 + position) / (10 + position))
        for ours, theirs in zip(self.mean.parameters(), self.model.parameters(), strict=True):
            ours.lerp_(theirs, 1 - decay)
        for kept, current in zip(self.mean.buffers(), self.model.buffers(), strict=True):
            kept.copy_(current)

    def autocast(self) -> AbstractContextManager[Any]:
        """As the run's precision says."""
        if self.run.train.precision == "float32":
            return nullcontext()
        return torch.autocast(self.world.device.type, torch.bfloat16)

    def pieces(self, batch: Any) -> Iterator[tuple[Any, int]]:
        """Equal parts of this process's rows, each with its first row in the global batch."""
        train = self.run.train
        rows = train.batch // self.world.size
        size = rows // train.accumulate
        for start in range(0, rows, size):
            yield rows_of(batch, start, start + size), self.world.rank * rows + start

    def alone(self, wrapped: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Gradients are shared between processes once a step, with the last piece."""
        from torch.nn.parallel import DistributedDataParallel

        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) and not last else nullcontext()


def rate_at(train: TrainConfig, position: int, peak: float) -> float:
    """Rate of learning at a step: a rise over `warmup` steps, `peak`, a fall to 0 over the last `cooldown` steps."""
    rising = min(1.0, (position + 1) / train.warmup) if train.warmup else 1.0
    falling = min(1.0, (train.steps - position) / train.cooldown) if train.cooldown else 1.0
    return peak * rising * max(0.0, falling)


def mixed(*values: int) -> int:
    """A seed made of several numbers, so that neighbours have nothing in common."""
    import numpy as np

    return int(np.random.SeedSequence(values).generate_state(1, np.uint64)[0] >> 1)


def check_sizes(found: Any, wanted: Any, files: Sequence[str]) -> None:
    """
    Raises:
        UsageError: where weights to begin with are of another config than the run's.
    """
    if found != wanted:
        other = [one.name for one in fields(wanted) if getattr(found, one.name) != getattr(wanted, one.name)]
        raise UsageError(
            f"{' and '.join(files)}: weights of another config, in {', '.join(other)}",
            hint='say the sizes of the weights in a config: {"preset": ..., "model": {...}}',
        )


def rows_of(batch: Any, start: int, stop: int) -> Any:
    """Rows of a batch: of a dataclass or named tuple of tensors."""
    return _each(batch, lambda value: value[start:stop])


def on(batch: Any, device: torch.device) -> Any:
    """A batch on a device."""
    return _each(batch, lambda value: value.to(device, non_blocking=True))


def _each(batch: Any, call: Callable[[Tensor], Tensor]) -> Any:
    if is_dataclass(batch) and not isinstance(batch, type):
        return type(batch)(**{one.name: call(getattr(batch, one.name)) for one in fields(batch)})
    return type(batch)(*(call(value) for value in batch))
