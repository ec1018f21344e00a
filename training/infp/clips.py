"""Any clip of some builds, at any time: members are read where they lie in a shard that was verified once.

What can be drawn is known from the clip table before a shard is opened. Shards of a remote build are copied when first needed.
"""

from __future__ import annotations

import tarfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from dyconv.errors import ShardError, UsageError
from dyconv.records import PERSONS, Key
from dyconv.shards.index import RECORD, Index, Shard
from dyconv.shards.loader import ShardDataset
from dyconv.shards.sample import Sample, make_sample
from dyconv.shards.table import read_table
from dyconv.shards.tar import TAR_DAMAGE, check_plain, split_name
from dyconv.store import Store
from dyconv.time import FPS

_KEPT_SHARDS = 64  # copies of remote shards on disk, where no folder for them was given

_Value = TypeVar("_Value")
_Places = dict[str, dict[str, tuple[int, int]]]  # first byte and length, by clip and member


@dataclass(frozen=True)
class Item:
    """A clip that can be drawn from: build and shard by number.

    Attributes:
        seen: the people with a face video.
        heard: the people who speak.
    """

    build: int
    shard: int
    clip: str
    frames: int
    seen: tuple[str, ...]
    heard: tuple[str, ...]


class Builds:
    """Clips of one or more builds by random access. Picklable: each worker opens its own files.

    Args:
        data: folders or fsspec URIs.
        keys: members that are read.
        cache: folder for copies of remote shards.
        keep: leave the copies there; otherwise only the latest are kept.
        encoder_hash: of the motion latents; None where they are not read.

    Raises:
        DyconvError: naming the build, where one has no index, lacks members, or latents of this encoder.
    """

    def __init__(
        self, data: Sequence[str], keys: Iterable[Key], cache: Path, *, keep: bool = False, encoder_hash: str | None = None
    ) -> None:
        self.data, self.keys, self._keep = tuple(str(root) for root in data), frozenset(keys), keep
        if not self.data:
            raise UsageError("no data given", hint="give the folder or URI of at least one build")
        self._sets = [_opened(root, cache / f"{number}", encoder_hash) for number, root in enumerate(self.data)]
        self._tars: OrderedDict[tuple[int, str], tuple[Path, _Places]] = OrderedDict()

    def items(self, *, only: Sequence[str] = (), without: Sequence[str] = ()) -> list[Item]:
        """Clips in which somebody's face is, in the builds' order.

        Args:
            only: shell-style patterns; others than the sources whose id one fits are left out. None given: all are taken.
            without: patterns of sources to leave out.

        Raises:
            UsageError: where no clip is left.
        """
        out = [item for build in range(len(self.data)) for item in self._table(build, only, without)]
        if not out:
            chosen = " of the sources chosen" if only or without else ""
            raise UsageError(
                f"no clip{chosen} with a face video in {', '.join(self.data)}",
                hint="give builds whose recipe packs faces and crops, and check the patterns of sources",
            )
        return out

    def index(self, build: int) -> Index:
        """What a build says of itself."""
        return self._sets[build].index

    def rows(self, build: int) -> list[dict[str, Any]]:
        """The clip table of a build (`dyconv.shards.table`)."""
        dataset = self._sets[build]
        table = dataset.index.table
        return read_table(dataset.verified(Shard(table.name, table.sha256, table.bytes, table.rows, {}, "", "", "")))

    def _table(self, build: int, only: Sequence[str], without: Sequence[str]) -> list[Item]:
        dataset, rows = self._sets[build], self.rows(build)
        numbers = {shard.name: number for number, shard in enumerate(dataset.index.clips)}
        packed = [{key for key in Key if shard.fields.get(key)} for shard in dataset.index.clips]
        items = []
        for row in rows:
            source, number = str(row["source"]), numbers[row["shard"]]
            if (only and not _fits(source, only)) or _fits(source, without):
                continue
            seen = tuple(person for person in PERSONS if row[f"{person}_seen"] and Key.of(person, "face") in packed[number])
            heard = tuple(person for person in PERSONS if row[f"{person}_heard"])
            if seen:
                items.append(Item(build, number, str(row["id"]), round(row["duration_s"] * FPS), seen, heard))
        return items

    def sample(self, item: Item) -> Sample:
        """The clip, with those of `keys` that it has.

        Raises:
            ShardError: where its shard is not what the index says.
        """
        dataset = self._sets[item.build]
        shards = [dataset.index.clips[item.shard]]
        if dataset.motion:
            shards.append(dataset.index.motion[item.shard])
        members: dict[str, bytes] = {}
        for shard in shards:
            members |= self._members(item.build, shard, item.clip)
        return make_sample(item.clip, members, shards[0].name)

    def _members(self, build: int, shard: Shard, clip: str) -> dict[str, bytes]:
        try:
            return self._read(*self._placed(build, shard), clip)
        except FileNotFoundError:  # another process has just deleted this copy of a remote shard
            del self._tars[build, shard.name]
            return self._read(*self._placed(build, shard), clip)

    def _placed(self, build: int, shard: Shard) -> tuple[Path, _Places]:
        """A verified local file of a shard, and where its members are."""
        if (build, shard.name) not in self._tars:
            path = self._sets[build].verified(shard)
            self._tars[build, shard.name] = path, _places(path, shard.name, {RECORD, *self.keys})
        self._tars.move_to_end((build, shard.name))
        self._forget()
        return self._tars[build, shard.name]

    @staticmethod
    def _read(path: Path, places: _Places, clip: str) -> dict[str, bytes]:
        out = {}
        with path.open("rb") as file:
            for field, (start, size) in places.get(clip, {}).items():
                file.seek(start)
                out[field] = file.read(size)
        return out

    def _forget(self) -> None:
        """Of remote builds, delete the copies that were not used for longest."""
        remote = [at for at in self._tars if self._sets[at[0]].store.remote]
        for build, name in () if self._keep else remote[:-_KEPT_SHARDS]:
            del self._tars[build, name]
            self._sets[build].release(name)


def _opened(root: str, cache: Path, encoder_hash: str | None) -> ShardDataset:
    store = Store(root, cache=cache)
    try:
        return ShardDataset(store, motion=encoder_hash is not None, encoder_hash=encoder_hash, rank=0, world_size=1)
    except UsageError as error:
        raise UsageError(f"{store}: {error.message}", hint=error.hint) from error


def _fits(source: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(source, pattern) for pattern in patterns)


def _places(path: Path, name: str, fields: set[str]) -> _Places:
    """Where in a tar the members lie."""
    out: _Places = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for header in tar:
                stem, field = split_name(header.name, name)
                check_plain(header, name)
                if field in fields:
                    out.setdefault(stem, {})[field] = (header.offset_data, header.size)
    except TAR_DAMAGE as error:
        raise ShardError(f"{name} is cut off or damaged: {error}") from error
    return out


class Recent:
    """What was made last, within a number of bytes."""

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0
        self._held: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Any, make: Callable[[], _Value], size: Callable[[_Value], int]) -> _Value:
        """What is held under `key`; made where it is not."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key][0]
        value = make()
        self._held[key] = value, size(value)
        self.bytes += self._held[key][1]
        while self.bytes > self.limit and len(self._held) > 1:
            self.bytes -= self._held.popitem(last=False)[1][1]
        return value
