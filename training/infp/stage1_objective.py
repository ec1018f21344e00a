"""The losses of Stage 1 put together: what a training step asks of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from dyconv.infp.render import Rendered
from dyconv.infp.stage1 import Stage1
from training.infp.adversary import PatchDiscriminator, adversarial, feature_matching
from training.infp.losses import (
    decaying,
    inside_both,
    l1,
    landmark_flow,
    multi_scale_l1,
    region_count,
    region_l1,
    ssim_loss,
)
from training.infp.probes import AuxiliaryHeads


@dataclass(frozen=True)
class Weights:
    """Of each term; 0 leaves it out.

    Attributes:
        region: on mouth and eyes.
        flow: on the landmarks' flow, in picture widths.
        heads: of the auxiliary heads, which have gone at step `heads_until`.
        perceptual: by VGG19, with 1e-3 in the paper's re-implementation, whose features are not averaged.
    """

    l1: float = 1.0
    multi_scale: float = 1.0
    ssim: float = 0.5
    region: float = 1.0
    flow: float = 5.0
    heads: float = 0.2
    heads_until: int = 20_000
    adversarial: float = 0.01
    matching: float = 0.5
    perceptual: float = 0.1


class Batch(NamedTuple):
    """B pairs of a portrait and a driver of the same person.

    Attributes:
        portrait, portrait_mask, driver, driver_mask: pictures [B, 3, S, S] in -1..1.
        portrait_points, driver_points: landmarks [B, 478, 3] in their pixels.
        regions: bool [B, 3, S, S], mouth and eyes of the driver.
        targets: [B, targets], `probes.targets_of` the driver.
    """

    portrait: Tensor
    portrait_mask: Tensor
    portrait_points: Tensor
    driver: Tensor
    driver_mask: Tensor
    driver_points: Tensor
    regions: Tensor
    targets: Tensor


class Counts(NamedTuple):
    """What is there in a batch: regions that are not empty, and landmarks inside both pictures."""

    regions: float
    landmarks: float

    @classmethod
    def of(cls, batch: Batch) -> Counts:
        inside = inside_both(batch.driver_points, batch.portrait_points, batch.driver.shape[-1])
        return cls(float(region_count(batch.regions)), float(inside.sum()))


class Objective(nn.Module):
    """Terms of the loss by name, already weighted: their sum is what is minimised.

    Args:
        heads: left out with None.
        discriminator: left out with None; its own step is `adversary.detecting` and `adversary.r1`.
        perceptual: left out with None.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        heads: AuxiliaryHeads | None = None,
        discriminator: PatchDiscriminator | None = None,
        perceptual: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.heads, self.discriminator, self.perceptual = heads, discriminator, perceptual

    def forward(
        self, model: Stage1, batch: Batch, step: int, counts: Counts | None = None
    ) -> tuple[dict[str, Tensor], Rendered]:
        """The terms at a step, and the frames.

        Args:
            counts: what means over regions and landmarks divide by, where the batch is one of several equal parts of a larger
                one: the larger one's, divided by the number of parts. The mean over the parts is then the larger one's loss.
        """
        regions, landmarks = counts or (None, None)
        made, latents = model(batch.portrait, batch.portrait_mask, batch.driver_mask)
        picture, weights = made.picture, self.weights
        terms = {
            "l1": weights.l1 * l1(picture, batch.driver),
            "multi_scale": weights.multi_scale * multi_scale_l1(picture, batch.driver),
            "ssim": weights.ssim * ssim_loss(picture, batch.driver),
            "region": weights.region * region_l1(picture, batch.driver, batch.regions, count=regions),
            "flow": weights.flow
            * landmark_flow(made.flow, batch.driver_points, batch.portrait_points, model.config.size, count=landmarks),
        }
        if self.heads is not None and (share := decaying(step, weights.heads_until)):
            terms["heads"] = weights.heads * share * self.heads.loss(latents, batch.targets)
        if self.perceptual is not None:
            terms["perceptual"] = weights.perceptual * self.perceptual(picture, batch.driver)
        if self.discriminator is not None:
            logits, features = self.discriminator(picture)
            terms["adversarial"] = weights.adversarial * adversarial(logits)
            terms["matching"] = weights.matching * feature_matching(features, self.discriminator(batch.driver)[1])
        return terms, made
