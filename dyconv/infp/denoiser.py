"""The network that predicts the noise in a window of motion codes, given motion features and what came before.

INFP (arXiv 2412.04037), section 3.3: blocks of self-attention, motion attention (keys and values are f_m) and temporal
attention (keys and values are the last codes of the previous window). The diffusion step enters by adaptive layer norms
(DiT, arXiv 2212.09748), here not initialised at zero, so that the conditions get gradient from the first step on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dyconv.infp.attention import Attention, feed_forward
from dyconv.infp.config import Stage2Config


class Adaptive(nn.Module):
    """A residual branch whose input is normalised, shifted and scaled, and whose output is gated, by the diffusion step."""

    def __init__(self, width: int, branch: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.adapt = nn.Linear(width, 3 * width)
        self.branch = branch
        nn.init.normal_(self.adapt.weight, std=0.02)
        nn.init.zeros_(self.adapt.bias)

    def forward(self, tokens: Tensor, step: Tensor, *args: Tensor, **options: Tensor | None) -> Tensor:
        """Tokens [B, T, width] at a diffusion step embedded as [B, width]; further arguments are the branch's."""
        shift, scale, gate = self.adapt(step)[:, None].chunk(3, dim=-1)
        return tokens + (1.0 + gate) * self.branch(self.norm(tokens) * (1.0 + scale) + shift, *args, **options)


class Given(NamedTuple):
    """What tokens of frames 0 to T - 1 attend to, each with its frame numbers, float.

    Attributes:
        motion: [B, S, width]; before: [B, C, width].
        mask, heard: bool [B, T] and [B, S], where tokens and motion features are real; None: everywhere.
    """

    motion: Tensor
    before: Tensor
    at: Tensor
    motion_at: Tensor
    before_at: Tensor
    mask: Tensor | None
    heard: Tensor | None


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.own = Adaptive(width, Attention(width, heads))
        self.motion = Adaptive(width, Attention(width, heads, near=True))
        self.before = Adaptive(width, Attention(width, heads, near=True))
        self.think = Adaptive(width, feed_forward(width))

    def forward(self, tokens: Tensor, step: Tensor, given: Given) -> Tensor:
        """Tokens [B, T, width] at a diffusion step embedded as [B, width]."""
        tokens = self.own(tokens, step, at=given.at, source_at=given.at, mask=given.mask)
        tokens = self.motion(tokens, step, given.motion, at=given.at, source_at=given.motion_at, mask=given.heard)
        tokens = self.before(tokens, step, given.before, at=given.at, source_at=given.before_at)
        return self.think(tokens, step)


class Denoiser(nn.Module):
    """Noise in codes [B, T, codes]; bidirectional inside the window, so T may be anything up to the window trained on."""

    def __init__(self, config: Stage2Config) -> None:
        super().__init__()
        width, codes = config.width, config.coded
        self.enter = nn.Linear(codes, width)
        self.recall = nn.Linear(codes, width)
        self.unknown = nn.Parameter(torch.randn(width))
        self.step = nn.Sequential(feed_forward(width, inner=2), nn.SiLU())
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, codes)

    def forward(
        self, noisy: Tensor, step: Tensor, motion: Tensor, previous: Tensor, known: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """
        Args:
            noisy: [B, T, codes].
            step: of the diffusion, int [B].
            motion: f_m [B, S, width] of the S - T frames before the window and of its own T.
            previous: codes [B, C, codes] of the C frames before the window, C >= 1.
            known: bool [B, C], which of these are there.
            mask: bool [B, T], false behind the end of a shorter window.
        """
        embedded = self.step(sinusoids(step, self.enter.out_features).to(noisy.dtype))
        before = torch.where(known[..., None], self.recall(previous), self.unknown)
        tokens = self.enter(noisy)
        length, earlier = tokens.shape[1], motion.shape[1] - tokens.shape[1]
        at, motion_at, before_at = (
            torch.arange(start, stop, device=noisy.device, dtype=torch.float32)
            for start, stop in ((0, length), (-earlier, length), (-before.shape[1], 0))
        )
        heard = None if mask is None else torch.cat([mask.new_ones(len(mask), earlier), mask], dim=1)
        given = Given(motion, before, at, motion_at, before_at, mask, heard)
        for block in self.blocks:
            tokens = block(tokens, embedded, given)
        return self.out(self.norm(tokens))


def sinusoids(step: Tensor, width: int) -> Tensor:
    """Step numbers [B] as sines and cosines float32 [B, width]."""
    half = width // 2
    speeds = 10_000.0 ** (-torch.arange(half, device=step.device, dtype=torch.float32) / half)
    angles = step.float()[:, None] * speeds
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
