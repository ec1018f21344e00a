"""A disk that takes nothing more, told from everything else, so that no clip is blamed for it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from dyconv.errors import MachineError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOTHING = 256 * 1024  # bytes free on a disk that is called full


def disk_error(error: BaseException, doing: str, folder: str | Path | None = None) -> MachineError | None:
    """What to raise instead of an error that a full or read-only disk caused; None if neither is so.

    Args:
        doing: what could not be done, after `while`; may be empty.
        folder: where was being written. Given, a disk with nothing left counts as the cause of any error: libraries for
            sound and video report a failed write without its reason.
    """
    numbers = {getattr(link, "errno", None) for link in _chain(error)}
    where = f" on the disk of {folder}" if folder else ""
    told = f"{f' while {doing}' if doing else ''}: {type(error).__name__}: {error}"
    if errno.EROFS in numbers:
        return MachineError(
            f"the disk{f' of {folder}' if folder else ''} is read-only{told}",
            hint="make it writable, then run the same command again: what is finished stays",
        )
    if numbers & FULL or (folder is not None and _nothing_left(folder)):
        return MachineError(
            f"no space left{where}{told}", hint="make room, then run the same command again: what is finished stays"
        )
    return None


def _chain(error: BaseException) -> list[BaseException]:
    """The error and those that led to it."""
    found: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in found:
        found.append(link)
        link = link.__cause__ or link.__context__
    return found


def _nothing_left(folder: str | Path) -> bool:
    """Whether a disk has no bytes or no inodes for more files. False where it cannot be asked."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _NOTHING or (found.f_files > 0 and found.f_favail == 0)
