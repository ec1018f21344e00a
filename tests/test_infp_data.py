"""What INFP learns from: the same rows at the same place whoever makes them, true pairs and windows, changes that stay true."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dyconv.errors import ShardError, UsageError
from dyconv.infp.config import STAGE1, STAGE2
from dyconv.infp.mask import masked, regions
from dyconv.infp.stage2 import Window
from dyconv.models.mesh_motion import MeshMotion
from dyconv.store import Store
from tests.infp_build import LATENT, SIZE, SPACE, frames_of, level_of, make_build, present_of
from training.infp.augment import changed, coloured, mirrored, moved, twins
from training.infp.clips import Recent
from training.infp.data import Batches, Curriculum, DataPlan, stage1_batches, stage2_batches
from training.infp.order import Lane, deal, lanes_of, rows_of
from training.infp.pairs import faces_of, phases
from training.infp.plan import kind_of
from training.infp.probes import targets_of
from training.infp.stage1_objective import Batch
from training.infp.voices import levels, louder, pauses, speaks, with_partner

ONE_SIDED, TALKS = (0, 1, 2, 3), (4, 5, 6, 7, 8)
CONFIG1 = STAGE1["debug"]
CONFIG2 = dataclasses.replace(STAGE2["debug"], latent=LATENT, window=30)
PLAN = DataPlan(batch=8, seed=3, lanes=4, opened=2, per_visit=3, augment=False)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("made")
    return make_build(root, root / "scratch", one_sided=ONE_SIDED, talks=TALKS, unseen=(9,))


def stage1(data: str, plan: DataPlan = PLAN, start: int = 0) -> Batches[Batch]:
    return stage1_batches([data], CONFIG1, plan, start=start)


def stage2(data: str, plan: DataPlan = PLAN, start: int = 0) -> Batches[Window]:
    return stage2_batches([data], CONFIG2, plan, encoder_hash=SPACE, start=start)


def some(batches: Batches[Any], count: int) -> list[list[torch.Tensor]]:
    """Columns of the next batches; then the loader is closed."""
    out = [
        list(batch if isinstance(batch, tuple) else vars(batch).values())
        for _, batch in zip(range(count), batches, strict=False)
    ]
    batches.close()
    return out


def same(left: list[list[torch.Tensor]], right: list[list[torch.Tensor]]) -> bool:
    pairs = [(a, b) for one, other in zip(left, right, strict=True) for a, b in zip(one, other, strict=True)]
    return all(torch.equal(a, b) for a, b in pairs)


# Places


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 7), st.integers(0, 1000))
def test_a_lane_takes_clips_in_turn(count: int, opened: int, per_visit: int, seed: int) -> None:
    lane = Lane([list(range(count))[at::3] for at in range(3)], (seed, 1, 0), opened=opened, per_visit=per_visit)
    rows = (count + min(opened, count)) * per_visit
    drawn = [lane.at(row) for row in range(rows)]
    assert {visit.item for visit in drawn} == set(range(count))  # an epoch comes to every clip
    assert set(Counter(visit.number for visit in drawn).values()) <= set(range(1, per_visit + 1))
    first = [lane.visit(number).item for number in range(count)]
    assert sorted(first) == list(range(count))
    again = Lane(lane.items, lane.key, opened=opened, per_visit=per_visit)
    assert [again.at(row) for row in reversed(range(rows))] == drawn[::-1]  # whatever was asked for before
    for turn in range(0, rows, lane.opened):
        open_now = {visit.number for visit in lane.open_at(turn)}
        assert len(open_now) == lane.opened
        assert {visit.number for visit in drawn[turn : turn + lane.opened]} <= open_now
    changes = [
        len({v.number for v in lane.open_at(row)} - {v.number for v in lane.open_at(row - lane.opened)})
        for row in range(lane.opened, rows, lane.opened)
    ]
    assert max(changes, default=0) <= -(-lane.opened // per_visit)  # clips are exchanged one by one, as far as can be


@given(st.lists(st.integers(0, 9), min_size=1, max_size=80).filter(any), st.integers(1, 9))
def test_every_clip_is_dealt_to_one_lane(sizes: list[int], lanes: int) -> None:
    numbers = iter(range(sum(sizes)))
    shards = [[next(numbers) for _ in range(size)] for size in sizes]
    dealt = [[item for part in parts for item in part] for parts in deal(shards, lanes)]
    assert len(dealt) == lanes and all(dealt)
    counted = Counter(item for part in dealt for item in part)
    assert set(counted) == set(range(sum(sizes)))
    if sum(sizes) >= lanes:
        assert set(counted.values()) == {1}
    assert max(map(len, dealt)) - min(map(len, dealt)) <= max(1, max(sizes))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 9), st.integers(1, 12), st.integers(0, 50))
def test_ranks_and_workers_share_a_batch(world: int, each: int, workers: int, lanes: int, number: int) -> None:
    batch = world * each
    places: list[int] = []
    for rank in range(world):
        plan = DataPlan(batch=batch, rank=rank, world_size=world)
        for worker in range(max(1, min(workers, each))):
            places += plan.places(worker, max(1, min(workers, each)))
    assert places == list(range(batch))
    used = lanes_of(batch, lanes)
    rows = rows_of(batch, used, number, range(batch))
    following = rows_of(batch, used, number + 1, range(batch))
    per_lane = {lane: sorted(row for at, row in [*rows, *following] if at == lane) for lane in range(used)}
    first = number * batch // used
    assert all(found == list(range(first, first + 2 * batch // used)) for found in per_lane.values())


# The same rows


@pytest.mark.parametrize("make", [stage1, stage2])
@pytest.mark.parametrize("augment", [False, True])
def test_the_same_rows_from_anywhere(build: str, make: Any, augment: bool) -> None:
    plan = dataclasses.replace(PLAN, augment=augment)
    whole = some(make(build, plan), 4)
    assert same(whole, some(make(build, plan), 4))
    later = make(build, plan, 2)
    assert later.position == 2
    assert same(whole[2:], some(later, 2)) and later.position == 4
    parts = [some(make(build, dataclasses.replace(plan, rank=rank, world_size=4)), 4) for rank in range(4)]
    joined = [[torch.cat(columns) for columns in zip(*ranks, strict=True)] for ranks in zip(*parts, strict=True)]
    assert same(whole, joined)
    other = some(make(build, dataclasses.replace(plan, seed=4)), 4)
    assert not same(whole, other)
    assert len({float(batch[0].sum()) for batch in whole}) == 4


def test_workers_make_the_same_rows_and_say_how_fast(build: str) -> None:
    whole = some(stage1(build), 4)
    batches = stage1(build, dataclasses.replace(PLAN, workers=2), 1)
    found = [list(next(batches)) for _ in range(3)]
    assert batches.rate > 0 and 0 < batches.waited <= 1
    batches.close()
    assert same(whole[1:], found)
    with pytest.raises(StopIteration):
        next(batches)


# Stage 1


def origin(points: torch.Tensor) -> list[tuple[int, int, int]]:
    """(clip, person, frame) that landmarks [B, 478, 3] say they come from."""
    codes = points[:, 1, 2].round().int().tolist()
    return [(code // 2, code % 2, round(frame)) for code, frame in zip(codes, points[:, 0, 2].tolist(), strict=True)]


def test_pairs_are_two_frames_of_a_person_in_a_shot(build: str) -> None:
    seen = Counter()
    for portrait, portrait_mask, portrait_points, driver, driver_mask, driver_points, where, targets in some(stage1(build), 20):
        assert driver.shape == (8, 3, SIZE, SIZE) and driver.dtype == torch.float32 and driver.abs().max() <= 1
        for one, other in zip(origin(portrait_points), origin(driver_points), strict=True):
            assert one[:2] == other[:2]
            clip, person, frame = other
            seen[clip, person] += 1
            assert present_of(clip, person)[[frame, one[2]]].all()
            if frames_of(clip) == 90:
                assert (frame < 50) == (one[2] < 50)
            shot = 50 if frames_of(clip) == 90 and frame < 50 else frames_of(clip) - 50 * (frames_of(clip) == 90)
            assert abs(frame - one[2]) >= min(25, shot // 2 - 8)
        for picture, mask, points in ((portrait, portrait_mask, portrait_points), (driver, driver_mask, driver_points)):
            images = ((picture + 1) * 127.5).round().permute(0, 2, 3, 1).byte().numpy()
            wanted = masked(images, points.numpy())
            assert np.array_equal(((mask + 1) * 127.5).round().permute(0, 2, 3, 1).byte().numpy(), wanted)
        assert np.array_equal(where.numpy(), regions(driver_points.numpy(), SIZE))
        assert np.array_equal(targets.numpy(), targets_of(driver_points.numpy(), SIZE))
    assert set(seen) == {(clip, 0) for clip in (*ONE_SIDED, *TALKS)} | {(clip, 1) for clip in TALKS}
    assert max(seen[clip, 0] for clip in ONE_SIDED) < 4 * min(seen[clip, 0] for clip in ONE_SIDED)


def test_long_clips_are_taken_part_by_part(build: str) -> None:
    batches = stage1(build)
    make: Any = batches.make
    item = next(item for item in make.items if item.clip.endswith("0001"))
    parts, step = phases(item.frames, 8)
    assert (item.frames, parts, step) == (90, 3, 4)
    taken = [faces_of(make.builds.sample(item), "p0", SIZE, limit=8, phase=phase) for phase in range(parts * step)]
    assert sorted(frame for faces in taken for frame in faces.frames.tolist()) == list(range(90))
    assert max(len(faces.pictures) for faces in taken) <= 8
    assert all(np.array_equal(faces.points[:, 0, 2].round(), faces.frames) for faces in taken)
    batches.close()


def test_a_small_set_is_decoded_once_and_memory_is_bounded(build: str) -> None:
    batches = stage1(build)
    some(batches, 15)
    make: Any = batches.make
    clips = len(ONE_SIDED) + 2 * len(TALKS)
    assert len(make.recent) <= 2 * clips  # both phases of the longest
    small = stage1(build, dataclasses.replace(PLAN, frames=20, cache_mb=5))
    for _ in range(15):
        next(small)
        held: Any = small.make
        assert held.recent.bytes <= 5 * 2**20
    small.close()
    with pytest.raises(UsageError, match=r"cache_mb=1 does not hold .* MB are needed"):
        stage1(build, dataclasses.replace(PLAN, cache_mb=1))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40)), max_size=60))
def test_recent_holds_no_more_than_it_may(asked: list[tuple[int, int]]) -> None:
    recent = Recent(50)
    for key, size in asked:
        assert len(recent.get(key, lambda size=size: bytes(size), len)) > 0
        assert recent.bytes <= 50
    if asked:
        assert recent.get(asked[-1][0], lambda: pytest.fail("made again"), len) is not None


# Changes to pictures


def test_twins_swap_right_and_left() -> None:
    swapped = twins()
    for right, left in ((33, 263), (133, 362), (61, 291), (159, 386), (145, 374), (70, 300), (234, 454), (468, 473), (1, 1)):
        assert swapped[right] == left and swapped[left] == right
    assert sorted(swapped.tolist()) == list(range(478))


def drawn_faces(count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Pictures with a red disc at the person's right eye and a blue one at the left, and their landmarks."""
    import cv2

    from tests.infp_build import landmarks_of

    points = landmarks_of(1, 0)[5 : 5 + 7 * count : 7]
    pictures = np.full((count, SIZE, SIZE, 3), 90, np.uint8)
    for picture, face in zip(pictures, points, strict=True):
        for at, channel in ((33, 0), (263, 2)):
            colour = [40, 40, 40]
            colour[channel] = 250
            cv2.circle(picture, tuple(np.floor(face[at, :2]).astype(int).tolist()), 2, colour, -1)
    return pictures, points


