"""Overlaps of two voices with known truth, as turn changes, as words thrown in, or all the way through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME
from training.separation.voices import Voice

FRAMES = 64  # 25 fps frames of an excerpt, 2.56 s
_FADE = 240  # samples, 15 ms
_NARROW_HZ = (3400.0, 4000.0)  # telephone sound


@dataclass(frozen=True, eq=False)
class Overlap:
    """One excerpt.

    Attributes:
        voices: float32 [2, N], the truth.
        rest: float32 [N], noise; voices and rest sum to the mix.
        activity: float32 [2, T], turns as an attribution would give them (edges may be off by a few frames).
        both: bool [T], where both turns really run.
        enrolment: float32 [M] of each of the same people, from elsewhere; zeros where there is none.
        names: of the voices.
    """

    voices: np.ndarray
    rest: np.ndarray
    activity: np.ndarray
    both: np.ndarray
    enrolment: tuple[np.ndarray, np.ndarray]
    names: tuple[str, str]


class Composer:
    """Draws overlaps.

    Args:
        voices: whose.
        seed: of all that is drawn.
        plain: leave out noise, rooms, telephones, colours and faults, for measuring.
        enrol_s: least and most seconds of enrolment; never more than a voice has beside the excerpt.
    """

    def __init__(
        self, voices: Sequence[Voice], seed: int, *, plain: bool = False, enrol_s: tuple[float, float] = (8.0, 8.0)
    ) -> None:
        self.enrol_s = enrol_s
        self.voices = list(voices)
        self.random = np.random.default_rng(seed)
        self.plain = plain
        weight = np.array([_share(voice) for voice in self.voices])
        self.chance = weight / weight.sum()

    def draw(self, pair: tuple[int, int] | None = None, level_db: float | None = None, frames: int | None = None) -> Overlap:
        """A new excerpt: of these two voices, at this level of the second against the first, with so many frames of both."""
        random = self.random
        first, second = pair if pair is not None else self._pair()
        turns = self._turns(frames)
        sounds, enrolment = zip(*(self._cut(self.voices[index]) for index in (first, second)), strict=True)
        voices = np.stack([sound * _gain(turn) for sound, turn in zip(sounds, turns, strict=True)])
        if not self.plain and random.random() < 0.15:
            voices = self._room(voices)
        both = turns[0] & turns[1]
        voices *= self._levels(voices, both, random.uniform(-6.0, 6.0) if level_db is None else level_db)
        enrolled = list(enrolment)
        narrow = "prompt/" in self.voices[first].name + self.voices[second].name
        if narrow or (not self.plain and random.random() < 0.1):
            limit = random.uniform(*_NARROW_HZ)
            voices, enrolled = _low_pass(voices, limit), [_low_pass(own, limit) for own in enrolled]
        rest = np.zeros(voices.shape[1], np.float32)
        activity = turns.astype(np.float32)
        if not self.plain:
            rest = self._noise(voices.sum(axis=0))
            activity = self._misjudged(activity)
            enrolled = [own * np.float32(random.random() > 0.07) for own in enrolled]
        names = (self.voices[first].name, self.voices[second].name)
        return Overlap(voices.astype(np.float32), rest, activity, both, (enrolled[0], enrolled[1]), names)

    def _pair(self) -> tuple[int, int]:
        while True:
            first, second = (int(index) for index in self.random.choice(len(self.voices), 2, p=self.chance))
            if _group(self.voices[first]) != _group(self.voices[second]):
                return first, second

    def _turns(self, frames: int | None) -> np.ndarray:
        """Who speaks when, bool [2, T]: the floor passes, or words are thrown in, or both speak throughout."""
        random = self.random
        turns = np.zeros((2, FRAMES), bool)
        length = int(random.integers(12, FRAMES + 1)) if frames is None else min(frames, FRAMES)
        start = int(random.integers(0, FRAMES - length + 1))
        if random.random() < 0.6:
            turns[0, : start + length] = True
            turns[1, start:] = True
        else:
            turns[0] = True
            turns[1, start : start + length] = True
        return turns[:: int(random.choice([-1, 1]))]

    def _cut(self, voice: Voice) -> tuple[np.ndarray, np.ndarray]:
        """An excerpt [N] and an enrolment [M] of one voice, from different places, at the same changed speed and colour."""
        random = self.random
        speed = 1.0 if self.plain or random.random() < 0.3 else random.uniform(0.85, 1.18)
        low, high = self.enrol_s
        seconds = random.uniform(low, high) if low < high else low
        total, need = len(voice.samples), int(FRAMES * SAMPLES_PER_FRAME * speed) + 2
        enrol = min(int(seconds * SAMPLE_RATE * speed) + 2, max(total - need, SAMPLE_RATE))
        start = int(random.integers(0, total))
        gap = int(random.integers(0, max(1, total - need - enrol)))
        around, other = _ring(voice.samples, start, need), _ring(voice.samples, start + need + gap, enrol)
        sounds = _resampled(around, FRAMES * SAMPLES_PER_FRAME), _resampled(other, int((enrol - 2) / speed))
        if self.plain or random.random() < 0.5:
            return sounds
        curve = random.uniform(-5.0, 5.0, 7)
        return _coloured(sounds[0], curve), _coloured(sounds[1], curve)

    def _levels(self, voices: np.ndarray, both: np.ndarray, level_db: float) -> np.ndarray:
        """Gains [2, 1] that put the second `level_db` above the first where both speak."""
        inside = np.repeat(both, SAMPLES_PER_FRAME)
        power = (voices[:, inside] ** 2).mean(axis=1) + 1e-7
        gains = np.sqrt(1.0 / power) * np.array([1.0, 10 ** (level_db / 20)])
        return np.asarray(0.05 * np.clip(gains, 0.0, 30.0 * gains.min())[:, None])

    def _room(self, voices: np.ndarray) -> np.ndarray:
        """Both voices in a small room: a direct path and a decaying noise tail."""
        from scipy.signal import fftconvolve

        random = self.random
        seconds = random.uniform(0.1, 0.4)
        time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        tails = random.standard_normal((2, len(time))) * 10 ** (-3 * time / seconds)
        tails *= random.uniform(0.1, 0.5) / np.sqrt((tails**2).sum(axis=1, keepdims=True))
        tails[:, 0] = 1.0
        return np.asarray(fftconvolve(voices, tails, axes=1)[:, : voices.shape[1]])

    def _noise(self, mix: np.ndarray) -> np.ndarray:
        """Coloured noise 15 to 40 dB below the mix, or none."""
        random = self.random
        if random.random() < 0.6:
            return np.zeros(len(mix), np.float32)
        spectrum = np.fft.rfft(random.standard_normal(len(mix)))
        hz = np.fft.rfftfreq(len(mix), 1 / SAMPLE_RATE) + 50.0
        noise = np.fft.irfft(spectrum * hz ** -random.uniform(0.0, 1.0), len(mix))
        wanted = np.sqrt((mix**2).mean()) * 10 ** (-random.uniform(15.0, 40.0) / 20)
        return np.asarray(noise * wanted / (noise.std() + 1e-9), np.float32)

    def _misjudged(self, activity: np.ndarray) -> np.ndarray:
        """Turns whose edges are moved by up to three frames in half of the excerpts."""
        if self.random.random() < 0.5:
            return activity
        out = activity.copy()
        for row in out:
            edges = np.flatnonzero(np.diff(row)) + 1
            for edge in edges:
                moved = int(np.clip(edge + self.random.integers(-3, 4), 1, len(row) - 1))
                low, high = sorted((int(edge), moved))
                row[low:high] = row[edge - 1] if moved > edge else row[edge]
        return out


def _share(voice: Voice) -> float:
    """How often a voice is drawn, against others."""
    return {"ocean": 1.0, "heads": 0.7, "prompt": 1.5}[voice.name.split("/")[0]]


def _group(voice: Voice) -> str:
    """Voices of one group may be one person: clips of footage from one project, and of who is in several, are never paired."""
    if "obama" in voice.name.lower():
        return "obama"
    return voice.name.split("__")[0] if voice.name.startswith("heads/") else voice.name


def _ring(samples: np.ndarray, start: int, count: int) -> np.ndarray:
    """`count` samples from `start`, as float32 in -1 to 1, the end joined to the beginning."""
    return np.take(samples, np.arange(start, start + count), mode="wrap").astype(np.float32) / 32768


def _resampled(samples: np.ndarray, count: int) -> np.ndarray:
    if len(samples) == count + 2:
        return samples[:count]
    at = np.linspace(0, len(samples) - 1, count, dtype=np.float32)
    whole = np.minimum(at.astype(np.int64), len(samples) - 2)
    part = at - whole.astype(np.float32)
    return samples[whole] * (1 - part) + samples[whole + 1] * part


def _gain(turn: np.ndarray) -> np.ndarray:
    """Gain [N] of one person's turns, with short ramps."""
    gain = np.repeat(turn.astype(np.float32), SAMPLES_PER_FRAME)
    ramp = np.linspace(0, 1, _FADE, dtype=np.float32)
    for edge in np.flatnonzero(np.diff(turn.astype(np.int8))) + 1:
        at = edge * SAMPLES_PER_FRAME
        if turn[edge]:
            gain[at : at + _FADE] *= ramp
        else:
            gain[at - _FADE : at] *= ramp[::-1]
    return gain


def _low_pass(samples: np.ndarray, hz: float) -> np.ndarray:
    return _filtered(samples, lambda at_hz: (at_hz < hz).astype(np.float32))


def _coloured(samples: np.ndarray, curve_db: np.ndarray) -> np.ndarray:
    """Samples [N] through another microphone: gain in dB at equal steps from 0 Hz to 8 kHz."""
    steps = np.linspace(0, SAMPLE_RATE / 2, len(curve_db))
    return _filtered(samples, lambda at_hz: 10 ** (np.interp(at_hz, steps, curve_db) / 20))


def _filtered(samples: np.ndarray, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Samples [..., N] times a gain for each frequency in Hz."""
    from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

    count = samples.shape[-1]
    padded = next_fast_len(count, real=True)
    spectrum = rfft(samples.astype(np.float32), padded) * gain(rfftfreq(padded, 1 / SAMPLE_RATE)).astype(np.float32)
    return np.asarray(irfft(spectrum, padded)[..., :count], np.float32)
