"""Where records go: handlers, formats and limits of one process."""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import shutil
import socket
import sys
import traceback
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from dyconv.logs import FOLDER, LogOptions, bound
from dyconv.logs.native import NativeStderr
from dyconv.logs.redact import redact, secret_values
from dyconv.store import Store

_FILE_BYTES = 8 * 2**20
_FILE_BACKUPS = 2  # so at most 24 MiB a worker
_TEXT = 4000  # characters of one message
_NOISY = ("matplotlib", "PIL", "numba", "fsspec", "s3fs", "botocore", "aiobotocore", "urllib3", "asyncio", "h5py", "torio")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Context(logging.Filter):
    """Puts what is at work onto each record, and takes the secrets out of it."""

    def __init__(self, about: dict[str, Any]) -> None:
        super().__init__()
        self._about = about
        self._secrets = secret_values()

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "dyconv"):
            given = getattr(record, "fields", {})
            fields = {**self._about, **bound(), **{name: value for name, value in given.items() if value is not None}}
            record.dyconv = {name: self._clean(value) for name, value in fields.items()}
            try:
                text = record.getMessage()
            except Exception as error:  # noqa: BLE001 - another library's wrong call must not lose its own message
                text = f"{record.msg} ({type(error).__name__}: {error})"
            record.msg, record.args = redact(text, self._secrets)[:_TEXT], ()
            if record.exc_info and record.exc_info[0] is not None:
                said = "".join(traceback.format_exception(*record.exc_info))
                record.exception = {
                    "type": record.exc_info[0].__name__,
                    "message": redact(str(record.exc_info[1]), self._secrets)[:_TEXT],
                    "traceback": redact(said, self._secrets)[-4 * _TEXT :],
                }
                record.exc_info, record.exc_text = None, None
        return True

    def _clean(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._clean(item) for item in value]
        if isinstance(value, dict):
            return {str(name): self._clean(item) for name, item in value.items()}
        return redact(value, self._secrets)[:_TEXT] if isinstance(value, str) else value


class JsonLines(logging.Formatter):
    """One JSON object a record: time (ISO 8601, UTC, milliseconds), level, logger, message, then what is at work."""

    def format(self, record: logging.LogRecord) -> str:
        data: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "dyconv", {}),
        }
        if exception := getattr(record, "exception", None):
            data["exception"] = exception
        return json.dumps(data, ensure_ascii=False, default=str)


class Text(logging.Formatter):
    """The same for a person."""

    def format(self, record: logging.LogRecord) -> str:
        return as_text(json.loads(JsonLines().format(record)))


def as_text(record: dict[str, Any]) -> str:
    """A record for a person: time of day (UTC), level, stage and clip, message, traceback."""
    where = " ".join(str(record[name]) for name in ("stage", "clip") if record.get(name))
    level = str(record.get("level", "")).upper()
    line = f"{str(record['time'])[11:23]} {level} {where + ': ' if where else ''}{record.get('message', '')}"
    for name in ("stack", "stderr"):
        if said := record.get(name):
            line += "\n" + ("\n".join(map(str, said)) if isinstance(said, list) else str(said).rstrip())
    exception = record.get("exception")
    if isinstance(exception, dict):
        line += f"\n{str(exception.get('traceback', '')).rstrip()}"
    # What a title or a server says must neither steer the terminal nor look like another record.
    return _CONTROL.sub("?", line).replace("\n", "\n  ")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _File(RotatingFileHandler):
    """A full or broken disk costs log lines, never the run."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


class _Terminal(logging.StreamHandler):
    """Writes to the stderr of the moment: a progress bar may have put itself before it."""

    def __init__(self, stream: IO[str] | None) -> None:
        super().__init__(stream or sys.stderr)
        self._fixed = stream

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = self._fixed or sys.stderr
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        pass


class Logging:
    """The logging of this process from now until `close`, which puts back what was there.

    Args:
        store: the output folder; files are written only where it is local.
        run: name of the run.
        worker: name of this worker; `driver` for the driver.
        options: of stderr.
        native: lead the process's stderr into the log too: for processes that are all the run's own.
        told: loggers whose records stderr does not get, because a person is told the same in another way.
    """

    def __init__(
        self,
        store: Store,
        run: str,
        worker: str,
        options: LogOptions | None = None,
        *,
        native: bool = False,
        told: tuple[str, ...] = (),
    ) -> None:
        options = options or LogOptions()
        about = {"run": run, "worker": worker, "host": socket.gethostname(), "pid": os.getpid()}
        self._root = logging.getLogger()
        self._before = (self._root.level, list(self._root.handlers))
        self._context = Context(about)
        level = logging.getLevelNamesMapping()[options.level.upper()]
        handlers: list[logging.Handler] = []
        folder = None if store.remote else Path(store.root) / FOLDER / file_name(run)
        if folder is not None and (file := _file(folder / f"{file_name(worker)}.jsonl")):
            file.setFormatter(JsonLines())
            file.setLevel(min(level, logging.INFO))
            handlers.append(file)
        words = folder / f"{file_name(worker)}.stderr" if folder is not None else None
        self._native = NativeStderr(words) if native else None
        atexit.register(self.close)
        self._open = True
        terminal = _Terminal(self._native.terminal if self._native else None)
        terminal.setFormatter(JsonLines() if options.format == "json" else Text())
        terminal.setLevel(level)
        if told:
            terminal.addFilter(lambda record: not record.name.startswith(told))
        handlers.append(terminal)
        for handler in handlers:
            handler.addFilter(self._context)
            self._root.addHandler(handler)
        self._handlers = handlers
        self._root.setLevel(min(level, logging.INFO))
        logging.captureWarnings(True)
        for name in _NOISY:
            logging.getLogger(name).setLevel(max(level, logging.WARNING))

    def close(self) -> None:
        """Write what is left and put back what was there."""
        if not self._open:
            return
        self._open = False
        atexit.unregister(self.close)
        if self._native is not None:
            self._native.close()
        logging.captureWarnings(False)
        for handler in self._handlers:
            self._root.removeHandler(handler)
            handler.close()
        self._root.setLevel(self._before[0])
        if self._native is not None:
            self._native.terminal.close()

    def __enter__(self) -> Logging:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def process_name() -> str:
    """This process's name as a worker: `<host>:<pid>`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def file_name(name: str) -> str:
    """A run's or worker's name as that of a file."""
    return _SAFE.sub("_", name) or "_"


def sweep_logs(store: Store, keep: int = 20) -> None:
    """Remove the logs of all but the latest runs."""
    if store.remote or not (top := Path(store.root) / FOLDER).is_dir():
        return
    for words in top.glob("*/*.stderr"):  # of workers whose driver was killed
        words.unlink(missing_ok=True)
    runs = sorted((folder for folder in top.iterdir() if folder.is_dir()), key=lambda folder: folder.stat().st_mtime)
    for folder in runs[: max(0, len(runs) - keep)]:
        shutil.rmtree(folder, ignore_errors=True)


def _file(path: Path) -> _File | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _File(path, maxBytes=_FILE_BYTES, backupCount=_FILE_BACKUPS, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return None
