"""A clock that jumps, two drivers at once, and a terminal that goes away."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.faults.driver import Driver, Job
from tests.faults.kills import with_workers
from tests.faults.scenario import Skipped, Trial, scenario

YEAR = 365 * 24 * 3600


def clock(trial: Trial) -> tuple[dict[str, str], Path]:
    """The environment that shifts a process's wall clock, and the file with the seconds."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Skipped("no C compiler for the shim that shifts the clock")
    library, seconds = trial.folder / "clock.so", trial.folder / "seconds"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    seconds.write_text("0")
    return {"LD_PRELOAD": str(library), "CLOCK_FILE": str(seconds)}, seconds


@scenario("clock.during", "the wall clock jumps back and forth by years during a run: nobody notices", quick=1)
def clock_during(trial: Trial) -> None:
    job = with_workers(trial.place.cuts, 2)
    trial.place.undisturbed(job)
    env, seconds = clock(trial)
    driver = trial.start(job, env=env)
    jumps = []
    while driver.alive and len(jumps) < 200:
        jumps.append(trial.chance.choice((-10 * YEAR, -3600, -1, 3600, 10 * YEAR)))
        seconds.write_text(str(jumps[-1]))
        time.sleep(0.2)
    trial.did(f"{len(jumps)} jumps of the clock, up to ten years back and on")
    trial.require(trial.ends(driver) == 0, "the run did not end well")
    trial.whole(job)


@scenario("clock.between", "a run is killed, the clock goes back a year, the same command goes on", quick=0)
def clock_between(trial: Trial) -> None:
    job = trial.place.cuts
    env, seconds = clock(trial)
    for shift in (0, -YEAR, -2 * YEAR):
        seconds.write_text(str(shift))
        driver = trial.start(job, env=env)
        begun = driver.done()
        driver.until(lambda: driver.done() > begun + 1)  # noqa: B023
        driver.process.kill()
        trial.killed(driver)
        trial.did(f"driver killed, clock {shift // YEAR} years")
    driver = trial.start(job, env=env)
    trial.require(trial.ends(driver) == 0, "the run did not end well")
    trial.whole(job)


@scenario(
    "drivers.two", "two drivers started at once on one folder: one works, the other refuses and says who", seeds=4, quick=1
)
def two_drivers(trial: Trial) -> None:
    job = trial.place.cuts
    one_of_two(trial, job, trial.out, {})
    trial.whole(job)


def one_of_two(trial: Trial, job: Job, out: str | Path, env: dict[str, str]) -> None:
    """Start two drivers in the same instant; one works to the end, the other refuses and names it."""
    pair = [trial.start(job, out=out, env=env), trial.start(job, out=out, env=env)]
    second = first_to_end(pair)
    first = pair[1 - pair.index(second)]
    code = trial.ends(second, 60)
    trial.require(code == 1, f"exit code {code} of the one that ended first, expected 1: {second.said()}")
    trial.record.message = next((line for line in second.said().splitlines() if "error" in line), "")
    named = f"process {first.process.pid} " in second.said()
    trial.require(named, f"the refusal does not name process {first.process.pid}: {second.said()}")
    trial.require("Traceback" not in second.said(), "a traceback was shown")
    trial.require(trial.ends(first) == 0, "the one that works did not end well")
    trial.did("two drivers at the same instant")


def first_to_end(drivers: list[Driver]) -> Driver:
    while True:
        for driver in drivers:
            if not driver.alive:
                return driver
        time.sleep(0.01)


@scenario("drivers.after-kill", "a driver that was killed locks nobody out, not even at once", quick=0)
def after_kill(trial: Trial) -> None:
    job = with_workers(trial.place.cuts, 2)
    driver = trial.start(job)
    driver.until(lambda: driver.done() >= 1)
    driver.process.kill()
    trial.record.codes.append(driver.process.wait())
    trial.did("driver killed, the command again in the same instant")
    trial.again(job)
    trial.whole(job)


@scenario("terminal.closed", "stderr, stdout and stdin closed from the start: the run goes on", quick=0)
def closed_streams(trial: Trial) -> None:
    job = trial.place.cuts
    command = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *job.argv(str(trial.out))]
    driver = trial.start(job, argv=command)
    trial.did("stdin, stdout and stderr closed")
    trial.require(trial.ends(driver) == 0, "the run did not end well")
    trial.whole(job)


@scenario("terminal.gone", "whoever read the messages goes away during the run: the run goes on", quick=1)
def broken_pipe(trial: Trial) -> None:
    job = trial.place.cuts
    read, write = os.pipe()
    driver = trial.start(job, stderr=write, stdout=write)
    os.close(write)
    driver.until(lambda: driver.done() >= 2)
    os.close(read)
    trial.did("the reader of stdout and stderr closed them after 2 executions")
    code = trial.ends(driver)
    trial.require(code == 0, f"exit code {code}, expected 0")
    trial.whole(job)
