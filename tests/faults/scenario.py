"""What a scenario is: a function that runs the real thing in processes of its own, breaks something, and checks promises.

A scenario gets a `Trial`: a folder, a seed, and ways to start drivers, to kill them and to look at what they left. The
trial keeps the record of what was done. A promise that is not kept raises `Broken` with a text for a person.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.faults import look
from tests.faults.driver import Driver, Job, end_all, marked
from tests.faults.place import Place

FILES = ("kills", "rays", "disks", "storage", "native", "hang", "long", "clocks_and_drivers")


class Broken(AssertionError):
    """A promise was not kept."""


class Skipped(Exception):
    """This machine cannot show it; the text says what is lacking."""


@dataclass
class Record:
    """What one trial did and found; one row of `out/faults.json`.

    Attributes:
        did: what was broken, and at which moments.
        runs: how often the command was started.
        codes: its exit codes.
        complete: whether every source and clip has a named end.
        same_bytes: whether work and shards are those of the undisturbed run.
        processes: what was still alive at the end.
        scratch: unfinished files at the end.
        message: the line a person was shown, where that is part of the promise.
        found: measured numbers.
    """

    name: str
    seed: int
    did: list[str] = field(default_factory=list)
    runs: int = 0
    codes: list[int] = field(default_factory=list)
    wall_s: float = 0.0
    complete: bool | None = None
    same_bytes: bool | None = None
    processes: list[str] = field(default_factory=list)
    scratch: list[str] = field(default_factory=list)
    message: str = ""
    found: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""
    broken: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Trial:
    """One scenario with one seed."""

    place: Place
    folder: Path
    record: Record
    chance: random.Random
    drivers: list[Driver] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def token(self) -> str:
        return f"{self.record.name}-{self.record.seed}-{self.folder}"

    def did(self, text: str) -> None:
        self.record.did.append(text)

    def require(self, kept: object, broken: str) -> None:
        if not kept:
            raise Broken(f"{self.record.name}, seed {self.record.seed}: {broken}{self._last()}")

    def _last(self) -> str:
        return f"\nlast driver said:\n{self.drivers[-1].said()[-3000:]}" if self.drivers else ""

    def start(self, job: Job, *more: str, out: str | Path | None = None, **how: Any) -> Driver:
        """The command, in processes that can be told from all others."""
        number = len(self.drivers)
        driver = Driver.start(job, str(out or self.out), self.folder / f"driver{number}", self.token, more, **how)
        self.drivers.append(driver)
        self.record.runs += 1
        return driver

    def ends(self, driver: Driver, seconds: float = 240.0) -> int:
        """Its exit code; it must end by itself."""
        code = driver.wait(seconds)
        self.require(code is not None, f"it hangs: no end after {seconds:.0f} s")
        assert code is not None
        self.record.codes.append(code)
        return code

    def killed(self, driver: Driver) -> None:
        """Note the end of a driver that was killed, and see its workers go after it."""
        self.record.codes.append(driver.process.wait())
        self.gone()

    def gone(self, seconds: float = 20.0) -> None:
        """No process of this trial may be left."""
        end = time.monotonic() + seconds
        while (left := marked(self.token)) and time.monotonic() < end:
            time.sleep(0.05)
        self.record.processes = [f"{pid} {what}" for pid, what in left.items()]
        self.require(not left, f"processes are left: {self.record.processes}")

    def again(self, job: Job, *more: str, code: int = 0, seconds: float = 240.0, out: str | Path | None = None) -> Driver:
        """The same command again, undisturbed, to its end."""
        driver = self.start(job, *more, out=out)
        found = self.ends(driver, seconds)
        self.require(found == code, f"exit code {found}, expected {code}")
        return driver

    def whole(self, job: Job, out: str | Path | None = None) -> None:
        """Everything that is promised of an output folder at the end: ledger, bytes, no process, nothing unfinished."""
        where = str(out or self.out)
        undisturbed = self.place.undisturbed(job)
        open_items = look.open_items(where, job.sources)
        self.record.complete = not open_items
        self.require(not open_items, f"the ledger is not complete: {open_items}")
        made = look.made(where)
        self.record.same_bytes = made == undisturbed
        self.require(made == undisturbed, f"other bytes than the undisturbed run: {look.difference(made, undisturbed)}")
        self.tidy(out)

    def tidy(self, out: str | Path | None = None) -> None:
        """No process and no unfinished file is left."""
        self.gone()
        self.record.scratch = look.unfinished(out or self.out, self.folder / "tmp")
        self.require(not self.record.scratch, f"unfinished files are left: {self.record.scratch}")


@dataclass(frozen=True)
class Scenario:
    """One fault.

    Attributes:
        name: with dots: theme and fault.
        promise: what happens, for the table.
        seeds: trials in `make faults`.
        quick: trials in `make test`.
    """

    name: str
    promise: str
    act: Callable[[Trial], None]
    seeds: int
    quick: int

    def run(self, place: Place, seed: int) -> Record:
        """One trial. A broken promise is in the record, and any other error is one too."""
        folder = place.folder / f"{self.name}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        trial = Trial(place, folder, Record(self.name, seed), random.Random(f"{self.name} {seed}"))
        started = time.monotonic()
        try:
            self.act(trial)
        except Skipped as reason:
            trial.record.skipped = str(reason)
        except Broken as reason:
            trial.record.broken = str(reason)
        except Exception as error:  # noqa: BLE001 - a scenario that cannot be played is as bad as a promise not kept
            import traceback

            trial.record.broken = f"{type(error).__name__}: {error}{trial._last()}\n{traceback.format_exc()}"
        finally:
            end_all(trial.token)
        trial.record.wall_s = round(time.monotonic() - started, 2)
        if not trial.record.broken:
            shutil.rmtree(folder, ignore_errors=True)
        return trial.record


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    name: str, promise: str, *, seeds: int = 1, quick: int = 1
) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    """Register a scenario."""

    def add(act: Callable[[Trial], None]) -> Callable[[Trial], None]:
        assert name not in SCENARIOS, name
        SCENARIOS[name] = Scenario(name, promise, act, seeds, quick)
        return act

    return add


def scenarios() -> dict[str, Scenario]:
    """All of them, by name."""
    for name in FILES:
        import_module(f"tests.faults.{name}")
    return SCENARIOS


@contextmanager
def opened(folder: Path) -> Iterator[Place]:
    """A place for trials, with its servers and media, closed at the end."""
    place = Place(folder)
    try:
        yield place
    finally:
        place.close()
