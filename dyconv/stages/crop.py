"""Face video: one square window a person and clip, that never moves.

The window is the union of the person's face boxes over the clip, times a margin, so that head motion stays in the
picture and none is added by the crop. What reaches over the picture's edge is filled with the nearest pixels. Luma and chroma
are cut and scaled as they are stored, so colours keep their meaning whatever matrix they were coded with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import av
import numpy as np

from dyconv.arrays import save_arrays
from dyconv.errors import StoreError, UsageError
from dyconv.faces import FaceArrays, load_faces, pack_points
from dyconv.media.video import VideoWriter, iter_pictures
from dyconv.records import Clip, Drop, Key
from dyconv.stages.base import Files, Resources, Stage


@dataclass(frozen=True)
class Crop(Stage):
    """Writes face video and crop arrays of each person that is seen.

    Attributes:
        size: pixels of the square face video, a multiple of 4.
        margin: side of the window in sides of the union box of the face (1.5: the INFP re-implementations' choice).
        outlier_percent: share of frames, at each end, whose boxes do not stretch the union.
        crf: x264's constant rate factor.
    """

    name: ClassVar[str] = "crop"
    version: ClassVar[int] = 3  # since x264 is told to give the same bytes on every machine
    needs: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO, Key.FACES})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.P0_FACE, Key.P1_FACE, Key.P0_CROP, Key.P1_CROP})
    optional: ClassVar[frozenset[Key]] = gives
    resources: ClassVar[Resources] = Resources(cpus=1.0)

    size: int = 512
    margin: float = 1.5
    outlier_percent: float = 1.0
    crf: int = 18

    def __post_init__(self) -> None:
        if self.size < 4 or self.size % 4:
            raise UsageError(f"crop: size must be a multiple of 4, found {self.size}")

    def setup(self) -> None:
        import cv2

        cv2.setNumThreads(1)

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        tracks = load_faces(files.path(clip, Key.FACES))
        windows: dict[str, np.ndarray] = {}
        for person in clip.people:
            if not person.seen:
                continue
            faces = person_faces(clip, tracks, person.id)
            box = window(faces.boxes, self.margin, self.outlier_percent)
            windows[person.id] = box
            landmarks, present = faces.dense(clip.frames)
            path = files.new(clip, Key.of(person.id, "crop"))
            points = pack_points(to_crop(landmarks, box, self.size))
            save_arrays(path, {"box": box, "present": present, "landmarks": points})
            clip = files.add(clip, (Key.of(person.id, "crop"), path))
        yield self._videos(clip, files, windows)

    def _videos(self, clip: Clip, files: Files, windows: dict[str, np.ndarray]) -> Clip:
        """Cut every window out of VIDEO in one pass over it."""
        paths: dict[Key, Path] = {Key.of(person, "face"): files.new(clip, Key.of(person, "face")) for person in windows}
        shots = {shot.frames.start for shot in clip.shots}
        with ExitStack() as stack:
            writers: list[VideoWriter] = []
            for _, picture in iter_pictures(files.path(clip, Key.VIDEO), 0, clip.frames) if windows else ():
                writers = writers or [
                    stack.enter_context(VideoWriter(path, self.size, self.size, crf=self.crf, keyframes=shots, like=picture))
                    for path in paths.values()
                ]
                planes = planes_of(picture)
                for writer, box in zip(writers, windows.values(), strict=True):
                    writer.write(cut_picture(planes, box, self.size))
        return files.add(clip, *paths.items())


def person_faces(clip: Clip, tracks: dict[str, FaceArrays], person: str) -> FaceArrays:
    """All faces of a person over the clip, by frame; of two tracks in one frame the more certain face counts.

    Raises:
        StoreError: if the record calls the person seen and there is no face of theirs.
    """
    parts = [tracks[track.id] for track in clip.tracks if track.person == person and track.id in tracks]
    if not sum(len(part) for part in parts):
        raise StoreError(f"clip {clip.id} says that {person} is seen, and FACES holds no face of a track of {person}")
    return joined(parts)


def joined(parts: Sequence[FaceArrays]) -> FaceArrays:
    """Tracks of one person as one, by frame; of two in one frame the more certain face counts."""
    frames = np.concatenate([part.frames for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    order = np.lexsort((-scores, frames))
    order = order[np.unique(frames[order], return_index=True)[1]]
    boxes = np.concatenate([part.boxes for part in parts])
    landmarks = np.concatenate([part.landmarks for part in parts])
    return FaceArrays(frames[order], boxes[order], scores[order], landmarks[order])


def window(boxes: np.ndarray, margin: float, outlier_percent: float) -> np.ndarray:
    """Square float32 [4] around the union of boxes [n, 4], times `margin`; may leave the picture.

    Its edges are at even pixels: there chroma, which is stored at half the size, has pixel edges too.
    """
    low = np.percentile(boxes[:, :2], outlier_percent, axis=0)
    high = np.percentile(boxes[:, 2:], 100 - outlier_percent, axis=0)
    side = max(2, 2 * round(float(np.max(high - low)) * margin / 2))
    corner = 2 * np.rint((low + high - side) / 4)
    return np.concatenate([corner, corner + side]).astype(np.float32)


def planes_of(picture: av.VideoFrame) -> list[np.ndarray]:
    """Luma uint8 [H, W] and the two chroma planes [H / 2, W / 2] of a normalized picture."""
    height, width = picture.height, picture.width
    values = picture.to_ndarray(format="yuv420p").ravel()
    luma, chroma = height * width, height * width // 4
    planes = [values[:luma].reshape(height, width)]
    return planes + [values[start : start + chroma].reshape(height // 2, width // 2) for start in (luma, luma + chroma)]


def cut_picture(planes: list[np.ndarray], box: np.ndarray, size: int) -> av.VideoFrame:
    """The window `box` of a picture as a yuv420p frame of `size` pixels."""
    luma, *chroma = planes
    parts = [cut(luma, box, size), *(cut(plane, box / 2, size // 2) for plane in chroma)]
    stored = np.concatenate([part.ravel() for part in parts]).reshape(size * 3 // 2, size)
    return av.VideoFrame.from_ndarray(stored, format="yuv420p")


def cut(plane: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """The window `box` of uint8 [H, W] as [size, size]; outside the picture the nearest pixel is repeated."""
    import cv2

    x0, y0, x1, y1 = (int(value) for value in box)
    height, width = plane.shape
    rows = np.clip(np.arange(y0, y1), 0, height - 1)
    columns = np.clip(np.arange(x0, x1), 0, width - 1)
    inside = x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height
    part = plane[y0:y1, x0:x1] if inside else plane[rows[:, None], columns[None, :]]
    shrinks = x1 - x0 > size
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def to_crop(points: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Landmarks [..., 3] in pixels of VIDEO as pixels of the crop; depth in the same scale."""
    scale = size / float(box[2] - box[0])
    corner = np.array([box[0], box[1], 0.0], np.float32)
    return ((points - corner) * scale).astype(np.float32)
