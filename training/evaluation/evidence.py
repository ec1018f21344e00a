"""What is read off videos, frame by frame: the only place where pictures are looked at.

An `Extractor` reads arrays off one video, a `Comparison` off a true and a made one side by side. Both get chunks of frames
and keep no pictures, so that memory does not grow with a video's length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from training.evaluation.case import Case

Arrays = Mapping[str, np.ndarray]


@dataclass
class Chunk:
    """Frames [n] of a video.

    Attributes:
        start: number of the first.
        pictures: uint8 RGB [n, S, S, 3].
        landmarks: float32 [n, 478, 3] in their pixels, as the evaluator finds them (any value where absent).
        present: bool [n], where a face was found.
        device: that `unit` is on.
    """

    start: int
    pictures: np.ndarray
    landmarks: np.ndarray
    present: np.ndarray
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __len__(self) -> int:
        return len(self.pictures)

    @cached_property
    def unit(self) -> Tensor:
        """The pictures float32 [n, 3, S, S] in 0..1."""
        return torch.from_numpy(self.pictures).to(self.device).permute(0, 3, 1, 2).float().div_(255)


class Role(StrEnum):
    """Whose video it is that is looked at."""

    TRUTH = "truth"
    MADE = "made"
    PARTNER = "partner"


@dataclass(frozen=True)
class Shown:
    """What an extractor is told of a video before it sees it.

    Attributes:
        frames: T that will come.
        voice: of who is seen, float32 [T * 640]; silence where there is none.
        portrait: of the true video, the frame that systems are given as the portrait.
        system: whose video it is, for a made one.
    """

    case: Case
    role: Role
    frames: int
    voice: np.ndarray = field(repr=False)
    portrait: int = 0
    system: str = ""


class Extraction(Protocol):
    """One video on its way through an extractor."""

    def feed(self, chunk: Chunk) -> None:
        """The next frames."""
        ...

    def finish(self) -> Arrays:
        """Arrays by name; names begin with the extractor's."""
        ...


class Extractor(Protocol):
    """Reads arrays off one video.

    Attributes:
        name: unique; arrays are called `<name>.<what>`, or `<name>` where there is one.
        version: changes whenever its arrays would: weights' hash, options, own version.
        partner: whether the partner's video is read as well.
    """

    name: str
    version: str
    partner: bool

    def begin(self, shown: Shown) -> Extraction:
        """A new video.

        Raises:
            DyconvError: where what belongs to this case is missing or does not fit; the case is then left out and told of.
        """
        ...


class Comparison(Protocol):
    """Numbers by frame of a made video against the true one."""

    name: str
    version: str

    def compare(self, truth: Chunk, made: Chunk) -> Tensor:
        """Float [n], one number a frame, of chunks with the same frames at the same size."""
        ...


@dataclass(frozen=True)
class Evidence:
    """All that is known of one case of one system, T frames.

    Attributes:
        truth, made, partner: arrays of extractors, of the true video, the made one, and the partner's (empty where the
            partner is not seen). Always there: `landmarks` float32 [T, 478, 3] in 0..1 of the picture's side, `present`
            bool [T].
        frames: arrays [T] of comparisons, by name.
        told: numbers about the making: `seconds`, `frames`, `first_frame_s`, `latency_s`, `peak_mb` (some or none).
        own, other: log10 energy of both voices by frame, float32 [T].
        slices, record: as in `Truth`.
    """

    case: Case
    truth: Arrays
    made: Arrays
    partner: Arrays
    frames: Arrays
    told: Mapping[str, float]
    own: np.ndarray
    other: np.ndarray
    slices: Mapping[str, np.ndarray]
    record: Mapping[str, float] = field(default_factory=dict)
