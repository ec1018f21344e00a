"""Whose voice it sounds like: cepstra and pitch of speech already attributed, against the rest of one segment.

This is a within-source likeness, not a speaker recogniser: two Gaussians with a shared covariance over per-frame
features. Its log-likelihood ratio is scaled by how well it separates speech it was not made from (whole turns held out),
so that two voices it cannot tell apart give no evidence.
"""

from __future__ import annotations

import numpy as np

from dyconv.speech.turns import runs
from dyconv.time import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

_WINDOW = 512  # samples, 32 ms
_HOP = SAMPLES_PER_FRAME // 4  # 10 ms: four windows a frame
_BANDS = 26
_CEPSTRA = 16
_LOW_HZ, _HIGH_HZ = 120.0, 3800.0  # below the 4 kHz of telephone sound, so that bandwidth does not pose as identity
_PITCH_HZ = (70.0, 400.0)


def voice_features(samples: np.ndarray, frames: int) -> np.ndarray:
    """Per 25 fps frame: 16 mel cepstra (without c0), their short-time spread, log pitch and voicing; float32 [frames, D].

    The cepstra lose their mean over the whole signal only through the two-class comparison, so channel and room, being
    the same for both people, cancel there.
    """
    spectra = _spectra(samples, frames)
    from scipy.fft import dct

    logs = np.log(spectra @ _mel_bank().T + 1e-8)
    cepstra = dct(logs, type=2, axis=1, norm="ortho")[:, 1 : _CEPSTRA + 1]
    grouped = cepstra.reshape(frames, -1, _CEPSTRA)
    pitch, voicing = _pitch(samples, frames)
    columns = [grouped.mean(axis=1), pitch[:, None], voicing[:, None]]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _framed(samples: np.ndarray, count: int, window: int, hop: int) -> np.ndarray:
    """Windows [count, window] every `hop` samples, each centred on its hop, zero-padded at the ends."""
    before = (window - hop) // 2
    padded = np.zeros(before + count * hop + window, np.float32)
    part = samples[: count * hop + window - before]
    padded[before : before + len(part)] = part
    return np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][:count]


def _spectra(samples: np.ndarray, frames: int) -> np.ndarray:
    windows = _framed(samples, frames * (SAMPLES_PER_FRAME // _HOP), _WINDOW, _HOP) * np.hanning(_WINDOW).astype(np.float32)
    return np.abs(np.fft.rfft(windows, axis=1)) ** 2


def _mel_bank() -> np.ndarray:
    """Triangular mel filters [bands, bins] between the two band limits (mel = 2595 log10(1 + f / 700))."""
    low, high = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in (_LOW_HZ, _HIGH_HZ))
    centres = 700.0 * (10.0 ** (np.linspace(low, high, _BANDS + 2) / 2595.0) - 1.0)
    bins = np.fft.rfftfreq(_WINDOW, 1.0 / SAMPLE_RATE)
    rising = (bins[None] - centres[:-2, None]) / (centres[1:-1] - centres[:-2])[:, None]
    falling = (centres[2:, None] - bins[None]) / (centres[2:] - centres[1:-1])[:, None]
    return np.clip(np.minimum(rising, falling), 0.0, None)


def _pitch(samples: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """log2 of the fundamental [frames] by the autocorrelation peak, and that peak's height 0 to 1."""
    size = 1024
    windows = _framed(samples, frames, size, SAMPLES_PER_FRAME) * np.hanning(size).astype(np.float32)
    power = np.abs(np.fft.rfft(windows, 2 * size, axis=1)) ** 2
    correlation = np.fft.irfft(power, axis=1)[:, :size]
    window_correlation = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(size), 2 * size)) ** 2)[:size]
    normal = correlation / np.maximum(correlation[:, :1], 1e-9) * (window_correlation[0] / np.maximum(window_correlation, 1e-3))
    shortest, longest = int(SAMPLE_RATE / _PITCH_HZ[1]), int(SAMPLE_RATE / _PITCH_HZ[0])
    part = normal[:, shortest : longest + 1]
    best = part.argmax(axis=1)
    return np.log2(SAMPLE_RATE / (best + shortest)), np.clip(part[np.arange(frames), best], 0.0, 1.0)
