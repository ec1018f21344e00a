"""How sure a number is: intervals from drawing units again, with replacement, or from leaving groups of them out.

Units (sources), not frames or clips, are drawn: frames of one conversation are alike, and an interval over them would be far
too narrow (cluster bootstrap: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 8 and 13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

Sums = Mapping[str, np.ndarray]
Value = Callable[[Sums], float]
Values = Callable[[Sums], np.ndarray]
Interval = tuple[float, float] | None

LEVEL = 0.95
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
_MOST_LOST = 0.05  # share of draws that may have no value
_BIAS = 0.25  # standard deviations
_CHUNK_BYTES = 64 * 1024 * 1024


def draw_counts(units: int, draws: int, seed: int) -> np.ndarray:
    """How often each unit is drawn, float64 [draws, units], each row summing to `units`; the same for equal arguments."""
    rng = np.random.default_rng([seed, units])
    return rng.multinomial(units, np.full(units, 1 / units), size=draws).astype(np.float64)


def total(parts: Sequence[Sums]) -> dict[str, np.ndarray]:
    """Sums of all parts, name by name."""
    found = {name: np.array(array, np.float64) for name, array in parts[0].items()}
    for part in parts[1:]:
        for name, array in found.items():
            array += part[name]
    return found


def drawn_values(value: Value, parts: Sequence[Sums], counts: np.ndarray, values: Values | None = None) -> np.ndarray:
    """The value of every draw, float64 [draws]; NaN where it has none.

    Args:
        parts: sums of each unit.
        counts: as of `draw_counts`.
        values: the same as `value` of many draws at once, sums with one axis more in front; much quicker where there is one.
    """
    found = []
    for sums in _drawn(parts, counts):
        several = len(next(iter(sums.values())))
        one_by_one = ({name: array[number] for name, array in sums.items()} for number in range(several))
        found.append(np.asarray(values(sums)) if values else np.array([value(one) for one in one_by_one], np.float64))
    return np.concatenate(found)


def _drawn(parts: Sequence[Sums], counts: np.ndarray) -> Iterator[Sums]:
    """Sums [n, ...] of n draws at a time, so that large sums do not fill the memory."""
    stacked = {name: np.stack([np.asarray(part[name], np.float64) for part in parts]) for name in parts[0]}
    flat = {name: array.reshape(len(parts), -1) for name, array in stacked.items()}
    row = 8 * sum(array.shape[1] for array in flat.values())
    step = max(1, _CHUNK_BYTES // max(row, 1))
    for start in range(0, len(counts), step):
        chunk = counts[start : start + step]
        yield {name: (chunk @ array).reshape(len(chunk), *stacked[name].shape[1:]) for name, array in flat.items()}


def tail(units: int) -> float:
    """The share of draws that an interval leaves out at each end: 2.5 % of many units, less of few.

    The plain percentile interval is too narrow for few units, as draws vary by n - 1 where the units do by n and the normal
    distribution stands for Student's (the expanded percentile interval: Hesterberg, The American Statistician 69, 2015).
    """
    from scipy.stats import norm, t

    return float(norm.cdf(-np.sqrt(units / (units - 1)) * t.ppf(_TAILS[1], units - 1)))


def percentile(values: np.ndarray, estimate: float, units: int) -> Interval:
    """The interval of drawn values of two units or more; None where more than one draw in twenty has no finite value.

    Drawing a unit twice means fewer different ones, which moves entropies down and distances of distributions up: all draws may
    then lie on one side of the estimate. Where their mean is off by more than a quarter of their standard deviation (from there
    on a bias should not be ignored: Efron & Tibshirani 1993, ch. 10.3), they are moved back by it: the interval then tells how
    much the number varies between sets of this size.
    """
    known = values[np.isfinite(values)]
    if len(known) == 0 or len(known) < (1 - _MOST_LOST) * len(values):
        return None
    bias = float(known.mean()) - estimate
    moved = bias if abs(bias) > _BIAS * float(known.std()) else 0.0
    left = tail(units)
    low, high = np.quantile(known - moved, (left, 1 - left))
    return float(low), float(high)


def left_out(value: Value, parts: Sequence[Sums]) -> np.ndarray:
    """The value without each of two groups or more in turn, float64 [groups]."""
    return np.array([value(total([*parts[:number], *parts[number + 1 :]])) for number in range(len(parts))], np.float64)


def jackknife(estimate: float, without: np.ndarray) -> Interval:
    """Interval around an estimate from the values without each of g groups; Student's t with g - 1 degrees of freedom.

    The delete-a-group jackknife (Kott, Journal of Official Statistics 17, 2001): it asks for g values only, and unlike draws
    with replacement it hardly lowers the number of different frames, which distances of covariances depend on.
    """
    from scipy.stats import t

    groups = len(without)
    if groups < 2 or not np.isfinite(estimate) or not np.isfinite(without).all():
        return None
    error = float(np.sqrt((groups - 1) / groups * np.sum((without - without.mean()) ** 2)))
    reach = float(t.ppf(_TAILS[1], groups - 1)) * error
    return estimate - reach, estimate + reach
