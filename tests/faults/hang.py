"""Nothing hangs: what can never run is refused at once, and where no worker can be had the run ends and says so."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace

from tests.faults.cluster import cluster
from tests.faults.driver import Driver, Job, descendants
from tests.faults.rays import command_line, on_ray
from tests.faults.scenario import Trial, scenario

INFEASIBLE = """
from dataclasses import replace
from dyconv.stages.base import Resources
from tests.faults.stages import FILMS
RECIPE = replace(FILMS, resources={"normalize": Resources(cpus=4000)})
"""
AT_ONCE_S = 10.0
PATIENCE_S = 12.0


@scenario(
    "hang.infeasible", "a stage that asks for 4000 CPUs: refused in under 10 s, locally, on Ray, on a joined cluster", quick=0
)
def infeasible(trial: Trial) -> None:
    job = replace(trial.place.cuts, recipe=trial.place.recipe("infeasible", INFEASIBLE))
    took = {"local": quickest(trial, job, {}), "local Ray": quickest(trial, on_ray(job), {})}
    with cluster(f"{trial.token}-cluster", trial.folder, nodes=2) as nodes:
        took["joined cluster"] = quickest(trial, on_ray(job), {"RAY_ADDRESS": nodes.address})
    trial.record.found["refused_after_s"] = took
    trial.did("4000 CPUs asked for")
    slow = {name: seconds for name, seconds in took.items() if seconds >= AT_ONCE_S}
    trial.require(not slow, f"refused only after {slow}")
    trial.require(not (trial.out / "work").exists(), "something was begun")


def quickest(trial: Trial, job: Job, env: dict[str, str]) -> float:
    """Of up to three times: what else the machine does must not count."""
    found = [refused(trial, job, env)]
    while min(found) >= AT_ONCE_S and len(found) < 3:
        found.append(refused(trial, job, env))
    return min(found)


def refused(trial: Trial, job: Job, env: dict[str, str]) -> float:
    """Seconds until the command says no."""
    started = time.monotonic()
    driver = trial.start(job, env=env)
    code = trial.ends(driver, 60)
    seconds = round(time.monotonic() - started, 1)
    trial.require(code == 1, f"exit code {code}, expected 1")
    trial.record.message = next((line for line in driver.said().splitlines() if line.startswith("error")), "")
    trial.require("normalize asks for 4000 CPUs" in driver.said(), "the refusal names no stage")
    trial.gone(60)
    return seconds


def patient(trial: Trial, job: Job, address: str, silent: float = 180.0) -> Driver:
    """The command on a cluster, with less patience than its ten minutes."""
    options = [job.recipe, str(job.manifest), str(trial.out), str(PATIENCE_S), str(silent)]
    return trial.start(job, argv=[sys.executable, "-m", "tests.faults.patient", *options], env={"RAY_ADDRESS": address})


def stalled(trial: Trial, driver: Driver) -> None:
    code = trial.ends(driver, 120)
    said = driver.said()
    trial.record.message = next((line for line in said.splitlines() if line.startswith("error")), "")
    trial.require(code == 1, f"exit code {code}, expected 1")
    trial.require("nothing could be given to a worker" in said, f"it does not say that it stalled: {said}")
    trial.require("film-" in said or "sources" in said, "it does not say what waits")
    trial.require("same command" in said, "it does not say how to go on")


@scenario("hang.no-nodes", "all nodes with processors lost: the run ends with what waited; with a new node it goes on", quick=0)
def no_nodes(trial: Trial) -> None:
    job = trial.place.cuts
    with cluster(f"{trial.token}-cluster", trial.folder, nodes=2, head_cpus=0) as nodes:
        driver = patient(trial, job, nodes.address)
        trial.require(driver.until(lambda: driver.done() >= 2), "nothing was done")
        nodes.kill_node(1)
        trial.did(f"the only node with processors killed after {driver.done()} executions")
        stalled(trial, driver)
        trial.gone(60)
        nodes.add()
        trial.did("a new node")
        code = trial.ends(trial.start(on_ray(job), env={"RAY_ADDRESS": nodes.address}))
        trial.require(code == 0, f"exit code {code} with a new node")
    trial.whole(job)


@scenario("hang.no-place", "somebody else holds every processor of the cluster: the run ends and says so", quick=0)
def no_place(trial: Trial) -> None:
    job = trial.place.cuts
    with cluster(f"{trial.token}-cluster", trial.folder, nodes=2, taken=True) as nodes:
        trial.did("all processors of the cluster held by another job")
        stalled(trial, patient(trial, job, nodes.address))
    trial.again(job)
    trial.whole(job)


@scenario("hang.silent-actor", "an actor that is alive and never answers: taken for lost, another one does its work", quick=0)
def silent_actor(trial: Trial) -> None:
    job = trial.place.cuts
    with cluster(f"{trial.token}-cluster", trial.folder, nodes=2) as nodes:
        driver = patient(trial, job, nodes.address, silent=8.0)

        def actors() -> list[int]:
            below = [pid for raylet in nodes.raylets for pid in descendants(raylet)]
            return [pid for pid in below if b"ray::_Work" in command_line(pid)]

        trial.require(driver.until(lambda: driver.done() >= 2 and actors()), "no actor was seen")
        for pid in actors()[:1]:
            os.kill(pid, signal.SIGSTOP)
        trial.did(f"an actor stopped for ever after {driver.done()} executions")
        code = trial.ends(driver, 120)
        trial.require(code == 0, f"exit code {code}, expected 0")
        trial.record.message = next((line for line in driver.said().splitlines() if "worker lost" in line), "")
    trial.again(job)
    trial.whole(job)
