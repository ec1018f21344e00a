"""What a motion latent has to tell, by lines: as a footing in early training, and as a measure of it.

Targets are read off the face mesh (`dyconv.models.mesh_motion`): they need no labels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

# Each with about as much as it changes among talking heads: radians, crop widths, eye widths, outer-eye distances.
_SPREADS = {
    "head_yaw": 0.25,
    "head_pitch": 0.13,
    "head_roll": 0.12,
    "head_x": 0.05,
    "head_y": 0.03,
    "head_scale": 0.04,
    "mouth_open": 0.066,
    "mouth_width": 0.06,
    "mouth_pucker": 0.02,
    "mouth_corner_right": 0.045,
    "mouth_corner_left": 0.045,
    "eye_open_right": 0.0185,
    "eye_open_left": 0.0185,
    "gaze_right_x": 0.075,
    "gaze_right_y": 0.047,
    "brow_inner_right": 0.026,
    "brow_inner_left": 0.026,
}
TARGETS = tuple(_SPREADS)


def targets_of(landmarks: np.ndarray, size: int) -> np.ndarray:
    """`TARGETS` float32 [T, targets] in the units of `mesh` motion.

    Args:
        landmarks: [T, 478, 3] in pixels of face pictures `size` wide.
    """
    from dyconv.models.mesh_motion import MeshMotion

    mesh = MeshMotion()
    motion = mesh.encode([np.zeros((1, size, 3), np.uint8)], landmarks)
    return motion[:, [list(mesh.names).index(name) for name in TARGETS]]


class AuxiliaryHeads(nn.Module):
    """Linear from latents [B, latent] to `TARGETS`, in units of their usual spread. Not part of the model that is kept.

    Args:
        directions: numbers that a latent is made of.
    """

    spread: Tensor

    def __init__(self, latent: int, directions: int) -> None:
        super().__init__()
        self.line = nn.Linear(latent, len(TARGETS))
        nn.init.normal_(self.line.weight, std=directions**-0.5)
        nn.init.zeros_(self.line.bias)
        self.register_buffer("spread", torch.tensor(list(_SPREADS.values())))

    def loss(self, latents: Tensor, targets: Tensor) -> Tensor:
        """Mean smooth L1 to targets [B, targets] as `targets_of` gives them."""
        return nn.functional.smooth_l1_loss(self.line(latents.float()), targets.float() / self.spread)


class Probe:
    """A line from latents to `TARGETS`, fitted by ridge regression on some of both.

    Args:
        latents, targets: [N, latent] and [N, targets].
        ridge: of the regression, against the latents' own variance.
    """

    def __init__(self, latents: np.ndarray, targets: np.ndarray, *, ridge: float = 1e-3) -> None:
        self._mean, self._middle = latents.mean(axis=0), targets.mean(axis=0)
        centred = (latents - self._mean).astype(np.float64)
        gram = centred.T @ centred
        gram += np.eye(len(gram)) * ridge * max(np.trace(gram) / len(gram), 1e-12)
        self._line = np.linalg.solve(gram, centred.T @ (targets - self._middle))

    def __call__(self, latents: np.ndarray) -> np.ndarray:
        """`TARGETS` float64 [N, targets] of latents [N, latent]."""
        return np.asarray(self._middle + (latents - self._mean) @ self._line)

    def r2(self, latents: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """How well it tells the targets of others: R^2 of each, at most 1, below 0 for a bad guess."""
        residual = targets - self(latents)
        spread = ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
        return dict(zip(TARGETS, (1 - (residual**2).sum(axis=0) / np.maximum(spread, 1e-12)).tolist(), strict=True))
