"""Finding a clip, a segment or a source of a build by its id, with the best record there is of it."""

from __future__ import annotations

import difflib

from dyconv.bounds import parse_object
from dyconv.errors import StoreError, UsageError
from dyconv.ledger import Event, SourceLog, State, read_ledger
from dyconv.records import Clip, Drop, Source, source_clip
from dyconv.report.view import ClipView
from dyconv.store import Store
from dyconv.work import read_done, work_folder


def find(store: Store, wanted: str, logs: dict[str, SourceLog] | None = None) -> ClipView:
    """The clip, segment or source with this id. A source that was cut up stands for its first segment.

    Raises:
        UsageError: if the build has nothing of that id; the hint names what is like it.
    """
    logs = read_ledger(store) if logs is None else logs
    known: list[str] = []
    for log in logs.values():
        items = sorted({(event.id, event.level) for event in log.events} | log.items().keys(), key=lambda item: -item[1])
        for clip_id, level in items:
            if clip_id == wanted and not (level == 0 and _children(log, wanted, 0)):
                return view_of(store, log, clip_id, level)
        if log.id == wanted:
            return find(store, min(_children(log, wanted, 0)), {log.id: log})
        known += [clip_id for clip_id, _ in items]
    near = difflib.get_close_matches(wanted, known, n=4, cutoff=0.5) or known[:4]
    hint = f"did you mean: {', '.join(dict.fromkeys(near))}" if near else "run `dyconv run` first"
    raise UsageError(f"{store} has no clip, segment or source {wanted[:120]!r}", hint=hint)


def view_of(store: Store, log: SourceLog, clip_id: str, level: int) -> ClipView:
    """What is known of one item of a source: its outcome, and the record made last."""
    events = [event for event in log.events if (event.id, event.level) == (clip_id, level)]
    final = next((event for event in events if event.final), None)
    if final is None:
        state = "passed" if any(event.children is not None for event in events) else "pending"
        stage = events[-1].stage if events else None
        return ClipView(_latest(store, log, clip_id, level, events), store, state, stage)
    clip = record(store, final) or _latest(store, log, clip_id, level, events)
    # `dropped` carries its sentence in `detail`; of a failure `reason` is the type of the error.
    said = ": ".join(word for word in (final.reason, final.detail) if word) or None
    view = ClipView(clip, store, str(final.state), final.stage, said)
    if not clip.assets and level:
        view.whole = _parent(store, log, clip_id, level)
    return view


def record(store: Store, event: Event) -> Clip | None:
    """The record an event is about, as its stage left it (of a failed one: as the stage met it); None if it is gone."""
    if event.stage is None or event.fp is None:
        return None
    folder = work_folder(event.stage, event.fp)
    if event.state is State.FAILED:
        try:
            return Clip.from_json(parse_object(store.read_bytes(f"{folder}/failed.json"), folder).get("clip"))
        except (StoreError, UsageError, ValueError):
            return None
    done = read_done(store, folder)
    for outcome in done[0] if done else ():
        clip = outcome.clip if isinstance(outcome, Drop) else outcome
        if clip.id == event.id:
            return clip
    return None


def _children(log: SourceLog, clip_id: str, level: int) -> tuple[str, ...]:
    return tuple(
        child
        for event in log.events
        if (event.id, event.level) == (clip_id, level) and event.children is not None
        for child in event.children
    )


def _parent(store: Store, log: SourceLog, clip_id: str, level: int) -> Clip | None:
    """The record of what this item was cut from."""
    for event in log.events:
        if event.level == level - 1 and event.children is not None and clip_id in event.children:
            events = [other for other in log.events if (other.id, other.level) == (event.id, level - 1)]
            return _latest(store, log, event.id, level - 1, events)
    return None


def _latest(store: Store, log: SourceLog, clip_id: str, level: int, events: list[Event]) -> Clip:
    """The fullest record of an item that passed: events come in any order, and each stage adds to the record."""
    found = [clip for event in events if event.children is None and (clip := record(store, event)) is not None]
    for event in log.events:
        if event.level == level - 1 and event.children is not None and clip_id in event.children:
            made = record(store, Event(log.id, clip_id, State.PASSED, level, event.stage, event.fp))
            found += [made] if made is not None else []
    if not found:
        return source_clip(Source(id=log.id, url=""))
    return max(found, key=lambda clip: (len(clip.assets), len(clip.tracks), len(clip.turns), len(clip.measures)))
