"""`mesh` motion: head pose, gaze and expression from the face mesh, 64 readable numbers a frame.

Landmarks Y (crop pixels) are taken as s R (C + D) + t: the canonical face C with a displacement D, turned, scaled and
moved. s, R and t come from the points of the skull (weighted Procrustes; Umeyama 1991), so that speech and mimicry stay in D.
D is then coded by the fixed linear basis of `mesh_basis`. Columns, in order:

- `head_yaw`, `head_pitch`, `head_roll`, radians: the nose turns to the picture's right, up, and the head tilts clockwise.
  R = Rz(roll) Rx(-pitch) Ry(-yaw), with x to the right, y down, z away from the camera.
- `head_x`, `head_y`: where the middle between the outer eye corners is, in crop widths from the crop's centre.
- `head_scale`: the outer-eye distance in crop widths.
- `gaze_right_x`, ..., `gaze_left_y`: iris centre from the middle between that eye's corners, in eye widths, in the
  canonical frame (x to the picture's right, y down).
- the expressions and shape coefficients of `mesh_basis`, outer-eye distances; 0 is the canonical face.

Landmarks are drawn again from it by `decode` and `pose`: mean distance 1.1 % of the outer-eye distance in the picture, over
1,429 frames of 63 real heads that took no part in making the basis. Depth comes back up to a constant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from dyconv.faces import LEFT_EYE, MESH_POINTS, POINTS, RIGHT_EYE
from dyconv.models.mesh_basis import EXPRESSIONS, PLACES, basis
from dyconv.records import dump

VERSION = 1
# Points that mimicry hardly moves: forehead, temples, nose bridge and base, eye corners.
_SKULL: tuple[int, ...] = (10, 151, 9, 8, 338, 109, 67, 297, 103, 332, 54, 284, 21, 251, 162, 389, 127, 356, 234, 454)
_SKULL += (168, 6, 197, 195, 5, 4, 2, 33, 133, 362, 263)
POSE = ("head_yaw", "head_pitch", "head_roll", "head_x", "head_y", "head_scale")
GAZE = ("gaze_right_x", "gaze_right_y", "gaze_left_x", "gaze_left_y")
_IRIS_RADIUS = 0.194  # in eye widths: 11.7 mm of iris across a lid opening of 30 mm
_RINGS = (
    (RIGHT_EYE, 468, ((1, 0), (0, -1), (-1, 0), (0, 1))),
    (LEFT_EYE, 473, ((-1, 0), (0, -1), (1, 0), (0, 1))),
)
_DECIMALS = 5  # rounding hides what differs between processors in the last bits


class MeshMotion:
    """The `mesh` motion encoder. Needs no pictures, no weights and no set-up."""

    name = "mesh"

    def __init__(self) -> None:
        self._basis = basis()
        self.names: Sequence[str] = (*POSE, *GAZE, *self._basis.names)
        space = [VERSION, self.names, _SKULL, _IRIS_RADIUS, EXPRESSIONS, PLACES, np.rint(self._basis.canonical * 1e4).tolist()]
        self.hash = hashlib.sha256(dump(space)).hexdigest()

    def encode(self, frames: Sequence[np.ndarray], landmarks: np.ndarray) -> np.ndarray:
        """Motion float32 [T, 64] of landmarks [T, 478, 3] in pixels of pictures uint8 [T, S, S, 3].

        Only the size of the first picture is used.
        """
        if not len(landmarks):
            return np.zeros((0, len(self.names)), np.float32)
        size = frames[0].shape[1]
        points = landmarks.astype(np.float64)
        scale, rotation, shift = fit_pose(points[:, :MESH_POINTS], self._basis.canonical)
        face = np.einsum("tji,tnj->tni", rotation, points - shift[:, None]) / scale[:, None, None]
        displacement = (face[:, :MESH_POINTS] - self._basis.canonical).reshape(len(points), -1)
        place = np.column_stack([(shift[:, :2] - size / 2) / size, scale / size])
        parts = [angles_of(rotation), place, _gaze(face), displacement @ self._basis.encode.T]
        return np.round(np.concatenate(parts, 1), _DECIMALS).astype(np.float32)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Landmarks float32 [T, 478, 3] in the canonical frame (facing the camera, outer-eye distances)."""
        values = latents.astype(np.float64)
        coefficients = values[:, len(POSE) + len(GAZE) :]
        mesh = (coefficients @ self._basis.decode).reshape(-1, MESH_POINTS, 3) + self._basis.canonical
        out = np.concatenate([mesh, np.zeros((len(mesh), POINTS - MESH_POINTS, 3))], 1)
        for side, ((outer, inner), first, ring) in enumerate(_RINGS):
            middle, width = _eye(mesh, outer, inner)
            gaze = values[:, len(POSE) + 2 * side : len(POSE) + 2 * side + 2]
            out[:, first : first + 5] = middle[:, None]
            out[:, first : first + 5, :2] += (gaze * width[:, None])[:, None]
            out[:, first + 1 : first + 5, :2] += np.array(ring) * _IRIS_RADIUS * width[:, None, None]
        return out.astype(np.float32)

    def pose(self, latents: np.ndarray, size: int) -> np.ndarray:
        """Like `decode`, with the head's pose: landmarks float32 [T, 478, 3] in pixels of a crop `size` pixels wide."""
        values = latents.astype(np.float64)
        face = self.decode(latents)
        rotation = rotation_of(values[:, :3])
        shift = np.column_stack([(values[:, 3:5] + 0.5) * size, np.zeros(len(values))])
        turned = np.einsum("tij,tnj->tni", rotation, face) * (values[:, 5] * size)[:, None, None]
        return (turned + shift[:, None]).astype(np.float32)


