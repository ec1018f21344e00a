"""What a reader must never do, whatever it reads: watched by Python's audit events while a target runs."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NEVER = ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.symlink", "os.link")
_NEVER += ("socket.connect", "socket.getaddrinfo", "urllib.Request", "ftplib.connect", "marshal.loads")
_MOVES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "os.chmod", "os.truncate")
_SECRETS = ("/etc/passwd", "/etc/shadow")
_CODE = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib"))  # imports read marshalled bytecode from there

_inside: list[str] = []  # folders that may be written to, while a target runs


class Forbidden(BaseException):
    """A reader did something that no file may make it do."""


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _inside:
        return
    if event in _NEVER and not (event == "marshal.loads" and _importing()):
        _refuse(f"{event} {arguments!r:.200}")
    if event == "open":
        path, mode, flags = arguments
        writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not isinstance(path, int) and (str(path) in _SECRETS or (writes and not _allowed(path))):
            _refuse(f"open {path!r:.200} {mode}")
    if event in _MOVES and not (event == "os.mkdir" and arguments[-1] == -1 and _allowed(arguments[0])):
        paths = arguments[:2] if event == "os.rename" else arguments[:1]
        if not all(isinstance(path, int) or _allowed(path) for path in paths) and arguments[-1] == -1:
            _refuse(f"{event} {arguments!r:.200}")


def _importing() -> bool:
    frame: Any = sys._getframe(2)
    while frame is not None:
        if "importlib" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


def _allowed(path: Any) -> bool:
    text = os.path.realpath(os.fsdecode(path))
    return text == "/dev/null" or "__pycache__" in text or any(text.startswith(place) for place in _inside)


def _refuse(what: str) -> None:
    raise Forbidden(what)


@contextmanager
def guarded(*folders: Path) -> Iterator[None]:
    """Everything in the block may write into these folders alone, and must not unpickle, connect or start programs."""
    if not _installed:
        sys.addaudithook(_hook)
        _installed.append(True)
    _inside.extend(os.path.realpath(folder) for folder in folders)
    try:
        yield
    finally:
        _inside.clear()


_installed: list[bool] = []
