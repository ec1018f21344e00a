"""The unit of work: one stage on one clip, done at most once, wherever and however often it is asked for.

Everything a stage makes of a clip lies in `work/<stage>/<fp[:2]>/<fp>/`, where `fp` is the fingerprint of all that led to
it. `done.json` is written last: where it is, nothing is executed again. `failed.json` says why it could not be done;
`attempt.json` counts how often a worker began and was never heard of again, so that a clip that kills its worker is
given up instead of killing one after the other. This is the one place where exceptions are caught.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dyconv import __version__
from dyconv.errors import DyconvError, StoreError
from dyconv.ledger import Event, State
from dyconv.manifest import local_path
from dyconv.models.registry import weight_hashes
from dyconv.recipe import Recipe
from dyconv.records import Clip, Drop, DropReason, Source, dump
from dyconv.stages.base import Files, Stage, check_contract
from dyconv.store import SCRATCH, Store, scratch_prefix

MAX_ATTEMPTS = 3  # worker deaths on one clip in one run, before the clip is given up
_STALE_S = 24 * 3600.0


@dataclass(frozen=True)
class Step:
    """A stage of a recipe with the hashes of its weights and the number of splits before it."""

    stage: Stage
    weights: tuple[str, ...]
    level: int

    def fingerprint(self, upstream: str) -> str:
        return self.stage.fingerprint(upstream, self.weights)


@dataclass(frozen=True)
class Plan:
    """A recipe ready to run. Small, picklable, the same for every worker.

    Attributes:
        steps: the stages in order.
        fingerprint: of all stages, fields and weights together: what a source is to go through.
        recipe_file: where the recipe was loaded from if it is no installed module; a worker loads it first.
    """

    steps: tuple[Step, ...]
    fingerprint: str
    recipe_file: str | None = None


def make_plan(recipe: Recipe, recipe_file: str | None = None) -> Plan:
    """Resolve the weights of every stage. Reads hashes only; loads no model."""
    steps: list[Step] = []
    level = 0
    fingerprint = ""
    for stage in recipe.stages:
        weights = tuple(item for model in stage.models() for item in weight_hashes(model))
        steps.append(Step(stage, weights, level))
        level += stage.splits
        fingerprint = stage.fingerprint(fingerprint, weights)
    return Plan(tuple(steps), fingerprint, recipe_file)


def source_fingerprint(source: Source) -> str:
    """What identifies a source's content: its row, and of a local file also size and time of last change.

    Size and time stand for the bytes as in make and rsync: reading whole videos to find that nothing changed would take
    longer than the run. A file that was only touched is processed again; that costs time and changes nothing.
    """
    row: dict[str, Any] = source.to_json()
    for name, url in (("file", source.url), ("partner_file", source.partner_url or "")):
        if path := local_path(url):
            try:
                stat = path.stat()
            except OSError:
                row[name] = None
            else:
                row[name] = [stat.st_size, stat.st_mtime_ns]
    return hashlib.sha256(dump(row)).hexdigest()


def story_fingerprint(source_fp: str, plan: Plan) -> str:
    """Names a source together with everything it is to go through: the same means nothing is left to do."""
    return hashlib.sha256(dump([source_fp, plan.fingerprint])).hexdigest()


@dataclass(frozen=True)
class Task:
    """A clip about to enter step `step`. `note` says how its last worker died, if one did."""

    clip: Clip
    step: int
    upstream: str
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"clip": self.clip.to_json(), "step": self.step, "upstream": self.upstream, "note": self.note}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Task:
        return cls(Clip.from_json(data["clip"]), data["step"], data["upstream"], data.get("note", ""))


@dataclass(frozen=True)
class Result:
    """What a stage made of a clip: outcomes, or the failure."""

    fp: str
    outcomes: tuple[Clip | Drop, ...] = ()
    seconds: float = 0.0
    error: dict[str, Any] | None = None
    reused: bool = False


@dataclass
class Worker:
    """Executes tasks in one process; loads a stage's models when the first clip needs them.

    Args:
        plan: the recipe's steps.
        store: the output folder.
        run: a name for this run. Attempts are counted within one run, so that stopping the driver is held against no clip.
        retry_failed: execute again what failed in an earlier run.
    """

    plan: Plan
    store: Store
    run: str
    retry_failed: bool = False
    _ready: set[str] = field(default_factory=set)

    def advance(self, task: Task, until: int | None = None) -> Iterator[Event | Task]:
        """Take a clip on from `task.step` until it ends, is split, or stands before step `until`.

        Raises:
            DyconvError: if the machine cannot run a stage at all (its set-up fails, the disk is full).
        """
        clip, upstream = task.clip, task.upstream
        end = len(self.plan.steps) if until is None else until
        for index in range(task.step, end):
            step = self.plan.steps[index]
            result = self.execute(step, clip, upstream, task.note)
            event = Event(
                source=clip.source.id,
                id=clip.id,
                state=State.PASSED,
                level=step.level,
                stage=step.stage.name,
                fp=result.fp,
                parent=clip.parent,
                seconds=round(result.seconds, 3),
                media_in=_duration(clip),
                reused=result.reused,
            )
            if result.error is not None:
                detail = str(result.error["message"])[:500]
                yield replace(event, state=State.FAILED, reason=result.error["type"], detail=detail)
                return
            first = result.outcomes[0]
            if isinstance(first, Drop) and first.clip.id == clip.id and len(result.outcomes) == 1:
                yield replace(event, state=State.DROPPED, reason=str(first.reason), detail=first.detail)
                return
            if step.stage.splits:
                yield from self._split(index, result, event)
                return
            assert isinstance(first, Clip)
            clip, upstream = first, result.fp
            last = index + 1 == len(self.plan.steps)
            yield replace(event, state=State.KEPT if last else State.PASSED, media_out=_duration(clip))
            if last:
                return
        yield Task(clip, end, upstream)

    def _split(self, index: int, result: Result, event: Event) -> Iterator[Event | Task]:
        clips = [outcome.clip if isinstance(outcome, Drop) else outcome for outcome in result.outcomes]
        going = sum(_duration(outcome) for outcome in result.outcomes if isinstance(outcome, Clip))
        yield replace(event, children=tuple(clip.id for clip in clips), media_out=round(going, 3))
        for outcome, clip in zip(result.outcomes, clips, strict=True):
            size = _duration(clip)
            child = replace(event, id=clip.id, level=event.level + 1, parent=event.id, seconds=0.0, media_in=size)
            if isinstance(outcome, Drop):
                yield replace(child, state=State.DROPPED, reason=str(outcome.reason), detail=outcome.detail)
            elif index + 1 == len(self.plan.steps):
                yield replace(child, state=State.KEPT, media_out=size)
            else:
                yield Task(clip, index + 1, hashlib.sha256(dump([result.fp, clip.id])).hexdigest())

    def execute(self, step: Step, clip: Clip, upstream: str, note: str = "") -> Result:
        """Run a stage on a clip, or find that it was run before. What the stage raises becomes a recorded failure.

        Raises:
            DyconvError: if the machine is at fault and no clip: a set-up that fails, a full disk.
        """
        fp = step.fingerprint(upstream)
        folder = work_folder(step.stage.name, fp)
        done = read_done(self.store, folder)
        if done is not None:
            return Result(fp, done[0], done[1], reused=True)
        failure = _read_json(self.store, f"{folder}/failed.json")
        if failure is not None and (failure["run"] == self.run or not self.retry_failed):
            return Result(fp, (), failure["seconds"], failure, reused=failure["run"] != self.run)
        attempt = self._attempt(folder)
        started = time.monotonic()
        if attempt > MAX_ATTEMPTS:
            message = f"its worker died {MAX_ATTEMPTS} times: a crash in native code, or too little memory"
            return self._fail(folder, fp, clip, attempt - 1, started, "WorkerDied", message, note)
        self._setup(step.stage)
        try:
            outcomes = self._process(step.stage, clip, folder)
        except Exception as error:  # the one place that records what a stage could not put right
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreError(
                    f"no space left while {step.stage.name} worked on {clip.id}: {error}", hint="make room, then run again"
                ) from error
            message = str(error) or type(error).__name__
            return self._fail(folder, fp, clip, attempt, started, type(error).__name__, message, traceback.format_exc())
        seconds = time.monotonic() - started
        self._finish(folder, clip, step.stage, outcomes, seconds)
        return Result(fp, tuple(outcomes), seconds)

    def _setup(self, stage: Stage) -> None:
        if stage.name in self._ready:
            return
        try:
            stage.setup()
        except DyconvError:
            raise
        except Exception as error:
            raise DyconvError(
                f"stage {stage.name} could not be set up: {type(error).__name__}: {error}",
                hint="run `dyconv doctor` to see what this machine lacks",
            ) from error
        self._ready.add(stage.name)

    def _process(self, stage: Stage, clip: Clip, folder: str) -> list[Clip | Drop]:
        scratch = new_scratch(self.store)
        try:
            files = Files(self.store, folder, scratch)
            outcomes = list(stage.process(clip, files))
            if not outcomes:
                raise StoreError(f"stage {stage.name} yielded nothing for {clip.id}: it must say why with a Drop")
            check_contract(stage, clip, outcomes)
            files.commit()
            return outcomes
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _attempt(self, folder: str) -> int:
        path = f"{folder}/attempt.json"
        before = _read_json(self.store, path)
        count = 1 + (before["count"] if before is not None and before["run"] == self.run else 0)
        self.store.write_bytes(path, dump({"run": self.run, "count": count}))
        return count

    def _finish(self, folder: str, clip: Clip, stage: Stage, outcomes: list[Clip | Drop], seconds: float) -> None:
        record = {
            "clip": clip.id,
            "stage": stage.name,
            "version": stage.version,
            "config": stage.config(),
            "outcomes": [_outcome_json(outcome) for outcome in outcomes],
            "seconds": round(seconds, 3),
            "dyconv": __version__,
        }
        self.store.write_bytes(f"{folder}/done.json", dump(record))
        for name in ("attempt.json", "failed.json"):
            if self.store.exists(f"{folder}/{name}"):
                self.store.remove(f"{folder}/{name}")

    def _fail(
        self, folder: str, fp: str, clip: Clip, attempt: int, started: float, kind: str, message: str, trace: str
    ) -> Result:
        failure = {
            "clip": clip.to_json(),
            "type": kind,
            "message": message,
            "traceback": trace,
            "attempts": attempt,
            "run": self.run,
            "seconds": round(time.monotonic() - started, 3),
        }
        self.store.write_bytes(f"{folder}/failed.json", dump(failure))
        self.store.remove(f"{folder}/attempt.json")
        return Result(fp, (), time.monotonic() - started, failure)


def _duration(clip: Clip) -> float:
    return round(float(clip.span.duration), 3)


def work_folder(stage: str, fp: str) -> str:
    """Store path of a stage's output with this fingerprint."""
    return f"work/{stage}/{fp[:2]}/{fp}"


