"""Tracks: faces followed in made films of photographs that move, matched over shots, and the layout they are in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv.faces import FaceArrays, face_box, load_faces
from dyconv.media.video import VideoWriter, read_frames
from dyconv.models import registry
from dyconv.records import Clip, Drop, DropReason, Key, Ref, Source
from dyconv.stages.base import Files, check_contract
from dyconv.stages.tracks import Tracks, rgb_pictures
from dyconv.store import Store, sha256_of
from dyconv.time import FPS, Span
from dyconv.tracking.follow import Path as FacePath
from dyconv.tracking.geometry import distance, iou, match
from dyconv.tracking.layout import Lines, Shown, picture, recognise
from dyconv.tracking.people import Seen, group
from dyconv.tracking.smooth import fill_irises, restlessness, runs, steady, to_arrays

WIDTH, HEIGHT = 480, 270
Painter = Callable[[int], np.ndarray]


@pytest.fixture(scope="module")
def stage() -> Iterator[Tracks]:
    for name in Tracks().models():
        if registry.missing(registry.get(name)):
            pytest.skip(f"no weights of {name}: dyconv models pull {name}")
    stage = Tracks(min_face_px=24)
    stage.setup()
    yield stage


@cache
def portrait(person: str) -> np.ndarray:
    """A photograph with one face, uint8 [240, 200, 3]."""
    import cv2
    import insightface
    from skimage import data

    if person == "a":
        photo = np.asarray(data.astronaut())[20:284, 115:335]
    else:
        path = Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"
        photo = cv2.imread(str(path))[30:290, 825:1042, ::-1]
    return np.ascontiguousarray(cv2.resize(photo, (200, 240), interpolation=cv2.INTER_AREA))


@cache
def wall(seed: int) -> np.ndarray:
    """A background with soft structure and no lines."""
    import cv2

    noise = np.random.default_rng(seed).uniform(60, 180, (6, 10, 3)).astype(np.float32)
    return np.asarray(cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8))


def put(image: np.ndarray, person: str, frame: int, x: int, y: int, *, scale: float = 1.0, move: float = 1.0) -> np.ndarray:
    """The person's photograph laid soft-edged on the picture around (x, y), nodding and swaying."""
    import cv2

    turn = 5 * move * np.sin(frame / 9 + x)
    matrix = cv2.getRotationMatrix2D((100, 120), turn, scale)
    matrix[:, 2] += (x - 100 + 5 * move * np.sin(frame / 7), y - 120 + 4 * move * np.cos(frame / 11))
    size = (image.shape[1], image.shape[0])
    mask = np.zeros((240, 200), np.float32)
    cv2.ellipse(mask, (100, 120), (92, 112), 0, 0, 360, 1.0, -1)
    alpha = cv2.warpAffine(cv2.GaussianBlur(mask, (0, 0), 5), matrix, size)[..., None]
    return np.asarray((image * (1 - alpha) + cv2.warpAffine(portrait(person), matrix, size) * alpha).astype(np.uint8))


def film(path: Path, frames: int, paint: Painter) -> Path:
    first = paint(0)
    with VideoWriter(path, first.shape[1], first.shape[0], crf=18, preset="ultrafast") as writer:
        for index in range(frames):
            writer.write(np.ascontiguousarray(paint(index)))
    return path


