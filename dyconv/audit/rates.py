"""How often a dataset is wrong: rates of each kind of error, from a reviewed sample, with intervals.

The rate is the stratified estimate, the mean over strata weighted by their size in the population. The interval is
Wilson's, with the number of clips that a simple random sample would need to be as exact: the reviewed clips divided by the
design effect of the strata (at least 1: strata are never taken to help), corrected for a finite population. With one
stratum and a large population it is the plain Wilson interval. As a dataset has a whole number of wrong clips, its ends are
moved outwards to whole clips, but not beyond what the reviewed clips prove; both matters only where the dataset is small.
See E. L. Korn and B. I. Graubard, Confidence intervals for proportions with small expected number of positive counts
estimated from survey data, Survey Methodology 24 (1998).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dyconv.audit.decisions import Fault, Kind, Standing, Verdict
from dyconv.audit.overlay import Annotations
from dyconv.audit.sampling import LEVEL, Sample, effective_size, wilson

ANY, REJECTED, SWAPPED, TAKEN_DOWN = "any", "rejected", "swapped", "taken_down"
KINDS = (ANY, REJECTED, SWAPPED, *(str(fault) for fault in Fault), TAKEN_DOWN)
_TINY = 1e-9  # rounding errors are no clip


@dataclass(frozen=True)
class Rate:
    """How often one kind of error was found, and how often it is expected in the whole.

    Attributes:
        found, reviewed: clips.
        rate: the stratified estimate, 0 to 1; None where nothing was reviewed.
        low, high: its interval.
    """

    kind: str
    found: int
    reviewed: int
    rate: float | None
    low: float
    high: float


@dataclass(frozen=True)
class StratumRate:
    """Clips of one stratum: in the population, to review, reviewed, and with any error."""

    values: Mapping[str, str]
    size: int
    sampled: int
    reviewed: int
    wrong: int


@dataclass(frozen=True)
class ErrorRates:
    """Rates of a dataset, or of what of it was reviewed.

    Attributes:
        population: clips of the dataset; `covered` of them lie in strata of which at least one clip was reviewed.
        stratified: whether clips were drawn by a sample. If not, nothing says that they stand for the whole.
        stale: clips reviewed before their record changed; they do not count.
    """

    level: float
    population: int
    covered: int
    planned: int
    reviewed: int
    stale: int
    stratified: bool
    kinds: tuple[Rate, ...]
    strata: tuple[StratumRate, ...]

    def of(self, kind: str) -> Rate:
        return next(rate for rate in self.kinds if rate.kind == kind)

    def to_json(self) -> dict[str, Any]:
        """Plain data, rates rounded to six digits."""
        data = asdict(self)
        for rate in data["kinds"]:
            rate.update({name: rate[name] and round(rate[name], 6) for name in ("rate", "low", "high")})
        return data


def is_reviewed(verdict: Verdict) -> bool:
    """Whether somebody has finished with a clip: accepted it, rejected it or taken it down."""
    return verdict.state is not Standing.OPEN


def errors_of(verdict: Verdict) -> frozenset[str]:
    """The kinds of error a verdict tells of. A takedown is no error, and names exchanged for both people are none."""
    found = {str(mark.what) for mark in verdict.marks}
    if verdict.state is Standing.REJECTED:
        found |= {REJECTED, str(verdict.reason)}
    if verdict.swapped == "voices":
        found |= {SWAPPED, str(Fault.SPEAKER)}
    if verdict.turns is not None:
        found.add(str(Fault.TURNS))
    if found:
        found.add(ANY)
    if verdict.state is Standing.TAKEN_DOWN:
        found.add(TAKEN_DOWN)
    return frozenset(found)


def first_verdicts(annotations: Annotations, bases: Mapping[str, str]) -> dict[str, Verdict]:
    """Verdicts by clip from everything but blind second reviews: those would find more in the clips that have them."""
    first = Annotations(tuple(d for d in annotations.decisions if d.round == 1 or d.kind is Kind.UNDO))
    return {clip: verdict for clip, verdict in first.verdicts(bases).items() if clip in bases}


def error_rates(annotations: Annotations, bases: Mapping[str, str], sample: Sample | None, level: float = LEVEL) -> ErrorRates:
    """The error rates of a dataset.

    Args:
        bases: `base_of` every clip of the dataset as it is now, by id.
        sample: which clips were drawn; without one, all that were reviewed count as one stratum of the whole.
    """
    verdicts = first_verdicts(annotations, bases)
    stale = sum(1 for verdict in verdicts.values() if verdict.stale and not is_reviewed(verdict))
    done = {clip: errors_of(verdict) for clip, verdict in verdicts.items() if is_reviewed(verdict)}
    if sample is None:
        sizes, values, planned = [len(bases)], [dict[str, str]()], [len(bases)]
        groups = [list(done.values())]
    else:
        sizes = [stratum.size for stratum in sample.strata]
        values = [dict(stratum.values) for stratum in sample.strata]
        planned = [stratum.sampled for stratum in sample.strata]
        groups = [
            [done[clip.id] for clip in sample.clips if clip.stratum == number and clip.id in done]
            for number in range(len(sample.strata))
        ]
    return ErrorRates(
        level=level,
        population=sum(sizes),
        covered=sum(size for size, group in zip(sizes, groups, strict=True) if group),
        planned=sum(planned),
        reviewed=sum(map(len, groups)),
        stale=stale,
        stratified=sample is not None,
        kinds=tuple(_rate(kind, sizes, groups, level) for kind in KINDS),
        strata=tuple(
            StratumRate(value, size, plan, len(group), sum(ANY in errors for errors in group))
            for value, size, plan, group in zip(values, sizes, planned, groups, strict=True)
        ),
    )


def _rate(kind: str, sizes: Sequence[int], groups: Sequence[Sequence[frozenset[str]]], level: float) -> Rate:
    counted = [(size, len(group), sum(kind in errors for errors in group)) for size, group in zip(sizes, groups, strict=True)]
    reviewed = sum(n for _, n, _ in counted)
    found = sum(k for _, _, k in counted)
    if not reviewed:
        return Rate(kind, 0, 0, None, 0.0, 1.0)
    rate, size = stratified(counted)
    low, high = whole_clips(*wilson(rate, size, level), sum(sizes), found, reviewed)
    return Rate(kind, found, reviewed, rate, low, high)


def whole_clips(low: float, high: float, clips: int, found: int = 0, reviewed: int = 0) -> tuple[float, float]:
    """An interval of a rate, moved outwards to rates that so many clips can have, and within what the reviewed ones prove."""
    first, last = math.floor(low * clips + _TINY), math.ceil(high * clips - _TINY)
    return max(first, found) / clips, min(last, clips - (reviewed - found)) / clips


def stratified(counted: Sequence[tuple[int, int, int]]) -> tuple[float, float]:
    """A rate and its effective sample size, from (clips, reviewed, found) of each stratum; at least one was reviewed.

    Strata of which nothing was reviewed are taken to be like the rest.
    """
    seen = [(size, n, k) for size, n, k in counted if n]
    total = sum(size for size, _, _ in seen)
    reviewed = sum(n for _, n, _ in seen)
    rate = sum(size * k / n for size, n, k in seen) / total
    whole = sum(size for size, _, _ in counted)
    simple = rate * (1 - rate) / max(reviewed - 1, 1)  # variance of a simple random sample as large
    effect = 1.0
    if simple > 0 and len(seen) > 1:
        spread = rate * (1 - rate)
        variance = 0.0
        for size, n, k in seen:
            inside = k / n * (1 - k / n) / (n - 1) if n > 1 else spread  # one clip tells nothing of how they differ
            variance += (size / total) ** 2 * inside
        effect = max(1.0, variance / simple)
    return rate, effective_size(reviewed, whole) / effect


def counts_of(verdicts: Mapping[str, Verdict]) -> Counter[str]:
    """How many clips stand where."""
    return Counter(str(verdict.state) for verdict in verdicts.values())
