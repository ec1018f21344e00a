"""RTTM, ELAN and Label Studio: what goes out comes back, to the millisecond; what is hostile is told."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyannote.core import Annotation, Segment
from pyannote.database.util import load_rttm

from dyconv.audit.checks import Fault
from dyconv.audit.decisions import base_of, settle
from dyconv.audit.interchange import Labels, eaf, label_studio, rttm
from dyconv.audit.interchange.common import InterchangeError, labels_of
from dyconv.audit.interchange.taking import Taken, take
from dyconv.audit.overlay import Annotations
from dyconv.errors import UsageError
from dyconv.records import Turn
from dyconv.time import Span
from tests.test_audit_decisions import BASE, CLIP, at, make_clip, turn


@st.composite
def label_sets(draw: Any) -> Labels:
    """Any turns that a decision may have: whole milliseconds, p0's and p1's each apart."""
    turns = []
    for person in ("p0", "p1"):
        edges = sorted(draw(st.sets(st.integers(0, 9_999_999), max_size=12)))
        for start, end in zip(edges[::2], edges[1::2], strict=False):
            turns.append({"person": person, "start_s": start / 1000, "end_s": end / 1000, "unsure": False})
    for start, length, unsure in draw(
        st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**5), st.booleans()), max_size=4)
    ):
        turns.append({"person": None, "start_s": start / 1000, "end_s": (start + length) / 1000, "unsure": unsure})
    unique = {json.dumps(item, sort_keys=True): item for item in turns}.values()
    ordered = sorted(unique, key=lambda item: (item["start_s"], item["end_s"], str(item["person"])))
    return Labels("talk_1", tuple(ordered), draw(st.sampled_from([BASE, None])))


def same(one: Labels, two: Labels) -> bool:
    key = lambda item: (item["start_s"], item["end_s"], str(item["person"]), item["unsure"])  # noqa: E731
    return (one.clip, one.base, sorted(one.turns or (), key=key)) == (two.clip, two.base, sorted(two.turns or (), key=key))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(labels=label_sets())
def test_every_millisecond_comes_back(tmp_path: Path, labels: Labels) -> None:
    assert same(rttm.read(rttm.write([labels], tmp_path / "x.rttm"))[0], labels)
    assert same(eaf.read(eaf.write(labels, tmp_path / "x.eaf")), labels)
    assert same(label_studio.read(label_studio.write([labels], tmp_path / "x.json"))[0], labels)


def test_files_are_the_same_every_time_and_hold_several_clips(tmp_path: Path) -> None:
    many = [Labels(f"c{n}", (turn_of("p0", n, n + 1),), BASE) for n in range(3)] + [Labels("silent", (), BASE)]
    for module, name in ((rttm, "all.rttm"), (label_studio, "all.json")):
        first = module.write(many, tmp_path / name).read_bytes()
        assert module.write(many, tmp_path / name).read_bytes() == first
        assert [label.clip for label in module.read(tmp_path / name)] == ["c0", "c1", "c2", "silent"]
        assert module.read(tmp_path / name)[3].turns == ()
    first = eaf.write(many[0], tmp_path / "c0.eaf").read_bytes()
    assert eaf.write(many[0], tmp_path / "c0.eaf").read_bytes() == first


def turn_of(person: str | None, start: float, end: float, unsure: bool = False) -> dict[str, Any]:
    return {"person": person, "start_s": start, "end_s": end, "unsure": unsure}


def test_pyannote_reads_our_rttm_and_we_read_theirs(tmp_path: Path) -> None:
    labels = Labels("talk_1", (turn_of("p0", 0.04, 1.2), turn_of("p1", 1, 7.333), turn_of(None, 8, 9)), BASE)
    found = load_rttm(rttm.write([labels], tmp_path / "a.rttm"))["talk_1"]
    assert [(s.start, round(s.end, 9), name) for s, _, name in found.itertracks(yield_label=True)] == [
        (0.04, 1.2, "p0"), (1.0, 7.333, "p1"), (8.0, 9.0, "nobody"),
    ]  # fmt: skip
    theirs = Annotation(uri="talk_1")
    theirs[Segment(0.5, 2.25), 0], theirs[Segment(2, 3.125), 1] = "Anna", "Ben"
    with (tmp_path / "b.rttm").open("w") as file:
        theirs.write_rttm(file)
    read = rttm.read(tmp_path / "b.rttm", {"Anna": "p1", "Ben": "p0"})
    assert read == [Labels("talk_1", (turn_of("p1", 0.5, 2.25), turn_of("p0", 2.0, 3.125)))]
    with pytest.raises(InterchangeError, match=r"line 1.*'Anna'") as error:
        rttm.read(tmp_path / "b.rttm")
    assert "--speaker" in str(error.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"SPEAKER talk 1 0 1 <NA> <NA> p0 <NA>\nSPEAKER talk 1 zero 1 <NA> <NA> p0 <NA>", r"line 2, start"),
        (b"SPEAKER talk 1 -1 1 <NA> <NA> p0 <NA> <NA>", "seconds from 0"),
        (b"SPEAKER talk 1 nan 1 <NA> <NA> p0 <NA> <NA>", "seconds from 0"),
        (b"SPEAKER talk 1 1_0 1 <NA> <NA> p0 <NA> <NA>", "seconds from 0"),
        (b"SPEAKER talk 1 0 1e300 <NA> <NA> p0 <NA> <NA>", "seconds from 0"),
        (b"SPEAKER ../../etc 1 0 1 <NA> <NA> p0 <NA> <NA>", "clip id"),
        (b"SPEAKER talk 1 0 2 <NA> <NA> p0 <NA>\nSPEAKER talk 1 1 2 <NA> <NA> p0 <NA>", "do not overlap"),
        (b"p0 0 1", "is it RTTM"),
        (b"SPKR-INFO talk 1 <NA> <NA> <NA> unknown p0 <NA> base:123", "sha256"),
        ("SPEAKER talk 1 0 1 <NA> <NA> pü <NA>".encode("latin-1"), "expected UTF-8, found other bytes at 30"),
        (b"\x00\x01\x02", "is it RTTM"),
        (random.Random(5).randbytes(64) + b"\xff", "."),
    ],
)
def test_bad_rttm(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "x.rttm").write_bytes(content)
    with pytest.raises(UsageError, match=told):
        rttm.read(tmp_path / "x.rttm")


def test_rttm_of_others_in_all_its_variety(tmp_path: Path) -> None:
    text = "\ufeff;; a comment\r\nSPKR-INFO talk 1 <NA> <NA> <NA> unknown p0 <NA>\r\n\r\n"
    text += "SPEAKER talk 1 0.0004 1.5 <NA> <NA> p0 <NA>\r\nSPEAKER talk 1 3 0 <NA> <NA> p1 <NA> <NA>\r\n"
    (tmp_path / "x.rttm").write_text(text, encoding="utf-8", newline="")
    assert rttm.read(tmp_path / "x.rttm") == [Labels("talk", (turn_of("p0", 0.0, 1.5),))]


EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-01-01T00:00:00+01:00" FORMAT="3.0" VERSION="3.0">
 <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"><PROPERTY NAME="lastUsedAnnotationId">2</PROPERTY></HEADER>
 <TIME_ORDER>
  <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="40"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="1500"/>
  <TIME_SLOT TIME_SLOT_ID="ts3"/>
 </TIME_ORDER>
 <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="Änna"><ANNOTATION>
  <ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>ja &lt;b&gt;
  </ANNOTATION_VALUE>
  </ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
 <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="notes"><ANNOTATION>
  <REF_ANNOTATION ANNOTATION_ID="a2" ANNOTATION_REF="a1"><ANNOTATION_VALUE>x</ANNOTATION_VALUE></REF_ANNOTATION>
 </ANNOTATION></TIER>
 <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""


def test_an_eaf_that_people_made(tmp_path: Path) -> None:
    path = tmp_path / "talk_1.eaf"
    path.write_text(EAF, encoding="utf-8")
    assert eaf.read(path, {"Änna": "p1"}) == Labels("talk_1", (turn_of("p1", 0.04, 1.5),))
    path.write_bytes(EAF.replace("UTF-8", "UTF-16").encode("utf-16"))
    assert eaf.read(path, {"Änna": "p1"}).turns == (turn_of("p1", 0.04, 1.5),)


BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>'


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (BOMB, "document type or entities"),
        (OUTSIDE, "document type or entities"),
        ('<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><x/>', "document type or entities"),
        ("<a>" * 100_000, "deeper than 32"),
        ("<a>&b;</a>", "not readable as XML"),
        (EAF.encode()[:700], "not readable as XML"),
        (EAF.encode("latin-1"), "not readable as XML"),
        (EAF.replace("UTF-8", "x-unknown"), "not readable as XML"),
        ("<html/>", "expected an ANNOTATION_DOCUMENT"),
        ("", "not readable as XML"),
        (EAF, "no tier is p0 or p1 .tiers: 'Änna', 'notes'"),
        (EAF.replace("Änna", "p0").replace("milliseconds", "NTSC-frames"), "expected times in milliseconds"),
        (EAF.replace("Änna", "p0").replace('REF2="ts2"', 'REF2="ts3"'), "annotation a1: it has no time"),
        (EAF.replace("notes", "p0"), "annotation a2: it has no time"),
        (EAF.replace("Änna", "p0").replace('"40"', '"-40"'), "expected times in milliseconds"),
        (EAF.replace("Änna", "p0").replace('"40"', '"1600"'), "an end after its start"),
        (EAF.replace("Änna", "p0").replace("lastUsedAnnotationId", "dyconv.clip").replace(">2<", ">../x<"), "clip id"),
    ],
)
def test_bad_eaf(tmp_path: Path, content: str | bytes, told: str) -> None:
    path = tmp_path / "talk_1.eaf"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=told):
        eaf.read(path)


def annotated(**changes: Any) -> list[dict[str, Any]]:
    """Two people's work on one task, as Label Studio exports it."""
    region = {"id": "r1", "from_name": "turns", "to_name": "audio", "type": "labels", "original_length": 10.0}
    region["value"] = {"start": 0.12345, "end": 2, "channel": 0, "labels": ["p1"]}
    verdict = {"id": "r2", "from_name": "verdict", "to_name": "audio", "type": "choices", "value": {"choices": ["reject"]}}
    reason = {**verdict, "id": "r3", "from_name": "reason", "value": {"choices": ["bleed"]}}
    first = {"id": 1, "completed_by": 7, "updated_at": "2026-02-01T10:00:00.5Z", "was_cancelled": False}
    second = {"id": 2, "completed_by": {"id": 8, "email": "eve@x.org"}, "updated_at": "2026-01-01T10:00:00+02:00"}
    task = {"id": 5, "data": {"clip": CLIP.id, "base": BASE, "audio": "x"}, "annotations": []}
    task["annotations"] = [{**first, "result": [region, verdict, reason]}, {**second, "result": []}]
    task["annotations"].append({**first, "was_cancelled": True, "result": "nothing"})
    task["predictions"] = [{"result": [region]}]
    return [{**task, **changes}]


