"""Mesh motion: latents that can be drawn again, each column what its name says, and shaky faces let go."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyconv.arrays import load_arrays, save_arrays
from dyconv.faces import MESH_POINTS, pack_points
from dyconv.media.video import VideoWriter, read_frames
from dyconv.models import registry
from dyconv.models.mesh_basis import basis, canonical
from dyconv.models.mesh_drawing import UNITS, draw, measure
from dyconv.models.mesh_motion import GAZE, POSE, MeshMotion, angles_of, rotation_of
from dyconv.models.slots import MotionEncoder
from dyconv.records import Clip, Drop, DropReason, Key, Person, Source
from dyconv.stages.base import Files, check_contract
from dyconv.stages.encode_motion import EncodeMotion, FaceFrames
from dyconv.store import Store, sha256_of
from dyconv.time import Span

SIZE = 512
PICTURE = [np.zeros((SIZE, SIZE, 3), np.uint8)]
MESH = MeshMotion()
NAMES = list(MESH.names)
angle = st.floats(-0.6, 0.6)


def latents(**values: float) -> np.ndarray:
    """One frame: a frontal canonical face over 40 % of the crop, changed by the named columns."""
    row = np.zeros((1, len(NAMES)), np.float32)
    row[0, NAMES.index("head_scale")] = 0.4
    for name, value in values.items():
        row[0, NAMES.index(name)] = value
    return row


def test_registered_and_named() -> None:
    model = registry.load("mesh")
    assert isinstance(model, MotionEncoder)
    assert len(model.names) == len(set(model.names)) == 64 and model.names[: len(POSE)] == POSE
    assert model.hash == MESH.hash and int(model.hash, 16) and len(model.hash) == 64


def test_canonical_face_is_even_neutral_and_of_unit_width() -> None:
    face = canonical()
    assert face.shape == (MESH_POINTS, 3)
    assert np.allclose(face[263] - face[33], [1, 0, 0], atol=2e-4)
    for right, left in ((33, 263), (61, 291), (234, 454), (105, 334)):
        assert np.allclose(face[right] * [-1, 1, 1], face[left], atol=2e-4)
    assert abs(face[14, 1] - face[13, 1]) < 0.03  # lips closed
    assert face[4, 2] < face[33, 2] < face[234, 2]  # nose before eyes before ears
    assert face[10, 1] < face[33, 1] < face[2, 1] < face[13, 1] < face[152, 1]


def test_expressions_do_not_disturb_one_another() -> None:
    matrix = basis().encode @ basis().decode.T
    assert np.allclose(matrix, np.eye(len(matrix)), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "points", "axis", "sign"),
    [
        ("mouth_open", (13, 14), 1, 1),
        ("mouth_width", (61, 291), 0, 1),
        ("eye_open_right", (159, 145), 1, 1),
        ("eye_open_left", (386, 374), 1, 1),
        ("jaw_open", (2, 152), 1, 1),
        ("mouth_corner_left", (2, 291), 1, -1),
        ("brow_frown", (55, 285), 0, -1),
    ],
)
def test_a_column_moves_what_it_names(name: str, points: tuple[int, int], axis: int, sign: int) -> None:
    before, after = MESH.decode(latents())[0], MESH.decode(latents(**{name: 0.1}))[0]
    change = (after - before)[points[1], axis] - (after - before)[points[0], axis]
    assert change == pytest.approx(sign * 0.1, abs=1e-4)


def test_mouth_opens_downwards_and_leaves_the_eyes() -> None:
    change = MESH.decode(latents(mouth_open=0.2))[0] - MESH.decode(latents())[0]
    assert change[14, 1] > 0.1 > abs(change[13, 1])
    assert np.abs(change[[33, 133, 159, 145, 362, 263, 386, 374]]).max() < 0.02


@settings(max_examples=40, deadline=None)
@given(yaw=angle, pitch=angle, roll=angle, x=st.floats(-0.2, 0.2), scale=st.floats(0.2, 0.6), coded=st.floats(-0.1, 0.1))
def test_round_trip_of_anything_in_the_space(
    yaw: float, pitch: float, roll: float, x: float, scale: float, coded: float
) -> None:
    """What the encoder can say it hears again. Expressions hardly move the skull's points, so pose is nearly the same."""
    pose = {"head_yaw": yaw, "head_pitch": pitch, "head_roll": roll, "head_x": x, "head_scale": scale}
    sent = latents(**pose, mouth_open=coded, gaze_left_x=coded)
    landmarks = MESH.pose(sent, SIZE)
    heard = MESH.encode(PICTURE, landmarks)
    assert np.abs(heard - sent).max() < 0.02
    drawn = MESH.pose(heard, SIZE)
    assert np.linalg.norm((drawn - landmarks)[..., :2], axis=-1).mean() / (scale * SIZE) < 2e-3


