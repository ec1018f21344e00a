"""What a person who started a run sees of it: a moving line on a terminal, else a line now and then, and every failure."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dyconv.flow import Flow
from dyconv.ledger import Event, State
from dyconv.task import TROUBLES, Notice

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_LINE_S = 15.0


class ConsoleProgress:
    """A watcher that tells a console.

    Args:
        levels: see `Flow`.
        total: sources that the run has to do.
    """

    def __init__(self, console: Console, levels: Mapping[str, int], total: int) -> None:
        self._console, self._total = console, total
        self._flow = Flow(levels, total)
        self._counts: Counter[State] = Counter()
        self._last = ""
        self._told = time.monotonic()
        self._bar = _bar(console, total) if console.is_terminal else None

    def note(self, item: Event | Notice) -> None:
        if isinstance(item, Notice):
            if item.kind in TROUBLES:
                where = f" at {item.stage} on {item.clip}" if item.stage else ""
                first = item.detail.partition("\n")[0]
                self._say(f" {item.worker}{where}: {first}", f"worker {item.kind}", "yellow")
            return
        self._flow.event(item, time.monotonic())
        self._last = f"last {item.stage} {item.id}"
        self._counts[item.state] += item.final and not item.reused
        if item.state is State.FAILED:
            self._say(f" {item.id} at {item.stage}: {item.reason}: {item.detail}", "failed", "red")

    def tick(self, now: float) -> None:
        kept, dropped, failed = (self._counts[state] for state in (State.KEPT, State.DROPPED, State.FAILED))
        tally = f"{kept} clips kept, {dropped} dropped, {failed} failed, {self._last}"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._flow.done, description=tally)
        elif now - self._told > _LINE_S:
            self._told = now
            self._say(f"{self._flow.done} of {self._total} sources, {tally}")

    def close(self, state: str) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _say(self, text: str, what: str = "", style: str = "") -> None:
        from rich.text import Text

        self._console.print(Text.assemble((what, style), text))  # as it stands: brackets in a message are no markup


def _bar(console: Console, total: int) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("sources"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    bar = Progress(*columns, console=console, transient=True)
    bar.add_task("", total=total)
    bar.start()
    return bar
