"""Metrics on true videos that are made worse by degrees."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dyconv.infp.agent import Agent
from dyconv.infp.portraits import FaceModels
from tests.eval_build import FRAMES, SIZE, make_talks
from training.evaluation.case import View
from training.evaluation.clock import Clock
from training.evaluation.corruption import Blurred, Calmed, Corrupted, Frozen, Late, Swapped, corrupted, draw
from training.evaluation.job import Job
from training.evaluation.results import GROUND_TRUTH, Report
from training.evaluation.run import measured
from training.evaluation.sets import CaseSet, open_set

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def agent(face_models: FaceModels) -> Agent:
    return Agent.load(device="cpu")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, face_models: FaceModels) -> str:
    folder = tmp_path_factory.mktemp("build")
    return make_talks(folder / "build", folder / "scratch", face_models, clips=1)


@pytest.fixture(scope="module")
def cases(build: str) -> CaseSet:
    return open_set(build, [View.INTERACTIVE])


def frames_of(system: Corrupted, cases: CaseSet) -> np.ndarray:
    return np.stack(list(system.frames(cases.truth(cases.cases[0]), Clock())))


def test_each_corruption_does_what_it_says(cases: CaseSet, agent: Agent) -> None:
    whole = frames_of(Late(0, SIZE), cases)
    assert len(whole) == FRAMES
    late = frames_of(Late(5, SIZE), cases)
    assert np.array_equal(late[5:], whole[:-5]) and np.array_equal(late[:5], np.repeat(whole[:1], 5, axis=0))
    rolled = frames_of(Swapped(1.0, SIZE), cases)
    assert np.array_equal(rolled, np.roll(whole, 25, axis=0))
    frozen = frames_of(Frozen(1.0, SIZE), cases)
    assert np.array_equal(frozen[: FRAMES // 2], whole[: FRAMES // 2])  # p0 speaks in the first half
    assert np.array_equal(frozen[FRAMES // 2 :], np.repeat(whole[FRAMES // 2 - 1 : FRAMES // 2], FRAMES // 2, axis=0))
    detail = [np.var(cv2.Laplacian(frames_of(Blurred(grade, SIZE), cases)[0], cv2.CV_64F)) for grade in Blurred.grades]
    assert detail == sorted(detail, reverse=True) and detail[-1] < 0.2 * detail[0]
    moves = [np.abs(np.diff(frames_of(Calmed(grade, agent), cases).astype(float), axis=0)).mean() for grade in (0.0, 1.0)]
    assert moves[1] < 0.1 * moves[0]


def test_metrics_move_the_right_way(build: str, cases: CaseSet, agent: Agent, tmp_path: Path) -> None:
    systems: list[Corrupted] = [one for one in corrupted(agent) if one.kind in ("blur", "frozen listener", "swapped partner")]
    names = ("ssim", "psnr", "head.speed", "var.mesh.pose", "rpcc.mesh.pose", "fd.mesh.pose", "mse.mesh.pose")
    job = Job(data=build, out=tmp_path, metrics=names, draws=2, samples=0)
    told = measured(job, cases, agent, systems)
    assert not told.problems
    for metric, kind, falls in (
        ("ssim", "blur", True),
        ("psnr", "blur", True),
        ("ssim", "frozen listener", True),
        ("mse.mesh.pose", "frozen listener", False),
    ):
        values = graded(told, systems, kind, metric)
        assert values == sorted(values, reverse=falls) and values[0] != values[-1], (metric, kind, values)
    speed = graded(told, systems, "frozen listener", "head.speed")
    assert speed[-1] < 0.75 * speed[0]
    swapped = graded(told, systems, "swapped partner", "rpcc.mesh.pose")
    assert min(swapped[1:]) > 5 * swapped[0]
    draw(told, systems, tmp_path / "corruption.png")
    assert cv2.imread(str(tmp_path / "corruption.png")) is not None


def graded(told: Report, systems: list[Corrupted], kind: str, metric: str) -> list[float]:
    """A metric's values from the least to the worst corruption."""
    found = {one.system: one.value for one in told.results if one.metric == metric and one.slice == "all"}
    assert GROUND_TRUTH in found
    values = [found[one.name] for one in systems if one.kind == kind]
    assert None not in values
    return [float(value) for value in values if value is not None]
