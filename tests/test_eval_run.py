"""Whole evaluations through the command line, on small builds of a photographed face."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dyconv.infp.config import STAGE1, STAGE2
from dyconv.infp.film import Film
from dyconv.infp.portraits import FaceModels
from dyconv.infp.stage1 import Stage1, load_stage1, save_stage1
from dyconv.infp.stage2 import Stage2
from dyconv.media.video import read_frames
from tests.eval_build import FRAMES, SIZE, make_talks
from training.evaluate import main
from training.evaluation.results import GROUND_TRUTH, Report

pytestmark = pytest.mark.usefixtures("one_thread")
FAST = ("--samples", "0", "--draws", "20")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, face_models: FaceModels) -> str:
    """Three conversations, in one of which only one person is seen."""
    folder = tmp_path_factory.mktemp("build")
    return make_talks(folder / "build", folder / "scratch", face_models, alone=1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent whose networks learnt nothing."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_stage1(Stage1(STAGE1["debug"]), folder / "stage1.safetensors")
    encoder = load_stage1(folder / "stage1.safetensors").encoder_hash
    config = replace(STAGE2["debug"], width=32, sample_steps=2, window=25)
    Stage2(config, encoder_hash=encoder).save(folder / "stage2.safetensors")
    return folder


def evaluate(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Exit status of the command."""
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def numbers(out: Path, slice_: str = "all") -> dict[tuple[str, str], Any]:
    """Results by system and metric."""
    return {(one.system, one.metric): one for one in Report.read(out).results if one.slice == slice_}


def copies(build: str, folder: Path, change: Any = None) -> Path:
    """The true videos as another system's, each frame changed."""
    from training.evaluation.case import View
    from training.evaluation.sets import open_set

    cases = open_set(build, [View.INTERACTIVE])
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases.cases:
        truth = cases.truth(case)
        if change is None:
            (folder / f"{case.name}.mp4").write_bytes(truth.video)
            continue
        source = folder / "true.tmp"
        source.write_bytes(truth.video)
        with Film(folder / f"{case.name}.mp4", SIZE, crf=4) as film:
            for picture in read_frames(source):
                film.write(change(picture))
        source.unlink()
    return folder


