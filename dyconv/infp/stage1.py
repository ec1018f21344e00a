"""Stage 1 of INFP: a portrait moves as a driver does.

The motion encoder and the renderer are one model in training, and two files in use: the pipeline needs the encoder, a
talking portrait the renderer. The encoder's hash names the latents between them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dyconv.bounds import parse_json
from dyconv.errors import ModelMissing, UsageError
from dyconv.infp.blocks import to_unit
from dyconv.infp.config import Stage1Config
from dyconv.infp.mask import at_size, masked
from dyconv.infp.motion import MotionEncoder
from dyconv.infp.render import Portrait, Rendered, Renderer
from dyconv.models.sized import sized_by
from dyconv.records import dump
from dyconv.store import write_atomic

_FORMAT = "dyconv.infp.stage1"
_PARTS = ("encoder", "renderer")
_TRAIN = "make it with: python -m training.train stage1"
_ENCODED = ("size", "latent", "directions", "channels")  # the fields of a config that the encoder depends on


class Stage1(nn.Module):
    """Pictures float [B, 3, S, S] in -1..1, latents float32 [B, latent]."""

    def __init__(self, config: Stage1Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = MotionEncoder(config)
        self.renderer = Renderer(config)

    def portrait(self, pictures: Tensor, masks: Tensor) -> Portrait:
        """Portraits [B, 3, S, S], once, with their masked pictures (`dyconv.infp.mask`), for any number of frames."""
        return self.renderer.portrait(pictures, self.encoder(masks))

    def frames(self, portrait: Portrait, latents: Tensor) -> Tensor:
        """Frames [B, 3, S, S] of latents [B, latent]: each of its own portrait, or all of one."""
        return self.renderer(portrait, latents).picture

    def forward(self, portraits: Tensor, portrait_masks: Tensor, driver_masks: Tensor) -> tuple[Rendered, Tensor]:
        """What is learnt from: frames, with the flow they were made by, and the drivers' latents."""
        source, driver = self.encoder(torch.cat([portrait_masks, driver_masks])).chunk(2)
        return self.renderer(self.renderer.portrait(portraits, source), driver), driver

    @property
    def encoder_hash(self) -> str:
        """See `encoder_hash`."""
        return encoder_hash(self.encoder, self.config)


def encoder_hash(encoder: MotionEncoder, config: Stage1Config) -> str:
    """Sha256 that names an encoder's latent space, from its weights and the sizes it depends on.

    Weights count as rounded to half precision, as they are stored: rounding them does not make another space.
    """
    told = config.to_json()
    digest = hashlib.sha256(dump({name: told[name] for name in _ENCODED}))
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode() + b"\0" + value.detach().cpu().half().numpy().tobytes())
    return digest.hexdigest()


def encode_frames(
    encoder: MotionEncoder, size: int, images: Iterable[np.ndarray], landmarks: np.ndarray, *, batch: int = 32
) -> np.ndarray:
    """Latents float32 [T, latent] of face pictures uint8 [T, H, H, 3] and landmarks [T, 478, 3] in their pixels."""
    parts = list(encoded(encoder, size, images, landmarks, batch=batch))
    return np.concatenate(parts) if parts else np.zeros((0, encoder.basis.shape[0]), np.float32)


def encoded(
    encoder: MotionEncoder, size: int, images: Iterable[np.ndarray], landmarks: np.ndarray, *, batch: int = 32
) -> Iterator[np.ndarray]:
    """Like `encode_frames`, in parts [k, latent]: pictures are taken `batch` at a time, so that memory does not grow."""
    device, rest, done = encoder.basis.device, iter(images), 0
    while waiting := list(islice(rest, batch)):
        pictures, points = at_size(waiting, landmarks[done : done + len(waiting)], size)
        with torch.inference_mode():
            latents = encoder(to_unit(torch.from_numpy(masked(pictures, points))).to(device))
        yield latents.cpu().numpy()
        done += len(waiting)


