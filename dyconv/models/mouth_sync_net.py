"""The network of `mouth_sync`: mouth pictures and lip shapes on one side, log mel bands on the other.

Both sides are turned into one vector a frame. Two short projections of them are trained to agree only where lips and sound
belong together and are in time (as in Chung and Zisserman, "Out of time", 2016); how well they agree, at shifts of a few
frames and averaged over a second, goes with the vectors themselves into a stack of dilated convolutions that judges each
frame from about 1.5 s to either side.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from dyconv.models.mouth_sync_input import BANDS, LIPS, SHAPE

WIDTH, SYNC = 96, 48
REACH = 48  # frames a verdict depends on to either side
_PICTURE_SPAN = 5  # frames that the first convolution sees at once
_NEAR = 3  # shifts in frames at which agreement is judged: -3 to 3
_SECOND = 25
_DILATIONS = (1, 2, 4, 8)
_UPPER, _LOWER = (tuple(LIPS.index(point) for point in points) for points in ((13, 82, 312), (14, 87, 317)))  # inner lips
_CHIN = LIPS.index(152)
_POINTS = 3 * len(LIPS)
_SPEEDS = 4  # of the opening, the chin, all lips, and the picture
_QUICK, _SLOW = 9, 25  # frames over which speeds are averaged


class MouthSyncNet(nn.Module):
    """See the module. `scale` and `shift` calibrate the verdicts, `confidence` the offsets (two numbers)."""

    scale: Tensor
    shift: Tensor
    confidence: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.pictures = _Pictures()
        self.shapes = nn.Sequential(*_over_time(SHAPE, 64, 5), *_over_time(64, 64, 3))
        self.seen = nn.Sequential(*_over_time(WIDTH + 64 + 2 * _SPEEDS, WIDTH, 3))
        self.sounds = _Sounds()
        self.seen_sync = nn.Linear(WIDTH, SYNC)
        self.heard_sync = nn.Linear(WIDTH, SYNC)
        self.join = nn.Sequential(*_over_time(2 * WIDTH + SYNC + 2 * _NEAR + 1, WIDTH, 1))
        self.stack = nn.ModuleList(nn.Sequential(*_over_time(WIDTH, WIDTH, 5, dilation)) for dilation in _DILATIONS)
        self.verdict = nn.Conv1d(WIDTH, 1, 1)
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("shift", torch.zeros(1))
        self.register_buffer("confidence", torch.tensor([1.0, 0.0]))

    def watch(self, thumbs: Tensor, shapes: Tensor) -> Tensor:
        """Vectors [B, T, 96] from pictures [B, T, 48, 48] (standardised, 0 where absent) and shapes [B, T, 53]."""
        both = torch.cat([self.pictures(thumbs), self.shapes(shapes.transpose(1, 2)), speeds(thumbs, shapes)], dim=1)
        return self.seen(both).transpose(1, 2)

    def hear(self, bands: Tensor) -> Tensor:
        """Vectors [B, T, 96] from log mel bands [B, 4 T, 40]."""
        return self.sounds(bands).transpose(1, 2)

    def sync(self, seen: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors [B, T, 48] of lips and of sound: their dot product says how well they agree."""
        return (
            functional.normalize(self.seen_sync(seen), dim=2, eps=1e-4),
            functional.normalize(self.heard_sync(heard), dim=2, eps=1e-4),
        )

    def judge(self, seen: Tensor, heard: Tensor) -> Tensor:
        """Uncalibrated log odds [B, T] that the face speaks what is heard."""
        lips, voice = self.sync(seen, heard)
        near = functional.pad(voice, (0, 0, _NEAR, _NEAR)).unfold(1, 2 * _NEAR + 1, 1)  # [B, T, 48, 7]
        agreement = torch.einsum("btc,btck->bkt", lips, near)
        agreement = functional.avg_pool1d(agreement, _SECOND, 1, _SECOND // 2, count_include_pad=False)
        x = torch.cat([seen.transpose(1, 2), heard.transpose(1, 2), (lips * voice).transpose(1, 2) * 4, agreement * 4], dim=1)
        x = self.join(x)
        for layer in self.stack:
            x = x + layer(x)
        return self.verdict(x)[:, 0]

    def log_odds(self, seen: Tensor, heard: Tensor) -> Tensor:
        """Calibrated log odds [B, T]."""
        return self.judge(seen, heard) * self.scale + self.shift


def speeds(thumbs: Tensor, shapes: Tensor) -> Tensor:
    """How quickly the mouth moves, [B, 8, T]: logs of mean squares over 9 and over 25 frames, about -3 to 3.

    Of the opening between the inner lips, of the chin, of all lip points, and of the picture.
    """
    points = shapes[..., :_POINTS].unflatten(2, (len(LIPS), 3))
    here = shapes[..., -1:, None]
    step = (points[:, 2:] - points[:, :-2]) * here[:, 2:] * here[:, :-2]
    opening = (step[:, :, list(_UPPER), 1] - step[:, :, list(_LOWER), 1]).mean(2)
    change = (thumbs[:, 2:] - thumbs[:, :-2]).square().mean((2, 3)) * 0.1
    squares = torch.stack([opening.square(), step[:, :, _CHIN].square().sum(2), step.square().sum(3).mean(2), change], dim=1)
    squares = functional.pad(squares, (1, 1))
    windows = [functional.avg_pool1d(squares, size, 1, size // 2, count_include_pad=False) for size in (_QUICK, _SLOW)]
    return (torch.cat(windows, dim=1) + 1e-3).log() * 0.5 + 1.5


class _Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = (_PICTURE_SPAN, 16, 32, 48, 64)
        layers: list[nn.Module] = []
        for index, (inputs, width) in enumerate(pairwise(widths)):
            size = 5 if index == 0 else 3
            layers += [nn.Conv2d(inputs, width, size, 2, size // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.flat = nn.Linear(64 * 9, WIDTH)

    def forward(self, thumbs: Tensor) -> Tensor:
        """[B, T, 48, 48] to [B, 96, T]. Neighbouring frames are channels of the first convolution."""
        batch, frames = thumbs.shape[:2]
        half = _PICTURE_SPAN // 2
        stacked = functional.pad(thumbs, (0, 0, 0, 0, half, half)).unfold(1, _PICTURE_SPAN, 1)
        x = self.layers(stacked.permute(0, 1, 4, 2, 3).reshape(batch * frames, _PICTURE_SPAN, *thumbs.shape[2:]))
        return torch.relu(self.flat(x.flatten(1))).view(batch, frames, WIDTH).transpose(1, 2)


class _Sounds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_plane(1, 16, 5, (2, 1)),
            *_plane(16, 32, 3, (2, 2)),
            *_plane(32, 48, 3, (2, 2)),
        )
        self.along = nn.Sequential(*_over_time(48 * BANDS // 8, WIDTH, 5), *_over_time(WIDTH, WIDTH, 3))

    def forward(self, bands: Tensor) -> Tensor:
        """[B, 4 T, 40] to [B, 96, T]."""
        x = self.layers(bands.transpose(1, 2)[:, None])
        return self.along(x.flatten(1, 2))


def _over_time(inputs: int, width: int, size: int, dilation: int = 1) -> list[nn.Module]:
    reach = size // 2 * dilation
    return [nn.Conv1d(inputs, width, size, padding=reach, dilation=dilation, bias=False), nn.BatchNorm1d(width), nn.ReLU()]


def _plane(inputs: int, width: int, size: int, stride: tuple[int, int]) -> list[nn.Module]:
    return [nn.Conv2d(inputs, width, size, stride, size // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
