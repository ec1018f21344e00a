"""As much of the Hugging Face Hub's HTTP interface as uploads and reads of dataset repositories use, on loopback.

Repositories, commits and tags are kept in memory; files whose name ends in .tar or .parquet are large files, which are
uploaded by themselves and found again by their hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "x" * 34
Files = dict[str, bytes]


class Hub:
    """What the server holds, and what was asked of it. `refuse_uploads` answers large files with an error."""

    def __init__(self) -> None:
        self.repos: dict[str, list[Files]] = {}
        self.tags: dict[str, dict[str, int]] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.refuse_uploads = False
        self.url = ""

    def files(self, repo: str, revision: str) -> Files | None:
        if repo not in self.repos:
            return None
        if re.fullmatch(r"[0-9a-f]{40}", revision):
            return self.repos[repo][int(revision, 16)]
        number = len(self.repos[repo]) - 1 if revision == "main" else self.tags[repo].get(revision)
        return None if number is None else self.repos[repo][number]

    def oid(self, repo: str, revision: str) -> str:
        files = self.files(repo, revision)
        return f"{next(at for at, one in enumerate(self.repos[repo]) if one is files):040x}"


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A running server."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Nothing is printed."""

    def _answer(self, data: Any = None, status: int = 200, **headers: str) -> None:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self._body()
        self.hub.asked.append(f"{self.command} {path}")
        if not path.startswith("/lfs/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid user token."}, 401)
            return
        for pattern, action in _ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                action(self, body, **found.groupdict())
                return
        self._answer({"error": f"no such place: {path}"}, 404)

    do_GET = do_POST = do_PUT = do_HEAD = _route

    def create(self, body: bytes) -> None:
        told = json.loads(body)
        repo = f"{told['organization']}/{told['name']}" if told.get("organization") else told["name"]
        self.hub.repos.setdefault(repo, [{}])
        self.hub.tags.setdefault(repo, {})
        self._answer({"url": f"{self.hub.url}/datasets/{repo}"})

    def check_yaml(self, body: bytes) -> None:
        fine = json.loads(body)["content"].startswith("---\n")
        self._answer({"errors": [] if fine else [{"message": "no metadata"}], "warnings": []}, 200 if fine else 400)

    def preupload(self, body: bytes, repo: str) -> None:
        modes = [
            {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith((".tar", ".parquet")) else "regular"}
            for one in json.loads(body)["files"]
        ]
        self._answer({"files": [{**one, "shouldIgnore": False, "oid": None} for one in modes]})

    def batch(self, body: bytes, repo: str) -> None:
        objects = []
        for one in json.loads(body)["objects"]:
            known = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.objects:
                known["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}
            objects.append(known)
        self._answer({"transfer": "basic", "objects": objects})

    def upload(self, body: bytes, oid: str) -> None:
        if self.hub.refuse_uploads:
            self._answer({"error": "no room"}, 413)
        elif hashlib.sha256(body).hexdigest() != oid:
            self._answer({"error": "another file"}, 400)
        else:
            self.hub.objects[oid] = body
            self._answer({})

    def commit(self, body: bytes, repo: str) -> None:
        files = dict(self.hub.repos[repo][-1])
        for line in body.splitlines():
            told = json.loads(line)
            value = told["value"]
            if told["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif told["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif told["key"] == "deletedFile":
                del files[value["path"]]
        self.hub.repos[repo].append(files)
        oid = self.hub.oid(repo, "main")
        self._answer({"commitUrl": f"{self.hub.url}/datasets/{repo}/commit/{oid}", "commitOid": oid})

    def tag(self, body: bytes, repo: str, revision: str) -> None:
        self.hub.tags[repo][json.loads(body)["tag"]] = int(self.hub.oid(repo, revision), 16)
        self._answer({})

    def refs(self, body: bytes, repo: str) -> None:
        if repo not in self.hub.repos:
            self._answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            return
        tags = [
            {"name": name, "ref": f"refs/tags/{name}", "targetCommit": f"{at:040x}"} for name, at in self.hub.tags[repo].items()
        ]
        self._answer({"branches": [], "converts": [], "tags": tags})

    def info(self, body: bytes, repo: str, revision: str = "main") -> None:
        files = self.hub.files(repo, revision)
        if files is None:
            self._answer(
                {"error": "not found"}, 404, X_Error_Code="RevisionNotFound" if repo in self.hub.repos else "RepoNotFound"
            )
            return
        told = {"id": repo, "sha": self.hub.oid(repo, revision), "private": True, "tags": [], "downloads": 0, "likes": 0}
        self._answer({**told, "siblings": [{"rfilename": name} for name in sorted(files)]})

    def tree(self, body: bytes, repo: str, revision: str, folder: str | None) -> None:
        files = self.hub.files(repo, revision) or {}
        folder = (folder or "").strip("/")
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["False"])[0].lower() == "true"
        inside = {name: data for name, data in files.items() if not folder or name.startswith(f"{folder}/")}
        rest = {name: name.removeprefix(f"{folder}/" if folder else "") for name in inside}
        out = [_file(name, data) for name, data in inside.items() if recursive or "/" not in rest[name]]
        above = {name[: len(name) - len(rest[name])] + rest[name].split("/")[0] for name in inside if "/" in rest[name]}
        self._answer(sorted([*out, *(_folder(name) for name in above)], key=lambda one: str(one["path"])))

    def paths(self, body: bytes, repo: str, revision: str) -> None:
        files = self.hub.files(repo, revision) or {}
        wanted = parse_qs(body.decode())["paths"]
        found = [_file(name, files[name]) for name in wanted if name in files]
        found += [_folder(name) for name in wanted if any(one.startswith(f"{name}/") for one in files)]
        self._answer(found)

    def resolve(self, body: bytes, repo: str, revision: str, path: str) -> None:
        data = (self.hub.files(repo, revision) or {}).get(path)
        if data is None:
            self._answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
            return
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        part = data[int(span[1]) : int(span[2]) + 1 if span[2] else None] if span else data
        told = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X_Repo_Commit": self.hub.oid(repo, revision)}
        if span:
            told["Content_Range"] = f"bytes {span[1]}-{int(span[1]) + len(part) - 1}/{len(data)}"
        self._answer(part, 206 if span else 200, **told)


def _file(name: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


def _folder(name: str) -> dict[str, Any]:
    return {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0}


_REPO, _REV = r"(?P<repo>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
_ROUTES = (
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.check_yaml),
    (rf"POST /api/datasets/{_REPO}/preupload/[^/]+", _Handler.preupload),
    (rf"POST /datasets/{_REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /lfs/(?P<oid>[0-9a-f]{64})", _Handler.upload),
    (rf"POST /api/datasets/{_REPO}/commit/[^/]+", _Handler.commit),
    (rf"POST /api/datasets/{_REPO}/tag/{_REV}", _Handler.tag),
    (rf"GET /api/datasets/{_REPO}/refs", _Handler.refs),
    (rf"GET /api/datasets/{_REPO}/tree/{_REV}(?P<folder>/.*)?", _Handler.tree),
    (rf"POST /api/datasets/{_REPO}/paths-info/{_REV}", _Handler.paths),
    (rf"GET /api/datasets/{_REPO}/revision/{_REV}", _Handler.info),
    (rf"GET /api/datasets/{_REPO}", _Handler.info),
    (rf"(GET|HEAD) /datasets/{_REPO}/resolve/{_REV}/(?P<path>.+)", _Handler.resolve),
)
