"""The clips that an audit is of: what a build kept, or what a release (or any packed build) holds."""

from __future__ import annotations

from collections.abc import Iterator

from dyconv.errors import UsageError
from dyconv.ledger import RUN_FILE
from dyconv.records import Clip
from dyconv.shards.index import INDEX
from dyconv.store import Store


def stream_clips(store: Store) -> Iterator[Clip]:
    """Records of an output folder by rising id: as the run left them where it is there, else as the shards hold them.

    Raises:
        UsageError: if it is neither a build nor a release.
        ShardError: if a shard is not what its index says.
    """
    if store.exists(RUN_FILE):
        from dyconv.runner import kept_clips

        yield from kept_clips(store)
    elif store.exists(INDEX):
        from dyconv.shards import open_shards

        yield from sorted((sample.clip for sample in open_shards(store.root, keys=())), key=lambda clip: clip.id)
    else:
        raise UsageError(
            f"{store} is no build and no release: it has neither {RUN_FILE} nor {INDEX}",
            hint="give the --out of `dyconv run`, or the folder of a release",
        )
