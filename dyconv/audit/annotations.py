"""Decisions in memory, and as files: lines of JSON and a Parquet table, with a version that proves them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dyconv.audit.checks import strict_json
from dyconv.audit.decisions import Decision, DecisionError, Verdict, in_order, settle
from dyconv.bounds import MANIFEST_BYTES
from dyconv.errors import DyconvError, UsageError
from dyconv.records import dump
from dyconv.store import write_atomic

SCHEMA = 1
_TEXTS = ("id", "clip", "base", "reviewer", "time", "tool", "kind", "data")  # columns of text
JSONL, PARQUET, VERSION_FILE = "decisions.jsonl", "decisions.parquet", "VERSION.json"


class OverlayError(DyconvError):
    """The overlay cannot be read or written. What was added before is still in it."""


@dataclass(frozen=True)
class Annotations:
    """Decisions in memory, by time."""

    decisions: tuple[Decision, ...] = ()

    @classmethod
    def gathered(cls, *lots: Iterable[Decision]) -> Annotations:
        """All decisions of several lots, each once.

        Raises:
            DecisionError: if two different decisions have one id.
        """
        found: dict[str, Decision] = {}
        for decision in (decision for lot in lots for decision in lot):
            if found.setdefault(decision.id, decision).to_json() != decision.to_json():
                raise DecisionError(
                    f"decision {decision.id} on clip {decision.clip} is there twice, with different contents",
                    hint="decisions are never changed: one of the files was edited",
                )
        return cls(tuple(in_order(found.values())))

    @cached_property
    def by_clip(self) -> dict[str, list[Decision]]:
        found: dict[str, list[Decision]] = {}
        for decision in self.decisions:
            found.setdefault(decision.clip, []).append(decision)
        return found

    def of(self, clip: str) -> list[Decision]:
        return list(self.by_clip.get(clip, ()))

    def verdict(self, clip: str, base: str | None = None) -> Verdict:
        """What the decisions on a clip come to; see `settle` for `base`."""
        return settle(self.by_clip.get(clip, ()), base)

    def verdicts(self, bases: Mapping[str, str] | None = None) -> dict[str, Verdict]:
        """The verdict on every clip that has decisions.

        Args:
            bases: `base_of` the record as it is now, by clip id, to tell what is stale; all decisions count without.
        """
        return {clip: settle(decisions, (bases or {}).get(clip)) for clip, decisions in sorted(self.by_clip.items())}

    def lines(self) -> bytes:
        """One decision a line as canonical JSON. The same decisions give the same bytes, however they were merged."""
        return b"".join(dump(decision.to_json()) + b"\n" for decision in self.decisions)

    @cached_property
    def version(self) -> str:
        """Sha256 of `lines`."""
        return hashlib.sha256(self.lines()).hexdigest()


def write_export(annotations: Annotations, folder: Path) -> Path:
    """Write decisions as JSONL and Parquet with a version. The same decisions give the same bytes.

    Raises:
        UsageError: if the folder has decisions that are not among them: nothing that was decided is ever written over.
    """
    if (folder / JSONL).exists():
        lost = {decision.id for decision in read_lines(folder / JSONL)} - {decision.id for decision in annotations.decisions}
        if lost:
            raise UsageError(
                f"{folder} has {len(lost)} decisions that this overlay does not have",
                hint=f"take them over first: dyconv audit import {folder}",
            )
    lines, table = annotations.lines(), _parquet(annotations)
    hashes = {JSONL: hashlib.sha256(lines).hexdigest(), PARQUET: hashlib.sha256(table).hexdigest()}
    version = {"schema": SCHEMA, "version": annotations.version, "decisions": len(annotations.decisions), "files": hashes}
    try:
        write_atomic(folder / JSONL, lines)
        write_atomic(folder / PARQUET, table)
        write_atomic(folder / VERSION_FILE, dump(version) + b"\n")
    except OSError as error:
        raise OverlayError(f"{folder} cannot be written: {error.strerror}", hint="the overlay itself is untouched") from error
    return folder


def _parquet(annotations: Annotations) -> bytes:
    """Columns as the fields of a decision; `data` is JSON."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, Any] = {name: pa.string() for name in _TEXTS[:6]}
    schema = pa.schema({**kinds, "round": pa.int8(), **{name: pa.string() for name in _TEXTS[6:]}})
    rows = [{**decision.to_json(), "data": dump(decision.data).decode()} for decision in annotations.decisions]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()


def read_export(folder: Path) -> Annotations:
    """An export, after comparing its files with its version."""
    if not (folder / VERSION_FILE).is_file():
        raise UsageError(f"{folder} is no export of an overlay: it has no {VERSION_FILE}")
    told = strict_json((folder / VERSION_FILE).read_bytes(), str(folder / VERSION_FILE))
    if not isinstance(told, dict) or told.get("schema") != SCHEMA or not isinstance(told.get("files"), dict):
        schema = told.get("schema") if isinstance(told, dict) else told
        raise UsageError(f"{folder} has schema {schema}, this program knows {SCHEMA}", hint="use the dyconv that wrote it")
    for name in (JSONL, PARQUET):
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest() if (folder / name).is_file() else "missing"
        if found != told["files"].get(name):
            raise UsageError(
                f"{folder / name} is not the file {VERSION_FILE} tells of (sha256 {found[:16]})",
                hint="it was edited or cut off: export again, or give the .jsonl itself to take its lines as they are",
            )
    return Annotations.gathered(read_lines(folder / JSONL))


def read_lines(path: Path) -> list[Decision]:
    """The decisions of a .jsonl file, one a line; empty lines are passed over.

    Raises:
        DecisionError: naming the line and field.
    """
    if MANIFEST_BYTES.passed_by(size := path.stat().st_size):
        raise DecisionError(f"{path} has {size} bytes, at most {MANIFEST_BYTES.now} are read", hint=MANIFEST_BYTES.hint)
    found: list[Decision] = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            found.append(Decision.from_json(strict_json(line, where), where))
    return found


def read_table(path: Path) -> list[Decision]:
    """The decisions of a Parquet file, as `write_export` writes it.

    Raises:
        UsageError: if it is not readable as Parquet, or naming the row and field.
    """
    from dyconv.shards.table import TableError
    from dyconv.shards.table import read_table as rows_of

    try:
        rows = rows_of(path, {**dict.fromkeys(_TEXTS, "string"), "round": "int8"}, ())
    except TableError as error:
        raise UsageError(error.message, hint=error.hint) from error
    found = []
    for number, row in enumerate(rows):
        where = f"{path}, row {number}"
        data = row.get("data")
        found.append(Decision.from_json({**row, "data": strict_json(data if isinstance(data, str) else "", where)}, where))
    return found
