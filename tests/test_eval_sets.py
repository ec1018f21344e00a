"""Sets of cases: who is a case of which view, what is told of them, slices by frame, splits of releases."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyconv.errors import DyconvError, ShardError, UsageError
from dyconv.records import Clip, Key, Person, Source, Turn
from dyconv.store import Store, sha256_of
from dyconv.time import Span
from tests.infp_build import frames_of, landmarks_of, level_of, make_build, present_of
from training.evaluation.case import View
from training.evaluation.sets import CaseSet, open_set, split_of
from training.evaluation.slices import Labels, overlap_of, slices_of, yaw_of

VIEWS = tuple(view for view in View if view is not View.DATA)
ONE_SIDED, TALKS = (0, 5), (1, 2, 3)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("set")
    return make_build(folder / "build", folder / "scratch", one_sided=ONE_SIDED, talks=TALKS, unseen=(4,))


@pytest.fixture(scope="module")
def cases(build: str) -> CaseSet:
    return open_set(build, VIEWS)


def with_splits(build: str, target: Path, splits: dict[int, str], **more: str) -> str:
    """A copy whose clip table tells splits of clips by number, and other columns, as a release's does."""
    import json

    shutil.copytree(build, target)
    table = target / "shards" / "clips.parquet"
    rows = pq.read_table(table)
    told = [splits.get(int(name.rsplit("_", 1)[1])) for name in rows["id"].to_pylist()]
    columns = {"split": told, **{name: [value] * len(rows) for name, value in more.items()}}
    for name, values in columns.items():
        rows = rows.append_column(name, pa.array(values, pa.string()))
    pq.write_table(rows, table)
    index = target / "shards" / "index.json"
    held = json.loads(index.read_text())
    held["table"] |= {"sha256": sha256_of(table), "bytes": table.stat().st_size}
    index.write_text(json.dumps(held))
    return str(target)


def test_a_case_is_somebody_whose_face_is_there_in_a_view_whose_voice_is(cases: CaseSet) -> None:
    found = {(int(case.clip.rsplit("_", 1)[1]), case.person, case.view) for case in cases.cases}
    wanted = {(clip, "p0", view) for clip in ONE_SIDED for view in (View.INTERACTIVE, View.TALKING, View.VIDEO)}
    wanted |= {(clip, person, view) for clip in TALKS for person in ("p0", "p1") for view in VIEWS}
    assert found == wanted
    assert len(cases.cases) == len(found)
    assert all(
        case.frames == frames_of(int(case.clip.rsplit("_", 1)[1])) and case.clip.startswith(case.unit) for case in cases.cases
    )


def test_one_view_alone(build: str) -> None:
    assert {case.view for case in open_set(build, [View.LISTENING]).cases} == {View.LISTENING}
    assert len(open_set(build, [View.DATA]).cases) == len(open_set(build, [View.VIDEO]).cases)
    with pytest.raises(UsageError, match="1 clips with a face, none with the voices of listening") as error:
        open_set(build, [View.LISTENING], only=["talk0", "talk2"], without=["talk2*"])
    assert error.value.hint


def test_truth_is_what_was_packed(cases: CaseSet) -> None:
    for case in cases.cases:
        clip, at = int(case.clip.rsplit("_", 1)[1]), int(case.person[1])
        truth = cases.truth(case)
        assert np.abs(truth.landmarks - landmarks_of(clip, at)).max() <= 1 / 16
        assert np.array_equal(truth.present, present_of(clip, at))
        assert truth.portrait == (8 if at else 0)
        for voice, who in ((truth.own, at), (truth.partner, 1 - at)):
            level = level_of(clip, who) if clip in TALKS or who == 0 else np.zeros(case.frames)
            assert voice.shape == (case.frames * 640,)
            assert np.abs(voice.reshape(-1, 640) - level[:, None]).max() < 1e-4
        assert (truth.partner_video is not None) == (clip in TALKS)
        partner = cases.partner(case)
        assert (partner is None) == (truth.partner_video is None)
        if partner is not None:
            assert partner.video == truth.partner_video
            assert np.abs(partner.landmarks - landmarks_of(clip, 1 - at)).max() <= 1 / 16


