"""A small web server for one folder, on this machine only: for trying a download without a network.

It answers byte ranges, as hosts of video do, so that a broken-off download goes on where it stopped.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

from dyconv.errors import UsageError

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CHUNK = 1 << 16


@contextmanager
def serve(folder: Path, *, port: int = 0) -> Iterator[str]:
    """Serve a folder's files while the context lasts; gives the address, `http://127.0.0.1:<port>`.

    Args:
        port: 0 for any free one.

    Raises:
        UsageError: if the folder is not there.
    """
    if not folder.is_dir():
        raise UsageError(f"no folder to serve at {folder}")
    handler = partial(_Files, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Files(SimpleHTTPRequestHandler):
    """Files of one folder, no listings, with byte ranges. Path handling is the standard library's."""

    protocol_version = "HTTP/1.1"
    _left = 0  # bytes of the body still to be sent

    def send_head(self) -> BinaryIO | None:
        path = Path(self.translate_path(self.path))
        root = Path(self.directory).resolve()
        if not path.is_file() or not path.resolve().is_relative_to(root):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        size = path.stat().st_size
        wanted = self._wanted(size)
        if wanted is None:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        start, stop = wanted
        part = (start, stop) != (0, size)
        self.send_response(HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK)
        if part:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        file = path.open("rb")
        file.seek(start)
        self._left = stop - start
        return file

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # a client that went away is no news
            self.close_connection = True

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:  # type: ignore[override]
        try:
            while self._left and (chunk := source.read(min(_CHUNK, self._left))):
                outputfile.write(chunk)
                self._left -= len(chunk)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def list_directory(self, path: object) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the caller's output belongs to the caller."""

    def _wanted(self, size: int) -> tuple[int, int] | None:
        """Bytes `[start, stop)` that are asked for; None where the file has none of them."""
        header = self.headers.get("Range")
        match = _RANGE.fullmatch(header.strip()) if header else None
        if match is None or not any(match.groups()):  # no range, or one of a kind that may be ignored
            return 0, size
        first, last = match.groups()
        if not first:
            return (max(0, size - int(last)), size) if int(last) and size else None
        start, stop = int(first), min(int(last) + 1 if last else size, size)
        return (start, stop) if start < stop else None
