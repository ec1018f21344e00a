"""Which stages share workers on a cluster, and how many workers there are: as the backends do it."""

from __future__ import annotations

from dataclasses import replace

from dyconv.plan.cluster import Cluster
from dyconv.pools import Pool, make_pools
from dyconv.recipe import Recipe
from dyconv.resources import check_resources
from dyconv.stages.base import Resources
from dyconv.task import Plan, Step


def pools_of(recipe: Recipe, cluster: Cluster, workers: int | None = None) -> list[Pool]:
    """The pools of a run on this cluster.

    Args:
        workers: of each pool, if not as many as fit; on this machine (`local`) of all together, one if not given.

    Raises:
        ResourceError: if a stage's worker fits on no machine.
    """
    machines = cluster.machines
    check_resources(recipe, machines)
    plan = Plan(tuple(Step(stage, (), 0, recipe.limit(stage)) for stage in recipe.stages), "")
    if cluster.local:
        most = Resources(
            *(max(getattr(recipe.asks(stage), name) for stage in recipe.stages) for name in ("cpus", "gpus", "memory"))
        )
        pools = [Pool(frozenset(range(len(recipe.stages))), most, most, workers or 1)]
    else:
        pools = make_pools(plan, recipe, machines, workers)
    return [replace(pool, most=max(1, pool.most)) for pool in pools]
