"""From two voices to motion features, by two memories; and from some frames of a person to their style.

Nothing says who speaks: one's own voice asks the verbal memory, the partner's the non-verbal one, always, and silence is a
sound like others. INFP (arXiv 2412.04037), section 3.3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dyconv.infp.attention import Attention, feed_forward


class ModulatedLinear(nn.Module):
    """A linear layer whose weights a style scales, and which keeps the level of what passes (StyleGAN2, arXiv 1912.04958).

    The scale is 1 + an affine function of the style: no style vector can silence the memory before training begins.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Linear(width, width)
        self.weight = nn.Parameter(torch.randn(width, width) / width**0.5)
        nn.init.normal_(self.scale.weight, std=0.5 / width**0.5)
        nn.init.zeros_(self.scale.bias)

    def forward(self, values: Tensor, style: Tensor) -> Tensor:
        """Values [K, width] in the style [B, width]: [B, K, width]."""
        scale = 1.0 + self.scale(style)
        level = (scale.square() @ self.weight.square().T + 1e-8).rsqrt()
        return (values * scale[:, None]) @ self.weight.T * level[:, None]


class Memory(nn.Module):
    """A bank of K learnt values that a voice asks by cross-attention."""

    def __init__(self, slots: int, width: int, heads: int) -> None:
        super().__init__()
        self.bank = nn.Parameter(torch.randn(slots, width))
        self.styled = ModulatedLinear(width)
        self.ask = Attention(width, heads)

    def forward(self, voice: Tensor, style: Tensor) -> Tensor:
        """What features [B, T, width] of a voice recall, [B, T, width]."""
        return self.ask(voice, self.styled(self.bank, style))


class MotionGuider(nn.Module):
    """Motion features f_m of the features of both voices.

    Attributes:
        without: f_m where there is no audio to go by, for guidance; [width].
    """

    def __init__(self, slots: int, width: int, heads: int) -> None:
        super().__init__()
        self.verbal = Memory(slots, width, heads)
        self.nonverbal = Memory(slots, width, heads)
        self.mix = feed_forward(width, inner=2)
        self.norm = nn.LayerNorm(width)
        self.without = nn.Parameter(torch.randn(width))

    def forward(self, own: Tensor, partner: Tensor, style: Tensor) -> Tensor:
        """f_m [B, T, width] of own and partner's features [B, T, width] and style [B, width]."""
        return self.norm(self.mix(self.verbal(own, style) + self.nonverbal(partner, style)))


class StyleEncoder(nn.Module):
    """The way a person moves, from any frames of theirs, as one vector.

    Frames are a set: neither their order nor their number counts.

    Attributes:
        without: the style where none is given, [width].
    """

    def __init__(self, codes: int, width: int, heads: int) -> None:
        super().__init__()
        self.enter = feed_forward(codes, width, inner=max(1, 2 * width // codes))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.compare = Attention(width, heads)
        self.think = feed_forward(width, inner=2)
        self.weigh = nn.Linear(width, 1)
        self.out = nn.LayerNorm(width)
        self.without = nn.Parameter(torch.randn(width))

    def forward(self, codes: Tensor, mask: Tensor | None = None) -> Tensor:
        """Style [B, width] of codes [B, S, codes]; `without` in rows whose mask (bool [B, S]) is all false."""
        if mask is None:
            mask = torch.ones(codes.shape[:2], dtype=torch.bool, device=codes.device)
        some = mask.any(dim=1, keepdim=True)
        usable = mask | ~some  # a row of nothing is computed too, and replaced
        tokens = self.enter(codes)
        tokens = tokens + self.compare(self.norms[0](tokens), mask=usable)
        tokens = tokens + self.think(self.norms[1](tokens))
        weights = self.weigh(tokens).masked_fill(~usable[..., None], -torch.inf).softmax(dim=1)
        return torch.where(some, self.out((weights * tokens).sum(dim=1)), self.without)
