"""Generated video on disk: 25 fps H.264 with AAC sound in an mp4 that is marked as synthetic.

This is the only writer of generated video. A film appears under its name complete and marked, or not at all.
"""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from dyconv.errors import UsageError
from dyconv.infp.mark import COMMENT, append_mark
from dyconv.media.x264 import SAME_EVERYWHERE, THREADS
from dyconv.store import fsync_path
from dyconv.time import FPS

SOUND_RATE = 48_000
SOUND_PER_FRAME = SOUND_RATE // FPS
_BT709 = 1  # FFmpeg's number of BT.709 for matrix, primaries and transfer alike
_LIMITED = 1  # and of video range
_SCALING = int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT)


class Film:
    """Writes one film. Use as a context manager; what ends in an exception leaves no file.

    Args:
        path: of the mp4 file; it is replaced if it is there.
        side: pixels of the square frames, even; their width where `height` is given.
        height: pixels, even, of frames that are not square.
        channels: of the sound at 48 kHz: 1, 2, or 0 for none.
        crf: x264's constant rate factor.

    Raises:
        UsageError: for a path that no mp4 file can be written to.
    """

    def __init__(self, path: Path, side: int, *, height: int | None = None, channels: int = 0, crf: int = 16) -> None:
        check_target(path)
        self.path, self.count = path, 0
        self._channels = channels
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        options = {"fflags": "+bitexact", "movflags": "+faststart"}
        try:
            self._container = av.open(str(self._part), "w", format="mp4", options=options)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}", hint="give another --out") from error
        self._container.metadata["comment"] = COMMENT
        self._video: Any = self._container.add_stream("libx264", rate=FPS)
        self._video.width, self._video.height = side, height or side
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.time_base = Fraction(1, FPS)
        context = self._video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        context.thread_count = THREADS
        self._video.options = {"preset": "medium", "crf": str(crf), "x264-params": SAME_EVERYWHERE}
        self._sound: Any = None
        if channels:
            self._sound = self._container.add_stream("aac", rate=SOUND_RATE, layout=self._layout)
            self._sound.bit_rate = 96_000 * channels
        self._scaler = VideoReformatter()

    @property
    def _layout(self) -> str:
        return "stereo" if self._channels == 2 else "mono"

    def write(self, frame: np.ndarray, sound: np.ndarray | None = None) -> None:
        """Append a frame uint8 RGB [height, side, 3], and what is heard while it is shown: float32 [channels, 1920]."""
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = self._scaler.reformat(
            picture, format="yuv420p", dst_colorspace=Colorspace.ITU709, interpolation=_SCALING, threads=1
        )
        picture.pts, picture.time_base = self.count, Fraction(1, FPS)
        self._container.mux(self._video.encode(picture))
        if self._sound is not None:
            wanted = (self._channels, SOUND_PER_FRAME)
            if sound is None or sound.shape != wanted:
                raise ValueError(f"expected sound {wanted} for a frame, found {None if sound is None else sound.shape}")
            heard = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound, np.float32), format="fltp", layout=self._layout)
            heard.sample_rate, heard.time_base = SOUND_RATE, Fraction(1, SOUND_RATE)
            heard.pts = self.count * SOUND_PER_FRAME
            self._container.mux(self._sound.encode(heard))
        self.count += 1

    def __enter__(self) -> Film:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and self.count:
                self._finish()
                return
            with contextlib.suppress(av.FFmpegError):
                self._container.close()
        finally:
            self._part.unlink(missing_ok=True)

    def _finish(self) -> None:
        for stream in (self._video, self._sound):
            if stream is not None:
                self._container.mux(stream.encode(None))
        self._container.close()
        append_mark(self._part)
        fsync_path(self._part)
        os.replace(self._part, self.path)


def check_target(path: Path) -> None:
    """
    Raises:
        UsageError: where no film can be written to `path`.
    """
    if path.suffix.lower() != ".mp4":
        raise UsageError(f"expected a film's name to end in .mp4, found {path}", hint="give --out NAME.mp4")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"lies in {path.parent}, which is no folder"
        raise UsageError(f"{path} {what}", hint="make the folder first, or give another name")
