"""Killed at any moment, the same command gives the same bytes; what a kill leaves behind is cleared away."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dyconv.ledger import State, read_ledger, source_standing
from dyconv.runner import RunOptions, run
from dyconv.store import Store
from tests.fakes import write_manifest
from tests.test_runner import assets

RECIPE = """
from tests.fakes import Cut, Fetch, Key, Mark, recipe
RECIPE = recipe(Fetch(pause_s=0.02), Cut(bad_at=5), Mark(pause_s=0.03), pack=(Key.VIDEO, Key.MIX), samples_per_shard=4)
"""
NAMES = [f"ok-{number}" for number in range(8)] + ["gone-1"]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder with recipe and manifest, and what an undisturbed run makes of them."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "slow.py").write_text(RECIPE)
    write_manifest(folder / "m.csv", NAMES)
    finished = start(folder, folder / "undisturbed")
    assert finished.wait(120) == 0
    return folder, made(folder / "undisturbed")


def start(folder: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    argv = ["run", str(folder / "slow.py"), "--manifest", str(folder / "m.csv"), "--out", str(out), "--backend", "local"]
    return subprocess.Popen(
        [sys.executable, "-m", "dyconv.cli", *argv, *more],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )


def heed_interrupts() -> None:
    """A test run that a shell put into the background hands an ignored SIGINT on to its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def made(out: Path) -> dict[str, bytes]:
    shards = {str(path.relative_to(out)): path.read_bytes() for path in (out / "shards").rglob("*") if path.is_file()}
    return assets(out) | shards


def finished(out: Path) -> int:
    """How many executions are done. Looks only where a running job removes no folders."""
    return len(list(out.glob("work/*/*/*/done.json")))


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found.append(int(folder.name))
    return found


def wait_for(condition: object, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_a_driver_killed_again_and_again_gives_the_same_bytes(job: tuple[Path, dict[str, bytes]]) -> None:
    folder, undisturbed = job
    out = folder / "killed"
    chance = random.Random(7)
    kills = 0
    for _ in range(6):
        driver = start(folder, out, "--workers", str(chance.choice((0, 1, 2))))
        begun = finished(out)
        assert wait_for(lambda: finished(out) > begun or driver.poll() is not None)  # noqa: B023
        time.sleep(chance.uniform(0, 0.25))
        if driver.poll() is None:
            workers = children(driver.pid)
            driver.kill()
            driver.wait()
            kills += 1
            assert wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers)), "a worker outlived its driver"  # noqa: B023
    assert kills >= 3
    assert start(folder, out).wait(120) == 0
    assert made(out) == undisturbed
    assert not list((out / ".scratch").iterdir())


def test_a_killed_worker_is_replaced_and_no_clip_pays_for_it(job: tuple[Path, dict[str, bytes]]) -> None:
    folder, undisturbed = job
    out = folder / "worker"
    driver = start(folder, out, "--workers", "2")
    for count in (2, 6, 10):
        assert wait_for(lambda: finished(out) >= count)  # noqa: B023
        os.kill(workers_of(driver)[0], signal.SIGKILL)
    assert driver.wait(120) == 0
    assert made(out) == undisturbed


def workers_of(driver: subprocess.Popen[bytes]) -> list[int]:
    """The driver's worker processes."""
    found: list[int] = []

    def look() -> bool:
        found[:] = [pid for pid in children(driver.pid) if b"dyconv.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return bool(found)

    assert wait_for(look)
    return found


def test_interrupted_it_stops_at_once_and_can_go_on(job: tuple[Path, dict[str, bytes]]) -> None:
    folder, undisturbed = job
    out = folder / "interrupted"
    driver = start(folder, out, "--workers", "2")
    assert wait_for(lambda: finished(out) > 4)
    workers = children(driver.pid)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: to the driver and everything in its group
    assert driver.wait(20) == 130
    assert wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    logs = read_ledger(Store(out))
    assert any(source_standing(log).state is State.PENDING for log in logs.values())
    assert not list(out.rglob("failed.json"))
    assert start(folder, out).wait(120) == 0
    assert made(out) == undisturbed


@pytest.mark.parametrize("workers", [1, 2])
def test_a_clip_that_kills_its_workers_is_given_up_and_the_others_go_on(tmp_path: Path, workers: int) -> None:
    from tests.fakes import Mark, recipe

    manifest = write_manifest(tmp_path / "m.csv", ["ok-1", "ok-2", "ok-3"])
    lethal = recipe(mark=Mark(lethal="ok-2_00004"))
    summary = run(lethal, manifest, str(tmp_path / "out"), RunOptions(workers=workers))
    assert (summary.kept, summary.failed, summary.exit_code) == (8, 1, 3)
    failed = read_ledger(Store(tmp_path / "out"))["ok-2"].failed()
    assert [(event.id, event.reason) for event in failed] == [("ok-2_00004000_00008000", "WorkerDied")]
    note = next((tmp_path / "out").rglob("failed.json")).read_text()
    assert '"attempts":3' in note and "SIGSEGV" in note
