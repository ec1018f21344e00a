"""FID: how far the made pictures, all together, are from the true ones for an Inception network."""

from __future__ import annotations

from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dyconv.errors import ModelMissing
from training.evaluation.evidence import Arrays, Chunk, Shown
from training.evaluation.foreign import exact, find, in_parts, pinned, tensors, unavailable
from training.evaluation.frechet import FrechetMetric
from training.evaluation.metric import Choice, Family

_ARRAY = "inception_fid"
_ABOUT = (
    "Frechet distance of Inception v3's 2048 numbers a picture (Heusel et al. 2017): torch-fidelity's network, weights and "
    "resizing (as TensorFlow 1 did it); too high with few frames"
)
_FRAMES = 32  # at once on a GPU


class Inception:
    """`inception_fid`: 2048 numbers of each `every`-th frame, float32 [ceil(T / every), 2048].

    torch-fidelity's `inception-v3-compat`, its layer `2048` (the last pooling), on pictures in 0..255, resized to 299 x 299 as
    TensorFlow 1 did it.

    Args:
        weights: its published state dict.
        device: of the network.
        every: each n-th frame is looked at, from the first on.
    """

    name, partner = _ARRAY, False

    def __init__(self, weights: Path, device: torch.device, every: int = 1) -> None:
        self._weights, self._device, self.every = weights, device, every
        self.version = f"1 {(pinned('inception_fid').sha256 or '')[:12]} every={every}"

    @cached_property
    def net(self) -> Any:
        """The network, made when it is first needed.

        Raises:
            ModelMissing: where the file is not its state dict.
        """
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        own = BytesIO()  # it would unpickle whatever the file is: it gets tensors that have been read safely
        torch.save(tensors(self._weights), own)
        own.seek(0)
        try:
            net = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=own)
        except RuntimeError as error:
            raise ModelMissing(
                f"{self._weights} is not torch-fidelity's Inception: {error}",
                hint="run: dyconv models pull --force inception_fid",
            ) from error
        return net.to(self._device).eval()

    def begin(self, shown: Shown) -> _Reading:
        """A new video."""
        return _Reading(self)

    def features(self, pictures: np.ndarray) -> np.ndarray:
        """Float32 [n, 2048] of uint8 RGB [n, H, W, 3]."""
        rows = torch.from_numpy(np.ascontiguousarray(pictures)).to(self._device).permute(0, 3, 1, 2)
        with exact():
            return torch.cat([self.net(part)[0] for (part,) in in_parts(rows, at_once=_FRAMES)]).cpu().numpy()


class _Reading:
    """One video on its way through."""

    def __init__(self, of: Inception) -> None:
        self._of = of
        self._parts = [np.zeros((0, 2048), np.float32)]

    def feed(self, chunk: Chunk) -> None:
        """The next frames."""
        if len(wanted := chunk.pictures[-chunk.start % self._of.every :: self._of.every]):
            self._parts.append(self._of.features(wanted))

    def finish(self) -> Arrays:
        """`inception_fid`."""
        return {_ARRAY: np.concatenate(self._parts)}


def family(choice: Choice) -> Family:
    """FID, where Inception's weights are here. Its name tells where not every frame is looked at."""
    name = "fid" if choice.every == 1 else f"fid.every{choice.every}"
    try:
        path = find("inception_fid", choice)
    except ModelMissing as error:
        return Family(metrics=(), unavailable=(unavailable(name, error),))
    metric = FrechetMetric(name, _ARRAY, about=_ABOUT, step=choice.every, span=1)
    return Family(metrics=(metric,), extractors=(Inception(path, choice.device, choice.every),))
