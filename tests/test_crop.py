"""Crop: where the window lies, what it shows, and that landmarks move with the picture."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv.arrays import load_arrays
from dyconv.errors import StoreError, UsageError
from dyconv.faces import FaceArrays, save_faces, unpack_points
from dyconv.media.video import VideoWriter, frame_count, frame_size, iter_pictures, read_frames
from dyconv.records import Clip, Key, Person, Source, Track
from dyconv.stages.base import Files, check_contract
from dyconv.stages.crop import Crop, cut, cut_picture, person_faces, planes_of, to_crop, window
from dyconv.store import Store, sha256_of
from dyconv.time import Span

FRAMES = 30
FACES = {"t0": (60, 50, 100, 100), "t1": (270, 4, 318, 60)}  # the second one stands at the picture's edge


def moving(box: tuple[int, int, int, int], frame: int) -> np.ndarray:
    """The box swings four pixels to the right and back."""
    return np.array(box, np.float32) + np.array([1, 0, 1, 0], np.float32) * round(4 * np.sin(np.pi * frame / FRAMES))


def faces_of(box: tuple[int, int, int, int], frames: range) -> FaceArrays:
    boxes = np.stack([moving(box, frame) for frame in frames])
    steps = np.linspace(0, 1, 478, dtype=np.float32)[None, :, None]
    points = boxes[:, None, :2] * (1 - steps) + boxes[:, None, 2:] * steps
    landmarks = np.concatenate([points, np.zeros((len(frames), 478, 1), np.float32)], -1)
    return FaceArrays(np.array(frames, np.int32), boxes, np.ones(len(frames), np.float32), landmarks)


@pytest.fixture
def given_clip(tmp_path: Path) -> tuple[Clip, Store, Path]:
    """Two bright squares on grey where the two faces are."""
    path, faces = tmp_path / "video.mp4", tmp_path / "faces.npz"
    with VideoWriter(path, 320, 180, crf=8) as writer:
        for frame in range(FRAMES):
            picture = np.full((180, 320, 3), 80, np.uint8)
            for box, colour in zip(FACES.values(), (200, 240), strict=True):
                x0, y0, x1, y1 = moving(box, frame).astype(int)
                picture[y0:y1, x0:x1] = colour
            writer.write(picture)
    save_faces(faces, {"t0": faces_of(FACES["t0"], range(FRAMES)), "t1": faces_of(FACES["t1"], range(10, FRAMES))})
    store = Store(tmp_path / "store")
    clip = Clip(
        id="talk",
        source=Source(id="talk", url="https://example.org/talk"),
        span=Span(Fraction(3), Fraction(3) + Fraction(FRAMES, 25)),
        shots=(Span.of_frames(0, FRAMES),),
        tracks=(Track("t0", 0, 0, FRAMES, 40, 1.0, "a", "p0"), Track("t1", 0, 10, FRAMES, 48, 1.0, "b", "p1")),
        people=(Person("p0", "a", True, True), Person("p1", "b", True, False)),
        assets={Key.VIDEO: store.put(path, "v.mp4"), Key.FACES: store.put(faces, "f.npz")},
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return clip, store, scratch


def run(stage: Crop, clip: Clip, store: Store, scratch: Path) -> Clip:
    files = Files(store, "out", scratch)
    outputs = list(stage.process(clip, files))
    check_contract(stage, clip, outputs)
    files.commit()
    assert isinstance(outputs[0], Clip)
    return outputs[0]


def test_crop_shows_the_face_where_the_landmarks_say(given_clip: tuple[Clip, Store, Path]) -> None:
    clip, store, scratch = given_clip
    out = run(Crop(size=128), clip, store, scratch)
    for person, track, colour in (("p0", "t0", 200), ("p1", "t1", 240)):
        video = store.local(out.assets[Key.of(person, "face")].path)
        assert (frame_count(video), frame_size(video)) == (FRAMES, (128, 128))
        arrays = load_arrays(store.local(out.assets[Key.of(person, "crop")].path))
        x0, y0, x1, y1 = arrays["box"]
        widest = max(FACES[track][2] - FACES[track][0] + 4, FACES[track][3] - FACES[track][1])
        assert x1 - x0 == y1 - y0 == pytest.approx(1.5 * widest, abs=1) and x0 % 2 == y0 % 2 == 0
        landmarks = unpack_points(arrays["landmarks"])
        for index, frame in enumerate(read_frames(video)):
            if not arrays["present"][index]:
                continue
            bright = np.argwhere(frame[..., 1] > (80 + colour) / 2)
            found = np.array([bright[:, 1].min(), bright[:, 0].min(), bright[:, 1].max() + 1, bright[:, 0].max() + 1])
            if person == "p0":  # the other one is filled up to the edge
                assert np.abs(found - [*landmarks[index, 0, :2], *landmarks[index, -1, :2]]).max() <= 2
    second = load_arrays(store.local(out.assets[Key.P1_CROP].path))
    assert second["box"][2] > 320 and second["box"][1] < 0
    assert second["present"].tolist() == [False] * 10 + [True] * 20
    assert np.array_equal(second["landmarks"][0], second["landmarks"][10])


def test_only_who_is_seen_and_same_bytes_again(given_clip: tuple[Clip, Store, Path]) -> None:
    clip, store, scratch = given_clip
    clip = replace(clip, people=(clip.people[0], Person("p1", None, False, True)))
    first = run(Crop(size=64), clip, store, scratch)
    assert set(first.assets) == {Key.VIDEO, Key.FACES, Key.P0_FACE, Key.P0_CROP}
    hashes = {key: sha256_of(store.local(ref.path)) for key, ref in first.assets.items()}
    again = run(Crop(size=64), clip, store, scratch)
    assert {key: ref.sha256 for key, ref in again.assets.items()} == hashes
    nobody = replace(clip, people=(Person("p0", None, False, True), Person("p1", None, False, True)))
    assert set(run(Crop(), nobody, store, scratch).assets) == {Key.VIDEO, Key.FACES}


def test_seen_without_a_face_is_an_error(given_clip: tuple[Clip, Store, Path]) -> None:
    clip, store, scratch = given_clip
    clip = replace(clip, tracks=clip.tracks[:1])
    with pytest.raises(StoreError, match="p1 is seen"):
        run(Crop(size=64), clip, store, scratch)


def test_one_wild_box_does_not_stretch_the_window() -> None:
    boxes = np.tile(np.array([[100, 100, 200, 220]], np.float32), (200, 1))
    boxes[17] = [0, 0, 900, 700]
    assert window(boxes, 1.5, 1.0).tolist() == [60, 70, 240, 250]


def test_two_tracks_of_one_person_in_a_frame(given_clip: tuple[Clip, Store, Path]) -> None:
    clip = given_clip[0]
    sure, unsure = faces_of((0, 0, 10, 10), range(4)), faces_of((50, 50, 60, 60), range(2, 6))
    weak = replace(unsure, scores=np.full(4, 0.3, np.float32))
    both = replace(clip, tracks=tuple(replace(track, person="p0") for track in clip.tracks))
    merged = person_faces(both, {"t0": sure, "t1": weak}, "p0")
    assert merged.frames.tolist() == [0, 1, 2, 3, 4, 5]
    assert merged.boxes[3, 0] < 20 < merged.boxes[4, 0]


@given(x=st.integers(-40, 60), y=st.integers(-40, 60), side=st.integers(2, 80), size=st.sampled_from([16, 32]))
def test_cut_repeats_the_edge(x: int, y: int, side: int, size: int) -> None:
    ramp = np.arange(48, dtype=np.float32)
    across, down = np.tile(ramp * 2, (48, 1)).astype(np.uint8), np.tile(ramp[:, None] * 2, (1, 48)).astype(np.uint8)
    box = np.array([x, y, x + side, y + side], np.float32)
    right, below = cut(across, box, size).astype(float), cut(down, box, size).astype(float)
    middle = (np.arange(size) + 0.5) * side / size - 0.5
    wanted = np.clip(x + middle, 0, 47) * 2
    assert right.shape == below.shape == (size, size)
    # Area and cubic filters blur the corner where the ramp meets the repeated edge by at most their own reach.
    reach = 2 * max(2.0, side / size + 1)
    assert np.abs(right[size // 2] - wanted).max() <= reach
    assert np.abs(below[:, size // 2] - np.clip(y + middle, 0, 47) * 2).max() <= reach


@given(st.integers(-100, 900), st.integers(-100, 900), st.integers(10, 700))
def test_to_crop_maps_corners(x: int, y: int, side: int) -> None:
    box = np.array([x, y, x + side, y + side], np.float32)
    corners = np.array([[box[0], box[1], 0], [box[2], box[3], side]], np.float32)
    assert np.allclose(to_crop(corners, box, 512)[:, :2], [[0, 0], [512, 512]], atol=1e-2)


def test_colours_stay_what_they_were(tmp_path: Path) -> None:
    """A picture of four colours: each quarter of the crop has the colour of its quarter of the window."""
    colours = np.array([[[200, 40, 40], [40, 200, 40]], [[40, 40, 200], [180, 180, 60]]], np.uint8)
    with VideoWriter(tmp_path / "v.mp4", 160, 160, crf=5) as writer:
        writer.write(np.kron(colours, np.ones((80, 80, 1), np.uint8)))
    _, picture = next(iter_pictures(tmp_path / "v.mp4"))
    cropped = cut_picture(planes_of(picture), np.array([20, 20, 140, 140], np.float32), 64).to_ndarray(format="rgb24")
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        part = cropped[32 * row + 8 : 32 * row + 24, 32 * column + 8 : 32 * column + 24].reshape(-1, 3)
        assert np.abs(part.mean(0) - colours[row, column]).max() < 6


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="multiple of 4"):
        Crop(size=510)
