"""Adds up what metrics find, case by case, and says how sure the sums are."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from dyconv.errors import DyconvError
from training.evaluation.bootstrap import (
    Interval,
    Values,
    draw_counts,
    drawn_values,
    jackknife,
    left_out,
    percentile,
    total,
)
from training.evaluation.case import ALL
from training.evaluation.distributions import Spread
from training.evaluation.evidence import Evidence
from training.evaluation.metric import Metric, Sums
from training.evaluation.results import NOTHING, Difference, Problem, Result, number

GROUPS = 8  # of units, for metrics with large sums
_LARGE = 1 << 20  # bytes from which sums lie in files
_SLICE_SHARE = 5  # a slice has a fifth of the draws: there are many of them


@dataclass
class Part:
    """What one unit, or group of units, has added up for one metric in one slice.

    Attributes:
        members: exclusive or of the cases' hashes: two systems' parts are of the same cases where it and `cases` agree.
        units: names of the units.
    """

    sums: dict[str, np.ndarray] = field(default_factory=dict)
    cases: int = 0
    frames: int = 0
    members: int = 0
    units: set[str] = field(default_factory=set)

    def add(self, sums: Sums, case: str, unit: str, frames: int) -> None:
        """One case more."""
        for name, array in sums.items():
            if name in self.sums:
                self.sums[name] += array
            else:
                self.sums[name] = _held(np.asarray(array, np.float64))
        self.cases, self.frames = self.cases + 1, self.frames + frames
        self.members ^= int.from_bytes(hashlib.blake2b(case.encode(), digest_size=8).digest(), "little")
        self.units.add(unit)


def _held(array: np.ndarray) -> np.ndarray:
    """A copy; a large one in a file without a name, which the system may move out of memory."""
    if array.nbytes < _LARGE:
        return array.copy()
    with tempfile.TemporaryFile() as file:
        held = np.memmap(file, np.float64, "w+", shape=array.shape)
    held[:] = array
    return held


Place = tuple[str, str, str]  # view, slice, metric


class Tally:
    """Sums of one system by view, slice, metric and unit.

    Memory does not grow with frames or cases, only with units: one set of sums for each unit, slice, view and metric (some
    hundred bytes for a mean, 8 D^2 bytes for a covariance of D features). Heavy metrics keep theirs for at most 8 groups of
    units, and for one group in slices other than `all`; what is larger than a megabyte lies in temporary files (TMPDIR), which
    are gone with the tally.

    `spread` has histograms of what faces do, for plots.

    Args:
        system: whose numbers these are.
        units: of the set, if known before: heavy groups are then equally large. Without, a unit's name decides its group.
    """

    def __init__(self, metrics: Sequence[Metric], system: str = "", *, units: Iterable[str] = ()) -> None:
        self.system = system
        self.metrics = {metric.name: metric for metric in metrics}
        self.parts: dict[Place, dict[str, Part]] = {}
        self.spread = Spread()
        self._groups = {unit: str(number % GROUPS) for number, unit in enumerate(sorted(set(units)))}
        self._views: dict[str, None] = {}

    def add(self, evidence: Evidence) -> list[Problem]:
        """Measure a case. What a metric refuses (a DyconvError, or sums that are NaN) is returned and left out."""
        case, problems = evidence.case, []
        self._views[case.view] = None
        self.spread.add(evidence)
        for metric in self.metrics.values():
            try:
                found = {name: (_measured(metric, evidence, mask), int(mask.sum())) for name, mask in evidence.slices.items()}
            except DyconvError as error:
                problems.append(Problem(f"{metric.name}: {error.message}", error.hint or "", case.name, self.system, case.view))
                continue
            for name, (sums, frames) in found.items():
                if sums is not None:
                    parts = self.parts.setdefault((case.view, name, metric.name), {})
                    parts.setdefault(self._key(metric, name, case.unit), Part()).add(sums, case.name, case.unit, frames)
        return problems

    def _key(self, metric: Metric, slice_: str, unit: str) -> str:
        """Under which name a unit's sums are kept."""
        if not metric.heavy:
            return unit
        if slice_ != ALL:
            return "every unit"
        return self._groups.get(unit) or str(hashlib.blake2b(unit.encode()).digest()[0] % GROUPS)

    def estimates(self, draws: int = 1000, seed: int = 0) -> list[Result]:
        """All numbers with their intervals: by view, slice and metric as they came, `all` first.

        95 % percentile bootstrap over units, expanded for few of them (`bootstrap.tail`); slices other than `all` have a fifth
        of the draws. Heavy metrics have a jackknife over groups of units. One unit alone has no interval.
        """
        places = sorted(self.parts, key=self.order)
        found = [self._estimate(place, draws, seed) for place in places]
        have = {place for place in places if place[1] == ALL}
        empty = [(view, ALL, name) for view in self._views for name in self.metrics if (view, ALL, name) not in have]
        found += [Result(self.system, view, slice_, name, None, word=NOTHING) for view, slice_, name in empty]
        return found

    def order(self, place: Place) -> tuple[int, bool, str, int]:
        """Where a place stands: views and metrics as they came, `all` first."""
        view, slice_, name = place
        return list(self._views).index(view), slice_ != ALL, slice_, list(self.metrics).index(name)

    def _estimate(self, place: Place, draws: int, seed: int) -> Result:
        parts = [part for _, part in sorted(self.parts[place].items())]
        metric = self.metrics[place[2]]
        value = metric.value(total([part.sums for part in parts]))
        interval, how = _interval(metric, value, parts, draws_of(place, draws), seed)
        low, high = within(interval, getattr(metric, "limits", (-math.inf, math.inf))) or (None, None)
        known, word = number(value)
        units = len(set().union(*(part.units for part in parts)))
        cases, frames = sum(part.cases for part in parts), sum(part.frames for part in parts)
        return Result(self.system, *place, known, low, high, word, how, cases, units, frames)


