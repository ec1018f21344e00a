"""SSIM and PSNR: a made picture against the true one, pixel by pixel, frame by frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.evaluation.evidence import Chunk, Evidence
from training.evaluation.foreign import exact, in_parts
from training.evaluation.metric import Choice, Family, FrameMean, Sums

_SIGMA, _RADIUS = 1.5, 5  # 11 x 11
_FRAMES = 32  # at once on a GPU
_C1, _C2 = 0.01**2, 0.03**2  # K1, K2 of pictures in 0..1


def ssim(truth: Tensor, made: Tensor) -> Tensor:
    """Structural similarity of each picture, float32 [n].

    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE TIP
    2004, equation 13, with its Gaussian window (11 x 11, standard deviation 1.5), K1 = 0.01 and K2 = 0.03; weighted moments
    are not made unbiased. Each of R, G, B on its own, then the mean. Border: only where the whole window lies in the picture
    (5 pixels less on each side), as in the paper's code and scikit-image. torchmetrics (1.9) mirrors the picture beyond its
    border and counts those places as well: the same numbers inside, another mean.

    Args:
        truth, made: float32 [n, 3, H, W] in 0..1, H and W at least 11.
    """
    smooth = _by_convolution if truth.is_cuda else _by_opencv
    with exact():
        return torch.cat([_ssim(one, other, smooth) for one, other in in_parts(truth, made, at_once=_FRAMES)])


def _ssim(truth: Tensor, made: Tensor, smooth: Callable[[Tensor], Tensor]) -> Tensor:
    one, other = truth - 0.5, made - 0.5  # smaller squares are rounded less
    means = smooth(torch.cat([one, other, one * one, other * other, one * other], dim=1))
    mean, mean_other, square, square_other, product = means.chunk(5, dim=1)
    variance, variance_other = square - mean * mean, square_other - mean_other * mean_other
    covariance = product - mean * mean_other
    mean, mean_other = mean + 0.5, mean_other + 0.5
    luminance = (2 * mean * mean_other + _C1) / (mean * mean + mean_other * mean_other + _C1)
    structure = (2 * covariance + _C2) / (variance + variance_other + _C2)
    return (luminance * structure).flatten(1).mean(dim=1)


def _window() -> np.ndarray:
    bell = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    return bell / bell.sum()


def _by_convolution(maps: Tensor) -> Tensor:
    """The window's mean at each place it fits in, of maps [n, c, H, W]."""
    count = maps.shape[1]
    weights = torch.from_numpy(_window()).to(maps)
    across = functional.conv2d(maps, weights.expand(count, 1, 1, -1), groups=count)
    return functional.conv2d(across, weights[:, None].expand(count, 1, -1, 1), groups=count)


def _by_opencv(maps: Tensor) -> Tensor:
    """The same, several times as fast on a CPU."""
    import cv2

    window = _window()
    smooth = [cv2.sepFilter2D(one, -1, window, window) for one in maps.flatten(0, 1).numpy()]
    inside = np.stack(smooth)[:, _RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
    return torch.from_numpy(inside).unflatten(0, maps.shape[:2])


def psnr(truth: Tensor, made: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB, float32 [n]; infinite where they are the same.

    10 log10(1 / MSE), the mean square over the picture's pixels and R, G, B, of float [n, 3, H, W] in 0..1.
    """
    pairs = in_parts(truth, made, at_once=_FRAMES)
    return -10 * torch.cat([(one - other).square().mean(dim=(1, 2, 3)) for one, other in pairs]).log10()


class Ssim:
    """`ssim` by frame."""

    name, version = "ssim", "1"

    def compare(self, truth: Chunk, made: Chunk) -> Tensor:
        """Float [n]; NaN where pictures are too small for the window."""
        if min(truth.unit.shape[2:]) <= 2 * _RADIUS:
            return torch.full((len(truth),), float("nan"))
        return ssim(truth.unit, made.unit)


class Psnr:
    """`psnr` by frame."""

    name, version = "psnr", "1"

    def compare(self, truth: Chunk, made: Chunk) -> Tensor:
        """Float [n], dB; infinite where both are the same picture."""
        return psnr(truth.unit, made.unit)


class PsnrMean(FrameMean):
    """The mean over frames of each frame's dB. Frames that are the same picture have no finite one: they are left out, and
    the mean is infinite where all frames are."""

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        values = evidence.frames[self.name][mask].astype(np.float64)
        same, finite = np.isposinf(values), values[np.isfinite(values)]
        if not same.any() and not len(finite):
            return None
        parts = {"sum": finite.sum(), "count": len(finite), "same": same.sum()}
        return {name: np.asarray(float(part)) for name, part in parts.items()}

    def value(self, sums: Sums) -> float:
        if sums["count"]:
            return float(sums["sum"] / sums["count"])
        return float("inf") if sums["same"] else float("nan")


def family(choice: Choice) -> Family:
    """SSIM and PSNR: nothing is needed."""
    return Family(
        metrics=(
            FrameMean("ssim", better="higher", about="structural similarity, 11 x 11 Gaussian window, RGB (Wang et al. 2004)"),
            PsnrMean(
                "psnr",
                better="higher",
                unit="dB",
                about="peak signal-to-noise ratio, mean of each frame's; same frames left out",
            ),
        ),
        comparisons=(Ssim(), Psnr()),
    )
