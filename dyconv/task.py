"""What travels between driver and workers: plans, tasks, and what workers tell of them. Plain values, sent as JSON."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dyconv import errors
from dyconv.errors import DyconvError
from dyconv.ledger import Event
from dyconv.manifest import local_path
from dyconv.models.registry import weight_hashes
from dyconv.recipe import Recipe
from dyconv.records import Clip, Source, dump
from dyconv.stages.base import Limit, Stage


@dataclass(frozen=True)
class Step:
    """A stage of a recipe with the hashes of its weights, the number of splits before it, and its time limit."""

    stage: Stage
    weights: tuple[str, ...]
    level: int
    limit: Limit

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
        steps.append(Step(stage, weights, level, recipe.limit(stage)))
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


class Kind(StrEnum):
    """What a notice is about. The first four are also the ways in which a clip can lose its worker."""

    DIED = "died"  # the worker process ended by itself: a crash in native code, or somebody's kill
    HUNG = "hung"  # it was past its stage's limit and was killed
    MEMORY = "memory"  # it took more memory than it may and was killed
    LOST = "lost"  # the node or the actor is gone
    BEGUN = "begun"  # a stage began to work on a clip; `seconds` is its limit
    READY = "ready"  # a worker has set a stage up (models, imports); `seconds` is what that took
    RECYCLED = "recycled"  # the worker had grown and was replaced between two clips
    JOINED = "joined"  # a worker is there
    STALLED = "stalled"  # there is work, and no worker to give it to; `seconds` is for how long


DEATHS = (Kind.DIED, Kind.HUNG, Kind.MEMORY, Kind.LOST)
TROUBLES = (*DEATHS, Kind.RECYCLED, Kind.STALLED)  # what is told to people


@dataclass(frozen=True)
class Notice:
    """Something that happened to a worker. For logs, metrics and the live state; never part of the ledger."""

    kind: Kind
    worker: str = ""
    stage: str | None = None
    clip: str | None = None
    source: str | None = None
    detail: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value not in (None, "", 0.0)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Notice:
        return cls(**{**data, "kind": Kind(data["kind"])})


@dataclass(frozen=True)
class Death:
    """How a task lost a worker. `stage` is None where nobody saw what it was doing."""

    kind: Kind
    stage: str | None
    detail: str

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "stage": self.stage, "detail": self.detail}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Death:
        return cls(Kind(data["kind"]), data["stage"], data["detail"])


@dataclass(frozen=True)
class Task:
    """A clip about to enter step `step`, and how the workers ended that had it before."""

    clip: Clip
    step: int
    upstream: str
    deaths: tuple[Death, ...] = ()

    def to_json(self) -> dict[str, Any]:
        deaths = [death.to_json() for death in self.deaths]
        return {"clip": self.clip.to_json(), "step": self.step, "upstream": self.upstream, "deaths": deaths}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Task:
        deaths = tuple(Death.from_json(death) for death in data["deaths"])
        return cls(Clip.from_json(data["clip"]), data["step"], data["upstream"], deaths)


@dataclass(frozen=True)
class Report:
    """What a worker tells of the task it holds.

    Attributes:
        items: what came of it since the last report: events, tasks that follow, notices.
        rest: where the task stands now, to go on from if the worker is lost; None when the worker is through with it.
        error: the machine cannot do this work at all: the run stops.
    """

    items: tuple[Event | Task | Notice, ...] = ()
    rest: Task | None = None
    error: DyconvError | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        told = self.error
        error = {"kind": type(told).__name__, "message": told.message, "hint": told.hint} if told else None
        return {
            "items": [{_NAMES[type(item)]: item.to_json()} for item in self.items],
            "rest": self.rest.to_json() if self.rest else None,
            "error": error,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Report:
        items = [_KINDS[name].from_json(value) for item in data["items"] for name, value in item.items()]
        rest = Task.from_json(data["rest"]) if data["rest"] else None
        return cls(tuple(items), rest, _error(data["error"]) if data["error"] else None)


_KINDS: dict[str, type[Event] | type[Task] | type[Notice]] = {"event": Event, "task": Task, "notice": Notice}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def _error(told: dict[str, Any]) -> DyconvError:
    """The error a worker met, of its own class where that is one of ours."""
    kind = getattr(errors, told["kind"], DyconvError)
    error: DyconvError = kind.__new__(kind)
    DyconvError.__init__(error, told["message"], hint=told["hint"])
    return error
