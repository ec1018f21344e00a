"""Faces: detected, followed through each shot with 478 landmarks, matched over the shots, and the layout they are in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dyconv.faces import FaceArrays, save_faces
from dyconv.media.video import frame_count, iter_pictures
from dyconv.models import registry
from dyconv.records import Clip, Drop, DropReason, Key, Track
from dyconv.stages.base import Files, Resources, Stage
from dyconv.time import FPS
from dyconv.tracking.follow import Follower, Rules
from dyconv.tracking.follow import Path as FacePath
from dyconv.tracking.layout import Lines, Shown, recognise
from dyconv.tracking.people import Sampler, Seen, descriptor, group
from dyconv.tracking.smooth import restlessness, to_arrays

_LOOK_AT_LINES = FPS  # frames between pictures in which straight lines are looked for


@dataclass(frozen=True)
class Tracks(Stage):
    """Find and follow every face.

    Attributes:
        detector, landmarker, identity: names in the model registry.
        min_face_px: tracks whose median face width is below it are not kept.
        detect_every: frames between looks of the detector; the landmarker follows in between.
        iris_every: frames between measured irises; interpolated relative to the eye in between.
        min_track_s: shorter tracks are not kept.
        max_gap_s: a face that was gone no longer than this goes on in the same track.
        min_presence: landmarker's score below which the face is not there, 0 to 1.
        min_motion: a track of two seconds or more that moves less than this share of its width in half a second is a
            photograph or a frozen picture, and not kept; `faces.still` counts those.
        same_person: cosine similarity that makes two tracks one person; None takes the identity model's own.
    """

    detector: str = "mediapipe_face"
    landmarker: str = "mediapipe_mesh"
    identity: str = "appearance"
    min_face_px: float = 64.0
    detect_every: int = 10
    iris_every: int = 2
    min_track_s: float = 0.5
    max_gap_s: float = 0.4
    min_presence: float = 0.5
    min_motion: float = 0.006
    same_person: float | None = None

    name: ClassVar[str] = "tracks"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.FACES})
    resources: ClassVar[Resources] = Resources(cpus=1.0, memory=1 << 30)

    def models(self) -> tuple[str, ...]:
        return (self.detector, self.landmarker, self.identity)

    def setup(self) -> None:
        import cv2
        import scipy.optimize  # noqa: F401  # slow to import: not within the first clip

        cv2.setNumThreads(1)  # its crops are small: more threads only spin
        self._models()

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        video = files.path(clip, Key.VIDEO)
        frames = frame_count(video)
        paths, lines = self._follow(video, self._shots(clip, frames))
        wide = [(shot, path) for shot, path in paths if width_of(path) >= self.min_face_px]
        finished = [to_arrays(path) for _, path in wide]
        alive = [self._alive(faces) for faces in finished]
        wide = [track for track, lives in zip(wide, alive, strict=True) if lives]
        if not wide:
            yield self._drop(clip, [path for _, path in paths], alive.count(False))
            return
        moving = (faces for faces, lives in zip(finished, alive, strict=True) if lives)
        arrays = {f"t{number}": faces for number, faces in enumerate(moving)}
        tracks = self._tracks(wide, arrays)
        shown = [
            Shown(str(track.identity), track.shot, arrays[track.id].frames, arrays[track.id].boxes.mean(0)) for track in tracks
        ]
        target = files.new(clip, Key.FACES)
        save_faces(target, arrays)
        found = replace(clip, tracks=tuple(tracks), layout=recognise(shown, lines, frames))
        yield files.add(found.measured(faces__still=float(alive.count(False))), (Key.FACES, target))

    def _alive(self, faces: FaceArrays) -> bool:
        return len(faces) < 2 * FPS or restlessness(faces) >= self.min_motion

    def _shots(self, clip: Clip, frames: int) -> list[tuple[int, int]]:
        """First and end frame of each shot; the whole clip where no shots are known."""
        return [(span.frames.start, min(span.frames.stop, frames)) for span in clip.shots] or [(0, frames)]

    def _follow(self, video: Path, shots: list[tuple[int, int]]) -> tuple[list[tuple[int, FacePath]], dict[int, Lines]]:
        """Paths with their shot, and the lines of each shot, from one pass over the video."""
        detector, landmarker, identity = self._models()
        rules = Rules(
            detect_every=self.detect_every,
            iris_every=self.iris_every,
            max_gap=round(self.max_gap_s * FPS),
            min_length=max(1, round(self.min_track_s * FPS)),
            min_presence=self.min_presence,
        )
        paths: list[tuple[int, FacePath]] = []
        lines = {shot: Lines() for shot in range(len(shots))}
        pictures = rgb_pictures(video)
        for shot, (start, stop) in enumerate(shots):
            follower = Follower(detector, landmarker, rules, Sampler(identity))
            for index, image in zip(range(start, stop), pictures, strict=False):  # the range first: it must not eat a picture
                follower.feed(index, image)
                if (index - start) % _LOOK_AT_LINES == 0:
                    lines[shot].add(image)
            paths += [(shot, path) for path in follower.finish()]
        return paths, lines

    def _models(self) -> tuple[Any, ...]:
        """Detector, landmarker and identity model, loaded once in each worker."""
        if "_loaded" not in self.__dict__:
            object.__setattr__(self, "_loaded", tuple(registry.load(name) for name in self.models()))
        return tuple(self.__dict__["_loaded"])

    def _tracks(self, paths: list[tuple[int, FacePath]], arrays: dict[str, FaceArrays]) -> list[Track]:
        threshold = self._models()[2].threshold if self.same_person is None else self.same_person
        seen = [Seen(faces.frames, descriptor(path)) for (_, path), faces in zip(paths, arrays.values(), strict=True)]
        identities = group(seen, threshold)
        tracks = []
        for (shot, path), identity, (name, faces) in zip(paths, identities, arrays.items(), strict=True):
            start, end = int(faces.frames[0]), int(faces.frames[-1]) + 1
            width = round(width_of(path), 1)
            tracks.append(Track(name, shot, start, end, width, round(len(faces) / (end - start), 4), identity))
        return tracks

    def _drop(self, clip: Clip, paths: list[FacePath], still: int) -> Drop:
        if not paths:
            return Drop(clip, DropReason.NO_FACE, f"no face is seen for {self.min_track_s:g} s or longer")
        if still:
            return Drop(clip, DropReason.NO_FACE, f"no face that moves: {still} of the size asked for are still pictures")
        sizes = ", ".join(f"{width:.0f}" for width in sorted((width_of(path) for path in paths), reverse=True)[:8])
        detail = f"faces must be {self.min_face_px:g} px wide, found {sizes} px"
        return Drop(clip, DropReason.FACE_TOO_SMALL, detail)


def rgb_pictures(video: Path) -> Iterator[np.ndarray]:
    """Every frame of a normalized video as uint8 RGB [H, W, 3].

    OpenCV's conversion is integer arithmetic, as exact as `read_frames` and fifteen times as quick; its rounding of colours
    is coarser, which no detector sees.
    """
    import cv2

    for _, picture in iter_pictures(video):
        yield np.asarray(cv2.cvtColor(picture.to_ndarray(format="yuv420p"), cv2.COLOR_YUV2RGB_I420))


def width_of(path: FacePath) -> float:
    """Median width of the face's box, pixels of VIDEO."""
    return float(np.median([np.ptp(points[:468, 0]) for points in path.points]))
