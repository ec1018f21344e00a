"""A release's shards: rewritten by split, in the same format and with the same index as a build's."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Protocol

from dyconv.errors import StoreError
from dyconv.records import Clip, Key, dump
from dyconv.release.model import Entry, Kind
from dyconv.shards.index import FOLDER, MOTION_KEYS, RECORD, TABLE, Encoder, Index, Shard, Table, motion_prefix, shard_name
from dyconv.shards.packing import record_of
from dyconv.shards.tar import Member, TarWriter
from dyconv.store import Store, sha256_of, write_atomic

# What a recipe-only release carries besides records: annotations and latents, nothing that can be seen or heard.
ANNOTATIONS = frozenset({Key.FACES, Key.SPEECH, Key.P0_CROP, Key.P1_CROP}) | MOTION_KEYS


def carried(key: str, kind: Kind) -> bool:
    """Whether releases of a kind carry a member."""
    return kind is Kind.FULL or key in ANNOTATIONS


def by_split(entries: Iterable[Entry], splits: Sequence[str], size: int) -> list[list[Entry]]:
    """Groups of at most `size` clips, each for one shard and of one split; splits in the given order, clips by id."""
    order = {name: number for number, name in enumerate(splits)}
    groups: list[list[Entry]] = []
    for _, run in groupby(sorted(entries, key=lambda one: (order[one.split], one.clip.id)), key=lambda one: one.split):
        clips = list(run)
        groups += [clips[start : start + size] for start in range(0, len(clips), size)]
    return groups


def released_record(entry: Entry, kind: Kind) -> Clip:
    """The record as the shard carries it: its assets are the members beside it."""
    return record_of(entry.clip, [key for key in entry.clip.assets if carried(key, kind)])


class Members(Protocol):
    """Where members are copied from: `Packed`, or a build that was made again."""

    @property
    def store(self) -> Store: ...

    def member(self, clip_id: str, field: str) -> bytes: ...


class ShardWriter:
    """Writes the tars of a release into `staging/shards`.

    Args:
        packed: what members are copied from.
        encoder: of the motion latents; None where the release has none.
    """

    def __init__(self, packed: Members, staging: Path, kind: Kind, encoder: Encoder | None) -> None:
        self.packed, self.folder, self.kind, self.encoder = packed, staging / FOLDER, kind, encoder
        self.folder.mkdir(parents=True, exist_ok=True)

    def clips(self, number: int, entries: Sequence[Entry]) -> Shard:
        """Tar `number` of the clips family."""

        def members(entry: Entry) -> Iterable[Member]:
            record = released_record(entry, self.kind)
            yield Member(f"{record.id}.{RECORD}", dump(record.to_json()))
            for key in sorted(record.assets):
                yield Member(f"{record.id}.{key}", self._asset(entry.clip, key))

        return self._shard(shard_name("clips", number), [(entry, members(entry)) for entry in entries])

    def motion(self, number: int, entries: Sequence[Entry]) -> Shard:
        """Tar `number` of the motion family, aligned with the clips'."""
        assert self.encoder is not None

        def members(entry: Entry) -> Iterable[Member]:
            for name, field in sorted(entry.motion.items()):
                yield Member(f"{entry.clip.id}.{name}", self.packed.member(entry.clip.id, field))

        name = shard_name(motion_prefix(self.encoder.hash), number)
        return self._shard(name, [(entry, members(entry)) for entry in entries])

    def _asset(self, clip: Clip, key: Key) -> bytes:
        ref = clip.assets[key]
        data = self.packed.member(clip.id, ref.path.partition(".")[2])
        if len(data) != ref.size or hashlib.sha256(data).hexdigest() != ref.sha256:
            raise StoreError(
                f"clip {clip.id}: {key} is not the file its record names", hint=f"run `dyconv check` on {self.packed.store}"
            )
        return data

    def _shard(self, name: str, clips: Sequence[tuple[Entry, Iterable[Member]]]) -> Shard:
        fields: Counter[str] = Counter()
        there: list[str] = []
        inputs = hashlib.sha256()
        path = self.folder / name
        with TarWriter(path) as tar:
            for entry, members in clips:
                for member in members:
                    assert isinstance(member.content, bytes)
                    tar.add(member)
                    fields[member.name.partition(".")[2]] += 1
                    inputs.update(dump([member.name, hashlib.sha256(member.content).hexdigest()]))
                    if not there or there[-1] != entry.clip.id:
                        there.append(entry.clip.id)
        first, last = (there[0], there[-1]) if there else ("", "")
        size = path.stat().st_size
        return Shard(name, sha256_of(path), size, len(there), dict(sorted(fields.items())), first, last, inputs.hexdigest())


def write_shards(writer: ShardWriter, groups: Sequence[Sequence[Entry]]) -> tuple[tuple[Shard, ...], tuple[Shard, ...]]:
    """Every tar of a release: the clips family, and the motion family where there are latents."""
    clips = tuple(writer.clips(number, group) for number, group in enumerate(groups))
    motion = tuple(writer.motion(number, group) for number, group in enumerate(groups)) if writer.encoder else ()
    return clips, motion


def write_index(
    folder: Path,
    groups: Sequence[Sequence[Entry]],
    shards: tuple[tuple[Shard, ...], tuple[Shard, ...]],
    *,
    recipe: str,
    encoder: Encoder | None,
    size: int,
    overlay: str | None = None,
) -> Index:
    """`shards/index.json` beside the tars and the clip table, which are there already."""
    table = folder / TABLE
    length = sum((entry.clip.span.duration for group in groups for entry in group), Fraction(0))
    index = Index(
        recipe=recipe,
        clips=shards[0],
        motion=shards[1],
        encoder=encoder,
        table=Table(TABLE, sha256_of(table), table.stat().st_size, sum(map(len, groups))),
        hours=round(float(length / 3600), 6),
        samples_per_shard=size,
        overlay=overlay,
    )
    write_atomic(folder / "index.json", dump(index.to_json()))
    return index


def motion_of(fields: Mapping[str, int], swapped: bool = False) -> dict[str, str]:
    """Motion members of a clip, by their name in the release; `swapped` where the audit exchanged the two people."""
    there = {key for key in MOTION_KEYS if key in fields}
    if not swapped:
        return {str(key): str(key) for key in sorted(there)}
    other = {Key.P0_MOTION: Key.P1_MOTION, Key.P1_MOTION: Key.P0_MOTION}
    return {str(other[key]): str(key) for key in sorted(there)}
