"""The audit app's HTTP interface: the page, the queue, clips, decisions and media.

Clip ids, assets and scripts are looked up in what is known, and never become a path.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from dyconv import __version__
from dyconv.audit import checks
from dyconv.audit.board import Board, Conflict, title_of
from dyconv.audit.checks import DecisionError, Fault, mapping, strict_json
from dyconv.audit.decisions import Decision, turns_data
from dyconv.audit.evidence import evidence
from dyconv.audit.guard import TOKEN_HEADER, Access, Guard
from dyconv.audit.library import Library
from dyconv.audit.overlay import OverlayError
from dyconv.audit.proxies import PICTURES, Proxies
from dyconv.errors import DyconvError, StoreError
from dyconv.listen.page import VENDOR
from dyconv.records import Clip, Key

WEB = Path(__file__).parent / "web"
_VENDORED = ("wavesurfer.min.js", "regions.min.js", "timeline.min.js")
_TYPES = {".js": "text/javascript", ".css": "text/css", ".mp4": "video/mp4", ".flac": "audio/flac"}
_SOUNDS = (Key.MIX, Key.CLEAN, Key.P0_VOICE, Key.P1_VOICE)
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_LOG = logging.getLogger(__name__)


def create_app(library: Library, board: Board, proxies: Proxies, access: Access, reviewer: str | None = None) -> FastAPI:
    """The app over one build or release.

    Args:
        reviewer: the name of everybody who decides; without it, each page asks for one.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        proxies.start(row["id"] for row in board.rows(reviewer))
        yield
        proxies.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.reviewer = reviewer
    app.add_middleware(Guard, access=access)
    app.add_exception_handler(DyconvError, _told)
    app.add_exception_handler(Exception, _fault)
    _page_routes(app)
    _session_routes(app, library, board, access, reviewer)
    _clip_routes(app, library, board, proxies)
    _decision_routes(app, library, board, proxies)
    _media_routes(app, library, proxies)
    return app


def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, DyconvError)
    known = ((Conflict, 409), (DecisionError, 400), (OverlayError, 507))
    status = next((status for kind, status in known if isinstance(error, kind)), 500)
    return JSONResponse({"error": error.message, "hint": error.hint}, status)


def _fault(request: Request, error: Exception) -> Response:
    _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": "the server failed on this; its terminal says how"}, 500)


def _reviewer(request: Request, x_reviewer: Annotated[str | None, Header()] = None) -> str | None:
    """Who asks: the name the server was started with, or the one the page sends."""
    fixed: str | None = request.app.state.reviewer
    if fixed is not None or not x_reviewer:
        return fixed
    return checks.text(unquote(x_reviewer), "reviewer", checks.LONGEST_NAME)


async def _body(request: Request) -> bytes:
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise HTTPException(415, "expected JSON")
    return await request.body()


_Reviewer = Annotated[str | None, Depends(_reviewer)]
_Body = Annotated[bytes, Depends(_body)]


def _page_routes(app: FastAPI) -> None:
    page = (WEB / "index.html").read_text(encoding="utf-8")
    files = {path.name: path for path in WEB.iterdir() if path.suffix in _TYPES}
    files |= {name: VENDOR / name for name in _VENDORED}

    @app.get("/")
    def index() -> Response:
        nonce = secrets.token_urlsafe(16)
        headers = {"content-security-policy": _POLICY.format(nonce=nonce), "cache-control": "no-store"}
        return HTMLResponse(page.replace("{{nonce}}", nonce).replace("{{version}}", __version__), headers=headers)

    @app.get("/web/{name}")
    def script(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "no such file")
        return FileResponse(files[name], media_type=_TYPES[files[name].suffix], headers={"cache-control": "no-cache"})

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)


def _session_routes(app: FastAPI, library: Library, board: Board, access: Access, reviewer: str | None) -> None:
    @app.get("/api/session")
    def session(request: Request) -> dict[str, Any]:
        return {
            "of": _name(str(library.store)),
            "overlay": board.overlay.path.name,
            "clips": len(library.clips),
            "sample": len(board.places),
            "reviewer": reviewer,
            "blind": board.round == 2,
            "writes": access.is_token(request.headers.get(TOKEN_HEADER)),
            "faults": [str(fault) for fault in Fault],
        }

    @app.post("/api/session")
    def opened() -> Response:
        """Give the browser the cookie with which it fetches pictures and sound, where reading wants a token."""
        answer = JSONResponse({"writes": True})
        if not access.loopback:
            name, value = access.cookie
            answer.set_cookie(name, value, httponly=True, samesite="strict", path="/media/")
        return answer


