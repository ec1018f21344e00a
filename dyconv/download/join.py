"""Two files that are one conversation: each person recorded apart becomes one picture and a channel of the sound.

The first file is the left person's picture and sound. The second is the other's: where it has a picture, both stand side
by side; where it has only sound, the first one's picture is taken as it is. The left channel is the first file's sound,
the right one the second's, each mixed to mono. Both files begin with their first picture (with their first sound,
where they have no picture), and the shorter of the two ends the result.

The result is Matroska on the clock of everything after `normalize`: 25 frames a second, where frame k shows what is on
screen at (k + 1/2) / 25 s, and 16 kHz FLAC, so that normalizing it moves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np

from dyconv.media.picture import PictureReader, Upright, display_size
from dyconv.media.sound import read_sound
from dyconv.media.source import AudioFacts, UnreadableSource, VideoFacts, pick_audio, probe
from dyconv.media.video import VideoWriter
from dyconv.records import DropReason
from dyconv.time import FPS, SAMPLE_RATE, Span, frame_samples, frame_time, nearest_frame

_CRF = 14  # it is encoded once more by `normalize`
_CHUNK = 60 * FPS  # frames of sound in memory at a time
_MARGIN = 5  # frames read on both sides of a chunk, so that no filter starts or ends in what is used
_MAX_GAP = Fraction(1)  # s of sound that may be missing, or a tenth of the whole
_NAMES = ("the first file", "the partner's file")


class NotJoinable(Exception):
    """The two files do not make one conversation, for a reason of the data."""

    def __init__(self, reason: DropReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class _Part:
    """One of the two files. Its time counts from `start`, its first picture, or its first sound where it has none."""

    name: str
    path: Path
    start: Fraction
    length: Fraction  # s from `start` for which everything that is used of it lasts
    audio: AudioFacts
    video: VideoFacts | None


def join(first: Path, second: Path, target: Path, *, max_height: int = 0, language: str | None = None) -> Fraction:
    """Write both files into one, and return by how many seconds the longer one was cut.

    Args:
        target: a Matroska file; `target` with another suffix is used and removed on the way.
        max_height: limit of the pictures' height in pixels; 0 is none.
        language: BCP 47, to pick the sound track where a file has several.

    Raises:
        NotJoinable: a file is not media, has no sound, or has less than it says; or the first has no picture.
    """
    parts = [_part(name, path, language) for name, path in zip(_NAMES, (first, second), strict=True)]
    if parts[0].video is None:
        raise NotJoinable(DropReason.NO_VIDEO, f"{parts[0].name} has no picture; the one with a picture comes first")
    frames = int(min(part.length for part in parts) * FPS)
    if frames < 1:
        raise NotJoinable(DropReason.TOO_SHORT, "the shorter of the two files lasts less than a frame")
    pictures = target.with_suffix(".pictures.mp4")
    try:
        _write_pictures(parts, frames, pictures, max_height)
        _mux(parts, frames, pictures, target)
    finally:
        pictures.unlink(missing_ok=True)
    return max(part.length for part in parts) - frame_time(frames)


def _part(name: str, path: Path, language: str | None) -> _Part:
    try:
        info = probe(path)
    except UnreadableSource as error:
        raise NotJoinable(DropReason.UNREADABLE, f"{name}: {error.message}") from error
    audio = pick_audio(info, language)
    if audio is None:
        raise NotJoinable(DropReason.NO_AUDIO, f"{name} has no sound track")
    start = info.video.start if info.video else audio.start
    end = min(audio.end, info.video.end) if info.video else audio.end
    return _Part(name, path, start, max(end - start, Fraction(0)), audio, info.video)


def _write_pictures(parts: list[_Part], frames: int, target: Path, max_height: int) -> None:
    seen = [(part, part.video) for part in parts if part.video is not None]
    shown = [display_size(video) for _, video in seen]
    height = min([*(size[1] for size in shown), *([max_height] if max_height else [])]) // 2 * 2
    sizes = [(max(2, 2 * round(Fraction(width * height, 2 * tall))), height) for width, tall in shown]
    readers = [_pictures(part, video, size, frames) for (part, video), size in zip(seen, sizes, strict=True)]
    with VideoWriter(target, sum(width for width, _ in sizes), height, crf=_CRF) as writer:
        for row in zip(*readers, strict=True):
            writer.write(np.concatenate(row, axis=1))


def _pictures(part: _Part, video: VideoFacts, size: tuple[int, int], frames: int) -> Iterator[np.ndarray]:
    """Exactly `frames` pictures uint8 RGB [H, W, 3], one for each 25 fps frame; the last one decoded is held."""
    upright = Upright(size, "rgb24")
    held: av.VideoFrame | None = None
    count = 0
    last = part.start
    span = Span(part.start, part.start + frame_time(frames))
    for frame in chain(PictureReader(part.path, video, span), [None]):
        until = frames if frame is None else min(nearest_frame(frame.time - part.start), frames)
        if held is not None and until > count:
            picture = upright(held).to_ndarray()
            for _ in range(count, until):
                yield picture
            count = until
        if frame is not None:
            held, last = frame.picture, frame.time
    if held is None or span.end - last > _MAX_GAP + video.frame:
        raise NotJoinable(DropReason.TRUNCATED, f"{part.name}: pictures break off at {float(last - part.start):.2f} s")


def _mux(parts: list[_Part], frames: int, pictures: Path, target: Path) -> None:
    with (
        av.open(str(pictures)) as source,
        av.open(str(target), "w", format="matroska", options={"fflags": "+bitexact"}) as container,
    ):
        video: Any = container.add_stream_from_template(source.streams.video[0])
        audio: Any = container.add_stream("flac", rate=SAMPLE_RATE, layout="stereo")
        seen = (packet for packet in source.demux(source.streams.video[0]) if packet.size)
        for packet in merge(seen, _encoded(parts, frames, audio), key=lambda packet: packet.dts * packet.time_base):
            packet.stream = audio if packet.stream is audio else video
            container.mux(packet)


def _encoded(parts: list[_Part], frames: int, stream: Any) -> Iterator[Any]:
    """Packets of both sounds as the two channels."""
    missing = [Fraction(0)] * len(parts)
    for begin in range(0, frames, _CHUNK):
        heard = [_sound(part, begin, min(begin + _CHUNK, frames)) for part in parts]
        missing = [before + lost for before, (_, lost) in zip(missing, heard, strict=True)]
        yield from stream.encode(_audio_frame(np.stack([samples for samples, _ in heard]), begin))
    yield from stream.encode(None)
    for part, lost in zip(parts, missing, strict=True):
        if lost > max(_MAX_GAP, frame_time(frames) / 10):
            found = f"{float(lost):.1f} of {float(frame_time(frames)):.1f} s of its sound are missing"
            raise NotJoinable(DropReason.TRUNCATED, f"{part.name}: {found}")


def _sound(part: _Part, begin: int, stop: int) -> tuple[np.ndarray, Fraction]:
    """Mono float32 samples of 25 fps frames [begin, stop), and how many seconds of them the file does not have."""
    low = max(begin - _MARGIN, 0)
    span = Span.of_frames(low, stop + _MARGIN).shift(part.start)
    sound = read_sound(part.path, part.audio, span)
    samples = sound.samples[frame_samples(begin - low) : frame_samples(stop - low)]
    lost = (1 - Fraction(sound.covered).limit_denominator(10**6)) * span.duration
    return samples, lost if lost > frame_time(2 * _MARGIN) else Fraction(0)


def _audio_frame(samples: np.ndarray, begin: int) -> av.AudioFrame:
    pcm = np.clip(np.rint(samples.T * 32768.0), -32768, 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm).reshape(1, -1), format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, frame_samples(begin), Fraction(1, SAMPLE_RATE)
    return frame
