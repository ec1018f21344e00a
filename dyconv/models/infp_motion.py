"""`infp` motion: latents of the trained Stage-1 encoder, for the pipeline's slot of motion encoders.

A latent says how a face is held and what it does, in the space that the renderer of the same training and Stage 2 know; the
hash names that space. Its numbers have no meaning one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

BATCH = 16


class InfpMotion:
    """The motion encoder of INFP Stage 1.

    Args:
        weights: safetensors that `dyconv.infp.stage1.save_stage1` wrote, with the encoder in it.

    Raises:
        ModelMissing: where the file is missing, damaged or of something else.
    """

    name = "infp"

    def __init__(self, weights: Path) -> None:
        from dyconv.infp.stage1 import load_encoder

        self._encoder, config, self.hash = load_encoder(weights)
        self._size = config.size
        self.names: Sequence[str] = tuple(f"latent_{index:03d}" for index in range(config.latent))

    def encode(self, frames: Sequence[np.ndarray], landmarks: np.ndarray) -> np.ndarray:
        """Motion latents float32 [T, latent] of face pictures uint8 [T, S, S, 3] and landmarks [T, 478, 3] in their pixels.

        The network always sees `BATCH` pictures, the last of a clip repeated where there are fewer: sums in another order would
        be other bytes.
        """
        from dyconv.infp.stage1 import encode_frames

        count = len(landmarks)
        padded = np.concatenate([landmarks, np.repeat(landmarks[-1:], -count % BATCH, axis=0)])
        return encode_frames(self._encoder, self._size, _repeated(frames, len(padded)), padded, batch=BATCH)[:count]


def _repeated(frames: Sequence[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """`count` frames, the last one again and again; nothing is decoded twice."""
    last: np.ndarray | None = None
    given = 0
    for last in frames:
        yield last
        given += 1
    for _ in range(given, count):
        assert last is not None
        yield last
