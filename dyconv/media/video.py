"""Normalized video: 25 fps CFR H.264 without sound, read and written by frame index.

Everything here is about files that `normalize` or later stages made. Foreign files, with their variable rates,
rotations and odd start times, are read by `dyconv.media.source`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter

from dyconv.errors import StoreError
from dyconv.media.own import named, opened_video
from dyconv.media.splice import OWN_ID, Piece, join, packets_between
from dyconv.media.x264 import SAME_EVERYWHERE, THREADS
from dyconv.time import FPS

_CRF = 18  # of what has to be encoded a second time
_MP4 = {"fflags": "+bitexact", "movflags": "+faststart"}
# Exact rounding: the same pixels whatever vector units the machine has.
_SCALING = int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT)


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
    scaler = VideoReformatter()
    for _, picture in iter_pictures(path, start, stop):
        width, height = size or (picture.width, picture.height)
        yield scaler.reformat(picture, width, height, "rgb24", interpolation=_SCALING, threads=1).to_ndarray()


def iter_pictures(path: Path | BinaryIO, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, av.VideoFrame]]:
    """(index, frame as decoded) of frames `start` up to `stop` of a normalized video, in order.

    Raises:
        StoreError: if the file does not decode, ends before `stop`, or a frame is missing.
    """
    wanted = start
    with opened_video(path) as (container, stream):
        stream.thread_type = "AUTO"
        if start:
            container.seek(int(Fraction(start, FPS) / stream.time_base), stream=stream, backward=True)
        for frame in container.decode(stream):
            index = -1 if frame.pts is None else round(frame.pts * stream.time_base * FPS)
            if index < wanted:
                continue
            if stop is not None and index >= stop:
                return
            if index != wanted:
                raise StoreError(f"{named(path)} is not constant 25 fps: frame {index} follows {wanted - 1}")
            yield index, frame
            wanted += 1
    if stop is not None and wanted < stop:
        raise StoreError(f"{named(path)} ends at frame {wanted}, expected {stop}")


def frame_count(path: Path | BinaryIO) -> int:
    """Number of frames of a normalized video, from its packets."""
    with opened_video(path) as (container, stream):
        return sum(1 for packet in container.demux(stream) if packet.size)


def keyframes(path: Path) -> list[int]:
    """Frames of a normalized video that begin a group of pictures, rising."""
    with opened_video(path) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size and packet.is_keyframe]
        return sorted(round((packet.pts or 0) * stream.time_base * FPS) for packet in packets)


def frame_size(path: Path | BinaryIO) -> tuple[int, int]:
    """(width, height) in pixels."""
    with opened_video(path) as (_, stream):
        return stream.width, stream.height


def cut_video(path: Path, target: Path, start: int, stop: int) -> bool:
    """Write frames `start` up to `stop` of a normalized video as a video of its own.

    Packets are copied where the cut begins on an IDR frame and ends before one, or at the end. Otherwise the whole groups of
    pictures inside are copied, and the frames before and after them encoded again. Returns whether all were copied.

    Raises:
        StoreError: if what was written has not exactly the frames asked for.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = packets_between(container, stream, start, stop)
        if packets is not None:
            _copy_packets(stream, packets, target, start)
    if packets is None:
        _encode_ends(path, target, start, stop)
    found = frame_count(target)
    if found != stop - start:
        raise StoreError(f"{target.name}: expected {stop - start} frames, wrote {found}", hint="please report this")
    return packets is not None


def _copy_packets(stream: Any, packets: list[av.Packet], target: Path, start: int) -> None:
    shift = int(Fraction(start, FPS) / stream.time_base)
    with av.open(str(target), "w", format="mp4", options=dict(_MP4)) as container:
        copy = container.add_stream_from_template(stream)
        copy.time_base = stream.time_base
        for packet in packets:
            packet.pts = (packet.pts or 0) - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            packet.stream = copy
            container.mux(packet)


def _encode_ends(path: Path, target: Path, start: int, stop: int) -> None:
    """Copy the groups of pictures that lie inside, and encode what of others is left at both ends."""
    inside = [edge for edge in (*keyframes(path), frame_count(path)) if start <= edge <= stop]
    low, high = (inside[0], inside[-1]) if len(inside) > 1 else (stop, stop)
    ends = target.with_name(f"{target.name}.ends.mp4")
    try:
        if low < high:
            _encode_again(path, ends, [(start, low), (high, stop)], own_sets=True)
            pieces = [Piece(ends, 0, low - start), Piece(path, low, high), Piece(ends, low - start, low - start + stop - high)]
            if join([piece for piece in pieces if piece.start < piece.stop], target, like=path, options=dict(_MP4)):
                return
        _encode_again(path, target, [(start, stop)])
    finally:
        ends.unlink(missing_ok=True)


def _encode_again(path: Path, target: Path, ranges: Sequence[tuple[int, int]], *, own_sets: bool = False) -> None:
    """Write ranges of frames one after the other; each begins with an IDR frame."""
    writer: VideoWriter | None = None
    begins = [ranges[0][1] - ranges[0][0]]
    try:
        for _, picture in chain.from_iterable(iter_pictures(path, *frames) for frames in ranges if frames[0] < frames[1]):
            if writer is None:
                size = picture.width, picture.height
                writer = VideoWriter(target, *size, like=picture, crf=_CRF, keyframes=begins, own_sets=own_sets)
            writer.write(picture)
    finally:
        if writer is not None:
            writer.__exit__(None, None, None)


class VideoWriter:
    """Writes 25 fps H.264 (yuv420p, closed groups of pictures, no sound) whose bytes depend on the frames alone.

    Use as a context manager. Width and height must be even.

    Args:
        keyframes: frame indices that get an IDR frame, so that a later cut there copies packets without encoding.
        like: a frame whose colour tags the video gets; untagged if not given.
        own_sets: its parameter sets get an id of their own, so that it can be joined to another video.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        *,
        crf: int = 20,
        preset: str = "veryfast",
        keyframes: Collection[int] = (),
        like: av.VideoFrame | None = None,
        own_sets: bool = False,
    ) -> None:
        if width % 2 or height % 2:
            raise ValueError(f"yuv420p wants even sizes, got {width}x{height}")
        self.count = 0
        self._keyframes = frozenset(keyframes)
        self._container = av.open(str(path), "w", format="mp4", options=dict(_MP4))
        stream = self._container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.codec_context.time_base = Fraction(1, FPS)
        stream.codec_context.thread_count = THREADS
        stream.codec_context.flags |= av.codec.context.Flags.closed_gop
        if like is not None and not like.format.is_rgb:
            stream.codec_context.colorspace = like.colorspace
            stream.codec_context.color_primaries = like.color_primaries
            stream.codec_context.color_trc = like.color_trc
        params = f"{SAME_EVERYWHERE}:sps-id={OWN_ID}" if own_sets else SAME_EVERYWHERE
        own = {"preset": preset, "crf": str(crf), "x264-params": params}
        stream.options = {**own, "forced-idr": "1", "g": str(10 * FPS), "a53cc": "0"}
        self._stream = stream
        self._scaler = VideoReformatter()

    def write(self, frame: np.ndarray | av.VideoFrame) -> None:
        """Append one frame: uint8 RGB [H, W, 3], or a PyAV frame (its own timestamp is ignored)."""
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24") if isinstance(frame, np.ndarray) else frame
        if picture.format.name != "yuv420p":
            picture = self._scaler.reformat(picture, format="yuv420p", interpolation=_SCALING, threads=1)
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
