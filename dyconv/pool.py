"""The local backend: tasks in this process, or in a few spawned ones that may die without harm."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import signal
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from typing import Any

from dyconv.errors import DyconvError
from dyconv.ledger import Event
from dyconv.recipe import Recipe
from dyconv.resources import check_resources, this_machine
from dyconv.store import Store
from dyconv.work import MAX_ATTEMPTS, Plan, Task, Worker


@dataclass(frozen=True)
class Job:
    """What a worker process needs to make its `Worker`: plain values and a pickle that is read after the recipe's module."""

    recipe_file: str | None
    plan: bytes
    store: str
    run: str
    retry_failed: bool

    @classmethod
    def of(cls, plan: Plan, store: Store, run: str, retry_failed: bool) -> Job:
        return cls(plan.recipe_file, pickle.dumps(plan), str(store), run, retry_failed)

    def worker(self) -> Worker:
        if self.recipe_file:
            importlib.import_module("dyconv.recipes").load_file(self.recipe_file)
        plan = pickle.loads(self.plan)  # noqa: S301 - made by this program's own driver
        return Worker(plan, Store(self.store), self.run, self.retry_failed)


@dataclass(frozen=True)
class LocalBackend:
    """Runs tasks on this machine with `workers` processes (None: one; 0: none, everything in this process).

    Raises:
        ResourceError: at once, if a stage asks for more than the machine has.
    """

    job: Job
    recipe: Recipe
    workers: int | None = None

    def __post_init__(self) -> None:
        check_resources(self.recipe, this_machine())

    def close(self) -> None:
        """Nothing outlives `run`."""

    def run(self, tasks: Iterable[Task]) -> Generator[Event, None, None]:
        if self.workers == 0:
            yield from run_in_process(self.job, tasks)
        else:
            yield from run_in_pool(self.job, tasks, self.workers or 1)


def run_in_process(job: Job, tasks: Iterable[Task]) -> Iterator[Event]:
    """Everything in this process, one task after the other: for debugging, and where processes cannot be started."""
    worker = job.worker()
    for first in tasks:
        stack = [first]
        while stack:
            found = list(worker.advance(stack.pop()))
            yield from (item for item in found if isinstance(item, Event))
            stack += reversed([item for item in found if isinstance(item, Task)])


def run_in_pool(job: Job, tasks: Iterable[Task], workers: int) -> Iterator[Event]:
    """The same in `workers` processes. A worker that dies is replaced and its task given out again.

    The work folder counts such attempts (see `dyconv.work`), so a clip that kills every worker ends as failed.
    """
    pool = [_Process(job) for _ in range(workers)]
    source = iter(tasks)
    stack: list[Task] = []  # children first: a source is finished before the next one is begun
    exhausted = False
    deaths = 0  # in a row, without one answer
    try:
        while True:
            for process in pool:
                if process.task is not None:
                    continue
                if not stack and not exhausted:
                    following = next(source, None)
                    exhausted = following is None
                    stack += [] if following is None else [following]
                if stack:
                    process.give(stack.pop())
            busy = [process for process in pool if process.task is not None]
            if not busy:
                return
            ready = connection.wait([process.pipe for process in busy])
            for slot, process in enumerate(pool):
                if process.pipe not in ready:
                    continue
                answer = process.answer()
                if answer is None:
                    assert process.task is not None
                    deaths += 1
                    if deaths > (MAX_ATTEMPTS + 1) * workers:
                        raise DyconvError(
                            f"workers die one after the other before they do anything ({process.death()})",
                            hint="run `dyconv doctor`; --workers 0 works in this process and shows more",
                        )
                    stack.append(replace(process.task, note=process.death()))
                    pool[slot] = _Process(job)
                    continue
                deaths = 0
                if isinstance(answer, DyconvError):
                    raise answer
                yield from (item for item in answer if isinstance(item, Event))
                stack += reversed([item for item in answer if isinstance(item, Task)])
    finally:
        for process in pool:
            process.kill()


class _Process:
    """One spawned worker and the driver's end of its pipe."""

    def __init__(self, job: Job) -> None:
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(other, job, os.getpid()), daemon=True)
        self.process.start()
        other.close()
        self.task: Task | None = None

    def give(self, task: Task) -> None:
        self.task = task
        with contextlib.suppress(BrokenPipeError):  # it died while idle: `answer` will tell
            self.pipe.send(task.to_json())

    def answer(self) -> list[Event | Task] | DyconvError | None:
        """What it made of the task; None if it died."""
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            return None
        if isinstance(answer, DyconvError):
            return answer
        self.task = None
        return [Task.from_json(item) if "upstream" in item else Event.from_json(item) for item in answer]

    def death(self) -> str:
        self.process.join(5)
        self.kill()
        code = self.process.exitcode or 0
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    def kill(self) -> None:
        """End the worker and whatever it started."""
        if self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Any, job: Job, driver: int) -> None:
    """A worker process's life: answer tasks until the driver closes the pipe or is gone."""
    os.setsid()  # Ctrl-C is the driver's affair: programs that a stage started must not fail because of it
    _die_with(driver)
    try:
        worker = job.worker()
    except Exception as error:  # noqa: BLE001 - told to the driver, which stops the run
        pipe.recv()
        pipe.send(DyconvError(f"a worker could not start: {type(error).__name__}: {error}", hint="run `dyconv doctor`"))
        return
    while True:
        try:
            data = pipe.recv()
        except EOFError:
            return
        try:
            answer: Any = [item.to_json() for item in worker.advance(Task.from_json(data))]
        except DyconvError as error:
            answer = error
        pipe.send(answer)


def _die_with(driver: int) -> None:
    """Ask Linux to kill this process when its driver is killed, so that no orphan goes on working."""
    if os.uname().sysname == "Linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != driver:
        os._exit(1)
