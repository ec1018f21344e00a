"""What a piece of work costs in seconds."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, order=True)
class Cost:
    """Seconds on the clock, and of all processors together."""

    wall: float
    cpu: float


@contextmanager
def spent(costs: list[Cost]) -> Iterator[None]:
    """Append what the block costs: this process and the children that ended in it."""
    wall, cpu = time.perf_counter(), _cpu()
    yield
    costs.append(Cost(time.perf_counter() - wall, _cpu() - cpu))


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def middle(costs: list[Cost]) -> Cost:
    """The median of both."""
    return Cost(median(cost.wall for cost in costs), median(cost.cpu for cost in costs))
