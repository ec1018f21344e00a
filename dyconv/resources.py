"""What stages ask for against what there is, before anything starts: what can never be met is an error, not a wait."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dyconv.errors import ResourceError
from dyconv.recipe import Recipe


@dataclass(frozen=True)
class Machine:
    """One node that workers can run on. Memory in bytes."""

    name: str
    cpus: float
    gpus: float
    memory: int


def this_machine() -> Machine:
    """What this process may use. GPUs are counted by their device files, so that nothing heavy is imported."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = sum(1 for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit())
    return Machine("this machine", float(cpus), float(gpus), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def check_resources(recipe: Recipe, machines: Machine | Iterable[Machine]) -> None:
    """Raise unless each stage's worker fits on at least one node.

    Raises:
        ResourceError: naming the stage, what it asks for, the most any node has, and what to change.
    """
    nodes = [machines] if isinstance(machines, Machine) else list(machines)
    if not nodes:
        raise ResourceError("the cluster has no node that is alive", hint="start one with `ray start --head`")
    for stage in recipe.stages:
        asks = recipe.asks(stage)
        if any(asks.cpus <= node.cpus and asks.gpus <= node.gpus and asks.memory <= node.memory for node in nodes):
            continue
        best = max(nodes, key=lambda node: (asks.gpus <= node.gpus, asks.cpus <= node.cpus, node.memory))
        raise ResourceError(
            f"stage {stage.name} asks for {_amounts(asks.cpus, asks.gpus, asks.memory)} a worker; "
            f"the nearest to it, {best.name}, has {_amounts(best.cpus, best.gpus, best.memory)}",
            hint=f'lower it in the recipe: resources={{"{stage.name}": Resources(cpus=..., gpus=...)}}, or use a larger node',
        )


def _amounts(cpus: float, gpus: float, memory: int) -> str:
    return f"{cpus:g} CPUs, {gpus:g} GPUs, {memory / 2**30:.1f} GiB"
