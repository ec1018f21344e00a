"""What was taken down: tombstones, by which later builds and releases know a source again without its being named.

A tombstone holds hashes alone. Whoever has a source can tell whether it was taken down; whoever has the list cannot tell
whose it is, except by trying names. `dyconv takedown` writes them, releases carry them in `tombstones.json`, and the same
file stops a run: beside the manifest, or given with `--tombstones`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dyconv.bounds import NotJson, parse_json
from dyconv.errors import UsageError
from dyconv.manifest import BadRow, Row, comparable_url
from dyconv.records import DropReason, Source

FILE = "tombstones.json"
KINDS = ("source", "person")
_HASH = re.compile(r"[0-9a-f]{64}")
_YOUTUBE = re.compile(r"(www\.|m\.|music\.)?youtube(-nocookie)?\.com")
_YOUTUBE_PATH = re.compile(r"/(?:shorts|embed|live|v)/([A-Za-z0-9_-]{11})")


@dataclass(frozen=True)
class Tombstone:
    """One source that was taken down.

    Attributes:
        kind: what was asked for: the source, or a person who is in it.
        source: sha256 of the source's id.
        urls: sha256 of its addresses as `address` writes them; local files have none.
        people: sha256 of the ids of the people who asked, as the table `people` had them.
        version: the first release without it.
        date: of the takedown, as it was given.
        why: as it was given; it is published.
    """

    kind: str
    source: str
    urls: tuple[str, ...]
    version: str
    people: tuple[str, ...] = ()
    date: str | None = None
    why: str | None = None

    @property
    def id(self) -> str:
        """How it is called in a changelog and in the reason of a drop."""
        return self.source[:12]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "urls": list(self.urls), "people": list(self.people)}

    @classmethod
    def from_json(cls, data: Any, where: str) -> Tombstone:
        """Raises UsageError, naming `where`, for what is none."""
        known = isinstance(data, dict) and all(isinstance(data.get(name, []), list) for name in ("urls", "people"))
        hashes = [data.get("source"), *data.get("urls", ()), *data.get("people", ())] if known else [None]
        if not all(isinstance(one, str) and _HASH.fullmatch(one) for one in hashes) or data.get("kind") not in KINDS:
            raise UsageError(
                f"{where}: expected a tombstone with kind, source, urls and people as sha256, found {str(data)[:120]}",
                hint="take the tombstones.json of the release as it is",
            )
        texts = {name: str(data[name]) if data.get(name) is not None else None for name in ("date", "why")}
        version = str(data.get("version", ""))
        return cls(data["kind"], data["source"], tuple(data.get("urls", ())), version, tuple(data.get("people", ())), **texts)


class Tombstones:
    """A list of them, to be asked."""

    def __init__(self, all_: Iterable[Tombstone] = ()) -> None:
        self.all = tuple(all_)
        self._by_id = {one.source: one for one in self.all}
        self._by_url = {url: one for one in self.all for url in one.urls}

    def of(self, source: Source) -> tuple[Tombstone, str] | None:
        """The tombstone that a source has, and by what it was known: its `id`, `url` or `partner_url`."""
        if found := self._by_id.get(hashed(source.id)):
            return found, "id"
        for what in ("url", "partner_url"):
            place = address(getattr(source, what))
            if place and (found := self._by_url.get(hashed(place))):
                return found, what
        return None

    def refuse(self, row: Row) -> Row:
        """A manifest's row, or the reason why it is not to be fetched."""
        found = self.of(row) if isinstance(row, Source) else None
        if found is None or not isinstance(row, Source):
            return row
        stone, what = found
        when = f" on {stone.date}" if stone.date else ""
        told = f"its {what} stands in the list of takedowns (tombstone {stone.id}, since version {stone.version}{when})"
        return BadRow(row.id, 0, row.url, told, DropReason.TAKEN_DOWN)


def hashed(text: str) -> str:
    """Hex sha256 of a text's UTF-8, as `printf %s TEXT | sha256sum` gives it."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def address(url: str | None) -> str | None:
    """The address of a source in one spelling, so that another link to the same video is known; None for a local file."""
    if not url or urlsplit(url).scheme not in ("http", "https"):
        return None
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if host == "youtu.be" and len(parts.path) >= 12:
        return f"youtube:{parts.path[1:12]}"
    if _YOUTUBE.fullmatch(host):
        named = _YOUTUBE_PATH.match(parts.path)
        video = named[1] if named else parse_qs(parts.query).get("v", [""])[0]
        if video:
            return f"youtube:{video}"
    return comparable_url(url).partition(":")[2]  # http and https are one


def read_tombstones(path: Path) -> Tombstones:
    """The list in a file, or in the folder of a release.

    Raises:
        UsageError: if it is not there, or is none.
    """
    file = path / FILE if path.is_dir() else path
    try:
        data = parse_json(file.read_bytes())
    except OSError as error:
        raise UsageError(
            f"no list of takedowns at {file}: {error.strerror}", hint="give a release's tombstones.json"
        ) from error
    except NotJson as error:
        raise UsageError(f"{file} is not JSON: {error}", hint="take the tombstones.json of the release as it is") from error
    return parse_tombstones(data, str(file))


def parse_tombstones(data: Any, where: str) -> Tombstones:
    """Raises UsageError for anything but what `to_json` wrote."""
    rows = data.get("tombstones") if isinstance(data, dict) else None
    if not isinstance(rows, list):
        raise UsageError(f"{where} has no list `tombstones`", hint="take the tombstones.json of the release as it is")
    return Tombstones(Tombstone.from_json(row, f"{where}, tombstone {number}") for number, row in enumerate(rows, 1))


def lists_for(manifest: Path, given: Sequence[Path]) -> Tombstones:
    """The tombstones that hold for a run: those given, and those beside the manifest."""
    beside = manifest.absolute().parent / FILE
    paths = [*given, *([beside] if beside.is_file() else [])]
    return Tombstones(one for path in paths for one in read_tombstones(path).all)
