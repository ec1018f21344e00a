"""The one record that flows through the pipeline, and the vocabulary it is written in.

A `Clip` is a span of a source with what is known of it. It holds references and intervals, never pixels or samples, so
it stays a few kilobytes of JSON. A `Key` is at the same time a stage's contract, a file name, a member of a shard and a
field of a batch. People are stored symmetrically as `p0` and `p1`: the trainer picks who is the agent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from fractions import Fraction
from typing import Any

from dyconv.time import Span

PERSONS = ("p0", "p1")
_ID = re.compile(r"[A-Za-z0-9_-]{1,96}")


class Key(StrEnum):
    """Every asset a clip can have. The value is its file name after the clip's id and a dot."""

    MEDIA = "media"  # as downloaded: any container
    INFO = "info.json"  # what the host said of it
    VIDEO = "video.mp4"  # 25 fps CFR, display-oriented, square pixels, no sound; IDR frame at each shot's start
    MIX = "mix.flac"  # mono 16 kHz 16-bit PCM of everything heard; sample 0 belongs to frame 0
    CHANNELS = "channels.flac"  # two-channel 16 kHz, as long as MIX: only where a source may have one person a channel
    CLEAN = "clean.flac"  # mono 16 kHz, as long as MIX: the speech of everybody, without music and noise
    ENROLMENT = "enrolment.flac"  # two channels, 16 kHz: some seconds of p0 alone and of p1 alone, from the whole segment
    FACES = "faces.npz"  # boxes and landmarks of each track: see dyconv.models.faces.FaceArrays
    SPEECH = "speech.npz"  # per frame VAD and speaking evidence: see dyconv.stages.people
    P0_VOICE = "p0.voice.flac"  # mono 16 kHz: this person alone, as long as MIX
    P1_VOICE = "p1.voice.flac"
    P0_FACE = "p0.face.mp4"  # 512 px, 25 fps, no sound: only where this person is seen
    P1_FACE = "p1.face.mp4"
    P0_CROP = "p0.crop.npz"  # where the face video was cut from, and landmarks in its pixels
    P1_CROP = "p1.crop.npz"
    P0_MOTION = "p0.motion.npz"  # motion latents, one row a frame: see the MotionEncoder that made them
    P1_MOTION = "p1.motion.npz"

    @classmethod
    def of(cls, person: str, what: str) -> Key:
        """`Key.of("p0", "voice")` is `Key.P0_VOICE`."""
        return cls[f"{person.upper()}_{what.upper()}"]


class DropReason(StrEnum):
    """Why the pipeline let something go. Always about the data, never about the machine."""

    BAD_ROW = "BAD_ROW"  # the manifest's row is unusable
    TAKEN_DOWN = "TAKEN_DOWN"  # somebody did not want it used: see dyconv.tombstones
    LICENCE = "LICENCE"  # no licence, or one the recipe does not take
    UNAVAILABLE = "UNAVAILABLE"  # gone, private or never there
    TOO_LARGE = "TOO_LARGE"  # more bytes than the recipe takes
    UNREADABLE = "UNREADABLE"  # not media, or nothing of it decodes
    TRUNCATED = "TRUNCATED"  # it ends, or breaks, before it says it does
    NO_VIDEO = "NO_VIDEO"
    NO_AUDIO = "NO_AUDIO"
    SILENT = "SILENT"  # a sound track with nothing on it
    TOO_SHORT = "TOO_SHORT"
    OUT_OF_SYNC = "OUT_OF_SYNC"
    NO_FACE = "NO_FACE"
    FACES_NOT_TWO = "FACES_NOT_TWO"  # not as many people on screen as the recipe asks for
    FACE_TOO_SMALL = "FACE_TOO_SMALL"
    NOT_DYADIC = "NOT_DYADIC"  # not two people in conversation
    ATTRIBUTION_UNSURE = "ATTRIBUTION_UNSURE"
    SEPARATION_POOR = "SEPARATION_POOR"
    MOTION_UNSTABLE = "MOTION_UNSTABLE"


def check_id(value: str, what: str = "id") -> str:
    """Return `value` if it is safe as a file name and a WebDataset key.

    Raises:
        ValueError: saying what is allowed.
    """
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(f"{what} {str(value)[:120]!r} must be 1 to 96 of the characters A-Z a-z 0-9 _ -")
    return value


@dataclass(frozen=True)
class Ref:
    """Where an asset lies (`path`, relative to the store's root) and what it must be."""

    path: str
    sha256: str
    size: int

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "sha256": self.sha256, "size": self.size}


@dataclass(frozen=True)
class Source:
    """One row of a manifest: what to fetch, under which licence."""

    id: str
    url: str
    licence: str | None = None
    title: str | None = None
    language: str | None = None  # BCP 47; the original language, to pick the right audio track
    channel: str | None = None
    note: str | None = None
    partner_url: str | None = None  # a second file, of the other person: see dyconv.download.join

    def __post_init__(self) -> None:
        check_id(self.id, "source id")

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Track:
    """One face followed through one shot. Frames count from the clip's start, `end` is exclusive."""

    id: str
    shot: int
    start: int
    end: int
    width: float  # median width of the face box, pixels of VIDEO
    coverage: float  # share of [start, end) where the face was really found, 0 to 1
    identity: str | None = None  # the same for the same person across the shots of a segment
    person: str | None = None  # p0 or p1, once `people` has decided

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Turn:
    """A stretch of speech. `person` is p0, p1, or None where it is off screen or the decision is abstained from."""

    person: str | None
    span: Span  # clip clock
    confidence: float  # 0 to 1
    unsure: bool = False  # speech that was heard, and given to nobody on purpose
    agreement: float | None = None  # of lips and voice on who speaks, 0 to 1; None where only one of them tells

    def to_json(self) -> dict[str, Any]:
        return {
            "person": self.person,
            "span": self.span.to_json(),
            "confidence": round(self.confidence, 4),
            "unsure": self.unsure,
            **({} if self.agreement is None else {"agreement": round(self.agreement, 4)}),
        }


