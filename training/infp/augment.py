"""Changes to what is learnt from that leave it true: pictures mirrored, moved and coloured, voices louder and softer.

Every draw comes from the generator of its row.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from dyconv.faces import MESH_POINTS, POINTS

_IRISES = (468, 473)  # first of five points of the right and the left one
_ZOOM = 0.08  # of the picture's scale, to either side
_SHIFT = 0.04  # of the picture's width
_BRIGHTNESS, _CONTRAST, _SATURATION, _CHANNEL = 0.12, 0.2, 0.3, 0.06
_MASK_COLOUR = 0.7  # strength of the colour change that a mask alone gets


@cache
def twins() -> np.ndarray:
    """For each of the 478 points, the one on the other side of the face; points of the middle are their own.

    The canonical face is symmetric to the last digit, so each mesh point's mirror image is a mesh point. Both irises' rings
    begin at their outer side (see `mesh_motion`), so they go over into one another in their order.
    """
    from dyconv.models.mesh_basis import canonical

    face = canonical()
    apart = np.linalg.norm(face[:, None] - face[None] * [-1.0, 1.0, 1.0], axis=-1)
    right, left = (np.arange(first, first + 5) for first in _IRISES)
    out = np.concatenate([apart.argmin(axis=1), left, right])
    if len(out) != POINTS or not np.array_equal(out[out], np.arange(POINTS)) or apart.min(axis=1).max() > 1e-9:
        raise ValueError(f"the canonical face of {MESH_POINTS} points is not symmetric")
    return out


def mirrored(pictures: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [T, S, S, 3] seen in a mirror, and landmarks [T, 478, 3] in their pixels: a right eye becomes a left one."""
    swapped = points[:, twins()].copy()
    swapped[..., 0] = pictures.shape[2] - swapped[..., 0]
    return np.ascontiguousarray(pictures[:, :, ::-1]), swapped


def moved(pictures: np.ndarray, points: np.ndarray, zoom: float, shift: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The same window cut elsewhere: the content `zoom` times as large, its centre moved by `shift` (shares of the width).

    What comes in from outside is filled with the nearest pixels, as in the crop itself.
    """
    import cv2

    size = pictures.shape[1]
    offset = (1 - zoom) * size / 2 + np.array(shift) * size  # in coordinates in which a pixel's centre is at a half
    inner = offset + (zoom - 1) / 2  # in cv2's, in which it is at a whole number
    matrix = np.array([[zoom, 0, inner[0]], [0, zoom, inner[1]]])
    out = [
        cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        for picture in pictures
    ]
    there = points * np.float32(zoom)
    there[..., :2] += offset.astype(np.float32)
    return np.stack(out), there


def coloured(pictures: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Pictures uint8 [T, S, S, 3] with another brightness, contrast, saturation and white balance, one for all of them."""
    brightness, contrast, saturation, *channels = strength * rng.uniform(-1, 1, 6)
    gain = (1 + _CONTRAST * contrast) * (1 + _CHANNEL * np.array(channels))
    grey = np.array([0.299, 0.587, 0.114])
    mix = (1 + _SATURATION * saturation) * np.eye(3) - _SATURATION * saturation * grey[None, :]
    matrix = (gain[:, None] * mix).astype(np.float32)
    offset = (127.5 * (1 - gain) + 255 * _BRIGHTNESS * brightness).astype(np.float32)
    import cv2

    transform = np.column_stack([matrix, offset])
    return np.stack([cv2.transform(picture, transform) for picture in pictures])


def changed(pictures: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Frames of one clip, all changed alike: half of the time mirrored, half of the time moved, always coloured."""
    mirror, move = rng.random(2) < 0.5
    zoom, across, down = rng.uniform(-1, 1, 3)
    if mirror:
        pictures, points = mirrored(pictures, points)
    if move:
        pictures, points = moved(pictures, points, float(1 + _ZOOM * zoom), (_SHIFT * across, _SHIFT * down))
    return coloured(pictures, rng), points


def for_masks(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pictures coloured once more, before they are masked: a motion encoder must not tell the colour of what it sees."""
    return np.concatenate([coloured(picture[None], rng, _MASK_COLOUR) for picture in pictures])
