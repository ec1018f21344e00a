"""What happens to voices between mouth and file: another vocal tract, a room, a telephone, a codec, noise and music."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scipy import fft, signal

from dyconv.time import SAMPLE_RATE

SPEEDS = tuple(Fraction(*pair) for pair in ((17, 20), (9, 10), (19, 20), (1, 1), (18, 17), (9, 8), (20, 17)))


def at_speed(samples: np.ndarray, speed: Fraction) -> np.ndarray:
    """Played `speed` times as fast: pitch and formants move along, so that it counts as another person."""
    if speed == 1:
        return samples.astype(np.float32)
    return signal.resample_poly(samples.astype(np.float32), speed.denominator, speed.numerator).astype(np.float32)


def room(rng: np.random.Generator, decay: float) -> np.ndarray:
    """An impulse response float32: the direct sound, then noise that falls by 60 dB in `decay` seconds.

    The share of the reverberation is drawn between -18 and -2 dB of the direct sound, its first 3 ms are empty and its treble
    dies faster.
    """
    count = int(decay * SAMPLE_RATE)
    times = np.arange(count) / SAMPLE_RATE
    tail = rng.standard_normal(count) * 10 ** (-3 * times / decay)
    tail = signal.lfilter([1.0], [1.0, -float(rng.uniform(0.2, 0.7))], tail)
    tail[: int(0.003 * SAMPLE_RATE)] = 0
    tail *= 10 ** (float(rng.uniform(-18, -2)) / 20) / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    return tail.astype(np.float32)


def in_room(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    return signal.oaconvolve(samples, response)[: len(samples)].astype(np.float32)


def telephone(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """300 to 3400 Hz and mu-law steps of 8 bits."""
    band = (float(rng.uniform(150, 350)), float(rng.uniform(3000, 3700)))
    sections = signal.butter(4, band, btype="bandpass", fs=SAMPLE_RATE, output="sos")
    narrow = signal.sosfilt(sections, samples).astype(np.float32)
    size = np.abs(narrow)
    peak = size.max() + np.float32(1e-9)
    steps = np.round(np.log1p(size * (255 / peak)) * np.float32(127 / np.log(256)))
    return np.copysign(np.expm1(steps * np.float32(np.log(256) / 127)) * (peak / 255), narrow)


def coloured(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A microphone's own sound: two broad resonances or dips of up to 8 dB."""
    out = samples
    for _ in range(2):
        centre, width = float(np.exp(rng.uniform(np.log(150), np.log(5500)))), float(rng.uniform(0.9, 2.5))
        gain = 10 ** (float(rng.uniform(-8, 8)) / 20)
        bandpass = signal.iirpeak(centre, width, fs=SAMPLE_RATE)
        out = out + (gain - 1) * signal.lfilter(*bandpass, out)
    return np.asarray(out, np.float32)


def dull(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Without treble, as old codecs and 8 kHz recordings leave it."""
    sections = signal.butter(6, float(rng.uniform(3400, 7000)), fs=SAMPLE_RATE, output="sos")
    return signal.sosfilt(sections, samples).astype(np.float32)


def hum(count: int, rng: np.random.Generator) -> np.ndarray:
    """Coloured noise of unit power: white, pink or brown, with or without mains hum, slowly changing in level."""
    size = fft.next_fast_len(count, real=True)
    spectrum = fft.rfft(rng.standard_normal(size, np.float32))
    tilt = float(rng.choice([0.0, 0.5, 1.0]))
    spectrum *= np.maximum(fft.rfftfreq(size, 1 / SAMPLE_RATE), 30.0) ** -tilt
    out = fft.irfft(spectrum, size)[:count]
    out /= out.std() + 1e-9
    if rng.random() < 0.3:
        out += 0.5 * np.sin(2 * np.pi * float(rng.choice([50, 60, 100, 120])) * np.arange(count) / SAMPLE_RATE)
    sway = np.interp(np.arange(count), np.linspace(0, count, 9), 10 ** (rng.uniform(-4, 4, 9) / 20))
    return (out * sway / (out.std() + 1e-9)).astype(np.float32)


def looped(sound: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` samples of a sound from a random place on, repeated as long as needed, float32 of about unit power."""
    start = int(rng.integers(len(sound)))
    out = np.resize(np.roll(sound, -start), count).astype(np.float32)
    return np.asarray(out / (out.std() + 1e-6), np.float32)
