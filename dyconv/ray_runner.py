"""The Ray backend: the only module that imports Ray.

A worker is an actor that keeps a supervised process (`dyconv.supervise`); the actors that do the same stages are a pool.
Tasks and what became of them travel as small pieces of JSON; assets never do, so the object store stays empty. An actor
with a task speaks every few seconds: one that falls silent is given up, and its task goes to another.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from multiprocessing import connection
from typing import Any

from dyconv.child import Job
from dyconv.errors import ResourceError
from dyconv.ledger import Event
from dyconv.local_runner import USABLE
from dyconv.pools import Pool, count_workers, make_pools
from dyconv.recipe import Recipe
from dyconv.resources import Machine, check_resources, this_machine
from dyconv.scheduler import Scheduler
from dyconv.supervise import Supervisor
from dyconv.task import Death, Kind, Notice, Plan, Report, Task

_OBJECT_STORE = 256 * 2**20  # for a local Ray: only records go through it
_TICK_S = 1.0  # between an actor's looks at its process
_HEARTBEAT_S = 10.0
_SILENT_S = 180.0  # without a word from an actor with a task, before it is given up
_LOOK_S = 5.0  # between two looks at what nodes there are
_IDLE_S = 120.0  # before a worker that nothing waits for makes room


class RayBackend:
    """Runs tasks on the cluster this process belongs to, or on a local Ray started for the run.

    Args:
        workers: how many in a pool; None: as many as fit.
        worker_memory: bytes above which a worker is killed; None: only when its node has nothing left.
        patience: see `Scheduler`.
        wait: seconds that a cluster has to bring the nodes that the stages need.

    Raises:
        ResourceError: if a stage asks for more than any node has.
    """

    def __init__(
        self,
        job: Job,
        recipe: Recipe,
        plan: Plan,
        workers: int | None = None,
        worker_memory: int | None = None,
        patience: float = 600.0,
        wait: float = 0.0,
    ) -> None:
        self._job, self._recipe, self._plan, self._workers = job, recipe, plan, workers
        self._worker_memory, self._patience = worker_memory, patience
        if not joins_cluster():
            check_resources(recipe, this_machine())  # seconds earlier than a Ray that would say the same
        self._started = connect()
        try:
            _wait_for_nodes(recipe, wait if not self._started else 0.0)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop what was started for this run; leave a Ray that was there before."""
        import ray

        if self._started:
            ray.shutdown()

    def run(self, tasks: Iterable[Task], count: int) -> Generator[Event | Notice | None, None, None]:
        pools = make_pools(self._plan, self._recipe, cluster_nodes(), self._workers)
        with closing(_Actors(self._job, pools, self._workers, self._worker_memory)) as crew:
            yield from Scheduler(crew, self._patience).run(tasks, count)


