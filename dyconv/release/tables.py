"""A release's Parquet tables: clips, people, turns, sources, splits, and the hash of every asset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dyconv.records import PERSONS, Clip, Person, dump
from dyconv.release.contents import carried
from dyconv.release.model import TABLES, Entry, Kind, person_key
from dyconv.release.splits import Plan
from dyconv.shards.index import FOLDER, TABLE, Encoder, Shard
from dyconv.shards.packing import record_of
from dyconv.shards.table import CLIP_FILLED, CLIP_SCHEMA, TableWriter, columns, read_table, seconds_of, union

# What the clip table of a release says beyond a build's.
CLIP_COLUMNS = {
    **dict.fromkeys(
        ("split", "component", "release", "language", "channel", "p0_person", "p1_person", "record_sha256"), "string"
    ),
    "turns": "int64",
}
_TEXT, _REAL, _INT, _BOOL = "string", "float64", "int64", "bool_"

# name -> column -> (pyarrow type, what it is, for people and for Croissant)
SCHEMAS: dict[str, dict[str, tuple[str, str]]] = {
    "people": {
        "id": (_TEXT, "a person of one segment: <segment>.<identity>"),
        "person": (_TEXT, "the same for all ids that the leak test found to be one person"),
        "source": (_TEXT, "id of the source"),
        "split": (_TEXT, "split of the source"),
        "clips": (_INT, "clips the person is in"),
        "seconds": (_REAL, "length of these clips"),
        "seen_s": (_REAL, "length of those in which the face is seen"),
        "speaking_s": (_REAL, "seconds of speech, by the turns"),
        "turns": (_INT, "turns of the person"),
    },
    "turns": {
        "clip": (_TEXT, "id of the clip"),
        "number": (_INT, "place in the clip's list, from 0"),
        "split": (_TEXT, "split of the clip"),
        "person": (_TEXT, "p0 or p1; null where the speaker is off screen or was not told"),
        "who": (_TEXT, "id in the table people"),
        "start_s": (_REAL, "seconds from the clip's start"),
        "end_s": (_REAL, "seconds from the clip's start"),
        "confidence": (_REAL, "0 to 1"),
        "unsure": (_BOOL, "speech that was heard and given to nobody on purpose"),
        "agreement": (_REAL, "of lips and voice on who speaks, 0 to 1; null where only one tells"),
    },
    "sources": {
        "id": (_TEXT, "id of the source"),
        "url": (_TEXT, "where it was fetched; of a local file the name alone"),
        "licence": (_TEXT, "as stated in the manifest"),
        "title": (_TEXT, "as stated in the manifest"),
        "language": (_TEXT, "BCP 47, as stated in the manifest"),
        "channel": (_TEXT, "as stated in the manifest"),
        "note": (_TEXT, "as stated in the manifest"),
        "partner_url": (_TEXT, "a second file, of the other person"),
        "split": (_TEXT, "split of all its clips"),
        "clips": (_INT, "number of its clips"),
        "seconds": (_REAL, "length of its clips"),
    },
    "splits": {
        "source": (_TEXT, "id of the source"),
        "component": (_TEXT, "sources of one component share a person, a channel or a picture, and are in one split"),
        "split": (_TEXT, "split of the component"),
        "joined_by": (_TEXT, "why the source is with others of its component; null where it is alone"),
    },
    "assets": {
        "clip": (_TEXT, "id of the clip"),
        "key": (_TEXT, "name of the asset"),
        "sha256": (_TEXT, "of the file"),
        "bytes": (_INT, "of the file"),
        "carried": (_BOOL, "whether the shards of this release hold it"),
        "build_key": (_TEXT, "its name in the build: another where the audit exchanged the two people"),
    },
}
# Columns in which every row has a value.
_FILLED = {
    "clips": (*CLIP_FILLED, "split", "component", "release", "record_sha256", "turns"),
    "people": ("id", "person", "source", "split", "clips", "seconds"),
    "turns": ("clip", "number", "split", "start_s", "end_s"),
    "sources": ("id", "url", "split", "clips", "seconds"),
    "splits": ("source", "component", "split"),
    "assets": ("clip", "key", "sha256", "bytes", "carried"),
}
CLIP_SCHEMA_ABOUT = {
    "id": "id of the clip: <source>_<start>_<end> in milliseconds of the source",
    "split": "name of its split",
    "component": "id of its component of sources",
    "release": "version of the release",
    "shard": "tar it lies in",
    "row": "its place in the tar",
}


def read_release_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a release's table, which one its file's name says.

    Raises:
        TableError: if it is not readable, or has not the columns that this version writes.
    """
    name = path.stem
    schema = {one: kind for one, (kind, _) in SCHEMAS[name].items()} if name in SCHEMAS else {**CLIP_SCHEMA, **CLIP_COLUMNS}
    return read_table(path, schema, _FILLED[name])


@dataclass(frozen=True)
class Facts:
    """What the tables are made of, beyond the clips.

    Attributes:
        person: of each person key, the name shared by all keys that are one person.
        joined_by: of a source, why it is with others; where it is.
        motion_hashes: (clip, member) -> (sha256, bytes) of motion latents.
    """

    version: str
    kind: Kind
    plan: Plan
    person: Mapping[str, str]
    joined_by: Mapping[str, str]
    motion_hashes: Mapping[tuple[str, str], tuple[str, int]]
    encoder: Encoder | None


