"""What a person who started a run sees of it: a moving line on a terminal, else a line now and then, and every failure."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from dyconv.ledger import Event, State
from dyconv.task import Kind, Notice

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_LINE_S = 15.0
_TOLD = frozenset({Kind.DIED, Kind.HUNG, Kind.MEMORY, Kind.LOST, Kind.RECYCLED, Kind.STALLED})


class OpenSources:
    """Which sources are begun and not complete, from their events alone."""

    def __init__(self) -> None:
        self._open: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
        self.done = 0

    def note(self, event: Event) -> None:
        left = self._open[event.source] or {(event.source, 0)}
        if event.children is not None:
            left = left - {(event.id, event.level)} | {(child, event.level + 1) for child in event.children}
        elif event.final:
            left = left - {(event.id, event.level)}
        self._open[event.source] = left
        if not left:
            del self._open[event.source]
            self.done += 1


class ConsoleProgress:
    """A watcher that tells a console.

    Args:
        total: sources that the run has to do.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._sources = OpenSources()
        self._counts: Counter[State] = Counter()
        self._last = ""
        self._told = time.monotonic()
        self._bar = _bar(console, total) if console.is_terminal else None

    def note(self, item: Event | Notice) -> None:
        if isinstance(item, Notice):
            if item.kind in _TOLD:
                where = f" at {item.stage} on {item.clip}" if item.stage else ""
                first = item.detail.partition("\n")[0]
                self._say(f"[yellow]worker {item.kind}[/] {item.worker}{where}: {first}")
            return
        self._sources.note(item)
        self._last = f"last {item.stage} {item.id}"
        self._counts[item.state] += item.final and not item.reused
        if item.state is State.FAILED:
            self._say(f"[red]failed[/] {item.id} at {item.stage}: {item.reason}: {item.detail}")

    def tick(self, now: float) -> None:
        kept, dropped, failed = (self._counts[state] for state in (State.KEPT, State.DROPPED, State.FAILED))
        tally = f"{kept} clips kept, {dropped} dropped, {failed} failed, {self._last}"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._sources.done, description=tally)
        elif now - self._told > _LINE_S:
            self._told = now
            self._say(f"{self._sources.done} of {self._total} sources, {tally}")

    def close(self, state: str) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False)


def _bar(console: Console, total: int) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("sources"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    bar = Progress(*columns, console=console, transient=True)
    bar.add_task("", total=total)
    bar.start()
    return bar
