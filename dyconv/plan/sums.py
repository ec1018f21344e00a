"""The measured sources as arrays, and what other sources like them give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyconv.plan.rates import Rates

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What sources give, for each of several draws: [draws, stages] or [draws]."""

    items: Floats
    media: Floats
    work: Floats
    kept: Floats
    kept_s: Floats
    written: Floats
    fetched: Floats

    def spread(self, base: Outcome, factor: float, other: Outcome | None = None) -> Outcome:
        """Around `base`: the deviations of these draws times a factor, and of `other` ones, added."""
        found = []
        for name, own in vars(self).items():
            middle = vars(base)[name]
            beside = vars(other)[name] - middle if other is not None else 0.0
            found.append(np.maximum(0.0, middle + factor * (own - middle) + beside))
        return Outcome(*found)


class Sums:
    """The measured sources as arrays, so that any weighting of them is one product.

    Args:
        rates: what was measured.
        names: the stages in order.
        longest: by stage, the most seconds that one item of it can have; 0 where nothing bounds it.
    """

    def __init__(self, rates: Rates, names: Sequence[str], longest: Sequence[float]) -> None:
        self._shortest = np.array([1 / bound if bound else 0.0 for bound in longest])  # items a second, at least
        samples = rates.samples
        self.count = len(samples)
        self._levels = np.array([stage.level for name in names if (stage := rates.stage(name))])
        table = np.array([[sample.work.get(name, (0, 0.0, 0.0)) for name in names] for sample in samples], float)
        self._items, self._media, self._work = (table[:, :, part] for part in range(3))  # each [sources, stages]
        self._fixed = np.array([rate.fixed_s for name in names if (rate := rates.stage(name))])
        self._per_media = np.array([rate.per_media_s for name in names if (rate := rates.stage(name))])
        self._length = np.array([sample.media_s for sample in samples])
        self._kept = np.array([sample.kept for sample in samples], float)
        self._kept_s = np.array([sample.kept_s for sample in samples])
        self._written = np.array([sum(sample.written.values()) for sample in samples], float)
        first = names[0] if names else ""
        self._fetched = np.array(
            [sum(size for name, size in sample.written.items() if name.startswith(f"{first}/")) for sample in samples], float
        )
        self._by_name = {
            name: np.array([sample.written.get(name, 0) for sample in samples], float)
            for name in sorted({name for sample in samples for name in sample.written})
        }

    def outcome(self, weights: Floats, count: int, media: float) -> Outcome:
        """What `count` sources of `media` seconds give if the measured ones are weighted so, `weights` [draws, sources]."""
        came = weights @ (self._length > 0)
        reached = media * came / weights.sum(axis=1)  # seconds of the sources that can be had
        scale = reached / np.maximum(weights @ self._length, 1e-9)
        per_source = count / weights.sum(axis=1)
        through = (weights @ self._media) * scale[:, None]
        whole = (weights @ self._items) * per_source[:, None]
        pieces = np.maximum(self._pieces(weights, count * came / weights.sum(axis=1), reached), through * self._shortest)
        items = np.where(self._levels == 0, whole, pieces)
        expected = weights @ (self._fixed * self._items + self._per_media * self._media)
        luck = np.where(expected > 0, (weights @ self._work) / np.maximum(expected, 1e-12), 1.0)
        work = (self._fixed * items + self._per_media * through) * luck
        at_end = np.maximum(weights @ self._items[:, -1], 1e-9)
        kept = (weights @ self._kept) * items[:, -1] / at_end
        rest = [(weights @ values) * scale for values in (self._kept_s, self._written, self._fetched)]
        return Outcome(items, through, work, kept, *rest)

    def _pieces(self, weights: Floats, came: Floats, reached: Floats) -> Floats:
        """Items of each stage, [draws, stages], for so many sources of so many seconds together.

        A line through the measured sources, items over length: a source that is ten times as long is not cut into ten
        times as many segments if it has no cuts. Where all are equally long, the number goes with the length.
        """
        there = weights * (self._length > 0)
        total = np.maximum(there.sum(axis=1), 1e-9)[:, None]
        mean_x, mean_y = (there @ self._length)[:, None] / total, (there @ self._items) / total
        variance = (there @ self._length**2)[:, None] / total - mean_x**2
        slope = ((there @ (self._length[:, None] * self._items)) / total - mean_x * mean_y) / np.maximum(variance, 1e-9)
        steepest = mean_y / np.maximum(mean_x, 1e-9)
        slope = np.where(variance > 1e-6 * mean_x**2, np.clip(slope, 0.0, steepest), steepest)
        return came[:, None] * (mean_y - slope * mean_x) + reached[:, None] * slope

    def written_by(self, name: str, whole: Outcome) -> float:
        """Bytes of one stage's asset in the outcome of all samples."""
        values = self._by_name.get(name)
        total = float(self._written.sum())
        return float(whole.written[0]) * float(values.sum()) / total if values is not None and total else 0.0
