"""One driver at a time on an output folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import TracebackType
from typing import IO

from dyconv.errors import DyconvError
from dyconv.store import Store


class RunLock:
    """Keeps a second driver off the same output folder. The operating system lifts it when the process ends, however.

    Object stores have no such lock: there it is the user's care to run one driver at a time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._file: IO[str] | None = None

    def __enter__(self) -> RunLock:
        if self._store.remote:
            return self
        import fcntl  # not there on every system that can read a ledger

        path = Path(self._store.root) / "run.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            owner = self._file.read(200).strip() or "another process"
            self._file.close()
            raise DyconvError(
                f"{self._store} is being written by {owner}", hint="wait for it or stop it, or give another --out"
            ) from error
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._file.flush()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
