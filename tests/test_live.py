"""`live.json`: what a run says of itself while it goes on."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyconv.errors import StoreError
from dyconv.flow import Flow
from dyconv.ledger import Event, State, read_events
from dyconv.live import FILE, LiveFile, driver_gone, read_live
from dyconv.runner import RunOptions, run
from dyconv.store import Store
from dyconv.task import Kind, Notice
from tests.fakes import Cut, Last, Mark, recipe, write_manifest

LEVELS = {"fetch": 0, "cut": 0, "mark": 1, "last": 1}
ABOUT = {"run": "r1", "recipe": "fake", "backend": "local", "workers": 2}
SPLIT = Event("s", "s", State.PASSED, stage="cut", children=("a", "b"), seconds=1.0, media_in=8.0)


def began(worker: str, stage: str, clip: str, limit: float = 600.0) -> Notice:
    return Notice(Kind.BEGUN, worker, stage, clip, "s", seconds=limit)


def live(store: Store, every_s: float = 2.0, todo: int = 1) -> LiveFile:
    return LiveFile(store, ABOUT, LEVELS, todo, todo, every_s)


def seen(store: Store) -> dict[str, Any]:
    found = read_live(store)
    assert found is not None
    return found


def stages(found: dict[str, Any], *what: str) -> dict[str, tuple[int, ...]]:
    return {row["stage"]: tuple(row[name] for name in what) for row in found["stages"]}


def test_a_run_leaves_what_its_funnel_says(tmp_path: Path) -> None:
    made = recipe(cut=Cut(bad_at=5), mark=Mark(raises="ok-2_00008"), last=Last(until_s=8))
    manifest = write_manifest(tmp_path / "m.csv", ["ok-1", "ok-2", "gone-1", "broken-1", "bad id"])
    summary = run(made, manifest, str(tmp_path / "out"), RunOptions(workers=0))
    found = seen(Store(tmp_path / "out"))
    assert (found["state"], found["at_work"], found["left_seconds"]) == ("finished", [], None)
    assert found["sources"] == {"all": 5, "todo": 4, "done": 4, "open": 0} and found["share"] == 1.0
    rows = {row.stage: row for row in summary.funnel.stages}
    for row in found["stages"]:
        funnel = rows[row["stage"]]
        assert (row["dropped"], row["failed"]) == (sum(funnel.dropped.values()), sum(funnel.failed.values()))
        assert row["seconds"] == pytest.approx(funnel.seconds, abs=1e-6) and row["waiting"] == row["reused"] == 0
    assert stages(found, "passed") == {"fetch": (2,), "cut": (2,), "mark": (3,), "last": (2,)}
    assert [one["clip"][:4] for one in found["failures"]] in (["brok", "ok-2"], ["ok-2", "brok"])
    assert run(made, manifest, str(tmp_path / "out"), RunOptions(workers=0, retry_failed=True)).executed == 2
    again = seen(Store(tmp_path / "out"))
    assert again["run"] != found["run"] and stages(again, "reused")["fetch"] == (1,)


def test_who_is_at_work_and_what_waits(tmp_path: Path) -> None:
    file = live(Store(tmp_path))
    file.note(began("w1", "fetch", "s"))
    file.note(Event("s", "s", State.PASSED, stage="fetch"))
    file.note(SPLIT)
    file.note(began("w1", "mark", "a"))
    found = file.state("running", time.monotonic())
    assert [(one["worker"], one["stage"], one["clip"]) for one in found["at_work"]] == [("w1", "mark", "a")]
    assert stages(found, "waiting", "at_work")["mark"] == (1, 1)
    file.note(Notice(Kind.DIED, "w1", "mark", "a", "s", detail="signal SIGSEGV\nstack"))
    file.note(began("w2", "mark", "a"))
    file.note(began("w3", "mark", "b"))
    found = file.state("running", time.monotonic())
    assert sorted(one["worker"] for one in found["at_work"]) == ["w2", "w3"]
    assert [(one["kind"], one["detail"]) for one in found["notices"]] == [("died", "signal SIGSEGV")]
    file.note(Event("s", "a", State.FAILED, 1, "mark", reason="WorkerDied", detail="three times"))
    file.note(Event("s", "b", State.PASSED, 1, "mark"))
    found = file.state("running", time.monotonic())
    assert found["workers_busy"] == 0 and stages(found, "waiting")["last"] == (1,)
    assert found["share"] == 0.5 and found["sources"]["open"] == 1
    file.note(Event("s", "b", State.KEPT, 1, "last"))
    assert file.state("running", time.monotonic())["sources"]["done"] == 1


@given(st.data())
@settings(max_examples=100)
def test_counts_add_up_in_any_run(data: st.DataObject) -> None:
    """Random fates of sources and clips, one event after the other: nothing goes below zero, and nothing is left over."""
    names = [f"s{number}" for number in range(data.draw(st.integers(1, 4)))]
    flow = Flow(LEVELS, len(names))
    order = [Event(name, name, State.PENDING, stage=None) for name in names]  # where each item stands
    while order:
        at = order.pop(data.draw(st.integers(0, len(order) - 1)))
        step = list(LEVELS).index(at.stage) + 1 if at.stage else 0
        stage, level = list(LEVELS)[step], list(LEVELS.values())[step]
        fate = data.draw(st.sampled_from([State.PASSED] * 3 + [State.DROPPED, State.FAILED]))
        if fate is State.PASSED and stage == "last":
            fate = State.KEPT
        children = None
        if fate is State.PASSED and stage == "cut":
            children = tuple(f"{at.id}_{number}" for number in range(data.draw(st.integers(1, 3))))
        flow.event(Event(at.source, at.id, fate, level, stage, children=children), 0.0)
        for child in children or ():
            if data.draw(st.integers(0, 3)) == 0:
                flow.event(Event(at.source, child, State.DROPPED, level + 1, stage, reason="X"), 0.0)
            else:
                order.append(Event(at.source, child, State.PASSED, level + 1, stage))
        if fate is State.PASSED and children is None:
            order.append(Event(at.source, at.id, State.PASSED, level, stage))
        assert all(row.entered - row.left >= 0 for row in flow.stages.values())
        assert sum(row.entered - row.left for row in flow.stages.values()) == len(order)
        assert 0 <= flow.begun_share <= flow.open
    assert (flow.done, flow.open) == (len(names), 0)
    # A split without end of its own counts once in `left` and not in `ended`.
    assert sum(flow.ended.values()) == sum(row.dropped + row.failed for row in flow.stages.values()) + flow.ended[State.KEPT]


def test_it_is_written_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    store = Store(tmp_path)
    file = live(store)
    assert (seen(store)["count"], seen(store)["state"]) == (1, "running")
    begin = time.monotonic()
    for tenth in range(100):
        file.tick(begin + tenth / 10)
    assert 4 <= seen(store)["count"] <= 6  # ten seconds, every two
    file.close("interrupted")
    assert seen(store)["state"] == "interrupted" and os.listdir(tmp_path) == [FILE]


def test_throughput_and_time_left_are_those_of_the_last_minutes(tmp_path: Path) -> None:
    file = live(Store(tmp_path), todo=100)
    began_at = file._began
    for second in range(1, 601):
        file.tick(began_at + second)
        if second % 10 == 0 and second <= 300:
            name = f"s{second}"
            file.note(Event(name, name, State.DROPPED, stage="fetch", seconds=5.0, media_in=20.0, reason="X"))
        if second == 300:
            found = file.state("running", began_at + 300)
            (row, *_) = found["stages"]
            assert row["per_minute"] == pytest.approx(6, rel=0.1) and row["media_hours_per_hour"] == pytest.approx(2, rel=0.1)
            assert found["share"] == 0.3 and found["left_seconds"] == pytest.approx(700, rel=0.01)
    assert file.state("running", began_at + 600)["stages"][0]["per_minute"] == pytest.approx(0, abs=0.3)


def test_what_is_found_done_says_nothing_about_the_time_left(tmp_path: Path) -> None:
    file = live(Store(tmp_path), todo=10)
    for number in range(5):
        file.note(Event(f"s{number}", f"s{number}", State.DROPPED, stage="fetch", reason="X", reused=True))
    assert file.state("running", file._began + 60)["left_seconds"] is None
    file.note(Event("s5", "s5", State.DROPPED, stage="fetch", reason="X"))
    assert file.state("running", file._began + 60)["left_seconds"] == pytest.approx(240)


def test_a_clock_that_goes_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    file = live(store, todo=2)
    file.note(began("w", "fetch", "s"))
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real - 86_400)
    file.note(Event("t", "t", State.FAILED, stage="fetch", reason="X"))
    file.tick(file._began + 10)
    file.note(Event("u", "u", State.FAILED, stage="fetch", reason="X"))
    found = file.state("running", file._began + 10)
    ages = [found["seconds"], found["idle_seconds"], found["left_seconds"], found["at_work"][0]["seconds"]]
    assert all(0 <= age <= 11 for age in [*ages, *(one["seconds_ago"] for one in found["failures"])])
    assert found["seconds"] == pytest.approx(10, abs=0.01) and found["stages"][0]["per_minute"] >= 0


def test_a_reader_never_sees_half_of_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    file = live(store, every_s=0.0)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            file.tick(time.monotonic())

    writer = threading.Thread(target=write)
    writer.start()
    counts = [seen(store)["count"] for _ in range(300)]
    stop.set()
    writer.join()
    assert counts == sorted(counts) and counts[-1] > counts[0]


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE / "in the way").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        file = live(Store(tmp_path))
        file.tick(time.monotonic() + 10)
        file.close("finished")
    assert sum(FILE in record.getMessage() for record in caplog.records) == 1


def test_on_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow storage does not keep the driver waiting."""
    store = Store("memory://live-test")
    try:
        file = live(store, every_s=0.0)
        slow = Store.write_bytes

        def wait(self: Store, path: str, data: bytes) -> None:
            time.sleep(0.3)
            slow(self, path, data)

        monkeypatch.setattr(Store, "write_bytes", wait)
        started = time.monotonic()
        for _ in range(20):
            file.tick(time.monotonic())
        assert time.monotonic() - started < 0.3
        file.close("finished")
        assert seen(store)["state"] == "finished"
    finally:
        store.remove(FILE)


