"""What faces do, in numbers: landmark distances, blinks, head and mouth, voices, speed. Known answers and corruption."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from dyconv.faces import KEYPOINTS
from dyconv.infp.portraits import FaceModels
from dyconv.models.mesh_motion import MeshMotion
from dyconv.models.slots import Detection
from training.evaluation.behaviour import blinks_of, turning_speed
from training.evaluation.case import ALL, Case, View
from training.evaluation.curves import curves_of
from training.evaluation.distances import family
from training.evaluation.evidence import Evidence
from training.evaluation.faces import FaceReader
from training.evaluation.metric import Choice, Metric
from training.evaluation.rhythm import beats_of, onsets_of
from training.evaluation.speed import family as speed_family

FRAMES = 500
METRICS: dict[str, Metric] = {metric.name: metric for metric in family(Choice(torch.device("cpu"))).metrics}
MESH = MeshMotion()


def face(frames: int = FRAMES, **columns: np.ndarray | float) -> np.ndarray:
    """Landmarks [T, 478, 3] of a drawn face, in 0..1 of the picture, with columns of `mesh` motion."""
    latents = np.zeros((frames, len(MESH.names)), np.float32)
    latents[:, MESH.names.index("head_scale")] = 0.4
    for name, column in columns.items():
        latents[:, MESH.names.index(name)] = column
    return MESH.pose(latents, 1)


def evidence(
    truth: np.ndarray,
    made: np.ndarray,
    *,
    present: np.ndarray | None = None,
    own: np.ndarray | None = None,
    told: Mapping[str, float] | None = None,
    slices: Mapping[str, np.ndarray] | None = None,
) -> Evidence:
    frames = len(truth)
    every = np.ones(frames, bool)
    found = every if present is None else present
    silence = np.full(frames, -6.0, np.float32)
    arrays = [
        {"landmarks": points, "present": where, **{f"curves.{name}": each for name, each in curves_of(points, where).items()}}
        for points, where in ((truth, every), (made, found))
    ]
    return Evidence(
        Case("c", "p0", "c", View.INTERACTIVE, frames),
        *(arrays[0], arrays[1], {}, {}, told or {}),
        own=silence if own is None else own,
        other=silence,
        slices={ALL: every, **(slices or {})},
    )


def value(name: str, case: Evidence, mask: np.ndarray | None = None) -> float:
    sums = METRICS[name].sums(case, case.slices[ALL] if mask is None else mask)
    return float("nan") if sums is None else METRICS[name].value(sums)


def wave(period: float, size: float, frames: int = FRAMES) -> np.ndarray:
    return size * np.sin(2 * np.pi * np.arange(frames) / period)


@pytest.mark.parametrize("name", ["lmd.face", "lmd.mouth", "lmd.mouth_shape"])
def test_distances_of_the_truth_to_itself_are_zero(name: str) -> None:
    truth = face(mouth_open=np.abs(wave(20, 0.1)))
    assert value(name, evidence(truth, truth)) == 0.0


def test_a_face_moved_by_a_tenth_of_the_eye_distance_is_ten_percent_off() -> None:
    truth = face(head_x=0.0)
    moved = truth + np.array([0.03, 0.0, 0.0], np.float32)
    across = np.linalg.norm(truth[0, 33] - truth[0, 263])
    assert value("lmd.face", evidence(truth, moved)) == pytest.approx(100 * 0.03 / across, rel=1e-4)
    assert value("lmd.mouth", evidence(truth, moved)) == pytest.approx(100 * 0.03 / across, rel=1e-4)
    assert value("lmd.mouth_shape", evidence(truth, moved)) == pytest.approx(0.0, abs=1e-3)


def test_distances_agree_with_a_direct_definition() -> None:
    truth, made = (face(30, mouth_open=np.abs(wave(*each, 30)), head_yaw=0.4) for each in ((20, 0.1), (31, 0.1)))
    found = []
    for one, other in zip(truth.astype(np.float64), made.astype(np.float64), strict=True):
        ruler = np.sqrt(((one[33] - one[263]) ** 2).sum())
        found.append(np.mean([np.hypot(*(one[point, :2] - other[point, :2])) for point in range(468)]) / ruler)
    assert value("lmd.face", evidence(truth, made)) == pytest.approx(100 * np.mean(found), rel=1e-4)


@pytest.mark.parametrize("name", ["lmd.face", "lmd.mouth", "lmd.mouth_shape"])
def test_distances_grow_with_a_shift_in_time_and_with_less_motion(name: str) -> None:
    opening = np.abs(wave(50, 0.15))
    truth = face(mouth_open=opening)
    late = [value(name, evidence(truth, np.roll(truth, shift, axis=0))) for shift in (0, 2, 5, 10)]
    small = [value(name, evidence(truth, face(mouth_open=opening * share))) for share in (1.0, 0.7, 0.3, 0.0)]
    assert (np.diff(late) > 0).all() and (np.diff(small) > 0).all()


def test_the_shape_of_the_mouth_does_not_ask_where_the_head_is() -> None:
    opening = np.abs(wave(20, 0.1))
    case = evidence(face(mouth_open=opening), face(mouth_open=opening, head_yaw=0.3, head_x=0.1, head_scale=0.3))
    assert value("lmd.mouth", case) > 5.0
    assert value("lmd.mouth_shape", case) < 0.5


def test_frames_without_a_face_are_told_and_do_not_count() -> None:
    truth, present = face(), np.ones(FRAMES, bool)
    present[100:200] = False
    made = truth.copy()
    made[100:200] += 0.5
    case = evidence(truth, made, present=present)
    assert value("face.found", case) == pytest.approx(0.8)
    assert value("lmd.face", case) == 0.0
    assert np.isnan(value("lmd.face", case, ~present))


def blinking(starts: list[int], depth: float = 0.4, frames: int = FRAMES) -> np.ndarray:
    """Opening of eyes that shut for 6 frames."""
    eyes = np.full(frames, 0.3) + np.random.default_rng(0).normal(0, 0.004, frames)
    for start in starts:
        eyes[start : start + 6] *= 1 - depth * np.hanning(8)[1:-1]
    return eyes.astype(np.float32)


def test_planted_blinks_are_counted() -> None:
    planted = [30, 95, 180, 320, 410]
    every = np.ones(FRAMES, bool)
    found = blinks_of(blinking(planted), every)
    assert len(found) == 5 and np.abs(found - np.array(planted)).max() <= 3
    assert len(blinks_of(blinking(planted, depth=0.05), every)) == 0  # trembling
    assert len(blinks_of(blinking([]), every)) == 0
    squint = blinking([])
    squint[100:300] *= 0.7
    assert len(blinks_of(squint, every)) == 0  # narrow eyes are no blink
    gone = every.copy()
    gone[80:110] = False
    assert len(blinks_of(blinking(planted), gone)) == 4


def test_blinks_a_minute_are_read_off_landmarks() -> None:
    shut = np.zeros(FRAMES)
    for start in (50, 150, 250, 350):
        shut[start : start + 6] = -0.045
    case = evidence(face(), face(eye_open_right=shut, eye_open_left=shut))
    assert value("blink.rate", case) == pytest.approx(4 / (FRAMES / 25 / 60))
    half = np.arange(FRAMES) < 200
    assert value("blink.rate", case, half) == pytest.approx(2 / (200 / 25 / 60))
    still = evidence(face(), face())
    assert value("blink.rate", still) == 0.0


def test_a_head_that_turns_evenly_has_that_speed() -> None:
    yaw = np.deg2rad(np.arange(100) * 20 / 25)
    head = np.column_stack([yaw, np.zeros(100), np.zeros(100)])
    np.testing.assert_allclose(turning_speed(head)[2:-2], 20.0, rtol=1e-6)
    case = evidence(face(100), face(100, head_yaw=yaw))
    assert value("head.speed", case) == pytest.approx(20.0, rel=1e-3)
    assert value("head.range", case) == pytest.approx(0.9 * 79.2 / 3, rel=0.01)


@pytest.mark.parametrize("name", ["head.speed", "head.range"])
def test_head_motion_shrinks_with_its_size_to_nothing(name: str) -> None:
    found = [value(name, evidence(face(), face(head_yaw=wave(60, 0.2 * share)))) for share in (1.0, 0.5, 0.0)]
    assert found[1] == pytest.approx(found[0] / 2, rel=0.02)
    assert found[2] == pytest.approx(0.0, abs=0.01)


def test_the_mouth_is_measured_in_eye_distances() -> None:
    from dyconv.models.mesh_basis import canonical

    closed = 100 * float(canonical()[14, 1] - canonical()[13, 1])
    opening = 0.1 + wave(50, 0.05)
    case = evidence(face(), face(mouth_open=opening, head_scale=0.3))
    assert value("mouth.opening", case) == pytest.approx(closed + 10, rel=0.03)
    assert value("mouth.spread", case) == pytest.approx(5 / np.sqrt(2), rel=0.05)
    assert value("mouth.speed", case) == pytest.approx(5 * 4 * 25 / 50, rel=0.05)
    half = evidence(face(), face(mouth_open=0.1 + wave(50, 0.025), head_scale=0.3))
    for name in ("mouth.spread", "mouth.speed"):
        assert value(name, half) == pytest.approx(value(name, case) / 2, rel=0.05)


def talking(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Opening of a mouth, and log energy of the voice that goes with it."""
    rng = np.random.default_rng(seed)
    loud = np.convolve(rng.standard_normal(FRAMES + 8), np.hanning(9), "valid")
    return (0.1 + 0.02 * loud).clip(0, None), (-2.5 + 0.5 * loud).astype(np.float32)


