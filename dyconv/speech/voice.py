"""Whose voice it sounds like: cepstra and pitch of speech already attributed, against the rest of one segment.

This is a within-source likeness, not a speaker recogniser: two Gaussians with a shared covariance over per-frame
features. Its log-likelihood ratio is scaled by how well it separates speech it was not made from (blocks of two seconds
are held out in turn), so that two voices it cannot tell apart give no evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dyconv.time import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

_WINDOW = 512  # samples, 32 ms
_HOP = SAMPLES_PER_FRAME // 4  # 10 ms: four windows a frame
_BANDS = 26
_CEPSTRA = 16
_LOW_HZ, _HIGH_HZ = 120.0, 3800.0  # below the 4 kHz of telephone sound, so that bandwidth does not pose as identity
_PITCH_HZ = (70.0, 400.0)
_FOLDS, _BLOCK_S = 4, 2
_MIN_FRAMES = 20  # of each voice outside a fold, 0.8 s: with less there is no evidence
_SHRINK = 0.1  # of the shared covariance towards its diagonal
_LIMIT = 4.0  # log odds of one frame
_SPREAD, _BOTH = 0.35, 0.6  # deviations of one voice's scores (at least) and of two at once, the voices being 2 apart
_TELLS_MORE = 1.6  # times what a frame's cepstra tell: a network's mistakes do not last
_MANY = 64  # columns: of more, some seconds of speech cannot tell how they vary together


@dataclass(frozen=True)
class VoiceEvidence:
    """How frames sound like one of two voices.

    Attributes:
        odds: float [T], calibrated log odds per frame for the first against the second; 0 where nothing is known.
        together: float [T], log-likelihood of both at once against the mean of either's; 0 where nothing is known of that.
        separation: distance of the two voices' held-out scores in standard deviations (d'), once they are averaged over
            about half a second; 0 where it could not be measured.
    """

    odds: np.ndarray
    together: np.ndarray
    separation: float

    @classmethod
    def nothing(cls, frames: int) -> VoiceEvidence:
        return cls(np.zeros(frames), np.zeros(frames), 0.0)


def compare_voices(features: np.ndarray, first: np.ndarray, second: np.ndarray) -> VoiceEvidence:
    """Tell two voices apart, given frames that are surely of one (bool [T]) and surely of the other.

    Every frame is scored by models that were made without its own two-second block.

    Args:
        features: float [T, D], of `voice_features` or the vectors of a speaker encoder.
    """
    fold = np.arange(len(features)) // (_BLOCK_S * FPS) % _FOLDS
    raw = np.zeros(len(features))
    for held in range(_FOLDS):
        inside = fold == held
        ours, theirs = features[first & ~inside], features[second & ~inside]
        if min(len(ours), len(theirs)) < _MIN_FRAMES:
            return VoiceEvidence.nothing(len(features))
        raw[inside] = _discriminant(features[inside], ours, theirs)
    if min(first.sum(), second.sum()) < 2:
        return VoiceEvidence.nothing(len(features))
    separation = _smooth_separation(raw, first, second)
    if features.shape[1] > _MANY and separation > 0:
        return VoiceEvidence(*_between(raw, first, second), separation)
    gap = raw[first].mean() - raw[second].mean()
    spread = (raw[first].var() + raw[second].var()) / 2 + 1e-9
    middle = (raw[first].mean() + raw[second].mean()) / 2
    odds = np.clip(max(gap, 0.0) / spread * (raw - middle), -_LIMIT, _LIMIT)
    return VoiceEvidence(odds, np.zeros(len(features)), separation)


def _between(raw: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Odds and evidence for both at once [T] of scores that run from one voice to the other: two voices lie in between."""
    ours, theirs = raw[first].mean(), raw[second].mean()
    place = 2.0 * (raw - (ours + theirs) / 2) / max(ours - theirs, 1e-9)  # 1: the first, -1: the second
    spread = max(float(np.sqrt((place[first].var() + place[second].var()) / 2)), _SPREAD)
    likely = np.stack(
        [-0.5 * ((place - at) / width) ** 2 - np.log(width) for at, width in ((1, spread), (-1, spread), (0, _BOTH))]
    )
    likely = np.maximum(likely, likely.max(axis=0) - _LIMIT)
    return _TELLS_MORE * (likely[0] - likely[1]), _TELLS_MORE * (likely[2] - likely[:2].mean(axis=0))


def _discriminant(features: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Log-likelihood ratio [T] of two Gaussians with one shared, shrunk covariance; a sphere's for vectors of a network."""
    middle, apart = (ours.mean(axis=0) + theirs.mean(axis=0)) / 2, ours.mean(axis=0) - theirs.mean(axis=0)
    if features.shape[1] > _MANY:
        return np.asarray((features - middle) @ apart)
    centred = np.concatenate([ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)])
    covariance = np.cov(centred.T)
    diagonal = np.diag(np.diag(covariance))
    covariance = (1 - _SHRINK) * covariance + _SHRINK * diagonal + 1e-4 * np.eye(len(covariance))
    return np.asarray((features - middle) @ np.linalg.solve(covariance, apart))


def _smooth_separation(raw: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    from scipy.ndimage import gaussian_filter1d

    scores = []
    for mask in (first, second):
        weight = mask.astype(float)
        smooth = gaussian_filter1d(raw * weight, FPS / 4) / (gaussian_filter1d(weight, FPS / 4) + 1e-6)
        scores.append(smooth[mask])
    spread = np.sqrt((scores[0].var() + scores[1].var()) / 2 + 1e-9)
    return float((scores[0].mean() - scores[1].mean()) / spread)


def voice_features(samples: np.ndarray, frames: int) -> np.ndarray:
    """Per 25 fps frame: 16 mel cepstra (without c0), log2 of the pitch in Hz, and voicing 0 to 1; float32 [frames, 18]."""
    from scipy.fft import dct

    logs = np.log(power_spectra(samples, frames) @ _mel_bank().T + 1e-8)
    cepstra = dct(logs, type=2, axis=1, norm="ortho")[:, 1 : _CEPSTRA + 1]
    grouped = cepstra.reshape(frames, -1, _CEPSTRA)
    pitch, voicing = _pitch(samples, frames)
    columns = [grouped.mean(axis=1), pitch[:, None], voicing[:, None]]
    return np.concatenate(columns, axis=1).astype(np.float32)


def loudness(samples: np.ndarray, frames: int) -> np.ndarray:
    """Log energy of 200 to 3800 Hz, where speech is, float [frames]."""
    hz = np.fft.rfftfreq(_WINDOW, 1.0 / SAMPLE_RATE)
    power = power_spectra(samples, frames)[:, (hz > 200.0) & (hz < 3800.0)].sum(axis=1)
    return np.asarray(np.log(power + 1e-6).reshape(frames, -1).mean(axis=1))


def _framed(samples: np.ndarray, count: int, window: int, hop: int) -> np.ndarray:
    """Windows [count, window] every `hop` samples, each centred on its hop, zero-padded at the ends."""
    before = (window - hop) // 2
    padded = np.zeros(before + count * hop + window, np.float32)
    part = samples[: count * hop + window - before]
    padded[before : before + len(part)] = part
    return np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][:count]


def power_spectra(samples: np.ndarray, frames: int) -> np.ndarray:
    """Power [frames * 4, 257] of 32 ms Hann windows every 10 ms."""
    windows = _framed(samples, frames * (SAMPLES_PER_FRAME // _HOP), _WINDOW, _HOP) * np.hanning(_WINDOW).astype(np.float32)
    return np.asarray(np.abs(np.fft.rfft(windows, axis=1)) ** 2)


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
