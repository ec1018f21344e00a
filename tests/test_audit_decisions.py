"""Decisions of an audit: what they may be, what they come to, and that none is ever lost."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv.audit.decisions import (
    Decision,
    DecisionError,
    Fault,
    Kind,
    Mark,
    Standing,
    applied,
    base_of,
    decide,
    exchanged,
    settle,
    turns_data,
    turns_of,
)
from dyconv.audit.overlay import JSONL, PARQUET, VERSION_FILE, Annotations, Overlay, OverlayError, read_overlay, write_export
from dyconv.errors import UsageError
from dyconv.records import Clip, Key, Person, Ref, Source, Track, Turn
from dyconv.time import Span

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NASTY = "Ümlaut <script>alert(1)</script> \u202e 日本"


def make_clip(**changes: Any) -> Clip:
    """Ten seconds of two people, each seen and heard, with everything that carries a name."""
    assets = {
        key: Ref(f"work/{key}", f"{number:064x}", number + 1)
        for number, key in enumerate(sorted(Key))
        if key not in (Key.MEDIA, Key.INFO, Key.CHANNELS)
    }
    clip = Clip(
        id="talk_00000000_00010000",
        source=Source("talk", "http://127.0.0.1/talk.mp4", "CC-BY-4.0", NASTY, "de"),
        span=Span.of(0, 10),
        parent="talk",
        shots=(Span.of(0, 10),),
        layout="two-shot",
        tracks=(Track("t0", 0, 0, 250, 100.0, 1.0, "i0", "p0"), Track("t1", 0, 0, 200, 80.0, 1.0, "i1", "p1")),
        people=(Person("p0", "i0", True, True), Person("p1", "i1", True, True)),
        turns=(
            Turn("p0", Span.of(0, 4), 0.9, agreement=0.8),
            Turn("p1", Span.of("3.2", 8), 0.7),
            Turn(None, Span.of(8, 9), 0.4, unsure=True),
        ),
        measures={
            "av_offset_s": 0.01,
            "motion.encoder": "infp",
            "motion.p0.jump_share": 0.1,
            "p0.bleed_db": -30.0,
            "p1.bleed_db": -20.0,
            "p0.overlap_share": 0.2,
            "p1.overlap_share": 0.1667,
            "p0.sync_confidence": 0.9,
            "people.agreement": 0.8,
            "people.channels": "p0=0,p1=1",
            "people.overlap_share": 0.0816,
        },
        assets=assets,
    )
    return replace(clip, **changes)


def at(clip: Clip, second: float, kind: str, who: str = "ann", **data: Any) -> Decision:
    return decide(clip, who, kind, data, time=START + timedelta(seconds=second))


def turn(person: str | None, start: float, end: float) -> dict[str, Any]:
    return {"person": person, "start_s": start, "end_s": end}


CLIP = make_clip()
BASE = base_of(CLIP)


@pytest.mark.parametrize(
    ("kind", "data", "told"),
    [
        ("like", {}, "one of accept"),
        ("reject", {}, "field 'reason'"),
        ("reject", {"reason": "ugly"}, "one of speaker"),
        ("reject", {"reason": "bleed", "extra": 1}, "no fields but"),
        ("swap", {"what": "heads"}, "people, voices"),
        ("mark", {"what": "bleed", "person": "p2"}, "p0, p1 or null"),
        ("mark", {"what": "bleed", "at_s": 10.5}, "clip's end"),
        ("mark", {"what": "bleed", "at_s": float("nan")}, "a number of seconds"),
        ("mark", {"what": "bleed", "at_s": True}, "a number of seconds"),
        ("takedown", {"why": "  "}, "characters of text"),
        ("takedown", {"why": "\x00"}, "control characters"),
        ("takedown", {"why": "\ud800"}, "control characters"),
        ("undo", {"decision": "x"}, "id of a decision"),
        ("turns", {"turns": "p0 0 1"}, "a list"),
        ("turns", {"turns": [turn("p0", 2, 1)]}, "an end after its start"),
        ("turns", {"turns": [turn("p0", 1, 10.1)]}, r"turns\[0\].end_s.*10\.1"),
        ("turns", {"turns": [turn("p0", -1, 2)]}, "seconds from 0"),
        ("turns", {"turns": [turn("p0", 0, 2), turn("p1", 1, 3), turn("p0", 1.5, 3)]}, "do not overlap"),
        ("turns", {"turns": [{**turn("p0", 0, 1), "unsure": True}]}, "person is null"),
    ],
)
def test_what_is_no_decision_is_refused(kind: str, data: dict[str, Any], told: str) -> None:
    with pytest.raises(DecisionError, match=told):
        decide(CLIP, "ann", kind, data)


@pytest.mark.parametrize("field", ["id", "clip", "base", "reviewer", "time", "tool", "round", "kind", "data"])
@pytest.mark.parametrize("value", [None, 3.5, "", "../x", ["a"], {"a": 1}, "x" * 500])
def test_no_field_takes_just_anything(field: str, value: Any) -> None:
    good = at(CLIP, 0, "mark", what="bleed").to_json()
    if (field == "reviewer" and value == "../x") or (field == "tool" and value == "../x"):
        return  # names are only ever shown
    with pytest.raises(DecisionError, match=field):
        Decision.from_json({**good, field: value})


def test_a_decision_survives_json() -> None:
    made = decide(CLIP, NASTY, Kind.TURNS, {"turns": [turn("p1", 1.23449, 2), turn(None, 0, 1)], "note": NASTY}, round=2)
    again = Decision.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    assert [item["start_s"] for item in again.data["turns"]] == [0.0, 1.234]


def test_the_latest_of_a_kind_wins_and_marks_add_up() -> None:
    decisions = [
        at(CLIP, 1, "accept"),
        at(CLIP, 2, "reject", "bob", reason="sync"),
        at(CLIP, 3, "turns", turns=[turn("p0", 0, 1)]),
        at(CLIP, 4, "turns", "bob", turns=[turn("p1", 0, 1)]),
        at(CLIP, 5, "mark", what="bleed", person="p0", at_s=3.0),
        at(CLIP, 6, "mark", "bob", what="bleed", person="p0", at_s=3.0),
        at(CLIP, 7, "mark", what="cut", at_s=9.5),
    ]
    for order in itertools.islice(itertools.permutations(decisions), 0, 5040, 97):
        verdict = settle(order, BASE)
        assert (verdict.state, verdict.reason) == (Standing.REJECTED, "sync")
        assert verdict.turns == (Turn("p1", Span.of(0, 1), 1.0),)
        assert verdict.marks == (Mark(Fault.BLEED, "p0", 3.0), Mark(Fault.CUT, None, 9.5))
        assert verdict.reviewers == ("ann", "bob")
        assert verdict.left_out


def test_undo_takes_back_and_can_be_taken_back() -> None:
    first, second = at(CLIP, 1, "accept"), at(CLIP, 2, "reject", reason="noise")
    undo = at(CLIP, 3, "undo", decision=second.id)
    redo = at(CLIP, 4, "undo", decision=undo.id)
    assert settle([first, second, undo], BASE).state is Standing.ACCEPTED
    assert settle([first, second, undo, redo], BASE).state is Standing.REJECTED
    assert settle([first, second, undo, redo, at(CLIP, 5, "undo", decision=redo.id)], BASE).state is Standing.ACCEPTED
    assert settle([undo], BASE) == settle([], BASE)  # of a decision that is not here
    assert settle([], BASE).state is Standing.OPEN


def test_a_thousand_undos_and_rings_of_them_end() -> None:
    chain = [at(CLIP, 0, "accept")]
    for second in range(1, 3001):
        chain.append(at(CLIP, second, "undo", decision=chain[-1].id))
    assert settle(chain, BASE).state is Standing.ACCEPTED
    assert settle(chain[:-1], BASE).state is Standing.OPEN
    one, two = at(CLIP, 1, "undo", decision="0" * 32), at(CLIP, 2, "undo", decision="0" * 32)
    ring = [replace(one, data={"decision": two.id}), replace(two, data={"decision": one.id})]
    assert settle([chain[0], *ring], BASE).state is Standing.ACCEPTED


def test_a_takedown_holds_until_it_is_itself_undone() -> None:
    down = at(CLIP, 1, "takedown", why="she asked")
    later = [down, at(CLIP, 2, "accept"), at(CLIP, 3, "reject", reason="other"), at(CLIP, 4, "accept")]
    assert settle(later, BASE).state is Standing.TAKEN_DOWN
    assert settle(later, "0" * 64).state is Standing.TAKEN_DOWN  # whatever became of the record
    assert settle([*later, at(CLIP, 5, "undo", decision=down.id)], BASE).state is Standing.ACCEPTED


def test_what_was_said_of_an_earlier_record_is_stale() -> None:
    old = make_clip(turns=())
    said = [at(old, 1, "reject", reason="turns"), at(old, 2, "turns", turns=[turn("p0", 0, 1)])]
    verdict = settle(said, BASE)
    assert verdict.stale == tuple(decision.id for decision in said)
    assert verdict.state is Standing.OPEN and verdict.turns is None
    assert applied(CLIP, verdict) == CLIP
    assert settle([*said, at(CLIP, 3, "accept")], BASE).state is Standing.ACCEPTED
    assert settle(said).stale == ()


def test_the_base_is_of_what_is_judged() -> None:
    from dyconv.shards.packing import record_of

    assert base_of(record_of(CLIP, [Key.VIDEO])) == BASE
    assert base_of(CLIP.measured(motion__encoder="other")) == BASE
    assert base_of(CLIP.measured(p0__bleed_db=-29.0)) != BASE
    assert base_of(make_clip(turns=CLIP.turns[:1])) != BASE


def test_people_swapped_is_the_same_clip_by_other_names() -> None:
    verdict = settle([at(CLIP, 1, "swap"), at(CLIP, 2, "accept")], BASE)
    found = applied(CLIP, verdict)
    assert found is not None
    assert [(track.id, track.person) for track in found.tracks] == [("t0", "p1"), ("t1", "p0")]
    assert [(person.id, person.identity) for person in found.people] == [("p0", "i1"), ("p1", "i0")]
    assert [turn.person for turn in found.turns] == ["p1", "p0", None]
    assert found.turns[0].agreement == 0.8
    assert found.assets[Key.P0_VOICE] == CLIP.assets[Key.P1_VOICE]
    assert found.assets[Key.P1_FACE] == CLIP.assets[Key.P0_FACE]
    assert found.assets[Key.P1_MOTION] == CLIP.assets[Key.P0_MOTION]
    assert found.assets[Key.VIDEO] == CLIP.assets[Key.VIDEO]
    assert Key.SPEECH not in found.assets and Key.ENROLMENT not in found.assets
    assert (found.measures["p0.bleed_db"], found.measures["p1.bleed_db"]) == (-20.0, -30.0)
    assert found.measures["motion.p1.jump_share"] == 0.1 and "motion.p0.jump_share" not in found.measures
    assert found.measures["people.channels"] == "p0=1,p1=0"
    assert (found.measures["audit.state"], found.measures["audit.swapped"]) == ("accepted", "people")
    bare = replace(found, measures={name: value for name, value in found.measures.items() if not name.startswith("audit.")})
    twice = applied(bare, replace(verdict))
    assert twice is not None and replace(twice, assets={}, measures={}) == replace(CLIP, assets={}, measures={})
    assert Clip.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_voices_swapped_leaves_faces_where_they_are() -> None:
    silent = make_clip(turns=CLIP.turns[:1], people=(CLIP.people[0], replace(CLIP.people[1], heard=False)))
    found = applied(silent, settle([at(silent, 1, "swap", what="voices")], base_of(silent)))
    assert found is not None
    assert found.tracks == silent.tracks
    assert [(person.identity, person.seen, person.heard) for person in found.people] == [
        ("i0", True, False),
        ("i1", True, True),
    ]
    assert found.turns == (Turn("p1", Span.of(0, 4), 1.0),)
    assert found.assets[Key.P0_VOICE] == CLIP.assets[Key.P1_VOICE]
    assert found.assets[Key.P0_FACE] == CLIP.assets[Key.P0_FACE]
    assert found.assets[Key.P0_MOTION] == CLIP.assets[Key.P0_MOTION]
    assert found.measures["p0.bleed_db"] == -20.0 and found.measures["motion.p0.jump_share"] == 0.1
    assert found.measures["people.channels"] == "p0=1,p1=0"
    assert not {"p0.sync_confidence", "p1.sync_confidence", "people.agreement"} & found.measures.keys()


def test_turns_replace_turns_and_are_in_the_names_of_the_record() -> None:
    right = [turn("p0", 0, 2), turn("p1", 1, 9.9996), turn(None, 9, 9.5)]
    found = applied(CLIP, settle([at(CLIP, 1, "turns", turns=right)], BASE))
    assert found is not None
    assert found.turns == (Turn("p0", Span.of(0, 2), 1.0), Turn("p1", Span.of(1, 10), 1.0), Turn(None, Span.of(9, "9.5"), 1.0))
    assert found.measures["audit.turns"] == "corrected" and found.measures["audit.state"] == "open"
    assert found.measures["p0.overlap_share"] == 0.5 and found.measures["people.overlap_share"] == pytest.approx(
        1 / 11.5, abs=1e-4
    )
    both = applied(CLIP, settle([at(CLIP, 1, "turns", turns=right), at(CLIP, 2, "swap")], BASE))
    assert both is not None and both.turns == exchanged(found.turns)
    none = applied(CLIP, settle([at(CLIP, 1, "turns", turns=[])], BASE))
    assert none is not None and none.turns == () and not any(person.heard for person in none.people)
    assert none.measures["p0.overlap_share"] == 0.0


def test_left_out_and_untouched_clips() -> None:
    assert applied(CLIP, settle([at(CLIP, 1, "reject", reason="cut")], BASE)) is None
    assert applied(CLIP, settle([at(CLIP, 1, "takedown", why="asked")], BASE)) is None
    assert applied(CLIP, settle([], BASE)) is CLIP


@given(st.lists(st.tuples(st.integers(0, 9_000), st.integers(1, 1000)), max_size=8))
def test_turns_as_data_keep_every_millisecond(pairs: list[tuple[int, int]]) -> None:
    turns = [turn(None, start / 1000, (start + length) / 1000) for start, length in pairs]
    data = at(CLIP, 1, "turns", turns=turns).data["turns"]
    assert turns_data(turns_of(data)) == data
    assert all((t.span.start * 1000).denominator == 1 for t in turns_of(data))


def lot(count: int, who: str = "ann") -> list[Decision]:
    return [at(CLIP, number, "mark", who, what="bleed", at_s=number % 9, note=NASTY) for number in range(count)]


def test_an_overlay_gives_back_what_was_added(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path / "new" / "overlay.sqlite")
    decisions = lot(20)
    assert overlay.add(*decisions[10:]) == 10
    assert overlay.add(*decisions) == 10
    assert overlay.add(*decisions) == 0
    assert overlay.all() == decisions == Overlay(overlay.path).of(CLIP.id)
    assert overlay.of("another") == []
    assert overlay.verdict(CLIP.id, BASE).marks == settle(decisions, BASE).marks
    assert overlay.verdicts({CLIP.id: "0" * 64})[CLIP.id].stale
    new, seq = overlay.after(0)
    assert [item.id for item in new[:10]] == [item.id for item in decisions[10:]]
    assert overlay.after(seq) == ([], seq)


def test_nothing_in_an_overlay_changes(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path / "overlay.sqlite")
    first = lot(1)[0]
    overlay.add(first)
    with pytest.raises(DecisionError, match="other contents"):
        overlay.add(lot(2)[1], replace(first, reviewer="mallory"))
    assert overlay.all() == [first]  # all or none
    for statement in ("DELETE FROM decisions", "UPDATE decisions SET json = '{}'"):
        with sqlite3.connect(overlay.path) as connection, pytest.raises(sqlite3.IntegrityError, match="never"):
            connection.execute(statement)
    assert overlay.all() == [first]


def test_several_reviewers_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "overlay.sqlite"
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from tests.test_audit_decisions import CLIP, decide
        from dyconv.audit.overlay import Overlay
        for number in range(25):
            Overlay(Path(sys.argv[1])).add(decide(CLIP, sys.argv[2], "mark", {"what": "cut", "at_s": number % 9}))
        """
    )
    root = Path(__file__).parent.parent
    running = [subprocess.Popen([sys.executable, "-c", program, str(path), f"r{n}"], cwd=root) for n in range(4)]
    assert [process.wait(120) for process in running] == [0] * 4
    assert len(Overlay(path).all()) == 100
    assert Overlay(path).verdict(CLIP.id).reviewers == ("r0", "r1", "r2", "r3")


