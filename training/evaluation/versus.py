"""Two datasets beside each other: is A wider, cleaner, larger than B? Never said beyond what the interval says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from training.evaluation.bootstrap import Interval, draw_counts, jackknife, left_out, percentile, total
from training.evaluation.case import ALL
from training.evaluation.results import Described, Difference, Report, Result, number
from training.evaluation.tables import cell, short
from training.evaluation.tally import Part, Place, Tally, drawn, draws_of

_WORDS = {
    "var": ("wider", "narrower"),
    "head.range": ("wider in head motion", "narrower in head motion"),
    "mouth.spread": ("wider in mouth motion", "narrower in mouth motion"),
    "sid": ("more varied", "less varied"),
    "quality.sharpness": ("sharper", "less sharp"),
    "quality.brightness": ("brighter", "darker"),
    "quality.face_px": ("larger in the face", "smaller in the face"),
    "quality.blockiness": ("more blocky", "less blocky"),
    "quality.frozen": ("richer in frozen frames", "poorer in frozen frames"),
    "quality.bleed": ("less clean in its voices", "cleaner in its voices"),
    "quality.si_sdr_est": ("cleaner in its voices", "less clean in its voices"),
    "talk.turns": ("richer in turns", "poorer in turns"),
    "talk.response": ("slower to respond", "quicker to respond"),
    "talk.backchannels": ("richer in backchannels", "poorer in backchannels"),
    "talk.overlap": ("richer in overlap", "poorer in overlap"),
    "talk.silence": ("richer in silence", "poorer in silence"),
}  # by the beginning of a metric's name: A is ..., where its number is higher, and where it is lower


@dataclass(frozen=True)
class Verdict:
    """A line of the comparison of two sets `a` and `b`, as text: `one` and `other` are their numbers with intervals."""

    metric: Described
    a: str
    b: str
    one: str
    other: str
    difference: str
    interval: str
    sentence: str
    shown: bool


def unpaired(one: Tally, other: Tally, draws: int = 1000, seed: int = 0) -> list[Difference]:
    """One set's numbers less the other's; each set's units are drawn on their own.

    A metric that is fitted (SID's clusters) has to be the same, fitted object in both, or its numbers do not compare.
    """
    places = sorted(set(one.parts) & set(other.parts), key=one.order)
    return [_difference(one, other, place, draws_of(place, draws), seed) for place in places]


def _difference(one: Tally, other: Tally, place: Place, draws: int, seed: int) -> Difference:
    metric = one.metrics[place[2]]
    first, second = ([part.sums for _, part in sorted(tally.parts[place].items())] for tally in (one, other))
    values = metric.value(total(first)), metric.value(total(second))
    value = float(values[0] - values[1])
    interval: Interval = None
    how = "no interval: one unit" if min(len(first), len(second)) < 2 else "no interval: no finite value"
    if min(len(first), len(second)) > 1 and np.isfinite(value):
        if metric.heavy:
            ends = [jackknife(v, left_out(metric.value, parts)) for v, parts in zip(values, (first, second), strict=True)]
            reach = np.sqrt(sum(((end[1] - end[0]) / 2) ** 2 if end else np.nan for end in ends))
            interval = (value - reach, value + reach) if np.isfinite(reach) else None
            how = f"jackknife, {len(first)} and {len(second)} groups of units"
        else:
            mine, its = (
                drawn(metric, parts, draw_counts(len(parts), draws, seed + index))
                for index, parts in enumerate((first, second))
            )
            interval = percentile(mine - its, value, min(len(first), len(second)))
            how = f"bootstrap, {draws} draws of {len(first)} and {len(second)} units"
    low, high = interval or (None, None)
    known, word = number(value)
    units = min(_units(tally.parts[place].values()) for tally in (one, other))
    return Difference(one.system, other.system, *place, known, low, high, word, how, False, units)


def _units(parts: Iterable[Part]) -> int:
    return len(set().union(*(part.units for part in parts)))


def sentence(metric: Described, found: Difference) -> str:
    """What the interval allows to say, in words."""
    if found.value is None or found.low is None or found.high is None:
        return f"cannot be told ({found.word or found.interval or 'nothing measured'})"
    if not found.shown:
        return "no difference shown"
    words = next((words for name, words in _WORDS.items() if f"{metric.name}.".startswith(f"{name}.")), None)
    if words is None:
        return f"{'higher' if found.value > 0 else 'lower'} in {found.system} than in {found.against}"
    return f"{found.system} is {words[found.value < 0]} than {found.against}"


def verdicts(report: Report) -> list[Verdict]:
    """Every metric of the report that was measured on both sets, over all frames."""
    results = {(item.system, item.view, item.slice, item.metric): item for item in report.results}
    described = {metric.name: metric for metric in report.metrics}
    found = []
    for item in report.differences:
        if item.paired or item.slice != ALL or item.metric not in described:
            continue
        metric, place = described[item.metric], (item.view, item.slice, item.metric)
        one, other = (_told(results.get((name, *place))) for name in (item.system, item.against))
        shown = cell(item)
        found.append(
            Verdict(
                metric, item.system, item.against, one, other, shown.text, shown.interval, sentence(metric, item), item.shown
            )
        )
    return found


def _told(result: Result | None) -> str:
    if result is None:
        return "–"
    found = cell(result)
    return f"{found.text} ({found.interval})" if found.interval else short(result.value, result.word)
