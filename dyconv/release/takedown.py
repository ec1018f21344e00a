"""`dyconv takedown`: the next version of a release, without a source or without everything a person is in.

Only the shards that held something of it are written anew; all others keep their names and bytes. Nothing is left that
names what went: tables, metadata, card, decisions of the audit and the older entries of the changelog lose it too, and
before the version is published every file of it is searched. A tombstone of hashes stays (`dyconv.tombstones`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dyconv.bounds import parse_object
from dyconv.errors import UsageError
from dyconv.records import dump
from dyconv.release.about import parse_about
from dyconv.release.assemble import expected_size, pretty, staged, totals
from dyconv.release.card import write_card
from dyconv.release.checksums import stored_checksums, write_checksums
from dyconv.release.contents import ShardWriter, motion_of
from dyconv.release.croissant import write_croissant
from dyconv.release.gone import Gone, Request, Rows, find_gone
from dyconv.release.model import (
    CHANGELOG,
    CHECKSUMS,
    RELEASE,
    TABLES,
    TOMBSTONES,
    Entry,
    Kind,
    ReleaseError,
    check_version,
    version_key,
)
from dyconv.release.packed import Packed
from dyconv.release.remains import entry_of_changelog, remaining_audit, remaining_leaks, remaining_tables, remaining_text
from dyconv.release.tables import CLIP_COLUMNS, SCHEMAS, read_release_table, write_table
from dyconv.release.target import Target, open_target
from dyconv.shards.index import FOLDER, TABLE, Index, Shard, Table, read_index
from dyconv.shards.table import TableWriter, read_table
from dyconv.store import Store, sha256_of, write_atomic
from dyconv.tombstones import Tombstone, parse_tombstones

_NAMES = (TABLE.removesuffix(".parquet"), *SCHEMAS)


@dataclass(frozen=True)
class TakenDown:
    """What was published: `where`, and what it lost against `before`."""

    where: str
    before: str
    gone: Gone
    rewritten: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass
class _Old:
    """A release as it is read: checked against its checksums."""

    store: Store
    index: Index
    about: dict[str, Any]
    tables: dict[str, Rows]
    texts: dict[str, bytes] = field(default_factory=dict)


def take_down(release: str, request: Request, *, to: str | None = None, version: str | None = None) -> TakenDown:
    """Publish the next version of `release` without what was asked to go.

    Args:
        release: folder or URI of the latest version: `TO/VERSION`.
        to: where the new version goes; beside the release if not given.
        version: of the new one; the next patch version if not given.

    Raises:
        UsageError: if there is nothing by that name, nothing would be left, or the release is not the latest.
        ReleaseError: if the release is not what it says.
        StoreError: if the new one cannot be written; nothing is published then.
    """
    old = _read(Store(release))
    target = open_target(to or _parent(release))
    version = _next_version(target, str(old.about["version"]), version)
    gone = find_gone(old.tables, old.about, request, version)
    with staged(target, version, expected_size(Packed(old.store, old.index))) as staging:
        rewritten, removed = _write(staging, old, gone, request, version)
        refuse_left_over(staging, gone)
        target.publish(staging, version)
    return TakenDown(target.where(version), str(old.about["version"]), gone, rewritten, removed)


def _parent(release: str) -> str:
    plain = release.rstrip("/")
    if plain.startswith("hf://"):
        return plain.partition("@")[0]
    return plain.rsplit("/", 1)[0] if "://" in plain else str(Path(plain).absolute().parent)


def later_takedowns(store: Store) -> tuple[Path, ...]:
    """The list of the latest version that lies beside a release: it may know of takedowns that came after the release."""
    target = open_target(_parent(store.root))
    versions = target.versions()
    return (target.store(versions[-1]).local(TOMBSTONES),) if versions else ()


def _read(store: Store) -> _Old:
    """A release, of which everything but the shards is compared with the checksums; shards are when they are copied."""
    checksums = stored_checksums(store)

    def read(name: str) -> bytes:
        path = store.local(name)
        if sha256_of(path) != checksums.get(name):
            raise ReleaseError(f"{store}/{name} is not the file {CHECKSUMS} names", hint="run `dyconv check` on the release")
        return path.read_bytes()

    try:
        about = parse_about(read(RELEASE), f"{store}/{RELEASE}")
        texts = {name: read(name) for name in checksums if name in (CHANGELOG, TOMBSTONES) or name.startswith("audit/")}
        read(f"{FOLDER}/index.json")
        for name in _NAMES:
            read(f"{TABLES}/{name}.parquet")
        tables = {name: read_release_table(store.local(f"{TABLES}/{name}.parquet")) for name in _NAMES}
        return _Old(store, read_index(store), about, tables, texts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReleaseError(f"{store} is no whole release: {error!r}", hint="run `dyconv check` on it") from error


def _stones(old: _Old) -> tuple[Tombstone, ...]:
    """Those of the release that is taken from."""
    where = f"{old.store}/{TOMBSTONES}"
    return parse_tombstones(parse_object(old.texts[TOMBSTONES], where), where).all


def _next_version(target: Target, before: str, wanted: str | None) -> str:
    later = [one for one in target.versions() if version_key(one) > version_key(before)]
    if later:
        raise UsageError(
            f"{target.where(before)} is not the latest version, {later[-1]} is",
            hint=f"take it down from {target.where(later[-1])}",
        )
    major, minor, patch = version_key(before)
    version = check_version(wanted) if wanted else f"{major}.{minor}.{patch + 1}"
    if version_key(version) <= version_key(before):
        raise UsageError(f"expected a version after {before}, found {version}")
    target.refuse_existing(version)
    return version


def _write(staging: Path, old: _Old, gone: Gone, request: Request, version: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Everything of the new version; returns the names of the shards that were written anew, and of those that went."""
    index, rewritten = _shards(staging, old, gone)
    tables = remaining_tables(old.tables, gone, version)
    _tables(staging, tables)
    before = str(old.about["version"])
    audit, audited = remaining_audit(old.texts, old.about["audit"], gone)
    about = {
        **old.about,
        "version": version,
        "before": before,
        "date": request.date,
        "leaks": remaining_leaks(old.about["leaks"], gone),
        "totals": totals(tables["clips"]) | {"turns": len(tables["turns"])},
        "audit": audited,
        "changes": {"added": 0, "removed": len(gone.clips), "changed": 0, "reencoded": {}, "moved": {}},
    }
    made = {name: totals([row for row in tables["clips"] if row["split"] == name]) for name in old.about["splits"]["made"]}
    about["splits"] = {**old.about["splits"], "made": made}
    table = staging / FOLDER / TABLE
    index = replace(
        index,
        table=Table(TABLE, sha256_of(table), table.stat().st_size, len(tables["clips"])),
        hours=round(sum(row["duration_s"] for row in tables["clips"]) / 3600, 6),
        overlay=audited["version"] if audited else None,
    )
    write_atomic(staging / FOLDER / "index.json", dump(index.to_json()))
    for path, data in audit.items():
        write_atomic(staging / path, data)
    stones = [stone.to_json() for stone in (*_stones(old), *gone.stones)]
    write_atomic(staging / TOMBSTONES, pretty({"tombstones": stones}))
    told = entry_of_changelog(version, before, request.date, request.why, gone, sorted(set(old.texts) - set(audit)))
    write_atomic(staging / CHANGELOG, remaining_text(old.texts[CHANGELOG].decode(), gone, told).encode())
    write_card(staging, about, tables)
    write_croissant(staging, about, tables)
    write_atomic(staging / RELEASE, pretty(about))
    write_checksums(staging)
    kept = {shard.name for shard in index.shards}
    return tuple(rewritten), tuple(shard.name for shard in old.index.shards if shard.name not in kept)


