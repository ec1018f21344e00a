"""`python -m training.evaluation.compare A/report.json B/report.json`: reports of several runs in one table.

Refused where their numbers do not compare: other data, other views, other motion features, another K, other networks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table as Grid

from dyconv.cli import run_alone
from dyconv.errors import UsageError
from training.evaluation.results import GROUND_TRUTH, About, Report
from training.evaluation.tables import Table, main_tables, views_of

_SAME = "--data, --view, --features, --clusters, --weights, --size, --every and --limit"
_WIDE = 200  # columns of text that goes into a file


def unlike(one: About, other: About) -> list[str]:
    """In what two reports differ that their numbers depend on, each as "what: ours, theirs"."""
    pairs: list[tuple[str, object, object]] = [
        ("data", [item.hash for item in one.data], [item.hash for item in other.data]),
        ("views", sorted(one.views), sorted(other.views)),
        ("motion features", one.features, other.features),
        ("K of SID", one.clusters, other.clusters),
    ]
    shared = sorted(set(one.weights) & set(other.weights))
    pairs += [(f"weights of {name}", one.weights[name], other.weights[name]) for name in shared]
    pairs += [(name, one.more[name], other.more.get(name)) for name in ("size", "every", "cases") if name in one.more]
    return [f"{name}: {_short(mine)} and {_short(its)}" for name, mine, its in pairs if mine != its]


def _short(value: object) -> str:
    items = value if isinstance(value, list | tuple) else (value,)
    texts = [" / ".join(map(str, item)) if isinstance(item, tuple) else str(item) for item in items]
    return ", ".join(text[:16] if len(text) == 64 else text for text in texts) or "none"


def together(reports: Sequence[Report], names: Sequence[str]) -> Report:
    """One report with the systems of all; the ground truth once, systems of one name told apart by their report's.

    Raises:
        UsageError: where the reports do not compare: in what, and in which.
    """
    first = reports[0]
    for report, name in zip(reports[1:], names[1:], strict=True):
        if found := unlike(first.about, report.about):
            raise UsageError(
                f"{names[0]} and {name} cannot be put side by side. {'. '.join(found)}",
                hint=f"measure both again with the same {_SAME}",
            )
    owners = [(system, name) for report, name in zip(reports, names, strict=True) for system in _systems(report)]
    twice = {system for system, _ in owners if sum(system == other for other, _ in owners) > 1}
    results = [
        replace(result, system=f"{result.system} ({name})" if result.system in twice else result.system)
        for report, name in zip(reports, names, strict=True)
        for result in report.results
        if result.system != GROUND_TRUTH or report is first
    ]
    metrics = {metric.name: metric for report in reports for metric in report.metrics}
    return Report(first.about, tuple(metrics.values()), tuple(results))


def _systems(report: Report) -> set[str]:
    return {result.system for result in report.results} - {GROUND_TRUTH}


def grids(report: Report) -> Iterator[Grid]:
    """The tables of a report for a terminal."""
    for view in views_of(report):
        for table in main_tables(report, view):
            yield _grid(table, f"{view}: {table.title}")


def _grid(table: Table, title: str) -> Grid:
    from rich.markup import escape

    grid = Grid(title=escape(title), title_justify="left")
    grid.add_column("system")
    for metric in table.columns:
        grid.add_column(escape(metric.name), justify="right")
    for row, cells in table.rows:
        texts = [f"{'[bold]' if cell.best else ''}{cell.text}{'[/]' if cell.best else ''}\n{cell.interval}" for cell in cells]
        grid.add_row(*map(escape, row), *texts)
    return grid


def command(
    reports: Annotated[list[Path], typer.Argument(help="report.json files, or the folders they are in.")],
) -> None:
    """Put reports side by side, where their numbers compare."""
    if len(reports) < 2:
        raise UsageError(f"expected two reports or more, found {len(reports)}", hint="give A/report.json B/report.json")
    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    for grid in grids(together([Report.read(path) for path in reports], [str(path) for path in reports])):
        console.print(grid)


def main() -> None:
    run_alone(command)


if __name__ == "__main__":
    main()
