"""Kept clips into tars, an index and a clip table.

A shard that is already there and was made of the same inputs is left alone. New ones are written aside, then renamed
into place, then the index is replaced, and only then is what the new index does not name removed: whoever reads
meanwhile meets either the old build, the new one, or a shard that does not match its index, and never a silent mixture.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

from dyconv.bounds import parse_json
from dyconv.errors import ShardError, StoreError, UsageError
from dyconv.recipe import Recipe
from dyconv.records import Clip, Key, Ref, dump
from dyconv.shards.index import (
    FOLDER,
    INDEX,
    MOTION_KEYS,
    PENDING,
    RECORD,
    TABLE,
    VERSION,
    Encoder,
    Index,
    Shard,
    Table,
    is_shard_name,
    motion_prefix,
    read_index,
    shard_name,
)
from dyconv.shards.table import TableWriter, columns
from dyconv.shards.tar import Member, TarWriter
from dyconv.store import Store, sha256_of


@dataclass(frozen=True)
class PackResult:
    """What a pack did: counts of tars, and what came out."""

    clips: int
    hours: float
    written: int
    unchanged: int
    removed: int


def record_of(clip: Clip, keys: Iterable[Key]) -> Clip:
    """The clip as its shard carries it: assets are the members beside it, and nothing tells of motion.

    Motion lives in the other family; were its encoder named here, re-encoding motion would rewrite every video.
    """
    assets = {key: replace(clip.assets[key], path=f"{clip.id}.{key}") for key in keys if key in clip.assets}
    measures = {name: value for name, value in clip.measures.items() if "motion" not in name.split(".")}
    return replace(clip, assets=assets, measures=measures)


def pack(store: Store, recipe: Recipe, clips: Iterable[Clip], *, overlay: str | None = None) -> PackResult:
    """Write the shards of `clips` under `shards/` of the store. Holds one shard's records at a time.

    Args:
        clips: by rising id, so that the same clips always come to lie in the same shards.
        overlay: version of the decisions that were applied to the clips, for the index.

    Raises:
        StoreError: if an asset a record names is missing or not what it says.
        UsageError: if the clips cannot be one build (ids that do not rise, or motion of two encoders).
    """
    motion = [key for key in recipe.pack if key in MOTION_KEYS]
    media = [key for key in recipe.pack if key not in MOTION_KEYS]
    with _staging(store) as staging, TableWriter(staging / TABLE) as table:
        writer = _Packer(store, staging)
        clip_shards: list[Shard] = []
        motion_shards: list[Shard] = []
        encoder: Encoder | None = None
        length = Fraction(0)
        for number, group in enumerate(_groups(clips, recipe.samples_per_shard)):
            shard = writer.shard("clips", number, group, media)
            clip_shards.append(shard)
            table.add([columns(clip, shard.name, row) for row, clip in enumerate(group)])
            length += sum((clip.span.duration for clip in group), Fraction(0))
            encoder = _encoder(group, encoder) if motion else None
            if encoder:  # also for earlier groups in which nobody was seen
                prefix = motion_prefix(encoder.hash)
                motion_shards += [writer.shard(prefix, late, [], motion) for late in range(len(motion_shards), number)]
                motion_shards.append(writer.shard(prefix, number, group, motion))
        table.close()
        index = Index(
            recipe=recipe.name,
            clips=tuple(clip_shards),
            motion=tuple(motion_shards),
            encoder=encoder,
            table=writer.table(table.rows),
            hours=round(float(length / 3600), 6),
            samples_per_shard=recipe.samples_per_shard,
            overlay=overlay,
        )
        removed = writer.publish(index)
    return PackResult(index.samples, index.hours, writer.written, writer.unchanged, removed)


def _groups(clips: Iterable[Clip], size: int) -> Iterator[list[Clip]]:
    """Runs of `size` clips; the last one may be shorter.

    Raises:
        UsageError: if ids do not rise.
    """
    group: list[Clip] = []
    last = ""
    for clip in clips:
        if clip.id <= last:
            what = "comes twice" if clip.id == last else f"comes after {last}"
            raise UsageError(f"clip id {clip.id} {what}: clips are packed by rising id", hint="sort them; ids must be unique")
        last = clip.id
        group.append(clip)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _encoder(clips: Sequence[Clip], known: Encoder | None) -> Encoder | None:
    """The one encoder of all clips so far, or None where none has motion yet."""
    for clip in clips:
        if not clip.measures.get("motion.hash"):
            continue
        found = Encoder(str(clip.measures["motion.encoder"]), str(clip.measures["motion.hash"]))
        if known is not None and found != known:
            names = f"{known.name} {known.hash[:8]} and {found.name} {found.hash[:8]}"
            raise UsageError(f"the clips carry motion of 2 encoders: {names}", hint="run the recipe over all of them again")
        if not is_shard_name(shard_name(motion_prefix(found.hash), 0)):
            raise UsageError(f"motion encoder {found.name}: its hash must be hexadecimal, found {found.hash[:40]!r}")
        known = found
    return known


def inputs_hash(clips: Sequence[Clip], keys: Sequence[Key], *, record: bool) -> str:
    """Hash of all a shard is made of; `record` where the clips' records are members too. Who adds nothing does not count."""
    parts: list[object] = [VERSION]
    for clip in clips:
        assets = [[str(key), clip.assets[key].sha256, clip.assets[key].size] for key in keys if key in clip.assets]
        if record or assets:
            parts.append([clip.id, record_of(clip, keys).to_json() if record else None, assets])
    return hashlib.sha256(dump(parts)).hexdigest()