def _outcome_json(outcome: Clip | Drop) -> dict[str, Any]:
    if isinstance(outcome, Clip):
        return {"clip": outcome.to_json()}
    return {"drop": {"clip": outcome.clip.to_json(), "reason": str(outcome.reason), "detail": outcome.detail}}


def _read_json(store: Store, path: str) -> dict[str, Any] | None:
    try:
        return json.loads(store.read_bytes(path))
    except (StoreError, FileNotFoundError):
        return None


def read_done(store: Store, folder: str) -> tuple[tuple[Clip | Drop, ...], float] | None:
    """Outcomes and seconds of a finished stage, or None if it is not finished or a file of it is gone."""
    record = _read_json(store, f"{folder}/done.json")
    if record is None:
        return None
    outcomes: list[Clip | Drop] = []
    for item in record["outcomes"]:
        if "clip" in item:
            outcomes.append(Clip.from_json(item["clip"]))
        else:
            drop = item["drop"]
            outcomes.append(Drop(Clip.from_json(drop["clip"]), DropReason(drop["reason"]), drop["detail"]))
    own = {ref.path for outcome in outcomes if isinstance(outcome, Clip) for ref in outcome.assets.values()}
    if not all(store.exists(path) for path in own if path.startswith(f"{folder}/")):
        return None
    return tuple(outcomes), record["seconds"]