def test_what_is_said_of_the_set(cases: CaseSet, build: str, tmp_path: Path) -> None:
    about = cases.about
    seconds = (sum(frames_of(clip) for clip in ONE_SIDED) + 2 * sum(frames_of(clip) for clip in TALKS)) / 25
    assert (about["clips"], about["people"], about["sources"]) == (5, 8, 4)
    assert about["hours"] == pytest.approx(seconds / 3600)
    assert about["cases"] == {"interactive": 8, "talking": 8, "listening": 6, "video": 8}
    assert about["recipe"] == "made" and about["name"] == "build" and about["split"] is None
    assert cases.encoder is not None and cases.encoder.hash == "a" * 64
    assert open_set(build, [View.VIDEO]).about["version"] == about["version"]
    assert open_set(build, VIEWS, only=["talk1"]).about["version"] != about["version"]
    other = make_build(tmp_path / "build", tmp_path / "scratch", talks=(1,))
    assert open_set(other, VIEWS).about["version"] != open_set(build, VIEWS, only=["talk1"]).about["version"]


def test_a_set_needs_no_motion(tmp_path: Path) -> None:
    from dyconv.recipe import Recipe
    from dyconv.shards import open_shards, pack

    build = make_build(tmp_path / "with", tmp_path / "scratch", talks=(1,))
    clips = [replace(sample.clip, measures={}) for sample in open_shards(build)]
    keys = tuple(key for key in Key if key.endswith(("voice.flac", "face.mp4", "crop.npz")))
    pack(Store(build), Recipe(name="plain", about="", stages=(), pack=keys, samples_per_shard=2), clips)
    assert open_set(build, VIEWS).encoder is None
    assert len(open_set(build, VIEWS).cases) == 8


def test_a_split_of_a_release(build: str, tmp_path: Path) -> None:
    release = with_splits(
        build, tmp_path / "release", {0: "test", 1: "test", 2: "train", 3: "train", 4: "dev"}, release="1.2.0"
    )
    test = open_set(f"{release}@test", VIEWS)
    assert {case.clip[-1] for case in test.cases} == {"0", "1"}
    assert test.about["name"] == "release@test" and test.about["split"] == "test"
    assert {case.clip[-1] for case in open_set(release, VIEWS).cases} == {"0", "1", "2", "3", "5"}
    assert test.truth(test.cases[0]).slices["version=1.2.0"].all()
    with pytest.raises(UsageError, match=r"dev \(1 clips\), test \(2 clips\), train \(2 clips\)"):
        open_set(f"{release}@valid", VIEWS)
    with pytest.raises(UsageError, match="0 clips with a face"):
        open_set(f"{release}@dev", VIEWS)  # its one clip shows nobody
    seen = open_set(f"{release}@test", VIEWS, train=[f"{release}@train"])
    told = {case.unit: set(seen.truth(case).slices) for case in seen.cases}
    assert all("identity=unseen" in names and "identity=seen" not in names for names in told.values())
    told = {case.unit: set(open_set(release, VIEWS, train=[release]).truth(case).slices) for case in seen.cases}
    assert all("identity=seen" in names for names in told.values())


def test_a_build_without_splits_says_so(build: str) -> None:
    with pytest.raises(UsageError, match="no column split") as error:
        open_set(f"{build}@test", VIEWS)
    assert "only" in str(error.value.hint)


def test_a_name_with_an_at_sign_is_a_build_where_it_is_one(build: str, tmp_path: Path) -> None:
    target = tmp_path / "build@home"
    shutil.copytree(build, target)
    assert split_of(str(target)) == (str(target), None)
    assert split_of(f"{target}@test") == (str(target), "test")
    assert split_of("s3://me@bucket/build") == ("s3://me@bucket/build", None) or split_of("memory://a/b") == (
        "memory://a/b",
        None,
    )
    assert open_set(str(target), VIEWS).cases


