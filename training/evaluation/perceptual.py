"""LPIPS: how far apart a made and a true picture are for a network that knows what people see."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dyconv.errors import ModelMissing
from training.evaluation.evidence import Chunk
from training.evaluation.foreign import exact, find, in_parts, pinned, tensors, unavailable
from training.evaluation.metric import Choice, Family, FrameMean

_NAME = "lpips.alex"
_ABOUT = "perceptual distance by AlexNet's features (Zhang et al. 2018, LPIPS v0.1), at the video's own size"
_FRAMES = 32  # at once on a GPU


class Lpips:
    """`lpips.alex` by frame, of torchmetrics' network with its linear layers (v0.1) and torchvision's AlexNet.

    Zhang, Isola, Efros, Shechtman, Wang, "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018,
    equation 1. Pictures are not resized.

    Args:
        weights: torchvision's state dict of AlexNet; only its `features` are used.
        device: of the network.
    """

    name = _NAME

    def __init__(self, weights: Path, device: torch.device) -> None:
        self._weights, self._device = weights, device
        self.version = f"1 {(pinned('alexnet').sha256 or '')[:12]}"

    @cached_property
    def net(self) -> Any:
        """The network, made when it is first needed.

        Raises:
            ModelMissing: where the file is not AlexNet's.
        """
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        net = _NoTrainLpips(net="alex", pnet_rand=True)  # its own way would download AlexNet without a look at the hash
        state = tensors(self._weights)
        places = {name: f"features.{name.split('.', 1)[1]}" for name in net.net.state_dict()}  # slice2.3.weight
        try:
            net.net.load_state_dict({name: state[of] for name, of in places.items()})
        except (KeyError, RuntimeError) as error:
            raise ModelMissing(
                f"{self._weights} is not torchvision's AlexNet: {error}", hint="run: dyconv models pull --force alexnet"
            ) from error
        return net.to(self._device).eval()

    def compare(self, truth: Chunk, made: Chunk) -> Tensor:
        """Float [n], 0 for the same picture."""
        pairs = in_parts(truth.unit.to(self._device), made.unit.to(self._device), at_once=_FRAMES)
        with exact():
            return torch.cat([self.net(one, other, normalize=True).flatten() for one, other in pairs])


def family(choice: Choice) -> Family:
    """LPIPS, where AlexNet's weights are here."""
    try:
        path = find("alexnet", choice)
    except ModelMissing as error:
        return Family(metrics=(), unavailable=(unavailable(_NAME, error),))
    return Family(metrics=(FrameMean(_NAME, better="lower", about=_ABOUT),), comparisons=(Lpips(path, choice.device),))
