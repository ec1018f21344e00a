"""Sound against picture of a finished clip, measured against the source it came from.

`normalize` measures what it wrote. Later stages cut that again, so the score measures once more, on what is kept.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import numpy as np

from dyconv.media.audio import read_audio
from dyconv.media.avsync import picture_shift, sound_shift
from dyconv.media.picture import PictureReader, Upright
from dyconv.media.sound import read_native
from dyconv.media.source import AudioFacts, VideoFacts, pick_audio, probe
from dyconv.media.video import iter_pictures
from dyconv.records import Clip
from dyconv.time import Span, frame_samples, frame_time

_THUMB = (32, 18)
_WINDOW = 75  # frames in which one offset is measured
_WINDOWS = 3  # of them a clip, at most


class SyncMeter:
    """Measures clips of one source.

    Args:
        media: the source's file.
        language: of the sound track that was taken.

    Raises:
        UnreadableSource: if it is no media.
    """

    def __init__(self, media: Path, language: str | None) -> None:
        info = probe(media)
        self._media = media
        self._video: VideoFacts | None = info.video
        self._track: AudioFacts | None = pick_audio(info, language)

    def offset_s(self, clip: Clip, video: Path, mix: Path) -> float | None:
        """By how much the clip's sound is later against its picture than the source's; None where nothing moves or sounds."""
        if self._video is None or self._track is None:
            return None
        last = max(0, clip.frames - _WINDOW)
        starts = sorted({round(last * part / (_WINDOWS - 1)) for part in range(_WINDOWS)})
        shifts = []
        for begin in starts:
            stop = min(begin + _WINDOW, clip.frames)
            seen = self._picture(clip, video, begin, stop)
            if seen is None:
                continue
            written = read_audio(mix, frame_samples(begin), frame_samples(stop))
            heard = sound_shift(read_native(self._media, self._track, _span(clip, begin, stop)), written)
            if heard is not None:
                shifts.append(heard - seen)
        return median(shifts) if shifts else None

    def _picture(self, clip: Clip, video: Path, begin: int, stop: int) -> float | None:
        assert self._video is not None
        upright = Upright(_THUMB, "gray", quick=True)
        source = [
            (float(frame.time - clip.span.start), upright(frame.picture).to_ndarray().ravel())
            for frame in PictureReader(self._media, self._video, _span(clip, begin, stop))
        ]
        upright = Upright(_THUMB, "gray", quick=True)
        written = [
            (float(frame_time(index)), upright(picture).to_ndarray().ravel())
            for index, picture in iter_pictures(video, begin, stop)
        ]
        if not source or not written:
            return None
        (times, thumbs), (clock, seen) = (tuple(map(np.array, zip(*pairs, strict=True))) for pairs in (source, written))
        return picture_shift(times, thumbs, clock, seen)


def _span(clip: Clip, begin: int, stop: int) -> Span:
    """Frames of the clip as a span of the source's clock."""
    return Span.of_frames(begin, stop).shift(clip.span.start)
