"""MediaPipe's official Face Landmarker task (`face_landmarker.task`), on a crop around each face."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np

from dyconv.errors import ModelMissing
from dyconv.faces import POINTS
from dyconv.models.mediapipe_litert import Square

_MARGIN = 2.0
_LARGEST = 512  # side of the crop given to the task, pixels


class MediaPipeTask:
    """478 points of the face by the task's attention mesh.

    The task finds the face in the crop by itself and gives no presence score: what it finds counts as 1, else 0.

    Args:
        task: path of `face_landmarker.task`.

    Raises:
        ModelMissing: where MediaPipe's library or the file does not load.
    """

    def __init__(self, task: Path) -> None:
        try:
            from mediapipe import Image, ImageFormat
            from mediapipe.tasks.python import BaseOptions, vision
        except (ImportError, OSError) as error:
            raise ModelMissing(
                f"MediaPipe's library does not load: {error}", hint="on Debian or Ubuntu: apt-get install libegl1 libgles2"
            ) from error
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(task)), running_mode=vision.RunningMode.IMAGE, num_faces=1
        )
        try:
            self._task: Any = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelMissing(
                f"{task} is not a Face Landmarker task: {error}", hint="run: dyconv models pull mediapipe_task --force"
            ) from error
        weakref.finalize(self, self._task.close)  # left open, it can hang at the interpreter's exit
        self._picture = lambda pixels: Image(image_format=ImageFormat.SRGB, data=pixels)

    def landmarks(
        self, image: np.ndarray, box: np.ndarray, keypoints: np.ndarray | None = None, *, irises: bool = True
    ) -> tuple[np.ndarray, float]:
        """Mesh float32 [478, 3] in pixels of uint8 `image`, and 1.0, or zeros and 0.0 where no face is found."""
        centre = (box[:2] + box[2:4]) / 2
        side = _MARGIN * max(float(box[2] - box[0]), float(box[3] - box[1]), 1.0)
        angle = 0.0
        if keypoints is not None:
            angle = float(np.arctan2(*(keypoints[1] - keypoints[0])[::-1]))
        square = Square(float(centre[0]), float(centre[1]), side, angle)
        size = min(_LARGEST, max(64, round(side)))
        found = self._task.detect(self._picture(np.ascontiguousarray(square.crop(image, size)))).face_landmarks
        if not found:
            return np.zeros((POINTS, 3), np.float32), 0.0
        points = np.array([[point.x, point.y, point.z] for point in found[0]], np.float32) * size
        return square.to_picture(points, size), 1.0