def centre_of(picture: np.ndarray, channel: int) -> np.ndarray:
    """Where the disc of this colour is, in pixels whose centres are at a half."""
    values = picture.astype(np.float64)
    weight = np.clip(values[..., channel] - values[..., 2 - channel] - 40, 0, None)
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def test_landmarks_follow_what_a_mirror_shows() -> None:
    pictures, points = drawn_faces()
    seen, there = mirrored(pictures, points)
    for picture, face in zip(seen, there, strict=True):
        assert np.abs(centre_of(picture, 0) - face[263, :2]).max() < 1  # the right eye's red disc is now a left eye's
        assert np.abs(centre_of(picture, 2) - face[33, :2]).max() < 1
    mesh = MeshMotion()
    before, after = (dict(zip(mesh.names, mesh.encode(pictures, found).T, strict=True)) for found in (points, there))
    for name in ("head_yaw", "head_roll", "head_x", "mouth_side"):
        assert np.allclose(after[name], -before[name], atol=1e-3), name
    for name in ("head_pitch", "head_y", "head_scale", "mouth_open"):
        assert np.allclose(after[name], before[name], atol=1e-3), name
    for right, left, sign in (("eye_open_right", "eye_open_left", 1), ("gaze_right_x", "gaze_left_x", -1)):
        assert np.allclose(after[right], sign * before[left], atol=1e-3)
        assert np.allclose(after[left], sign * before[right], atol=1e-3)
    assert np.abs(before["head_yaw"]).max() > 0.1 and np.abs(before["eye_open_left"] - before["eye_open_right"]).min() > 0.01
    back = mirrored(seen, there)
    assert np.array_equal(back[0], pictures) and np.allclose(back[1], points, atol=1e-4)


