"""SID: how evenly motion visits the states that real motion is in.

The Shannon index of diversity (Ng et al., Learning to Listen, CVPR 2022; as DIM's published code takes it): k-means with K
centres is fitted on the ground truth's frames, each made frame goes to its nearest centre, and the entropy in bits of how often
each is visited is told. At most log2 K. It is comparable only at equal K and equal features, so both are in its name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.evaluation.evidence import Evidence
from training.evaluation.metric import Replay, Sums
from training.evaluation.motion_metrics import key_of, rows_of

_MOST = 50_000  # frames that k-means is fitted on
_SEED = 0


class TruthRows:
    """Frames of the ground truth, one sample for all groups of a feature and all K: at most 50,000, drawn evenly."""

    def __init__(self, feature: str, groups: Sequence[str], most: int = _MOST) -> None:
        self.feature = feature
        self._keys = [key_of(feature, group) for group in groups]
        self._most = most
        self._source: Replay | None = None
        self._rows: dict[str, np.ndarray] = {}

    def of(self, truths: Replay, group: str) -> np.ndarray:
        """Float64 [n, D]. The same truths are read once."""
        if self._source is None or self._source != truths:
            self._rows, self._source = self._drawn(truths), truths
        return self._rows[key_of(self.feature, group)]

    def _drawn(self, truths: Replay) -> dict[str, np.ndarray]:
        """Reservoir sampling (Vitter 1985), so that memory does not grow with the set."""
        rng = np.random.default_rng(_SEED)
        kept: dict[str, np.ndarray] = {}
        seen = 0
        for evidence in truths():
            present = evidence.truth["present"]
            rows = {key: rows_of(evidence.truth, key, present) for key in self._keys}
            count = int(present.sum())
            free = min(max(self._most - seen, 0), count)
            places = (rng.random(count - free) * (seen + free + 1 + np.arange(count - free))).astype(np.int64)
            taken = np.flatnonzero(places < self._most)
            for key, values in rows.items():
                sample = kept.setdefault(key, np.zeros((self._most, values.shape[1])))
                sample[seen : seen + free] = values[:free]
                for index in taken:  # in order: of two that go to one place the later stays
                    sample[places[index]] = values[free + index]
            seen += count
        return {key: kept[key][: min(seen, self._most)] if key in kept else np.zeros((0, 1)) for key in self._keys}


def fit_centres(rows: np.ndarray, count: int) -> np.ndarray | None:
    """Centres [K, D] of k-means on rows [n, D], the same for the same rows; None with fewer different rows than K."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    if len(rows) < count or len(np.unique(rows, axis=0)) < count:
        return None
    with threadpool_limits(limits=1):  # the order of sums, and so the centres, would hang on the number of cores
        return np.asarray(KMeans(count, n_init=1, random_state=_SEED).fit(rows).cluster_centers_, np.float64)


def nearest(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Number of the nearest centre, int [n], of rows [n, D]."""
    off = (rows**2).sum(axis=1)[:, None] - 2 * rows @ centres.T + (centres**2).sum(axis=1)
    return np.asarray(off.argmin(axis=1))


def entropy_bits(counts: np.ndarray) -> np.ndarray:
    """Shannon entropy in bits, float64 [...], of how often each of [..., K] states was visited; NaN where none was."""
    total = counts.sum(axis=-1, keepdims=True)
    share = counts / np.where(total > 0, total, np.nan)
    return np.asarray(-(share * np.log2(np.where(share > 0, share, 1.0))).sum(axis=-1))


class Diversity:
    """SID of one K. NaN where the ground truth has fewer frames than K."""

    better = "truth"
    unit = "bit"

    def __init__(self, rows: TruthRows, group: str, clusters: int) -> None:
        self._rows, self._group, self.clusters = rows, group, clusters
        self._key = key_of(rows.feature, group)
        self.name = f"sid.{rows.feature}.{group}.k{clusters}"
        self.about = f"Shannon entropy over {clusters} k-means states fitted on the ground truth, of `{rows.feature}` {group}"
        self.needs = frozenset({f"motion.{rows.feature}"})
        self.heavy = False
        self._centres: np.ndarray | None = None

    def prepare(self, truths: Replay) -> None:
        """Fit the states."""
        self._centres = fit_centres(self._rows.of(truths, self._group), self.clusters)

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        shown = mask & evidence.made["present"]
        if not shown.any():
            return None
        if self._centres is None:
            return {"counts": np.zeros(self.clusters)}
        found = nearest(rows_of(evidence.made, self._key, shown), self._centres)
        return {"counts": np.bincount(found, minlength=self.clusters).astype(np.float64)}

    def value(self, sums: Sums) -> float:
        return float(entropy_bits(sums["counts"]))

    def values(self, sums: Sums) -> np.ndarray:
        """`value` of many sums at once, float64 [n]."""
        return entropy_bits(sums["counts"])