def test_the_mouth_fits_its_own_voice_and_no_other() -> None:
    opening, energy = talking()
    truth = face(mouth_open=opening)
    assert value("align.voice", evidence(truth, truth, own=energy)) > 0.95
    assert value("align.lag", evidence(truth, truth, own=energy)) == 0.0
    late = evidence(truth, np.roll(truth, 3, axis=0), own=energy)
    assert value("align.lag", late) == 3.0
    assert value("align.voice", late) > 0.9
    for shift in (12, 40):
        assert value("align.voice", evidence(truth, np.roll(truth, shift, axis=0), own=energy)) < 0.3
    other = evidence(truth, face(mouth_open=talking(7)[0]), own=energy)
    assert value("align.voice", other) < 0.3
    still = evidence(truth, face(), own=energy)
    assert value("align.voice", still) == 0.0 and np.isnan(value("align.lag", still))
    assert np.isnan(value("align.voice", evidence(truth, truth)))  # nobody is heard


def test_a_mouth_that_moves_while_its_voice_is_loud_has_its_energy() -> None:
    loud = (np.arange(FRAMES) // 50) % 2 == 0
    energy = np.where(loud, -2.0, -6.0).astype(np.float32)
    truth = face(mouth_open=np.where(loud, 0.1 + wave(8, 0.05), 0.1))
    graded = [value("align.energy", evidence(truth, np.roll(truth, shift, axis=0), own=energy)) for shift in (0, 6, 12, 25, 50)]
    assert graded[0] > 0.9 and (np.diff(graded) < 0).all() and graded[-1] < -0.9
    assert value("align.energy", evidence(truth, face(), own=energy)) == 0.0  # a still mouth
    assert np.isnan(value("align.energy", evidence(truth, truth)))  # nobody is heard


def test_onsets_and_beats_are_where_they_were_put() -> None:
    energy = np.full(FRAMES, -6.0, np.float32)
    starts = [40, 140, 260, 400]
    for start in starts:
        energy[start : start + 30] = -2.0
    np.testing.assert_allclose(onsets_of(energy), starts, atol=3)
    yaw = np.interp(np.arange(FRAMES), [0, 30, 50, 130, 150, 250, 270, 499], [0, 0, 0.3, 0.3, 0, 0, 0.3, 0.3])
    head = np.column_stack([yaw, np.zeros(FRAMES), np.zeros(FRAMES)])
    beats = beats_of(head, np.ones(FRAMES, bool))
    assert len(beats) == 3 and np.abs(beats - np.array([40, 140, 260])).max() <= 8
    assert len(beats_of(np.zeros((FRAMES, 3)), np.ones(FRAMES, bool))) == 0


def test_beats_on_onsets_score_higher_than_beats_between() -> None:
    energy, yaw = np.full(FRAMES, -6.0, np.float32), np.zeros(FRAMES)
    for number, start in enumerate(range(60, 420, 60)):
        energy[start : start + 30] = -2.0
        yaw[start - 10 : start] = yaw[start - 11] + np.linspace(0, 0.2, 10) * (-1) ** number
        yaw[start:] = yaw[start - 1]
    truth = face()
    offset = int(np.median(beats_of(np.column_stack([yaw, 0 * yaw, 0 * yaw]), np.ones(FRAMES, bool)) % 60)) - 60
    found = [
        value("align.beat", evidence(truth, face(head_yaw=np.roll(yaw, shift - offset)), own=energy)) for shift in (0, 3, 6, 15)
    ]
    assert found[0] > 0.8 and (np.diff(found) < 0).all() and found[-1] < 0.05
    assert np.isnan(value("align.beat", evidence(truth, truth, own=energy)))
    lifts = [
        value("align.beat_lift", evidence(truth, face(head_yaw=np.roll(yaw, shift)), own=energy)) for shift in (-offset, 0)
    ]
    assert lifts[0] > 3 > lifts[1]
    chance = evidence(truth, face(head_yaw=wave(23, 0.3)), own=energy)  # beats every 11.5 frames fall on any part of 60
    assert value("align.beat_lift", chance) == pytest.approx(1.0, abs=0.35)


def test_a_listener_who_keeps_the_mouth_still_has_no_motion() -> None:
    listening = np.arange(FRAMES) >= FRAMES // 2
    slices = {"state=listening": listening, "state=speaking": ~listening}
    moves = np.abs(wave(20, 0.1))
    both = evidence(face(), face(mouth_open=moves), slices=slices)
    half = evidence(face(), face(mouth_open=np.where(listening, moves / 2, moves)), slices=slices)
    quiet = evidence(face(), face(mouth_open=np.where(listening, 0.0, moves)), slices=slices)
    assert value("mouth.listening", both) == pytest.approx(1.0, rel=0.05)
    assert value("mouth.listening", half) == pytest.approx(0.5, rel=0.1)
    assert value("mouth.listening", quiet) == pytest.approx(0.0, abs=0.02)
    assert np.isnan(value("mouth.listening", both, listening))
    trembles = face(mouth_open=np.random.default_rng(0).normal(0, 1e-4, FRAMES))
    assert np.isnan(value("mouth.listening", evidence(face(), trembles, slices=slices)))


def test_speed_is_what_was_told() -> None:
    metrics = {metric.name: metric for metric in speed_family(Choice(torch.device("cpu"))).metrics}
    told = [
        {"seconds": 10.0, "frames": 500.0, "latency_s": 0.2, "first_frame_s": 1.0, "peak_mb": 100.0},
        {"seconds": 30.0, "frames": 500.0, "latency_s": 0.4, "first_frame_s": 3.0, "peak_mb": 300.0},
    ]
    cases = [evidence(face(10), face(10), told=each) for each in told]
    found = {}
    for name, metric in metrics.items():
        parts = [metric.sums(case, case.slices[ALL]) for case in cases]
        found[name] = metric.value({key: sum(part[key] for part in parts if part) for key in ("part", "whole")})
        assert metric.sums(evidence(face(10), face(10)), np.ones(10, bool)) is None  # nothing was told
        assert metric.sums(cases[0], np.arange(10) < 5) is None  # of half a video nothing is known
    expected = {"speed.fps": 25.0, "speed.rtf": 1.0, "speed.latency": 0.3, "speed.first_frame": 2.0, "speed.peak_memory": 200.0}
    assert json.dumps(found) and found == pytest.approx(expected)


def test_many_sums_at_once_have_the_values_of_each() -> None:
    opening, energy = talking()
    cases = [
        evidence(face(mouth_open=opening), face(mouth_open=talking(seed)[0], head_yaw=wave(40, 0.2)), own=energy)
        for seed in (0, 3)
    ]
    for metric in METRICS.values():
        if not hasattr(metric, "values"):
            continue
        parts = [part for case in cases if (part := metric.sums(case, case.slices[ALL])) is not None]
        if not parts:
            continue
        parts.append({name: np.zeros_like(array) for name, array in parts[0].items()})
        found = metric.values({name: np.stack([part[name] for part in parts]) for name in parts[0]})
        np.testing.assert_allclose(found, [metric.value(part) for part in parts], err_msg=metric.name)
        assert np.isnan(found[-1])


def test_real_motion_is_told_from_what_is_late_smaller_or_frozen(real_data: Path) -> None:
    import av

    with av.open(str(real_data / "heads" / "syncnet_fcn__test_offset_0.mp4")) as file:
        pictures = np.stack(
            [frame.to_ndarray(format="rgb24") for frame, _ in zip(file.decode(video=0), range(75), strict=False)]
        )
    truth = FaceReader().feed(pictures)[0] / pictures.shape[1]
    middle = truth.mean(axis=0)
    made = {
        "truth": truth,
        "late": FaceReader().feed(np.concatenate([pictures[:1].repeat(5, axis=0), pictures[:-5]]))[0] / pictures.shape[1],
        "small": middle + 0.4 * (truth - middle),
        "frozen": FaceReader().feed(pictures[:1].repeat(75, axis=0))[0] / pictures.shape[1],
    }
    found = {
        kind: {
            name: value(name, evidence(truth, points)) for name in ("lmd.face", "lmd.mouth", "lmd.mouth_shape", "mouth.spread")
        }
        for kind, points in made.items()
    }
    for name in ("lmd.face", "lmd.mouth", "lmd.mouth_shape"):
        assert found["truth"][name] == 0.0 and min(found[kind][name] for kind in ("late", "small", "frozen")) > 0.5
    spread = [found[kind]["mouth.spread"] for kind in ("truth", "small", "frozen")]
    assert spread[0] > 2 * spread[1] > 2 * spread[2] and spread[2] < 0.1
    assert found["late"]["mouth.spread"] == pytest.approx(spread[0], rel=0.15)


class Sticky:
    """Detector, landmarker and identity of a face that is a white square: landmarks stay wherever they are looked for."""

    def __init__(self) -> None:
        self.looks = 0
        mesh = face(1)[0]
        low, high = mesh[:468, :2].min(axis=0), mesh[:468, :2].max(axis=0)
        self._mesh = (mesh - [*low, 0.0]) / [*(high - low), 1.0]

    def _at(self, box: np.ndarray) -> np.ndarray:
        return (self._mesh * [*(box[2:] - box[:2]), 10.0] + [*box[:2], 0.0]).astype(np.float32)

    def detect(self, image: np.ndarray) -> list[Detection]:
        self.looks += 1
        rows, columns = np.nonzero(image[..., 0] > 200)
        if not len(rows):
            return []
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)
        return [Detection(box, 0.9, self._at(box)[list(KEYPOINTS), :2])]

    def landmarks(
        self, image: np.ndarray, box: np.ndarray, keypoints: np.ndarray | None = None, *, irises: bool = True
    ) -> tuple[np.ndarray, float]:
        return self._at(box), 1.0


