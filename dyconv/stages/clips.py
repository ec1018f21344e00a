"""Clips: from a segment's shots to samples, each on its own clock, starting at zero.

A clip is a shot, or a part of one that is too long. Its VIDEO is cut by copying packets from one IDR frame to the next, so
pixels are what `normalize` wrote; where a long shot is split, only the group of pictures in which the split falls is encoded
again. Gradual transitions are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from dyconv.arrays import load_arrays, save_arrays
from dyconv.faces import FaceArrays, load_faces, save_faces
from dyconv.media.audio import read_channels, write_audio
from dyconv.media.video import cut_video
from dyconv.records import PERSONS, Clip, Drop, DropReason, Key, Person, Track, Turn
from dyconv.stages.base import Files, Stage
from dyconv.stages.scenes import TRANSITIONS
from dyconv.time import FPS, Span, frame_samples, frame_time

_PAUSE_WINDOW_S = 3.0  # a split may come this much before the limit, to fall into a pause
_SOUNDS = (Key.MIX, Key.CLEAN, Key.CHANNELS)  # cut along with the picture
_CALM_FRAMES = 5  # frames of quiet that make a good place to split


@dataclass(frozen=True)
class Part:
    """Frames [start, stop) of a segment that may become a clip."""

    start: int
    stop: int
    shot: int
    transition: bool

    @property
    def frames(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Clips(Stage):
    """Cuts a segment into clips of one shot each.

    Attributes:
        min_clip_s, max_clip_s: length of a clip; a longer shot is split, in a pause of the speech where it has one.
        people_seen: how many of the two people may be on screen; empty takes every clip and looks at no people.
        min_face_px: median width of the face box that everybody on screen must reach.
        min_coverage: share of the clip's frames in which a face must be found to count as on screen.
        min_heard: how many of the people must speak in the clip, where people are known; 0 takes clips without speech.
    """

    name: ClassVar[str] = "clips"
    version: ClassVar[int] = 2  # since parts of a long shot keep what need not be encoded again
    needs: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO, Key.MIX})
    optional: ClassVar[frozenset[Key]] = frozenset({Key.CLEAN, Key.CHANNELS, Key.ENROLMENT, Key.FACES, Key.SPEECH})
    gives: ClassVar[frozenset[Key]] = optional | {Key.VIDEO, Key.MIX}
    splits: ClassVar[bool] = True

    min_clip_s: float = 3.0
    max_clip_s: float = 60.0
    people_seen: tuple[int, ...] = (2,)
    min_face_px: float = 64.0
    min_coverage: float = 0.5
    min_heard: int = 1

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        faces = load_faces(files.path(clip, Key.FACES)) if Key.FACES in clip.assets else None
        speech = load_arrays(files.path(clip, Key.SPEECH)) if Key.SPEECH in clip.assets else None
        for part in parts(clip, round(self.max_clip_s * FPS), speech["vad"] if speech and "vad" in speech else None):
            child = rebased(clip, part, faces, self.min_coverage)
            drop = self._refuse(clip, child, part)
            yield drop or self._written(clip, child, part, files, faces, speech)

    def _refuse(self, clip: Clip, child: Clip, part: Part) -> Drop | None:
        if part.transition:
            return Drop(child, DropReason.TOO_SHORT, "a gradual transition between two shots, not a shot")
        if part.frames < self.min_clip_s * FPS:
            return Drop(child, DropReason.TOO_SHORT, f"{part.frames / FPS:.2f} s, wanted {self.min_clip_s:g} s")
        if not self.people_seen:
            return None
        seen = on_screen(child, self.min_coverage)
        if len(seen) not in self.people_seen:
            wanted = " or ".join(map(str, self.people_seen))
            return Drop(child, DropReason.FACES_NOT_TWO, f"{len(seen)} people on screen, wanted {wanted}")
        if seen and min(seen.values()) < self.min_face_px:
            what = f"smallest face is {min(seen.values()):.0f} px wide, wanted {self.min_face_px:g} px"
            return Drop(child, DropReason.FACE_TOO_SMALL, what)
        heard = sum(person.heard for person in child.people)
        if clip.people and heard < self.min_heard:
            return Drop(child, DropReason.NOT_DYADIC, f"{heard} of the two speak here, wanted {self.min_heard} or more")
        return None

    def _written(
        self,
        clip: Clip,
        child: Clip,
        part: Part,
        files: Files,
        faces: dict[str, FaceArrays] | None,
        speech: dict[str, np.ndarray] | None,
    ) -> Clip:
        video = files.new(child, Key.VIDEO)
        cut_video(files.path(clip, Key.VIDEO), video, part.start, part.stop)
        new: list[tuple[Key, Path]] = [(Key.VIDEO, video)]
        for key in _SOUNDS:
            if key in clip.assets:
                new.append((key, files.new(child, key)))
                samples = read_channels(files.path(clip, key), frame_samples(part.start), frame_samples(part.stop))
                write_audio(new[-1][1], samples)
        if faces is not None:
            new.append((Key.FACES, files.new(child, Key.FACES)))
            kept = {track.id for track in child.tracks}
            save_faces(new[-1][1], {name: faces[name].between(part.start, part.stop) for name in sorted(kept & faces.keys())})
        if speech is not None:
            new.append((Key.SPEECH, files.new(child, Key.SPEECH)))
            save_arrays(new[-1][1], {name: array[part.start : part.stop] for name, array in speech.items()})
        if Key.ENROLMENT in clip.assets:  # of the whole segment, for all of its clips
            child = replace(child, assets={**child.assets, Key.ENROLMENT: clip.assets[Key.ENROLMENT]})
        return files.add(child, *new)


def parts(clip: Clip, longest: int, vad: np.ndarray | None) -> Iterator[Part]:
    """The segment's shots, those of more than `longest` frames split. `vad` float32 [frames] helps to find pauses."""
    marked = {int(index) for index in str(clip.measures.get(TRANSITIONS) or "").split(",") if index}
    for index, shot in enumerate(clip.shots):
        start, stop = shot.frames.start, min(shot.frames.stop, clip.frames)
        for begin, end in _split(start, stop, longest, vad):
            yield Part(begin, end, index, index in marked)


