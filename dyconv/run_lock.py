"""One driver at a time on an output folder, wherever it lies.

On a file system it is `flock` on `run.lock`: the operating system lifts it when the process ends, however. A network
folder must be mounted so that locks reach the server (NFS: not with `nolock` or `local_lock`).

Object stores have no such lock. There `run.lock` is a lease: written only if none is there, and counted up every few
seconds by a thread of its driver. Who finds one watches the count by its own monotonic clock; no two machines' clocks
are compared. A count that moves belongs to a live driver: the second one refuses. A count that stands still for several
periods, or whose process is known to be gone from this machine, is a dead driver's, and its lease is taken over.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO

from dyconv.bounds import parse_json
from dyconv.errors import DyconvError, StoreError
from dyconv.records import dump
from dyconv.store import Store

NAME = "run.lock"
PERIOD_S = 5.0
STILL = 6  # periods without a sign of life, until a lease counts as left behind
_log = logging.getLogger(__name__)


class OutputTaken(DyconvError):
    """Another driver writes this output folder, or has taken it over."""


@dataclass(frozen=True)
class Lease:
    """What `run.lock` on an object store holds. `since` is for people: no clock is compared with it."""

    token: str
    owner: str
    place: str  # machine, boot and process space: where a process number means something
    process: int
    began: int  # when the process began, in the kernel's ticks: its number may be given anew
    since: str
    every_s: float
    count: int = 0

    @classmethod
    def mine(cls, every_s: float) -> Lease:
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        owner = f"process {os.getpid()} on {socket.gethostname()}"
        return cls(secrets.token_hex(16), owner, _place(), os.getpid(), _began(os.getpid()) or 0, now, every_s)

    @classmethod
    def parse(cls, data: bytes) -> Lease:
        """Raises `ValueError` for what is no lease."""
        found = parse_json(data)
        try:
            lease = cls(**{name: found[name] for name in cls.__dataclass_fields__})
            return replace(lease, every_s=min(60.0, max(0.05, float(lease.every_s))), process=int(lease.process))
        except (TypeError, KeyError, OverflowError) as error:
            raise ValueError(f"not a lease: {error}") from error

    def dump(self) -> bytes:
        return dump(vars(self))

    @property
    def gone(self) -> bool:
        """Whether its process is known to have ended."""
        return self.place == _place() and _began(self.process) != self.began


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"unknown {secrets.token_hex(8)}"  # compares to nothing: only time will tell


def _began(process: int) -> int | None:
    """Start of a process in ticks since boot; None if there is no such process."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


class RunLock:
    """Keeps a second driver off the same output folder.

    A driver that loses its lease is interrupted, and leaves the block with `OutputTaken`.

    Args:
        store: the output folder.
        every_s: seconds between two signs of life, on an object store.

    Raises:
        OutputTaken: on entering, if another driver holds the folder; on leaving, if one has taken it over.
        StorageDown: if the storage does not answer.
    """

    def __init__(self, store: Store, every_s: float = PERIOD_S) -> None:
        self._store = store
        self._every_s = every_s
        self._file: IO[str] | None = None
        self._keeper: _Keeper | None = None

    def __enter__(self) -> RunLock:
        if self._store.remote:
            self._keeper = _Keeper(self._store, _acquire(self._store, self._every_s))
            self._keeper.start()
        else:
            self._file = _flock(self._store)
        return self

    def check(self) -> None:
        """Raise `OutputTaken` if another driver has taken the folder over."""
        if self._keeper is not None and self._keeper.taken is not None:
            raise self._keeper.taken

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
        if self._keeper is not None:
            self._keeper.stop()
            if self._keeper.taken is not None:
                raise self._keeper.taken from error


def _flock(store: Store) -> IO[str]:
    import fcntl  # not there on every system that can read a ledger

    path = Path(store.root) / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        owner = file.read(200).strip() or "another process"
        file.close()
        raise _refusal(store, owner) from error
    except OSError as error:
        file.close()
        raise DyconvError(
            f"{path} cannot be locked: {error}",
            hint="a network folder must be mounted with locks (NFS: without nolock), so that two runs do not mix",
        ) from error
    mine = Lease.mine(0.0)
    file.truncate(0)
    file.write(f"{mine.owner} since {mine.since}")
    file.flush()
    return file


