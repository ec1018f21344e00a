"""The plainest separator: each voice is the mix wherever its owner is said to speak, and silence elsewhere.

Where one person speaks alone the samples are those of the mix, unchanged. Where both speak, both get the mix, so that
nothing is lost and nothing is separated: the overlap share in the record says how much that is. Speech that was given to
nobody is in neither voice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dyconv.speech.turns import runs
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME

_FADE = 15 * SAMPLE_RATE // 1000  # samples of a raised-cosine fade, 15 ms: shorter than a frame, too long to click


class TurnGate:
    """Gate by attributed turns; in overlap both voices are the mix."""

    method = "turn_gate: the mix gated by attributed turns, 15 ms fades; both voices are the mix in overlap"

    def separate(self, mix: np.ndarray, activity: np.ndarray, enrolment: Sequence[np.ndarray] = ()) -> np.ndarray:
        """Voices float32 [P, N] of mono 16 kHz `mix` [N] and activity [P, T] in 0 to 1 (from 0.5 on a person speaks).

        A fade lies outside the turn where nobody else speaks there, so that onsets are whole, and inside it where the
        neighbouring frame is somebody else's, so that nothing of the other voice is let in.
        """
        active = activity >= 0.5
        voices = np.zeros((len(active), len(mix)), np.float32)
        for person in range(len(active)):
            others = np.asarray(np.delete(active, person, axis=0).any(axis=0))
            voices[person] = mix * gate(active[person], others, len(mix))
        return voices


def gate(own: np.ndarray, others: np.ndarray, samples: int) -> np.ndarray:
    """Gain float32 [samples] in 0 to 1: 1 where `own` bool [T] holds, raised-cosine fades at its edges."""
    gain = np.zeros(samples, np.float32)
    rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(_FADE) + 0.5) / _FADE)).astype(np.float32)
    for start, end in runs(own):
        first, last = start * SAMPLES_PER_FRAME, min(end * SAMPLES_PER_FRAME, samples)
        gain[first:last] = 1.0
        if start > 0:
            low = first if others[start - 1] else first - _FADE
            _lay(gain, low, rise, inside=bool(others[start - 1]))
        if end < len(own):
            low = last - _FADE if others[end] else last
            _lay(gain, low, rise[::-1], inside=bool(others[end]))
    return gain


def _lay(gain: np.ndarray, start: int, ramp: np.ndarray, *, inside: bool) -> None:
    """Put a ramp at `start`: inside a turn it lowers the gain, outside it raises it (two turns may fade into one gap)."""
    part = gain[start : start + len(ramp)]
    (np.minimum if inside else np.maximum)(part, ramp[: len(part)], out=part)
