"""A release, or a part of it, onto this disk: one clip, one shard, a split, the tables. Resumed where it broke off, verified.

What was pulled is a release of its own shape: its index, clip table and checksums name what is here, so that the loader
reads it and `dyconv check` checks it. `pulled.json` says of what it is a part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dyconv.errors import StoreError, UsageError
from dyconv.records import dump
from dyconv.release.checksums import stored_checksums, write_checksums
from dyconv.release.model import CHECKSUMS, RELEASE, TABLES, ReleaseError
from dyconv.release.packed import members_of
from dyconv.release.tables import CLIP_COLUMNS, read_release_table, record_hash
from dyconv.release.target import open_target, transport_errors
from dyconv.shards.index import FOLDER, INDEX, RECORD, TABLE, Index, Shard, Table, is_shard_name, read_index
from dyconv.shards.sample import parse_record
from dyconv.shards.table import TableWriter
from dyconv.shards.tar import Member, TarWriter
from dyconv.store import Store, sha256_of, write_atomic

PULLED = "pulled.json"
PART = ".part"
_CHUNK = 4 << 20
_WAYS = "clip:ID, shard:NAME, split:NAME or tables"


@dataclass(frozen=True)
class Pulled:
    """What a pull brought: shards and clips that are here now, bytes that were read for it."""

    where: str
    shards: int
    clips: int
    bytes: int


@dataclass(frozen=True)
class Wanted:
    """Parts of a release.

    Attributes:
        everything: all of it; the others are empty then.
        shards: numbers of whole shards.
        clips: ids of clips of other shards.
    """

    everything: bool
    shards: frozenset[int] = frozenset()
    clips: frozenset[str] = frozenset()


def find_release(ref: str) -> Store:
    """A release by its place, or the latest one of a place that holds several.

    Raises:
        UsageError: if there is none.
    """
    store = Store(ref)
    if not ref.startswith("hf://") or "@" in ref:
        try:
            if store.exists(RELEASE):
                return store
        except transport_errors(ValueError, ImportError) as error:
            raise UsageError(f"{ref} cannot be read: {error}") from error
    there = [] if "@" in ref else open_target(ref).versions()
    if not there:
        raise UsageError(f"no release at {ref}", hint="give the folder or URI that `dyconv release` printed, TO/VERSION")
    return open_target(ref).store(there[-1])


def pull(ref: str, to: Path, only: Sequence[str] = ()) -> Pulled:
    """Copy a release, or parts of it.

    A file that is here and is right is not read again; one that was broken off goes on from its last byte.

    Args:
        only: parts, each `clip:ID`, `shard:NAME`, `split:NAME` or `tables`; all of it if empty.

    Raises:
        UsageError: for a part that is not there, or a folder that holds something else.
        ReleaseError: where what was read is not what the release's checksums say.
    """
    store = find_release(ref)
    checksums = stored_checksums(store)
    index = read_index(store)
    to.mkdir(parents=True, exist_ok=True)
    _same_release(store, to, checksums)
    count = sum(
        fetch(store, name, to, checksums[name]) for name in checksums if not name.startswith(f"{FOLDER}/") and name != PULLED
    )
    rows = read_release_table(to / TABLES / TABLE)
    wanted = parse_only(only, index, rows)
    if wanted.everything:
        count += sum(fetch(store, name, to, checksums[name]) for name in checksums if name.startswith(f"{FOLDER}/"))
        write_atomic(to / CHECKSUMS, store.read_bytes(CHECKSUMS))
        (to / PULLED).unlink(missing_ok=True)
        return Pulled(str(to), len(index.shards), index.samples, count)
    hashes = _hashes(to, rows, wanted.clips)
    shards: list[Shard] = []
    motion: list[Shard] = []
    for number, shard in enumerate(index.clips):
        pair = (shard, *index.motion[number : number + 1])
        clips = {str(row["id"]) for row in rows if row["shard"] == shard.name} & wanted.clips
        if number in wanted.shards:
            count += sum(fetch(store, f"{FOLDER}/{one.name}", to, one.sha256) for one in pair)
            found = list(pair)
        elif clips:
            parts = [_part(store, one, to, clips, hashes) for one in pair]
            count += sum(size for _, size in parts)
            found = [one for one, _ in parts]
        else:
            continue
        shards.append(found[0])
        motion += found[1:]
    samples = _write_part(to, index, rows, shards, motion)
    _sweep(to, {shard.name for shard in (*shards, *motion)})
    told = {"release": checksums[RELEASE], "only": sorted(only), "shards": len(index.clips), "clips": index.samples}
    write_atomic(to / PULLED, dump(told))
    write_checksums(to)
    return Pulled(str(to), len(shards) + len(motion), samples, count)


def parse_only(only: Sequence[str], index: Index, rows: Sequence[Mapping[str, Any]]) -> Wanted:
    """Which shards and clips are asked for.

    Raises:
        UsageError: for anything that is not there, with what is.
    """
    if not only:
        return Wanted(everything=True)
    numbers = {shard.name: number for number, shard in enumerate(index.clips)}
    shards: set[int] = set()
    clips: set[str] = set()
    for part in only:
        what, _, name = part.partition(":")
        there = [str(row["shard"]) for row in rows if str(row["split"]) == name]
        if part == "tables":
            continue
        if what == "clip" and any(row["id"] == name for row in rows):
            clips.add(name)
        elif what == "shard" and _plain(name) in numbers:
            shards.add(numbers[_plain(name)])
        elif what == "split" and there:
            shards |= {numbers[shard] for shard in there}
        else:
            raise UsageError(f"expected --only {_WAYS}, found {part[:120]!r}", hint=_what_is_there(what, numbers, rows))
    return Wanted(False, frozenset(shards), frozenset(clips))


def _plain(name: str) -> str:
    """A shard's name with its ending, which need not be written."""
    return name if name.endswith(".tar") else f"{name}.tar"


