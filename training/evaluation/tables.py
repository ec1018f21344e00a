"""A report's numbers as tables of text: rows are systems, columns are metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from training.evaluation.case import ALL, View
from training.evaluation.published import Published
from training.evaluation.results import GROUND_TRUTH, INFINITE, Described, Difference, Report, Result

ARROWS = {"higher": "↑", "lower": "↓", "truth": "→ truth"}
_OTHER = "other"
_FEATURES = ("mesh", "infp", "files")
_ACROSS = 6  # columns that a table has at most
_ZERO = 1e-12  # what is smaller is rounding


@dataclass(frozen=True)
class Cell:
    """What stands in a table. `note` is told on request: how the interval was made, how much was measured."""

    text: str
    interval: str = ""
    note: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Cells by row and column; `title` names the group of metrics."""

    title: str
    columns: tuple[Described, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Cell, ...]], ...]


def short(value: float | None, word: str = "", like: float | None = None) -> str:
    """A number as a person reads it: four digits that mean something; an en dash or the word where there is none.

    Args:
        like: the number with whose decimals it is written.
    """
    if value is None:
        return "∞" if word == INFINITE else "–"
    size = abs(value if like is None else like)
    if size >= 1e7 or _ZERO < size < 1e-4:
        return f"{value:.2e}"
    digits = 3 if size <= _ZERO else min(6, max(0, 3 - math.floor(math.log10(size))))
    return f"{round(value, digits) + 0.0:.{digits}f}"


def cell(result: Result | Difference | None, best: bool = False) -> Cell:
    """A result's text, with what has to be known to trust it."""
    if result is None:
        return Cell("–", note="not measured")
    interval = "" if result.low is None or result.high is None else _span(result.low, result.high, result.value)
    notes = [result.word, result.interval]
    if isinstance(result, Result) and result.cases:
        notes.append(f"{result.cases:,} cases of {result.units:,} sources, {result.frames:,} frames")
    return Cell(short(result.value, result.word), interval, "; ".join(note for note in notes if note), best)


def _span(low: float, high: float, value: float | None) -> str:
    most = max(abs(low), abs(high), abs(value or 0.0))
    return f"{short(low, like=most)} to {short(high, like=most)}"


def views_of(report: Report) -> list[str]:
    """Views that have numbers, in the order of the report."""
    return list(dict.fromkeys(result.view for result in report.results))


def fewest_units(report: Report) -> int:
    """Sources of the system or set that has the fewest; 0 where nothing is measured."""
    most: dict[str, int] = {}
    for result in report.results:
        most[result.system] = max(most.get(result.system, 0), result.units)
    return min(most.values(), default=0)


def systems_of(report: Report) -> list[str]:
    """Systems that have numbers; the ground truth first."""
    found = dict.fromkeys(result.system for result in report.results)
    return sorted(found, key=lambda name: name != GROUND_TRUTH)


