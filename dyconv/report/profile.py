"""Where the time went: each stage's share of the work, how its clips spread, and what of the workers' time was no work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from dyconv.ledger import Event, SourceLog, State
from dyconv.plan.measure import Samples, media_of
from dyconv.report.plots import Bar, bars
from dyconv.report.words import hours

_SLOWEST = 3


@dataclass(frozen=True)
class Slow:
    """A clip that took long: seconds of work, and of its media."""

    id: str
    seconds: float
    media_s: float


@dataclass(frozen=True)
class StageProfile:
    """The work of one stage, in seconds; `setup_s` (models, imports; of the last run) is not part of the others.

    Attributes:
        work_s: of all items together.
        media_s: seconds of media that went in.
        median_s, p95_s: of one item.
        failed_s: of `work_s`, spent on items that failed.
    """

    stage: str
    items: int
    work_s: float
    setup_s: float
    media_s: float
    median_s: float
    p95_s: float
    failed_s: float
    slowest: tuple[Slow, ...]

    @property
    def per_media_s(self) -> float | None:
        return self.work_s / self.media_s if self.media_s > 0 else None

    @property
    def x_real_time(self) -> float | None:
        return self.media_s / self.work_s if self.media_s > 0 and self.work_s > 0 else None


@dataclass(frozen=True)
class RunProfile:
    """The last run on the clock, in worker seconds where not said otherwise.

    Attributes:
        wall_s: on the clock.
        stages_s: in stages.
        setup_s: to set stages up.
        handing_s: a worker had an item, and was not in a stage with it: reading, storing, reporting.
        idle_s: a worker had nothing to do.
        startup_s: on the clock, until the first stage began.
        deaths: workers that were lost.
        reused: items that earlier runs had done.
    """

    wall_s: float
    stages_s: float
    setup_s: float
    handing_s: float
    idle_s: float
    startup_s: float
    deaths: int
    reused: int

    @property
    def workers(self) -> float:
        """How many there were on average."""
        return self.whole_s / self.wall_s if self.wall_s else 0.0

    @property
    def whole_s(self) -> float:
        """All time of all workers."""
        return self.stages_s + self.setup_s + self.handing_s + self.idle_s


def profile(logs: Iterable[SourceLog], levels: Mapping[str, int], samples: Samples | None = None) -> list[StageProfile]:
    """Of each stage in order; stages that did nothing are left out.

    Args:
        logs: the sources to count, with the results of earlier runs that were used.
        levels: of each stage, in order: how many splits lie before it.
        samples: metrics of the last run, which say what setting up took.
    """
    events: dict[str, list[Event]] = {name: [] for name in levels}
    for log in logs:
        for event in log.events:
            if event.stage is not None and event.level == levels.get(event.stage):
                events[event.stage].append(event)
    setup = {name: samples.total("dyconv_setup_seconds_sum", stage=name) if samples else 0.0 for name in levels}
    return [_stage(name, found, setup[name]) for name, found in events.items() if found]


def _stage(name: str, events: Sequence[Event], setup: float) -> StageProfile:
    work = np.array([event.seconds for event in events])
    median, high = np.percentile(work, [50, 95])
    slowest = sorted(events, key=lambda event: (-event.seconds, event.id))[:_SLOWEST]
    return StageProfile(
        stage=name,
        items=len(events),
        work_s=float(work.sum()),
        setup_s=setup,
        media_s=sum(media_of(event) for event in events),
        median_s=float(median),
        p95_s=float(high),
        failed_s=sum(event.seconds for event in events if event.state is State.FAILED),
        slowest=tuple(Slow(event.id, event.seconds, media_of(event)) for event in slowest),
    )


def run_profile(samples: Samples | None) -> RunProfile | None:
    """The last run, from its metrics; None where there are none, or where it did nothing."""
    if samples is None:
        return None
    setup = samples.total("dyconv_setup_seconds_sum")
    wall, stages = samples.total("dyconv_run_seconds"), samples.total("dyconv_stage_seconds_sum")
    busy, idle = (samples.total("dyconv_worker_seconds_total", state=state) for state in ("busy", "idle"))
    if not wall or not stages:
        return None
    handing = max(0.0, busy - stages - setup)
    return RunProfile(
        wall_s=wall,
        stages_s=stages,
        setup_s=setup,
        handing_s=handing,
        idle_s=max(0.0, busy + idle - stages - setup - handing),  # work in the driver's own process is seen only afterwards
        startup_s=samples.total("dyconv_startup_seconds"),
        deaths=_count(samples, "dyconv_worker_deaths_total"),
        reused=_count(samples, "dyconv_reused_total"),
    )


def _count(samples: Samples, name: str) -> int:
    return round(samples.total(name))


def stages_figure(stages: Sequence[StageProfile]) -> Markup:
    """One bar a stage: work on what went on, work on what failed, set-up."""
    total = sum(stage.work_s + stage.setup_s for stage in stages)
    drawn = []
    for stage in stages:
        whole = stage.work_s + stage.setup_s
        speed = f", {stage.x_real_time:.1f} x real time" if stage.x_real_time is not None else ""
        parts = [
            ("time", stage.work_s - stage.failed_s, f"{hours(stage.work_s - stage.failed_s)} of work"),
            ("failed", stage.failed_s, f"{hours(stage.failed_s)} on what failed"),
            ("rest", stage.setup_s, f"{hours(stage.setup_s)} to set up"),
        ]
        drawn.append(Bar(stage.stage, parts, f"{hours(whole)}, {whole / total if total else 0.0:.0%}{speed}"))
    return bars(drawn, max((stage.work_s + stage.setup_s for stage in stages), default=0.0))


def run_figure(run: RunProfile) -> Markup:
    """The workers' time of the last run as one bar."""
    whole = run.whole_s
    parts = [
        ("time", run.stages_s, f"{hours(run.stages_s)} in stages"),
        ("out", run.setup_s, f"{hours(run.setup_s)} to set up"),
        ("dropped", run.handing_s, f"{hours(run.handing_s)} between stages"),
        ("rest", run.idle_s, f"{hours(run.idle_s)} with nothing to do"),
    ]
    return bars([Bar("workers", parts, f"{run.stages_s / whole if whole else 0.0:.0%} of {hours(whole)} in stages")], whole)
