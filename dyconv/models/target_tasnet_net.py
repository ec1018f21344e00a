"""The network of `target_tasnet`: it corrects what spectra heard in two enrolments say of whose each bin is.

It gets the log odds of `dyconv.models.target_tasnet_hints` and all that lies beside them, up to 5.6 kHz. Convolutions bring
225 bins down to 25 bands and back, with what was finer laid beside it on the way back (a U-Net, Ronneberger et al. 2015);
between the two, convolutions over neighbouring bands and a recurrent layer over all bands at once look along time, both ways.
It begins with what the spectra say and learns what to add to it. The masks of the two voices sum to one, so the voices sum
to the mix; they are complex, so that a voice may also be moved in phase.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from dyconv.models.target_tasnet_hints import EVEN, ODD, PITCHES, SEEN, Hints

_STRIDE = 3  # of the bins, twice
_BANDS = SEEN // _STRIDE**2
_TRUST = 1 / 0.7  # odds of magnitudes to the power of 0.7, as odds of magnitudes


@dataclass(frozen=True)
class Shape:
    """Sizes of the network, stored with its weights: channels by bin, third bin and band, width of recurrent layers."""

    fine: int = 16
    middle: int = 32
    coarse: int = 48
    recurrent: int = 160
    depth: int = 2

    def to_json(self) -> dict[str, int]:
        return asdict(self)


def _conv(inputs: int, outputs: int, kernel: tuple[int, int] = (3, 3), stride: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = ((kernel[0] - stride + 1) // 2 if stride > 1 else kernel[0] // 2, kernel[1] // 2 * dilation)
    conv = nn.Conv2d(inputs, outputs, kernel, (stride, 1), padding, (1, dilation), bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Along(nn.Module):
    """Time: two convolutions that see neighbouring bands, then a recurrent layer in both directions that sees all of them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        channels, width = shape.coarse, shape.recurrent
        self.near = nn.ModuleList([_conv(channels, channels, dilation=dilation) for dilation in (1, 3)])
        self.gather = nn.Linear(_BANDS * channels, width)
        self.told = nn.Linear(2 * PITCHES, width)
        self.norm = nn.LayerNorm(width)
        self.recur = nn.LSTM(width, width, bidirectional=True, batch_first=True)
        self.spread = nn.Linear(2 * width, _BANDS * channels)

    def forward(self, bands: Tensor, pitch: Tensor) -> Tensor:
        """Of bands [B, C, _BANDS, T] and pitch [B, 2 PITCHES]."""
        for layer in self.near:
            bands = bands + layer(bands)
        batch, channels, count, times = bands.shape
        flat = bands.permute(0, 3, 1, 2).reshape(batch, times, channels * count)
        seen, _ = self.recur(self.norm(self.gather(flat) + self.told(pitch)[:, None]))
        return bands + self.spread(seen).reshape(batch, times, channels, count).permute(0, 2, 3, 1)


class Corrector(nn.Module):
    """Odds and phases of each bin from hints."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        fine, middle, coarse = shape.fine, shape.middle, shape.coarse
        self.first = nn.BatchNorm2d(ODD + EVEN, affine=False)
        self.down = _conv(ODD + EVEN, middle, (5, 3), _STRIDE)
        self.lower = _conv(middle, coarse, (5, 3), _STRIDE)
        self.along = nn.ModuleList([Along(shape) for _ in range(shape.depth)])
        self.lift = nn.ConvTranspose2d(coarse, middle, (_STRIDE, 1), (_STRIDE, 1))
        self.joined = _conv(2 * middle, middle)
        self.up = nn.ConvTranspose2d(middle, fine, (_STRIDE, 1), (_STRIDE, 1))
        self.last = nn.Sequential(_conv(fine + ODD + EVEN, fine), _conv(fine, fine))
        self.out = nn.Conv2d(fine, 3, 1, bias=False)
        nn.init.zeros_(self.out.weight)  # it begins with what the spectra say
        self.trust = nn.Parameter(torch.tensor(_TRUST))

    def forward(self, features: Tensor, odds: Tensor, pitch: Tensor) -> Tensor:
        """Complex mask [B, F, T] of the first voice, from a batch of `Hints`.

        What is learnt adds to the odds and to both parts of the mask: where the odds are wrong and sure, only the latter help.
        """
        features = self.first(features)
        thirds = self.down(features)
        bands = self.lower(thirds)
        for layer in self.along:
            bands = layer(bands, pitch)
        thirds = self.joined(torch.cat([self.lift(bands), thirds], dim=1))
        found = self.out(self.last(torch.cat([self.up(thirds), features], dim=1))).float()
        found = nn.functional.pad(found, (0, 0, 0, odds.shape[1] - SEEN))
        return torch.complex(torch.sigmoid(self.trust * odds + found[:, 0]) + found[:, 1], found[:, 2])

    def mask(self, hints: Hints) -> Tensor:
        """Complex mask [F, T] of the first voice; the second's is one minus it. The same for either order of the two."""
        first, second = self(*(torch.stack(pair) for pair in zip(hints, hints.exchanged(), strict=True)))
        return (first + 1 - second) / 2