@pytest.mark.parametrize(("zoom", "shift"), [(1.0, (0.05, -0.03)), (1.1, (0.0, 0.0)), (0.92, (-0.02, 0.04))])
def test_landmarks_follow_where_a_picture_moves(zoom: float, shift: tuple[float, float]) -> None:
    pictures, points = drawn_faces()
    seen, there = moved(pictures, points, zoom, shift)
    for old, new, before, after in zip(pictures, seen, points, there, strict=True):
        for channel, at in ((0, 33), (2, 263)):
            went = centre_of(new, channel) - centre_of(old, channel) - (after[at, :2] - before[at, :2])
            assert np.abs(went).max() < 0.3
    assert np.allclose(there[..., 2], zoom * points[..., 2])


def test_frames_of_a_pair_are_changed_alike() -> None:
    pictures, points = drawn_faces(1)
    twice = np.repeat(pictures, 2, axis=0), np.repeat(points, 2, axis=0)
    kinds = set()
    for seed in range(12):
        seen, there = changed(*twice, np.random.default_rng(seed))
        assert np.array_equal(seen[0], seen[1]) and np.array_equal(there[0], there[1])
        kinds.add(
            (bool(centre_of(seen[0], 0)[0] > centre_of(seen[0], 2)[0]), bool(np.ptp(there[0, :, 2]) != np.ptp(points[0, :, 2])))
        )
    assert len(kinds) == 4  # mirrored or not, moved or not
    colours = {tuple(coloured(pictures, np.random.default_rng(seed))[0, 0, 0]) for seed in range(9)}
    assert len(colours) > 5


