"""Is a build what its index says? Every tar, every member, the clip table, and how they agree."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from dyconv.errors import ShardError
from dyconv.records import Clip
from dyconv.shards.index import FOLDER, MOTION_KEYS, PENDING, RECORD, Index, Shard, is_shard_name, read_index
from dyconv.shards.probe import clip_problems, motion_problems
from dyconv.shards.sample import parse_record
from dyconv.shards.table import columns, read_table
from dyconv.shards.tar import read_members
from dyconv.store import Store, sha256_of


@dataclass(frozen=True)
class Problem:
    """One mismatch: in which file, and what was expected and found."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass
class Report:
    """What a check looked at, and what it found wrong."""

    shards: int = 0
    clips: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def add(self, where: str, what: str) -> None:
        self.problems.append(Problem(where, what))


def check(store: Store, *, deep: bool = False) -> Report:
    """Compare everything under `shards/` with the index.

    Args:
        deep: decode every frame and sample, rather than headers and packets.

    Raises:
        ShardError: if there is no readable index to compare with.
    """
    index = read_index(store)
    report = Report()
    _check_names(store, index, report)
    _check_totals(index, report)
    table = _table(store, index, report)
    for number, shard in enumerate(index.clips):
        records = _check_clip_shard(store, shard, report, deep=deep)
        if number < len(index.motion):
            _check_motion_shard(store, index.motion[number], {clip.id: clip.frames for clip in records}, report)
        if table is not None:
            _check_rows(table, [columns(clip, shard.name, row) for row, clip in enumerate(records)], index, report)
        report.clips += len(records)
    for clip_id in sorted(table or ()):
        report.add(index.table.name, f"clip {clip_id} is only in the table")
    return report


def _check_names(store: Store, index: Index, report: Report) -> None:
    listed = {shard.name for shard in index.shards}
    if len(listed) != len(index.shards):
        report.add("index.json", "lists a shard twice")
    present = {name for name in store.list(FOLDER) if name.endswith(".tar")}
    for name in sorted(present - listed):
        kind = "shard" if is_shard_name(name) else "tar"
        report.add(name, f"a {kind} the index does not list; `dyconv pack` removes left-over shards")
    if store.exists(PENDING):
        report.add("pending.json", "a pack was broken off while it replaced shards; run `dyconv pack` again")


def _check_totals(index: Index, report: Report) -> None:
    if index.samples != index.table.rows:
        report.add("index.json", f"its clip shards have {index.samples} samples, its table {index.table.rows} rows")


@contextmanager
def _opened(store: Store, shard: Shard, report: Report) -> Iterator[BinaryIO | None]:
    """The tar, compared with the index's size and sha256; None, and a problem, where it is not there."""
    path = f"{FOLDER}/{shard.name}"
    report.shards += 1
    if not store.exists(path):
        report.add(shard.name, "missing")
        yield None
        return
    local = store.local(path)
    size = local.stat().st_size
    report.bytes += size
    with local.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if size != shard.bytes:
            report.add(shard.name, f"{size} bytes, the index says {shard.bytes}")
        elif sha256 != shard.sha256:
            report.add(shard.name, f"sha256 {sha256[:16]}..., the index says {shard.sha256[:16]}...")
        file.seek(0)
        yield file


