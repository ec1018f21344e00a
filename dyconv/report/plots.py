"""Small inline SVG figures. They take their colours from the page's style sheet, so they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten) from `low` to `high`, both included as far as they are round."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Histogram:
    """What to draw: values with a name, the unit of the axis, and how wide it should at least be."""

    title: str
    unit: str
    values: Sequence[float]
    what: str  # what is counted: "clips", "turns"
    low: float | None = None  # fixed ends of the axis, where the quantity has natural ones
    high: float | None = None
    note: str = ""

    @property
    def summary(self) -> str:
        if not len(self.values):
            return "nothing measured"
        low, middle, high = np.percentile(self.values, [5, 50, 95])
        return f"n = {len(self.values):,}, median {_short(middle)}, 5-95 %: {_short(low)} to {_short(high)}"


def _short(value: float) -> str:
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "0" if float(text) == 0 else text


def histogram(data: Histogram, width: int = 330, height: int = 170) -> Markup:
    """SVG of a histogram with both axes labelled."""
    if not len(data.values):
        return Markup("")
    values = np.asarray(data.values, float)
    low, high = _range(values, data.low, data.high)
    bins = int(np.clip(2 * math.sqrt(len(values)) + 4, 10, 30))
    counts, edges = np.histogram(np.clip(values, low, high), bins=bins, range=(low, high))
    left, right, top, bottom = 40, 18, 8, 36
    across, up = width - left - right, height - top - bottom
    most = max(int(counts.max()), 1)

    def x(value: float) -> float:
        return left + across * (value - low) / (high - low)

    def y(count: float) -> float:
        return top + up * (1 - count / most)

    name = f"{escape(data.title)}: {escape(data.summary)}"
    parts = [f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{name}">']
    for count in ticks(0, most, 3):
        if count == int(count):
            parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(count):.1f}" y2="{y(count):.1f}"/>')
            parts.append(f'<text x="{left - 5}" y="{y(count) + 3.5:.1f}" text-anchor="end">{int(count):,}</text>')
    for count, start, end in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            size = f'width="{max(x(end) - x(start) - 1, 1):.1f}" height="{top + up - y(count):.1f}"'
            tip = f"<title>{_short(start)} to {_short(end)} {escape(data.unit)}: {count:,} {escape(data.what)}</title>"
            parts.append(f'<rect class="bar" x="{x(start) + 0.5:.1f}" y="{y(count):.1f}" {size}>{tip}</rect>')
    middle = float(np.median(values))
    parts.append(f'<line class="median" x1="{x(middle):.1f}" x2="{x(middle):.1f}" y1="{top}" y2="{top + up}"/>')
    parts.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{top + up}" y2="{top + up}"/>')
    for value in ticks(low, high, 5):
        parts.append(f'<line class="axis" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{top + up}" y2="{top + up + 4}"/>')
        parts.append(f'<text x="{x(value):.1f}" y="{top + up + 15}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<text class="unit" x="{left + across / 2}" y="{height - 4}" text-anchor="middle">{escape(data.unit)}</text>')
    turned = f'x="10" y="{top + up / 2}" text-anchor="middle" transform="rotate(-90 10 {top + up / 2})"'
    parts.append(f'<text class="unit" {turned}>{escape(data.what)}</text>')
    return Markup("".join(parts) + "</svg>")


def _range(values: np.ndarray, low: float | None, high: float | None) -> tuple[float, float]:
    """Ends of the axis: the given ones, widened if values lie beyond; else the data's own, on round numbers."""
    start = float(values.min()) if low is None else min(low, float(values.min()))
    end = float(values.max()) if high is None else max(high, float(values.max()))
    if end - start < 1e-9:
        pad = max(abs(end) * 0.1, 0.5)
        start, end = start - pad * (low is None), end + pad
    marks = ticks(start, end, 5)
    step = marks[1] - marks[0] if len(marks) > 1 else end - start
    return math.floor(start / step + 1e-9) * step, math.ceil(end / step - 1e-9) * step


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart: parts are (CSS class, amount, what it is) from left to right."""

    label: str
    parts: Sequence[tuple[str, float, str]]
    text: str


def bars(
    rows: Sequence[Bar], most: float, width: int = 900, label_px: int = 120, text_px: int = 250, row_px: int = 26
) -> Markup:
    """SVG of horizontal stacked bars on one scale (`most` fills the width), with a label left and a text right."""
    if not rows:
        return Markup("")
    across = width - label_px - text_px
    height = row_px * len(rows) + 4
    out = [f'<svg class="plot" viewBox="0 0 {width} {height}" role="img">']
    for number, row in enumerate(rows):
        y = number * row_px + 3
        out.append(
            f'<text class="label" x="{label_px - 8}" y="{y + row_px * 0.6:.1f}" text-anchor="end">{escape(row.label)}</text>'
        )
        out.append(f'<rect class="ground" x="{label_px}" y="{y}" width="{across}" height="{row_px - 6}" rx="3"/>')
        x = float(label_px)
        for kind, amount, tip in row.parts:
            wide = across * amount / most if most > 0 else 0.0
            if wide > 0:
                shape = f'x="{x:.1f}" y="{y}" width="{max(wide, 1.5):.1f}" height="{row_px - 6}" rx="2"'
                out.append(f'<rect class="{escape(kind)}" {shape}><title>{escape(tip)}</title></rect>')
            x += wide
        out.append(f'<text x="{width - text_px + 10}" y="{y + row_px * 0.6:.1f}">{escape(row.text)}</text>')
    return Markup("".join(out) + "</svg>")