def _what_is_there(what: str, numbers: Mapping[str, int], rows: Sequence[Mapping[str, Any]]) -> str:
    there = {
        "clip": [str(row["id"]) for row in rows],
        "shard": list(numbers),
        "split": sorted({str(row["split"]) for row in rows}),
    }.get(what)
    return f"there is: {', '.join(there[:5])}{', ...' if len(there) > 5 else ''}" if there else f"one of {_WAYS}"


def _same_release(store: Store, to: Path, checksums: Mapping[str, str]) -> None:
    """A folder holds parts of one release."""
    if not (to / RELEASE).is_file() or sha256_of(to / RELEASE) == checksums.get(RELEASE):
        return
    raise UsageError(f"{to} holds another release than {store}", hint="give a folder of its own for each release")


def fetch(store: Store, path: str, to: Path, sha256: str) -> int:
    """Bring one file; returns the bytes that were read.

    Raises:
        ReleaseError: if it is not what its checksum says, also when read anew.
        StoreError: if it cannot be read; what came stays, to go on from.
    """
    target = to / path
    if target.is_file() and sha256_of(target) == sha256:
        return 0
    part = target.with_name(target.name + PART)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # such as a file of the release that is a folder of another
        raise ReleaseError(f"{path} of {store} cannot be written: {error.strerror}") from error
    count = 0
    for _ in range(2 if part.exists() else 1):
        count += _go_on(store, path, part)
        if sha256_of(part) == sha256:
            part.replace(target)
            return count
        part.unlink()
    raise ReleaseError(f"{path} of {store} is not what {CHECKSUMS} says", hint=f"run `dyconv check {store}`")


def _go_on(store: Store, path: str, part: Path) -> int:
    count = 0
    try:
        with store.open(path) as source, part.open("ab") as target:
            source.seek(target.tell())
            while data := source.read(_CHUNK):
                target.write(data)
                count += len(data)
    except FileNotFoundError as error:
        raise ReleaseError(f"{path} is not in {store}", hint=f"run `dyconv check {store}`") from error
    except transport_errors() as error:
        raise StoreError(f"{store}/{path}: {error}", hint="the same command goes on from there") from error
    return count


