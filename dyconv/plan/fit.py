"""Seconds of a stage as a line over seconds of media: what an item costs at all, and what each second of it costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_HUBER = 1.345  # 95 % efficiency for normal errors (Huber 1964)
_ROUNDS = 20


def robust_line(media: Floats, seconds: Floats) -> tuple[float, float]:
    """`(fixed, per_media)` such that `seconds` is about `fixed + per_media * media`, both at least 0.

    Huber's M-estimate by iterated weighted least squares. Errors are taken to grow with the length of an item. A few
    wild items bend the line little; it is then scaled so that it gives the seconds of all items together, wild ones
    too, since those have to be paid as well.

    Args:
        media: seconds of media of each item.
        seconds: seconds of work of each item.
    """
    if not len(seconds):
        return 0.0, 0.0
    spread = media + max(float(np.median(media)), 1e-9)  # an item's standard error, up to a factor
    weights = np.ones_like(seconds)
    fixed = per_media = 0.0
    for _ in range(_ROUNDS):
        fixed, per_media = _line(media, seconds, weights / spread**2)
        error = (seconds - fixed - per_media * media) / spread
        scale = float(np.median(np.abs(error))) / 0.6745
        if scale <= 1e-12:
            break
        weights = np.minimum(1.0, _HUBER * scale / np.maximum(np.abs(error), 1e-12))
    total = float((fixed + per_media * media).sum())
    if total <= 0:
        return float(seconds.mean()), 0.0
    factor = float(seconds.sum()) / total
    return fixed * factor, per_media * factor


def _line(media: Floats, seconds: Floats, weights: Floats) -> tuple[float, float]:
    """Weighted least squares with both coefficients at least 0."""
    total = weights.sum()
    mean_x, mean_y = (weights * media).sum() / total, (weights * seconds).sum() / total
    variance = (weights * (media - mean_x) ** 2).sum()
    slope = (weights * (media - mean_x) * (seconds - mean_y)).sum() / variance if variance > 1e-12 else -1.0
    if slope < 0:  # longer items are not slower, or all are equally long
        if mean_x > 1e-9 and variance <= 1e-12:
            return 0.0, float(mean_y / mean_x)
        return float(max(mean_y, 0.0)), 0.0
    fixed = mean_y - slope * mean_x
    if fixed < 0:
        return 0.0, float((weights * media * seconds).sum() / max((weights * media**2).sum(), 1e-12))
    return float(fixed), float(slope)
