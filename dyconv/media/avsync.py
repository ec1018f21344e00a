"""Sound against picture: how far each moved between a source and what was written of it.

Pictures are matched by small grey thumbnails, each on screen from its own presentation time to the next one's; sound by
cross-correlation. Both are measured against the source by its timestamps, not by counting frames or samples.
"""

from __future__ import annotations

import numpy as np

from dyconv.time import SAMPLE_RATE

_REACH_S = 0.4  # shifts looked at, both ways
_STEP_S = 0.005
_MOVES = 1.5  # grey levels: a pixel with less deviation over time does not move
_PIXELS = 6  # fewer moving pixels of the thumbnail than this, and nothing can be said
_CLEAR = 1.6  # wrong shifts must fit this much worse than the right one
_ENVELOPE_RATE = 1000
_ALIKE = 0.5  # normalized correlation from which two sounds are the same


def picture_shift(source_times: np.ndarray, source: np.ndarray, written_times: np.ndarray, written: np.ndarray) -> float | None:
    """How much later the written picture is than the source's, seconds; None where the picture does not move enough.

    Args:
        source_times: float64 [n], seconds, rising; each thumbnail is on screen until the next time.
        source: uint8 [n, p] thumbnails.
        written_times, written: the same of what was written, on the same clock.
    """
    if len(source) < 5 or len(written) < 5:
        return None
    deviation = source.std(axis=0)
    moving = np.flatnonzero(deviation > max(_MOVES, float(np.quantile(deviation, 0.75))))
    if len(moving) < _PIXELS:
        return None
    low = max(source_times[0], written_times[0]) + _REACH_S
    high = min(source_times[-1], written_times[-1]) - _REACH_S
    if high - low < 4 * _REACH_S:
        return None
    now = np.arange(low, high, _STEP_S)
    first, second = source[:, moving].astype(np.float32), written[:, moving].astype(np.float32)
    shown = np.searchsorted(written_times, now + 1e-6, side="right") - 1
    shifts = np.arange(-_REACH_S, _REACH_S + _STEP_S / 2, _STEP_S)
    # |w - s|^2 for every pair in reach would be mostly unused: w.s is one product of matrices, and both norms are known
    products = second @ first.T
    norms = (second**2).sum(axis=1)[:, None] + (first**2).sum(axis=1)[None, :] - 2 * products
    costs = np.array(
        [norms[shown, np.searchsorted(source_times, now - shift + 1e-6, side="right") - 1].mean() for shift in shifts]
    )
    return _valley(shifts, costs / len(moving))


def _valley(shifts: np.ndarray, costs: np.ndarray) -> float | None:
    """Middle of the valley of a cost curve, None where it is not clear."""
    far = float(np.median(costs[np.abs(shifts - shifts[costs.argmin()]) > _REACH_S / 2]))
    best = float(costs.min())
    if far < _CLEAR * best + 1.0:
        return None
    level = best + 0.25 * (far - best)
    at = int(costs.argmin())
    left, right = at, at
    while left > 0 and costs[left - 1] < level:
        left -= 1
    while right < len(costs) - 1 and costs[right + 1] < level:
        right += 1
    return float(_crossing(shifts, costs, left, left - 1, level) + _crossing(shifts, costs, right, right + 1, level)) / 2


def _crossing(shifts: np.ndarray, costs: np.ndarray, inside: int, outside: int, level: float) -> float:
    if not 0 <= outside < len(costs):
        return float(shifts[inside])
    part = (level - costs[inside]) / max(costs[outside] - costs[inside], 1e-9)
    return float(shifts[inside] + part * (shifts[outside] - shifts[inside]))


def sound_shift(source: np.ndarray, written: np.ndarray) -> float | None:
    """How much later the written sound is than the source's, seconds; None where they are silent or not alike.

    Args:
        source, written: float32 [n] of the same stretch of time at 16 kHz.
    """
    first, second = _envelope(source), _envelope(written)
    count = min(len(first), len(second))
    first, second = first[:count] - first[:count].mean(), second[:count] - second[:count].mean()
    power = float(np.sqrt((first**2).sum() * (second**2).sum()))
    if count < _ENVELOPE_RATE // 4 or power < 1e-9 * count:
        return None
    size = 1 << (2 * count - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(second, size) * np.conj(np.fft.rfft(first, size)), size)
    reach = int(_REACH_S * _ENVELOPE_RATE)
    curve = np.concatenate([product[-reach:], product[: reach + 1]]) / power
    peak = int(curve.argmax())
    if curve[peak] < _ALIKE:
        return None
    return (peak + _vertex(curve, peak) - reach) / _ENVELOPE_RATE


def _envelope(samples: np.ndarray) -> np.ndarray:
    """Loudness over 4 ms, 1,000 times a second: containers that round timestamps to 1 ms break up the waveform itself."""
    hop = SAMPLE_RATE // _ENVELOPE_RATE
    total = np.concatenate([[0.0], np.cumsum(np.abs(samples, dtype=np.float64))])
    return np.asarray(total[4 * hop :: hop] - total[: len(total) - 4 * hop : hop])


def _vertex(curve: np.ndarray, peak: int) -> float:
    """Position of the true maximum beside sample `peak`, from a parabola through three samples."""
    if not 0 < peak < len(curve) - 1:
        return 0.0
    before, here, after = (float(value) for value in curve[peak - 1 : peak + 2])
    bend = before - 2 * here + after
    return 0.0 if bend == 0 else float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))
