"""What reviewers say of clips, and what it comes to.

A `Decision` never changes and is never removed: taking it back is a decision too. It names the clip, and by `base` the
record that was looked at. All persons and times in it are in the names and on the clock of that record, so an app that
shows a clip as corrected (p0 and p1 exchanged) turns them back with `exchanged` before it stores them.

`settle` brings all decisions on one clip down to a `Verdict`, whatever order they come in; `applied` makes the record
that a release carries.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from fractions import Fraction
from typing import Any

from dyconv import __version__
from dyconv.audit import checks
from dyconv.audit.applying import applied as applied
from dyconv.audit.applying import exchanged as exchanged
from dyconv.audit.checks import DecisionError as DecisionError
from dyconv.audit.checks import Fault as Fault
from dyconv.audit.checks import Kind as Kind
from dyconv.records import Clip, Turn, dump
from dyconv.time import Span, seconds

TOOL = f"dyconv {__version__}"
_FIELDS = ("id", "clip", "base", "reviewer", "time", "tool", "round", "kind", "data")


class Standing(StrEnum):
    """Where a clip stands."""

    OPEN = "open"  # nobody has accepted or rejected it
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    TAKEN_DOWN = "taken_down"


@dataclass(frozen=True)
class Decision:
    """One thing that one reviewer said of one clip.

    Attributes:
        id: uuid4, 32 hex digits.
        base: `base_of` the record that was looked at, 64 hex digits.
        time: UTC, `2026-11-21T16:05:50.123456Z`.
        tool: name and version of the program it was made with.
        round: 1, or 2 where it is a blind second review.
        data: what belongs to the kind, as `dyconv.audit.checks.data_of` says.
    """

    id: str
    clip: str
    base: str
    reviewer: str
    time: str
    tool: str
    round: int
    kind: Kind
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in _FIELDS}, "kind": str(self.kind), "data": dict(self.data)}

    @classmethod
    def from_json(cls, value: Any, at: str = "decision", clip: Clip | None = None) -> Decision:
        """Check plain data and make a decision of it; times must lie inside `clip` where it is given.

        Raises:
            DecisionError: naming the field, what was expected and what was found.
        """
        fields = checks.mapping(value, at, _FIELDS)
        kind = Kind(checks.one_of(fields["kind"], f"{at}.kind", Kind))
        if isinstance(fields["round"], bool) or fields["round"] not in (1, 2):
            raise checks.wrong(f"{at}.round", "1 or 2", fields["round"])
        if clip is not None and fields["clip"] != clip.id:
            raise checks.wrong(f"{at}.clip", clip.id, fields["clip"])
        return cls(
            id=checks.matching(fields["id"], f"{at}.id", checks.HEX_ID, "32 hex digits"),
            clip=checks.clip_id(fields["clip"], f"{at}.clip"),
            base=checks.matching(fields["base"], f"{at}.base", checks.HEX_SHA, "a sha256 in hex"),
            reviewer=checks.text(fields["reviewer"], f"{at}.reviewer", checks.LONGEST_NAME),
            time=checks.utc_time(fields["time"], f"{at}.time"),
            tool=checks.text(fields["tool"], f"{at}.tool", checks.LONGEST_NAME),
            round=int(fields["round"]),
            kind=kind,
            data=checks.data_of(kind, fields["data"], f"{at}.data", clip.span.duration if clip else None),
        )


def decide(
    clip: Clip,
    reviewer: str,
    kind: Kind | str,
    data: Mapping[str, Any] | None = None,
    *,
    round: int = 1,
    time: datetime | None = None,
    tool: str = TOOL,
) -> Decision:
    """A new decision on a clip as it stands, made now unless `time` (aware) is given.

    Raises:
        DecisionError: if it is not a valid one.
    """
    value = {
        "id": uuid.uuid4().hex,
        "clip": clip.id,
        "base": base_of(clip),
        "reviewer": reviewer,
        "time": checks.time_text(time or datetime.now(UTC)),
        "tool": tool,
        "round": round,
        "kind": str(kind),
        "data": dict(data or {}),
    }
    return Decision.from_json(value, "decision", clip)


def base_of(clip: Clip) -> str:
    """Sha256 of what a reviewer judges in a record: the same for a build's record and for its shard's.

    Left out: where assets lie and which of them are packed, and all that is told of motion.
    """
    measures = {name: value for name, value in clip.measures.items() if "motion" not in name.split(".")}
    return hashlib.sha256(dump(replace(clip, assets={}, measures=measures).to_json())).hexdigest()


@dataclass(frozen=True)
class Mark:
    """A fault at a place of a clip; `at_s` is seconds of the clip clock, None for all of it."""

    what: Fault
    person: str | None = None
    at_s: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What all decisions on one clip come to.

    Attributes:
        reason: the fault a rejected clip was rejected for, or why one was taken down.
        note: what was written with the decision that the state comes from.
        swapped: "people" (names exchanged), "voices" (each voice and its turns are the other's), or None.
        turns: the turns as they should be, in the record's own names (before any swap); None where they stay.
        reviewers: everybody whose decisions count, in order of name.
        decisions: ids of the decisions that count, in order of time.
        stale: ids of decisions on an earlier record, which do not count.
    """

    state: Standing = Standing.OPEN
    reason: str | None = None
    swapped: str | None = None
    turns: tuple[Turn, ...] | None = None
    marks: tuple[Mark, ...] = ()
    reviewers: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    note: str | None = None

    @property
    def left_out(self) -> bool:
        """Whether a release goes without the clip."""
        return self.state in (Standing.REJECTED, Standing.TAKEN_DOWN)


