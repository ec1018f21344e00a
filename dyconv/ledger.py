"""The ledger: what became of every source and every clip, as appended lines of JSON.

Only the driver writes it, one file a run (`ledger/000001.jsonl`, ...), so that a line torn by a kill is always the last
of its file and is ignored. It holds no truth of its own: every event follows from the `done.json` and `failed.json` of
the work folders, and a lost tail is written again by the next run, which finds the work done.

A source's story starts with an event `pending`, which makes everything before it void. From then on each item (a source,
a segment, a clip) has events `passed` until it is `dropped`, `failed` or `kept`, or until a splitting stage `passed` it
with `children`. An item is named by its id and its level, the number of splits behind it: a clip that is all of its
segment has the segment's id. Events may be in any order after `pending`.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

from dyconv.errors import StoreError
from dyconv.records import dump
from dyconv.store import Store

T = TypeVar("T")
FOLDER = "ledger"
RUN_FILE = "run.json"
_REMOTE_EVENTS = 500  # an object store cannot append: events go up in parts of this many
_REMOTE_SECONDS = 15.0


class State(StrEnum):
    PENDING = "pending"
    PASSED = "passed"
    DROPPED = "dropped"
    FAILED = "failed"
    KEPT = "kept"
    REMOVED = "removed"  # a source that is no longer in the manifest


_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("source", "id", "state", "stage", "fp", "parent", "reason", "detail"), str),
    **dict.fromkeys(("seconds", "media_in", "media_out"), (int, float)),
    **{"level": int, "children": list, "reused": bool},
}


@dataclass(frozen=True)
class Event:
    """One line. Seconds are wall time of the stage; `media_in` and `media_out` are seconds of media before and after it."""

    source: str
    id: str
    state: State
    level: int = 0
    stage: str | None = None
    fp: str | None = None  # of the stage's output; for `pending` of the source and everything it is to go through
    parent: str | None = None
    reason: str | None = None
    detail: str | None = None
    seconds: float = 0.0
    media_in: float = 0.0
    media_out: float = 0.0
    children: tuple[str, ...] | None = None  # only where a splitting stage passed it on
    reused: bool = False  # nothing was executed for it: it was found done

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value not in (None, False, 0.0) or name == "level"}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Event:
        """
        Raises:
            ValueError: if it is not what `to_json` gives, and where it differs.
        """
        if not isinstance(data, dict) or not {"source", "id", "state"} <= data.keys():
            raise ValueError("expected an object with source, id and state")
        for name, value in data.items():
            if not isinstance(value, _TYPES.get(name, ())) or isinstance(value, bool) != (name == "reused"):
                raise ValueError(f"{name} is {value!r:.80}" if name in _TYPES else f"unknown name {name!r:.80}")
        children = data.get("children")
        if children is not None and not all(isinstance(child, str) for child in children):
            raise ValueError(f"children are {children!r:.80}")
        return cls(**{**data, "state": State(data["state"]), "children": None if children is None else tuple(children)})

    @property
    def final(self) -> bool:
        return self.state in (State.DROPPED, State.FAILED, State.KEPT)


@dataclass
class SourceLog:
    """The current story of one source."""

    id: str
    fp: str | None
    events: list[Event] = field(default_factory=list)
    removed: bool = False

    def items(self) -> dict[tuple[str, int], Event | None]:
        """Every item that must come to an end, by (id, level), with its final event or None. Split ones are not in it."""
        expected, split = {(self.id, 0)}, set()
        final: dict[tuple[str, int], Event] = {}
        for event in self.events:
            key = (event.id, event.level)
            if event.children is not None:
                split.add(key)
                expected.update((child, event.level + 1) for child in event.children)
            elif event.final:
                final[key] = event
        open_items: dict[tuple[str, int], Event | None] = {key: final.get(key) for key in sorted(expected - split)}
        # A result that came in before the event that announces it counts for nothing yet.
        if final.keys() - expected:
            open_items[(self.id, 0)] = None
        return open_items

    @property
    def complete(self) -> bool:
        return all(event is not None for event in self.items().values())

    def kept(self) -> list[Event]:
        return [event for event in self.items().values() if event is not None and event.state is State.KEPT]

    def failed(self) -> list[Event]:
        return [event for event in self.items().values() if event is not None and event.state is State.FAILED]


def read_events(store: Store) -> Iterator[Event]:
    """Every event in the order written. A torn last line of a file is left out.

    Raises:
        StoreError: if a line other than a file's last is not an event.
    """
    return _read(store, Event.from_json)


def _read(store: Store, made_of: Callable[[Any], T]) -> Iterator[T]:
    """What `made_of` makes of every line's JSON."""
    for name, lines in _files(store):
        for number, line in enumerate(lines, 1):
            try:
                yield made_of(json.loads(line))
            except (ValueError, RecursionError, TypeError, KeyError) as error:
                if not line.endswith(b"\n"):
                    break
                raise StoreError(
                    f"line {number} of {FOLDER}/{name} in {store} is not an event: {error}",
                    hint="delete that file and run again: finished work is found by its fingerprints, nothing is redone",
                ) from error