@dataclass(frozen=True)
class Person:
    """One of the two people of a conversation."""

    id: str  # p0 or p1
    identity: str | None  # as in Track.identity; None for somebody only heard
    seen: bool  # on screen in this clip
    heard: bool  # speaks in this clip

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Clip:
    """A span of a source and what is known of it.

    `span` is on the source's presentation clock. Everything else that has a time is on the clip's own clock, which
    starts at zero with the first frame of VIDEO. Shots are half-open and cover the clip.
    """

    id: str
    source: Source
    span: Span
    parent: str | None = None
    shots: tuple[Span, ...] = ()
    layout: str | None = None  # two-shot | split | pip | alternating | single
    tracks: tuple[Track, ...] = ()
    people: tuple[Person, ...] = ()
    turns: tuple[Turn, ...] = ()
    measures: Mapping[str, float | str | None] = field(default_factory=dict)  # av_offset_s, p0.bleed_db, ...
    assets: Mapping[Key, Ref] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_id(self.id, "clip id")

    @property
    def frames(self) -> int:
        """Number of 25 fps frames of the clip once it is normalized."""
        return len(self.span.shift(-self.span.start).frames)

    def person(self, person_id: str) -> Person:
        return next(person for person in self.people if person.id == person_id)

    def measured(self, **values: float | str | None) -> Clip:
        """A copy with more measures; a double underscore in a name stands for a dot (`p0__bleed_db`)."""
        named = {name.replace("__", "."): value for name, value in values.items()}
        return replace(self, measures={**self.measures, **named})

    def child(self, span: Span, **changes: Any) -> Clip:
        """A clip of a part of this one. `span` is on the source's clock. Assets are not taken along."""
        clip_id = child_id(self.source.id, span)
        return replace(self, id=clip_id, span=span, parent=self.id, assets={}, **changes)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "source": self.source.to_json(),
            "span": self.span.to_json(),
            "parent": self.parent,
            "shots": [shot.to_json() for shot in self.shots],
            "layout": self.layout,
            "tracks": [track.to_json() for track in self.tracks],
            "people": [person.to_json() for person in self.people],
            "turns": [turn.to_json() for turn in self.turns],
            "measures": dict(sorted(self.measures.items())),
            "assets": {str(key): ref.to_json() for key, ref in sorted(self.assets.items())},
        }

    @classmethod
    def from_json(cls, data: Any) -> Clip:
        """The record that `to_json` gave. Every field is checked: records come out of shards that others wrote.

        Raises:
            ValueError: saying which part of it is none.
        """
        try:
            return cls(
                id=data["id"],
                source=_made(Source, data["source"]),
                span=Span.from_json(data["span"]),
                parent=_checked("parent", "str | None", data.get("parent")),
                shots=tuple(Span.from_json(shot) for shot in data.get("shots", ())),
                layout=_checked("layout", "str | None", data.get("layout")),
                tracks=tuple(_made(Track, track) for track in data.get("tracks", ())),
                people=tuple(_made(Person, person) for person in data.get("people", ())),
                turns=tuple(_made(Turn, {**turn, "span": Span.from_json(turn["span"])}) for turn in data.get("turns", ())),
                measures={name: _checked(name, _MEASURE, value) for name, value in data.get("measures", {}).items()},
                assets={Key(key): _made(Ref, ref) for key, ref in data.get("assets", {}).items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a clip's record: {error!r:.200}") from error


_MEASURE = "float | str | None"
_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "bool": (bool,),
    "float": (float, int),
    "float | None": (float, int, type(None)),
    _MEASURE: (float, int, str, type(None)),
    "Span": (Span,),
}
_FIELDS = {kind: {one.name: str(one.type) for one in fields(kind)} for kind in (Source, Track, Person, Turn, Ref)}
_LARGEST = 1 << 53  # of numbers: no count or measure of a clip is larger, and every float up to it has its units


def _made(kind: type[Any], data: Mapping[str, Any]) -> Any:
    """One of the classes above from its JSON, each field of the type that it is declared with."""
    types = _FIELDS[kind]
    return kind(**{name: _checked(name, types[name], value) for name, value in data.items()})


def _checked(name: str, declared: str, value: Any) -> Any:
    if type(value) not in _TYPES[declared]:
        raise ValueError(f"{name[:40]}: expected {declared}, found {str(value)[:40]!r}")
    if isinstance(value, (int, float)) and not abs(value) <= _LARGEST:  # nan is not either
        raise ValueError(f"{name[:40]}: {str(value)[:40]} is no number of a clip")
    return value


def child_id(source_id: str, span: Span) -> str:
    """`<source>_<start>_<end>` in milliseconds of the source's clock: readable, sortable, from content alone."""
    start, end = (max(0, round(time * 1000)) for time in (span.start, span.end))
    return f"{source_id}_{start:08d}_{end:08d}"


def source_clip(source: Source) -> Clip:
    """The record a source starts as: everything of it, nothing known yet."""
    return Clip(id=source.id, source=source, span=Span(Fraction(0), Fraction(0)))


@dataclass(frozen=True)
class Drop:
    """A stage's verdict that `clip` goes no further. About the data; not an error."""

    clip: Clip
    reason: DropReason
    detail: str


def dump(data: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8. The same data gives the same bytes.

    Half characters, of titles that were not Unicode, become JSON's own escapes for them.
    """
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")
