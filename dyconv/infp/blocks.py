"""Layers that the networks of Stage 1 are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def linear(wide: int, out: int) -> nn.Linear:
    """A linear layer that, after SiLU, keeps the size of what goes through it (PyTorch's own default lets it shrink)."""
    layer = nn.Linear(wide, out)
    nn.init.normal_(layer.weight, std=1.6 * wide**-0.5)
    nn.init.zeros_(layer.bias)
    return layer


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(8, channels)


class Down(nn.Module):
    """Residual block [B, c, h, w] to [B, d, h / 2, w / 2]."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, out, 3, padding=1),
            nn.AvgPool2d(2),
            norm(out),
            nn.SiLU(),
            nn.Conv2d(out, out, 3, padding=1),
        )
        self.skip = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, out, 1))

    def forward(self, values: Tensor) -> Tensor:
        return (self.body(values) + self.skip(values)) * 0.5**0.5


class Modulated(nn.Module):
    """Group norm whose scale and shift a style says (AdaIN; Huang and Belongie 2017, as StyleGAN uses it).

    Neither starts at zero: the style carries the motion, and what does not change the picture is given no gradient.
    """

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels, affine=False)
        self.affine = linear(style, 2 * channels)

    def forward(self, values: Tensor, style: Tensor) -> Tensor:
        scale, shift = self.affine(style)[:, :, None, None].chunk(2, dim=1)
        return self.norm(values) * (1 + scale) + shift


class Up(nn.Module):
    """Residual block [B, c, h, w] to [B, d, 2 h, 2 w], modulated by a style [B, s]."""

    def __init__(self, channels: int, out: int, style: int) -> None:
        super().__init__()
        self.first, self.second = Modulated(channels, style), Modulated(out, style)
        self.one = nn.Conv2d(channels, out, 3, padding=1)
        self.two = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(channels, out, 1)

    def forward(self, values: Tensor, style: Tensor) -> Tensor:
        body = functional.interpolate(functional.silu(self.first(values, style)), scale_factor=2.0)
        body = self.two(functional.silu(self.second(self.one(body), style)))
        skip = functional.interpolate(self.skip(values), scale_factor=2.0)
        return (body + skip) * 0.5**0.5


def to_unit(images: Tensor) -> Tensor:
    """Pictures uint8 [B, S, S, 3] as float32 [B, 3, S, S] in -1..1."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(pictures: Tensor) -> Tensor:
    """The inverse of `to_unit`: float [B, 3, S, S] in -1..1 as uint8 [B, S, S, 3]."""
    return ((pictures.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