@given(yaw=angle, pitch=angle, roll=angle)
def test_angles(yaw: float, pitch: float, roll: float) -> None:
    rotation = rotation_of(np.array([[yaw, pitch, roll]]))
    assert np.allclose(rotation[0] @ rotation[0].T, np.eye(3), atol=1e-9) and np.linalg.det(rotation[0]) > 0
    assert np.allclose(angles_of(rotation), [[yaw, pitch, roll]], atol=1e-9)


def test_signs_of_the_pose() -> None:
    front = MESH.pose(latents(), SIZE)[0]
    nose, brow = 4, 10
    assert MESH.pose(latents(head_yaw=0.3), SIZE)[0, nose, 0] > front[nose, 0] + 10
    assert MESH.pose(latents(head_pitch=0.3), SIZE)[0, nose, 1] < front[nose, 1] - 10
    assert MESH.pose(latents(head_roll=0.3), SIZE)[0, brow, 0] > front[brow, 0] + 10


def test_gaze_places_the_irises() -> None:
    change = MESH.decode(latents(gaze_right_x=0.2))[0] - MESH.decode(latents())[0]
    width = abs(canonical()[33, 0] - canonical()[133, 0])
    assert change[468:473, 0] == pytest.approx(0.2 * width, rel=0.02) and np.abs(change[473:]).max() < 1e-6


def test_no_frames_and_wild_points() -> None:
    assert MESH.encode([], np.zeros((0, 478, 3), np.float32)).shape == (0, 64)
    wild = np.random.default_rng(0).normal(256, 80, (3, 478, 3)).astype(np.float32)
    assert np.isfinite(MESH.encode(PICTURE, wild)).all()


def needs_mesh_weights() -> None:
    if registry.missing(registry.get("mediapipe_mesh")):
        pytest.skip("needs the weights of mediapipe_mesh: dyconv models pull mediapipe_mesh")


def test_the_canonical_face_comes_from_the_drawing() -> None:
    needs_mesh_weights()
    again = measure(registry.load("mediapipe_mesh")) / UNITS
    assert np.linalg.norm(again - canonical(), axis=1).max() < 0.01
    assert draw().shape == (512, 512, 3)


def test_real_heads_are_drawn_again() -> None:
    """Mean distance of drawn from given landmarks, in the picture, below 2 % of the outer-eye distance."""
    folder = Path(os.environ.get("DYCONV_REAL_DATA", "../shared/data")) / "heads"
    if not folder.is_dir():
        pytest.skip("no real data")
    needs_mesh_weights()
    import av

    detector = registry.load("mediapipe_face") if not registry.missing(registry.get("mediapipe_face")) else None
    if detector is None:
        pytest.skip("needs the weights of mediapipe_face")
    landmarker, found = registry.load("mediapipe_mesh"), []
    for path in sorted(folder.glob("talk-vid*.mp4"))[:4]:
        with av.open(str(path)) as container:
            for frame in itertools.islice(container.decode(video=0), 0, 60, 20):
                image = frame.to_ndarray(format="rgb24")
                found += [landmarker.landmarks(image, face.box, face.keypoints)[0] for face in detector.detect(image)[:1]]
    given_points = np.array(found)
    assert len(given_points) >= 8
    drawn = MESH.pose(MESH.encode(PICTURE, given_points), SIZE)
    across = np.linalg.norm(given_points[:, 33] - given_points[:, 263], axis=1)[:, None]
    assert (np.linalg.norm((drawn - given_points)[:, :, :2], axis=2) / across).mean() < 0.02


FRAMES = 40


def make_clip(folder: Path, landmarks: np.ndarray, present: np.ndarray, shots: tuple[Span, ...] = ()) -> tuple[Clip, Store]:
    face, crop = folder / "face.mp4", folder / "crop.npz"
    with VideoWriter(face, 64, 64) as writer:
        for level in range(len(present)):
            writer.write(np.full((64, 64, 3), level * 5, np.uint8))
    save_arrays(crop, {"box": np.zeros(4, np.float32), "present": present, "landmarks": pack_points(landmarks)})
    store = Store(folder / "store")
    clip = Clip(
        id="talk",
        source=Source(id="talk", url="https://example.org/talk"),
        span=Span(Fraction(0), Fraction(len(present), 25)),
        shots=shots or (Span.of_frames(0, len(present)),),
        people=(Person("p0", "a", True, True), Person("p1", None, False, True)),
        assets={Key.P0_FACE: store.put(face, "face.mp4"), Key.P0_CROP: store.put(crop, "crop.npz")},
    )
    return clip, store


