"""How a recipe's stages share the workers of a cluster: which of them go together, and how many workers there may be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace

from dyconv.recipe import Recipe
from dyconv.resources import Machine
from dyconv.stages.base import Resources
from dyconv.task import Plan

_SHARE = 0.95  # of the CPUs of a node that is too small: what the workers on it may take together
_LIGHT = 0.5  # CPUs below which a stage mostly waits for others
_LIGHT_SHARE = 0.1  # of the CPUs: what workers of such stages may take of a large cluster
_ROOMY = 16  # CPUs of a cluster that is large in that sense


@dataclass(frozen=True)
class Pool:
    """The steps that one kind of worker does, what one needs, what Ray is told that it needs, and how many there may be."""

    steps: frozenset[int]
    needs: Resources
    asks: Resources
    most: int = 1


def make_pools(plan: Plan, recipe: Recipe, nodes: list[Machine], workers: int | None = None) -> list[Pool]:
    """Who does what: stages without a GPU share workers, and so do those that ask for the same part of one.

    One worker of every pool fits into the cluster at the same time, so that no pool waits for another to end. On a
    cluster too small for that, stages on GPUs share workers, and workers share cores.

    Args:
        workers: how many in a pool, also if more than fit by now: an autoscaler sees them waiting.
    """
    asks = [recipe.asks(step.stage) for step in plan.steps]
    needs = _needs(asks, {ask.gpus for ask in asks}, sum(node.cpus for node in nodes) >= _ROOMY)
    if not _fit_together([need for _, need in needs], nodes):
        needs = _needs(asks, {0.0, max(ask.gpus for ask in asks)}, False)
    pools = [Pool(steps, need, need) for steps, need in needs]
    if not _fit_together([need for _, need in needs], nodes):
        smallest = min((node.cpus for node in nodes if node.cpus), default=0.0)
        cpus = int(1000 * _SHARE * smallest / len(needs)) / 1000  # in what Ray counts in
        pools = [replace(pool, asks=Resources(cpus, pool.needs.gpus)) for pool in pools]
    return count_workers(pools, nodes, workers)


def count_workers(pools: list[Pool], nodes: list[Machine], workers: int | None = None) -> list[Pool]:
    """The same pools with as many workers as these nodes hold, at least one each. GPUs are shared evenly among pools.

    Those on GPUs come first and the others take what they leave.
    """
    if workers is not None:
        return [replace(pool, most=workers) for pool in pools]
    cpus = sum(node.cpus for node in nodes) - sum(pool.needs.cpus for pool in pools)  # what is left beside one of each
    gpus = sum(node.gpus for node in nodes) - sum(pool.needs.gpus for pool in pools)
    on_gpus = sum(pool.needs.gpus > 0 for pool in pools)
    counted = []
    for index, pool in enumerate(pools):
        need = pool.needs
        bounds = [float(_fitting(need, nodes) - 1), cpus / need.cpus if need.cpus else 64.0]
        bounds += [gpus / (on_gpus - index) / need.gpus] if need.gpus else []
        bounds += [_LIGHT_SHARE * cpus / need.cpus] if 0 < need.cpus < _LIGHT and len(pools) > on_gpus + 1 else []
        more = int(max(0.0, min(bounds)))
        cpus, gpus = cpus - more * need.cpus, gpus - more * need.gpus
        counted.append(replace(pool, most=1 + more))
    return counted


def _needs(asks: list[Resources], gpus: set[float], apart: bool) -> list[tuple[frozenset[int], Resources]]:
    """The steps of each kind of worker, and the most that any of them asks for; by GPUs, the largest first.

    Args:
        asks: of each step.
        gpus: the amounts that make a kind of their own.
        apart: those that mostly wait for others (a download) are a kind of their own, too.
    """
    groups: dict[tuple[float, bool], dict[int, Resources]] = {}
    for index, ask in enumerate(asks):
        light = apart and not ask.gpus and ask.cpus < _LIGHT
        groups.setdefault((min(kind for kind in gpus if kind >= ask.gpus), light), {})[index] = ask
    found = []
    for _, group in sorted(groups.items(), reverse=True):
        columns = zip(*(astuple(ask) for ask in group.values()), strict=True)
        found.append((frozenset(group), Resources(*(max(column) for column in columns))))
    return found


def _fit_together(needs: list[Resources], nodes: list[Machine]) -> bool:
    """Whether the nodes hold one of each at the same time, each put where it fits first."""
    room = list(nodes)
    for need in needs:
        for index, node in enumerate(room):
            if need.cpus <= node.cpus and need.gpus <= node.gpus and need.memory <= node.memory:
                room[index] = Machine(node.name, node.cpus - need.cpus, node.gpus - need.gpus, node.memory - need.memory)
                break
        else:
            return False
    return True


def _fitting(need: Resources, nodes: Iterable[Machine]) -> int:
    """How many workers fit if they had all nodes to themselves."""
    total = 0
    for node in nodes:
        bounds = [node.cpus / need.cpus if need.cpus else 64.0]
        bounds += [node.gpus / need.gpus] if need.gpus else []
        bounds += [node.memory / need.memory] if need.memory else []
        total += int(min(bounds))
    return total
