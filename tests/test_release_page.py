"""The page about a data set: its numbers are those of tables and shards, it asks nothing of any network, others' are marked."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dyconv.arrays import save_arrays
from dyconv.errors import DyconvError, UsageError
from dyconv.faces import pack_points
from dyconv.models.mesh_motion import MeshMotion
from dyconv.release.build import Options, make_release
from dyconv.release.check import check_release
from dyconv.release.model import Kind
from dyconv.report.page import render as render_run
from dyconv.report.published import SETS
from dyconv.report.release_faces import GESTURES, Faces, measure_crop
from dyconv.report.release_numbers import read_dataset, responses, some_shards
from dyconv.report.release_page import default_path, render, write_release_page
from dyconv.shards.index import read_index
from dyconv.store import Store
from tests.infp_build import make_build as make_faces
from tests.release_build import Talk, make_build, several
from tests.small_build import small_build
from tests.test_report import Page

NASTY = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("page")
    talks = [Talk("ann", 1, "ann", language="de", title=NASTY), Talk("bob", 2, "bob"), *several(4)]
    return make_build(root / "build", root / "scratch", talks)


@pytest.fixture(scope="module")
def release(build: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    to = tmp_path_factory.mktemp("out") / "talks"
    made = make_release(build, str(to), "1.0.0", Options(name=NASTY, voices=False, ratios={"train": 0.6, "test": 0.4}))
    return Store(made.where)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A build of people who nod, turn and talk."""
    root = tmp_path_factory.mktemp("heads")
    return Store(make_faces(root / "build", root / "scratch", talks=range(8), per_shard=1))


@pytest.fixture(scope="module")
def page(release: Store) -> Page:
    return Page(render(read_dataset(release)))


def said(page: Page, section: str) -> str:
    return " ".join(page.sections[section])


def test_numbers_are_those_of_the_tables(release: Store, page: Page) -> None:
    data = read_dataset(release)
    clips = pq.read_table(release.local("tables/clips.parquet")).to_pylist()
    assert data.seconds == pytest.approx(sum(row["duration_s"] for row in clips)) and data.sources == 6
    people = pq.read_table(release.local("tables/people.parquet")).to_pylist()
    assert data.people == len({row["person"] for row in people if row["seen_s"] or row["speaking_s"]})
    assert len(data.turns) == pq.read_table(release.local("tables/turns.parquet")).num_rows == 2
    assert data.languages["de"] == pytest.approx(3.2) and data.read == len(clips) == 6
    assert "6 clips of 6 sources" in said(page, "") and "in 6 clips" in said(page, "")


def test_a_build_and_its_release_say_the_same(build: Store, release: Store) -> None:
    one, other = read_dataset(build), read_dataset(release)
    assert (one.seconds, one.people, one.sources, one.licences) == (other.seconds, other.people, other.sources, other.licences)
    assert sorted(one.faces.light) == sorted(other.faces.light) and one.faces.present == other.faces.present
    assert "A build that is not released" in render(one)


def test_published_rows_are_marked_and_have_a_source(page: Page) -> None:
    text = said(page, "published")
    for known in SETS:
        assert known.name in text and known.source in text
    assert text.count(" published ") >= len(SETS) and "measured for this page" in text
    assert {"DyConv", "ViCo", "RealTalk", "Seamless Interaction"} <= {known.name for known in SETS}


def test_the_proxy_is_said_to_be_one(heads: Store, page: Page) -> None:
    assert "nothing to measure" in said(page, "expressions")  # its landmarks are no faces
    text = said(Page(render(read_dataset(heads))), "expressions")
    assert "proxy" in text and "no emotion was recognised" in text and all(name in text for name in GESTURES)


def test_the_page_asks_nothing_and_runs_nothing(page: Page) -> None:
    assert not page.handlers and "script" not in page.tags and "link" not in page.tags
    assert all(value.startswith(("data:image/jpeg;base64,", "#")) for _, value in page.links)
    assert NASTY in said(page, "")  # as text
    assert page.tags["img"] == 6


