"""The Ray backend gives what the local one gives, refuses what can never run, and survives its workers.

One local Ray for the whole file: starting it takes longer than any test.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyconv.errors import DyconvError, ResourceError, TooManyFailures
from dyconv.ledger import read_ledger
from dyconv.pools import make_pools
from dyconv.ray_runner import connect
from dyconv.recipe import Recipe
from dyconv.resources import Machine
from dyconv.runner import RunOptions, run
from dyconv.stages.base import Resources
from dyconv.store import Store
from dyconv.task import make_plan
from tests.fakes import Cut, Fetch, Last, Mark, NoSetup, recipe, write_manifest
from tests.test_runner import assets, states, story

RAY = RunOptions(backend="ray")
GIB = 2**30


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A local Ray that stays up between runs."""
    import ray

    os.environ.pop("RAY_ADDRESS", None)
    connect()
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_ray_gives_what_the_local_backend_gives(tmp_path: Path) -> None:
    made = recipe(cut=Cut(bad_at=5), mark=Mark(raises="ok-2_00008"), last=Last(until_s=8))
    manifest = write_manifest(tmp_path / "m.csv", ["ok-1", "ok-2", "ok-3", "gone-1", "broken-1", "bad id"])
    here = run(made, manifest, str(tmp_path / "local"), RunOptions(workers=0))
    there = run(made, manifest, str(tmp_path / "ray"), RAY)
    assert story(tmp_path / "ray") == story(tmp_path / "local")
    assert assets(tmp_path / "ray") == assets(tmp_path / "local")
    assert there.exit_code == here.exit_code == 3
    assert run(made, manifest, str(tmp_path / "ray"), RunOptions(workers=0)).executed == 0


@pytest.mark.usefixtures("cluster")
def test_crashes_cost_only_the_clip_that_causes_them(tmp_path: Path) -> None:
    """One clip kills every worker, another only the first one that meets it."""
    spark = tmp_path / "spark"
    spark.touch()
    made = recipe(mark=Mark(lethal="ok-1_00004", fragile="ok-2_00008", spark=str(spark)))
    manifest = write_manifest(tmp_path / "m.csv", ["ok-1", "ok-2"])
    summary = run(made, manifest, str(tmp_path / "out"), RAY)
    assert not spark.exists() and (summary.kept, summary.failed) == (5, 1)
    found = states(tmp_path / "out")
    assert found["ok-1_00004000_00008000"] == ("failed", "WorkerDied", "mark")
    assert found["ok-2_00008000_00012000"][0] == "kept"


