"""Plots of a report. Each is a PNG beside the report and an SVG inside its page, where it follows light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.evaluation.case import ALL
from training.evaluation.results import GROUND_TRUTH, Described, Distribution, Report, Result
from training.evaluation.tables import ARROWS, groups_of, systems_of, views_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Fill = Callable[["Axes"], None]  # draws one plot

PALETTE = ("#2f7ebc", "#d0703c", "#4f9a52", "#8a62b8", "#b8862b", "#4aa3a8", "#a2567f", "#7c8792")
_INK, _LINE, _TRUTH = "#1c2128", "#c3cad2", "#59636e"
_THEMED = {_INK: "var(--ink)", _LINE: "var(--line)", _TRUTH: "var(--soft)"}
_ACROSS, _COLUMN = 3, 3.5  # plots in a row, inches of each
DISTRIBUTIONS, TIME = "Distributions", "Where the time went"  # parts of the report beside the views
_BINNED = "Share of frames, in the same bins for all; what lies beyond the ends is in the outermost ones."
_SLICED = 6  # metrics whose slices are drawn


@dataclass(frozen=True)
class Plot:
    """A plot that lies in `plots/<name>.png`, and stands in the part of the report that is about a view, or in one of its own.

    `svg` has no colours of its own for text, lines and the ground truth.
    """

    name: str
    title: str
    note: str
    svg: str
    part: str


def draw(report: Report, folder: Path) -> list[Plot]:
    """Draw what the report has numbers for; PNGs of earlier runs in the folder are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    plots = [plot for view in views_of(report) for plot in _of_view(report, view, folder)]
    for view in dict.fromkeys(item.view for item in report.distributions):
        drawn = _figure([partial(_distribution, found=item) for item in report.distributions if item.view == view], 2.2)
        plots.append(_saved(drawn, folder, f"{view}-distributions", view, _BINNED, DISTRIBUTIONS))
    if report.profile:
        drawn = _figure([partial(_profile, profile=report.profile)], 0.5 + 0.3 * len(report.profile))
        plots.append(_saved(drawn, folder, "profile", TIME, "Wall time by kind of work.", TIME))
    return plots


def _of_view(report: Report, view: str, folder: Path) -> Iterator[Plot]:
    """One plot for each group of metrics, and one of slices."""
    found, systems = [r for r in report.results if r.view == view and r.value is not None], systems_of(report)
    for group, metrics in groups_of(report, {result.metric for result in found if result.slice == ALL}):
        drawn = _figure([partial(_systems, metric=metric, found=found, systems=systems) for metric in metrics], 1.9)
        note = "Points: all frames; bars: 95 % interval. Dashed: the ground truth."
        yield _saved(drawn, folder, f"{view}-{group}", f"{view}: {group}", note, view)
    names = {result.metric for result in found if result.slice != ALL}
    sliced = [metric for metric in report.metrics if metric.name in names][:_SLICED]
    if sliced:
        height = 0.6 + 0.4 * len({result.slice for result in found})
        drawn = _figure([partial(_slices, metric=metric, found=found, systems=systems) for metric in sliced], height)
        note = f"Colours as above. The first {len(sliced)} metrics; every one is in the tables by slice."
        yield _saved(drawn, folder, f"{view}-slices", f"{view}: by slice", note, view)


def colours(systems: Sequence[str]) -> dict[str, str]:
    """A colour for each system; the ground truth's is the page's."""
    others = [name for name in systems if name != GROUND_TRUTH]
    found = {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(others)}
    return {name: found.get(name, _TRUTH) for name in systems}