@contextmanager
def _staging(store: Store) -> Iterator[Path]:
    """A folder for what is being written: beside the shards on a local store, so that renames stay on one disk."""
    parent = None
    if not store.remote:
        parent = Path(store.root) / FOLDER
        parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".packing-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Packer:
    """Writes shards aside, and knows which old ones may stay."""

    def __init__(self, store: Store, staging: Path) -> None:
        self.store = store
        self.staging = staging
        self.written = 0
        self.unchanged = 0
        self._pending = _pending(store)
        self._old = _trusted(store, self._pending)
        self._staged: dict[str, str] = {}  # sha256 by name

    def shard(self, prefix: str, number: int, clips: Sequence[Clip], keys: Sequence[Key]) -> Shard:
        """Describe shard `number` of a family, written aside unless the one in place is the same."""
        name = shard_name(prefix, number)
        record = prefix == "clips"
        inputs = inputs_hash(clips, keys, record=record)
        old = self._old.get(name)
        if old and old.inputs == inputs:
            self.unchanged += 1
            return old
        fields: Counter[str] = Counter()
        carried: list[str] = []
        with TemporaryDirectory(dir=self.staging) as cache, TarWriter(self.staging / name) as tar:
            reader = Store(self.store.root, cache=cache)  # of a remote store, one shard's assets are here at a time
            for clip in clips:
                members = list(_members(reader, clip, keys, record=record))
                for member in members:
                    tar.add(member)
                    fields[member.name.partition(".")[2]] += 1
                carried += [clip.id] if members else []
        self.written += 1
        self._stage(name, tar.sha256)
        first, last = (carried[0], carried[-1]) if carried else ("", "")
        return Shard(name, tar.sha256, tar.size, len(carried), dict(sorted(fields.items())), first, last, inputs)

    def table(self, rows: int) -> Table:
        """Describe the clip table, which lies finished in the staging folder."""
        path = self.staging / TABLE
        found = Table(TABLE, sha256_of(path), path.stat().st_size, rows)
        self._stage(TABLE, found.sha256)
        return found

    def _stage(self, name: str, sha256: str) -> None:
        """Note a file written aside. On a remote store it goes up at once, so that the local disk holds one shard."""
        self._staged[name] = sha256
        if self.store.remote:
            self._mark_pending()
            self.store.put(self.staging / name, f"{FOLDER}/{name}", sha256=sha256)

    def _mark_pending(self) -> None:
        self.store.write_bytes(PENDING, dump(sorted(self._pending | set(self._staged))))

    def publish(self, index: Index) -> int:
        """Put everything in place, the index last; then remove what it does not name. Returns how many tars went."""
        data = dump(index.to_json())
        done = not self.written and self._same(INDEX, hashlib.sha256(data).hexdigest())
        done = done and self._same(f"{FOLDER}/{TABLE}", index.table.sha256)
        if not done:
            if not self.store.remote:
                self._mark_pending()
                for name, sha256 in self._staged.items():
                    self.store.put(self.staging / name, f"{FOLDER}/{name}", sha256=sha256)
            self.store.write_bytes(INDEX, data)
        self.store.discard(PENDING)
        return self._sweep({shard.name for shard in index.shards})

    def _same(self, path: str, sha256: str) -> bool:
        return self.store.exists(path) and hashlib.sha256(self.store.read_bytes(path)).hexdigest() == sha256

    def _sweep(self, wanted: set[str]) -> int:
        stale = [name for name in self.store.list(FOLDER) if is_shard_name(name) and name not in wanted]
        for name in stale:
            self.store.discard(f"{FOLDER}/{name}")
        if not self.store.remote:
            for left in (Path(self.store.root) / FOLDER).glob(".packing-*"):
                if left != self.staging:
                    shutil.rmtree(left, ignore_errors=True)
            for left in (Path(self.store.root) / FOLDER).glob(".*.tmp"):
                left.unlink(missing_ok=True)
        return len(stale)


def _members(store: Store, clip: Clip, keys: Sequence[Key], *, record: bool) -> Iterator[Member]:
    if record:
        yield Member(f"{clip.id}.{RECORD}", dump(record_of(clip, keys).to_json()))
    for key in sorted(keys):
        ref: Ref | None = clip.assets.get(key)
        if ref is not None:
            yield Member(f"{clip.id}.{key}", _sized(store, ref), ref.sha256)


def _sized(store: Store, ref: Ref) -> Path:
    """A local path of an asset of the size its record says; its bytes are compared while they are copied."""
    path = store.local(ref.path)
    if path.stat().st_size != ref.size:
        raise StoreError(f"{ref.path} in {store.root} is not what was written", hint="delete it and run again")
    return path


def _pending(store: Store) -> frozenset[str]:
    """Names an earlier pack was replacing when it was broken off: their tars and the index may not belong together."""
    if not store.exists(PENDING):
        return frozenset()
    try:
        return frozenset(str(name) for name in parse_json(store.read_bytes(PENDING)))
    except (ValueError, TypeError) as error:
        raise ShardError(f"{store}/{PENDING} is damaged: {error}", hint=f"delete {FOLDER}/ and pack again") from error


def _trusted(store: Store, pending: frozenset[str]) -> Mapping[str, Shard]:
    """Shards of the build in place that are what its index says, as far as their size tells (`dyconv check` hashes)."""
    if not store.exists(INDEX):
        return {}
    try:
        index = read_index(store)
    except ShardError:
        return {}  # a damaged index proves nothing: write everything anew
    there = store.sizes(FOLDER)
    return {shard.name: shard for shard in index.shards if shard.name not in pending and there.get(shard.name) == shard.bytes}