def _wait_for_nodes(recipe: Recipe, seconds: float) -> None:
    """Return once every stage's worker fits on some node, after asking an autoscaler for that.

    Raises:
        ResourceError: if that is not so in time.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return check_resources(recipe, cluster_nodes())
        except ResourceError as error:
            if time.monotonic() >= end:
                if not seconds:
                    error.hint = f"{error.hint}; for nodes that are still to come: --wait SECONDS"
                raise
            _ask_for_nodes(recipe)
            time.sleep(_TICK_S)


def _ask_for_nodes(recipe: Recipe) -> None:
    from ray.autoscaler.sdk import request_resources

    asks = [recipe.asks(stage) for stage in recipe.stages]
    request_resources(bundles=[{"CPU": max(1, round(ask.cpus))} | ({"GPU": 1} if ask.gpus else {}) for ask in asks])


class _Work:
    """What runs in an actor: a supervised process, and its word every few seconds."""

    def __init__(self, job: Job, cpus: float, most: int | None) -> None:
        here = this_machine()
        share = min(1.0, max(cpus, 0.1) / here.cpus)
        self._supervisor = Supervisor(job, int(USABLE * share * here.memory), most)

    def name(self) -> str:
        return self._supervisor.name

    def work(self, text: str) -> Iterator[str]:
        self._supervisor.give(Task.from_json(json.loads(text)))
        heard = time.monotonic()
        while self._supervisor.busy:
            connection.wait([self._supervisor.pipe], _TICK_S)
            for report in self._supervisor.reports():
                heard = time.monotonic()
                yield json.dumps(report.to_json())
            if self._supervisor.busy and time.monotonic() - heard > _HEARTBEAT_S:
                heard = time.monotonic()
                yield ""


@dataclass(eq=False)
class _Hand:
    """An actor. `reports` is the stream of what it tells of the task it holds."""

    actor: Any
    pool: int
    joining: Any  # the answer to its first call
    name: str = "a new actor"
    reports: Any = None
    since: float = 0.0  # when it last spoke or became idle

    def give(self, task: Task) -> None:
        self.reports = self.actor.work.options(num_returns="streaming").remote(json.dumps(task.to_json()))
        self.since = time.monotonic()


class _Actors:
    """The actors of a run: made when work waits for them, replaced when they are lost, ended when nothing waits."""

    def __init__(self, job: Job, pools: list[Pool], workers: int | None, most_memory: int | None) -> None:
        import ray

        self._job, self._pools, self._workers, self._most_memory = job, pools, workers, most_memory
        self._looked = time.monotonic()
        self._make: Any = ray.remote(_Work)
        self._joining: list[_Hand] = []
        self._hands: list[_Hand] = []
        self._news: list[tuple[_Hand, Death | Notice]] = []

    @property
    def pools(self) -> int:
        return len(self._pools)

    def pool_of(self, step: int) -> int:
        return next(index for index, pool in enumerate(self._pools) if step in pool.steps)

    def hands(self, waiting: Sequence[int]) -> Sequence[_Hand]:
        now = time.monotonic()
        if now - self._looked > _LOOK_S:  # nodes come and go; who does what stays
            self._looked = now
            self._pools = count_workers(self._pools, cluster_nodes(), self._workers)
        self._join()
        for index, wanted in enumerate(waiting):
            mine = [hand for hand in self._hands if hand.pool == index]
            idle = [hand for hand in mine if hand.reports is None]
            coming = sum(hand.pool == index for hand in self._joining)
            room = self._pools[index].most - len(mine) - coming
            for _ in range(min(room, wanted - len(idle) - coming)):
                self._add(index)
            for hand in idle[1:] if not wanted else ():
                if now - hand.since > _IDLE_S:
                    self._end(hand)
        return self._hands

    def _add(self, index: int) -> None:
        pool = self._pools[index]
        job = replace(self._job, steps=pool.steps)
        options: dict[str, Any] = {"num_cpus": pool.asks.cpus, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        options |= {"num_gpus": pool.asks.gpus} if pool.asks.gpus else {}
        options |= {"memory": pool.asks.memory} if pool.asks.memory else {}
        actor = self._make.options(**options).remote(job, pool.asks.cpus, self._most_memory)
        self._joining.append(_Hand(actor, index, actor.name.remote()))

    def _join(self) -> None:
        """Take in the actors that are there by now."""
        import ray

        if not self._joining:
            return
        ready, _ = ray.wait([hand.joining for hand in self._joining], num_returns=len(self._joining), timeout=0)
        for hand in [hand for hand in self._joining if hand.joining in ready]:
            self._joining.remove(hand)
            try:
                hand.name = ray.get(hand.joining)
            except ray.exceptions.RayError as error:
                self._news.append((hand, _gone(error)))
            else:
                hand.since = time.monotonic()
                self._hands.append(hand)
                self._news.append((hand, Notice(Kind.JOINED, hand.name)))

    def reports(self, timeout: float) -> Iterator[tuple[_Hand, Report | Death | Notice]]:
        import ray

        news, self._news = self._news, []
        yield from news
        working = {hand.reports: hand for hand in self._hands if hand.reports is not None}
        waited = [*working, *(hand.joining for hand in self._joining)]
        if not waited:
            time.sleep(0 if news else timeout)
            return
        ray.wait(waited, timeout=0 if news else timeout)
        ready, _ = ray.wait(list(working), num_returns=len(working), timeout=0) if working else ([], [])
        now = time.monotonic()
        for stream in ready:
            hand = working[stream]
            hand.since = now
            told = self._read(hand)
            if told is not None:
                yield hand, told
        for hand in working.values():
            if hand.reports is not None and now - hand.since > _SILENT_S:
                self._end(hand)
                yield hand, Death(Kind.LOST, None, f"no word from {hand.name} for {now - hand.since:.0f} s")

    def _read(self, hand: _Hand) -> Report | Death | None:
        """The next thing it says; None for a sign of life."""
        import ray

        try:
            text = ray.get(next(hand.reports))
        except (ray.exceptions.RayError, StopIteration) as error:
            self._end(hand)
            return _gone(error)
        if not text:
            return None
        report = Report.from_json(json.loads(text))
        if report.rest is None:
            hand.reports = None
        return report

    def _end(self, hand: _Hand) -> None:
        import ray

        hand.reports = None
        with suppress(ValueError):
            self._hands.remove(hand)
        ray.kill(hand.actor)

    def close(self) -> None:
        for hand in [*self._hands, *self._joining]:
            self._end(hand)

    def told(self) -> str:
        nodes = ", ".join(f"{node.name} ({node.cpus:g} CPUs, {node.gpus:g} GPUs)" for node in cluster_nodes()) or "no nodes"
        return f"{len(self._hands)} workers, {len(self._joining)} that Ray has found no place for; {nodes}"


def _gone(error: BaseException) -> Death:
    return Death(Kind.LOST, None, f"{type(error).__name__}: {str(error).strip()[:500]}")


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
    handler = signal.getsignal(signal.SIGTERM)
    ray.init(**options)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray's own would end the process with another status
    return True


def make_gauge(name: str, text: str, labels: Sequence[str]) -> Any:
    """A gauge among Ray's own metrics, which adds `ray_` before its name."""
    from ray.util.metrics import Gauge

    return Gauge(name, description=text, tag_keys=tuple(labels))


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
