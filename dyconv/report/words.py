"""Numbers in words."""

from __future__ import annotations

_HOUR = 3600.0


def short(value: float) -> str:
    """A number with as many digits as a person reads."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def hours(seconds: float) -> str:
    """A length for a person: seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / _HOUR:,.1f} h"
