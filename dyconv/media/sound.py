"""Sound of a foreign file as mono 16 kHz, every sample at its presentation time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np

from dyconv.media.source import AudioFacts, open_source, packets_of
from dyconv.time import SAMPLE_RATE, Span, sample_at

_JUMP = Fraction(1, 50)  # s: timestamps this far from the running count of samples are believed, smaller jitter is not
_PREROLL = Fraction(1)  # s decoded before a span, so that the decoder has settled
_LEAD = Fraction(5)  # s: nearer to the beginning than this, decode from the beginning


@dataclass(frozen=True)
class Sound:
    """Samples float32 [n] in -1 to 1; `covered` is the share of them the file really has, the rest is silence."""

    samples: np.ndarray
    covered: float
    errors: int


class _Placer:
    """Puts runs of resampled sound where their first timestamp says."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.out = np.zeros(sample_at(span.duration), np.float32)
        self.have = np.zeros(len(self.out), bool)
        self._at = 0

    def begin(self, time: Fraction) -> None:
        self._at = sample_at(time - self.span.start)

    def add(self, samples: np.ndarray) -> None:
        low, high = max(self._at, 0), min(self._at + len(samples), len(self.out))
        if low < high:
            self.out[low:high] = samples[low - self._at : high - self._at]
            self.have[low:high] = True
        self._at += len(samples)


def read_sound(path: Path, track: AudioFacts, span: Span) -> Sound:
    """Decode what is heard during `span` (file clock) as mono 16 kHz.

    Priming and edit lists are honoured by the decoder. A gap in the timestamps, or a packet that does not decode, becomes
    silence. A track that starts after `span.start` starts late here too.
    """
    placer, errors = _Placer(span), [0]
    resampler: av.AudioResampler | None = None
    expected = Fraction(0)
    for time, frame in sound_frames(path, track, span, errors):
        if resampler is None or abs(time - expected) > _JUMP:
            _drain(resampler, placer)
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            placer.begin(time)
            expected = time
        expected += Fraction(frame.samples, frame.sample_rate)
        frame.pts = None
        for part in resampler.resample(frame):
            placer.add(part.to_ndarray()[0])
    _drain(resampler, placer)
    covered = float(placer.have.mean()) if len(placer.have) else 0.0
    return Sound(np.nan_to_num(placer.out), covered, errors[0])


def read_native(path: Path, track: AudioFacts, span: Span) -> np.ndarray:
    """The same stretch as float32 [n] at 16 kHz by another way, to check `read_sound` with.

    Channels are averaged, every decoded frame stands at its own timestamp, and samples are interpolated linearly: good
    enough to see where a sound is, not to listen to.
    """
    times, values = [], []
    for time, frame in sound_frames(path, track, span, [0]):
        raw: np.ndarray = frame.to_ndarray()
        full = 1.0 if raw.dtype.kind == "f" else float(np.iinfo(raw.dtype).max)
        block = raw.astype(np.float32) / full
        block = block.mean(axis=0) if frame.format.is_planar else block.reshape(-1, frame.layout.nb_channels).mean(axis=1)
        times.append(float(time - span.start) + np.arange(len(block)) / frame.sample_rate)
        values.append(block)
    grid = np.arange(sample_at(span.duration)) / SAMPLE_RATE
    if not times:
        return np.zeros(len(grid), np.float32)
    clock, heard = np.concatenate(times), np.concatenate(values)
    order = np.argsort(clock, kind="stable")  # timestamps in whole milliseconds make frames overlap a little
    return np.asarray(np.interp(grid, clock[order], heard[order], left=0.0, right=0.0), np.float32)


def sound_frames(path: Path, track: AudioFacts, span: Span, errors: list[int]) -> Iterator[tuple[Fraction, av.AudioFrame]]:
    """(presentation time, decoded frame) from a little before `span` to its end; `errors[0]` counts lost packets."""
    with open_source(path) as container:
        stream: Any = container.streams[track.index]
        base = stream.time_base
        if span.start - track.start > _LEAD:
            container.seek(int((span.start - _PREROLL) // base), stream=stream, backward=True)
        clock: Fraction | None = None
        for packet in packets_of(container, stream):
            try:
                frames = cast("list[av.AudioFrame]", packet.decode())
            except av.FFmpegError:
                errors[0] += 1
                continue
            for frame in frames:
                time = frame.pts * base if frame.pts is not None else clock
                if time is None:
                    continue
                if time >= span.end:
                    return
                clock = time + Fraction(frame.samples, frame.sample_rate)
                yield time, frame


def _drain(resampler: av.AudioResampler | None, placer: _Placer) -> None:
    if resampler is not None:
        for part in resampler.resample(None):
            placer.add(part.to_ndarray()[0])
