"""What is evaluated: one person of one clip, in one view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

ALL = "all"  # the slice that every frame is in


class View(StrEnum):
    """What a system is given to make a video of a portrait."""

    INTERACTIVE = "interactive"  # both voices
    TALKING = "talking"  # the own voice; the partner is silent
    LISTENING = "listening"  # the partner's voice; the own one is silent
    VIDEO = "video"  # the true video, as a driver
    DATA = "data"  # nothing is made: the set itself is measured


@dataclass(frozen=True)
class Case:
    """One person of one clip in one view. Light: a set is a list of them.

    Attributes:
        clip, person: who; `person` is p0 or p1.
        unit: what is drawn in the bootstrap: the id of the source, as clips of one source are alike.
        frames: T, 25 fps.
    """

    clip: str
    person: str
    unit: str
    view: View
    frames: int

    @property
    def name(self) -> str:
        """`<clip>.<person>`, as in the names of files."""
        return f"{self.clip}.{self.person}"


@dataclass(frozen=True)
class Truth:
    """What is known of a case, T frames.

    Attributes:
        video: mp4 of the true face.
        partner_video: of the partner's face; None where it is not seen in the clip.
        own, partner: both real voices float32 [T * 640], whatever the view gives away of them.
        present: bool [T], where the true face was found when the set was built.
        landmarks: float32 [T, 478, 3] in pixels of `video`, of the build.
        portrait: the frame that systems are given as the portrait.
        slices: by name (`all`, `state=listening`, `pose=frontal`, `language=en`, ...) the frames in it, bool [T].
        record: numbers that the build's record has of this person and clip, by name: see `record.record_of`.
    """

    case: Case
    video: bytes = field(repr=False)
    partner_video: bytes | None = field(repr=False)
    own: np.ndarray = field(repr=False)
    partner: np.ndarray = field(repr=False)
    present: np.ndarray = field(repr=False)
    landmarks: np.ndarray = field(repr=False)
    portrait: int
    slices: Mapping[str, np.ndarray] = field(repr=False)
    record: Mapping[str, float] = field(default_factory=dict, repr=False)
