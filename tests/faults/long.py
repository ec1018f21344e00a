"""Two hours of film through the stages that see a whole source, on a Ray with an object store of 200 MB."""

from __future__ import annotations

from tests.faults import look, media
from tests.faults.cluster import STORE, cluster
from tests.faults.native import GIB, peaks
from tests.faults.rays import on_ray
from tests.faults.scenario import Trial, scenario

LENGTHS = {"20 minutes": 2, "2 hours": 12}  # in pieces of ten minutes
GROWTH = 0.1  # GiB, of the largest worker from 20 minutes to 2 hours: tables of packets and cuts. The sound alone is 0.43 GiB


@scenario(
    "long.object-store",
    "a film of 2 hours, an object store of 200 MB: done, and its largest worker at most 100 MB larger than with 20 minutes",
    quick=0,
)
def long_film(trial: Trial) -> None:
    piece = media.film(trial.folder / "piece.mp4", 600, fps=2, shot_s=60)
    found: dict[str, float] = {}
    with cluster(f"{trial.token}-cluster", trial.folder, nodes=1, cpus=2) as nodes:
        for name, times in LENGTHS.items():
            folder = trial.folder / name.replace(" ", "-")
            folder.mkdir()
            media.repeated(piece, folder / "film.mp4", times)
            job = trial.place.job(folder.name, trial.place.cuts.recipe, folder, ("film",), "own")
            driver = trial.start(on_ray(job), out=folder / "out", env={"RAY_ADDRESS": nodes.address})
            with peaks(driver, nodes.raylets) as seen:
                code = trial.ends(driver, 900)
            trial.require(code == 0, f"exit code {code} with {name}")
            ends = look.ends(folder / "out")
            trial.require(len(ends) == times * 10, f"{len(ends)} clips of {name}, expected one a minute")
            trial.require(all(state == "kept" for state, _, _ in ends.values()), f"not all kept: {ends}")
            found[name] = round(seen["peak"] / GIB, 3)
            trial.did(f"{name}: largest worker {found[name]:.2f} GiB")
        trial.record.complete = True
    trial.record.found |= {"largest_worker_gib": found, "object_store_bytes": STORE}
    trial.require(found["2 hours"] <= found["20 minutes"] + GROWTH, f"memory grows with length: {found}")
    trial.gone()
