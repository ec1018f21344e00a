"""What `mouth_sync` sees and hears, as numbers: standardised mouth pictures, lip shapes in the head's frame, mel bands."""

from __future__ import annotations

from functools import cache

import numpy as np

from dyconv.models.lip_motion import RIGID
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME

THUMB = 48  # side of the pictures
REACH = 1.25  # their width in distances of the outer eye corners
BANDS = 40
STEPS = 4  # sound steps a frame
# Lips outside and inside, then the chin; mirror pairs are (61, 291), (37, 267), (84, 314), (82, 312), (87, 317), (78, 308).
LIPS = (61, 291, 37, 267, 84, 314, 82, 312, 87, 317, 78, 308, 0, 17, 13, 14, 152)
SHAPE = 3 * len(LIPS) + 2
_POINTS = (*RIGID, *LIPS)
_FIT = slice(0, len(RIGID))
_RIGHT_EYE, _LEFT_EYE, _FOREHEAD, _CHIN = (_POINTS.index(point) for point in (33, 263, 10, 152))
_HOP, _WINDOW, _FFT = SAMPLES_PER_FRAME // STEPS, 400, 512
_LOUD, _MOST_GAIN = 0.1, 30.0
_LOW_HZ, _HIGH_HZ = 80.0, 7600.0


def standardised(thumbs: np.ndarray) -> np.ndarray:
    """Pictures uint8 [T, 48, 48] as float32 of mean 0 and deviation 1 each; 0 where a picture is empty."""
    values = thumbs.astype(np.float32)
    mean = values.mean(axis=(1, 2), keepdims=True)
    spread = values.std(axis=(1, 2), keepdims=True)
    return np.where(spread > 0.5, (values - mean) / np.maximum(spread, 4.0), 0.0).astype(np.float32)


def lip_shapes(landmarks: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Lips float32 [T, 53] of landmarks [T, 478, 3]; all 0 where the face is absent.

    Lip and chin points about their mean, in tenths of the eye distance, with the head's motion taken out; then how badly
    the head's rigid points fit, and 1 for presence.
    """
    out = np.zeros((len(present), SHAPE), np.float32)
    used = np.flatnonzero(present)
    if not len(used):
        return out
    points = landmarks[used][:, list(_POINTS)].astype(np.float64)
    mean = points[len(points) // 2]
    for _ in range(2):
        mean = _laid(points, mean).mean(axis=0)
    mean = (mean - mean[_FIT].mean(axis=0)) @ _upright(mean).T / np.linalg.norm(mean[_LEFT_EYE] - mean[_RIGHT_EYE])
    aligned = _laid(points, mean)
    misfit = np.sqrt(((aligned[:, _FIT] - mean[_FIT]) ** 2).sum(axis=2).mean(axis=1))
    lips = aligned[:, len(RIGID) :].reshape(len(used), -1) * 10.0
    lips -= lips.mean(axis=0)
    columns = np.concatenate([lips, misfit[:, None] * 20.0, np.ones((len(used), 1))], axis=1)
    out[used] = np.clip(columns, -8.0, 8.0)
    return out


def _laid(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Each frame under the similarity that brings its rigid points nearest to the target's (Umeyama 1991)."""
    source, goal = points[:, _FIT], target[_FIT]
    centre, goal_centre = source.mean(axis=1, keepdims=True), goal.mean(axis=0)
    off, goal_off = source - centre, goal - goal_centre
    left, size, right = np.linalg.svd(np.einsum("ki,tkj->tij", goal_off, off))
    sign = np.sign(np.linalg.det(left @ right))
    flip = np.stack([np.ones_like(sign), np.ones_like(sign), sign], axis=1)
    rotation = (left * flip[:, None]) @ right
    scale = (size * flip).sum(axis=1) / np.maximum((off**2).sum(axis=(1, 2)), 1e-12)
    return scale[:, None, None] * np.einsum("tij,tkj->tki", rotation, points - centre) + goal_centre


def _upright(mean: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] after which the eyes lie along x and the forehead above the nose along y."""
    across = mean[_LEFT_EYE] - mean[_RIGHT_EYE]
    across /= np.linalg.norm(across)
    down = mean[_CHIN] - mean[_FOREHEAD]
    down -= across * (down @ across)
    down /= np.linalg.norm(down)
    return np.stack([across, down, np.cross(across, down)])


def level_of(samples: np.ndarray, frames: int) -> float:
    """RMS of the louder frames (95th percentile) of `frames` frames of sound."""
    whole = np.zeros(frames * SAMPLES_PER_FRAME, np.float32)
    part = samples[: len(whole)]
    whole[: len(part)] = part
    return float(np.percentile(np.sqrt((whole.reshape(frames, -1) ** 2).mean(axis=1)), 95))


def mel_bands(samples: np.ndarray, frames: int, level: float | None = None) -> np.ndarray:
    """Log power float32 [4 frames, 40] of mel bands every 10 ms, about -3 to 3, at an even loudness.

    Args:
        samples: mono 16 kHz float32, padded with zeros to `frames` frames.
        level: of the louder frames of the whole sound (see `level_of`); it is brought to 0.1. None: of these samples.
    """
    count = frames * STEPS
    padded = np.zeros(count * _HOP + _WINDOW, np.float32)
    before = (_WINDOW - _HOP) // 2
    part = samples[: len(padded) - before]
    padded[before : before + len(part)] = part
    gain = min(_LOUD / max(level_of(samples, frames) if level is None else level, 1e-6), _MOST_GAIN)
    windows = np.lib.stride_tricks.sliding_window_view(padded * np.float32(gain), _WINDOW)[::_HOP][:count]
    power = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW).astype(np.float32), _FFT, axis=1)) ** 2
    return ((np.log10(power.astype(np.float32) @ _bank().T + 1e-4) + 1.0) * 0.8).astype(np.float32)


@cache
def _bank() -> np.ndarray:
    """Triangular mel filters float32 [40, 257]."""
    low, high = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in (_LOW_HZ, _HIGH_HZ))
    centres = 700.0 * (10.0 ** (np.linspace(low, high, BANDS + 2) / 2595.0) - 1.0)
    bins = np.fft.rfftfreq(_FFT, 1.0 / SAMPLE_RATE)
    rising = (bins[None] - centres[:-2, None]) / (centres[1:-1] - centres[:-2])[:, None]
    falling = (centres[2:, None] - bins[None]) / (centres[2:] - centres[1:-1])[:, None]
    return np.clip(np.minimum(rising, falling), 0.0, None).astype(np.float32)
