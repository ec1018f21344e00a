"""The adversary of Stage 1: a small patch discriminator, its losses, and feature matching."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """Pictures [B, 3, S, S] to a map of logits, one a patch, and the features on the way there.

    Args:
        channels: of the layers, each of which halves the map.
    """

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(wide, out, 4, stride=2, padding=1)) for wide, out in pairwise((3, *channels))
        )
        self.last = spectral_norm(nn.Conv2d(channels[-1], 1, 3, padding=1))

    def forward(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for layer in self.layers:
            pictures = functional.leaky_relu(layer(pictures), 0.2)
            features.append(pictures)
        return self.last(pictures), features


def adversarial(made: Tensor) -> Tensor:
    """What the renderer pays for logits of its frames (softplus, as in StyleGAN)."""
    return functional.softplus(-made.float()).mean()


def detecting(made: Tensor, real: Tensor) -> Tensor:
    """What the discriminator pays for logits of frames made and real."""
    return functional.softplus(made.float()).mean() + functional.softplus(-real.float()).mean()


def r1(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Squared gradient at real pictures (Mescheder et al., ICML 2018), to be weighted with gamma / 2."""
    given = real.detach().float().requires_grad_()
    with torch.autocast(given.device.type, enabled=False):
        logits, _ = discriminator(given)
        (slope,) = torch.autograd.grad(logits.sum(), given, create_graph=True)
    return slope.square().sum(dim=(1, 2, 3)).mean()


def feature_matching(made: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean L1 between the discriminator's features of frames made and real, which are taken as given."""
    terms = [(ours - theirs.detach()).abs().float().mean() for ours, theirs in zip(made, real, strict=True)]
    return torch.stack(terms).mean()