def _name(root: str) -> str:
    """The folder's name; of a release's version also what it is a version of."""
    *_, before, last = ["", *root.rstrip("/").split("/")]
    return f"{before} {last}".strip() if last[:1].isdigit() else last


def _clip_routes(app: FastAPI, library: Library, board: Board, proxies: Proxies) -> None:
    @app.get("/api/queue")
    def queue(who: _Reviewer) -> Response:
        return JSONResponse({"rows": board.rows(who), "seq": board.refresh()})  # thousands of rows: as they are

    @app.get("/api/changes")
    def changes(after: int, who: _Reviewer) -> dict[str, Any]:
        rows, seq = board.changed(after, who)
        return {"rows": rows, "seq": seq}

    @app.get("/api/clips/{clip}")
    def clip_detail(clip: str, who: _Reviewer) -> dict[str, Any]:
        record = _known(library, clip)
        proxies.hurry(clip)
        videos = {str(key): "small" if proxies.small(clip, key) else "full" for key in PICTURES if key in record.assets}
        return {**_record(record), "videos": videos, **board.detail(clip, who)}

    @app.get("/api/clips/{clip}/drawn")
    def clip_drawn(clip: str) -> Response:
        _known(library, clip)
        return Response(proxies.drawn(clip), media_type="application/json")

    @app.get("/api/clips/{clip}/evidence")
    def clip_evidence(clip: str) -> dict[str, Any]:
        return evidence(library.store, _known(library, clip))


def _decision_routes(app: FastAPI, library: Library, board: Board, proxies: Proxies) -> None:
    def wanted(who: str | None) -> str:
        if who is None:
            raise DecisionError("no reviewer's name", hint="say who you are first")
        return who

    @app.post("/api/clips/{clip}/decisions")
    def decided(clip: str, who: _Reviewer, body: _Body) -> dict[str, Any]:
        _known(library, clip)
        fields = mapping(strict_json(body, "request"), "request", ("kind", "base"), ("data", "seen"))
        made = board.add(clip, wanted(who), fields["kind"], fields.get("data") or {}, fields["base"], fields.get("seen"))
        if made.kind == "takedown":
            proxies.forget(clip)
        return {"decision": made.id, **board.detail(clip, who)}

    @app.post("/api/undo")
    def undone(who: _Reviewer) -> dict[str, Any]:
        return _taken_back(board, board.undo(wanted(who)), who)

    @app.post("/api/redo")
    def redone(who: _Reviewer) -> dict[str, Any]:
        return _taken_back(board, board.redo(wanted(who)), who)


def _taken_back(board: Board, pair: tuple[Decision, Decision] | None, who: str | None) -> dict[str, Any]:
    if pair is None:
        return {"clip": None}
    target = pair[1]
    return {"clip": target.clip, "kind": str(target.kind), **board.detail(target.clip, who)}


def _media_routes(app: FastAPI, library: Library, proxies: Proxies) -> None:
    @app.get("/media/{clip}/{size}/{name}")
    def media(clip: str, size: str, name: str) -> Response:
        record = _known(library, clip)
        key = next((key for key in (*PICTURES, *_SOUNDS) if str(key) == name and key in record.assets), None)
        if key is None or size not in ("small", "full"):
            raise HTTPException(404, "the clip has no such file")
        try:
            path = proxies.small(clip, key) if size == "small" else library.path(clip, key)
        except OSError as error:
            raise StoreError(f"{key} of {clip} cannot be read: {error.strerror}") from error
        if path is None:
            raise HTTPException(404, "the file is gone")
        headers = {"cache-control": "private, max-age=3600", "content-security-policy": "default-src 'none'"}
        return FileResponse(path, media_type=_TYPES[path.suffix], headers=headers)


def _known(library: Library, clip: str) -> Clip:
    if clip not in library.clips:
        raise HTTPException(404, "there is no such clip")
    return library.clips[clip]


def _record(clip: Clip) -> dict[str, Any]:
    """What a page needs of a record besides what is drawn. All of it is text to be shown, never markup.

    What an earlier audit said of it is left out: it must not lead a second one.
    """
    turns = [
        {**plain, "confidence": round(turn.confidence, 4), "agreement": turn.agreement}
        for plain, turn in zip(turns_data(clip.turns), clip.turns, strict=True)
    ]
    return {
        "id": clip.id,
        "title": title_of(clip.source),
        "source": clip.source.to_json(),
        "start": float(clip.span.start),
        "layout": clip.layout,
        "shots": [[float(shot.start), float(shot.end)] for shot in clip.shots],
        "people": [person.to_json() for person in clip.people],
        "tracks": [track.to_json() for track in clip.tracks],
        "turns": turns,
        "measures": {name: value for name, value in sorted(clip.measures.items()) if not name.startswith("audit.")},
    }
