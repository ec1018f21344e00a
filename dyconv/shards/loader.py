"""Shards back into samples, for training: verified, shuffled, split over nodes and workers, decoded on demand.

WebDataset's own buffer shuffles; around it stands what it does not do. Its reader of tars takes compressed ones and members
with holes, which a few bytes can make larger than any memory, so `dyconv.shards.tar` reads them. And a shard is compared with
the index before (on a local file) or while (from a remote stream) it is read, so that a tar which was cut off, replaced or
mixed with another build stops the training instead of shortening it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.utils.data import IterableDataset, get_worker_info
from webdataset.filters import shuffle as shuffle_buffer

from dyconv.errors import ShardError, UsageError
from dyconv.records import Key
from dyconv.shards.index import FOLDER, MOTION_KEYS, RECORD, Index, Shard, read_index
from dyconv.shards.sample import Sample, make_sample
from dyconv.shards.tar import read_members
from dyconv.store import Store, sha256_of

_HINT = "run `dyconv check` on the build; `dyconv pack` writes a damaged shard anew once it is deleted"


def open_shards(root: str | Path, *, cache: str | Path | None = None, **options: Any) -> ShardDataset:
    """The samples of a build.

    Args:
        root: folder or fsspec URI of the build (the folder that holds `shards/`).
        cache: for a remote build: local folder to copy shards to, each once; without it they are streamed.
        options: see `ShardDataset`.

    Raises:
        ShardError: if there is no readable index.
    """
    return ShardDataset(Store(root, cache=cache), streaming=cache is None, **options)


class ShardDataset(IterableDataset[Any]):
    """Iterates over `Sample` (or what `transform` makes of them).

    Each sample comes exactly once an epoch over all ranks and workers together: shards are dealt out, first to ranks,
    then to the workers of a `DataLoader`.

    Args:
        store: the build.
        keys: assets to read; None for all. Others are never decoded nor kept.
        motion: join the motion latents of the aligned tars.
        encoder_hash: refuse the build unless its motion latents are of this space.
        shuffle: size of the shuffle buffer in samples; 0 keeps the written order of shards and samples.
        seed: with the epoch (`set_epoch`), decides every order.
        rank, world_size: of this process among the nodes; from `torch.distributed` where it runs already.
        transform: called with each sample, in the worker.
        streaming: read a remote shard as it comes, rather than from a cached copy.

    Raises:
        ShardError: while iterating, naming the shard, if one is not what the index says.
        UsageError: for a rank with no shard to read, or latents of another encoder.
    """

    def __init__(
        self,
        store: Store,
        *,
        keys: Iterable[str] | None = None,
        motion: bool = True,
        encoder_hash: str | None = None,
        shuffle: int = 0,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        transform: Callable[[Sample], Any] | None = None,
        streaming: bool = True,
    ) -> None:
        self.store = store
        self.index: Index = read_index(store)
        self.keys = None if keys is None else frozenset(Key(key) for key in keys)
        self.motion = motion and bool(self.index.motion) and (self.keys is None or bool(self.keys & MOTION_KEYS))
        self.shuffle, self.seed, self.transform = shuffle, seed, transform
        self.streaming = streaming and store.remote
        self.rank, self.world_size = _place(rank, world_size)
        if len(self.index.clips) < self.world_size > 1:
            raise UsageError(
                f"{len(self.index.clips)} shards cannot be dealt to {self.world_size} ranks",
                hint="pack with fewer samples_per_shard",
            )
        _check_encoder(self.index, encoder_hash)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by workers that live on
        self._verified: set[str] = set()
        self._hashed: dict[str, Future[str]] = {}  # of shards that are read next, by name

    def set_epoch(self, epoch: int) -> None:
        """Choose another order, the same on every rank: call it on all of them before each epoch."""
        self._epoch.fill_(epoch)

    def shards(self) -> list[int]:
        """Numbers of the shards this process (rank and worker) reads in this epoch, in order."""
        order = list(range(len(self.index.clips)))
        if self.shuffle:
            random.Random(f"{self.seed}/{int(self._epoch)}").shuffle(order)
        mine = order[self.rank :: self.world_size]
        worker = get_worker_info()
        return mine[worker.id :: worker.num_workers] if worker else mine

    def __iter__(self) -> Iterator[Any]:
        samples: Iterator[Sample] = (sample for number in self._hashed_ahead() for sample in self._read(number))
        if self.shuffle:
            worker = get_worker_info()
            place = f"{self.rank}/{worker.id if worker else 0}"
            rng = random.Random(f"{self.seed}/{int(self._epoch)}/{place}")
            samples = shuffle_buffer(bufsize=self.shuffle, initial=self.shuffle, rng=rng)(samples)
        yield from map(self.transform, samples) if self.transform else samples

    def _hashed_ahead(self) -> Iterator[int]:
        """`shards()`, while threads hash the one that comes next: hashing takes as long as reading."""
        numbers = self.shards()
        if self.store.remote:
            yield from numbers
            return
        threads = ThreadPoolExecutor(2, "sha256")
        try:
            for number, following in zip_longest(numbers, numbers[1:]):
                for shard in self._families(number, following):
                    path = Path(self.store.root) / FOLDER / shard.name
                    if shard.name not in self._verified | self._hashed.keys():
                        self._hashed[shard.name] = threads.submit(sha256_of, path)
                yield number
        finally:
            threads.shutdown(wait=False)  # not cancelled: another iterator may wait for the same shard
            self._hashed.clear()

    def _families(self, *numbers: int | None) -> Iterator[Shard]:
        """The tars of some shards, in the order in which they are opened."""
        for number in numbers:
            if number is not None:
                yield from [self.index.motion[number]] if self.motion else []
                yield self.index.clips[number]

    def _read(self, number: int) -> Iterator[Sample]:
        """Samples of one shard, with their motion."""
        shard = self.index.clips[number]
        latents = self._groups(self.index.motion[number]) if self.motion else iter(())
        waiting = next(latents, None)
        for clip_id, members in self._groups(shard):
            if waiting and waiting[0] == clip_id:
                members |= waiting[1]
                waiting = next(latents, None)
            yield make_sample(clip_id, members, shard.name)
        if waiting:
            raise ShardError(f"{self.index.motion[number].name} has clip {waiting[0]}, {shard.name} has not", hint=_HINT)

    def _groups(self, shard: Shard) -> Iterator[tuple[str, dict[str, bytes]]]:
        """(clip id, members by field) of one tar, compared with the index."""
        count = 0
        with self._open(shard) as file:
            for clip_id, group in _grouped(file, shard.name):
                count += 1
                yield clip_id, {name: data for name, data in group.items() if self._wanted(name)}
            if count != shard.samples:
                raise ShardError(f"{shard.name} has {count} samples, its index says {shard.samples}", hint=_HINT)

    def _wanted(self, field: str) -> bool:
        return self.keys is None or field == RECORD or field in self.keys

    @contextmanager
    def _open(self, shard: Shard) -> Iterator[BinaryIO]:
        """A shard to read from, after or while comparing its bytes with the index."""
        path = f"{FOLDER}/{shard.name}"
        if not self.store.exists(path):
            raise ShardError(f"{shard.name} is not in {self.store}/{FOLDER}", hint=_HINT)
        if self.streaming:
            import fsspec

            with fsspec.open(f"{self.store.root}/{path}", "rb") as stream:
                counted = _Counted(stream)
                yield counted  # type: ignore[misc]
                counted.finish(shard)
            return
        with self.verified(shard).open("rb") as file:
            yield file

    def verified(self, shard: Shard) -> Path:
        """A local file that holds what the index says of a shard; of a remote build, a copy.

        Raises:
            ShardError: if it is not there, or something else.
        """
        path = f"{FOLDER}/{shard.name}"
        if not self.store.exists(path):
            raise ShardError(f"{shard.name} is not in {self.store}/{FOLDER}", hint=_HINT)
        local = self.store.local(path)
        self._verify(local, shard)
        return local

    def release(self, name: str) -> None:
        """Delete the local copy of a remote shard; nothing happens where the build is local."""
        if self.store.remote:
            self.store.local(f"{FOLDER}/{name}").unlink(missing_ok=True)
            self._verified.discard(name)

    def _verify(self, path: Path, shard: Shard) -> None:
        size = path.stat().st_size
        if size != shard.bytes:
            raise ShardError(f"{shard.name} has {size} bytes, its index says {shard.bytes}", hint=_HINT)
        if shard.name not in self._verified:
            ahead = self._hashed.pop(shard.name, None)
            if (ahead.result() if ahead else sha256_of(path)) != shard.sha256:
                raise ShardError(f"{shard.name} is not what its index says: other sha256", hint=_HINT)
            self._verified.add(shard.name)


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if (rank is None) != (world_size is None):
        raise UsageError("give both rank and world_size, or none of them")
    if rank is None or world_size is None:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1
    if not 0 <= rank < world_size:
        raise UsageError(f"rank must be from 0 to {world_size - 1}, found {rank}")
    return rank, world_size


def _check_encoder(index: Index, wanted: str | None) -> None:
    if wanted is None:
        return
    found = index.encoder.hash if index.encoder else None
    if found != wanted:
        raise UsageError(
            f"motion latents of space {wanted[:8]} are wanted, the build has {found[:8] if found else 'none'}",
            hint="encode the build's motion with that encoder, or use a renderer made for this one",
        )


def _grouped(file: BinaryIO, name: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(clip id, its members by field), as WebDataset groups them: members of one clip stand together."""
    last: str | None = None
    group: dict[str, bytes] = {}
    for clip_id, field, data in read_members(file, name):
        if last not in (None, clip_id):
            yield str(last), group
            group = {}
        if field in group:
            raise ShardError(f"{name}: member {clip_id}.{field} comes twice", hint=_HINT)
        last, group[field] = clip_id, data
    if last is not None:
        yield last, group


class _Counted:
    """A stream that hashes what passes through it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._size = 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._digest.update(data)
        self._size += len(data)
        return data

    def finish(self, shard: Shard) -> None:
        """Read what a tar reader leaves unread, and compare.

        Raises:
            ShardError: if the bytes were not the shard's.
        """
        while self.read(1 << 20):
            pass
        if self._size != shard.bytes:
            raise ShardError(f"{shard.name} has {self._size} bytes, its index says {shard.bytes}", hint=_HINT)
        if self._digest.hexdigest() != shard.sha256:
            raise ShardError(f"{shard.name} is not what its index says: other sha256", hint=_HINT)
