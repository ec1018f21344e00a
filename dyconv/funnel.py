"""The funnel: what went into each stage, what came out, and why the rest did not. Made from the ledger alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dyconv.ledger import SourceLog, State, clip_standings, source_standing

if TYPE_CHECKING:
    from rich.table import Table

    from dyconv.standings import Standings

MANIFEST = "manifest"  # the stage that rows are dropped at which never were a source


@dataclass
class StageFunnel:
    """One row of the funnel. `entered` and `out` count clips; a splitting stage gives more than it takes."""

    stage: str
    entered: int = 0
    out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    media_in: float = 0.0
    media_out: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "in": self.entered,
            "out": self.out,
            "dropped": dict(sorted(self.dropped.items())),
            "failed": dict(sorted(self.failed.items())),
            "seconds": round(self.seconds, 3),
            "hours_in": round(self.media_in / 3600, 6),
            "hours_out": round(self.media_out / 3600, 6),
        }


@dataclass
class Funnel:
    """All rows, and how many sources and clips ended in which state."""

    stages: list[StageFunnel]
    sources: Counter[str]
    clips: Counter[str]

    def to_json(self) -> dict[str, Any]:
        return {
            "stages": [stage.to_json() for stage in self.stages],
            "sources": {str(state): self.sources[state] for state in _ENDS},
            "clips": {str(state): self.clips[state] for state in _ENDS},
        }


_ENDS = (State.KEPT, State.DROPPED, State.FAILED, State.PENDING)


def make_funnel(logs: Iterable[SourceLog], levels: Mapping[str, int]) -> Funnel:
    """Count a ledger.

    Args:
        logs: the sources to count.
        levels: of each stage, in order: how many splits lie before it.
    """
    rows = {name: StageFunnel(name) for name in (MANIFEST, *levels)}
    sources: Counter[str] = Counter()
    clips: Counter[str] = Counter()
    for log in logs:
        sources[source_standing(log).state] += 1
        clips.update(standing.state for standing in clip_standings(log))
        _count(rows, log, levels)
    if not rows[MANIFEST].entered:
        del rows[MANIFEST]
    return Funnel(list(rows.values()), sources, clips)


def count_funnel(standings: Standings, levels: Mapping[str, int]) -> Funnel:
    """The same as `make_funnel` of a whole ledger, from its standings: for large ones.

    Args:
        standings: what `dyconv.standings.read_standings` gives.
        levels: see `make_funnel`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = {name: StageFunnel(name) for name in (MANIFEST, *levels)}
    events = standings.events
    own = pc.index_in(events["stage"].cast(pa.string()), value_set=pa.array(list(rows)))
    level = pc.take(pa.array([levels.get(name, 0) for name in rows], pa.int32()), own)
    entered = pc.equal(events["level"], level)
    split = pc.list_value_length(events["children"])
    keys = {"stage": events["stage"], "state": events["state"], "reason": events["reason"], "entered": entered}
    sums = {"seconds": events["seconds"], "media_in": events["media_in"], "media_out": events["media_out"]}
    table = pa.table({**keys, **sums, "out": pc.fill_null(split, 1)})
    wanted = [("entered", "count"), *((name, "sum") for name in (*sums, "out"))]
    grouped = table.filter(pc.is_valid(own)).group_by(list(keys), use_threads=False).aggregate(wanted)
    for group in grouped.to_pylist():
        row, times, reason = rows[group["stage"]], group["entered_count"], group["reason"] or ""
        if group["entered"]:
            row.entered += times
            row.media_in += group["media_in_sum"]
        row.seconds += group["seconds_sum"]
        if group["state"] == State.DROPPED:
            row.dropped[reason] += times
            row.out -= 0 if group["entered"] else times
        elif group["state"] == State.FAILED:
            row.failed[reason] += times
        elif group["entered"]:
            row.media_out += group["media_out_sum"]
            row.out += group["out_sum"]
    if not rows[MANIFEST].entered:
        del rows[MANIFEST]
    return Funnel(list(rows.values()), standings.counts["sources"], standings.counts["clips"])


def _count(rows: Mapping[str, StageFunnel], log: SourceLog, levels: Mapping[str, int]) -> None:
    for event in log.events:
        row = rows.get(event.stage or "")
        if row is None:
            continue
        entered = event.level == levels.get(row.stage, 0)
        row.entered += entered
        row.seconds += event.seconds
        row.media_in += event.media_in if entered else 0.0
        if event.state is State.DROPPED:
            row.dropped[event.reason or ""] += 1
            row.out -= not entered  # a child that its parent's event has counted
        elif event.state is State.FAILED:
            row.failed[event.reason or ""] += 1
        elif entered:
            row.media_out += event.media_out
            row.out += 1 if event.children is None else len(event.children)


def funnel_table(funnel: Funnel) -> Table:
    """The funnel for a terminal."""
    from rich.table import Table

    table = Table(title="funnel", title_justify="left")
    for name in ("stage", "in", "out", "hours in", "hours out", "stage time"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    table.add_column("dropped")
    table.add_column("failed")
    for row in funnel.stages:
        counts = [str(row.entered), str(row.out), f"{row.media_in / 3600:.3f}", f"{row.media_out / 3600:.3f}"]
        table.add_row(row.stage, *counts, f"{row.seconds:.1f} s", _reasons(row.dropped), _reasons(row.failed))
    return table


def _reasons(counts: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
