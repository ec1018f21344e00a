"""`dyconv doctor`: what is installed, which models are present, what this machine can run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dyconv.doctor import Examination

_MARKS = {"ok": "ok  ", "warn": "warn", "missing": "MISS"}


def doctor(
    out: Annotated[Path | None, typer.Option(help="Where builds will be written (its disk is looked at).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only what is not in order.")] = False,
) -> None:
    """Say what is installed, which models are present, and what this machine can run.

    Exits with 1 when a default model or a needed library or package is missing.
    """
    from dyconv.doctor import examine

    examination = examine(out)
    if as_json:
        typer.echo(json.dumps(examination.to_json(), indent=2))
    else:
        for line in _lines(examination, quiet):
            typer.echo(line)
    raise typer.Exit(0 if examination.ok else 1)


def _lines(examination: Examination, quiet: bool) -> list[str]:
    lines = []
    for section, findings in examination.sections.items():
        shown = [finding for finding in findings if not quiet or finding.state != "ok"]
        if not shown:
            continue
        lines.append(section)
        for finding in shown:
            wanted = f"  [{finding.wanted}]" if finding.wanted and finding.wanted != finding.found else ""
            lines.append(f"  {_MARKS[finding.state]}  {finding.name:<24} {finding.found}{wanted}")
    hints = examination.hints()
    if hints:
        lines += ["", "what to do:", *(f"  {hint}" for hint in hints)]
    lines.append("")
    lines.append(
        "all that the default chain needs is here" if examination.ok else "something the default chain needs is missing"
    )
    return lines