def fit_pose(points: np.ndarray, model: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale [T], rotation [T, 3, 3] and shift [T, 3] that bring the skull of `model` [468, 3] nearest to `points` [T, 468, 3].

    Least squares over similarities: Umeyama, Least-squares estimation of transformation parameters, PAMI 13(4), 1991.
    """
    index = list(_SKULL)
    source = model[index] - model[index].mean(0)
    middle = points[:, index].mean(1)
    target = points[:, index] - middle[:, None]
    left, singular, right = np.linalg.svd(np.einsum("tni,nj->tij", target, source))
    signs = np.ones_like(singular)
    signs[:, 2] = np.sign(np.linalg.det(left @ right))  # no mirror images
    rotation = (left * signs[:, None, :]) @ right
    scale = (singular * signs).sum(1) / (source**2).sum()
    shift = middle - scale[:, None] * (rotation @ model[index].mean(0))
    return scale, rotation, shift


def rotation_of(angles: np.ndarray) -> np.ndarray:
    """Rotations [T, 3, 3] = Rz(roll) Rx(-pitch) Ry(-yaw) from [T, 3] yaw, pitch, roll in radians."""
    (sy, sp, sr), (cy, cp, cr) = np.sin(angles.T), np.cos(angles.T)
    zero, one = np.zeros_like(sy), np.ones_like(sy)
    yaw = np.array([[cy, zero, -sy], [zero, one, zero], [sy, zero, cy]])
    pitch = np.array([[one, zero, zero], [zero, cp, sp], [zero, -sp, cp]])
    roll = np.array([[cr, -sr, zero], [sr, cr, zero], [zero, zero, one]])
    return np.asarray(np.einsum("ijt,jkt,klt->til", roll, pitch, yaw))


def angles_of(rotation: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll [T, 3] in radians of rotations [T, 3, 3]; the inverse of `rotation_of` for |pitch| < 90 degrees."""
    pitch = -np.arcsin(np.clip(rotation[:, 2, 1], -1, 1))
    yaw = np.arctan2(rotation[:, 2, 0], rotation[:, 2, 2])
    roll = np.arctan2(-rotation[:, 0, 1], rotation[:, 1, 1])
    return np.column_stack([yaw, pitch, roll])


def _eye(face: np.ndarray, outer: int, inner: int) -> tuple[np.ndarray, np.ndarray]:
    """Middle [T, 3] between an eye's corners, and its width [T] in the picture plane."""
    middle = (face[:, outer] + face[:, inner]) / 2
    return middle, np.linalg.norm((face[:, outer] - face[:, inner])[:, :2], axis=1)


def _gaze(face: np.ndarray) -> np.ndarray:
    parts = []
    for (outer, inner), first, _ in _RINGS:
        middle, width = _eye(face, outer, inner)
        parts.append((face[:, first, :2] - middle[:, :2]) / width[:, None])
    return np.concatenate(parts, 1)
