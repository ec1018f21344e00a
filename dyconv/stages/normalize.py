"""Normalize: one clock for everything after it. 25 frames and 16,000 samples a second, upright, square pixels.

Frame k shows what the source has on screen at (k + 1/2) / 25 s, so a cut moves by at most half a frame, and nothing drifts,
whatever the source's rate. Sound goes from the decoder to PCM to FLAC: no lossy step. What was written is then decoded and
compared with the source by timestamps, and `measures["av_offset_s"]` says how much later the sound is against the picture
than it was (None where the picture never moves).

A sound track whose two channels carry one person each (a call, an interview over the net) is kept in CHANNELS as well, as
long as MIX and on its clock; `measures["channel_crosstalk_db"]` says how much of the partner is in the worse channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from statistics import median
from typing import ClassVar

import av
import numpy as np

from dyconv.media.audio import read_audio, write_audio
from dyconv.media.avsync import picture_shift, sound_shift
from dyconv.media.picture import PictureReader, Upright, display_size
from dyconv.media.sound import Sound, no_sound, read_native, read_sound
from dyconv.media.source import AudioFacts, UnreadableSource, VideoFacts, pick_audio, probe
from dyconv.media.video import VideoWriter, iter_pictures, keyframes
from dyconv.records import Clip, Drop, DropReason, Key
from dyconv.speech.channels import channel_evidence
from dyconv.stages.base import Files, Stage
from dyconv.stages.scenes import TRANSITIONS
from dyconv.time import SAMPLES_PER_FRAME, Span, frame_samples, frame_time, nearest_frame, seconds

_THUMB = (32, 18)
_WINDOWS = 4  # stretches in which sound and picture are measured ...
_WINDOW = 75  # ... of this many frames each


@dataclass(frozen=True)
class Normalize(Stage):
    """Writes VIDEO and MIX of a segment, and CHANNELS where they carry one person each.

    Attributes:
        max_height: limit of the picture's shorter side, pixels.
        crf, preset: of x264.
        silence_dbfs: a segment whose loudest frame (40 ms) is below this is SILENT.
        max_gap_s: sound may be missing for this long, or for a tenth of the segment, before it is TRUNCATED.
        max_start_gap_s: sound and pictures that are declared to start further apart are OUT_OF_SYNC.
        max_av_offset_s: measured after the encode; more is OUT_OF_SYNC.
        silent: take what has no sound track, or nothing on it, as well: MIX is then as long as the pictures, and silent
            where the source is.
    """

    name: ClassVar[str] = "normalize"
    version: ClassVar[int] = 2  # since x264 is told to give the same bytes on every machine
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})
    optional: ClassVar[frozenset[Key]] = frozenset({Key.CHANNELS})
    gives: ClassVar[frozenset[Key]] = optional | {Key.VIDEO, Key.MIX}

    max_height: int = 1080
    crf: int = 20
    preset: str = "veryfast"
    silence_dbfs: float = -60.0
    max_gap_s: float = 1.0
    max_start_gap_s: float = 5.0
    max_av_offset_s: float = 0.06
    silent: bool = False

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        path = files.path(clip, Key.MEDIA)
        try:
            info = probe(path)
        except UnreadableSource as error:
            yield Drop(clip, DropReason.UNREADABLE, error.message)
            return
        track = pick_audio(info, clip.source.language)
        if info.video is None:
            yield Drop(clip, DropReason.NO_VIDEO, "no pictures in it")
        elif track is None and not self.silent:
            yield Drop(clip, DropReason.NO_AUDIO, "no sound track in it")
        else:
            yield self._written(clip, files, path, info.video, track)

    def _written(self, clip: Clip, files: Files, path: Path, video: VideoFacts, track: AudioFacts | None) -> Clip | Drop:
        frames = nearest_frame(clip.span.duration)
        if frames < 1:
            return Drop(clip, DropReason.TOO_SHORT, f"{float(clip.span.duration):.3f} s is less than a frame")
        clip = quantized(clip, frames)
        sound = read_sound(path, track, clip.span) if track else no_sound(clip.span)
        if track and (bad := self._refuse(clip, video, track, sound)):
            return bad
        target, mix = files.new(clip, Key.VIDEO), files.new(clip, Key.MIX)
        pictures = _Pictures(path, video, clip, display_size(video, self.max_height))
        with VideoWriter(
            target,
            *pictures.size,
            crf=self.crf,
            preset=self.preset,
            keyframes={shot.frames.start for shot in clip.shots},
            like=pictures.first,
        ) as writer:
            for picture in pictures:
                writer.write(picture)
        if pictures.short > seconds(self.max_gap_s):
            return Drop(clip, DropReason.TRUNCATED, f"pictures break off {float(pictures.short):.2f} s before the end")
        write_audio(mix, sound.samples)
        offset = _offset(pictures, target, path, track, mix) if track else None
        clip = clip.measured(av_offset_s=offset, **({"sound_errors": float(sound.errors)} if sound.errors else {}))
        if offset is not None and abs(offset) > self.max_av_offset_s:
            return Drop(clip, DropReason.OUT_OF_SYNC, f"sound is {offset:+.3f} s against the picture after encoding")
        return _with_channels(files.add(clip, (Key.VIDEO, target), (Key.MIX, mix)), files, sound)

    def _refuse(self, clip: Clip, video: VideoFacts, track: AudioFacts, sound: Sound) -> Drop | None:
        apart = track.start - video.start
        if abs(apart) > seconds(self.max_start_gap_s):
            return Drop(clip, DropReason.OUT_OF_SYNC, f"sound is declared to start {float(apart):+.2f} s from the pictures")
        if sound.covered == 0:
            return Drop(clip, DropReason.NO_AUDIO, "no sound here that decodes")
        length = float(clip.span.duration)
        if (1 - sound.covered) * length > max(self.max_gap_s, 0.1 * length):
            return Drop(clip, DropReason.TRUNCATED, f"sound for {sound.covered:.0%} of {length:.1f} s")
        power = (sound.samples.reshape(-1, SAMPLES_PER_FRAME) ** 2).mean(axis=1).max()
        level = 10 * float(np.log10(power + 1e-12))
        if level < self.silence_dbfs and not self.silent:
            return Drop(clip, DropReason.SILENT, f"loudest moment {level:.0f} dBFS, wanted {self.silence_dbfs:g} dBFS")
        return None


def _with_channels(clip: Clip, files: Files, sound: Sound) -> Clip:
    if sound.channels is None:
        return clip
    found = channel_evidence(sound.channels)
    if not found.separate:
        return clip
    channels = files.new(clip, Key.CHANNELS)
    write_audio(channels, sound.channels)
    return files.add(clip, (Key.CHANNELS, channels)).measured(channel_crosstalk_db=found.crosstalk_db)


def quantized(clip: Clip, frames: int) -> Clip:
    """The clip with shots on whole 25 fps frames, and a span of exactly `frames` of them."""
    edges = [min(nearest_frame(shot.start), frames) for shot in clip.shots] or [0]
    marked = {int(index) for index in str(clip.measures.get(TRANSITIONS) or "").split(",") if index}
    shots: list[Span] = []
    transitions: list[str] = []
    for index, (begin, stop) in enumerate(pairwise([*edges, frames])):
        if begin < stop:
            if index in marked:
                transitions.append(str(len(shots)))
            shots.append(Span.of_frames(begin, stop))
    measures = {name: value for name, value in clip.measures.items() if name != TRANSITIONS}
    if transitions:
        measures[TRANSITIONS] = ",".join(transitions)
    span = Span(clip.span.start, clip.span.start + frame_time(frames))
    return replace(clip, span=span, shots=tuple(shots), measures=measures)


class _Pictures:
    """The normalized pictures of a clip in order, one for each 25 fps frame; remembers thumbnails of the source."""

    def __init__(self, path: Path, video: VideoFacts, clip: Clip, size: tuple[int, int]) -> None:
        self.size = size
        self.clip = clip
        self.short = Fraction(0)  # s at the end for which the source gave no new picture
        self.times: list[float] = []  # of the source's frames, on the clip's clock
        self.thumbs: list[np.ndarray] = []
        self._reader = PictureReader(path, video, clip.span)
        self._upright, self._thumb = Upright(size), Upright(_THUMB, "gray", quick=True)
        self._frames = iter(self._reader)
        self._head = next(self._frames, None)

    @property
    def first(self) -> av.VideoFrame | None:
        return self._head.picture if self._head else None

    def __iter__(self) -> Iterator[av.VideoFrame]:
        held, count = self._head, 0
        for frame in chain([held], self._frames, [None]):
            until = self.clip.frames if frame is None else nearest_frame(frame.time - self.clip.span.start)
            until = min(until, self.clip.frames)
            if held is not None and until > count:
                ready = self._upright(held.picture)  # once, also where it is shown again and again
                for _ in range(count, until):
                    yield ready
                count = until
            if frame is not None:
                held = frame
                self.times.append(float(frame.time - self.clip.span.start))
                self.thumbs.append(self._thumb(frame.picture).to_ndarray().ravel())
        self.short = self.clip.span.end - (held.time if held is not None else self.clip.span.start)


def windows(frames: int, keyframes: list[int]) -> list[tuple[int, int]]:
    """Frame ranges in which sound and picture are measured: all of a short clip, else some that start on keyframes."""
    if frames <= _WINDOWS * _WINDOW:
        return [(0, frames)]
    fit = [frame for frame in keyframes if frame + _WINDOW <= frames] or [0]
    wanted = [(frames - _WINDOW) * index / (_WINDOWS - 1) for index in range(_WINDOWS)]
    starts = sorted({min(fit, key=lambda frame: abs(frame - place)) for place in wanted})
    return [(start, start + _WINDOW) for start in starts]


def _offset(pictures: _Pictures, video: Path, path: Path, track: AudioFacts, mix: Path) -> float | None:
    """Seconds by which the sound is later against the picture in what was written than in the source."""
    times, thumbs = np.array(pictures.times), np.array(pictures.thumbs)
    upright = Upright(_THUMB, "gray", quick=True)
    shifts: list[float] = []
    for begin, stop in windows(pictures.clip.frames, keyframes(video)):
        inside = (times >= float(frame_time(begin)) - 0.1) & (times < float(frame_time(stop)))
        written = [(index, upright(picture).to_ndarray().ravel()) for index, picture in iter_pictures(video, begin, stop)]
        clock = np.array([float(frame_time(index)) for index, _ in written])
        seen = picture_shift(times[inside], thumbs[inside], clock, np.array([thumb for _, thumb in written]))
        if seen is None:
            continue
        samples = frame_samples(begin), frame_samples(stop)
        span = Span.of_frames(begin, stop).shift(pictures.clip.span.start)
        heard = sound_shift(read_native(path, track, span), read_audio(mix, *samples))
        if heard is not None:
            shifts.append(heard - seen)
    return round(median(shifts), 4) if shifts else None
