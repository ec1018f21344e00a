"""Small packed builds of made-up people, for tests of what INFP learns from. Everything says where it comes from.

Clip c has `FRAMES[c % 3]` frames. In frame t, the depth of landmark 0 is t and that of landmark 1 is 2 c + person; latents
begin (c, person, t); and a voice has a level of its own in each frame. Faces nod, turn and talk; their colour is the clip's.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from dyconv.records import PERSONS, Clip, Key, Person, Source, Track, Turn
from dyconv.shards import pack
from dyconv.store import Store
from dyconv.time import Span

FRAMES = (40, 90, 64)
SIZE = 64
LATENT = 8
SPACE = "a" * 64
PACK = (
    *(Key.P0_VOICE, Key.P1_VOICE, Key.P0_FACE, Key.P1_FACE),
    *(Key.P0_CROP, Key.P1_CROP, Key.P0_MOTION, Key.P1_MOTION),
)


def make_build(
    root: str | Path,
    scratch: Path,
    *,
    one_sided: Sequence[int] = (),
    talks: Sequence[int] = (),
    unseen: Sequence[int] = (),
    space: str = SPACE,
    per_shard: int = 2,
) -> str:
    """A build of clips by number: of one person (p0, the other neither seen nor heard), of conversations, of voices only."""
    store = Store(root)
    scratch.mkdir(parents=True, exist_ok=True)
    kinds = {**dict.fromkeys(one_sided, 1), **dict.fromkeys(talks, 2), **dict.fromkeys(unseen, 0)}
    recipe = Recipe(name="made", about="", stages=(), pack=PACK, samples_per_shard=per_shard)
    clips = [_clip(store, scratch, number, people, space) for number, people in kinds.items()]
    pack(store, recipe, sorted(clips, key=lambda clip: clip.id))
    return str(root)


def frames_of(clip: int) -> int:
    return FRAMES[clip % len(FRAMES)]


def present_of(clip: int, person: int) -> np.ndarray:
    """Bool [T]: p1 of every clip hides for the first eight frames."""
    present = np.ones(frames_of(clip), bool)
    present[:8] = person == 0
    return present


def landmarks_of(clip: int, person: int) -> np.ndarray:
    """Float32 [T, 478, 3] in pixels of the face video."""
    mesh, frames = MeshMotion(), frames_of(clip)
    time = np.arange(frames) / 25
    motion = np.zeros((frames, len(mesh.names)), np.float32)
    names = list(mesh.names)
    motion[:, names.index("head_scale")] = 0.35
    motion[:, names.index("head_yaw")] = 0.3 * np.sin(2 * time + clip)
    motion[:, names.index("head_roll")] = 0.1 * np.cos(3 * time + person)
    motion[:, names.index("head_y")] = -0.1
    motion[:, names.index("mouth_open")] = 0.06 * (1 + np.sin(9 * time))
    motion[:, names.index("eye_open_left")] = -0.03
    points = mesh.pose(motion, SIZE)
    points[:, 0, 2], points[:, 1, 2] = np.arange(frames), 2 * clip + person
    return points


def level_of(clip: int, person: int) -> np.ndarray:
    """Level of the voice in each frame, float32 [T]: p0 pauses for a second, p1 speaks only then, all are silent at the end."""
    frame = np.arange(frames_of(clip))
    level = (0.1 + frame / 400 + 0.01 * person) * (1 + 0.02 * (clip % 5))
    pausing = (frame >= 8) & (frame < 33)
    return np.where((pausing == bool(person)) & (frame < len(frame) - 5), level, 0).astype(np.float32)


def _clip(store: Store, scratch: Path, number: int, people: int, space: str) -> Clip:
    frames, heard = frames_of(number), max(people, 1)
    span = Span(Fraction(10 * number), Fraction(10 * number) + Fraction(frames, 25))
    cut = 50 if frames == 90 else frames
    shots = (Span.of_frames(0, cut), *((Span.of_frames(cut, frames),) if cut < frames else ()))
    clip = Clip(
        id=f"talk{number % 4}_{number:04d}",
        source=Source(id=f"talk{number % 4}", url="https://example.org/talk", licence="CC-BY-4.0"),
        span=span,
        shots=shots,
        tracks=tuple(Track(f"t{at}", 0, 0, cut, 80.0, 1.0, f"i{at}", PERSONS[at]) for at in range(people)),
        people=tuple(Person(name, None, at < people, at < heard) for at, name in enumerate(PERSONS)),
        turns=tuple(Turn(PERSONS[at], Span.of_frames(0, frames), 1.0) for at in range(heard)),
        measures={"motion.encoder": "made", "motion.hash": space} if people else {},
    )
    refs = {}
    for at, name in enumerate(PERSONS):
        made = {"voice": scratch / f"{clip.id}.{name}.flac"}
        write_audio(made["voice"], np.repeat(level_of(number, at) * (at < heard), 640))
        if at < people:
            made |= {what: scratch / f"{clip.id}.{name}.{what}" for what in ("face", "crop", "motion")}
            made["face"] = made["face"].with_suffix(".mp4")
            _face(made["face"], number, at)
            points, present = pack_points(landmarks_of(number, at)), present_of(number, at)
            save_arrays(made["crop"], {"box": np.zeros(4, np.float32), "present": present, "landmarks": points})
            latents = np.zeros((frames, LATENT), np.float32)
            latents[:, 0], latents[:, 1], latents[:, 2] = number, at, np.arange(frames)
            save_arrays(made["motion"], {"latents": latents, "present": present})
        refs |= {Key.of(name, what): store.put(path, f"work/{path.name}") for what, path in made.items()}
    return replace(clip, assets=refs)


def _face(path: Path, clip: int, person: int) -> None:
    import cv2

    with VideoWriter(path, SIZE, SIZE, crf=10) as writer:
        for points in landmarks_of(clip, person):
            picture = np.full((SIZE, SIZE, 3), 60, np.uint8)
            hull = cv2.convexHull(points[:468, :2].astype(np.int32))
            cv2.fillConvexPoly(picture, hull, (120 + 12 * (clip % 10), 150, 110 + 60 * person))
            for at, colour in ((33, (250, 20, 20)), (263, (20, 20, 250)), (13, (250, 250, 20))):
                cv2.circle(picture, tuple(points[at, :2].astype(int).tolist()), 3, colour, -1)
            writer.write(picture)
