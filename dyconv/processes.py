"""Processes of this machine."""

from __future__ import annotations

import psutil


def alive(process: int) -> bool:
    """Whether a process goes on; one that has ended and that nobody has asked about yet does not."""
    try:
        return psutil.Process(process).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
