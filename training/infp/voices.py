"""Changes to voices, and the invented partner: somebody else's words where a clip has nobody who answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dyconv.time import FPS, SAMPLES_PER_FRAME

_QUIET_DB = -50.0  # of full scale: what is softer than this is silence
_BELOW_DB = 30.0  # and so is what is this much softer than the voice's loud frames
_HANG = 5  # frames before and after speech in which nobody else begins
_SHORTEST = FPS // 2  # frames of a pause that words are put into
_FADE = SAMPLES_PER_FRAME // 4
_GAIN_DB = 6.0  # to either side
_LEFT = 0.2  # chance that a pause stays empty


def levels(samples: np.ndarray) -> np.ndarray:
    """Level of each frame, dB of full scale, [T] of samples [T * 640]."""
    power = np.square(samples.reshape(-1, SAMPLES_PER_FRAME)).mean(axis=1)
    return np.asarray(10 * np.log10(np.maximum(power, 1e-10)))


def speaks(samples: np.ndarray) -> np.ndarray:
    """Bool [T]: frames in which a voice that was separated from others is heard."""
    level = levels(samples)
    loud = np.percentile(level, 95) if len(level) else 0.0
    return level > max(_QUIET_DB, loud - _BELOW_DB)


def louder(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The voice at another level; never beyond full scale."""
    gain = 10 ** (rng.uniform(-_GAIN_DB, _GAIN_DB) / 20)
    peak = float(np.abs(samples).max(initial=0.0))
    return np.asarray(samples * np.float32(min(gain, 1 / peak if peak else gain)), np.float32)


def pauses(samples: np.ndarray) -> list[tuple[int, int]]:
    """Stretches [start, stop) of frames in which a voice is silent, some way off its speech."""
    quiet = np.convolve(speaks(samples), np.ones(2 * _HANG + 1), "same") < 0.5
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2) if stop - start >= _SHORTEST]


def with_partner(own: np.ndarray, voices: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A partner for `own` float32 [T * 640], as long: stretches of one of `voices` in the pauses of `own`, else silence.

    Whoever is alone in a clip keeps the mouth shut in these pauses: so this is what is learnt of a partner's speech.
    """
    out = np.zeros_like(own)
    voices = [voice for voice in voices if len(voice) >= _SHORTEST * SAMPLES_PER_FRAME]
    if not voices:
        return out
    voice = voices[int(rng.integers(len(voices)))]
    voice = voice[: len(voice) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME]
    heard = np.flatnonzero(speaks(voice))
    for start, stop in pauses(own):
        if not len(heard) or rng.random() < _LEFT:
            continue
        begin = int(rng.choice(heard)) * SAMPLES_PER_FRAME
        words = voice[begin : begin + (stop - start) * SAMPLES_PER_FRAME].copy()
        edge = min(_FADE, len(words) // 2)
        ramp = np.linspace(0, 1, edge, dtype=np.float32)
        words[:edge] *= ramp
        words[len(words) - edge :] *= ramp[::-1]
        out[start * SAMPLES_PER_FRAME : start * SAMPLES_PER_FRAME + len(words)] = words
    return out
