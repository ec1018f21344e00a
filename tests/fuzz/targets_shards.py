"""Readers of builds and releases: the index, tars, tables, what a release says of itself, and pulling one."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from dyconv.records import dump
from dyconv.store import Store
from tests.fuzz.target import Target, written


def _build(folder: Path) -> Path:
    """A packed build of two short clips."""
    from tests.release_build import Talk, make_build

    made = folder / "made"
    if not made.exists():
        make_build(made, folder / "scratch", [Talk("talk0", 10, "ann", frames=10), Talk("talk1", 11, frames=10)], per_shard=1)
        shutil.rmtree(made / "work")
    return made


def _release(folder: Path) -> Path:
    from tests.release_build import Talk, released

    if not (folder / "out" / "1.0.0").exists():
        released(folder, [Talk("talk0", 10, "ann", frames=10), Talk("talk1", 11, frames=10)])
    return folder / "out" / "1.0.0"


def _index(folder: Path) -> bytes:
    return (_build(folder) / "shards" / "index.json").read_bytes()


def _read_index(folder: Path, data: bytes) -> object:
    from dyconv.shards.checking import check
    from dyconv.shards.index import read_index

    written(folder / "made", "shards/index.json", data)
    store = Store(folder / "made")
    dump(read_index(store).to_json())
    return check(store).problems


def _tar(name: str) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        found = next(path for path in sorted((_build(folder) / "shards").iterdir()) if path.name.startswith(name))
        return found.read_bytes()

    return make


def _with_tar(folder: Path, data: bytes, name: str) -> Store:
    """A build with this tar, and an index that knows it: whoever makes a hostile shard makes a hostile index."""
    from dataclasses import replace

    from dyconv.shards.index import INDEX, read_index

    build = folder / "made"
    path = next(path for path in sorted((build / "shards").iterdir()) if path.name.startswith(name))
    kept = folder / "index.json"
    if not kept.exists():
        shutil.copy(build / INDEX, kept)
    shutil.copy(kept, build / INDEX)
    store = Store(build)
    index = read_index(store)
    path.write_bytes(data)
    told = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    swapped = {
        family: tuple(replace(shard, **told) if shard.name == path.name else shard for shard in getattr(index, family))
        for family in ("clips", "motion")
    }
    written(build, INDEX, dump(replace(index, **swapped).to_json()))
    return store


def _load(folder: Path, data: bytes) -> object:
    from dyconv.shards.loader import ShardDataset

    found = []
    for sample in ShardDataset(_with_tar(folder, data, "clips")):
        found.append(sample.id)
        for key in sample.members:
            sample.decode(key)
    return found


def _check(deep: bool, name: str = "clips") -> Callable[[Path, bytes], object]:
    def read(folder: Path, data: bytes) -> object:
        from dyconv.shards.checking import check

        return check(_with_tar(folder, data, name), deep=deep).problems

    return read


def _packed(folder: Path, data: bytes) -> object:
    from dyconv.release.packed import Packed

    packed = Packed(_with_tar(folder, data, "clips"))
    return [(clip.id, [packed.member(clip.id, field) for field in packed.fields(clip.id)]) for clip in packed.clips()]


def _library(folder: Path, data: bytes) -> object:
    from dyconv.audit.library import Library

    library = Library(_with_tar(folder, data, "clips"), folder / "cache")
    for name, clip in library.clips.items():
        view = library.view(name)
        for key in clip.assets:
            view.path(key)
    return library.bases


def _table(folder: Path) -> bytes:
    return (_build(folder) / "shards" / "clips.parquet").read_bytes()


def _read_table(folder: Path, data: bytes) -> object:
    from dyconv.shards.checking import check

    written(folder / "made", "shards/clips.parquet", data)
    return check(Store(folder / "made")).problems


def _of_release(name: str) -> Callable[[Path], bytes]:
    return lambda folder: (_release(folder) / name).read_bytes()


def _changed(folder: Path, name: str, data: bytes) -> Store:
    """A release with one file changed, and checksums that know it."""
    from dyconv.release.checksums import write_checksums

    release = folder / "out" / "1.0.0"
    written(release, name, data)
    write_checksums(release)
    return Store(release)


def _read_release(name: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, data: bytes) -> object:
        from dyconv.release.changes import Before
        from dyconv.release.check import check_release
        from dyconv.release.gone import Request
        from dyconv.release.rebuild import _recipe_name
        from dyconv.release.takedown import take_down
        from dyconv.report.release_numbers import read_dataset

        store = _changed(folder, name, data)
        errors = []
        for use in (
            lambda: check_release(store).problems,
            lambda: Before.read(store),
            lambda: read_dataset(store),
            lambda: _recipe_name(_about(store)),
            lambda: _taken_down(folder, store, take_down, Request),
        ):
            try:
                use()  # type: ignore[no-untyped-call]
            except Target.right as error:  # each has to say what is wrong by itself
                errors.append(error)
        if errors:
            raise errors[0]
        return None

    return read


def _about(store: Store) -> dict:
    from dyconv.release.about import read_about

    return read_about(store)


def _taken_down(folder: Path, store: Store, take_down: Callable, request: Callable) -> object:
    for left in (folder / "out").glob("1.0.1"):
        shutil.rmtree(left)
    return take_down(str(store), request(sources=("talk0",), why="asked"))


def _pull(folder: Path, data: bytes) -> object:
    from dyconv.release.pull import pull

    release = folder / "out" / "1.0.0"
    written(release, "CHECKSUMS.sha256", data)
    return _pulled(folder, pull, str(release), ())


def _pulled(folder: Path, pull: Callable, release: str, only: tuple[str, ...]) -> object:
    shutil.rmtree(folder / "pulled", ignore_errors=True)
    return pull(release, folder / "pulled", only)


def _pull_part(name: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, data: bytes) -> object:
        from dyconv.release.pull import pull

        store = _changed(folder, name, data)
        return _pulled(folder, pull, str(store), ("clip:talk0_00000000_00000400",))

    return read


_TABLES = ("clips", "turns", "people", "sources", "splits", "assets")
BUILDS = (
    Target("index", "json", _index, _read_index, seeds=150),
    Target("tar_loader", "tar", _tar("clips"), _load, seeds=100),
    Target("tar_check", "tar", _tar("clips"), _check(deep=False), seeds=100),
    Target("tar_deep", "tar", _tar("clips"), _check(deep=True), seeds=30),
    Target("tar_motion", "tar", _tar("motion"), _check(deep=False, name="motion"), seeds=50),
    Target("tar_packed", "tar", _tar("clips"), _packed, seeds=60),
    Target("tar_library", "tar", _tar("clips"), _library, seeds=60),
    Target("clip_table", "parquet", _table, _read_table, seeds=60),
)
RELEASES = (
    Target("release", "json", _of_release("release.json"), _read_release("release.json"), seeds=30),
    *(
        Target(
            f"table_{name}", "parquet", _of_release(f"tables/{name}.parquet"), _read_release(f"tables/{name}.parquet"), seeds=8
        )
        for name in _TABLES
    ),
    Target("release_tombstones", "json", _of_release("tombstones.json"), _read_release("tombstones.json"), seeds=20),
    Target("pull_checksums", "text", _of_release("CHECKSUMS.sha256"), _pull, seeds=40),
    Target("pull_index", "json", _of_release("shards/index.json"), _pull_part("shards/index.json"), seeds=30),
    Target("pull_assets", "parquet", _of_release("tables/assets.parquet"), _pull_part("tables/assets.parquet"), seeds=30),
    Target("pull_clips", "parquet", _of_release("tables/clips.parquet"), _pull_part("tables/clips.parquet"), seeds=30),
)
