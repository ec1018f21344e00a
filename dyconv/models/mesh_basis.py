"""The linear face space of `mesh` motion: 21 measured expressions and 33 smooth deformations of one canonical face.

Made by hand, from the geometry of a drawn face (`mesh_drawing`) alone: no data set went into it, nothing was trained.

Let D be the displacement [468, 3] of a face from the canonical one, head pose removed, in outer-eye distances.

1. Expressions are linear measurements m = M D: distances and heights a person can check on a picture (how far apart are
   the lips, how high is this brow). The displacement that goes with them is the smoothest one that measures so: F = K M' (M
   K M')^-1, for a Gaussian kernel K over the canonical face (the minimum-norm interpolant of a reproducing kernel Hilbert
   space; Wahba 1990, Spline Models for Observational Data). So M F = I: expressions do not disturb one another.
2. What is left, D - F m, is fitted by least squares with 33 smooth bumps: one at each of 11 places, along x, y and z,
   each of height 1 at its own place and 0 at the others, and made blind to the expressions (M S = 0). They carry the shape of
   the face and whatever the expressions miss.

In K the lips are held apart, and so are the lids, so that what moves one does not drag the other along.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from dyconv.faces import MESH_POINTS
from dyconv.models.mesh_drawing import CANONICAL, UNITS

_UPPER_LIP = (191, 80, 81, 82, 13, 312, 311, 310, 415)  # inner edges, without the corners
_LOWER_LIP = (95, 88, 178, 87, 14, 317, 402, 318, 324)
_UPPER_LIDS = (246, 161, 160, 159, 158, 157, 173, 466, 388, 387, 386, 385, 384, 398)
_LIP_GAP = 0.3  # outer-eye distances, as are all lengths here
_LID_GAP = 0.08
_EXPRESSION_KERNEL = ((1.0, 0.8), (0.3, 0.3), (0.1, 0.12))  # (weight, width) of each Gaussian
_SHAPE_KERNEL = ((1.0, 0.5),)

# Each measurement: (axis, points, weight) terms; the mean over the points is taken. x to the picture's right, y down, z away.
# Right and left are the person's own: the person's right is on the picture's left.
_Term = tuple[str, tuple[int, ...], float]
EXPRESSIONS: Mapping[str, tuple[_Term, ...]] = {
    "mouth_open": (("y", (14,), 1), ("y", (13,), -1)),
    "mouth_width": (("x", (291,), 1), ("x", (61,), -1)),
    "mouth_pucker": (("z", (13, 14, 0, 17), -1), ("z", (61, 291), 1)),
    "mouth_corner_right": (("y", (61,), -1), ("y", (2,), 1)),
    "mouth_corner_left": (("y", (291,), -1), ("y", (2,), 1)),
    "mouth_side": (("x", (13, 14), 1),),
    "upper_lip_raise": (("y", (0,), -1), ("y", (2,), 1)),
    "upper_lip_height": (("y", (13,), 1), ("y", (0,), -1)),
    "lower_lip_height": (("y", (17,), 1), ("y", (14,), -1)),
    "jaw_open": (("y", (152,), 1), ("y", (2,), -1)),
    "jaw_side": (("x", (152,), 1),),
    "jaw_forward": (("z", (152,), -1),),
    "brow_inner_right": (("y", (55, 107, 65), -1),),
    "brow_inner_left": (("y", (285, 336, 295), -1),),
    "brow_outer_right": (("y", (70, 105, 63), -1),),
    "brow_outer_left": (("y", (300, 334, 293), -1),),
    "brow_frown": (("x", (285,), -1), ("x", (55,), 1)),
    "eye_open_right": (("y", (145,), 1), ("y", (159,), -1)),
    "eye_open_left": (("y", (374,), 1), ("y", (386,), -1)),
    "cheek_raise_right": (("y", (50,), -1),),
    "cheek_raise_left": (("y", (280,), -1),),
}
PLACES: Mapping[str, int] = {
    "forehead": 10,
    "ear_right": 234,
    "ear_left": 454,
    "jaw_right": 150,
    "jaw_left": 379,
    "nose_tip": 4,
    "eye_corner_right": 33,
    "eye_corner_left": 263,
    "cheek_right": 205,
    "cheek_left": 425,
    "nose_bridge": 168,
}
_AXES = "xyz"


class Basis(NamedTuple):
    """Coefficients are `encode @ D`, a displacement is `coefficients @ decode`, with D flattened to 1404 numbers."""

    names: tuple[str, ...]  # 54: expressions, then shape
    canonical: np.ndarray  # float64 [468, 3]
    encode: np.ndarray  # float64 [54, 1404]
    decode: np.ndarray  # float64 [54, 1404]


@cache
def canonical() -> np.ndarray:
    """Float64 [468, 3], outer-eye distances, origin between the outer eye corners."""
    return np.array(json.loads(CANONICAL.read_text()), np.float64) / UNITS


@cache
def basis() -> Basis:
    face = canonical()
    apart = _apart(face)
    measure = _measurements()
    kernel = _kernel(apart, _EXPRESSION_KERNEL)
    spread = np.einsum("ij,ejk->eik", kernel, measure).reshape(len(measure), -1)
    measure = measure.reshape(len(measure), -1)
    fields = np.linalg.solve(measure @ spread.T, spread)
    shape = _bumps(_kernel(apart, _SHAPE_KERNEL), tuple(PLACES.values()))
    shape = shape - (shape @ measure.T) @ fields
    rest = np.eye(shape.shape[1]) - fields.T @ measure  # D - F m, as a matrix on D
    fit = np.linalg.solve(shape @ shape.T, shape) @ rest
    names = (*EXPRESSIONS, *(f"shape_{place}_{axis}" for place, axis in product(PLACES, _AXES)))
    return Basis(names, face, np.concatenate([measure, fit]), np.concatenate([fields, shape]))


def _apart(face: np.ndarray) -> np.ndarray:
    """The canonical face with its mouth and eyes opened: only distances between these points enter the kernel."""
    points = face.copy()
    line = (face[13, 1] + face[14, 1]) / 2
    taper = np.clip(1 - (face[:, 0] / (1.05 * face[291, 0])) ** 2, 0, 1)
    below = face[:, 1] > line
    below[list(_UPPER_LIP)] = False
    below[list(_LOWER_LIP)] = True
    points[:, 1] += np.where(below, _LIP_GAP * taper, 0.0)
    points[list(_UPPER_LIDS), 1] -= _LID_GAP
    return points


def _measurements() -> np.ndarray:
    out = np.zeros((len(EXPRESSIONS), MESH_POINTS, 3))
    for row, terms in zip(out, EXPRESSIONS.values(), strict=True):
        for axis, points, weight in terms:
            row[list(points), _AXES.index(axis)] += weight / len(points)
    return out


def _kernel(points: np.ndarray, gaussians: Sequence[tuple[float, float]]) -> np.ndarray:
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    return sum((weight * np.exp(-squared / (2 * width**2)) for weight, width in gaussians), np.zeros_like(squared))


def _bumps(kernel: np.ndarray, places: tuple[int, ...]) -> np.ndarray:
    """Displacements [33, 1404]: 1 at one place along one axis, 0 at the other places."""
    index = list(places)
    cardinal = np.linalg.solve(kernel[np.ix_(index, index)], kernel[index])
    out = np.zeros((len(places), 3, MESH_POINTS, 3))
    for axis in range(3):
        out[:, axis, :, axis] = cardinal
    return out.reshape(len(places) * 3, -1)
