"""Where the face is in each frame of a crop video: the same look at true and made videos.

The pipeline's detector finds the face in the first frame, and again after it was lost; in between, the landmarks of the last
frame say where to look in the next one, as in `dyconv.tracking.follow`. Every tenth frame the detector is asked whether eyes,
nose and mouth are still where the landmarks are: in a profile they can hold on to an ear, and are sure of it. A crop holds one
face: of several, the largest counts.
Irises are not looked for (they would take three times as long), so no number here is about gaze.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dyconv.faces import KEYPOINTS, POINTS, face_box

if TYPE_CHECKING:
    from dyconv.infp.portraits import FaceModels
    from dyconv.models.slots import Detection

VERSION = 3  # changes whenever landmarks would
_PRESENT = 0.5  # landmarker's score from which a face is there
_STEP = 0.35  # IoU with the last frame's box below which the landmarks have jumped to something else
_SETTLE = 3  # further looks at a frame in which the detector found the face
_STEADY = 0.8  # the same, below which the detector is asked
_CHECK = 10  # frames between two checks by the detector
_AGREE = 0.2  # sides of the detector's box that eyes, nose and mouth may be from where it sees them, on average
_RETRY = 5  # frames between two looks of the detector while there is no face


class FaceReader:
    """Landmarks of the face of one video after another, chunk by chunk.

    How a video is cut into chunks changes nothing, and neither do the videos before it.

    Args:
        models: the pipeline's own if not given.

    Raises:
        ModelMissing: where their weights are not on this machine.
    """

    def __init__(self, models: FaceModels | None = None) -> None:
        if models is None:
            from dyconv.infp.portraits import FaceModels

            models = FaceModels.load()
        self._models = models
        self.begin()

    def begin(self) -> None:
        """A new video."""
        self._last = np.zeros((POINTS, 3), np.float32)
        self._here = False
        self._wait = 0  # frames until the detector may look again
        self._frame = 0

    def feed(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The next frames, uint8 RGB [n, S, S, 3].

        Returns:
            Landmarks float32 [n, 478, 3] in their pixels (where the face is not found those of the last frame that shows it,
            zeros before there is one), and bool [n], where it is found.
        """
        landmarks = np.zeros((len(pictures), POINTS, 3), np.float32)
        present = np.zeros(len(pictures), bool)
        for index, picture in enumerate(pictures):
            present[index] = self._look(picture)
            landmarks[index] = self._last
        return landmarks, present

    def _look(self, picture: np.ndarray) -> bool:
        """Whether the face is in the next frame; `_last` says where."""
        found = self._follow(picture, self._last) if self._here else None
        self._frame += 1
        if found is not None and (self._frame % _CHECK == 0 or _overlap(found, self._last) < _STEADY):
            found = self._checked(picture, found)
        self._wait = max(0, self._wait - 1)
        if found is None and self._wait == 0:
            found = self._settled(picture)
            self._wait = _RETRY
        self._here = found is not None
        if found is not None:
            self._last = found
        return self._here

    def _follow(self, picture: np.ndarray, last: np.ndarray) -> np.ndarray | None:
        """Landmarks [478, 3] of the face that had landmarks `last` a frame ago; None where it is not there."""
        keypoints = last[list(KEYPOINTS), :2]
        points, score = self._models.landmarker.landmarks(picture, face_box(last), keypoints, irises=False)
        return points if score >= _PRESENT and _overlap(points, last) >= _STEP else None

    def _checked(self, picture: np.ndarray, mesh: np.ndarray) -> np.ndarray:
        """Landmarks [478, 3] that the detector agrees with: those given, or others where it sees the face elsewhere."""
        faces = self._models.detector.detect(picture)
        if not faces or min(_apart(mesh, face) for face in faces) <= _AGREE:
            return mesh
        other = self._settled(picture)
        better = other is not None and min(_apart(other, face) for face in faces) <= _AGREE
        return other if other is not None and better else mesh

    def _settled(self, picture: np.ndarray) -> np.ndarray | None:
        """Landmarks of a face as the detector finds it, looked at again until where to look hangs on them alone."""
        found = self._detect(picture)
        for _ in range(_SETTLE):
            found = self._follow(picture, found) if found is not None else None
        return found

    def _detect(self, picture: np.ndarray) -> np.ndarray | None:
        from dyconv.infp.portraits import find_faces

        boxes = [(mesh, face_box(mesh)) for mesh in find_faces(picture, self._models)]
        if not boxes:
            return None
        return max(boxes, key=lambda each: float(np.prod(each[1][2:] - each[1][:2])))[0]


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of the boxes of two faces' landmarks."""
    from dyconv.tracking.geometry import iou

    return float(iou(face_box(one)[None], face_box(other)[None])[0, 0])


def _apart(mesh: np.ndarray, face: Detection) -> float:
    """Mean distance of eyes, nose and mouth of landmarks [478, 3] from a detector's, in longer sides of its box; 0 without."""
    if face.keypoints is None:
        return 0.0
    side = max(float(face.box[2] - face.box[0]), float(face.box[3] - face.box[1]), 1.0)
    off = mesh[list(KEYPOINTS[:4]), :2] - face.keypoints[:4]
    return float(np.linalg.norm(off, axis=1).mean()) / side
