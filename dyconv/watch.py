"""Who is told what happens in a run: the console, logs, metrics, the live state. They see everything and change nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dyconv.ledger import Event
from dyconv.logs import AS_USUAL, LogOptions
from dyconv.recipe import Recipe
from dyconv.store import Store
from dyconv.task import Notice, Plan

if TYPE_CHECKING:
    from rich.console import Console


class Watcher(Protocol):
    """Something that follows a run in the driver's process. It must be quick: the driver waits for it."""

    def note(self, item: Event | Notice) -> None:
        """Told of everything, in the order in which it comes."""

    def tick(self, now: float) -> None:
        """Called at least about once a second, also when nothing comes. `now` is `time.monotonic()`."""

    def close(self, state: str) -> None:
        """The run is over: `finished`, `failed` (it could not go on) or `interrupted`."""


@dataclass(frozen=True)
class RunInfo:
    """What a watcher may want to know of the run it follows.

    Attributes:
        run: its name, another one each time.
        sources: in the manifest.
        todo: of them, those that the run works on.
        logs: what goes to stderr, and how.
        metrics: host and port to serve metrics on; None serves none.
    """

    run: str
    store: Store
    recipe: Recipe
    plan: Plan
    manifest: Path
    backend: str
    workers: int | None
    sources: int
    todo: int
    console: Console | None
    logs: LogOptions = AS_USUAL
    metrics: tuple[str, int] | None = None


def watchers_for(info: RunInfo) -> list[Watcher]:
    """Everyone who follows this run.

    Raises:
        UsageError: if the port for metrics cannot be had.
    """
    from dyconv.live import LiveFile
    from dyconv.logs.watch import LogWatcher
    from dyconv.metrics import About, Metrics
    from dyconv.progress import ConsoleProgress
    from dyconv.resources import this_machine

    nodes, gauges = [this_machine()], None
    if info.backend == "ray":
        from dyconv.ray_runner import cluster_nodes, make_gauge

        nodes, gauges = cluster_nodes(), make_gauge
    levels = {step.stage.name: step.level for step in info.plan.steps}
    about = About(levels, info.todo, info.sources - info.todo, info.recipe.name, info.plan.fingerprint)
    watchers: list[Watcher] = [Metrics(about, info.store, info.metrics, gauges), LogWatcher(info, nodes)]
    told = {"run": info.run, "recipe": info.recipe.name, "backend": info.backend, "workers": info.workers}
    watchers.append(LiveFile(info.store, told, levels, info.sources, info.todo))
    if info.console is not None:
        watchers.append(ConsoleProgress(info.console, levels, info.todo))
    return watchers


@contextmanager
def watched(watchers: Sequence[Watcher]) -> Iterator[Sequence[Watcher]]:
    """Tell the watchers how the block ended."""
    state = "failed"
    try:
        yield watchers
        state = "finished"
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        state = "interrupted"
        raise
    finally:
        for watcher in watchers:
            watcher.close(state)
