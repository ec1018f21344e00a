"""Where the canonical face comes from: a drawing, not a person.

A face of ellipses and polygons, symmetric by construction, is drawn here, and the landmark model (Apache-2.0) says where
its 468 mesh points are. Averaged with its own mirror image that is a neutral face with a closed mouth, in nobody's
likeness and free of any data set's terms. `python -m dyconv.models.mesh_drawing` writes `mesh_canonical.json` again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from dyconv.faces import MESH_POINTS

CANONICAL = Path(__file__).with_name("mesh_canonical.json")
UNITS = 10_000  # whole numbers in the file, one outer-eye distance
_SIZE = 512
_X = _SIZE // 2
_BOX = (135.0, 100.0, 377.0, 425.0)
_EYE_X, _EYE_Y = 47, 238


def draw() -> np.ndarray:
    """The drawing, uint8 RGB [512, 512, 3]."""
    import cv2

    image = np.full((_SIZE, _SIZE, 3), (170, 180, 190), np.uint8)
    cv2.ellipse(image, (_X, 235), (140, 185), 0, 0, 360, (60, 45, 35), -1, cv2.LINE_AA)
    cv2.rectangle(image, (_X - 60, 380), (_X + 60, _SIZE), (190, 145, 120), -1)
    image = _head(image)
    for side in (-1, 1):
        image = _eye(image, side)
    image = _nose(image)
    image = _mouth(image)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.6), np.uint8)


def _head(image: np.ndarray) -> np.ndarray:
    """An ellipsoid, narrower at the jaw, lit from the front."""
    rows, columns = np.mgrid[:_SIZE, :_SIZE]
    v = (rows - 262) / 160
    u = (columns - _X) / 118 / (1 - 0.22 * np.clip(v, 0, 1) ** 2)
    inside = u * u + v * v < 1
    shade = 0.62 + 0.38 * np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
    image[inside] = (np.array([225, 178, 150]) * shade[..., None])[inside].astype(np.uint8)
    return image


def _glaze(image: np.ndarray, layer: np.ndarray, opacity: float) -> np.ndarray:
    import cv2

    return np.asarray(cv2.addWeighted(image, 1 - opacity, layer, opacity, 0), np.uint8)


def _eye(image: np.ndarray, side: int) -> np.ndarray:
    import cv2

    x, y = _X + side * _EYE_X, _EYE_Y
    socket = cv2.ellipse(image.copy(), (x, y - 6), (32, 20), 0, 0, 360, (175, 130, 108), -1, cv2.LINE_AA)
    image = _glaze(image, socket, 0.4)
    cv2.ellipse(image, (x, y), (22, 10), 0, 0, 360, (245, 242, 240), -1, cv2.LINE_AA)
    for radius, colour in ((9, (70, 90, 60)), (4, (15, 15, 15))):
        cv2.circle(image, (x, y), radius, colour, -1, cv2.LINE_AA)
    cv2.ellipse(image, (x, y), (23, 11), 0, 180, 360, (50, 30, 25), 3, cv2.LINE_AA)
    cv2.ellipse(image, (x, y), (22, 10), 0, 0, 180, (140, 95, 80), 1, cv2.LINE_AA)
    brow = [(22, 214), (40, 203), (62, 204), (78, 214), (60, 210), (40, 211)]
    cv2.fillPoly(image, [_points(brow, side)], (70, 50, 40), cv2.LINE_AA)
    cheek = cv2.ellipse(image.copy(), (_X + side * 62, 305), (26, 20), 0, 0, 360, (225, 150, 130), -1, cv2.LINE_AA)
    return _glaze(image, cheek, 0.25)


def _nose(image: np.ndarray) -> np.ndarray:
    import cv2

    ridge = cv2.fillPoly(image.copy(), [_points([(-9, 240), (9, 240), (20, 300), (-20, 300)])], (240, 200, 175), cv2.LINE_AA)
    image = _glaze(image, ridge, 0.35)
    tip = cv2.ellipse(image.copy(), (_X, 300), (24, 12), 0, 20, 160, (150, 100, 85), 4, cv2.LINE_AA)
    for side in (-1, 1):
        cv2.circle(tip, (_X + side * 11, 304), 5, (95, 55, 45), -1, cv2.LINE_AA)
    return _glaze(image, tip, 0.6)


def _mouth(image: np.ndarray) -> np.ndarray:
    import cv2

    bow = [(-38, 344), (-18, 335), (-7, 332), (0, 335), (7, 332), (18, 335), (38, 344), (15, 345), (0, 346), (-15, 345)]
    lower = [(-38, 344), (-15, 346), (0, 347), (15, 346), (38, 344), (20, 357), (0, 361), (-20, 357)]
    line = [(-38, 344), (-12, 345), (0, 346), (12, 345), (38, 344)]
    cv2.fillPoly(image, [_points(bow)], (185, 95, 90), cv2.LINE_AA)
    cv2.fillPoly(image, [_points(lower)], (205, 115, 108), cv2.LINE_AA)
    cv2.polylines(image, [_points(line)], False, (110, 45, 45), 2, cv2.LINE_AA)
    chin = cv2.ellipse(image.copy(), (_X, 374), (22, 6), 0, 0, 360, (165, 118, 98), -1, cv2.LINE_AA)
    return _glaze(image, chin, 0.4)


def _points(offsets: list[tuple[int, int]], side: int = 1) -> np.ndarray:
    return np.array([[_X + side * x, y] for x, y in offsets], np.int32)


def measure(landmarker: Any) -> np.ndarray:
    """The canonical face int [468, 3] in 1/10,000 of the outer-eye distance, its origin between the outer eye corners."""
    from scipy.optimize import linear_sum_assignment

    x, y = _X, _EYE_Y
    keypoints = np.array([[x - 47, y], [x + 47, y], [x, 300], [x, 345], [x - 116, 240], [x + 116, 240]], np.float32)
    points = landmarker.landmarks(draw(), np.array(_BOX, np.float32), keypoints)[0][:MESH_POINTS].astype(np.float64)
    across = np.linalg.norm(points[263, :2] - points[33, :2])
    points = (points - points[[33, 263]].mean(0)) / across
    mirrored = points * [-1, 1, 1]
    distance = np.linalg.norm(points[:, None] - mirrored[None], axis=-1)
    partner = linear_sum_assignment(distance**2)[1]
    even = (points + mirrored[partner]) / 2
    return np.rint((even - even[[33, 263]].mean(0)) * UNITS).astype(int)


def main() -> None:
    from dyconv.models.registry import load

    CANONICAL.write_text(json.dumps(measure(load("mediapipe_mesh")).tolist(), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
