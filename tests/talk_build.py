"""A small build of drawn people who move their mouths as loud as they are, for tests of what learns from shards."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from dyconv.arrays import save_arrays
from dyconv.faces import pack_points
from dyconv.media.audio import write_audio
from dyconv.media.video import VideoWriter
from dyconv.models.mesh_motion import MeshMotion
from dyconv.recipe import Recipe
from dyconv.records import PERSONS, Clip, Key, Person, Ref, Source, Track, Turn
from dyconv.shards import pack
from dyconv.store import Store
from dyconv.time import SAMPLES_PER_FRAME, Span
from tests.test_infp_stage1 import faces

KEYS = tuple(Key.of(person, what) for person in PERSONS for what in ("voice", "face", "crop", "motion"))
SIZE = 64


def talk_build(root: Path, *, clips: int = 4, frames: int = 60, seed: int = 0, samples_per_shard: int = 2) -> Path:
    """Pack conversations in which p0 talks in the first half and p1 in the second."""
    store = Store(root)
    made = [_clip(store, root / "scratch", number, frames, seed) for number in range(clips)]
    pack(store, Recipe(name="talks", about="", stages=(), pack=KEYS, samples_per_shard=samples_per_shard), made)
    return root


def _clip(store: Store, scratch: Path, number: int, frames: int, seed: int) -> Clip:
    scratch.mkdir(parents=True, exist_ok=True)
    half = frames // 2
    mesh = MeshMotion()
    clip = Clip(
        id=f"talk{number}_{number:08d}",
        source=Source(id=f"talk{number}", url="https://example.org/talk", licence="CC-BY-4.0"),
        span=Span(Fraction(number), number + Fraction(frames, 25)),
        shots=(Span.of_frames(0, frames),),
        layout="split",
        tracks=tuple(Track(f"t{at}", 0, 0, frames, 40.0, 1.0, f"i{at}", person) for at, person in enumerate(PERSONS)),
        people=tuple(Person(person, f"i{at}", True, True) for at, person in enumerate(PERSONS)),
        turns=(Turn("p0", Span.of_frames(0, half), 0.9), Turn("p1", Span.of_frames(half, frames), 0.9)),
        measures={"motion.encoder": mesh.name, "motion.hash": mesh.hash},
    )
    refs: dict[Key, Ref] = {}
    for at, person in enumerate(PERSONS):
        rng = np.random.default_rng([seed, number, at])
        talks = (np.arange(frames) >= half) == bool(at)
        loud = talks * np.abs(np.sin(np.arange(frames) / (2.5 + rng.random())))
        yaw = 0.25 * np.sin(np.arange(frames) / 9 + 6 * rng.random())
        pictures, points = faces(
            [{"mouth_open": 0.1 * m, "jaw_open": 0.1 * m, "head_yaw": y} for m, y in zip(loud, yaw, strict=True)], SIZE
        )
        here = {what: scratch / f"{clip.id}.{Key.of(person, what)}" for what in ("voice", "face", "crop", "motion")}
        sound = 0.2 * rng.standard_normal(frames * SAMPLES_PER_FRAME) * np.repeat(loud, SAMPLES_PER_FRAME)
        write_audio(here["voice"], sound.astype(np.float32))
        with VideoWriter(here["face"], SIZE, SIZE) as writer:
            for picture in pictures:
                writer.write(picture)
        present = np.ones(frames, bool)
        box = np.array([0, 0, SIZE, SIZE], np.float32)
        save_arrays(here["crop"], {"box": box, "present": present, "landmarks": pack_points(points)})
        save_arrays(here["motion"], {"latents": mesh.encode(list(pictures[:1]), points), "present": present})
        refs |= {Key.of(person, what): store.put(path, f"work/{path.name}") for what, path in here.items()}
    return replace(clip, assets=refs)
