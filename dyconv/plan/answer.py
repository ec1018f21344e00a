"""What a prediction says."""

from __future__ import annotations

from dataclasses import dataclass, field

from dyconv.stages.base import Resources


@dataclass(frozen=True)
class Interval:
    """A value with where it lies nine times of ten; without bounds where too little was measured to say."""

    value: float
    low: float | None = None
    high: float | None = None

    def times(self, factor: float) -> Interval:
        low, high = (None if bound is None else bound * factor for bound in (self.low, self.high))
        return Interval(self.value * factor, low, high)


@dataclass(frozen=True)
class StagePlan:
    """What reaches a stage, and the seconds of work it makes."""

    name: str
    items: float
    media_s: float
    work: Interval
    pool: int


@dataclass(frozen=True)
class PoolPlan:
    """Workers of one kind: the stages they do, how many there are, and how long they are busy."""

    stages: tuple[str, ...]
    asks: Resources
    workers: int
    work_s: float
    hours: float


@dataclass(frozen=True)
class Prediction:
    """Everything about one amount of sources on one cluster. Bytes are of 10^9 a GB in what is shown."""

    sources: int
    media_s: float
    kept: float
    kept_s: Interval
    stages: tuple[StagePlan, ...]
    pools: tuple[PoolPlan, ...]
    wall_s: Interval
    bottleneck: str
    longest_s: float
    pack_s: float
    work_bytes: Interval
    shard_bytes: Interval
    download_bytes: float
    moved_bytes: float
    compute_cost: Interval | None
    storage_cost: float | None
    egress_cost: float | None
    assumptions: tuple[str, ...] = field(default=())

    @property
    def worker_s(self) -> float:
        return sum(stage.work.value for stage in self.stages)
