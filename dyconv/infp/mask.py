"""What the motion encoder is shown of a driver: eyes and mouth, and the rest of the face as dots.

The masked picture (INFP, section 3.2, and its re-implementations) keeps the pixels of a square around the mouth and one around
each eye. Everything else is black, with one white pixel at each of the 468 mesh points, which carry the head's
orientation. Training, pipeline and live use all call this code, so that the encoder sees the same thing everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dyconv.faces import MESH_POINTS

MOUTH = (61, 291, 0, 17, 37, 267, 39, 269, 40, 270, 185, 409, 84, 314, 91, 321, 146, 375, 181, 405)  # outer lip line
RIGHT_LIDS = (33, 133, 246, 161, 160, 159, 158, 157, 173, 7, 163, 144, 145, 153, 154, 155)
LEFT_LIDS = (263, 362, 466, 388, 387, 386, 385, 384, 398, 249, 390, 373, 374, 380, 381, 382)
_REGIONS = ((MOUTH, 1.4), (RIGHT_LIDS, 1.6), (LEFT_LIDS, 1.6))  # points, and how much larger than them the square is


def boxes_of(landmarks: np.ndarray) -> np.ndarray:
    """Squares float32 [T, 3, 4] (x0, y0, x1, y1) around mouth, right eye and left eye of landmarks [T, 478, 3]."""
    boxes = []
    for points, larger in _REGIONS:
        part = landmarks[:, list(points), :2]
        low, high = part.min(axis=1), part.max(axis=1)
        middle, half = (low + high) / 2, (high - low).max(axis=1, keepdims=True) * larger / 2
        boxes.append(np.concatenate([middle - half, middle + half], axis=1))
    return np.stack(boxes, axis=1).astype(np.float32)


def regions(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Bool [T, 3, size, size]: the pixels of the squares around mouth, right eye and left eye.

    A pixel belongs to a square that holds its centre.
    """
    boxes = boxes_of(landmarks)
    centres = np.arange(size, dtype=np.float32) + 0.5
    across = (centres >= boxes[..., 0:1]) & (centres < boxes[..., 2:3])
    down = (centres >= boxes[..., 1:2]) & (centres < boxes[..., 3:4])
    return down[..., :, None] & across[..., None, :]


def masked(
    images: np.ndarray, landmarks: np.ndarray, *, dropped: float = 0.0, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Masked driver pictures uint8 [T, S, S, 3].

    Args:
        images: uint8 RGB [T, S, S, 3].
        landmarks: float [T, 478, 3] in their pixels.
        dropped: share of dots that is left out, at random: so that no single point is relied on. For training only.
        rng: where that chance comes from.

    Raises:
        ValueError: if dots are to be dropped without `rng`, or if the shapes do not fit.
    """
    count, size = len(images), images.shape[1]
    if images.shape[1:] != (size, size, 3) or landmarks.shape[0] != count:
        raise ValueError(f"expected [T, S, S, 3] and [T, 478, 3], found {images.shape} and {landmarks.shape}")
    if dropped and rng is None:
        raise ValueError("dropping dots needs a random generator")
    shown = np.any(regions(landmarks, size), axis=1)
    out = np.asarray(np.where(shown[..., None], images, np.uint8(0)))
    points = np.floor(landmarks[:, :MESH_POINTS, :2]).astype(np.int64)
    drawn = np.all((points >= 0) & (points < size), axis=-1)
    if dropped and rng is not None:
        drawn &= rng.random(drawn.shape) >= dropped
    frame, point = np.nonzero(drawn)
    column, row = points[frame, point].T
    outside = ~shown[frame, row, column]
    out[frame[outside], row[outside], column[outside]] = 255
    return out


def at_size(images: Iterable[np.ndarray], landmarks: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Face pictures uint8 [T, size, size, 3] and landmarks [T, 478, 3] in their pixels, from square ones of any size.

    A mask is drawn after this, never before: a dot is one pixel of what the encoder sees.
    """
    import cv2

    pictures, scales = [], []
    for image in images:
        shrinks = image.shape[0] > size
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        pictures.append(image if image.shape[0] == size else cv2.resize(image, (size, size), interpolation=method))
        scales.append(size / image.shape[0])
    if not pictures:
        return np.zeros((0, size, size, 3), np.uint8), landmarks[:0].astype(np.float32)
    return np.stack(pictures), (landmarks * np.array(scales)[:, None, None]).astype(np.float32)
