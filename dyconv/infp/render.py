"""The renderer of Stage 1: a portrait's appearance, moved to where a motion latent says.

A portrait is encoded once; its frames then cost one pass of the decoder each. The decoder goes from coarse to fine. At each
scale of `warped` it says where in the portrait each place of the frame is taken from (flow) and how much is to be seen there
at all (occlusion); what cannot be taken it fills in. In the end the portrait's own pixels are moved too, by the finest flow:
what is in the portrait need not be painted anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from dyconv.errors import UsageError
from dyconv.infp.blocks import Down, Modulated, Up, linear, norm
from dyconv.infp.config import Stage1Config


@dataclass(frozen=True)
class Portrait:
    """What the renderer keeps of portraits. B: as many portraits as frames, or one for all of them.

    Attributes:
        picture: [B, 3, S, S] in -1..1.
        features: by side of the map, [B, c, side, side]: what is moved at each warped scale, and what the decoder starts from.
        code: [B, style], the appearance as a whole.
        motion: float32 [B, latent], how the face is held in the portrait: flow is relative to it.
    """

    picture: Tensor
    features: dict[int, Tensor]
    code: Tensor
    motion: Tensor


@dataclass(frozen=True)
class Rendered:
    """Frames and how they came about.

    Attributes:
        picture: [B, 3, S, S] in -1..1.
        flow: by side of the map, float32 [B, side, side, 2]: x and y in the portrait, -1..1 from edge to edge, where each
            place of the frame comes from.
        occlusion: by side of the map, [B, 1, side, side] in 0..1: 1 where what was moved is seen. The side S: of the pixels.
    """

    picture: Tensor
    flow: dict[int, Tensor]
    occlusion: dict[int, Tensor]


class AppearanceEncoder(nn.Module):
    """Portraits [B, 3, S, S] in -1..1, unmasked, to maps at the sides asked for and a code [B, style]."""

    def __init__(self, config: Stage1Config) -> None:
        super().__init__()
        widths = config.channels
        sides = config.sides
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Down(wide, out) for wide, out in pairwise(widths))
        self.keep = nn.ModuleDict(
            {str(side): nn.Conv2d(wide, wide, 1) for side, wide in zip(sides, widths, strict=True) if side in _kept(config)}
        )
        self.code = nn.Sequential(norm(widths[-1]), nn.SiLU(), nn.Flatten(), linear(widths[-1] * 16, config.style))

    def forward(self, pictures: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        values = self.stem(pictures)
        features: dict[int, Tensor] = {}
        for step in (None, *self.down):
            values = values if step is None else step(values)
            side = values.shape[-1]
            if str(side) in self.keep:
                features[side] = self.keep[str(side)](values)
        return features, self.code(values)


class Decoder(nn.Module):
    """Style and portrait to frames, from 4 x 4 up."""

    def __init__(self, config: Stage1Config) -> None:
        super().__init__()
        self.config = config
        widths, style = config.channels, config.style
        self.start = linear(style, widths[-1] * 16)
        self.mix = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.up = nn.ModuleList(Up(wide, out, style) for wide, out in pairwise(widths[::-1]))
        self.flow = nn.ModuleDict()
        self.occlusion = nn.ModuleDict()
        for side, wide in zip(config.sides, widths, strict=True):
            if side in config.warped:
                self.flow[str(side)] = nn.Conv2d(wide, 2, 3, padding=1)
                self.occlusion[str(side)] = nn.Conv2d(wide, 1, 3, padding=1)
        self.last = Modulated(widths[0], style)
        self.paint = nn.Conv2d(widths[0], 3, 3, padding=1)
        self.occlude = nn.Conv2d(widths[0], 1, 3, padding=1)

    def forward(self, portrait: Portrait, style: Tensor) -> Rendered:
        count = len(style)
        values = self.start(style).view(count, -1, 4, 4) + portrait.features[4]
        values = self.mix(functional.silu(values))
        moved = values.new_zeros((count, 2, 4, 4), dtype=torch.float32)  # by how much, in -1..1 units
        flows: dict[int, Tensor] = {}
        seen: dict[int, Tensor] = {}
        for up in self.up:
            values = up(values, style)
            side = int(values.shape[-1])
            if side in self.config.warped:
                values, moved, seen[side] = self._warp(values, moved, portrait, side)
                flows[side] = _sources(moved)
        values = functional.silu(self.last(values, style))
        painted = torch.tanh(self.paint(values).float())
        size = self.config.size
        seen[size] = torch.sigmoid(self.occlude(values).float() + 1)  # at first mostly the portrait's own pixels are seen
        own = _taken(portrait.picture, _sources(_resized(moved, size)))
        picture = seen[size] * own + (1 - seen[size]) * painted
        return Rendered(picture, flows, seen)

    def _warp(self, values: Tensor, moved: Tensor, portrait: Portrait, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """One scale: its head says by how many pixels of its map each place is moved, on top of the coarser scale."""
        moved = self.flow[str(side)](values).float() * (2 / side) + _resized(moved, side)
        seen = torch.sigmoid(self.occlusion[str(side)](values).float())
        warped = _taken(portrait.features[side], _sources(moved))
        return (seen * warped + (1 - seen) * values).to(values.dtype), moved, seen


class Renderer(nn.Module):
    """Portraits and motion latents to frames."""

    def __init__(self, config: Stage1Config) -> None:
        super().__init__()
        self.config = config
        self.appearance = AppearanceEncoder(config)
        # A latent is `directions` numbers spread over `latent`: weights of this size give codes of unit variance.
        self.motion, self.change = (nn.Linear(config.latent, config.style) for _ in range(2))
        for layer in (self.motion, self.change):
            nn.init.normal_(layer.weight, std=config.directions**-0.5)
        self.style = nn.Sequential(nn.SiLU(), linear(3 * config.style, config.style), nn.SiLU())
        self.decoder = Decoder(config)

    def portrait(self, pictures: Tensor, motion: Tensor) -> Portrait:
        """What is kept of portraits [B, 3, S, S] in -1..1, whose own motion latents are [B, latent].

        Raises:
            UsageError: for pictures of another size.
        """
        size = self.config.size
        if pictures.shape[1:] != (3, size, size):
            raise UsageError(f"expected portraits of {size} x {size} pixels, found {tuple(pictures.shape)}")
        features, code = self.appearance(pictures)
        return Portrait(pictures, features, code, motion)

    def forward(self, portrait: Portrait, latents: Tensor) -> Rendered:
        """Frames of motion latents [B, latent]: each of its own portrait, or all of one."""
        count = len(latents)
        if len(portrait.code) not in (1, count):
            raise UsageError(f"expected 1 or {count} portraits, found {len(portrait.code)}")
        code = portrait.code.expand(count, -1)
        told = [code, self.motion(latents), self.change(latents - portrait.motion)]
        return self.decoder(portrait, self.style(torch.cat(told, dim=1)))


def _kept(config: Stage1Config) -> tuple[int, ...]:
    return (4, *config.warped)


def _resized(moved: Tensor, side: int) -> Tensor:
    if moved.shape[-1] == side:
        return moved
    return functional.interpolate(moved, size=(side, side), mode="bilinear", align_corners=False)


def _sources(moved: Tensor) -> Tensor:
    """Where places come from, [B, side, side, 2], from by how much they are moved, [B, 2, side, side]."""
    side = moved.shape[-1]
    centres = (torch.arange(side, device=moved.device, dtype=moved.dtype) + 0.5) * (2 / side) - 1
    down, across = torch.meshgrid(centres, centres, indexing="ij")
    return moved.permute(0, 2, 3, 1) + torch.stack([across, down], dim=-1)


def _taken(values: Tensor, sources: Tensor) -> Tensor:
    """Maps [B or 1, c, h, w] as seen from `sources` [B, h, w, 2]; beyond the edge the nearest pixel."""
    values = values.float().expand(len(sources), -1, -1, -1)
    return functional.grid_sample(values, sources.float(), padding_mode="border", align_corners=False)
