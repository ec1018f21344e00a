"""Manifests: which sources to fetch, and under which licence. CSV or JSONL; see manifests/README.md.

Two kinds of mistakes are told apart. A file that cannot be used as a whole (missing, not CSV or JSONL, an unknown
column) is a `ManifestError`, before anything runs. A bad row is a `BadRow`: it becomes the drop of that one source,
and all others go on.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from dyconv.bounds import MANIFEST_BYTES, NotJson, parse_json
from dyconv.errors import ManifestError
from dyconv.records import Drop, DropReason, Source, source_clip

COLUMNS = tuple(field.name for field in fields(Source))
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts"),
    *(".mpg", ".mpeg", ".vob", ".flv", ".wmv", ".asf", ".ogv", ".mxf"),
)
MAX_ID = 64  # the ids of clips are made from it and must stay within what a record's id allows
_MAX_URL = 2048
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID}}}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_SECRET = re.compile(r"//[^/?#]*@")
_UNPRINTABLE = re.compile(r"[\s\x00-\x20\x7f]")


@dataclass(frozen=True)
class BadRow:
    """A row that names no usable source. `id` is safe and made from the row's number and content.

    A source that was taken down (`dyconv.tombstones`) becomes one too, under its own id and with another reason.
    """

    id: str
    row: int  # counted from 1, without the header
    url: str
    detail: str
    reason: DropReason = DropReason.BAD_ROW

    def drop(self) -> Drop:
        """What the ledger records of it."""
        return Drop(source_clip(Source(id=self.id, url=self.url)), self.reason, self.detail)


Row = Source | BadRow


class _Bad(ValueError):
    """Why one row is unusable."""


def read_manifest(path: str | Path) -> list[Row]:
    """All rows of a manifest, in order. Ids and URLs are unique among the sources returned.

    Local paths come back as absolute `file://` URLs. Nothing is fetched, and no local file is looked at.

    Raises:
        ManifestError: if the file as a whole cannot be used.
    """
    path = Path(path)
    seen: dict[str, str] = {}
    folder = path.absolute().parent
    return [_row(number, values, folder, seen) for number, values in enumerate(read_cells(path), 1)]


def read_cells(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a manifest as they are written, own columns too: as many as `read_manifest` gives. Not checked.

    Raises:
        ManifestError: if the file as a whole cannot be used.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".csv", ".jsonl", ".ndjson"):
        raise ManifestError(f"{path}: expected a manifest named .csv or .jsonl", hint="see manifests/README.md")
    text = _read_text(path)
    raw = list(_csv_rows(path, text) if kind == ".csv" else _jsonl_rows(path, text))
    if not raw:
        raise ManifestError(f"{path} has no rows", hint="a manifest is a header line and one line a source")
    return raw


def default_id(url: str) -> str:
    """The id of a source that is given none: the readable end of its URL and a hash of all of it."""
    name = unquote(re.split(r"[?#]", url)[0]).rstrip("/").rsplit("/", 1)[-1]
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name.rsplit(".", 1)[0]).strip("-")[:32]
    digest = hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{slug}-{digest}" if slug else f"source-{digest}"


def _read_text(path: Path) -> str:
    try:
        if MANIFEST_BYTES.passed_by(size := path.stat().st_size):
            raise ManifestError(f"{path} has {size} bytes, at most {MANIFEST_BYTES.now} are read", hint=MANIFEST_BYTES.hint)
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ManifestError(f"there is no manifest {path}", hint="`dyconv manifest FOLDER --licence L` makes one") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from error
    except OSError as error:
        raise ManifestError(f"cannot read manifest {path}: {error.strerror}") from error


def _csv_rows(path: Path, text: str) -> Iterator[dict[str, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_columns(path, header)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(header):
                yield {"": f"has {len(cells)} cells, the header has {len(header)} (quote a cell that contains a comma)"}
            else:
                yield dict(zip(header, cells, strict=False))
    except csv.Error as error:
        raise ManifestError(f"{path} is not CSV: line {reader.line_num}: {error}") from error


def _jsonl_rows(path: Path, text: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for line in text.split("\n"):  # not at the other signs that end lines: JSON may have them in its texts
        if not line.strip():
            continue
        try:
            value = parse_json(line)
        except NotJson:
            value = None
        if isinstance(value, dict):
            objects.append(value)
            rows.append(value)
        else:
            rows.append({"": f"is not a JSON object: {line[:80]!r}"})
    if rows and not objects:
        raise ManifestError(f"{path} is not JSONL: no line is a JSON object", hint="one object a line, with at least a url")
    if objects:
        _check_columns(path, list(dict.fromkeys(name for value in objects for name in value)))
    return rows


def _check_columns(path: Path, names: list[str]) -> None:
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ManifestError(f"{path}: column {repeated[0]!r} stands in the header twice")
    for name in names:
        if name in COLUMNS or name.startswith("x_"):
            continue
        near = difflib.get_close_matches(name.lower(), COLUMNS, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]!r}? " if near else ""
        own = re.sub("[^a-z0-9]+", "_", name.lower()) or "name"
        raise ManifestError(
            f"{path}: unknown column {name!r}",
            hint=f"{meant}columns are {', '.join(COLUMNS)}, and your own as x_{own}",
        )
    if "url" not in names:
        raise ManifestError(f"{path} has no column 'url'", hint=f"its columns are: {', '.join(names) or 'none'}")


def _row(number: int, values: Mapping[str, Any], folder: Path, seen: dict[str, str]) -> Row:
    """One source, or why there is none. `seen` maps ids and comparable URLs that are taken to the row that has them."""
    url = ""
    try:
        if "" in values:
            raise _Bad(values[""])
        known = {name: _cell(name, values.get(name)) for name in COLUMNS}
        url = known["url"] or ""
        source = _source(known, folder)
        wanted = [(source.id, "id"), (comparable_url(source.url), "url")]
        if source.partner_url:
            wanted.append((comparable_url(source.partner_url), "partner_url"))
            if wanted[1][0] == wanted[2][0]:
                raise _Bad("has the same file as url and as partner_url")
        for taken, what in wanted:
            if taken in seen:
                raise _Bad(f"{what} {taken[:120]!r} is a duplicate of {seen[taken]}")
        seen.update((taken, f"row {number} ({source.id})") for taken, _ in wanted)
        return source
    except _Bad as error:
        digest = hashlib.sha256(repr(sorted(values.items(), key=str)).encode(errors="replace")).hexdigest()[:8]
        safe = _SECRET.sub("//", url)[:200].encode("ascii", "backslashreplace").decode()
        return BadRow(f"row-{number:04d}-{digest}", number, safe, f"row {number} {error}")


def _cell(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _Bad(f"has {name} {value!r:.80}, expected text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Bad(f"has a {name} that is not valid Unicode") from None
    return value.strip() or None


def _source(known: dict[str, str | None], folder: Path) -> Source:
    if not known["url"]:
        raise _Bad("has no url")
    written = known["url"]
    url = _check_url(written, folder)
    source_id = known["id"] or default_id(written)
    if not _ID.fullmatch(source_id):
        raise _Bad(f"has id {source_id[:120]!r}, expected 1 to {MAX_ID} of the characters A-Z a-z 0-9 _ -")
    language = known["language"]
    if language and not _LANGUAGE.fullmatch(language):
        raise _Bad(f"has language {language[:40]!r}, expected a BCP 47 tag such as en or pt-BR")
    partner = _check_url(known["partner_url"], folder) if known["partner_url"] else None
    return Source(**{**known, "id": source_id, "url": url, "partner_url": partner})  # type: ignore[arg-type]


def _check_url(url: str, folder: Path) -> str:
    """The URL as it is to be fetched: http(s) as given, anything local as an absolute `file://` URL."""
    if len(url) > _MAX_URL:
        raise _Bad(f"has a url of {len(url)} characters, at most {_MAX_URL} are taken")
    scheme = _SCHEME.match(url)
    if not scheme:
        return _local_url(url, folder)
    if _UNPRINTABLE.search(url):
        raise _Bad(f"has a url with white space or control characters: {url[:120]!r}")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise _Bad(f"has a bad url {url[:120]!r}: {error}") from None
    if parts.scheme == "file":
        return _file_url(url)
    if parts.scheme not in ("http", "https"):
        raise _Bad(f"has url {url[:120]!r}: expected http, https, file or a path, found {parts.scheme!r}")
    if not parts.hostname:
        raise _Bad(f"has url {url[:120]!r} without a host")
    if parts.username is not None or parts.password is not None:
        raise _Bad("has a url with a user name or password in it: use a cookies file, records are published")
    return url


def _local_url(path: str, folder: Path) -> str:
    pure = PurePosixPath(path)
    if "\0" in path or "\\" in path:
        raise _Bad(f"has a bad local path {path[:120]!r}")
    if pure.is_absolute():
        return "file://" + quote(str(pure))
    if ".." in pure.parts:
        raise _Bad(f"has local path {path[:120]!r}, which leaves the manifest's folder: write file:///whole/path instead")
    return (folder / pure).as_uri()


def _file_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise _Bad(f"has url {url[:120]!r}, expected file:///whole/path")
    decoded = unquote(parts.path)
    if "\0" in decoded or ".." in PurePosixPath(decoded).parts:
        raise _Bad(f"has a bad local path {url[:120]!r}")
    return "file://" + quote(decoded)


def comparable_url(url: str) -> str:
    """The same text for URLs that differ only in the spelling of the host or in a fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.lower(), parts.path or "/", parts.query, ""))


