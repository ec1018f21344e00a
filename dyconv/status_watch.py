"""`dyconv status --watch`: a run while it goes on, from its ledger and its `live.json`. It only reads."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dyconv.ledger_columns import LedgerColumns
from dyconv.live import driver_gone, read_live
from dyconv.standings import work_out
from dyconv.status import ORDER
from dyconv.store import Store

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_SILENT = 5  # writes of live.json that do not come until a driver on another machine is held for lost
_SILENT_S = 60.0  # but not before
_QUIET_S = 120.0  # without anything ended, after which it is told
_SHARE = 0.1  # of the time that may go into working the ledger out
_LINE_S = 10.0  # between two lines where there is no terminal
_ROWS = 8  # at work, failures, notices


@dataclass
class Watched:
    """What one look after the other has found.

    Attributes:
        live: the driver's last words, or None if there are none.
        counts: `sources` and `clips` by state, from the ledger.
        silent: seconds, by this process's clock, since the driver has last written.
    """

    store: Store
    live: dict[str, Any] | None = None
    counts: Mapping[str, Counter[str]] = field(default_factory=lambda: {"sources": Counter(), "clips": Counter()})
    silent: float = 0.0
    _columns: LedgerColumns = field(init=False)
    _heard: tuple[object, float] | None = None
    _worked_out: float = float("-inf")
    _cost: float = 0.0

    def __post_init__(self) -> None:
        self._columns = LedgerColumns(self.store)

    def look(self, *, all_of_it: bool = False) -> None:
        """Read what is new. The ledger is worked out anew only so often that little time goes into it.

        Raises:
            StoreError: if the ledger is damaged.
        """
        self.live = read_live(self.store)
        now = time.monotonic()
        sign = (self.live["run"], self.live["count"]) if self.live else None
        if self._heard is None or self._heard[0] != sign:
            # What was written before this process looked may be old; clocks of two machines say how old at best.
            old = time.time() - self.live["written"] if self.live and self._heard is None else 0.0
            self._heard = (sign, now - max(0.0, old))
        self.silent = now - self._heard[1]
        if all_of_it or now - self._worked_out > self._cost / _SHARE:
            if self._columns.refresh() or self._worked_out < 0:
                self.counts = work_out(self._columns.table()).counts
            self._worked_out = time.monotonic()
            self._cost = self._worked_out - now

    @property
    def state(self) -> str:
        """`running`, `silent` (it may be lost), `gone`, `never` (no driver has told anything), or as the driver ended."""
        return state_of(self.live, self.silent)


def state_of(live: Mapping[str, Any] | None, silent: float) -> str:
    """See `Watched.state`."""
    if live is None:
        return "never"
    if live["state"] != "running":
        return str(live["state"])
    if driver_gone(live):
        return "gone"
    return "silent" if silent > max(_SILENT_S, _SILENT * live["every_s"]) else "running"


def follow(store: Store, out: str, console: Console, interval: float) -> int:
    """Show a run until it ends. Gives the exit status of the command."""
    watched = Watched(store)
    try:
        if console.is_terminal:
            from rich.live import Live

            with Live(console=console, auto_refresh=False, screen=False) as view:
                while True:
                    watched.look()
                    view.update(picture(watched, out), refresh=True)
                    if watched.state not in ("running", "silent"):
                        break
                    time.sleep(interval)
                watched.look(all_of_it=True)
                view.update(picture(watched, out), refresh=True)
        else:
            _lines(watched, out, console, interval)
    except KeyboardInterrupt:
        console.print("left; the run goes on without being watched", markup=False)
        return 0
    return 0 if watched.state == "finished" else 1


def _lines(watched: Watched, out: str, console: Console, interval: float) -> None:
    """One line now and then, and one for each failure."""
    told: set[tuple[str, str]] = set()
    last = float("-inf")
    while True:
        watched.look()
        live = watched.live
        for one in reversed(live["failures"] if live else []):
            if (one["clip"], one["stage"]) not in told:
                told.add((one["clip"], one["stage"]))
                console.print(_failure(one), soft_wrap=True, markup=False)
        ended = watched.state not in ("running", "silent")
        if ended:
            watched.look(all_of_it=True)
        if ended or time.monotonic() - last >= max(interval, _LINE_S if interval >= 1 else interval):
            last = time.monotonic()
            busy = f"; at work: {_doing(live)}" if live and not ended else ""
            for line in (*head(watched, out)[: None if ended else 1], f"  sources: {_tally(watched.counts['sources'])}{busy}"):
                console.print(line, soft_wrap=True, markup=False)
        if ended:
            return
        time.sleep(interval)


def head(watched: Watched, out: str) -> list[str]:
    """What the run is, how far it is, and what to do if it does not go on."""
    lines = [state_line(watched.live, watched.counts["sources"]["pending"], watched.silent)]
    if advice := _advice(watched, out):
        lines.append(advice)
    return lines


def state_line(live: Mapping[str, Any] | None, pending: int, silent: float | None = None) -> str:
    """One line on the last driver. `silent`: seconds since it was heard; by the machines' clocks if not given."""
    if live is None:
        return f"no driver has told of itself here; {pending:,} sources pending"
    if silent is None:
        silent = max(0.0, time.time() - live["written"])
    who, sources = live["driver"]["name"], live["sources"]
    done = f"{sources['done']:,} of {sources['todo']:,} sources, {live['share']:.1%}"
    state = state_of(live, silent)
    if state == "gone" and not pending:
        return f"nothing is pending; the driver ({who}) did not end by itself: run the same command again if it was to pack"
    if state == "gone":
        return f"the driver ({who}) is gone: it did not end by itself; {done} when it was last heard"
    if state == "silent":
        return f"the driver ({who}) has not been heard for {_span(silent)}; {done}"
    if state != "running":
        return f"the last run {'was ' if state == 'interrupted' else ''}{state} after {_span(live['seconds'])}: {done}"
    left = "time left not known yet" if live["left_seconds"] is None else f"about {_span(live['left_seconds'])} left"
    quiet = _span(live["idle_seconds"] + silent)
    return f"running for {_span(live['seconds'])} ({who}): {done}, {left}; last result {quiet} ago"


