"""FVD: how far the made videos, all together, are from the true ones for a network that was trained to tell actions apart."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dyconv.errors import ModelMissing
from training.evaluation.evidence import Arrays, Chunk, Shown
from training.evaluation.foreign import exact, find, pinned, tensors, unavailable
from training.evaluation.frechet import FrechetMetric
from training.evaluation.metric import Choice, Family

if TYPE_CHECKING:
    from training.evaluation.i3d_net import I3d

_NAME, _ARRAY = "fvd.i3d_logits", "i3d"
_FRAMES, _SIZE, _LOGITS = 16, 224, 400
_ABOUT = (
    "Frechet distance of I3D's 400 logits (Kinetics-400) of each 16 frames, windows side by side, 224 px bilinear, 25 fps "
    "(Unterthiner et al. 2018); too high with few windows"
)


class I3dLogits:
    """`i3d`: the logits of each 16 frames, float32 [T // 16, 400]; frames at the end that fill no window are left out.

    Unterthiner et al., "Towards accurate generative models of video: a new metric and challenges", 2018: logits of I3D trained
    on Kinetics-400, pictures in -1..1. They are made 224 x 224 by bilinear interpolation without antialiasing, between the
    middles of pixels, as the field's PyTorch code does it.

    Args:
        weights: the published state dict of the RGB network.
        device: of the network.
    """

    name, partner = _ARRAY, False

    def __init__(self, weights: Path, device: torch.device) -> None:
        self._weights, self.device = weights, device
        self.version = f"1 {(pinned('i3d').sha256 or '')[:12]}"

    @cached_property
    def net(self) -> I3d:
        """The network, made when it is first needed.

        Raises:
            ModelMissing: where the file is not its state dict.
        """
        from training.evaluation.i3d_net import load

        try:
            return load(tensors(self._weights)).to(self.device)
        except RuntimeError as error:
            raise ModelMissing(
                f"{self._weights} is not I3D of Kinetics-400: {error}", hint="run: dyconv models pull --force i3d"
            ) from error

    def begin(self, shown: Shown) -> _Windows:
        """A new video."""
        return _Windows(self)

    def logits(self, frames: Tensor) -> np.ndarray:
        """Float32 [n, 400] of float32 [n * 16, 3, 224, 224] in 0..1."""
        windows = (frames * 2 - 1).unflatten(0, (-1, _FRAMES)).transpose(1, 2)
        with exact():
            return self.net(windows).cpu().numpy()


class _Windows:
    """One video on its way through; frames wait until a window is full."""

    def __init__(self, of: I3dLogits) -> None:
        self._of = of
        self._waiting: Tensor | None = None
        self._parts = [np.zeros((0, _LOGITS), np.float32)]

    def feed(self, chunk: Chunk) -> None:
        """The next frames."""
        pictures = chunk.unit.to(self._of.device)
        small = functional.interpolate(pictures, (_SIZE, _SIZE), mode="bilinear", align_corners=False)
        frames = small if self._waiting is None else torch.cat([self._waiting, small])
        full = len(frames) // _FRAMES * _FRAMES
        self._waiting = frames[full:].clone()
        if full:
            self._parts.append(self._of.logits(frames[:full]))

    def finish(self) -> Arrays:
        """`i3d`."""
        return {_ARRAY: np.concatenate(self._parts)}


def family(choice: Choice) -> Family:
    """FVD, where I3D's weights are here."""
    try:
        path = find("i3d", choice)
    except ModelMissing as error:
        return Family(metrics=(), unavailable=(unavailable(_NAME, error),))
    metric = FrechetMetric(_NAME, _ARRAY, about=_ABOUT, step=_FRAMES, span=_FRAMES)
    return Family(metrics=(metric,), extractors=(I3dLogits(path, choice.device),))