def _shards(staging: Path, old: _Old, gone: Gone) -> tuple[Index, list[str]]:
    """Copy what is not touched, write anew what is, leave out what would be empty. Shards keep their numbers."""
    rows: dict[str, Rows] = {}
    for row in old.tables["clips"]:
        rows.setdefault(row["shard"], []).append(row)
    touched = {name for name, clips in rows.items() if any(row["id"] in gone.clips for row in clips)}
    numbers = [number for number, shard in enumerate(old.index.clips) if shard.name in touched]
    motion = tuple(old.index.motion[number] for number in numbers) if old.index.motion else ()
    part = replace(old.index, clips=tuple(old.index.clips[number] for number in numbers), motion=motion)
    packed = Packed(old.store, part)
    writer = ShardWriter(packed, staging, Kind(old.about["kind"]), old.index.encoder if motion else None)
    families: tuple[list[Shard], list[Shard]] = ([], [])
    rewritten = []
    for number, shard in enumerate(old.index.clips):
        aligned = [shard, *old.index.motion[number : number + 1]]
        if shard.name not in touched:
            for one, family in zip(aligned, families, strict=False):
                _copy(old.store, one, staging / FOLDER / one.name)
                family.append(one)
            continue
        left = [row for row in sorted(rows[shard.name], key=lambda row: int(row["row"])) if row["id"] not in gone.clips]
        if not left:
            continue
        entries = [_entry(packed, row) for row in left]
        place = int(shard.name.removesuffix(".tar").rsplit("-", 1)[1])
        families[0].append(writer.clips(place, entries))
        if old.index.motion:
            families[1].append(writer.motion(place, entries))
        rewritten += [one.name for one in aligned]
    return replace(old.index, clips=tuple(families[0]), motion=tuple(families[1])), rewritten


def _entry(packed: Packed, row: Mapping[str, Any]) -> Entry:
    return Entry(packed.clip(row["id"]), row["split"], row["component"], motion_of(packed.fields(row["id"])))


def _copy(store: Store, shard: Shard, to: Path) -> None:
    """Raises ReleaseError if the shard is not what the index says."""
    shutil.copyfile(store.local(f"{FOLDER}/{shard.name}"), to)
    if sha256_of(to) != shard.sha256:
        raise ReleaseError(f"{store}: {shard.name} is not what its index says", hint="run `dyconv check` on the release")


def _tables(staging: Path, tables: Mapping[str, Rows]) -> None:
    (staging / TABLES).mkdir()
    for path in (staging / FOLDER / TABLE, staging / TABLES / TABLE):
        with TableWriter(path, CLIP_COLUMNS) as writer:
            writer.add(tables["clips"])
            writer.close()
    for name, schema in SCHEMAS.items():
        write_table(staging / TABLES / f"{name}.parquet", schema, tables[name])


def refuse_left_over(staging: Path, gone: Gone) -> None:
    """Search every file of a version for the names of what went, and every cell of its tables for the ids of sources.

    Raises:
        ReleaseError: naming the file.
    """
    names = [name.encode() for name in gone.names]
    for path in sorted(staging.rglob("*")):
        if path.is_file() and path.name != CHECKSUMS:
            cells = _cells(path) if path.suffix == ".parquet" else None
            data = "\n".join(sorted(cells)).encode() if cells is not None else path.read_bytes()
            left = next((name for name in names if name in data), None)
            if left or (cells and cells & gone.sources):
                raise ReleaseError(
                    f"{path.relative_to(staging)} would still name what is taken down; nothing was published",
                    hint="a file of the audit, or a licence or title that holds an id: look at it, and report it",
                )


def _cells(path: Path) -> set[str]:
    return {value for row in read_table(path, {}, ()) for value in row.values() if isinstance(value, str)}
