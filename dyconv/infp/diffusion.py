"""Denoising diffusion of motion codes: the loss, and the sampler.

Noise prediction as in DDPM (Ho et al., arXiv 2006.11239), sampling as in DDIM (Song et al., arXiv 2010.02502). All noise comes
from a `torch.Generator` that is given, on its own device, so a seed gives the same motion wherever the network runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor, nn

from dyconv.errors import UsageError

_LEAST_KEPT = 1e-4  # of the signal's power at the last step: below, noise prediction says nothing about the signal

Predict = Callable[[Tensor, Tensor], Tensor]
"""What a network makes of noisy codes [B, T, D] and steps int64 [B]: their noise, or their v; [B, T, D]."""


@dataclass(frozen=True)
class Loss:
    """Scalars; `total` is `error` + weight * `velocity`."""

    total: Tensor
    error: Tensor
    velocity: Tensor


@dataclass(frozen=True)
class Share:
    """A batch as one of several equal parts of a larger one: the mean of the parts' losses is then the larger one's.

    Attributes:
        first, rows: its first row in the larger batch, and the rows of that. What is drawn, is drawn for all of them.
        frames, pairs: real frames, and pairs of neighbouring ones, of the larger batch, divided by the number of parts.
    """

    first: int
    rows: int
    frames: float
    pairs: float

    def of(self, drawn: Tensor, count: int, dim: int = 0) -> Tensor:
        """The part's `count` rows of what was drawn for all of them."""
        return drawn.narrow(dim, self.first, count)


class Diffusion(nn.Module):
    """A schedule of `steps` noise levels. Attribute `kept`: share of the signal's power at each, float32 [steps].

    Args:
        schedule: "cosine" (Nichol and Dhariwal, arXiv 2102.09672) or "linear" (DDPM's betas, 1e-4 to 0.02 at 1,000 steps).
        predicts: what the network predicts, "noise" or "v" = sqrt(kept) noise - sqrt(1 - kept) clean (Salimans and Ho, arXiv
            2202.00512), from which noise and clean codes follow at every level without being blown up.

    Raises:
        UsageError: for another schedule or prediction.
    """

    kept: Tensor

    def __init__(self, steps: int = 1000, schedule: str = "cosine", predicts: str = "noise") -> None:
        super().__init__()
        if predicts not in ("noise", "v"):
            raise UsageError(f"expected the prediction of noise or v, found {predicts!r}", hint="correct the config")
        self.predicts_v = predicts == "v"
        if schedule == "cosine":
            start = cos(0.008 / 1.008 * pi / 2) ** 2
            levels = [cos(((step + 1) / steps + 0.008) / 1.008 * pi / 2) ** 2 / start for step in range(steps)]
            kept = torch.tensor(levels, dtype=torch.float64)
        elif schedule == "linear":
            kept = (1.0 - torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * 1000 / steps).cumprod(0)
        else:
            raise UsageError(f"expected the schedule cosine or linear, found {schedule!r}", hint="correct the config")
        self.register_buffer("kept", kept.clamp(min=_LEAST_KEPT).float(), persistent=False)

    def add_noise(self, clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """Clean codes [B, T, D] at the noise levels of steps [B]."""
        kept = self.kept[step][:, None, None]
        return kept.sqrt() * clean + (1.0 - kept).sqrt() * noise

    def loss(
        self,
        predict: Predict,
        clean: Tensor,
        generator: torch.Generator,
        *,
        mask: Tensor | None = None,
        velocity: float = 0.0,
        share: Share | None = None,
    ) -> Loss:
        """Mean squared error of what is predicted, at steps drawn uniformly.

        The velocity term is the squared error of the difference between neighbouring frames of the clean codes that the
        prediction means; for noise weighted by the signal's power at the step, or the noisiest steps would be all there is.

        Args:
            clean: [B, T, D].
            mask: bool [B, T], false where there is nothing to learn.
            velocity: weight of that term.
            share: where this is a part of a larger batch.
        """
        rows = share.rows if share else len(clean)
        step = torch.randint(len(self.kept), (rows,), generator=generator, device=generator.device).to(clean.device)
        noise = draw((rows, *clean.shape[1:]), generator, clean)
        if share:
            step, noise = share.of(step, len(clean)), share.of(noise, len(clean))
        kept = self.kept[step][:, None, None]
        target = kept.sqrt() * noise - (1.0 - kept).sqrt() * clean if self.predicts_v else noise
        wrong = (predict(self.add_noise(clean, noise, step), step) - target).float()
        if mask is None:
            mask = torch.ones(clean.shape[:2], dtype=torch.bool, device=clean.device)
        error = _mean(wrong.square(), mask, share.frames if share else None)
        jumps = (1.0 - kept) * wrong.diff(dim=1).square()
        jumps = _mean(jumps, mask[:, 1:] & mask[:, :-1], share.pairs if share else None)
        return Loss(error + velocity * jumps, error, jumps)

    def sample(
        self,
        predict: Predict,
        shape: tuple[int, int, int],
        generator: torch.Generator,
        *,
        steps: int = 20,
        eta: float = 0.0,
        clip: float = 6.0,
    ) -> Tensor:
        """Codes float32 [B, T, D] by DDIM.

        Args:
            steps: evenly spaced, from the noisiest level on.
            eta: 0 for the deterministic path, 1 for as much fresh noise as DDPM adds.
            clip: bound of the predicted clean codes, which are normalised; a wrong noise is blown up at the noisiest steps.

        Raises:
            UsageError: for more steps than the schedule has.
        """
        total = len(self.kept)
        if not 1 <= steps <= total:
            raise UsageError(f"expected 1 to {total} sampling steps, found {steps}", hint="choose fewer steps; 20 is usual")
        levels = [round(total * (index + 1) / steps) - 1 for index in range(steps)]
        noisy = draw(shape, generator, self.kept)
        for level, following in zip(reversed(levels), [*levels[-2::-1], None], strict=True):
            kept = self.kept[level]
            after = self.kept[following] if following is not None else torch.ones_like(kept)
            found = predict(noisy, torch.full((shape[0],), level, device=noisy.device)).float()
            if self.predicts_v:
                clean = kept.sqrt() * noisy - (1 - kept).sqrt() * found
            else:
                clean = (noisy - (1 - kept).sqrt() * found) / kept.sqrt()
            clean = clean.clamp(-clip, clip)
            noise = (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()
            fresh = eta * ((1 - after) / (1 - kept) * (1 - kept / after)).clamp(min=0).sqrt()
            noisy = after.sqrt() * clean + (1 - after - fresh.square()).clamp(min=0).sqrt() * noise
            if eta and following is not None:
                noisy = noisy + fresh * draw(shape, generator, noisy)
        return noisy


def draw(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Normal noise, drawn on the generator's device, on the device of `like`; float32."""
    return torch.randn(shape, generator=generator, device=generator.device).to(like.device)


def _mean(values: Tensor, mask: Tensor, count: float | None = None) -> Tensor:
    """Mean of [B, T, D] where the mask [B, T] is true, or their sum as if it were true `count` times."""
    return (values * mask[..., None]).sum() / ((mask.sum().clamp(min=1) if count is None else count) * values.shape[-1])
