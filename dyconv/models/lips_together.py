"""The network `mouth_sync` and the rule `lip_motion` heard together: the mean of their log odds.

They err in different places: the network scores faces unlike those it learnt from (drawings, photographs that were
made to speak, hardly moving lips) low throughout, the rule takes any moving mouth for a speaking one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dyconv.models.lip_motion import LipMotion
from dyconv.models.mouth_sync import MouthSync
from dyconv.models.slots import AvOffset, FaceTrack


class LipsTogether:
    """Log odds by network and rule, each counting for half; the A/V offset is the network's."""

    def __init__(self, weights: Path) -> None:
        """`weights`: those of `mouth_sync`."""
        self._network = MouthSync(weights)
        self._rule = LipMotion()
        self.thumb_px = self._network.thumb_px

    def thumb(self, image: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """See `dyconv.models.slots.ActiveSpeaker`: the network's."""
        return self._network.thumb(image, box, landmarks)

    def score(self, track: FaceTrack, samples: np.ndarray, speech: np.ndarray) -> np.ndarray:
        """See `dyconv.models.slots.ActiveSpeaker`."""
        return (self._network.score(track, samples, speech) + self._rule.score(track, samples, speech)) / 2

    def offset(self, track: FaceTrack, samples: np.ndarray, speech: np.ndarray) -> AvOffset | None:
        """See `dyconv.models.slots.ActiveSpeaker`."""
        return self._network.offset(track, samples, speech)
