"""Pictures of a foreign file as a viewer sees them: by presentation time, turned upright, with square pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from dyconv.media.source import VideoFacts, open_source, packets_of
from dyconv.time import Span

_EXACT = Interpolation.ACCURATE_RND | Interpolation.BITEXACT  # the same pixels whatever vector units the machine has
_TURNS: dict[tuple[int, bool], tuple[tuple[str, str], ...]] = {
    (0, False): (),
    (0, True): (("vflip", ""),),
    (90, False): (("transpose", "clock"),),
    (90, True): (("transpose", "cclock_flip"),),
    (180, False): (("hflip", ""), ("vflip", "")),
    (180, True): (("hflip", ""),),
    (270, False): (("transpose", "cclock"),),
    (270, True): (("transpose", "clock_flip"),),
}


@dataclass(frozen=True)
class SourceFrame:
    """One decoded frame, not yet turned or scaled. `time` is on the file's clock."""

    time: Fraction
    picture: av.VideoFrame
    damaged: bool


class PictureReader:
    """Iterates over the frames of a video stream in order of time; notes what would not decode.

    Args:
        span: only frames that start inside it, and the last one before it that is still on screen at its start.
        quick: leave out the loop filter where no other frame is predicted from the result; for measuring only.
    """

    def __init__(self, path: Path, video: VideoFacts, span: Span | None = None, *, quick: bool = False) -> None:
        self.path, self.video, self.span, self.quick = path, video, span, quick
        self.damage: list[Fraction] = []  # times of frames that are damaged, or after which a packet gave none

    def __iter__(self) -> Iterator[SourceFrame]:
        before: SourceFrame | None = None
        for frame in self._all():
            if self.span is None:
                yield frame
                continue
            if frame.time >= self.span.end:
                return
            if frame.time < self.span.start:
                before = frame
                continue
            if before is not None and frame.time > self.span.start:
                yield before
            before = None
            yield frame

    def _all(self) -> Iterator[SourceFrame]:
        last: Fraction | None = None
        with open_source(self.path) as container:
            stream: Any = container.streams[self.video.index]
            stream.thread_type = "AUTO"
            if self.quick:
                stream.codec_context.options = {**stream.codec_context.options, "skip_loop_filter": "noref"}
            base = stream.time_base
            if self.span is not None and self.span.start > self.video.start:
                container.seek(int(self.span.start // base), stream=stream, backward=True)
            for packet in packets_of(container, stream):
                try:
                    pictures = packet.decode()
                except av.FFmpegError:
                    self.damage.append(last if last is not None else self.video.start)
                    continue
                for picture in pictures:
                    time = picture.pts * base if picture.pts is not None else (last or self.video.start) + self.video.frame
                    if last is not None and time <= last:
                        continue
                    last = time
                    if picture.is_corrupt:
                        self.damage.append(time)
                    yield SourceFrame(time, picture, picture.is_corrupt)


def display_size(video: VideoFacts, max_height: int | None = None) -> tuple[int, int]:
    """(width, height) as shown, turned and with square pixels, both even.

    Pixels that are not square are stretched, never squeezed. The shorter side is limited to `max_height`.
    """
    width, height = Fraction(video.width), Fraction(video.height)
    if video.sar > 1:
        width *= video.sar
    else:
        height /= video.sar
    if video.rotation in (90, 270):
        width, height = height, width
    scale = min(Fraction(1), max_height / min(width, height)) if max_height else Fraction(1)
    return tuple(max(2, 2 * round(side * scale / 2)) for side in (width, height))  # type: ignore[return-value]


class Upright:
    """Turns and scales frames of one stream to a display size.

    Args:
        size: (width, height) as shown.
        pixels: FFmpeg's name of the pixel format wanted.
        quick: cheaper scaling, for pictures that are only measured.
    """

    def __init__(self, size: tuple[int, int], pixels: str = "yuv420p", *, quick: bool = False) -> None:
        self.size, self.pixels = size, pixels
        self._how = int((Interpolation.AREA if quick else Interpolation.BICUBIC) | _EXACT)
        self._scaler = VideoReformatter()
        self._graph: Graph | None = None
        self._graph_key: tuple[Any, ...] = ()

    def __call__(self, picture: av.VideoFrame) -> av.VideoFrame:
        """The picture upright; the very same frame where nothing needs to be done."""
        steps = _TURNS[_turn(picture)]
        width, height = self.size[::-1] if any(name == "transpose" for name, _ in steps) else self.size
        full_range = picture.color_range == ColorRange.JPEG or picture.format.name.startswith("yuvj")
        from_rgb = picture.format.is_rgb and not self.pixels.startswith(("rgb", "bgr"))
        scaled = self._scaler.reformat(
            picture,
            width,
            height,
            self.pixels,
            dst_colorspace=Colorspace.ITU709 if from_rgb else None,
            interpolation=self._how,
            dst_color_range=ColorRange.MPEG if full_range and self.pixels.startswith("yuv") else None,
            threads=1,
        )
        return self._turned(scaled, steps) if steps else scaled

    def _turned(self, picture: av.VideoFrame, steps: tuple[tuple[str, str], ...]) -> av.VideoFrame:
        key = (picture.width, picture.height, picture.format.name, steps)
        if self._graph is None or key != self._graph_key:
            self._graph, self._graph_key = Graph(), key
            nodes = [
                self._graph.add_buffer(
                    width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 90000)
                )
            ]
            nodes += [self._graph.add(name, args or None) for name, args in steps]
            self._graph.link_nodes(*nodes, self._graph.add("buffersink")).configure()
        self._graph.vpush(picture)
        return self._graph.vpull()


def _turn(picture: av.VideoFrame) -> tuple[int, bool]:
    """(clockwise degrees, mirrored) from the frame's display matrix, as FFmpeg's own player reads it."""
    data: Any = picture.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 0, False
    matrix = np.frombuffer(bytes(data), np.int32)
    turn = round(-picture.rotation / 90) % 4 * 90
    a, b, c, d = (int(matrix[index]) for index in (0, 1, 3, 4))
    return turn, a * d - b * c < 0
