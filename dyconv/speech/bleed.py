"""How much of the partner is left in a person's track."""

from __future__ import annotations

import numpy as np

from dyconv.time import SAMPLES_PER_FRAME

FLOOR_DB = -100.0


def frame_energy(samples: np.ndarray, frames: int) -> np.ndarray:
    """Mean square float64 [frames] of mono 16 kHz samples, per 640-sample frame; what is missing counts as silence."""
    padded = np.zeros(frames * SAMPLES_PER_FRAME)
    part = samples[: len(padded)]
    padded[: len(part)] = part
    return (padded**2).reshape(frames, SAMPLES_PER_FRAME).mean(axis=1)


def bleed_db(voice: np.ndarray, partner: np.ndarray, partner_only: np.ndarray) -> float | None:
    """Partner's energy left in `voice` while only the partner speaks, relative to the partner's own level, in dB.

    Args:
        voice: one person's track, float32 [N], 16 kHz.
        partner: the other person's track, float32 [N]: its energy in the same frames is the partner's own level.
        partner_only: float [T] per 25 fps frame, 0 to 1: how sure it is that the partner speaks there and the person
            does not. With probabilities the result is the energy-weighted expectation, so that doubtful attribution
            shows as bleed.

    Returns:
        dB, not below -100; None where the partner never speaks alone or is silent there.
    """
    weight = np.asarray(partner_only, float)
    leaked = float((weight * frame_energy(voice, len(weight))).sum())
    own = float((weight * frame_energy(partner, len(weight))).sum())
    if own <= 0.0:
        return None
    return max(FLOOR_DB, 10.0 * float(np.log10(leaked / own))) if leaked > 0.0 else FLOOR_DB
