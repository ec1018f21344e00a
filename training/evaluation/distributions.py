"""How what a face does is spread over frames: histograms that add up, of what `curves` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from training.evaluation.behaviour import around, turning_speed
from training.evaluation.curves import NAME
from training.evaluation.evidence import Arrays, Evidence
from training.evaluation.results import Distribution

BINS = 40
_REACH = 2  # frames on both sides that a speed is taken over


@dataclass(frozen=True)
class Curve:
    """A number of each frame. `of` gives it for all T, NaN where it is not known."""

    title: str
    unit: str
    low: float
    high: float
    of: Callable[[Arrays], np.ndarray]


def _seen(made: Arrays, values: np.ndarray) -> np.ndarray:
    return np.where(made["present"], values, np.nan)


CURVES = (
    Curve("mouth opening", "% of the outer-eye distance", 0.0, 40.0, lambda made: _seen(made, 100.0 * made[f"{NAME}.mouth"])),
    Curve("head yaw", "degrees", -45.0, 45.0, lambda made: _seen(made, np.rad2deg(made[f"{NAME}.head"][:, 0]))),
    Curve(
        "head speed",
        "degrees a second",
        0.0,
        80.0,
        lambda made: np.where(around(made["present"], _REACH), turning_speed(made[f"{NAME}.head"]), np.nan),
    ),
)


class Spread:
    """Histograms of one system by view and curve; what lies beyond the ends is counted in the outermost bins."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], np.ndarray] = {}

    def add(self, evidence: Evidence) -> None:
        """A case; one that `curves` has not read adds nothing."""
        if f"{NAME}.mouth" not in evidence.made:
            return
        for curve in CURVES:
            values = curve.of(evidence.made)
            inside = np.clip(values[~np.isnan(values)], curve.low, curve.high)
            found, _ = np.histogram(inside, BINS, (curve.low, curve.high))
            place = evidence.case.view, curve.title
            self.counts[place] = self.counts.get(place, np.zeros(BINS)) + found


def distributions(spreads: Mapping[str, Spread]) -> tuple[Distribution, ...]:
    """What the systems' histograms show, by view and curve."""
    found = []
    for view in dict.fromkeys(view for spread in spreads.values() for view, _ in spread.counts):
        for curve in CURVES:
            counts = {name: spread.counts.get((view, curve.title), np.zeros(0)) for name, spread in spreads.items()}
            shares = {name: _shares(array) for name, array in counts.items() if array.sum()}
            if shares:
                found.append(Distribution(curve.title, curve.unit, view, curve.low, curve.high, shares))
    return tuple(found)


def _shares(counts: np.ndarray) -> tuple[float, ...]:
    return tuple((counts / counts.sum()).round(6).tolist())
