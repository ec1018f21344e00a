"""What stages ask for against what there is, before anything starts: what can never be met is an error, not a wait."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from dyconv.errors import ResourceError
from dyconv.recipe import Recipe

_UNBOUND = 1 << 62


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
    return Machine("this machine", float(cpus), float(gpus), min(psutil.virtual_memory().total, _cgroup("memory.max")))


def memory_left() -> int:
    """Bytes that can still be used before something is killed: the machine's, or what its container has left."""
    left = psutil.virtual_memory().available
    bound = _cgroup("memory.max")
    return int(left if bound == _UNBOUND else min(left, bound - _cgroup("memory.current") + _reclaimable()))


def _cgroup(name: str) -> int:
    """A number of this container's control group (version 2). Without one, or without a bound, a very large one."""
    try:
        text = Path(f"/sys/fs/cgroup/{name}").read_text().strip()
    except OSError:
        return _UNBOUND
    return int(text) if text.isdigit() else _UNBOUND


def _reclaimable() -> int:
    """Bytes of files that the kernel drops when memory is asked for."""
    try:
        lines = Path("/sys/fs/cgroup/memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


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
