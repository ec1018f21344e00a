"""Who may ask the audit server for what.

Bound to loopback, anybody on this machine may read, and nobody may write without the token that was shown at the start. Bound
to anything else, reading wants the token too: in a header, or for pictures and sound in a cookie that no script can
read and no other site can send. Requests under a foreign name (DNS rebinding) or from a foreign page are refused.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

TOKEN_HEADER = "x-dyconv-token"
MOST_BYTES = 4 << 20  # of a request's body: a list of 20,000 turns fits
_READS = frozenset({"GET", "HEAD"})
_OPEN = ("/", "/favicon.ico")  # the page itself and its scripts tell nothing of the build
_OPEN_FOLDER = "/web/"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Access:
    """What the server is bound to, its token, and further names under which it may be asked."""

    host: str
    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    names: frozenset[str] = frozenset()

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def cookie(self) -> tuple[str, str]:
        """Name and value of the cookie that lets a browser fetch pictures and sound; it opens nothing else."""
        return f"dyconv_audit_{self.port}", hmac.new(self.token.encode(), b"media", hashlib.sha256).hexdigest()

    def knows(self, host: str) -> bool:
        """Whether a Host header names this server. Another site's name that was made to lead here does not.

        Any port will do: a tunnel may end at another one.
        """
        try:
            split = urlsplit(f"//{host}")
            name, _ = split.hostname or "", split.port
        except ValueError:
            return False
        if split.username is not None or split.path:
            return False
        if name == "localhost" or name in self.names or name == self.host.lower():
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return not self.loopback and name == socket.gethostname().lower()
        return address.is_loopback if self.loopback else True

    def is_token(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def is_cookie(self, header: str) -> bool:
        name, value = self.cookie
        try:
            given = SimpleCookie(header).get(name)
        except CookieError:
            return False
        return given is not None and hmac.compare_digest(given.value.encode(), value.encode())


class Guard:
    """ASGI middleware: refuses what `Access` does not allow, and adds the headers that every answer carries."""

    def __init__(self, app: App, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message.get("headers", ())}
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in own]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        if refusal is None:
            await self.app(scope, receive, answer)
            return
        status, told = refusal
        body = json.dumps({"error": told}).encode()
        plain = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await answer({"type": "http.response.start", "status": status, "headers": plain})
        await answer({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """(status, sentence) where a request is refused."""
        if not self.access.knows(headers.get("host", "")):
            return 421, "this server is not known under that name"
        if self._foreign(headers):
            return 403, "the request comes from another page"
        if scope["method"] in _READS:
            return None if self._may_read(scope["path"], headers) else (401, "the token is missing or wrong")
        if not self.access.is_token(headers.get(TOKEN_HEADER)):
            return 401, "the token is missing or wrong: open the address that the server showed at its start"
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MOST_BYTES or "transfer-encoding" in headers:
            return 413, f"expected a body of at most {MOST_BYTES} bytes with its length"
        return None

    def _foreign(self, headers: dict[str, str]) -> bool:
        """Whether a browser says that another page asks."""
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in {
            f"{scheme}://{headers['host'].lower()}" for scheme in ("http", "https")
        }:
            return True
        return (
            headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and headers.get("sec-fetch-mode") != "navigate"
        )

    def _may_read(self, path: str, headers: dict[str, str]) -> bool:
        if self.access.loopback or path in _OPEN or path.startswith(_OPEN_FOLDER):
            return True
        if self.access.is_token(headers.get(TOKEN_HEADER)):
            return True
        return path.startswith("/media/") and self.access.is_cookie(headers.get("cookie", ""))
