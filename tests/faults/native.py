"""Stages that hang, crash, leak or take too much: only the clip pays, the run goes on, and it says who did it."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.faults import look
from tests.faults.driver import Driver, Job, descendants
from tests.faults.kills import with_workers
from tests.faults.scenario import Trial, scenario
from tests.faults.stages import ORDERS

CLIP = "film-a_00004000_00006000"
GIB = 2**30


def order(trial: Trial, how: str, on: str = CLIP, megabytes: int = 0) -> dict[str, str]:
    """The environment in which the last stage misbehaves, until `trial.folder/orders` is removed."""
    path = trial.folder / "orders"
    path.write_text(f"{how} {on} {megabytes}")
    return {ORDERS: str(path)}


def only_one_pays(
    trial: Trial, job: Job, how: str, reason: str, *, shows: str, megabytes: int = 0, more: tuple[str, ...] = ()
) -> None:
    """A run in which one clip is ordered to misbehave: that one failed, all others are kept; and then it is mended.

    Args:
        reason: of the failure, as the ledger has it.
        shows: what the kept traceback must contain.
    """
    env = order(trial, how, megabytes=megabytes)
    trial.did(f"{how} on {CLIP}")
    driver = trial.start(job, *more, env=env)
    code = trial.ends(driver)
    trial.require(code == 3, f"exit code {code}, expected 3 (kept, but something failed)")
    ends = look.ends(trial.out)
    trial.require(ends.get(CLIP) == ("failed", reason, "misbehave"), f"the clip ended as {ends.get(CLIP)}")
    kept = sum(state == "kept" for state, _, _ in ends.values())
    trial.require(kept == 8, f"{kept} of the 8 other clips are kept")
    said = driver.said()
    line = next((line for line in said.splitlines() if CLIP in line and "misbehave" in line), "")
    trial.require(line, f"no line names stage and clip: {said}")
    trial.record.message = next(line for line in said.splitlines() if line.startswith("failed"))
    note = json.loads(next(trial.out.rglob("failed.json")).read_text())
    trial.require(shows in note["traceback"], f"the kept traceback does not show {shows}: {note['traceback']}")
    trial.record.found["attempts"] = note["attempts"]
    trial.tidy()
    again = trial.start(job, *more, env=env)
    trial.require(trial.ends(again) == 3, "the same command does not end the same")
    trial.require("0 to do" in again.said(), "a clip that was given up is tried again without being asked for")
    (trial.folder / "orders").unlink()
    driver = trial.start(job, "--retry-failed", *more, env=env)
    trial.require(trial.ends(driver) == 0, "--retry-failed did not mend it")
    trial.whole(job)


HANGS = {"sleep": "_sleep", "loop": "_loop", "native": "_native", "deaf": "_native"}


@scenario(
    "stage.hangs",
    "a stage that hangs (asleep, in a loop, in native code that holds the lock, deaf to signals)",
    seeds=4,
    quick=1,
)
def hangs(trial: Trial) -> None:
    how = list(HANGS)[(trial.record.seed + 2) % len(HANGS)]
    only_one_pays(trial, with_workers(trial.place.cuts, 2), how, "StageHung", shows=HANGS[how])


@scenario("stage.segfault", "a real SIGSEGV in native code on one clip: its Python stack is kept", quick=1)
def segfault(trial: Trial) -> None:
    only_one_pays(trial, trial.place.cuts, "segfault", "WorkerDied", shows="_segfault")


@scenario("stage.poison", "a clip that kills its worker each time, by SIGKILL or exit: given up after three", seeds=2, quick=0)
def poison(trial: Trial) -> None:
    how, shows = [("kill", "SIGKILL"), ("exit", "exit status 7")][trial.record.seed % 2]
    only_one_pays(trial, with_workers(trial.place.cuts, 2), how, "WorkerDied", shows=shows)


@scenario("stage.greedy", "a stage that takes far more memory than it may: killed with a message, the machine is safe", quick=0)
def greedy(trial: Trial) -> None:
    more = ("--worker-memory", "0.7")
    only_one_pays(trial, trial.place.cuts, "greedy", "OutOfMemory", shows="may use 0.70 GiB", megabytes=1500, more=more)


@scenario("stage.leaks", "a stage that leaks with every clip: its worker is replaced between clips, no clip pays", quick=0)
def leaks(trial: Trial) -> None:
    job = trial.place.cuts
    env = order(trial, "leak", "film-", 120)
    trial.did("120 MB leaked with each of 9 clips, 0.9 GiB allowed")
    driver = trial.start(job, "--worker-memory", "0.9", env=env)
    with peaks(driver) as found:
        code = trial.ends(driver)
    trial.require(code == 0, f"exit code {code}, expected 0")
    said = driver.said()
    trial.record.message = next((line for line in said.splitlines() if "recycled" in line), "")
    trial.require(trial.record.message, "no worker was replaced")
    trial.record.found["peak_gib"] = round(found["peak"] / GIB, 2)
    trial.require(found["peak"] < 0.9 * GIB, f"a worker came to {found['peak'] / GIB:.2f} GiB")
    trial.whole(job)


@scenario("stage.stopped", "a worker that is stopped (SIGSTOP): taken to hang, replaced", quick=0)
def stopped(trial: Trial) -> None:
    """The stage sleeps well below its limit; the worker is stopped in it, and would never come back."""
    job = trial.place.cuts
    driver = trial.start(job, env=order(trial, "nap"))
    doing = trial.folder / "orders.napping"
    driver.until(doing.exists)
    for pid in driver.workers():
        psutil.Process(pid).suspend()
    trial.did("SIGSTOP to the worker in the last stage")
    trial.require(trial.ends(driver, 120) == 0, "the run did not end well")
    trial.record.message = next((line for line in driver.said().splitlines() if "worker hung" in line), "")
    trial.require(trial.record.message, "nobody noticed")
    trial.whole(job)


class peaks:
    """The largest resident size of any worker while the block runs: of a driver's, or of those below these raylets."""

    def __init__(self, driver: Driver, raylets: Sequence[int] = ()) -> None:
        self._roots, self._over = [*raylets] or [driver.process.pid], threading.Event()
        self.found: dict[str, int] = {"peak": 0}
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.wait(0.05):
            for pid in [pid for root in self._roots for pid in descendants(root)]:
                if b"dyconv.child" in _cmdline(pid):
                    self.found["peak"] = max(self.found["peak"], _peak(pid))

    def __enter__(self) -> dict[str, int]:
        self._thread.start()
        return self.found

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _peak(pid: int) -> int:
    """The most memory a process has had, bytes."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM")), 0)