def test_export_and_import_are_equal_and_merging_loses_nothing(tmp_path: Path) -> None:
    one, two = Overlay(tmp_path / "one.sqlite"), Overlay(tmp_path / "two.sqlite")
    common, own, other = lot(3), lot(5, "bob"), lot(4, "eve")
    one.add(*common, *own)
    two.add(*other, *common)
    folder = one.export(tmp_path / "annotations" / "first")
    read = read_overlay(folder)
    assert list(read.decisions) == one.all()
    for path in (folder / JSONL, folder / PARQUET, one.path):
        assert read_overlay(path) == read
    assert two.merge(read) == 5
    one.merge(two.annotations())
    assert one.all() == two.all() and len(one.all()) == 12
    assert one.annotations().version == two.annotations().version
    again = two.export(tmp_path / "again")
    one.export(folder)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(UsageError, match="4 decisions that this overlay does not have"):
        write_export(Annotations.gathered(common, own), folder)


def test_an_edited_or_cut_off_export_is_told(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path / "o.sqlite")
    overlay.add(*lot(3))
    folder = overlay.export(tmp_path / "out")
    lines = (folder / JSONL).read_bytes()
    (folder / JSONL).write_bytes(lines.replace(b'"ann"', b'"eve"', 1))
    with pytest.raises(UsageError, match=f"{JSONL} is not the file"):
        read_overlay(folder)
    assert read_overlay(folder / JSONL).decisions[0].reviewer == "eve"  # by itself a file of lines is taken as it is
    with pytest.raises(DecisionError, match="twice, with different contents"):
        Annotations.gathered(overlay.all(), read_overlay(folder / JSONL).decisions)
    (folder / JSONL).write_bytes(lines[:-30])
    with pytest.raises(DecisionError, match="line 3 is not JSON"):
        read_overlay(folder / JSONL)
    (folder / PARQUET).write_bytes((folder / PARQUET).read_bytes()[:100])
    with pytest.raises(UsageError, match="not readable as Parquet"):
        read_overlay(folder / PARQUET)
    (folder / VERSION_FILE).write_text('{"schema": 99}')
    with pytest.raises(UsageError, match="schema 99"):
        read_overlay(folder)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"id": NaN}', "NaN is no number"),
        (b'{"id": 1, "id": 2}', "a field twice"),
        (b"\xff\xfe{}", "expected UTF-8"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "expected an object"),
        (b'{"id": "x"}', "the field 'clip'"),
    ],
)
def test_hostile_lines_are_clear_errors(tmp_path: Path, line: bytes, told: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n" + line + b"\n")
    with pytest.raises(DecisionError, match=told) as error:
        read_overlay(path)
    assert "line 2" in str(error.value)


def test_files_that_are_no_overlay(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no overlay at"):
        read_overlay(tmp_path / "absent")
    with pytest.raises(UsageError, match="no export"):
        read_overlay(tmp_path)
    (tmp_path / "text.sqlite").write_text("this is a text of some length, and surely no database " * 40)
    with pytest.raises(OverlayError, match="not a database"):
        Overlay(tmp_path / "text.sqlite")
    with sqlite3.connect(tmp_path / "other.sqlite") as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    with pytest.raises(OverlayError, match="another program"):
        Overlay(tmp_path / "other.sqlite")
    later = Overlay(tmp_path / "later.sqlite")
    with sqlite3.connect(later.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match="schema 99"):
        Overlay(later.path)


def test_a_full_disk_loses_nothing_that_was_added(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path / "o.sqlite")
    overlay.add(*lot(3))
    program = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        from tests.test_audit_decisions import lot
        from dyconv.audit.overlay import Overlay, OverlayError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        overlay = Overlay(Path(sys.argv[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        try:
            overlay.add(*lot(2000, "bob"))
        except OverlayError:
            sys.exit(7)
        """
    )
    root = Path(__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", program, str(overlay.path)], cwd=root, timeout=120).returncode == 7
    assert len(overlay.all()) == 3
    assert overlay.add(*lot(2000, "bob")) == 2000


def test_any_order_and_any_split_gives_one_version(tmp_path: Path) -> None:
    decisions = lot(30)
    random.Random(1).shuffle(decisions)
    whole = Annotations.gathered(decisions)
    assert Annotations.gathered(decisions[:10], decisions[5:]).version == whole.version
    assert [item.time for item in whole.decisions] == sorted(item.time for item in decisions)
