"""Is a release what it says? Every file against its checksum, the shards, the tables against the shards, the splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dyconv.errors import DyconvError, StoreError
from dyconv.release.about import read_about
from dyconv.release.checksums import stored_checksums
from dyconv.release.leaks import Limits, check_leaks, find_links
from dyconv.release.model import CHECKSUMS, RELEASE, TABLES, Entry, Kind, ReleaseError
from dyconv.release.packed import Packed
from dyconv.release.tables import read_release_table, record_hash, turn_rows
from dyconv.shards.checking import Report
from dyconv.shards.checking import check as check_shards
from dyconv.shards.table import TableError
from dyconv.store import Store, sha256_of

_ALSO_THERE = frozenset({CHECKSUMS})


def is_release(store: Store) -> bool:
    """Whether this is the folder of a release, finished or damaged, rather than a build's."""
    return store.exists(RELEASE) or store.exists(CHECKSUMS)


def check_release(store: Store, *, deep: bool = False) -> Report:
    """Compare everything of a release with what it says of itself.

    Args:
        deep: decode every frame and sample, and run the leak test on what the shards hold.

    Raises:
        DyconvError: if there are no checksums, or no readable index.
    """
    checksums = stored_checksums(store)
    report = Report()
    _files(store, checksums, report)
    shards = check_shards(store, deep=deep)
    report.shards, report.clips, report.bytes = shards.shards, shards.clips, shards.bytes
    report.problems += shards.problems
    about = _about(store, report)
    tables = {name: _table(store, name, report) for name in ("clips", "people", "turns", "sources", "splits", "assets")}
    if about is None or any(rows is None for rows in tables.values()):
        return report
    found = {name: rows for name, rows in tables.items() if rows is not None}
    _splits(found, report)
    _totals(about, found, report)
    if not any(problem.where.endswith(".tar") for problem in shards.problems):
        _tables_and_shards(store, about, found, report)
    if deep:
        _leaks(store, about, found, report)
    return report


def _files(store: Store, checksums: Mapping[str, str], report: Report) -> None:
    for path, sha256 in checksums.items():
        if not store.exists(path):
            report.add(path, "missing")
        elif sha256_of(store.local(path)) != sha256:
            report.add(path, f"is not the file {CHECKSUMS} names: other sha256")
    for path in sorted(set(store.walk()) - checksums.keys() - _ALSO_THERE):
        report.add(path, f"is not named in {CHECKSUMS}")
    if RELEASE not in checksums:
        report.add(CHECKSUMS, f"does not name {RELEASE}")


def _about(store: Store, report: Report) -> dict[str, Any] | None:
    try:
        return read_about(store)
    except (ReleaseError, StoreError) as error:
        report.add(RELEASE, f"is damaged: {error.message}")
        return None


def _table(store: Store, name: str, report: Report) -> list[dict[str, Any]] | None:
    path = f"{TABLES}/{name}.parquet"
    try:
        return read_release_table(store.local(path))
    except (TableError, OSError, StoreError) as error:
        report.add(path, str(error).removeprefix(f"{store}/"))
        return None


def _splits(tables: Mapping[str, Sequence[Mapping[str, Any]]], report: Report) -> None:
    """Every table tells the same splits; a source, a component and a person are in one."""
    where = f"{TABLES}/clips.parquet"
    split = {row["source"]: row["split"] for row in tables["splits"]}
    component = {row["source"]: row["component"] for row in tables["splits"]}
    for row in tables["clips"]:
        if split.get(row["source"]) != row["split"]:
            report.add(where, f"clip {row['id']} is in {row['split']}, its source in {split.get(row['source'])}")
    for what, rows, name in (
        ("component", tables["splits"], "component"),
        ("person", tables["people"], "person"),
        ("shard", tables["clips"], "shard"),
    ):
        found: dict[str, set[str]] = {}
        for row in rows:
            found.setdefault(str(row[name]), set()).add(str(row["split"]))
        for one, splits in sorted(found.items()):
            if len(splits) > 1:
                report.add(where, f"{what} {one} is in several splits: {', '.join(sorted(splits))}")
    for row in tables["sources"]:
        if row["split"] != split.get(row["id"]) or row["id"] not in component:
            report.add(f"{TABLES}/sources.parquet", f"source {row['id']}: split {row['split']} is not that of splits.parquet")


def _totals(about: Mapping[str, Any], tables: Mapping[str, Sequence[Mapping[str, Any]]], report: Report) -> None:
    clips = tables["clips"]
    told = about["totals"]
    for what, count in (("clips", len(clips)), ("sources", len(tables["sources"])), ("turns", len(tables["turns"]))):
        if told[what] != count:
            report.add(RELEASE, f"says {told[what]} {what}, the tables have {count}")


def _tables_and_shards(
    store: Store, about: Mapping[str, Any], tables: Mapping[str, list[dict[str, Any]]], report: Report
) -> None:
    """Records, turns and hashes of the tables against the members of the shards."""
    packed = Packed(store)
    rows = {row["id"]: row for row in tables["clips"]}
    turns: dict[str, list[dict[str, Any]]] = {}
    for turn in tables["turns"]:
        turns.setdefault(turn["clip"], []).append(turn)
    assets: dict[str, dict[str, Any]] = {}
    for asset in tables["assets"]:
        assets.setdefault(asset["clip"], {})[asset["key"]] = asset
    for clip in packed.clips():
        if (row := rows.get(clip.id)) is None:
            report.add(f"{TABLES}/clips.parquet", f"clip {clip.id} is not in it")
            continue
        if row["record_sha256"] != record_hash(clip):
            report.add(f"{TABLES}/clips.parquet", f"clip {clip.id}: its record is not the one in {row['shard']}")
        if turn_rows(Entry(clip, row["split"], row["component"])) != turns.get(clip.id, []):
            report.add(f"{TABLES}/turns.parquet", f"clip {clip.id}: its turns are not those of its record")
        _assets(clip.id, dict(packed.fields(clip.id)), assets.get(clip.id, {}), report)


def _assets(clip: str, fields: Mapping[str, int], rows: Mapping[str, Mapping[str, Any]], report: Report) -> None:
    where = f"{TABLES}/assets.parquet"
    carried = {key: row["bytes"] for key, row in rows.items() if row["carried"]}
    for key in sorted(carried.keys() | fields.keys()):
        if carried.get(key) != fields.get(key):
            report.add(where, f"clip {clip}: {key} has {carried.get(key)} bytes in it, {fields.get(key)} in the shard")


def _leaks(store: Store, about: Mapping[str, Any], tables: Mapping[str, list[dict[str, Any]]], report: Report) -> None:
    """The leak test once more, on what the shards hold."""
    from dyconv.release.prints import Settings, prints_of

    told = about["leaks"]
    try:
        packed = Packed(store)
        clips = list(packed.clips())
        settings = Settings(bool(told["voice_model"]) and about["kind"] == Kind.FULL, told["face_model"])
        links = find_links(clips, prints_of(clips, packed, settings), Limits(**told["limits"]))
        check_leaks(links, {row["source"]: row["split"] for row in tables["splits"]})
    except ReleaseError as error:
        report.add(f"{TABLES}/splits.parquet", error.message)
    except DyconvError as error:
        report.add("leak test", f"could not be run: {error.message}")
