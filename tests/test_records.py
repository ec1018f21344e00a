"""A record survives the trip to JSON and back, stays small, and never carries an unsafe name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv.records import PERSONS, Clip, Key, Person, Ref, Source, Track, Turn, child_id, dump, source_clip
from dyconv.time import Span

ids = st.text("abcXYZ019_-", min_size=1, max_size=40)
spans = st.tuples(st.fractions(0, 1000, max_denominator=1000), st.fractions(0, 1000, max_denominator=1000)).map(
    lambda pair: Span(min(pair), max(pair))
)
persons = st.sampled_from([*PERSONS, None])
texts = st.text(max_size=30)
clips = st.builds(
    Clip,
    id=ids,
    source=st.builds(Source, id=ids, url=texts, licence=st.none() | texts, title=st.none() | texts),
    span=spans,
    parent=st.none() | ids,
    shots=st.lists(spans, max_size=4).map(tuple),
    layout=st.sampled_from([None, "two-shot", "split", "pip", "alternating", "single"]),
    tracks=st.lists(
        st.builds(
            Track, id=ids, shot=st.integers(0, 9), start=st.integers(0, 99), end=st.integers(0, 99),
            width=st.floats(0, 999), coverage=st.floats(0, 1), identity=st.none() | ids, person=persons,
        ),
        max_size=3,
    ).map(tuple),
    people=st.lists(
        st.builds(Person, id=st.sampled_from(PERSONS), identity=st.none() | ids, seen=st.booleans(), heard=st.booleans()),
        max_size=2,
    ).map(tuple),
    turns=st.lists(
        st.builds(
            Turn, person=persons, span=spans, confidence=st.floats(0, 1).map(lambda x: round(x, 4)), unsure=st.booleans()
        ),
        max_size=4,
    ).map(tuple),
    measures=st.dictionaries(texts, st.none() | st.floats(-10, 10) | texts, max_size=4),
    assets=st.dictionaries(
        st.sampled_from(list(Key)), st.builds(Ref, path=texts, sha256=texts, size=st.integers(0, 10**12)), max_size=4
    ),
)  # fmt: skip


@given(clips)
def test_a_record_comes_back_from_json(clip):
    data = dump(clip.to_json())
    assert Clip.from_json(json.loads(data)) == clip
    assert dump(Clip.from_json(json.loads(data)).to_json()) == data


@pytest.mark.parametrize("bad", ["", "../up", "a/b", "a.b", "a b", "x" * 97, "nul\0", "é", None, 7])
def test_unsafe_ids_are_refused(bad):
    with pytest.raises(ValueError, match="must be 1 to 96"):
        Source(id=bad, url="https://example.org/a.mp4")


def test_children_are_named_by_what_they_are():
    source = Source(id="talk", url="https://example.org/a.mp4")
    whole = source_clip(source)
    child = whole.child(Span.of("9.2", "18.2"))
    assert child.id == child_id("talk", Span.of("9.2", "18.2")) == "talk_00009200_00018200"
    assert child.parent == "talk" and not child.assets


def test_key_of_a_person():
    assert Key.of("p1", "voice") is Key.P1_VOICE
    assert all("/" not in key and ".." not in key for key in Key)


def test_nan_never_gets_into_a_record():
    clip = source_clip(Source(id="a", url="u")).measured(av_offset_s=float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump(clip.to_json())


def test_a_long_clip_stays_small():
    turns = tuple(Turn("p0", Span.of(i, i + 1), 0.9) for i in range(40))
    clip = Clip(id="a", source=Source(id="a", url="https://example.org/a.mp4"), span=Span.of(0, 60), turns=turns)
    assert len(dump(clip.to_json())) < 8_000
