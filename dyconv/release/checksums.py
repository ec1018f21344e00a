"""CHECKSUMS.sha256: every file of a release, sorted, as `sha256sum -c` reads it."""

from __future__ import annotations

import re
from pathlib import Path

from dyconv.release.model import CHECKSUMS, ReleaseError
from dyconv.store import Store, safe_path, sha256_of

_LINE = re.compile(r"(?P<sha256>[0-9a-f]{64})  (?P<path>.+)")


def files_of(folder: Path) -> list[str]:
    """Paths of every file of a release, `/`-separated, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def write_checksums(folder: Path) -> None:
    """Write the checksums of all that lies in a folder."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in files_of(folder) if name != CHECKSUMS]
    (folder / CHECKSUMS).write_text("".join(lines))


def parse_checksums(text: str, where: str) -> dict[str, str]:
    """sha256 by path.

    Raises:
        ReleaseError: naming the line that is not one, or a path that leaves the release.
    """
    out: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        found = _LINE.fullmatch(line)
        if found is None:
            raise ReleaseError(f"{where}, line {number}: expected `<sha256>  <path>`, found {line[:80]!r}")
        path = safe_path(found["path"])
        if path in out:
            raise ReleaseError(f"{where}, line {number}: {path} comes twice")
        out[path] = found["sha256"]
    return out


def read_checksums(folder: Path) -> dict[str, str]:
    """The checksums of a local release."""
    return parse_checksums((folder / CHECKSUMS).read_text(), CHECKSUMS)


def stored_checksums(store: Store) -> dict[str, str]:
    """The checksums of any release.

    Raises:
        ReleaseError: if there are none.
    """
    if not store.exists(CHECKSUMS):
        raise ReleaseError(f"{store} has no {CHECKSUMS}", hint="give the folder of a release: TO/VERSION of `dyconv release`")
    try:
        return parse_checksums(store.read_bytes(CHECKSUMS).decode(), CHECKSUMS)
    except UnicodeDecodeError as error:
        raise ReleaseError(f"{store}/{CHECKSUMS} is not text: {error}") from error