def save_stage1(model: Stage1, path: str | Path, *, half: bool = False, parts: Sequence[str] = _PARTS) -> None:
    """Write weights and config to one safetensors file, complete or not at all.

    Args:
        half: store weights as float16.
        parts: "encoder", "renderer" or both. A renderer's file names the encoder it belongs to.
    """
    from safetensors.torch import save

    tensors = {
        name: (value.half() if half else value).contiguous().cpu()
        for name, value in model.state_dict().items()
        if name.split(".")[0] in parts
    }
    header = {
        "format": _FORMAT,
        "parts": [part for part in _PARTS if part in parts],
        "config": model.config.to_json(),
        "encoder": model.encoder_hash,
    }
    # One entry: safetensors writes several in any order, and the same model shall give the same bytes.
    write_atomic(Path(path), save(tensors, metadata={"dyconv": dump(header).decode()}))


def load_stage1(path: str | Path, renderer: str | Path | None = None) -> Stage1:
    """The model of a file, or of an encoder's and a renderer's, in evaluation mode, float32.

    Raises:
        ModelMissing: where a file is missing, damaged or of something else.
        UsageError: where the renderer was trained with another encoder.
    """
    if renderer is None:
        config, _, tensors = _read(Path(path), _PARTS)
        return _filled(lambda: Stage1(config), tensors, Path(path)).eval()
    model = Stage1(_read(Path(renderer), ("renderer",))[0])
    encoder, _, digest = load_encoder(path)
    model.encoder = encoder
    model.renderer = load_renderer(renderer, digest)
    return model.eval()


def load_encoder(path: str | Path) -> tuple[MotionEncoder, Stage1Config, str]:
    """The motion encoder of a file in evaluation mode, its config and its hash.

    Raises:
        ModelMissing: where the file is missing, damaged, of something else, or its weights are not those its header names.
    """
    config, named, tensors = _read(Path(path), ("encoder",))
    encoder = _filled(lambda: MotionEncoder(config), _part(tensors, "encoder"), Path(path)).eval()
    digest = encoder_hash(encoder, config)
    if digest != named:
        raise ModelMissing(f"{path}: expected weights of encoder {named[:8]}, found {digest[:8]}", hint=_TRAIN)
    return encoder, config, digest


def load_renderer(path: str | Path, encoder: str | None = None) -> Renderer:
    """The renderer of a file, in evaluation mode.

    Args:
        encoder: hash of the encoder whose latents it will be given; None: any.

    Raises:
        ModelMissing: where the file is missing, damaged or of something else.
        UsageError: where it was trained with another encoder.
    """
    config, made_for, tensors = _read(Path(path), ("renderer",))
    if encoder is not None and encoder != made_for:
        raise UsageError(
            f"{path} renders motion latents of encoder {made_for[:8]}, but encoder {encoder[:8]} is in use",
            hint="use the encoder it was trained with",
        )
    return _filled(lambda: Renderer(config), _part(tensors, "renderer"), Path(path)).eval()


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}


def _filled(make: Callable[[], Any], tensors: dict[str, Tensor], path: Path) -> Any:
    with sized_by(tensors.values(), path, _TRAIN):
        model = make()
        model.load_state_dict({name: value.float() for name, value in tensors.items()})
    return model


def _read(path: Path, parts: Sequence[str]) -> tuple[Stage1Config, str, dict[str, Tensor]]:
    """Config, encoder hash and tensors of a file that has to hold these parts."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            told = (file.metadata() or {}).get("dyconv", "{}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelMissing(f"{path} is no readable safetensors file: {error}", hint=_TRAIN) from error
    try:
        header = parse_json(told)
        held = set(header["parts"]) if header.get("format") == _FORMAT else set()
        config, named = (Stage1Config.from_json(header["config"]), str(header["encoder"])) if held else (None, "")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelMissing(f"{path}: its header holds no config of INFP Stage 1: {error!r}", hint=_TRAIN) from error
    if config is None or not set(parts) <= held:
        raise ModelMissing(f"{path}: expected {' and '.join(parts)} of INFP Stage 1, found something else", hint=_TRAIN)
    return config, named, tensors
