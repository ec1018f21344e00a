"""Face landmarks: MediaPipe's 468-point mesh and its iris network, run directly on LiteRT.

The mesh file takes a 192 px crop of a square 1.5 times the face, turned so that the eyes are level; the iris file takes
a 64 px crop of each eye, the left one mirrored (both networks' published model cards say so).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dyconv.faces import LEFT_EYE, MESH_POINTS, RIGHT_EYE, face_box
from dyconv.models.mediapipe_litert import Network, Square, sigmoid

_MARGIN = 1.5
_EYE_MARGIN = 2.3


class MediaPipeMesh:
    """478 points of a face, and whether a face is there.

    Args:
        mesh, iris: paths of the two `.tflite` files.
    """

    def __init__(self, mesh: Path, iris: Path) -> None:
        self._mesh = Network(mesh)
        self._iris = Network(iris)

    def landmarks(
        self, image: np.ndarray, box: np.ndarray, keypoints: np.ndarray | None = None, *, irises: bool = True
    ) -> tuple[np.ndarray, float]:
        """Mesh float32 [478, 3] in pixels of uint8 `image`, and the presence score 0 to 1.

        Args:
            box: the face, x0 y0 x1 y1.
            keypoints: [6, 2] as a detector gives them; the first two (right and left eye) level the crop.
            irises: False saves two thirds of the time; all ten iris points then lie in the middle between the eye's corners.
        """
        square = _square(box, keypoints)
        points, score = self._run(image, square)
        better = _square(face_box(points), points[[RIGHT_EYE[0], LEFT_EYE[0]]])
        if score > 0.1 and _differ(square, better):
            points, score = self._run(image, better)
        if not irises:
            middles = [np.repeat(points[list(eye)].mean(0, keepdims=True), 5, axis=0) for eye in (RIGHT_EYE, LEFT_EYE)]
            return np.concatenate([points, *middles]), score
        iris = [self._eye(image, points, RIGHT_EYE, mirror=False), self._eye(image, points, LEFT_EYE, mirror=True)]
        return np.concatenate([points, *iris]), score

    def _run(self, image: np.ndarray, square: Square) -> tuple[np.ndarray, float]:
        size = self._mesh.size
        values, presence = self._mesh(square.crop(image, size).astype(np.float32) / 255)
        return square.to_picture(values.reshape(MESH_POINTS, 3), size), float(sigmoid(presence).reshape(()))

    def _eye(self, image: np.ndarray, points: np.ndarray, corners: tuple[int, int], *, mirror: bool) -> np.ndarray:
        """Iris centre and four points of its edge [5, 3]; the depth is that of the eye's corners."""
        outer, inner = points[corners[0]], points[corners[1]]
        right, left = (inner, outer) if mirror else (outer, inner)
        centre, across = (right + left) / 2, left - right
        side = _EYE_MARGIN * max(abs(float(across[0])), abs(float(across[1])), 1.0)
        square = Square(float(centre[0]), float(centre[1]), side, float(np.arctan2(across[1], across[0])))
        size = self._iris.size
        crop = square.crop(image, size).astype(np.float32) / 255
        _, iris = self._iris(np.ascontiguousarray(crop[:, ::-1]) if mirror else crop)
        local = iris.reshape(5, 3).copy()
        if mirror:
            local[:, 0] = size - local[:, 0]
        out = square.to_picture(local, size)
        out[:, 2] = centre[2]
        return out


def _square(box: np.ndarray, keypoints: np.ndarray | None) -> Square:
    centre = (box[:2] + box[2:4]) / 2
    side = _MARGIN * max(float(box[2] - box[0]), float(box[3] - box[1]), 1.0)
    angle = 0.0
    if keypoints is not None:
        across = keypoints[1] - keypoints[0]
        angle = float(np.arctan2(across[1], across[0]))
    return Square(float(centre[0]), float(centre[1]), side, angle)


def _differ(one: Square, other: Square) -> bool:
    """Whether the second square shows the face clearly better, so that a second run is worth its time."""
    moved = np.hypot(one.x - other.x, one.y - other.y) / max(one.side, 1.0)
    return bool(moved > 0.06 or abs(np.log(other.side / one.side)) > 0.12 or abs(one.angle - other.angle) > 0.12)
