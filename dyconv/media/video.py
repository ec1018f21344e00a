"""Normalized video: 25 fps CFR H.264 without sound, read and written by frame index.

Everything here is about files that `normalize` or later stages made. Foreign files, with their variable rates,
rotations and odd start times, are read by `dyconv.media.source`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import av
import numpy as np
from av.video.frame import PictureType

from dyconv.errors import StoreError
from dyconv.time import FPS

_THREADS = 2  # fixed: x264's output depends on the number of threads, and bytes must not depend on the machine


def _open(source: Path | BinaryIO) -> Any:
    return av.open(str(source) if isinstance(source, Path) else source)


def read_frames(
    path: Path | BinaryIO, start: int = 0, stop: int | None = None, *, size: tuple[int, int] | None = None
) -> Iterator[np.ndarray]:
    """Frames `start` up to `stop` of a normalized video as uint8 RGB [H, W, 3], in order.

    Args:
        path: a file, or an open one such as the bytes of a shard's member.
        size: (width, height) to scale to while converting.

    Raises:
        StoreError: if the file ends before `stop`.
    """
    wanted = start
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        if start:
            container.seek(int(Fraction(start, FPS) / stream.time_base), stream=stream, backward=True)
        for frame in container.decode(stream):
            index = round(frame.pts * stream.time_base * FPS)
            if index < wanted:
                continue
            if stop is not None and index >= stop:
                return
            if index != wanted:
                raise StoreError(f"{path} is not constant 25 fps: frame {index} follows {wanted - 1}")
            width, height = size or (frame.width, frame.height)
            yield frame.to_ndarray(format="rgb24", width=width, height=height)
            wanted += 1
    if stop is not None and wanted < stop:
        raise StoreError(f"{path} ends at frame {wanted}, expected {stop}")


def frame_count(path: Path | BinaryIO) -> int:
    """Number of frames of a normalized video, from its packets."""
    with _open(path) as container:
        return sum(1 for packet in container.demux(container.streams.video[0]) if packet.size)


def frame_size(path: Path | BinaryIO) -> tuple[int, int]:
    """(width, height) in pixels."""
    with _open(path) as container:
        stream = container.streams.video[0]
        return stream.width, stream.height


class VideoWriter:
    """Writes 25 fps H.264 (yuv420p, closed groups of pictures, no sound) whose bytes depend on the frames alone.

    Use as a context manager. Width and height must be even.

    Args:
        keyframes: frame indices that get an IDR frame, so that a later cut there copies packets without encoding.
    """

    def __init__(
        self, path: Path, width: int, height: int, *, crf: int = 20, preset: str = "veryfast", keyframes: Collection[int] = ()
    ) -> None:
        if width % 2 or height % 2:
            raise ValueError(f"yuv420p wants even sizes, got {width}x{height}")
        self.count = 0
        self._keyframes = frozenset(keyframes)
        self._container = av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"})
        stream = self._container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.codec_context.time_base = Fraction(1, FPS)
        stream.codec_context.thread_count = _THREADS
        stream.codec_context.flags |= av.codec.context.Flags.closed_gop
        stream.options = {"preset": preset, "crf": str(crf), "forced-idr": "1", "g": str(10 * FPS)}
        self._stream = stream

    def write(self, frame: np.ndarray | av.VideoFrame) -> None:
        """Append one frame: uint8 RGB [H, W, 3], or a PyAV frame (its own timestamp is ignored)."""
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24") if isinstance(frame, np.ndarray) else frame
        picture.pts = self.count
        picture.time_base = Fraction(1, FPS)
        picture.pict_type = PictureType.I if self.count in self._keyframes else PictureType.NONE
        self._container.mux(self._stream.encode(picture))
        self.count += 1

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()