def test_masks_are_coloured_by_themselves_and_lose_dots(build: str) -> None:
    plain, changed_ = (some(stage1(build, dataclasses.replace(PLAN, augment=on)), 4) for on in (False, True))
    dots = [sum(float((columns[4] == 1).all(dim=1).sum()) for columns in part) for part in (plain, changed_)]
    assert dots[1] < 0.97 * dots[0]
    inside = [(c[4] - c[3]).abs()[c[6].any(dim=1, keepdim=True).expand(-1, 3, -1, -1)].mean().item() for c in changed_]
    assert 0.01 < np.mean(inside) < 0.4


# Stage 2


def windows(batches: Batches[Window], count: int) -> Iterator[dict[str, np.ndarray]]:
    """Rows of the next batches, as arrays."""
    for _, batch in zip(range(count), batches, strict=False):
        columns = {name: value.numpy() for name, value in vars(batch).items()}
        for row in range(len(columns["motion"])):
            yield {name: value[row] for name, value in columns.items()}
    batches.close()


def expected_sound(clip: int, person: int, start: int, stop: int) -> np.ndarray:
    """Levels of frames [start, stop), silence outside the clip and where nobody is heard."""
    level = np.zeros(stop - start, np.float32)
    if person == 0 or clip in TALKS:
        at = np.arange(start, stop)
        inside = (at >= 0) & (at < frames_of(clip))
        level[inside] = level_of(clip, person)[at[inside]]
    return level