def write_tables(staging: Path, groups: Sequence[Sequence[Entry]], shards: Sequence[Shard], facts: Facts) -> None:
    """Write `tables/*.parquet`, and the clip table once more beside the shards, where readers of builds look for it."""
    folder = staging / TABLES
    folder.mkdir(parents=True, exist_ok=True)
    clip_rows = [
        clip_row(entry, shard.name, row, facts)
        for group, shard in zip(groups, shards, strict=True)
        for row, entry in enumerate(group)
    ]
    for path in (staging / FOLDER / TABLE, folder / TABLE):
        with TableWriter(path, CLIP_COLUMNS) as writer:
            writer.add(clip_rows)
            writer.close()
    entries = sorted((entry for group in groups for entry in group), key=lambda entry: entry.clip.id)
    rows = {
        "people": people_rows(entries, facts),
        "turns": [row for entry in entries for row in turn_rows(entry)],
        "sources": source_rows(entries),
        "splits": split_rows(entries, facts),
        "assets": [row for entry in entries for row in asset_rows(entry, facts)],
    }
    for name, content in rows.items():
        write_table(folder / f"{name}.parquet", SCHEMAS[name], content)


def write_table(path: Path, schema: Mapping[str, tuple[str, str]], rows: list[dict[str, Any]]) -> None:
    """One Parquet file; the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = pa.schema([(name, getattr(pa, kind)()) for name, (kind, _) in schema.items()])
    pq.write_table(pa.Table.from_pylist(rows, schema=fields), path, compression="zstd")


def clip_row(entry: Entry, shard: str, row: int, facts: Facts) -> dict[str, Any]:
    """A build's columns, and those of `CLIP_COLUMNS`."""
    clip = entry.clip
    people = {person.id: person_key(clip, person) for person in there(clip)}
    values = columns(clip, shard, row) | {
        "split": entry.split,
        "component": entry.component,
        "release": facts.version,
        "language": clip.source.language,
        "channel": clip.source.channel,
        "turns": len(clip.turns),
        "record_sha256": record_hash(clip),
    }
    if entry.motion and facts.encoder:
        values |= {"motion_encoder": facts.encoder.name, "motion_hash": facts.encoder.hash}
    for name in PERSONS:
        values[f"{name}_person"] = facts.person.get(people[name], people[name]) if name in people else None
    return values


def there(clip: Clip) -> list[Person]:
    """The people who are seen or heard in a clip; a clip of one person has a second who is neither."""
    return [person for person in clip.people if person.seen or person.heard]


def record_hash(clip: Clip) -> str:
    """sha256 of what a released record says, its assets left aside: the same in both kinds of release."""
    return hashlib.sha256(dump(record_of(replace(clip, assets={}), ()).to_json())).hexdigest()


def people_rows(entries: Iterable[Entry], facts: Facts) -> list[dict[str, Any]]:
    """A row for each person of each segment."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in entries:
        clip = entry.clip
        length = float(clip.span.duration)
        for person in there(clip):
            key = person_key(clip, person)
            blank = {"id": key, "person": facts.person.get(key, key), "source": clip.source.id, "split": entry.split}
            numbers = {"clips": 0, "seconds": 0.0, "seen_s": 0.0, "speaking_s": 0.0, "turns": 0}
            row = rows.setdefault(key, {**blank, **numbers})
            spans = [turn.span for turn in clip.turns if turn.person == person.id]
            row["clips"] += 1
            row["seconds"] += length
            row["seen_s"] += length if person.seen else 0.0
            row["speaking_s"] += seconds_of(union(spans))
            row["turns"] += len(spans)
    return [{**rows[key], **_rounded(rows[key])} for key in sorted(rows)]


def turn_rows(entry: Entry) -> list[dict[str, Any]]:
    """A row for each turn of a clip."""
    clip = entry.clip
    people = {person.id: person_key(clip, person) for person in there(clip)}
    return [
        {
            "clip": clip.id,
            "number": number,
            "split": entry.split,
            "person": turn.person,
            "who": people.get(turn.person or ""),
            "start_s": float(turn.span.start),
            "end_s": float(turn.span.end),
            "confidence": round(turn.confidence, 4),
            "unsure": turn.unsure,
            "agreement": turn.agreement,
        }
        for number, turn in enumerate(clip.turns)
    ]


def source_rows(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """A row for each source that has a clip."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in entries:
        source = entry.clip.source
        row = rows.setdefault(source.id, {**source.to_json(), "split": entry.split, "clips": 0, "seconds": 0.0})
        row["clips"] += 1
        row["seconds"] += float(entry.clip.span.duration)
    return [{**rows[key], **_rounded(rows[key])} for key in sorted(rows)]


def split_rows(entries: Iterable[Entry], facts: Facts) -> list[dict[str, Any]]:
    """A row for each source: where it went, and with whom."""
    found = {entry.clip.source.id: entry for entry in entries}
    return [
        {
            "source": source,
            "component": entry.component,
            "split": entry.split,
            "joined_by": facts.joined_by.get(source),
        }
        for source, entry in sorted(found.items())
    ]


def asset_rows(entry: Entry, facts: Facts) -> list[dict[str, Any]]:
    """A row for each asset a full release has of a clip."""
    clip = entry.clip
    rows = [
        {
            "clip": clip.id,
            "key": str(key),
            "sha256": ref.sha256,
            "bytes": ref.size,
            "carried": carried(key, facts.kind),
            "build_key": ref.path.partition(".")[2],
        }
        for key, ref in clip.assets.items()
    ]
    for name, field in entry.motion.items():
        sha256, size = facts.motion_hashes[clip.id, field]
        row = {"clip": clip.id, "key": name, "sha256": sha256, "bytes": size, "carried": True, "build_key": field}
        rows.append(row)
    return sorted(rows, key=lambda row: str(row["key"]))


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, 3) for name, value in row.items() if isinstance(value, float)}
