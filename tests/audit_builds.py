"""Packed builds with many small clips, for tests of the audit app."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from dyconv.arrays import save_arrays
from dyconv.faces import pack_points
from dyconv.media.audio import write_audio
from dyconv.records import PERSONS, Clip, Key, Turn
from dyconv.runner import kept_clips
from dyconv.shards import pack
from dyconv.store import Store
from dyconv.time import SAMPLES_PER_FRAME, Span
from tests.small_build import FRAMES, NASTY, RECIPE, face_points, small_build, write_video

SEEN = (Key.MIX, Key.P0_VOICE, Key.P1_VOICE, Key.P0_FACE, Key.P1_FACE, Key.P0_CROP, Key.P1_CROP, Key.SPEECH)
TITLE = f"{NASTY}\n<img src=x onerror=document.title='owned'>"


def packed(folder: Path, count: int, keys: tuple[Key, ...] = SEEN) -> Store:
    """A folder with shards alone, as a release has them: `count` clips of 2 s with these files, two turns each and a third
    given to nobody."""
    made = small_build(folder / "made")
    first = _with_files(made, next(iter(kept_clips(made))), keys)
    clips = [_numbered(first, number) for number in range(count)]
    pack(made, replace(RECIPE, pack=keys), clips)
    shutil.move(Path(made.root) / "shards", folder / "out" / "shards")
    return Store(folder / "out")


def _numbered(clip: Clip, number: int) -> Clip:
    name = f"clip{number:04d}"
    return replace(clip, id=f"{name}_00000000_00002000", source=replace(clip.source, id=name, title=f"{number} {TITLE}"))


def _with_files(store: Store, clip: Clip, keys: tuple[Key, ...]) -> Clip:
    assets = {key: ref for key, ref in clip.assets.items() if key in keys}
    for key in set(keys) - set(assets):
        person, path = str(key).split(".")[0], Path(store.root) / f"new.{key}"
        if key in (Key.P0_VOICE, Key.P1_VOICE):
            time = np.arange(FRAMES * SAMPLES_PER_FRAME)
            write_audio(path, (0.3 * np.sin(time / (20 + 9 * PERSONS.index(person)))).astype(np.float32))
        elif key in (Key.P0_FACE, Key.P1_FACE):
            write_video(path, FRAMES)
        else:
            points = np.stack([face_points(np.array([96.0, 54.0]), frame / 10) for frame in range(FRAMES)])
            box = np.float32([0, 0, 192, 108])
            save_arrays(path, {"box": box, "landmarks": pack_points(points), "present": np.arange(FRAMES) >= 5})
        assets[key] = store.put(path, f"new/{key}")
    turns = (
        Turn("p0", Span.of_frames(0, 20), 0.9, agreement=0.875),
        Turn("p1", Span.of_frames(25, 40), 0.5),
        Turn(None, Span.of_frames(42, 50), 0.2, unsure=True),
    )
    return replace(clip, assets=assets, turns=turns)