def test_the_same_data_gives_the_same_bytes_and_leaves_a_release_whole(release: Store, tmp_path: Path) -> None:
    where = default_path(release)
    assert where.parent == Path(release.root).parent
    write_release_page(release, where)
    assert where.read_bytes() == write_release_page(release, tmp_path / "again.html").read_bytes()
    assert not check_release(release).problems


def test_a_release_without_media_has_no_pictures_but_heads(heads: Store, tmp_path: Path) -> None:
    options = Options(voices=False, kind=Kind.RECIPE_ONLY, ratios={"train": 1.0})
    data = read_dataset(Store(make_release(heads, str(tmp_path), "1.0.0", options).where))
    assert data.faces.frames and not data.faces.light and all(not one.frames for one in data.shown)
    assert "no picture is carried" in render(data)


def test_response_times_are_floor_transfer_offsets() -> None:
    def turn(person: str | None, start: float, end: float, clip: str = "a") -> dict:
        return {"clip": clip, "person": person, "start_s": start, "end_s": end}

    turns = [turn("p0", 0, 2), turn("p1", 2.25, 4), turn("p0", 3.5, 6), turn("p1", 4.5, 5), turn(None, 6, 7), turn("p1", 8, 9)]
    assert responses(turns) == pytest.approx([0.25, -0.5, 2.0])  # the turn within another's is none
    assert responses([turn("p0", 0, 1), turn("p0", 2, 3), turn("p1", 9, 10)]) == []  # 6 s of silence are no response
    assert responses([turn("p0", 0, 1, "a"), turn("p1", 1, 2, "b")]) == []


def test_heads_and_gestures_are_measured_in_their_units() -> None:
    model = MeshMotion()
    frames = np.arange(120)
    latents = np.zeros((120, len(model.names)), np.float32)
    names = list(model.names)
    latents[:, names.index("head_yaw")] = np.radians(20) * np.sin(frames / 10)
    latents[:, names.index("head_scale")] = 0.3
    latents[frames >= 90, names.index("mouth_open")] = 0.2
    points = model.pose(latents, 512)
    buffer = io.BytesIO()
    held = {"box": np.array([0, 0, 420, 420], np.float32), "present": np.ones(120, bool), "landmarks": pack_points(points)}
    save_arrays(buffer, held)
    found = Faces()
    measure_crop(buffer.getvalue(), found)
    assert np.max(np.abs(found.yaw)) == pytest.approx(20, abs=2) and np.max(np.abs(found.pitch)) < 3
    assert found.gestures["mouth open"] / found.frames == pytest.approx(0.25, abs=0.03)
    assert found.crop_px == [420] and found.present == [1.0]
    assert found.entropy_bits == pytest.approx(0.81, abs=0.5)


def test_only_some_shards_are_opened_where_there_are_many(heads: Store) -> None:
    index = read_index(heads)
    part = some_shards(index, 3)
    assert len(part.clips) == len(part.motion) == 3 and part.clips[0] == index.clips[0] and part.clips[-1] == index.clips[-1]
    assert some_shards(index, 100) == index
    data = replace(read_dataset(heads), read=3)
    assert "measured on 3 of 8 clips" in " ".join(render(data).split())


def test_what_is_not_packed_or_not_whole_is_refused(release: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no shards/index\.json"):
        read_dataset(Store(tmp_path))
    copy = Path(shutil.copytree(release.root, tmp_path / "copy"))
    with (copy / "shards" / "clips-000000.tar").open("ab") as file:
        file.write(b" ")
    with pytest.raises(DyconvError, match="not what its index says"):
        read_dataset(Store(copy))


def test_the_page_of_a_run_keeps_its_style(tmp_path: Path) -> None:
    page = render_run(small_build(tmp_path / "build"))
    assert "prefers-color-scheme: dark" in page and page.count("<style>") == 1


def test_the_command(release: Store, build: Store, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dyconv.cli", "report"]
    done = subprocess.run([*command, release.root, "--to", str(tmp_path / "page.html")], capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "page.html").stat().st_size > 10_000, done.stderr
    done = subprocess.run([*command, build.root, "--dataset"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip().endswith("dataset.html"), done.stderr
    done = subprocess.run([*command, str(tmp_path), "--dataset"], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
