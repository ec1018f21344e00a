"""The record of a clip as its verdict says it should be.

A swap of `people` exchanges the names p0 and p1 everywhere: people, tracks, turns, measures and assets. A swap of
`voices` leaves the faces where they are and exchanges who is heard: turns, voices and what is measured on them; what was
measured by holding lips against voices is dropped, since it was measured on the wrong pairs.

What a verdict did is told by measures, so that readers of records need to know nothing new:
- `audit.state`: `accepted` or `open`; `audit.reviewers`: how many people's decisions count.
- `audit.swapped`: `people` or `voices`; `audit.turns`: `corrected`, both only where it is so.
- `audit.marks`: the faults that were marked, by comma.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dyconv.records import PERSONS, Clip, Key, Turn
from dyconv.time import FPS, Span

if TYPE_CHECKING:
    from dyconv.audit.decisions import Verdict

_OTHER = {PERSONS[0]: PERSONS[1], PERSONS[1]: PERSONS[0]}
_VOICE_MEASURES = frozenset({"bleed_db", "overlap_share", "si_sdr_est_db", "voice_method"})
_PAIR_MEASURES = frozenset({"av_offset_frames", "sync_confidence", "lip_margin", "agreement"})  # of lips with a voice
_VOICES = frozenset({Key.P0_VOICE, Key.P1_VOICE})
_BOTH_INSIDE = frozenset({Key.SPEECH, Key.ENROLMENT})  # p0 and p1 are names, or an order, inside these files
_CHANNELS = "people.channels"  # "p0=0,p1=1"


def applied(clip: Clip, verdict: Verdict) -> Clip | None:
    """The record as a release carries it, or None where the verdict leaves the clip out.

    A clip that nobody has said anything of (or only on an earlier record) comes back as it is. Corrected turns have
    confidence 1 and no agreement. Whether somebody is heard, and shares of overlap, follow the turns. SPEECH and
    ENROLMENT are not taken along through a swap: they hold p0 and p1 inside.
    """
    if verdict.left_out:
        return None
    if not verdict.decisions:
        return clip
    if verdict.turns is not None:
        clip = replace(clip, turns=_inside(verdict.turns, clip))
    if verdict.swapped == "people":
        clip = _people_swapped(clip)
    elif verdict.swapped == "voices":
        clip = _voices_swapped(clip)
    if verdict.turns is not None or verdict.swapped == "voices":
        clip = _heard(clip)
    return replace(clip, measures={**clip.measures, **_told(verdict)})


def exchanged(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """The same turns with p0 and p1 exchanged."""
    return tuple(replace(turn, person=_other(turn.person)) for turn in turns)


def _other(person: str | None) -> str | None:
    return _OTHER.get(person, person) if person is not None else None


def _inside(turns: Iterable[Turn], clip: Clip) -> tuple[Turn, ...]:
    """Turns cut to the clip: a rounded end may lie a part of a millisecond outside."""
    whole = Span(clip.span.start - clip.span.start, clip.span.duration)
    cut = ((turn, turn.span.intersect(whole)) for turn in turns)
    return tuple(replace(turn, span=span) for turn, span in cut if span)


def _people_swapped(clip: Clip) -> Clip:
    return replace(
        clip,
        tracks=tuple(replace(track, person=_other(track.person)) for track in clip.tracks),
        people=tuple(sorted((replace(p, id=_other(p.id) or p.id) for p in clip.people), key=lambda p: p.id)),
        turns=exchanged(clip.turns),
        measures=_renamed(clip.measures, lambda parts: True),
        assets={other_key(key): ref for key, ref in clip.assets.items() if key not in _BOTH_INSIDE},
    )


def _voices_swapped(clip: Clip) -> Clip:
    kept = {name: value for name, value in clip.measures.items() if name.rpartition(".")[2] not in _PAIR_MEASURES}
    turns = (replace(turn, confidence=turn.confidence if turn.person is None else 1.0, agreement=None) for turn in clip.turns)
    return replace(
        clip,
        turns=exchanged(turns),
        measures=_renamed(kept, lambda parts: parts[-1] in _VOICE_MEASURES),
        assets={other_key(key) if key in _VOICES else key: ref for key, ref in clip.assets.items() if key not in _BOTH_INSIDE},
    )


def other_key(key: Key) -> Key:
    """The same asset of the other person; an asset of nobody is itself."""
    person, _, what = str(key).partition(".")
    return Key(f"{_OTHER[person]}.{what}") if person in _OTHER else key


def _renamed(measures: Mapping[str, Any], concerns: Callable[[list[str]], bool]) -> dict[str, Any]:
    """Measures with p0 and p1 exchanged in the names (`p0.bleed_db`, `motion.p1.jump_share`) that are concerned."""
    out: dict[str, Any] = {}
    for name, value in measures.items():
        parts = name.split(".")
        if concerns(parts):
            name = ".".join(_OTHER.get(part, part) for part in parts)
        out[name] = _channels_swapped(value) if name == _CHANNELS and isinstance(value, str) else value
    return out


def _channels_swapped(value: str) -> str:
    pairs = dict(part.split("=", 1) for part in value.split(",") if "=" in part)
    return ",".join(f"{person}={pairs[_OTHER[person]]}" for person in PERSONS if _OTHER[person] in pairs)


def _heard(clip: Clip) -> Clip:
    """People and shares of overlap as the turns say. The shares are those of `dyconv.stages.separate` and `people`."""
    from dyconv.speech.turns import activity

    spoken = activity(clip.turns, clip.frames) > 0
    both = float(spoken.all(axis=0).sum())
    measures = dict(clip.measures)
    for row, person in enumerate(PERSONS):
        if f"{person}.overlap_share" in measures:
            own = float(spoken[row].sum())
            measures[f"{person}.overlap_share"] = round(both / own, 4) if own else 0.0
    if "people.overlap_share" in measures:
        total = float(sum((turn.span.duration for turn in clip.turns), clip.span.duration * 0))
        measures["people.overlap_share"] = round(both / FPS / total, 4) if total else 0.0
    talking = {turn.person for turn in clip.turns}
    return replace(clip, people=tuple(replace(p, heard=p.id in talking) for p in clip.people), measures=measures)


def _told(verdict: Verdict) -> dict[str, float | str | None]:
    told: dict[str, float | str | None] = {
        "audit.state": str(verdict.state),
        "audit.reviewers": float(len(verdict.reviewers)),
    }
    if verdict.swapped:
        told["audit.swapped"] = verdict.swapped
    if verdict.turns is not None:
        told["audit.turns"] = "corrected"
    if verdict.marks:
        told["audit.marks"] = ",".join(sorted({str(mark.what) for mark in verdict.marks}))
    return told