def drawn(metric: Metric, parts: Sequence[Sums], counts: np.ndarray) -> np.ndarray:
    """A metric's value of every draw; all at once by its `values`, if that belongs to its `value` and is not an ancestor's."""
    owner = next((kind for kind in type(metric).__mro__ if {"value", "values"} & set(vars(kind))), type(metric))
    many: Values | None = getattr(metric, "values", None) if "values" in vars(owner) else None
    return drawn_values(metric.value, parts, counts, many)


def draws_of(place: Place, draws: int) -> int:
    """How many draws a place has."""
    return draws if place[1] == ALL else max(1, draws // _SLICE_SHARE)


def _measured(metric: Metric, evidence: Evidence, mask: np.ndarray) -> Sums | None:
    """
    Raises:
        DyconvError: where the sums hold NaN, which would spoil all cases.
    """
    sums = metric.sums(evidence, mask) if mask.any() else None
    spoilt = [] if sums is None else [name for name, array in sums.items() if np.isnan(array).any()]
    if spoilt:
        raise DyconvError(f"its {spoilt[0]} is NaN", hint="look at this case's video and landmarks; the case is left out")
    return sums


def _interval(metric: Metric, value: float, parts: Sequence[Part], draws: int, seed: int) -> tuple[Interval, str]:
    """The interval, and how it was made or why there is none."""
    if len(parts) < 2:
        return None, _alone(parts[0])
    if not np.isfinite(value):
        return None, "no interval: no finite value"
    sums = [part.sums for part in parts]
    if metric.heavy:
        interval, how = jackknife(value, left_out(metric.value, sums)), f"jackknife, {len(parts)} groups of units"
    else:
        interval = percentile(drawn(metric, sums, draw_counts(len(parts), draws, seed)), value, len(parts))
        how = f"bootstrap, {draws} draws of {len(parts)} units"
    return interval, how if interval else "no interval: too many draws without a value"


def within(interval: Interval, limits: tuple[float, float]) -> Interval:
    """An interval without what the number cannot be: a jackknife, or draws that were moved, know of no limits."""
    return interval and (max(interval[0], limits[0]), min(interval[1], limits[1]))


def _alone(part: Part) -> str:
    """Why one part has no interval: it is one unit, or all of them for a heavy metric in a slice."""
    return "no interval: heavy, in a slice" if len(part.units) > 1 else "no interval: one unit"


def differences(ours: Tally, other: Tally, draws: int = 1000, seed: int = 0) -> list[Difference]:
    """Ours less the other's, of all that both have measured; paired, as both are drawn the same units.

    Units (or groups) of which the two have different cases are left out of both numbers, so a difference need not be that of
    two `estimates`.
    """
    found = []
    for place in sorted(set(ours.parts) & set(other.parts), key=ours.order):
        mine, its = ours.parts[place], other.parts[place]
        same = [name for name in sorted(mine.keys() & its.keys()) if _same(mine[name], its[name])]
        if same:
            pair = [mine[name] for name in same], [its[name] for name in same]
            left = len(mine.keys() | its.keys()) - len(same)
            found.append(_difference(ours, other, place, pair, draws_of(place, draws), seed, left))
    return found


def _same(one: Part, other: Part) -> bool:
    return (one.cases, one.members) == (other.cases, other.members)


def _difference(
    ours: Tally, other: Tally, place: Place, pair: tuple[list[Part], list[Part]], draws: int, seed: int, left: int
) -> Difference:
    metric = ours.metrics[place[2]]
    mine, its = ([part.sums for part in parts] for parts in pair)
    value = metric.value(total(mine)) - metric.value(total(its))
    interval, how, count = None, _alone(pair[0][0]), len(mine)
    if count > 1 and np.isfinite(value) and metric.heavy:
        interval = jackknife(value, left_out(metric.value, mine) - left_out(metric.value, its))
        how = f"jackknife, the same {count} groups of units"
    elif count > 1 and np.isfinite(value):
        counts = draw_counts(count, draws, seed)
        interval = percentile(drawn(metric, mine, counts) - drawn(metric, its, counts), value, count)
        how = f"bootstrap, {draws} draws of the same {count} units"
    if left:
        how += f"; {left} left out, as the two have different cases of them"
    low, high = interval or (None, None)
    known, word = number(value)
    units = len(set().union(*(part.units for part in pair[0])))
    return Difference(ours.system, other.system, *place, known, low, high, word, how, True, units)
