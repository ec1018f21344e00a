"""Sound of a foreign file at 16 kHz, as mono and with its two channels, every sample at its presentation time."""

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
    """Samples float32 [n] in -1 to 1; `covered` is the share of them the file really has, the rest is silence.

    `channels` float32 [2, n] are the track's two channels, scaled so that their sum is `samples`; None unless it has two.
    """

    samples: np.ndarray
    covered: float
    errors: int
    channels: np.ndarray | None = None


class _Placer:
    """Resamples runs of sound, and puts each where its first timestamp says."""

    def __init__(self, span: Span, layout: str) -> None:
        self.span = span
        self.layout = layout
        self.out = np.zeros((1 if layout == "mono" else 2, sample_at(span.duration)), np.float32)
        self.have = np.zeros(self.out.shape[1], bool)
        self._at = 0
        self._resampler: av.AudioResampler | None = None

    def begin(self, time: Fraction) -> None:
        """What is added from here on is a new run that starts at `time`."""
        self.end()
        self._resampler = av.AudioResampler(format="fltp", layout=self.layout, rate=SAMPLE_RATE)
        self._at = sample_at(time - self.span.start)

    def add(self, frame: av.AudioFrame | None) -> None:
        assert self._resampler is not None
        for part in self._resampler.resample(frame):
            samples = part.to_ndarray()
            low, high = max(self._at, 0), min(self._at + samples.shape[1], len(self.have))
            if low < high:
                self.out[:, low:high] = samples[:, low - self._at : high - self._at]
                self.have[low:high] = True
            self._at += samples.shape[1]

    def end(self) -> None:
        """Take what the resampler still holds."""
        if self._resampler is not None:
            self.add(None)
            self._resampler = None


def read_sound(path: Path, track: AudioFacts, span: Span) -> Sound:
    """Decode what is heard during `span` (file clock) as mono 16 kHz, and its two channels where it has two.

    Priming and edit lists are honoured by the decoder. A gap in the timestamps, or a packet that does not decode, becomes
    silence. A track that starts after `span.start` starts late here too.
    """
    placers, errors = [_Placer(span, layout) for layout in ("mono", *(["stereo"] if track.channels == 2 else []))], [0]
    expected: Fraction | None = None
    for time, frame in sound_frames(path, track, span, errors):
        if expected is None or abs(time - expected) > _JUMP:
            for placer in placers:
                placer.begin(time)
            expected = time
        expected += Fraction(frame.samples, frame.sample_rate)
        frame.pts = None
        for placer in placers:
            placer.add(frame)
    for placer in placers:
        placer.end()
    mono = placers[0]
    covered = float(mono.have.mean()) if len(mono.have) else 0.0
    samples = np.nan_to_num(mono.out[0])
    channels = _summing_to(samples, np.nan_to_num(placers[1].out)) if len(placers) > 1 else None
    return Sound(samples, covered, errors[0], channels)


def no_sound(span: Span) -> Sound:
    """Silence as long as `span`, of a file without a sound track."""
    return Sound(np.zeros(sample_at(span.duration), np.float32), 0.0, 0)


def _summing_to(samples: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """The channels with the one gain at which they add up to the mix; FFmpeg's own depends on the sample format."""
    total = channels.sum(axis=0, dtype=np.float64)
    energy = float(total @ total)
    gain = float(total @ samples) / energy if energy else 0.5
    return channels * np.float32(gain)


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
