"""A sample of each voice for models that are told whom to listen for: the surest seconds of one person alone."""

from __future__ import annotations

import numpy as np

from dyconv.speech.turns import runs
from dyconv.time import FPS, SAMPLE_RATE, frame_samples

LONGEST_S, SHORTEST_S = 24.0, 0.5  # of a sample; separation gains 2 dB from 4 s to 30 s
_SURE = 0.9  # probability of a frame that may be taken
_EDGE = 2  # frames left out at either end of a stretch, where the other may still be heard
_PIECE = 8  # frames of the shortest piece taken
_FADE = SAMPLE_RATE // 100


def enrolment(samples: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """Up to 24 s of each voice, in order of time, padded with silence: float32 [P, N].

    The longest stretches are taken first. A person of whom there is less than half a second is silence throughout.

    Args:
        samples: mono 16 kHz float32.
        alone: float [P, T], probability that the person speaks and nobody else does.

    Returns:
        N is the length of the longest sample, 0 where there is none.
    """
    voices = [_sample(samples, chance) for chance in alone]
    out = np.zeros((len(voices), max(map(len, voices), default=0)), np.float32)
    for row, voice in zip(out, voices, strict=True):
        row[: len(voice)] = voice
    return out


def _sample(samples: np.ndarray, chance: np.ndarray) -> np.ndarray:
    stretches = [(start + _EDGE, end - _EDGE) for start, end in runs(chance >= _SURE) if end - start >= _PIECE + 2 * _EDGE]
    left = round(LONGEST_S * FPS)
    taken = []
    for start, end in sorted(stretches, key=lambda stretch: (stretch[0] - stretch[1], stretch[0])):
        if left < _PIECE:
            break
        taken.append((start, min(end, start + left)))
        left -= taken[-1][1] - start
    if sum(end - start for start, end in taken) < SHORTEST_S * FPS:
        return np.zeros(0, np.float32)
    return np.concatenate([_faded(samples[frame_samples(start) : frame_samples(end)]) for start, end in sorted(taken)])


def _faded(samples: np.ndarray) -> np.ndarray:
    out = samples.astype(np.float32)
    ramp = np.linspace(0.0, 1.0, min(_FADE, len(out)), dtype=np.float32)
    out[: len(ramp)] *= ramp
    out[len(out) - len(ramp) :] *= ramp[::-1]
    return out
