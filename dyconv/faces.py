"""Faces over time as arrays: what `Key.FACES` holds.

The npz has, for each track id of the record, `<track>.frames` int32 [n] (25 fps frame on the clip's clock, rising, not
every frame need be there), `<track>.boxes` float32 [n, 4] (x0, y0, x1, y1, pixels of VIDEO, as `face_box` defines
them), `<track>.scores` float32 [n] and `<track>.landmarks` int16 [n, 478, 3] in eighths of a pixel (see
`dyconv.models.slots` for the points).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dyconv.arrays import load_arrays, save_arrays

POINTS = 478
MESH_POINTS = 468
RIGHT_EYE = (33, 133)  # outer and inner corner; right and left are the person's own
LEFT_EYE = (263, 362)
KEYPOINTS = (33, 263, 1, 13, 234, 454)  # mesh points at a detector's six: right and left eye, nose, mouth, ears
_SCALE = 8.0


def pack_points(points: np.ndarray) -> np.ndarray:
    """Pixels float [..., 3] to int16 eighths of a pixel (range +-4095 px)."""
    return np.clip(np.rint(points * _SCALE), -32768, 32767).astype(np.int16)


def unpack_points(points: np.ndarray) -> np.ndarray:
    """The inverse of `pack_points`: float32 pixels."""
    return points.astype(np.float32) / _SCALE


def face_box(landmarks: np.ndarray) -> np.ndarray:
    """Box float32 [..., 4] around the 468 mesh points of landmarks [..., 478, 3]: hairline to chin, no hair or ears."""
    mesh = landmarks[..., :MESH_POINTS, :2]
    return np.concatenate([mesh.min(-2), mesh.max(-2)], -1).astype(np.float32)


@dataclass(frozen=True)
class FaceArrays:
    """One track: n faces at rising `frames`."""

    frames: np.ndarray  # int32 [n]
    boxes: np.ndarray  # float32 [n, 4]
    scores: np.ndarray  # float32 [n]
    landmarks: np.ndarray  # float32 [n, 478, 3], pixels

    def __len__(self) -> int:
        return len(self.frames)

    def between(self, start: int, stop: int) -> FaceArrays:
        """The part with start <= frame < stop, frames counted from `start`."""
        low, high = np.searchsorted(self.frames, [start, stop])
        part = slice(int(low), int(high))
        return FaceArrays(self.frames[part] - start, self.boxes[part], self.scores[part], self.landmarks[part])

    def row_at(self, frame: int, reach: int = 2) -> int | None:
        """Row of the face at `frame`; in a gap, of the next one within `reach` frames; None outside the track."""
        row = int(np.searchsorted(self.frames, frame))
        inside = row < len(self.frames) and self.frames[0] <= frame
        return row if inside and self.frames[row] - frame <= reach else None

    def dense(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks float32 [frames, 478, 3], linearly interpolated and held at the ends, and present bool [frames]."""
        present = np.zeros(frames, bool)
        present[self.frames] = True
        out = np.zeros((frames, POINTS, 3), np.float32)
        if len(self.frames):
            position = np.clip(np.interp(np.arange(frames), self.frames, np.arange(len(self.frames))), 0, len(self.frames) - 1)
            low = np.floor(position).astype(int)
            high = np.minimum(low + 1, len(self.frames) - 1)
            weight = (position - low)[:, None, None].astype(np.float32)
            out = self.landmarks[low] * (1 - weight) + self.landmarks[high] * weight
        return out.astype(np.float32), present


def save_faces(path: Path, tracks: Mapping[str, FaceArrays]) -> None:
    arrays: dict[str, np.ndarray] = {}
    for track, faces in tracks.items():
        arrays[f"{track}.frames"] = faces.frames.astype(np.int32)
        arrays[f"{track}.boxes"] = faces.boxes.astype(np.float32)
        arrays[f"{track}.scores"] = faces.scores.astype(np.float32)
        arrays[f"{track}.landmarks"] = pack_points(faces.landmarks)
    save_arrays(path, arrays)


def load_faces(path: Path) -> dict[str, FaceArrays]:
    arrays = load_arrays(path)
    tracks = sorted({name.split(".")[0] for name in arrays})
    return {
        track: FaceArrays(
            frames=arrays[f"{track}.frames"],
            boxes=arrays[f"{track}.boxes"],
            scores=arrays[f"{track}.scores"],
            landmarks=unpack_points(arrays[f"{track}.landmarks"]),
        )
        for track in tracks
    }