def test_landmarks_that_hold_on_to_the_wrong_place_are_put_right() -> None:
    models = Sticky()
    pictures = np.zeros((60, 100, 100, 3), np.uint8)
    for number in range(60):
        left = 20 if number < 25 else 50
        pictures[number, 30:70, left : left + 40] = 255
    landmarks, present = FaceReader(FaceModels(models, models, None)).feed(pictures)
    left = landmarks[:, :468, 0].min(axis=1)
    assert present.all()
    np.testing.assert_allclose(left[:25], 20, atol=0.5)
    np.testing.assert_allclose(left[35:], 50, atol=0.5)
    assert models.looks <= 1 + 6 + 2  # once at the start, every tenth frame, and again where it was wrong


def test_faces_are_read_alike_in_any_chunks(real_data: Path) -> None:
    import av

    from dyconv.infp.mask import at_size

    with av.open(str(real_data / "heads" / "syncnet_fcn__test_offset_0.mp4")) as file:
        pictures = np.stack(
            [frame.to_ndarray(format="rgb24") for frame, _ in zip(file.decode(video=0), range(40), strict=False)]
        )
    pictures[20:23] = 0  # the face is gone for a moment
    reader = FaceReader()
    landmarks, present = reader.feed(pictures)
    assert present[:20].all() and not present[20:23].any() and present[28:].all()
    np.testing.assert_array_equal(landmarks[22], landmarks[19])  # held
    reader.feed(pictures[::-1])
    reader.begin()
    parts = [reader.feed(pictures[start : start + 7]) for start in range(0, 40, 7)]
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), landmarks)
    np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), present)
    larger, _ = at_size(pictures[:10], landmarks[:10], 384)
    reader.begin()
    again = reader.feed(larger)[0] * (224 / 384)
    apart = np.linalg.norm((again - landmarks[:10])[:, :468, :2], axis=2).mean() / np.linalg.norm(
        landmarks[0, 33] - landmarks[0, 263]
    )
    assert apart < 0.015  # the size of the picture hardly matters
