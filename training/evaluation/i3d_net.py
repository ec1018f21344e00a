"""The I3D network that FVD is measured with.

Carreira and Zisserman, "Quo vadis, action recognition? A new model and the Kinetics dataset", CVPR 2017, figure 3: Inception
v1 with every square filter made a cube. Names of parameters are those of the published PyTorch state dict of DeepMind's RGB
network (ImageNet, then Kinetics-400). Padding is TensorFlow's SAME: it depends on the size of what comes in.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

FRAMES, SIZE, CLASSES = 16, 224, 400
Cube = tuple[int, int, int]
_MIXED = {
    "3b": (192, (64, 96, 128, 16, 32, 32)),
    "3c": (256, (128, 128, 192, 32, 96, 64)),
    "4b": (480, (192, 96, 208, 16, 48, 64)),
    "4c": (512, (160, 112, 224, 24, 64, 64)),
    "4d": (512, (128, 128, 256, 24, 64, 64)),
    "4e": (512, (112, 144, 288, 32, 64, 64)),
    "4f": (528, (256, 160, 320, 32, 128, 128)),
    "5b": (832, (256, 160, 320, 32, 128, 128)),
    "5c": (832, (384, 192, 384, 48, 128, 128)),
}  # by the block's name: channels in; out of branch 0, and of the two layers of branches 1 and 2, and of branch 3


def same(values: Tensor, kernel: Cube, stride: Cube) -> Tensor:
    """Padded with zeros as TensorFlow's SAME: ceil(size / stride) places come out, an odd one goes behind."""
    sides: list[int] = []
    for size, width, step in zip(values.shape[2:], kernel, stride, strict=True):
        missing = max((-(-size // step) - 1) * step + width - size, 0)
        sides = [missing // 2, missing - missing // 2, *sides]  # torch wants the last dimension first
    return functional.pad(values, sides)


class Unit(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Cube, stride: Cube = (1, 1, 1)) -> None:
        super().__init__()
        self._kernel, self._stride = kernel, stride
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=0.001)

    def forward(self, values: Tensor) -> Tensor:
        return self.bn(self.conv3d(same(values, self._kernel, self._stride))).relu_()


class Pool(nn.Module):
    """The largest of each cube. What comes in is never negative, so zeros at the border change nothing."""

    def __init__(self, kernel: Cube, stride: Cube) -> None:
        super().__init__()
        self._kernel, self._stride = kernel, stride

    def forward(self, values: Tensor) -> Tensor:
        return functional.max_pool3d(same(values, self._kernel, self._stride), self._kernel, self._stride)


class Mixed(nn.Module):
    """An Inception block: four branches side by side."""

    def __init__(self, inputs: int, outputs: tuple[int, ...]) -> None:
        super().__init__()
        one, three = (1, 1, 1), (3, 3, 3)
        self.b0 = Unit(inputs, outputs[0], one)
        self.b1a, self.b1b = Unit(inputs, outputs[1], one), Unit(outputs[1], outputs[2], three)
        self.b2a, self.b2b = Unit(inputs, outputs[3], one), Unit(outputs[3], outputs[4], three)
        self.b3a, self.b3b = Pool(three, one), Unit(inputs, outputs[5], one)

    def forward(self, values: Tensor) -> Tensor:
        branches = (self.b0(values), self.b1b(self.b1a(values)), self.b2b(self.b2a(values)), self.b3b(self.b3a(values)))
        return torch.cat(branches, dim=1)


class Last(nn.Module):
    """The classifier."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, classes, 1)

    def forward(self, values: Tensor) -> Tensor:
        return self.conv3d(values)


class I3d(nn.Module):
    """Logits of Kinetics-400, of windows of frames."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        blocks = {name: Mixed(*sizes) for name, sizes in _MIXED.items()}
        self.stages = (
            *(
                "Conv3d_1a_7x7",
                "MaxPool3d_2a_3x3",
                "Conv3d_2b_1x1",
                "Conv3d_2c_3x3",
                "MaxPool3d_3a_3x3",
                "Mixed_3b",
                "Mixed_3c",
            ),
            *("MaxPool3d_4a_3x3", "Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"),
            *("MaxPool3d_5a_2x2", "Mixed_5b", "Mixed_5c"),
        )
        made: dict[str, nn.Module] = {
            "Conv3d_1a_7x7": Unit(3, 64, (7, 7, 7), (2, 2, 2)),
            "MaxPool3d_2a_3x3": Pool((1, 3, 3), (1, 2, 2)),
            "Conv3d_2b_1x1": Unit(64, 64, (1, 1, 1)),
            "Conv3d_2c_3x3": Unit(64, 192, (3, 3, 3)),
            "MaxPool3d_3a_3x3": Pool((1, 3, 3), (1, 2, 2)),
            "MaxPool3d_4a_3x3": Pool((3, 3, 3), (2, 2, 2)),
            "MaxPool3d_5a_2x2": Pool((2, 2, 2), (2, 2, 2)),
            **{f"Mixed_{name}": block for name, block in blocks.items()},
        }
        for name in self.stages:
            self.add_module(name, made[name])
        self.logits = Last(1024, classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Float32 [n, 400] of windows float32 [n, 3, F, 224, 224] in -1..1, F at least 16: the mean over time of the logits."""
        values = windows
        for name in self.stages:
            values = self.get_submodule(name)(values)
        return self.logits(functional.avg_pool3d(values, (2, 7, 7), 1)).mean(dim=(2, 3, 4))


def load(state: Mapping[str, Tensor]) -> I3d:
    """The network with a published state dict, ready to measure.

    Raises:
        RuntimeError: naming the parameters that are missing, too many, or of another shape.
    """
    net = I3d()
    wanted = net.state_dict()
    counters = {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked")}  # not yet known in 2017
    net.load_state_dict({**counters, **state})
    return net.eval().requires_grad_(False)
