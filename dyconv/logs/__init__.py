"""Structured logs: every record says which run, worker, source, clip and stage it is of.

`bind` says what is at work; whatever is logged meanwhile by anybody in the process (this project, other libraries,
Python's `warnings`, native code that writes to stderr) carries it. A record is one line of JSON in
`OUT/logs/<run>/<worker>.jsonl` on a local store, and a line on stderr, which Ray keeps for each of its workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from dyconv.errors import UsageError

FOLDER = "logs"
FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error", "critical")

_bound: ContextVar[dict[str, str] | None] = ContextVar("dyconv_bound", default=None)
_at_work: dict[str, str] = {}  # of the process: threads that a stage starts begin with an empty context


@dataclass(frozen=True)
class LogOptions:
    """What goes to stderr, and how; files always hold JSON of level `info` and above (below, if `level` is lower).

    Raises:
        UsageError: for a format or level that is not known.
    """

    format: str = "text"
    level: str = "warning"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(f"no log format called {self.format!r}", hint=f"there are: {', '.join(FORMATS)}")
        if self.level.lower() not in LEVELS:
            raise UsageError(f"no log level called {self.level!r}", hint=f"there are: {', '.join(LEVELS)}")


AS_USUAL = LogOptions()


@contextmanager
def bind(**fields: str | None) -> Iterator[None]:
    """Add fields (`source`, `clip`, `stage`) to every record made within the block. Costs about a microsecond."""
    global _at_work
    before = _at_work
    _at_work = {**(_bound.get() or before), **{name: value for name, value in fields.items() if value is not None}}
    token = _bound.set(_at_work)
    try:
        yield
    finally:
        from dyconv.logs import native

        native.drain()  # what native code wrote meanwhile belongs to this clip and stage
        _bound.reset(token)
        _at_work = before


def bound() -> dict[str, str]:
    """What this thread, or else the process, is at."""
    return _bound.get() or _at_work
