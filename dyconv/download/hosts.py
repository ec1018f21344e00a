"""Politeness: one queue for each host, shared by all processes of one user on one machine, and bounded backoff.

The queue is a file with the time at which the host may next be asked, under a lock. It is per machine: ten machines
ask a host ten times as often.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dyconv.download.errors import Kind, Stop
from dyconv.errors import DyconvError


def machine_folder() -> Path:
    """A folder of this user's on this machine for locks and queues; other users cannot write to it.

    Raises:
        DyconvError: if somebody else made it first.
    """
    folder = Path(tempfile.gettempdir()) / f"dyconv-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or folder.is_symlink() or status.st_mode & 0o022:
        raise DyconvError(f"{folder} belongs to somebody else or is open to others", hint="set TMPDIR to a folder of your own")
    return folder


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """Hold the machine-wide lock of that name; yields its file. The kernel frees it when the process dies."""
    path = _lock_file(name)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(handle)


def is_held(name: str) -> bool:
    """Whether some process holds that lock now."""
    handle = os.open(_lock_file(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _lock_file(name: str) -> Path:
    return machine_folder() / hashlib.sha256(name.encode()).hexdigest()[:32]


def _next_turn(path: Path) -> float:
    try:
        return float(path.read_text())
    except ValueError:
        return 0.0


def wait_turn(host: str, interval_s: float, max_wait_s: float) -> None:
    """Sleep until it is our turn to ask the host, at least `interval_s` after whoever was before us.

    Raises:
        Stop: THROTTLED, at once, if the turn is further away than `max_wait_s`.
    """
    with locked(f"host {host}") as path:
        now = time.time()
        turn = max(now, _next_turn(path))
        if turn - now > max_wait_s:
            raise Stop(Kind.THROTTLED, f"{host} asked not to be asked again for {turn - now:.0f} s")
        path.write_text(repr(turn + interval_s))
    time.sleep(max(0.0, turn - time.time()))


def hold_back(host: str, seconds: float) -> None:
    """Nobody on this machine asks the host within the next `seconds` (it said 429)."""
    with locked(f"host {host}") as path:
        path.write_text(repr(max(_next_turn(path), time.time() + seconds)))


def backoff_s(attempt: int, base_s: float, key: str, limit_s: float = 60.0) -> float:
    """Seconds to wait after failed attempt `attempt` (from 1): doubling, with 0 to 50 % more that depends on `key`.

    The jitter is from a hash, so that workers spread out and a run can be repeated.
    """
    digest = hashlib.sha256(f"{key} {attempt}".encode()).digest()
    return float(min(limit_s, base_s * 2 ** (attempt - 1)) * (1 + digest[0] / 510))
