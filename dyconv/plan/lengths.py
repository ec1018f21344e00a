"""How long the sources of a manifest are: from a column, from local files, or from what the user says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from dyconv.errors import ManifestError, UsageError
from dyconv.manifest import BadRow, Row, local_path, read_cells, read_manifest

COLUMN = "x_duration_s"


@dataclass(frozen=True)
class Lengths:
    """Seconds of every source that is no bad row, in the order of the manifest, and how they are known."""

    seconds: tuple[float, ...]
    from_column: int = 0
    from_files: int = 0
    assumed: int = 0
    bad_rows: int = 0

    @property
    def total_s(self) -> float:
        return sum(self.seconds)

    def describe(self) -> str:
        parts = [
            f"{count:,} {how}"
            for count, how in (
                (self.from_column, f"from the column {COLUMN}"),
                (self.from_files, "from the files"),
                (self.assumed, "as long as --mean-minutes says"),
                (self.bad_rows, "bad rows left out"),
            )
            if count
        ]
        return ", ".join(parts)


def read_lengths(manifest: Path, mean_minutes: float | None = None, limit: int | None = None) -> Lengths:
    """Lengths of a manifest's sources. Of a local file only the header is read, and nothing is fetched.

    Args:
        mean_minutes: for sources of which nothing else is known.
        limit: only the first rows.

    Raises:
        UsageError: if a length is known in no way, or is no length.
    """
    if mean_minutes is not None and not 0 < mean_minutes < 1e6:
        raise UsageError(f"--mean-minutes must be above 0, is {mean_minutes:g}")
    rows, cells = read_manifest(manifest)[:limit], read_cells(manifest)
    seconds: list[float] = []
    column = files = assumed = bad = 0
    for number, (row, cell) in enumerate(zip(rows, cells, strict=False), 1):
        if isinstance(row, BadRow):
            bad += 1
            continue
        given = str(cell.get(COLUMN) or "").strip()
        found = _given(given, number, manifest) if given else None
        column += found is not None
        if found is None and (found := _of_file(row)) is not None:
            files += 1
        if found is None and mean_minutes is not None:
            found = 60 * mean_minutes
            assumed += 1
        if found is None:
            raise UsageError(
                f"{manifest}: row {number} ({row.id}): length not known: no column {COLUMN}, no local file to look at",
                hint=f"add --mean-minutes with a guess of how long sources are, or a column {COLUMN} to the manifest",
            )
        seconds.append(found)
    if not seconds:
        raise UsageError(f"{manifest} has no row that can be used", hint=f"{bad} rows are bad: `dyconv run` names why")
    return Lengths(tuple(seconds), column, files, assumed, bad)


def _given(text: str, number: int, manifest: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e8:
        raise ManifestError(f"{manifest}: row {number} has {COLUMN} {text[:40]!r}, expected seconds above 0")
    return value


def _of_file(row: Row) -> float | None:
    """Length by the header of a local file; None if there is none, or it says none."""
    path = None if isinstance(row, BadRow) else local_path(row.url)
    if path is None or not path.is_file():
        return None
    import av

    from dyconv.media.source import UnreadableSource, open_source

    try:
        with open_source(path) as container:
            return container.duration / av.time_base if container.duration and container.duration > 0 else None
    except (UnreadableSource, OSError):
        return None