def in_order(decisions: Iterable[Decision]) -> list[Decision]:
    """By time, then by id: the order that every merge of the same decisions has."""
    return sorted(decisions, key=lambda decision: (decision.time, decision.id))


def standing(decisions: Iterable[Decision]) -> list[Decision]:
    """What is left when everything undone is taken out, in order; an undo that was itself undone undoes nothing."""
    all_of = in_order(decisions)
    known = {decision.id for decision in all_of}
    undos: dict[str, list[Decision]] = {}
    level = []
    for decision in all_of:
        target = decision.data["decision"] if decision.kind is Kind.UNDO else None
        undos.setdefault(target, []).append(decision) if target in known else level.append(decision)
    levels = []
    while level:  # undos of one level undo decisions of the level above; what undoes itself in a ring is never reached
        levels.append(level)
        level = [undo for decision in level for undo in undos.get(decision.id, ())]
    counts: set[str] = set()
    for level in reversed(levels):
        counts |= {d.id for d in level if not any(undo.id in counts for undo in undos.get(d.id, ()))}
    return [decision for decision in all_of if decision.id in counts and decision.kind is not Kind.UNDO]


def settle(decisions: Sequence[Decision], base: str | None = None) -> Verdict:
    """The verdict that the decisions on one clip come to, whatever their order.

    A takedown holds until it is itself undone. Otherwise the latest of accept and reject wins, the latest swap and the
    latest list of turns; marks add up.

    Args:
        base: `base_of` the record as it is now. Decisions on another record are stale and do not count, except that a
            takedown holds whatever became of the record. None: all count.

    Raises:
        ValueError: if the decisions are on several clips.
    """
    if len({decision.clip for decision in decisions}) > 1:
        raise ValueError("settle wants the decisions on one clip")
    current = standing(decisions)
    stale = [d for d in current if base is not None and d.base != base and d.kind is not Kind.TAKEDOWN]
    counted = [decision for decision in current if decision not in stale]
    latest = {decision.kind: decision for decision in counted}
    judged = [decision for decision in counted if decision.kind in (Kind.ACCEPT, Kind.REJECT)]
    deciding = latest.get(Kind.TAKEDOWN) or (judged[-1] if judged else None)
    state, reason = _state(deciding)
    return Verdict(
        state=state,
        reason=reason,
        swapped=latest[Kind.SWAP].data["what"] if Kind.SWAP in latest else None,
        turns=turns_of(latest[Kind.TURNS].data["turns"]) if Kind.TURNS in latest else None,
        marks=tuple(dict.fromkeys(_mark(d.data) for d in counted if d.kind is Kind.MARK)),
        reviewers=tuple(sorted({decision.reviewer for decision in counted})),
        decisions=tuple(decision.id for decision in counted),
        stale=tuple(decision.id for decision in stale),
        note=deciding.data.get("note") if deciding else None,
    )


def _state(deciding: Decision | None) -> tuple[Standing, str | None]:
    if deciding is None:
        return Standing.OPEN, None
    if deciding.kind is Kind.TAKEDOWN:
        return Standing.TAKEN_DOWN, deciding.data["why"]
    return (Standing.REJECTED, deciding.data["reason"]) if deciding.kind is Kind.REJECT else (Standing.ACCEPTED, None)


def _mark(data: Mapping[str, Any]) -> Mark:
    return Mark(Fault(data["what"]), data["person"], data["at_s"], data.get("note"))


def turns_of(turns: Iterable[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """A record's turns from those of a decision: exact milliseconds, confidence 1, nothing said of agreement."""
    return tuple(
        Turn(turn["person"], Span(_exact(turn["start_s"]), _exact(turn["end_s"])), 1.0, bool(turn.get("unsure", False)))
        for turn in turns
    )


def turns_data(turns: Iterable[Turn]) -> list[dict[str, Any]]:
    """The turns of a record as a decision has them: seconds rounded to a millisecond."""
    return [
        {
            "person": turn.person,
            "start_s": round(float(turn.span.start), 3),
            "end_s": round(float(turn.span.end), 3),
            "unsure": turn.unsure and turn.person is None,
        }
        for turn in turns
    ]


def _exact(value: float) -> Fraction:
    return seconds(round(value, 3))
