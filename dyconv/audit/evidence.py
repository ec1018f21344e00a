"""Why a clip is in the build: what each stage made of it, and what became of the rest of its source."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from dyconv.ledger import SourceLog, State, clip_standings, read_ledger
from dyconv.records import Clip
from dyconv.store import Store

_MOST_OTHERS = 40


def evidence(store: Store, clip: Clip) -> dict[str, Any]:
    """Stages and neighbours of a clip.

    Returns:
        `stages`: stage, outcome and seconds spent, in order; `others`: id, state and reason of what else was cut from the
        source. Both are empty where there is no ledger (a release).
    """
    log = _logs(str(store)).get(clip.source.id)
    if log is None:
        return {"stages": [], "others": []}
    stages = [
        {"stage": event.stage, "state": str(event.state), "seconds": round(event.seconds, 2)}
        for event in log.events
        if event.id == clip.id and event.stage
    ]
    others = [
        {"id": other.id, "state": str(other.state), "reason": ": ".join(word for word in (other.reason, other.detail) if word)}
        for other in clip_standings(log)
        if other.id != clip.id and other.state in (State.DROPPED, State.FAILED, State.KEPT)
    ]
    return {"stages": stages, "others": others[:_MOST_OTHERS]}


@lru_cache(maxsize=2)
def _logs(root: str) -> Mapping[str, SourceLog]:
    return read_ledger(Store(root))
