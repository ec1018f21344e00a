"""Finished work that is no longer what was written: found when shards are packed, and given back to be made again."""

from __future__ import annotations

from dyconv.errors import StoreError
from dyconv.ledger import Event, LedgerWriter, State, stream_ledger
from dyconv.records import Clip
from dyconv.store import Store
from dyconv.work import read_clip


class Harmed(StoreError):
    """Work that the ledger calls finished is gone or damaged. Its sources are open again: the next run makes it anew."""


def reopen(store: Store) -> Harmed | None:
    """Void the story of every source with a kept clip that is not whole; None if all are.

    Sizes are compared first, on a local store without reading the files; the bytes of every asset only where no size is
    wrong. What has the right size and other bytes loses its note, because a resumed run looks at sizes.
    """
    for look in (_of_another_size, _of_other_bytes):
        harmed: dict[str, str] = {}
        for log in stream_ledger(store):
            for event in log.kept():
                if log.id not in harmed and (what := look(store, event)):
                    harmed[log.id] = what
        if harmed:
            with LedgerWriter(store) as ledger:
                ledger.add(Event(name, name, State.PENDING) for name in harmed)
            return Harmed(
                f"of {len(harmed)} finished sources work is damaged or gone ({', '.join(sorted(harmed)[:5])}; first: "
                f"{next(iter(harmed.values()))})",
                hint="the same command makes it again; if that happens often, look at the disk",
            )
    return None


def _clip(store: Store, event: Event) -> Clip | None:
    try:
        return read_clip(store, event)
    except (StoreError, FileNotFoundError):
        return None


def _of_another_size(store: Store, event: Event) -> str:
    clip = _clip(store, event)
    if clip is None:
        return f"the record of {event.id}"
    for ref in clip.assets.values():
        try:
            if store.size(ref.path) != ref.size:
                return ref.path
        except FileNotFoundError:
            return ref.path
    return ""


def _of_other_bytes(store: Store, event: Event) -> str:
    clip = _clip(store, event)
    for ref in clip.assets.values() if clip else ():
        try:
            store.verified(ref)
        except StoreError:
            folder = ref.path.rpartition("/")[0]
            store.discard(f"{folder}/done.json")
            return ref.path
    return ""
