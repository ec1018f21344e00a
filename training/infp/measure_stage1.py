"""How good Stage 1 is on a build's people: self-reenactment against the portrait that stands still, and linear probes.

Self-reenactment: the first frame that shows the face is the portrait, every n-th other frame drives. All figures are means over
frames. Region error is the L1 over the squares around mouth and eyes (`dyconv.infp.mask`), each square alike, in -1..1; SSIM
(Wang et al. 2004) and PSNR are of whole pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dyconv.infp.blocks import to_unit
from dyconv.infp.mask import masked, regions
from dyconv.infp.stage1 import Stage1, encode_frames
from training.infp.losses import region_l1, ssim_loss
from training.infp.measuring import Seen, people_of
from training.infp.probes import Probe, targets_of

_BATCH = 32


@dataclass(frozen=True)
class Pictures:
    """Errors of frames against the driver's, summed over `count` frames."""

    mouth: float = 0.0
    eyes: float = 0.0
    region: float = 0.0
    ssim: float = 0.0
    psnr: float = 0.0
    count: int = 0

    def __add__(self, other: Pictures) -> Pictures:
        return Pictures(*(ours + theirs for ours, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    def means(self) -> dict[str, float]:
        told = {name: value / max(self.count, 1) for name, value in vars(self).items() if name != "count"}
        return {**told, "frames": float(self.count)}


def measure_stage1(model: Stage1, train: str, held_out: str, *, every: int = 5) -> tuple[dict[str, Any], Probe]:
    """Figures of a model on people it was not trained on, and the probe they were told by.

    Args:
        train, held_out: builds; the probe's line is fitted on the first, everything else is measured on the second.
        every: n of the frames looked at.
    """
    size = model.config.size
    probe = Probe(*_latents(model, people_of(train, size, every=2 * every)))
    made = static = Pictures()
    latents, targets = [], []
    for seen in people_of(held_out, size, every=every):
        latents.append(encode_frames(model.encoder, size, seen.pictures, seen.landmarks))
        targets.append(targets_of(seen.landmarks, size))
        ours, still = _reenacted(model, seen)
        made, static = made + ours, static + still
    told, wanted = np.concatenate(latents), np.concatenate(targets)
    centred = np.concatenate([value - value.mean(axis=0) for value in targets])
    residual = centred - np.concatenate([guess - guess.mean(axis=0) for guess in map(probe, latents)])
    r2_within = 1 - (residual**2).sum(axis=0) / np.maximum((centred**2).sum(axis=0), 1e-12)
    r2 = probe.r2(told, wanted)
    return {
        "people": len(latents),
        "made": made.means(),
        "static": static.means(),
        "region_share": made.region / static.region,
        "probe_r2": r2,
        "probe_r2_within_clips": dict(zip(r2, r2_within.tolist(), strict=True)),
    }, probe


def _latents(model: Stage1, people: Iterator[Seen]) -> tuple[np.ndarray, np.ndarray]:
    size = model.config.size
    pairs = [
        (encode_frames(model.encoder, size, seen.pictures, seen.landmarks), targets_of(seen.landmarks, size)) for seen in people
    ]
    return np.concatenate([latents for latents, _ in pairs]), np.concatenate([targets for _, targets in pairs])


@torch.inference_mode()
def _reenacted(model: Stage1, seen: Seen) -> tuple[Pictures, Pictures]:
    """Errors of the frames made from the first frame, and of the first frame itself."""
    size = model.config.size
    hidden = to_unit(torch.from_numpy(masked(seen.pictures, seen.landmarks)))
    shown = to_unit(torch.from_numpy(seen.pictures))
    portrait = model.portrait(shown[:1], hidden[:1])
    made = static = Pictures()
    for part in torch.arange(1, len(shown)).split(_BATCH):
        where = torch.from_numpy(regions(seen.landmarks[part.numpy()], size))
        frames = model.frames(portrait, model.encoder(hidden[part]))
        made = made + _errors(frames, shown[part], where)
        static = static + _errors(shown[:1].expand_as(frames), shown[part], where)
    return made, static


def _errors(frames: Tensor, wanted: Tensor, where: Tensor) -> Pictures:
    count = len(frames)
    squared = ((frames - wanted) / 2).square().mean(dim=(1, 2, 3)).clamp(min=1e-10)
    return Pictures(
        mouth=region_l1(frames, wanted, where[:, :1]).item() * count,
        eyes=region_l1(frames, wanted, where[:, 1:]).item() * count,
        region=region_l1(frames, wanted, where).item() * count,
        ssim=(1 - ssim_loss(frames, wanted)).item() * count,
        psnr=float((-10 * torch.log10(squared)).sum()),
        count=count,
    )
