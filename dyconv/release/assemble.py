"""Writing a release into a staging folder: shards, tables, card, metadata, checksums. Makers of versions share it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dyconv.errors import StoreError, UsageError
from dyconv.records import PERSONS
from dyconv.release.about import read_about
from dyconv.release.card import write_card
from dyconv.release.changes import Before, changelog, compare
from dyconv.release.checksums import write_checksums
from dyconv.release.contents import ShardWriter, write_index, write_shards
from dyconv.release.croissant import write_croissant
from dyconv.release.model import CHANGELOG, FORMAT, RELEASE, TABLES, TOMBSTONES, Entry, Kind
from dyconv.release.packed import Packed
from dyconv.release.remains import without_names
from dyconv.release.splits import Plan
from dyconv.release.tables import Facts, read_release_table, write_tables
from dyconv.release.target import Target, make_staging, sweep_staging
from dyconv.run_file import read_run
from dyconv.shards.index import FOLDER
from dyconv.store import write_atomic


@dataclass(frozen=True)
class Story:
    """What is told of a release beyond its clips.

    Attributes:
        recipe: how the build was made: `name`, `fingerprint`, `stages`, `versions`, as the run wrote it.
        leaks: what the leak test compared and found.
        tombstones: all takedowns so far.
        notes: lines on top of the changelog's entry.
        audit: files for `audit/`, by path there.
        audited: what the card says of the audit.
        unnamed: clips that reviewers took down: the changelog counts them and does not name them.
    """

    name: str
    version: str
    kind: Kind
    recipe: Mapping[str, Any]
    plan: Plan
    leaks: Mapping[str, Any]
    person: Mapping[str, str]
    joined_by: Mapping[str, str]
    date: str | None = None
    tombstones: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    audit: Mapping[str, bytes] = field(default_factory=dict)
    audited: Mapping[str, Any] | None = None
    unnamed: frozenset[str] = frozenset()


def assemble(staging: Path, packed: Packed, groups: Sequence[Sequence[Entry]], story: Story, before: Before) -> dict[str, Any]:
    """Write a whole release and return what its `release.json` says.

    Args:
        groups: the clips of each shard, one split each.
        before: the version that the changelog compares with.

    Raises:
        DyconvError: where the build is not what it says.
    """
    encoder = packed.encoder if any(entry.motion for group in groups for entry in group) else None
    shards = write_shards(ShardWriter(packed, staging, story.kind, encoder), groups)
    facts = Facts(story.version, story.kind, story.plan, story.person, story.joined_by, _motion_hashes(packed, groups), encoder)
    write_tables(staging, groups, shards[0], facts)
    name = str(story.recipe["name"])
    size = packed.index.samples_per_shard
    decided = story.audited["version"] if story.audited else None
    write_index(staging / FOLDER, groups, shards, recipe=name, encoder=encoder, size=size, overlay=decided)
    tables = {path.stem: read_release_table(path) for path in sorted((staging / TABLES).glob("*.parquet"))}
    changes = compare(before, tables["clips"], tables["assets"])
    about = _about(story, before, tables, changes.to_json(), encoder)
    for path, data in sorted(story.audit.items()):
        write_atomic(staging / "audit" / path, data)
    write_atomic(staging / TOMBSTONES, pretty({"tombstones": list(story.tombstones)}))
    text = changelog(story.version, story.date, before, changes, story.notes)
    write_atomic(staging / CHANGELOG, without_names(text, story.unnamed).encode())
    write_card(staging, about, tables)
    write_croissant(staging, about, tables)
    write_atomic(staging / RELEASE, pretty(about))
    write_checksums(staging)
    return about


def _about(
    story: Story, before: Before, tables: Mapping[str, list[dict[str, Any]]], changes: Mapping[str, Any], encoder: Any
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": story.name,
        "version": story.version,
        "kind": str(story.kind),
        "date": story.date,
        "before": before.version,
        "recipe": dict(story.recipe),
        "encoder": {"name": encoder.name, "hash": encoder.hash} if encoder else None,
        "splits": {
            "ratios": dict(story.plan.ratios),
            "seed": story.plan.seed,
            "given": story.plan.given,
            "made": {name: totals([row for row in tables["clips"] if row["split"] == name]) for name in story.plan.ratios},
        },
        "leaks": dict(story.leaks),
        "totals": totals(tables["clips"]) | {"turns": len(tables["turns"])},
        "audit": dict(story.audited) if story.audited else None,
        "changes": dict(changes),
    }


def totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    people = {row[f"{person}_person"] for row in rows for person in PERSONS} - {None}
    return {
        "clips": len(rows),
        "hours": round(sum(row["duration_s"] for row in rows) / 3600, 6),
        "sources": len({row["source"] for row in rows}),
        "people": len(people),
        "shards": len({row["shard"] for row in rows}),
    }


def _motion_hashes(packed: Packed, groups: Sequence[Sequence[Entry]]) -> dict[tuple[str, str], tuple[str, int]]:
    out = {}
    for entry in (entry for group in groups for entry in group):
        for member in entry.motion.values():
            data = packed.member(entry.clip.id, member)
            out[entry.clip.id, member] = hashlib.sha256(data).hexdigest(), len(data)
    return out


def pretty(data: Any) -> bytes:
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"


@contextmanager
def staged(target: Target, version: str, needs: int) -> Iterator[Path]:
    """A staging folder that is gone afterwards, whatever happens.

    Args:
        needs: bytes that will be written, about.

    Raises:
        StoreError: if the disk is full, before or in the middle.
    """
    sweep_staging(target)
    staging = make_staging(target, version)
    try:
        free = shutil.disk_usage(staging).free
        if free < needs:
            raise StoreError(
                f"{staging.parent} has {free / 1e9:.1f} GB free, the release needs about {needs / 1e9:.1f} GB",
                hint="make room, or give another folder with --to; nothing was written",
            )
        yield staging
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise StoreError(
            f"{staging.parent}: {os.strerror(error.errno)} while the release was written",
            hint="make room and run the same command again; nothing of it was left behind",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def recipe_of(packed: Packed) -> dict[str, Any]:
    """How the build was made: from its run, from the release it is, or its index's name alone.

    The manifest's path is left out: it says where on somebody's disk.
    """
    store = packed.store
    for name, inside in (("run.json", None), (RELEASE, "recipe")):
        if store.exists(name):
            told = read_about(store) if inside else read_run(store) or {}
            if inside and told["kind"] != Kind.FULL:
                raise UsageError(f"{store} holds no media to release", hint="release the build it was made from")
            if inside:
                return dict(told[inside])
            return {
                "name": told["recipe"],
                "fingerprint": told["recipe_fingerprint"],
                "own_file": bool(told.get("recipe_file")),
                "manifest_sha256": told["manifest_sha256"],
                "stages": [{**stage, "config": _without_places(stage["config"])} for stage in told["stages"]],
                "versions": told["versions"],
            }
    unknown: dict[str, Any] = {"fingerprint": None, "own_file": False, "manifest_sha256": None, "stages": [], "versions": {}}
    return {"name": packed.index.recipe, **unknown}


def _without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's fields; of a path on somebody's disk only the last name."""
    return {
        name: value.rsplit("/", 1)[-1] if isinstance(value, str) and value.startswith(("/", "~", "file:")) else value
        for name, value in config.items()
    }


def expected_size(packed: Packed) -> int:
    """Bytes a release of these shards takes, about."""
    return sum(shard.bytes for shard in packed.index.shards) + (64 << 20)
