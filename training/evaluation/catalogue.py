"""All metrics there are, and those of them that were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib import import_module

from dyconv.errors import UsageError
from training.evaluation.evidence import Comparison, Extractor
from training.evaluation.metric import Choice, Family, Metric
from training.evaluation.results import Unavailable

# Families by the heading that their metrics stand under.
SYSTEM = {
    "pictures": ("pictures", "perceptual", "inception", "i3d"),
    "identity": ("identity",),
    "motion": ("motion", "distances"),
    "sync": ("sync",),
    "speed": ("speed",),
}
DATASET = {"quality": ("quality",), "motion": ("motion", "distances"), "talk": ("talk",), "sync": ("sync",)}


@dataclass(frozen=True)
class Catalogue:
    """Metrics with what they need.

    Attributes:
        groups: heading by metric.
    """

    metrics: tuple[Metric, ...]
    extractors: tuple[Extractor, ...]
    comparisons: tuple[Comparison, ...]
    unavailable: tuple[Unavailable, ...]
    groups: dict[str, str]


def catalogue(choice: Choice, patterns: Sequence[str] = (), headings: dict[str, tuple[str, ...]] | None = None) -> Catalogue:
    """The metrics whose names fit one of the shell-style patterns; all where there is none.

    Raises:
        UsageError: for a pattern that nothing fits, with what is near to it.
    """
    groups: dict[str, str] = {}
    families: list[Family] = []
    for heading, modules in (headings or SYSTEM).items():
        for module in modules:
            family = import_module(f"training.evaluation.{module}").family(choice)
            families.append(family)
            groups |= {one.name: heading for one in (*family.metrics, *family.unavailable)}
    _check(patterns, list(groups))
    metrics = tuple(one for family in families for one in family.metrics if _wanted(one.name, patterns))
    missing = tuple(one for family in families for one in family.unavailable if _wanted(one.name, patterns))
    needed = frozenset(name for metric in metrics for name in metric.needs)
    return Catalogue(
        metrics,
        tuple(one for family in families for one in family.extractors if one.name in needed),
        tuple(one for family in families for one in family.comparisons if one.name in needed),
        missing,
        groups,
    )


def _wanted(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _check(patterns: Sequence[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = get_close_matches(pattern, names, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(names))}"
            raise UsageError(f"expected the name of a metric, or a pattern such as fd.*, found {pattern!r}", hint=hint)
