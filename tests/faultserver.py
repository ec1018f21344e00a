"""A local HTTP server that misbehaves on request, for the tests of downloading. Bound to 127.0.0.1."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer.

    Attributes:
        status: answer with this status and no media.
        headers: more headers, for example Retry-After.
        cut_at: close the connection after this many bytes of the body.
        declare: added to the true Content-Length.
        stall_at: send nothing more after this many bytes, for `stall_s`.
        bytes_s: send at this rate.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    declare: int = 0
    stall_at: int | None = None
    stall_s: float = 30.0
    bytes_s: float = 0.0


@dataclass
class Route:
    body: bytes
    content_type: str = "video/mp4"
    etag: str | None = '"v1"'
    ranges: bool = True
    heed_if_range: bool = True
    fault: Callable[[int], Fault | None] = lambda number: None  # by the number of the request to this route, from 0


@dataclass(frozen=True)
class Seen:
    path: str
    range: str | None
    if_range: str | None
    cookie: str | None
    time: float


class FaultServer:
    """Use as a context manager; `serve` adds a file and returns its address."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.seen: list[Seen] = []
        self.sent = 0  # bytes of bodies
        self._closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def serve(self, path: str, body: bytes = b"", **options: object) -> str:
        self.routes[f"/{path}"] = Route(body, **options)  # type: ignore[arg-type]
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/{path}"

    def ranges(self) -> list[str]:
        return [seen.range for seen in self.seen if seen.range]

    def __enter__(self) -> FaultServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("?")[0]
        headers = request.headers
        number = sum(seen.path == path for seen in self.seen)
        self.seen.append(Seen(path, headers["Range"], headers["If-Range"], headers["Cookie"], time.monotonic()))
        route = self.routes.get(path)
        fault = (route.fault(number) if route else Fault(status=404)) or Fault()
        request.close_connection = True
        if route is None or fault.status:
            request.send_response(fault.status or 404)
            for name, value in {"Content-Length": "0", "Connection": "close", **fault.headers}.items():
                request.send_header(name, value)
            request.end_headers()
            return
        begin = self._begin(route, headers["Range"], headers["If-Range"])
        if begin is not None and begin >= len(route.body):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(route.body)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = route.body[begin or 0 :]
        request.send_response(200 if begin is None else 206)
        if begin is not None:
            request.send_header("Content-Range", f"bytes {begin}-{len(route.body) - 1}/{len(route.body)}")
        request.send_header("Content-Length", str(len(body) + fault.declare))
        request.send_header("Content-Type", route.content_type)
        request.send_header("Connection", "close")
        if route.etag:
            request.send_header("ETag", route.etag)
        for name, value in fault.headers.items():
            request.send_header(name, value)
        request.end_headers()
        self._send(request, body, fault)

    @staticmethod
    def _begin(route: Route, wanted: str | None, if_range: str | None) -> int | None:
        found = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        if not found or not route.ranges or (route.heed_if_range and if_range and if_range != route.etag):
            return None
        return int(found[1])

    def _send(self, request: BaseHTTPRequestHandler, body: bytes, fault: Fault) -> None:
        end = min(len(body), fault.cut_at if fault.cut_at is not None else len(body))
        step = max(1, int(fault.bytes_s / 20)) if fault.bytes_s else 65536
        position = 0
        try:
            while position < end and not self._closing.is_set():
                if fault.stall_at is not None and position >= fault.stall_at:
                    self._closing.wait(fault.stall_s)
                    return
                stop = min(end, position + step, fault.stall_at if fault.stall_at and position < fault.stall_at else end)
                request.wfile.write(body[position:stop])
                self.sent += stop - position
                position = stop
                if fault.bytes_s:
                    self._closing.wait(step / fault.bytes_s)
        except (BrokenPipeError, ConnectionResetError):
            return
