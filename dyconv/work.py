"""The unit of work: one stage on one clip, done at most once, wherever and however often it is asked for.

Everything a stage makes of a clip lies in `work/<stage>/<fp[:2]>/<fp>/`, where `fp` is the fingerprint of all that led to
it. `done.json` is written last: where it is, nothing is executed again. `failed.json` says why it could not be done. A
task says how its workers ended, so that a clip that kills its worker is given up instead of killing one after the
other. This is the one place where exceptions are caught.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dyconv import __version__, logs
from dyconv.bounds import parse_json
from dyconv.disk import disk_error
from dyconv.errors import DyconvError, MachineError, StoreError
from dyconv.ledger import Event, State
from dyconv.processes import alive
from dyconv.records import Clip, Drop, DropReason, dump
from dyconv.stages.base import Files, Stage, check_contract
from dyconv.store import REBUILD, SCRATCH, Store, scratch_prefix
from dyconv.task import Death, Kind, Notice, Plan, Report, Step, Task

_STALE_S = 24 * 3600.0
_AWAY = "dyconv-"  # begins the names of scratch folders of remote stores, which lie in the system's temporary folder
# How often a clip may lose its worker at one stage before it is given up, and what it is then called. A hang costs its
# whole limit each time, and what needs too much memory will need it again. A lost node is seldom a clip's fault.
GIVE_UP: dict[Kind, tuple[int, str, str]] = {
    Kind.DIED: (3, "WorkerDied", "its worker died: a crash in native code, or somebody's kill"),
    Kind.HUNG: (2, "StageHung", "its worker was killed at the stage's time limit"),
    Kind.MEMORY: (2, "OutOfMemory", "its worker was killed for the memory it took"),
    Kind.LOST: (8, "WorkerLost", "its worker's node or actor was gone"),
}


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
        run: a name for this run.
        retry_failed: execute again what failed in an earlier run.
        begun: told before a stage is executed, and not where its result is there.
    """

    plan: Plan
    store: Store
    run: str
    retry_failed: bool = False
    begun: Callable[[Notice], None] = lambda notice: None
    _ready: set[str] = field(default_factory=set)

    def step(self, task: Task) -> Report:
        """Take a clip through one stage. The report's `rest` is the clip before the next stage, if it is to go on.

        Raises:
            DyconvError: if the machine cannot run a stage at all (its set-up fails, the disk is full).
        """
        clip, step = task.clip, self.plan.steps[task.step]
        last = task.step + 1 == len(self.plan.steps)
        result = self.execute(step, clip, task.upstream, task.deaths)
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
            return Report((replace(event, state=State.FAILED, reason=result.error["type"], detail=detail),))
        first = result.outcomes[0]
        if isinstance(first, Drop) and first.clip.id == clip.id and len(result.outcomes) == 1:
            return Report((replace(event, state=State.DROPPED, reason=str(first.reason), detail=first.detail),))
        if step.stage.splits:
            return Report(tuple(self._split(task.step, result, event)))
        assert isinstance(first, Clip)
        event = replace(event, state=State.KEPT if last else State.PASSED, media_out=_duration(first))
        return Report((event,), None if last else Task(first, task.step + 1, result.fp))

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

    def execute(self, step: Step, clip: Clip, upstream: str, deaths: tuple[Death, ...] = ()) -> Result:
        """Run a stage on a clip, or find that it was run before. What the stage raises becomes a recorded failure.

        Raises:
            DyconvError: if the machine is at fault and no clip: a set-up that fails, a full disk.
        """
        fp = step.fingerprint(upstream)
        folder = work_folder(step.stage.name, fp)
        there = self.store.sizes(folder)
        done = read_done(self.store, folder, there)
        if done is not None:
            return Result(fp, done[0], done[1], reused=True)
        failure = _read_failure(self.store, folder) if "failed.json" in there else None
        if failure is not None and (failure["run"] == self.run or not self.retry_failed):
            return Result(fp, (), failure["seconds"], failure, reused=failure["run"] != self.run)
        self.store.trim()  # nothing of an earlier execution is in use any more
        started = time.monotonic()
        if ends := _given_up(step.stage.name, deaths):
            kind, message, trace = ends
            return self._fail(folder, fp, clip, len(deaths), started, kind, message, trace)
        limit = step.limit.of(clip)
        self.begun(Notice(Kind.BEGUN, stage=step.stage.name, clip=clip.id, source=clip.source.id, seconds=limit))
        with logs.bind(source=clip.source.id, clip=clip.id, stage=step.stage.name):
            self._setup(step.stage, clip)
            started = time.monotonic()  # what a worker needs once is no clip's time
            try:
                outcomes = self._process(step.stage, clip, folder)
            except MachineError:
                raise
            except Exception as error:  # noqa: BLE001 - the one place that records what a stage could not put right
                message, tries = str(error) or type(error).__name__, len(deaths) + 1
                return self._fail(folder, fp, clip, tries, started, type(error).__name__, message, traceback.format_exc())
        seconds = time.monotonic() - started
        self._finish(folder, clip, step.stage, outcomes, seconds)
        if failure is not None:
            self.store.discard(f"{folder}/failed.json")
        return Result(fp, tuple(outcomes), seconds)

    def _setup(self, stage: Stage, clip: Clip) -> None:
        if stage.name in self._ready:
            return
        started = time.monotonic()
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
        seconds = round(time.monotonic() - started, 3)
        self.begun(Notice(Kind.READY, stage=stage.name, clip=clip.id, source=clip.source.id, seconds=seconds))

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
        except Exception as error:
            # Asked before the unfinished files are gone, which would make room.
            if full := disk_error(error, f"{stage.name} worked on {clip.id}", scratch):
                raise full from error
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

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
        return Result(fp, (), time.monotonic() - started, failure)


