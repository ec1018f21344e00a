"""The ledger: stories of sources, torn lines, standings, and the lock on an output folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv.errors import DyconvError, StoreError
from dyconv.ledger import (
    Event,
    LedgerWriter,
    SourceLog,
    State,
    clip_standings,
    read_events,
    read_ledger,
    source_standing,
    stream_ledger,
)
from dyconv.run_lock import RunLock
from dyconv.store import Store

BEGUN = Event("s", "s", State.PENDING, fp="f")
FETCHED = Event("s", "s", State.PASSED, stage="fetch", fp="1", seconds=2.0, media_out=9.0)
SPLIT = Event("s", "s", State.PASSED, stage="cut", fp="2", children=("a", "b"), seconds=1.0)
A_DROPPED = Event("s", "a", State.DROPPED, 1, "cut", "2", "s", "NO_FACE", "expected one, found none")
B_KEPT = Event("s", "b", State.KEPT, 1, "last", "4", "s", seconds=3.5)
STORY = [FETCHED, SPLIT, A_DROPPED, B_KEPT]


def log_of(*events: Event) -> SourceLog:
    return SourceLog("s", "f", list(events))


def write(store: Store, *lots: list[Event]) -> None:
    for lot in lots:
        with LedgerWriter(store) as ledger:
            ledger.add(lot)


def test_events_survive_the_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, [BEGUN, *STORY])
    assert list(read_events(store)) == [BEGUN, *STORY]


@given(st.permutations(STORY), st.integers(0, len(STORY)))
def test_complete_only_with_every_event_in_any_order(order: list[Event], count: int) -> None:
    log = log_of(*order[:count])
    # `passed` by a stage that does not split says nothing about the end.
    needed = {SPLIT, A_DROPPED, B_KEPT}
    assert log.complete == (needed <= set(order[:count]))


def test_pending_makes_the_story_before_it_void(tmp_path: Path) -> None:
    store = Store(tmp_path)
    again = Event("s", "s", State.PENDING, fp="other")
    write(store, [BEGUN, *STORY], [again])
    log = read_ledger(store)["s"]
    assert log.fp == "other" and not log.complete and log.events == []
    assert source_standing(log).state is State.PENDING


def test_removed_sources_are_not_in_the_ledger(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, [BEGUN, *STORY], [Event("s", "s", State.REMOVED)])
    assert read_ledger(store) == {}


@given(cut=st.integers(1, 400))
def test_a_torn_last_line_is_ignored_and_nothing_else_lost(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    store = Store(tmp_path_factory.mktemp("torn"))
    write(store, [BEGUN, *STORY])
    path = Path(store.root) / "ledger" / "000001.jsonl"
    data = path.read_bytes()
    kept = data[: max(0, len(data) - cut)]
    path.write_bytes(kept)
    whole = kept.count(b"\n")
    found = list(read_events(store))
    # A cut just before the newline leaves a line that is whole all the same.
    assert found[:whole] == [BEGUN, *STORY][:whole] and len(found) <= whole + 1
    write(store, STORY)
    assert list(read_events(store))[-len(STORY) :] == STORY


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, [BEGUN, *STORY])
    path = tmp_path / "ledger" / "000001.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[2] = b'{"source": "s"}'
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(StoreError, match=r"line 3 of ledger/000001\.jsonl"):
        read_ledger(store)


@pytest.mark.parametrize(
    ("events", "state", "reason"),
    [
        ([], State.PENDING, None),
        ([FETCHED, SPLIT, A_DROPPED], State.PENDING, None),
        (STORY, State.KEPT, None),
        ([SPLIT, A_DROPPED, Event("s", "b", State.FAILED, 1, "last", "4", "s", "ValueError", "x")], State.FAILED, "ValueError"),
        ([SPLIT, A_DROPPED, Event("s", "b", State.DROPPED, 1, "last", "4", "s", "NO_FACE", "x")], State.DROPPED, "NO_FACE"),
        ([Event("s", "s", State.DROPPED, 0, "fetch", "1", None, "UNAVAILABLE", "x")], State.DROPPED, "UNAVAILABLE"),
    ],
)
def test_a_source_stands_where_its_clips_do(events: list[Event], state: State, reason: str | None) -> None:
    standing = source_standing(log_of(*events))
    assert (standing.state, standing.reason) == (state, reason)


def test_clips_are_the_pieces_and_not_the_source() -> None:
    found = {item.id: (item.state, item.reason, item.stage, item.seconds) for item in clip_standings(log_of(*STORY))}
    assert found == {"a": (State.DROPPED, "NO_FACE", "cut", 0.0), "b": (State.KEPT, None, "last", 3.5)}


def test_a_clip_with_its_segments_id_is_not_taken_for_it() -> None:
    split = Event("s", "a", State.PASSED, 1, "clips", "5", "s", children=("a",))
    whole = Event("s", "s", State.PASSED, 0, "cut", "2", children=("a",))
    assert not log_of(whole, split).complete
    kept = Event("s", "a", State.KEPT, 2, "last", "6", "a")
    assert log_of(whole, split, kept).complete
    assert [item.state for item in clip_standings(log_of(whole, split, kept))] == [State.KEPT]


HOLD = """
import sys, time
from dyconv.run_lock import RunLock
from dyconv.store import Store
with RunLock(Store(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_driver_is_refused_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(DyconvError, match=f"written by process {holder.pid} on"), RunLock(Store(tmp_path)):
            pass
    finally:
        holder.kill()
        holder.wait()
    with RunLock(Store(tmp_path)):
        pass


def test_stories_are_streamed_as_they_are_read(tmp_path: Path) -> None:
    """Interleaved, repeated, removed and unfinished stories: one pass after the other gives what reading at once gives."""
    store = Store(tmp_path)
    with LedgerWriter(store) as ledger:
        for name in ("a", "b", "c", "d"):
            ledger.add([Event(name, name, State.PENDING, fp=f"{name}-old")])
        for name in ("b", "a", "c"):
            ledger.add([Event(name, name, State.FAILED, stage="fetch", reason="X")])
        ledger.add([Event("c", "c", State.REMOVED), Event("a", "a", State.PENDING, fp="a-new")])
        ledger.add([Event("d", "d", State.PASSED, stage="fetch"), Event("a", "a", State.KEPT, stage="fetch")])
    streamed = {log.id: log for log in stream_ledger(store)}
    assert streamed == read_ledger(store)
    assert streamed.keys() == {"a", "b", "d"} and [event.state for event in streamed["a"].events] == [State.KEPT]
