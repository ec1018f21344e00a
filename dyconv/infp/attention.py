"""Attention over frames: rotary positions on the clip's frame clock, and heads that look near."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention of tokens [B, T, width] to themselves or to a source [B, S, width].

    Positions are frames of one clock, so that a token finds what belongs to its own time: rotary embedding of queries and keys
    (Su et al., arXiv 2104.09864). With `near`, heads also start from a preference for near frames, each at its own scale
    (ALiBi, Press et al., arXiv 2108.12409, here symmetric): the motion features of a frame are beside it, and finding that out
    from nothing costs most of a short training.

    Args:
        width: of the tokens; a multiple of 2 * heads.
        near: prefer near frames.
    """

    slopes: Tensor

    def __init__(self, width: int, heads: int, *, near: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.queries = nn.Linear(width, width)
        self.keys = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        slopes = 2.0 ** -torch.arange(heads, dtype=torch.float32) if near else torch.zeros(0)
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(
        self,
        tokens: Tensor,
        source: Tensor | None = None,
        *,
        at: Tensor | None = None,
        source_at: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """
        Args:
            at, source_at: frame numbers [T] and [S], float; None: the source is a set without order.
            mask: bool [B, S], true where the source may be looked at; at least once a row.
        """
        source = tokens if source is None else source
        query, (key, value) = self._split(self.queries(tokens)), map(self._split, self.keys(source).chunk(2, dim=-1))
        bias = None if mask is None else torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -torch.inf)[:, None, None]
        if at is not None and source_at is not None:
            query, key = rotate(query, at), rotate(key, source_at)
            if len(self.slopes):
                near = (-self.slopes[:, None, None] * (at[:, None] - source_at[None]).abs()).to(query.dtype)
                bias = near if bias is None else bias + near
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.out(found.transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def rotate(tokens: Tensor, at: Tensor) -> Tensor:
    """Rotary embedding of [B, heads, T, even] at frame numbers [T]."""
    half = tokens.shape[-1] // 2
    speeds = 1000.0 ** (-torch.arange(half, device=tokens.device, dtype=torch.float32) / half)
    angles = at.float()[:, None] * speeds
    cos, sin = angles.cos().to(tokens.dtype), angles.sin().to(tokens.dtype)
    first, second = tokens[..., :half], tokens[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def feed_forward(width: int, out: int | None = None, *, inner: int = 4) -> nn.Sequential:
    """Two linear layers with a GELU between them."""
    return nn.Sequential(nn.Linear(width, inner * width), nn.GELU(approximate="tanh"), nn.Linear(inner * width, out or width))
