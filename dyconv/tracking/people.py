"""The same person in several tracks: descriptors taken along a track, and tracks grouped over a segment's shots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dyconv.models.slots import FaceIdentity
from dyconv.tracking.follow import Path

_FIRST, _THEN = 4, 8  # descriptors at the first four looks of a track, then at every eighth
_SHARED = 8  # frames in which two tracks must be seen together to be two people: a track lingers for some where a face jumps


class Sampler:
    """Takes descriptors of a path while it is followed: often at first, then now and then."""

    def __init__(self, identity: FaceIdentity) -> None:
        self._identity = identity

    def __call__(self, path: Path, image: np.ndarray) -> None:
        count = len(path.seen) - 1
        if count < _FIRST or count % _THEN == 0:
            points = path.points[-1]
            path.descriptors.append((self._identity.embed(image, points), frontal(points)))


def frontal(points: np.ndarray) -> float:
    """1 for a face that looks into the camera, near 0 for a profile: how evenly the nose lies between the cheeks."""
    right, left = (float(np.hypot(*(points[1, :2] - points[cheek, :2]))) for cheek in (234, 454))
    return max(0.05, 1 - abs(right - left) / max(right + left, 1e-6))


def descriptor(path: Path) -> np.ndarray:
    """One L2-normalised descriptor of the track; frontal views count for more."""
    total = np.sum([vector * weight for vector, weight in path.descriptors], axis=0)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-9))


@dataclass(frozen=True)
class Seen:
    """What grouping needs of one track."""

    frames: np.ndarray  # int [n]
    descriptor: np.ndarray  # float [D], unit length


def group(tracks: Sequence[Seen], threshold: float) -> list[str]:
    """Identities `i0`, `i1`, ... of the tracks, by descending screen time (the earlier one first where it is equal).

    The two groups with the highest mean cosine similarity are merged, again and again, while it is at least `threshold`.
    Tracks seen in the same frames are different people, however alike.
    """
    if not tracks:
        return []
    groups = [[index] for index in range(len(tracks))]
    vectors = np.stack([track.descriptor for track in tracks])
    similarity = vectors @ vectors.T
    apart = np.array([[_together(one, other) for other in tracks] for one in tracks])
    while True:
        best, pair = threshold, None
        for i in range(len(groups)):
            for j in range(i + 1, len(groups)):
                block = np.ix_(groups[i], groups[j])
                if not apart[block].any() and similarity[block].mean() >= best:
                    best, pair = float(similarity[block].mean()), (i, j)
        if pair is None:
            break
        groups[pair[0]] += groups.pop(pair[1])
    time = [sum(len(tracks[k].frames) for k in members) for members in groups]
    first = [min(int(tracks[k].frames[0]) for k in members) for members in groups]
    order = sorted(range(len(groups)), key=lambda g: (-time[g], first[g], min(groups[g])))
    names = {k: f"i{rank}" for rank, g in enumerate(order) for k in groups[g]}
    return [names[k] for k in range(len(tracks))]


def _together(one: Seen, other: Seen) -> bool:
    return one is not other and len(np.intersect1d(one.frames, other.frames, assume_unique=True)) >= _SHARED
