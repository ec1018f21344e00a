"""The packed clips of a build or a release by random access: records and members, from shards that were verified."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from dyconv.errors import ShardError
from dyconv.records import Clip
from dyconv.shards.index import FOLDER, RECORD, Encoder, Index, Shard, read_index
from dyconv.shards.sample import parse_record
from dyconv.shards.tar import TAR_DAMAGE, check_plain, split_name
from dyconv.store import Store, sha256_of

_Place = tuple[Path, int, int]  # file, first byte, length


class Packed:
    """Clips of a build, by rising id within its shards.

    Args:
        store: of the build; shards of a remote one are copied into its cache, each once.
        index: a part of its index, where not all shards are of interest.
        verified: another process has just compared the shards with the index.

    Raises:
        ShardError: where there is no readable index; later, naming the shard, where one is not what the index says.
    """

    def __init__(self, store: Store, index: Index | None = None, *, verified: bool = False) -> None:
        self.store, self._trusted = store, verified
        self.index: Index = index or read_index(store)

    @property
    def encoder(self) -> Encoder | None:
        return self.index.encoder

    def clips(self) -> Iterator[Clip]:
        """Every record, as its shard carries it."""
        for clip_id in self._places:
            yield self.clip(clip_id)

    def clip(self, clip_id: str) -> Clip:
        """The record of a clip that is there."""
        return parse_record(self.member(clip_id, RECORD), f"clip {clip_id}")

    def fields(self, clip_id: str) -> Mapping[str, int]:
        """Bytes of each member of a clip, its motion too, by name; the record is left out."""
        return {field: place[2] for field, place in self._places[clip_id].items() if field != RECORD}

    def member(self, clip_id: str, field: str) -> bytes:
        """The bytes of a member.

        Raises:
            ShardError: where the clip has none of this name.
        """
        place = self._places.get(clip_id, {}).get(field)
        if place is None:
            raise ShardError(f"{self.store}: clip {clip_id} has no {field}", hint="run `dyconv check` on it")
        path, start, size = place
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(size)
        if len(data) != size:
            raise ShardError(f"{path.name} ends inside {clip_id}.{field}", hint="run `dyconv check` on it")
        return data

    def shard_of(self) -> dict[str, str]:
        """Name of the clip shard each clip lies in, by clip id."""
        return {clip_id: places[RECORD][0].name for clip_id, places in self._places.items()}

    @cached_property
    def _places(self) -> dict[str, dict[str, _Place]]:
        out: dict[str, dict[str, _Place]] = {}
        for shard in self.index.clips:
            for clip_id, field, place in self._members(shard):
                out.setdefault(clip_id, {})[field] = place
        if lacking := next((clip_id for clip_id, places in out.items() if RECORD not in places), None):
            raise ShardError(f"{self.store}: clip {lacking} has no record in its shard", hint="run `dyconv check` on it")
        for shard in self.index.motion:
            for clip_id, field, place in self._members(shard):
                if clip_id not in out:
                    raise ShardError(f"{shard.name} has clip {clip_id}, no clip shard has", hint="run `dyconv check`")
                out[clip_id][field] = place
        return out

    def _members(self, shard: Shard) -> Iterator[tuple[str, str, _Place]]:
        path = self._verified(shard)
        with path.open("rb") as file:
            for clip_id, field, start, size in members_of(file, shard.name):
                yield clip_id, field, (path, start, size)

    def _verified(self, shard: Shard) -> Path:
        hint = "run `dyconv check` on it; `dyconv pack` writes a damaged shard of a build anew once it is deleted"
        if not self.store.exists(f"{FOLDER}/{shard.name}"):
            raise ShardError(f"{shard.name} is not in {self.store}/{FOLDER}", hint=hint)
        path = self.store.local(f"{FOLDER}/{shard.name}")
        if path.stat().st_size != shard.bytes or (not self._trusted and sha256_of(path) != shard.sha256):
            raise ShardError(f"{shard.name} in {self.store} is not what its index says", hint=hint)
        return path


def members_of(file: BinaryIO, name: str) -> Iterator[tuple[str, str, int, int]]:
    """(clip id, field, first byte, length) of every member of a tar that can seek: only headers are read.

    Raises:
        ShardError: naming the tar, if it is damaged or holds anything but plain files.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for header in tar:
                clip_id, field = split_name(header.name, name)
                check_plain(header, name)
                yield clip_id, field, header.offset_data, header.size
    except TAR_DAMAGE as error:
        raise ShardError(f"{name} is cut off or damaged: {error}") from error