def test_windows_are_of_one_person_with_both_voices(build: str) -> None:
    batches = stage2(build)
    make: Any = batches.make
    before, ahead = make.before, make.ahead
    agents, starts, short = Counter(), set(), 0
    for row in windows(batches, 25):
        mask, motion = row["mask"], row["motion"]
        (clip, person), at = motion[mask][0, :2].astype(int), np.flatnonzero(mask)
        frames = motion[mask][:, 2].astype(int)
        agents[clip, person] += 1
        start = frames[0] - at[0]
        starts.add(start)
        assert np.array_equal(frames, start + at) and (motion[mask][:, :2] == (clip, person)).all()
        first, last = ((0, 50) if frames[0] < 50 else (50, 90)) if frames_of(clip) == 90 else (0, frames_of(clip))
        there = [first <= f < last and present_of(clip, person)[f] for f in range(start, start + CONFIG2.window)]
        assert np.array_equal(mask, there) and not motion[~mask].any()
        short += not mask.all()
        known = [first <= f < last and present_of(clip, person)[f] for f in range(start - CONFIG2.context, start)]
        assert np.array_equal(row["known"], known)
        assert np.array_equal(row["previous"][known][:, 2], np.arange(start - CONFIG2.context, start)[known])
        for name, who in (("own", person), ("partner", 1 - person)):
            found = row[name].reshape(-1, 640)
            wanted = expected_sound(clip, who, start - before, start + CONFIG2.window + ahead)
            assert found.shape == (before + CONFIG2.window + ahead, 640)
            assert np.allclose(found, wanted[:, None], atol=1e-4), (name, clip, person, start)
        style = row["style"][row["style_known"]]
        assert (
            len(style) >= 10
            and (style[:, :2] == (clip, person)).all()
            and present_of(clip, person)[style[:, 2].astype(int)].all()
        )
        assert len(set(style[:, 2])) == len(style)
        if frames_of(clip) == 90:
            assert not set(style[:, 2]) & set(range(start, start + CONFIG2.window))
    assert set(agents) == {(clip, 0) for clip in (*ONE_SIDED, *TALKS)} | {(clip, 1) for clip in TALKS}
    assert len(starts) > 20 and short > 0


def test_clips_shorter_than_a_window(build: str) -> None:
    config = dataclasses.replace(CONFIG2, window=75)
    batches = stage2_batches([build], config, PLAN, encoder_hash=SPACE)
    lengths = set()
    for row in windows(batches, 12):
        clip = int(row["motion"][row["mask"]][0, 0])
        assert row["mask"].sum() <= (50 if frames_of(clip) == 90 else frames_of(clip)) and not row["motion"][~row["mask"]].any()
        lengths.add(int(row["mask"].sum()))
    assert {40, 64} <= lengths


def test_changed_voices_keep_their_time(build: str) -> None:
    plain, other = (
        windows(stage2(build, dataclasses.replace(PLAN, lanes=1, augment=on, invent=1.0)), 12) for on in (False, True)
    )
    invented, gains = 0, set()
    for before, after in zip(plain, other, strict=True):
        assert all(np.array_equal(before[name], after[name]) for name in ("motion", "mask", "previous", "style"))
        heard = before["own"] != 0
        assert not after["own"][~heard].any()
        if heard.any():
            gain = after["own"][heard] / before["own"][heard]
            assert gain.min() > 0.49 and gain.max() < 2.01 and np.ptp(gain) < 1e-3
            gains.add(round(float(gain[0]), 3))
        if speaks(before["partner"]).any():
            assert np.array_equal(before["partner"] != 0, after["partner"] != 0)
        elif after["partner"].any():
            invented += 1
            assert not (after["partner"] * before["own"]).any()
    assert invented > 12 and len(gains) > 20


def test_invented_words_fill_pauses_only() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(0, 0.1, 100 * 640).astype(np.float32)
    own[30 * 640 : 70 * 640] *= 1e-4
    assert np.array_equal(np.flatnonzero(~speaks(own)), np.arange(30, 70)) and pauses(own) == [(35, 65)]
    voice = rng.normal(0, 0.1, 60 * 640).astype(np.float32)
    levels_in = [levels(with_partner(own, [voice], np.random.default_rng(seed))) for seed in range(8)]
    for level in levels_in:
        assert (level[:35] < -90).all() and (level[65:] < -90).all()
    assert sum((level[35:65] > -40).any() for level in levels_in) >= 4
    assert not with_partner(own, [], rng).any() and not with_partner(own, [np.zeros(64000, np.float32)], rng).any()
    assert np.abs(louder(voice / np.abs(voice).max() * 0.9, rng)).max() <= 1


