"""How a head moves: one row of numbers a frame, made from the person's own voice and a seed.

The mouth follows the level of the voice (lip opening follows the speech envelope, at syllable rate) and its spectral
balance (spread for front vowels and fricatives, round for back ones). Blinks come at random, every 2 to 6 s. The head
sways slowly, more while speaking, and nods now and then while the other speaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from dyconv.synth.sound import level_db
from dyconv.time import SAMPLE_RATE

_RATE = 100  # level_db's
_RANGE_DB = 26.0  # from a closed to an open mouth
_SYLLABLE_HZ = 7.0


@dataclass(frozen=True)
class Motion:
    """Arrays float32 [T], one value a frame.

    Attributes:
        open: mouth opening, 0 shut to 1 wide.
        spread: -1 round lips to 1 spread lips.
        blink: 0 eyes as in the photograph to 1 shut.
        brow: 0 as in the photograph to 1 raised.
        yaw, pitch, roll: radians away from the photograph.
        x, y: movement, in face widths.
    """

    open: np.ndarray
    spread: np.ndarray
    blink: np.ndarray
    brow: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray
    x: np.ndarray
    y: np.ndarray


def mouth(voice: np.ndarray, fps: Fraction, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Opening (0 to 1) and spread (-1 to 1) of a mouth that says `voice` [N], at the middle of each frame."""
    from scipy.signal import butter, sosfiltfilt

    level = level_db(voice).astype(np.float64)
    loud = float(np.percentile(level[level > level.max() - 30], 90)) if level.max() > -80 else 0.0
    opening = np.clip((level - loud + _RANGE_DB) / _RANGE_DB, 0, 1.15)
    smooth = butter(2, _SYLLABLE_HZ, fs=_RATE, output="sos")
    pad = min(30, len(opening) - 1)
    opening = np.clip(sosfiltfilt(smooth, opening, padlen=pad), 0, 1)
    balance = sosfiltfilt(smooth, _balance(voice) * (opening > 0.05), padlen=pad)
    when = (np.arange(frames) + 0.5) / float(fps) * _RATE - 0.5
    grid = np.arange(len(opening))
    return (
        np.interp(when, grid, opening**1.3).astype(np.float32),
        np.clip(np.interp(when, grid, balance), -1, 1).astype(np.float32),
    )


def _balance(voice: np.ndarray) -> np.ndarray:
    """High against low band, -1 to 1, each 10 ms."""
    from scipy.signal import butter, sosfilt

    low = level_db(sosfilt(butter(2, 900, "low", fs=SAMPLE_RATE, output="sos"), voice))
    high = level_db(sosfilt(butter(2, 1500, "high", fs=SAMPLE_RATE, output="sos"), voice))
    return np.tanh((high - low + 10) / 12)


def animate(voice: np.ndarray, partner: np.ndarray, fps: Fraction, frames: int, seed: int, person: int) -> Motion:
    """The motion of one person.

    Args:
        voice: what is heard of this person, float32 [N].
        partner: what is heard of everybody else, float32 [N].
        person: its number, so that two people of one seed do not move alike.
    """
    rng = np.random.default_rng([seed, 2, person])
    time = (np.arange(frames) + 0.5) / float(fps)
    opening, spread = mouth(voice, fps, frames)
    speaking = _slow(opening > 0.08, fps)
    listening = _slow(mouth(partner, fps, frames)[0] > 0.08, fps) * (1 - speaking)
    lively = 0.55 + 0.45 * speaking
    return Motion(
        open=opening,
        spread=spread,
        blink=_blinks(time, rng),
        brow=(np.clip(_drift(time, rng, 0.35), 0, 1) * (0.4 + 0.6 * speaking)).astype(np.float32),
        yaw=np.radians(5.0) * _drift(time, rng, 0.22) * lively,
        pitch=np.radians(2.5) * _drift(time, rng, 0.3) * lively + np.radians(4.0) * _nods(time, listening, rng),
        roll=np.radians(2.2) * _drift(time, rng, 0.2) * lively,
        x=0.025 * _drift(time, rng, 0.18) * lively,
        y=0.015 * _drift(time, rng, 0.25) * lively,
    )


def _slow(active: np.ndarray, fps: Fraction) -> np.ndarray:
    """A 0/1 signal smoothed over most of a second."""
    width = max(1, round(float(fps) * 0.8))
    padded = np.pad(active.astype(np.float32), (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.hanning(width + 2)[1:-1] / np.hanning(width + 2).sum(), mode="valid")[: len(active)]


def _drift(time: np.ndarray, rng: np.random.Generator, hertz: float) -> np.ndarray:
    """Smooth movement around 0 within about -1 to 1: a few slow sines of random phase."""
    out = np.zeros(len(time))
    for factor, weight in ((0.45, 0.5), (1.0, 0.4), (1.9, 0.2)):
        out += weight * np.sin(2 * np.pi * (hertz * factor * rng.uniform(0.85, 1.15) * time + rng.uniform()))
    return out.astype(np.float32)


def _blinks(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """80 ms down, 40 ms shut, 150 ms up."""
    out = np.zeros(len(time))
    at = rng.uniform(0.5, 3.0)
    while at < time[-1] + 1:
        out = np.maximum(out, np.interp(time - at, [0, 0.08, 0.12, 0.27], [0, 1, 1, 0], left=0, right=0))
        at += rng.uniform(2.0, 6.0)
    return out.astype(np.float32)


def _nods(time: np.ndarray, listening: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two quick nods every few seconds, where the other is being listened to."""
    out = np.zeros(len(time))
    at = rng.uniform(1.0, 3.0)
    while at < time[-1]:
        inside = (time >= at) & (time < at + 1.1)
        wave = np.sin(2 * np.pi * 1.9 * (time - at)) * np.sin(np.pi * (time - at) / 1.1)
        out += np.where(inside, wave, 0)
        at += rng.uniform(2.5, 6.0)
    return (out * listening).astype(np.float32)
