"""Opening normalized video and sound: of our own making, or out of a shard that says so.

A member of a shard may be anything whatever its name says. Only MP4 and Matroska are opened as video and what libsndfile knows
as sound, so that no playlist in disguise opens other files; and no more is decoded than the bounds allow (`dyconv.bounds`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import av

from dyconv.bounds import PIXELS
from dyconv.errors import StoreError

_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"}


@contextmanager
def opened_video(source: Path | BinaryIO) -> Iterator[tuple[Any, Any]]:
    """(container, video stream) of an MP4 or Matroska file, or of an open one.

    Raises:
        StoreError: if it is none, has no pictures or larger ones than are read; also for what its packets turn out to be.
    """
    try:
        file = str(source) if isinstance(source, Path) else source
        with av.open(file, container_options=_OPTIONS, metadata_errors="replace") as container:
            stream = next(iter(container.streams.video), None)
            if stream is None or stream.codec_context is None or not stream.time_base:
                raise StoreError(f"{named(source)} has no pictures that can be read")
            width, height = stream.codec_context.width, stream.codec_context.height
            if PIXELS.passed_by(width * height):
                raise StoreError(f"{named(source)} has pictures of {width} x {height} pixels", hint=PIXELS.hint)
            stream.codec_context.options = {"max_pixels": str(PIXELS.now)}
            yield container, stream
    except av.FFmpegError as error:
        raise StoreError(f"{named(source)} is not readable as video: {error.strerror}") from error


def named(source: Path | BinaryIO) -> str:
    """What a file is called in an error: its path, where it has one."""
    return str(source) if isinstance(source, Path) else str(getattr(source, "name", None) or "the member")
