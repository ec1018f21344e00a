"""Square grey pictures of mouth or face for models that watch lips."""

from __future__ import annotations

import numpy as np

from dyconv.faces import LEFT_EYE, RIGHT_EYE
from dyconv.models.mediapipe_litert import Square

_OUTER = (RIGHT_EYE[0], LEFT_EYE[0])
_CORNERS = (61, 291)  # of the mouth


def mouth_picture(image: np.ndarray, landmarks: np.ndarray, size: int, reach: float) -> np.ndarray:
    """Mouth and chin, upright, as wide as `reach` times the distance of the outer eye corners.

    The distance is taken in three dimensions, so that a turned head is not seen larger.

    Args:
        image: uint8 RGB [H, W, 3].
        landmarks: float32 [478, 3] in its pixels.

    Returns:
        uint8 [size, size].
    """
    across = landmarks[_OUTER[1]] - landmarks[_OUTER[0]]
    side = reach * max(float(np.linalg.norm(across)), 4.0)
    middle = landmarks[list(_CORNERS), :2].mean(axis=0)
    return _grey(image, Square(float(middle[0]), float(middle[1]), side, float(np.arctan2(across[1], across[0]))), size)


def face_picture(image: np.ndarray, box: np.ndarray, size: int, side: float, lower: float) -> np.ndarray:
    """A square of the face, as it stands in the picture.

    Args:
        image: uint8 RGB [H, W, 3].
        box: float32 [4], x0 y0 x1 y1.
        side: of the square, in longer sides of the box.
        lower: how far its centre lies below the box's, in longer sides of the box.

    Returns:
        uint8 [size, size].
    """
    longer = max(float(box[2] - box[0]), float(box[3] - box[1]), 4.0)
    x, y = float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2
    return _grey(image, Square(x, y + lower * longer, side * longer, 0.0), size)


def _grey(image: np.ndarray, square: Square, size: int) -> np.ndarray:
    import cv2

    return np.asarray(cv2.cvtColor(square.crop(image, size), cv2.COLOR_RGB2GRAY))
