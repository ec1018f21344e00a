"""Batches for both stages, straight from the shards of one or more builds, decoded in workers of a `DataLoader`.

Global batch number g has the same rows whatever the number of ranks and workers, and whether training began at 0 or at g: each
row is a function of the plan's seed and its place (`training.infp.order`). So a position in the data is one whole number.

    batches = stage1_batches(["out/heads"], STAGE1["debug"], DataPlan(batch=32, seed=0, workers=4), start=position)
    for batch in batches: ...
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dyconv.errors import UsageError
from dyconv.infp.config import Stage1Config, Stage2Config
from dyconv.infp.stage2 import Window
from dyconv.records import Key
from training.infp import pairs, windows
from training.infp.clips import Builds, Item
from training.infp.feed import Batches
from training.infp.order import Lane, deal, lanes_of
from training.infp.plan import Curriculum, DataPlan
from training.infp.stage1_objective import Batch

__all__ = ["Batches", "Curriculum", "DataPlan", "stage1_batches", "stage2_batches"]

_TALKS_OPENED, _TALK_ROWS = 16, 4  # clips of a lane of Stage 2 that are open at once, and rows of each: they are cheap to open


def stage1_batches(
    data: Sequence[str], config: Stage1Config, plan: DataPlan, *, start: int = 0, device: torch.device | str = "cpu"
) -> Batches[Batch]:
    """Pairs of frames for Stage 1, see `Batch`.

    Raises:
        DyconvError: where a build cannot be read, nobody is seen in any clip, or the plan does not fit.
    """
    builds, folder = _builds(data, pairs.KEYS, plan, None)
    items = builds.items(only=plan.only, without=plan.without)
    lanes = _lanes(items, range(len(items)), plan, 1, plan.opened, plan.per_visit)
    make = pairs.Pairs(builds, items, lanes, config, plan, _memory(plan, config))
    return Batches(make, _batch, plan, start=start, clips=len(items), device=device, folder=folder)


def stage2_batches(
    data: Sequence[str],
    config: Stage2Config,
    plan: DataPlan,
    *,
    encoder_hash: str,
    start: int = 0,
    device: torch.device | str = "cpu",
) -> Batches[Window]:
    """Windows of motion and both voices for Stage 2, see `Window`.

    Args:
        encoder_hash: of the encoder whose latents are wanted.

    Raises:
        DyconvError: where a build cannot be read, has latents of another encoder, nobody is seen or heard in any clip, or the
            plan does not fit.
    """
    builds, folder = _builds(data, windows.KEYS, plan, encoder_hash)
    items = [item for item in builds.items(only=plan.only, without=plan.without) if item.heard]
    if not items:
        raise UsageError(f"nobody is heard in any clip of {', '.join(data)}", hint="give builds whose people speak")
    turns = [at for at, item in enumerate(items) for _ in range(max(1, round(item.frames / (2 * config.window))))]  # by length
    one_sided = [at for at in turns if len(items[at].heard) == 1]
    talks = [at for at in turns if len(items[at].heard) > 1]
    kinds = (
        _lanes(items, one_sided, plan, 2, _TALKS_OPENED, _TALK_ROWS),
        _lanes(items, talks, plan, 3, _TALKS_OPENED, _TALK_ROWS),
    )
    make = windows.Windows(builds, items, kinds, config, plan, _share(plan))
    return Batches(make, Window, plan, start=start, clips=len(items), device=device, folder=folder)


def _builds(
    data: Sequence[str], keys: Iterable[Key], plan: DataPlan, encoder_hash: str | None
) -> tuple[Builds, tempfile.TemporaryDirectory[str] | None]:
    folder = None if plan.cache else tempfile.TemporaryDirectory(prefix="dyconv-shards-")
    cache = Path(plan.cache or folder.name)  # type: ignore[union-attr]
    return Builds(data, keys, cache, keep=plan.cache is not None, encoder_hash=encoder_hash), folder


def _lanes(items: Sequence[Item], chosen: Sequence[int], plan: DataPlan, kind: int, opened: int, per_visit: int) -> list[Lane]:
    """The lanes over some of the items; none where there are no such items."""
    if not chosen:
        return []
    shards: dict[tuple[int, int], list[int]] = {}
    for at in chosen:
        shards.setdefault((items[at].build, items[at].shard), []).append(at)
    dealt = deal(list(shards.values()), lanes_of(plan.batch, plan.lanes))
    return [Lane(parts, (plan.seed, kind, lane), opened=opened, per_visit=per_visit) for lane, parts in enumerate(dealt)]


def _share(plan: DataPlan) -> int:
    """Bytes for the decoded clips of each worker."""
    return plan.cache_mb * 2**20 // max(1, min(plan.workers, len(plan.places())))


def _memory(plan: DataPlan, config: Stage1Config) -> int:
    """The same, where it is enough.

    Raises:
        UsageError: where the clips that are open at once need more.
    """
    frame = 3 * config.size**2 + 478 * 3 * 4
    needed = plan.lanes_used() * (plan.opened + 1) * plan.frames * frame
    if needed > plan.cache_mb * 2**20:
        raise UsageError(
            f"cache_mb={plan.cache_mb} does not hold the clips that are open at once: {needed // 2**20 + 1} MB are needed",
            hint="raise cache_mb, or lower opened, frames or lanes",
        )
    return _share(plan)


def _batch(*columns: Tensor) -> Batch:
    """Pictures to float in -1..1, where they are to be used: they are moved as bytes."""
    named = dict(zip((*pairs.Row._fields, "targets"), columns, strict=True))
    for name in ("portrait", "portrait_mask", "driver", "driver_mask"):
        named[name] = named[name].permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0).contiguous()
    return Batch(**named)
