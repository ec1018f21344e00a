"""Colours and small drawing rules that the picture of a clip and the page about a build share."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's palette: told apart with every common kind of colour blindness, in print and on dark ground.
PERSON_COLOURS = {"p0": "#0072B2", "p1": "#D55E00"}
NOBODY = "#7a7f87"
VAD = "#009E73"
OTHER_FACES = ("#CC79A7", "#E69F00", "#56B4E9", "#8a7a00")


def person_colour(person: str | None) -> str:
    """Hex colour of p0, p1, or of nobody."""
    return PERSON_COLOURS.get(person or "", NOBODY)


def figure(width_px: int, height_px: int) -> Any:
    """A matplotlib figure of that many pixels that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dpi = 100
    made = Figure(figsize=(width_px / dpi, height_px / dpi), dpi=dpi, facecolor="white")
    FigureCanvasAgg(made)
    return made


def bare(axes: Any) -> None:
    """Leave only what carries information: no frame at the top and right, thin lines, small letters."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_linewidth(0.6)
    axes.tick_params(labelsize=8, length=2.5, width=0.6)
