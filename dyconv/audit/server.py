"""Starts the audit app: where it is bound, what it is of, and who may write."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from dyconv.audit.board import Board
from dyconv.audit.guard import Access
from dyconv.audit.library import Library
from dyconv.audit.overlay import Overlay
from dyconv.audit.proxies import Proxies, cache_folder
from dyconv.audit.sampling import read_sample
from dyconv.errors import UsageError
from dyconv.store import Store

PORT = 8756


@dataclass(frozen=True)
class Settings:
    """What a server is started with.

    Attributes:
        overlay: SQLite file of decisions; made where it is not there.
        sample: file of a drawn sample, whose clips come first.
        reviewer: everybody's name; None: each page asks.
        port: 0 takes any free one.
        names: further host names under which the server may be asked.
        cache: folder for small copies; `cache_folder()` if None.
    """

    out: str
    overlay: Path
    sample: Path | None = None
    reviewer: str | None = None
    blind: bool = False
    host: str = "127.0.0.1"
    port: int = PORT
    names: tuple[str, ...] = ()
    cache: Path | None = None


def serve(settings: Settings, say: object = None) -> None:
    """Serve until interrupted.

    Raises:
        UsageError: if there is nothing to review, or the address cannot be had.
    """
    import uvicorn

    from dyconv.audit.app import create_app
    from dyconv.audit.checks import LONGEST_NAME, text

    if settings.reviewer is not None:
        text(settings.reviewer, "--reviewer", LONGEST_NAME)
    bound = _bound(settings.host, settings.port)
    try:
        access = Access(settings.host, bound.getsockname()[1], names=frozenset(name.lower() for name in settings.names))
        library = Library(Store(settings.out), settings.cache or cache_folder())
        sample = read_sample(settings.sample) if settings.sample else None
        board = Board(Overlay(settings.overlay), library.clips, library.bases, sample, 2 if settings.blind else 1)
        app = create_app(library, board, Proxies(library), access, settings.reviewer)
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=3)
        if callable(say):
            say(_address(access), len(library.clips))
        uvicorn.Server(config).run(sockets=[bound])
    finally:
        bound.close()


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise UsageError(
            f"cannot serve on {host} port {port}: {error.strerror or error}", hint="give another --port"
        ) from error
    bound.listen(128)
    return bound


def _address(access: Access) -> str:
    """The address to open. The token stands behind `#`, which browsers keep to themselves."""
    host = f"[{access.host}]" if ":" in access.host else access.host
    if host in ("0.0.0.0", "[::]"):
        host = socket.gethostname()
    return f"http://{host}:{access.port}/#token={access.token}"
