"""One worker process under watch: what crashes, hangs, leaks or takes too much is told, and costs only its clip."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import connection
from pathlib import Path

import psutil
import pytest

from dyconv.child import Job
from dyconv.errors import MachineError, UsageError
from dyconv.ledger import Event, State
from dyconv.manifest import read_manifest
from dyconv.recipe import Recipe
from dyconv.records import Source, source_clip
from dyconv.stages.base import Limit
from dyconv.store import Store
from dyconv.supervise import Supervisor
from dyconv.task import Kind, Notice, Report, Task, make_plan, source_fingerprint
from tests.fakes import Ill, NoSetup, write_manifest

GIB = 2**30


def supervised(folder: Path, recipe: Recipe, **bounds: int) -> Supervisor:
    job = Job.of(make_plan(recipe), Store(folder / "out"), "run", retry_failed=False)
    return Supervisor(job, bounds.get("share", 64 * GIB), bounds.get("most"))


def tasks(folder: Path, *names: str) -> Iterator[Task]:
    for row in read_manifest(write_manifest(folder / "m.csv", list(names))):
        assert isinstance(row, Source)
        yield Task(source_clip(row), 0, source_fingerprint(row))


def through(worker: Supervisor, task: Task) -> list[Report]:
    """Everything told of one task."""
    worker.give(task)
    found: list[Report] = []
    end = time.monotonic() + 60
    while worker.busy:
        assert time.monotonic() < end, found
        connection.wait([worker.pipe], 0.1)
        found += worker.reports()
    return found


def ill(what: str, limit: float = 900.0) -> Recipe:
    return Recipe(name="ill", about="", stages=(Ill(what=what),), limits={"ill": Limit(limit, 0.0)})


def notices(reports: list[Report], kind: Kind) -> list[Notice]:
    return [item for report in reports for item in report.items if isinstance(item, Notice) and item.kind is kind]


def final(reports: list[Report]) -> Event:
    events = [item for report in reports for item in report.items if isinstance(item, Event)]
    assert len(events) == 1, events
    return events[0]


@pytest.mark.parametrize("what", ["sleeps", "spins", "holds"])
def test_what_hangs_is_killed_at_its_limit_and_says_where_it_was(tmp_path: Path, what: str) -> None:
    """Asleep, in a loop, or in native code that lets no other thread of its process run."""
    worker = supervised(tmp_path, ill(what, limit=1.0))
    one, other = tasks(tmp_path, "ill-1", "ok-1")
    told = through(worker, one)
    hung = notices(told, Kind.HUNG)
    assert [(notice.stage, notice.clip, notice.source) for notice in hung] == [("ill", "ill-1", "ill-1")] * 2
    assert all("no end after" in notice.detail and "fakes.py" in notice.detail for notice in hung)
    event = final(told)
    assert (event.state, event.reason) == (State.FAILED, "StageHung")
    assert "limit, 2 times" in str(event.detail)
    failed = next((tmp_path / "out").rglob("failed.json")).read_text()
    assert f"in {what}" in failed and '"attempts":2' in failed
    assert final(through(worker, other)).state is State.KEPT
    worker.close()


def test_a_crash_in_native_code_is_told_with_its_python_stack(tmp_path: Path) -> None:
    worker = supervised(tmp_path, ill("crashes"))
    one, other = tasks(tmp_path, "ill-1", "ok-1")
    told = through(worker, one)
    event = final(told)
    assert (event.state, event.reason) == (State.FAILED, "WorkerDied") and "SIGSEGV" in str(event.detail)
    assert len({notice.worker for notice in notices(told, Kind.DIED)}) == 3
    assert "in crashes" in next((tmp_path / "out").rglob("failed.json")).read_text()
    assert final(through(worker, other)).state is State.KEPT
    worker.close()


def test_what_takes_too_much_memory_is_killed_and_named(tmp_path: Path) -> None:
    worker = supervised(tmp_path, ill("swells"), most=GIB // 2)
    (one,) = tasks(tmp_path, "ill-1")
    event = final(through(worker, one))
    assert (event.state, event.reason) == (State.FAILED, "OutOfMemory")
    assert "may use 0.50 GiB" in str(event.detail)
    worker.close()


def test_a_worker_that_leaks_is_replaced_between_clips_and_no_clip_pays(tmp_path: Path) -> None:
    worker = supervised(tmp_path, ill("leaks"), most=GIB)
    seen, recycled = set(), 0
    for task in tasks(tmp_path, *(f"ill-{number}" for number in range(14))):
        told = through(worker, task)
        assert final(told).state is State.KEPT
        recycled += len(notices(told, Kind.RECYCLED))
        seen.add(worker.name)
    assert recycled == len(seen) - 1 >= 1
    worker.close()


def test_a_killed_worker_costs_nothing(tmp_path: Path) -> None:
    recipe = ill("naps")
    worker = supervised(tmp_path, recipe)
    (task,) = tasks(tmp_path, "ill-1")
    worker.give(task)
    while not (heard := list(worker.reports())):
        connection.wait([worker.pipe], 1.0)
    assert notices(heard, Kind.BEGUN)
    psutil.Process(int(worker.name.rpartition(":")[2])).kill()
    told: list[Report] = []
    while worker.busy:
        connection.wait([worker.pipe], 1.0)
        told += worker.reports()
    assert final(told).state is State.KEPT and "SIGKILL" in notices(told, Kind.DIED)[0].detail
    assert not list((tmp_path / "out" / ".scratch").iterdir())
    worker.close()


def test_a_worker_ends_with_its_supervisor_and_with_close(tmp_path: Path) -> None:
    worker = supervised(tmp_path, ill("naps"))
    process = psutil.Process(int(worker.name.rpartition(":")[2]))
    worker.close()
    assert not process.is_running()


def test_what_the_machine_lacks_is_an_error_of_the_run(tmp_path: Path) -> None:
    worker = supervised(tmp_path, Recipe(name="unfit", about="", stages=(NoSetup(),)))
    (task,) = tasks(tmp_path, "ok-1")
    (told,) = [report for report in through(worker, task) if report.error]
    assert told.error is not None and "nosetup could not be set up: ImportError: libEGL" in told.error.message
    worker.close()


def test_a_worker_that_cannot_start_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(7)\n")
    monkeypatch.setattr("sys.path", [str(tmp_path), *os.sys.path])
    worker = supervised(tmp_path, ill("naps"))
    (task,) = tasks(tmp_path, "ok-1")
    told = through(worker, task)
    assert told[-1].error is not None and "die one after the other" in told[-1].error.message
    assert "exit status 7" in told[-1].error.message
    worker.close()


def test_stages_of_the_script_itself_are_refused_with_the_way_out(tmp_path: Path) -> None:
    class Here(NoSetup):
        pass

    Here.__module__, Here.__qualname__ = "__main__", "Here"
    import __main__

    __main__.Here = Here  # type: ignore[attr-defined]
    try:
        with pytest.raises(UsageError, match="defined in the script") as error:
            supervised(tmp_path, Recipe(name="r", about="", stages=(Here(),)))
        assert "module or a recipe file" in str(error.value)
    finally:
        del __main__.Here  # type: ignore[attr-defined]


def test_reports_survive_the_way() -> None:
    error = MachineError("no space", hint="make room")
    notice = Notice(Kind.HUNG, "host:1", "mark", "c", "s", "detail", 1.5)
    report = Report((notice, Event("s", "s", State.PASSED, children=("a", "b"))), None, error)
    back = Report.from_json(json.loads(json.dumps(report.to_json())))
    assert back == replace(report, error=None) and type(back.error) is MachineError and str(back.error) == str(error)
