"""What can be seen of one clip: its record, its outcome, and whatever of its assets can be read.

A clip that was dropped or failed half way has only some assets, and a damaged one may not open. Each reader here gives
None for what is absent, and notes what is there but cannot be read, so that the picture shows the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

from dyconv.arrays import load_arrays
from dyconv.errors import StoreError
from dyconv.faces import FaceArrays, load_faces
from dyconv.media.audio import read_audio
from dyconv.media.picture import PictureReader, Upright, display_size
from dyconv.media.source import UnreadableSource, probe
from dyconv.media.video import read_frames
from dyconv.records import Clip, Key
from dyconv.store import Store
from dyconv.time import FPS, Span, frame_at

MEDIA_HEIGHT = 360
UNREADABLE = (StoreError, UnreadableSource, av.FFmpegError, soundfile.LibsndfileError, OSError, ValueError)


@dataclass
class ClipView:
    """One clip with its outcome.

    Attributes:
        state: kept | dropped | failed | pending.
        reason: why it was dropped or how it failed, for a person.
        notes: assets that could not be read, filled while they are tried.
        whole: what the clip was to be cut from; shows its frames where the clip itself got no files.
    """

    clip: Clip
    store: Store
    state: str = "pending"
    stage: str | None = None
    reason: str | None = None
    notes: list[str] = field(default_factory=list)
    whole: Clip | None = None

    @property
    def duration(self) -> float:
        """Seconds from the clip's start to its end; at least one frame, so that an axis can be drawn."""
        return max(float(self.clip.span.duration), 1 / FPS)

    def path(self, key: Key, clip: Clip | None = None) -> Path | None:
        """Local path of an asset, or None where the clip has none or it is gone."""
        ref = (clip or self.clip).assets.get(key)
        if ref is None:
            return None
        try:
            return self.store.local(ref.path)
        except StoreError as error:
            self.note(key, error)
            return None

    def note(self, key: Key, error: BaseException) -> None:
        """Remember that an asset is there and cannot be read."""
        self.notes.append(f"{key.value}: {str(error).splitlines()[0][:140]}")

    def frames(self, times: list[float]) -> list[tuple[float, np.ndarray]]:
        """(time, picture uint8 [H, W, 3]) at or just after the wanted times (seconds, clip clock), as far as they can be had.

        From VIDEO; before the clip is normalized from MEDIA; before it was cut out from `whole`.
        """
        for clip in (self.clip, self.whole):
            if clip is None:
                continue
            shift = float(self.clip.span.start - clip.span.start)
            for key, reader, offset in (
                (Key.VIDEO, _normalized_frames, shift),
                (Key.MEDIA, _media_frames, float(self.clip.span.start)),
            ):
                if (path := self.path(key, clip)) is None:
                    continue
                found: list[tuple[float, np.ndarray]] = []
                try:
                    found.extend((time - offset, picture) for time, picture in reader(path, [time + offset for time in times]))
                except UNREADABLE as error:
                    self.note(key, error)
                if found:
                    return found
        return []

    def sound(self, key: Key) -> np.ndarray | None:
        """Samples float32 [N], mono 16 kHz, of MIX or a voice."""
        if (path := self.path(key)) is None:
            return None
        try:
            return read_audio(path)
        except UNREADABLE as error:
            self.note(key, error)
            return None

    def speech(self) -> dict[str, np.ndarray]:
        """The arrays of SPEECH, each float32 [T]; empty where there are none."""
        if (path := self.path(Key.SPEECH)) is None:
            return {}
        try:
            return {name: array for name, array in load_arrays(path).items() if array.ndim == 1}
        except UNREADABLE as error:
            self.note(Key.SPEECH, error)
            return {}

    def faces(self) -> dict[str, FaceArrays]:
        """Faces by track id; empty where there are none."""
        if (path := self.path(Key.FACES)) is None:
            return {}
        try:
            return load_faces(path)
        except (*UNREADABLE, KeyError) as error:
            self.note(Key.FACES, error)
            return {}


def _normalized_frames(path: Path, times: list[float]) -> Iterator[tuple[float, np.ndarray]]:
    for time in times:
        index = frame_at(Fraction(time).limit_denominator(1000))
        for picture in read_frames(path, index, index + 1):
            yield time, picture


def _media_frames(path: Path, times: list[float]) -> Iterator[tuple[float, np.ndarray]]:
    """Frames of a foreign file as a viewer sees them; times are on the file's own clock."""
    video = probe(path).video
    if video is None:
        return
    upright = Upright(display_size(video, MEDIA_HEIGHT), "rgb24")
    for time in times:
        start = max(min(Fraction(time).limit_denominator(1000), video.end - 2 * video.frame), video.start)
        for frame in PictureReader(path, video, Span(start, video.end + 1)):
            yield time, upright(frame.picture).to_ndarray()
            break


def mouth_opening(faces: FaceArrays) -> tuple[np.ndarray, np.ndarray]:
    """(frames int32 [n], opening float32 [n]): gap between the inner lips over the distance of the outer eye corners."""
    points = faces.landmarks
    gap = np.linalg.norm(points[:, 13, :2] - points[:, 14, :2], axis=-1)
    eyes = np.linalg.norm(points[:, 33, :2] - points[:, 263, :2], axis=-1)
    return faces.frames, (gap / np.maximum(eyes, 1e-3)).astype(np.float32)


def envelope(samples: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest sample of each of `columns` equal parts, float32 [columns] each."""
    if len(samples) < columns:
        return samples, samples
    edges = np.linspace(0, len(samples), columns + 1).astype(int)[:-1]
    return np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)
