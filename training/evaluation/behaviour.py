"""What a face does, in numbers whose aim is the ground truth's own: blinks, head motion, mouth opening."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dyconv.time import FPS
from training.evaluation.curves import NAME
from training.evaluation.distances import Mean, PerFrame, mean_sums
from training.evaluation.evidence import Arrays, Evidence
from training.evaluation.metric import Metric, Sums

_SHUT, _OPEN = 0.15, 0.07  # how far below their usual opening eyes begin and end to be shut, in shares of it
_BLINK = (2, 12)  # frames that a blink lasts
_USUAL = 2 * FPS + 1  # frames whose median is the usual opening
_STEP = 2  # frames to either side that a head's speed is taken over: less is the trembling of landmarks
_LEAST = FPS  # frames of a case that spread and range are taken of


def behaviours() -> list[Metric]:
    """All of them."""
    return [
        BlinkRate(),
        Speed(
            "head.speed",
            unit="deg/s",
            about="mean angular speed of the head, over 4 frames at a time",
            of=lambda made: turning_speed(made[f"{NAME}.head"]),
        ),
        ByCase(
            "head.range",
            unit="deg",
            about="5th to 95th percentile of yaw, pitch and roll within a clip, mean of the three, then over clips",
            curve="head",
            of=lambda head: float(np.rad2deg(np.percentile(head, 95, axis=0) - np.percentile(head, 5, axis=0)).mean()),
        ),
        MouthOpening(),
        ByCase(
            "mouth.spread",
            unit="%",
            about="standard deviation over time of the mouth's opening, in percent of the outer-eye distance, mean over clips",
            curve="mouth",
            of=lambda mouth: float(100.0 * mouth.std()),
        ),
        Speed(
            "mouth.speed",
            unit="%/s",
            about="mean speed at which the mouth opens and closes, in percent of the outer-eye distance a second",
            of=lambda made: np.abs(opening_speed(made[f"{NAME}.mouth"])),
        ),
    ]


class BlinkRate(Mean):
    """Blinks a minute.

    A blink begins where the eyes' opening falls 15 % below its median over two seconds and ends where it is back within 7 %,
    after 2 to 12 frames (80 to 480 ms). The mesh never shows eyes quite shut, so the limits are far from 100 %.
    """

    def __init__(self) -> None:
        super().__init__("blink.rate", better="truth", unit="1/min", about="blinks a minute, from the opening of the eyes")
        self._known: tuple[Evidence, np.ndarray] | None = None

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        present = evidence.made["present"]
        minutes = float((mask & present).sum()) / FPS / 60
        if not minutes:
            return None
        if self._known is None or self._known[0] is not evidence:
            self._known = evidence, blinks_of(evidence.made[f"{NAME}.eyes"], present)
        return {"sum": np.asarray(float(mask[self._known[1]].sum())), "count": np.asarray(minutes)}


def blinks_of(eyes: np.ndarray, present: np.ndarray) -> np.ndarray:
    """First frames, int [n], of the blinks in an opening [T]; see `BlinkRate`."""
    from scipy.ndimage import median_filter

    used = np.flatnonzero(present)
    if len(used) < _BLINK[0] + 2:
        return np.zeros(0, np.int64)
    values = median_filter(eyes[used].astype(np.float64), size=3, mode="nearest")
    usual = median_filter(values, size=_USUAL, mode="nearest")
    below = 1.0 - values / np.maximum(usual, 1e-6)
    starts: list[int] = []
    begun: int | None = None
    for place, drop in enumerate(below):
        if begun is None and drop >= _SHUT:
            begun = place
        elif begun is not None and drop < _OPEN:
            if _BLINK[0] <= used[place] - used[begun] <= _BLINK[1]:
                starts.append(int(used[begun]))
            begun = None
    return np.array(starts, np.int64)


class Speed(PerFrame):
    """The mean over frames of a speed [T], where the face is there 2 frames before and after."""

    def __init__(self, name: str, *, unit: str, about: str, of: Callable[[Arrays], np.ndarray]) -> None:
        super().__init__(name, better="truth", unit=unit, about=about)
        self._of = of

    def of(self, evidence: Evidence) -> np.ndarray:
        return np.where(around(evidence.made["present"], _STEP), self._of(evidence.made), np.nan)


def around(present: np.ndarray, reach: int) -> np.ndarray:
    """Bool [T]: the face is there in this frame and `reach` frames before and after it."""
    out = np.zeros_like(present)
    if len(present) > 2 * reach:
        middle = slice(reach, len(present) - reach)
        out[middle] = present[middle] & present[2 * reach :] & present[: -2 * reach]
    return out


def turning_speed(head: np.ndarray) -> np.ndarray:
    """Degrees a second float64 [T] of yaw, pitch and roll [T, 3]: the angle of the rotation from 2 frames before to 2 after.

    NaN in the first and last frames.
    """
    from dyconv.models.mesh_motion import rotation_of

    out = np.full(len(head), np.nan)
    if len(head) > 2 * _STEP:
        turns = rotation_of(head.astype(np.float64))
        between = np.einsum("tij,tij->t", turns[2 * _STEP :], turns[: -2 * _STEP])  # trace of A B^T
        angle = np.arccos(np.clip((between - 1) / 2, -1, 1))
        out[_STEP:-_STEP] = np.rad2deg(angle) * FPS / (2 * _STEP)
    return out


def opening_speed(mouth: np.ndarray) -> np.ndarray:
    """Percent of the outer-eye distance a second, float64 [T], from the frame before to the next one; NaN at the ends."""
    out = np.full(len(mouth), np.nan)
    if len(mouth) > 2:
        values = mouth.astype(np.float64)
        out[1:-1] = 100.0 * (values[2:] - values[:-2]) * FPS / 2
    return out


class MouthOpening(PerFrame):
    """The mean opening of the mouth."""

    def __init__(self) -> None:
        about = "mean distance of the inner lips, in percent of the outer-eye distance"
        super().__init__("mouth.opening", better="truth", unit="%", about=about)

    def of(self, evidence: Evidence) -> np.ndarray:
        return np.where(evidence.made["present"], 100.0 * evidence.made[f"{NAME}.mouth"], np.nan)


class ByCase(Mean):
    """The mean over cases of a number of a case's frames, a second of them or more."""

    def __init__(self, name: str, *, unit: str, about: str, curve: str, of: Callable[[np.ndarray], float]) -> None:
        super().__init__(name, better="truth", unit=unit, about=about)
        self._curve, self._of = f"{NAME}.{curve}", of

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        values = evidence.made[self._curve][mask & evidence.made["present"]].astype(np.float64)
        return mean_sums(np.array([self._of(values)])) if len(values) >= _LEAST else None
