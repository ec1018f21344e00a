"""The plainest separator: each voice is the mix wherever its owner is said to speak, and silence elsewhere.

Where one person speaks alone the samples are those of the mix, unchanged. Where both speak, both get the mix, so that
nothing is lost and nothing is separated: the overlap share in the record says how much that is. Speech that was given to
nobody is in neither voice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dyconv.speech.overlap import gate


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
