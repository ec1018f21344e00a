"""Storage that fails: an S3 server that answers some requests with errors, not at all, or goes away."""

from __future__ import annotations

from tests.faults.kills import with_workers
from tests.faults.scenario import Trial, scenario
from tests.s3server import Fault, share


@scenario(
    "storage.errors",
    "S3 that answers one request in twelve with 500, 503, a broken body or not at all: nobody notices",
    quick=0,
)
def errors(trial: Trial) -> None:
    job = with_workers(trial.place.cuts, 2)
    trial.place.undisturbed(job)
    server = trial.place.s3
    out, begun = server.uri(f"errors-{trial.record.seed}"), len(server.seen)
    faults = (Fault(status=500), Fault(status=503), Fault(cut=True), Fault(stall_s=3.0))
    with server.faults(share(0.08, trial.record.seed, *faults)):
        driver = trial.start(job, out=out, env=server.environment)
        code = trial.ends(driver)
    trial.did(f"{len(server.seen) - begun} requests, one in twelve failed")
    trial.require(code == 0, f"exit code {code}, expected 0")
    trial.whole(job, out)


@scenario(
    "storage.away",
    "S3 that goes away during a run: said, nothing lost; the same command goes on when it is back",
    seeds=2,
    quick=0,
)
def away(trial: Trial) -> None:
    job = with_workers(trial.place.cuts, 2)
    trial.place.undisturbed(job)
    server = trial.place.s3
    out = server.uri(f"away-{trial.record.seed}")
    begun, after = len(server.seen), trial.chance.randint(20, 110)
    env = {**server.environment, "DYCONV_STORE_PATIENCE": "6"}
    with server.faults(lambda seen: Fault(status=503) if seen.number > begun + after else None):
        driver = trial.start(job, out=out, env=env)
        code = trial.ends(driver, 180)
    trial.did(f"gone after {after} requests")
    trial.record.message = next((line for line in driver.said().splitlines() if line.startswith("error")), "")
    trial.require(code == 1, f"exit code {code}, expected 1")
    trial.require("Traceback" not in driver.said(), "a traceback was shown")
    trial.gone()
    # The lock of a driver that could not give it back frees itself.
    driver = trial.start(job, out=out, env=server.environment)
    trial.require(trial.ends(driver) == 0, "it does not go on when the storage is back")
    trial.whole(job, out)


@scenario("drivers.two-s3", "two drivers started at once on one S3 folder: one works, the other refuses", seeds=2, quick=0)
def two_drivers(trial: Trial) -> None:
    from tests.faults.clocks_and_drivers import one_of_two

    job = trial.place.cuts
    trial.place.undisturbed(job)
    server = trial.place.s3
    out = server.uri(f"two-{trial.record.seed}")
    one_of_two(trial, job, out, server.environment)
    trial.whole(job, out)
