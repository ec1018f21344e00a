"""The local backend: tasks in this process, or in a few others that may die without harm."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection

from dyconv.child import Job
from dyconv.ledger import Event
from dyconv.recipe import Recipe
from dyconv.resources import check_resources, this_machine
from dyconv.scheduler import Scheduler
from dyconv.supervise import Supervisor
from dyconv.task import Notice, Report, Task

USABLE = 0.9  # of a machine's memory: what its workers may take together


@dataclass(frozen=True)
class LocalBackend:
    """Runs tasks on this machine with `workers` processes (None: one; 0: none, everything in this process).

    Args:
        worker_memory: bytes above which a worker is killed; None: only when the machine has nothing left.
        patience: see `Scheduler`.

    Raises:
        ResourceError: at once, if a stage asks for more than the machine has.
    """

    job: Job
    recipe: Recipe
    workers: int | None = None
    worker_memory: int | None = None
    patience: float = 600.0

    def __post_init__(self) -> None:
        check_resources(self.recipe, this_machine())

    def close(self) -> None:
        """Nothing outlives `run`."""

    def run(self, tasks: Iterable[Task], count: int) -> Generator[Event | Notice | None, None, None]:
        if self.workers == 0:
            yield from run_in_process(self.job, tasks)
            return
        crew = _Processes(self.job, self.workers or 1, self.worker_memory)
        try:
            yield from Scheduler(crew, self.patience).run(tasks, count)
        finally:
            crew.close()


def run_in_process(job: Job, tasks: Iterable[Task]) -> Iterator[Event | Notice | None]:
    """Everything in this process, one task after the other: for debugging. Nothing watches it here.

    Raises:
        DyconvError: if the machine cannot run a stage at all.
    """
    notices: list[Notice] = []
    worker = replace(job.worker(), begun=notices.append)
    for first in tasks:
        stack = [first]
        while stack:
            report = worker.step(stack.pop())
            yield from notices
            notices.clear()
            yield from (item for item in report.items if not isinstance(item, Task))
            stack += reversed([item for item in report.items if isinstance(item, Task)])
            stack += [report.rest] if report.rest else []


class _Hand(Supervisor):
    """A process of this machine; there is one kind of worker, which does every step."""

    pool = 0


class _Processes:
    """A fixed number of worker processes on this machine."""

    pools: int = 1

    def __init__(self, job: Job, count: int, most: int | None) -> None:
        share = int(USABLE * this_machine().memory / count)
        self._hands = [_Hand(job, share, most) for _ in range(count)]

    def pool_of(self, step: int) -> int:
        return 0

    def hands(self, waiting: Sequence[int]) -> Sequence[_Hand]:
        return self._hands

    def reports(self, timeout: float) -> Iterator[tuple[_Hand, Report]]:
        connection.wait([hand.pipe for hand in self._hands], timeout)
        for hand in self._hands:
            for report in hand.reports():
                yield hand, report

    def close(self) -> None:
        for hand in self._hands:
            hand.close()

    def told(self) -> str:
        return f"{len(self._hands)} worker processes on this machine"
