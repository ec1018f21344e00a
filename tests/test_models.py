"""One contract over every registered model, and what the face models do with photographs packaged with libraries."""

from __future__ import annotations

import inspect
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dyconv.cli import build
from dyconv.errors import ModelMissing, UsageError
from dyconv.faces import KEYPOINTS, face_box
from dyconv.models import fetch, registry, slots
from dyconv.models.appearance import Appearance
from dyconv.models.catalogue import MODELS
from dyconv.models.insightface import InsightFaceIdentity
from dyconv.models.mediapipe_face import merge
from dyconv.models.mediapipe_litert import Square
from dyconv.models.registry import ModelSpec
from dyconv.models.slots import Detection
from dyconv.tracking.geometry import iou

PROTOCOLS: dict[str, Any] = {
    "face_detector": slots.FaceDetector,
    "face_landmarker": slots.FaceLandmarker,
    "face_identity": slots.FaceIdentity,
    "vad": slots.Vad,
    "active_speaker": slots.ActiveSpeaker,
    "diarizer": slots.Diarizer,
    "enhancer": slots.Enhancer,
    "separator": slots.Separator,
    "motion_encoder": slots.MotionEncoder,
}
METHODS = {
    "face_detector": "detect",
    "face_landmarker": "landmarks",
    "face_identity": "embed",
    "vad": "speech",
    "active_speaker": "score",
    "diarizer": "diarize",
    "enhancer": "speech",
    "separator": "separate",
    "motion_encoder": "encode",
}
each_model = pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)


@cache
def loaded(name: str) -> Any:
    if registry.missing(registry.get(name)):
        pytest.skip(f"no weights of {name}: dyconv models pull {name}")
    return registry.load(name)


@cache
def astronaut() -> np.ndarray:
    from skimage import data

    return np.asarray(data.astronaut())


def canvas(height: int, width: int, face_px: float, x: int, y: int) -> np.ndarray:
    """The astronaut in a grey picture, her detected face `face_px` wide, its middle at (x, y)."""
    import cv2

    scale = face_px / 100
    photo = cv2.resize(astronaut()[:330, 60:390], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    out = np.full((height, width, 3), 127, np.uint8)
    left, top = round(x - 165 * scale), round(y - 124 * scale)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + photo.shape[1], width), min(top + photo.shape[0], height)
    out[y0:y1, x0:x1] = photo[y0 - top : y1 - top, x0 - left : x1 - left]
    return out


def mesh_of(image: np.ndarray) -> tuple[np.ndarray, float]:
    face = loaded("mediapipe_face").detect(image)[0]
    return loaded("mediapipe_mesh").landmarks(image, face.box, face.keypoints)


# the registry


def test_every_slot_has_exactly_one_default_and_names_are_unique() -> None:
    assert [spec.slot for spec in MODELS if spec.default].__len__() == len({spec.slot for spec in MODELS if spec.default})
    assert {spec.slot for spec in MODELS if spec.default} == set(slots.SLOTS)
    assert len({spec.name for spec in MODELS}) == len(MODELS)


@each_model
def test_entry_is_complete(spec: ModelSpec) -> None:
    assert spec.slot in slots.SLOTS and spec.licence and spec.about
    kind = registry._resolve(spec.factory)
    assert len(spec.weights) <= len(inspect.signature(kind).parameters)
    method = getattr(kind, METHODS[spec.slot])
    wanted = list(inspect.signature(getattr(PROTOCOLS[spec.slot], METHODS[spec.slot])).parameters)
    assert list(inspect.signature(method).parameters)[: len(wanted)] == wanted
    for weight in spec.weights:
        assert weight.origin and (len(weight.sha256 or "") == 64 or not spec.default), "only a gated file may have no hash"
        assert weight.fetch is None or callable(registry._resolve(weight.fetch))
        assert not weight.path.startswith("/") and ".." not in weight.path


@each_model
def test_default_needs_neither_hub_nor_token(spec: ModelSpec) -> None:
    if spec.default:
        assert not spec.extra and all(weight.fetch or weight.packaged for weight in spec.weights)


