"""The baseline that INFP is held against: roles assigned by hand, as DIM does (Tran et al., ECCV 2024).

Two passes of the same weights, one that hears only the own voice and one that hears only the partner's; voice activity
switches between them. What a listener does while they talk themselves, and the change from one to the other, is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dyconv.errors import UsageError
from dyconv.speech.attribute import SPEECH
from dyconv.speech.turns import close_gaps, drop_short
from dyconv.time import SAMPLES_PER_FRAME

if TYPE_CHECKING:
    from dyconv.infp.stage2 import Stage2
    from dyconv.models.slots import Vad

FADE = 5  # frames: 0.2 s
_GAP = 12  # frames of silence within a turn
_SHORTEST = 5  # frames of speech that make a turn


def switched(
    model: Stage2,
    own: np.ndarray,
    partner: np.ndarray,
    *,
    talking: np.ndarray | None = None,
    vad: Vad | None = None,
    fade: int = FADE,
    **options: Any,
) -> Tensor:
    """Motion latents float32 [T, latent] of voices float32 [N]: of the talking pass where `talking`, of the listening one else.

    At each switch the passes are mixed linearly over `fade` frames, centred on it; both are generated from the same seed.

    Args:
        talking: bool [T], T = ceil(N / 640); by default what `vad` hears in the own voice.
        vad: by default silero.
        options: of `Stage2.generate`.

    Raises:
        UsageError: where the voices are not equally long, or `talking` does not fit them.
    """
    frames = -(-len(own) // SAMPLES_PER_FRAME)
    if len(own) != len(partner) or (talking is not None and len(talking) != frames):
        found = f"{len(own)} and {len(partner)} samples, {'no' if talking is None else len(talking)} frames of talking"
        raise UsageError(f"voices and activity do not fit: {found}", hint="one frame of activity for each 640 samples")
    weights = role_weights(turns_of(own, vad) if talking is None else np.asarray(talking, bool), fade)
    share = torch.from_numpy(weights)[:, None].to(model.device)
    return share * model.generate(own, None, **options) + (1 - share) * model.generate(None, partner, **options)


def turns_of(own: np.ndarray, vad: Vad | None = None) -> np.ndarray:
    """Bool [T]: whose turn it is by voice activity; pauses up to 0.5 s belong to it, sounds under 0.2 s make none."""
    if vad is None:
        from dyconv.models.silero import SileroVad

        vad = SileroVad()
    return drop_short(close_gaps(vad.speech(np.asarray(own, np.float32)) >= SPEECH, _GAP), _SHORTEST)


def role_weights(talking: np.ndarray, fade: int = FADE) -> np.ndarray:
    """Share of the talking pass float32 [T], 0 to 1: `talking` with each switch made a ramp over `fade` frames."""
    before, width = fade // 2, max(fade, 1)
    padded = torch.from_numpy(np.pad(talking.astype(np.float32), (before, width - 1 - before), mode="edge"))
    return np.asarray(functional.avg_pool1d(padded[None, None], width, stride=1)[0, 0])
