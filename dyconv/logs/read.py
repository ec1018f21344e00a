"""Logs read back: the files of all workers of a run, or of all runs, as one in order of time."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyconv.errors import UsageError
from dyconv.logs import FOLDER, LEVELS
from dyconv.store import Store

_POLL_S = 0.5
_WIDEST = 64 * 1024  # characters of a line: a longer one is not ours


@dataclass(frozen=True)
class Wanted:
    """What a reader asks for; None asks for all.

    Raises:
        UsageError: for a level that is not known.
    """

    clip: str | None = None  # of a clip, or of the source with this id
    stage: str | None = None
    level: str = "debug"
    run: str | None = None

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise UsageError(f"no log level called {self.level!r}", hint=f"there are: {', '.join(LEVELS)}")

    def takes(self, record: dict[str, Any]) -> bool:
        level = str(record.get("level", "info"))
        return (
            (self.clip is None or self.clip in (record.get("clip"), record.get("source")))
            and (self.stage is None or self.stage == record.get("stage"))
            and (self.run is None or self.run == record.get("run"))
            and (LEVELS.index(level) if level in LEVELS else 1) >= LEVELS.index(self.level)
        )


def log_folder(store: Store) -> Path:
    """Where the logs of an output folder lie.

    Raises:
        UsageError: if there are none.
    """
    if store.remote:
        raise UsageError(
            f"{store} is an object store, which has no log files",
            hint="workers log to stderr: see Ray's log files, or what collects them",
        )
    folder = Path(store.root) / FOLDER
    if not folder.is_dir():
        raise UsageError(f"{store} has no {FOLDER}/", hint="give the --out of a `dyconv run`; older runs wrote no logs")
    return folder


def read_logs(store: Store, wanted: Wanted | None = None) -> Iterator[dict[str, Any]]:
    """Every record asked for, by time. One line of each file is in memory at a time.

    Raises:
        UsageError: if there are no logs.
    """
    wanted = wanted or Wanted()
    files = [_records(path) for path in _files(log_folder(store))]
    for record in heapq.merge(*files, key=lambda record: str(record["time"])):
        if wanted.takes(record):
            yield record


def follow_logs(
    store: Store, wanted: Wanted | None = None, *, ended: Callable[[], bool] = lambda: False
) -> Iterator[dict[str, Any]]:
    """Records that are written from now on, until `ended`; new workers and runs are noticed."""
    wanted = wanted or Wanted()
    folder = log_folder(store)
    # A file is known by its inode: a rotated one goes on under another name.
    places = {path.stat().st_ino: path.stat().st_size for path in _files(folder)}
    while True:
        last = ended()
        found: list[dict[str, Any]] = []
        for path in _files(folder):
            try:
                with path.open("rb") as file:
                    node = path.stat().st_ino
                    file.seek(places.get(node, 0))
                    for line in file:
                        if not line.endswith(b"\n"):
                            break  # still being written
                        places[node] = places.get(node, 0) + len(line)
                        found += _parsed([line])
            except FileNotFoundError:
                continue
        yield from (record for record in sorted(found, key=lambda record: str(record["time"])) if wanted.takes(record))
        if last:
            return
        time.sleep(_POLL_S)


def _files(folder: Path) -> list[Path]:
    """All files of a worker stand together, the oldest first: `w.jsonl.2`, `w.jsonl.1`, `w.jsonl`."""
    found = [path for path in folder.glob("*/*.jsonl*") if path.is_file()]

    def age(path: Path) -> int:
        return -int(path.suffix[1:]) if path.suffix[1:].isdigit() else 0

    return sorted(found, key=lambda path: (path.parent.name, path.name.split(".jsonl")[0], age(path)))


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            yield from _parsed(iter(lambda: file.readline(_WIDEST), b""))
    except FileNotFoundError:  # rotated away meanwhile
        return


def _parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Records of the lines that are records; a line torn by a kill is passed over."""
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("time"), str):
            yield record
