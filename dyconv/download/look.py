"""A first look at a downloaded body: is it media at all, which container, and from when to when does it present.

Damage that leaves something to see is not judged here; the stages after this one know what they need.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av

from dyconv.media.source import SourceInfo, UnreadableSource, open_source, packets_of, probe
from dyconv.time import Span

# By FFmpeg's name of the container, never by the address: that one is the host's to choose.
_SUFFIXES = {
    "mov": ".mp4",
    "matroska": ".mkv",
    "avi": ".avi",
    "mpegts": ".ts",
    "mpeg": ".mpg",
    "flv": ".flv",
    "asf": ".wmv",
    "ogg": ".ogv",
    "mxf": ".mxf",
    "wav": ".wav",
    "flac": ".flac",
    "mp3": ".mp3",
}
_TRIED_PACKETS = 400


class NotMedia(Exception):
    """The file is not media, or nothing of it decodes."""


@dataclass(frozen=True)
class Look:
    """What a media file is. `span` is on its own presentation clock."""

    suffix: str
    span: Span
    info: SourceInfo

    @property
    def short_side(self) -> int | None:
        """Pixels of the picture's shorter side as coded, None without a picture."""
        return min(self.info.video.width, self.info.video.height) if self.info.video else None


def look(path: Path) -> Look:
    """Decode one frame and read all packets' times.

    Raises:
        NotMedia: saying what was found.
    """
    if path.stat().st_size == 0:
        raise NotMedia("expected media, found zero bytes")
    try:
        _check_decodes(path)
        info = probe(path)
    except UnreadableSource as error:
        raise NotMedia(f"expected media, found {_start(path)}: {error.message}") from error
    span = Span(info.start, info.start + info.duration)
    return Look(_SUFFIXES.get(info.format.split(",")[0], ".media"), span, info)


def _start(path: Path) -> str:
    with path.open("rb") as file:
        return f"a file of {path.stat().st_size} bytes that starts {file.read(24)!r}"


def _check_decodes(path: Path) -> None:
    """Raise NotMedia unless at least one frame of picture or sound comes out of the first packets."""
    with open_source(path) as container:
        streams = [*container.streams.video, *container.streams.audio]
        if not streams:
            raise NotMedia(f"expected media, found {container.format.name} with neither pictures nor sound")
        for count, packet in enumerate(packets_of(container, streams)):
            try:
                if packet.decode():
                    return
            except av.FFmpegError:
                pass  # damaged: the next packet may be whole
            if count > _TRIED_PACKETS:
                break
    raise NotMedia(f"expected media, found {container.format.name} in which nothing decodes")