def _verify(data: bytes, clip: str, field: str, hashes: Mapping[tuple[str, str], str], where: str) -> None:
    """Compare a member with the tables, which were compared with the checksums."""
    if field == RECORD:
        found = record_hash(parse_record(data, f"{where}, clip {clip}"))
    else:
        found = hashlib.sha256(data).hexdigest()
    if found != hashes.get((clip, field)):
        raise ReleaseError(f"{clip}.{field} in {where} is not what the tables say", hint="run `dyconv check` on the release")


def _hashes(to: Path, rows: Sequence[Mapping[str, Any]], clips: frozenset[str]) -> dict[tuple[str, str], str]:
    """Of some clips, what the tables say of their members: sha256 by (clip, field), of the record what it says."""
    assets = read_release_table(to / TABLES / "assets.parquet") if clips else []
    out = {(row["clip"], row["key"]): row["sha256"] for row in assets if row["clip"] in clips}
    return out | {(row["id"], RECORD): row["record_sha256"] for row in rows if row["id"] in clips}


def _part(store: Store, shard: Shard, to: Path, clips: set[str], hashes: Mapping[tuple[str, str], str]) -> tuple[Shard, int]:
    """A tar of the same name with some of its clips: only they, and headers, are read."""
    path = to / FOLDER / shard.name
    path.parent.mkdir(parents=True, exist_ok=True)
    fields: dict[str, int] = {}
    there: list[str] = []
    count = 0
    with store.open(f"{FOLDER}/{shard.name}") as source, TarWriter(path) as tar:
        for clip, field, start, size in members_of(source, shard.name):
            if clip not in clips:
                continue
            place = source.tell()
            source.seek(start)
            data = source.read(size)
            source.seek(place)
            _verify(data, clip, field, hashes, f"{shard.name} of {store}")
            tar.add(Member(f"{clip}.{field}", data))
            fields[field] = fields.get(field, 0) + 1
            there += [] if there[-1:] == [clip] else [clip]
            count += size
    inputs = hashlib.sha256(dump([shard.inputs, there])).hexdigest()
    first, last = (there[0], there[-1]) if there else ("", "")
    made = Shard(shard.name, sha256_of(path), path.stat().st_size, len(there), fields, first, last, inputs)
    return made, count


def _write_part(
    to: Path, index: Index, rows: Sequence[Mapping[str, Any]], shards: Sequence[Shard], motion: Sequence[Shard]
) -> int:
    """Index and clip table of what is here. Returns the number of clips."""
    folder = to / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [row for shard in shards for row in _rows_of(to, rows, shard)]
    with TableWriter(folder / TABLE, CLIP_COLUMNS) as table:
        table.add(chosen)
        table.close()
    part = replace(
        index,
        clips=tuple(shards),
        motion=tuple(motion),
        table=Table(TABLE, sha256_of(folder / TABLE), (folder / TABLE).stat().st_size, len(chosen)),
        hours=round(sum(row["duration_s"] for row in chosen) / 3600, 6),
    )
    write_atomic(to / INDEX, dump(part.to_json()))
    return len(chosen)


def _rows_of(to: Path, rows: Sequence[Mapping[str, Any]], shard: Shard) -> Iterator[dict[str, Any]]:
    """The table's rows of the clips that a shard has here, with their place in it."""
    with (to / FOLDER / shard.name).open("rb") as file:
        ids = list(dict.fromkeys(clip for clip, *_ in members_of(file, shard.name)))
    known = {str(row["id"]): row for row in rows if row["shard"] == shard.name}
    for place, clip in enumerate(ids):
        yield {**known[clip], "row": place}


def _sweep(to: Path, wanted: set[str]) -> None:
    """Remove shards of an earlier, other part."""
    for path in (to / FOLDER).iterdir():
        if is_shard_name(path.name.removesuffix(PART)) and path.name not in wanted:
            path.unlink()