def _split(start: int, stop: int, longest: int, vad: np.ndarray | None) -> Iterator[tuple[int, int]]:
    """Parts of at most `longest` frames: equal ones, or each ending in the quietest moment shortly before its limit."""
    window = min(round(_PAUSE_WINDOW_S * FPS), longest // 4)
    while stop - start > longest:
        left = -(-(stop - start) // longest)
        limit = start + -(-(stop - start) // left)
        if vad is not None:  # later than the equal part where that leaves enough for the rest
            limit = min(start + longest, max(limit, stop - (left - 1) * (longest - window)))
        end = limit if vad is None else _quietest(vad, max(start, limit - window - 1), limit)
        yield start, end
        start = end
    yield start, stop


def _quietest(vad: np.ndarray, low: int, high: int) -> int:
    """Frame in (low, high] where speech over the frames around it is least likely; the latest of equals."""
    calm = np.convolve(vad.astype(np.float64), np.ones(_CALM_FRAMES) / _CALM_FRAMES, mode="same")
    window = np.round(calm[low + 1 : high + 1], 3)
    if not len(window):
        return high
    return low + 1 + int(np.flatnonzero(window == window.min())[-1])


def rebased(clip: Clip, part: Part, faces: dict[str, FaceArrays] | None, min_coverage: float) -> Clip:
    """The part as a clip of its own: source span, and tracks, turns and people on its own clock."""
    begin = frame_time(part.start)
    span = Span.of_frames(part.start, part.stop)
    tracks = tuple(found for track in clip.tracks if (found := _rebased_track(track, part, faces)) is not None)
    turns = tuple(
        replace(turn, span=inside.shift(-begin)) for turn in clip.turns if (inside := turn.span.intersect(span)) is not None
    )
    measures = {name: value for name, value in clip.measures.items() if name != TRANSITIONS}
    child = clip.child(
        span.shift(clip.span.start), shots=(span.shift(-begin),), tracks=tracks, turns=turns, measures=measures, people=()
    )
    seen = on_screen(child, min_coverage)
    people = tuple(_person(person, seen, turns) for person in clip.people)
    layout = clip.layout  # of the segment, most of which may look different from this shot
    if len(seen) == 1 and layout not in (None, "other"):
        layout = "single"
    elif layout == "alternating":
        layout = "two-shot"
    return replace(child, people=people, layout=layout)


def _rebased_track(track: Track, part: Part, faces: dict[str, FaceArrays] | None) -> Track | None:
    start, end = max(track.start, part.start), min(track.end, part.stop)
    if start >= end or track.shot != part.shot:
        return None
    width, coverage = track.width, track.coverage
    if faces is not None and track.id in faces:
        here = faces[track.id].between(start, end)
        if not len(here):
            return None
        width = round(float(np.median(here.boxes[:, 2] - here.boxes[:, 0])), 2)
        coverage = round(len(here) / (end - start), 4)
    return replace(track, shot=0, start=start - part.start, end=end - part.start, width=width, coverage=coverage)


def _person(person: Person, seen: dict[str, float], turns: tuple[Turn, ...]) -> Person:
    heard = any(turn.person == person.id and not turn.unsure for turn in turns)
    return replace(person, seen=person.id in seen, heard=heard)


def on_screen(clip: Clip, min_coverage: float) -> dict[str, float]:
    """Face width in pixels by who is on screen: p0 and p1, or identities where nobody has been named yet.

    Somebody is on screen with faces found in `min_coverage` of the clip's frames, all of their tracks together.
    """
    named = any(track.person for track in clip.tracks)
    found: dict[str, list[Track]] = {}
    for track in clip.tracks:
        who = track.person if named else track.identity or track.id
        if who is not None and (not named or who in PERSONS):
            found.setdefault(who, []).append(track)
    out: dict[str, float] = {}
    for who, tracks in found.items():
        frames = sum(track.coverage * (track.end - track.start) for track in tracks)
        if frames >= min_coverage * clip.frames:
            out[who] = max(tracks, key=lambda track: track.coverage * (track.end - track.start)).width
    return out