def groups_of(report: Report, names: Iterable[str]) -> list[tuple[str, list[Described]]]:
    """The metrics of some names by their group, both in the order of the report; large groups in parts.

    Metrics of expression and of pose stand apart, and no part has more metrics than fit beside each other.
    """
    wanted = set(names)
    groups: dict[str, list[Described]] = {}
    for metric in report.metrics:
        if metric.name in wanted:
            groups.setdefault(_heading(metric), []).append(metric)
    parts = []
    for title, metrics in groups.items():
        count = -(-len(metrics) // _ACROSS)
        size = -(-len(metrics) // count)
        for number in range(count):
            parts.append((f"{title} ({number + 1})" if count > 1 else title, metrics[number * size : (number + 1) * size]))
    return parts


def _heading(metric: Described) -> str:
    features = metric.name.split(".")[1:3]
    apart = len(features) == 2 and features[0] in _FEATURES
    return f"{metric.group or _OTHER}, {features[1]} by {features[0]}" if apart else metric.group or _OTHER


def best_of(metric: Described, results: Sequence[Result]) -> str | None:
    """The system with the best number; None where fewer than two systems beside the ground truth have one, or none is best."""
    known = {result.system: result.value for result in results if result.value is not None}
    known |= {result.system: math.inf for result in results if result.word == INFINITE}
    truth = known.pop(GROUND_TRUTH, None)
    costs = _costs(metric.better, known, truth)
    ranked = sorted(costs, key=lambda name: costs[name])
    return ranked[0] if len(ranked) > 1 and costs[ranked[0]] < costs[ranked[1]] else None


def _costs(better: str, known: dict[str, float], truth: float | None) -> dict[str, float]:
    """The lower, the better; empty for a metric that says nothing of better or worse."""
    if better in ("higher", "lower"):
        return {name: -value if better == "higher" else value for name, value in known.items()}
    return {name: abs(value - truth) for name, value in known.items()} if better == "truth" and truth is not None else {}


def main_tables(report: Report, view: str) -> list[Table]:
    """A view's numbers over all frames: one table for each group of metrics."""
    found = _by_place(one for one in report.results if one.view == view and one.slice == ALL and _told(one))
    tables = []
    for title, metrics in groups_of(report, {name for _, _, name in found}):
        rows = [((system,), _cells(found, ALL, system, metrics, report)) for system in systems_of(report)]
        tables.append(Table(title, tuple(metrics), tuple(row for row in rows if _any(row[1]))))
    return tables


def unmeasured(report: Report, view: str) -> list[str]:
    """Metrics that no system has a number of in a view."""
    told = {one.metric for one in report.results if one.view == view and _told(one)}
    asked = {one.metric for one in report.results if one.view == view}
    return [metric.name for metric in report.metrics if metric.name in asked - told]


def _told(result: Result) -> bool:
    return result.value is not None or result.word == INFINITE


def slice_tables(report: Report, view: str) -> list[Table]:
    """A view's numbers by slice: one table for each group of metrics, rows are slice and system."""
    found = _by_place(one for one in report.results if one.view == view and one.slice != ALL and _told(one))
    slices = sorted({slice_ for slice_, _, _ in found})
    tables = []
    for title, metrics in groups_of(report, {name for _, _, name in found}):
        rows = [
            ((slice_, system), _cells(found, slice_, system, metrics, report))
            for slice_ in slices
            for system in systems_of(report)
        ]
        tables.append(Table(title, tuple(metrics), tuple(row for row in rows if _any(row[1]))))
    return tables


def difference_tables(report: Report, view: str) -> list[Table]:
    """Differences over all frames, one row for each pair of systems; what chance alone does not explain is marked as best."""
    rows: dict[tuple[str, str], dict[str, Difference]] = {}
    for item in report.differences:
        if item.view == view and item.slice == ALL and item.paired:
            rows.setdefault((item.system, item.against), {})[item.metric] = item
    tables = []
    for title, metrics in groups_of(report, {name for found in rows.values() for name in found}):
        lines = []
        for (system, against), found in rows.items():
            items = [found.get(metric.name) for metric in metrics]
            lines.append(((f"{system} − {against}",), tuple(cell(item, bool(item and item.shown)) for item in items)))
        tables.append(Table(title, tuple(metrics), tuple(line for line in lines if _any(line[1]))))
    return tables


Place = tuple[str, str, str]  # slice, system, metric


def beside(report: Report, table: Published) -> list[tuple[str, list[str]]]:
    """This report's own rows for a published table, of the interactive view; none where it has none of its numbers."""
    found = {
        (one.system, one.metric): cell(one).text for one in report.results if one.view == View.INTERACTIVE and one.slice == ALL
    }
    rows = [(system, [found.get((system, name), "–") for name in table.ours]) for system in systems_of(report)]
    return [(system, texts) for system, texts in rows if any(text != "–" for text in texts)]


def _by_place(results: Iterable[Result]) -> dict[Place, Result]:
    return {(result.slice, result.system, result.metric): result for result in results}


def _cells(
    found: dict[Place, Result], slice_: str, system: str, metrics: Sequence[Described], report: Report
) -> tuple[Cell, ...]:
    cells = []
    for metric in metrics:
        others = [found[place] for name in systems_of(report) if (place := (slice_, name, metric.name)) in found]
        best = report.about.systems and best_of(metric, others) == system  # of data sets none is the best
        cells.append(cell(found.get((slice_, system, metric.name)), bool(best)))
    return tuple(cells)


def _any(cells: Sequence[Cell]) -> bool:
    return any(cell.text != "–" for cell in cells)
