"""Two drivers never write one output folder: two real processes, on a folder and on an object store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyconv.errors import DyconvError
from dyconv.run_lock import NAME, STILL, Lease, OutputTaken, RunLock
from dyconv.store import Store
from tests.s3server import Fault, S3Server, always, in_environment, s3_server

EVERY = 0.3
HOLD = """
import os, sys, time
if len(sys.argv) > 2:  # a machine of another name
    import dyconv.run_lock
    dyconv.run_lock._place = lambda: sys.argv[2]
from dyconv.cli import guarded
from dyconv.run_lock import RunLock
from dyconv.store import Store

def hold():
    with RunLock(Store(sys.argv[1]), every_s=0.3):
        print("held", flush=True)
        time.sleep(60)

guarded(hold)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as made, in_environment(made.environment):
        yield made


@pytest.fixture(params=["folder", "s3"])
def out(request: pytest.FixtureRequest, server: S3Server, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "folder" else server.uri(uuid.uuid4().hex)


@pytest.fixture
def s3_out(server: S3Server) -> str:
    return server.uri(uuid.uuid4().hex)


def start(out: str, *place: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, out, *place],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n", process.stderr and process.stderr.read()
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_second_driver_is_refused_and_a_killed_one_leaves_no_lock(out: str) -> None:
    holder = start(out)
    try:
        says = rf"is being written by process {holder.pid} on .* since 20\d\d-"
        with pytest.raises(OutputTaken, match=says) as told, RunLock(Store(out), every_s=EVERY):
            pass
        assert told.value.hint is not None and "another --out" in told.value.hint
        assert holder.poll() is None
    finally:
        end(holder)
    with RunLock(Store(out), every_s=EVERY) as lock:
        lock.check()
    with RunLock(Store(out), every_s=EVERY):
        pass


def test_a_lease_of_another_machine_is_taken_over_only_when_it_stands_still(s3_out: str) -> None:
    holder = start(s3_out, "another machine")
    try:
        with pytest.raises(OutputTaken), RunLock(Store(s3_out), every_s=EVERY):
            pass
    finally:
        end(holder)
    began = time.monotonic()
    with RunLock(Store(s3_out), every_s=EVERY):
        assert time.monotonic() - began >= STILL * EVERY
    assert not Store(s3_out).exists(NAME)


def test_a_driver_that_slept_too_long_stops_with_an_error(s3_out: str) -> None:
    """Its machine was suspended, another driver went on: when it wakes it must not write."""
    sleeper = start(s3_out, "another machine")
    try:
        os.kill(sleeper.pid, signal.SIGSTOP)
        with RunLock(Store(s3_out), every_s=EVERY) as lock:
            os.kill(sleeper.pid, signal.SIGCONT)
            _, said = sleeper.communicate(timeout=30)
            assert sleeper.returncode == 1 and "was taken over by" in said and "Traceback" not in said
            lock.check()
            time.sleep(3 * EVERY)
            lock.check()
    finally:
        end(sleeper)


def test_clocks_that_go_backwards_or_differ_change_nothing(s3_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(s3_out)
    with RunLock(store, every_s=EVERY) as lock:
        lease = json.loads(store.read_bytes(NAME))
        monkeypatch.setattr(time, "time", lambda: 0.0)
        time.sleep(4 * EVERY)
        later = json.loads(store.read_bytes(NAME))
        assert later["count"] > lease["count"] and later["token"] == lease["token"]
        lock.check()
    left = Lease(**{**lease, "since": "2999-01-01 00:00:00 UTC", "place": "elsewhere"})  # left behind by a clock ahead
    store.write_bytes(NAME, left.dump())
    with RunLock(store, every_s=EVERY):
        pass


def test_of_many_that_come_at_once_one_gets_it(s3_out: str) -> None:
    code = HOLD.replace("time.sleep(60)", "time.sleep(4)")
    racers = [
        subprocess.Popen([sys.executable, "-c", code, s3_out], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [racer.communicate(timeout=60) for racer in racers]
    assert sorted(racer.returncode for racer in racers) == [0, 1, 1], said
    assert sum("is being written by" in errors for _, errors in said) == 2


def test_storage_that_fails_for_a_while_does_not_cost_the_lease(server: S3Server, s3_out: str) -> None:
    with in_environment({"DYCONV_STORE_PATIENCE": "1", "DYCONV_STORE_TIMEOUT": "1"}):
        store = Store(s3_out)
    with RunLock(store, every_s=EVERY) as lock:
        with server.faults(always(Fault(500))):
            time.sleep(5 * EVERY)
        lock.check()
        time.sleep(8 * EVERY)
        lock.check()
        count = json.loads(store.read_bytes(NAME))["count"]
        time.sleep(8 * EVERY)
        assert json.loads(store.read_bytes(NAME))["count"] > count


def test_a_lease_is_renewed_only_if_nobody_else_wrote_it(s3_out: str) -> None:
    """A driver that falls asleep between looking and writing overwrites nobody when it wakes."""
    store = Store(s3_out)
    url = store.url(NAME)
    tag = store.files.replace(url, b"mine", None)
    assert tag and (again := store.files.replace(url, b"mine, later", tag))
    store.write_bytes(NAME, b"another's")
    assert store.files.replace(url, b"mine, too late", again) is None
    store.discard(NAME)
    assert store.files.replace(url, b"mine, too late", again) is None and not store.exists(NAME)


def test_a_lost_answer_is_not_taken_for_another_driver(server: S3Server, s3_out: str) -> None:
    """The lease was written, the answer never came, and the second try finds an object there: our own."""
    from tests.s3server import first

    with server.faults(first(1, Fault(cut=True), "put", key=NAME)), RunLock(Store(s3_out), every_s=EVERY) as lock:
        lock.check()


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"token": 1}'])
def test_a_lock_that_is_no_lease_is_told(s3_out: str, text: bytes) -> None:
    Store(s3_out).write_bytes(NAME, text)
    with pytest.raises(DyconvError, match=r"run\.lock cannot be read") as told, RunLock(Store(s3_out)):
        pass
    assert told.value.hint is not None and "remove that object" in told.value.hint
