"""Part `shards`: reading against plain WebDataset on the same tars, writing against Python's tarfile on the same files.

Members are random bytes of the sizes that a 20 s clip of two people has. Nothing is decoded on either side but the record,
which ours parses. Reading verifies every shard in each repeat, as a first epoch does; the page cache is warm. Writing ends in
fsync on both sides; ours also verifies each asset, hashes each tar and writes the clip table and the index.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from dyconv.recipe import Recipe
from dyconv.records import Clip, Key, Source
from dyconv.shards import open_shards, pack, read_index
from dyconv.shards.index import FOLDER
from dyconv.store import Store
from dyconv.time import FPS, Span
from tests.bench.cost import Cost, spent

WANTED_READ = WANTED_WRITE = 0.9
_SECONDS = 20
_SIZES = {
    **{Key.MIX: 400_000, Key.P0_VOICE: 300_000, Key.P1_VOICE: 300_000},
    **{Key.P0_FACE: 1_500_000, Key.P1_FACE: 1_500_000, Key.P0_CROP: 700_000, Key.P1_CROP: 700_000},
    **{Key.P0_MOTION: 60_000, Key.P1_MOTION: 60_000, Key.SPEECH: 8_000},
}
_PER_SHARD = 12


def measure(folder: Path, *, clips: int = 72, repeats: int = 5) -> dict[str, Any]:
    """Rates of both, and ours over theirs: the median of interleaved repeats."""
    store = Store(folder / "build")
    made = _clips(store, clips)
    recipe = Recipe(name="bench", about="", stages=(), pack=tuple(_SIZES), samples_per_shard=_PER_SHARD)
    raw, packed, plain, first, second = ([] for _ in range(5))  # type: ignore[var-annotated]
    for _ in range(repeats):
        _raw_tars(folder / "raw", store, made, raw)
        shutil.rmtree(folder / "build" / FOLDER, ignore_errors=True)
        with spent(packed):
            pack(store, recipe, made)
    shards = read_index(store).shards
    size = sum(shard.bytes for shard in shards)
    tars = [str(folder / "build" / FOLDER / shard.name) for shard in shards]
    _read_plain(tars, [])  # imports, and the page cache
    for _ in range(repeats):
        _read_plain(tars, plain)
        _read_ours(folder / "build", first, second)
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "mb": round(size / 1e6, 1),
        "read": {**_compared(plain, first, size), "wanted_ratio": WANTED_READ},
        "read_again": _compared(plain, second, size),
        "write": {**_compared(raw, packed, size), "wanted_ratio": WANTED_WRITE},
    }


def _compared(theirs: list[Cost], ours: list[Cost], size: int) -> dict[str, float]:
    """MB/s of both, and how much of their rate ours has, on the clock and by processor time."""
    pairs = list(zip(theirs, ours, strict=True))
    return {
        "ours_mb_s": round(size / 1e6 / median(own.wall for own in ours), 1),
        "plain_mb_s": round(size / 1e6 / median(other.wall for other in theirs), 1),
        "ratio": round(median(other.wall / own.wall for other, own in pairs), 3),
        "cpu_ratio": round(median(other.cpu / own.cpu for other, own in pairs), 3),
    }


def _clips(store: Store, count: int) -> list[Clip]:
    """Records with assets of random bytes."""
    draw = np.random.default_rng(0)
    found = []
    for number in range(count):
        start = Fraction(number * _SECONDS)
        clip = Clip(
            id=f"bench_{number:05d}",
            source=Source(id="bench", url="https://example.org/bench", licence="CC-BY-4.0"),
            span=Span(start, start + _SECONDS),
            shots=(Span.of_frames(0, _SECONDS * FPS),),
            measures={"motion.encoder": "toy", "motion.hash": "a" * 64},
        )
        assets = {}
        for key, size in _SIZES.items():
            path = Path(store.root) / "new" / f"{clip.id}.{key}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(draw.bytes(size))
            assets[key] = store.put(path, f"work/{number}/{path.name}")
        found.append(Clip.from_json({**clip.to_json(), "assets": {str(key): ref.to_json() for key, ref in assets.items()}}))
    return found


def _raw_tars(folder: Path, store: Store, clips: list[Clip], costs: list[Cost]) -> None:
    """The same files streamed into tars of as many clips, each synced to disk."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with spent(costs):
        for begin in range(0, len(clips), _PER_SHARD):
            with (folder / f"{begin:06d}.tar").open("wb") as file:
                with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                    for clip in clips[begin : begin + _PER_SHARD]:
                        for key, ref in clip.assets.items():
                            tar.add(store.local(ref.path), f"{clip.id}.{key}")
                file.flush()
                os.fsync(file.fileno())


def _read_plain(tars: list[str], costs: list[Cost]) -> None:
    import webdataset

    with spent(costs):
        for sample in webdataset.WebDataset(tars, shardshuffle=False, empty_check=False):
            assert sample["__key__"]


def _read_ours(root: Path, first: list[Cost], second: list[Cost]) -> None:
    """One epoch that verifies every shard, and one that has."""
    data = open_shards(root)
    for costs in (first, second):
        with spent(costs):
            for sample in data:
                assert sample.members