def _groups(file: BinaryIO, shard: Shard, report: Report) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Samples of a tar as far as it reads; counts and names are compared with the index."""
    fields: Counter[str] = Counter()
    ids: list[str] = []
    group: dict[str, bytes] = {}
    try:
        for clip_id, name, data in read_members(file, shard.name):
            if not ids or ids[-1] != clip_id:
                if ids:
                    yield ids[-1], group
                ids.append(clip_id)
                group = {}
            if name in group:
                report.add(shard.name, f"member {clip_id}.{name} comes twice")
            fields[name] += 1
            group[name] = data
    except ShardError as error:
        report.add(shard.name, error.message.removeprefix(f"{shard.name} ").removeprefix(f"{shard.name}: "))
    if ids:
        yield ids[-1], group
    if len(ids) != shard.samples:
        report.add(shard.name, f"{len(ids)} samples, the index says {shard.samples}")
    if dict(fields) != dict(shard.fields):
        report.add(shard.name, f"members {_told(fields)}; the index says {_told(shard.fields)}")
    if ids != sorted(set(ids)):
        report.add(shard.name, "clip ids are not in order, or one comes twice")
    elif ids and (ids[0], ids[-1]) != (shard.first, shard.last):
        report.add(shard.name, f"clips {ids[0]} to {ids[-1]}, the index says {shard.first} to {shard.last}")


def _told(fields: Any) -> str:
    return ", ".join(f"{name} x{count}" for name, count in sorted(fields.items())) or "none"


def _check_clip_shard(store: Store, shard: Shard, report: Report, *, deep: bool) -> list[Clip]:
    """Check one tar of the clips family; returns its records."""
    records: list[Clip] = []
    with _opened(store, shard, report) as file:
        for clip_id, members in _groups(file, shard, report) if file else ():
            where = f"{shard.name}, clip {clip_id}"
            try:
                clip = parse_record(members.get(RECORD, b""), where)
            except ShardError as error:
                report.add(where, error.message.removeprefix(f"{where}: "))
                continue
            if clip.id != clip_id:
                report.add(where, f"its record is of clip {clip.id}")
            records.append(clip)
            _check_assets(clip, members, where, report)
            report.problems += [Problem(where, what) for what in clip_problems(clip, members, deep=deep)]
    return records


def _check_assets(clip: Clip, members: dict[str, bytes], where: str, report: Report) -> None:
    """The record's hashes against the members beside it."""
    names = members.keys() - {RECORD}
    for name in sorted(names ^ {str(key) for key in clip.assets}):
        report.add(where, f"{name} is {'a member its record does not name' if name in names else 'named in its record only'}")
    for key, ref in clip.assets.items():
        data = members.get(key)
        if data is not None and hashlib.sha256(data).hexdigest() != ref.sha256:
            report.add(where, f"{key} is not the file its record names")


def _check_motion_shard(store: Store, shard: Shard, frames: dict[str, int], report: Report) -> None:
    """Check one tar of the motion family; `frames` are the lengths of the clips it belongs to."""
    with _opened(store, shard, report) as file:
        for clip_id, members in _groups(file, shard, report) if file else ():
            where = f"{shard.name}, clip {clip_id}"
            if clip_id not in frames:
                report.add(where, "not in the clip shard of the same number")
                continue
            for name in sorted(members.keys() - MOTION_KEYS):
                report.add(where, f"member {name} does not belong into a motion shard")
            report.problems += [Problem(where, what) for what in motion_problems(members, frames[clip_id])]


def _table(store: Store, index: Index, report: Report) -> dict[str, dict[str, Any]] | None:
    """The clip table's rows by clip id, after comparing the file with the index; None where it cannot be read."""
    path = f"{FOLDER}/{index.table.name}"
    if not store.exists(path):
        report.add(index.table.name, "missing")
        return None
    local = store.local(path)
    if sha256_of(local) != index.table.sha256:
        report.add(index.table.name, "is not the file the index names: other sha256")
    try:
        return {str(row["id"]): row for row in read_table(local)}
    except (ValueError, KeyError, OSError) as error:
        report.add(index.table.name, f"not readable as Parquet: {error}")
        return None


def _check_rows(table: dict[str, dict[str, Any]], rows: list[dict[str, Any]], index: Index, report: Report) -> None:
    """Compare rows made from the records with the table's, and take those out of it."""
    for row in rows:
        found = table.pop(row["id"], None)
        if found is None:
            report.add(index.table.name, f"clip {row['id']} is not in the table")
            continue
        for name, value in row.items():
            if not name.startswith("motion_") and found.get(name) != value:
                report.add(index.table.name, f"clip {row['id']}: {name} is {found.get(name)!r}, its record says {value!r}")
