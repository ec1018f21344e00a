"""The known-truth format: what is written is what is read, and nothing else is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv.errors import UsageError
from dyconv.truth import Truth, TruthFace, TruthTurn, parse_truth, read_truth, write_truth

GOOD = {
    "version": 1,
    "media": "conversation.mp4",
    "duration": 4.0,
    "layout": "cuts",
    "cuts": [1.5, 2.25],
    "people": ["a", "b"],
    "turns": [{"person": "a", "start": 0.0, "end": 3.2}, {"person": None, "start": 1.0, "end": 2.0}],
    "faces": [{"person": "a", "start": 0.0, "end": 1.5, "boxes": [[0.0, 120, 80, 310, 330], [1.0, 122, 80, 312, 330]]}],
    "voices": {"a": "a.wav", "b": "b.wav"},
}


def test_example_of_the_format_is_read() -> None:
    truth = parse_truth(GOOD)
    assert truth.people == ("a", "b") and truth.cuts == (1.5, 2.25) and truth.voices["b"] == "b.wav"
    assert truth.turns[1].person is None
    assert truth.shots() == [(0.0, 1.5), (1.5, 2.25), (2.25, 4.0)]
    assert truth.to_json() == GOOD


def test_voices_may_be_absent_or_null() -> None:
    assert parse_truth({**GOOD, "voices": None}).voices == {}
    assert parse_truth({key: value for key, value in GOOD.items() if key != "voices"}).voices == {}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"version": 2}, "version"),
        ({"version": True}, "version"),
        ({"duration": 0}, "duration"),
        ({"duration": "4"}, "duration"),
        ({"duration": float("nan")}, "duration"),
        ({"layout": "gallery"}, "layout"),
        ({"cuts": [2.0, 1.0]}, "cuts"),
        ({"cuts": [1.0, 1.0]}, "cuts"),
        ({"cuts": [4.0]}, "cuts"),
        ({"cuts": 1.0}, "cuts"),
        ({"people": ["a", "a"]}, "people"),
        ({"people": []}, "people"),
        ({"people": [1, 2]}, "people[0]"),
        ({"turns": [{"person": "a", "start": 1.0, "end": 1.0}]}, "turns[0]"),
        ({"turns": [{"person": "a", "start": 1.0}]}, "turns[0]"),
        ({"turns": [{"person": "a", "start": 1.0, "end": 9.0}]}, "turns[0]"),
        ({"turns": [{"person": "a", "start": 1.0, "end": 2.0, "text": "hm"}]}, "turns[0]"),
        ({"faces": [{"person": "c", "start": 0.0, "end": 1.0, "boxes": [[0, 0, 0, 9, 9]]}]}, "faces[0].person"),
        ({"faces": [{"person": "a", "start": 0.0, "end": 1.0, "boxes": []}]}, "faces[0].boxes"),
        ({"faces": [{"person": "a", "start": 0.0, "end": 1.0, "boxes": [[0, 9, 0, 9, 9]]}]}, "faces[0].boxes[0]"),
        ({"faces": [{"person": "a", "start": 0.0, "end": 1.0, "boxes": [[1.5, 0, 0, 9, 9]]}]}, "faces[0].boxes"),
        ({"faces": [{"person": "a", "start": 0.0, "end": 3.0, "boxes": [[0, 0, 0, 9, 9]]}]}, "faces[0].boxes"),
        ({"media": "../conversation.mp4"}, "media"),
        ({"media": "/tmp/conversation.mp4"}, "media"),
        ({"voices": {"c": "c.wav"}}, "voices"),
        ({"voices": {"a": "../a.wav"}}, "voices.a"),
        ({"extra": 1}, "extra"),
    ],
)
def test_anything_else_is_refused_and_named(change: dict, named: str) -> None:
    with pytest.raises(UsageError, match="expected") as caught:
        parse_truth({**GOOD, **change}, "here.json")
    assert named in caught.value.message and "here.json" in caught.value.message


@pytest.mark.parametrize("part", ["layout", "cuts", "turns", "faces", "voices"])
def test_a_part_may_be_unknown(part: str) -> None:
    absent = parse_truth({name: value for name, value in GOOD.items() if name != part})
    assert absent == parse_truth({**GOOD, part: None})
    assert not getattr(absent, part) and absent != parse_truth(GOOD)


def test_no_cuts_and_unknown_cuts_are_not_the_same() -> None:
    assert parse_truth({**GOOD, "cuts": []}).cuts == ()
    assert parse_truth({**GOOD, "cuts": None}).cuts is None


@pytest.mark.parametrize("field", ["version", "media", "duration", "people"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(UsageError, match=field):
        parse_truth({key: value for key, value in GOOD.items() if key != field})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no truth file"):
        read_truth(tmp_path / "truth.json")
    (tmp_path / "truth.json").write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        read_truth(tmp_path / "truth.json")
    (tmp_path / "truth.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not JSON"):
        read_truth(tmp_path / "truth.json")


def test_what_would_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_truth(tmp_path / "truth.json", Truth("c.mp4", 4.0, "side", ("a", "b"), cuts=(5.0,)))
    assert not (tmp_path / "truth.json").exists()


def test_boxes_are_interpolated_and_held() -> None:
    face = TruthFace("a", 0.0, 2.0, ((0.5, 0, 0, 10, 10), (1.5, 10, 20, 30, 40)))
    assert face.box_at(0.0) == (0, 0, 10, 10)
    assert face.box_at(1.0) == (5, 10, 20, 25)
    assert face.box_at(1.9) == (10, 20, 30, 40)


times = st.integers(0, 10_000).map(lambda value: value / 1000)


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    def span() -> tuple[float, float]:
        start, end = sorted(draw(st.lists(times, min_size=2, max_size=2, unique=True)))
        return start, end

    def face() -> TruthFace:
        start, end = span()
        steps = int((end - start) / 0.5) + 1
        corner = draw(st.tuples(*[st.integers(0, 99_999).map(lambda value: value / 100)] * 2))
        boxes = [(start + 0.5 * step, *corner, corner[0] + 7.25, corner[1] + 9.5) for step in range(steps)]
        return TruthFace(draw(st.sampled_from("ab")), start, end, tuple(box for box in boxes if box[0] < end))

    cuts = sorted(set(draw(st.lists(times.filter(lambda time: 0 < time < 10), max_size=4))))
    turns = [TruthTurn(draw(st.sampled_from(["a", "b", None, "off-screen"])), *span()) for _ in range(draw(st.integers(0, 4)))]
    faces = [face() for _ in range(draw(st.integers(0, 2)))]
    return Truth("c.mp4", 10.0, "cuts", ("a", "b"), tuple(cuts), tuple(turns), tuple(faces))


@given(truths())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, truth: Truth) -> None:
    path = tmp_path_factory.mktemp("truth") / "truth.json"
    write_truth(path, truth)
    found = read_truth(path)
    assert found.to_json() == truth.to_json()
    assert found.turns == truth.turns and found.cuts == truth.cuts
    again = path.with_name("again.json")
    write_truth(again, found)
    assert again.read_bytes() == path.read_bytes()
    assert list(json.loads(path.read_text())) == [name for name in GOOD if name != "voices"]
