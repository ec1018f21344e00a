"""SSIM, PSNR and the Frechet distance: known answers, other implementations, graded corruption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dyconv.errors import ModelMissing, UsageError
from dyconv.models import metric_networks, registry
from dyconv.models.metric_networks import METRIC_NETWORKS
from dyconv.models.slots import SLOTS
from dyconv.store import sha256_of
from tests.eval_frames import blurred, by_scipy, chunk, compared, noisy, pan, shifted, unit
from training.evaluation import foreign, frechet, pictures
from training.evaluation.metric import Choice

CPU = Choice(device=torch.device("cpu"))


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return pan(6, 128)


def test_ssim_agrees_with_scikit_image_and_torchmetrics(truth: np.ndarray) -> None:
    from skimage.metrics import structural_similarity
    from torchmetrics.functional.image import structural_similarity_index_measure

    for made in (noisy(truth, 0.1), blurred(truth, 2), shifted(truth, 3), 255 - truth):
        found = pictures.ssim(unit(truth), unit(made)).numpy()
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
        pairs = zip(truth / 255, made / 255, strict=True)
        direct = [structural_similarity(*pair, channel_axis=-1, **options) for pair in pairs]
        np.testing.assert_allclose(found, direct, rtol=1e-4, atol=1e-6)
        _, places = structural_similarity_index_measure(unit(made), unit(truth), data_range=1.0, return_full_image=True)
        inside = places[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))  # torchmetrics adds a mirrored border to its mean
        np.testing.assert_allclose(found, inside.numpy(), rtol=1e-4, atol=1e-5)


def test_both_ways_to_smooth_are_the_same(truth: np.ndarray) -> None:
    maps = unit(truth)
    found = pictures._by_opencv(maps)
    assert found.shape == (6, 3, 118, 118)
    np.testing.assert_allclose(found.numpy(), pictures._by_convolution(maps).numpy(), rtol=1e-5, atol=1e-6)


def test_ssim_of_flat_pictures_is_the_luminance_term() -> None:
    one, other = torch.full((1, 3, 32, 32), 0.25), torch.full((1, 3, 32, 32), 0.75)
    expected = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)
    assert pictures.ssim(one, other).item() == pytest.approx(expected, rel=1e-4)
    assert pictures.ssim(one, one).item() == pytest.approx(1, abs=1e-6)


def test_psnr_agrees_with_scikit_image_and_is_known_for_a_constant_error(truth: np.ndarray) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    made = noisy(truth, 0.1)
    found = pictures.psnr(unit(truth), unit(made)).numpy()
    direct = [peak_signal_noise_ratio(one / 255, other / 255, data_range=1.0) for one, other in zip(truth, made, strict=True)]
    np.testing.assert_allclose(found, direct, rtol=1e-4)
    grey = torch.full((1, 3, 16, 16), 0.5)
    assert pictures.psnr(grey, grey + 0.1).item() == pytest.approx(20, rel=1e-5)


def test_the_true_video_against_itself_is_perfect(truth: np.ndarray) -> None:
    family = pictures.family(CPU)
    ssim, psnr = (compared(metric, of, truth, truth) for metric, of in zip(family.metrics, family.comparisons, strict=True))
    assert ssim == pytest.approx(1, abs=1e-6) and psnr == float("inf")


def test_frames_that_are_the_same_do_not_make_the_mean_psnr_infinite(truth: np.ndarray) -> None:
    family = pictures.family(CPU)
    made = noisy(truth, 0.1)
    made[0] = truth[0]
    mixed = compared(family.metrics[1], family.comparisons[1], truth, made)
    assert mixed == pytest.approx(compared(family.metrics[1], family.comparisons[1], truth[1:], made[1:])) and 15 < mixed < 25


@pytest.mark.parametrize(("corrupt", "amounts"), [(blurred, (0.5, 1, 3)), (noisy, (0.02, 0.1, 0.3)), (shifted, (1, 2, 5))])
def test_they_fall_as_a_picture_gets_worse(
    truth: np.ndarray, corrupt: Callable[[np.ndarray, float], np.ndarray], amounts: tuple[float, ...]
) -> None:
    family = pictures.family(CPU)
    for metric, comparison in zip(family.metrics, family.comparisons, strict=True):
        values = [compared(metric, comparison, truth, corrupt(truth, amount)) for amount in amounts]
        assert values == sorted(values, reverse=True) and len(set(values)) == len(values), metric.name


def test_pictures_smaller_than_the_window_have_no_ssim() -> None:
    small = np.zeros((2, 8, 8, 3), np.uint8)
    assert np.isnan(pictures.Ssim().compare(chunk(small), chunk(small)).numpy()).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_pictures_agree_on_the_gpu(truth: np.ndarray) -> None:
    made = noisy(truth, 0.1)
    for comparison in pictures.family(CPU).comparisons:
        here = comparison.compare(chunk(truth), chunk(made))
        there = comparison.compare(chunk(truth, "cuda"), chunk(made, "cuda")).cpu()
        np.testing.assert_allclose(there.numpy(), here.numpy(), rtol=1e-3)


# the Frechet distance


def vectors(count: int, size: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(count, size)) @ draw.normal(size=(size, size)) + draw.normal(size=size)


@pytest.mark.parametrize("count", [400, 40])  # full rank, and fewer vectors than dimensions
def test_frechet_agrees_with_scipys_root(count: int) -> None:
    one, other = vectors(count, 64, 1), vectors(count, 64, 2)
    parts = [frechet.Moments.of(half) for half in np.array_split(one, 3)]
    names = parts[0].arrays("made.")
    whole = frechet.Moments.among(
        {name: np.sum([part.arrays("made.")[name] for part in parts], axis=0) for name in names}, "made."
    )
    np.testing.assert_allclose(whole.covariance, np.cov(one, rowvar=False), atol=1e-9)
    found = frechet.between(whole, frechet.Moments.of(other))
    assert found == pytest.approx(by_scipy(one, other), rel=1e-4)
    assert frechet.between(whole, whole) == 0
    assert frechet.between(whole, frechet.Moments.of(one[::-1])) == pytest.approx(0, abs=1e-8)


def test_frechet_of_scaled_and_moved_normals_is_known() -> None:
    zero, cov = np.zeros(3), np.diag([1.0, 4.0, 9.0])
    assert frechet.frechet_distance(zero, cov, zero + 2, 4 * cov) == pytest.approx(3 * 4 + np.trace(cov))
    assert frechet.frechet_distance(zero, 0 * cov, zero, cov) == pytest.approx(np.trace(cov))
    assert np.isnan(frechet.between(frechet.Moments.of(np.ones((1, 3))), frechet.Moments.of(np.ones((5, 3)))))


# foreign files


@pytest.mark.parametrize("name", list(foreign.MODELS))
def test_a_missing_or_another_file_is_refused_with_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYCONV_CACHE", str(tmp_path))
    command = f"dyconv models pull {foreign.MODELS[name]}"
    with pytest.raises(ModelMissing, match="is not there") as caught:
        foreign.find(name, CPU)
    assert caught.value.hint == f"run: {command}"
    assert foreign.unavailable("m", caught.value).fix == command
    other = tmp_path / "other.pt"
    other.write_bytes(b"another network")
    with pytest.raises(ModelMissing, match="expected sha256") as caught:
        foreign.find(name, Choice(device=torch.device("cpu"), weights={name: other}))
    assert str(other) in str(caught.value) and command in str(caught.value)
    assert len(foreign.pinned(name).sha256 or "") == 64


@pytest.mark.parametrize("spec", METRIC_NETWORKS, ids=lambda spec: spec.name)
def test_the_registry_can_bring_each_network_and_checks_it(
    spec: registry.ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (weight,) = spec.weights
    assert spec.slot not in SLOTS and not spec.default and spec.licence and spec.about
    assert weight.fetch and callable(registry._resolve(weight.fetch)) and weight.origin.startswith("https://")
    monkeypatch.setenv("DYCONV_CACHE", str(tmp_path))
    path = registry.weight_path(weight)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"what a bad connection left")
    with pytest.raises(ModelMissing, match="not the file"):
        registry.load(spec.name)
    with pytest.raises(ModelMissing, match="expected sha256"):
        foreign.find(spec.name, CPU)
    good = replace(spec, weights=(replace(weight, sha256=sha256_of(path)),))
    monkeypatch.setattr(metric_networks, "METRIC_NETWORKS", (good,))
    assert registry.load(spec.name) == foreign.find(spec.name, CPU) == path


def test_an_unknown_network_is_a_users_mistake() -> None:
    with pytest.raises(UsageError, match="nobody"):
        foreign.find("nobody", CPU)


def test_files_that_are_no_tensors_are_refused_and_nothing_in_them_runs(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("hello")
    for name in ("evil.pt", "list.pt", "text.pt"):
        with pytest.raises(ModelMissing, match=name):
            foreign.tensors(tmp_path / name)
    assert not (tmp_path / "ran").exists()
    torch.save({"a": torch.ones(2)}, tmp_path / "good.pt")
    assert foreign.tensors(tmp_path / "good.pt")["a"].sum() == 2
