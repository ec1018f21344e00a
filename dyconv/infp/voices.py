"""Sound as it goes with 25 fps frames: a block a frame, decoded as it is needed, so that memory does not grow with length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from dyconv.errors import UsageError
from dyconv.media.sound import sound_frames
from dyconv.media.source import AudioFacts, UnreadableSource, pick_audio, probe
from dyconv.time import FPS, FRAME, SAMPLE_RATE, Span

_JUMP = Fraction(1, 50)  # s: timestamps this far from the running count are believed, smaller jitter is not


@dataclass(frozen=True)
class Voice:
    """The sound track of a file, of which one person's voice is wanted."""

    path: Path
    track: AudioFacts
    span: Span

    @property
    def frames(self) -> int:
        """25 fps frames that it lasts for; one that has begun counts."""
        return -int(-self.span.duration // FRAME)

    def samples(self) -> np.ndarray:
        """All of it, mono 16 kHz float32 [frames * 640]."""
        return np.concatenate(list(blocks(self.path, self.track, self.span.start, self.frames, SAMPLE_RATE, 1)), axis=1)[0]


def open_voice(path: Path) -> Voice:
    """
    Raises:
        UsageError: where the file is not there, or holds no sound that can be read.
    """
    if not path.is_file():
        raise UsageError(f"no such file: {path}", hint="give a sound file such as a .wav")
    try:
        info = probe(path)
    except UnreadableSource as error:
        raise UsageError(f"{path} is no sound file: {error.message}", hint="give a sound file such as a .wav") from error
    track = pick_audio(info)
    if track is None or track.end <= track.start:
        raise UsageError(f"expected sound in {path}, found none", hint="give a sound file such as a .wav")
    return Voice(path, track, Span(min(info.start, track.start), track.end))


def blocks(path: Path, track: AudioFacts, start: Fraction, frames: int, rate: int, channels: int) -> Iterator[np.ndarray]:
    """float32 [channels, rate / 25] for each of `frames` frames from `start` (seconds, file clock); gaps are silent."""
    width = rate // FPS
    done, held = 0, np.zeros((channels, 0), np.float32)
    for part in _parts(path, track, Span(start, start + frames * FRAME), rate, channels):
        held = np.concatenate([held, part], axis=1)
        whole = held.shape[1] // width
        for index in range(min(whole, frames - done)):
            yield held[:, index * width : (index + 1) * width]
        done += min(whole, frames - done)
        held = held[:, whole * width :]
    for _ in range(done, frames):
        rest = held[:, :width]
        held = held[:, width:]
        yield np.pad(rest, ((0, 0), (0, width - rest.shape[1])))


def _parts(path: Path, track: AudioFacts, span: Span, rate: int, channels: int) -> Iterator[np.ndarray]:
    """What is heard from the span's start on, without gaps, in pieces [channels, n] of any length."""
    at = 0  # samples given
    resampler: av.AudioResampler | None = None
    expected: Fraction | None = None
    skip = 0
    for time, frame in sound_frames(path, track, span, [0]):
        if resampler is None or expected is None or abs(time - expected) > _JUMP:
            for part in _resampled(resampler, None):
                yield part
                at += part.shape[1]
            resampler = av.AudioResampler(format="fltp", layout="stereo" if channels == 2 else "mono", rate=rate)
            place = round((time - span.start) * rate)
            if place > at:
                yield np.zeros((channels, place - at), np.float32)
                at = place
            skip, expected = at - place, time
        expected += Fraction(frame.samples, frame.sample_rate)
        frame.pts = None
        for part in _resampled(resampler, frame):
            kept = part[:, min(skip, part.shape[1]) :]
            skip -= part.shape[1] - kept.shape[1]
            yield kept
            at += kept.shape[1]
    yield from _resampled(resampler, None)


def _resampled(resampler: av.AudioResampler | None, frame: av.AudioFrame | None) -> list[np.ndarray]:
    return [] if resampler is None else [np.nan_to_num(part.to_ndarray()) for part in resampler.resample(frame)]