def _advice(watched: Watched, out: str) -> str | None:
    state, live = watched.state, watched.live
    if state == "gone" and not watched.counts["sources"]["pending"]:
        return None
    again = f"run the same command again: what is finished stays (`dyconv logs {out}` shows the end of it)"
    if state in ("gone", "interrupted"):
        return again
    if state == "failed":
        return f"it could not go on: `dyconv logs {out}` says why; then {again.partition(' (')[0]}"
    if state == "silent":
        return "if its machine is down, run the same command again; else look at what keeps it from writing live.json"
    if state == "never":
        return "nobody works here now, or a version that tells nothing; `dyconv run` begins or goes on"
    if state == "running" and live is not None and live["idle_seconds"] + watched.silent > _QUIET_S:
        return f"nothing has ended for {_span(live['idle_seconds'] + watched.silent)}; at work: {_doing(live)}"
    return None


def picture(watched: Watched, out: str) -> RenderableType:
    """Everything, for a terminal."""
    from rich.console import Group
    from rich.text import Text

    ill = watched.state not in ("running", "finished")
    first, *advice = head(watched, out)
    parts: list[RenderableType] = [Text(first, style="bold red" if ill else "bold")]
    parts += [Text(line, style="yellow") for line in advice]
    parts += [Text(f"{name}: {_tally(counts)}") for name, counts in watched.counts.items()]
    live = watched.live
    if live is None:
        return Group(*parts)
    parts.append(_stages(live))
    if live["state"] == "running" and watched.state != "gone":
        busy = [_at_work(one) for one in live["at_work"][:_ROWS]]
        more = live["workers_busy"] - len(busy)
        parts.append(Text(f"at work ({live['workers_busy']}), the longest first", style="bold"))
        parts += [
            Text(line, no_wrap=True, overflow="ellipsis") for line in (*busy, *((f"  and {more} more",) if more > 0 else ()))
        ]
    for name, lines in (
        ("failed last", [_failure(one) for one in live["failures"][:_ROWS]]),
        ("workers lost, and what else happened to them", [_notice(one) for one in live["notices"][:_ROWS]]),
    ):
        if lines:
            parts.append(Text(name, style="bold"))
            parts += [Text(f"  {line}", no_wrap=True, overflow="ellipsis") for line in lines]
    return Group(*parts)


def _stages(live: Mapping[str, Any]) -> RenderableType:
    from rich.table import Table

    view = Table()
    heads = ("waiting", "at work", "passed", "dropped", "failed", "found done", "clips/min", "media h/h", "stage time")
    view.add_column("stage")
    for name in heads:
        view.add_column(name, justify="right")
    for row in live["stages"]:
        counts = [f"{row[what]:,}" for what in ("waiting", "at_work", "passed", "dropped", "failed", "reused")]
        rates = [f"{row['per_minute']:,.1f}", f"{row['media_hours_per_hour']:.2f}", _span(row["seconds"])]
        view.add_row(row["stage"], *counts, *rates)
    return view


def _tally(counts: Counter[str]) -> str:
    parts = ", ".join(f"{counts[end]:,} {end}" for end in ORDER if counts[end])
    return f"{sum(counts.values()):,}" + (f" ({parts})" if parts else "")


def _doing(live: Mapping[str, Any] | None) -> str:
    return "; ".join(_at_work(one).strip() for one in (live or {}).get("at_work", [])[:2]) or "nothing"


def _at_work(one: Mapping[str, Any]) -> str:
    limit = f" of at most {_span(one['limit'])}" if one["limit"] else ""
    return f"  {one['stage']} {one['clip']} for {_span(one['seconds'])}{limit}" + (
        f" ({one['worker']})" if one["worker"] else ""
    )


def _failure(one: Mapping[str, Any]) -> str:
    detail = " ".join((one["detail"] or "").split())
    return f"failed {one['clip']} at {one['stage']}: {one['reason']}: {detail}"


def _notice(one: Mapping[str, Any]) -> str:
    where = f" at {one['stage']} on {one['clip']}" if one["stage"] else ""
    return f"{_span(one['seconds_ago'])} ago: {one['kind']} {one['worker']}{where}: {one['detail']}"


def _span(seconds: float) -> str:
    """A length of time for a person."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