def test_reviews_of_label_studio(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(annotated()))
    second, first = label_studio.read(tmp_path / "x.json")
    assert first == Labels(
        CLIP.id, (turn_of("p1", 0.123, 2.0),), BASE, "reject", "bleed", "Label Studio user 7", "2026-02-01T10:00:00.500000Z"
    )
    assert (second.reviewer, second.time, second.turns, second.verdict) == (
        "eve@x.org",
        "2026-01-01T08:00:00.000000Z",
        (),
        None,
    )


def spoiled(*path: Any, value: Any) -> bytes:
    tasks = annotated()
    spot: Any = tasks
    for part in path[:-1]:
        spot = spot[part]
    spot[path[-1]] = value
    return json.dumps(tasks).encode()


FIRST_REGION = (0, "annotations", 0, "result", 0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{}", "a list of tasks"),
        (b"[1]", "task 0: expected an object"),
        (b"\xff\xfe[]", "expected UTF-8"),
        (b"[" * 99_999, "not JSON"),
        (json.dumps(annotated()).encode()[:-9], "not JSON"),
        (spoiled(0, "data", value={"audio": "x"}), "clip id"),
        (spoiled(0, "data", value={"clip": "../x"}), "clip id"),
        (spoiled(0, "annotations", 0, "result", value=None), r"result: expected a list"),
        (spoiled(*FIRST_REGION, "value", "start", value="0"), "seconds from 0"),
        (spoiled(*FIRST_REGION, "value", "end", value=0.1), "an end after its start"),
        (spoiled(*FIRST_REGION, "value", "labels", value=["p0", "p1"]), "a list of one name"),
        (spoiled(*FIRST_REGION, "value", "labels", value=["Anna"]), "who the speaker 'Anna' is"),
        (spoiled(0, "annotations", 0, "result", 1, "value", value={"choices": ["maybe"]}), "accept or reject"),
        (spoiled(0, "annotations", 0, "result", 2, "value", value={"choices": ["ugly"]}), "one of speaker"),
        (spoiled(0, "annotations", 0, "updated_at", value="yesterday"), "an ISO time"),
        (spoiled(0, "annotations", 0, "completed_by", value="\x00"), "control characters"),
        (json.dumps(annotated()).replace("0.12345", "NaN").encode(), "NaN is no number"),
    ],
)
def test_bad_label_studio(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UsageError, match=told):
        label_studio.read(tmp_path / "x.json")


