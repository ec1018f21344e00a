"""Motion latents as the numbers that are generated: normalised and, where that loses nothing, fewer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dyconv.errors import UsageError

_LEAST_SCALE = 0.02  # of the largest: a component that hardly moves is not blown up to noise


class MotionCodes(nn.Module):
    """Latents [..., latent] to codes [..., codes] of about unit variance, and back.

    Stage 1 makes its 512 numbers of 20 orthogonal directions, so 20 principal components hold all of them. With `codes` 0 each
    number of the latent is normalised by itself.

    Attributes:
        basis: orthonormal columns [latent, codes]; empty for `codes` 0.
    """

    mean: Tensor
    scale: Tensor
    basis: Tensor

    def __init__(self, latent: int, codes: int = 0) -> None:
        super().__init__()
        if codes > latent:
            raise UsageError(f"{codes} codes of latents of {latent} numbers", hint="codes must be at most latent, or 0")
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(codes or latent))
        self.register_buffer("basis", torch.eye(latent, codes))

    def fit(self, latents: Tensor) -> float:
        """Learn mean, scale and basis from latents [N, latent], finite.

        Returns:
            Share of the variance that the codes hold, 0 to 1.

        Raises:
            UsageError: for fewer than two frames, or motion without any movement.
        """
        values = latents.detach().double().cpu()
        if len(values) < 2 or not float(values.var(dim=0).sum()) > 0:
            raise UsageError(f"{len(values)} motion latents that differ in nothing", hint="fit on latents of many clips")
        mean = values.mean(dim=0)
        if not self.basis.shape[1]:
            self._set(mean, values.std(dim=0), self.basis)
            return 1.0
        variances, vectors = torch.linalg.eigh(torch.cov(values.T))
        vectors = vectors.flip(1)[:, : self.basis.shape[1]]
        vectors = vectors * vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign()
        variances = variances.flip(0).clamp(min=0)
        kept = variances[: vectors.shape[1]]
        self._set(mean, kept.sqrt(), vectors)
        return float(kept.sum() / variances.sum())

    def _set(self, mean: Tensor, scale: Tensor, basis: Tensor) -> None:
        self.mean.copy_(mean)
        self.scale.copy_(scale.clamp(min=_LEAST_SCALE * float(scale.max())))
        self.basis.copy_(basis)

    def encode(self, latents: Tensor) -> Tensor:
        centred = latents.float() - self.mean
        return (centred @ self.basis if self.basis.shape[1] else centred) / self.scale

    def decode(self, codes: Tensor) -> Tensor:
        scaled = codes.float() * self.scale
        return (scaled @ self.basis.T if self.basis.shape[1] else scaled) + self.mean
