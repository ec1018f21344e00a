"""Voices and noise: read from any file, found where they speak, scaled and mixed. Mono 16 kHz float32 throughout."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from dyconv.errors import UsageError
from dyconv.media.source import UnreadableSource, open_source
from dyconv.time import SAMPLE_RATE

SPEECH_LEVEL = 0.05  # RMS of each voice while it speaks: -26 dBFS, as telephony and ITU-T P.56 tools level speech
NOISES = ("white", "pink", "babble")
_HOP = SAMPLE_RATE // 100  # 10 ms
_FLOOR_DB = 32.0  # quieter than this below the loudest twentieth is not speech
_MIN_SPEECH_S = 0.16
_MIN_PAUSE_S = 0.3  # shorter pauses belong to the utterance
_LONGEST_S = 6.0  # a longer utterance is parted where it is quietest


@dataclass(frozen=True)
class Stretch:
    """Samples `[start, stop)` of a voice in which it speaks."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def read_sound(path: Path, *, begin: Fraction | None = None) -> np.ndarray:
    """The first sound track of any media file as float32 [N].

    Args:
        begin: presentation time in seconds that becomes sample 0 (a video's first frame); the track's own start if None.

    Raises:
        UsageError: if the file is not there, is not media, has no sound, or has none of any length.
    """
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    parts: list[np.ndarray] = []
    first: Fraction | None = None
    try:
        with open_source(path) as container:
            if not container.streams.audio:
                raise UsageError(f"{path} has no sound track")
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            for frame in container.decode(container.streams.audio[0]):
                if first is None:
                    first = Fraction(frame.pts or 0) * (frame.time_base or Fraction(1, frame.sample_rate))
                parts += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
            parts += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    except (UnreadableSource, av.FFmpegError) as error:
        raise UsageError(f"{path} is not readable as sound: {error}") from error
    samples = np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)
    if not len(samples):
        raise UsageError(f"{path} holds no sound: its track has zero length")
    if begin is not None and first is not None:
        shift = round((first - begin) * SAMPLE_RATE)
        samples = np.concatenate([np.zeros(max(shift, 0), np.float32), samples[max(-shift, 0) :]])
    return samples


def level_db(samples: np.ndarray) -> np.ndarray:
    """RMS level in dB of each 10 ms of sound, over a 30 ms window: float32 [ceil(N / 160)]."""
    count = -(-len(samples) // _HOP)
    power = np.square(np.pad(samples.astype(np.float64), (0, count * _HOP - len(samples)))).reshape(count, _HOP).mean(1)
    smooth = np.convolve(np.pad(power, 1, mode="edge"), np.ones(3) / 3, mode="valid")
    return (10 * np.log10(smooth + 1e-10)).astype(np.float32)


def utterances(samples: np.ndarray, name: str = "the voice") -> list[Stretch]:
    """Where a clean single voice speaks, by its level; pauses under 0.3 s are part of an utterance.

    Utterances of more than 6 s are parted at their quietest moments, so that somebody who never pauses can take turns.

    Raises:
        UsageError: if it never does.
    """
    level = level_db(samples)
    loud = float(np.percentile(level, 95))
    if loud < -70:
        raise UsageError(f"{name} is silent", hint="give a recording in which this person speaks")
    quiet = float(np.percentile(level, 5))
    threshold = max(loud - _FLOOR_DB, min(quiet + 8, loud - 12))
    found: list[list[int]] = []
    for index in np.flatnonzero(level > threshold):
        if found and index - found[-1][1] < _MIN_PAUSE_S * 100:
            found[-1][1] = int(index) + 1
        else:
            found.append([int(index), int(index) + 1])
    pieces = [
        Stretch(max(0, low - 3 * (low == start)) * _HOP, min((high + 3 * (high == stop)) * _HOP, len(samples)))
        for start, stop in found
        if stop - start >= _MIN_SPEECH_S * 100
        for low, high in _parted(level, start, stop)
    ]
    if not pieces:
        raise UsageError(f"no speech found in {name}", hint="give a recording in which this person speaks")
    return pieces


def _parted(level: np.ndarray, start: int, stop: int) -> list[tuple[int, int]]:
    """An utterance `[start, stop)` of 10 ms steps in parts of at most `_LONGEST_S`, none shorter than a fifth of that."""
    longest = int(_LONGEST_S * 100)
    if stop - start <= longest:
        return [(start, stop)]
    margin = longest // 5
    calm = np.convolve(level[start + margin : stop - margin], np.ones(5) / 5, mode="same")
    middle = start + margin + int(calm.argmin())
    return [*_parted(level, start, middle), *_parted(level, middle, stop)]


def leveled(samples: np.ndarray, pieces: list[Stretch]) -> np.ndarray:
    """The voice scaled so that its RMS over its utterances is `SPEECH_LEVEL`."""
    heard = np.concatenate([samples[piece.start : piece.stop] for piece in pieces])
    return (samples * (SPEECH_LEVEL / max(float(np.sqrt(np.mean(np.square(heard)))), 1e-9))).astype(np.float32)


def faded(samples: np.ndarray, seconds: float = 0.01) -> np.ndarray:
    """A copy that fades in and out, so that a cut makes no click."""
    count = min(int(seconds * SAMPLE_RATE), len(samples) // 2)
    out = samples.copy()
    ramp = np.linspace(0, 1, count, dtype=np.float32)
    out[:count] *= ramp
    out[len(out) - count :] *= ramp[::-1]
    return out


def noise(kind: str, count: int, voices: list[np.ndarray], seed: int) -> np.ndarray:
    """Background sound float32 [count] of unit power: `white`, `pink`, `babble` (of the voices), or a file, looped.

    Babble is twelve copies of the given voices, backwards and from random places: many people, none understood.
    """
    rng = np.random.default_rng([seed, 7])
    if kind == "white":
        out = rng.standard_normal(count)
    elif kind == "pink":
        spectrum = np.fft.rfft(rng.standard_normal(count))
        shape = 1 / np.sqrt(np.maximum(np.arange(len(spectrum)), count * 20 / SAMPLE_RATE))  # flat below 20 Hz
        out = np.fft.irfft(spectrum * shape, count)
    elif kind == "babble":
        out = np.zeros(count)
        for index in range(12):
            voice = voices[index % len(voices)][::-1]
            out += np.take(voice, np.arange(count) + int(rng.integers(len(voice))), mode="wrap")
    else:
        track = read_sound(Path(kind))
        out = np.resize(track, count).astype(np.float64)
    power = float(np.mean(np.square(out)))
    if power < 1e-12:
        raise UsageError(f"the background {kind} is silent")
    return (out / np.sqrt(power)).astype(np.float32)


def add_noise(speech: np.ndarray, active: np.ndarray, background: np.ndarray, snr_db: float) -> np.ndarray:
    """The background float32 [N], scaled so that speech is `snr_db` above it where anybody speaks (`active` bool [N])."""
    where = active if active.any() else np.ones(len(speech), bool)
    loud = float(np.mean(np.square(speech[where])))
    under = float(np.mean(np.square(background[where])))
    return (background * np.sqrt(loud / max(under, 1e-12) / 10 ** (snr_db / 10))).astype(np.float32)