def test_the_labelling_interface_has_every_name() -> None:
    root = eaf.parse(label_studio.CONFIG.encode(), "config")
    assert [item.get("value") for item in root.iter("Label")] == ["p0", "p1", "nobody", "unsure"]
    assert {item.get("value") for item in root.iter("Choice")} == {"accept", "reject", *Fault}


def test_huge_and_missing_files(tmp_path: Path) -> None:
    with (tmp_path / "huge.eaf").open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(InterchangeError, match="at most"):
        eaf.read(tmp_path / "huge.eaf")
    for read in (rttm.read, eaf.read, label_studio.read):
        with pytest.raises(UsageError, match="no file at"):
            read(tmp_path / "absent")
        with pytest.raises(UsageError, match="no file at"):
            read(tmp_path)


def taken(labels: list[Labels], said: list[Any] | None = None) -> Taken:
    return take(labels, {CLIP.id: CLIP}, Annotations.gathered(said or []), "ann", "ELAN")


def test_what_comes_back_unchanged_decides_nothing(tmp_path: Path) -> None:
    labels = labels_of(CLIP, settle([], BASE))
    for back in (
        rttm.read(rttm.write([labels], tmp_path / "x.rttm")),
        [eaf.read(eaf.write(labels, tmp_path / "x.eaf"))],
        label_studio.read(label_studio.write([labels], tmp_path / "x.json")),
    ):
        assert taken(back).decisions == [] and taken(back).unchanged == [CLIP.id]


