"""What a trained Stage 1 and Stage 2 are measured on: the people of a build, and what is said of their motion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dyconv.faces import unpack_points
from dyconv.infp.mask import at_size
from dyconv.records import PERSONS, Key
from dyconv.shards import Sample, open_shards

_NEEDED = ("face", "crop")


@dataclass(frozen=True)
class Seen:
    """One person of a clip, as far as they are seen.

    Attributes:
        clip, person: who.
        pictures: uint8 [n, S, S, 3] of the frames `frames` int64 [n], all of which show the face.
        landmarks: float32 [n, 478, 3] in their pixels.
        count: frames of the clip.
        voice: float32 [count * 640], empty for somebody never heard.
    """

    clip: str
    person: str
    pictures: np.ndarray
    landmarks: np.ndarray
    frames: np.ndarray
    count: int
    voice: np.ndarray


def people_of(build: str, size: int, *, every: int = 1, voices: bool = False) -> Iterator[Seen]:
    """People of a build's clips, in order, with every n-th frame at a size."""
    wanted = [Key.of(person, what) for person in PERSONS for what in (*_NEEDED, *(("voice",) if voices else ()))]
    for sample in open_shards(build, keys=wanted, motion=False):
        for person in PERSONS:
            if all(Key.of(person, what) in sample for what in _NEEDED):
                yield _seen(sample, person, size, every)


def _seen(sample: Sample, person: str, size: int, every: int) -> Seen:
    crop = sample.arrays(Key.of(person, "crop"))
    frames = np.flatnonzero(crop["present"])[::every]
    pictures = sample.frames(Key.of(person, "face"))
    shown, landmarks = at_size(pictures[frames], unpack_points(crop["landmarks"])[frames], size)
    voice = Key.of(person, "voice")
    sound = sample.audio(voice) if voice in sample else np.zeros(0, np.float32)
    return Seen(sample.id, person, shown, landmarks, frames, len(pictures), sound)
