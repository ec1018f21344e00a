"""The loop: batches in, steps, and on the way logs, samples, measures and checkpoints."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from dyconv.errors import DyconvError
from training.infp.checkpoint import write_checkpoint
from training.infp.learner import Learner, rate_at
from training.infp.monitor import Monitor

Source = Callable[[int], Iterable[Any]]
"""This process's part of the global batches from a number on; with `close()` where there is something to be closed."""


class Observer(Protocol):
    """Something to be done now and then by the main process, with the running mean of the weights.

    Attributes:
        every: steps from one time to the next; the end of the training is always one.
    """

    every: int

    def __call__(self, learner: Any, position: int, monitor: Monitor) -> None: ...


class Ended(StrEnum):
    """Why a training stopped."""

    DONE = "done"
    TIME = "out of time"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Pace:
    """What happens beside learning, and does not change it.

    Attributes:
        log_every, save_every: steps.
        minutes: after which the training stops; None: at its last step.
        keep: checkpoints.
    """

    log_every: int = 20
    save_every: int = 500
    minutes: float | None = None
    keep: int = 2


class Trainer:
    """
    Args:
        source: of this process's rows.
        position: global batches consumed so far.
        data: fingerprints of what is learnt from.
    """

    def __init__(
        self,
        learner: Learner,
        source: Source,
        out: Path,
        *,
        position: int = 0,
        data: Sequence[str] = (),
        pace: Pace | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.learner, self.source, self.out, self.position = learner, source, out, position
        self.data, self.pace, self.observers = list(data), pace or Pace(), observers
        self.steps = learner.run.train.steps
        self._signals = 0
        self._saved = position
        self._sums: dict[str, list[Tensor]] = {}
        self._waited = self._since = 0.0
        self._counted = 0

    def run(self) -> Ended:
        """Train until the last step, the last minute or the first Ctrl-C; each leaves a checkpoint.

        Raises:
            DyconvError: where the loss is not a number any more.
        """
        with _signals(self._stop):
            with _deaf():
                batches = self.source(self.position)
            try:
                with Monitor(self.out, self.position, self.steps, quiet=not self.learner.world.main) as monitor:
                    return self._run(iter(batches), monitor)
            finally:
                close = getattr(batches, "close", None)
                if close is not None:
                    close()

    def _run(self, batches: Iterator[Any], monitor: Monitor) -> Ended:
        ended = self._loop(batches, monitor, time.monotonic())
        self._checkpoint()
        if ended is not Ended.INTERRUPTED:
            self._observe(monitor, last=True)
        monitor.tell(f"{ended} at step {self.position} of {self.steps}")
        return ended

    def _loop(self, batches: Iterator[Any], monitor: Monitor, began: float) -> Ended:
        self._restart_clock()
        while self.position < self.steps:
            asked = time.perf_counter()
            batch = next(batches)
            self._waited += time.perf_counter() - asked
            told = self.learner.step(batch, self.position)
            self.position += 1
            self._counted += 1
            for name, value in told.items():
                self._sums.setdefault(name, []).append(value)
            last = self.position == self.steps
            if last or self.position % self.pace.log_every == 0:
                self._log(monitor, getattr(batches, "rate", None))
            monitor.advance(self.position)
            if ended := self._stopped(began):
                return ended
            if not last and self.position % self.pace.save_every == 0:
                self._checkpoint()
            self._observe(monitor)
        return Ended.DONE

    def _stop(self) -> None:
        self._signals += 1

    def _stopped(self, began: float) -> Ended | None:
        """Whether to stop, as all processes agree: the main one's clock and anybody's Ctrl-C count."""
        late = self.pace.minutes is not None and time.monotonic() - began > 60 * self.pace.minutes
        asked, late_all = self.learner.world.total(self._signals, late and self.learner.world.main)
        return Ended.INTERRUPTED if asked else Ended.TIME if late_all and self.position < self.steps else None

    def _log(self, monitor: Monitor, rate: float | None) -> None:
        """Means since the last time, over all processes.

        Args:
            rate: rows a second that this process's loader could make, where it knows.
        """
        world, count = self.learner.world, self._counted
        names = sorted(self._sums)
        ours = [float(torch.stack(self._sums[name]).mean()) / world.size for name in names]
        means = dict(zip(names, world.total(*ours), strict=True))
        passed = time.perf_counter() - self._since  # the numbers above had to be waited for: the device is done too
        train = self.learner.run.train
        loss = sum(value for name, value in means.items() if name != "grad_norm" and not name.startswith("judge"))
        if not math.isfinite(loss):
            raise DyconvError(
                f"the loss is {loss} at step {self.position}: {', '.join(f'{name} {means[name]:.3g}' for name in names)}",
                hint=f"lower train.rate or train.clip; the last checkpoint in {self.out} is of step {self._saved}",
            )
        (loader,) = world.total(rate if rate is not None else train.batch * count / world.size / max(self._waited, 1e-6))
        monitor.log(
            self.position,
            {
                "loss": loss,
                **means,
                "rate": rate_at(train, self.position - 1, train.rate),
                "step_s": (passed - self._waited) / count,
                "wait_s": self._waited / count,
                "rows_per_s": train.batch * count / passed,
                "loader_rows_per_s": loader,
            },
        )
        self._sums.clear()
        self._restart_clock()

    def _restart_clock(self) -> None:
        self._since, self._waited, self._counted = time.perf_counter(), 0.0, 0

    def _checkpoint(self) -> None:
        """Write one where the last is not of this step."""
        if self._saved == self.position:
            return
        if self.learner.world.main:
            state = self.learner.state()
            write_checkpoint(self.out, self.learner.run, self.data, self.position, state, keep=self.pace.keep)
        self._saved = self.position
        self.learner.world.wait()

    def _observe(self, monitor: Monitor, *, last: bool = False) -> None:
        due = [one for one in self.observers if last or (self.position % one.every == 0 and self.position < self.steps)]
        if not due:
            return
        began = time.perf_counter()
        if self.learner.world.main:
            for one in due:
                one(self.learner, self.position, monitor)
        self.learner.world.wait()
        self._since += time.perf_counter() - began


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM, by which clusters tell of an end) is taken note of; a second Ctrl-C ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def noted(number: int, frame: Any) -> None:
        stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, noted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes started here do not die of a Ctrl-C in their terminal: this one ends them when it has finished its step."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
