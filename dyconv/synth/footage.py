"""A video clip of one speaker as a person of a conversation.

Where the person speaks, picture and sound are the clip's own, together. Where the person is silent there is no such
picture, and moving lips would make the truth wrong: then the clip's longest silence is shown, forwards and backwards, or,
in a clip that is never silent for long, the frame with the mouth most shut, held. Joins lie in the silence and are
cross-faded over five frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from dyconv.errors import UsageError
from dyconv.media.picture import PictureReader, Upright, display_size
from dyconv.media.source import UnreadableSource, probe
from dyconv.models.slots import FaceDetector, FaceLandmarker
from dyconv.synth.layouts import Panel, Placement, fit, place, toned
from dyconv.synth.puppet import PICTURE_DAMAGE, portrait
from dyconv.synth.schedule import Placed
from dyconv.synth.sound import Stretch
from dyconv.time import SAMPLE_RATE

_FADE = 5  # frames
_ROLL = 8  # frames of the clip shown before and after an utterance at most, so that lips open and close in time
_EVERY = 5  # the mesh is found on every so many frames, and goes straight between them
_LONGEST_S = 120
_QUIET_S = 1.0  # a shorter silence, shown over and over, would look like chewing


@dataclass(frozen=True)
class Footage:
    """A decoded clip.

    Attributes:
        frames: JPEG bytes of each frame, at the conversation's rate and no higher than it needs.
        points: mesh float32 [T, 478, 2] in pixels of the frames.
        begin: presentation time of the first frame, seconds.
    """

    frames: tuple[bytes, ...]
    points: np.ndarray
    size: tuple[int, int]
    begin: Fraction

    def frame(self, index: int) -> np.ndarray:
        import cv2

        coded = np.frombuffer(self.frames[index], np.uint8)
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1]


def is_clip(path: Path) -> bool:
    """Whether a file is to be read as a video: whether it is not a photograph.

    Raises:
        UsageError: if it is not there.
    """
    from PIL import Image

    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    try:
        with Image.open(path):
            return False
    except Image.DecompressionBombError:
        return False  # a picture, and `read_picture` says what is wrong with it
    except PICTURE_DAMAGE:
        return True


def read_footage(
    path: Path,
    fps: Fraction,
    height: int,
    detector: FaceDetector,
    landmarker: FaceLandmarker,
    until: float | None = None,
) -> Footage:
    """Decode a clip (its first `until` seconds, at most two minutes) and find its one face.

    Raises:
        UsageError: if it does not decode, or its face is not there all the time.
    """
    import cv2

    coded: list[bytes] = []
    found: list[np.ndarray] = []
    begin: Fraction | None = None
    size = (0, 0)
    longest = int(min(_LONGEST_S, until or _LONGEST_S) * fps)
    for time, picture in _pictures(path, height):
        if len(coded) >= longest:
            break
        begin = time if begin is None else begin
        while Fraction(len(coded), 1) / fps <= time - begin and len(coded) < longest:
            size = (picture.shape[1], picture.shape[0])
            if len(coded) % _EVERY == 0:
                where = f"{path} at {float(time):.2f} s"
                found.append(portrait(picture, detector, landmarker, where).points[:, :2])
            _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
            coded.append(data.tobytes())
    if begin is None or len(coded) < 2:
        raise UsageError(f"{path} holds no frames that can be read")
    at = np.minimum(np.arange(len(coded)) / _EVERY, len(found) - 1)
    low = np.floor(at).astype(int)
    part = (at - low)[:, None, None]
    stack = np.stack(found)
    points = stack[low] * (1 - part) + stack[np.minimum(low + 1, len(found) - 1)] * part
    return Footage(tuple(coded), points.astype(np.float32), size, begin)


def _pictures(path: Path, height: int) -> Iterator[tuple[Fraction, np.ndarray]]:
    """(presentation time, uint8 RGB [H, W, 3]) of each frame as a viewer sees it, its shorter side at most `height`."""
    try:
        video = probe(path).video
    except UnreadableSource as error:
        raise UsageError(f"{path} is neither a picture nor a video: {error}") from error
    if video is None:
        raise UsageError(f"{path} holds no pictures")
    upright = Upright(display_size(video, height), "rgb24")
    for frame in PictureReader(path, video):
        yield frame.time, upright(frame.picture).to_ndarray()


@dataclass(frozen=True)
class Reel:
    """Which frame of the clip is shown in each frame of the conversation, int [T]; `under` fades out by `weight`."""

    index: np.ndarray
    under: np.ndarray
    weight: np.ndarray  # float32, share of `under`


def reel(plan: Sequence[Placed], person: str, speech: Sequence[Stretch], footage: Footage, fps: Fraction, frames: int) -> Reel:
    """Lay the clip out along the conversation: utterances where they were placed, quiet frames between them."""
    last = len(footage.frames) - 1
    index = np.full(frames, -1)
    said = sorted((item for item in plan if item.person == person), key=lambda item: item.at)
    begins = [round(item.at / SAMPLE_RATE * fps) for item in said]
    ends = [round(item.end / SAMPLE_RATE * fps) for item in said]
    for number, item in enumerate(said):
        offset = round(item.piece.start / SAMPLE_RATE * fps) - begins[number]
        before = ends[number - 1] if number else 0
        after = begins[number + 1] if number + 1 < len(said) else frames
        lead, trail = (int(gap / SAMPLE_RATE * fps / 2) for gap in _pauses(item.piece, speech))
        low = max(begins[number] - min(_ROLL, lead), (begins[number] + before) // 2, -offset, 0)
        high = min(ends[number] + min(_ROLL, trail), (ends[number] + after) // 2, last - offset + 1, frames)
        if low < high:
            index[low:high] = np.arange(low, high) + offset
    _fill(index, _quiet(speech, footage, fps))
    return _faded(np.clip(index, 0, last))


def _pauses(piece: Stretch, speech: Sequence[Stretch]) -> tuple[int, int]:
    """Samples of silence in the clip before and after a piece of its speech."""
    before = max((min(other.stop, piece.start) for other in speech if other.start < piece.start), default=0)
    after = min((max(other.start, piece.stop) for other in speech if other.stop > piece.stop), default=None)
    return piece.start - before, 2 * _ROLL * SAMPLE_RATE if after is None else after - piece.stop


def _quiet(speech: Sequence[Stretch], footage: Footage, fps: Fraction) -> np.ndarray:
    """Frames of the clip to show in silence, in order, to be repeated."""
    edges = [round(edge / SAMPLE_RATE * fps) for piece in speech for edge in (piece.start, piece.stop)]
    gaps: list[tuple[int, int]] = list(zip([0, *edges[1::2]], [*edges[::2], len(footage.frames)], strict=True))
    margin = max(1, int(fps / 8))
    inner = [(a + margin, b - margin) for a, b in gaps]
    low, high = max(inner, key=lambda gap: gap[1] - gap[0])
    if high - low >= _QUIET_S * fps:
        there = np.arange(low, high)
        return np.concatenate([there, there[-2:0:-1]])
    opening = np.linalg.norm(footage.points[:, 13] - footage.points[:, 14], axis=1)
    return np.array([int(opening.argmin())])


def _fill(index: np.ndarray, quiet: np.ndarray) -> None:
    """Put quiet frames where nothing was placed; they go on where the last silence stopped."""
    empty = np.flatnonzero(index < 0)
    index[empty] = quiet[np.arange(len(empty)) % len(quiet)]


def _faded(index: np.ndarray) -> Reel:
    under, weight = index.copy(), np.zeros(len(index), np.float32)
    for join in (np.flatnonzero(np.abs(np.diff(index)) > 1) + 1).tolist():
        stop = min(join + _FADE, len(index))
        under[join:stop] = index[join - 1]
        weight[join:stop] = (1 - np.arange(1, _FADE + 1) / (_FADE + 1))[: stop - join]
    return Reel(index, under, weight)


@dataclass(frozen=True)
class ClipFigure:
    """A person of whom there is a clip."""

    footage: Footage
    reel: Reel

    def still(self, panel: Panel) -> np.ndarray:
        return fit(self.footage.frame(int(self.reel.index[0])), self._place(panel), panel)

    def picture(self, panel: Panel, tone: np.ndarray | None) -> _ClipPicture:
        return _ClipPicture(self.footage, self.reel, self._place(panel), panel, tone)

    def _place(self, panel: Panel) -> Placement:
        middle = np.median(self.footage.points, axis=0)
        return place(np.concatenate([middle.min(0), middle.max(0)]), self.footage.size, panel)


@dataclass(frozen=True)
class _ClipPicture:
    footage: Footage
    reel: Reel
    placement: Placement
    panel: Panel
    tone: np.ndarray | None

    def draw(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        index, under, weight = self.reel.index[frame], self.reel.under[frame], float(self.reel.weight[frame])
        picture = self.footage.frame(int(index))
        points = self.footage.points[index]
        if weight > 0:
            mixed = picture * (1 - weight) + self.footage.frame(int(under)) * weight
            picture = (mixed + 0.5).astype(np.uint8)
            points = points * (1 - weight) + self.footage.points[under] * weight
        out = fit(picture, self.placement, self.panel)
        return (out if self.tone is None else toned(out, self.tone)), self.placement.points(points)