def test_the_truth_itself_is_perfect(build: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    assert (
        evaluate(monkeypatch, "--data", build, "--videos", f"same={copies(build, tmp_path / 'same')}", "--out", out, *FAST) == 0
    )
    found = numbers(out)
    perfect = {"ssim": 1.0, "mse.mesh.expression": 0.0, "lmd.face": 0.0, "lmd.mouth": 0.0, "rpcc.mesh.pose": 0.0}
    for metric, value in perfect.items():
        assert found["same", metric].value == pytest.approx(value, abs=1e-6), metric
    assert found["same", "psnr"].word == "infinite"
    for metric in ("fd.mesh.expression", "fd.mesh.pose", "pfd.mesh.pose"):
        assert found["same", metric].value == pytest.approx(0.0, abs=1e-6), metric
    for (system, metric), one in found.items():
        if system == "same" and not metric.startswith("speed."):
            truth = found[GROUND_TRUTH, metric]
            wanted = None if truth.value is None else pytest.approx(truth.value, rel=1e-5, abs=1e-5)
            assert (one.value, one.word) == (wanted, truth.word), metric


def test_a_dark_copy_is_worse_in_pictures_and_the_same_in_motion(
    build: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dark = copies(build, tmp_path / "dark", lambda picture: (picture * 0.7).astype(np.uint8))
    assert evaluate(monkeypatch, "--data", build, "--videos", f"dark={dark}", "--out", tmp_path / "out", *FAST) == 0
    found = numbers(tmp_path / "out")
    assert found["dark", "ssim"].value < 0.97
    assert found["dark", "psnr"].value < 25
    assert found["dark", "var.mesh.pose"].value == pytest.approx(found[GROUND_TRUTH, "var.mesh.pose"].value, rel=0.1)
    assert found["dark", "ssim"].cases == 5 and found["dark", "ssim"].units == 3
    assert numbers(tmp_path / "out", "state=listening")["dark", "ssim"].frames < 5 * FRAMES


def test_weights_and_baselines_are_measured_and_nothing_is_done_twice(
    build: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = ["--data", build, "--checkpoint", weights, "--out", out, "--train", build, "--draws", "20", "--samples", "1"]
    words += [word for name in ("static", "mirror", "random-train", "role-switch") for word in ("--baseline", name)]
    assert evaluate(monkeypatch, *words) == 3
    report = Report.read(out)
    assert {one.system for one in report.results} == {GROUND_TRUTH, "ours", "static", "mirror", "random-train", "role-switch"}
    (problem,) = report.problems
    assert problem.system == "mirror" and "partner's face" in problem.message
    assert {one.against for one in report.differences} == {"static", "mirror", "random-train", "role-switch"}
    assert all((out / sample.path).is_file() for sample in report.samples) and report.samples
    assert {"identity=seen"} <= {one.slice for one in report.results}
    kept = {path: path.stat().st_mtime_ns for path in sorted((out / "videos").rglob("*.mp4"))}
    kept |= {path: path.stat().st_mtime_ns for path in sorted((out / "evidence" / "made").rglob("*.npz"))}
    assert evaluate(monkeypatch, *words) == 3
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    again = Report.read(out)
    assert again.results == report.results and again.differences == report.differences


def test_what_cannot_be_measured_is_named_and_the_rest_is_measured(
    build: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copies(build, tmp_path / "bad")
    cut, short, lacking, large, good = sorted(folder.glob("*.mp4"))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    whole = list(read_frames(short))
    with Film(short, SIZE) as film:
        for picture in whole[:-3]:
            film.write(picture)
    lacking.unlink()
    with Film(large, 2 * SIZE) as film:
        for picture in whole:
            film.write(np.kron(picture, np.ones((2, 2, 1), np.uint8)))
    assert (
        evaluate(monkeypatch, "--data", build, "--videos", f"bad={folder}", "--out", tmp_path / "out", "--size", SIZE, *FAST)
        == 3
    )
    report = Report.read(tmp_path / "out")
    assert {problem.case for problem in report.problems} == {path.stem for path in (cut, short, lacking, good)}
    assert all(problem.hint for problem in report.problems)
    assert numbers(tmp_path / "out")["bad", "ssim"].cases == 1
    assert numbers(tmp_path / "out")[GROUND_TRUTH, "ssim"].cases == 5
    short_one = next(problem for problem in report.problems if problem.case == short.stem)
    assert f"expected {FRAMES} frames" in short_one.message and f"found {FRAMES - 3}" in short_one.message


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--metrics", "simm"), "did you mean ssim"),
        (("--features", "flame"), "expected motion features out of"),
        (("--clusters", "40"), "expected --clusters EXPRESSION,POSE"),
        (("--videos", "static=."), "is the name of another row"),
        (("--videos", "x"), "expected --videos NAME=PATH"),
        (("--only", "nobody*"), "no clip"),
        (("--size", "64", "--weights", "nothing=x"), "no foreign network called 'nothing'"),
    ],
)
def test_wrong_options_are_said_in_two_lines(
    build: str,
    words: tuple[str, ...],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert evaluate(monkeypatch, "--data", build, "--out", tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error


def test_two_sets_are_compared(build: str, tmp_path: Path, face_models: FaceModels, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_talks(tmp_path / "other", tmp_path / "scratch", face_models, clips=2)
    out = tmp_path / "out"
    assert evaluate(monkeypatch, "--data", build, "--against", other, "--out", out, *FAST) == 0
    report = Report.read(out)
    names = {one.system for one in report.results}
    assert names == {"build", "other", "build to other"}
    metrics = {one.metric for one in report.results}
    assert {"quality.sharpness", "talk.speaking", "var.mesh.pose", "sid.mesh.pose.k9", "fd.mesh.pose"} <= metrics
    assert not metrics & {"ssim", "mse.mesh.pose", "lmd.face"}
    assert json.loads((out / "report.json").read_text())["about"]["data"][1]["name"] == "other"


def test_one_set_against_itself_shows_no_difference(build: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluate(monkeypatch, "--data", build, "--against", build, "--out", tmp_path / "out", *FAST) == 0
    report = Report.read(tmp_path / "out")
    assert report.differences and all(one.value == 0 or one.value is None for one in report.differences)
    apart = [one for one in report.results if one.metric.startswith("fd.")]
    assert apart and all(abs(one.value or 0) < 1e-6 for one in apart)
