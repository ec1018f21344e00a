"""Face detection with MediaPipe's two BlazeFace files, run directly on LiteRT.

The short-range file (128 px) looks at the whole picture and finds the large faces. The full-range one (192 px) finds
faces from about 10 px of its input: it looks at the whole picture, and at overlapping square tiles as high as the picture,
because a 720p picture squeezed to 192 px leaves a 64 px face 10 px wide. Each is needed: a face between two tiles is whole
in neither.
Box decoding follows the anchor layout and the model cards that MediaPipe publishes with the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dyconv.models.mediapipe_litert import Network, Square, sigmoid
from dyconv.models.slots import Detection

_OVERLAP = 0.3  # boxes that share more than this (IoU) are the same face
_INSIDE = 0.7  # so are boxes of which one lies this much inside the other
_MAX_TILES = 3  # along the longer side


class MediaPipeFaceDetector:
    """Faces from about 1/18 of the picture's shorter side up to the whole picture.

    Args:
        short_range, full_range: paths of the two `.tflite` files.
        min_score: faces below it are not given.
    """

    def __init__(self, short_range: Path, full_range: Path, *, min_score: float = 0.5) -> None:
        self._short = Network(short_range)
        self._full = Network(full_range)
        self._short_anchors = np.concatenate([_anchors(16, 2), _anchors(8, 6)])
        self._full_anchors = _anchors(48, 1)
        self._min_score = min_score

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Faces of one picture uint8 [H, W, 3], best score first."""
        height, width = image.shape[:2]
        whole = Square(width / 2, height / 2, max(width, height), 0.0)
        looks = [(self._short, self._short_anchors, whole), (self._full, self._full_anchors, whole)]
        looks += [(self._full, self._full_anchors, tile) for tile in _tiles(width, height)]
        found: list[Detection] = []
        detail: list[float] = []
        for network, anchors, square in looks:
            faces = self._run(network, anchors, image, square)
            found += faces
            detail += [(network.size / square.side) ** 2] * len(faces)
        return merge(found, detail)

    def _run(self, network: Network, anchors: np.ndarray, image: np.ndarray, square: Square) -> list[Detection]:
        size = network.size
        values, logits = network(square.crop(image, size).astype(np.float32) / 127.5 - 1)
        scores = sigmoid(logits[:, 0])
        best = np.flatnonzero(scores >= self._min_score)
        raw = values[best].reshape(-1, 8, 2)
        points = np.zeros((len(best), 8, 3), np.float32)
        points[..., :2] = raw / size
        points[:, [0, *range(2, 8)], :2] += anchors[best, None]
        half = points[:, 1, :2] / 2
        corners = np.stack([points[:, 0, :2] - half, points[:, 0, :2] + half], 1)
        flat = square.to_picture(np.pad(corners, ((0, 0), (0, 0), (0, 1))) * size, size)[..., :2]
        keypoints = square.to_picture(points[:, 2:] * size, size)[..., :2]
        faces = [
            Detection(flat[i].reshape(4), float(scores[index]), keypoints[i])
            for i, index in enumerate(best)
            if not _cut_by_tile(flat[i].reshape(4), square, image.shape)
        ]
        return merge(faces)


def _anchors(cells: int, each: int) -> np.ndarray:
    """Centres [cells * cells * each, 2] of a square grid, row by row, as shares of the side."""
    centre = (np.arange(cells, dtype=np.float32) + 0.5) / cells
    grid = np.stack(np.meshgrid(centre, centre), -1).reshape(-1, 2)
    return np.repeat(grid, each, axis=0)


def _tiles(width: int, height: int) -> list[Square]:
    """Squares of the shorter side in a row along the longer one, so that each overlaps the next."""
    long, short = max(width, height), min(width, height)
    count = min(_MAX_TILES, int(np.ceil((long - short) / (short * 0.8))) + 1)
    if count < 2:
        return []
    centres = np.linspace(short / 2, long - short / 2, count)
    if width >= height:
        return [Square(float(c), height / 2, short, 0.0) for c in centres]
    return [Square(width / 2, float(c), short, 0.0) for c in centres]


def _cut_by_tile(box: np.ndarray, square: Square, shape: tuple[int, ...]) -> bool:
    """Whether the box reaches over a side of the tile that is not a side of the picture: the face is only partly there."""
    height, width = shape[:2]
    half, slack = square.side / 2, 0.01 * square.side
    over = (
        (box[0] < square.x - half + slack and square.x - half > 1)
        or (box[2] > square.x + half - slack and square.x + half < width - 1)
        or (box[1] < square.y - half + slack and square.y - half > 1)
        or (box[3] > square.y + half - slack and square.y + half < height - 1)
    )
    return bool(over)


def merge(found: Sequence[Detection], detail: Sequence[float] | None = None) -> list[Detection]:
    """One detection a face: those that overlap are averaged, weighted by score and `detail`. Best score first.

    Args:
        detail: how finely the picture was seen for each detection: a coarse look finds a small face, and misplaces its box.
    """
    weights = detail or [1.0] * len(found)
    order = sorted(range(len(found)), key=lambda index: (-found[index].score, *found[index].box.tolist()))
    left = [found[index] for index in order]
    fine = [weights[index] for index in order]
    faces = []
    while left:
        boxes = np.stack([face.box for face in left])
        same = _same_face(boxes[0], boxes)
        group = [face for face, joined in zip(left, same, strict=True) if joined]
        shares = [face.score * value for face, value, joined in zip(left, fine, same, strict=True) if joined]
        weight = np.array(shares, np.float32)
        weight /= weight.sum()
        box = (np.stack([face.box for face in group]) * weight[:, None]).sum(0)
        with_points = [face.keypoints for face in group if face.keypoints is not None]
        points = (np.stack(with_points) * weight[:, None, None]).sum(0) if len(with_points) == len(group) else None
        faces.append(Detection(box.astype(np.float32), group[0].score, points))
        fine = [value for value, joined in zip(fine, same, strict=True) if not joined]
        left = [face for face, joined in zip(left, same, strict=True) if not joined]
    return faces


def _same_face(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    area, areas = np.prod(box[2:] - box[:2]), np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    same = (shared / (area + areas - shared + 1e-9) > _OVERLAP) | (shared / (np.minimum(area, areas) + 1e-9) > _INSIDE)
    same[0] = True
    return same
