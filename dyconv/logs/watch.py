"""What happens in a run as log records of the driver: its beginning and end, every failure, every worker that is lost."""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyconv import __version__
from dyconv.ledger import Event, State
from dyconv.logs import FOLDER
from dyconv.logs.native import last_words
from dyconv.logs.setup import Logging, file_name, sweep_logs
from dyconv.resources import Machine
from dyconv.store import sha256_of
from dyconv.task import Kind, Notice

if TYPE_CHECKING:
    from dyconv.watch import RunInfo

LOGGER = "dyconv.run"
DRIVER = "driver"
_LOG = logging.getLogger(LOGGER)
_LEVELS = {
    Kind.DIED: logging.ERROR,
    Kind.HUNG: logging.ERROR,
    Kind.MEMORY: logging.ERROR,
    Kind.LOST: logging.ERROR,
    Kind.STALLED: logging.WARNING,
    Kind.RECYCLED: logging.WARNING,
    Kind.JOINED: logging.INFO,
    Kind.BEGUN: logging.DEBUG,
    Kind.READY: logging.INFO,
}
_LONG_S = 0.5  # for setting a stage up; less is not worth a record
_ALIVE = (Kind.BEGUN, Kind.READY, Kind.JOINED, Kind.STALLED)


class LogWatcher:
    """Follows a run (a `Watcher`). It sets up the driver's own logging, and takes it away at the end.

    Args:
        info: the run.
        nodes: what there is to run on.
    """

    def __init__(self, info: RunInfo, nodes: Sequence[Machine]) -> None:
        sweep_logs(info.store)
        told = (LOGGER,) if info.logs.format == "text" else ()  # a person is told the same by the console
        self._logging = Logging(info.store, info.run, DRIVER, info.logs, told=told)
        self._folder = None if info.store.remote else Path(info.store.root) / FOLDER / file_name(info.run)
        self._counts = dict.fromkeys((State.KEPT, State.DROPPED, State.FAILED), 0)
        _tell(logging.INFO, "run started", _about(info, nodes))

    def note(self, item: Event | Notice) -> None:
        if isinstance(item, Notice):
            self._notice(item)
            return
        fields = {"source": item.source, "clip": item.id, "stage": item.stage, "reason": item.reason, "seconds": item.seconds}
        if item.final:
            self._counts[item.state] += 1
        if item.state is State.FAILED and not item.reused:
            _tell(logging.ERROR, f"failed: {item.reason}: {item.detail}", fields)
        elif not item.reused:
            detail = f": {item.reason}: {item.detail}" if item.reason else ""
            _tell(logging.DEBUG, f"{item.state}{detail}", fields)

    def _notice(self, notice: Notice) -> None:
        alive = notice.kind in _ALIVE
        fields: dict[str, Any] = {
            "kind": str(notice.kind),
            "source": notice.source,
            "clip": notice.clip,
            "stage": notice.stage,
            "of_worker": notice.worker or None,
            "seconds": round(notice.seconds, 3) or None,
        }
        first, _, stack = notice.detail.partition("\n")
        fields["stack"] = stack or None
        if self._folder is not None and notice.worker and not alive:
            fields["stderr"] = last_words(self._folder / f"{file_name(notice.worker)}.stderr") or None
        level, name = _LEVELS[notice.kind], f"worker {notice.worker} " if notice.worker else ""
        if notice.kind is Kind.READY:
            level, first = level if notice.seconds >= _LONG_S else logging.DEBUG, f"set up in {notice.seconds:.1f} s"
        _tell(level, f"{name}{notice.kind}{': ' + first if first else ''}", fields)

    def tick(self, now: float) -> None:
        """Nothing: records are written as things happen."""

    def close(self, state: str) -> None:
        for path in self._folder.glob("*.stderr") if self._folder is not None else ():
            if words := last_words(path):
                _tell(logging.INFO, f"last words of {path.stem}", {"stderr": words})
        counts = {str(name): count for name, count in self._counts.items()}
        error = sys.exception()  # that ended the run, if one did
        why = f": {type(error).__name__}: {error}" if error is not None and state != "finished" else ""
        level = {"finished": logging.INFO, "interrupted": logging.WARNING}.get(state, logging.ERROR)
        _tell(level, f"run {state}{why}", {"state": state, **counts})
        self._logging.close()


def _about(info: RunInfo, nodes: Sequence[Machine]) -> dict[str, Any]:
    try:
        manifest = sha256_of(info.manifest)
    except OSError:  # a pipe, or gone meanwhile
        manifest = None
    return {
        "recipe": info.recipe.name,
        "fingerprint": info.plan.fingerprint,
        "manifest": str(info.manifest),
        "manifest_sha256": manifest,
        "sources": info.sources,
        "todo": info.todo,
        "backend": info.backend,
        "workers": info.workers,
        "dyconv": __version__,
        "python": platform.python_version(),
        "nodes": [vars(node) for node in nodes],
    }


def _tell(level: int, message: str, fields: dict[str, Any]) -> None:
    if _LOG.isEnabledFor(level):
        _LOG.log(level, "%s", message, extra={"fields": fields})
