"""How far a made face's landmarks are from the true ones, and the family of all metrics read off landmarks.

Distances are in percent of the true face's outer-eye distance in the same frame. That is taken in three dimensions, so that a
turned head is not measured with a shorter ruler. Frames count where both faces are found.
"""

from __future__ import annotations

import numpy as np

from dyconv.faces import LEFT_EYE, MESH_POINTS, RIGHT_EYE
from training.evaluation.curves import LIPS, NAME, Curves
from training.evaluation.evidence import Evidence
from training.evaluation.metric import Choice, Family, FrameMean, Metric, Sums


def family(choice: Choice) -> Family:
    """Landmark distances, blinks, mouth and head statistics, and how motion goes with the voices."""
    from training.evaluation.behaviour import behaviours
    from training.evaluation.rhythm import rhythms

    metrics: list[Metric] = [
        FaceFound(),
        LandmarkDistance("face", tuple(range(MESH_POINTS)), "all 468 points of the face mesh"),
        LandmarkDistance("mouth", LIPS, "the 40 points of the lip lines"),
        MouthShapeDistance(),
        *behaviours(),
        *rhythms(),
    ]
    return Family(tuple(metrics), (Curves(),))


def both_present(evidence: Evidence) -> np.ndarray:
    """Frames bool [T] in which the true and the made face are found."""
    return np.asarray(evidence.truth["present"] & evidence.made["present"])


class Mean(FrameMean):
    """What metrics share whose sums are `sum` and `count`."""

    def __init__(self, name: str, *, better: str, unit: str, about: str, needs: frozenset[str] = frozenset({NAME})) -> None:
        super().__init__(name, better=better, unit=unit, about=about, needs=needs)


class PerFrame(Mean):
    """The mean of a number by frame, found once for all slices of a case."""

    def __init__(self, name: str, *, better: str, unit: str, about: str, needs: frozenset[str] = frozenset({NAME})) -> None:
        super().__init__(name, better=better, unit=unit, about=about, needs=needs)
        self._known: tuple[Evidence, np.ndarray] | None = None

    def of(self, evidence: Evidence) -> np.ndarray:
        """Float [T], NaN where a frame does not count."""
        raise NotImplementedError

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        if self._known is None or self._known[0] is not evidence:
            self._known = evidence, self.of(evidence)
        return mean_sums(self._known[1][mask])


def mean_sums(values: np.ndarray) -> Sums | None:
    """The sums of `Mean` of numbers [n], NaN left out; None of none."""
    values = values[~np.isnan(values)]
    return {"sum": np.asarray(values.sum(dtype=np.float64)), "count": np.asarray(float(len(values)))} if len(values) else None


class FaceFound(PerFrame):
    """The share of made frames in which a face is found, of those whose truth shows one."""

    def __init__(self) -> None:
        about = "share of made frames in which a face is found, of those whose truth shows one"
        super().__init__("face.found", better="higher", unit="", about=about, needs=frozenset())

    def of(self, evidence: Evidence) -> np.ndarray:
        return np.where(evidence.truth["present"], evidence.made["present"].astype(np.float64), np.nan)


class LandmarkDistance(PerFrame):
    """Mean distance, in the picture, of made landmarks from the true ones."""

    def __init__(self, name: str, points: tuple[int, ...], of: str) -> None:
        about = f"mean distance of landmarks in the picture, {of}, in percent of the true outer-eye distance"
        super().__init__(f"lmd.{name}", better="lower", unit="%", about=about, needs=frozenset())
        self._points = list(points)

    def of(self, evidence: Evidence) -> np.ndarray:
        truth, made = (arrays["landmarks"][:, self._points, :2] for arrays in (evidence.truth, evidence.made))
        apart = np.sqrt(np.square(truth - made, dtype=np.float64).sum(axis=2)).mean(axis=1)
        return np.where(both_present(evidence), 100.0 * apart / eye_distance(evidence.truth["landmarks"]), np.nan)


class MouthShapeDistance(PerFrame):
    """The same of the lips with the head's pose and size taken out of both: the shape of the mouth, not where it is."""

    def __init__(self) -> None:
        about = (
            "mean distance of the 40 lip points after head pose and size are taken out, in percent of the outer-eye distance"
        )
        super().__init__("lmd.mouth_shape", better="lower", unit="%", about=about)

    def of(self, evidence: Evidence) -> np.ndarray:
        truth, made = (arrays[f"{NAME}.lips"] for arrays in (evidence.truth, evidence.made))
        apart = np.sqrt(np.square(truth - made, dtype=np.float64).sum(axis=2)).mean(axis=1)
        return np.where(both_present(evidence), 100.0 * apart, np.nan)


def eye_distance(landmarks: np.ndarray) -> np.ndarray:
    """Distance of the outer eye corners, in three dimensions, float64 [T] of landmarks [T, 478, 3]."""
    across = landmarks[:, RIGHT_EYE[0]].astype(np.float64) - landmarks[:, LEFT_EYE[0]]
    return np.maximum(np.linalg.norm(across, axis=1), 1e-6)
