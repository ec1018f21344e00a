"""Metrics of motion coefficients: Frechet distances, errors, variance and correlation with the partner.

Where published code and the papers' wording differ, both numbers are there under names of their own: without a suffix over
all frames of the set at once, or by clip and then averaged, as is said of each; `.clip` and `.pooled` as in the code that DIM
published (Tran et al., Dyadic Interaction Modeling, ECCV 2024).
"""

from __future__ import annotations

import numpy as np

from training.evaluation.evidence import Arrays, Evidence
from training.evaluation.frechet import Moments, between
from training.evaluation.metric import Replay, Sums

_NAN = float("nan")
_LEAST = 25  # frames from which on a correlation over time says something


def key_of(feature: str, group: str) -> str:
    """Name of an array of coefficients."""
    return f"motion.{feature}.{group}"


def rows_of(arrays: Arrays, key: str, mask: np.ndarray) -> np.ndarray:
    """Coefficients float64 [n, D] of frames bool [T]."""
    return arrays[key][mask].astype(np.float64)


class MotionMetric:
    """What motion metrics share: the name and where their numbers are.

    `kind` begins the name, `suffix` ends it.
    """

    kind = ""
    suffix = ""
    better = "lower"
    unit = ""
    what = ""
    least = 1  # frames of a case

    def __init__(self, feature: str, group: str) -> None:
        self.key = key_of(feature, group)
        self.name = f"{self.kind}.{feature}.{group}{self.suffix}"
        self.about = f"{self.what}, of `{feature}` {group}"
        self.needs = frozenset({f"motion.{feature}"})
        self.heavy = False

    def prepare(self, truths: Replay) -> None:
        """Nothing to fit."""

    def seen(self, evidence: Evidence, mask: np.ndarray, *, partner: bool = False) -> np.ndarray | None:
        """Frames bool [T] of a mask that show both the true and the made face (and the partner's); None where too few."""
        if partner and self.key not in evidence.partner:
            return None
        shown = mask & evidence.truth["present"] & evidence.made["present"]
        if partner:
            shown = shown & evidence.partner["present"]
        return shown if shown.sum() >= self.least else None


class MeanMetric(MotionMetric):
    """A mean: sums are `sum` and `count`."""

    def value(self, sums: Sums) -> float:
        return float(sums["sum"] / sums["count"]) if sums["count"] else _NAN

    def values(self, sums: Sums) -> np.ndarray:
        """`value` of many sums at once, float64 [n]."""
        known = sums["count"] != 0
        return np.where(known, sums["sum"] / np.where(known, sums["count"], 1.0), _NAN)

    def one(self, value: float) -> Sums:
        """The sums of a case that counts once."""
        return {"sum": np.asarray(value), "count": np.asarray(1.0)}


