"""Faces followed through one shot.

The detector looks at every nth frame and at the frame after a face was lost. In between, the landmarks of the last
frame say where to look in the next one, and the landmarker's presence score whether the face is still there. A face
found in mid-shot is also followed backwards to the last time the detector looked, so that no track starts late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dyconv.faces import KEYPOINTS, face_box
from dyconv.models.slots import Detection, FaceDetector, FaceLandmarker
from dyconv.tracking.geometry import distance, iou, match

_SAME = 0.45  # IoU above which two faces followed are one
_NEAR = 0.6  # centres nearer than this many sides: the detector's face is the one followed
_RESUME = 0.8  # the same, for a face that was gone for a moment
_STEP = 0.35  # a face whose box overlaps its last one by less has jumped to something else
_RETRY = 5  # frames between extra looks of the detector after a loss


@dataclass(frozen=True)
class Rules:
    """How faces are followed; lengths in frames."""

    detect_every: int
    iris_every: int
    max_gap: int
    min_length: int
    min_presence: float


@dataclass
class Path:
    """A face through a shot, frame by frame, as it is followed."""

    frames: list[int] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    irises: list[bool] = field(default_factory=list)  # where the iris points were really looked for
    looks: int = 0  # how often the detector looked while it was followed
    seen: list[int] = field(default_factory=list)  # frames in which the detector found it too
    detector_scores: list[float] = field(default_factory=list)
    descriptors: list[tuple[np.ndarray, float]] = field(default_factory=list)
    active: bool = True

    def add(self, frame: int, points: np.ndarray, score: float, irises: bool) -> None:
        self.frames.append(frame)
        self.points.append(points)
        self.scores.append(score)
        self.irises.append(irises)

    def pop(self) -> None:
        """Take back the last frame."""
        for values in (self.frames, self.points, self.scores, self.irises):
            values.pop()

    @property
    def box(self) -> np.ndarray:
        return face_box(self.points[-1])


class Follower:
    """Follows the faces of one shot. Call `feed` for each frame in order, then `finish`.

    Args:
        describe: called with (path, image) whenever the detector confirms a face, to take descriptors.
    """

    def __init__(
        self,
        detector: FaceDetector,
        landmarker: FaceLandmarker,
        rules: Rules,
        describe: Callable[[Path, np.ndarray], None],
    ) -> None:
        self._detector, self._landmarker, self._rules = detector, landmarker, rules
        self._describe = describe
        self._paths: list[Path] = []
        self._recent: deque[tuple[int, np.ndarray]] = deque(maxlen=rules.detect_every)
        self._first: int | None = None
        self._looked = -(10**6)

    def feed(self, index: int, image: np.ndarray) -> None:
        """Take the next frame: its 25 fps index and uint8 RGB [H, W, 3]."""
        if self._first is None:
            self._first = index
        lost = False
        for path in self._followed():
            lost |= not self._step(path, index, image)
        self._drop_doubles()
        due = (index - self._first) % self._rules.detect_every == 0
        waiting = any(not path.active and index - path.frames[-1] <= self._rules.max_gap for path in self._paths)
        if due or ((lost or waiting) and index - self._looked >= _RETRY):
            self._look(index, image)
        self._recent.append((index, image))

    def finish(self) -> list[Path]:
        """The faces that are long enough and that the detector stood by, in order of first frame, then from the left."""
        good = []
        for path in self._paths:
            self._trim(path)
            confirmed = len(path.seen) / max(path.looks, 1)
            if len(path.frames) >= self._rules.min_length and confirmed >= 0.3:
                good.append(path)
        return sorted(good, key=lambda path: (path.frames[0], float(face_box(path.points[0])[0])))

    def _followed(self) -> list[Path]:
        return [path for path in self._paths if path.active]

    def _landmarks(self, image: np.ndarray, last: np.ndarray, irises: bool) -> tuple[np.ndarray, float] | None:
        """Where the face that had landmarks `last` a frame ago is now, or None where it is not."""
        box = face_box(last)
        points, score = self._landmarker.landmarks(image, box, last[list(KEYPOINTS), :2], irises=irises)
        overlap = float(iou(box[None], face_box(points)[None])[0, 0])
        return (points, score) if score >= self._rules.min_presence and overlap >= _STEP else None

    def _step(self, path: Path, index: int, image: np.ndarray) -> bool:
        irises = index % self._rules.iris_every == 0
        found = self._landmarks(image, path.points[-1], irises)
        if found is None:
            path.active = False
            return False
        path.add(index, *found, irises)
        return True

    def _drop_doubles(self) -> None:
        """Two that follow the same face: the one the detector saw less often stops."""
        active = self._followed()
        if len(active) < 2:
            return
        overlaps = iou(*(np.stack([path.box for path in active]),) * 2)
        for one in range(len(active)):
            for other in range(one + 1, len(active)):
                if overlaps[one, other] > _SAME and active[one].active and active[other].active:
                    weaker = min(active[one], active[other], key=lambda path: (len(path.seen), -path.frames[0]))
                    weaker.active = False
                    weaker.pop()
        self._paths = [path for path in self._paths if path.frames]

    def _look(self, index: int, image: np.ndarray) -> None:
        """Let the detector look: confirm those followed, take up those lost a moment ago, start new ones."""
        self._looked = index
        detections = self._detector.detect(image)
        active = self._followed()
        for path in active:
            path.looks += 1
        found = np.stack([face.box for face in detections]) if detections else np.zeros((0, 4))
        known = np.stack([path.box for path in active]) if active else np.zeros((0, 4))
        used = set()
        for row, column in match(distance(known, found), _NEAR):
            self._confirm(active[row], index, image, detections[column])
            used.add(column)
        for column, face in enumerate(detections):
            if column not in used:
                self._start(index, image, face)

    def _confirm(self, path: Path, index: int, image: np.ndarray, face: Detection) -> None:
        path.seen.append(index)
        path.detector_scores.append(face.score)
        self._describe(path, image)

    def _start(self, index: int, image: np.ndarray, face: Detection) -> None:
        points, score = self._landmarker.landmarks(image, face.box, face.keypoints)
        if score < self._rules.min_presence:
            return
        box = face_box(points)[None]
        active = self._followed()
        if active and iou(box, np.stack([path.box for path in active])).max() > _SAME:
            return
        back = self._back(points, index)
        found = [*back, (index, points, score)]
        path = self._gone_before(found[0][0], face_box(found[0][1])) or Path()
        path.active = True
        path.looks += 1
        if not path.frames:
            self._paths.append(path)
        for frame, earlier, presence in back:
            path.add(frame, earlier, presence, False)
        path.add(index, points, score, True)
        self._confirm(path, index, image, face)

    def _gone_before(self, frame: int, box: np.ndarray) -> Path | None:
        """The face that was lost near `box` no longer than the longest gap before `frame`."""
        gone = [p for p in self._paths if not p.active and 0 < frame - p.frames[-1] <= self._rules.max_gap + 1]
        pairs = match(distance(np.stack([path.box for path in gone]), box[None]), _RESUME) if gone else []
        return gone[pairs[0][0]] if pairs else None

    def _back(self, points: np.ndarray, index: int) -> list[tuple[int, np.ndarray, float]]:
        """The face in the frames just before `index`, in order, as far back as it is there and is nobody else."""
        back: list[tuple[int, np.ndarray, float]] = []
        for frame, image in reversed(self._recent):
            found = self._landmarks(image, points, False)
            if found is None or self._taken(frame, face_box(found[0])):
                break
            points = found[0]
            back.append((frame, points, found[1]))
        return back[::-1]

    def _taken(self, frame: int, box: np.ndarray) -> bool:
        for path in self._paths:
            if path.frames and path.frames[0] <= frame <= path.frames[-1]:
                nearest = int(np.argmin(np.abs(np.fromiter(path.frames, int) - frame)))
                if iou(box[None], face_box(path.points[nearest])[None])[0, 0] > _SAME:
                    return True
        return False

    def _trim(self, path: Path) -> None:
        """Cut what was followed long after the detector last saw a face there."""
        limit = (path.seen[-1] if path.seen else -1) + 5 * self._rules.detect_every
        while path.frames and path.frames[-1] > limit:
            path.pop()