@given(st.integers(0, 20), st.integers(0, 20), st.floats(0, 1), st.integers(1, 4), st.integers(0, 99))
def test_curriculum(one_sided: int, ramp: int, share: float, each: int, seed: int) -> None:
    curriculum = Curriculum(one_sided, ramp, share)
    kinds = [kind_of(curriculum, seed, 0, row, each) for row in range(120 * each)]
    for kind in (0, 1):
        assert [number for found, number in kinds if found == kind] == list(range(sum(found == kind for found, _ in kinds)))
    assert sum(kind for kind, _ in kinds[: one_sided * each]) == 0
    late = [kind for kind, _ in kinds[(one_sided + ramp) * each :]]
    assert abs(sum(late) - share * len(late)) <= 1.01
    ramping = [kind for kind, _ in kinds[one_sided * each : (one_sided + ramp) * each]]
    assert abs(sum(ramping) - share * len(ramping) / 2) <= 1.01


def test_conversations_come_later_and_builds_of_one_kind_work(build: str, tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, curriculum=Curriculum(one_sided=5, ramp=0, conversations=1.0))
    clips = [int(row["motion"][row["mask"]][0, 0]) for row in windows(stage2(build, plan), 10)]
    assert set(clips[:40]) <= set(ONE_SIDED) and set(clips[40:]) <= set(TALKS)
    alone = make_build(tmp_path / "alone", tmp_path / "s", one_sided=(0, 2))
    talks = make_build(tmp_path / "talks", tmp_path / "t", talks=(4,))
    for data, known in ((alone, {0, 2}), (talks, {4})):
        assert {int(row["motion"][row["mask"]][0, 0]) for row in windows(stage2(data, plan), 10)} == known
    both = stage2_batches([alone, talks], CONFIG2, plan, encoder_hash=SPACE)
    assert both.clips == 3
    assert {int(row["motion"][row["mask"]][0, 0]) for row in windows(both, 10)} == {0, 2, 4}


# Where the data lie


def test_a_remote_build_gives_the_same_rows(build: str, tmp_path: Path) -> None:
    remote = Store("memory://infp-data")
    for path in (Path(build) / "shards").iterdir():
        remote.write_bytes(f"shards/{path.name}", path.read_bytes())
    for make in (stage1, stage2):
        batches = make("memory://infp-data")
        folder = Path(batches.folder.name)
        there = some(batches, 3)
        assert same(some(make(build), 3), there) and not folder.exists()
    kept = dataclasses.replace(PLAN, cache=str(tmp_path / "copies"))
    assert same(some(stage1(build), 3), some(stage1("memory://infp-data", kept), 3))
    assert list((tmp_path / "copies").rglob("clips-*.tar"))


def test_sources_are_chosen_by_pattern(build: str) -> None:
    plan = dataclasses.replace(PLAN, only=("talk[01]",), without=("*1",))
    clips = {clip for columns in some(stage1(build, plan), 5) for clip, _, _ in origin(columns[5])}
    assert clips == {0, 4, 8}
    with pytest.raises(UsageError, match="no clip of the sources chosen"):
        stage1(build, dataclasses.replace(PLAN, only=("nobody*",)))


def test_what_cannot_be_is_said(build: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"8 rows cannot be dealt evenly to 3 processes"):
        DataPlan(batch=8, world_size=3)
    with pytest.raises(UsageError, match="rank must be from 0 to 1"):
        DataPlan(batch=8, rank=2, world_size=2)
    with pytest.raises(UsageError, match="per_visit must be at least 1"):
        DataPlan(batch=8, per_visit=0)
    with pytest.raises(ShardError, match="has no shards/index"):
        stage1(str(tmp_path))
    with pytest.raises(UsageError, match="no data"):
        stage1_batches([], CONFIG1, PLAN)
    with pytest.raises(UsageError, match=f"{build}: .*bbbbbbbb"):
        stage2_batches([build], CONFIG2, PLAN, encoder_hash="b" * 64)
    voices = make_build(tmp_path / "voices", tmp_path / "v", unseen=(0, 1))
    with pytest.raises(UsageError, match="no clip with a face video"):
        stage1(voices)


def test_a_damaged_shard_stops_the_training(tmp_path: Path) -> None:
    data = make_build(tmp_path / "made", tmp_path / "s", one_sided=(0, 2))
    tar = next((Path(data) / "shards").glob("clips-*.tar"))
    tar.write_bytes(tar.read_bytes()[:-1] + b"x")
    batches = stage1(data, dataclasses.replace(PLAN, workers=1))
    with pytest.raises(ShardError, match=rf"{tar.name} is not what its index says"):
        next(batches)
    batches.close()