def test_bad_builds_are_named(build: str, tmp_path: Path) -> None:
    with pytest.raises(DyconvError, match=r"nowhere has no shards/index.json"):
        open_set(str(tmp_path / "nowhere"), VIEWS)
    with pytest.raises(UsageError, match="no clip of the sources chosen"):
        open_set(build, VIEWS, only=["nobody*"])
    target = tmp_path / "cut"
    shutil.copytree(build, target)
    shard = target / "shards" / "clips-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-2000])
    cut = open_set(str(target), VIEWS)
    with pytest.raises(ShardError, match=r"clips-000000.tar has"):
        cut.truth(cut.cases[0])


def clip_of(*turns: Turn, frames: int = 100, **more: object) -> Clip:
    source = Source(id="s", url="https://example.org", language=str(more.pop("language")) if "language" in more else None)
    span = Span(Fraction(3), 3 + Fraction(frames, 25))
    people = (Person("p0", None, True, True), Person("p1", None, True, True))
    return Clip(id="s_1", source=source, span=span, people=people, turns=turns, **more)  # type: ignore[arg-type]


def frames(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask).tolist()


def test_states_follow_the_turns_of_the_record() -> None:
    clip = clip_of(
        Turn("p0", Span.of_frames(0, 40), 1.0),
        Turn("p1", Span.of_frames(30, 60), 1.0),
        Turn(None, Span.of_frames(70, 80), 1.0, unsure=True),
        language="de",
        layout="split",
    )
    slices = slices_of(clip, "p0", np.zeros((100, 478, 3)), np.zeros(100, bool))
    assert frames(slices["state=speaking"]) == [*range(30)]
    assert frames(slices["state=both"]) == [*range(30, 40)]
    assert frames(slices["state=listening"]) == [*range(40, 60)]
    assert frames(slices["state=silent"]) == [*range(60, 70), *range(80, 100)]
    assert (
        slices["all"].all() and slices["language=de"].all() and slices["layout=split"].all() and slices["overlap=2-10%"].all()
    )
    other = slices_of(clip, "p1", np.zeros((100, 478, 3)), np.zeros(100, bool))
    assert frames(other["state=speaking"]) == frames(slices["state=listening"])
    assert not {name for name in slices if name.startswith(("pose", "identity", "version"))}


def test_what_is_not_known_makes_no_slice() -> None:
    slices = slices_of(clip_of(), "p0", np.zeros((100, 478, 3)), np.zeros(100, bool), Labels())
    assert set(slices) == {"all", "overlap=<2%", "state=silent"}


@pytest.mark.parametrize(("both", "name"), [(0, "<2%"), (1, "<2%"), (2, "2-10%"), (10, "2-10%"), (11, ">10%"), (60, ">10%")])
def test_overlap_is_a_share_of_the_clip(both: int, name: str) -> None:
    turns = [Turn("p0", Span.of_frames(0, 80), 1.0), *([Turn("p1", Span.of_frames(80 - both, 100), 1.0)] if both else [])]
    assert overlap_of(clip_of(*turns)) == name


def test_poses_are_told_in_degrees() -> None:
    from dyconv.models.mesh_motion import MeshMotion

    mesh = MeshMotion()
    degrees = np.array([0, 14, -14, 16, -39, 41, -60, 60], np.float32)
    motion = np.zeros((len(degrees), len(mesh.names)), np.float32)
    motion[:, list(mesh.names).index("head_scale")] = 0.35
    motion[:, list(mesh.names).index("head_yaw")] = np.radians(degrees)
    landmarks = mesh.pose(motion, 256)
    assert np.allclose(yaw_of(landmarks), np.abs(degrees), atol=0.5)
    present = np.ones(len(degrees), bool)
    present[-1] = False
    slices = slices_of(clip_of(frames=8), "p0", landmarks, present)
    assert frames(slices["pose=frontal"]) == [0, 1, 2]
    assert frames(slices["pose=turned"]) == [3, 4]
    assert frames(slices["pose=profile"]) == [5, 6]
