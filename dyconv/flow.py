"""What goes on in a run, from its events and notices: what every stage has done, what waits for it, who works on what."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from dyconv.ledger import Event, State
from dyconv.task import DEATHS, TROUBLES, Kind, Notice

LAST = 20  # failures and notices that are remembered


@dataclass
class StageFlow:
    """What one stage has done in this run. `entered` and `left` count items, whatever became of them."""

    entered: int = 0
    left: int = 0
    passed: int = 0
    dropped: int = 0
    failed: int = 0
    reused: int = 0
    seconds: float = 0.0
    media: float = 0.0

    @property
    def executed(self) -> int:
        return self.left - self.reused


@dataclass(slots=True)
class _Open:
    """A source that is begun: its items that are known, those that have ended, whether anything was executed for it."""

    items: int = 1
    ended: int = 0
    executed: bool = False


@dataclass
class Flow:
    """Follows the events and notices of one run. Its memory is that of the sources that are begun.

    Args:
        levels: of each stage, in order: how many splits lie before it.
        todo: sources that the run is to work on.
    """

    levels: Mapping[str, int]
    todo: int
    stages: dict[str, StageFlow] = field(init=False)
    ended: Counter[State] = field(default_factory=Counter)  # items, by how
    done: int = 0  # sources
    executed: int = 0  # of these, those for which something was
    begun: dict[str, tuple[Notice, float]] = field(default_factory=dict)  # by worker, and since when
    failures: deque[tuple[Event, float]] = field(default_factory=lambda: deque(maxlen=LAST))
    notices: deque[tuple[Notice, float]] = field(default_factory=lambda: deque(maxlen=LAST))
    _open: dict[str, _Open] = field(default_factory=dict)
    _doing: dict[tuple[str | None, str | None], str] = field(default_factory=dict)  # stage and clip -> worker

    def __post_init__(self) -> None:
        self.stages = {name: StageFlow() for name in self.levels}
        self._following = dict(zip(self.levels, [*list(self.levels)[1:], None], strict=True))
        if self.stages:
            next(iter(self.stages.values())).entered = self.todo

    @property
    def open(self) -> int:
        """Sources that are begun and not complete."""
        return len(self._open)

    @property
    def begun_share(self) -> float:
        """How much of the sources that are begun is done, in sources."""
        return sum(source.ended / source.items for source in self._open.values())

    def queues(self) -> dict[str, tuple[int, int]]:
        """Of each stage: how many items wait for it, and how many a worker has."""
        at_work = Counter(notice.stage for notice, _ in self.begun.values())
        return {name: (max(0, row.entered - row.left - at_work[name]), at_work[name]) for name, row in self.stages.items()}

    def notice(self, notice: Notice, now: float) -> None:
        if notice.kind in TROUBLES:
            self.notices.appendleft((notice, now))
        if notice.kind is Kind.BEGUN:
            self._free(notice.worker)
            self.begun[notice.worker] = (notice, now)
            self._doing[notice.stage, notice.clip] = notice.worker
        elif notice.kind in DEATHS or notice.kind is Kind.RECYCLED:
            self._free(notice.worker)

    def _free(self, worker: str) -> None:
        if doing := self.begun.pop(worker, None):
            self._doing.pop((doing[0].stage, doing[0].clip), None)

    def event(self, event: Event, now: float) -> None:
        worker = self._doing.get((event.stage, event.id))
        if worker is not None:
            self._free(worker)
        self._follow_source(event)
        if event.final:
            self.ended[event.state] += 1
        if event.state is State.FAILED and not event.reused:
            self.failures.appendleft((event, now))
        stage = self.stages.get(event.stage or "")
        if stage is None:
            return
        following = self.stages.get(self._following[event.stage or ""] or "")
        own = event.level == self.levels[event.stage or ""]
        stage.dropped += event.state is State.DROPPED
        stage.failed += event.state is State.FAILED
        if not own:  # a piece that the stage which cut it dropped, or kept as the last stage
            if following and event.state is State.DROPPED:
                following.entered -= 1
            return
        stage.left += 1
        stage.passed += event.state in (State.PASSED, State.KEPT)
        stage.reused += event.reused
        if not event.reused:
            stage.seconds += event.seconds
            stage.media += event.media_in or event.media_out
        if following and event.state is State.PASSED:
            following.entered += 1 if event.children is None else len(event.children)

    def _follow_source(self, event: Event) -> None:
        source = self._open.setdefault(event.source, _Open())
        source.executed |= not event.reused
        if event.children is not None:
            source.items += len(event.children) - 1
        elif event.final:
            source.ended += 1
        if source.ended >= source.items:
            del self._open[event.source]
            self.done += 1
            self.executed += source.executed
