"""The network of LR-ASD, written from its paper and the names and shapes in its published weights.

Liao et al., "LR-ASD: Lightweight and Robust Network for Active Speaker Detection", IJCV 2025. Convolutions are split
into space and time (pictures) or mel and time (sound); features are joined by a gated sum, and two GRUs read them forwards
and backwards.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WIDTHS = (32, 64, 128)
_MEAN, _STD = 0.4161, 0.1688  # of grey pictures, 0 to 1
_EPS, _MOMENTUM = 0.001, 0.01


class _PictureBlock(nn.Module):
    """Two convolutions over space, then two over time."""

    def __init__(self, inputs: int, middle: int, width: int, stride: int) -> None:
        super().__init__()
        self.s_1 = nn.Conv3d(inputs, middle, (1, 5, 5), (1, stride, stride), (0, 2, 2), bias=False)
        self.s_norm_1 = nn.BatchNorm3d(middle, _EPS, _MOMENTUM)
        self.s_2 = nn.Conv3d(middle, width, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.s_norm_2 = nn.BatchNorm3d(width, _EPS, _MOMENTUM)
        self.t_1 = nn.Conv3d(width, width, (5, 1, 1), padding=(2, 0, 0), bias=False)
        self.t_norm_1 = nn.BatchNorm3d(width, _EPS, _MOMENTUM)
        self.t_2 = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.t_norm_2 = nn.BatchNorm3d(width, _EPS, _MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.s_norm_1(self.s_1(x)))
        x = torch.relu(self.s_norm_2(self.s_2(x)))
        x = torch.relu(self.t_norm_1(self.t_1(x)))
        return torch.relu(self.t_norm_2(self.t_2(x)))


class _SoundBlock(nn.Module):
    """Two convolutions over the coefficients, then two over time."""

    def __init__(self, inputs: int, middle: int, width: int) -> None:
        super().__init__()
        self.m_1 = nn.Conv2d(inputs, middle, (5, 1), padding=(2, 0), bias=False)
        self.m_norm_1 = nn.BatchNorm2d(middle, _EPS, _MOMENTUM)
        self.m_2 = nn.Conv2d(middle, width, (3, 1), padding=(1, 0), bias=False)
        self.m_norm_2 = nn.BatchNorm2d(width, _EPS, _MOMENTUM)
        self.t_1 = nn.Conv2d(width, width, (1, 5), padding=(0, 2), bias=False)
        self.t_norm_1 = nn.BatchNorm2d(width, _EPS, _MOMENTUM)
        self.t_2 = nn.Conv2d(width, width, (1, 3), padding=(0, 1), bias=False)
        self.t_norm_2 = nn.BatchNorm2d(width, _EPS, _MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.m_norm_1(self.m_1(x)))
        x = torch.relu(self.m_norm_2(self.m_2(x)))
        x = torch.relu(self.t_norm_1(self.t_1(x)))
        return torch.relu(self.t_norm_2(self.t_2(x)))


class _Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1 = _PictureBlock(1, 16, _WIDTHS[0], stride=2)
        self.block2 = _PictureBlock(_WIDTHS[0], 32, _WIDTHS[1], stride=1)
        self.block3 = _PictureBlock(_WIDTHS[1], 64, _WIDTHS[2], stride=1)
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))

    def forward(self, faces: Tensor) -> Tensor:
        """Grey float [B, T, 112, 112], 0 to 255, to [B, T, 128]."""
        x = ((faces / 255 - _MEAN) / _STD)[:, None]
        x = self.pool(self.block1(x))
        x = self.pool(self.block2(x))
        return self.block3(x).amax(dim=(3, 4)).transpose(1, 2)


class _Sounds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1 = _SoundBlock(1, 16, _WIDTHS[0])
        self.block2 = _SoundBlock(_WIDTHS[0], 32, _WIDTHS[1])
        self.block3 = _SoundBlock(_WIDTHS[1], 64, _WIDTHS[2])
        self.pool = nn.MaxPool2d((1, 3), (1, 2), (0, 1))

    def forward(self, cepstra: Tensor) -> Tensor:
        """[B, 4 T, 13] to [B, T, 128]."""
        x = cepstra.transpose(1, 2)[:, None]
        x = self.pool(self.block1(x))
        x = self.pool(self.block2(x))
        return self.block3(x).mean(dim=2).transpose(1, 2)


class _Gate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.Conv1d(width, width, 1, bias=False)
        self.bn = nn.BatchNorm1d(width, _EPS, _MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] times a gate of its own."""
        gate = torch.sigmoid(self.bn(self.attention(x.transpose(1, 2))))
        return x * gate.transpose(1, 2)


class _Detector(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru_forward = nn.GRU(width, width // 4, batch_first=True)
        self.gru_backward = nn.GRU(width, width // 4, batch_first=True)
        self.attention = _Gate(width // 2)

    def forward(self, x: Tensor) -> Tensor:
        ahead, _ = self.gru_forward(x)
        back, _ = self.gru_backward(x.flip(1))
        return self.attention(torch.cat([ahead, back.flip(1)], dim=2))


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visualEncoder = _Pictures()
        self.audioEncoder = _Sounds()
        self.fusion = _Gate(2 * _WIDTHS[2])
        self.detector = _Detector(2 * _WIDTHS[2])


class _Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.FC = nn.Linear(_WIDTHS[2], 2)


class LrAsdNet(nn.Module):
    """Names are those of the published state dict, which is loaded strictly."""

    def __init__(self) -> None:
        super().__init__()
        self.model = _Model()
        self.lossAV = _Head()
        self.lossV = _Head()

    def watch(self, faces: Tensor) -> Tensor:
        """Features [B, T, 128] of grey faces [B, T, 112, 112], 0 to 255."""
        return self.model.visualEncoder(faces)

    def hear(self, cepstra: Tensor) -> Tensor:
        """Features [B, T, 128] of cepstra [B, 4 T, 13]."""
        return self.model.audioEncoder(cepstra)

    def judge(self, seen: Tensor, heard: Tensor) -> Tensor:
        """Log odds [B, T] that the face speaks what is heard."""
        x = self.model.detector(self.model.fusion(torch.cat([heard, seen], dim=2)))
        both = self.lossAV.FC(x)
        return both[..., 1] - both[..., 0]
