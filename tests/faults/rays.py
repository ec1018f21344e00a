"""SIGKILL on Ray: workers, actors, raylets, whole nodes, the head, the driver; on a local Ray and on three nodes."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from tests.faults.cluster import Nodes, cluster
from tests.faults.driver import Driver, Job, descendants, kill, marked
from tests.faults.kills import moment
from tests.faults.scenario import Trial, scenario

RAY = ("--backend", "ray")


def on_ray(job: Job, *more: str) -> Job:
    return replace(job, options=(*RAY, *more))


def processes(trial: Trial, what: bytes) -> list[int]:
    """Processes of this trial whose command line has this in it."""
    found = []
    for pid in marked(trial.token):
        try:
            if what in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


LOCAL_VICTIMS = ("worker", "actor", "driver", "raylet", "gcs")


@scenario("kill.ray", "a local Ray: worker, actor, raylet, GCS or driver killed at random moments", seeds=5, quick=0)
def kill_local_ray(trial: Trial) -> None:
    local_ray(trial, trial.place.cuts)


@scenario("kill.ray-demo", "the same with the whole default chain", seeds=2, quick=0)
def kill_local_ray_demo(trial: Trial) -> None:
    local_ray(trial, trial.place.demo)


def local_ray(trial: Trial, job: Job) -> None:
    total = sum(path.endswith("/done.json") for path in trial.place.undisturbed(job))
    victim = LOCAL_VICTIMS[trial.record.seed % len(LOCAL_VICTIMS)]
    driver = trial.start(on_ray(job))
    trial.require(driver.until(lambda: driver.done() >= 1), "nothing was done")
    moment(trial, driver, total - 3)
    wanted = {"worker": b"dyconv.child", "actor": b"ray::_Work", "raylet": b"raylet/raylet", "gcs": b"gcs_server"}

    def targets() -> list[int]:
        return [driver.process.pid] if victim == "driver" else processes(trial, wanted[victim])

    if driver.until(targets, 30) and driver.alive:
        trial.did(f"{victim} killed after {driver.done()} executions")
        kill(trial.chance.choice(targets()))
    end(trial, driver, lost_cluster=victim in ("raylet", "gcs"))
    trial.again(on_ray(job))
    trial.whole(job)
    trial.require(not list(trial.out.rglob("failed.json")), "a clip was blamed for a kill")


def end(trial: Trial, driver: Driver, *, lost_cluster: bool = False) -> None:
    """See the driver end: well, unless it was killed or has lost its cluster; then with a word on what to do."""
    killed = trial.record.did and trial.record.did[-1].startswith("driver")
    started = time.monotonic()
    code = trial.ends(driver, 180)
    trial.record.found["ended_after_s"] = round(time.monotonic() - started, 1)
    if killed or (lost_cluster and code != 0):
        trial.require(code != 0, "a run that was cut off says that it ended well")
    else:
        trial.require(code == 0, f"exit code {code}, expected 0")
    if lost_cluster and code != 0:
        # Where the GCS is gone, Ray itself ends the driver after a minute, in its own words.
        words = ("error", "failed to connect to gcs")
        said = [line for line in driver.said().splitlines() if any(word in line.lower() for word in words)]
        trial.record.message = said[0][:300] if said else ""
        trial.require(said, "it does not say why it ended")
        trial.require("Traceback" not in driver.said(), "a traceback was shown")
    trial.gone(60)


CLUSTER_VICTIMS = ("node", "raylet", "actor", "worker", "driver", "head", "two nodes")


@scenario(
    "kill.cluster", "a cluster of three nodes: a node, a raylet, the head, an actor killed at random moments", seeds=7, quick=1
)
def kill_cluster(trial: Trial) -> None:
    on_cluster(trial, trial.place.cuts)


@scenario("kill.cluster-demo", "the same with the whole default chain", seeds=2, quick=0)
def kill_cluster_demo(trial: Trial) -> None:
    on_cluster(trial, trial.place.demo)


def on_cluster(trial: Trial, job: Job) -> None:
    total = sum(path.endswith("/done.json") for path in trial.place.undisturbed(job))
    victim = CLUSTER_VICTIMS[trial.record.seed % len(CLUSTER_VICTIMS)]
    mark = f"{trial.token}-cluster"
    with cluster(mark, trial.folder) as nodes:
        driver = trial.start(on_ray(job), env={"RAY_ADDRESS": nodes.address})
        trial.require(driver.until(lambda: driver.done() >= 1), "nothing was done")
        moment(trial, driver, total - 3)
        if driver.alive:
            trial.did(f"{victim} killed after {driver.done()} executions")
            strike(trial, victim, nodes, driver, mark)
        end(trial, driver, lost_cluster=victim == "head")
        if victim != "head":
            trial.require(trial.ends(trial.start(on_ray(job), env={"RAY_ADDRESS": nodes.address})) == 0, "not well again")
    trial.again(job)
    trial.whole(job)
    trial.require(not list(trial.out.rglob("failed.json")), "a clip was blamed for a kill")


def strike(trial: Trial, victim: str, nodes: Nodes, driver: Driver, mark: str) -> None:
    own = [pid for pid in marked(mark) if pid not in nodes.raylets]
    if victim in ("node", "two nodes"):
        for index in trial.chance.sample((1, 2), 2 if victim == "two nodes" else 1):
            nodes.kill_node(index)
    elif victim == "raylet":
        kill(nodes.raylets[trial.chance.choice((1, 2))])
    elif victim == "head":
        kill(nodes.gcs)
        nodes.kill_node(0)
    elif victim == "driver":
        kill(driver.process.pid)
    else:
        wanted = b"dyconv.child" if victim == "worker" else b"ray::_Work"

        def targets() -> list[int]:
            below = [pid for raylet in nodes.raylets for pid in descendants(raylet)]
            return [pid for pid in {*own, *below} if wanted in command_line(pid)]

        if driver.until(targets, 30):
            kill(trial.chance.choice(targets()))


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@scenario("stop.ray", "Ctrl-C or SIGTERM with a local Ray: exit 130 or 143, no raylet left, resumed", seeds=2, quick=0)
def stop_ray(trial: Trial) -> None:
    job = on_ray(trial.place.cuts)
    trial.place.undisturbed(job)
    driver = trial.start(job)
    trial.require(driver.until(lambda: driver.done() >= 2), "nothing was done")
    name, number, wanted = [("Ctrl-C", signal.SIGINT, 130), ("SIGTERM", signal.SIGTERM, 143)][trial.record.seed % 2]
    os.killpg(driver.process.pid, number) if wanted == 130 else driver.process.send_signal(number)
    trial.did(f"{name} after {driver.done()} executions")
    code = trial.ends(driver, 60)
    trial.require(code == wanted, f"exit code {code}, expected {wanted}")
    trial.require("same command" in driver.said() and "Traceback" not in driver.said(), "it does not say how to go on")
    trial.gone(30)
    trial.again(job)
    trial.whole(job)