def read_clip(store: Store, event: Event, clip_id: str | None = None) -> Clip:
    """The record a `kept` or `passed` event is about, or that of one of its children.

    Raises:
        StoreError: if the work folder is gone or does not hold it.
    """
    assert event.stage is not None and event.fp is not None
    wanted = clip_id or event.id
    done = read_done(store, work_folder(event.stage, event.fp))
    for outcome in done[0] if done else ():
        if isinstance(outcome, Clip) and outcome.id == wanted:
            return outcome
    raise StoreError(f"the record of clip {wanted} is not in {store}", hint="run the same command again to rebuild it")


def read_failed_clip(store: Store, folder: str) -> Clip:
    """The record that the stage of this work folder failed on."""
    failure = _read_json(store, f"{folder}/failed.json")
    if failure is None:
        raise StoreError(f"{folder} in {store} is gone", hint="run the same command again to rebuild it")
    return Clip.from_json(failure["clip"])


def new_scratch(store: Store) -> Path:
    """An empty folder for one execution, on the store's own disk where it has one, so that finished files are renamed."""
    prefix = scratch_prefix()
    if store.remote:
        return Path(tempfile.mkdtemp(prefix=f"dyconv-{prefix}"))
    root = Path(store.root) / SCRATCH
    root.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=root))


def sweep_scratch(store: Store) -> None:
    """Remove what killed processes left. Folders of live processes stay, and young ones of other machines."""
    root = Path(store.root) / SCRATCH
    if store.remote or not root.is_dir():
        return
    for item in root.iterdir():
        host, _, rest = item.name.partition(f"{socket.gethostname()}-")
        owner = rest.partition("-")[0]
        if not host and owner.isdigit():
            stale = not _alive(int(owner))
        else:
            stale = time.time() - item.stat().st_mtime > _STALE_S
        if stale and item.is_dir():
            shutil.rmtree(item, ignore_errors=True)
        elif stale:
            item.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
