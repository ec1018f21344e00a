"""How long a pool of workers takes for sources of given lengths: the driver's own order, played through."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_PLAYED = 200_000  # tasks; of more, the sum decides and the end hardly matters


def makespan(first: Floats, pieces: Ints, each: Floats, workers: int) -> float:
    """Seconds until all is done, as the scheduler hands it out: sources in order, their pieces first.

    List scheduling: never longer than `work / workers + (1 - 1 / workers) * longest chain` (Graham 1969).

    Args:
        first: of each source, seconds before it is cut.
        pieces: how many it is cut into; 0 is none.
        each: seconds of each of its pieces.
        workers: that work at the same time, at least 1.
    """
    tasks = int((1 + pieces).sum())
    if tasks > _PLAYED:
        work = float((first + pieces * each).sum())
        longest = float((first + each).max())
        return max(work / workers + (1 - 1 / workers) * work / tasks, longest)
    waiting: list[float] = []  # pieces that can begin
    running: list[tuple[float, int, int, float]] = []  # when it ends, number, pieces that follow, seconds of each
    following = iter(enumerate(zip(first.tolist(), pieces.tolist(), each.tolist(), strict=True)))
    now = 0.0
    while True:
        while len(running) < workers:
            if waiting:
                heapq.heappush(running, (now + waiting.pop(), -1, 0, 0.0))
            elif (item := next(following, None)) is not None:
                number, (own, count, of_each) = item
                heapq.heappush(running, (now + own, number, count, of_each))
            else:
                break
        if not running:
            return now
        now, _, count, of_each = heapq.heappop(running)
        waiting += [of_each] * count
