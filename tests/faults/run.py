"""`make faults`: every scenario, its seeds, what was promised and what happened.

python -m tests.faults.run --out out/faults.json [--only kill,disk] [--seeds N]
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from dyconv import __version__
from tests.faults.scenario import Record, opened, scenarios

SCHEMA = 1


def main(
    out: Annotated[Path, typer.Option(help="JSON file with every trial")] = Path("out/faults.json"),
    only: Annotated[str, typer.Option(help="comma separated beginnings of names")] = "",
    seeds: Annotated[int | None, typer.Option(help="trials of each scenario, instead of its own number")] = None,
    first: Annotated[int, typer.Option(help="the first seed")] = 0,
    work: Annotated[Path | None, typer.Option(help="folder to work in, kept; a temporary one if not given")] = None,
) -> None:
    """Break things on purpose, print a table, write what happened. Exit status 1 if a promise was not kept."""
    from rich.console import Console

    known = scenarios()
    wanted = [name for name in known if not only or name.startswith(tuple(part.strip() for part in only.split(",")))]
    if not wanted:
        raise typer.BadParameter(f"no scenario begins with {only!r}; there are: {', '.join(known)}")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    folder = work or Path(tempfile.mkdtemp(prefix="dyconv-faults-"))
    before: dict[str, Any] = json.loads(out.read_text()) if only and out.is_file() else {}
    data = before if before.get("schema") == SCHEMA else {"schema": SCHEMA, "promises": {}, "trials": []}
    data["machine"] = {"cores": len(os.sched_getaffinity(0)), "dyconv": __version__}
    data["promises"] |= {name: known[name].promise for name in wanted}
    data["trials"] = kept = [trial for trial in data["trials"] if trial["name"] in known and trial["name"] not in wanted]
    records: list[Record] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with opened(folder) as place:
        for name in wanted:
            for seed in range(first, first + (seeds or known[name].seeds)):
                record = known[name].run(place, seed)
                records.append(record)
                data["trials"] = kept + [found.to_json() for found in records]
                out.write_text(json.dumps(data, indent=1) + "\n")
                console.print(f"{name} {seed}: {verdict([record])}, {record.wall_s:.0f} s: {'; '.join(record.did)[:200]}")
                if record.broken:
                    console.print(record.broken, markup=False)
    if work is None and not any(record.broken for record in records):
        shutil.rmtree(folder, ignore_errors=True)
    console.print(table({name: known[name].promise for name in wanted}, records))
    broken = sum(bool(record.broken) for record in records)
    seconds = sum(record.wall_s for record in records)
    console.print(f"{len(records)} trials in {seconds:.0f} s, {broken} broken promises; every trial: {out}")
    raise typer.Exit(1 if broken else 0)


def verdict(records: Iterable[Record]) -> str:
    """In a word: kept, broken or skipped."""
    found = list(records)
    if any(record.broken for record in found):
        return f"BROKEN ({sum(bool(record.broken) for record in found)} of {len(found)})"
    if all(record.skipped for record in found):
        return f"skipped: {found[0].skipped}"
    return "kept"


def table(promises: dict[str, str], records: list[Record]) -> Any:
    from rich.table import Table

    shown = Table("scenario", "trials", "runs", "promise", "verdict", title="faults", title_justify="left")
    for name, promise in promises.items():
        own = [record for record in records if record.name == name]
        shown.add_row(name, str(len(own)), str(sum(record.runs for record in own)), promise, verdict(own))
    return shown


if __name__ == "__main__":
    typer.run(main)
