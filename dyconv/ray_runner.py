"""The Ray backend: the only module that imports Ray.

Rows of text flow through actor pools of Ray Data; assets never do. A row carries a task (JSON of a clip and where it
stands) and the events that led to it. Consecutive stages that ask for the same resources share a pool, and a pool ends
where a stage splits, so that segments and clips spread over all workers. A row is a block of its own: what is ready
moves on at once, and the driver writes it down as it comes.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from typing import Any

from dyconv import errors
from dyconv.errors import DyconvError
from dyconv.ledger import Event
from dyconv.pool import Job
from dyconv.recipe import Recipe
from dyconv.resources import Machine, check_resources, this_machine
from dyconv.stages.base import Resources
from dyconv.work import Plan, Task, Worker

_SHARE = 0.95  # of the cluster's CPUs: what the pools may take together
_ROOMY = 4  # a cluster with so many times the CPUs of one worker of each group is told what each group really asks for
_CROWD = 2  # worker processes a CPU on a smaller one, where most of them wait for each other most of the time
_INPUT_BLOCKS = 2000
_OBJECT_STORE = 512 * 2**20  # for a local Ray: only records go through it


@dataclass(frozen=True)
class Pool:
    """Stages `[start, end)` of the plan in one actor pool of 1 to `most` workers; `asks` is what Ray is told of each."""

    start: int
    end: int
    asks: Resources
    most: int


def make_pools(plan: Plan, recipe: Recipe, nodes: list[Machine], workers: int | None = None) -> list[Pool]:
    """Group the stages so that one worker of every pool fits into the cluster at the same time.

    Ray Data starts every pool before the first row moves, and waits for ever for one that cannot start. On a large
    cluster a pool is a run of stages that ask for the same. On a small one, stages that need no GPU also share a worker
    though they ask for different amounts, and the CPUs Ray is told of are scaled down: the processes share the cores.
    """
    cpus = sum(node.cpus for node in nodes)
    groups = _groups(plan, recipe, lambda one, other: one == other)
    roomy = cpus >= _ROOMY * sum(asks.cpus for _, _, asks in groups)
    pools = []
    if roomy:
        for start, end, asks in groups:
            pools.append(Pool(start, end, asks, min(_fitting(asks, nodes), workers or _fitting(asks, nodes))))
        return pools
    groups = _groups(plan, recipe, lambda one, other: not one.gpus and not other.gpus)
    many = max(1, math.ceil(_CROWD * cpus / len(groups)))
    memory = sum(asks.memory for _, _, asks in groups)
    if memory:
        many = max(1, min(many, sum(node.memory for node in nodes) // memory))
    # Rounded down to what Ray counts in, so that the sum still fits.
    share = int(_SHARE * cpus / (len(groups) * many) * 1000) / 1000
    for start, end, asks in groups:
        most = min(many, _fitting(replace(asks, cpus=0.0), nodes)) if asks.gpus else many
        told = Resources(cpus=min(share, asks.cpus), gpus=asks.gpus)
        pools.append(Pool(start, end, told, min(most, workers or most)))
    return pools


def _groups(plan: Plan, recipe: Recipe, together: Callable[[Resources, Resources], bool]) -> list[tuple[int, int, Resources]]:
    """Runs of stages that may share a worker, each with the most any of them asks for. A run ends where a stage splits."""
    groups: list[tuple[int, int, Resources]] = []
    for index, step in enumerate(plan.steps):
        asks = recipe.asks(step.stage)
        if groups and not plan.steps[index - 1].stage.splits and together(groups[-1][2], asks):
            start, _, before = groups.pop()
            both = zip(astuple(before), astuple(asks), strict=True)
            groups.append((start, index + 1, Resources(*(max(pair) for pair in both))))
        else:
            groups.append((index, index + 1, asks))
    return groups


def _fitting(asks: Resources, nodes: Iterable[Machine]) -> int:
    """How many workers fit if they had all nodes to themselves, at least one."""
    total = 0
    for node in nodes:
        bounds = [node.cpus / asks.cpus if asks.cpus else 64.0]
        bounds += [node.gpus / asks.gpus] if asks.gpus else []
        bounds += [node.memory / asks.memory] if asks.memory else []
        total += int(min(bounds))
    return max(1, total)


class RayBackend:
    """Runs tasks on the cluster this process belongs to, or on a local Ray started for the run.

    Raises:
        ResourceError: at once, if a stage asks for more than any node has.
    """

    def __init__(self, job: Job, plan: Plan, recipe: Recipe, workers: int | None = None) -> None:
        self._job = job
        if not joins_cluster():
            check_resources(recipe, this_machine())  # seconds earlier than a Ray that would say the same
        self._started = connect()
        try:
            nodes = cluster_nodes()
            check_resources(recipe, nodes)
            self._pools = make_pools(plan, recipe, nodes, workers)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop what was started for this run; leave a Ray that was there before."""
        import ray

        if self._started:
            ray.shutdown()

    def run(self, tasks: Iterable[Task]) -> Generator[Event, None, None]:
        import ray.data

        _quiet_data()
        rows = [_row(task=task) for task in tasks]
        dataset: Any = ray.data.from_items(rows, override_num_blocks=min(len(rows), _INPUT_BLOCKS))
        del rows
        for pool in self._pools:
            asks = {"num_cpus": pool.asks.cpus, "num_gpus": pool.asks.gpus, "memory": pool.asks.memory}
            dataset = dataset.flat_map(
                _PoolWorker,
                fn_constructor_kwargs={"job": self._job, "end": pool.end},
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=pool.most, max_tasks_in_flight_per_actor=2),
                **{name: value for name, value in asks.items() if value or name == "num_cpus"},
            )
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            for row in batch.to_pylist():
                if row["fatal"]:
                    raise _error(json.loads(row["fatal"]))
                yield from (Event.from_json(event) for event in json.loads(row["events"]))