@pytest.mark.parametrize("change", [{"schema": 2}, {"stages": [{}]}, {"driver": 7}, {"seconds": "long"}, {"sources": None}])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path, change: dict[str, Any]) -> None:
    store = Store(tmp_path)
    live(store).close("finished")
    (tmp_path / FILE).write_text(json.dumps({**seen(store), **change}))
    with pytest.raises(StoreError, match=FILE):
        read_live(store)
    (tmp_path / FILE).write_bytes(b"{")
    with pytest.raises(StoreError, match=FILE):
        read_live(store)


def test_a_process_that_is_there_is_told_from_one_that_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    live(store)
    found = seen(store)
    assert not driver_gone(found)
    assert driver_gone({"driver": {**found["driver"], "began": found["driver"]["began"] - 1}}), "its number was given anew"
    assert not driver_gone({"driver": {**found["driver"], "place": "another machine", "process": 1 << 22}})
    assert not list(read_events(store)) and read_live(Store(tmp_path / "nothing")) is None


def test_what_a_killed_driver_said_last_goes_with_the_next_run_even_if_nothing_is_left_to_do(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", ["ok-1"])
    run(recipe(), manifest, str(tmp_path / "out"), RunOptions(workers=0))
    said = tmp_path / "out" / FILE
    run(recipe(), manifest, str(tmp_path / "out"), RunOptions(workers=0))
    assert '"finished"' in said.read_text()
    said.write_text(said.read_text().replace('"finished"', '"running"'))
    assert run(recipe(), manifest, str(tmp_path / "out"), RunOptions(workers=0)).executed == 0
    assert not said.exists()
