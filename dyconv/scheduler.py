"""Who does what next: the driver's side of a run, the same for processes of one machine and actors of a cluster.

Tasks wait in one queue for each kind of worker: what is nearest to its end goes first, then what came first. A new source
is begun when nothing else waits, so that sources are finished one after the other and what waits stays bounded. A worker
that is lost costs its task the stage it was in, nothing more.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from dyconv.errors import DyconvError, Stalled
from dyconv.ledger import Event
from dyconv.task import Death, Kind, Notice, Report, Task

_TICK_S = 1.0
_AHEAD = 4  # tasks waiting for each worker of a pool, above which no new source is begun
_TELL_STALLED_S = 30.0
_DOOMED = 5  # losses in a row, for each worker, without a word of any: the cluster cannot hold them


class Hand(Protocol):
    """A worker as the scheduler sees it, given one task at a time."""

    name: str
    pool: int

    def give(self, task: Task) -> None: ...


class Crew(Protocol):
    """The workers of a backend. `pool_of` says which kind of worker does a step."""

    @property
    def pools(self) -> int: ...

    def pool_of(self, step: int) -> int: ...

    def hands(self, waiting: Sequence[int]) -> Sequence[Hand]:
        """The workers there are, by now; it may make more. `waiting`: tasks without a worker, by pool."""

    def reports(self, timeout: float) -> Iterable[tuple[Hand, Report | Death | Notice]]:
        """What workers tell of their tasks within so many seconds. A `Death` is that of the hand itself, which is gone."""

    def close(self) -> None: ...

    def told(self) -> str:
        """What there is to work with, for an error."""


@dataclass
class Scheduler:
    """Brings tasks and workers together until nothing is left to do.

    Args:
        crew: the workers.
        patience: seconds without any worker at work, while there is work, after which the run is given up.
    """

    crew: Crew
    patience: float
    _queues: list[list[tuple[int, int, Task]]] = field(default_factory=list)  # heaps
    _number: count = field(default_factory=count)
    _held: dict[int, tuple[Hand, Task]] = field(default_factory=dict)  # by id of the hand
    _left: int = 0  # sources not yet begun
    _lost: int = 0  # in a row

    def run(self, tasks: Iterable[Task], total: int) -> Iterator[Event | Notice | None]:
        """Everything that happens, as it happens; None about once a second when nothing does.

        Args:
            tasks: the sources to begin with, `total` of them.

        Raises:
            Stalled: there is work, and for too long there was no worker for it.
            DyconvError: what a worker said stops the run.
        """
        source = iter(tasks)
        self._queues = [[] for _ in range(self.crew.pools)]
        self._left = total
        idle_since = told_at = time.monotonic()
        while self._left or self._held or any(self._queues):
            waiting = [len(queue) for queue in self._queues]
            waiting[self.crew.pool_of(0)] += self._left
            hands = self.crew.hands(waiting)
            self._hand_out(hands, source)
            came = False
            for hand, report in self.crew.reports(_TICK_S):
                came = True
                yield from self._take(hand, report, len(hands))
            now = time.monotonic()
            if came or self._held:
                idle_since = told_at = now
            elif now - told_at > _TELL_STALLED_S:
                told_at = now
                yield Notice(Kind.STALLED, detail=self._standstill(), seconds=now - idle_since)
            if now - idle_since > self.patience:
                raise Stalled(
                    f"nothing could be given to a worker for {now - idle_since:.0f} s: {self._standstill()}",
                    hint="what is finished stays; see what holds the nodes (`ray status`), then run the same command again",
                )
            if not came:
                yield None

    def _standstill(self) -> str:
        first = [task for queue in self._queues for _, _, task in queue[:3]]
        waiting = ", ".join(f"{task.clip.id} before step {task.step}" for task in first)
        waiting += f" and {self._left} sources" if self._left else ""
        return f"there wait {waiting}; there are {self.crew.told()}"

    def _hand_out(self, hands: Sequence[Hand], source: Iterator[Task]) -> None:
        """Give every free worker something."""
        first = self.crew.pool_of(0)
        for hand in hands:
            if id(hand) in self._held:
                continue
            queue = self._queues[hand.pool]
            if not queue and hand.pool == first and self._left and self._room(hands):
                self._wait(next(source))
                self._left -= 1
            if queue:
                *_, task = heappop(queue)
                self._held[id(hand)] = (hand, task)
                hand.give(task)

    def _room(self, hands: Sequence[Hand]) -> bool:
        workers = Counter(hand.pool for hand in hands)
        return all(len(queue) <= _AHEAD * (1 + workers[pool]) for pool, queue in enumerate(self._queues))

    def _wait(self, task: Task) -> None:
        heappush(self._queues[self.crew.pool_of(task.step)], (-task.step, next(self._number), task))

    def _take(self, hand: Hand, report: Report | Death | Notice, hands: int) -> Iterator[Event | Notice]:
        if isinstance(report, Notice):
            yield report
            return
        if isinstance(report, Death):
            yield from self._bury(hand, report, hands)
            return
        self._lost = 0
        if report.error is not None:
            raise report.error
        yield from (item for item in report.items if not isinstance(item, Task))
        for task in (item for item in report.items if isinstance(item, Task)):
            self._wait(task)
        if report.rest is not None:
            self._held[id(hand)] = (hand, report.rest)
        else:
            self._held.pop(id(hand), None)

    def _bury(self, hand: Hand, death: Death, hands: int) -> Iterator[Notice]:
        self._lost += 1
        _, task = self._held.pop(id(hand), (hand, None))
        yield Notice(
            death.kind,
            worker=hand.name,
            clip=task.clip.id if task else None,
            source=task.clip.source.id if task else None,
            detail=death.detail,
        )
        if self._lost > _DOOMED * (hands + 1):
            raise DyconvError(
                f"workers are lost one after the other before they do anything: {death.detail}",
                hint="see the logs of Ray's workers on that node; run `dyconv doctor` there",
            )
        if task is not None:
            self._wait(replace(task, deaths=(*task.deaths, death)))
