"""Who is who within one source, without learned weights: how the aligned face, the hair and the clothes look.

It compares colours and gradients, so it holds only where light, clothes and camera stay alike: within one source. It is
not a face recogniser and says so by `scope`.
"""

from __future__ import annotations

import numpy as np

from dyconv.faces import LEFT_EYE, RIGHT_EYE, face_box
from dyconv.models.mediapipe_litert import Square

_SIZE = 64
_CELLS = 8
_BINS = 8
_SHARES = {"head": 0.35, "face": 0.25, "clothes": 0.4}  # of the cosine similarity


class Appearance:
    """Descriptor of the colours of head and clothes and of the gradients of the face."""

    scope = "source"
    threshold = 0.55

    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """L2-normalised descriptor float32 [D] of the face with these landmarks [478, 3] in uint8 RGB `image`."""
        import cv2

        box = face_box(landmarks)
        across = landmarks[list(LEFT_EYE), :2].mean(0) - landmarks[list(RIGHT_EYE), :2].mean(0)
        angle = float(np.arctan2(across[1], across[0]))
        x, y = (box[:2] + box[2:]) / 2
        side = float(max(box[2] - box[0], box[3] - box[1]))
        head = cv2.cvtColor(Square(float(x), float(y - 0.1 * side), 1.7 * side, angle).crop(image, _SIZE), cv2.COLOR_RGB2LAB)
        face = Square(float(x), float(y), side, angle).crop(image, _SIZE)
        parts = {
            "head": _colours(head, _CELLS // 2),
            "face": _gradients(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)),
            "clothes": self._clothes(image, box),
        }
        vector = np.concatenate([np.sqrt(_SHARES[name]) * part for name, part in parts.items()])
        return (vector / max(float(np.linalg.norm(vector)), 1e-6)).astype(np.float32)

    def _clothes(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Colours of the chest, all zero where the picture ends at the chin."""
        import cv2

        height, width = image.shape[:2]
        side = float(box[3] - box[1])
        centre = float(box[0] + box[2]) / 2
        left, right = max(0, int(centre - 0.8 * side)), min(width, int(centre + 0.8 * side))
        top, bottom = int(box[3] + 0.25 * side), min(height, int(box[3] + 1.1 * side))
        if bottom - top < 0.25 * side or right - left < 0.5 * side:
            return np.zeros_like(_colours(np.zeros((_SIZE, _SIZE, 3), np.uint8), 1))
        patch = cv2.resize(image[top:bottom, left:right], (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
        return _colours(cv2.cvtColor(patch, cv2.COLOR_RGB2LAB), 1)


def _colours(lab: np.ndarray, cells: int) -> np.ndarray:
    """Square-rooted colour histograms over a grid, unit length: their dot product is the Bhattacharyya coefficient."""
    light = np.minimum(lab[..., 0] // 43, 5).astype(int)
    a, b = (np.clip((lab[..., k].astype(int) - 128 + 36) // 9, 0, _BINS - 1) for k in (1, 2))
    code = (light * _BINS + a) * _BINS + b
    step = len(lab) // cells
    rows = []
    for row in range(cells):
        for column in range(cells):
            part = code[row * step : (row + 1) * step, column * step : (column + 1) * step]
            rows.append(np.bincount(part.reshape(-1), minlength=6 * _BINS * _BINS))
    counts = np.concatenate(rows).astype(np.float32)
    return np.sqrt(counts / counts.sum())


def _gradients(grey: np.ndarray) -> np.ndarray:
    """Gradient directions over a grid of cells, each cell normalised, around the mean of all: unit length."""
    smooth = grey.astype(np.float32)
    dx, dy = np.gradient(smooth, axis=1), np.gradient(smooth, axis=0)
    size = np.hypot(dx, dy)
    direction = ((np.arctan2(dy, dx) % np.pi) / np.pi * _BINS).astype(int) % _BINS
    step = _SIZE // _CELLS
    rows = np.arange(_SIZE) // step
    cell = rows[:, None] * _CELLS + rows[None]
    flat = np.bincount((cell * _BINS + direction).reshape(-1), size.reshape(-1), minlength=_CELLS * _CELLS * _BINS)
    cells = flat.reshape(-1, _BINS)
    cells = cells / (np.linalg.norm(cells, axis=1, keepdims=True) + 4.0)
    vector = cells.reshape(-1) - cells.mean()
    return (vector / max(float(np.linalg.norm(vector)), 1e-6)).astype(np.float32)
