"""Downloads that were begun: kept between runs, and continued only if the host still has the same file.

A source's partial folder lies in the cache, not in a worker's scratch, so that a relaunch after a kill goes on from
the bytes that are there. Beside every partial file lies what the host said of the whole (length, ETag, Last-Modified).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dyconv.bounds import NotJson, parse_json
from dyconv.download.errors import Kind, Stop
from dyconv.download.hosts import is_held, locked
from dyconv.store import write_atomic

_RANGE = re.compile(r"bytes\s+\d+-\d+/(\d+|\*)")


def cache_folder() -> Path:
    """Where partial downloads lie: below DYCONV_CACHE, by default `~/.cache/dyconv`."""
    return Path(os.environ.get("DYCONV_CACHE") or Path.home() / ".cache" / "dyconv").absolute() / "partial"


@contextmanager
def partial_folder(what: str) -> Iterator[Path]:
    """The folder of one download, locked against other processes. It stays; see `discard`.

    Args:
        what: everything that the bytes depend on (address, choice of formats).
    """
    name = hashlib.sha256(what.encode()).hexdigest()[:32]
    folder = cache_folder() / name
    with locked(_lock(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def discard(folder: Path) -> None:
    """Remove a partial folder that is of no more use."""
    shutil.rmtree(folder, ignore_errors=True)


def sweep(older_than_s: float = 30 * 86400.0) -> None:
    """Remove partial downloads that nobody came back for. Those in use are not waited for."""
    root = cache_folder()
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if is_held(_lock(folder)):
            continue
        touched = [path.stat().st_mtime for path in (folder, *folder.glob("*")) if path.exists()]
        if touched and time.time() - max(touched) > older_than_s:
            with locked(_lock(folder)):
                discard(folder)


def _lock(folder: Path) -> str:
    return f"partial {folder}"


@dataclass(frozen=True)
class Whole:
    """What a host says of the whole file."""

    length: int | None
    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str]) -> Whole:
        """From the headers of a 200 or 206 answer."""
        if status == 206:
            found = _RANGE.fullmatch((headers.get("Content-Range") or "").strip())
            length = int(found[1]) if found and found[1] != "*" else None
        else:
            text = headers.get("Content-Length") or ""
            length = int(text) if text.isdigit() and not headers.get("Content-Encoding") else None
        return cls(length, headers.get("ETag"), headers.get("Last-Modified"))

    def same_as(self, other: Whole) -> bool:
        """True where nothing speaks against it and at least the length, or a validator, speaks for it."""
        pairs = ((self.length, other.length), (self.etag, other.etag), (self.modified, other.modified))
        known = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
        return bool(known) and all(ours == theirs for ours, theirs in known)

    @property
    def condition(self) -> str | None:
        """Value for `If-Range`: a strong ETag, else the date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class PartialFile:
    """One file being downloaded: `path` with `.part` at its end while it is not whole."""

    def __init__(self, path: Path) -> None:
        self.part = path.with_name(path.name + ".part")
        self._note = path.with_name(path.name + ".whole.json")

    @property
    def condition(self) -> str | None:
        """Value for `If-Range` when asking for the rest."""
        known = self._known()
        return known.condition if known else None

    def remove(self) -> None:
        self.part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def check(self, continues: bool, answer: Whole) -> None:
        """Compare an answer with what the bytes on disk belong to, and note it.

        Args:
            continues: the answer's bytes go on from the partial file (206); else they are the whole file.

        Raises:
            Stop: TRANSIENT, after removing the bytes, if they belong to another version of the file.
        """
        known = self._known()
        if continues and (known is None or not known.same_as(answer)):
            self.remove()
            raise Stop(Kind.TRANSIENT, "the host's file changed since the download was begun; beginning again")
        if not continues:
            write_atomic(self._note, json.dumps(asdict(answer)).encode())

    def _known(self) -> Whole | None:
        try:
            known = Whole(**parse_json(self._note.read_bytes()))
        except (FileNotFoundError, NotJson, TypeError):
            return None
        texts = all(isinstance(text, str | None) for text in (known.etag, known.modified))
        return known if texts and isinstance(known.length, int | None) else None
