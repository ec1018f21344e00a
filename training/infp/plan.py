"""How data are gone through: what decides the rows of each batch, and who makes them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dyconv.errors import UsageError
from training.infp.order import lanes_of


@dataclass(frozen=True)
class Curriculum:
    """From clips in which one person speaks to conversations, by number of global batches.

    Attributes:
        one_sided: batches without any conversation.
        ramp: batches over which the share of conversations then rises.
        conversations: share in the end. All rows are of the other kind where the data has clips of one kind only.
    """

    one_sided: int = 0
    ramp: int = 0
    conversations: float = 0.7

    def before(self, batches: float) -> float:
        """Integral of the share of conversations over the first so many batches."""
        rising = min(max(batches - self.one_sided, 0.0), self.ramp)
        risen = max(batches - self.one_sided - self.ramp, 0.0)
        return self.conversations * (risen + (rising * rising / (2 * self.ramp) if self.ramp else 0.0))


@dataclass(frozen=True)
class DataPlan:
    """How the data are gone through.

    `rank`, `world_size`, `workers`, `cache_mb` and `cache` say who makes the rows; the others decide which rows a batch has.

    Attributes:
        batch: rows of a global batch, over all ranks.
        seed: of every draw.
        rank, world_size: this process among those that share a batch.
        workers: processes that decode, of this rank; 0: none but this one.
        augment: change pictures and voices, and drop dots of masks: for training.
        cache_mb: decoded clips kept in memory, over all workers of this rank.
        lanes: parts that the data are dealt into, at most; a divisor of `batch` is taken.
        opened: clips of a lane that are drawn from in turn.
        per_visit: rows drawn from a clip before the next is opened. More are cheaper, fewer are more varied.
        frames: of a clip kept at once: every nth of a longer one.
        only, without: shell-style patterns of the ids of sources to take, and to leave out.
        cache: folder for copies of remote shards, which stay there; by default a temporary one.
        curriculum: of Stage 2.
        invent: of Stage 2: chance that a silent partner is given words of another clip.
    """

    batch: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    workers: int = 0
    augment: bool = True
    cache_mb: int = 2048
    lanes: int = 8
    opened: int = 6
    per_visit: int = 16
    frames: int = 64
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    cache: str | None = None
    curriculum: Curriculum = field(default_factory=Curriculum)
    invent: float = 0.5

    def __post_init__(self) -> None:
        """
        Raises:
            UsageError: where ranks cannot share a batch evenly, or a number is out of its range.
        """
        if self.batch < 1 or self.world_size < 1 or self.batch % self.world_size:
            raise UsageError(
                f"a global batch of {self.batch} rows cannot be dealt evenly to {self.world_size} processes",
                hint=f"choose a batch that is a multiple of {self.world_size}",
            )
        if not 0 <= self.rank < self.world_size:
            raise UsageError(f"rank must be from 0 to {self.world_size - 1}, found {self.rank}")
        for name, least in (("lanes", 1), ("opened", 1), ("per_visit", 1), ("frames", 2), ("workers", 0), ("cache_mb", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, found {getattr(self, name)}")

    def places(self, worker: int = 0, workers: int = 1) -> range:
        """The rows of each global batch that one worker of this rank makes."""
        own = self.batch // self.world_size
        first = self.rank * own
        return range(first + own * worker // workers, first + own * (worker + 1) // workers)

    def lanes_used(self) -> int:
        """Lanes that this rank draws from."""
        each = self.batch // lanes_of(self.batch, self.lanes)
        own = self.places()
        return (own.stop - 1) // each - own.start // each + 1


def kind_of(curriculum: Curriculum, seed: int, lane: int, row: int, each: int) -> tuple[int, int]:
    """Whether a lane's row is of one person (0) or of a conversation (1), and which of the lane's rows of its kind it is.

    Conversations come as evenly as their share allows: after r rows there were floor(integral of the share + lane's offset).

    Args:
        each: rows of the lane in a batch.
    """
    offset = float(np.random.default_rng([seed, 4, lane]).random())

    def conversations(rows: int) -> int:
        return int(each * curriculum.before(rows / each) + offset)

    before = conversations(row)
    return (1, before) if conversations(row + 1) > before else (0, row - before)