def _figure(fills: Sequence[Fill], height: float) -> Figure:
    """A figure of plots in rows; drawn without a display and without touching the global state."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    across = min(_ACROSS, len(fills))
    down = -(-len(fills) // across)
    with rc_context(_STYLE):
        figure = Figure(
            figsize=(_COLUMN * across if len(fills) > 1 else 2 * _COLUMN, height * down + 0.25), layout="constrained"
        )
        FigureCanvasAgg(figure)
        for number, axes in enumerate(figure.subplots(down, across, squeeze=False).flat):
            if number < len(fills):
                axes.xaxis.set_major_locator(MaxNLocator(4))
                fills[number](axes)
            else:
                axes.set_visible(False)
    return figure


_STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.5,
    "axes.edgecolor": _LINE,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.parse_math": False,  # names of systems and metrics are not formulas
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
}


def _title(axes: Axes, metric: Described) -> None:
    unit = f" ({metric.unit})" if metric.unit else ""
    axes.set_title(f"{metric.name}{unit} {ARROWS.get(metric.better, '')}", fontsize=8, loc="left", color=_INK)


def _systems(axes: Axes, metric: Described, found: Sequence[Result], systems: Sequence[str]) -> None:
    """A row for each system: its number with the interval."""
    rows = {result.system: result for result in found if result.metric == metric.name and result.slice == ALL}
    shown = [name for name in systems if name in rows]
    _title(axes, metric)
    for place, name in enumerate(shown):
        _point(axes, rows[name], place, colours(systems)[name])
    if GROUND_TRUTH in rows and len(shown) > 1:
        axes.axvline(rows[GROUND_TRUTH].value or 0.0, color=_TRUTH, linewidth=0.8, linestyle=(0, (3, 2)))
    axes.set_yticks(range(len(shown)), shown)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(False, axis="y")


def _slices(axes: Axes, metric: Described, found: Sequence[Result], systems: Sequence[str]) -> None:
    """A row for each slice, in it a point for each system."""
    rows = [result for result in found if result.metric == metric.name]
    slices = sorted({result.slice for result in rows}, key=lambda name: (name != ALL, name))
    _title(axes, metric)
    for result in rows:
        offset = 0.5 * ((systems.index(result.system) + 0.5) / len(systems) - 0.5)
        _point(axes, result, slices.index(result.slice) + offset, colours(systems)[result.system])
    axes.set_yticks(range(len(slices)), slices)
    axes.set_ylim(len(slices) - 0.5, -0.5)
    axes.grid(False, axis="y")


def _point(axes: Axes, result: Result, place: float, colour: str) -> None:
    axes.plot([result.value or 0.0], [place], "o", color=colour, markersize=3.5)
    if result.low is not None and result.high is not None:
        axes.plot([result.low, result.high], [place, place], color=colour, linewidth=1.6, solid_capstyle="butt")


def _distribution(axes: Axes, found: Distribution) -> None:
    """Outlines of histograms over each other, as shares."""
    for name, shares in found.shares.items():
        edges = np.linspace(found.low, found.high, len(shares) + 1)
        axes.stairs(shares, edges, color=colours(list(found.shares))[name], linewidth=1.3, label=name)
    axes.set_title(f"{found.title} ({found.unit})", fontsize=8, loc="left")
    axes.legend(frameon=False, fontsize=7)


def _profile(axes: Axes, profile: Mapping[str, float]) -> None:
    names = sorted(profile, key=lambda name: -profile[name])
    total = sum(profile.values()) or 1.0
    axes.barh(range(len(names)), [profile[name] for name in names], color=PALETTE[0], height=0.6)
    for place, name in enumerate(names):
        axes.text(profile[name], place, f" {profile[name]:.1f} s, {profile[name] / total:.0%}", va="center", color=_INK)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1.2 * max(profile.values()) or 1.0)
    axes.set_xlabel("seconds")
    axes.grid(False, axis="y")


def _saved(figure: Figure, folder: Path, name: str, title: str, note: str, part: str) -> Plot:
    """The figure as a file, and as an SVG to stand in a page."""
    from matplotlib import rc_context

    name = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-")
    with rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(folder / f"{name}.png", dpi=120, facecolor="white", metadata={"Software": None})
        figure.set_layout_engine("none")  # it is laid out: that is most of the time
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for colour, themed in _THEMED.items():
        svg = svg.replace(colour, themed)
    share = 100 * figure.get_figwidth() / (_ACROSS * _COLUMN)  # so that letters are equally large in all plots
    svg = re.sub(r'<svg([^>]*?) width="[^"]*"', rf'<svg style="width:{share:.0f}%"\1', svg, count=1)
    svg = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'(?<=[ "])(id="|xlink:href="#|clip-path="url\(#)', lambda found: f"{found[0]}{name}-", svg)
    return Plot(name, title, note, svg, part)
