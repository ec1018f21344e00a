"""Which clip each row of training is drawn from: a function of seed, lane and row number, and of nothing that was read before.

A global batch is made of rows from `lanes` equal parts of the data. A lane goes through its clips in an order that changes with
each epoch, and has several clips open at once: each of its next rows comes from another of them. A clip stays open for
`per_visit` rows, and the open ones are exchanged one after the other, never all at once. So clips are decoded rarely and
evenly, neighbours in a batch differ, and the row number alone says where to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

_TOGETHER = 4  # shards among whose clips a lane with many shards shuffles
_MANY = 8  # shards a lane from which on whole shards are dealt


class Visit(NamedTuple):
    """One time that a lane opens a clip. `item` is the clip's number, `number` counts the lane's visits."""

    item: int
    number: int
    epoch: int


class Lane:
    """The clips of one lane.

    Args:
        items: numbers of the lane's clips, in parts that are best read together (a shard's).
        key: numbers that all draws of this lane come from.
        opened: clips open at once.
        per_visit: rows drawn from a clip while it is open.
    """

    def __init__(self, items: Sequence[Sequence[int]], key: Sequence[int], *, opened: int, per_visit: int) -> None:
        self.items = [list(part) for part in items]
        self.key = list(key)
        self.count = sum(len(part) for part in self.items)
        self.opened = min(opened, self.count)
        self.per_visit = per_visit
        self._orders: dict[int, list[int]] = {}
        self._turns: dict[int, list[int]] = {}

    def visit(self, number: int) -> Visit:
        epoch, place = divmod(number, self.count)
        return Visit(_latest(self._orders, epoch, self._shuffled)[place], number, epoch)

    def at(self, row: int) -> Visit:
        """The visit that a row is drawn from."""
        turn, place = divmod(row, self.opened)
        return self._in_slot(_latest(self._turns, turn, self._permuted)[place], turn)

    def open_at(self, row: int) -> list[Visit]:
        """All visits that are open when a row is drawn."""
        return [self._in_slot(slot, row // self.opened) for slot in range(self.opened)]

    def _in_slot(self, slot: int, turn: int) -> Visit:
        """Each turn takes one row from every slot; slots change their clip at different turns."""
        begun = slot * self.per_visit // self.opened
        return self.visit(self.opened * ((turn + begun) // self.per_visit) + slot)

    def _permuted(self, turn: int) -> list[int]:
        return np.random.default_rng([*self.key, 0, turn]).permutation(self.opened).tolist()

    def _shuffled(self, epoch: int) -> list[int]:
        """All clips once: shards in a new order, clips shuffled over some shards at a time."""
        rng = np.random.default_rng([*self.key, 1, epoch])
        parts = [self.items[at] for at in rng.permutation(len(self.items))]
        out: list[int] = []
        for start in range(0, len(parts), _TOGETHER):
            some = [item for part in parts[start : start + _TOGETHER] for item in part]
            out += [some[at] for at in rng.permutation(len(some))]
        return out


def _latest(held: dict[int, list[int]], key: int, make: Callable[[int], list[int]]) -> list[int]:
    """What `make` gives for `key`; the last few answers are held."""
    if key not in held:
        held[key] = make(key)
        while len(held) > 4:
            del held[next(iter(held))]
    return held[key]


def lanes_of(batch: int, wanted: int) -> int:
    """Number of lanes: the largest divisor of the global batch that is at most `wanted`."""
    return max(count for count in range(1, min(batch, wanted) + 1) if batch % count == 0)


def deal(shards: Sequence[Sequence[int]], lanes: int) -> list[list[list[int]]]:
    """The clips of each lane, in parts to be read together.

    Whole shards are dealt where there are many, the fullest first, each to the lane with the fewest clips; otherwise clips are
    dealt one by one. Where there are fewer clips than lanes, lanes share them.

    Args:
        shards: numbers of the usable clips of each shard, not all empty.
    """
    shards = [part for part in shards if part]
    if len(shards) < _MANY * lanes:
        items = [item for part in shards for item in part]
        return [[items[lane::lanes] or [items[lane % len(items)]]] for lane in range(lanes)]
    dealt: list[list[list[int]]] = [[] for _ in range(lanes)]
    for part in sorted(shards, key=len, reverse=True):
        min(dealt, key=lambda parts: sum(map(len, parts))).append(list(part))
    return dealt


def rows_of(batch: int, lanes: int, number: int, places: range) -> list[tuple[int, int]]:
    """(lane, row number in it) of some places of global batch `number`."""
    each = batch // lanes
    return [(place // each, number * each + place % each) for place in places]
