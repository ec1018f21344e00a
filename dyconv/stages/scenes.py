"""Scenes: the shots of a source, and runs of whole shots as segments.

A cut's time is the presentation time of the first frame after it, exact also where frame rates vary. A gradual transition
becomes a shot of its own, named in `measures["transition_shots"]` (indices, comma separated), which `clips` leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, pairwise
from typing import ClassVar

from dyconv.media.source import SourceInfo, UnreadableSource, VideoFacts, probe
from dyconv.records import Clip, Drop, DropReason, Key
from dyconv.stages.base import Files, Stage
from dyconv.time import Span, seconds

TRANSITIONS = "transition_shots"


@dataclass(frozen=True)
class Shot:
    """On the source's clock."""

    span: Span
    transition: bool


@dataclass(frozen=True)
class _Decoded:
    """What decoding the whole stream showed. Times are on the source's clock."""

    shots: tuple[Shot, ...]
    times: tuple[Fraction, ...]
    damaged: tuple[Fraction, ...]  # where a frame is damaged, or a packet gave none
    end: Fraction


@dataclass(frozen=True)
class Scenes(Stage):
    """Splits a source into segments of whole shots.

    Attributes:
        max_segment_s: a segment is not longer than this; a longer shot is split into equal parts.
        min_segment_s: what is shorter is dropped as TOO_SHORT.
        max_missing_s: a file that holds this much less than its container promises is TRUNCATED.
        max_damaged: share of damaged frames above which a segment is UNREADABLE.
    """

    name: ClassVar[str] = "scenes"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})
    splits: ClassVar[bool] = True

    max_segment_s: float = 600.0
    min_segment_s: float = 0.5
    max_missing_s: float = 0.5
    max_damaged: float = 0.02

    def setup(self) -> None:
        import scenedetect  # noqa: F401

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        path = files.path(clip, Key.MEDIA)
        try:
            info = probe(path)
        except UnreadableSource as error:
            yield Drop(clip, DropReason.UNREADABLE, error.message)
            return
        bad = self._refuse(clip, info)
        if bad or info.video is None:
            yield bad or Drop(clip, DropReason.NO_VIDEO, "sound, but no pictures that can be read")
            return
        found = _decode(str(path), info.video)
        if not found.times:
            yield Drop(clip, DropReason.UNREADABLE, f"none of {info.video.packets} video packets decodes")
            return
        lost = info.video.end - found.end
        if lost > seconds(self.max_missing_s):
            yield Drop(clip, DropReason.TRUNCATED, f"pictures break off {float(lost):.2f} s before the end")
            return
        for shots in grouped(found.shots, seconds(self.max_segment_s)):
            yield self._segment(clip, shots, found)

    def _refuse(self, clip: Clip, info: SourceInfo) -> Drop | None:
        if info.cut_off or info.missing > seconds(self.max_missing_s):
            what = f"{float(info.missing):.2f} s of what it promises are not there"
            if info.cut_off:
                what = f"the file ends before what its index lists; {what}"
            return Drop(clip, DropReason.TRUNCATED, what)
        if info.video is None:
            return Drop(clip, DropReason.NO_VIDEO, "sound, but no pictures in it")
        return None

    def _segment(self, clip: Clip, shots: list[Shot], found: _Decoded) -> Clip | Drop:
        span = Span(shots[0].span.start, shots[-1].span.end)
        measures = dict(clip.measures)
        if marked := [str(index) for index, shot in enumerate(shots) if shot.transition]:
            measures[TRANSITIONS] = ",".join(marked)
        damaged = sum(span.start <= time < span.end for time in found.damaged)
        frames = sum(span.start <= time < span.end for time in found.times)
        if damaged:
            measures["damaged_frames"] = float(damaged)
        inside = tuple(shot.span.shift(-span.start) for shot in shots)
        segment = replace(clip.child(span, shots=inside, measures=measures), assets={Key.MEDIA: clip.assets[Key.MEDIA]})
        if damaged > self.max_damaged * frames:
            return Drop(segment, DropReason.UNREADABLE, f"{damaged} of {frames} frames are damaged")
        if span.duration < seconds(self.min_segment_s):
            return Drop(segment, DropReason.TOO_SHORT, f"{float(span.duration):.2f} s, wanted {self.min_segment_s:g} s")
        return segment


def grouped(shots: tuple[Shot, ...], longest: Fraction) -> Iterator[list[Shot]]:
    """Runs of whole shots of at most `longest` seconds; a longer shot is first split into equal parts."""
    run: list[Shot] = []
    for shot in chain.from_iterable(_parts(whole, longest) for whole in shots):
        if run and shot.span.end - run[0].span.start > longest:
            yield run
            run = []
        run.append(shot)
    if run:
        yield run


def _parts(shot: Shot, longest: Fraction) -> Iterator[Shot]:
    count = max(1, -int(-shot.span.duration // longest))
    edges = [shot.span.start + shot.span.duration * index / count for index in range(count + 1)]
    for start, end in pairwise(edges):
        yield Shot(Span(start, end), shot.transition)


def _decode(path: str, video: VideoFacts) -> _Decoded:
    """Decode all pictures once and find the shots."""
    from pathlib import Path

    from dyconv.media.cuts import CutFinder
    from dyconv.media.picture import PictureReader, display_size

    finder = CutFinder(display_size(video), video.frame)
    reader = PictureReader(Path(path), video, quick=True)
    times: list[Fraction] = []
    for frame in reader:
        finder.add(frame.picture)
        times.append(frame.time)
    if not times:
        return _Decoded((), (), (), video.start)
    end = times[-1] + video.frame
    if 0 <= video.end - end <= video.frame:  # the last packet says how long its frame lasts
        end = video.end
    bounds = finder.boundaries()
    blends = dict(bounds.blends)
    edges = sorted({0, len(times), *bounds.cuts, *blends.keys(), *blends.values()})
    clock = [*times, end]
    shots = tuple(Shot(Span(clock[begin], clock[stop]), begin in blends) for begin, stop in pairwise(edges))
    return _Decoded(shots, tuple(times), tuple(reader.damage), end)
