"""The clips that the audit app shows, and where their files lie: in a build's work folders, or inside shards.

A file that is only in a shard is taken out of it once, into a cache outside the build, and compared with the hash that the
clip's record gives for it.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dyconv.audit.decisions import base_of
from dyconv.errors import DyconvError, ShardError, StoreError, UsageError
from dyconv.ledger import RUN_FILE
from dyconv.records import Clip, Key
from dyconv.report.view import ClipView
from dyconv.shards.index import FOLDER, INDEX, RECORD, Shard, read_index
from dyconv.shards.sample import parse_record
from dyconv.shards.tar import TAR_DAMAGE, check_plain, split_name
from dyconv.store import Store, write_atomic


@dataclass(frozen=True)
class Place:
    """A member of a shard: `size` bytes from `offset` of the tar."""

    tar: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


class Library:
    """The clips of a build or release, held in memory; their files are opened when they are asked for.

    Args:
        store: a folder or URI with a build or a release.
        cache: folder for what is taken out of shards; made where it is not there.

    Raises:
        UsageError: if it is neither a build nor a release, or has no clips.
        ShardError: if a shard is not what its index says.
    """

    def __init__(self, store: Store, cache: Path) -> None:
        self.store, self.cache = store, cache
        self._places: dict[str, dict[str, Place]] = {}
        records = self._from_build() if store.exists(RUN_FILE) else None
        if store.exists(INDEX):
            packed = self._from_shards()
            records = packed if records is None else records
        if records is None:
            raise UsageError(
                f"{store} is no build and no release: it has neither {RUN_FILE} nor {INDEX}",
                hint="give the --out of `dyconv run`, or the folder of a release",
            )
        if not records:
            raise UsageError(f"{store} has no clips to review", hint="`dyconv status` says what became of its sources")
        self.clips: dict[str, Clip] = records
        self.bases: dict[str, str] = {name: base_of(clip) for name, clip in records.items()}

    def view(self, clip: str) -> ClipView:
        """What can be read of a clip (see `ClipView`), wherever its files lie."""
        return _View(self.clips[clip], self.store, "kept", library=self)

    def path(self, clip: str, key: Key) -> Path | None:
        """A local file with an asset, or None where the clip does not have it, or it is gone.

        Raises:
            StoreError: if it is there and not what the record says.
        """
        ref, place = self.clips[clip].assets.get(key), self._places.get(clip, {}).get(key)
        if ref is not None and self.store.exists(ref.path):
            path = self.store.local(ref.path)
            if path.stat().st_size != ref.size:
                raise StoreError(f"{ref.path} in {self.store} has {path.stat().st_size} bytes, its record says {ref.size}")
            return path
        return None if place is None else self._taken_out(place, key, None if ref is None else ref.sha256)

    def _taken_out(self, place: Place, key: Key, sha256: str | None) -> Path:
        name = sha256 or hashlib.sha256(f"{place.tar}/{place.offset}/{place.tar.stat().st_mtime_ns}".encode()).hexdigest()
        path = self.cache / name[:2] / f"{name}.{key}"
        if not path.is_file() or path.stat().st_size != place.size:
            data = place.read()
            if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
                raise StoreError(f"{key} in {place.tar.name} is not what its record says", hint="run `dyconv check`")
            write_atomic(path, data)
        return path

    def _from_build(self) -> dict[str, Clip] | None:
        """Records as the run left them; None where they are gone (work folders may be deleted once a build is packed)."""
        from dyconv.runner import kept_clips

        try:
            return {clip.id: clip for clip in kept_clips(self.store)}
        except StoreError:
            if not self.store.exists(INDEX):
                raise
            return None

    def _from_shards(self) -> dict[str, Clip]:
        index = read_index(self.store)
        found: dict[str, Clip] = {}
        for shard in index.shards:
            for clip, fields in _members(self._tar(shard), shard.name):
                if RECORD in fields and clip not in found:
                    record = parse_record(fields[RECORD].read(), f"{shard.name}, clip {clip}")
                    found[clip] = replace(record, assets={key: ref for key, ref in record.assets.items() if key in fields})
                self._places.setdefault(clip, {}).update({name: at for name, at in fields.items() if name != RECORD})
        return dict(sorted(found.items()))

    def _tar(self, shard: Shard) -> Path:
        name = f"{FOLDER}/{shard.name}"
        if not self.store.exists(name):
            raise ShardError(f"{shard.name} is not in {self.store}/{FOLDER}", hint="run `dyconv check` on it")
        path = self.store.local(name)
        if path.stat().st_size != shard.bytes:
            raise ShardError(
                f"{shard.name} has {path.stat().st_size} bytes, its index says {shard.bytes}", hint="run `dyconv check` on it"
            )
        return path


def _members(tar: Path, name: str) -> Iterator[tuple[str, Mapping[str, Place]]]:
    """(clip id, its members by field), from the headers alone."""
    found: dict[str, dict[str, Place]] = {}
    try:
        with tarfile.open(tar, "r:") as opened:
            for header in opened:
                check_plain(header, name)
                clip, what = split_name(header.name, name)
                found.setdefault(clip, {})[what] = Place(tar, header.offset_data, header.size)
    except TAR_DAMAGE as error:
        raise ShardError(f"{name} is cut off or damaged: {error}", hint="run `dyconv check` on it") from error
    yield from found.items()


@dataclass
class _View(ClipView):
    library: Library = field(kw_only=True)

    def path(self, key: Key, clip: Clip | None = None) -> Path | None:
        try:
            return self.library.path((clip or self.clip).id, key)
        except (DyconvError, OSError) as error:
            self.note(key, error)
            return None
