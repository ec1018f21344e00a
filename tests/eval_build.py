"""Small packed builds of a photographed face that turns and nods, for tests of the evaluator: detectors find it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from dyconv.arrays import save_arrays
from dyconv.faces import pack_points
from dyconv.infp.portraits import FaceModels, find_portrait
from dyconv.media.audio import write_audio
from dyconv.media.video import VideoWriter
from dyconv.recipe import Recipe
from dyconv.records import PERSONS, Clip, Key, Person, Source, Track, Turn
from dyconv.shards import pack
from dyconv.store import Store
from dyconv.time import Span

SIZE = 96
FRAMES = 40
PACK = (Key.P0_VOICE, Key.P1_VOICE, Key.P0_FACE, Key.P1_FACE, Key.P0_CROP, Key.P1_CROP)


@dataclass(frozen=True)
class Photo:
    """A face crop uint8 [SIZE, SIZE, 3] and its landmarks [478, 3]."""

    image: np.ndarray
    landmarks: np.ndarray

    def mirrored(self, models: FaceModels) -> Photo:
        return photo_of(np.ascontiguousarray(self.image[:, ::-1]), models)


def photo_of(picture: np.ndarray, models: FaceModels) -> Photo:
    """The face of a picture, cut out."""
    crop = find_portrait(picture, models).cut(SIZE)
    return Photo(crop.image, crop.landmarks)


def make_talks(root: Path, scratch: Path, models: FaceModels, *, clips: int = 3, alone: int = 0) -> str:
    """A build of conversations, each from a source of its own; the last `alone` of them show one person only.

    p0 speaks in the first half, p1 in the second; the voices are noise, as loud as the mouth of nobody.
    """
    from skimage import data

    store = Store(root)
    scratch.mkdir(parents=True, exist_ok=True)
    first = photo_of(np.asarray(data.astronaut()), models)
    photos = (first, first.mirrored(models))
    recipe = Recipe(name="photos", about="", stages=(), pack=PACK, samples_per_shard=2)
    made = [_clip(store, scratch, number, photos[: 1 if number >= clips - alone else 2]) for number in range(clips)]
    pack(store, recipe, made)
    return str(root)


def _clip(store: Store, scratch: Path, number: int, photos: tuple[Photo, ...]) -> Clip:
    half = FRAMES // 2
    turns = [Turn(PERSONS[at], Span.of_frames(half * at, half * (at + 1)), 1.0) for at in range(2)]
    clip = Clip(
        id=f"talk{number}_{number:04d}",
        source=Source(id=f"talk{number}", url="https://example.org/talk", licence="CC0-1.0", language="en"),
        span=Span(Fraction(0), Fraction(FRAMES, 25)),
        shots=(Span.of_frames(0, FRAMES),),
        layout="two-shot" if len(photos) > 1 else "single",
        tracks=tuple(Track(f"t{at}", 0, 0, FRAMES, 60.0, 1.0, f"i{at}", PERSONS[at]) for at in range(len(photos))),
        people=tuple(Person(name, None, at < len(photos), True) for at, name in enumerate(PERSONS)),
        turns=tuple(turns),
    )
    rng = np.random.default_rng(number)
    refs = {}
    for at, person in enumerate(PERSONS):
        loud = (np.arange(FRAMES) // half == at).astype(np.float32)
        files = {"voice": scratch / f"{clip.id}.{person}.flac"}
        write_audio(files["voice"], (rng.standard_normal(FRAMES * 640) * 0.1 * np.repeat(loud, 640)).astype(np.float32))
        if at < len(photos):
            files |= {"face": scratch / f"{clip.id}.{person}.mp4", "crop": scratch / f"{clip.id}.{person}.npz"}
            _film(files["face"], files["crop"], photos[at], rng.uniform(0, 6))
        refs |= {Key.of(person, what): store.put(path, f"work/{path.name}") for what, path in files.items()}
    return replace(clip, assets=refs)


def _film(video: Path, crop: Path, photo: Photo, phase: float) -> None:
    """The face, tilting and moving a little."""
    import cv2

    points = np.repeat(photo.landmarks[None], FRAMES, axis=0).astype(np.float32)
    with VideoWriter(video, SIZE, SIZE, crf=10) as writer:
        for index in range(FRAMES):
            turn = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), 8 * np.sin(index / 5 + phase), 1.0)
            turn[:, 2] += 2 * np.sin(index / 3 + phase), 0
            writer.write(cv2.warpAffine(photo.image, turn, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE))
            points[index, :, :2] = points[index, :, :2] @ turn[:, :2].T + turn[:, 2]
    save_arrays(crop, {"box": np.zeros(4, np.float32), "present": np.ones(FRAMES, bool), "landmarks": pack_points(points)})