class _PoolWorker:
    """One actor. Made cheaply: what can go wrong goes wrong on a row, where it can be told."""

    def __init__(self, job: Job, end: int) -> None:
        self._job = job
        self._end = end
        self._worker: Worker | None = None

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, str]]:
        if row["fatal"] or not row["task"]:
            yield row
            return
        try:
            self._worker = self._worker or self._job.worker()
            yield from _gather(
                json.loads(row["events"]), self._worker.advance(Task.from_json(json.loads(row["task"])), self._end)
            )
        except DyconvError as error:
            told = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
            yield _row(fatal=json.dumps(told))


def _gather(events: list[dict[str, Any]], items: Iterable[Event | Task]) -> Iterator[dict[str, str]]:
    """Each task with the events before it, and a last row with the events that no task follows."""
    for item in items:
        if isinstance(item, Event):
            events.append(item.to_json())
        else:
            yield _row(events, item)
            events = []
    if events:
        yield _row(events)


def _row(events: Iterable[dict[str, Any]] = (), task: Task | None = None, fatal: str = "") -> dict[str, str]:
    return {"events": json.dumps(list(events)), "task": json.dumps(task.to_json()) if task else "", "fatal": fatal}


def _error(told: dict[str, Any]) -> DyconvError:
    """The error a worker met, of its own class where that is one of ours."""
    kind = getattr(errors, told["kind"], DyconvError)
    error: DyconvError = kind.__new__(kind)
    DyconvError.__init__(error, told["message"], hint=told["hint"])
    return error


def joins_cluster() -> bool:
    """Whether there is a Ray to join: this process is connected already, or `RAY_ADDRESS` names a cluster.

    As an `http://` address it is only the job server's.
    """
    import ray

    address = os.environ.get("RAY_ADDRESS", "")
    return ray.is_initialized() or (bool(address) and not address.startswith("http"))


def connect(*, logs: bool = False) -> bool:
    """Join the cluster this process was submitted to, else start a local Ray. False if it was connected before.

    A local one is asked for by name: left open, Ray turns to the last cluster of this machine, which may be dead. It gets
    a token of its own: Ray would leave one in the user's home, and from then on `ray start` would ask every job for it.

    Args:
        logs: show what workers print, and start the dashboard with a local Ray: Ray Train asks it who is alive.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": logs}
    if joins_cluster():
        options["address"] = os.environ["RAY_ADDRESS"]
    else:
        if not any(name in os.environ for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        options.update(address="local", include_dashboard=logs, object_store_memory=_OBJECT_STORE)
    ray.init(**options)
    return True


def cluster_nodes() -> list[Machine]:
    """The nodes that are alive, and what each has."""
    import ray

    nodes = []
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            name = f"node {node['NodeManagerAddress']}"
            nodes.append(Machine(name, has.get("CPU", 0.0), has.get("GPU", 0.0), int(has.get("memory", 0))))
    return nodes


def _quiet_data() -> None:
    """Settings of Ray Data for this process: one row a block, no bars, no end to waiting for a slow clip."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1
    context.max_consecutive_actor_init_deaths = 10
    for name in ("ray.data", "ray.data.dataset"):
        logging.getLogger(name).setLevel(logging.ERROR)
