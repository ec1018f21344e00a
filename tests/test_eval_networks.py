"""LPIPS, FID, FVD and CSIM, without the published weights: networks are held against others with the same random ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dyconv.errors import ModelMissing
from dyconv.models import catalogue, metric_networks, registry
from dyconv.store import sha256_of
from tests.bench.evaluator import blank_inception
from tests.eval_frames import blurred, by_scipy, chunk, compared, evidence_of, noisy, pan, read, unit, value_of
from training.evaluation import foreign, i3d, i3d_net, identity, inception, perceptual
from training.evaluation.evidence import Comparison, Extractor, Role
from training.evaluation.metric import Choice, Family

NAMES = ("alexnet", "inception_fid", "i3d", "arcface")
FAMILIES: dict[str, Callable[[Choice], Family]] = {
    "alexnet": perceptual.family,
    "inception_fid": inception.family,
    "i3d": i3d.family,
    "arcface": identity.family,
}
pytestmark = pytest.mark.usefixtures("one_thread")


def lively(net: nn.Module) -> dict[str, Tensor]:
    """Random weights that keep the size of what passes through, as trained ones do."""
    generator = torch.Generator().manual_seed(0)
    state = net.state_dict()
    for name, value in state.items():
        if name.endswith("weight") and value.ndim > 1:
            value.copy_(torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5)
        elif name.endswith(("bn.weight", "running_var")):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif name.endswith(("bias", "running_mean")):
            value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    return state


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files as the published ones are, with random weights."""
    from torchvision.models import alexnet

    from tests.test_models import tiny_recogniser

    folder = tmp_path_factory.mktemp("weights")
    features = nn.ModuleDict({"features": alexnet(weights=None).features})
    video = {name: value for name, value in lively(i3d_net.I3d()).items() if not name.endswith("num_batches_tracked")}
    for name, state in (("alexnet", lively(features)), ("inception_fid", lively(blank_inception())), ("i3d", video)):
        torch.save(state, folder / f"{name}.pth")
    tiny_recogniser(folder / "arcface.onnx")
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture
def pins(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Choice]:
    """The registry as if those were the published files; the choice that gives them."""

    def pinned(spec: registry.ModelSpec) -> registry.ModelSpec:
        names = {entry: name for name, entry in foreign.MODELS.items()}
        if (path := files.get(names.get(spec.name, ""))) is None:
            return spec
        return replace(spec, weights=(replace(spec.weights[0], sha256=sha256_of(path)),))

    monkeypatch.setattr(metric_networks, "METRIC_NETWORKS", tuple(pinned(spec) for spec in metric_networks.METRIC_NETWORKS))
    monkeypatch.setattr(catalogue, "MODELS", tuple(pinned(spec) for spec in catalogue.MODELS))
    yield Choice(device=torch.device("cpu"), weights=files)


