"""Splits that leak nobody: planted leaks are joined, forced splits of them refused; ratios, seeds and versions before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyconv.errors import UsageError
from dyconv.release.check import check_release
from dyconv.release.checksums import write_checksums
from dyconv.release.leaks import Limits, check_leaks, person_links
from dyconv.release.model import ReleaseError
from dyconv.release.packed import Packed
from dyconv.release.prints import Printer
from dyconv.release.splits import Union, parse_ratios, plan_splits
from dyconv.store import Store
from tests.eval_build import make_talks
from tests.release_build import Talk, released, rows, several

if TYPE_CHECKING:
    from dyconv.infp.portraits import FaceModels

# leaks


PLANTED = {
    "same_person": [Talk("a", 1, "bob", alone=True), Talk("b", 2, "bob later", alone=True, frames=150)],
    "mirrored": [Talk("a", 1), Talk("b", 1, mirrored=True, crf=26)],
    "near_duplicate": [Talk("a", 1), Talk("b", 1, crf=30)],
    "shared_partner": [Talk("a", 1, "bob"), Talk("b", 2, "bob later", frames=150)],
    "channel": [Talk("a", 1, channel="news"), Talk("b", 2, channel="news")],
    "file": [Talk("a", 1, partner_url="https://example.org/x"), Talk("b", 2, url="https://example.org/x")],
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_leak_is_joined_and_a_forced_split_of_it_refused(tmp_path: Path, kind: str) -> None:
    voices = kind in ("same_person", "shared_partner")
    if voices:
        from dyconv.models.registry import get, missing
        from dyconv.release.prints import VOICE_MODEL

        if missing(get(VOICE_MODEL)):
            pytest.skip("the voice encoder's weights are not here: dyconv models pull")
    talks = [*PLANTED[kind], *several(2, **({"voice": None}))]
    made = released(tmp_path, talks, voices=voices)
    split = {row["source"]: row["split"] for row in rows(made.where, "splits")}
    assert split["a"] == split["b"] and kind in {link["kind"] for link in made.about["leaks"]["found"]}
    if voices:
        people = {row["id"]: row["person"] for row in rows(made.where, "people")}
        spoken = "i0" if kind == "same_person" else "i1"
        assert people[f"b.{spoken}"] == people[f"a.{spoken}"] != people["talk0.i0"]
    forced = {"a": "train", "b": "test", "talk0": "train", "talk1": "test"}
    with pytest.raises(ReleaseError, match=kind):
        released(tmp_path, talks, "1.1.0", voices=voices, splits=forced)
    assert not (tmp_path / "out" / "1.1.0").exists() and not list((tmp_path / "out").glob(".staging*"))
    forced["b"] = "train"
    assert check_release(Store(released(tmp_path, talks, "1.1.0", voices=voices, splits=forced).where)).ok


def test_people_and_pictures_that_differ_are_not_joined(tmp_path: Path) -> None:
    made = released(tmp_path, several(12), ratios={"train": 1.0})
    assert made.about["leaks"]["found"] == [] and made.about["leaks"]["pictures"] == 36


def test_deep_check_runs_the_leak_test_on_the_shards(tmp_path: Path) -> None:
    """Somebody edits the tables so that near-duplicates are in two splits, and makes the checksums fit."""
    folder = Path(released(tmp_path, [*PLANTED["near_duplicate"], *several(2)]).where)
    split = {row["source"]: row["split"] for row in rows(folder, "splits")}
    other = "train" if split["a"] == "test" else "test"
    for path in [*folder.glob("tables/*.parquet"), folder / "shards" / "clips.parquet"]:
        table = pq.read_table(path)
        changed = [
            {**row, "split": other, "component": "b"}
            if str(row.get("source", row.get("clip", row.get("id"))))[0] == "b"
            else row
            for row in table.to_pylist()
        ]
        pq.write_table(pa.Table.from_pylist(changed, schema=table.schema), path)
    write_checksums(folder)
    told = [str(problem) for problem in check_release(Store(folder), deep=True).problems]
    assert any("near_duplicate" in line for line in told)


# splits


def test_splits_keep_to_their_ratios_their_seed_and_the_version_before() -> None:
    names = [f"s{number:03d}" for number in range(200)]
    seconds = {name: 60.0 + number % 7 for number, name in enumerate(names)}
    ratios = {"train": 0.8, "validation": 0.1, "test": 0.1}
    plan = plan_splits(seconds, Union(names), ratios=ratios, seed=3)
    for split, share in ratios.items():
        got = sum(seconds[name] for name in names if plan.split[name] == split) / sum(seconds.values())
        assert abs(got - share) < 0.01
    assert plan_splits(seconds, Union(reversed(names)), ratios=ratios, seed=3) == plan
    assert plan_splits(seconds, Union(names), ratios=ratios, seed=4).split != plan.split
    more = {**seconds, **{f"t{number:03d}": 30.0 for number in range(100)}}
    later = plan_splits(more, Union(more), ratios=ratios, seed=9, before=plan.split)
    assert all(later.split[name] == plan.split[name] for name in names) and not later.moved
    tested = next(name for name in names if plan.split[name] == "test")
    trained = next(name for name in names if plan.split[name] == "train")
    union = Union(more)
    union.join(tested, trained)
    joined = plan_splits(more, union, ratios=ratios, seed=9, before=plan.split)
    assert joined.split[tested] == "train" and joined.moved == {tested: "test"}


def test_too_few_components_and_bad_ratios_are_told() -> None:
    union = Union(["a", "b", "c"])
    union.join("a", "b")
    with pytest.raises(UsageError, match="2 components"):
        plan_splits(dict.fromkeys("abc", 1.0), union, ratios={"train": 0.8, "validation": 0.1, "test": 0.1}, seed=0)
    for text in ("train=0.8", "train=0.8,test", "train=a,test=b", "train=0.5,train=0.5", "train=-1,test=2"):
        with pytest.raises(UsageError):
            parse_ratios(text)


def test_faces_are_compared_by_a_recogniser_that_holds_across_sources(tmp_path: Path, face_models: FaceModels) -> None:
    """One photographed face in two sources, and its mirror image beside it. The network's weights are small and random."""
    from dyconv.models.insightface import InsightFaceIdentity
    from tests.test_models import tiny_recogniser

    tiny_recogniser(tmp_path / "w600k_r50.onnx")
    packed = Packed(Store(make_talks(tmp_path / "build", tmp_path / "scratch", face_models, clips=2)))
    clips = list(packed.clips())
    printer = Printer(voices=False, faces=InsightFaceIdentity(tmp_path / "w600k_r50.onnx"))
    prints = [replace(printer.print(clip, packed), pictures=np.zeros((0, 32), np.uint8)) for clip in clips]
    ours, theirs = prints
    alike = [float(a.face @ b.face) for a in ours.people for b in theirs.people]  # type: ignore[operator]
    assert min(alike[0], alike[3]) > 0.98 > max(alike[1], alike[2])  # the same face; mirrored it is another to this network
    found = list(person_links(prints, replace(Limits(), face=0.98)))
    assert {tuple(link.where) for link in found} == {
        (f"{clips[0].id}.{person}", f"{clips[1].id}.{person}") for person in ("p0", "p1")
    }
    assert {link.kind for link in found} == {"same_person"}  # each has the other's partner
    with pytest.raises(ReleaseError, match="faces alike"):
        check_leaks(found, {"talk0": "train", "talk1": "test"})