def test_what_comes_back_changed_is_a_decision_once(tmp_path: Path) -> None:
    moved = Labels(CLIP.id, (turn_of("p0", 0, 4.2), turn_of("p1", 4.2, 8)), BASE)
    found = taken([moved])
    assert settle(found.decisions, BASE).turns == (Turn("p0", Span.of(0, "4.2"), 1.0), Turn("p1", Span.of("4.2", 8), 1.0))
    assert (found.decisions[0].reviewer, found.decisions[0].tool) == ("ann", "ELAN")
    assert taken([moved], found.decisions).decisions == []
    (tmp_path / "x.json").write_text(json.dumps(annotated()))
    reviews = label_studio.read(tmp_path / "x.json")
    found = taken(reviews)
    assert [(d.reviewer, str(d.kind)) for d in found.decisions] == [
        ("eve@x.org", "turns"), ("Label Studio user 7", "turns"), ("Label Studio user 7", "reject"),
    ]  # fmt: skip
    assert settle(found.decisions, BASE).reason == "bleed"
    assert taken(reviews, found.decisions).decisions == []


def test_labels_of_another_record_are_kept_and_do_not_count() -> None:
    old = make_clip(layout="pip")
    found = taken([Labels(CLIP.id, (), base_of(old)), Labels("left_1", ()), Labels(CLIP.id, (), BASE, "accept")])
    assert (found.stale, found.unknown) == ([CLIP.id], ["left_1"])
    assert [d.base == BASE for d in found.decisions] == [False, True, True]
    assert settle(found.decisions[:1], BASE).turns is None
    with pytest.raises(InterchangeError, match="clip's end"):
        taken([Labels(CLIP.id, (turn_of("p0", 0, 11),), BASE)])


def test_labels_are_in_the_names_of_the_record() -> None:
    verdict = settle([at(CLIP, 1, "turns", turns=[turn("p0", 0, math.pi)]), at(CLIP, 2, "swap"), at(CLIP, 3, "accept")], BASE)
    assert labels_of(CLIP, verdict) == Labels(CLIP.id, (turn_of("p0", 0.0, 3.142),), BASE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=250)
@given(
    form=st.sampled_from([(rttm, ".rttm"), (eaf, ".eaf"), (label_studio, ".json")]),
    where=st.floats(0, 1),
    cut=st.integers(0, 12),
    put=st.one_of(
        st.binary(max_size=6), st.sampled_from([b"<a>", b"null", b"-1", b"1e999", b'"', b"\xff", b"&x;", b"[]", b"{}"])
    ),
)
def test_a_spoiled_file_is_read_or_told(tmp_path: Path, form: Any, where: float, cut: int, put: bytes) -> None:
    module, suffix = form
    labels = Labels("talk_1", (turn_of("p0", 0.04, 1.2), turn_of("p1", 1, 7.333), turn_of(None, 8, 9, True)), BASE)
    path = tmp_path / f"talk_1{suffix}"
    if module is label_studio:
        path.write_text(json.dumps(annotated()))
    else:
        module.write(labels if module is eaf else [labels], path)
    data = path.read_bytes()
    place = int(where * len(data))
    path.write_bytes(data[:place] + put + data[place + cut :])
    try:
        found = module.read(path)
    except UsageError as error:
        assert str(path) in str(error)
    else:
        for item in [found] if module is eaf else found:
            assert isinstance(item, Labels)
