"""Tells what an evaluation found: `report.json`, `report.md`, `report.html` and `plots/`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyconv.store import write_atomic
from training.evaluation.plots import DISTRIBUTIONS, TIME, Plot, draw
from training.evaluation.published import NOTE, TABLES
from training.evaluation.results import About, Report
from training.evaluation.tables import (
    ARROWS,
    Table,
    beside,
    difference_tables,
    fewest_units,
    main_tables,
    short,
    slice_tables,
    unmeasured,
    views_of,
)
from training.evaluation.versus import verdicts

_PROBLEMS_SHOWN = 200
_FEW = 10  # sources: of fewer, an interval is rough


@dataclass(frozen=True)
class ViewPart:
    """What a report says of one view; `unmeasured` are metrics without a number."""

    name: str
    unmeasured: Sequence[str]
    tables: Sequence[Table]
    differences: Sequence[Table]
    slices: Sequence[Table]


def write(report: Report, out: Path) -> None:
    """Write the report into a folder, which is made; what is there of an earlier one is replaced."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "report.json", report.dumps().encode())
    plots = draw(report, out / "plots")
    write_atomic(out / "report.md", markdown(report, plots).encode())
    write_atomic(out / "report.html", page(report, plots).encode())


def markdown(report: Report, plots: Sequence[Plot] = ()) -> str:
    """The report as Markdown; plots are linked as the files in `plots/`."""
    text = _environment(html=False).get_template("report.md.j2").render(**_told(report), plots=plots)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def page(report: Report, plots: Sequence[Plot] = ()) -> str:
    """The report as one HTML file: plots are inside, only the sample videos are beside it, and no network is asked."""
    return str(_environment(html=True).get_template("report.html.j2").render(**_told(report), plots=plots)).lstrip()


def _told(report: Report) -> dict[str, Any]:
    """What both templates are filled with."""
    views = [
        ViewPart(
            view,
            unmeasured(report, view),
            main_tables(report, view),
            difference_tables(report, view),
            slice_tables(report, view),
        )
        for view in views_of(report)
    ]
    return {
        "report": report,
        "about": report.about,
        "facts": facts(report.about),
        "views": views,
        "verdicts": verdicts(report),
        "few": few if 1 < (few := fewest_units(report)) < _FEW else None,
        "problems": report.problems[:_PROBLEMS_SHOWN],
        "problems_more": max(0, len(report.problems) - _PROBLEMS_SHOWN),
        "parts": (DISTRIBUTIONS, TIME),
        "profile": profile_rows(report.profile),
        "published": [(table, beside(report, table)) for table in TABLES] if report.about.systems else [],
        "published_note": NOTE,
        "arrows": {name: arrow for name, arrow in ARROWS.items() if report.about.systems or name != "truth"},
        "row": "system" if report.about.systems else "set",
    }


def facts(about: About) -> list[tuple[str, str]]:
    """What the numbers depend on, for the head of the report."""
    clusters = ", ".join(f"{expression} expression / {pose} pose" for expression, pose in about.clusters)
    rows = [(f"data {item.name}", _words({"hash": item.hash, **item.about})) for item in about.data]
    rows += [(f"system {item.name}", "; ".join(text for text in (item.about, item.version) if text)) for item in about.systems]
    rows += [
        ("views", ", ".join(about.views)),
        ("motion features", ", ".join(about.features)),
        ("K of SID", clusters),
        ("weights", _words(about.weights)),
        ("seed", str(about.seed)),
        ("device", about.device),
        ("versions", f"dyconv {about.dyconv}, torch {about.torch}"),
    ]
    rows += [(name, _words(value) if isinstance(value, Mapping) else str(value)) for name, value in about.more.items()]
    return [(name, value) for name, value in rows if value]


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_word(value)}" for name, value in values.items() if value not in (None, "", [], {}))


def _word(value: object) -> str:
    if isinstance(value, Mapping):
        return f"({_words(value)})"
    return short(value) if isinstance(value, float) else str(value)


def profile_rows(profile: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Kind of work, seconds, share of all; the longest first."""
    total = sum(profile.values())
    rows = [(name, seconds, seconds / total if total else 0.0) for name, seconds in profile.items()]
    return sorted(rows, key=lambda row: -row[1])


def _environment(*, html: bool) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("training.evaluation")
    environment = Environment(
        loader=loader,
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = _md
    environment.filters["code"] = lambda text: re.sub(r"[`\s|]+", lambda found: "'" if "`" in found[0] else " ", str(text))
    environment.globals["grid"] = _grid
    return environment


def _md(text: object) -> str:
    """Text that Markdown takes as it stands, on one line, in a table."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|#!~$&])", r"\\\1", line)


def _grid(table: Table, heads: Sequence[str], arrows: Mapping[str, str]) -> str:
    """A table in Markdown; number and interval in one cell, the best bold."""
    names = [_md(f"{metric.name} {arrows.get(metric.better, '')}".strip()) for metric in table.columns]
    units = [f" ({_md(metric.unit)})" if metric.unit else "" for metric in table.columns]
    lines = ["| " + " | ".join([*heads, *(name + unit for name, unit in zip(names, units, strict=True))]) + " |"]
    lines.append("|" + "---|" * len(heads) + "---:|" * len(names))
    for row, cells in table.rows:
        texts = [f"**{cell.text}**" if cell.best else cell.text for cell in cells]
        texts = [f"{text} ({cell.interval})" if cell.interval else text for text, cell in zip(texts, cells, strict=True)]
        lines.append("| " + " | ".join([*map(_md, row), *texts]) + " |")
    return "\n".join(lines)
