"""What a face does over time, read off its landmarks with the head's pose taken out: mouth, eyes, head.

Pose is the similarity that brings the skull of the canonical face nearest to the landmarks (`dyconv.models.mesh_motion`), so
that lengths in the head's frame are in outer-eye distances of an average face, and turning the head opens no mouth.
"""

from __future__ import annotations

import numpy as np

from dyconv.faces import LEFT_EYE, MESH_POINTS, RIGHT_EYE
from dyconv.infp.mask import MOUTH
from training.evaluation.evidence import Arrays, Chunk, Extraction, Shown
from training.evaluation.faces import VERSION as FACES

NAME = "curves"
INNER_LIPS = (78, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415, 95, 88, 178, 87, 14, 317, 402, 318, 324)
LIPS = (*MOUTH, *INNER_LIPS)  # outer and inner lip line
_MIDDLE = (13, 14)  # of the upper and the lower lip's inner edge
_LIDS = (  # outer and inner corner, then (upper, lower) pairs
    (RIGHT_EYE, ((160, 144), (159, 145), (158, 153))),
    (LEFT_EYE, ((387, 373), (386, 374), (385, 380))),
)


class Curves:
    """Arrays, zeros where the face is absent:

    - `curves.mouth` float32 [T]: how far the inner lips are apart, in outer-eye distances.
    - `curves.eyes` float32 [T]: lid opening over eye width, mean of both (the eye aspect ratio of Soukupova and Cech 2016).
    - `curves.head` float32 [T, 3]: yaw, pitch and roll in radians.
    - `curves.lips` float32 [T, 40, 2]: outer and inner lip line in the head's frame, in outer-eye distances.
    """

    name = NAME
    version = f"1.{FACES}"
    partner = False

    def begin(self, shown: Shown) -> Extraction:
        return _Reading()


class _Reading:
    def __init__(self) -> None:
        self._parts: list[Arrays] = []

    def feed(self, chunk: Chunk) -> None:
        self._parts.append(curves_of(chunk.landmarks, chunk.present))

    def finish(self) -> Arrays:
        names = self._parts[0]
        return {f"{NAME}.{name}": np.concatenate([part[name] for part in self._parts]) for name in names}


def curves_of(landmarks: np.ndarray, present: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of `Curves`, without the prefix, of landmarks [T, 478, 3] at any scale and bool [T]."""
    from dyconv.models.mesh_basis import canonical
    from dyconv.models.mesh_motion import angles_of, fit_pose

    shapes = {"mouth": (), "eyes": (), "head": (3,), "lips": (len(LIPS), 2)}
    out = {name: np.zeros((len(present), *shape), np.float32) for name, shape in shapes.items()}
    if not present.any():
        return out
    points = landmarks[present, :MESH_POINTS].astype(np.float64)
    scale, rotation, shift = fit_pose(points, canonical())
    face = np.einsum("tji,tnj->tni", rotation, points - shift[:, None]) / scale[:, None, None]
    out["mouth"][present] = face[:, _MIDDLE[1], 1] - face[:, _MIDDLE[0], 1]
    out["eyes"][present] = np.mean([_opening(face, *eye) for eye in _LIDS], axis=0)
    out["head"][present] = angles_of(rotation)
    out["lips"][present] = face[:, list(LIPS), :2]
    return out


def _opening(face: np.ndarray, corners: tuple[int, int], lids: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Mean distance of the lids over the distance of the corners, in the face's plane, float64 [T]."""
    flat = face[..., :2]
    gaps = [np.linalg.norm(flat[:, upper] - flat[:, lower], axis=1) for upper, lower in lids]
    return np.asarray(np.mean(gaps, axis=0) / np.linalg.norm(flat[:, corners[0]] - flat[:, corners[1]], axis=1))
