"""Losses of Stage 1 on frames, flow and latents.

Pictures are float [B, 3, S, S] in -1..1. Every loss is a mean, so that weights do not depend on sizes.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional


def l1(made: Tensor, wanted: Tensor) -> Tensor:
    return (made - wanted).abs().mean()


def multi_scale_l1(made: Tensor, wanted: Tensor, scales: int = 3) -> Tensor:
    """Mean of the L1 at halves of the size: coarse errors, which move far, count as much as fine ones."""
    total = made.new_zeros(())
    for _ in range(scales):
        made, wanted = functional.avg_pool2d(made, 2), functional.avg_pool2d(wanted, 2)
        total = total + l1(made, wanted)
    return total / scales


def ssim_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """1 - SSIM (Wang et al. 2004; 11 x 11 Gaussian window)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    similarity = structural_similarity_index_measure(made.float(), wanted.float(), data_range=2.0)
    assert isinstance(similarity, Tensor)  # no full image was asked for
    return 1 - similarity


def region_l1(made: Tensor, wanted: Tensor, regions: Tensor, *, count: float | None = None) -> Tensor:
    """L1 over the pixels of `regions` bool [B, R, S, S] (`dyconv.infp.mask.regions`), each region of a picture alike.

    A mouth is larger than an eye, and a near face larger than a far one; none of them counts for more. Empty ones do not count.

    Args:
        count: what the sum over regions is divided by; by default `region_count`.
    """
    error = (made - wanted).abs().mean(dim=1, keepdim=True)
    weights = regions.to(error.dtype)
    pixels = weights.sum(dim=(2, 3))
    means = (error * weights).sum(dim=(2, 3)) / pixels.clamp(min=1)
    return means.sum() / (region_count(regions).clamp(min=1) if count is None else count)


def region_count(regions: Tensor) -> Tensor:
    """How many regions of a batch [B, R, S, S] are not empty."""
    return regions.flatten(2).any(dim=2).sum()


def landmark_flow(
    flow: Mapping[int, Tensor], driver: Tensor, portrait: Tensor, size: int, *, count: float | None = None
) -> Tensor:
    """Flow at each of the driver's landmarks has to point at the portrait's landmark.

    It says directly where things are, where the pictures only say it to who already is near.

    Args:
        flow: by side, [B, side, side, 2], as `Rendered` has it.
        driver, portrait: landmarks [B, N, 2 or 3] in pixels of pictures `size` wide.
        count: what the sum over landmarks is divided by; by default how many are `inside_both`.

    Returns:
        Mean distance in picture widths, over the maps and the landmarks that lie inside both pictures.
    """
    at, to = (points[..., :2].float() * (2 / size) - 1 for points in (driver, portrait))
    inside = inside_both(driver, portrait, size).float()
    share = inside.sum().clamp(min=1) if count is None else count
    total = at.new_zeros(())
    for sources in flow.values():
        found = functional.grid_sample(
            sources.permute(0, 3, 1, 2).float(), at[:, None], align_corners=False, padding_mode="border"
        )
        distance = (found[:, :, 0].transpose(1, 2) - to).square().sum(dim=-1).add(1e-8).sqrt() / 2
        total = total + (distance * inside).sum() / share
    return total / max(len(flow), 1)


def inside_both(driver: Tensor, portrait: Tensor, size: int) -> Tensor:
    """Bool [B, N]: landmarks that lie inside both pictures, which are `size` wide."""
    at, to = (points[..., :2].float() * (2 / size) - 1 for points in (driver, portrait))
    return ((at.abs() < 1) & (to.abs() < 1)).all(dim=-1)


def decaying(step: int, over: int) -> float:
    """Weight of what is there only to begin with: 1 for the first half of `over` steps, then linearly to 0."""
    return min(1.0, max(0.0, 2 - 2 * step / over)) if over else 0.0
