"""Who does what next: nothing is lost or done twice whatever workers do, children go first, and nothing waits for ever."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import pytest

from dyconv.errors import DyconvError, MachineError, Stalled
from dyconv.ledger import Event, State
from dyconv.records import Source, source_clip
from dyconv.scheduler import Scheduler
from dyconv.task import Death, Kind, Notice, Report, Task
from dyconv.time import Span

STEPS = 4
SPLIT = 1  # the step that makes three of one


@dataclass(eq=False)
class Hand:
    """A worker that takes a step of its task each time it is asked, and is lost now and then."""

    name: str
    pool: int
    task: Task | None = None

    def give(self, task: Task) -> None:
        assert self.task is None, "two tasks for one worker"
        self.task = task


@dataclass
class Crew:
    """Workers of two pools, in this process: steps 0 and 1 are done by pool 0, the others by pool 1."""

    count: int
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    loss: float = 0.0
    error: DyconvError | None = None
    pools: int = 2
    workers: list[Hand] = field(default_factory=list)
    made: int = 0
    order: list[tuple[str, int]] = field(default_factory=list)
    most_waiting: int = 0

    def pool_of(self, step: int) -> int:
        return int(step > SPLIT)

    def hands(self, waiting: Sequence[int]) -> Sequence[Hand]:
        self.most_waiting = max(self.most_waiting, waiting[1])
        for pool in range(self.pools):
            while sum(hand.pool == pool for hand in self.workers) < self.count:
                self.made += 1
                self.workers.append(Hand(f"w{self.made}", pool))
        return list(self.workers)

    def reports(self, timeout: float) -> Iterator[tuple[Hand, Report | Death | Notice]]:
        for hand in list(self.workers):
            if hand.task is None:
                continue
            if self.chance.random() < self.loss:
                self.workers.remove(hand)
                yield hand, Death(Kind.LOST, None, "gone")
                continue
            yield hand, self.step(hand)

    def step(self, hand: Hand) -> Report:
        task = hand.task
        assert task is not None and self.pool_of(task.step) == hand.pool
        self.order.append((task.clip.id, task.step))
        event = Event(task.clip.source.id, task.clip.id, State.PASSED, stage=str(task.step))
        if self.error is not None:
            return Report(error=self.error)
        hand.task = None
        if task.step == SPLIT:
            clips = [task.clip.child(Span(Fraction(n), Fraction(n + 1))) for n in range(3)]
            return Report((event, *(Task(clip, SPLIT + 1, "") for clip in clips)))
        if task.step + 1 == STEPS:
            return Report((Event(task.clip.source.id, task.clip.id, State.KEPT, stage=str(task.step)),))
        following = Task(task.clip, task.step + 1, "")
        if self.pool_of(following.step) != hand.pool:
            return Report((event, following))
        hand.task = following
        return Report((event,), following)

    def close(self) -> None: ...

    def told(self) -> str:
        return f"{len(self.workers)} workers"


def sources(count: int) -> Iterator[Task]:
    for number in range(count):
        yield Task(source_clip(Source(f"s{number:02}", f"http://h/{number}", "own")), 0, "")


def run(crew: Crew, count: int, patience: float = 5.0) -> list[Event | Notice | None]:
    return list(Scheduler(crew, patience).run(sources(count), count))


@pytest.mark.parametrize("loss", [0.0, 0.3])
@pytest.mark.parametrize("count", [1, 3])
def test_every_clip_comes_to_its_end_once(count: int, loss: float) -> None:
    crew = Crew(count, loss=loss)
    items = run(crew, 12)
    kept = [item.id for item in items if isinstance(item, Event) and item.state is State.KEPT]
    assert len(kept) == len(set(kept)) == 36
    lost = [item for item in items if isinstance(item, Notice) and item.kind is Kind.LOST]
    assert bool(lost) == bool(loss) and all(notice.clip for notice in lost)


def test_children_go_first_and_what_waits_is_bounded() -> None:
    crew = Crew(1)
    run(crew, 60)
    assert crew.most_waiting <= 4 * 2 + 3
    begun = [clip for clip, step in crew.order if step == 0]
    last = {clip: index for index, (clip, step) in enumerate(crew.order) if step == STEPS - 1}
    first = {clip: index for index, (clip, step) in enumerate(crew.order) if step == 0}
    assert begun == sorted(begun)
    assert max(last[clip] for clip in last if clip.startswith("s00")) < first["s20"]


def test_a_task_says_how_its_workers_ended() -> None:
    crew = Crew(2, loss=0.4)
    deaths: list[int] = []
    step = crew.step
    crew.step = lambda hand: (deaths.append(len(hand.task.deaths)), step(hand))[1]  # type: ignore
    run(crew, 12)
    assert max(deaths) >= 2 and deaths.count(0) > 12, "the next step begins without them"


def test_an_error_of_the_machine_stops_the_run() -> None:
    with pytest.raises(MachineError, match="no space"):
        run(Crew(2, error=MachineError("no space")), 4)


def test_workers_that_are_all_lost_stop_the_run() -> None:
    with pytest.raises(DyconvError, match="lost one after the other"):
        run(Crew(2, loss=1.0), 4)


def test_without_workers_it_ends_and_says_what_waited() -> None:
    class Nobody(Crew):
        def hands(self, waiting: Sequence[int]) -> Sequence[Hand]:
            return []

    with pytest.raises(Stalled, match=r"nothing could be given .* 4 sources; there are 0 workers") as error:
        run(Nobody(1), 4, patience=0.05)
    assert "same command" in str(error.value)