class Frechet(MotionMetric):
    """Frechet distance between Gaussians of all true and all made frames (Dowson and Landau 1982)."""

    kind = "fd"
    what = "Frechet distance between the true and the made frames' coefficients, over all frames of the set"
    paired = False
    limits = (0.0, float("inf"))

    def __init__(self, feature: str, group: str) -> None:
        super().__init__(feature, group)
        self.heavy = feature == "infp"

    def rows(self, evidence: Evidence, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """True and made vectors, float64 [n, D] each, of the frames that show both."""
        shown = self.seen(evidence, mask, partner=self.paired)
        if shown is None:
            return None
        truth, made = (rows_of(arrays, self.key, shown) for arrays in (evidence.truth, evidence.made))
        if not self.paired:
            return truth, made
        partner = rows_of(evidence.partner, self.key, shown)
        return np.concatenate([truth, partner], axis=1), np.concatenate([made, partner], axis=1)

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        found = self.rows(evidence, mask)
        return None if found is None else {**Moments.of(found[0]).arrays("truth_"), **Moments.of(found[1]).arrays("made_")}

    def value(self, sums: Sums) -> float:
        truth, made = Moments.among(sums, "truth_"), Moments.among(sums, "made_")
        if float(truth.n) >= 2 and np.array_equal(truth.sum, made.sum) and np.array_equal(truth.outer, made.outer):
            return 0.0  # the same, and no rounding beside it
        return between(truth, made)


class PairedFrechet(Frechet):
    """The same of vectors of a person and the partner at the same time (Ng et al., Learning to Listen, CVPR 2022)."""

    kind = "pfd"
    what = "Frechet distance of (agent, partner) vectors, over all frames of the set"
    paired = True


class ClipFrechet(Frechet):
    """By clip, then averaged: as DIM's code does."""

    suffix = ".clip"
    what = "Frechet distance between a clip's true and made frames' coefficients, mean over clips (DIM's code)"
    least = 2

    def __init__(self, feature: str, group: str) -> None:
        super().__init__(feature, group)
        self.heavy = False

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        found = super().sums(evidence, mask)
        if found is None:
            return None
        return {"sum": np.asarray(super().value(found)), "count": np.asarray(1.0)}

    def value(self, sums: Sums) -> float:
        return float(sums["sum"] / sums["count"]) if sums["count"] else _NAN


class PairedClipFrechet(ClipFrechet):
    """By clip, then averaged, of (agent, partner) vectors."""

    kind = "pfd"
    what = "Frechet distance of a clip's (agent, partner) vectors, mean over clips (DIM's code)"
    paired = True


class SquaredError(MeanMetric):
    """Mean over frames and coefficients of the squared difference."""

    kind = "mse"
    what = "mean squared difference from the truth, over frames and coefficients"

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        shown = self.seen(evidence, mask)
        if shown is None:
            return None
        off = rows_of(evidence.truth, self.key, shown) - rows_of(evidence.made, self.key, shown)
        return {"sum": np.asarray((off**2).mean(axis=1).sum()), "count": np.asarray(float(len(off)))}


class Variance(MeanMetric):
    """Variance over time, of a case's frames, mean over coefficients; then the mean over cases."""

    kind = "var"
    better = "truth"
    what = "variance over time within a clip, mean over coefficients, then over clips"
    least = 2

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        shown = mask & evidence.made["present"]
        if shown.sum() < self.least:
            return None
        return self.one(float(rows_of(evidence.made, self.key, shown).var(axis=0).mean()))


class PooledVariance(MotionMetric):
    """Variance of all numbers, of all frames and coefficients together: as DIM's code does."""

    kind = "var"
    suffix = ".pooled"
    better = "truth"
    limits = (0.0, float("inf"))
    what = "variance of all frames' and coefficients' numbers together (DIM's code)"

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        values = rows_of(evidence.made, self.key, mask & evidence.made["present"])
        if not len(values):
            return None
        return {"n": np.asarray(float(values.size)), "sum": np.asarray(values.sum()), "square": np.asarray((values**2).sum())}

    def value(self, sums: Sums) -> float:
        count = float(sums["n"])
        return max(float(sums["square"]) / count - (float(sums["sum"]) / count) ** 2, 0.0) if count else _NAN


def pearson(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's r over time of each column of [T, D], float64 [D]; 0 where one of them does not move."""
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    size = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    return np.where(size > 1e-12, (one * other).sum(axis=0) / np.maximum(size, 1e-12), 0.0)


class ResidualCorrelation(MeanMetric):
    """|r(true agent, partner) - r(made agent, partner)|, Pearson's r over a case's frames.

    Each coefficient of the agent is correlated with the partner's same coefficient; the absolute difference is averaged over
    coefficients, then over cases. What does not move correlates with nothing: r = 0.
    """

    kind = "rpcc"
    what = "|r(true agent, partner) - r(made agent, partner)| by coefficient over time, mean over coefficients, then over clips"
    least = _LEAST

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        shown = self.seen(evidence, mask, partner=True)
        if shown is None:
            return None
        truth, made, partner = (
            rows_of(arrays, self.key, shown) for arrays in (evidence.truth, evidence.made, evidence.partner)
        )
        return self.one(float(np.abs(pearson(truth, partner) - pearson(made, partner)).mean()))


class PooledResidualCorrelation(MotionMetric):
    """The same of all frames and coefficients in one row: as DIM's code does."""

    kind = "rpcc"
    suffix = ".pooled"
    what = "|r(true agent, partner) - r(made agent, partner)| of all frames' and coefficients' numbers together (DIM's code)"

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        shown = self.seen(evidence, mask, partner=True)
        if shown is None:
            return None
        partner = rows_of(evidence.partner, self.key, shown).ravel()
        out = {"n": np.asarray(float(partner.size)), "partner": np.array([partner.sum(), (partner**2).sum()])}
        for name, arrays in (("truth", evidence.truth), ("made", evidence.made)):
            agent = rows_of(arrays, self.key, shown).ravel()
            out[name] = np.array([agent.sum(), (agent**2).sum(), agent @ partner])
        return out

    def value(self, sums: Sums) -> float:
        count = float(sums["n"])
        if count < 2:
            return _NAN
        found = []
        for name in ("truth", "made"):
            agent, squares, product = sums[name]
            partner, partner_squares = sums["partner"]
            size = np.sqrt(max((squares - agent**2 / count) * (partner_squares - partner**2 / count), 0.0))
            found.append((product - agent * partner / count) / size if size > 1e-12 else 0.0)
        return float(abs(found[0] - found[1]))