def _files(store: Store) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Each file's name and its lines with their ends; of local ones a line at a time, of remote ones a part at a time."""
    names = [name for name in store.list(FOLDER) if name.endswith(".jsonl")]
    if store.remote:
        parts = store.read_many([f"{FOLDER}/{name}" for name in names])
        yield from ((name, data.splitlines(keepends=True)) for name, data in zip(names, parts, strict=True))
        return
    for name in names:
        with store.local(f"{FOLDER}/{name}").open("rb") as file:
            yield name, file


def _owner(data: Any) -> tuple[str, str]:
    """Source and state of a line: what a first look needs, in a third of the time that an event takes."""
    if not isinstance(source := data["source"], str):
        raise ValueError(f"source is {source!r:.80}")
    return source, data["state"]


def stream_ledger(store: Store) -> Iterator[SourceLog]:
    """The stories that `read_ledger` gives, each handed on after its last event: memory is that of the open ones.

    The ledger is read twice, first to learn where each source's current story begins and ends.
    """
    begin: dict[str, int] = {}
    last: dict[str, int] = {}
    for number, (name, state) in enumerate(_read(store, _owner)):
        last[name] = number
        if state in (State.PENDING, State.REMOVED):
            begin[name] = number
    logs: dict[str, SourceLog] = {}
    for number, event in enumerate(read_events(store)):
        name = event.source
        if name not in begin or number < begin[name]:
            continue
        if number == begin[name]:
            logs[name] = SourceLog(name, event.fp, removed=event.state is State.REMOVED)
        else:
            logs[name].events.append(event)
        if number == last.get(name) and not (log := logs.pop(name)).removed:
            yield log
    yield from (log for log in logs.values() if not log.removed)  # a last line that is no event after all


def read_ledger(store: Store) -> dict[str, SourceLog]:
    """The current story of each source, in the order of their first mention."""
    logs: dict[str, SourceLog] = {}
    for event in read_events(store):
        if event.state in (State.PENDING, State.REMOVED):
            logs[event.source] = SourceLog(event.source, event.fp, removed=event.state is State.REMOVED)
        elif event.source in logs:
            logs[event.source].events.append(event)
    return {name: log for name, log in logs.items() if not log.removed}


class LedgerWriter:
    """Appends events. On a file system each lot is one write; on an object store lots gather into numbered parts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._number = 1 + max((int(name[:6]) for name in store.list(FOLDER) if name[:6].isdigit()), default=0)
        self._file: IO[bytes] | None = None
        self._waiting: list[bytes] = []
        self._since = time.monotonic()

    def add(self, events: Iterable[Event]) -> None:
        lines = [dump(event.to_json()) + b"\n" for event in events]
        if not lines:
            return
        if self._store.remote:
            self._waiting += lines
            if len(self._waiting) >= _REMOTE_EVENTS or time.monotonic() - self._since > _REMOTE_SECONDS:
                self._upload()
            return
        if self._file is None:
            path = Path(self._store.root) / FOLDER / f"{self._number:06d}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        self._file.write(b"".join(lines))

    def _upload(self) -> None:
        if self._waiting:
            self._store.write_bytes(f"{FOLDER}/{self._number:06d}.jsonl", b"".join(self._waiting))
            self._number += 1
        self._waiting, self._since = [], time.monotonic()

    def close(self) -> None:
        self._upload()
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def __enter__(self) -> LedgerWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True)
class Standing:
    """Where a source or a clip stands, as `dyconv status` shows it."""

    id: str
    state: State
    reason: str | None
    stage: str | None
    seconds: float
    detail: str | None = None
    source: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "state": str(self.state),
            "reason": self.reason,
            "stage": self.stage,
            "seconds": round(self.seconds, 3),
        }


def clip_standings(log: SourceLog) -> list[Standing]:
    """Every clip of a source that was not split further. The source itself counts only once it is kept whole."""
    spent: defaultdict[tuple[str, int], float] = defaultdict(float)
    last: dict[tuple[str, int], str | None] = {}
    for event in log.events:
        spent[event.id, event.level] += event.seconds
        last[event.id, event.level] = event.stage
    standings = []
    for (clip_id, level), end in log.items().items():
        if level == 0 and (end is None or end.state is not State.KEPT):
            continue
        key = (clip_id, level)
        if end is None:
            standings.append(Standing(clip_id, State.PENDING, None, last.get(key), spent[key], None, log.id))
        else:
            standings.append(Standing(clip_id, end.state, end.reason, end.stage, spent[key], end.detail, log.id))
    return standings


def source_standing(log: SourceLog) -> Standing:
    """Pending if anything of it is, else kept if any clip is, else failed if any is, else dropped.

    The reason of a source that was split is the most common one among its clips.
    """
    seconds = sum(event.seconds for event in log.events)
    items = list(log.items().values())
    if any(event is None for event in items):
        stage = log.events[-1].stage if log.events else None
        return Standing(log.id, State.PENDING, None, stage, seconds)
    for state in (State.KEPT, State.FAILED, State.DROPPED):
        events = [event for event in items if event is not None and event.state is state]
        if events:
            common = Counter((event.reason, event.stage) for event in events).most_common(1)[0][0]
            detail = next(event.detail for event in events if (event.reason, event.stage) == common)
            return Standing(log.id, state, common[0], common[1], seconds, detail)
    return Standing(log.id, State.DROPPED, None, None, seconds)
