"""Local copies of remote objects, bounded, and cleared away when their process is gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import weakref
from pathlib import Path
from typing import Any

from dyconv.processes import alive

_PREFIX = "dyconv-cache-"
_LIMIT = 2 * 2**30  # bytes a worker keeps between two tasks: what one clip needs from stage to stage, not the whole dataset


class Copies:
    """A folder of copies, by their path in the store. Picklable: another process makes a folder of its own.

    Args:
        folder: a folder that its owner clears; a temporary one, made when the first copy is, if not given.
        limit: bytes that `trim` leaves in a temporary one.
    """

    def __init__(self, folder: Path | None = None, limit: int = _LIMIT) -> None:
        self._given = folder
        self._limit = limit
        self._made: Path | None = None
        self._process = 0
        self._used: set[Path] = set()  # since the last `trim`

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_made": None, "_process": 0, "_used": set()}

    def path(self, path: str) -> Path:
        """Where the copy of an object is, or would be. A copy that is there counts as used now."""
        found = self._folder() / path
        self._used.add(found)
        with contextlib.suppress(OSError):  # not there yet, or not ours to touch
            os.utime(found)
        return found

    def take(self, local: Path, path: str, *, keep: bool) -> None:
        """A local file has become an object: make it the copy, or remove both."""
        copy = self._folder() / path if keep or self._has_folder() else None
        if keep and copy is not None:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(local, copy)
            self._used.add(copy)
            return
        if copy is not None:
            copy.unlink(missing_ok=True)
        local.unlink()

    def drop(self, path: str) -> None:
        """The object, or all below it, has changed or is gone: so must its copy."""
        if not self._has_folder():
            return
        copy = self._folder() / path
        if copy.is_dir():
            shutil.rmtree(copy, ignore_errors=True)
        else:
            copy.unlink(missing_ok=True)

    def trim(self) -> None:
        """Remove the longest unused copies of a temporary folder until its limit holds.

        What was used since the last time stays, however large: the next stage of a film of hours needs it again.
        """
        used, self._used = self._used, set()
        if self._made is None or self._process != os.getpid():
            return
        found = [(stat.st_mtime_ns, stat.st_size, path) for path in self._made.rglob("*") if (stat := _file(path)) is not None]
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._limit:
                return
            if path not in used:
                path.unlink(missing_ok=True)
                total -= size

    def _has_folder(self) -> bool:
        return self._given is not None or (self._made is not None and self._process == os.getpid())

    def _folder(self) -> Path:
        if self._given is not None:
            return self._given
        if self._made is None or self._process != os.getpid():  # a fork has its parent's, which is the parent's to remove
            sweep_copies()
            self._made = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{socket.gethostname()}-{os.getpid()}-"))
            self._process = os.getpid()
            weakref.finalize(self, _clear, self._made, os.getpid())
        return self._made


def _file(path: Path) -> os.stat_result | None:
    try:
        return path.stat() if path.is_file() else None
    except FileNotFoundError:
        return None


def _clear(folder: Path, process: int) -> None:
    if process == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


def sweep_copies() -> None:
    """Remove what killed processes of this user and machine left in the folder for temporary files."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}{socket.gethostname()}-*"):
        owner = folder.name.removeprefix(f"{_PREFIX}{socket.gethostname()}-").partition("-")[0]
        try:
            if owner.isdigit() and not folder.is_symlink() and folder.stat().st_uid == os.getuid() and not alive(int(owner)):
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            continue  # another process was quicker
