"""From faces as followed to arrays: irises where they were left out, and a steadier head.

Only the head as a whole is smoothed (shift, size and turn in the picture), with a window that looks as far ahead as
back, so nothing lags; what the mouth and the eyes do within the face stays as it was measured.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from dyconv.faces import LEFT_EYE, MESH_POINTS, RIGHT_EYE, FaceArrays, face_box
from dyconv.time import FPS
from dyconv.tracking.follow import Path

_WINDOW = 5  # frames; a quadratic over 5 frames keeps head motion up to about 4 Hz
_WEIGHTS = np.array([-3, 12, 17, 12, -3], np.float64) / 35  # Savitzky and Golay, 1964
_HALF_SECOND = FPS // 2
_RIGID = (10, 152, 234, 454, 33, 133, 263, 362, 168, 6, 127, 356, 9, 8, 54, 284)  # that speech moves little


def to_arrays(path: Path) -> FaceArrays:
    """The finished track: irises filled in, head steadied, boxes around the mesh."""
    frames = np.fromiter(path.frames, np.int32)
    points = fill_irises(frames, np.stack(path.points).astype(np.float64), np.fromiter(path.irises, bool))
    for run in runs(frames):
        points[run] = steady(points[run])
    landmarks = np.round(points * 8).astype(np.float32) / 8
    return FaceArrays(frames, face_box(landmarks), np.fromiter(path.scores, np.float32).round(3), landmarks)


def runs(frames: np.ndarray) -> list[slice]:
    """Slices of the stretches without a gap."""
    breaks = np.flatnonzero(np.diff(frames) != 1) + 1
    edges = [0, *breaks.tolist(), len(frames)]
    return [slice(low, high) for low, high in pairwise(edges)]


def fill_irises(frames: np.ndarray, points: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Put the irises of unmeasured frames where the frames around have them, relative to the eye's corners."""
    if measured.all() or not measured.any():
        return points
    out = points.copy()
    for (outer, inner), first in ((RIGHT_EYE, MESH_POINTS), (LEFT_EYE, MESH_POINTS + 5)):
        middle = (points[:, outer] + points[:, inner]) / 2
        across = points[:, inner, :2] - points[:, outer, :2]
        axis = (across[:, 0] + 1j * across[:, 1])[:, None]
        offset = points[:, first : first + 5] - middle[:, None]
        local = (offset[..., 0] + 1j * offset[..., 1]) / np.where(axis == 0, 1, axis)
        known = frames[measured]
        filled = np.stack([np.interp(frames, known, local[measured, k]) for k in range(5)], 1) * axis
        new = np.stack([filled.real, filled.imag, np.zeros_like(filled.real)], -1) + middle[:, None]
        out[:, first : first + 5] = np.where(measured[:, None, None], points[:, first : first + 5], new)
    return out


def restlessness(faces: FaceArrays) -> float:
    """How much a face moves, in shares of its width: the 90th percentile over half a second, of head and features.

    A photograph on a wall, or a still picture in a split screen, stays below 0.005 with a camera that stands still;
    people who sit and listen lie above 0.02.
    """
    mesh = faces.landmarks[:, :MESH_POINTS, :2].astype(np.float64)
    if len(mesh) <= _HALF_SECOND:
        return float("inf")
    width = max(float(np.median(faces.boxes[:, 2] - faces.boxes[:, 0])), 1.0)
    moved = np.sqrt(((mesh[_HALF_SECOND:] - mesh[:-_HALF_SECOND]) ** 2).sum(-1).mean(1))
    return float(np.percentile(moved, 90)) / width


def steady(points: np.ndarray) -> np.ndarray:
    """Smooth the head's shift, size and turn over the frames of one run [n, 478, 3]; the ends stay as they are."""
    if len(points) < _WINDOW:
        return points
    rigid = points[:, _RIGID, 0] + 1j * points[:, _RIGID, 1]
    centre = rigid.mean(1)
    local = rigid - centre[:, None]
    reference = local.mean(0)
    turn = (local @ reference.conj()) / np.vdot(reference, reference).real  # size and turn against the track's mean
    ratio = np.exp(_filtered(np.log(np.abs(turn))) + 1j * _filtered(np.unwrap(np.angle(turn)))) / turn
    moved = _filtered(centre.real) + 1j * _filtered(centre.imag)
    flat = points[..., 0] + 1j * points[..., 1]
    flat = (flat - centre[:, None]) * ratio[:, None] + moved[:, None]
    return np.stack([flat.real, flat.imag, points[..., 2] * np.abs(ratio)[:, None]], -1)


def _filtered(values: np.ndarray) -> np.ndarray:
    out = values.copy()
    half = _WINDOW // 2
    out[half:-half] = np.convolve(values, _WEIGHTS, "valid")
    return out
