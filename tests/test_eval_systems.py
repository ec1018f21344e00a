"""Systems that make videos: the checkpoint, the baselines, folders of other systems' videos."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dyconv.errors import DyconvError, UsageError
from dyconv.infp import Agent
from dyconv.infp.config import STAGE1, STAGE2
from dyconv.infp.film import Film
from dyconv.infp.mark import read_mark
from dyconv.infp.stage1 import Stage1, save_stage1
from dyconv.infp.stage2 import Stage2
from tests.infp_build import make_build
from training.evaluation.baselines import NAMES, make_baseline, smoothed, there_and_back
from training.evaluation.case import Case, Truth, View
from training.evaluation.clock import Clock
from training.evaluation.notes import note_of
from training.evaluation.sets import CaseSet, open_set
from training.evaluation.systems import Checkpoint, Folder, Maker, MissingVideo, told, true_pictures, voices_of
from training.evaluation.videos import open_video

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = STAGE1["debug"].size
VIEWS = (View.INTERACTIVE, View.TALKING, View.LISTENING, View.VIDEO)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("systems")


@pytest.fixture(scope="module")
def agent() -> Agent:
    """One that learnt nothing."""
    torch.manual_seed(0)
    stage1 = Stage1(STAGE1["debug"])
    config = replace(STAGE2["debug"], width=32, sample_steps=2, window=25)
    return Agent(stage1, Stage2(config, encoder_hash=stage1.encoder_hash))


@pytest.fixture(scope="module")
def cases(folder: Path) -> CaseSet:
    return open_set(make_build(folder / "set", folder / "scratch", one_sided=(0,), talks=(3,)), VIEWS)


@pytest.fixture(scope="module")
def train(folder: Path) -> str:
    return make_build(folder / "train", folder / "scratch2", one_sided=(1, 2), talks=(4,))


def truth_of(cases: CaseSet, view: View, *, person: str = "p0", clip: str = "talk3") -> Truth:
    return next(cases.truth(case) for case in cases.cases if (case.view, case.person, case.unit) == (view, person, clip))


def frames_of(path: Path, truth: Truth) -> np.ndarray:
    video = open_video(path, frames=truth.case.frames, where=str(path))
    return np.concatenate(list(video.chunks(video.size, 64)))


def raw(system: Maker, truth: Truth) -> np.ndarray:
    """Frames as they are made, before they are written."""
    return np.stack(list(system.frames(truth, system.clock())))


def test_a_checkpoint_makes_a_marked_video_of_each_view(agent: Agent, cases: CaseSet, tmp_path: Path) -> None:
    system = Checkpoint(agent)
    for view in VIEWS:
        truth = truth_of(cases, view)
        path = tmp_path / view / f"{truth.case.name}.mp4"
        assert system.make(truth, path) == path
        made, written = raw(system, truth), frames_of(path, truth)
        assert written.shape == made.shape == (truth.case.frames, SIZE, SIZE, 3)
        assert 10 * np.log10(255**2 / np.square(made.astype(float) - written).mean()) > 32  # it draws coloured noise
        assert read_mark(path)
        numbers = told(path)
        assert numbers["frames"] == truth.case.frames
        assert 0 < numbers["first_frame_s"] <= numbers["seconds"]
        assert ("latency_s" in numbers) == (view is not View.VIDEO)
        assert {file.name for file in path.parent.iterdir()} == {path.name, note_of(path).name}


def test_latency_is_the_streams(agent: Agent, cases: CaseSet, tmp_path: Path) -> None:
    truth = truth_of(cases, View.TALKING)
    Checkpoint(agent).make(truth, tmp_path / "a.mp4")
    assert told(tmp_path / "a.mp4")["latency_s"] == (25 + agent.stage2.ahead) / 25


def test_views_give_away_their_voices_only(agent: Agent, cases: CaseSet) -> None:
    made = {}
    for view in VIEWS[:3]:
        truth = truth_of(cases, view)
        own, partner = voices_of(truth)
        assert truth.own.any() and truth.partner.any()
        assert ((own is None), (partner is None)) == (view is View.LISTENING, view is View.TALKING)
        made[view] = raw(Checkpoint(agent), truth)
        silent = replace(truth, own=truth.own * (own is not None), partner=truth.partner * (partner is not None))
        assert np.array_equal(made[view], raw(Checkpoint(agent), silent))
    assert not np.array_equal(made[View.TALKING], made[View.LISTENING])
    assert not np.array_equal(made[View.TALKING], made[View.INTERACTIVE])


def test_the_same_truth_version_and_seed_give_the_same_frames(agent: Agent, cases: CaseSet, tmp_path: Path) -> None:
    truth = truth_of(cases, View.INTERACTIVE)
    one, same, other = Checkpoint(agent), Checkpoint(agent), Checkpoint(agent, seed=1)
    assert one.version == same.version != other.version
    assert np.array_equal(raw(one, truth), raw(same, truth))
    assert not np.array_equal(raw(one, truth), raw(other, truth))
    films = [frames_of(system.make(truth, tmp_path / f"{at}.mp4"), truth) for at, system in enumerate((one, same))]
    assert np.array_equal(films[0], films[1])
    versions = {Checkpoint(agent, style="own").version, one.version, make_baseline("static", agent, cases).version}
    assert len(versions) == 3
    assert not np.array_equal(raw(one, truth), raw(Checkpoint(agent, style="own"), truth))
    with pytest.raises(UsageError, match="style none or own, found 'mine'"):
        Checkpoint(agent, style="mine")


def test_weights_are_in_the_version(agent: Agent) -> None:
    torch.manual_seed(1)
    other = Stage1(STAGE1["debug"])
    other.encoder.load_state_dict(agent.stage1.encoder.state_dict())  # the same latents, drawn by another renderer
    assert Checkpoint(Agent(other, agent.stage2)).version != Checkpoint(agent).version
    assert Checkpoint(Agent(agent.stage1)).version != Checkpoint(agent).version


def test_the_portrait_is_the_first_frame_that_shows_the_face(agent: Agent, cases: CaseSet) -> None:
    truth = truth_of(cases, View.VIDEO, person="p1")
    assert truth.portrait == 8
    still = raw(make_baseline("static", agent, cases), truth)
    shown = list(true_pictures(truth))
    assert len(shown) == len(still) == truth.case.frames
    assert all(np.array_equal(frame, shown[8]) for frame in still)  # a build of the agent's own size: not even resized


def test_what_is_there_is_left_and_what_was_stopped_is_made_again(agent: Agent, cases: CaseSet, tmp_path: Path) -> None:
    truth, path = truth_of(cases, View.VIDEO), tmp_path / "static" / "video" / "a.mp4"
    system = make_baseline("static", agent, cases)
    system.make(truth, path)
    first = frames_of(path, truth)
    os.utime(path, (1, 1))
    system.make(truth, path)
    assert path.stat().st_mtime == 1  # not touched
    note_of(path).unlink()  # stopped between the film and its numbers
    system.make(truth, path)
    assert path.stat().st_mtime > 1 and np.array_equal(frames_of(path, truth), first)
    os.utime(path, (1, 1))
    system.make(replace(truth, portrait=3), path)  # another truth
    assert path.stat().st_mtime > 1

    class Stops(Maker):
        def frames(self, truth: Truth, clock: Clock):  # type: ignore[no-untyped-def]
            yield from [np.zeros((SIZE, SIZE, 3), np.uint8)] * 5
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stops("stops", 0).make(truth, tmp_path / "stops.mp4")
    assert not [file for file in tmp_path.iterdir() if file.is_file()]


def test_a_system_that_makes_too_few_frames_leaves_no_video(cases: CaseSet, tmp_path: Path) -> None:
    class Short(Maker):
        def frames(self, truth: Truth, clock: Clock):  # type: ignore[no-untyped-def]
            yield np.zeros((SIZE, SIZE, 3), np.uint8)

    with pytest.raises(DyconvError, match=r"expected 40 frames of talk3_0003.p0, made 1"):
        Short("short", 0).make(truth_of(cases, View.VIDEO), tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_each_baseline_makes_each_case_it_can(agent: Agent, cases: CaseSet, train: str, tmp_path: Path) -> None:
    for name in NAMES:
        system = make_baseline(name, agent, cases, [train])
        assert system.name == name
        for view in (View.INTERACTIVE, View.VIDEO):
            truth = truth_of(cases, view, person="p1")
            if (name, view) == ("role-switch", View.VIDEO):
                with pytest.raises(DyconvError, match=r"talk3_0003.p1: role-switch hears voices"):
                    system.make(truth, tmp_path / "no.mp4")
                continue
            path = tmp_path / name / view / "a.mp4"
            assert frames_of(system.make(truth, path), truth).shape == (40, SIZE, SIZE, 3)
            assert told(path).get("frames") == (None if name == "static" else 40)  # to repeat a picture is no work
        assert np.array_equal(raw(system, truth_of(cases, View.TALKING)), raw(system, truth_of(cases, View.TALKING)))
    with pytest.raises(UsageError, match="static, mirror, random-train, role-switch, found 'stattic'"):
        make_baseline("stattic", agent, cases)
    with pytest.raises(UsageError, match="build to draw motion from"):
        make_baseline("random-train", agent, cases)


def test_what_hears_nothing_is_made_once_for_all_views(agent: Agent, cases: CaseSet, tmp_path: Path) -> None:
    paths = [tmp_path / view / "a.mp4" for view in VIEWS]
    system = make_baseline("static", agent, cases)
    for view, path in zip(VIEWS, paths, strict=True):
        assert system.make(truth_of(cases, view), path) == path
    assert len({path.stat().st_ino for path in paths}) == 1
    assert all(told(path) == told(paths[0]) for path in paths)
    changed = replace(truth_of(cases, View.TALKING), portrait=5)
    system.make(changed, paths[1])
    assert len({path.stat().st_ino for path in paths}) == 2  # the others stay as they were
    ours = Checkpoint(agent)
    for view in VIEWS[:2]:
        ours.make(truth_of(cases, view), tmp_path / "ours" / view / "a.mp4")
    assert len({path.stat().st_ino for path in tmp_path.glob("ours/*/a.mp4")}) == 2


def test_mirror_moves_with_the_partner_only(agent: Agent, cases: CaseSet) -> None:
    mirror, truth = make_baseline("mirror", agent, cases), truth_of(cases, View.INTERACTIVE)
    assert np.array_equal(raw(mirror, truth), raw(mirror, replace(truth, own=truth.own * 0, partner=truth.partner * 0)))
    assert np.ptp(raw(mirror, truth).astype(int), axis=0).max() > 5
    with pytest.raises(DyconvError, match=r"talk0_0000.p0: expected the partner's face"):
        raw(mirror, truth_of(cases, View.TALKING, clip="talk0"))


def test_random_motion_is_of_another_source_and_of_the_cases_own_seed(
    agent: Agent, cases: CaseSet, train: str, folder: Path
) -> None:
    def drawn(seed: int, case: Case) -> str:
        system = make_baseline("random-train", agent, cases, [train], seed)
        return system._drawn(case)[0].where  # type: ignore[attr-defined]

    case = truth_of(cases, View.VIDEO).case
    assert drawn(0, case) == drawn(0, replace(case, view=View.TALKING))
    names = [replace(case, clip=f"c{number}", unit="talk1") for number in range(12)]
    assert len({drawn(0, one) for one in names}) > 1 and len({drawn(seed, case) for seed in range(12)}) > 1
    assert all("clip talk1_" not in drawn(0, one) for one in names)
    same = str(folder / "set")
    only = make_baseline("random-train", agent, cases, [same])
    assert "clip talk0" in only._drawn(case)[0].where  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="no column split"):
        make_baseline("random-train", agent, cases, [f"{train}@train"])
    alone = make_build(folder / "alone", folder / "scratch3", one_sided=(3,))
    with pytest.raises(DyconvError, match="expected another source in the training builds, found only talk3"):
        raw(make_baseline("random-train", agent, cases, [alone]), truth_of(cases, View.VIDEO))


def test_role_switch_hears_one_voice_at_a_time(agent: Agent, cases: CaseSet) -> None:
    from dyconv.infp.roles import switched

    system, truth = make_baseline("role-switch", agent, cases), truth_of(cases, View.INTERACTIVE)
    talking = switched(agent.stage2, truth.own, truth.own * 0, talking=np.ones(40, bool), seed=1)
    assert torch.equal(talking, switched(agent.stage2, truth.own, truth.partner, talking=np.ones(40, bool), seed=1))
    assert not np.array_equal(raw(system, truth), raw(Checkpoint(agent), truth))


def test_smoothing_and_going_back() -> None:
    values = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    wanted = np.stack([padded[at : at + 5].mean(axis=0) for at in range(20)])
    assert np.allclose(smoothed(values, 5), wanted, atol=1e-6)
    assert there_and_back(4, 10).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]
    assert there_and_back(9, 3).tolist() == [0, 1, 2] and there_and_back(1, 3).tolist() == [0, 0, 0]


def test_weights_that_do_not_belong_together_are_refused(agent: Agent, tmp_path: Path) -> None:
    torch.manual_seed(3)
    save_stage1(Stage1(STAGE1["debug"]), tmp_path / "stage1.safetensors")
    agent.stage2.save(tmp_path / "stage2.safetensors")
    with pytest.raises(UsageError, match="generates motion latents of encoder"):
        Agent.load(tmp_path)


def film(path: Path, frames: int = 40, size: int = 48) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Film(path, size) as made:
        for at in range(frames):
            made.write(np.full((size, size, 3), at, np.uint8))
    return path


def test_videos_of_another_system_are_measured_where_they_lie(cases: CaseSet, tmp_path: Path) -> None:
    truth, other = truth_of(cases, View.TALKING), truth_of(cases, View.VIDEO)
    wanted = film(tmp_path / "dim" / "talking" / f"{truth.case.name}.mp4")
    for_all = film(tmp_path / "dim" / f"{truth.case.name}.mp4")
    note_of(wanted).write_text(json.dumps({"seconds": 2, "latency_s": 0.5, "gpu": "A10"}))
    system = Folder(tmp_path / "dim")
    assert system.name == "dim" and Folder(tmp_path / "dim", name="DIM").name == "DIM"
    out = tmp_path / "out" / "a.mp4"
    assert system.make(truth, out) == wanted and system.make(other, out) == for_all
    assert not out.parent.exists()  # nothing is copied
    assert told(wanted) == {"seconds": 2.0, "latency_s": 0.5} and told(for_all) == {}
    assert Folder(tmp_path / "dim").version == system.version
    note_of(wanted).write_text('{"seconds": "two"}')
    with pytest.raises(UsageError, match="expected a number of seconds"):
        Folder(tmp_path / "dim").make(truth, out)
    note_of(wanted).unlink()
    film(wanted, size=64)
    assert Folder(tmp_path / "dim").version != system.version


def test_missing_videos_are_told_by_name(cases: CaseSet, tmp_path: Path) -> None:
    truth = truth_of(cases, View.TALKING)
    film(tmp_path / "dim" / "talking" / f"{truth.case.name}.mp4")
    system = Folder(tmp_path / "dim")
    talking = [case for case in cases.cases if case.view is View.TALKING]
    assert {case.name for case in system.missing(talking)} == {"talk0_0000.p0", "talk3_0003.p1"}
    with pytest.raises(MissingVideo, match=r"expected talking/talk3_0003.p1.mp4 or talk3_0003.p1.mp4 in .*dim") as error:
        system.make(truth_of(cases, View.TALKING, person="p1"), tmp_path / "a.mp4")
    assert error.value.hint
    film(tmp_path / "wrong" / "clips" / "first.mp4")
    with pytest.raises(UsageError, match=r"expected videos such as .*p0.mp4 in .*wrong, found clips/first.mp4"):
        Folder(tmp_path / "wrong").missing(cases.cases)
    with pytest.raises(UsageError, match="no folder"):
        Folder(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ['{"seconds": "fast"}', '{"seconds": -1}', '{"frames": true}', '{"peak_mb": NaN}', "[1]", "{"])
def test_numbers_beside_a_video_are_checked(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.p0.mp4"
    note_of(path).write_text(text)
    with pytest.raises(UsageError, match=r"a.p0.mp4.json") as error:
        told(path)
    assert error.value.hint
