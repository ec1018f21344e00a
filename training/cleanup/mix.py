"""Random excerpts of speech over music and noise, with both known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dyconv.time import SAMPLE_RATE
from training.separation.voices import Voice

_SNR_DB = (-10.0, 25.0)
_LEVEL_DB = (-38.0, -18.0)  # of the speech, RMS


@dataclass(frozen=True)
class Mixer:
    """Draws excerpts of `samples` samples.

    One voice or two (together or one after the other, with pauses), sometimes in a room, sometimes of telephone
    bandwidth; under them music, noises or made-up noise at -10 to 25 dB; now and then nothing under them, or nothing
    over it.
    """

    voices: Sequence[Voice]
    music: Sequence[np.ndarray]
    noise: Sequence[np.ndarray]
    samples: int

    def draw(self, rng: np.random.Generator, kind: str | None = None, snr_db: float | None = None) -> np.ndarray:
        """Speech and rest, float32 [2, samples]; `kind` (`music`, `noise`, `made`) and `snr_db` are drawn if None."""
        speech = self._speech(rng)
        rest = self._rest(rng, kind or str(rng.choice(["music", "noise", "made"], p=[0.5, 0.35, 0.15])))
        if rng.random() < 0.15 and snr_db is None:
            from scipy.signal import resample_poly

            speech = resample_poly(resample_poly(speech, 1, 2), 2, 1)[: self.samples]
        speech *= _gain(speech, float(rng.uniform(*_LEVEL_DB)))
        wanted = float(rng.uniform(*_SNR_DB)) if snr_db is None else snr_db
        rest *= np.sqrt((speech**2).mean() / ((rest**2).mean() + 1e-9)) * 10 ** (-wanted / 20)
        if snr_db is None:
            drawn = rng.random()
            if drawn < 0.08:
                rest[:] = 0
            elif drawn < 0.13:
                speech[:] = 0
        both = np.stack([speech, rest]).astype(np.float32)
        peak = np.abs(both.sum(axis=0)).max()
        return both * np.float32(min(1.0, 0.98 / (peak + 1e-6)))

    def _speech(self, rng: np.random.Generator) -> np.ndarray:
        out = np.zeros(self.samples, np.float32)
        for _ in range(1 if rng.random() < 0.6 else 2):
            voice = self.voices[int(rng.integers(len(self.voices)))].samples
            length = int(rng.uniform(0.4, 1.0) * self.samples)
            start = int(rng.integers(max(1, len(voice) - length)))
            piece = voice[start : start + length].astype(np.float32) / 32768
            at = int(rng.integers(self.samples - len(piece) + 1))
            out[at : at + len(piece)] += piece * _gain(piece, -26.0 + float(rng.uniform(-5, 5)))
        return _in_a_room(out, rng) if rng.random() < 0.3 else out

    def _rest(self, rng: np.random.Generator, kind: str) -> np.ndarray:
        if kind == "made":
            return _made(rng, self.samples)
        out = np.zeros(self.samples, np.float32)
        pool = self.music if kind == "music" else self.noise
        for _ in range(1 if kind == "music" else int(rng.integers(1, 5))):
            sound = pool[int(rng.integers(len(pool)))]
            start = int(rng.integers(max(1, len(sound) - self.samples)))
            piece = sound[start : start + self.samples].astype(np.float32) / 32768
            at = int(rng.integers(self.samples - len(piece) + 1))
            out[at : at + len(piece)] += piece * _gain(piece, -26.0)
        return out


def _gain(samples: np.ndarray, level_db: float) -> float:
    """Factor that brings what is not silent of the samples to an RMS in dB of full scale."""
    loud = samples[np.abs(samples) > 1e-4]
    power = float((loud**2).mean()) if len(loud) else 1.0
    return float(10 ** (level_db / 20) / np.sqrt(power + 1e-9))


def _in_a_room(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Convolved with exponentially decaying noise, 0.1 to 0.5 s to -60 dB, under the direct sound."""
    from scipy.signal import fftconvolve

    length = int(rng.uniform(0.1, 0.5) * SAMPLE_RATE)
    tail = rng.normal(size=length) * 10 ** (-3 * np.arange(length) / length)
    response = np.concatenate([[1.0], tail * rng.uniform(0.1, 0.5) / np.sqrt((tail**2).sum())])
    return fftconvolve(samples, response)[: len(samples)].astype(np.float32)


def _made(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Noise with a spectrum that falls by 0 to 9 dB an octave, at times with mains hum."""
    spectrum = np.fft.rfft(rng.normal(size=samples))
    hz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum / np.maximum(hz, 40.0) ** rng.uniform(0.0, 1.5), samples)
    noise /= np.sqrt((noise**2).mean())
    if rng.random() < 0.3:
        time = np.arange(samples) / SAMPLE_RATE
        mains = float(rng.choice([50.0, 60.0]))
        noise += sum(np.sin(2 * np.pi * mains * order * time) / order for order in range(1, 8))
    return noise.astype(np.float32)
