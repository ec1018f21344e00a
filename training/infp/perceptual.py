"""Perceptual loss by VGG19, where torchvision's ImageNet weights are on this machine. Nothing is downloaded here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from dyconv.errors import ModelMissing

FILE = "vgg19-dcbb9e9d.pth"  # torchvision names the file after the beginning of its sha256
_URL = f"https://download.pytorch.org/models/{FILE}"
_TAPS = (1, 6, 11, 20, 29)  # relu1_1, 2_1, 3_1, 4_1, 5_1
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def weights_path() -> Path:
    """Where torchvision itself keeps the file."""
    return Path(torch.hub.get_dir()) / "checkpoints" / FILE


class Perceptual(nn.Module):
    """Mean L1 between VGG19 features of pictures [B, 3, S, S] in -1..1, at five depths (Johnson et al., ECCV 2016).

    Args:
        path: the weights; None: where torchvision keeps them.

    Raises:
        ModelMissing: where they are not there, or are not those weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        self.features = _features(path or weights_path())
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1))

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        with torch.no_grad():
            targets = self._taps(wanted)
        terms = [(ours - theirs).abs().float().mean() for ours, theirs in zip(self._taps(made), targets, strict=True)]
        return torch.stack(terms).mean()

    def _taps(self, pictures: Tensor) -> list[Tensor]:
        values = ((pictures + 1) / 2 - self.mean) / self.std
        out = []
        for index, layer in enumerate(self.features):
            values = layer(values)
            if index in _TAPS:
                out.append(values)
        return out


def _features(path: Path) -> nn.Sequential:
    from torchvision.models import vgg19

    fetch = f"bring it with: curl --create-dirs -o {path} {_URL}, or train without the perceptual term"
    if not path.is_file():
        raise ModelMissing(f"no VGG19 weights at {path}", hint=fetch)
    expected = FILE.removesuffix(".pth").split("-")[1]
    if not (found := hashlib.sha256(path.read_bytes()).hexdigest()).startswith(expected):
        raise ModelMissing(f"{path}: expected a file whose sha256 begins with {expected}, found {found[:8]}", hint=fetch)
    network = vgg19()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    layers = network.features[: _TAPS[-1] + 1]
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False  # what was tapped must stay as it was
    return layers.eval().requires_grad_(False)