def run(
    stage: Tracks, folder: Path, frames: int, paint: Painter, cuts: tuple[int, ...] = ()
) -> tuple[Any, dict[str, FaceArrays]]:
    """The stage's output for a made film, and the face arrays where it was kept."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "store")
    ref = store.put(film(folder / "film.mp4", frames, paint), "in/film.mp4")
    edges = [0, *cuts, frames]
    shots = tuple(Span.of_frames(low, high) for low, high in pairwise(edges))
    clip = Clip("c", Source("s", "file:film"), Span.of_frames(0, frames), shots=shots, assets={Key.VIDEO: ref})
    (folder / "scratch").mkdir(exist_ok=True)
    files = Files(store, "out", folder / "scratch")
    outputs = list(stage.process(clip, files))
    check_contract(stage, clip, outputs)
    out = outputs[0]
    return out, {} if isinstance(out, Drop) else load_faces(files.path(out, Key.FACES))


def two_then_one(frame: int) -> np.ndarray:
    if frame < 40:
        return put(put(wall(1), "a", frame, 110, 135), "b", frame, 360, 140)
    return put(wall(2), "b", frame, 230, 140, scale=1.1)


# the stage


def test_two_people_over_a_cut(stage: Tracks, tmp_path: Path) -> None:
    out, faces = run(stage, tmp_path, 70, two_then_one, cuts=(40,))
    assert [(track.id, track.shot, track.start, track.end) for track in out.tracks] == [
        ("t0", 0, 0, 40),
        ("t1", 0, 0, 40),
        ("t2", 1, 40, 70),
    ]
    left, right, alone = (track.identity for track in out.tracks)
    assert right == alone == "i0" and left == "i1"  # the one seen longest comes first
    assert out.layout == "two-shot" and out.measures["faces.still"] == 0
    assert all(track.coverage == 1 for track in out.tracks)
    for track, (x, y) in zip(out.tracks, ((110, 135), (360, 140), (230, 140)), strict=True):
        assert len(faces[track.id]) == track.end - track.start
        boxes = faces[track.id].boxes
        assert np.abs((boxes[:, 0] + boxes[:, 2]) / 2 - x).max() < 45 and np.abs((boxes[:, 1] + boxes[:, 3]) / 2 - y).max() < 45
        assert abs(track.width - np.median(boxes[:, 2] - boxes[:, 0])) < 2
    assert Clip.from_json(json.loads(json.dumps(out.to_json()))) == out


def test_the_same_film_gives_the_same_bytes(stage: Tracks, tmp_path: Path) -> None:
    again = Tracks(min_face_px=24)
    first, _ = run(stage, tmp_path / "one", 30, two_then_one)
    second, _ = run(again, tmp_path / "two", 30, two_then_one)
    assert first.assets[Key.FACES].sha256 == second.assets[Key.FACES].sha256
    assert first.tracks == second.tracks


def test_boxes_follow_the_motion(stage: Tracks, tmp_path: Path) -> None:
    out, faces = run(stage, tmp_path, 50, lambda frame: put(wall(1), "a", 0, 90 + 6 * frame, 135))
    assert len(out.tracks) == 1 and out.layout == "single"
    boxes = faces["t0"].boxes
    assert np.polyfit(np.arange(50), (boxes[:, 0] + boxes[:, 2]) / 2, 1)[0] == pytest.approx(6, abs=0.1)


def test_who_comes_in_later_is_followed_from_the_first_frame(stage: Tracks, tmp_path: Path) -> None:
    def paint(frame: int) -> np.ndarray:
        image = put(wall(1), "a", frame, 110, 135)
        return put(image, "b", frame, 360, 140) if frame >= 17 else image

    out, _ = run(stage, tmp_path, 45, paint)
    assert [(track.start, track.end) for track in out.tracks] == [(0, 45), (17, 45)]


def test_a_short_gap_is_one_track_and_a_long_one_is_two_of_one_person(stage: Tracks, tmp_path: Path) -> None:
    def paint(frame: int) -> np.ndarray:
        image = put(wall(1), "a", frame, 110, 135)
        return image if 20 <= frame < 26 or 46 <= frame < 70 else put(image, "b", frame, 360, 140)

    out, faces = run(stage, tmp_path, 90, paint)
    of_b = [track for track in out.tracks if faces[track.id].boxes[0, 0] > WIDTH / 2]
    assert [(track.start, track.end) for track in of_b] == [(0, 46), (70, 90)]
    assert len({track.identity for track in of_b}) == 1
    assert of_b[0].coverage == pytest.approx(40 / 46, abs=0.03)
    assert not set(range(20, 26)) & set(faces[of_b[0].id].frames.tolist())


def test_nobody_is_no_face(stage: Tracks, tmp_path: Path) -> None:
    out, _ = run(stage, tmp_path, 20, lambda frame: np.roll(wall(3), frame, 1))
    assert isinstance(out, Drop) and out.reason is DropReason.NO_FACE


def test_small_faces_are_named_with_their_size(stage: Tracks, tmp_path: Path) -> None:
    strict = replace(stage, min_face_px=400)
    out, _ = run(strict, tmp_path, 20, two_then_one)
    assert isinstance(out, Drop) and out.reason is DropReason.FACE_TOO_SMALL
    sizes = [int(word) for word in out.detail.split("found ")[1].split(" px")[0].split(", ")]
    assert len(sizes) == 2 and all(60 < size < 130 for size in sizes)


def test_a_photograph_on_the_wall_is_not_a_person(stage: Tracks, tmp_path: Path) -> None:
    still = put(wall(1), "b", 0, 360, 140)
    out, _ = run(stage, tmp_path / "one", 55, lambda frame: put(still, "a", frame, 110, 135))
    assert [track.identity for track in out.tracks] == ["i0"] and out.measures["faces.still"] == 1
    dropped, _ = run(stage, tmp_path / "two", 55, lambda frame: still)
    assert isinstance(dropped, Drop) and dropped.reason is DropReason.NO_FACE and "still" in dropped.detail


def test_without_shots_the_whole_clip_is_one(stage: Tracks, tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", 15, two_then_one)
    ref = Ref("film.mp4", sha256_of(path), path.stat().st_size)
    clip = Clip("c", Source("s", "file:film"), Span(Fraction(0), Fraction(15, FPS)), assets={Key.VIDEO: ref})
    out = next(iter(stage.process(clip, Files(Store(tmp_path), "out", tmp_path))))
    assert isinstance(out, Clip) and {track.shot for track in out.tracks} == {0}


def test_colours_are_those_of_the_other_reader(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", 3, two_then_one)
    for ours, theirs in zip(rgb_pictures(path), read_frames(path), strict=True):
        assert ours.shape == theirs.shape and np.abs(ours.astype(int) - theirs).mean() < 3


@pytest.mark.parametrize(
    ("name", "layout", "people"),
    [
        ("visualvoice__interview.mp4", "split", 2),
        ("diarizationvisualization__00115.mp4", "two-shot", 2),
        ("gestsync__asd_sample_2.mp4", "single", None),
    ],
)
def test_real_conversations(stage: Tracks, real_data: Path, tmp_path: Path, name: str, layout: str, people: int | None) -> None:
    import av

    path = real_data / "conversations" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(50), strict=False)]
    out, _ = run(stage, tmp_path, len(pictures), lambda frame: pictures[frame])
    assert out.layout == layout
    assert people is None or len({track.identity for track in out.tracks}) == people == len(out.tracks)


# who is who


def seen(frames: range, *vector: float) -> Seen:
    array = np.array(vector, float)
    return Seen(np.array(frames), array / np.linalg.norm(array))


def test_alike_tracks_are_one_person_unless_seen_together() -> None:
    assert group([seen(range(0, 10), 1, 0), seen(range(10, 30), 1, 0.1)], 0.5) == ["i0", "i0"]
    assert group([seen(range(0, 10), 1, 0), seen(range(0, 30), 1, 0.1)], 0.5) == ["i1", "i0"]
    assert group([seen(range(0, 10), 1, 0), seen(range(10, 20), 0, 1)], 0.5) == ["i0", "i1"]
    assert group([seen(range(0, 30), 1, 0), seen(range(25, 50), 1, 0.1)], 0.5) == ["i0", "i0"]  # the face jumped at 25
    assert group([], 0.5) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(5, 30), st.lists(st.floats(-1, 1), min_size=3, max_size=3)),
        min_size=1,
        max_size=7,
    )
)
def test_grouping_keeps_people_apart_who_are_seen_together(tracks: list[tuple[int, int, list[float]]]) -> None:
    people = [seen(range(start, start + length), *(value + 1e-3 for value in vector)) for start, length, vector in tracks]
    names = group(people, 0.6)
    for i, one in enumerate(people):
        for j, other in enumerate(people[:i]):
            if len(np.intersect1d(one.frames, other.frames)) >= 8:
                assert names[i] != names[j]
    time = {name: sum(len(p.frames) for p, n in zip(people, names, strict=True) if n == name) for name in set(names)}
    assert [time[name] for name in sorted(time, key=lambda name: int(name[1:]))] == sorted(time.values(), reverse=True)
    assert group(people, 0.6) == names


# the picture's layout


def composed(frames: int, paint: Painter) -> Lines:
    lines = Lines()
    for index in range(frames):
        lines.add(paint(index))
    return lines


LEFT, RIGHT = np.array([60, 90, 140, 180], float), np.array([330, 90, 410, 180], float)


def moving(seed: int, frame: int) -> np.ndarray:
    return np.roll(wall(seed), 3 * frame, 1)


def test_a_seam_over_the_whole_height_is_a_split_screen() -> None:
    def split(frame: int) -> np.ndarray:
        return np.concatenate([moving(1, frame)[:, : WIDTH // 2], 255 - moving(2, frame)[:, WIDTH // 2 :]], 1)

    assert picture(LEFT, RIGHT, composed(6, split)) == "split"
    assert picture(LEFT, RIGHT, composed(6, lambda frame: wall(1))) == "two-shot"


def test_a_post_that_ends_is_no_seam() -> None:
    def post(frame: int) -> np.ndarray:
        image = moving(1, frame).copy()
        image[:150, 238:242] = 10
        return image

    assert picture(LEFT, RIGHT, composed(6, post)) == "two-shot"


def test_faces_above_one_another_split_across() -> None:
    above, below = np.array([200, 20, 280, 100], float), np.array([200, 170, 280, 250], float)

    def stacked(frame: int) -> np.ndarray:
        return np.concatenate([moving(1, frame)[: HEIGHT // 2], 255 - moving(2, frame)[HEIGHT // 2 :]], 0)

    assert picture(above, below, composed(6, stacked)) == "split"


def test_a_small_rectangle_around_one_face_is_picture_in_picture() -> None:
    small = np.array([400, 200, 440, 250], float)

    def pip(frame: int) -> np.ndarray:
        image = moving(1, frame).copy()
        image[190:260, 380:460] = moving(2, frame)[190:260, 380:460] // 4
        return image

    assert picture(LEFT, small, composed(6, pip)) == "pip"
    assert picture(LEFT, small, composed(6, lambda frame: wall(1))) == "two-shot"


def shown(identity: str, shot: int, start: int, end: int) -> Shown:
    return Shown(identity, shot, np.arange(start, end), LEFT if identity == "i0" else RIGHT)


@pytest.mark.parametrize(
    ("tracks", "layout"),
    [
        ([shown("i0", 0, 0, 50)], "single"),
        ([shown("i0", 0, 0, 50), shown("i1", 1, 50, 100)], "alternating"),
        ([shown("i0", 0, 0, 50), shown("i1", 0, 0, 50)], "two-shot"),
        ([shown("i0", 0, 0, 30), shown("i1", 0, 0, 30), shown("i0", 1, 30, 100)], "alternating"),
        ([shown("i0", 0, 0, 50), shown("i1", 0, 0, 50), shown("i2", 0, 0, 50)], "other"),
        ([shown("i0", 0, 0, 30), shown("i1", 1, 30, 60), shown("i2", 2, 60, 100)], "other"),
        ([], "other"),
    ],
)
def test_layout_of_a_segment(tracks: list[Shown], layout: str) -> None:
    plain = composed(3, lambda frame: wall(1))
    assert recognise(tracks, {0: plain, 1: plain, 2: plain}, 100) == layout


# arrays


def head(frames: int) -> np.ndarray:
    """Made landmarks [frames, 478, 3] of a face that does not move."""
    points = np.random.default_rng(0).uniform(0, 100, (478, 3))
    return np.repeat(points[None] + 200, frames, 0)


def test_steadying_removes_tremor_and_keeps_the_mouth() -> None:
    rng = np.random.default_rng(1)
    points = head(100)
    lips = np.array([13, 14])
    mouth = np.zeros((100, 478, 3))
    mouth[:, lips, 1] = 4 * np.sin(2 * np.pi * 6 * np.arange(100) / FPS)[:, None] * [1, -1]  # 6 Hz: quick speech
    tremor = rng.normal(0, 1.0, (100, 1, 3)) * [1, 1, 0]
    out = steady(points + mouth + tremor)
    opening = out[:, 13, 1] - out[:, 14, 1]
    truth = (points + mouth)[:, 13, 1] - (points + mouth)[:, 14, 1]
    assert np.abs(opening - truth).max() < 1e-6
    inner = slice(2, -2)
    still = np.std((out - mouth - points)[inner, 300, :2])
    assert still < 0.75 * np.std(tremor[inner, 0, :2])


def test_steadying_does_not_lag() -> None:
    time = np.arange(100)
    sway = 20 * np.sin(2 * np.pi * time / 50)  # 0.5 Hz
    points = head(100)
    points[..., 0] += sway[:, None]
    out = steady(points)
    assert np.abs(out - points).max() < 0.2


def test_steadying_leaves_a_few_frames_as_they_are() -> None:
    assert np.array_equal(steady(head(3)), head(3))


def test_irises_in_between_keep_their_place_in_the_eye() -> None:
    points = head(9)
    points += np.linspace(0, 30, 9)[:, None, None] * [1, 0.5, 0]
    truth = points.copy()
    measured = np.arange(9) % 2 == 0
    points[~measured, 468:] = 0
    filled = fill_irises(np.arange(9), points, measured)
    assert np.abs(filled[..., :2] - truth[..., :2]).max() < 1e-6
    assert np.array_equal(fill_irises(np.arange(9), truth, np.ones(9, bool)), truth)


def test_a_finished_track_is_rounded_as_it_is_stored() -> None:
    path = FacePath()
    for frame in (3, 4, 5, 9, 10):
        path.add(frame, head(1)[0].astype(np.float32), 0.98765, frame % 2 == 0)
    faces = to_arrays(path)
    assert faces.frames.tolist() == [3, 4, 5, 9, 10] and np.array_equal(faces.landmarks * 8, np.rint(faces.landmarks * 8))
    assert np.array_equal(faces.boxes, face_box(faces.landmarks))
    assert [(part.start, part.stop) for part in runs(faces.frames)] == [(0, 3), (3, 5)]


def test_restlessness_is_motion_in_face_widths() -> None:
    points = head(50).astype(np.float32)
    boxes = face_box(points)
    frames = np.arange(50, dtype=np.int32)
    still = FaceArrays(frames, boxes, np.ones(50, np.float32), points)
    assert restlessness(still) == 0
    drift = points + (np.arange(50, dtype=np.float32) * 0.5)[:, None, None] * np.array([1, 0, 0], np.float32)
    width = float(boxes[0, 2] - boxes[0, 0])
    assert restlessness(replace(still, landmarks=drift)) == pytest.approx(0.5 * 12 / width, rel=1e-3)
    assert restlessness(still.between(0, 5)) == float("inf")


def test_boxes_are_compared_as_they_should() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [100, 100, 110, 110]], float)
    assert iou(boxes, boxes)[0] == pytest.approx([1, 1 / 3, 0], abs=1e-6)
    assert distance(boxes, boxes)[0] == pytest.approx([0, 0.5, np.hypot(100, 100) / 10])
    assert distance(boxes[:1], np.array([[0, 0, 90, 90]], float))[0, 0] == np.inf
    assert match(np.array([[0.1, 0.2], [0.0, 9.0]]), 1.0) == [(0, 1), (1, 0)]
    assert match(np.zeros((0, 3)), 1.0) == []


def test_a_face_is_only_drawn_inside_its_track() -> None:
    frames = np.array([10, 11, 14], np.int32)
    faces = FaceArrays(frames, np.zeros((3, 4), np.float32), np.ones(3, np.float32), np.zeros((3, 478, 3), np.float32))
    assert [faces.row_at(frame) for frame in (9, 10, 11, 12, 13, 14, 15)] == [None, 0, 1, 2, 2, 2, None]
    assert faces.row_at(12, reach=1) is None
