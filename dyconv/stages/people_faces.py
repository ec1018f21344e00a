"""The faces of a segment as `people` wants them: mouth pictures, whether lips go with the sound, and by how much late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dyconv.faces import FaceArrays
from dyconv.models.slots import ActiveSpeaker, AvOffset, FaceTrack
from dyconv.records import Track
from dyconv.stages.tracks import rgb_pictures
from dyconv.time import FPS, frame_samples

_SAME_TIME = 0.02  # share of the segment within which two people are on screen equally long
_LIMIT = 4.0  # log odds of one frame, whatever the model says
_MOST = 6  # identities that are looked at, by time on screen
_SURE_SHIFT = 0.5  # confidence from which a shift is taken for one
_TALKS_S = 1.0  # seconds of speech that a track must have for its shift to be measured


@dataclass(frozen=True, eq=False)
class Face:
    """One identity on screen: evidence per frame, and where it stands.

    Attributes:
        identity: `Track.identity`, or the track's id where it has none.
        tracks: in which it is seen.
        lips: float32 [T] log odds, 0 where unseen.
        seen: bool [T].
        left: mean x of its boxes in pixels.
    """

    identity: str
    tracks: tuple[Track, ...]
    lips: np.ndarray
    seen: np.ndarray
    left: float

    @property
    def seconds(self) -> float:
        return float(self.seen.sum()) / FPS


@dataclass(frozen=True)
class Sync:
    """Shift of sound against lips: the median of the talking tracks, and the mean confidence.

    `by_face` says the same of each face alone, None where it talks too little to tell.
    """

    frames: float
    confidence: float
    by_face: tuple[Sync | None, ...] = ()

    def refusal(self, max_frames: float | None, min_confidence: float | None) -> str | None:
        """Why the segment is OUT_OF_SYNC, or None. A limit of None takes everything."""
        found = f"found {self.frames:+.1f} frames with confidence {self.confidence:.2f}"
        if min_confidence is not None and self.confidence < min_confidence:
            return f"expected a shift that fits with {min_confidence:g}, {found}"
        if max_frames is not None and abs(self.frames) > max_frames and self.confidence >= _SURE_SHIFT:
            return f"expected sound within {max_frames:g} frames of the lips, {found}"
        return None


class Faces:
    """Scores the faces of one segment.

    Args:
        model: the active speaker model.
        arrays: boxes and landmarks of each track.
        samples: mono 16 kHz sound of the segment.
        speech: float32 [T], VAD probability.
    """

    def __init__(self, model: ActiveSpeaker, arrays: Mapping[str, FaceArrays], samples: np.ndarray, speech: np.ndarray) -> None:
        self._model = model
        self._arrays = arrays
        self._samples = samples
        self._speech = speech
        self._thumbs: dict[str, np.ndarray] = {}

    def find(self, tracks: Sequence[Track], video: Path | None, min_seen_s: float) -> list[Face]:
        """Identities seen for long enough, the longest seen first, the leftmost first among equals.

        Args:
            video: the segment's pictures; needed by a model that looks at them only.
        """
        frames = len(self._speech)
        tracks = [track for track in tracks if track.start < frames and len(self._arrays[track.id])]
        by_identity: dict[str, list[Track]] = {}
        for track in tracks:
            by_identity.setdefault(track.identity or track.id, []).append(track)
        faces = [self._unscored(identity, own) for identity, own in by_identity.items()]
        step = max(1.0, _SAME_TIME * frames)
        faces = sorted(
            (face for face in faces if face.seconds >= min_seen_s),
            key=lambda face: (-round(face.seen.sum() / step), face.left, face.identity),
        )[:_MOST]
        if self._model.thumb_px and faces and video is not None:
            self._look(video, [track for face in faces for track in face.tracks])
        for face in faces:
            for track in face.tracks:
                part, present, odds = self._scored(track)
                face.lips[part] = np.where(present, odds, face.lips[part])
        return faces

    def _unscored(self, identity: str, tracks: Sequence[Track]) -> Face:
        frames = len(self._speech)
        seen = np.zeros(frames, bool)
        boxes = []
        for track in tracks:
            face = self._arrays[track.id]
            seen[face.frames[face.frames < frames]] = True
            boxes.append(face.boxes[:, 0])
        return Face(identity, tuple(tracks), np.zeros(frames, np.float32), seen, float(np.concatenate(boxes).mean()))

    def _look(self, video: Path, tracks: Sequence[Track]) -> None:
        """One pass over the pictures: a thumb of each face in each frame in which it is found."""
        side, frames = self._model.thumb_px, len(self._speech)
        due: dict[int, list[tuple[Track, int]]] = {}
        for track in tracks:
            self._thumbs[track.id] = np.zeros((min(track.end, frames) - track.start, side, side), np.uint8)
            for row, frame in enumerate(self._arrays[track.id].frames):
                if track.start <= frame < min(track.end, frames):
                    due.setdefault(int(frame), []).append((track, row))
        last = max(due, default=-1)
        for index, image in enumerate(rgb_pictures(video)):
            for track, row in due.get(index, ()):
                face = self._arrays[track.id]
                self._thumbs[track.id][index - track.start] = self._model.thumb(image, face.boxes[row], face.landmarks[row])
            if index >= last:
                return

    def _face(self, track: Track) -> tuple[slice, FaceTrack, np.ndarray]:
        """Frames of the segment, the face in them, and their sound."""
        part = slice(track.start, min(track.end, len(self._speech)))
        face = self._arrays[track.id].between(part.start, part.stop)
        landmarks, present = face.dense(part.stop - part.start)
        samples = self._samples[frame_samples(part.start) : frame_samples(part.stop)]
        return part, FaceTrack(landmarks, present, self._thumbs.get(track.id)), samples

    def _scored(self, track: Track) -> tuple[slice, np.ndarray, np.ndarray]:
        part, face, samples = self._face(track)
        odds = self._model.score(face, samples, self._speech[part])
        return part, face.present, np.clip(odds, -_LIMIT, _LIMIT)

    def sync(self, faces: Sequence[Face], speaks: np.ndarray) -> Sync | None:
        """Shift of the sound against the lips of `faces` over their tracks; None where no track tells.

        Args:
            speaks: float [F, T], probability that speech is this face's, or at least nobody else's.
        """
        found = [self._offsets(face, own) for face, own in zip(faces, speaks, strict=True)]
        together = _agreed([offset for offsets in found for offset in offsets])
        return None if together is None else replace(together, by_face=tuple(_agreed(offsets) for offsets in found))

    def _offsets(self, face: Face, own: np.ndarray) -> list[tuple[AvOffset, float]]:
        """Offset and seconds of speech of each track of a face that talks for long enough."""
        found = []
        for track in face.tracks:
            part = slice(track.start, min(track.end, len(self._speech)))
            speech = (self._speech[part] * own[part] * face.seen[part]).astype(np.float32)
            if speech.sum() < _TALKS_S * FPS:
                continue
            _, shown, samples = self._face(track)
            if (offset := self._model.offset(shown, samples, speech)) is not None:
                found.append((offset, float(speech.sum()) / FPS))
        return found


def _agreed(found: Sequence[tuple[AvOffset, float]]) -> Sync | None:
    """One shift of several, by confidence and seconds."""
    if not found:
        return None
    shifts, sure, seconds = (
        np.array(column) for column in zip(*((one.frames, one.confidence, time) for one, time in found), strict=True)
    )
    return Sync(_weighted_median(shifts, sure * seconds + 1e-9), float(np.average(sure, weights=seconds)))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][int(np.searchsorted(total, total[-1] / 2))])
