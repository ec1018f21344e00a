"""Who is who where each person was recorded apart: known from the side of the picture and the channel of the sound.

In place of `people`, for sources of two files (`dyconv.download.join`): the first file's person is p0, on the left and on the
left channel. Turns are the published ones where the set has them, else voice activity in each person's own sound; no speech
is unsure. SPEECH is as `people` writes it. Measures: `people.channels`; `people.turns_by`, how the
turns of p0 and p1 were found; `p0.published_id`, what the set calls them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dyconv.arrays import save_arrays
from dyconv.bounds import parse_object
from dyconv.errors import StoreError
from dyconv.faces import load_faces
from dyconv.media.audio import write_audio
from dyconv.media.sound import read_sound
from dyconv.media.source import pick_audio, probe
from dyconv.media.video import frame_size
from dyconv.models import registry
from dyconv.models.slots import Vad
from dyconv.records import PERSONS, Clip, Drop, DropReason, Key, Person, Turn
from dyconv.speech.turns import activity, close_gaps, drop_short, runs
from dyconv.stages.base import Files, Resources, Stage
from dyconv.stages.people import as_long_as
from dyconv.time import FPS, Span, frame_samples

_SPEECH = 0.5  # probability from which a frame is speech
_GAP_S, _SHORT_S = 0.3, 0.12


@dataclass(frozen=True)
class Sides(Stage):
    """Attributes:
    published: JSON that an importer wrote, by source id; empty: turns by voice activity, the picture is parted in the middle.
    published_sha256: of that file, so that another one is another run.
    min_seen: how many of the two must be seen.
    vad: name in the model registry.
    """

    name: ClassVar[str] = "sides"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA, Key.VIDEO, Key.MIX, Key.FACES})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.SPEECH, Key.CHANNELS})
    resources: ClassVar[Resources] = Resources(cpus=1.0)

    published: str = ""
    published_sha256: str = ""
    min_seen: int = 1
    vad: str = "silero"

    def config(self) -> dict[str, Any]:
        """Without the file's place: its hash names what is in it, wherever it lies."""
        return {name: value for name, value in super().config().items() if name != "published"}

    def models(self) -> tuple[str, ...]:
        return (self.vad,)

    _vad: ClassVar[Vad]  # set on the instance by setup
    _told: ClassVar[dict[str, Any]]

    def setup(self) -> None:
        object.__setattr__(self, "_vad", registry.load(self.vad))
        told = parse_object(Path(self.published).read_bytes(), self.published) if self.published else {}
        object.__setattr__(self, "_told", told)

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        told = self._told.get(clip.source.id, {})
        channels = _channels(clip, files)
        if channels is None:
            yield Drop(clip, DropReason.NO_AUDIO, "expected two channels, one of each person")
            return
        clip, sides = self._seated(clip, files, told)
        if len(sides) < self.min_seen:
            yield Drop(clip, DropReason.FACES_NOT_TWO, f"expected {self.min_seen} people on screen, found {len(sides)}")
            return
        speech = np.stack([self._speech(channel, clip.frames) for channel in channels])
        found = (turn for person in range(2) for turn in _turns(clip, person, speech[person], told))
        turns = sorted(found, key=lambda turn: (turn.span, turn.person or ""))
        names = told.get("people", (None, None))
        by = ["published" if (told.get("turns") or (None, None))[person] is not None else self.vad for person in range(2)]
        people = tuple(
            Person(name, f"side{at}" if at in sides else None, at in sides, any(turn.person == name for turn in turns))
            for at, name in enumerate(PERSONS)
        )
        spoken = activity(turns, clip.frames)
        saved, sound = files.new(clip, Key.SPEECH), files.new(clip, Key.CHANNELS)
        own = {name: np.where(told_by == "published", spoken[at], speech[at] * spoken[at]) for at, (name, told_by) in _both(by)}
        save_arrays(saved, {"vad": speech.max(axis=0), **own, "unsure": np.zeros(clip.frames, np.float32)})
        write_audio(sound, channels)
        measures = {"people.channels": "p0=0,p1=1", "people.turns_by": ", ".join(by)}
        measures |= {f"{name}.published_id": one for name, one in zip(PERSONS, names, strict=True) if one}
        clip = replace(clip, people=people, turns=tuple(turns), measures={**clip.measures, **measures})
        yield files.add(clip, (Key.SPEECH, saved), (Key.CHANNELS, sound))

    def _speech(self, channel: np.ndarray, frames: int) -> np.ndarray:
        """Probability of speech, float32 [frames], in one person's own sound; 0 where it is silence throughout."""
        if not np.any(channel):
            return np.zeros(frames, np.float32)
        return np.asarray(self._vad.speech(as_long_as(channel, frame_samples(frames))), np.float32)[:frames]

    def _seated(self, clip: Clip, files: Files, told: dict[str, Any]) -> tuple[Clip, set[int]]:
        """Tracks with their person by the side they are on, and which sides have one; of the faces on a side, the widest."""
        edge = frame_size(files.path(clip, Key.VIDEO))[0] * float(told.get("left_share", 0.5))
        faces = load_faces(files.path(clip, Key.FACES))
        side = {name: int(one.boxes[:, [0, 2]].mean() >= edge) for name, one in faces.items()}
        tracks = tuple(
            replace(track, person=PERSONS[side[track.id]], identity=f"side{side[track.id]}") if track.id in side else track
            for track in clip.tracks
        )
        return replace(clip, tracks=tracks, layout="split"), set(side.values())


def _both(by: list[str]) -> Any:
    return enumerate(zip(PERSONS, by, strict=True))


def _channels(clip: Clip, files: Files) -> np.ndarray | None:
    """The two channels, float32 [2, N], as long as MIX; None where the source has not two."""
    path = files.path(clip, Key.MEDIA)
    track = pick_audio(probe(path), clip.source.language)
    if track is None:
        raise StoreError(f"clip {clip.id}: its medium has no sound any more", hint="delete it and run again")
    sound = read_sound(path, track, clip.span)
    if sound.channels is None:
        return None
    wanted = frame_samples(clip.frames)
    return np.stack([as_long_as(channel, wanted) for channel in sound.channels])


def _turns(clip: Clip, person: int, speech: np.ndarray, told: dict[str, Any]) -> Iterator[Turn]:
    """Turns of one person on the clip's clock: the published ones, or where there is speech in their sound."""
    published = (told.get("turns") or (None, None))[person]
    if published is None:
        mask = drop_short(close_gaps(speech >= _SPEECH, round(_GAP_S * FPS)), round(_SHORT_S * FPS))
        for start, end in runs(mask):
            yield Turn(PERSONS[person], Span.of_frames(start, end), float(speech[start:end].mean()))
        return
    begin = float(clip.span.start)
    mask = np.zeros(clip.frames, bool)
    for start, end in published:
        mask[max(0, round((start - begin) * FPS)) : max(0, round((end - begin) * FPS))] = True
    for first, last in runs(mask):
        yield Turn(PERSONS[person], Span.of_frames(first, last), 1.0)
