"""The face of a driver video: found, followed and cut out as the pipeline does it, frame by frame at 25 fps.

The video is decoded twice: once to follow the face, as one window has to hold it in every frame, and once for the crops. Only
landmarks are kept in between (6 kB a frame), never pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from dyconv.errors import UsageError
from dyconv.infp.portraits import MARGIN, FaceModels, cut_rgb
from dyconv.media.picture import PictureReader, Upright, display_size
from dyconv.media.source import AudioFacts, SourceInfo, UnreadableSource, VideoFacts, pick_audio, probe
from dyconv.time import FPS, Span, frame_time, nearest_frame
from dyconv.tracking.follow import Follower, Rules

_MAX_HEIGHT = 1080  # px: as the pipeline's `normalize`
_OUTLIERS = 1.0  # percent of the frames, at each end, that do not stretch the window, as in the stage `crop`
_RULES = Rules(detect_every=10, iris_every=2, max_gap=10, min_length=FPS // 2, min_presence=0.5)  # those of the stage `tracks`


@dataclass(frozen=True)
class Driver:
    """A driver video and where its face is.

    Attributes:
        size: side of the crops, pixels.
        box: the window in the upright picture, float32 [4].
        landmarks: float32 [T, 478, 3] in pixels of the crops; held where the face is not seen.
        present: bool [T], where it is seen.
        people: how many were seen; the one who is longest in the picture was taken.
        sound: its sound track, None where it has none.
        span: the frames' time on the file's clock.
    """

    path: Path
    size: int
    box: np.ndarray
    landmarks: np.ndarray
    present: np.ndarray
    people: int
    sound: AudioFacts | None
    span: Span

    def __len__(self) -> int:
        return len(self.landmarks)

    def pictures(self, start: int = 0) -> Iterator[np.ndarray]:
        """The crops uint8 RGB [size, size, 3] from frame `start` on, in order."""
        for picture in islice(pictures_of(self.path, _video_of(self.path)[1]), start, len(self)):
            yield cut_rgb(picture, self.box, self.size)

    def most_like(self, landmarks: np.ndarray) -> int:
        """The frame whose head is turned, and whose expression is, most like that of a face [478, 3]."""
        from dyconv.models.mesh_basis import EXPRESSIONS
        from dyconv.models.mesh_motion import POSE, MeshMotion

        mesh = MeshMotion()
        shown = [np.zeros((self.size, self.size, 3), np.uint8)]  # of which `mesh` looks at the size
        told = [index for index, name in enumerate(mesh.names) if name in (*POSE[:3], *EXPRESSIONS)]
        values = mesh.encode(shown, np.concatenate([landmarks[None], self.landmarks[self.present]]))[:, told]
        nearest = int(np.square(values[1:] - values[0]).sum(axis=1).argmin())
        return int(np.flatnonzero(self.present)[nearest])


def read_driver(
    path: Path, size: int, models: FaceModels, *, most: int | None = None, seen: Callable[[int], None] | None = None
) -> Driver:
    """Follow the face of a video.

    Args:
        size: side of the crops, pixels.
        most: frames looked at; all if not given.
        seen: told after each frame how many there will be.

    Raises:
        UsageError: where the file is no video, or no face is seen in it for half a second.
    """
    from dyconv.stages.crop import joined, to_crop, window
    from dyconv.tracking.people import Sampler, Seen, descriptor, group
    from dyconv.tracking.smooth import to_arrays

    info, video = _video_of(path)
    frames = min(frames_of(video), most or frames_of(video))
    follower = Follower(models.detector, models.landmarker, _RULES, Sampler(models.identity))
    for index, picture in enumerate(islice(pictures_of(path, video), frames)):
        follower.feed(index, picture)
        if seen is not None:
            seen(frames)
    paths = follower.finish()
    if not paths:
        raise UsageError(
            f"expected a face in {path}, found none that is seen for half a second ({frames} frames looked at)",
            hint="give a video of one person whose face is seen",
        )
    tracks = [to_arrays(one) for one in paths]
    seen_as = [Seen(track.frames, descriptor(one)) for track, one in zip(tracks, paths, strict=True)]
    people = group(seen_as, models.identity.threshold)
    face = joined([track for track, person in zip(tracks, people, strict=True) if person == "i0"])
    box = window(face.boxes, MARGIN, _OUTLIERS)
    landmarks, present = face.dense(frames)
    span = Span(video.start, video.start + frame_time(frames))
    return Driver(path, size, box, to_crop(landmarks, box, size), present, len(set(people)), pick_audio(info), span)


def _video_of(path: Path) -> tuple[SourceInfo, VideoFacts]:
    if not path.is_file():
        raise UsageError(f"no such file: {path}", hint="give a video file")
    try:
        info = probe(path)
    except UnreadableSource as error:
        raise UsageError(f"{path} is no video: {error.message}", hint="give a video file") from error
    if info.video is None:
        raise UsageError(f"expected pictures in {path}, found only sound", hint="give a video file")
    return info, info.video


def frames_of(video: VideoFacts) -> int:
    """Number of 25 fps frames of a video."""
    return max(1, nearest_frame(video.end - video.start))


def pictures_of(path: Path, video: VideoFacts) -> Iterator[np.ndarray]:
    """Every 25 fps frame of a foreign video as uint8 RGB [H, W, 3], upright, as `normalize` would have it.

    Frame k shows what the video has on screen at (k + 1/2) / 25 s.
    """
    upright = Upright(display_size(video, _MAX_HEIGHT), "rgb24")
    frames, count = frames_of(video), 0
    held: np.ndarray | None = None
    for frame in PictureReader(path, video):
        until = min(nearest_frame(frame.time - video.start), frames)
        if held is not None:
            for _ in range(count, until):
                yield held
            count = max(count, until)
        held = upright(frame.picture).to_ndarray()
    if held is None:
        raise UsageError(f"no picture of {path} can be decoded", hint="give another file")
    for _ in range(count, frames):
        yield held