def nodding(frames: int = FRAMES) -> np.ndarray:
    """A head that nods slowly while the mouth opens and shuts, in pixels of a 64 px face video."""
    rows = np.repeat(latents(), frames, 0)
    time = np.arange(frames) / 25
    rows[:, NAMES.index("head_pitch")] = 0.2 * np.sin(2 * np.pi * time)
    rows[:, NAMES.index("mouth_open")] = 0.05 + 0.05 * np.sin(8 * np.pi * time)
    return MESH.pose(rows, 64)


def run(clip: Clip, store: Store, scratch: Path, stage: EncodeMotion | None = None) -> Clip | Drop:
    stage = stage or EncodeMotion(encoder="mesh")
    stage.setup()
    scratch.mkdir(exist_ok=True)
    files = Files(store, "out", scratch)
    outputs = list(stage.process(clip, files))
    check_contract(stage, clip, outputs)
    files.commit()
    return outputs[0]


def test_stage_writes_latents_of_who_is_seen(tmp_path: Path) -> None:
    clip, store = make_clip(tmp_path, nodding(), np.ones(FRAMES, bool))
    out = run(clip, store, tmp_path / "scratch")
    assert isinstance(out, Clip) and Key.P1_MOTION not in out.assets
    assert (out.measures["motion.encoder"], out.measures["motion.hash"]) == ("mesh", MESH.hash)
    path = store.local(out.assets[Key.P0_MOTION].path)
    arrays = load_arrays(path)
    assert arrays["latents"].shape == (FRAMES, 64) and arrays["present"].all()
    pitch = arrays["latents"][:, NAMES.index("head_pitch")]
    assert np.abs(pitch - 0.2 * np.sin(2 * np.pi * np.arange(FRAMES) / 25)).max() < 0.03
    before = sha256_of(path)
    assert sha256_of(store.local(run(clip, store, tmp_path / "scratch").assets[Key.P0_MOTION].path)) == before  # type: ignore[union-attr]


def drop_of(out: Clip | Drop) -> str:
    assert isinstance(out, Drop) and out.reason is DropReason.MOTION_UNSTABLE
    return out.detail


def test_unstable_faces_are_dropped(tmp_path: Path) -> None:
    everywhere = np.ones(FRAMES, bool)
    gone = everywhere.copy()
    gone[:12] = False
    for name in ("absent", "shaking", "jumping"):
        (tmp_path / name).mkdir()
    clip, store = make_clip(tmp_path / "absent", nodding(), gone)
    assert "p0: share of frames without a face: at most 0.2 expected, 0.3 found" in drop_of(run(clip, store, tmp_path / "s"))
    rows = np.repeat(latents(), FRAMES, 0)
    rows[:, NAMES.index("head_yaw")] = np.random.default_rng(1).normal(0, 0.1, FRAMES)
    clip, store = make_clip(tmp_path / "shaking", MESH.pose(rows, 64), everywhere)
    assert "jitter" in drop_of(run(clip, store, tmp_path / "s", EncodeMotion(encoder="mesh", jump_deg=90)))
    points = nodding()
    points[20:] = MESH.pose(latents(head_yaw=0.7), 64)
    clip, store = make_clip(tmp_path / "jumping", points, everywhere)
    assert "jumps" in drop_of(run(clip, store, tmp_path / "s"))
    cut = replace(clip, shots=(Span.of_frames(0, 20), Span.of_frames(20, FRAMES)))
    assert isinstance(run(cut, store, tmp_path / "s"), Clip)  # across a cut it is no jump


def test_nobody_seen(tmp_path: Path) -> None:
    clip, store = make_clip(tmp_path, nodding(), np.ones(FRAMES, bool))
    out = run(replace(clip, assets={}), store, tmp_path / "scratch")
    assert isinstance(out, Clip) and not out.assets and "motion.hash" not in out.measures


def test_face_frames_are_a_sequence(tmp_path: Path) -> None:
    path = tmp_path / "face.mp4"
    with VideoWriter(path, 32, 32) as writer:
        for level in range(12):
            writer.write(np.full((32, 32, 3), level * 20, np.uint8))
    frames, every = FaceFrames(path), list(read_frames(path))
    assert len(frames) == 12 and all(np.array_equal(a, b) for a, b in zip(frames, every, strict=True))
    assert np.array_equal(frames[-1], every[-1]) and np.array_equal(frames[7], every[7])
    for part in (slice(2, 9, 3), slice(None, None, -2), slice(5, 2), slice(-4, None)):
        assert len(frames[part]) == len(every[part]) and all(map(np.array_equal, frames[part], every[part]))
    with pytest.raises(IndexError):
        frames[12]


def test_gaze_columns_follow_the_pose() -> None:
    assert tuple(NAMES[len(POSE) : len(POSE) + 4]) == GAZE