@each_model
def test_missing_weights_name_the_command(spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYCONV_CACHE", str(tmp_path))
    monkeypatch.setattr(registry, "_PACKAGED", tmp_path / "packaged")
    if not spec.weights:
        pytest.skip("nothing to fetch")
    with pytest.raises(ModelMissing) as caught:
        registry.load(spec.name)
    assert how_to_restore(spec, f"dyconv models pull {spec.name}") in str(caught.value) and str(tmp_path) in str(caught.value)


def how_to_restore(spec: ModelSpec, command: str) -> str:
    if all(weight.packaged for weight in spec.weights):
        return "git checkout -- "
    return command if all(weight.fetch for weight in spec.weights) else "and put it at "


@each_model
def test_damaged_weights_are_refused(spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYCONV_CACHE", str(tmp_path))
    monkeypatch.setattr(registry, "_PACKAGED", tmp_path / "packaged")
    if not any(weight.sha256 for weight in spec.weights):
        pytest.skip("nothing to damage, or no hash to tell by")
    for weight in spec.weights:
        registry.weight_path(weight).parent.mkdir(parents=True, exist_ok=True)
        registry.weight_path(weight).write_bytes(b"damaged")
    with pytest.raises(ModelMissing, match="git checkout --" if spec.weights[0].packaged else "pull --force"):
        registry.load(spec.name)
    assert registry.weight_hashes(spec.name)[1:] == tuple(weight.sha256 for weight in spec.weights)


@each_model
def test_model_fills_its_slot(spec: ModelSpec) -> None:
    model = loaded(spec.name)
    assert isinstance(model, PROTOCOLS[spec.slot])
    CALLS[spec.slot](model)


def _detector(model: Any) -> None:
    assert model.detect(np.full((90, 160, 3), 127, np.uint8)) == []
    faces = model.detect(astronaut())
    assert len(faces) == 1 and faces[0].box.dtype == np.float32 and faces[0].box.shape == (4,)
    assert faces[0].keypoints is None or faces[0].keypoints.shape == (6, 2)


def _landmarker(model: Any) -> None:
    points, score = model.landmarks(astronaut(), np.array([175, 74, 275, 173], np.float32))
    assert points.shape == (478, 3) and points.dtype == np.float32 and 0.9 < score <= 1
    assert model.landmarks(np.full((200, 200, 3), 127, np.uint8), np.array([50, 50, 150, 150], np.float32))[1] < 0.5


def _identity(model: Any) -> None:
    vector = model.embed(astronaut(), mesh_of(astronaut())[0])
    assert vector.dtype == np.float32 and vector.ndim == 1 and abs(np.linalg.norm(vector) - 1) < 1e-4
    assert model.scope in ("source", "global") and 0 < model.threshold < 1


def _vad(model: Any) -> None:
    speech = model.speech(np.zeros(640 * 50, np.float32))
    assert speech.shape == (50,) and speech.dtype == np.float32 and speech.max() < 0.5


def _speaker(model: Any) -> None:
    points = np.repeat(mesh_of(astronaut())[0][None], 50, 0)
    thumbs = np.repeat(model.thumb(astronaut(), np.array([175, 74, 275, 173], np.float32), points[0])[None], 50, 0)
    assert thumbs.dtype == np.uint8 and thumbs.shape == (50, model.thumb_px, model.thumb_px)
    track = slots.FaceTrack(points, np.ones(50, bool), thumbs if model.thumb_px else None)
    silence, quiet = np.zeros(640 * 50, np.float32), np.zeros(50, np.float32)
    score = model.score(track, silence, quiet)
    assert score.shape == (50,) and score.dtype == np.float32 and np.isfinite(score).all()
    assert model.offset(track, silence, quiet) is None, "no speech, so nothing to compare"


def _separator(model: Any) -> None:
    mix = np.random.default_rng(0).normal(0, 0.1, 640 * 50).astype(np.float32)
    activity = np.zeros((2, 50), np.float32)
    activity[0, :25], activity[1, 25:] = 1, 1
    voices = model.separate(mix, activity)
    assert voices.shape == (2, len(mix)) and voices.dtype == np.float32 and model.method


def _diarizer(model: Any) -> None:
    nobody = model.diarize(np.zeros(640 * 75, np.float32))
    assert nobody.activity.shape == (0, 75) and len(nobody.embeddings) == 0


def _enhancer(model: Any) -> None:
    mix = np.random.default_rng(0).normal(0, 0.1, 640 * 50).astype(np.float32)
    speech = model.speech(mix)
    assert speech.shape == mix.shape and speech.dtype == np.float32 and np.isfinite(speech).all() and model.method


def _motion(model: Any) -> None:
    points = np.repeat(mesh_of(astronaut())[0][None], 4, 0)
    latents = model.encode([astronaut()] * 4, points)
    assert latents.shape == (4, len(model.names)) and latents.dtype == np.float32 and model.hash and model.name


CALLS = {
    "face_detector": _detector,
    "face_landmarker": _landmarker,
    "face_identity": _identity,
    "vad": _vad,
    "active_speaker": _speaker,
    "diarizer": _diarizer,
    "enhancer": _enhancer,
    "separator": _separator,
    "motion_encoder": _motion,
}


# bringing weights


def test_pull_takes_pinned_members_out_of_the_wheel_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = registry.cache_dir() / "downloads" / fetch.WHEELS["mediapipe"].file
    if not wheel.is_file():
        pytest.skip("the wheel was not downloaded on this machine")
    monkeypatch.setenv("DYCONV_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # a download would fail: the kept wheel must do
    (tmp_path / "models" / "downloads").mkdir(parents=True)
    shutil.copy(wheel, tmp_path / "models" / "downloads" / wheel.name)
    assert [path.name for path in registry.pull("mediapipe_mesh")] == ["face_landmark.tflite", "iris_landmark.tflite"]
    assert registry.pull("mediapipe_mesh") == []
    assert len(registry.pull("mediapipe_mesh", force=True)) == 2
    assert registry.presence(registry.get("mediapipe_mesh")) == "present"
    assert not list(tmp_path.rglob("*.tmp"))


def test_pull_without_a_connection_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYCONV_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelMissing) as caught:
        registry.pull("mediapipe_face")
    assert fetch.WHEELS["mediapipe"].file in str(caught.value) and str(tmp_path) in str(caught.value)
    assert not list(tmp_path.rglob("*.tflite"))


def test_a_url_that_does_not_answer_names_the_file_and_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYCONV_CACHE", str(tmp_path))
    weight = registry.Weight("x/y.onnx", None, "https://127.0.0.1:9/pack.zip", member="y.onnx")
    with pytest.raises(ModelMissing) as caught:
        fetch.archive_member(weight, tmp_path / "y.onnx")
    assert "https://127.0.0.1:9/pack.zip" in str(caught.value) and "x/y.onnx" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_command_lists_every_model_in_full() -> None:
    result = CliRunner().invoke(build(), ["models", "list"])
    assert result.exit_code == 0
    for spec in MODELS:
        assert spec.name in result.output and spec.licence in result.output


def test_command_pull_wants_a_name() -> None:
    for words in (["models", "pull"], ["models", "pull", "nobody"]):
        assert isinstance(CliRunner().invoke(build(), words).exception, UsageError)


# faces


@pytest.mark.parametrize(
    ("height", "width", "size", "x", "y"),
    [
        (720, 1280, 40, 300, 200),
        (720, 1280, 40, 640, 500),
        (720, 1280, 64, 1200, 360),
        (720, 1280, 150, 640, 360),
        (720, 1280, 300, 640, 330),
        (720, 1280, 500, 700, 400),
        (1280, 720, 64, 360, 900),
        (180, 320, 20, 100, 90),
    ],
)
def test_faces_from_an_eighteenth_of_the_picture_up_are_found_once(height: int, width: int, size: int, x: int, y: int) -> None:
    faces = loaded("mediapipe_face").detect(canvas(height, width, size, x, y))
    assert len(faces) == 1
    truth = np.array([[x - size / 2, y - size / 2, x + size / 2, y + size / 2]])
    assert iou(truth, faces[0].box[None])[0, 0] > 0.6


def test_detector_agrees_with_the_library_it_comes_from() -> None:
    loaded("mediapipe_face")
    try:
        from mediapipe import Image, ImageFormat
        from mediapipe.tasks.python import BaseOptions, vision
    except (ImportError, OSError) as error:
        pytest.skip(f"MediaPipe's library does not load: {error}")
    path = registry.weight_path(registry.get("mediapipe_face").weights[0])
    options = vision.FaceDetectorOptions(base_options=BaseOptions(model_asset_path=str(path)))
    with vision.FaceDetector.create_from_options(options) as detector:
        theirs = detector.detect(Image(image_format=ImageFormat.SRGB, data=astronaut())).detections[0]
    model = loaded("mediapipe_face")
    ours = model._run(model._short, model._short_anchors, astronaut(), Square(256, 256, 512, 0.0))[0]
    corner = theirs.bounding_box
    box = [corner.origin_x, corner.origin_y, corner.origin_x + corner.width, corner.origin_y + corner.height]
    assert iou(np.array([box], float), ours.box[None])[0, 0] > 0.9 and abs(theirs.categories[0].score - ours.score) < 0.05
    keypoints = np.array([[point.x, point.y] for point in theirs.keypoints]) * 512
    assert ours.keypoints is not None and np.abs(keypoints - ours.keypoints).max() < 2 * 512 / 128  # px of its input


def test_overlapping_detections_become_one_and_neighbours_stay_two() -> None:
    box = np.array([0, 0, 100, 100], np.float32)
    faces = merge([Detection(box, 0.6), Detection(box + 4, 0.9), Detection(box + 300, 0.7)])
    assert [face.score for face in faces] == [0.9, 0.7]
    assert faces[0].box[0] == pytest.approx(4 * 0.9 / 1.5)
    fine = merge([Detection(box, 0.6), Detection(box + 4, 0.9)], [1.0, 3.0])
    assert fine[0].box[0] == pytest.approx(4 * 2.7 / 3.3)
    assert merge([]) == []


def test_mesh_lies_on_the_detectors_keypoints_and_irises_in_the_eyes() -> None:
    face = loaded("mediapipe_face").detect(astronaut())[0]
    points, score = mesh_of(astronaut())
    assert score > 0.99
    assert np.abs(points[[468, 473, 1, 13]][:, :2] - face.keypoints[:4]).max() < 12
    for first, (outer, inner) in ((468, (33, 133)), (473, (263, 362))):
        low, high = sorted([points[outer, 0], points[inner, 0]])
        assert low < points[first, 0] < high
        radius = np.linalg.norm(points[first + 1 : first + 5, :2] - points[first, :2], axis=1)
        assert radius.max() < 0.45 * (high - low) and radius.min() > 0.1 * (high - low)
    assert points[[468], 0] < points[[473], 0]  # the person's right eye is on the left of the picture


@pytest.mark.parametrize(("angle", "scale", "dx", "dy"), [(0, 1, 37, 11), (20, 1, 0, 20), (-30, 1, 10, 30), (0, 2.5, 0, 0)])
def test_mesh_follows_shift_turn_and_size(angle: float, scale: float, dx: float, dy: float) -> None:
    import cv2

    points, _ = mesh_of(astronaut())
    matrix = cv2.getRotationMatrix2D((225, 124), angle, scale)
    matrix[:, 2] += (dx, dy)
    moved, score = mesh_of(cv2.warpAffine(astronaut(), matrix, (600, 600)))
    expected = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    error = np.linalg.norm(moved[:468, :2] - expected[:468], axis=1).mean()
    assert score > 0.9 and error < 0.03 * 100 * scale


def test_mesh_without_irises_is_the_same_mesh() -> None:
    box = np.array([175, 74, 275, 173], np.float32)
    mesh = loaded("mediapipe_mesh")
    full, plain = mesh.landmarks(astronaut(), box)[0], mesh.landmarks(astronaut(), box, irises=False)[0]
    assert np.array_equal(full[:468], plain[:468])
    assert np.allclose(plain[468:473], (plain[33] + plain[133]) / 2)


def test_a_second_instance_gives_the_same_bytes() -> None:
    again = registry.load("mediapipe_mesh") if loaded("mediapipe_mesh") else None
    box = np.array([175, 74, 275, 173], np.float32)
    assert again is not None
    assert again.landmarks(astronaut(), box)[0].tobytes() == loaded("mediapipe_mesh").landmarks(astronaut(), box)[0].tobytes()


def test_following_from_its_own_points_stays_where_it_is() -> None:
    points, _ = mesh_of(astronaut())
    for _ in range(5):
        points, score = loaded("mediapipe_mesh").landmarks(astronaut(), face_box(points), points[list(KEYPOINTS), :2])
    assert score > 0.99
    assert np.linalg.norm(points[:, :2] - mesh_of(astronaut())[0][:, :2], axis=1).mean() < 1.5


# identity


def group_photo() -> np.ndarray:
    import cv2
    import insightface

    picture = cv2.imread(str(Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"))
    return np.ascontiguousarray(picture[..., ::-1])


def test_appearance_knows_a_face_again_and_tells_people_apart() -> None:
    identity = Appearance()
    photo = group_photo()
    faces = loaded("mediapipe_face").detect(photo)
    assert len(faces) >= 5
    vectors, again = [], []
    darker = np.clip(np.roll(photo, (9, -14), (0, 1)).astype(np.float32) * 0.95 - 2, 0, 255).astype(np.uint8)
    for face in faces:
        points = loaded("mediapipe_mesh").landmarks(photo, face.box, face.keypoints)[0]
        shifted = points + np.array([-14, 9, 0], np.float32)
        vectors.append(identity.embed(photo, points))
        again.append(identity.embed(darker, shifted))
    similarity = np.array(vectors) @ np.array(again).T
    assert np.diag(similarity).min() > identity.threshold
    others = similarity[~np.eye(len(faces), dtype=bool)]
    assert np.mean(others > identity.threshold) < 0.15


def tiny_recogniser(path: Path) -> None:
    """An ONNX network with the input and output of an ArcFace recogniser, and small random weights."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 0.1, (8, 3, 7, 7)).astype(np.float32),
        "g": rng.normal(0, 0.05, (8 * 16 * 16, 32)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input.1", "w"], ["c"], strides=[7, 7]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [None, 3, 112, 112])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 32])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def test_insightface_recogniser_sees_the_aligned_face(tmp_path: Path) -> None:
    import cv2

    tiny_recogniser(tmp_path / "w600k_r50.onnx")
    identity = InsightFaceIdentity(tmp_path / "w600k_r50.onnx")
    assert isinstance(identity, slots.FaceIdentity) and identity.scope == "global"
    points, _ = mesh_of(astronaut())
    vector = identity.embed(astronaut(), points)
    assert vector.shape == (32,) and abs(np.linalg.norm(vector) - 1) < 1e-5
    matrix = cv2.getRotationMatrix2D((225, 124), 25, 1.2)
    turned = cv2.warpAffine(astronaut(), matrix, (512, 512))
    moved = points.copy()
    moved[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    assert vector @ identity.embed(turned, moved) > 0.98  # alignment takes turn and size out


def test_insightface_refuses_what_is_no_recogniser(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 192, 192]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(tmp_path / "x.onnx"))
    with pytest.raises(ModelMissing, match="not a face recognition network"):
        InsightFaceIdentity(tmp_path / "x.onnx")


def test_official_task_refuses_a_file_that_is_none(tmp_path: Path) -> None:
    from dyconv.models.mediapipe_task import MediaPipeTask

    (tmp_path / "face_landmarker.task").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelMissing, match=r"Landmarker|libegl1"):
        MediaPipeTask(tmp_path / "face_landmarker.task")
