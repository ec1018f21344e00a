"""A worker process: takes tasks from its supervisor through a pipe and reports. `python -m dyconv.child` is for that only."""

from __future__ import annotations

import base64
import ctypes
import faulthandler
import importlib
import json
import os
import pickle
import signal
import sys
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from dyconv.disk import disk_error
from dyconv.errors import DyconvError, MachineError, UsageError
from dyconv.logs import AS_USUAL, LogOptions
from dyconv.logs.setup import Logging, process_name
from dyconv.store import Store
from dyconv.task import Notice, Plan, Report, Task
from dyconv.work import Worker

STACKS = signal.SIGUSR1  # asks a worker to write down where it is; needs no lock of the interpreter


@dataclass(frozen=True)
class Job:
    """What a worker process needs to make its `Worker`: plain values, and the plan as a pickle made by the driver.

    `steps` are those that this worker may do; a clip that comes to another one goes back to the driver.
    """

    recipe_file: str | None
    plan: bytes
    store: str
    run: str
    retry_failed: bool
    steps: frozenset[int]
    logs: LogOptions = AS_USUAL

    @classmethod
    def of(cls, plan: Plan, store: Store, run: str, retry_failed: bool, logs: LogOptions | None = None) -> Job:
        """
        Raises:
            UsageError: if a stage is a class of the script that is run: no other process can import it.
        """
        data = pickle.dumps(plan)
        if b"__main__" in data:
            raise UsageError(
                "a stage of the recipe is defined in the script that is run, where workers cannot find it",
                hint="put it into a module or a recipe file, or work in this process (workers=0)",
            )
        steps = frozenset(range(len(plan.steps)))
        return cls(plan.recipe_file, data, str(store), run, retry_failed, steps, logs or AS_USUAL)

    def worker(self) -> Worker:
        if self.recipe_file:
            importlib.import_module("dyconv.recipes").load_file(self.recipe_file)
        plan = pickle.loads(self.plan)  # noqa: S301 - made by this program's own driver
        return Worker(plan, Store(self.store), self.run, self.retry_failed)

    def to_json(self) -> dict[str, Any]:
        plan = base64.b64encode(self.plan).decode()
        return {**vars(self), "plan": plan, "steps": sorted(self.steps), "logs": vars(self.logs)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Job:
        known = {"plan": base64.b64decode(data["plan"]), "steps": frozenset(data["steps"]), "logs": LogOptions(**data["logs"])}
        return cls(**{**data, **known})


def serve(pipe: Connection) -> None:
    """A worker's life: answer tasks until the supervisor closes the pipe or is gone."""

    def tell(report: Report) -> None:
        pipe.send_bytes(json.dumps(report.to_json()).encode())

    task: Task | None = None

    def begun(notice: Notice) -> None:
        tell(Report((notice,), rest=task))

    try:
        job = Job.from_json(json.loads(pipe.recv_bytes()))
        Logging(Store(job.store), job.run, process_name(), job.logs, native=True)  # for the life of the process
        worker = replace(job.worker(), begun=begun)
        while True:
            task = Task.from_json(json.loads(pipe.recv_bytes()))
            while task is not None:
                report = worker.step(task)
                task = report.rest
                if task is not None and task.step not in job.steps:
                    report, task = replace(report, items=(*report.items, task), rest=None), None
                tell(report)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:  # noqa: BLE001 - told to the driver, which stops the run
        tell(Report(error=_told(error)))


def _told(error: Exception) -> DyconvError:
    if isinstance(error, DyconvError):
        return error
    if full := disk_error(error, ""):
        return full
    return MachineError(f"a worker cannot go on: {type(error).__name__}: {error}", hint="run `dyconv doctor`")


def die_with(parent: int) -> None:
    """Ask Linux to kill this process when its supervisor is killed, so that no orphan goes on working."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    pipe, trace, parent = (int(word) for word in sys.argv[1:])
    die_with(parent)
    faulthandler.enable(trace)
    faulthandler.register(STACKS, trace)
    serve(Connection(pipe))


if __name__ == "__main__":
    main()
