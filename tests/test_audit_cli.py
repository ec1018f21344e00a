"""`dyconv audit`: samples, reports, exports, imports and gold from the command line, over a build and a release alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dyconv.audit.decisions import decide
from dyconv.audit.overlay import Overlay, annotations_folder, default_overlay, read_overlay
from dyconv.audit.population import stream_clips
from dyconv.cli.audit_results import register
from dyconv.errors import DyconvError
from dyconv.runner import kept_clips
from dyconv.store import Store
from dyconv.truth import read_truth
from tests.small_build import RECIPE, small_build


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "talks"
    small_build(root, RECIPE, pack=True)
    return root


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


audit = typer.Typer()
register(audit)


def run(*args: object, fails: str | None = None) -> str:
    """`dyconv audit ...`; with `fails`, the message it must stop with."""
    result = CliRunner().invoke(audit, [str(arg) for arg in args])
    if fails is not None:
        assert isinstance(result.exception, DyconvError), result.output
        assert fails in str(result.exception)
        return str(result.exception)
    assert result.exit_code == 0, f"{result.output}{result.exception!r}"
    return result.output


def review(build: Path) -> Path:
    """Accept the first kept clip, reject the second, in the overlay that is used if none is given."""
    first, second = kept_clips(Store(build))
    path = default_overlay(str(build))
    Overlay(path).add(decide(first, "ann", "accept"), decide(second, "ann", "reject", {"reason": "bleed"}))
    return path


def test_a_whole_audit(build: Path, here: Path) -> None:
    assert "2 of 2 clips" in run("sample", build, "--seed", 3)
    run("sample", build, "--seed", 3)  # the same again
    run("sample", build, "--seed", 4, fails="holds another sample")
    assert "no clip has been reviewed" in (Overlay(default_overlay(str(build))) and run("report", build))
    review(build)
    out = run("report", build)
    assert "2 clips reviewed: 50.0 % have an error (50.0 % to 50.0 %)" in out  # all were reviewed: no doubt is left
    numbers = json.loads((here / "annotations" / "talks" / "report" / "audit.json").read_text())
    assert numbers["standings"] == {"open": 0, "accepted": 1, "rejected": 1, "taken_down": 0}
    assert "2 decisions" in run("export", build)
    folder = here / "annotations" / "talks"
    assert len(read_overlay(folder).decisions) == 2
    assert "0 new decisions" in run("import", build, folder)
    assert "1 clips, 0 of them corrected" in run("gold", build)
    (truth,) = (folder / "gold").iterdir()
    assert read_truth(truth).known == ((0.0, 1.6),)  # the last 0.4 s are unsure


def test_a_packed_build_without_its_run_is_audited_alike(build: Path, here: Path) -> None:
    release = here / "release"
    shutil.copytree(build / "shards", release / "shards")
    assert [clip.id for clip in stream_clips(Store(release))] == [clip.id for clip in kept_clips(Store(build))]
    path = review(build)
    assert "2 clips reviewed" in run("report", release, "--overlay", path)  # decisions on the build hold for its shards
    run("gold", release, "--overlay", path, fails="give the build, not a release")
    run("sample", here, fails="no build and no release")


@pytest.mark.parametrize("form", ["rttm", "eaf", "label-studio"])
def test_turns_go_out_and_come_back(build: Path, here: Path, form: str) -> None:
    path = review(build)
    run("export", build, "--format", form, "--to", here / "out")
    files = sorted((here / "out").iterdir())
    assert f"0 new decisions in {path}" in run("import", build, here / "out", "--format", form, "--reviewer", "ann")
    changed = files[0] if form != "label-studio" else here / "out" / "tasks.json"
    text = changed.read_text()
    for old, new in (('TIME_VALUE="1000"', 'TIME_VALUE="1040"'), ("0.000 1.000", "0.000 1.040"), ('"end": 1.0', '"end": 1.04')):
        text = text.replace(old, new, 1)
    changed.write_text(text)
    assert "1 new decisions" in run("import", build, here / "out", "--format", form, "--reviewer", "eve")
    assert "0 new decisions" in run("import", build, here / "out", "--format", form, "--reviewer", "eve")
    (last,) = [decision for decision in Overlay(path).all() if decision.reviewer == "eve"]
    assert last.data["turns"][0] == {"person": "p0", "start_s": 0.0, "end_s": 1.04, "unsure": False} and last.tool == form


def test_mistakes_are_told(build: Path, here: Path) -> None:
    run("report", build, fails="no overlay at")
    review(build)
    run("export", build, "--format", "srt", fails="no format called 'srt'")
    run("import", build, here / "x.rttm", "--format", "rttm", fails="--reviewer")
    run("import", build, here / "x.rttm", "--format", "rttm", "--reviewer", "a", fails="no file at")
    run("import", build, here, "--format", "eaf", "--reviewer", "a", fails="no files that end in .eaf")
    run("import", build, here / "x.rttm", "--format", "rttm", "--reviewer", "a", "--speaker", "Anna", fails="not NAME=p0")
    run("import", build, here / "absent", fails="no overlay at")
    run("sample", build, "--half-width", "2", fails="above 0 and below 1")
    run("report", build, "--level", "95", fails="above 0 and below 1")
    (here / "annotations" / "talks" / "sample.json").write_text("{")
    run("report", build, fails="not JSON")
    run("report", build, "--sample", here / "gone.json", fails="no sample at")


def test_an_export_never_writes_over_what_others_decided(build: Path, here: Path) -> None:
    review(build)
    run("export", build)
    Path(default_overlay(str(build))).rename(here / "away.sqlite")
    clip = next(kept_clips(Store(build)))
    Overlay(default_overlay(str(build))).add(decide(clip, "bob", "accept"))
    told = run("export", build, fails="2 decisions that this overlay does not have")
    assert "dyconv audit import" in told
    assert "2 new decisions" in run("import", build, annotations_folder(str(build)))
    assert "3 decisions" in run("export", build)


def test_labels_of_clips_that_left_are_told(build: Path, here: Path) -> None:
    (here / "x.rttm").write_text("SPEAKER gone_1 1 0 1 <NA> <NA> p0 <NA> <NA>\n")
    out = run("import", build, here / "x.rttm", "--format", "rttm", "--reviewer", "ann")
    assert "1 clips (gone_1) are not in this build" in out


@pytest.mark.parametrize(
    ("out", "name"),
    [("out/demo", "demo"), ("s3://bucket/my build/", "my_build"), ("/", "build"), ("..", "build"), ("a/..", "build")],
)
def test_annotations_lie_in_a_folder_of_the_builds_name(out: str, name: str) -> None:
    assert annotations_folder(out) == Path("annotations") / name
