"""`live.json`: what a run is doing now, for `dyconv status --watch` and for anybody's own tools (fields: docs/status.md).

The driver writes it into the output folder every two seconds, on object stores every thirty. It holds no truth: what
became of sources and clips is in the ledger. All ages and rates come from the driver's monotonic clock, so a clock that
is set back changes none of them.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dyconv.errors import DyconvError, StoreError
from dyconv.flow import Flow
from dyconv.ledger import Event, State
from dyconv.records import dump
from dyconv.run_lock import Lease
from dyconv.store import Store
from dyconv.task import Notice

FILE = "live.json"
SCHEMA = 1
EVERY_S, EVERY_REMOTE_S = 2.0, 30.0
WINDOW_S = 300.0  # throughput is that of the last five minutes
_SAMPLE_S = 5.0
_MOST_AT_WORK = 200
_LOG = logging.getLogger(__name__)
_NUMBER, _TEXT = int | float, str | None
_WHERE = {"stage": _TEXT, "clip": _TEXT}
_LIKE: dict[str, Any] = {  # what a reader may rely on
    **{"run": str, "state": str, "started": _NUMBER, "written": _NUMBER, "every_s": _NUMBER, "count": int},
    **{"seconds": _NUMBER, "idle_seconds": _NUMBER, "left_seconds": _NUMBER | None, "share": _NUMBER, "workers_busy": int},
    "driver": {"process": int, "began": int, "place": str, "name": str},
    "sources": {"all": int, "todo": int, "done": int, "open": int},
    "stages": [
        {"stage": str, "seconds": _NUMBER, "per_minute": _NUMBER, "media_hours_per_hour": _NUMBER}
        | dict.fromkeys(("waiting", "at_work", "passed", "dropped", "failed", "reused"), int)
    ],
    "at_work": [{**_WHERE, "worker": str, "seconds": _NUMBER, "limit": _NUMBER}],
    "failures": [{**_WHERE, "reason": _TEXT, "detail": _TEXT, "seconds_ago": _NUMBER}],
    "notices": [{**_WHERE, "kind": str, "worker": str, "detail": str, "seconds_ago": _NUMBER}],
}


class LiveFile:
    """Follows a run (a `Watcher`) and keeps `live.json`. A file that cannot be written never stops the run.

    Args:
        store: the output folder.
        about: `run`, `recipe`, `backend`, `workers`: what the file says of the run as it is.
        levels: see `Flow`.
        sources: in the manifest.
        todo: of them, those that the run is to work on.
        every_s: seconds between two writes; by the kind of store if not given.
    """

    def __init__(
        self,
        store: Store,
        about: Mapping[str, Any],
        levels: Mapping[str, int],
        sources: int,
        todo: int,
        every_s: float | None = None,
    ) -> None:
        self._store, self._about, self._sources = store, dict(about), sources
        self._every_s = every_s if every_s is not None else EVERY_REMOTE_S if store.remote else EVERY_S
        mine = Lease.mine(self._every_s)
        self._driver = {"process": mine.process, "began": mine.began, "place": mine.place, "name": mine.owner}
        self._flow = Flow(levels, todo)
        self._started = time.time()
        self._began = self._moved = time.monotonic()
        self._samples: deque[tuple[float, dict[str, tuple[int, float]]]] = deque([(self._began, {})])
        self._count = 0
        self._writer: threading.Thread | None = None
        self._complained = False
        self._written = self._began
        self._write(self.state("running", self._began))

    def note(self, item: Event | Notice) -> None:
        now = time.monotonic()
        if isinstance(item, Notice):
            self._flow.notice(item, now)
        else:
            self._moved = now
            self._flow.event(item, now)

    def tick(self, now: float) -> None:
        if now - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((now, {name: (row.executed, row.media) for name, row in self._flow.stages.items()}))
            while now - self._samples[0][0] > WINDOW_S:
                self._samples.popleft()
        if now - self._written >= self._every_s:
            self._written = now
            state = self.state("running", now)
            if not self._store.remote:
                self._write(state)
            elif self._writer is None or not self._writer.is_alive():  # slow storage must not keep the driver waiting
                self._writer = threading.Thread(target=self._write, args=(state,), name="live-file", daemon=True)
                self._writer.start()

    def close(self, state: str) -> None:
        if self._writer is not None:
            self._writer.join(10)
        self._write(self.state(state, time.monotonic()))

    def state(self, state: str, now: float) -> dict[str, Any]:
        """Everything the file says, as JSON-ready values."""
        self._count += 1
        flow = self._flow
        at_work = sorted(flow.begun.values(), key=lambda item: item[1])[:_MOST_AT_WORK]
        return {
            "schema": SCHEMA,
            **self._about,
            "state": state,
            "driver": self._driver,
            "started": round(self._started, 3),
            "written": round(time.time(), 3),
            "every_s": self._every_s,
            "count": self._count,
            "seconds": _age(self._began, now),
            "idle_seconds": _age(self._moved, now),
            "left_seconds": self._left(now) if state == "running" else None,
            "sources": {"all": self._sources, "todo": flow.todo, "done": flow.done, "open": flow.open},
            "share": round(self._share(), 4),
            "ended": {str(end): flow.ended[end] for end in (State.KEPT, State.DROPPED, State.FAILED)},
            "stages": self._stages(now),
            "workers_busy": len(flow.begun),
            "at_work": [
                {**_where(notice), "worker": notice.worker, "seconds": _age(since, now), "limit": round(notice.seconds, 1)}
                for notice, since in at_work
            ],
            "failures": [
                {"source": one.source, "clip": one.id, "stage": one.stage, "reason": one.reason}
                | {"detail": one.detail, "seconds_ago": _age(since, now)}
                for one, since in flow.failures
            ],
            "notices": [
                {"kind": str(one.kind), **_where(one), "worker": one.worker, "detail": one.detail.partition("\n")[0][:300]}
                | {"seconds_ago": _age(since, now)}
                for one, since in flow.notices
            ],
        }

    def _stages(self, now: float) -> list[dict[str, Any]]:
        since, before = self._samples[0]
        span = max(now - since, 1e-9)
        queues = self._flow.queues()
        rows = []
        for name, row in self._flow.stages.items():
            executed, media = before.get(name, (0, 0.0))
            waiting, at_work = queues[name]
            rows.append(
                {
                    "stage": name,
                    "waiting": waiting,
                    "at_work": at_work,
                    **{what: getattr(row, what) for what in ("passed", "dropped", "failed", "reused")},
                    "seconds": round(row.seconds, 3),
                    "media_seconds": round(row.media, 3),
                    "per_minute": round(60 * (row.executed - executed) / span, 3),
                    "media_hours_per_hour": round((row.media - media) / span, 4),
                }
            )
        return rows

    def _share(self) -> float:
        return (self._flow.done + self._flow.begun_share) / self._flow.todo if self._flow.todo else 1.0

    def _left(self, now: float) -> float | None:
        """Seconds until the end if the sources to come are like those that were worked on; None while none of them is."""
        flow = self._flow
        worked = flow.executed + flow.begun_share
        if not worked or not flow.todo:
            return None
        return round((flow.todo - flow.done - flow.begun_share) * (now - self._began) / worked, 1)

    def _write(self, state: dict[str, Any]) -> None:
        data = dump(state) + b"\n"
        try:
            if self._store.remote:
                self._store.write_bytes(FILE, data)
            else:
                # Not synced: it is written anew in two seconds, and nothing is lost with it.
                temporary = Path(self._store.root) / f".{FILE}.{os.getpid()}.tmp"
                temporary.write_bytes(data)
                os.replace(temporary, Path(self._store.root) / FILE)
        except (OSError, DyconvError) as error:
            if not self._complained:
                _LOG.warning("%s cannot be written, so `dyconv status` does not see this run at work: %s", FILE, error)
            self._complained = True


def _age(since: float, now: float) -> float:
    return round(max(0.0, now - since), 3)


def _where(notice: Notice) -> dict[str, str | None]:
    return {"stage": notice.stage, "clip": notice.clip, "source": notice.source}


def read_live(store: Store) -> dict[str, Any] | None:
    """What the last driver wrote; None if none did.

    Raises:
        StoreError: if the file is not one that this version writes.
    """
    try:
        data = store.read_bytes(FILE)
    except StoreError:
        return None
    hint = "it is only for watching: delete it, the next run writes it anew"
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{FILE} in {store} is not JSON: {error}", hint=hint) from error
    if isinstance(found, dict) and found.get("schema") != SCHEMA:
        raise StoreError(f"{FILE} in {store} has schema {found.get('schema')!r:.40}, this version reads {SCHEMA}", hint=hint)
    if not _fits(found, _LIKE):
        raise StoreError(f"{FILE} in {store} is not what a driver writes", hint=hint)
    return dict(found)


def _fits(value: Any, like: Any) -> bool:
    if isinstance(like, dict):
        return isinstance(value, dict) and all(name in value and _fits(value[name], part) for name, part in like.items())
    if isinstance(like, list):
        return isinstance(value, list) and all(_fits(item, like[0]) for item in value)
    return isinstance(value, like) and not (isinstance(value, bool) or value != value)


def forget_unfinished(store: Store) -> None:
    """Remove what a driver said last that was killed. For whoever holds the run's lock: nobody else is at work then."""
    try:
        said = read_live(store)
    except StoreError:
        said = {"state": "running"}
    if said is not None and said["state"] == "running":
        store.discard(FILE)


def driver_gone(live: Mapping[str, Any]) -> bool:
    """Whether the process that wrote it is known to have ended: it ran on this machine and is not there any more."""
    driver = live["driver"]
    fields = {"process": driver["process"], "began": driver["began"], "place": driver["place"]}
    return Lease(token="", owner="", since="", every_s=1.0, **fields).gone
