"""Boxes compared with boxes."""

from __future__ import annotations

import numpy as np


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union float [n, m] of boxes [n, 4] and [m, 4]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    return shared / (_area(boxes)[:, None] + _area(others)[None] - shared + 1e-9)


def distance(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How far apart the centres are, in sides of the larger box, float [n, m]; infinite where sizes differ too much."""
    centres = [(group[:, :2] + group[:, 2:]) / 2 for group in (boxes, others)]
    sides = [np.maximum(np.sqrt(_area(group)), 1.0) for group in (boxes, others)]
    apart = np.linalg.norm(centres[0][:, None] - centres[1][None], axis=-1)
    ratio = sides[0][:, None] / sides[1][None]
    scaled = apart / np.maximum(sides[0][:, None], sides[1][None])
    return np.where(np.maximum(ratio, 1 / ratio) < 2.2, scaled, np.inf)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=-1)


def match(cost: np.ndarray, limit: float) -> list[tuple[int, int]]:
    """Pairs (row, column) of least total cost, of those that cost less than `limit`."""
    from scipy.optimize import linear_sum_assignment

    if not cost.size:
        return []
    rows, columns = linear_sum_assignment(np.minimum(cost, 1e6))
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if cost[row, column] < limit]