@pytest.mark.usefixtures("cluster")
def test_errors_of_the_machine_and_too_many_failures_stop_the_run(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", ["ok-1"])
    unfit = Recipe(name="unfit", about="", stages=(Fetch(), NoSetup()))
    with pytest.raises(DyconvError, match=r"nosetup could not be set up: ImportError: libEGL") as error:
        run(unfit, manifest, str(tmp_path / "unfit"), RAY)
    assert error.value.hint is not None and "dyconv doctor" in error.value.hint
    many = write_manifest(tmp_path / "many.csv", [f"broken-{i:02}" for i in range(60)])
    small = Recipe(name="small", about="", stages=(Fetch(),), max_failure_rate=0.2)
    with pytest.raises(TooManyFailures):
        run(small, many, str(tmp_path / "many"), RAY)
    assert len([log for log in read_ledger(Store(tmp_path / "many")).values() if log.failed()]) == 20


@pytest.mark.usefixtures("cluster")
def test_what_the_cluster_cannot_give_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", ["ok-1"])
    for asks, says in (
        (Resources(cpus=4000), "4000 CPUs"),
        (Resources(gpus=64), "64 GPUs"),
        (Resources(memory=1 << 50), "GiB"),
    ):
        with pytest.raises(ResourceError, match=f"stage mark asks for .*{says}.*; the nearest to it, node .* has"):
            run(recipe(resources={"mark": asks}), manifest, str(tmp_path / "out"), RAY)
    assert not (tmp_path / "out" / "ledger").exists()


@pytest.mark.parametrize("cpus", [1.0, 2.0, 3.0, 8.0, 64.0])
@pytest.mark.parametrize("gpus", [0.0, 0.5, 2.0])
def test_one_worker_of_every_pool_fits_at_the_same_time(cpus: float, gpus: float) -> None:
    """Otherwise one pool would wait for ever for another to end."""
    asks = (
        {"mark": Resources(cpus=1, gpus=0.5), "last": Resources(cpus=1, gpus=0.25)}
        if gpus
        else {"last": Resources(1, memory=GIB)}
    )
    made = recipe(resources=asks)
    nodes = [Machine("a", cpus / 2, gpus, 8 * GIB), Machine("b", cpus / 2, 0.0, 8 * GIB)]
    pools = make_pools(make_plan(made), made, nodes)
    assert sorted(step for pool in pools for step in pool.steps) == [0, 1, 2, 3]
    assert len({pool.asks.gpus for pool in pools}) == len(pools)
    left = {node.name: node for node in nodes}
    for pool in sorted(pools, key=lambda pool: -pool.asks.gpus):
        node = next(node for node in left.values() if node.cpus >= pool.asks.cpus and node.gpus >= pool.asks.gpus)
        left[node.name] = Machine(node.name, node.cpus - pool.asks.cpus, node.gpus - pool.asks.gpus, node.memory)
    assert sum(pool.most * pool.asks.gpus for pool in pools) <= gpus
    assert sum(pool.most * pool.asks.cpus for pool in pools) <= cpus
    assert all(pool.most >= 1 for pool in pools)


def test_a_large_cluster_is_filled() -> None:
    made = recipe(resources={"mark": Resources(cpus=4, gpus=1)})
    nodes = [Machine("a", 64.0, 0.0, 64 * GIB), Machine("b", 32.0, 4.0, 64 * GIB)]
    pools = make_pools(make_plan(made), made, nodes)
    assert {(tuple(sorted(pool.steps)), pool.most) for pool in pools} == {((2,), 4), ((0, 1, 3), 80)}


def test_downloads_do_not_keep_processors_of_a_large_cluster_waiting() -> None:
    made = recipe(resources={"fetch": Resources(cpus=0.25)})
    many = make_pools(make_plan(made), made, [Machine("a", 64.0, 0.0, 64 * GIB)])
    assert [(sorted(pool.steps), pool.asks.cpus) for pool in many] == [([0], 0.25), ([1, 2, 3], 1.0)]
    assert 10 < many[0].most < 30 and 55 < many[1].most < 63
    few = make_pools(make_plan(made), made, [Machine("a", 2.0, 0.0, 64 * GIB)])
    assert [(sorted(pool.steps), pool.most) for pool in few] == [([0, 1, 2, 3], 2)]


def test_a_worker_count_is_that_of_every_pool() -> None:
    made = recipe()
    pools = make_pools(make_plan(made), made, [Machine("a", 64.0, 0.0, 64 * GIB)], workers=3)
    assert {pool.most for pool in pools} == {3}


@pytest.mark.usefixtures("cluster")
def test_a_killed_actor_is_replaced_and_the_bytes_are_the_same(tmp_path: Path) -> None:
    import threading
    import time

    made = recipe(fetch=Fetch(pause_s=0.05), mark=Mark(pause_s=0.1))
    manifest = write_manifest(tmp_path / "m.csv", [f"ok-{i}" for i in range(6)])
    run(made, manifest, str(tmp_path / "undisturbed"), RunOptions(workers=0))
    out = tmp_path / "out"
    killed: list[int] = []

    def kill() -> None:
        while len(list(out.glob("work/mark/*/*/done.json"))) < 3:
            time.sleep(0.02)
        for pid in actors():
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    summary = run(made, manifest, str(out), RAY)
    thread.join(1)
    assert killed and summary.exit_code == 0
    assert assets(out) == assets(tmp_path / "undisturbed")


def actors() -> list[int]:
    """Processes of this user's Ray actors that run stages and descend from this process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
            pid = int(folder.name)
            if b"_Work" in title and descends(pid, os.getpid()):
                found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False
