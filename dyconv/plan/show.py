"""A prediction for a person, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dyconv.plan.answer import Interval, Prediction
from dyconv.report.words import short

if TYPE_CHECKING:
    from rich.console import Console


_TIMES = (("h", 3600.0), ("min", 60.0), ("s", 1.0))
_SIZES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_MONEY = (("", 1.0),)
Units = Sequence[tuple[str, float]]


def amount(value: float, units: Units, low: float | None = None, high: float | None = None) -> str:
    """A number in the unit that suits it, with its bounds in the same one."""
    name, factor = next((unit for unit in units if value >= 1.5 * unit[1]), units[-1])
    bounds = "" if low is None or high is None else f" ({short(low / factor)} to {short(high / factor)})"
    return f"{short(value / factor)}{' ' + name if name else ''}{bounds}"


def bounded(value: Interval, units: Units) -> str:
    return amount(value.value, units, value.low, value.high)


def span(seconds: float) -> str:
    return amount(seconds, _TIMES)


def show(console: Console, main: Prediction, others: Sequence[Prediction], cluster: str, lengths: str) -> None:
    """Print stages, totals and assumptions of `main`, and the totals of `others` beside it."""
    from rich.table import Table

    console.print(f"{main.sources:,} sources, {main.media_s / 3600:,.2f} h ({lengths}), on {cluster}", highlight=False)
    table = Table("stage", title="work by stage", title_justify="left")
    for name in ("items", "hours of media", "worker time", "share", "x real time"):
        table.add_column(name, justify="right")
    total = max(main.worker_s, 1e-9)
    for stage in main.stages:
        speed = f"{stage.media_s / stage.work.value:,.1f}" if stage.work.value > 0 and stage.media_s else ""
        cells = [f"{stage.items:,.0f}", f"{stage.media_s / 3600:,.2f}", bounded(stage.work, _TIMES)]
        table.add_row(stage.name, *cells, f"{stage.work.value / total:.0%}", speed)
    console.print(table)
    for pool in main.pools:
        asks = f"{pool.asks.cpus:g} CPUs" + (f", {pool.asks.gpus:g} GPUs" if pool.asks.gpus else "")
        busy = f"{span(pool.work_s)} of work in {span(3600 * pool.hours)}"
        console.print(f"{pool.workers} workers ({asks} each) for {', '.join(pool.stages)}: {busy}", highlight=False)
    console.print(f"bottleneck: {main.bottleneck}; the longest source alone takes {span(main.longest_s)}", highlight=False)
    table = Table("", title="in all; in brackets where it lies nine times of ten", title_justify="left")
    everything = [main, *others]
    for number, each in enumerate(everything):
        table.add_column("this manifest" if not number else f"{each.media_s / 3600:,.0f} h", justify="right")
    for name, texts in zip(_ROWS, zip(*(_cells(each) for each in everything), strict=True), strict=True):
        table.add_row(name, *texts)
    console.print(table)
    console.print("assumed:", highlight=False)
    for line in main.assumptions:
        console.print(f"- {line}", highlight=False)


_ROWS = (
    "sources",
    "time on the clock",
    "worker time",
    "kept",
    "clips",
    "work folder",
    "shards",
    "downloaded",
    "moved, remote store",
    "machines",
    "storage",
    "shards to the internet",
)


def _cells(each: Prediction) -> tuple[str, ...]:
    unknown = "not priced"
    return (
        f"{each.sources:,}",
        bounded(each.wall_s, _TIMES),
        span(each.worker_s),
        bounded(each.kept_s, _TIMES),
        f"{each.kept:,.0f}",
        bounded(each.work_bytes, _SIZES),
        bounded(each.shard_bytes, _SIZES),
        amount(each.download_bytes, _SIZES),
        amount(each.moved_bytes, _SIZES),
        unknown if each.compute_cost is None else bounded(each.compute_cost, _MONEY),
        unknown if each.storage_cost is None else amount(each.storage_cost, _MONEY),
        unknown if each.egress_cost is None else amount(each.egress_cost, _MONEY),
    )


def to_json(each: Prediction) -> dict[str, Any]:
    """All numbers: seconds, bytes and money."""
    return {**asdict(each), "worker_s": each.worker_s}
