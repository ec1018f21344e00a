"""How quickly a system makes its videos, by what it tells of each (`Evidence.told`)."""

from __future__ import annotations

import math

import numpy as np

from dyconv.time import FPS
from training.evaluation.evidence import Evidence
from training.evaluation.metric import Choice, Family, Metric, Replay, Sums


def family(choice: Choice) -> Family:
    """Frames a second, real-time factor, latency, first frame, peak memory."""
    rtf = "seconds of work for a second of video at 25 fps, over all videos"
    metrics: list[Metric] = [
        Told("speed.fps", "frames", "seconds", better="higher", unit="frames/s", about="frames made a second, over all videos"),
        Told("speed.rtf", "seconds", "frames", factor=FPS, better="lower", unit="", about=rtf),
        Told("speed.latency", "latency_s", better="lower", unit="s", about="voice that is waited for, mean over videos"),
        Told(
            "speed.first_frame", "first_frame_s", better="lower", unit="s", about="work until the first frame, mean over videos"
        ),
        Told("speed.peak_memory", "peak_mb", better="lower", unit="MB", about="peak memory while making, mean over videos"),
    ]
    return Family(tuple(metrics))


class Told:
    """A ratio of what a system tells of its videos: of sums over videos, or a mean over videos.

    What is told is of a whole video, so that only slices that hold all of its frames have such a number.

    Args:
        part: name of the number above the line.
        whole: of that below it; None: the number of videos.
        factor: of the ratio.
    """

    needs: frozenset[str] = frozenset()
    heavy = False

    def __init__(
        self, name: str, part: str, whole: str | None = None, *, factor: float = 1.0, better: str, unit: str, about: str
    ) -> None:
        self.name, self.better, self.unit, self.about = name, better, unit, about
        self._part, self._whole, self._factor = part, whole, factor

    def prepare(self, truths: Replay) -> None:
        """Nothing to fit."""

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        part = evidence.told.get(self._part, math.nan)
        whole = 1.0 if self._whole is None else evidence.told.get(self._whole, math.nan)
        if not mask.all() or not math.isfinite(part) or not math.isfinite(whole):
            return None
        return {"part": np.asarray(float(part)), "whole": np.asarray(float(whole))}

    def value(self, sums: Sums) -> float:
        return float(self._factor * sums["part"] / sums["whole"]) if sums["whole"] else math.nan
