"""Reading the videos that are compared: frame by frame at one size, and refused where they cannot be compared.

A video must have exactly 25 frames a second, as many frames as the clip, and a square picture. It is never stretched, cut or
repeated to fit: numbers of frames that do not belong together mean nothing.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dyconv.errors import DyconvError
from dyconv.time import FPS

if TYPE_CHECKING:
    import av

_NEAR = Fraction(1, 4 * FPS)  # s: containers round timestamps (Matroska to 1 ms); a frame this far off is another frame
_SQUARE = r"crop=min(iw\,ih):min(iw\,ih),setsar=1"  # for ffmpeg


class BadVideo(DyconvError):
    """A video that cannot be compared: which, what was expected, what was found, and the fix."""


@dataclass(frozen=True)
class Video:
    """A video that was looked through: T frames at 25 fps.

    Attributes:
        source: its bytes, or its file.
        where: how it is called in errors.
        size: side of its picture, pixels.
        frames: T.
    """

    source: bytes | Path = field(repr=False)
    where: str
    size: int
    frames: int

    def chunks(self, size: int, count: int) -> Iterator[np.ndarray]:
        """Frames in order as uint8 RGB [n, size, size, 3], `count` at a time (the last are what is left).

        Only these are held. Pictures are shrunk by area averages and enlarged bilinearly, as the pipeline does
        (`dyconv.infp.mask.at_size`), so that a true and a made video of different sizes are treated alike.

        Raises:
            BadVideo: where it breaks off or is damaged on the way.
        """
        waiting: list[np.ndarray] = []
        for picture in self._pictures():
            waiting.append(resized(picture, size))
            if len(waiting) == count:
                yield np.stack(waiting)
                waiting = []
        if waiting:
            yield np.stack(waiting)

    def _pictures(self) -> Iterator[np.ndarray]:
        """uint8 RGB [S, S, 3], all of them or an error."""
        import av
        from av.video.reformatter import Interpolation, VideoReformatter

        scaler, done = VideoReformatter(), 0
        # Without FULL_CHR_H_INT, swscale's exact rounding makes RGB darker by 2 of 255, which a film would lose each time.
        kind = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
        try:
            with av.open(_opened(self.source)) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                stream.codec_context.options = {"err_detect": "explode"}  # damaged frames are errors, not invented pictures
                for frame in container.decode(stream):
                    if frame.is_corrupt:
                        raise self._damaged(done, "it is damaged")
                    yield scaler.reformat(frame, format="rgb24", interpolation=int(kind), threads=1).to_ndarray()
                    done += 1
        except av.FFmpegError as error:
            raise self._damaged(done, str(error)) from error
        if done != self.frames:
            raise self._damaged(done, "it ends there")

    def _damaged(self, frame: int, why: str) -> BadVideo:
        return BadVideo(f"{self.where}: expected {self.frames} readable frames, found {frame}: {why}", hint=_again(self.source))


def open_video(source: bytes | Path, *, frames: int, where: str) -> Video:
    """A video after its packets were looked through; pictures are decoded later.

    Args:
        source: its bytes, or its file.
        frames: T that it must have.
        where: how it is called in errors: a file's path, or member and clip.

    Raises:
        BadVideo: where there is no such file, it holds no video, is cut off or damaged, turned, not square, not of constant
            25 fps, or of another length. The hint is what puts it right.
    """
    import av

    if isinstance(source, Path) and not source.is_file():
        raise BadVideo(f"{where}: expected a video, found no such file", hint="make it, or give the right folder")
    try:
        with av.open(_opened(source)) as container:
            if not any(stream.codec_context for stream in container.streams.video):  # none for a codec that is not told
                kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
                fix = f"give the file with the pictures; if this should be it, {_again(source)}"
                raise BadVideo(f"{where}: expected a video stream, found {kinds}", hint=fix)
            stream = container.streams.video[0]
            told, width, height = stream.frames, stream.width, stream.height
            wide = stream.sample_aspect_ratio or Fraction(1)
            held, times = _times(container, stream)
            turned = _turn(container, stream)
    except av.FFmpegError as error:
        raise BadVideo(
            f"{where}: expected a video, found a file that is cut off or damaged: {error}", hint=_again(source)
        ) from error
    if not times or held < told:
        raise BadVideo(f"{where}: is cut off: it says {told} frames, {held} are there", hint=_again(source))
    if width != height or wide != 1 or turned:
        shape = (
            f"{width} x {height}" + (f", pixels {wide} wide" if wide != 1 else "") + (f", turned {turned}" if turned else "")
        )
        raise BadVideo(
            f"{where}: expected a square upright picture, found {shape}",
            hint=f"make it of the square face crop of the build, or cut it: {_ffmpeg(source, '-vf', _SQUARE)}",
        )
    _check_rate(times, source, where)
    if len(times) != frames:
        raise _length(len(times), frames, source, where)
    return Video(source, where, width, frames)


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    """uint8 RGB [size, size, 3] of a square one of any size."""
    import cv2

    if picture.shape[0] == size:
        return picture
    method = cv2.INTER_AREA if picture.shape[0] > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (size, size), interpolation=method))


def _opened(source: bytes | Path) -> Any:
    return io.BytesIO(source) if isinstance(source, bytes) else str(source)


def _times(container: Any, stream: av.VideoStream) -> tuple[int, list[Fraction]]:
    """How many frames are held, and when those that are shown (edit lists skip some) are, seconds, rising. Decodes nothing."""
    base = stream.time_base or Fraction(1, FPS)
    held = [packet for packet in container.demux(stream) if packet.size]
    shown = [packet for packet in held if not packet.is_discard]
    told = [packet.pts for packet in shown if packet.pts is not None]
    if len(told) != len(shown):  # raw streams and AVI tell no order; these are constant by construction
        rate = stream.average_rate or stream.base_rate or Fraction(FPS)
        return len(held), [index / Fraction(rate) for index in range(len(shown))]
    return len(held), sorted(pts * base for pts in told)


def _turn(container: Any, stream: av.VideoStream) -> int:
    """Degrees that players turn the picture by: the first frame says it."""
    container.seek(0)
    return next((int(frame.rotation) % 360 for frame in container.decode(stream)), 0)


def _check_rate(times: list[Fraction], source: bytes | Path, where: str) -> None:
    """
    Raises:
        BadVideo: where a frame is not where it is at 25 a second.
    """
    if all(abs(time - times[0] - Fraction(index, FPS)) <= _NEAR for index, time in enumerate(times)):
        return
    steps = np.diff(np.asarray([float(time) for time in times]))
    mean, even = float(1 / steps.mean()), float(np.ptp(steps)) < 0.25 * float(steps.mean())
    found = f"{mean:.3f} fps" if even else f"frames at uneven times, {mean:.3f} a second on average"
    raise BadVideo(
        f"{where}: expected constant {FPS} fps, found {found}",
        hint=f"make it at {FPS} fps, or convert it (frames are then repeated or left out): {_ffmpeg(source, '-r', str(FPS))}",
    )


def _length(found: int, frames: int, source: bytes | Path, where: str) -> BadVideo:
    message = (
        f"{where}: expected {frames} frames ({frames / FPS:.2f} s, as long as the clip), found {found} ({found / FPS:.2f} s)"
    )
    if found > frames:
        first = _ffmpeg(source, "-frames:v", str(frames))
        return BadVideo(message, hint=f"make it as long as the clip's voices; if only its end is too much: {first}")
    return BadVideo(message, hint="make it as long as the clip's voices: a frame for each 640 samples at 16 kHz")


def _ffmpeg(source: bytes | Path, *options: str) -> str:
    name = str(source) if isinstance(source, Path) else "IN.mp4"
    return shlex.join(["ffmpeg", "-i", name, *options, "-c:v", "libx264", "-crf", "8", "OUT.mp4"])


def _again(source: bytes | Path) -> str:
    if isinstance(source, Path):
        return f"delete it and run the same command again, or copy it here again: {source}"
    return "run `dyconv check` on the build; `dyconv pack` writes a damaged shard anew once it is deleted"
