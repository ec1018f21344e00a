"""The Frechet distance between two sets of vectors, each taken for a normal distribution: FID, FVD, FD, P-FD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from training.evaluation.evidence import Evidence
from training.evaluation.metric import Replay, Sums

_PRECISION = 1e-5  # of a distance


@cache
def _lower(size: int) -> np.ndarray:
    """Where a square array's lower half is, with the diagonal."""
    return np.tri(size, dtype=bool)


@dataclass(frozen=True)
class Moments:
    """Count, sum and sum of outer products of vectors [d], float64: they add up over any parts of a set.

    The covariance is divided by n - 1, as numpy's `cov` does and with it the field's code.
    """

    n: np.ndarray
    sum: np.ndarray
    outer: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        """Of vectors [n, d]."""
        rows = np.asarray(values, np.float64)
        return cls(np.asarray(float(len(rows))), rows.sum(axis=0), rows.T @ rows)

    @classmethod
    def among(cls, sums: Mapping[str, np.ndarray], prefix: str = "") -> Moments:
        """Out of arrays that `arrays` made, or sums of such."""
        size = len(sums[f"{prefix}sum"])
        outer = np.zeros((size, size))
        outer[_lower(size)] = sums[f"{prefix}outer"]
        return cls(sums[f"{prefix}n"], sums[f"{prefix}sum"], outer + np.tril(outer, -1).T)

    def arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """To be added up: `<prefix>n`, `<prefix>sum`, and of `<prefix>outer` the half that tells all of it."""
        return {f"{prefix}n": self.n, f"{prefix}sum": self.sum, f"{prefix}outer": self.outer[_lower(len(self.sum))]}

    @property
    def mean(self) -> np.ndarray:
        """Float64 [d]."""
        return self.sum / self.n

    @property
    def covariance(self) -> np.ndarray:
        """Float64 [d, d]; of two vectors or more."""
        return (self.outer - np.outer(self.sum, self.mean)) / (self.n - 1)


def frechet_distance(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """|mean1 - mean2|^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2)), of means [d] and covariances [d, d].

    Dowson and Landau, "The Frechet distance between multivariate normal distributions", 1982. With cov = F F^T the trace of
    the root is the sum of the singular values of F1^T F2: no root of a product that is not symmetric is taken, so that
    singular covariances (fewer vectors than dimensions) need no small number added.
    """
    apart = np.asarray(mean1, np.float64) - np.asarray(mean2, np.float64)
    one, other = _factor(cov1), _factor(cov2)
    spread = float(apart @ apart + np.square(one).sum() + np.square(other).sum())
    overlap = one.T @ other
    if not overlap.size:
        return spread
    root, doubt = _by_squares(overlap)
    if 2 * doubt > _PRECISION * (spread - 2 * root):
        root = float(np.linalg.svd(overlap, compute_uv=False).sum())
    return max(0.0, spread - 2 * root)


def _by_squares(matrix: np.ndarray) -> tuple[float, float]:
    """The sum of the singular values from the eigenvalues of the square, and how far off it may be, as small ones are rounded.

    A third of the time of a singular value decomposition.
    """
    square = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(square), 0))
    off = np.finfo(np.float64).eps * values[-1] ** 2
    return float(values.sum()), float(np.minimum(off / np.maximum(2 * values, 1e-300), np.sqrt(off)).sum())


def between(one: Moments, other: Moments) -> float:
    """The distance between two sets, exactly 0 for the same one; NaN where one holds fewer than two vectors."""
    if min(float(one.n), float(other.n)) < 2:
        return float("nan")
    if one.n == other.n and np.array_equal(one.sum, other.sum) and np.array_equal(one.outer, other.outer):
        return 0.0
    return frechet_distance(one.mean, one.covariance, other.mean, other.covariance)


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F [d, rank] with F F^T = covariance: Cholesky's with pivots, which ends where only rounding is left.

    A tenth of the time of an eigendecomposition; what is left out is under d eps of the largest variance.
    """
    from scipy.linalg.lapack import dpstrf

    symmetric = np.asarray(covariance, np.float64)
    lower, order, rank, _ = dpstrf((symmetric + symmetric.T) / 2, lower=1)
    factor = np.zeros((len(symmetric), rank))
    factor[order - 1] = np.tril(lower)[:, :rank]
    return factor


class FrechetMetric:
    """The distance between a network's rows of all made videos and of all true ones.

    Args:
        array: name of the extractor's array [rows, d].
        step, span: row i tells of the frames from i * step on, `span` of them; it is in a slice that all of them are in.
    """

    better, unit, heavy = "lower", "", True
    limits = (0.0, float("inf"))

    def __init__(self, name: str, array: str, *, about: str, step: int, span: int) -> None:
        self.name, self.about, self.needs = name, about, frozenset({array})
        self._array, self._step, self._span = array, step, span

    def prepare(self, truths: Replay) -> None:
        """Nothing to fit."""

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        made, truth = evidence.made[self._array], evidence.truth[self._array]
        inside = np.array([mask[row * self._step :][: self._span].all() for row in range(len(made))], bool)
        if not inside.any():
            return None
        return {**Moments.of(made[inside]).arrays("made."), **Moments.of(truth[inside]).arrays("truth.")}

    def value(self, sums: Sums) -> float:
        return between(Moments.among(sums, "made."), Moments.among(sums, "truth."))
