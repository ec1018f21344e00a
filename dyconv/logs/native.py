"""What native code writes to stderr (libav, TFLite, glog, the C++ runtime), as records with the clip and stage at work.

File descriptor 2 leads into a file, not into a pipe: code that writes much while it holds the interpreter's lock would
wait for ever at a full pipe. The file is read at the end of every stage and each second. It has a name where the store is
local, so that the last words of a worker that died can be read after it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

_LOG = logging.getLogger("native")
_LINES = 100  # of one reading; of more, the number is told
_LINE = 2000
_BYTES = 256 * 1024  # read at once; what is beyond that is passed over
_PERIOD_S = 1.0
_GLOG = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
_BAD = re.compile(r"(?i)\b(error|fail(ed|ure)?|fatal|abort(ed)?|corrupt|invalid|out of memory|terminate called)\b|warning:")

_current: NativeStderr | None = None


def drain() -> None:
    """Log what was written since, if stderr is captured."""
    if _current is not None:
        _current.drain()


def level_of(line: str) -> int:
    """How bad a line sounds: by glog's first letter, else by its words."""
    if glog := re.match(r"([IWEF])\d{4,8} \d\d:\d\d", line):
        return _GLOG[glog.group(1)]
    return logging.WARNING if _BAD.search(line) else logging.INFO


def lines_of(data: bytes) -> list[str]:
    """Whole lines for a person. Of a line that was drawn anew (progress bars) only how it ended."""
    text = data.decode("utf-8", "replace")
    lines = (line.rstrip("\r").rpartition("\r")[2].strip() for line in text.split("\n"))
    return [line[:_LINE] for line in lines if line]


class NativeStderr:
    """Leads file descriptor 2 of this process into a file until `close`. One at a time in a process.

    Args:
        path: where to; a file without a name if not given, or if it cannot be made.

    Attributes:
        terminal: the stderr that was there before, for the handler that writes records to it.
    """

    def __init__(self, path: Path | None = None) -> None:
        global _current
        sys.stderr.flush()
        self._path = path
        self._lock = threading.Lock()
        self._file = _open(path)
        self._read = os.fstat(self._file).st_size
        kept = os.dup(2)
        self.terminal: IO[str] = os.fdopen(kept, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
        os.dup2(self._file, 2)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dyconv-stderr", daemon=True)
        _current = self
        self._thread.start()

    def drain(self) -> None:
        """Log what was written since the last time."""
        if os.fstat(self._file).st_size == self._read:  # most times; costs a microsecond
            return
        with self._lock:
            size = os.fstat(self._file).st_size
            if size == self._read:
                return
            begin = max(self._read, size - _BYTES)
            data = os.pread(self._file, size - begin, begin)
            passed_over = begin - self._read
            self._read = size
            if os.fstat(self._file).st_size == size:  # nobody is in the middle of it: what was read is not needed any more
                os.ftruncate(self._file, 0)
                self._read = 0
        told = lines_of(data)
        for line in told[:_LINES]:
            _LOG.log(level_of(line), "%s", line)
        if len(told) > _LINES or passed_over:
            _LOG.info("and %d more lines, %d bytes before them", max(0, len(told) - _LINES), passed_over)

    def _watch(self) -> None:
        while not self._ended.wait(_PERIOD_S):
            self.drain()

    def close(self) -> None:
        """Give stderr back."""
        global _current
        self._ended.set()
        self._thread.join(5)
        sys.stderr.flush()
        os.dup2(self.terminal.fileno(), 2)
        self.drain()
        _current = None
        os.close(self._file)
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _open(path: Path | None) -> int:
    # Appending: the place of writing follows when the file is emptied.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    if path is not None:
        try:
            return os.open(path, flags, 0o600)
        except OSError:
            pass  # a folder that cannot be written to must not stop a worker: the file without a name serves as well
    handle, name = tempfile.mkstemp(prefix="dyconv-stderr-")
    os.close(handle)
    found = os.open(name, flags)
    os.unlink(name)
    return found


def last_words(path: Path, most: int = 50) -> list[str]:
    """The last lines that a dead worker wrote to stderr, and the file is gone."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _BYTES))
            found = lines_of(file.read(_BYTES))[-most:]
        path.unlink(missing_ok=True)
    except OSError:
        return []
    return found