def local_path(url: str) -> Path | None:
    """The local path that a source's `file://` URL stands for, None for any other URL."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def list_media(folder: Path) -> list[Path]:
    """Every video file below a folder (by its suffix), sorted. Hidden files and links to folders are left out.

    Raises:
        ManifestError: if there is no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise ManifestError(f"{folder} is not a folder")
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if Path(name).suffix.lower() in VIDEO_SUFFIXES and name[0] != "."]
    if not found:
        raise ManifestError(f"no video file below {folder}", hint=f"looked for {' '.join(VIDEO_SUFFIXES)}")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def listing(folder: Path, licence: str, *, beside: Path | None = None) -> str:
    """CSV text of a manifest of the video files below `folder`.

    Ids come from the path below `folder`, so that they are the same wherever the folder lies.

    Args:
        beside: folder the manifest will lie in: files below it get relative paths, all others `file://` URLs.
    """
    if not licence.strip():
        raise ManifestError("no licence given", hint="for example --licence own; see manifests/README.md")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "url", "licence", "title"])
    for path in list_media(folder):
        name = path.relative_to(folder).as_posix()
        whole = Path(os.path.abspath(path))
        relative = beside is not None and whole.is_relative_to(os.path.abspath(beside))
        url = whole.relative_to(os.path.abspath(beside)).as_posix() if relative and beside else whole.as_uri()
        if relative and (_SCHEME.match(url) or url != url.strip() or "\\" in url):
            url = whole.as_uri()
        writer.writerow([default_id(quote(name)), url, licence.strip(), name])
    return text.getvalue()