@pytest.mark.parametrize("name", NAMES)
def test_without_its_weights_a_metric_is_unavailable_and_nothing_takes_its_place(
    name: str, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYCONV_CACHE", str(tmp_path))
    for weights in (None, {name: files[name]}, {name: tmp_path / "nowhere.pth"}):  # the second: another file than the published
        family = FAMILIES[name](Choice(device=torch.device("cpu"), weights=weights))
        assert not family.metrics and not family.extractors and not family.comparisons
        (missing,) = family.unavailable
        assert missing.fix.startswith("dyconv models pull") and foreign.MODELS[name] in missing.fix and name in missing.why


@pytest.mark.parametrize("name", NAMES)
def test_with_its_weights_it_is_there_under_the_same_name(name: str, pins: Choice) -> None:
    family = FAMILIES[name](pins)
    (metric,) = family.metrics
    readers: tuple[Extractor | Comparison, ...] = (*family.extractors, *family.comparisons)
    assert metric.needs == {reader.name for reader in readers} and not family.unavailable
    absent = FAMILIES[name](Choice(device=torch.device("cpu"), weights={name: Path("nowhere")}))
    assert absent.unavailable[0].name == metric.name
    assert (foreign.pinned(name).sha256 or "")[:12] in readers[0].version


@pytest.mark.parametrize("name", ["alexnet", "inception_fid", "i3d"])
def test_another_networks_file_is_refused_by_name(name: str, files: dict[str, Path]) -> None:
    other, cpu = files["i3d" if name == "alexnet" else "alexnet"], torch.device("cpu")
    readers = {"alexnet": perceptual.Lpips, "inception_fid": inception.Inception, "i3d": i3d.I3dLogits}
    with pytest.raises(ModelMissing, match=str(other)) as caught:
        _ = readers[name](other, cpu).net
    assert f"dyconv models pull --force {name}" in str(caught.value)


# LPIPS


def lpips_by_definition(truth: Tensor, made: Tensor, state: dict[str, Tensor]) -> list[float]:
    """Equation 1 of the paper, picture by picture, on torchvision's layers."""
    from importlib.resources import files as resources

    from torchvision.models import alexnet

    layers = alexnet(weights=None).features.eval()
    layers.load_state_dict({name.removeprefix("features."): value for name, value in state.items()})
    path = resources("torchmetrics") / "functional" / "image" / "lpips_models" / "alex.pth"
    linear = torch.load(BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    found = []
    for pair in zip(truth, made, strict=True):
        values = [(((picture * 2 - 1).permute(1, 2, 0) - shift) / scale).permute(2, 0, 1)[None] for picture in pair]
        total = 0.0
        for number, layer in enumerate(layers):
            values = [layer(value) for value in values]
            if number in (1, 4, 7, 9, 11):
                one, other = (value / (value.square().sum(dim=1, keepdim=True) + 1e-8).sqrt() for value in values)
                weight = linear[f"lin{(1, 4, 7, 9, 11).index(number)}.model.1.weight"]
                total += float(((one - other).square() * weight).sum(dim=1).mean())
        found.append(total)
    return found


def test_lpips_is_the_papers_equation(files: dict[str, Path]) -> None:
    truth = pan(3, 96)
    made = noisy(truth, 0.1)
    found = perceptual.Lpips(files["alexnet"], torch.device("cpu")).compare(chunk(truth), chunk(made))
    with torch.no_grad():
        expected = lpips_by_definition(unit(truth), unit(made), foreign.tensors(files["alexnet"]))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_lpips_linear_layers_are_the_published_ones() -> None:
    from torchmetrics.functional.image import lpips

    path = Path(lpips.__file__).parent / "lpips_models" / "alex.pth"
    assert sha256_of(path) == "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"  # of lpips v0.1


@pytest.mark.parametrize(("corrupt", "amounts"), [(blurred, (0.5, 1, 3)), (noisy, (0.02, 0.1, 0.3))])
def test_lpips_grows_as_a_picture_gets_worse(
    corrupt: Callable[..., np.ndarray], amounts: tuple[float, ...], pins: Choice
) -> None:
    truth = pan(2, 96)
    family = perceptual.family(pins)
    values = [compared(family.metrics[0], family.comparisons[0], truth, corrupt(truth, amount)) for amount in amounts]
    assert compared(family.metrics[0], family.comparisons[0], truth, truth) == 0 < values[0] < values[1] < values[2]


# FID


def test_fid_is_that_of_torch_fidelitys_features(pins: Choice, files: dict[str, Path]) -> None:
    from torch_fidelity.utils import create_feature_extractor, extract_featuresdict_from_input_id

    class Frames(torch.utils.data.Dataset):
        def __init__(self, frames: np.ndarray) -> None:
            self.frames = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()

        def __len__(self) -> int:
            return len(self.frames)

        def __getitem__(self, number: int) -> Tensor:
            return self.frames[number]

    truth = pan(4, 96)
    made = noisy(truth, 0.2)
    (metric,), (extractor,) = inception.family(pins).metrics, inception.family(pins).extractors
    arrays = [read(extractor, frames, cuts=(1,)) for frames in (truth, made)]
    weights = {"feature_extractor_weights_path": str(files["inception_fid"])}
    net = create_feature_extractor("inception-v3-compat", ["2048"], cuda=False, verbose=False, **weights)
    options = {"cuda": False, "verbose": False, "save_cpu_ram": True}
    theirs = [
        extract_featuresdict_from_input_id(number, net, **{f"input{number}": Frames(frames)}, **options)["2048"].numpy()
        for number, frames in ((1, truth), (2, made))
    ]
    for ours, other in zip(arrays, theirs, strict=True):
        np.testing.assert_allclose(ours["inception_fid"], other, rtol=1e-4, atol=1e-5)
    turned = np.linalg.qr(np.concatenate(theirs).T.astype(np.float64))[0]  # of 8 vectors; distances stay what they are
    expected = by_scipy(theirs[0] @ turned, theirs[1] @ turned)
    assert value_of(metric, evidence_of(4, truth=arrays[0], made=arrays[1])) == pytest.approx(expected, rel=1e-4)
    assert value_of(metric, evidence_of(4, truth=arrays[0], made=arrays[0])) == pytest.approx(0, abs=1e-6)


def test_fid_of_each_third_frame_says_so(pins: Choice) -> None:
    truth = pan(7, 32)
    (every,) = inception.family(replace(pins, every=3)).extractors
    (metric,) = inception.family(replace(pins, every=3)).metrics
    (each,) = inception.family(pins).extractors
    assert isinstance(every, inception.Inception)
    rows = read(every, truth, cuts=(2, 5))["inception_fid"]
    np.testing.assert_allclose(rows, every.features(truth[::3]), rtol=1e-4, atol=1e-5)
    assert metric.name == "fid.every3" and every.version != each.version
    sums = metric.sums(evidence_of(7, truth={"inception_fid": rows}, made={"inception_fid": rows}), np.arange(7) >= 3)
    assert sums is not None and sums["made.n"] == 2  # frames 3 and 6
    assert metric.sums(evidence_of(7, truth={"inception_fid": rows}, made={"inception_fid": rows}), np.zeros(7, bool)) is None


# FVD


def i3d_by_hand(state: dict[str, Tensor], video: Tensor) -> Tensor:
    """I3D on 16 frames of 224 x 224, with the padding of TensorFlow's SAME written down for that size."""

    def unit3d(name: str, values: Tensor, before: int, behind: int, stride: int = 1) -> Tensor:
        values = functional.conv3d(functional.pad(values, (before, behind) * 3), state[f"{name}.conv3d.weight"], stride=stride)
        mean, variance = (state[f"{name}.bn.{what}"].reshape(-1, 1, 1, 1) for what in ("running_mean", "running_var"))
        weight, bias = (state[f"{name}.bn.{what}"].reshape(-1, 1, 1, 1) for what in ("weight", "bias"))
        return functional.relu((values - mean) / (variance + 1e-3).sqrt() * weight + bias)

    def largest(values: Tensor, pads: tuple[int, ...], kernel: int | tuple[int, ...], stride: int | tuple[int, ...]) -> Tensor:
        return functional.max_pool3d(functional.pad(values, pads, value=float("-inf")), kernel, stride)

    def mixed(name: str, values: Tensor) -> Tensor:
        one = unit3d(f"{name}.b0", values, 0, 0)
        two = unit3d(f"{name}.b1b", unit3d(f"{name}.b1a", values, 0, 0), 1, 1)
        three = unit3d(f"{name}.b2b", unit3d(f"{name}.b2a", values, 0, 0), 1, 1)
        four = unit3d(f"{name}.b3b", largest(values, (1,) * 6, 3, 1), 0, 0)
        return torch.cat([one, two, three, four], dim=1)

    flat = {"pads": (0, 1, 0, 1, 0, 0), "kernel": (1, 3, 3), "stride": (1, 2, 2)}
    values = largest(unit3d("Conv3d_1a_7x7", video, 2, 3, 2), **flat)
    values = largest(unit3d("Conv3d_2c_3x3", unit3d("Conv3d_2b_1x1", values, 0, 0), 1, 1), **flat)
    values = largest(mixed("Mixed_3c", mixed("Mixed_3b", values)), (0, 1, 0, 1, 0, 1), 3, 2)
    for block in "bcdef":
        values = mixed(f"Mixed_4{block}", values)
    values = mixed("Mixed_5c", mixed("Mixed_5b", largest(values, (0,) * 6, 2, 2)))
    pooled = values.mean(dim=(2, 3, 4))  # 2 x 7 x 7 are left
    assert values.shape[2:] == (2, 7, 7)
    return pooled @ state["logits.conv3d.weight"].flatten(1).T + state["logits.conv3d.bias"]


def test_i3d_is_the_published_network(files: dict[str, Path]) -> None:
    state = foreign.tensors(files["i3d"])
    assert len(state) == 57 * 5 + 2  # 57 layers with batch normalisation, and the classifier
    assert sum(parameter.numel() for parameter in i3d_net.I3d().parameters()) == 12_697_264
    shapes = {
        "Conv3d_1a_7x7.conv3d.weight": (64, 3, 7, 7, 7),
        "Conv3d_2c_3x3.conv3d.weight": (192, 64, 3, 3, 3),
        "Mixed_3b.b1b.conv3d.weight": (128, 96, 3, 3, 3),
        "Mixed_4f.b3b.bn.running_var": (128,),
        "Mixed_5c.b2b.conv3d.weight": (128, 48, 3, 3, 3),
        "logits.conv3d.weight": (400, 1024, 1, 1, 1),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    video = torch.rand(1, 3, 16, 224, 224) * 2 - 1
    with torch.no_grad():
        found, expected = i3d_net.load(state)(video), i3d_by_hand(state, video)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)


def test_fvd_takes_windows_of_sixteen_frames_and_grows_as_they_get_worse(pins: Choice) -> None:
    (extractor,), (metric,) = i3d.family(pins).extractors, i3d.family(pins).metrics
    assert isinstance(extractor, i3d.I3dLogits)
    frames = pan(34, 64)
    rows = read(extractor, frames, cuts=(5, 25))["i3d"]
    whole = functional.interpolate(unit(frames[16:32]), (224, 224), mode="bilinear", align_corners=False)
    with torch.no_grad():
        second = extractor.net((whole * 2 - 1).permute(1, 0, 2, 3)[None])
    np.testing.assert_allclose(rows[1:], second.numpy(), rtol=1e-4, atol=1e-5)
    assert rows.shape == (2, 400)  # two frames at the end fill no window
    evidence = evidence_of(34, truth={"i3d": rows}, made={"i3d": rows})
    sums = metric.sums(evidence, np.arange(34) >= 16)
    assert sums is not None and sums["made.n"] == 1
    assert metric.sums(evidence, np.arange(34) >= 17) is None
    assert metric.heavy and value_of(metric, evidence) == pytest.approx(0, abs=1e-9)
    worse = [read(extractor, noisy(frames[:32], amount)) for amount in (0.05, 0.2)]
    values = [value_of(metric, evidence_of(32, truth={"i3d": rows}, made=made)) for made in worse]
    assert 0 < values[0] < values[1]


# CSIM


def test_csim_is_the_cosine_with_the_portrait(pins: Choice) -> None:
    (extractor,), (metric,) = identity.family(pins).extractors, identity.family(pins).metrics
    assert isinstance(extractor, identity.ArcFace)
    truth, points = pan(5, 128), spread(5, 128)
    made = np.ascontiguousarray(truth[:, :, ::-1])
    of_truth = by_chunks(extractor, truth, points, Role.TRUTH, portrait=3)
    seen = np.array([True, True, False, True, True])
    of_made = by_chunks(extractor, made, points, Role.MADE, seen=seen)
    assert set(of_truth) == {"arcface", "arcface.portrait"} and set(of_made) == {"arcface"}
    np.testing.assert_allclose(of_truth["arcface.portrait"], of_truth["arcface"][3])
    found = value_of(metric, evidence_of(5, truth=of_truth, made=of_made))
    portrait = extractor.net.embed(truth[3], points[3])
    direct = [float(extractor.net.embed(made[number], points[number]) @ portrait) for number in (0, 1, 3, 4)]
    assert found == pytest.approx(np.mean(direct), rel=1e-4)
    only = value_of(metric, evidence_of(5, truth=of_truth, made=of_truth), np.arange(5) == 3)
    assert only == pytest.approx(1, abs=1e-5) and found < 1


def test_csim_of_each_third_frame_still_knows_the_portrait(pins: Choice) -> None:
    family = identity.family(replace(pins, every=3))
    (each,) = identity.family(pins).extractors
    truth, points = pan(5, 128), spread(5, 128)
    thinned = by_chunks(family.extractors[0], truth, points, Role.TRUTH, portrait=4)
    full = by_chunks(each, truth, points, Role.TRUTH, portrait=4)
    np.testing.assert_allclose(thinned["arcface"], full["arcface"][::3], rtol=1e-5)
    np.testing.assert_allclose(thinned["arcface.portrait"], full["arcface"][4], rtol=1e-5)
    assert family.metrics[0].name == "csim.arcface.every3"


def test_csim_has_nothing_to_say_without_a_face(pins: Choice) -> None:
    (extractor,), (metric,) = identity.family(pins).extractors, identity.family(pins).metrics
    truth, points = pan(3, 128), spread(3, 128)
    of_truth = by_chunks(extractor, truth, points, Role.TRUTH)
    nobody = by_chunks(extractor, truth, points, Role.MADE, seen=np.zeros(3, bool))
    hidden = by_chunks(extractor, truth, points, Role.TRUTH, seen=np.array([False, True, True]))
    everywhere = np.ones(3, bool)
    assert metric.sums(evidence_of(3, truth=of_truth, made=nobody), everywhere) is None
    assert metric.sums(evidence_of(3, truth=hidden, made=of_truth), everywhere) is None  # no face on the portrait


def test_csim_falls_as_the_face_is_lost(pins: Choice) -> None:
    (extractor,), (metric,) = identity.family(pins).extractors, identity.family(pins).metrics
    truth, points = pan(3, 128), spread(3, 128)
    rows = [by_chunks(extractor, made, points, Role.TRUTH) for made in (truth, noisy(truth, 0.1), noisy(truth, 0.5))]
    values = [value_of(metric, evidence_of(3, truth=rows[0], made=made)) for made in rows]
    assert values[0] > values[1] > values[2]


def spread(count: int, side: int) -> np.ndarray:
    """Landmarks whose eyes, nose and mouth are those of a face that fills the picture."""
    points = np.zeros((count, 478, 3), np.float32)
    for point, place in {468: (0.34, 0.46), 473: (0.66, 0.46), 1: (0.5, 0.64), 61: (0.37, 0.82), 291: (0.63, 0.82)}.items():
        points[:, point, :2] = np.array(place) * side
    return points


def by_chunks(
    extractor: Any, frames: np.ndarray, points: np.ndarray, role: Role, *, seen: np.ndarray | None = None, portrait: int = 0
) -> dict[str, np.ndarray]:
    from tests.eval_frames import shown

    reading = extractor.begin(shown(len(frames), role, portrait))
    for start in range(0, len(frames), 2):
        part = chunk(frames[start : start + 2], start=start)
        present = part.present if seen is None else seen[start : start + 2]
        reading.feed(replace(part, landmarks=points[start : start + 2], present=present))
    return dict(reading.finish())


# the GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_networks_agree_on_the_gpu(files: dict[str, Path]) -> None:
    truth, made = pan(16, 96), noisy(pan(16, 96), 0.1)
    devices = [torch.device("cpu"), torch.device("cuda")]
    here, there = (perceptual.Lpips(files["alexnet"], device).compare(chunk(truth), chunk(made)).cpu() for device in devices)
    np.testing.assert_allclose(there.numpy(), here.numpy(), rtol=1e-3)
    for kind, name in ((inception.Inception, "inception_fid"), (i3d.I3dLogits, "i3d")):
        one, other = (read(kind(files[name], device), truth)[kind.name] for device in devices)
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-3 * float(np.abs(one).max()))
