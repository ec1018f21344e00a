"""Whole runs on an object store that fails: a share of all requests, or all of them from some moment on."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyconv.ledger import read_ledger
from dyconv.store import Store
from tests.fakes import write_manifest
from tests.s3server import Fault, Plan, S3Server, Seen, always, in_environment, s3_server, share

ROOT = Path(__file__).resolve().parent.parent
RECIPE = """
from tests.fakes import Cut, Fetch, Key, Mark, recipe
RECIPE = recipe(Fetch(), Cut(bad_at=5), Mark(), pack=(Key.VIDEO, Key.MIX), samples_per_shard=4)
"""
OWN = {"done.json", "failed.json"}


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as made, in_environment(made.environment):
        yield made


@pytest.fixture(scope="module")
def job(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder with recipe and manifest, and what an undisturbed run makes of them on the server."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "made.py").write_text(RECIPE)
    write_manifest(folder / "m.csv", [f"ok-{number}" for number in range(5)] + ["gone-1"])
    out = server.uri("undisturbed")
    said = ends(start(folder, out), 0)
    assert "5 kept" in said
    return folder, everything(out)


def start(folder: Path, out: str, **more: str) -> subprocess.Popen[str]:
    argv = ["run", str(folder / "made.py"), "--manifest", str(folder / "m.csv"), "--out", out, "--backend", "local"]
    return subprocess.Popen(
        [sys.executable, "-m", "dyconv.cli", *argv, "--workers", "2"],
        env={**os.environ, **more},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ends(driver: subprocess.Popen[str], code: int) -> str:
    said, _ = driver.communicate(timeout=200)
    assert driver.returncode == code, said
    assert "Traceback" not in said, said
    return said


def everything(out: str) -> dict[str, bytes]:
    store = Store(out)
    paths = [path for path in store.walk() if path.startswith(("work/", "shards/")) and path.rpartition("/")[2] not in OWN]
    return {path: store.read_bytes(path) for path in paths}


def test_a_run_on_storage_that_fails_now_and_then_gives_the_same(server: S3Server, job: tuple[Path, dict[str, bytes]]) -> None:
    folder, undisturbed = job
    out = server.uri(uuid.uuid4().hex)
    failed = 0

    def counted(plan: Plan) -> Plan:
        def ask(seen: Seen) -> Fault | None:
            nonlocal failed
            fault = plan(seen)
            failed += fault is not None
            return fault

        return ask

    faults = (Fault(500), Fault(503), Fault(cut=True), Fault(stall_s=1.5))
    with server.faults(counted(share(0.08, 11, *faults))):
        said = ends(start(folder, out, DYCONV_STORE_TIMEOUT="1"), 0)
    assert failed >= 8, "hardly anything failed"
    assert "5 kept" in said and everything(out) == undisturbed


def test_a_refused_upload_is_no_clips_fault(server: S3Server, job: tuple[Path, dict[str, bytes]]) -> None:
    """Only the assets of one stage cannot be written: a failure could be, and would be held against the clip."""
    folder, _ = job
    out = server.uri(uuid.uuid4().hex)
    with server.faults(always(Fault(500), "put", key=".mix.flac")):
        said = ends(start(folder, out, DYCONV_STORE_TIMEOUT="1", DYCONV_STORE_PATIENCE="1"), 1)
    assert "writing s3://" in said and not [path for path in Store(out).walk() if path.endswith("failed.json")]


@pytest.mark.parametrize("after", [3, 60])
def test_a_run_whose_storage_goes_away_stops_and_goes_on(
    server: S3Server, job: tuple[Path, dict[str, bytes]], after: int
) -> None:
    """At the lock, during the stages, at the end: exit code 1 and two lines, finished work kept, the same command goes on."""
    folder, undisturbed = job
    out = server.uri(uuid.uuid4().hex)
    begin = len(server.seen)
    away = Fault(500)
    with server.faults(lambda seen: away if seen.number >= begin + after else None):
        said = ends(start(folder, out, DYCONV_STORE_TIMEOUT="1", DYCONV_STORE_PATIENCE="1"), 1)
    assert "times in" in said and "run the same command" in said, said
    assert not any(log.failed() for log in read_ledger(Store(out)).values()), "the storage's fault was held against a clip"
    finished = {path for path in Store(out).walk() if path.endswith("done.json")}
    again = len(server.seen)
    ends(start(folder, out), 0)
    assert everything(out) == undisturbed
    written = {item.key.partition("/")[2] for item in server.seen[again:] if item.kind == "put"}
    assert not finished & written, "finished work was done again"
