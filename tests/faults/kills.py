"""SIGKILL at random moments, on one machine: whatever is killed, the same command goes on and gives the same bytes."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

from tests.faults.driver import Driver, Job, kill
from tests.faults.scenario import Trial, scenario

VICTIMS = ("driver", "worker", "worker and driver", "all at once")


@scenario("kill.demo", "the whole default chain, driver or workers killed at random moments", seeds=6, quick=1)
def kill_demo(trial: Trial) -> None:
    random_kills(trial, trial.place.demo)


@scenario("kill.cuts", "the chain without models, the same, more kills a run", seeds=6, quick=1)
def kill_cuts(trial: Trial) -> None:
    random_kills(trial, trial.place.cuts, most=5)


def random_kills(trial: Trial, job: Job, most: int = 3) -> None:
    """One to `most` kills, each after a random part of what is left to do; then the command runs to its end."""
    total = sum(path.endswith("/done.json") for path in trial.place.undisturbed(job))
    driver: Driver | None = None
    for _ in range(trial.chance.randint(1, most)):
        if driver is None or not driver.alive:
            driver = trial.start(with_workers(job, trial.chance.choice((1, 2))))
        moment(trial, driver, total)
        hit(trial, driver, trial.chance.choice(VICTIMS))
    assert driver is not None
    if driver.alive:
        trial.require(trial.ends(driver) == 0, "the driver did not outlive its workers")
    trial.again(job)
    trial.whole(job)
    trial.require(not list(trial.out.rglob("failed.json")), "a clip was blamed for a kill")


def with_workers(job: Job, workers: int) -> Job:
    return replace(job, options=("--backend", "local", "--workers", str(workers)))


def moment(trial: Trial, driver: Driver, total: int) -> None:
    """Wait until a random number of the executions that are left is done, and a little longer."""
    begun = driver.done()
    wanted = begun + trial.chance.randint(0, max(0, total - begun))
    driver.until(lambda: driver.done() >= wanted)
    time.sleep(trial.chance.uniform(0, 1.0))


def hit(trial: Trial, driver: Driver, victim: str) -> None:
    """SIGKILL to driver, worker or both; to nobody where the run has ended by itself."""
    done = driver.done()
    if not driver.alive:
        trial.did(f"nothing: the run had ended ({done} executions)")
        return
    trial.did(f"{victim} killed after {done} executions")
    workers = driver.workers()
    if victim.startswith("worker") and workers:
        kill(trial.chance.choice(workers))
    if victim == "all at once":
        for pid in (driver.process.pid, *workers):
            kill(pid)
    if "driver" in victim or victim == "all at once" or not workers:
        driver.process.kill()
        trial.killed(driver)


@scenario("kill.pack", "the driver killed while it writes shards", seeds=2, quick=0)
def kill_pack(trial: Trial) -> None:
    """Packing takes a fraction of a second: the moments are spread over it by watching the folder it fills."""
    job = trial.place.cuts
    trial.again(job, "--no-pack")
    for _ in range(3):
        driver = trial.start(job)
        driver.until(lambda: (trial.out / "shards").is_dir())
        time.sleep(trial.chance.uniform(0, 0.05))
        if driver.alive:
            driver.process.kill()
            trial.did("driver killed while packing")
        trial.killed(driver)
    trial.again(job)
    trial.whole(job)


@scenario("stop.sigterm", "SIGTERM, as Kubernetes sends it: exit 143, nothing left running, resumed", quick=1)
def sigterm(trial: Trial) -> None:
    job = with_workers(trial.place.cuts, 2)
    driver = trial.start(job)
    trial.require(driver.until(lambda: driver.done() >= 3), "it ended too early to be stopped")
    driver.process.send_signal(signal.SIGTERM)
    trial.did("SIGTERM to the driver")
    code = trial.ends(driver, 20)
    trial.require(code == 143, f"exit code {code}, expected 143")
    trial.record.message = driver.said().strip().splitlines()[-1] if driver.said().strip() else ""
    trial.require("same command" in driver.said(), "it does not say how to go on")
    trial.tidy()
    trial.again(job)
    trial.whole(job)


@scenario("stop.ctrl-c", "Ctrl-C, once or in a hurry: exit 130, nothing left running, resumed", seeds=3, quick=1)
def ctrl_c(trial: Trial) -> None:
    job = with_workers(trial.place.cuts, 2)
    driver = trial.start(job)
    trial.require(driver.until(lambda: driver.done() >= 2), "it ended too early to be stopped")
    presses = trial.record.seed % 3 + 1
    for _ in range(presses):
        os.killpg(driver.process.pid, signal.SIGINT)  # as a terminal does: to the driver and everything in its group
        time.sleep(trial.chance.uniform(0.01, 0.3))
        if not driver.alive:
            break
    trial.did(f"Ctrl-C pressed {presses} times")
    code = trial.ends(driver, 20)
    trial.require(code == 130, f"exit code {code}, expected 130")
    trial.require("Traceback" not in driver.said(), "a traceback was shown")
    trial.gone()
    trial.again(job)
    trial.whole(job)
