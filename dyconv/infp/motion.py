"""The motion encoder of Stage 1: a masked face picture to a motion latent.

The latent is a sum of orthogonal directions, each as long as the network says (Wang et al., Latent Image Animator, ICLR
2022): few enough numbers that a face's shape and texture find no room in them.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from dyconv.infp.blocks import Down, linear, norm
from dyconv.infp.config import Stage1Config

_HIDDEN = 256


class MotionEncoder(nn.Module):
    """Masked pictures float [B, 3, S, S] in -1..1 to latents float32 [B, latent]."""

    def __init__(self, config: Stage1Config) -> None:
        super().__init__()
        widths = config.channels
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down = nn.Sequential(*(Down(wide, out) for wide, out in pairwise(widths)))
        self.head = nn.Sequential(
            norm(widths[-1]),
            nn.SiLU(),
            nn.Flatten(),
            linear(widths[-1] * 16, _HIDDEN),
            nn.SiLU(),
            linear(_HIDDEN, config.directions),
        )
        self.basis = nn.Parameter(torch.empty(config.latent, config.directions))
        nn.init.orthogonal_(self.basis)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.latent(self.coefficients(pictures))

    def coefficients(self, pictures: Tensor) -> Tensor:
        """How far along each direction, float32 [B, directions]."""
        return self.head(self.down(self.stem(pictures))).float()

    def latent(self, coefficients: Tensor) -> Tensor:
        """Latents float32 [B, latent] of coefficients [B, directions]."""
        with torch.autocast(coefficients.device.type, enabled=False):
            return coefficients.float() @ self.directions()

    def directions(self) -> Tensor:
        """Orthonormal rows float32 [directions, latent].

        Gram-Schmidt of a learnt matrix (QR), with the signs that leave a matrix as it is whose columns are orthonormal.
        """
        with torch.autocast(self.basis.device.type, enabled=False):
            columns, upper = torch.linalg.qr(self.basis.float())
            return (columns * torch.where(upper.diagonal() < 0, -1.0, 1.0)).T
