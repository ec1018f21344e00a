"""One run: a recipe over a manifest into an output folder, resumed from wherever the last one stopped.

The driver decides from the ledger which sources are complete, hands the others to a backend, and appends what comes
back. Its memory does not grow with the number of clips in flight. Both backends (`local`, `ray`) execute the same
tasks through `dyconv.work`, so they write the same ledger and the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dyconv import __version__
from dyconv.errors import StoreError, TooManyFailures, UsageError
from dyconv.funnel import MANIFEST, Funnel, count_funnel, funnel_table
from dyconv.ledger import RUN_FILE, Event, LedgerWriter, State
from dyconv.live import forget_unfinished
from dyconv.logs import AS_USUAL, LogOptions
from dyconv.manifest import BadRow, Row, read_manifest
from dyconv.mend import Harmed, reopen
from dyconv.models.registry import require
from dyconv.recipe import Recipe
from dyconv.records import Clip, Source, dump, source_clip
from dyconv.run_lock import RunLock
from dyconv.standings import read_standings
from dyconv.store import Store, sha256_of
from dyconv.task import Notice, Plan, Task, make_plan, source_fingerprint, story_fingerprint
from dyconv.tombstones import lists_for
from dyconv.watch import RunInfo, Watcher, watched, watchers_for
from dyconv.work import read_clips, sweep_scratch

if TYPE_CHECKING:
    from rich.console import Console

BACKENDS = ("ray", "local")
FUNNEL_FILE = "funnel.json"
MIN_FOR_RATE = 20  # ended clips before the failure rate means anything
_VERSIONS = ("ray", "av", "torch", "mediapipe", "scenedetect", "yt-dlp", "silero-vad", "numpy")


@dataclass(frozen=True)
class RunOptions:
    """How to run; nothing here changes what comes out.

    Attributes:
        backend: `ray` or `local`.
        workers: local: processes (0 works in this one); ray: actors in a pool, also more than fit by now, which an
            autoscaler answers. None leaves it to the backend.
        limit: as if the manifest had only so many rows: the output folder then holds these sources and no others.
        retry_failed: execute again what failed in earlier runs.
        pack: write shards at the end.
        tombstones: lists of takedowns beside that of the manifest's folder; what stands in one is dropped, never fetched.
        worker_memory: bytes above which a worker is killed; None: only when its machine has nothing left.
        wait: seconds that a Ray cluster has to bring the nodes that the stages need.
        patience: seconds without any worker at work, while there is work, after which the run is given up.
        logs: what is logged to stderr, and how.
        metrics: host and port to serve metrics on (port 0: any free one); None serves none.
    """

    backend: str = "local"
    workers: int | None = None
    limit: int | None = None
    retry_failed: bool = False
    pack: bool = True
    tombstones: tuple[Path, ...] = ()
    worker_memory: int | None = None
    wait: float = 0.0
    patience: float = 600.0
    logs: LogOptions = AS_USUAL
    metrics: tuple[str, int] | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise UsageError(f"no backend called {self.backend!r}", hint=f"there are: {', '.join(BACKENDS)}")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit must be at least 1, is {self.limit}")
        if self.workers is not None and self.workers < (self.backend == "ray"):
            raise UsageError(f"--workers must be at least {int(self.backend == 'ray')}, is {self.workers}")


@dataclass(frozen=True)
class RunSummary:
    """What the output folder holds after a run."""

    funnel: Funnel
    executed: int  # sources that were not complete before
    failed: int  # items that ended as failed, now or in an earlier run

    @property
    def kept(self) -> int:
        return self.funnel.clips[State.KEPT]

    @property
    def exit_code(self) -> int:
        """0: something is kept, or all was dropped for a reason. 3: something is kept, something failed. 1: nothing but
        failures and drops."""
        if not self.failed:
            return 0
        return 3 if self.kept else 1


def run(
    recipe: Recipe,
    manifest: Path,
    out: str,
    options: RunOptions | None = None,
    *,
    recipe_file: str | None = None,
    console: Console | None = None,
) -> RunSummary:
    """Bring every source of a manifest to a named end, then pack what is kept.

    Args:
        recipe: the stages.
        manifest: CSV or JSONL of sources.
        out: output folder or URI; made if missing.
        options: how to run.
        recipe_file: the recipe's file if it is no installed module; workers load it from there.
        console: where to tell what happens; None is silent.

    Raises:
        UsageError: the recipe, manifest or options cannot be used.
        ModelMissing: the weights of a stage's model are not here.
        ResourceError: a stage asks for more than there is.
        TooManyFailures: the share of failures passed the recipe's bound; what is finished stays.
    """
    options = options or RunOptions()
    once = partial(_run, recipe, manifest, out, options, recipe_file=recipe_file, console=console)
    try:
        return once()
    except Harmed as harm:
        if console is not None:
            console.print(f"{harm.message}: made again", highlight=False)
        return once()


def _run(
    recipe: Recipe, manifest: Path, out: str, options: RunOptions, *, recipe_file: str | None, console: Console | None
) -> RunSummary:
    taken_down = lists_for(manifest, options.tombstones)
    rows = [taken_down.refuse(row) for row in read_manifest(manifest)[: options.limit]]
    store = Store(out)
    with RunLock(store):
        sweep_scratch(store)
        plan = make_plan(recipe, recipe_file)
        stories = {row.id: _story(row, plan) for row in rows}
        before = {name: _Before(story, failed) for name, story, failed in read_standings(store).stories()}
        todo = [row for row in rows if not _complete(before.get(row.id), stories[row.id], options.retry_failed)]
        driver = _Driver(store, recipe, plan, options, console)
        driver.tell_start(rows, todo, before)
        sources = [row for row in todo if not isinstance(row, BadRow)]
        if sources:
            for model in (name for stage in recipe.stages for name in stage.models()):
                require(model)
        backend = driver.backend() if sources else None  # refuses before anything is written
        _write_run(store, recipe, plan, manifest, options)
        removed = sorted(before.keys() - stories.keys())
        begun = [Event(row.id, row.id, State.PENDING, fp=stories[row.id]) for row in todo]
        begun += [_bad_row(row) for row in todo if isinstance(row, BadRow)]
        del before, stories
        try:
            driver.execute(backend, sources, begun, removed, lambda: driver.watchers(manifest, len(rows), len(sources)))
        finally:
            sweep_scratch(store)  # of workers that died on the way
            summary = driver.finish(len(todo))
        if options.pack:
            try:
                _pack(store, recipe, console)
            except (StoreError, FileNotFoundError) as error:
                raise reopen(store) or error from error
        return summary


def _story(row: Row, plan: Plan) -> str:
    if isinstance(row, BadRow):
        return hashlib.sha256(dump([row.id, row.detail])).hexdigest()
    return story_fingerprint(source_fingerprint(row), plan)


@dataclass(frozen=True, slots=True)
class _Before:
    """What earlier runs left of a source: the story it has completed, if it has, and how many of its items failed."""

    story: str | None
    failed: int


def _complete(before: _Before | None, story: str, retry_failed: bool) -> bool:
    return before is not None and before.story == story and not (retry_failed and before.failed)


def _write_run(store: Store, recipe: Recipe, plan: Plan, manifest: Path, options: RunOptions) -> None:
    record = {
        "recipe": recipe.name,
        "recipe_file": plan.recipe_file,
        "recipe_fingerprint": plan.fingerprint,
        "manifest": str(manifest),
        "manifest_sha256": sha256_of(manifest),
        "limit": options.limit,
        "levels": {step.stage.name: step.level for step in plan.steps},
        "stages": [
            {"name": step.stage.name, "version": step.stage.version, "config": step.stage.config(), "weights": step.weights}
            for step in plan.steps
        ],
        "versions": {"dyconv": __version__, **{name: _version(name) for name in _VERSIONS}},
    }
    data = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    if not store.exists(RUN_FILE) or store.read_bytes(RUN_FILE) != data:
        store.write_bytes(RUN_FILE, data)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


class Backend(Protocol):
    """Executes tasks somewhere and hands back what became of them, in any order."""

    def run(self, tasks: Iterable[Task], count: int) -> Generator[Event | Notice | None, None, None]: ...

    def close(self) -> None: ...


@dataclass
class _Driver:
    """The part of a run that talks to the ledger and to those who watch."""

    store: Store
    recipe: Recipe
    plan: Plan
    options: RunOptions
    console: Console | None
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    counts: Counter[State] = field(default_factory=Counter)

    def say(self, text: str) -> None:
        if self.console is not None:
            self.console.print(text, highlight=False, markup=False)

    def tell_start(self, rows: list[Row], todo: list[Row], before: dict[str, _Before]) -> None:
        self.say(f"{len(rows)} sources, {len(rows) - len(todo)} finished before, {len(todo)} to do")
        waiting = sum(before[row.id].failed for row in rows if row.id in before)
        if waiting and not self.options.retry_failed:
            self.say(f"{waiting} failed in an earlier run and are not tried again: add --retry-failed to do so")

    def watchers(self, manifest: Path, sources: int, todo: int) -> list[Watcher]:
        options = self.options
        how = (options.backend, options.workers, sources, todo, self.console, options.logs, options.metrics)
        return watchers_for(RunInfo(self.run, self.store, self.recipe, self.plan, manifest, *how))

    def execute(
        self,
        backend: Backend | None,
        sources: list[Source],
        begun: list[Event],
        removed: list[str],
        watchers: Callable[[], list[Watcher]],
    ) -> None:
        """Run what is to be done, and write each result down as it comes.

        Raises:
            TooManyFailures: see `run`.
        """
        with LedgerWriter(self.store) as ledger:
            ledger.add(Event(name, name, State.REMOVED) for name in removed)
            ledger.add(begun)
            if backend is None:
                forget_unfinished(self.store)
                return
            tasks = (Task(source_clip(source), 0, source_fingerprint(source)) for source in sources)
            with closing(backend), closing(backend.run(tasks, len(sources))) as items, watched(watchers()) as following:
                for item in items:
                    if isinstance(item, Event):
                        ledger.add([item])
                    for watcher in following:
                        if item is not None:
                            watcher.note(item)
                        watcher.tick(time.monotonic())
                    if isinstance(item, Event):
                        self._count(item)

    def backend(self) -> Backend:
        """The backend asked for.

        Raises:
            ResourceError: if a stage asks for more than there is.
        """
        from dyconv.child import Job

        options = self.options
        job = Job.of(self.plan, self.store, self.run, options.retry_failed, options.logs)
        if options.backend == "ray":
            from dyconv.ray_runner import RayBackend

            bounds = (options.workers, options.worker_memory, options.patience, options.wait)
            return RayBackend(job, self.recipe, self.plan, *bounds)
        from dyconv.local_runner import LocalBackend

        return LocalBackend(job, self.recipe, options.workers, options.worker_memory, options.patience)

    def _count(self, event: Event) -> None:
        self.counts[event.state] += event.final and not event.reused
        failed = self.counts[State.FAILED]
        ended = failed + self.counts[State.KEPT] + self.counts[State.DROPPED]
        if ended >= MIN_FOR_RATE and failed > self.recipe.max_failure_rate * ended:
            raise TooManyFailures(
                f"{failed} of {ended} clips failed, more than the {self.recipe.max_failure_rate:.0%} recipe "
                f"{self.recipe.name} allows; last: {event.stage}: {event.detail}",
                hint="what is finished stays; correct the cause, then run again with --retry-failed",
            )

    def finish(self, executed: int) -> RunSummary:
        """Make the funnel of everything the ledger holds, write it, show it."""
        found = read_standings(self.store)
        failed = sum(count for _, _, count in found.stories())
        funnel = count_funnel(found, {step.stage.name: step.level for step in self.plan.steps})
        del found
        data = json.dumps(funnel.to_json(), indent=2).encode() + b"\n"
        if executed or not self.store.exists(FUNNEL_FILE):
            self.store.write_bytes(FUNNEL_FILE, data)
        if self.console is not None:
            self.console.print(funnel_table(funnel))
            clips, sources = funnel.clips, funnel.sources
            for what, counts in (("sources", sources), ("clips", clips)):
                parts = ", ".join(f"{counts[state]} {state}" for state in counts)
                self.say(f"{what}: {parts or 'none'}")
        return RunSummary(funnel, executed, failed)


def _bad_row(row: BadRow) -> Event:
    drop = row.drop()
    return Event(row.id, row.id, State.DROPPED, stage=MANIFEST, reason=str(drop.reason), detail=drop.detail)


def kept_clips(store: Store) -> Iterator[Clip]:
    """The record of every kept clip of an output folder, by id."""
    yield from read_clips(store, list(read_standings(store).kept()))


def _pack(store: Store, recipe: Recipe, console: Console | None) -> None:
    if not recipe.pack:
        return
    from dyconv.audit.application import pack_audited

    result, applied = pack_audited(store, recipe, kept_clips(store))
    if console is not None:
        shards = f"{result.written} shards written, {result.unchanged} as they were, {result.removed} removed"
        console.print(f"{store}/shards: {result.clips} clips, {result.hours:.3f} h; {shards}", highlight=False)
        for line in applied.told() if applied else ():
            console.print(f"decisions of reviewers: {line}", highlight=False)
