"""Labels that came from another program, as decisions on the clips of a build."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from dyconv.audit import checks
from dyconv.audit.decisions import Decision, Kind, Verdict, base_of, decide, turns_data
from dyconv.audit.interchange.common import InterchangeError, Labels, in_order
from dyconv.audit.overlay import Annotations
from dyconv.records import Clip


@dataclass
class Taken:
    """What came of labels.

    Attributes:
        decisions: new ones, to add to the overlay.
        unchanged: clips of which the file says nothing new.
        stale: clips whose record is another one than the labels were made on: their decisions are kept and do not count.
        unknown: clips that are not in the build; nothing is taken of them.
    """

    decisions: list[Decision] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def take(
    labels: Iterable[Labels], clips: Mapping[str, Clip], annotations: Annotations, reviewer: str, tool: str, *, round: int = 1
) -> Taken:
    """Make decisions of what labels say anew. Taking the same file twice adds nothing the second time.

    Args:
        reviewer: for labels whose file does not say who made them.
        tool: what made them, such as `ELAN`.
        round: 2 for blind second reviews.

    Raises:
        InterchangeError: if turns do not fit into their clip.
    """
    taken = Taken()
    for label in labels:
        clip = clips.get(label.clip)
        if clip is None:
            taken.unknown.append(label.clip)
            continue
        base = label.base or base_of(clip)
        who = label.reviewer or reviewer
        own = [d for d in annotations.of(clip.id) if d.kind is Kind.UNDO or (d.reviewer, d.round, d.base) == (who, round, base)]
        new = list(_new(label, clip, Annotations(tuple(own)).verdict(clip.id)))
        if base != base_of(clip):
            taken.stale.append(clip.id)
        if not new:
            taken.unchanged.append(clip.id)
        time = datetime.fromisoformat(label.time.replace("Z", "+00:00")) if label.time else datetime.now(UTC)
        for kind, data in new:
            taken.decisions.append(replace(_decided(clip, who, kind, data, round, time, tool), base=base))
    return taken


def _new(label: Labels, clip: Clip, own: Verdict) -> Iterable[tuple[Kind, dict[str, object]]]:
    if label.turns is not None:
        now = in_order(turns_data(clip.turns if own.turns is None else own.turns))
        if label.turns != now:
            yield Kind.TURNS, {"turns": list(label.turns)}
    if label.verdict == "accept" and str(own.state) != "accepted":
        yield Kind.ACCEPT, {}
    if label.verdict == "reject" and (str(own.state), own.reason) != ("rejected", label.reason):
        yield Kind.REJECT, {"reason": label.reason}


def _decided(clip: Clip, who: str, kind: Kind, data: Mapping[str, object], round: int, time: datetime, tool: str) -> Decision:
    try:
        return decide(clip, who, kind, data, round=round, time=time, tool=tool)
    except checks.DecisionError as error:
        raise InterchangeError(f"clip {clip.id}: {error.message}", hint=error.hint) from error
