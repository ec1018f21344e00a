"""The clip table: one row a clip in `clips.parquet`, so that a reader selects before it opens any tar."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

from dyconv.bounds import TABLE_BYTES
from dyconv.errors import ShardError
from dyconv.records import PERSONS, Clip
from dyconv.time import Span

_ROW_GROUP = 8192


def union(spans: Sequence[Span]) -> list[Span]:
    """The same time as disjoint spans in order."""
    out: list[Span] = []
    for span in sorted(spans):
        if out and span.start <= out[-1].end:
            out[-1] = Span(out[-1].start, max(out[-1].end, span.end))
        else:
            out.append(span)
    return out


def seconds_of(spans: Sequence[Span]) -> float:
    """Length of disjoint spans, seconds."""
    return float(sum((span.duration for span in spans), Fraction(0)))


def common(first: Sequence[Span], second: Sequence[Span]) -> list[Span]:
    """The time that is in both of two lists of disjoint spans."""
    return [part for one in first for two in second if (part := one.intersect(two))]


def columns(clip: Clip, shard: str, row: int) -> dict[str, Any]:
    """One row of the table: a clip, and its shard and place in it.

    Shares are of the clip's duration, 0 to 1; widths are pixels of VIDEO.
    """
    duration = float(clip.span.duration) or 1.0
    spoken = {person: union([turn.span for turn in clip.turns if turn.person == person]) for person in PERSONS}
    people = {person.id: person for person in clip.people}
    values: dict[str, Any] = {
        "id": clip.id,
        "source": clip.source.id,
        "licence": clip.source.licence,
        "start_s": float(clip.span.start),
        "end_s": float(clip.span.end),
        "duration_s": float(clip.span.duration),
        "layout": clip.layout,
        "overlap_share": round(seconds_of(common(spoken["p0"], spoken["p1"])) / duration, 4),
        "av_offset_s": _number(clip, "av_offset_s"),
        "motion_encoder": clip.measures.get("motion.encoder"),
        "motion_hash": clip.measures.get("motion.hash"),
        "shard": shard,
        "row": row,
    }
    for person in PERSONS:
        known = people.get(person)
        values[f"{person}_seen"] = bool(known and known.seen)
        values[f"{person}_heard"] = bool(known and known.heard)
        values[f"{person}_speaking_share"] = round(seconds_of(spoken[person]) / duration, 4)
        values[f"{person}_face_width_px"] = _face_width(clip, person)
        values[f"{person}_bleed_db"] = _number(clip, f"{person}.bleed_db")
    return values


def _number(clip: Clip, name: str) -> float | None:
    value = clip.measures.get(name)
    return float(value) if isinstance(value, (int, float)) else None


def _face_width(clip: Clip, person: str) -> float | None:
    """Mean over the person's tracks of their median width, weighted by their length."""
    tracks = [track for track in clip.tracks if track.person == person and track.end > track.start]
    frames = sum(track.end - track.start for track in tracks)
    return round(sum(track.width * (track.end - track.start) for track in tracks) / frames, 2) if frames else None


class TableWriter:
    """Writes the table in lots of rows; the same rows give the same bytes, however they come. Use as a context manager.

    Args:
        more: columns beside those that `columns` makes, as name -> pyarrow type (a release's `split`).
    """

    def __init__(self, path: Path, more: Mapping[str, str] | None = None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.rows = 0
        self._waiting: list[dict[str, Any]] = []
        self._schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in {**CLIP_SCHEMA, **(more or {})}.items()])
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append rows as `columns` makes them."""
        for row in rows:
            self._waiting.append(row)
            self.rows += 1
            if len(self._waiting) == _ROW_GROUP:
                self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
        self._waiting = []

    def close(self) -> None:
        """Finish the file."""
        if self._waiting:
            self._flush()
        self._writer.close()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.close()


class TableError(ShardError, ValueError):
    """A table is not readable as Parquet, or has not the columns that it has to have."""


def read_table(
    path: Path, schema: Mapping[str, str] | None = None, filled: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """The rows of a table.

    Args:
        schema: columns that have to be there, as name -> pyarrow type; a clip table's if not given.
        filled: columns in which no row may be without a value; a clip table's if not given.

    Raises:
        TableError: if it is not readable as Parquet, larger than is read, or has other columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            found = {one.name: str(one.type) for one in file.schema_arrow}
            _check_columns(path, found, CLIP_SCHEMA if schema is None else schema)
            return list(_rows(path, file, CLIP_FILLED if filled is None else filled))
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, RuntimeError, MemoryError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"{path} is not readable as Parquet: {error!s:.200}") from error


def _check_columns(path: Path, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    import pyarrow as pa

    for name, kind in wanted.items():
        if found.get(name) != str(getattr(pa, kind)()):
            raise TableError(f"{path}: expected the column {name} of {kind.rstrip('_')}, found {found.get(name, 'none')[:60]}")


def _rows(path: Path, file: Any, filled: Collection[str]) -> Iterator[dict[str, Any]]:
    size = 0
    for batch in file.iter_batches(batch_size=_ROW_GROUP):
        size += batch.nbytes
        if TABLE_BYTES.passed_by(size):
            raise TableError(f"{path} has more than {TABLE_BYTES.now} bytes", hint=TABLE_BYTES.hint)
        if empty := next((name for name in filled if batch.column(name).null_count), None):
            raise TableError(f"{path}: a row without {empty}")
        yield from batch.to_pylist()


def _schema() -> dict[str, str]:
    names = dict.fromkeys(("id", "source", "licence"), "string")
    names |= dict.fromkeys(("start_s", "end_s", "duration_s"), "float64") | {"layout": "string"}
    for person in PERSONS:
        names |= {f"{person}_seen": "bool_", f"{person}_heard": "bool_", f"{person}_speaking_share": "float64"}
        names |= {f"{person}_face_width_px": "float64", f"{person}_bleed_db": "float64"}
    names |= {"overlap_share": "float64", "av_offset_s": "float64", "motion_encoder": "string", "motion_hash": "string"}
    return names | {"shard": "string", "row": "int64"}


CLIP_SCHEMA = _schema()
CLIP_FILLED = ("id", "source", "start_s", "end_s", "duration_s", "overlap_share", "shard", "row")
