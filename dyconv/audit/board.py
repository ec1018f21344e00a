"""Where every clip stands, for one reviewer: what the audit app shows of an overlay, kept up with what others add to it.

In a blind round a reviewer sees and changes only what she herself said in that round.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dyconv.audit.checks import DecisionError
from dyconv.audit.decisions import Decision, Kind, Verdict, decide, in_order, settle, standing, turns_data
from dyconv.audit.overlay import Overlay
from dyconv.audit.rates import errors_of, is_reviewed
from dyconv.audit.sampling import Sample, confidence_of
from dyconv.records import Clip, Source


class Conflict(DecisionError):
    """Somebody else was quicker: what the decision was made on is not what is there now."""


class Board:
    """Decisions of an overlay by clip, and what they come to. May be used by several threads.

    Args:
        clips, bases: the records that are reviewed, and `base_of` each.
        sample: the clips to review first, if a sample was drawn.
        round: 1, or 2 for the blind second review.
    """

    def __init__(
        self,
        overlay: Overlay,
        clips: Mapping[str, Clip],
        bases: Mapping[str, str],
        sample: Sample | None = None,
        round: int = 1,
    ) -> None:
        self.overlay, self.clips, self.bases, self.round = overlay, clips, bases, round
        listed = sample.clips if sample else ()
        self.places = {clip.id: number for number, clip in enumerate(listed)}
        self.second = {clip.id for clip in listed if clip.second}
        self._fixed = {clip: self._told(record) for clip, record in clips.items()}
        self._by_clip: dict[str, list[Decision]] = {}
        self._seq = 0
        self._lock = threading.Lock()

    def refresh(self) -> int:
        """Take over what was added to the overlay, by anybody; returns the number of the last one."""
        with self._lock:
            added, self._seq = self.overlay.after(self._seq)
            for decision in added:
                self._by_clip.setdefault(decision.clip, []).append(decision)
            return self._seq

    def changed(self, after: int, reviewer: str | None) -> tuple[list[dict[str, Any]], int]:
        """Rows of the clips with decisions after number `after` of the overlay, and the number to ask with next time."""
        added, _ = self.overlay.after(after)
        seq = self.refresh()
        return [self.row(clip, reviewer) for clip in dict.fromkeys(d.clip for d in added) if self.shown(clip, reviewer)], seq

    def shown(self, clip: str, reviewer: str | None) -> bool:
        """Whether a clip is in a reviewer's queue: in a blind round, if it is not one that she knows already."""
        if clip not in self.clips:
            return False
        if self.round == 1:
            return True
        first = any(d.reviewer == reviewer and d.round == 1 and d.kind is not Kind.UNDO for d in self._by_clip.get(clip, ()))
        return not first and (not self.second or clip in self.second)

    def rows(self, reviewer: str | None) -> list[dict[str, Any]]:
        """A reviewer's queue: the clips of the sample in its order, then the others by id."""
        self.refresh()
        order = sorted(self.clips, key=lambda clip: (self.places.get(clip, len(self.places)), clip))
        return [self.row(clip, reviewer) for clip in order if self.shown(clip, reviewer)]

    def row(self, clip: str, reviewer: str | None) -> dict[str, Any]:
        """One line of the queue."""
        decisions = self.seen(clip, reviewer)
        verdict = settle(decisions, self.bases[clip])
        return {
            **self._fixed[clip],
            "disagree": self._disagree(clip, decisions),
            "state": str(verdict.state),
            "reason": verdict.reason,
            "swapped": verdict.swapped,
            "fixed": verdict.turns is not None,
            "marks": len(verdict.marks),
            "reviewers": list(verdict.reviewers),
            "stale": len(verdict.stale),
        }

    def _told(self, record: Clip) -> dict[str, Any]:
        """What a line says of a clip whatever is decided."""
        confidence = confidence_of(record)
        return {
            "id": record.id,
            "title": title_of(record.source),
            "source": record.source.id,
            "layout": record.layout,
            "seconds": round(float(record.span.duration), 2),
            "confidence": None if confidence is None else round(confidence, 3),
            "place": self.places.get(record.id),
            "second": record.id in self.second,
        }

    def detail(self, clip: str, reviewer: str | None) -> dict[str, Any]:
        """What the decisions on a clip come to, and the decisions themselves, oldest first.

        `seq` rises with every decision anybody adds: of two answers, the one with the higher is the later.
        """
        seq = self.refresh()
        decisions = self.seen(clip, reviewer)
        verdict = settle(decisions, self.bases[clip])
        return {
            "seq": seq,
            "base": self.bases[clip],
            "row": self.row(clip, reviewer),
            "verdict": {**_plain(verdict), "turns_by": self._turns_by(clip, reviewer)},
            "decisions": _history(decisions, verdict),
        }

    def seen(self, clip: str, reviewer: str | None) -> list[Decision]:
        """The decisions on a clip that a reviewer may know of, by time.

        A second review does not lead the first either: it is told once somebody is done with the first.
        """
        found = in_order(self._by_clip.get(clip, ()))
        if self.round == 2:
            return [d for d in found if d.round == 2 and d.reviewer == reviewer]
        first = [d for d in found if d.round == 1 or d.kind is Kind.UNDO]
        return found if len(first) < len(found) and is_reviewed(settle(first, self.bases[clip])) else first

    def add(self, clip: str, reviewer: str, kind: str, data: Mapping[str, Any], base: str, seen: str | None = None) -> Decision:
        """Write a decision, at once.

        Args:
            base: `base_of` the record that was looked at.
            seen: of a list of turns: id of the decision that the list it was made from comes from, if any.

        Raises:
            Conflict: if it was made on another record, or on turns that somebody else changed meanwhile.
            DecisionError: if it is not a valid one, or undoes what is not there.
            OverlayError: if it cannot be written.
        """
        if base != self.bases[clip]:
            raise Conflict(
                f"clip {clip} is not the one that was looked at", hint="the build changed meanwhile: load the page again"
            )
        self.refresh()
        if not self.shown(clip, reviewer):
            raise DecisionError(
                f"{reviewer} cannot review {clip} blind", hint="she reviewed it before, or it is not in the sample"
            )
        decision = decide(self.clips[clip], reviewer, kind, data, round=self.round)
        if decision.kind is Kind.UNDO:
            known = {d.id for d in self.seen(clip, reviewer)}
            if decision.data["decision"] not in known:
                raise DecisionError(f"clip {clip} has no decision {decision.data['decision']} to undo")
        if decision.kind is Kind.TURNS and self._turns_by(clip, reviewer) != seen:
            raise Conflict(
                "somebody else corrected these turns meanwhile", hint="their turns are shown now: look, and do yours again"
            )
        self.overlay.add(decision)
        self.refresh()
        return decision

    def _turns_by(self, clip: str, reviewer: str | None) -> str | None:
        """Id of the decision that a clip's turns come from; None where they are the record's."""
        base = self.bases[clip]
        found = [d for d in standing(self.seen(clip, reviewer)) if d.kind is Kind.TURNS and d.base == base]
        return found[-1].id if found else None

    def undo(self, reviewer: str) -> tuple[Decision, Decision] | None:
        """Undo the last thing that a reviewer said and that still counts: (the undo, what it undoes), or None."""
        self.refresh()
        for decision in reversed(self._own(reviewer)):
            if decision.kind is not Kind.UNDO and decision in standing(self._by_clip[decision.clip]):
                return self._taken_back(decision, reviewer), decision
        return None

    def redo(self, reviewer: str) -> tuple[Decision, Decision] | None:
        """Undo a reviewer's last undo, unless something new was said since: (the undo, the undo it undoes), or None."""
        self.refresh()
        for decision in reversed(self._own(reviewer)):
            if decision.kind is not Kind.UNDO:
                return None
            others = self._by_clip[decision.clip]
            target = next((other for other in others if other.id == decision.data["decision"]), None)
            if target is not None and target.kind is not Kind.UNDO and _counts(decision, others):
                return self._taken_back(decision, reviewer), decision
        return None

    def _taken_back(self, decision: Decision, reviewer: str) -> Decision:
        undo = decide(self.clips[decision.clip], reviewer, Kind.UNDO, {"decision": decision.id}, round=self.round)
        self.overlay.add(undo)
        self.refresh()
        return undo

    def _own(self, reviewer: str) -> list[Decision]:
        """A reviewer's own decisions of this round, by time."""
        lots = (lot for clip, lot in list(self._by_clip.items()) if clip in self.clips)
        return in_order(d for lot in lots for d in lot if (d.reviewer, d.round) == (reviewer, self.round))

    def _disagree(self, clip: str, decisions: Sequence[Decision]) -> bool:
        """Whether two who finished with a clip found different things."""
        names = {decision.reviewer for decision in decisions}
        if len(names) < 2:
            return False
        own = ([d for d in decisions if d.reviewer == name or d.kind is Kind.UNDO] for name in names)
        verdicts = [settle(lot, self.bases[clip]) for lot in own]
        return len({errors_of(verdict) for verdict in verdicts if is_reviewed(verdict)}) > 1


