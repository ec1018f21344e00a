"""Standings of a whole ledger at once: the same as source by source, and the reading of it as columns."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.json
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyconv.errors import StoreError
from dyconv.funnel import count_funnel, make_funnel
from dyconv.ledger import Event, LedgerWriter, State, clip_standings, read_events, read_ledger, source_standing, stream_ledger
from dyconv.ledger_columns import LedgerColumns, read_columns
from dyconv.records import dump
from dyconv.standings import Standings, read_standings, standing_rows, work_out
from dyconv.store import Store

LEVELS = {"fetch": 0, "cut": 0, "mark": 1, "last": 1}
_NAMES = st.sampled_from(["s", "t", "s_1", "s_2", "ü\n"])
_EVENTS = st.builds(
    Event,
    source=st.sampled_from(["s", "t", "ü\n"]),
    id=_NAMES,
    state=st.sampled_from([*State, State.PASSED, State.KEPT, State.FAILED]),
    level=st.integers(0, 2),
    stage=st.sampled_from([None, "fetch", "cut", "mark", "last", "manifest", "other"]),
    fp=st.sampled_from([None, "f1", "f2"]),
    parent=st.sampled_from([None, "s"]),
    reason=st.sampled_from([None, "A", "B"]),
    detail=st.sampled_from([None, 'a "detail" \\ \u2028', "another"]),
    seconds=st.integers(0, 8).map(lambda number: number / 4),
    media_in=st.integers(0, 8).map(float),
    media_out=st.integers(0, 8).map(float),
    children=st.one_of(st.none(), st.none(), st.lists(_NAMES, max_size=3).map(tuple)),
    reused=st.booleans(),
)


@st.composite
def _stories(draw: st.DrawFn) -> list[Event]:
    """What a run may write: sources begun, then split into clips that end each in its way, in any order, with gaps."""
    told = []
    for name in ("s", "t"):
        fates = draw(st.lists(st.sampled_from(["A", "B", "C"]), max_size=5))
        children = tuple(f"{name}_{number}" for number in range(len(fates)))
        told += [Event(name, name, State.PASSED, stage="fetch", seconds=0.5, media_out=9.0)]
        told += [Event(name, name, State.PASSED, stage="cut", children=children, media_in=9.0, media_out=8.0)]
        for child, fate in zip(children, fates, strict=True):
            end = draw(st.sampled_from([State.DROPPED, State.DROPPED, State.FAILED, State.KEPT]))
            told += [Event(name, child, State.PASSED, 1, "mark", parent=name, seconds=1.0, media_in=4.0)]
            why = None if end is State.KEPT else fate
            told += [Event(name, child, end, 1, "last", parent=name, reason=why, detail=f"{fate} {child}", media_in=4.0)]
        if draw(st.integers(0, 9)) == 0:
            told += [Event(name, name, State.DROPPED, stage="fetch", reason="A")]
    told = draw(st.permutations(told))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2])) if told else 0):
        told.pop(draw(st.integers(0, len(told) - 1)))
    return [Event("s", "s", State.PENDING, fp="f"), Event("t", "t", State.PENDING, fp="g"), *told]


def write(folder: Path, *lots: list[Event]) -> Store:
    store = Store(folder)
    for lot in lots:
        with LedgerWriter(store) as ledger:
            ledger.add(lot)
    return store


def check(store: Store) -> Standings:
    """Compare everything that is worked out at once with what it is source by source."""
    assert {log.id: log for log in stream_ledger(store)} == read_ledger(store)
    logs, found = read_ledger(store), read_standings(store)
    assert list(standing_rows(found.sources)) == [source_standing(log) for log in logs.values()]
    assert list(standing_rows(found.clips)) == [item for log in logs.values() for item in clip_standings(log)]
    stories = [(log.id, log.fp if log.complete else None, len(log.failed())) for log in logs.values()]
    assert list(found.stories()) == stories
    kept = [(event.source, event.id, event.stage, event.fp) for log in logs.values() for event in log.kept()]
    assert [(event.source, event.id, event.stage, event.fp) for event in found.kept()] == sorted(kept, key=lambda one: one[1])
    assert count_funnel(found, LEVELS).to_json() == make_funnel(logs.values(), LEVELS).to_json()
    return found


@given(st.lists(_EVENTS, max_size=30), st.lists(_EVENTS, max_size=10), st.booleans())
@settings(max_examples=80)
def test_any_ledger_at_once_is_what_it_is_source_by_source(
    tmp_path_factory: pytest.TempPathFactory, first: list[Event], then: list[Event], begun: bool
) -> None:
    head = [Event(name, name, State.PENDING, fp=name) for name in ("s", "t")] if begun else []
    check(write(tmp_path_factory.mktemp("any"), [*head, *first], then))


@given(_stories(), _stories(), st.integers(0, 20))
@settings(max_examples=150)
def test_stories_as_runs_write_them(
    tmp_path_factory: pytest.TempPathFactory, first: list[Event], then: list[Event], cut: int
) -> None:
    found = check(write(tmp_path_factory.mktemp("run"), first, then[:cut]))
    assert found.sources.num_rows == 2


def test_an_empty_ledger(tmp_path: Path) -> None:
    found = check(Store(tmp_path))
    assert found.sources.num_rows == found.clips.num_rows == 0 and not found.counts["sources"]


@given(cut=st.integers(1, 700))
@settings(max_examples=40)
def test_a_torn_tail_is_read_as_line_by_line(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """Also where another run has written on after the kill."""
    folder = tmp_path_factory.mktemp("torn")
    events = [Event("s", "s", State.PENDING, fp="f"), Event("s", "s", State.PASSED, stage="fetch", detail="größer")]
    events += [Event("s", "s", State.KEPT, stage="last", seconds=1.0, detail="x" * 300)]
    store = write(folder, events)
    path = folder / "ledger" / "000001.jsonl"
    path.write_bytes(path.read_bytes()[: -min(cut, path.stat().st_size)])
    for _ in range(2):
        assert read_columns(store)["id"].to_pylist() == [event.id for event in read_events(store)]
        check(store)
        write(folder, events[1:])


@pytest.mark.parametrize(
    "line",
    [
        *(
            b'{"source": "s"}',
            b"",
            b"nonsense",
            b"[1]",
            b"[" * 100_000,
            b'{"id":"s","source":[],"state":[]}',
            b'{"id":"s","level":0,"source":"s","state":"flying"}',
        ),
        *(
            b'{"id":"s","level":0,"source":"s","state":"kept","new":1}',
            b'{"id":"s","level":0,"source":"s","state":"kept"',
            b"\xff",
        ),
        b'{"id":"s","level":0,"source":"s","state":"kept"} {"id":"s","level":0,"source":"s","state":"kept"}',
    ],
)
def test_damage_is_named_as_line_by_line(tmp_path: Path, line: bytes) -> None:
    store = write(tmp_path, [Event("s", "s", State.PENDING), Event("s", "s", State.KEPT)])
    path = tmp_path / "ledger" / "000001.jsonl"
    first, second = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, line, second, b""]))
    with pytest.raises(StoreError, match=r"line 2 of ledger/000001\.jsonl") as slow:
        list(read_events(store))
    with pytest.raises(StoreError, match=r"line 2 of ledger/000001\.jsonl"):
        list(stream_ledger(store))
    with pytest.raises(StoreError) as fast:
        read_columns(store)
    assert str(fast.value) == str(slow.value)


def test_a_line_that_only_arrow_refuses_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "ledger" / "000001.jsonl"
    path.parent.mkdir()
    line = b'{"id":"s","level":0,"source":"s","seconds":3,"seconds":2,"state":"%s"}\n'
    path.write_bytes(line % b"pending" + line % b"kept")
    with pytest.raises(pa.ArrowInvalid):
        pyarrow.json.read_json(path)
    assert check(Store(tmp_path)).sources["seconds"].to_pylist() == [2.0]


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    """A file that grows line by line, or by half a line, and files that follow."""
    events = [Event("s", "s", State.PENDING, fp="f"), *(Event("s", f"c{number}", State.KEPT, 1) for number in range(40))]
    lines = b"".join(dump(event.to_json()) + b"\n" for event in events)
    path = tmp_path / "ledger" / "000001.jsonl"
    path.parent.mkdir()
    columns = LedgerColumns(Store(tmp_path))
    assert not columns.refresh()
    with path.open("ab") as file:
        for begin in range(0, len(lines), 97):
            file.write(lines[begin : begin + 97])
            file.flush()
            assert columns.refresh()
            assert columns.table()["id"].to_pylist() == [event.id for event in read_events(Store(tmp_path))]
            assert not columns.refresh()
    reads = path.read_bytes()
    write(tmp_path, [Event("t", "t", State.PENDING)])
    assert columns.refresh() and columns.table().equals(read_columns(Store(tmp_path)))
    # What was read is not read again: damage there is not seen.
    path.write_bytes(b"x" * len(reads))
    write(tmp_path, [Event("u", "u", State.PENDING)])
    assert columns.refresh() and columns.table()["id"].to_pylist()[-2:] == ["t", "u"]


def test_a_ledger_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    store = write(tmp_path, [Event("s", "s", State.PENDING), Event("s", "s", State.KEPT)])
    columns = LedgerColumns(store)
    columns.refresh()
    shutil.rmtree(tmp_path / "ledger")
    write(tmp_path, [Event(name, name, State.PENDING) for name in "abcdef"])
    assert columns.refresh() and columns.table()["id"].to_pylist() == list("abcdef")
    (tmp_path / "ledger" / "000001.jsonl").write_bytes(b"")
    assert columns.refresh() and columns.table().num_rows == 0


def test_a_remote_ledger_is_followed_part_by_part() -> None:
    store = Store("memory://standings-test")
    try:
        columns = LedgerColumns(store)
        for number in range(70):
            with LedgerWriter(store) as ledger:
                ledger.add([Event(f"s{number}", f"s{number}", State.PENDING), Event(f"s{number}", f"s{number}", State.KEPT)])
            if number % 10 == 0:
                assert columns.refresh()
                assert work_out(columns.table()).counts["sources"] == {"kept": number + 1}
        found = check(store)
        assert found.counts["clips"] == {"kept": 70}
    finally:
        store.remove("ledger")


def test_at_once_is_much_quicker_than_source_by_source(tmp_path: Path) -> None:
    """In processor time, so that other work on the machine does not count. It is five to ten times; two are asked."""
    store = Store(tmp_path)
    with LedgerWriter(store) as ledger:
        for number in range(2500):
            name, clip = f"source-{number}", f"source-{number}_00000000_00004000"
            told = [Event(name, name, State.PENDING, fp="f" * 64)]
            told += [Event(name, name, State.PASSED, stage="cut", fp="f" * 64, children=(clip,), seconds=0.1, media_in=4.0)]
            told += [Event(name, clip, State.PASSED, 1, f"s{stage}", fp="f" * 64, seconds=0.1) for stage in range(6)]
            ledger.add([*told, Event(name, clip, State.KEPT, 1, "last", fp="f" * 64, seconds=0.1)])
    quick, slow = [], []
    for _ in range(3):
        started = time.process_time()
        found = read_standings(store)
        quick.append(time.process_time() - started)
        logs = read_ledger(store).values()
        standings = [source_standing(log) for log in logs], [item for log in logs for item in clip_standings(log)]
        slow.append(time.process_time() - started - quick[-1])
    assert found.counts["clips"] == {"kept": len(standings[1])} and min(slow) > 2 * min(quick), (quick, slow)