def _refusal(store: Store, owner: str) -> OutputTaken:
    return OutputTaken(f"{store} is being written by {owner}", hint="wait for it or stop it, or give another --out")


def _acquire(store: Store, every_s: float) -> Lease:
    """Write a lease of our own, as soon as there is no live one."""
    mine = Lease.mine(every_s)
    while True:
        found = _read(store)
        if found is not None:
            if found.token == mine.token:
                return mine  # written by a try whose answer was lost
            _wait_for_end(store, found)
            now = _read(store)
            if now is not None and (now.token, now.count) != (found.token, found.count):
                continue  # somebody else was quicker
            store.discard(NAME)
        if store.files.create(store.url(NAME), mine.dump()):
            return mine


def _read(store: Store) -> Lease | None:
    try:
        return Lease.parse(store.read_bytes(NAME))
    except StoreError:
        return None
    except ValueError as error:
        raise DyconvError(
            f"{store}/{NAME} cannot be read: {error}", hint="if no run is at work there, remove that object"
        ) from error


def _wait_for_end(store: Store, found: Lease) -> None:
    """Return once a lease turns out to be left behind.

    Raises:
        OutputTaken: as soon as it shows a sign of life.
    """
    if found.gone:
        return
    owner = f"{found.owner} since {found.since}"
    _log.warning("%s was being written by %s: waiting up to %.0f s for a sign of life", store, owner, STILL * found.every_s)
    began = time.monotonic()
    while time.monotonic() - began < STILL * found.every_s:
        time.sleep(found.every_s / 3)
        now = _read(store)
        if now is None:
            return  # it has just ended
        if (now.token, now.count) != (found.token, found.count):
            raise _refusal(store, f"{now.owner} since {now.since}")
    _log.warning("%s showed no sign of life: its lease is taken over", owner)


class _Keeper(threading.Thread):
    """Counts the lease up, and finds out if it is lost."""

    def __init__(self, store: Store, lease: Lease) -> None:
        super().__init__(name="run-lock", daemon=True)
        self._store = store
        self._lease = lease
        self._tag: str | None = None
        self._ending = threading.Event()
        self.taken: OutputTaken | None = None

    def run(self) -> None:
        while not self._ending.wait(self._lease.every_s):
            try:
                self._renew()
            except DyconvError as error:  # not ours to stop the run for: its own writes will tell
                _log.warning("the lease on %s could not be renewed: %s", self._store, error)
            if self.taken is not None:
                self._interrupt()
                return

    def _renew(self) -> None:
        found = _read(self._store)
        if self._ending.is_set():
            return
        if found is not None and found.token != self._lease.token:
            self.taken = OutputTaken(
                f"{self._store} was taken over by {found.owner} at {found.since}: this run had shown no sign of life",
                hint="let that one go on; finished work of this run stays",
            )
            return
        lease = replace(self._lease, count=self._lease.count + 1)
        if found is None:
            # Removed by hand, or between another driver's two steps of taking over: only one of us gets it.
            self._store.files.create(self._store.url(NAME), lease.dump())
        else:
            # If it is another's since we looked, nothing is written, and the next look tells.
            self._tag = self._store.files.replace(self._store.url(NAME), lease.dump(), self._tag)
        self._lease = lease

    def _interrupt(self) -> None:
        """Wake the main thread wherever it waits; `RunLock` turns the interruption into the error it is."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def stop(self) -> None:
        """End the thread and give the lease back, if it is still ours."""
        self._ending.set()
        self.join(10)
        if self.taken is not None:
            return
        try:
            found = _read(self._store)
            if found is not None and found.token == self._lease.token:
                self._store.discard(NAME)
        except DyconvError as error:  # what the block did, or why it failed, says more than this
            _log.warning("the lease on %s could not be given back: %s", self._store, error)