def title_of(source: Source) -> str:
    """A source's title as one line without control characters; its id where it has none."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in source.title or "").split())
    return text[:200] or source.id


def _counts(decision: Decision, decisions: Iterable[Decision], depth: int = 0) -> bool:
    """Whether an undo was not itself undone."""
    others = list(decisions)
    undos = [d for d in others if d.kind is Kind.UNDO and d.data["decision"] == decision.id]
    return depth > len(others) or not any(_counts(undo, others, depth + 1) for undo in undos)


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {
        "state": str(verdict.state),
        "reason": verdict.reason,
        "note": verdict.note,
        "swapped": verdict.swapped,
        "turns": None if verdict.turns is None else turns_data(verdict.turns),
        "marks": [{"what": str(m.what), "person": m.person, "at_s": m.at_s, "note": m.note} for m in verdict.marks],
        "reviewers": list(verdict.reviewers),
        "stale": len(verdict.stale),
    }


def _history(decisions: Sequence[Decision], verdict: Verdict) -> list[dict[str, Any]]:
    """Decisions as a person reads them: without undos, each with whether it counts; lists of turns by their length."""
    current = {decision.id for decision in standing(decisions)}
    found = []
    for decision in decisions:
        if decision.kind is Kind.UNDO:
            continue
        data = {name: value for name, value in decision.data.items() if name != "turns"}
        if decision.kind is Kind.TURNS:
            data["count"] = len(decision.data["turns"])
        found.append(
            {
                "id": decision.id,
                "kind": str(decision.kind),
                "data": data,
                "reviewer": decision.reviewer,
                "time": decision.time,
                "round": decision.round,
                "undone": decision.id not in current,
                "stale": decision.id in verdict.stale,
            }
        )
    return found