def _given_up(stage: str, deaths: tuple[Death, ...]) -> tuple[str, str, str] | None:
    """Type, message and trace of the failure of a clip that has lost too many workers at this stage; else None."""
    for kind, (most, name, what) in GIVE_UP.items():
        met = [death for death in deaths if death.kind is kind and death.stage in (None, stage)]
        if len(met) >= most:
            first = met[-1].detail.partition("\n")[0]
            return name, f"{what}, {most} times ({first})", met[-1].detail
    return None


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
        found = parse_json(store.read_bytes(path))
    except (StoreError, FileNotFoundError, ValueError):  # a damaged note is as good as none: the work is done again
        return None
    return found if isinstance(found, dict) else None


def read_done(
    store: Store, folder: str, there: Mapping[str, int | None] | None = None
) -> tuple[tuple[Clip | Drop, ...], float] | None:
    """Outcomes and seconds of a finished stage, or None if it is not finished or a file of it is gone or of another size.

    Args:
        there: what the folder holds (`Store.sizes`), if that is known: on an object store each look is a request.
    """
    there = store.sizes(folder) if there is None else there
    record = _read_json(store, f"{folder}/done.json") if "done.json" in there else None
    if record is None:
        return None
    try:
        outcomes, seconds = _outcomes(record), float(record["seconds"])
    except (StoreError, KeyError, TypeError, ValueError):  # a damaged note is as good as none: the work is done again
        return None
    refs = {ref for outcome in outcomes if isinstance(outcome, Clip) for ref in outcome.assets.values()}
    own = [(ref.path.removeprefix(f"{folder}/"), ref.size) for ref in refs if ref.path.startswith(f"{folder}/")]
    if any(there.get(name) != size for name, size in own):
        return None
    return outcomes, seconds


def _outcomes(record: Any) -> tuple[Clip | Drop, ...]:
    """
    Raises:
        StoreError: if a note does not hold what it should.
    """
    outcomes: list[Clip | Drop] = []
    try:
        for item in record["outcomes"]:
            if "clip" in item:
                outcomes.append(Clip.from_json(item["clip"]))
            else:
                drop = item["drop"]
                outcomes.append(Drop(Clip.from_json(drop["clip"]), DropReason(drop["reason"]), drop["detail"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"a note of finished work is damaged: {type(error).__name__}: {error}", hint=REBUILD) from error
    return tuple(outcomes)


def read_clip(store: Store, event: Event, clip_id: str | None = None) -> Clip:
    """The record a `kept` or `passed` event is about, or that of one of its children.

    Raises:
        StoreError: if the work folder is gone or does not hold it.
    """
    return _clip_in(store, store.read_bytes(_record(event)), clip_id or event.id)


def read_clips(store: Store, events: Sequence[Event]) -> Iterator[Clip]:
    """The records that `kept` events are about, in their order; of an object store many are fetched at a time.

    Raises:
        StoreError: if a work folder is gone or does not hold it.
    """
    for event, data in zip(events, store.read_many([_record(event) for event in events]), strict=True):
        yield _clip_in(store, data, event.id)


def _record(event: Event) -> str:
    assert event.stage is not None and event.fp is not None
    return f"{work_folder(event.stage, event.fp)}/done.json"


def _clip_in(store: Store, record: bytes, wanted: str) -> Clip:
    try:
        found = parse_json(record)
    except ValueError:
        found = None
    for outcome in _outcomes(found):
        if isinstance(outcome, Clip) and outcome.id == wanted:
            return outcome
    raise StoreError(f"the record of clip {wanted} is not in {store}", hint=REBUILD)


def read_failed_clip(store: Store, folder: str) -> Clip:
    """The record that the stage of this work folder failed on."""
    failure = _read_failure(store, folder)
    if failure is None:
        raise StoreError(f"the record of the failure in {folder} in {store} is gone or damaged", hint=REBUILD)
    return Clip.from_json(failure["clip"])


def _read_failure(store: Store, folder: str) -> dict[str, Any] | None:
    """What `_fail` wrote, or None where there is none or it is damaged."""
    failure = _read_json(store, f"{folder}/failed.json")
    texts, seconds = ("type", "message", "traceback", "run"), (failure or {}).get("seconds", -1)
    if failure is None or not all(isinstance(failure.get(name), str) for name in texts):
        return None
    if type(seconds) not in (int, float) or not 0 <= seconds < 1e9:
        return None
    try:
        Clip.from_json(failure.get("clip"))
    except ValueError:
        return None
    return failure


def new_scratch(store: Store) -> Path:
    """An empty folder for one execution, on the store's own disk where it has one, so that finished files are renamed."""
    prefix = scratch_prefix()
    if store.remote:
        return Path(tempfile.mkdtemp(prefix=f"{_AWAY}{prefix}"))
    root = Path(store.root) / SCRATCH
    root.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=root))


def sweep_scratch(store: Store) -> None:
    """Remove what killed processes left. Folders of live processes stay, and young ones of other machines."""
    root, prefix = (Path(tempfile.gettempdir()), _AWAY) if store.remote else (Path(store.root) / SCRATCH, "")
    for item in root.glob(f"{prefix}*") if root.is_dir() else ():
        host, _, rest = item.name.removeprefix(prefix).partition(f"{socket.gethostname()}-")
        owner = rest.partition("-")[0]
        if not host and owner.isdigit():
            stale = not alive(int(owner))
        else:
            stale = not prefix and _old(item)
        if stale and item.is_dir():
            shutil.rmtree(item, ignore_errors=True)
        elif stale:
            item.unlink(missing_ok=True)


def _old(item: Path) -> bool:
    try:
        return time.time() - item.stat().st_mtime > _STALE_S
    except FileNotFoundError:  # its owner on another machine was quicker
        return False
