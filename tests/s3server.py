"""An S3 server on this machine (moto) behind a proxy that counts requests and fails some of them on request.

moto runs as a process of its own, so that the server takes no time from the code under test; the proxy is a few threads
here. Both are bound to 127.0.0.1.
"""

from __future__ import annotations

import http.client
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

BUCKET = "build"
_ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>'
_CODES = {500: "InternalError", 503: "SlowDown", 403: "AccessDenied"}


@dataclass(frozen=True)
class Seen:
    """One request. Kinds: get, head, put, delete, list, deletes (of many at once)."""

    kind: str
    key: str
    number: int  # of all requests, from 0


@dataclass(frozen=True)
class Fault:
    """What happens to a request instead of its answer.

    Attributes:
        status: answered with this error; the server never hears of it.
        stall_s: no answer for so long, then the connection is closed.
        cut: the request is carried out, and its answer breaks off in the middle of the body, or before it if it has none.
    """

    status: int = 0
    stall_s: float = 0.0
    cut: bool = False


Plan = Callable[[Seen], Fault | None]


def share(chance: float, seed: int, *faults: Fault) -> Plan:
    """Fail this share of all requests, each time in one of these ways."""
    draw = random.Random(seed)
    lock = threading.Lock()

    def plan(seen: Seen) -> Fault | None:
        with lock:
            return draw.choice(faults) if draw.random() < chance else None

    return plan


def always(fault: Fault, *kinds: str, key: str = "") -> Plan:
    """Fail all requests of these kinds (all if none is named) whose key holds `key`."""
    return lambda seen: fault if (not kinds or seen.kind in kinds) and key in seen.key else None


def first(count: int, fault: Fault, *kinds: str, key: str = "") -> Plan:
    """Fail the first so many requests of these kinds."""
    left = [count]

    def plan(seen: Seen) -> Fault | None:
        if left[0] and always(fault, *kinds, key=key)(seen):
            left[0] -= 1
            return fault
        return None

    return plan


@dataclass
class S3Server:
    """Use through `s3_server`."""

    port: int
    upstream: int
    seen: list[Seen] = field(default_factory=list)
    plan: Plan | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find the server. No fault is waited for long."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def uri(self, path: str) -> str:
        return f"s3://{BUCKET}/{path}"

    def counts(self, since: int = 0) -> Counter[str]:
        return Counter(item.kind for item in self.seen[since:])

    @contextmanager
    def faults(self, plan: Plan) -> Iterator[None]:
        self.plan = plan
        try:
            yield
        finally:
            self.plan = None


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away in the middle are what the tests are about."""


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server with one empty bucket. Connections to an earlier one are forgotten: fsspec keeps them for good."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        upstream = probe.getsockname()[1]
    moto = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(upstream)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    proxy = _Quiet(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server = S3Server(proxy.server_port, upstream)
    proxy.RequestHandlerClass = _handler(server)
    proxy.daemon_threads = True
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        _make_bucket(upstream, moto)
        yield server
    finally:
        proxy.shutdown()
        proxy.server_close()
        moto.terminate()
        moto.wait(10)


def _make_bucket(port: int, moto: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request(
                "PUT", f"/{BUCKET}", headers={"Authorization": "AWS4-HMAC-SHA256 Credential=test/1/us-east-1/s3/aws4"}
            )
            assert connection.getresponse().status == 200
            return
        except ConnectionError:
            assert moto.poll() is None and time.monotonic() < end, "the S3 server did not start"
            time.sleep(0.05)


def kind_of(method: str, target: str) -> tuple[str, str]:
    """A request's kind and key."""
    path, _, query = target.partition("?")
    key = unquote(path).removeprefix(f"/{BUCKET}").lstrip("/")
    if method == "GET" and "list-type" in query:
        found = re.search(r"prefix=([^&]*)", query)
        return "list", unquote(found[1]) if found else ""
    if method == "POST" and query.startswith("delete"):
        return "deletes", key
    return method.lower(), key


def _handler(server: S3Server) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()
    conditional = threading.Lock()  # moto looks and then writes; a real server does both at once

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self._body()
            kind, key = kind_of(self.command, self.path)
            with lock:
                seen = Seen(kind, key, len(server.seen))
                server.seen.append(seen)
            fault = server.plan(seen) if server.plan is not None else None
            if fault is not None and fault.stall_s:
                time.sleep(fault.stall_s)
                self.close_connection = True
                return
            if fault is not None and fault.status:
                code = _CODES[fault.status]
                self._answer(fault.status, [("Content-Type", "application/xml")], _ERROR.format(code=code).encode())
                return
            held = {"if-none-match", "if-match"} & {name.lower() for name in self.headers}
            with conditional if held else threading.Lock():
                status, headers, data = self._upstream(body)
            self._answer(status, headers, data, cut=fault is not None and fault.cut)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

        def _body(self) -> bytes:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _upstream(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", server.upstream, timeout=60)
            try:
                passed = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
                passed["Content-Length"] = str(len(body))
                connection.request(self.command, self.path, body, passed)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            finally:
                connection.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, cut: bool = False) -> None:
            if cut and not data:
                self.close_connection = True
                return
            told = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", told)
            self.end_headers()
            try:
                if self.command != "HEAD":
                    self.wfile.write(data[: len(data) // 2] if cut else data)
            except ConnectionError:
                cut = True
            self.close_connection = self.close_connection or cut

        def log_message(self, *args: object) -> None:
            pass

    return Handler


_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@contextmanager
def in_environment(values: dict[str, str]) -> Iterator[None]:
    """These variables for this process and the ones it starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
